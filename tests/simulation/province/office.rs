//! An agent: its real mapping, spool, ledger and sender over a folder of its own; only the loop that
//! drives them is the simulation's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_agent::disk::Disk;
use phusa_agent::mapping::{Bound, Mapping};
use phusa_agent::spool::record::SealKey;
use phusa_agent::spool::{BatchIdentity, Packed, Recovered, Settings, Spool, Stream, Tail, Writer};
use phusa_protocol::batch::Phase;
use phusa_protocol::delivery::{Action, Answer, Input, Moment, Sender};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::ByteSize;

use super::disk::FaultyDisk;
use super::registry::{CLOCK_MICROS, Place, Registry, contract, dataset, read_columns, rules};

/// A spool small enough to be full now and then.
const SPOOL_BYTES_MAX: u64 = 24 << 10;

/// An agent's machine: the folder stays, the process comes and goes.
#[derive(Debug)]
pub struct Office {
    pub id: AgentId,
    pub key: SigningKey,
    pub folder: PathBuf,
    pub disk: Arc<FaultyDisk>,
    pub source: Registry,
    /// What agent and source take for the time.
    pub clock: Timestamp,
    /// The version of the contract it was given.
    pub version: usize,
    /// Counts starts, so that answers to a process that is gone reach nobody.
    pub life: u64,
    pub process: Option<Process>,
    pub epochs_opened: u64,
}

pub struct Process {
    spool: Spool,
    stream: Stream,
    writer: Writer,
    pub sender: Sender,
    bound: Bound,
    place: Place,
    blocks: u64,
    receipts: BTreeMap<Seq, SignedReceipt>,
    /// Files whose receipt is recorded and that wait for a newer one.
    receipted: Vec<Seq>,
    /// The batch that ends the full read: with its receipt, earlier epochs go.
    read_end: Option<Seq>,
    released: Seq,
    pub in_flight: BTreeSet<Seq>,
    pub greeting: bool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.place, self.writer.tail().seq, self.sender)
    }
}

impl Office {
    pub fn new(id: AgentId, key: SigningKey, folder: PathBuf) -> Self {
        Self {
            id,
            key,
            folder,
            disk: Arc::default(),
            source: Registry::new(),
            clock: Timestamp::from_micros(CLOCK_MICROS),
            version: 0,
            life: 0,
            process: None,
            epochs_opened: 0,
        }
    }

    /// Ends the process; nothing but the folder is left of it.
    pub fn stop(&mut self) {
        self.life += 1;
        self.process = None;
        self.disk.set_left(None);
    }

    fn spool(&self) -> Result<Spool, Fault> {
        let settings = Settings {
            state_dir: self.folder.clone(),
            key: SealKey::new(&[3; 32]),
            spool_bytes_max: ByteSize(SPOOL_BYTES_MAX),
            disk_reserve: ByteSize(0),
        };
        Spool::open(settings, Arc::clone(&self.disk) as Arc<dyn Disk>)
    }

    /// A new process over this folder; returns what its sender asks for.
    pub fn start(&mut self, now: Moment) -> Result<Vec<Action>, Fault> {
        self.stop();
        let spool = self.spool()?;
        let agreed = (contract(self.version).fingerprint(), rules(self.version).1);
        let recovery = match spool.recover(&dataset())? {
            Recovered::Nothing => return self.begin(spool, Epoch(1)),
            Recovered::Broken { epoch, .. } => return self.begin(spool, Epoch(epoch.0 + 1)),
            Recovered::Whole(recovery) => recovery,
        };
        let epoch = recovery.stream.epoch();
        if recovery.agreed.is_some_and(|made| made != agreed) {
            return self.begin(spool, Epoch(epoch.0 + 1));
        }
        let resume = recovery.resume.as_ref().and_then(|r| std::str::from_utf8(&r.0).ok());
        let place = resume.and_then(Place::parse).unwrap_or_else(|| self.read_anew());
        let mut process = self.process(spool, recovery.stream, recovery.tail, place);
        process.sender = Sender::new(epoch, recovery.released, recovery.released_header);
        process.receipted = recovery.receipted;
        let tail = process.writer.tail();
        process.read_end = tail.phase.filter(|phase| *phase != Phase::Read).map(|_| tail.seq);
        process.released = recovery.released;
        process.tidy()?;
        let mut actions = Vec::new();
        for (seq, header) in recovery.waiting {
            actions.extend(process.sender.step(Input::Spooled(seq, header), now));
        }
        self.process = Some(process);
        Ok(actions)
    }

    /// Opens this epoch and reads anew.
    pub fn open_epoch(&mut self, epoch: Epoch) -> Result<Vec<Action>, Fault> {
        let spool = self.spool()?;
        self.stop();
        self.begin(spool, epoch)
    }

    fn begin(&mut self, spool: Spool, epoch: Epoch) -> Result<Vec<Action>, Fault> {
        let stream = spool.open_epoch(&dataset(), epoch)?;
        let process = self.process(spool, stream, Tail::start(), self.read_anew());
        self.epochs_opened += 1;
        self.process = Some(process);
        Ok(Vec::new())
    }

    fn read_anew(&self) -> Place {
        Place { live: false, whole: self.source.end(), within: 0 }
    }

    fn process(&self, spool: Spool, stream: Stream, tail: Tail, place: Place) -> Process {
        let (rules, mapping) = rules(self.version);
        let bound = Mapping::new(&rules).and_then(|rules| rules.bind(&read_columns()));
        let identity = BatchIdentity {
            agent: self.id.clone(),
            key: self.key.clone(),
            contract: contract(self.version).fingerprint(),
            mapping,
        };
        Process {
            sender: Sender::new(stream.epoch(), Seq::NONE, Digest::ZERO),
            writer: Writer::new(stream.clone(), tail, identity),
            bound: bound.expect("rules that fit"),
            spool,
            stream,
            place,
            blocks: 0,
            receipts: BTreeMap::new(),
            receipted: Vec::new(),
            read_end: None,
            released: Seq::NONE,
            in_flight: BTreeSet::new(),
            greeting: false,
        }
    }

    /// Reads one block of about `most` changes through mapping into the spool.
    pub fn read(&mut self, most: usize, now: Moment) -> Result<Vec<Action>, Fault> {
        let Some(process) = self.process.as_mut() else { return Ok(Vec::new()) };
        let number = process.blocks + 1;
        let Some((block, next)) = self.source.block(process.place, most, (number, self.clock))
        else {
            return Ok(Vec::new());
        };
        let packed = Packed::new(process.bound.apply(block)?.shareable, 3)?;
        let mut actions = Vec::new();
        if packed.is_note_after(process.writer.tail()) {
            process.writer.note(&packed)?;
        } else {
            let (seq, header) = match process.writer.append(&packed) {
                Err(fault) if [Code::SpoolFull, Code::DiskFull].contains(&fault.code) => {
                    // As the pipeline does it.
                    process.spool.retire_before(&dataset(), process.stream.epoch())?;
                    return Err(fault);
                }
                appended => appended?,
            };
            if packed.phase() == Phase::ReadEnd {
                process.read_end = Some(seq);
            }
            actions = process.sender.step(Input::Spooled(seq, header), now);
        }
        (process.place, process.blocks) = (next, number);
        process.tidy()?;
        Ok(actions)
    }

    /// Whether everything was read, sent and receipted.
    pub fn is_done(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let end = Place { live: true, whole: self.source.end(), within: 0 };
            process.place == end && process.sender.is_idle() && process.in_flight.is_empty()
        })
    }

    /// What lies in the folder when all is done: the newest batch, and nothing half made.
    pub fn check_tidy(&self) -> Result<(), String> {
        let (mut batches, mut folders) = (0, vec![self.folder.join("spool")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if name.ends_with(".tmp") {
                    return Err(format!("{} was left behind", entry.path().display()));
                }
                batches += usize::from(name.ends_with(".batch"));
            }
        }
        if batches > 1 { Err(format!("{batches} batches were left in the spool")) } else { Ok(()) }
    }
}

impl Process {
    /// The frame of a batch, or that it cannot be read.
    pub fn frame(&mut self, seq: Seq) -> Result<Vec<u8>, Fault> {
        self.stream.read(seq).map(|record| record.frame)
    }

    /// Puts a file that cannot be read aside.
    pub fn damaged(&mut self, seq: Seq, now: Moment) -> Result<Vec<Action>, Fault> {
        self.stream.set_aside(std::iter::once(seq))?;
        Ok(self.sender.step(Input::Damaged(seq), now))
    }

    /// An answer, with the receipt where it was one; a receipt that does not verify is none.
    pub fn answered(
        &mut self,
        seq: Seq,
        answer: Answer,
        receipt: Option<SignedReceipt>,
        now: Moment,
    ) -> Vec<Action> {
        self.in_flight.remove(&seq);
        if let Some(receipt) = receipt {
            self.receipts.insert(seq, receipt);
        }
        self.sender.step(Input::Answered(seq, answer), now)
    }

    /// Records the receipt of a batch; its file goes when a newer one is there.
    pub fn release(&mut self, seq: Seq, hub: &PublicKey) -> Result<(), Fault> {
        let bug = |what: &str| Fault::new(Code::Bug, format!("batch {seq}: {what}"));
        let receipt = self.receipts.remove(&seq).ok_or_else(|| bug("released, no receipt"))?;
        let frame = self.stream.read(seq)?.frame;
        let header = phusa_protocol::frame::decode(&frame).map_err(|_| bug("no frame"))?;
        if !receipt.covers(header.signed.digest(), hub) {
            return Err(bug("its receipt covers another"));
        }
        self.spool.ledger(&dataset(), self.stream.epoch()).record(&[receipt])?;
        self.released = seq;
        self.receipted.push(seq);
        self.tidy()
    }

    fn tidy(&mut self) -> Result<(), Fault> {
        if self.read_end.is_some_and(|end| end <= self.released) {
            self.spool.retire_before(&dataset(), self.stream.epoch())?;
            self.read_end = None;
        }
        let newest = self.writer.tail().seq;
        let (old, kept): (Vec<_>, Vec<_>) = self.receipted.iter().partition(|seq| **seq < newest);
        self.receipted = kept;
        old.into_iter().try_for_each(|seq| self.stream.delete(seq))
    }
}

/// A folder and all in it, copied.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
