//! `Broker`: a Mosquitto with the files of `configs/mosquitto`, their paths and ports replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::database::free_port;
use crate::folder::Folder;
use crate::process::{Process, wait_until_blocking};

/// How long it may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// A running Mosquitto.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    folder: Arc<Folder>,
    config: PathBuf,
    agents: u16,
    hubs: u16,
}

impl Broker {
    /// Starts one with the certificates in `certs`, as `dev-certs --broker-name` makes them.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(certs: &Path) -> Self {
        let folder = Arc::new(Folder::new());
        let (agents, hubs) = (free_port(), free_port());
        let config = folder.path().join("phusa.conf");
        fs::write(&config, shipped("phusa.conf", certs, folder.path(), (agents, hubs)))
            .expect("a configuration");
        let rules = shipped("phusa.acl", certs, folder.path(), (agents, hubs));
        fs::write(folder.path().join("phusa.acl"), rules).expect("rules");
        let process = begin(&folder, &config, hubs);
        Self { process, folder, config, agents, hubs }
    }

    /// Where agents connect.
    #[must_use]
    pub fn agents_port(&self) -> u16 {
        self.agents
    }

    /// Where hubs connect.
    #[must_use]
    pub fn hubs_port(&self) -> u16 {
        self.hubs
    }

    /// Ends it as a power cut does: nothing is kept.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, at the same ports.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = begin(&self.folder, &self.config, self.hubs);
    }

    /// Replaces its rules, and has it read them.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn set_rules(&self, rules: &str) {
        fs::write(self.folder.path().join("phusa.acl"), rules).expect("rules");
        self.process.signal(rustix::process::Signal::HUP);
    }

    /// The rules as they are shipped.
    #[must_use]
    pub fn shipped_rules() -> String {
        read("phusa.acl")
    }
}

fn begin(folder: &Arc<Folder>, config: &Path, port: u16) -> Process {
    let mut command = Command::new("/usr/sbin/mosquitto");
    let process = Process::start(folder, "mosquitto", command.arg("-c").arg(config));
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_until_blocking("the broker to listen", STARTS_WITHIN, listens);
    process
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/mosquitto").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shipped(name: &str, certs: &Path, own: &Path, (agents, hubs): (u16, u16)) -> String {
    let text = read(name)
        .replace("/etc/mosquitto/phusa/phusa.acl", &own.join("phusa.acl").display().to_string())
        .replace("/etc/mosquitto/phusa", &certs.display().to_string())
        .replace("listener 8883", &format!("listener {agents} 127.0.0.1"))
        .replace("listener 8884", &format!("listener {hubs} 127.0.0.1"));
    match name {
        // A test's files belong to whoever runs it.
        "phusa.conf" => format!("{text}\nuser root\n"),
        _ => text,
    }
}
