//! Private servers and standbys, and waits for what they say.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use phusa_agent::source::postgres::Settings;
use phusa_protocol::ids::AgentId;
use phusa_protocol::units::ByteSize;
use tokio_postgres::{Client, NoTls};

pub(super) fn programs() -> String {
    std::env::var("PHUSA_POSTGRES_BIN").unwrap_or("/usr/lib/postgresql/15/bin".to_owned())
}

/// A private server in a temporary folder, stopped when dropped.
pub(super) struct Server {
    pub(super) folder: tempfile::TempDir,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn start() -> Self {
        let server = Self::prepare();
        let (bin, data) = (programs(), server.data());
        server.run(&format!(
            "{bin}/initdb -D {} -U admin -A trust -E UTF8 --no-locale -N >/dev/null",
            data.display(),
        ));
        server.go("wal_level=logical\nfsync=off\nmax_wal_senders=10\nmax_replication_slots=10");
        server
    }

    /// A hot standby of this server.
    pub(super) fn standby(&self) -> Self {
        let standby = Self::prepare();
        let (bin, data) = (programs(), standby.data());
        standby.run(&format!(
            "{bin}/pg_basebackup -D {} -R -X stream -c fast -h 127.0.0.1 -p {} -U admin",
            data.display(),
            self.port,
        ));
        standby.go("hot_standby_feedback=on");
        standby
    }

    pub(super) fn prepare() -> Self {
        let folder = tempfile::Builder::new().prefix("phusa-source-").tempdir_in("/tmp").unwrap();
        shell(&format!("chmod 755 {0} && chown postgres {0}", folder.path().display()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port }
    }

    pub(super) fn go(&self, settings: &str) {
        let (bin, port, folder) = (programs(), self.port, self.folder.path().display());
        self.run(&format!(
            "printf \"listen_addresses='127.0.0.1'\\nport={port}\\n\
             unix_socket_directories='{folder}'\\n{}\\n\" >> {folder}/data/postgresql.conf && \
             {bin}/pg_ctl -D {folder}/data -w -l {folder}/log start >/dev/null",
            settings.replace('\n', "\\n"),
        ));
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn run(&self, command: &str) {
        let folder = self.folder.path().display();
        shell(&format!(
            "cd {folder} && runuser -u postgres -- sh -c '{}'",
            command.replace('\'', "'\\''")
        ));
    }

    pub(super) async fn admin(&self) -> Client {
        self.admin_of("postgres").await
    }

    pub(super) async fn admin_of(&self, database: &str) -> Client {
        admin_of(self.port, database).await
    }

    pub(super) fn settings(&self) -> Settings {
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let mut settings = Settings::new("127.0.0.1", "postgres", "phusa", agent);
        settings.port = self.port;
        settings.batch.bytes_max = ByteSize(256 << 10);
        settings.guard.chunk_rows = 1_000;
        settings.slot_wait = Duration::from_secs(20);
        settings
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        let bin = programs();
        self.run(&format!("{bin}/pg_ctl -D {} -m immediate stop >/dev/null", data.display()));
    }
}

pub(super) fn shell(command: &str) {
    let status = Command::new("sh").arg("-c").arg(command).status().unwrap();
    assert!(status.success(), "{command}");
}

pub(super) async fn admin_of(port: u16, database: &str) -> Client {
    let config = format!("host=127.0.0.1 port={port} user=admin dbname={database}");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    client
}

/// Waits until a capture reads the log.
pub(super) async fn wait_until_active(admin: &Client) {
    wait_for_slots(admin, "bool_or(active)").await;
}

/// Waits until the connections of a capture that ended are gone.
pub(super) async fn wait_until_free(admin: &Client) {
    wait_for_slots(admin, "not bool_or(active)").await;
}

pub(super) async fn wait_for_slots(admin: &Client, condition: &str) {
    let ask = format!("select coalesce({condition}, false) from pg_replication_slots");
    wait_for(admin, &ask).await;
}

/// Waits until the server says true.
pub(super) async fn wait_for(admin: &Client, ask: &str) {
    let wait = async {
        while !admin.query_one(ask, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{ask}"));
}

pub(super) async fn roles(admin: &Client) {
    admin.batch_execute("create role phusa login replication").await.unwrap();
}
