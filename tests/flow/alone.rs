//! An installation of one file, without an updater: the program exchanges its own file for a release that
//! people signed, keeps the one before, and goes back where the new one cannot work.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use phusa_tests::process::{output, program, run};
use serde_json::Value;

use crate::fleet::linked_in;
use crate::house::{AGENCY, AGENT, House, edit, text};
use crate::update::{announce, begin, hub, release};

const WITHIN: Duration = Duration::from_secs(120);

/// A house whose agent is one file in its folder.
struct Alone {
    house: House,
}

impl Alone {
    fn file(&self) -> PathBuf {
        self.house.agent().join("bin/phusa-agent")
    }

    fn kept(&self) -> PathBuf {
        self.house.agent().join("bin/phusa-agent.previous")
    }

    fn update(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.file());
        command.arg("--config").arg(self.house.province.agent_config(AGENCY));
        output(command.arg("update").args(arguments))
    }

    /// Asks until the exchange ends in another way than that nothing is assigned yet.
    async fn now(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            let said = self.update(&[&["now"], arguments].concat());
            let words = text(&said);
            if !words.contains("nothing else is assigned") {
                return (said.status.code(), words);
            }
            assert!(begun.elapsed() < WITHIN, "{words}\n{}", self.status());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn status(&self) -> Value {
        let said = self.house.province.hub(&["rollout", "status", "--json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    fn rollout(&self, release: &str) {
        hub(&self.house, &["rollout", "start", release, "--canary", AGENT, "--share", "100"]);
    }

    fn start(&mut self) {
        let file = self.file();
        self.house.province.start_agent_from(AGENCY, &file);
    }

    async fn until(&self, what: &str, done: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while !done(&self.status()) {
            assert!(begun.elapsed() < WITHIN, "{what}: {}", self.status());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Hub and agent at work; nothing is published but its beginnings.
    async fn at_work(original: &[u8]) -> Self {
        let house = linked_in(House::new("", ""));
        let part = "[update]\nroot_file = \"release-root.json\"\nslots_dir = \"update\"\n\
                    incoming_dir = \"incoming\"\ncheck_every = \"1s\"\nrate_max = \"64MiB\"\n\n[spool]";
        edit(&house.province.agent_config(AGENCY), "[spool]", part);
        begin(&house);
        release(&house, "0.2.0", &other(original, "0.2.0"));
        let root = house.province.hub_folder().join("state/release/metadata/1.root.json");
        fs::copy(root, house.agent().join("release-root.json")).unwrap();
        let mut alone = Self { house };
        fs::create_dir_all(alone.file().parent().unwrap()).unwrap();
        fs::copy(program_file(&alone), alone.file()).unwrap();
        alone.house.province.start_hub();
        alone.start();
        assert_eq!(alone.house.settle().await, 200);
        announce(&alone.house);
        alone
    }
}

fn program_file(alone: &Alone) -> PathBuf {
    let stripped = alone.house.agent().join("program");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(program("phusa-agent")));
    stripped
}

/// The same program as another file: what stands behind its last section is not read.
fn other(original: &[u8], mark: &str) -> Vec<u8> {
    [original, mark.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_one_file_exchanges_itself_keeps_the_one_before_and_goes_back_from_bad_ones() {
    let stripped = tempfile::NamedTempFile::new().unwrap();
    run(Command::new("strip").arg("-o").arg(stripped.path()).arg(program("phusa-agent")));
    let first = fs::read(stripped.path()).unwrap();
    let second = other(&first, "0.2.0");
    let mut alone = Alone::at_work(&first).await;
    let is = |alone: &Alone, bytes: &[u8]| fs::read(alone.file()).unwrap() == bytes;
    assert!(is(&alone, &first), "strip gives the same file each time");

    alone.rollout("0.2.0");
    let (code, words) = alone.now(&[]).await;
    print!("{words}");
    assert_eq!((code, is(&alone, &second)), (Some(0), true), "{words}");
    assert!(words.contains("0.1.0 → 0.2.0"), "{words}");
    assert_eq!(fs::read(alone.kept()).unwrap(), first, "the one before is kept");
    alone.house.province.agent_process(AGENCY).kill();
    alone.start();
    alone.until("0.2.0 to be committed", |said| said["waiting"] == 0).await;
    hub(&alone.house, &["rollout", "promote", "--because", "chạy tốt"]);
    alone.until("the rollout to be done", |said| said["state"] == "done").await;

    // A person goes back, and it does not come again by itself.
    let back = alone.update(&["back"]);
    print!("{}", text(&back));
    assert_eq!((back.status.code(), is(&alone, &first)), (Some(0), true), "{}", text(&back));
    let (code, words) = alone.now(&[]).await;
    assert!(code == Some(1) && words.contains("was taken back here"), "{words}");
    let none = alone.update(&["back"]);
    assert!(!none.status.success() && text(&none).contains("no program"), "{}", text(&none));
    let (code, words) = alone.now(&["--again"]).await;
    assert_eq!((code, is(&alone, &second)), (Some(0), true), "{words}");
    alone.house.province.agent_process(AGENCY).kill();
    alone.start();

    // One that cannot work is not laid down; one that fails where it lies is taken back.
    let real = program("phusa-agent").display().to_string();
    let in_place = format!("#!/bin/sh\n[ -e \"$0.previous\" ] && exit 3\nexec {real} \"$@\"\n");
    let bad = [
        ("0.3.0", b"#!/bin/sh\nexit 3\n".to_vec(), "0.3.0 cannot work here"),
        ("0.4.0", in_place.into_bytes(), "the one before is back"),
    ];
    for (version, bytes, expected) in bad {
        release(&alone.house, version, &bytes);
        alone.rollout(version);
        let (code, words) = alone.now(&[]).await;
        print!("{words}");
        assert!(code == Some(1) && words.contains(expected), "{version}: {words}");
        assert!(is(&alone, &second), "{version}: 0.2.0 lies there");
        let because = format!("{AGENT}: self_test");
        alone.until(version, |said| said["because"] == because.as_str()).await;
    }
    alone.house.nothing_is_lost(200).await;
}

#[tokio::test]
async fn a_program_in_a_slot_is_left_to_its_updater() {
    let house = House::new("", "");
    let slots = house.agent().join("slots");
    let part = "[update]\nroot_file = \"release-root.json\"\nslots_dir = \"slots\"\n\
                incoming_dir = \"incoming\"\n\n[spool]";
    edit(&house.province.agent_config(AGENCY), "[spool]", part);
    let real = program("phusa-agent");
    run(Command::new(&real).args(["update", "adopt", "--slots"]).arg(&slots).arg(&real));
    let mut command = Command::new(slots.join("current/phusa-agent"));
    command.arg("--config").arg(house.province.agent_config(AGENCY)).args(["update", "now"]);
    let said = output(&mut command);
    assert!(!said.status.success() && text(&said).contains("in a slot"), "{}", text(&said));
}
