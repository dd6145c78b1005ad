//! The hub whose pages are seen: around it a made-up province of a few agencies with a life of their own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use phusa_tests::folder::Folder;
use phusa_tests::process::{Process, output, program, run, wait_until};
use serde_json::Value;

/// How long it may take until its agencies are well on a busy machine.
const WELL_WITHIN: Duration = Duration::from_secs(180);

/// A dataset of the made-up province, with an owner and rows that change.
pub(crate) const DATASET: &str = "mo_phong.bang_0001";

/// Agencies that are made up.
const AGENTS: usize = 4;

/// A running hub with its agencies; both end with it.
pub(crate) struct Hall {
    dir: PathBuf,
    simulator: Process,
}

impl Hall {
    /// Waits until every made-up agency is well.
    pub(crate) async fn open() -> Self {
        let folder = Arc::new(Folder::new());
        let dir = folder.path().join("tinh");
        let mut command = Command::new(program("phusa-hub"));
        command.args(["simulate", "--agents", &AGENTS.to_string(), "--troubles", "0"]);
        command.args(["--delivers", "2s", "--no-account", "--dir"]).arg(&dir);
        let simulator = Process::start(&folder, "simulator", &mut command).leading();
        let hall = Self { dir, simulator };
        wait_until("the made-up agencies to be well", WELL_WITHIN, async || {
            let said = output(&mut hall.command(&["fleet", "ls", "--json"]));
            let all: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
            let well = all.iter().filter(|one| one["verdict"]["state"] == "healthy").count();
            (well == AGENTS).then_some(())
        })
        .await;
        hall
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("phusa-hub"));
        command.arg("--config").arg(self.dir.join("hub/hub.toml")).args(arguments);
        command
    }

    /// Runs a command beside the hub, and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// The hub's own folder of state.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("hub/state")
    }

    /// Where people sign in.
    pub(crate) fn portal(&self) -> String {
        let log = self.simulator.log();
        let (_, rest) = log.split_once("(dashboard): ").unwrap_or_else(|| panic!("{log}"));
        rest.lines().next().unwrap().to_owned()
    }

    /// The hub's database, behind its back: no trigger tells of what is done there.
    pub(crate) async fn database(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.state().join("postgresql/socket")).port(5432);
        config.user("phusa").dbname("postgres");
        config.options("-c session_replication_role=replica");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio_util::task::TaskTracker::new().spawn(connection);
        client
    }

    /// Ends all of it, as Ctrl-C does.
    pub(crate) fn close(mut self) {
        self.simulator.signal(rustix::process::Signal::INT);
        let ended = self.simulator.wait(Duration::from_secs(60));
        assert!(ended.success(), "{}", self.simulator.log());
    }
}
