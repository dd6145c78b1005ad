//! The shared warehouse: a handle to PostgreSQL, the hub's own tables, and the dataset tables.
//!
//! The handle opens and closes ([`Warehouse`]); a private server is kept by `cluster`; contracts
//! become tables in [`tables`]; batches become rows in [`apply`]. Which batch may be applied, and
//! what the transfer log says of it, is decided elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use phusa_protocol::fault::{Code, Fault};

pub mod tables;
mod cluster;
mod external;
mod compact;
mod digest;
pub mod apply;
pub mod history;
pub mod gone;

use cluster::Cluster;
pub use cluster::copy::{Copying, unpack};
use external::Reached;

use crate::error::statement_fault;

/// How long a caller waits for a free connection before it is told that there is none.
const CLIENT_WAIT: Duration = Duration::from_secs(10);

/// What every session of the hub sets for itself.
///
/// A statement that runs longer than ten minutes is lost anyway. Merges are planned anew each
/// time: a plan made while a table was empty must not be kept when it has a million rows.
const SESSION: &str = "-c statement_timeout=10min -c lock_timeout=1min \
    -c idle_in_transaction_session_timeout=15min -c plan_cache_mode=force_custom_plan \
    -c random_page_cost=1.1 -c jit=off -c client_min_messages=warning -c temp_buffers=64MB \
    -c work_mem=64MB -c timezone=UTC";

mod migrations {
    #![allow(missing_docs, clippy::expect_used, reason = "written by the macro")]
    refinery::embed_migrations!("migrations");
}

/// Where the hub's migrations are recorded.
const MIGRATIONS_TABLE: &str = "phusa.migrations";

/// Which PostgreSQL keeps the warehouse.
#[derive(Debug, Clone)]
pub enum Url {
    /// A private cluster below `dir`, made and run by the hub itself.
    Embedded {
        /// The hub's `state_dir`; the cluster lies in `postgresql/` below it.
        dir: PathBuf,
    },
    /// An existing server, `postgres://user@host:port/database`.
    External(String),
}

/// A password that does not show itself.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What is needed to open the warehouse.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which server.
    pub url: Url,
    /// The password of an external server's login.
    pub password: Option<Password>,
    /// Certificates (PEM) that an external server's must descend from; `None` speaks without TLS.
    pub tls_ca_pem: Option<Vec<u8>>,
    /// Connections kept at most; at least 1.
    pub connections_max: usize,
}

/// A handle to the warehouse; cloning it is cheap and shares its connections.
#[derive(Debug, Clone)]
pub struct Warehouse {
    pool: Pool,
    cluster: Option<Arc<Cluster>>,
}

impl Warehouse {
    /// Starts the private cluster if that is asked for, and makes the pool. Migrates nothing.
    ///
    /// # Errors
    /// `config_invalid` for a URL that cannot be used, `warehouse_unavailable` when the server
    /// does not start or answer, `warehouse_schema` when the cluster is of another PostgreSQL.
    pub async fn open(settings: &Settings) -> Result<Self, Fault> {
        let (reached, cluster) = match &settings.url {
            Url::Embedded { dir } => {
                let cluster = Cluster::start(dir, settings.connections_max).await?;
                let config = cluster.config();
                (Reached { config, tls: None }, Some(Arc::new(cluster)))
            }
            Url::External(url) => {
                let (password, ca) = (settings.password.as_ref(), settings.tls_ca_pem.as_deref());
                (Reached::read(url, password, ca)?, None)
            }
        };
        let warehouse = Self { pool: pool(reached, settings.connections_max)?, cluster };
        drop(warehouse.client().await?);
        Ok(warehouse)
    }

    /// Brings the hub's own tables, schema `phusa`, to the version this program knows.
    ///
    /// # Errors
    /// `warehouse_schema` when a migration fails or the database is newer than this program.
    pub async fn migrate(&self) -> Result<(), Fault> {
        let mut client = self.client().await?;
        // Two hubs that start at once take turns; the lock goes with the session if we die.
        let before = "create schema if not exists phusa; select pg_advisory_lock(5033164)";
        let what = "cannot prepare the hub's schema";
        client.batch_execute(before).await.map_err(|error| statement_fault(what, &error))?;
        let mut runner = migrations::migrations::runner();
        let ran = runner.set_migration_table_name(MIGRATIONS_TABLE).run_async(&mut **client).await;
        let _ = client.batch_execute("select pg_advisory_unlock(5033164)").await;
        let what = "cannot migrate the hub's tables";
        ran.map(drop).map_err(|error| Fault::because(Code::WarehouseSchema, what, error))
    }

    /// Refuses a database that has not been migrated, or is newer than this program.
    ///
    /// # Errors
    /// `warehouse_schema`.
    pub async fn check_schema(&self) -> Result<(), Fault> {
        let runner = migrations::migrations::runner();
        let known = runner.get_migrations().iter().map(refinery::Migration::version).max();
        let found = self.schema_version().await?;
        if found == known.map(i64::from) {
            return Ok(());
        }
        let (found, known) = (found.unwrap_or(0), known.unwrap_or(0));
        let what = format!("the database is of schema version {found}, this program of {known}");
        Err(Fault::new(Code::WarehouseSchema, what))
    }

    /// A connection of the pool, within ten seconds.
    ///
    /// # Errors
    /// `warehouse_unavailable`.
    pub async fn client(&self) -> Result<Object, Fault> {
        let what = "cannot get a connection to the warehouse";
        self.pool
            .get()
            .await
            .map_err(|error| Fault::because(Code::WarehouseUnavailable, what, error))
    }

    /// Starts the private cluster again where it has ended by itself; whether it did.
    ///
    /// # Errors
    /// When it does not start, as on a disk that is still full.
    pub async fn revive(&self) -> Result<bool, Fault> {
        match &self.cluster {
            Some(cluster) if self.client().await.is_err() => cluster.revive().await,
            Some(_) | None => Ok(false),
        }
    }

    /// Ends the connections and, when no other process uses it, the private cluster.
    pub async fn close(&self) {
        self.pool.close();
        if let Some(cluster) = &self.cluster {
            cluster.stop().await;
        }
    }

    /// Begins to copy the whole private cluster while it goes on working.
    ///
    /// # Errors
    /// `config_invalid` for an external server, whose administrator backs it up; otherwise when the
    /// copy does not begin.
    pub async fn copy_out(&self) -> Result<Copying, Fault> {
        let Some(cluster) = &self.cluster else {
            let what = "the warehouse is an external server: its administrator backs it up";
            return Err(Fault::new(Code::ConfigInvalid, what));
        };
        // Kept out of the pool: what it holds goes with it.
        let client = Object::take(self.client().await?);
        cluster.copy_out(client).await
    }

    /// Whether the warehouse is a private cluster.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.cluster.is_some()
    }

    /// Free bytes where the private cluster lies; `None` for an external server.
    #[expect(clippy::unused_async, reason = "an external server may be asked one day")]
    pub async fn disk_free_bytes(&self) -> Option<u64> {
        self.cluster.as_ref().and_then(|cluster| cluster.disk_free_bytes())
    }

    async fn schema_version(&self) -> Result<Option<i64>, Fault> {
        let client = self.client().await?;
        let what = "cannot read the schema version";
        let fault = |error| statement_fault(what, &error);
        let sql = "select to_regclass($1) is not null";
        let is_there = client.query_one(sql, &[&MIGRATIONS_TABLE]).await.map_err(fault)?;
        if !is_there.get::<_, bool>(0) {
            return Ok(None);
        }
        let sql = format!("select max(version)::bigint from {MIGRATIONS_TABLE}");
        Ok(client.query_one(&sql, &[]).await.map_err(fault)?.get(0))
    }
}

fn pool(mut reached: Reached, connections_max: usize) -> Result<Pool, Fault> {
    reached.config.application_name("phusa-hub").options(SESSION).connect_timeout(CLIENT_WAIT);
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(reached.manager(manager))
        .max_size(connections_max.max(1))
        .wait_timeout(Some(CLIENT_WAIT))
        .create_timeout(Some(CLIENT_WAIT))
        .recycle_timeout(Some(CLIENT_WAIT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Fault::because(Code::Bug, "cannot make the connection pool", error))
}
