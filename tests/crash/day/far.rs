//! A day at the end of a bad line: the same random work while the line loses packets and is cut, hub,
//! agent and database are killed, the agent's disk fills up, the power goes out at the agent and at the
//! hub, another hub process takes the first one's place, and a standby that of its primary.
//!
//! `PHUSA_SOAK_MINUTES=60` makes the long form, of three engines at once; `PHUSA_CRASH_SEED` repeats one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_tests::office::Pair;
use phusa_tests::power::PowerDisk;
use phusa_tests::process::run;
use phusa_tests::wide::{DISTRICT, Wide};
use rustix::process::Signal;

use super::*;

/// Events of the short form.
const SHORT_EVENTS: u64 = 8;

/// Batches that pass between two events: on such a line they are few.
const BATCHES_BETWEEN: u64 = 12;

/// Size of the agent's disk.
const DISK_MIB: u64 = 96;

/// And for each minute of a long day: of every batch some 4 KB of receipt, entry and proof stay for good,
/// and an agent whose disk they have filled rightly waits. Some 300 batches come in a minute.
const DISK_MIB_A_MINUTE: u64 = 3;

/// Size of the hub's disk; what is never written takes no room.
const HUB_DISK_MIB: u64 = 3_072;

/// What the agent leaves free of its disk.
const RESERVE: &str = "[spool]\ndisk_reserve = \"4MiB\"";

/// How long a backlog may take: each of its small batches waits for a round trip of the line.
const BACKLOG_MAX: Duration = Duration::from_secs(900);

/// Open files that a hub or an agent of one agency needs at most.
const FILES_MAX: u64 = 120;

/// What befalls those who are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Kill,
    Cut,
    PowerOut,
    DiskFull,
    HubPowerOut,
    HubReplaced,
    /// Where there is a standby; elsewhere somebody is killed.
    FailOver,
}

/// Every event once, and then as it comes.
const FIRST: [Event; 7] = [
    Event::Cut,
    Event::HubReplaced,
    Event::DiskFull,
    Event::PowerOut,
    Event::FailOver,
    Event::HubPowerOut,
    Event::Kill,
];

/// The day's line and the disks of its agent and its hub.
struct Far {
    line: Wide,
    disk: PowerDisk,
    hub_disk: PowerDisk,
    state: PathBuf,
    cut_seconds: u64,
    /// How often a standby took its primary's place.
    failed_over: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_at_the_end_of_a_bad_line_loses_nothing() {
    if minutes().is_some() {
        println!("the long form has every engine");
        return;
    }
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    Day::prepared("mariadb", server.database()).far_away(Until::Kills(SHORT_EVENTS)).await;
}

#[test]
fn long_days_of_three_engines_at_the_end_of_bad_lines_lose_nothing() {
    let Some(minutes) = minutes() else {
        println!("the long form needs PHUSA_SOAK_MINUTES");
        return;
    };
    let until = Until::Minutes(minutes);
    // Each on threads of its own: while one waits for its database to be there again, the others go on.
    thread::scope(|days| {
        days.spawn(|| {
            let office = Pair::start(Version::V15.or_given());
            alone(Day::prepared("postgres", office).far_away(until));
        });
        days.spawn(|| {
            let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
            alone(Day::prepared("mariadb", server.database()).far_away(until));
        });
        days.spawn(|| {
            alone(Day::prepared("sqlserver", SqlServer::start("bi-mat")).far_away(until));
        });
    });
}

impl<O: Office + Send + Sync + 'static> Day<O> {
    /// Goes on at the end of a bad line until the day is over.
    async fn far_away(mut self, until: Until) {
        let line = Wide::start(self.province.hub_port(), DISTRICT, self.seed).await;
        let config = self.province.agent_config(AGENCY);
        let text = fs::read_to_string(&config).unwrap();
        let here = format!("127.0.0.1:{}", self.province.hub_port());
        let text = text.replace(&here, &format!("127.0.0.1:{}", line.port()));
        fs::write(&config, text.replace("[spool]", RESERVE)).unwrap();
        let state = self.province.agent_folder(AGENCY).join("state");
        let beside = self.province.path().to_owned();
        let kept = match until {
            Until::Kills(_) => 0,
            Until::Minutes(minutes) => minutes * DISK_MIB_A_MINUTE,
        };
        let Some(disk) = PowerDisk::new(&state, &beside, DISK_MIB + kept) else { return };
        let hub_state = self.province.hub_folder().join("state");
        let Some(hub_disk) = PowerDisk::new(&hub_state, &beside, HUB_DISK_MIB) else { return };
        let cut_seconds = match until {
            Until::Kills(_) => 6,
            // A tenth of the day.
            Until::Minutes(minutes) => (minutes * 6).min(120),
        };
        let mut far = Far { line, disk, hub_disk, state, cut_seconds, failed_over: 0 };
        self.province.start_hub();
        self.province.start_agent(AGENCY);
        let clerk = Clerk::begins(Arc::clone(&self.office), self.followed.clone(), self.seed);
        let mut count = 0;
        while !self.is_over(until) {
            let wanted = self.random.between(1, BATCHES_BETWEEN);
            let there = wait_for_batches(&self.province, wanted).await;
            let any = self.random.below(FIRST.len() as u64 + 2);
            let any = usize::try_from(if count < FIRST.len() as u64 { count } else { any });
            let event = any.ok().and_then(|any| FIRST.get(any)).unwrap_or(&Event::Kill);
            println!("{:6.1} s  {}: {there} batches", self.seconds(), self.engine);
            self.befall(*event, &mut far).await;
            count += 1;
        }
        let done = clerk.ends();
        self.wait_for_backlog().await;
        let same = self.wait_until_same().await;
        self.province.verify_log();
        let (agent, hub) =
            (self.province.agent_process(AGENCY).id(), self.province.hub_process().id());
        self.look_at("agent", agent);
        self.look_at("hub", hub);
        assert!(self.province.agent_process(AGENCY).stop().success());
        let epochs = self.epochs().await;
        assert!(self.province.hub_process().stop().success());
        assert_eq!(half_written(&far.state), Vec::<PathBuf>::new());
        assert_eq!(half_written(&self.province.hub_folder()), Vec::<PathBuf>::new());
        self.tell(done, &same, 0);
        let epochs_max = 1 + far.failed_over;
        let again: Vec<_> = epochs.iter().filter(|(_, epoch)| *epoch > epochs_max).collect();
        assert!(again.is_empty(), "nothing of this is a reason to read anew: {again:?}");
    }

    /// Waits until what gathered while the line was cut has crossed it.
    async fn wait_for_backlog(&self) {
        let began = Instant::now();
        let names: Vec<String> =
            self.followed.iter().map(|one| format!("thu.{}", one.way.table())).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        wait_until(&format!("{}: the backlog to arrive", self.engine), BACKLOG_MAX, async || {
            let ends = self.province.ends_of(AGENCY, &names);
            ends.iter().all(|[here, there]| here.is_some() && here == there).then_some(())
        })
        .await;
        let seconds = began.elapsed().as_secs_f64();
        println!("{}: the backlog took {seconds:.0} s to arrive", self.engine);
    }

    /// The standby takes its primary's place, and the agent is told where it is.
    fn fail_over(&mut self, far: &mut Far) {
        let before = self.office.port();
        if !self.office.fail_over() {
            self.kill_someone();
            return;
        }
        *self.kills.entry("failed over").or_default() += 1;
        far.failed_over += 1;
        let config = self.province.agent_config(AGENCY);
        let text = fs::read_to_string(&config).unwrap();
        let port = |port: u16| format!("port = {port}\n");
        fs::write(&config, text.replace(&port(before), &port(self.office.port()))).unwrap();
        assert!(self.province.agent_process(AGENCY).stop().success());
        self.province.start_agent(AGENCY);
    }

    async fn befall(&mut self, event: Event, far: &mut Far) {
        let seconds = self.random.between(far.cut_seconds / 3, far.cut_seconds);
        if event != Event::Kill {
            println!("{:6.1} s  {}: {event:?}", self.seconds(), self.engine);
        }
        match event {
            Event::Kill => self.kill_someone(),
            Event::FailOver => self.fail_over(far),
            Event::HubPowerOut => {
                *self.kills.entry("hub's power out").or_default() += 1;
                self.province.cut_power_of_hub(&far.hub_disk);
            }
            Event::Cut => {
                *self.kills.entry("line cut").or_default() += 1;
                far.line.cut(true);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                far.line.cut(false);
            }
            Event::PowerOut => {
                *self.kills.entry("power out").or_default() += 1;
                self.province.agent_process(AGENCY).signal(Signal::STOP);
                far.disk.cut();
                self.province.agent_process(AGENCY).kill();
                far.disk.come_back();
                self.province.start_agent(AGENCY);
            }
            Event::DiskFull => {
                *self.kills.entry("disk full").or_default() += 1;
                let filling = far.state.join("filling");
                // It ends with "no space left".
                let _full = std::process::Command::new("dd")
                    .args(["if=/dev/zero", "bs=1M", "status=none"])
                    .arg(format!("of={}", filling.display()))
                    .output();
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                run(std::process::Command::new("rm").arg(&filling));
            }
            Event::HubReplaced => {
                *self.kills.entry("hub replaced").or_default() += 1;
                let (mut second, [port, _]) = self.province.start_second_hub();
                far.line.lead_to(port);
                self.province.hub_process().kill();
                wait_for_batches(&self.province, 3).await;
                self.province.start_hub_with(&[]);
                far.line.lead_to(self.province.hub_port());
                assert!(second.stop().success(), "{}", second.log());
            }
        }
    }

    /// Memory and open files of a process, which must be those of one that just began.
    fn look_at(&self, who: &str, id: u32) {
        let Held { files, mib } = Held::by(id);
        println!("{}: {who}: {files} open files, {mib} MiB", self.engine);
        assert!(files <= FILES_MAX, "{who} holds {files} files");
    }
}

/// Files below a folder that a write left behind half done.
fn half_written(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match path.is_dir() {
            // PostgreSQL looks after its own.
            true if name != "postgresql" => found.extend(half_written(&path)),
            false if name.ends_with(".tmp") || name == ".new" => found.push(path),
            true | false => {}
        }
    }
    found
}
