//! Updates under a real systemd: the agent's package in a booted container, its database and its hub on the host;
//! a good release is committed, bad ones are taken back each with its reason, what passes by itself takes
//! nothing back; removal and purge.
//!
//! Minutes long, so it runs where `PHUSA_BOOTED` names a folder of packages (`packaging/build`); as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phusa_tests::database::free_port;
use phusa_tests::process::{output, program, run, wait_until};
use phusa_tests::province::{admitted, private};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::house::{AGENCY, AGENT, CONTRACT, DATASET, House, MAPPING, edit, text};
use crate::identity::caller::{self, Papers};
use crate::identity::{code_for, enrols};
use crate::update::{announce, begin, hub, release};

/// How long a judgement may take: the judge's own terms and a busy machine.
const WITHIN: Duration = Duration::from_secs(300);

/// How long the container may take to boot, or a unit to be as it should.
const SHOWS_WITHIN: Duration = Duration::from_secs(60);

const SECOND: &str = "cong_dan.ho_gia_dinh";

/// A container of this machine's own files, with an `/etc` of its own; nothing of it stays.
struct Container {
    folder: PathBuf,
    first: u32,
    machine: std::process::Child,
}

impl Container {
    fn boot(packages: &Path) -> Self {
        let folder = PathBuf::from(format!("/tmp/phusa-booted-{}", std::process::id()));
        let root = folder.join("root");
        fs::create_dir_all(&root).unwrap();
        run(Command::new("mount").args(["--bind", "/"]).arg(&root));
        run(Command::new("cp").args(["-a", "/etc"]).arg(folder.join("etc")));
        run(Command::new("sh").arg("-c").arg(format!(
            "rm -rf {0}/etc/systemd/system/*.wants {0}/etc/phusa {0}/etc/rc*.d",
            folder.display()
        )));
        let log = fs::File::create(folder.join("boot.log")).unwrap();
        let mut command = Command::new("systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot"]);
        command.args(["--machine=phusa-booted", "--link-journal=no"]);
        command.arg(format!("--directory={}", root.display()));
        command.arg(format!("--bind={}:/etc", folder.join("etc").display()));
        command.arg(format!("--bind-ro={}:/srv", packages.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let machine = command.spawn().unwrap();
        let mut container = Self { folder, first: 0, machine };
        let begun = Instant::now();
        while container.first == 0 || !container.is_running() {
            let logged = || fs::read_to_string(container.folder.join("boot.log")).unwrap();
            assert!(begun.elapsed() < SHOWS_WITHIN, "no systemd: {}", logged());
            let children = format!("/proc/{0}/task/{0}/children", container.machine.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            container.first =
                children.split_whitespace().next().map_or(0, |id| id.parse().unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("systemd runs {:?} after the container was begun", begun.elapsed());
        container
    }

    fn is_running(&self) -> bool {
        let state = self.said("systemctl is-system-running");
        ["running", "degraded"].contains(&state.trim())
    }

    fn enter(&self, script: &str) -> std::process::Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--", "sh", "-c", script]);
        output(&mut command)
    }

    /// What a script within prints, however it ends.
    fn said(&self, script: &str) -> String {
        text(&self.enter(script))
    }

    /// Runs a script within, which must succeed.
    fn does(&self, script: &str) -> String {
        let ended = self.enter(script);
        assert!(ended.status.success(), "{script}: {}\n{}", text(&ended), self.journal());
        text(&ended)
    }

    fn journal(&self) -> String {
        self.said("journalctl --no-pager --lines 80 --unit 'phusa-*'")
    }

    async fn until(&self, what: &str, script: &str) {
        let holds = async || self.enter(script).status.success().then_some(());
        let begun = Instant::now();
        wait_until(what, SHOWS_WITHIN, holds).await;
        println!("{what} after {:?}", begun.elapsed());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() && self.first != 0 {
            println!("{}", self.journal());
        }
        let _down = self.said("systemctl poweroff --force --force");
        let begun = Instant::now();
        while self.machine.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > Duration::from_secs(20) {
                let _killed = self.machine.kill();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let root = self.folder.join("root");
        let unmounted = output(Command::new("umount").arg(&root)).status.success();
        if unmounted {
            let _gone = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Hub and database here, the agent's package in a container.
struct Booted {
    house: House,
    container: Container,
}

impl Booted {
    async fn start(packages: &Path) -> Self {
        let house = House::new("", "");
        let port = free_port();
        let part = format!("[link]\nlisten = \"127.0.0.1:{port}\"\n\n[warehouse]");
        edit(&house.province.hub_config(), "[warehouse]", &part);
        let config = house.province.agent_config(AGENCY);
        let part = format!("[hub]\nlink_url = \"mqtts://127.0.0.1:{port}\"");
        edit(&config, "[hub]", &part);
        second_dataset(&house);
        begin(&house);
        let first = fs::read(program("phusa-agent")).unwrap();
        release(&house, "0.2.0", &first);
        enrols(&house, "90d");
        let mut booted = Self { house, container: Container::boot(packages) };
        booted.house.province.start_hub_with(&[]);
        booted.install(port).await;
        booted
    }

    /// As `docs/INSTALL.md` has it: the package, the configuration, the code, the root of releases.
    async fn install(&mut self, _link: u16) {
        let container = &self.container;
        let begun = Instant::now();
        container.does("dpkg -i /srv/phusa-agent_*.deb");
        println!("the package is installed after {:?}", begun.elapsed());
        let (etc, own) = (container.folder.join("etc/phusa"), self.house.agent());
        let folder = |name: &str| fs::canonicalize(own.join(name)).unwrap();
        for part in ["datasets", "contracts"] {
            run(Command::new("cp").arg("-r").arg(folder(part)).arg(&etc));
        }
        for part in ["agent.toml", "source.password"] {
            fs::copy(own.join(part), etc.join(part)).unwrap();
        }
        private(&etc.join("source.password"));
        edit(
            &etc.join("agent.toml"),
            "state_dir = \"state\"",
            "state_dir = \"/var/lib/phusa-agent\"",
        );
        let update = "[update]\nroot_file = \"release-root.json\"\ncheck_every = \"1s\"\n\
                      rate_max = \"64MiB\"\n\n[spool]";
        edit(&etc.join("agent.toml"), "[spool]", update);
        let root = self.house.province.hub_folder().join("state/release/metadata/1.root.json");
        fs::copy(root, etc.join("release-root.json")).unwrap();
        // A trial of twenty seconds in place of ten minutes; everything else is the judge's own.
        let unit = container.folder.join("etc/systemd/system/phusa-agent-update.service.d");
        fs::create_dir_all(&unit).unwrap();
        let exec = "[Service]\nExecStart=\nExecStart=/usr/lib/phusa/phusa-agent update watch --probation 20s\n";
        fs::write(unit.join("test.conf"), exec).unwrap();
        let code = code_for(&self.house, AGENT, &[]);
        let url = format!("https://127.0.0.1:{}", self.house.province.hub_port());
        let container = &self.container;
        container.does("chown -R phusa-agent:phusa-agent /etc/phusa && chmod 755 /etc/phusa");
        let enrol = format!("phusa-agent enrol {url} {code}");
        println!("{}", container.does(&format!("runuser -u phusa-agent -- {enrol}")).trim());
        self.apply_contracts();
        let container = &self.container;
        container
            .does("systemctl daemon-reload && systemctl restart phusa-agent-update phusa-agent");
        container.until("the agent runs", "systemctl is-active phusa-agent").await;
        self.arrived(200).await;
        println!("first rows are at the hub {:?} after the package was begun", begun.elapsed());
        announce(&self.house);
    }

    /// The owner signs its contracts at the agency, and the hub brings them into force.
    fn apply_contracts(&self) {
        let sign =
            "runuser -u phusa-agent -- phusa-agent contract sign /etc/phusa/contracts/*.toml";
        self.container.does(sign);
        let etc = self.container.folder.join("etc/phusa/contracts");
        let mut files: Vec<String> = Vec::new();
        for entry in fs::read_dir(etc).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                files.push(path.display().to_string());
            }
        }
        let mut apply = vec!["contract", "apply"];
        apply.extend(files.iter().map(String::as_str));
        hub(&self.house, &apply);
    }

    /// Waits until so many rows stand in the warehouse.
    async fn arrived(&self, rows: u64) {
        let digest = ["warehouse", "digest", DATASET, "--json"];
        wait_until("the rows to be at the hub", WITHIN, async || {
            let said = self.house.province.hub(&digest);
            let counted: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
            (counted["rows"] == rows).then_some(())
        })
        .await;
    }

    fn status(&self) -> Value {
        let said = self.house.province.hub(&["rollout", "status", "--json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    /// Begins a rollout to the only agent and waits until it is in one of these states.
    async fn rolls(&self, version: &str, done: impl Fn(&Value) -> bool) -> (Value, Duration) {
        hub(&self.house, &["rollout", "start", version, "--canary", AGENT, "--share", "100"]);
        self.until(version, done).await
    }

    async fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if done(&status) {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < WITHIN, "{what}: {status}\n{}", self.container.journal());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// How long the agent was on trial, by the updater's own log, and that it runs the one before again.
    fn runs(&self, version: &str) {
        let link = self.container.does("readlink /var/lib/phusa-update/current");
        assert!(link.trim().ends_with(version), "{version}: {link}");
    }
}

fn second_dataset(house: &House) {
    house.database.psql(
        "create table households (id bigint primary key, name text, phone text);
         insert into households select i, 'Hộ ' || i, '0912345' || i from generate_series(1, 50) i",
    );
    let file = |part: &str| house.agent().join(part).join(format!("{SECOND}.toml"));
    fs::write(file("contracts"), CONTRACT.replace(DATASET, SECOND)).unwrap();
    let mapping = MAPPING.replace(DATASET, SECOND).replace("public.people", "public.households");
    fs::write(file("datasets"), mapping).unwrap();
    let checked = admitted(&house.province.agent_config(AGENCY), &house.database);
    checked.unwrap_or_else(|said| panic!("{said}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_updates_itself_under_systemd_goes_back_from_bad_releases_and_is_purged() {
    let Some(packages) = std::env::var_os("PHUSA_BOOTED").map(PathBuf::from) else {
        println!("skipped: PHUSA_BOOTED names no folder of packages");
        return;
    };
    let booted = Booted::start(&packages).await;
    let committed = |status: &Value| status["agents"][0]["stage"] == "committed";
    let (_, took) = booted.rolls("0.2.0", committed).await;
    booted.runs("0.2.0");
    println!("0.2.0: committed {took:?} after its rollout began, 20 s of which are probation");
    booted.until("0.2.0 to be counted", |status| status["waiting"] == 0).await;
    hub(&booted.house, &["rollout", "promote", "--because", "chạy tốt"]);
    booted.until("0.2.0 to be done", |status| status["state"] == "done").await;

    let rogue = fs::read(program("phusa-rogue")).unwrap();
    let bad = [
        ("0.3.0", "crash", "crash"),
        ("0.4.0", "hang", "silent"),
        ("0.5.0", "leak", "memory"),
        ("0.6.0", "tls", "dataset"),
        ("0.7.0", "pipeline", "dataset"),
    ];
    for (version, fault, why) in bad {
        let bytes = [rogue.as_slice(), format!("#fault={fault}").as_bytes()].concat();
        release(&booted.house, version, &bytes);
        let halts = |status: &Value| status["state"] == "halted";
        let (halted, took) = booted.rolls(version, halts).await;
        println!(
            "{version}: {fault} was taken back {took:?} after its rollout began: {}",
            halted["because"]
        );
        assert_eq!(halted["because"], format!("{AGENT}: {why}"), "{fault}");
        booted.runs("0.2.0");
        let again = "systemctl is-active phusa-agent && phusa-agent status";
        booted.container.until("the one before runs again", again).await;
        if fault == "crash" {
            let trial = booted.container.journal();
            println!("{}", told(&trial));
        }
    }
    excused(&booted).await;
    leaves(&booted).await;
}

/// The updater's own lines of its trials.
fn told(journal: &str) -> String {
    let lines = journal.lines().filter(|line| line.contains("Release "));
    lines.collect::<Vec<_>>().join("\n")
}

/// A dead database, and a hub that cannot take anything, take nothing back: the trial waits.
async fn excused(booted: &Booted) {
    let good = fs::read(program("phusa-agent")).unwrap();
    release(&booted.house, "0.8.0", &[good.as_slice(), b"0.8.0"].concat());
    let tried = |status: &Value| status["agents"][0]["stage"] == "probation";
    booted.rolls("0.8.0", tried).await;
    let server = booted.house.database.server();
    server.stop();
    // The clock of probation is 20 s: a trial that did not wait would be over.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(45) {
        let status = booted.status();
        assert!(tried(&status), "with a dead database: {status}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.resume();
    let committed = |status: &Value| status["agents"][0]["stage"] == "committed";
    let (_, took) = booted.until("0.8.0", committed).await;
    println!("0.8.0: on trial while its database was dead, committed {took:?} after it was back");
    booted.until("0.8.0 to be counted", |status| status["waiting"] == 0).await;
    hub(&booted.house, &["rollout", "promote", "--because", "chạy tốt"]);
    booted.until("0.8.0 to be done", |status| status["state"] == "done").await;

    release(&booted.house, "0.9.0", &[good.as_slice(), b"0.9.0"].concat());
    booted.rolls("0.9.0", tried).await;
    let holds = busy(booted).await;
    booted
        .house
        .database
        .psql("insert into people select i, 'Lê', '1', 'x' from generate_series(201, 220) i");
    let asked = "phusa-agent status --json";
    wait_until("the agent to be told to wait", SHOWS_WITHIN, async || {
        booted.container.said(asked).contains("hub_busy").then_some(())
    })
    .await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(45) {
        let status = booted.status();
        assert!(tried(&status), "with a hub that has them wait: {status}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(holds);
    let (_, took) = booted.until("0.9.0", committed).await;
    println!(
        "0.9.0: on trial while its hub had it wait (hub_busy), committed {took:?} after it did no longer"
    );
    booted.arrived(220).await;
}

/// Takes all the room that the hub has for bodies, as others would who send much, until what comes back is dropped.
async fn busy(booted: &Booted) -> Vec<tokio_util::task::AbortOnDropHandle<()>> {
    let etc = booted.container.folder.join("etc/phusa");
    let config = Arc::new(caller::config(&etc, Some(&Papers::of(&etc)), &rustls::version::TLS13));
    let port = booted.house.province.hub_port();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = caller::connect(port, &config).await.unwrap();
        let head = format!(
            "POST /v1/batch HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n",
            127 << 20
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let tracker = tokio_util::task::TaskTracker::new();
        let holding = tracker.spawn(async move {
            while stream.write_all(b"x").await.and(stream.flush().await).is_ok() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
        held.push(tokio_util::task::AbortOnDropHandle::new(holding));
    }
    held
}

async fn leaves(booted: &Booted) {
    let container = &booted.container;
    container.does("dpkg -r phusa-agent");
    container.until("the agent has stopped", "! systemctl is-active phusa-agent").await;
    container.does("test -d /var/lib/phusa-agent && test -f /etc/phusa/agent.toml");
    container.does("dpkg -P phusa-agent");
    container.does("test ! -e /var/lib/phusa-agent && test ! -e /var/lib/phusa-update");
    container.does("! getent passwd phusa-agent");
    println!("removed and purged");
}
