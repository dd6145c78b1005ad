//! Throwaway MariaDB and MySQL servers on loopback: a database per test, replicas, and every way a
//! server can go away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::database::free_port;
use crate::folder::Folder;
use crate::process::{Process, output, run, wait_until_blocking};
use crate::province::Readable;

/// How long a server may take to be there.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Which server programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// What apt installs; `packaging/setup --tests` sees to it.
    MariaDb,
    /// MySQL from the folder that `packaging/setup --mysql` fills, where it could be fetched.
    MySql,
}

/// Settings of every throwaway server; what is in it must survive `kill -9`, not a power cut.
const SETTINGS: &str = "
bind_address=127.0.0.1
skip_name_resolve=ON
innodb_use_native_aio=OFF
log_bin=bin
binlog_format=ROW
innodb_buffer_pool_size=32M
innodb_flush_log_at_trx_commit=2
sync_binlog=0
performance_schema=OFF
max_connections=100
character_set_server=utf8mb4
local_infile=ON
";

const MARIADB_SETTINGS: &str = "
innodb_log_file_size=16M
binlog_row_metadata=FULL
log_slave_updates=ON
gtid_strict_mode=ON
";

const MYSQL_SETTINGS: &str = "
gtid_mode=ON
enforce_gtid_consistency=ON
binlog_row_metadata=FULL
log_replica_updates=ON
mysqlx=OFF
secure_file_priv=
";

/// Where MySQL's programs lie, if they could be fetched.
#[must_use]
pub fn mysql_programs() -> Option<PathBuf> {
    let folder = PathBuf::from("/var/cache/phusa/mysql");
    folder.join("usr/sbin/mysqld").exists().then_some(folder)
}

/// Why MySQL's programs could not be fetched, if that was tried and failed.
#[must_use]
pub fn why_no_mysql() -> Option<String> {
    fs::read_to_string("/var/cache/phusa/mysql.not-fetched").ok()
}

/// A running (or, on a test's wish, stopped) server.
#[derive(Debug)]
pub struct MySqlServer {
    flavour: Flavour,
    folder: Arc<Folder>,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl MySqlServer {
    /// Starts one of this test's own; `settings` is added to its configuration and may contradict
    /// what stands there.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn start(flavour: Flavour, settings: &str) -> Self {
        let server = Self::placed(flavour);
        server.launch(settings);
        server
    }

    /// Starts one that offers TLS with a certificate for 127.0.0.1; [`MySqlServer::ca_file`] is
    /// what clients are to trust.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn start_with_tls(flavour: Flavour) -> Self {
        let server = Self::placed(flavour);
        let path = server.folder.path().display();
        make_certificates(server.folder.path());
        server.launch(&format!(
            "ssl_ca={path}/ca.pem\nssl_cert={path}/server.pem\nssl_key={path}/server.key\n"
        ));
        server
    }

    /// The certificate authority of a server with TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn placed(flavour: Flavour) -> Self {
        let (folder, port) = (Arc::new(Folder::new()), free_port());
        Self { flavour, folder, port, process: Mutex::new(None) }
    }

    fn launch(&self, settings: &str) {
        self.configure(settings);
        self.install();
        self.resume();
    }

    /// The MariaDB that all tests of this program share; it ends with the last of them.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<MySqlServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(Flavour::MariaDb, ""));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Starts a replica of this server, which logs what it replicates.
    ///
    /// # Panics
    /// When the replica does not come up or does not follow.
    #[must_use]
    pub fn replica(&self) -> Self {
        self.sql("", "create user if not exists follower identified by 'follower'");
        self.sql("", "grant replication slave on *.* to follower");
        let replica = Self::start(self.flavour, "");
        let (from, port) = ("127.0.0.1", self.port);
        replica.sql(
            "",
            &format!(
                "change master to master_host='{from}', master_port={port}, \
                 master_user='follower', master_password='follower', master_use_gtid=slave_pos; \
                 start slave; set global read_only = on"
            ),
        );
        replica
    }

    /// A database of this test's own on this server.
    ///
    /// # Panics
    /// When it cannot be created.
    #[must_use]
    pub fn database(self: &Arc<Self>) -> MySqlDatabase {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("", &format!("create database {name}"));
        MySqlDatabase { server: Arc::clone(self), name }
    }

    /// The same database on another server, such as a replica.
    #[must_use]
    pub fn database_named(self: &Arc<Self>, name: &str) -> MySqlDatabase {
        MySqlDatabase { server: Arc::clone(self), name: name.to_owned() }
    }

    /// The loopback port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_ref().map(Process::id)
    }

    /// A folder that its process may read too; it goes away with the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs SQL as administrator and returns what it prints: a line a row, tabs between columns.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(self.client().args(["--database", database, "--execute", sql]))
    }

    /// Runs SQL as administrator; whether the server said that all of it is done.
    #[must_use]
    pub fn accepts(&self, database: &str, sql: &str) -> bool {
        output(self.client().args(["--database", database, "--execute", sql])).status.success()
    }

    /// Whether SQL can be run.
    fn answers(&self) -> bool {
        self.accepts("", "select 1")
    }

    /// Stops it and waits for that.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut process) = process.take() {
            process.stop();
        }
    }

    /// Starts it where it had stopped, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&self) {
        let mut command = Command::new(self.program("sbin", "mariadbd", "mysqld"));
        command.arg(self.defaults());
        let started = Process::start(&self.folder, "server", &mut command);
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let process = process.insert(started);
        wait_until_blocking("the server to answer", STARTS_WITHIN, || {
            assert!(process.is_running(), "the server ended:\n{}", process.log());
            self.answers()
        });
    }

    /// `kill -9`, as a crash of the machine would.
    ///
    /// # Panics
    /// When it was not running.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.take().expect("a running server").kill();
    }

    fn configure(&self, settings: &str) {
        let path = self.folder.path().display();
        let port = self.port;
        let own = match self.flavour {
            Flavour::MariaDb => MARIADB_SETTINGS.to_owned(),
            Flavour::MySql => {
                let root = mysql_programs().expect("MySQL's programs");
                let root = root.display();
                format!(
                    "{MYSQL_SETTINGS}basedir={root}/usr\nlc_messages_dir={root}/usr/share/mysql\n\
                     character_sets_dir={root}/usr/share/mysql/charsets\n\
                     plugin_dir={root}/usr/lib/mysql/plugin\n"
                )
            }
        };
        let user = match self.flavour {
            Flavour::MariaDb => "mysql",
            Flavour::MySql => "nobody",
        };
        let user = if is_root() { format!("user={user}\n") } else { String::new() };
        let text = format!(
            "[mysqld]\n{user}datadir={path}/data\nsocket={path}/s\npid_file={path}/server.pid\n\
             tmpdir={path}\nport={port}\nserver_id={port}\n{SETTINGS}{own}{settings}\n"
        );
        fs::write(self.folder.path().join("server.cnf"), text).expect("server.cnf");
    }

    fn install(&self) {
        let data = self.folder.path().join("data");
        fs::create_dir(&data).expect("a data folder");
        if is_root() {
            let user = if self.flavour == Flavour::MariaDb { "mysql" } else { "nobody" };
            run(Command::new("chown").arg(user).arg(&data).arg(self.folder.path()));
        }
        match self.flavour {
            Flavour::MariaDb => {
                let from = format!("{}/data/.", mariadb_template().display());
                run(Command::new("cp").arg("-a").arg(from).arg(&data))
            }
            Flavour::MySql => run(Command::new(self.program("sbin", "", "mysqld"))
                .arg(self.defaults())
                .arg("--initialize-insecure")),
        };
    }

    fn defaults(&self) -> String {
        format!("--defaults-file={}", self.folder.path().join("server.cnf").display())
    }

    fn program(&self, folder: &str, mariadb: &str, mysql: &str) -> PathBuf {
        match self.flavour {
            Flavour::MariaDb => Path::new("/usr").join(folder).join(mariadb),
            Flavour::MySql => {
                mysql_programs().expect("MySQL's programs").join("usr").join(folder).join(mysql)
            }
        }
    }

    /// A command of its own client, as administrator: columns between tabs, null as `NULL`.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = Command::new(self.program("bin", "mariadb", "mysql"));
        let socket = self.folder.path().join("s");
        command.args(["--no-defaults", "--user=root", "--skip-column-names", "--batch"]);
        command.args(["--default-character-set=utf8mb4", "--raw"]);
        command.arg(format!("--socket={}", socket.display()));
        command
    }
}

/// A data folder as MariaDB installs it, made once for all servers of this program.
fn mariadb_template() -> &'static Path {
    static TEMPLATE: OnceLock<Folder> = OnceLock::new();
    let make = || {
        let folder = Folder::new();
        let data = folder.path().join("data").display().to_string();
        let mut command = Command::new("mariadb-install-db");
        command.args(["--no-defaults", "--innodb-use-native-aio=OFF"]);
        // A server that starts removes the temporary tables of all others in the same folder.
        command.args([format!("--datadir={data}"), format!("--tmpdir={data}")]);
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.args(["--skip-name-resolve", "--innodb-log-file-size=16M"]);
        command.args(is_root().then_some("--user=mysql"));
        run(&mut command);
        folder
    };
    TEMPLATE.get_or_init(make).path()
}

/// A certificate authority and a server's certificate from it.
fn make_certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=lab-ca -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
            -subj /CN=127.0.0.1 -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile server.ext -out server.pem
        chmod 644 server.key";
    run(Command::new("sh").args(["-ec", script]).current_dir(folder));
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One database of a server.
#[derive(Debug)]
pub struct MySqlDatabase {
    server: Arc<MySqlServer>,
    name: String,
}

impl MySqlDatabase {
    /// Its server.
    #[must_use]
    pub fn server(&self) -> &Arc<MySqlServer> {
        &self.server
    }

    /// Runs SQL as administrator and returns what it prints.
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }
}

impl Readable for MySqlDatabase {
    fn engine(&self) -> &'static str {
        "mysql"
    }

    fn port(&self) -> u16 {
        self.server.port
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> &str {
        &self.name
    }

    fn make_login(&self, user: &str, password: &str) {
        self.administer(&format!(
            "create user if not exists '{user}'@'%' identified by '{password}'"
        ));
        // Without it the login cannot even connect to a database that it is to read.
        self.administer(&format!("grant show view on `{}`.* to '{user}'@'%'", self.name));
    }

    /// Leaves nothing in the log: on a replica that would be a history of its own.
    fn administer(&self, sql: &str) {
        self.sql(&format!("set session sql_log_bin = 0; {sql}"));
    }
}
