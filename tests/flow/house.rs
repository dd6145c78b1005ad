//! `House`: one agency with one small table, and what agent and hub say when something is wrong.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_tests::broker::Broker;
use phusa_tests::database::{Database, Server, Version};
use phusa_tests::forger::Forger;
use phusa_tests::process::{output, wait_until};
use phusa_tests::province::{Dataset, Province, Reader};

pub(crate) const AGENCY: &str = "H57.12";
pub(crate) const AGENT: &str = "H57.12/may-1";
pub(crate) const DATASET: &str = "cong_dan.people";

/// How long a fault may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(150);

pub(crate) const CONTRACT: &str = r#"dataset = "cong_dan.people"
version = 1
title_vi = "Người"
owner = "H57.12"
legal_basis = "Nghị định 47/2020/NĐ-CP"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["ma"]

[[field]]
name = "ma"
type = "int8"
class = "N"
name_vi = "Mã"

[[field]]
name = "ten"
type = "text"
class = "B"
name_vi = "Tên"

[[field]]
name = "dien_thoai"
type = "text"
class = "B"
name_vi = "Điện thoại"
"#;

pub(crate) const MAPPING: &str = r#"dataset = "cong_dan.people"
contract = "../contracts/cong_dan.people.toml"
table = "public.people"

[[field]]
from = "id"
to = "ma"
class = "N"

[[field]]
from = "name"
to = "ten"
class = "B"

[[field]]
from = "phone"
to = "dien_thoai"
class = "B"
mask = { keep_last = 3 }
"#;

const TABLE: &str = "
create table people (id bigint primary key, name text, phone text, secret text);
insert into people select i, 'Nguyễn ' || i, '0912345' || i, 'kín ' || i
from generate_series(1, 200) i;
";

/// A province of one agency.
pub(crate) struct House {
    pub(crate) database: Database,
    pub(crate) province: Province,
    /// Between agent and hub, where the test has one.
    pub(crate) broker: Option<Broker>,
}

impl House {
    /// Sees that the agent runs, and that its memory was never larger.
    pub(crate) fn agent_took_at_most(&mut self, kib_max: u64) {
        let agent = self.province.agent_process(AGENCY);
        assert!(agent.is_running());
        let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("{AGENT} took at most {peak} KiB");
        assert!(peak <= kib_max, "{peak} KiB");
    }

    /// Everything is in place; nothing runs. `settings` is added to `agent.toml`, `warehouse` to
    /// the part of `hub.toml` of that name.
    pub(crate) fn new(settings: &str, warehouse: &str) -> Self {
        Self::agreed(CONTRACT, settings, warehouse)
    }

    /// The same under another contract.
    pub(crate) fn agreed(contract: &str, settings: &str, warehouse: &str) -> Self {
        Self::of(Province::with_warehouse(warehouse), contract, settings)
    }

    /// The same with this hub.
    pub(crate) fn of(mut province: Province, contract: &str, settings: &str) -> Self {
        // A server of its own: slots are named after agent and dataset, and every house has these.
        let database = Arc::new(Server::start(Version::V15, "")).database();
        database.psql(TABLE);
        let dataset = Dataset {
            id: DATASET.to_owned(),
            contract: contract.to_owned(),
            mapping: MAPPING.to_owned(),
        };
        let reader = Reader { agency: AGENCY, database: &database, settings };
        province.add_agent(reader, &[dataset]);
        Self { database, province, broker: None }
    }

    /// As [`House::new`], with hub and agent running and the full read delivered.
    pub(crate) async fn at_work() -> Self {
        let mut house = Self::new("", "");
        house.province.start_hub();
        house.province.start_agent(AGENCY);
        assert_eq!(house.settle().await, 200);
        house
    }

    /// Waits until source and warehouse are identical; returns how many rows that is.
    pub(crate) async fn settle(&self) -> u64 {
        self.province.wait_until_identical(AGENCY, DATASET).await
    }

    /// Waits until both are identical and holds the log to be sound; the end of every test.
    pub(crate) async fn nothing_is_lost(&self, rows: u64) {
        assert_eq!(self.settle().await, rows);
        self.province.verify_log();
    }

    /// The agent's folder.
    pub(crate) fn agent(&self) -> PathBuf {
        self.province.agent_folder(AGENCY).to_owned()
    }

    /// A hand-made agent with the keys of the real one, which must not run.
    pub(crate) fn forger(&self) -> Forger {
        Forger::new(&self.agent(), AGENT, self.province.hub_port(), CONTRACT)
    }

    /// Runs `phusa-agent check`, which must fail with this fault and its remedy.
    pub(crate) fn check_says(&self, code: Code) -> String {
        let checked = self.province.agent(AGENCY, &["check"]);
        assert!(!checked.status.success());
        let said = text(&checked);
        assert_fault(&said, code);
        said
    }

    /// Waits until the running agent shows this fault with its remedy.
    pub(crate) async fn agent_shows(&self, code: Code) -> String {
        self.agent_shows_one_of(&[code]).await
    }

    /// Waits until the running agent shows one of these faults with its remedy.
    pub(crate) async fn agent_shows_one_of(&self, codes: &[Code]) -> String {
        wait_until(&format!("the agent to show {codes:?}"), SHOWS_WITHIN, async || {
            let said = text(&self.province.agent(AGENCY, &["status"]));
            let is_shown = |code: &&Code| said.contains(&format!("✗ {}", code.words().name));
            let code = *codes.iter().find(is_shown)?;
            assert_fault(&said, code);
            Some(said)
        })
        .await
    }

    /// Stops the agent and starts it again.
    pub(crate) fn restart_agent(&mut self) {
        self.province.agent_process(AGENCY).stop();
        self.province.start_agent(AGENCY);
    }

    /// Whether the hub's log holds a refusal with this code.
    pub(crate) fn log_has_refusal(&self, code: Code) -> bool {
        let exported = text(&self.province.hub(&["log", "export"]));
        exported.lines().any(|line| line.contains(code.words().name))
    }

    /// Waits until an entry of the numbered log holds this text; returns the log.
    pub(crate) async fn log_tells(&self, part: &str) -> String {
        wait_until(&format!("the log to tell {part}"), SHOWS_WITHIN, async || {
            let said = text(&self.province.hub(&["log", "export"]));
            said.contains(part).then_some(said)
        })
        .await
    }

    /// Puts the register as changed by `change` into force.
    pub(crate) fn change_register(&mut self, change: impl FnOnce(&Path)) {
        change(&self.province.hub_folder().join("agents/H57.12__may-1.toml"));
        self.province.hub_process().signal(rustix::process::Signal::HUP);
    }
}

/// Changes a text in a file; it must be there.
pub(crate) fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no {from}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// All a command printed.
pub(crate) fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A fault is shown with its code and with what to do, in both languages.
pub(crate) fn assert_fault(said: &str, code: Code) {
    let words = code.words();
    for part in [words.name, words.remedy_vi, words.remedy_en] {
        assert!(said.contains(part), "{part} is not among:\n{said}");
    }
}

/// A small file system of its own, taken away with the folder of the test it lies in.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `mib` MiB on `folder`; `None`, with the reason printed, where that is not
    /// allowed.
    pub(crate) fn mount(folder: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let options = format!("size={mib}m,mode=755");
        let mut mount = Command::new("mount");
        let done = output(mount.args(["-t", "tmpfs", "-o", &options, "phusa-test"]).arg(folder));
        if done.status.success() {
            return Some(Self(folder.to_owned()));
        }
        let why = text(&done);
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no small disk in CI: {why}");
        println!("skipped: a small disk cannot be mounted here: {why}");
        None
    }
}

impl SmallDisk {
    /// The room it has left.
    pub(crate) fn free_mib(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        (disk.f_bavail * disk.f_frsize) >> 20
    }

    /// Takes all its room but so many MiB with a file of this name.
    pub(crate) fn fill_but(&self, mib: u64) -> PathBuf {
        let free = self.free_mib();
        let file = self.0.join("filler");
        let zeros = vec![0; 1 << 20];
        let mut open = fs::File::create(&file).unwrap();
        for _ in mib..free {
            open.write_all(&zeros).unwrap();
        }
        file
    }
}
