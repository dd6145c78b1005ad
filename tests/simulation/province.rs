//! A province in one process: agents with their real mapping, spool, ledger and sender, a hub with its
//! real checks, receipts and transfer log, a network and disks that do their worst, all from one seed.
//!
//! Idealised are the source's and the hub's databases and the loops that drive the parts (`flow` and
//! `crash` have the real ones). A full read sees one state of the source, also after a restart.

mod registry;
mod disk;
mod hub;
mod office;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use phusa_hub::transfers::audit;
use phusa_protocol::delivery::{Action, Moment};
use phusa_protocol::entry::{KeySpan, LogVerifier};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;

use crate::random::Random;
use hub::{Hub, Stored};
use office::{Office, copy};
use registry::{FORBIDDEN, dataset};
use wire::{Event, Request, Weather};

/// After the last trouble, everything must have arrived within this.
const QUIET_MAX: Duration = Duration::from_secs(3 * 660);
const TRACE_LINES: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    Time,
    Write,
    Read,
    Publish,
    Weather,
    CrashAgent,
    CutPower,
    CrashHub,
    FillDisk,
    FreeDisk,
    CopyDisk,
    RestoreDisk,
    CopyHub,
    RestoreHub,
    Damage,
    Upgrade,
    Suspend,
    Readmit,
    ClockJump,
    SkewAgent,
    Leap,
    ChangeContract,
    AdoptContract,
}

use Trouble as T;

/// Each with its weight among all; `Time` moves the network on.
const TROUBLES: [(u64, Trouble); 23] = [
    (500, T::Time),
    (110, T::Write),
    (150, T::Read),
    (25, T::Publish),
    (15, T::Weather),
    (8, T::CrashAgent),
    (8, T::CutPower),
    (4, T::CrashHub),
    (5, T::FillDisk),
    (10, T::FreeDisk),
    (6, T::CopyDisk),
    (4, T::RestoreDisk),
    (6, T::CopyHub),
    (4, T::RestoreHub),
    (2, T::Damage),
    (3, T::Upgrade),
    (4, T::Suspend),
    (6, T::Readmit),
    (4, T::ClockJump),
    (4, T::SkewAgent),
    (4, T::Leap),
    (2, T::ChangeContract),
    (5, T::AdoptContract),
];

/// What the histories did, so that a run shows that it tried what it claims.
#[derive(Debug, Default)]
pub struct Tally {
    pub commits: u64,
    pub epochs: u64,
    pub checkpoints: u64,
    pub entries: u64,
    pub troubles: BTreeMap<Trouble, u64>,
}

struct World {
    random: Random,
    now: Duration,
    root: tempfile::TempDir,
    offices: Vec<Office>,
    hub: Hub,
    events: BTreeMap<(Duration, u64), Event>,
    open: BTreeSet<Request>,
    count: u64,
    weather: Weather,
    disk_copies: Vec<(usize, PathBuf)>,
    hub_copies: Vec<Stored>,
    tally: Tally,
    trace: VecDeque<String>,
}

/// Plays the history of `seed`, adding to `tally`; an error says what did not hold.
pub fn play(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut world = World::new(seed);
    world.tally = std::mem::take(tally);
    let outcome = world.run();
    world.tally.commits += world.hub.commits;
    world.tally.entries += world.hub.stored.lines.len() as u64;
    world.tally.checkpoints += world.hub.heads.len() as u64;
    world.tally.epochs += world.offices.iter().map(|office| office.epochs_opened).sum::<u64>();
    *tally = world.tally;
    let trace = Vec::from(world.trace).join("\n");
    outcome.map_err(|what| format!("SEED={seed}: {what}\n{trace}"))
}

/// A key that belongs to the seed, so that a history is the same each time.
fn key(random: &mut Random) -> SigningKey {
    use base64::Engine as _;
    let bytes: Vec<u8> = (0..4).flat_map(|_| random.next().to_be_bytes()).collect();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    SigningKey::from_text(&text).expect("32 bytes are a key")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Memory: what is synced is not the question here, and thousands of histories are.
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let root = tempfile::Builder::new().prefix("phusa-simulation-").tempdir_in(place);
        let root = root.expect("a folder");
        let mut hub = Hub::new(&root.path().join("hub"), [key(&mut random), key(&mut random)]);
        let offices = (0..1 + random.below(3)).map(|index| {
            let id = AgentId::try_from(format!("H57.{}/may-1", index + 10)).expect("a name");
            let key = key(&mut random);
            hub.enrol(&id, &key, false);
            Office::new(id.clone(), key, root.path().join(format!("office-{index}")))
        });
        let offices = offices.collect();
        Self {
            now: Duration::ZERO,
            offices,
            hub,
            root,
            events: BTreeMap::new(),
            open: BTreeSet::new(),
            count: 0,
            weather: Weather::default(),
            disk_copies: Vec::new(),
            hub_copies: Vec::new(),
            tally: Tally::default(),
            trace: VecDeque::new(),
            random,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for office in 0..self.offices.len() {
            self.start(office)?;
        }
        let steps = 100 + self.random.below(500);
        for _ in 0..steps {
            let trouble = self.random.weighted(&TROUBLES);
            *self.tally.troubles.entry(trouble).or_default() += 1;
            if !matches!(trouble, T::Time) {
                self.note(|| format!("{trouble:?}"));
            }
            self.trouble(trouble)?;
        }
        self.be_quiet()?;
        self.check_end()
    }

    fn be_quiet(&mut self) -> Result<(), String> {
        self.note(|| "quiet".to_owned());
        self.weather = Weather::default();
        for office in 0..self.offices.len() {
            self.offices[office].disk.set_full(false);
            self.let_in(office, true);
            if self.offices[office].version != self.hub.version {
                self.offices[office].version = self.hub.version;
                self.start(office)?;
            }
        }
        let deadline = self.now + QUIET_MAX;
        while !self.is_settled() {
            for office in 0..self.offices.len() {
                if self.offices[office].process.is_none() {
                    self.start(office)?;
                }
                self.read(office, 8)?;
            }
            self.advance()?;
            if self.now > deadline {
                let rest = self.offices.iter().map(|office| format!("{:?}", office.process));
                let rest: Vec<String> = rest.collect();
                return Err(format!("not everything arrived:\n{}", rest.join("\n")));
            }
        }
        Ok(())
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), String> {
        let office = self.pick(self.offices.len());
        match trouble {
            T::Time => self.advance(),
            T::Write => {
                self.offices[office].source.commit(&mut self.random);
                Ok(())
            }
            T::Read => {
                let most = 1 + self.pick(8);
                self.read(office, most)
            }
            T::Publish => self.hub.publish(self.random.next()),
            T::Weather => {
                self.change_weather();
                Ok(())
            }
            T::CrashAgent | T::AdoptContract => {
                if trouble == T::AdoptContract {
                    self.offices[office].version = self.hub.version;
                }
                self.start(office)
            }
            T::CutPower => {
                let after = u32::try_from(1 + self.random.below(12)).unwrap_or(1);
                self.offices[office].disk.set_left(Some(after));
                Ok(())
            }
            T::CrashHub => {
                self.hub.restart();
                Ok(())
            }
            T::FillDisk | T::FreeDisk => {
                self.offices[office].disk.set_full(trouble == T::FillDisk);
                Ok(())
            }
            T::CopyDisk => self.copy_disk(office),
            T::RestoreDisk => self.restore_disk(),
            T::CopyHub => {
                self.hub_copies.push(self.hub.stored.clone());
                Ok(())
            }
            T::RestoreHub => self.restore_hub(),
            T::Damage => self.damage(office),
            T::Upgrade => self.upgrade(office),
            T::Suspend | T::Readmit => {
                self.let_in(office, trouble == T::Readmit);
                Ok(())
            }
            T::ClockJump | T::SkewAgent => {
                self.set_clock((trouble == T::SkewAgent).then_some(office));
                Ok(())
            }
            T::Leap => {
                self.now += self.random.millis(1_000, 7_200_000);
                Ok(())
            }
            T::ChangeContract => {
                self.hub.version = 1;
                Ok(())
            }
        }
    }

    /// The clock of an office shows any moment from 1970 to 2100, as after a flat battery; the hub's is
    /// moved by 23 days at most.
    fn set_clock(&mut self, office: Option<usize>) {
        let mut micros = |count| i64::try_from(self.random.below(count)).unwrap_or(0);
        match office {
            Some(office) => {
                self.offices[office].clock = Timestamp::from_micros(micros(4_102_444_800_000_000));
            }
            None => {
                let now = self.hub.clock.micros() + micros(4_000_000_000_000) - 2_000_000_000_000;
                self.hub.clock = Timestamp::from_micros(now);
            }
        }
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.random.below(count as u64)).unwrap_or(0)
    }

    fn let_in(&mut self, office: usize, may: bool) {
        let Office { id, key, .. } = &self.offices[office];
        self.hub.enrol(id, key, !may);
    }

    fn change_weather(&mut self) {
        let fine = self.random.happens(40);
        let mut per_cent = |max| if fine { 0 } else { self.random.below(max) };
        let (lost, answers_dropped) = (per_cent(80), per_cent(80));
        self.weather =
            Weather { lost, answers_dropped, repeated: per_cent(40), late: per_cent(60) };
    }

    /// What an agent did, or that it could not and is gone until it starts again.
    fn did(&mut self, office: usize, done: Result<Vec<Action>, Fault>) -> Result<(), String> {
        match done {
            Ok(actions) => self.perform(office, actions),
            Err(fault) => {
                let full = [Code::DiskFull, Code::SpoolFull].contains(&fault.code);
                if !full || self.count.is_multiple_of(500) {
                    self.note(|| format!("office {office}: {}", fault.chain()));
                }
                let waits = [Code::DiskFull, Code::SpoolFull, Code::DiskFailed, Code::SpoolDamaged];
                if !waits.contains(&fault.code) {
                    return Err(fault.chain());
                }
                // A full disk or spool is waited out; anything else ends the process.
                if self.offices[office].disk.is_dead() || fault.code == Code::DiskFailed {
                    self.offices[office].stop();
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, office: usize) -> Result<(), String> {
        self.open.retain(|request| request.office != office);
        let now = self.moment();
        let started = self.offices[office].start(now);
        self.did(office, started)
    }

    fn read(&mut self, office: usize, most: usize) -> Result<(), String> {
        if self.offices[office].process.is_none() && self.random.happens(30) {
            return self.start(office);
        }
        let now = self.moment();
        let read = self.offices[office].read(most, now);
        self.did(office, read)
    }

    fn copy_disk(&mut self, office: usize) -> Result<(), String> {
        let to = self.root.path().join(format!("copy-{}", self.disk_copies.len()));
        if self.offices[office].folder.is_dir() {
            copy(&self.offices[office].folder, &to).map_err(|error| error.to_string())?;
            self.disk_copies.push((office, to));
        }
        Ok(())
    }

    fn restore_disk(&mut self) -> Result<(), String> {
        if self.disk_copies.is_empty() {
            return Ok(());
        }
        let index = self.pick(self.disk_copies.len());
        let (office, from) = self.disk_copies[index].clone();
        self.offices[office].stop();
        let folder = &self.offices[office].folder;
        std::fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
        copy(&from, folder).map_err(|error| error.to_string())?;
        self.start(office)
    }

    fn restore_hub(&mut self) -> Result<(), String> {
        if self.hub_copies.is_empty() {
            return Ok(());
        }
        let index = self.pick(self.hub_copies.len());
        let old = self.hub_copies[index].clone();
        self.hub.restore(old).map_err(|fault| fault.chain())
    }

    /// A byte of a file in the spool is another one.
    fn damage(&mut self, office: usize) -> Result<(), String> {
        let folder = self.offices[office].folder.join("spool").join(dataset().to_string());
        let epochs = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files =
            epochs.flat_map(|e| std::fs::read_dir(e.path()).into_iter().flatten().flatten());
        let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
        files.sort();
        if files.is_empty() {
            return Ok(());
        }
        let index = self.pick(files.len());
        let mut bytes = std::fs::read(&files[index]).map_err(|error| error.to_string())?;
        if !bytes.is_empty() {
            let at = self.pick(bytes.len());
            bytes[at] ^= 1;
        }
        std::fs::write(&files[index], bytes).map_err(|error| error.to_string())
    }

    /// A newer program ran and was taken back: this one touches nothing of what it wrote. Then the
    /// newer one goes on.
    fn upgrade(&mut self, office: usize) -> Result<(), String> {
        self.offices[office].stop();
        let form = self.offices[office].folder.join("spool.format");
        let Ok(known) = std::fs::read(&form) else { return self.start(office) };
        std::fs::write(&form, "1000\n").map_err(|error| error.to_string())?;
        let now = self.moment();
        match self.offices[office].start(now) {
            Err(fault) if fault.code == Code::StateNewer => {}
            Ok(_) => return Err("a program runs on a newer one's state".to_owned()),
            Err(fault) => return Err(fault.chain()),
        }
        std::fs::write(&form, known).map_err(|error| error.to_string())?;
        self.start(office)
    }

    fn moment(&mut self) -> Moment {
        let entropy = u32::try_from(self.random.below(1 << 32)).unwrap_or(0);
        Moment { elapsed: self.now, entropy }
    }

    /// Everything was read and receipted, and the warehouse is the source under its mapping.
    fn is_settled(&self) -> bool {
        self.offices.iter().all(|office| {
            let should = office.source.shared(office.source.end(), self.hub.version);
            office.is_done() && self.hub.rows(&office.id) == should
        })
    }

    fn check_end(&mut self) -> Result<(), String> {
        self.offices.iter().try_for_each(Office::check_tidy)?;
        self.hub.publish(self.random.next())?;
        if let Some(last) = self.hub.heads.last().copied() {
            for old in &self.hub.heads {
                self.hub.check_extends(*old, last)?;
            }
        }
        let keys =
            |office: &Office| (office.id.clone(), vec![KeySpan::always(office.key.public())]);
        let agents = self.offices.iter().map(keys).collect();
        let mut verifier = LogVerifier::new(vec![self.hub.log.public_key()], agents);
        let mut leaves = audit::Leaves::open(&self.hub.folder).map_err(|fault| fault.chain())?;
        for line in &self.hub.stored.lines {
            verifier.add(line).map_err(|broken| broken.to_string())?;
            leaves.check(line.number, &line.entry).map_err(|fault| fault.chain())?;
        }
        self.check_nothing_leaked()
    }

    /// No file of agents or hub holds what masks hide.
    fn check_nothing_leaked(&self) -> Result<(), String> {
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())?.flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let bytes = std::fs::read(entry.path()).map_err(|error| error.to_string())?;
                let found = |part: &&[u8]| bytes.windows(part.len()).any(|window| window == *part);
                if FORBIDDEN.iter().any(found) {
                    return Err(format!("{} holds what the mapping hides", entry.path().display()));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        let line = line();
        self.trace.push_back(format!("{:>12.3} {line}", self.now.as_secs_f64()));
    }
}
