//! An agent is exchanged for a release that people signed while its rows flow, goes back from bad ones, and
//! stays with what it has where the hub lies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use phusa_tests::process::{Process, program, run};
use serde_json::Value;

use crate::fleet::linked_in;
use crate::house::{AGENCY, AGENT, House, edit, text};

const WITHIN: Duration = Duration::from_secs(240);

/// A house whose agent runs from a slot, beside its updater.
struct Updated {
    house: House,
    updater: Process,
    starts: usize,
}

impl Updated {
    fn path(&self, name: &str) -> PathBuf {
        self.house.agent().join(name)
    }

    fn link(&self) -> PathBuf {
        self.path("slots/current/phusa-agent")
    }

    /// Hub, agent and updater at work; release 0.2.0, the same program again, is signed and published.
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more in `[update]`.
    async fn start_with(settings: &str) -> Self {
        let house = linked_in(House::new("", ""));
        let part = format!(
            "[update]\nroot_file = \"release-root.json\"\nslots_dir = \"slots\"\n\
             incoming_dir = \"incoming\"\ncheck_every = \"1s\"\nrate_max = \"64MiB\"\n{settings}\n[spool]"
        );
        edit(&house.province.agent_config(AGENCY), "[spool]", &part);
        let (slots, incoming) = (house.agent().join("slots"), house.agent().join("incoming"));
        let stripped = house.agent().join("program");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(program("phusa-agent")));
        fs::create_dir_all(&incoming).unwrap();
        let adopt = ["update", "adopt", "--slots"];
        run(Command::new(&stripped).args(adopt).arg(&slots).arg(&stripped));
        begin(&house);
        let program = fs::read(&stripped).unwrap();
        release(&house, "0.2.0", &program);
        let root = house.province.hub_folder().join("state/release/metadata/1.root.json");
        fs::copy(root, house.agent().join("release-root.json")).unwrap();
        let mut watch = Command::new(&stripped);
        watch.args(["update", "watch", "--probation", "5s", "--silent", "20s"]);
        watch.arg("--slots").arg(&slots).arg("--incoming").arg(&incoming);
        watch.arg("--root").arg(house.agent().join("release-root.json"));
        let updater = Process::start(&house.province.folder(), "updater", &mut watch);
        let mut updated = Self { house, updater, starts: 0 };
        updated.house.province.start_hub();
        updated.start_agent();
        assert_eq!(updated.house.settle().await, 200);
        announce(&updated.house);
        updated
    }

    fn start_agent(&mut self) {
        let link = self.link();
        self.house.province.start_agent_from(AGENCY, &link);
        self.starts += 1;
    }

    fn rollout(&self, release: &str) {
        let said = self
            .house
            .province
            .hub(&["rollout", "start", release, "--canary", AGENT, "--share", "100"]);
        assert!(said.status.success(), "{}", text(&said));
    }

    fn status(&self) -> Value {
        let said = self.house.province.hub(&["rollout", "status", "--json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    /// Waits as the service manager would: what ends, and what is to be another, is started anew.
    async fn until(&mut self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let restart = self.path("slots/restart");
        let asked = || fs::read_to_string(&restart).unwrap_or_default();
        let mut before = asked();
        loop {
            if asked() != before {
                before = asked();
                self.house.province.agent_process(AGENCY).kill();
            }
            if !self.house.province.agent_process(AGENCY).is_running() {
                self.start_agent();
            }
            let status = self.status();
            if done(&status) {
                return status;
            }
            let log = || self.house.province.page("/metrics").len();
            let updater = self.updater.log();
            assert!(begun.elapsed() < WITHIN, "{what}: {status}\n{updater}\n{}", log());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn insert(&self, id: u32) {
        self.house.database.psql(&format!("insert into people values ({id}, 'Lê', '1', 'x')"));
    }
}

/// Opens a window of maintenance from now on.
pub(crate) fn announce(house: &House) {
    let now = Timestamp::now();
    let window = [now.to_string(), now.after(Duration::from_secs(7_200)).to_string()];
    let window = ["notice", "create", "--from", &window[0], "--until", &window[1]];
    let said = ["--title", "Cập nhật tác tử", "--emergency", "--because", "thử nghiệm bản mới"];
    hub(house, &[&window[..], &said, &["--by", "an"]].concat());
}

/// Three people with sealed key files begin.
pub(crate) fn begin(house: &House) {
    let folder = house.agent();
    fs::write(folder.join("pass"), "mật khẩu đủ dài để dùng").unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let mut init = vec!["release".to_owned(), "init".to_owned()];
    for name in ["an", "binh", "cuong"] {
        let key = path(&format!("{name}.key"));
        hub(house, &["release", "key", "--out", &key, "--passphrase-file", &path("pass")]);
        let public = path(&format!("{name}.pub"));
        init.extend(["--root".to_owned(), public.clone(), "--targets".to_owned(), public]);
    }
    hub(house, &init.iter().map(String::as_str).collect::<Vec<_>>());
    sign(house, "root");
}

fn sign(house: &House, role: &str) {
    let folder = house.agent();
    let path = |name: &str| folder.join(name).display().to_string();
    let draft = house.province.hub_folder().join(format!("state/release/draft/{role}.json"));
    for name in ["an", "cuong"] {
        let key = path(&format!("{name}.key"));
        let draft = draft.display().to_string();
        hub(house, &["release", "sign", &draft, "--key", &key, "--passphrase-file", &path("pass")]);
    }
}

/// Publishes a program that says of itself that it is 0.1.0.
pub(crate) fn release(house: &House, version: &str, bytes: &[u8]) {
    let file = house.agent().join("to-release");
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let file = file.display().to_string();
    let add = ["release", "add", &file, "--release", version, "--min-version", "0.1.0"];
    hub(house, &[&add[..], &["--program-version", "0.1.0"]].concat());
    sign(house, "targets");
    hub(house, &["release", "publish", "--by", "an"]);
}

pub(crate) fn hub(house: &House, arguments: &[&str]) {
    let said = house.province.hub(arguments);
    assert!(said.status.success(), "{arguments:?}: {}", text(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_release_is_installed_and_stays_and_bad_ones_are_taken_back_while_rows_flow() {
    let mut updated = Updated::start().await;
    updated.rollout("0.2.0");
    let committed = |status: &Value| status["agents"][0]["stage"] == "committed";
    let begun = Instant::now();
    updated.until("0.2.0 to stay", committed).await;
    println!("0.2.0 was committed {:?} after the rollout began", begun.elapsed());
    updated.until("the ring to be counted", |status| status["waiting"] == 0).await;
    hub(&updated.house, &["rollout", "promote", "--because", "chạy tốt"]);
    updated.until("the rollout to be done", |status| status["state"] == "done").await;
    assert!(fs::read_link(updated.path("slots/current")).unwrap().ends_with("slots/0.2.0"));
    assert!(updated.path("slots/slots/0.1.0/phusa-agent").exists(), "the one before is kept");
    updated.insert(201);
    assert_eq!(updated.house.settle().await, 201);
    let fleet = updated.house.province.hub(&["fleet", "show", AGENCY, "--json"]);
    assert!(text(&fleet).contains("\"running\":\"0.2.0\""), "{}", text(&fleet));
    // Both prove themselves, and then one ends at once and the other hangs.
    let real = program("phusa-agent").display().to_string();
    let proves = format!(
        "#!/bin/sh\nfor one; do last=$one; done\ncase $last in self-test) exec {real} \"$@\";; esac\n"
    );
    for (version, does) in [("0.3.0", "exit 1\n"), ("0.4.0", "exec sleep 3600\n")] {
        release(&updated.house, version, format!("{proves}{does}").as_bytes());
        updated.rollout(version);
        let begun = Instant::now();
        let halted = updated.until(version, |status| status["state"] == "halted").await;
        println!(
            "{version} was taken back {:?} after its rollout began: {}",
            begun.elapsed(),
            halted["because"]
        );
        assert_eq!(halted["agents"][0]["stage"], "rolled_back", "{halted}");
        let said = updated.house.province.agent(AGENCY, &["update", "status"]);
        assert!(text(&said).contains("đã lùi lại (rolled back)"), "{}", text(&said));
        assert!(fs::read_link(updated.path("slots/current")).unwrap().ends_with("slots/0.2.0"));
    }
    // One that is no program at all never runs.
    release(&updated.house, "0.5.0", b"#!/bin/sh\nexit 3\n");
    let starts = updated.starts;
    updated.rollout("0.5.0");
    let halted = updated.until("0.5.0", |status| status["state"] == "halted").await;
    assert_eq!(halted["because"], format!("{AGENT}: self_test"), "{halted}");
    assert_eq!(updated.starts, starts, "it was not started");
    updated.insert(202);
    let log = updated.house.province.hub(&["log", "ls"]);
    assert!(text(&log).contains("rollout_halt"), "{}", text(&log));
    updated.house.nothing_is_lost(202).await;
    assert!(updated.updater.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_releases_lie_is_named_and_deliveries_go_on() {
    let mut updated = Updated::start().await;
    let targets = updated.house.province.hub_folder();
    let targets = targets.join("state/release/metadata/1.targets.json");
    let honest = fs::read_to_string(&targets).unwrap();
    updated.rollout("0.2.0");
    fs::write(&targets, honest.replace("0.2.0-x86_64", "0.2.0-x86_65")).unwrap();
    let refused = Code::ReleaseUntrusted.name();
    let begun = Instant::now();
    let shown = loop {
        let status = updated.house.province.agent(AGENCY, &["status", "--json"]);
        if text(&status).contains(refused) {
            break text(&status);
        }
        assert!(begun.elapsed() < WITHIN, "{}", text(&status));
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    assert!(!shown.contains("Nguyễn"));
    updated.insert(201);
    assert_eq!(updated.house.settle().await, 201);
    fs::write(&targets, honest).unwrap();
    let committed = |status: &Value| status["agents"][0]["stage"] == "committed";
    updated.until("0.2.0 to stay once the hub is honest", committed).await;
    updated.house.nothing_is_lost(201).await;
    assert!(updated.updater.stop().success());
}

impl Updated {
    /// The agent asks what to run once a second: so often it is seen to do nothing about it.
    async fn is_only_offered(&mut self, version: &str) {
        let offered = |status: &Value| {
            status["agents"][0]["version"] == version && status["agents"][0]["stage"] == "offered"
        };
        self.until(&format!("{version} to be offered"), offered).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            let laid = fs::read_to_string(self.path("incoming/offer.json")).unwrap_or_default();
            assert!(!laid.contains(version), "{version} was fetched: {laid}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(offered(&self.status()), "{}", self.status());
    }

    fn restart_agent_with(&mut self, before: &str, now: &str) {
        edit(&self.house.province.agent_config(AGENCY), before, now);
        self.house.province.agent_process(AGENCY).kill();
        self.start_agent();
    }
}

/// An hour of the day so much later than now, by Vietnam's clock.
fn hour(later: i64) -> String {
    let hours = Timestamp::now().micros() / 3_600_000_000 + 7 + later;
    format!("{:02}:00", hours.rem_euclid(24))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_is_asked_where_it_wants_to_be_and_is_left_alone_outside_its_hours() {
    let mut updated = Updated::start_with("mode = \"ask\"\n").await;
    updated.rollout("0.2.0");
    updated.is_only_offered("0.2.0").await;
    let other = updated.house.province.agent(AGENCY, &["update", "accept", "0.1.9"]);
    assert!(other.status.success(), "{}", text(&other));
    updated.is_only_offered("0.2.0").await;
    let agreed = updated.house.province.agent(AGENCY, &["update", "accept", "0.2.0"]);
    assert!(text(&agreed).contains("đã đồng ý (agreed)"), "{}", text(&agreed));
    let committed = |status: &Value| status["agents"][0]["stage"] == "committed";
    updated.until("0.2.0 to stay", committed).await;
    updated.until("0.2.0 to be counted", |status| status["waiting"] == 0).await;
    hub(&updated.house, &["rollout", "promote", "--because", "chạy tốt"]);
    updated.until("0.2.0 to be done", |status| status["state"] == "done").await;

    let closed = format!("allowed_hours = [\"{}-{}\"]", hour(3), hour(5));
    let open = format!("allowed_hours = [\"{}-{}\"]", hour(-1), hour(2));
    let first = fs::read(updated.path("program")).unwrap();
    release(&updated.house, "0.3.0", &[first.as_slice(), b"0.3.0"].concat());
    updated.restart_agent_with("mode = \"ask\"", &closed);
    updated.rollout("0.3.0");
    updated.is_only_offered("0.3.0").await;
    updated.restart_agent_with(&closed, &open);
    updated.until("0.3.0 to stay", committed).await;
    assert!(fs::read_link(updated.path("slots/current")).unwrap().ends_with("slots/0.3.0"));
    assert!(updated.updater.stop().success());
}
