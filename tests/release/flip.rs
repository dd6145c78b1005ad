//! The updater as a process: killed at every step of an exchange, and always a program to start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use phusa_agent::failpoint::Failpoint;
use phusa_agent::update::form::{self, Condition, Health, Offer, SelfTest, State};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::release::{Stage, Why};
use phusa_protocol::time::Timestamp;
use phusa_tests::folder::Folder;
use phusa_tests::power::PowerDisk;
use phusa_tests::process::{Process, output, program, run, wait_until_blocking};
use phusa_tests::releases::{Releases, facts, version};

use crate::shell;

const WITHIN: Duration = Duration::from_secs(60);

/// An updater's place, with 0.1.0 running and 0.2.0 laid down as an agent does.
struct Bench {
    folder: Arc<Folder>,
    beat: u64,
    self_test: SelfTest,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, after something was done with the folder of the slots.
    fn with(slots: impl FnOnce(&Path)) -> Self {
        let folder = Arc::new(Folder::new());
        let self_test = SelfTest { version: version("0.2.0"), passed: true, said: String::new() };
        let bench = Self { folder, beat: 0, self_test };
        fs::create_dir_all(bench.path("incoming/metadata")).unwrap();
        fs::create_dir_all(bench.path("slots")).unwrap();
        slots(&bench.path("slots"));
        shell::program(&bench.path("old"), "old");
        shell::program(&bench.path("new"), "new");
        let adopt = ["update", "adopt", "--slots"];
        run(Command::new(program("phusa-agent"))
            .args(adopt)
            .arg(bench.path("slots"))
            .arg(bench.path("old")));
        let releases = Releases::begin(&bench.path("hub"));
        let facts = facts("0.2.0", "0.1.0");
        let new = fs::read(bench.path("new")).unwrap();
        releases.release(&new, &facts);
        for entry in fs::read_dir(releases.store().metadata()).unwrap().flatten() {
            let to = bench.path("incoming/metadata").join(entry.file_name());
            fs::copy(entry.path(), to).unwrap();
        }
        fs::copy(bench.path("incoming/metadata/1.root.json"), bench.path("root.json")).unwrap();
        fs::copy(bench.path("new"), bench.path("incoming/program")).unwrap();
        let offer = Offer { facts, length: new.len() as u64 };
        form::write(&bench.path("incoming/offer.json"), &offer, true).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn watch(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(program("phusa-agent"));
        command.args(["update", "watch", "--probation", "2s", "--silent", "4s"]);
        for (flag, name) in
            [("--slots", "slots"), ("--incoming", "incoming"), ("--root", "root.json")]
        {
            command.arg(flag).arg(self.path(name));
        }
        command.envs(environment.iter().copied());
        Process::start(&self.folder, "updater", &mut command)
    }

    /// What is started now must start.
    fn boots(&self) -> String {
        let said = output(&mut Command::new(self.path("slots/current/phusa-agent")));
        assert!(said.status.success(), "what the link starts must start");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    fn state(&self) -> Option<State> {
        form::read(&self.path("slots/state.json")).unwrap()
    }

    /// Lives as the agent that the link starts would: signs of life of it, and a self-test that passes.
    fn live(&mut self, good: bool) {
        self.beat += 1;
        let Some(link) = fs::read_link(self.path("slots/current")).ok() else { return };
        let name = link.file_name().unwrap().to_str().unwrap().to_owned();
        let running = version(&name);
        let silent = running == version("0.2.0") && !good;
        let health = Health {
            running,
            started_at: Timestamp::UNIX_EPOCH,
            beat: self.beat,
            rss_kib: Some(20_000),
            datasets: vec![(DatasetId::new("a.b").unwrap(), Condition::Well)],
        };
        if !silent {
            form::write(&self.path("incoming/health.json"), &health, false).unwrap();
        }
        let file = self.path("incoming/self-test.json");
        form::write(&file, &self.self_test, false).unwrap();
    }

    fn lives_until(&mut self, what: &str, good: bool, mut done: impl FnMut(&Self) -> bool) {
        wait_until_blocking(what, WITHIN, || {
            self.live(good);
            done(self)
        });
    }
}

fn is(state: Option<State>, stage: Stage) -> bool {
    state.is_some_and(|state| state.stage == stage)
}

#[test]
fn killed_at_every_step_of_an_exchange_there_is_always_a_program_and_it_goes_on() {
    for point in Failpoint::UPDATE {
        let good = point != Failpoint::AfterReturnNoted;
        let mut bench = Bench::new();
        let mut updater = bench.watch(&[("PHUSA_FAILPOINT", point.name())]);
        bench
            .lives_until(&format!("the kill at {}", point.name()), good, |_| !updater.is_running());
        let boots = bench.boots();
        println!("killed at {}: {boots} starts", point.name());
        let mut updater = bench.watch(&[]);
        let end = if good { Stage::Committed } else { Stage::RolledBack };
        let starts = if good { "new" } else { "old" };
        bench.lives_until(&format!("{} after {}", end.name(), point.name()), good, |bench| {
            is(bench.state(), end) && bench.boots() == starts
        });
        updater.kill();
        let slot = |version: &str| Path::exists(&bench.path("slots/slots").join(version));
        assert!(slot("0.1.0"), "the one before is kept");
        let left = fs::read_dir(bench.path("slots/slots")).unwrap().count();
        assert_eq!(left, 2, "nothing else is left behind");
    }
}

#[test]
fn when_the_power_goes_out_at_any_step_of_an_exchange_there_is_a_program_to_start() {
    for point in Failpoint::UPDATE {
        let good = point != Failpoint::AfterReturnNoted;
        let mut disk = None;
        let mut bench = Bench::with(|slots| {
            let beside = slots.parent().unwrap();
            disk = PowerDisk::new(slots, beside, 32);
        });
        let Some(disk) = disk else { return };
        let mut updater = bench.watch(&[("PHUSA_FAILPOINT", point.name())]);
        bench
            .lives_until(&format!("the kill at {}", point.name()), good, |_| !updater.is_running());
        disk.cut();
        disk.come_back();
        let boots = bench.boots();
        println!("power cut at {}: {boots} starts", point.name());
        let mut updater = bench.watch(&[]);
        let starts = if good { "new" } else { "old" };
        let end = if good { Stage::Committed } else { Stage::RolledBack };
        bench.lives_until(&format!("{} after {}", end.name(), point.name()), good, |bench| {
            is(bench.state(), end) && bench.boots() == starts
        });
        updater.kill();
    }
}

#[test]
fn a_program_that_fails_its_self_test_never_runs_and_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.self_test.passed = false;
    bench.self_test.said = "exit status: 1".to_owned();
    let mut updater = bench.watch(&[]);
    bench.lives_until("it to be taken back", true, |bench| is(bench.state(), Stage::RolledBack));
    let state = bench.state().unwrap();
    assert_eq!((state.why, state.detail.as_str()), (Some(Why::SelfTest), "exit status: 1"));
    assert_eq!(state.rejected, [version("0.2.0")]);
    assert_eq!(bench.boots(), "old");
    assert!(updater.stop().success());
}

#[test]
fn an_offer_that_was_altered_on_its_way_to_the_updater_stays_outside() {
    let mut bench = Bench::new();
    fs::write(bench.path("incoming/program"), "#!/bin/sh\necho evil\n").unwrap();
    let mut updater = bench.watch(&[]);
    bench.lives_until("the refusal", true, |bench| {
        bench.state().is_some_and(|state| state.obstacle.as_deref() == Some("release_damaged"))
    });
    assert_eq!(bench.boots(), "old");
    assert!(!bench.path("slots/slots/0.2.0").exists());
    assert!(updater.stop().success());
}
