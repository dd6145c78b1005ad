//! The PostgreSQL programs that are installed on this machine, and how they are run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};

/// The warehouse's SQL needs this major version.
const VERSION_MIN: u32 = 15;

/// Where Debian and its kin keep one folder per major version.
const DEBIAN_DIR: &str = "/usr/lib/postgresql";

/// Starts are tried again while backends of a killed server still hold its memory.
const START_ATTEMPTS: u32 = 20;

/// The programs of one major version.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    version: u32,
    bin_dir: PathBuf,
}

/// The user the server runs as when the hub runs as root: PostgreSQL refuses root.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl ServerUser {
    /// `postgres` when this process is root, nobody otherwise.
    pub(super) fn needed() -> Result<Option<Self>, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let what = "the hub runs as root and there is no user `postgres` to run its server as";
        let missing = || Fault::new(Code::ConfigInvalid, what);
        let accounts = fs::read_to_string("/etc/passwd")
            .map_err(|error| Fault::because(Code::ConfigInvalid, what, error))?;
        accounts.lines().find_map(Self::of_line).ok_or_else(missing).map(Some)
    }

    fn of_line(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

impl Installation {
    /// The newest one.
    pub(super) fn newest() -> Result<Self, Fault> {
        let newest = installed().into_iter().max_by_key(|found| found.version);
        newest.filter(|found| found.version >= VERSION_MIN).ok_or_else(|| {
            let what = format!("PostgreSQL {VERSION_MIN} or newer is not installed");
            Fault::new(Code::WarehouseUnavailable, what)
        })
    }

    /// The one that can run a cluster of `version`.
    pub(super) fn of_version(version: &str) -> Result<Self, Fault> {
        let installed = installed();
        let fits = |found: &&Self| version.parse() == Ok(found.version);
        installed.iter().find(fits).cloned().ok_or_else(|| {
            let others: Vec<_> = installed.iter().map(|found| found.version.to_string()).collect();
            let what = format!(
                "the cluster is of PostgreSQL {version}, installed are [{}]; install \
                 postgresql-{version}, or move the cluster with pg_upgrade",
                others.join(", ")
            );
            Fault::new(Code::WarehouseSchema, what)
        })
    }

    /// Makes an empty cluster: UTF-8, order by bytes, letters by Unicode, checksums on.
    pub(super) fn make_cluster(
        &self,
        data_dir: &Path,
        role: &str,
        user: Option<ServerUser>,
    ) -> Result<(), Fault> {
        let mut command = self.command("initdb", user);
        command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--lc-collate=C"]);
        command.args(["--data-checksums", "--auth=trust", "--username", role]);
        command.arg("--pgdata").arg(data_dir);
        succeeded("cannot make the warehouse's cluster", &mut command)
    }

    /// Whether the server was built with lz4, which costs less CPU than its own compression.
    pub(super) fn has_lz4(&self, data_dir: &Path, user: Option<ServerUser>) -> bool {
        let mut command = self.command("postgres", user);
        command.args(["-C", "wal_compression", "-c", "wal_compression=lz4", "-D"]).arg(data_dir);
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Whether a server runs on `data_dir`, this process's own or one it left behind.
    pub(super) fn is_running(
        &self,
        data_dir: &Path,
        user: Option<ServerUser>,
    ) -> Result<bool, Fault> {
        let mut command = self.control("status", data_dir, user);
        let output = run("cannot ask for the state of the warehouse's server", &mut command)?;
        Ok(output.status.success())
    }

    /// Starts the server and waits until it answers.
    pub(super) fn start(
        &self,
        data_dir: &Path,
        log: &Path,
        user: Option<ServerUser>,
    ) -> Result<(), Fault> {
        let mut attempt = 1;
        loop {
            let mut command = self.control("start", data_dir, user);
            command.args(["--wait", "--timeout=300", "--log"]).arg(log);
            match succeeded("cannot start the warehouse's server", &mut command) {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                result => return result,
            }
            sleep(Duration::from_millis(250));
        }
    }

    /// Stops the server: sessions are ended, what is committed stays.
    pub(super) fn stop(&self, data_dir: &Path, user: Option<ServerUser>) -> Result<(), Fault> {
        let mut command = self.control("stop", data_dir, user);
        command.args(["--wait", "--timeout=120", "--mode=fast"]);
        succeeded("cannot stop the warehouse's server", &mut command)
    }

    /// What writes a whole copy of the running cluster to its output, as a tar file with the log that
    /// makes it consistent.
    pub(super) fn base_backup(
        &self,
        socket_dir: &Path,
        role: &str,
        user: Option<ServerUser>,
    ) -> Command {
        let mut command = self.command("pg_basebackup", user);
        command.arg("--host").arg(socket_dir).args(["--port=5432", "--no-password", "--username"]);
        command.args([role, "--pgdata=-", "--format=tar", "--wal-method=fetch"]);
        command.args(["--checkpoint=fast", "--no-manifest"]);
        command
    }

    /// Its major version.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    fn control(&self, what: &str, data_dir: &Path, user: Option<ServerUser>) -> Command {
        let mut command = self.command("pg_ctl", user);
        command.arg(what).arg("--pgdata").arg(data_dir);
        command
    }

    fn command(&self, program: &str, user: Option<ServerUser>) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_MESSAGES", "C");
        command.current_dir("/").stdin(Stdio::null());
        if let Some(ServerUser { uid, gid }) = user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Every installation in Debian's folder, and the one in `$PATH`.
fn installed() -> Vec<Installation> {
    let folders = fs::read_dir(DEBIAN_DIR).into_iter().flatten().flatten();
    let mut found: Vec<_> = folders.filter_map(|folder| in_folder(&folder.path())).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).filter_map(|folder| in_path(&folder)));
    found
}

fn in_folder(folder: &Path) -> Option<Installation> {
    let version = folder.file_name().and_then(OsStr::to_str)?.parse().ok()?;
    let bin_dir = folder.join("bin");
    bin_dir.join("postgres").exists().then_some(Installation { version, bin_dir })
}

fn in_path(folder: &Path) -> Option<Installation> {
    let bin_dir = folder.join("postgres").canonicalize().ok()?.parent()?.to_path_buf();
    let output = Command::new(bin_dir.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, number) = text.split_once("(PostgreSQL) ")?;
    let version = number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(Installation { version, bin_dir })
}

fn run(what: &str, command: &mut Command) -> Result<Output, Fault> {
    command.output().map_err(|error| Fault::because(Code::WarehouseUnavailable, what, error))
}

fn succeeded(what: &str, command: &mut Command) -> Result<(), Fault> {
    let output = run(what, command)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let cause = said.lines().next_back().unwrap_or("it said nothing").to_owned();
    Err(Fault::because(Code::WarehouseUnavailable, what, cause))
}
