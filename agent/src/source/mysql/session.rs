//! One SQL connection to the source, with everything pinned that could change what is read.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use mysql_async::prelude::Queryable;
use mysql_async::{BinaryProtocol, Conn, Opts, OptsBuilder, QueryResult, Row, SslOpts};
use phusa_protocol::fault::{Code, Fault};

use super::said;
use super::{Flavour, Settings};
use crate::source::settings::Tls;

/// The name under which the agency's database administrator sees the agent.
pub(super) const APPLICATION_NAME: &str = "phusa-agent";

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long taking leave may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest packet of a server.
const PACKET_BYTES_MAX: usize = 1 << 30;

/// How long the server keeps a connection whose reader is held up by a full spool, in seconds.
const HELD_UP_SECONDS: u32 = 86_400;

/// A connection; it is cut when this is dropped.
pub(super) struct Session {
    conn: Conn,
    /// How long the server may stay silent while rows are awaited.
    silence_max: Duration,
}

/// Which of the two families the server says it is.
pub(super) async fn connect(settings: &Settings) -> Result<(Conn, Flavour), Fault> {
    let what = || format!("cannot connect to {}", settings.server());
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options(settings)));
    let conn = connecting.await.map_err(|_| {
        Fault::because(Code::SourceUnreachable, what(), "the server does not answer")
    })?;
    let mut conn = conn.map_err(|error| said::plain(what(), error))?;
    let version = conn.query_first::<String, _>("select version()").await;
    let version = version.map_err(|error| said::plain(what(), error))?.unwrap_or_default();
    let flavour = if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
    Ok((conn, flavour))
}

fn options(settings: &Settings) -> Opts {
    let builder = OptsBuilder::default()
        .user(Some(&settings.user))
        .pass(settings.password.as_ref().map(|password| password.reveal().to_owned()))
        .db_name(Some(&settings.database))
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .tcp_nodelay(true)
        .stmt_cache_size(0)
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(28_800))
        .connect_attribute("program_name", APPLICATION_NAME);
    let builder = if settings.host.starts_with('/') {
        builder.socket(Some(&settings.host))
    } else {
        builder.ip_or_hostname(&settings.host).tcp_port(settings.port)
    };
    match &settings.tls {
        Tls::Off => builder.into(),
        Tls::Verify { ca_file } => {
            let ssl = SslOpts::default()
                .with_root_certs(vec![ca_file.clone().into()])
                .with_disable_built_in_roots(true);
            builder.ssl_opts(ssl).into()
        }
    }
}

impl Session {
    /// Connects.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let (mut conn, flavour) = connect(settings).await?;
        for statement in pinned(settings, flavour) {
            let pinned = conn.query_drop(&statement).await;
            pinned.map_err(|error| said::plain("cannot prepare the session", error))?;
        }
        Ok(Self { conn, silence_max: settings.guard.statement_timeout })
    }

    /// Takes leave, so that the server does not log a connection that broke off.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.conn.disconnect()).await;
    }

    /// Runs a statement that returns nothing and touches no rows.
    pub(super) async fn run(&mut self, doing: &str, sql: &str) -> Result<(), Fault> {
        self.conn.query_drop(sql).await.map_err(|error| said::plain(doing, error))
    }

    /// Rows of the catalogue.
    pub(super) async fn rows(&mut self, doing: &str, sql: &str) -> Result<Vec<Row>, Fault> {
        self.conn.query(sql).await.map_err(|error| said::plain(doing, error))
    }

    /// Rows of the catalogue, or `None` where the server refuses to show them.
    pub(super) async fn rows_if_allowed(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Option<Vec<Row>>, Fault> {
        match self.rows(doing, sql).await {
            Ok(rows) => Ok(Some(rows)),
            Err(fault) if fault.code == Code::SourceUnreachable => Err(fault),
            Err(_) => Ok(None),
        }
    }

    /// The first row of a statement over the agency's rows, if there is one.
    pub(super) async fn first_row(&mut self, doing: &str, sql: &str) -> Result<Option<Row>, Fault> {
        let mut result =
            self.conn.exec_iter(sql, ()).await.map_err(|error| said::of_rows(doing, error))?;
        let row = result.next().await.map_err(|error| said::of_rows(doing, error))?;
        result.drop_result().await.map_err(|error| said::of_rows(doing, error))?;
        Ok(row)
    }

    /// Begins reading what `sql` returns, in binary form.
    pub(super) async fn read<'a>(
        &'a mut self,
        doing: &'a str,
        sql: &str,
    ) -> Result<ReadRows<'a>, Fault> {
        let silence_max = self.silence_max;
        let result =
            self.conn.exec_iter(sql, ()).await.map_err(|error| said::of_rows(doing, error))?;
        Ok(ReadRows { result, silence_max, doing })
    }
}

/// Rows of a query, one at a time as they come.
pub(super) struct ReadRows<'a> {
    result: QueryResult<'a, 'static, BinaryProtocol>,
    silence_max: Duration,
    doing: &'a str,
}

impl ReadRows<'_> {
    /// The next row, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, Fault> {
        let mut next = pin!(self.result.next());
        // Most rows are there already, and looking at a clock for each would cost more than they do.
        let next = match poll!(next.as_mut()) {
            Poll::Ready(next) => next,
            Poll::Pending => tokio::time::timeout(self.silence_max, next).await.map_err(|_| {
                Fault::new(Code::SourceUnreachable, format!("{}: silence", self.doing))
            })?,
        };
        next.map_err(|error| said::of_rows(self.doing, error))
    }
}

/// The settings of every session: read-only, bounded, and one form for each value whatever the
/// server's own defaults are.
fn pinned(settings: &Settings, flavour: Flavour) -> Vec<String> {
    let guard = &settings.guard;
    let lock_seconds = guard.lock_timeout.as_secs().max(1);
    let mut statements = vec![
        "set names utf8mb4".to_owned(),
        format!(
            "set session time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', \
             lock_wait_timeout = {lock_seconds}, net_write_timeout = {HELD_UP_SECONDS}, \
             sql_auto_is_null = 0, sql_select_limit = 18446744073709551615"
        ),
        "set session transaction isolation level repeatable read, read only".to_owned(),
    ];
    statements.push(statement_timeout(flavour, guard.statement_timeout));
    statements
}

/// The limit on how long the server works at one statement; zero sets none.
pub(super) fn statement_timeout(flavour: Flavour, limit: Duration) -> String {
    match flavour {
        Flavour::MariaDb => {
            format!("set session max_statement_time = {}", limit.as_millis() as f64 / 1e3)
        }
        Flavour::MySql => format!("set session max_execution_time = {}", limit.as_millis()),
    }
}

/// A value of a row of the catalogue, or the fault that this server has another catalogue.
pub(super) fn get<T: mysql_async::prelude::FromValue>(row: &Row, at: usize) -> Result<T, Fault> {
    row.get_opt::<T, usize>(at)
        .and_then(Result::ok)
        .ok_or_else(|| Fault::new(Code::SourceVersion, "the server's catalogue is not as expected"))
}

/// A value of a row by the column's name, where the row has it.
pub(super) fn by_name<T: mysql_async::prelude::FromValue>(row: &Row, name: &str) -> Option<T> {
    let at = row.columns_ref().iter().position(|column| column.name_str() == name)?;
    row.get_opt::<T, usize>(at).and_then(Result::ok)
}
