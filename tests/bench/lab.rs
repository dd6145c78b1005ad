//! `Lab`: the two private servers, the rows at the source, and the proof that both ends are equal.

use std::sync::Arc;

use phusa_tests::database::{Database, Server, Version};
use phusa_tests::registry::Table;
use phusa_tests::{sums, workload};
use tokio_postgres::Client;

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

const SOURCE: &str = "
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
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

/// Two servers, the first of them with a registry.
pub(crate) struct Lab {
    /// Rows of each table.
    pub(crate) rows: u64,
    /// The database that is read.
    pub(crate) source: Database,
    /// The server that is written to.
    pub(crate) target: Arc<Server>,
}

impl Lab {
    /// Starts both and fills the source.
    pub(crate) async fn start(rows: u64) -> Outcome<Self> {
        let start = |settings: &str| Server::start(Version::V15, &format!("{BOTH}{settings}"));
        let source = Arc::new(start(SOURCE)).database();
        let target = Arc::new(start(TARGET));
        workload::load(&source.connect().await, rows, rows, SEED).await?;
        Ok(Self { rows, source, target })
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

    /// First processes of source and target server.
    pub(crate) fn servers(&self) -> [u32; 2] {
        [self.source.server(), &self.target].map(|server| server.process_id().unwrap_or(0))
    }

    /// Whether every column of `table` is equal at both ends.
    pub(crate) async fn is_same(
        &self,
        target: &Target,
        table: Table,
        names: Names,
    ) -> Outcome<bool> {
        let columns: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
        let there = sums::of_columns(&self.source().await, table.name(), &columns).await?;
        let (name, columns) = names.of(table);
        let here = sums::of_columns(&target.connect().await, name, &columns).await?;
        Ok(there == here)
    }
}
