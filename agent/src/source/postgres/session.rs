//! One SQL connection to the source, with everything pinned that could change what is read.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::{BadRow, Tuple};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, CopyOutStream, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::Settings;
use super::said;
use crate::source::settings::Tls;
use crate::source::sharing::Work;
use crate::source::throttle::Answers;

/// The name under which the agency's database administrator sees the agent.
pub(super) const APPLICATION_NAME: &str = "phusa-agent";

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection; it is cut when this is dropped.
pub(super) struct Session {
    client: Client,
    _connection: AbortOnDropHandle<()>,
    /// How long the server may stay silent while rows are awaited.
    silence_max: Duration,
    /// Statements of the catalogue that are not prepared again, where they are kept.
    statements: Option<Mutex<BTreeMap<String, Statement>>>,
}

impl Session {
    /// Connects; each statement of the catalogue is prepared once, for one who asks the same again and
    /// again.
    pub(super) async fn open_to_ask_often(settings: &Settings) -> Result<Self, Fault> {
        let session = Self::open(settings).await?;
        Ok(Self { statements: Some(Mutex::default()), ..session })
    }

    /// Connects.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let what = format!("cannot connect to {}", settings.server());
        let config = config(settings);
        let tasks = TaskTracker::new();
        let (client, connection) = match &settings.tls {
            Tls::Off => {
                let (client, connection) =
                    config.connect(NoTls).await.map_err(|error| said::plain(&*what, error))?;
                (client, tasks.spawn(connection.map(drop)))
            }
            Tls::Verify { ca_file } => {
                let tls = MakeRustlsConnect::new(tls_config(ca_file)?);
                let (client, connection) =
                    config.connect(tls).await.map_err(|error| said::plain(&*what, error))?;
                (client, tasks.spawn(connection.map(drop)))
            }
        };
        let silence_max = settings.guard.statement_timeout;
        let _connection = AbortOnDropHandle::new(connection);
        Ok(Self { client, _connection, silence_max, statements: None })
    }

    /// Runs statements that return nothing and touch no rows.
    pub(super) async fn run(&self, doing: &str, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).await.map_err(|error| said::plain(doing, error))
    }

    /// Rows of the catalogue.
    pub(super) async fn rows(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let said = |error| said::plain(doing, error);
        let statement = self.prepared(sql).await.map_err(said)?;
        self.client.query(&statement, parameters).await.map_err(said)
    }

    /// The statement, prepared; where this connection keeps them, at its first use alone.
    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let Some(statements) = &self.statements else { return self.client.prepare(sql).await };
        let locked = || statements.lock().unwrap_or_else(PoisonError::into_inner);
        let known = locked().get(sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let statement = self.client.prepare(sql).await?;
        locked().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The only row of the catalogue that answers.
    pub(super) async fn row(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Fault> {
        let said = |error| said::plain(doing, error);
        let statement = self.prepared(sql).await.map_err(said)?;
        self.client.query_one(&statement, parameters).await.map_err(said)
    }

    /// The first row of a statement over the agency's rows, if there is one.
    pub(super) async fn first_row(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Fault> {
        self.client.query_opt(sql, parameters).await.map_err(|error| said::of_rows(doing, error))
    }

    /// Begins reading what `query` returns, as binary COPY.
    pub(super) async fn copy(&self, doing: &str, query: &str) -> Result<CopiedRows, Fault> {
        let sql = format!("copy ({query}) to stdout (format binary)");
        let stream = self.client.copy_out(sql.as_str());
        let stream = stream.await.map_err(|error| said::of_rows(doing, error))?;
        Ok(CopiedRows {
            stream: Box::pin(stream),
            rest: Bytes::new(),
            begun: false,
            silence_max: self.silence_max,
            doing: doing.to_owned(),
        })
    }
}

impl Answers for Session {
    async fn answer(&mut self) -> Result<(), Fault> {
        self.run("cannot ask how fast the server is", "select 1").await
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        let row = self.row("cannot ask what the server does", WORK_SQL, &[&APPLICATION_NAME]);
        let row = row.await?;
        let (busy, begun): (i64, Option<i64>) = (get(&row, 0)?, get(&row, 1)?);
        let busy = u32::try_from(busy).unwrap_or(u32::MAX);
        Ok(Some(Work { busy, done: begun.and_then(|begun| u64::try_from(begun).ok()) }))
    }
}

/// Any login sees of each session who it is, whether it reads in a snapshot and whether it has written;
/// what it does is not shown. A sender of the log may hold a snapshot for its standby. Transactions that
/// write are numbered, so their numbers count them; a standby's are its primary's.
const WORK_SQL: &str = "\
    select (select count(*) from pg_stat_activity a \
            where a.pid <> pg_backend_pid() and a.usesysid is not null \
              and a.application_name <> $1 \
              and (a.backend_xmin is not null or a.backend_xid is not null) \
              and not exists (select from pg_stat_replication r where r.pid = a.pid)), \
           case when pg_is_in_recovery() then null \
                else txid_snapshot_xmax(txid_current_snapshot()) end";

/// A value of the catalogue row, or the fault that this server has another catalogue.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, Fault> {
    row.try_get(index).map_err(|error| {
        Fault::because(Code::SourceVersion, "the server's catalogue is not as expected", error)
    })
}

fn config(settings: &Settings) -> Config {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name(APPLICATION_NAME)
        .options(pinned(settings))
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(60))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(6)
        .tcp_user_timeout(Duration::from_secs(120));
    config.ssl_mode(match settings.tls {
        Tls::Off => tokio_postgres::config::SslMode::Disable,
        Tls::Verify { .. } => tokio_postgres::config::SslMode::Require,
    });
    if let Some(password) = &settings.password {
        config.password(password.reveal());
    }
    config
}

/// The settings of every session, replication included: read-only, bounded, and one text form for
/// each value whatever the server's own defaults are.
pub(super) fn pinned(settings: &Settings) -> String {
    format!(
        "-c default_transaction_read_only=on -c statement_timeout={} -c lock_timeout={} \
         -c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c extra_float_digits=3 \
         -c bytea_output=hex -c xmloption=content -c standard_conforming_strings=on \
         -c client_encoding=UTF8 -c max_parallel_workers_per_gather=0",
        settings.guard.statement_timeout.as_millis(),
        settings.guard.lock_timeout.as_millis(),
    )
}

fn tls_config(ca_file: &std::path::Path) -> Result<rustls::ClientConfig, Fault> {
    let what = || format!("cannot use the CA file {}", ca_file.display());
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .map_err(|error| Fault::because(Code::SourceTls, what(), error))?;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| Fault::because(Code::SourceTls, what(), error))?;
        roots.add(certificate).map_err(|error| Fault::because(Code::SourceTls, what(), error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::because(Code::SourceTls, what(), error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Rows of a binary COPY, one tuple at a time, as they lie in the buffer they came in.
pub(super) struct CopiedRows {
    stream: Pin<Box<CopyOutStream>>,
    /// What came and was not handed on: as a rule nothing, because the server sends row by row.
    rest: Bytes,
    begun: bool,
    silence_max: Duration,
    doing: String,
}

/// Signature, flags and length of the extension: what stands before the first row.
const HEAD_BYTES: usize = 19;

impl CopiedRows {
    /// The next row, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if !self.begun {
            while self.rest.len() < HEAD_BYTES {
                self.receive().await?;
            }
            // No server writes a header extension.
            self.rest.advance(HEAD_BYTES);
            self.begun = true;
        }
        loop {
            let mut left = &*self.rest;
            match Tuple::take(&mut left) {
                Ok(tuple) => return Ok(Some(self.rest.split_to(tuple.as_bytes().len()))),
                Err(BadRow::Cut) => self.receive().await?,
                Err(BadRow::FieldCount(-1)) => break,
                Err(error) => return Err(Fault::because(Code::Bug, &*self.doing, error)),
            }
        }
        // An error of the server may still follow its last row.
        match self.message().await? {
            None => Ok(None),
            Some(_) => Err(Fault::new(Code::Bug, format!("{}: rows after the last", self.doing))),
        }
    }

    async fn receive(&mut self) -> Result<(), Fault> {
        let Some(more) = self.message().await? else {
            return Err(Fault::new(Code::SourceUnreachable, format!("{}: cut off", self.doing)));
        };
        if self.rest.is_empty() {
            self.rest = more;
        } else {
            let mut joined = BytesMut::from(&*self.rest);
            joined.extend_from_slice(&more);
            self.rest = joined.freeze();
        }
        Ok(())
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Fault> {
        // A timer for each row would cost more than the row; only a server that makes us wait
        // gets one.
        let message =
            match self.stream.next().now_or_never() {
                Some(message) => message,
                None => tokio::time::timeout(self.silence_max, self.stream.next()).await.map_err(
                    |_| Fault::new(Code::SourceUnreachable, format!("{}: silence", self.doing)),
                )?,
            };
        message.transpose().map_err(|error| said::of_rows(&*self.doing, error))
    }
}
