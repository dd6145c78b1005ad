//! `Lab`: the private servers, the rows at the source, and the proof that both ends are equal.
//!
//! MariaDB comes as a second source with the same rows, and changes in the same way: what stands in
//! the first says what must arrive from either.

use std::path::Path;
use std::sync::Arc;

use phusa_tests::database::{Database, Server, Version};
use phusa_tests::registry::Table;
use phusa_tests::{sums, workload};
use tokio_postgres::Client;

use crate::maria::Maria;
use crate::movers::{Names, Target};

/// What a measurement gives, or why it has none.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Settings of both servers: durable, with memory, and quiet while we measure.
const BOTH: &str = "
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = 1GB
max_wal_size = 4GB
max_connections = 60
autovacuum = off
checkpoint_timeout = 30min
max_parallel_workers_per_gather = 0
jit = off
";

/// Room for the curve of datasets: each has its slot.
const SOURCE: &str = "
wal_level = logical
max_connections = 1300
max_wal_senders = 520
max_replication_slots = 520
";

/// The last line lets a subscription's worker start again at once; by default it may wait for 5 s.
const TARGET: &str = "
wal_level = replica
max_logical_replication_workers = 8
max_sync_workers_per_subscription = 2
wal_retrieve_retry_interval = 100ms
";

/// The same data for every run.
const SEED: u64 = 1;

/// Which source a mover reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// The first.
    #[value(name = "postgresql")]
    PostgreSql,
    /// The second.
    #[value(name = "mariadb")]
    MariaDb,
}

impl Engine {
    /// Its name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MariaDb => "MariaDB",
        }
    }
}

/// Two servers, the first of them with a registry, and perhaps a third with the same one.
pub(crate) struct Lab {
    /// Rows of each table.
    pub(crate) rows: u64,
    /// The database that is read.
    pub(crate) source: Database,
    /// The same rows in MariaDB, once [`Lab::add_maria`] was called.
    maria: Option<Maria>,
    /// The server that is written to.
    pub(crate) target: Arc<Server>,
}

impl Lab {
    /// Starts both and fills the source.
    pub(crate) async fn start(rows: u64) -> Outcome<Self> {
        let source = Self::start_source(rows).await?;
        Ok(Self { rows, source, maria: None, target: Self::start_target() })
    }

    /// Starts both sources, and everything else in `elsewhere`: a folder on another disk, so that
    /// warehouse, hub and agent do not take the sources' away.
    pub(crate) async fn start_apart(elsewhere: Option<&Path>) -> Outcome<Self> {
        let source = Self::start_source(1).await?;
        let maria = Some(Maria::start(&source)?);
        if let Some(folder) = elsewhere {
            tempfile::env::override_temp_dir(folder)
                .map_err(|before| format!("temporary files are already in {}", before.display()))?;
        }
        Ok(Self { rows: 1, source, maria, target: Self::start_target() })
    }

    async fn start_source(rows: u64) -> Outcome<Database> {
        let server = Server::start(Version::V15, &format!("{BOTH}{SOURCE}"));
        let source = Arc::new(server).database();
        workload::load(&source.connect().await, rows, rows, SEED).await?;
        Ok(source)
    }

    fn start_target() -> Arc<Server> {
        Arc::new(Server::start(Version::V15, &format!("{BOTH}{TARGET}")))
    }

    /// Starts MariaDB with what the source holds now; does nothing the second time.
    pub(crate) fn add_maria(&mut self) -> Outcome<()> {
        if self.maria.is_none() {
            eprintln!("loading the same into MariaDB");
            self.maria = Some(Maria::start(&self.source)?);
        }
        Ok(())
    }

    /// MariaDB.
    pub(crate) fn maria(&self) -> Outcome<&Maria> {
        Ok(self.maria.as_ref().ok_or("MariaDB was not started")?)
    }

    /// Changes every source in the same way.
    pub(crate) async fn change(&self, plan: &workload::Plan) -> Outcome<workload::Done> {
        let client = self.source().await;
        match &self.maria {
            None => Ok(workload::run(&client, plan).await?),
            Some(maria) => maria.follow(&client, plan).await,
        }
    }

    /// Changes every source by one statement that all of them understand.
    pub(crate) async fn change_all(&self, sql: &str) -> Outcome<()> {
        self.source().await.batch_execute(sql).await?;
        if let Some(maria) = &self.maria {
            tokio::task::block_in_place(|| maria.database().sql(sql));
        }
        Ok(())
    }

    /// An empty database at the target.
    pub(crate) fn fresh_target(&self) -> Target {
        self.target.database()
    }

    /// A client at the source.
    pub(crate) async fn source(&self) -> Client {
        self.source.connect().await
    }

    /// Leaves nothing to be written from before.
    pub(crate) fn settle(&self) {
        self.source.psql("checkpoint");
        self.target.psql("postgres", "checkpoint");
        rustix::fs::sync();
    }

    /// Drops what movers left at the source.
    pub(crate) fn drop_slots(&self) {
        self.source.psql(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null;
             select pg_sleep(0.2);
             select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active",
        );
    }

    /// First processes of a mover's source and of the target server.
    pub(crate) fn servers(&self, from: Engine) -> [u32; 2] {
        let source = match (from, &self.maria) {
            (Engine::MariaDb, Some(maria)) => maria.process_id(),
            _ => self.source.server().process_id(),
        };
        [source, self.target.process_id()].map(|id| id.unwrap_or(0))
    }

    /// Whether every column of `table` is equal at both ends.
    pub(crate) async fn is_same(
        &self,
        target: &Target,
        table: Table,
        names: Names,
    ) -> Outcome<bool> {
        // In the agreed type: MariaDB has neither `jsonb` nor times with a zone, and some movers
        // make what they find of it.
        let agreed = |columns: Vec<&str>| -> Vec<String> {
            let kinds = table.columns().iter().map(|column| column.kind);
            columns.iter().zip(kinds).map(|(name, kind)| format!("{name}::{kind}")).collect()
        };
        let of = async |client: &Client, names: Names| {
            let (name, columns) = names.of(table);
            let columns = agreed(columns);
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            sums::of_columns(client, &name, &columns).await
        };
        let there = of(&self.source().await, Names::Same).await?;
        let here = of(&target.connect().await, names).await?;
        Ok(there == here)
    }
}
