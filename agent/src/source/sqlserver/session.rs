//! One connection to the source, with everything pinned that could change what is read.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use phusa_protocol::fault::{Code, Fault};
use tiberius::error::Error;
use tiberius::{
    AuthMethod, Client, ColumnData, Config, EncryptionLevel, FromSql, QueryItem, QueryStream, Row,
    ToSql,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use super::Settings;
use super::said;
use crate::source::settings::Tls;
use crate::source::sharing::Work;
use crate::source::throttle::Answers;

/// The name under which the agency's database administrator sees the agent.
const APPLICATION_NAME: &str = "phusa-agent";

/// How long reaching the server may take, and then the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A listener of an availability group may send a reader on to another replica, which must not.
const ROUTES_MAX: usize = 2;

/// What is bound to `@P1`, `@P2` … of a statement.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Param {
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
}

impl ToSql for Param {
    fn to_sql(&self) -> ColumnData<'_> {
        match self {
            Self::Text(text) => ColumnData::String(Some(Cow::Borrowed(text))),
            Self::Number(number) => ColumnData::I64(Some(*number)),
            Self::Bytes(bytes) => ColumnData::Binary(Some(Cow::Borrowed(bytes))),
        }
    }
}

/// A connection; it is cut when this is dropped, and with it whatever it was waiting for.
pub(super) struct Session {
    client: Box<Client<Compat<TcpStream>>>,
    /// How long the server may stay silent.
    silence_max: Duration,
}

enum Answer {
    Here(Box<Client<Compat<TcpStream>>>),
    Elsewhere(String, u16),
}

impl Session {
    /// Connects.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let what = format!("cannot connect to {}", settings.server());
        if settings.user.contains('\\') {
            let what = format!(
                "{what}: {} is a Windows login, which this agent cannot use; make a login of SQL \
                 Server's own (mixed mode)",
                settings.user
            );
            return Err(Fault::new(Code::SourceLogin, what));
        }
        let (mut host, mut port) = (settings.host.clone(), settings.port);
        for _ in 0..=ROUTES_MAX {
            match connect(settings, (&host, port), &what).await? {
                Answer::Here(client) => {
                    let silence_max = settings.guard.statement_timeout;
                    let mut session = Self { client, silence_max };
                    session.run("cannot prepare the session", &pinned(settings)).await?;
                    return Ok(session);
                }
                Answer::Elsewhere(to, at) => (host, port) = (to, at),
            }
        }
        Err(Fault::new(Code::SourceUnreachable, format!("{what}: sent on in a circle")))
    }

    /// Reads in snapshots from now on, or each statement by itself as committed.
    pub(super) async fn isolate(&mut self, snapshots: bool) -> Result<(), Fault> {
        let level = if snapshots { "snapshot" } else { "read committed" };
        let sql = format!("set transaction isolation level {level}");
        self.run("cannot set the isolation", &sql).await
    }

    /// Runs statements that return nothing and touch no rows.
    pub(super) async fn run(&mut self, doing: &str, sql: &str) -> Result<(), Fault> {
        let done = async { self.client.simple_query(sql).await?.into_results().await };
        let done = timeout(self.silence_max, done).await.map_err(|_| silence(doing))?;
        done.map(drop).map_err(|error| said::plain(doing, &error))
    }

    /// Rows of the catalogue.
    pub(super) async fn rows(
        &mut self,
        doing: &str,
        sql: &str,
        params: &[Param],
    ) -> Result<Vec<Row>, Fault> {
        let bound: Vec<&dyn ToSql> = params.iter().map(|param| param as &dyn ToSql).collect();
        let rows = async { self.client.query(sql, &bound).await?.into_first_result().await };
        let rows = timeout(self.silence_max, rows).await.map_err(|_| silence(doing))?;
        rows.map_err(|error| said::plain(doing, &error))
    }

    /// The only row of the catalogue that answers.
    pub(super) async fn row(
        &mut self,
        doing: &str,
        sql: &str,
        params: &[Param],
    ) -> Result<Row, Fault> {
        let rows = self.rows(doing, sql, params).await?;
        let what = || format!("{doing}: the server gave no answer");
        rows.into_iter().next().ok_or_else(|| Fault::new(Code::SourceVersion, what()))
    }

    /// Begins reading the agency's rows.
    pub(super) async fn stream(
        &mut self,
        doing: &str,
        sql: &str,
        params: &[Param],
    ) -> Result<Rows<'_>, Fault> {
        let bound: Vec<&dyn ToSql> = params.iter().map(|param| param as &dyn ToSql).collect();
        let silence_max = self.silence_max;
        let begun = timeout(silence_max, self.client.query(sql, &bound)).await;
        let stream =
            begun.map_err(|_| silence(doing))?.map_err(|error| said::of_rows(doing, &error))?;
        Ok(Rows { stream, silence_max, doing: doing.to_owned() })
    }
}

impl Answers for Session {
    async fn answer(&mut self) -> Result<(), Fault> {
        self.run("cannot ask how fast the server is", "select 1").await
    }

    /// Without VIEW SERVER STATE a login sees no session but its own.
    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        Ok(None)
    }
}

/// Rows of a statement as they come.
pub(super) struct Rows<'a> {
    stream: QueryStream<'a>,
    silence_max: Duration,
    doing: String,
}

impl Rows<'_> {
    /// The next row, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, Fault> {
        loop {
            // A timer for each row would cost more than the row; only a server that makes us wait
            // gets one.
            let item = match self.stream.next().now_or_never() {
                Some(item) => item,
                None => timeout(self.silence_max, self.stream.next())
                    .await
                    .map_err(|_| silence(&self.doing))?,
            };
            match item.transpose().map_err(|error| said::of_rows(&*self.doing, &error))? {
                Some(QueryItem::Row(row)) => return Ok(Some(row)),
                Some(QueryItem::Metadata(_)) => {}
                None => return Ok(None),
            }
        }
    }
}

/// A value of the catalogue, or the fault that this server has another catalogue.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<Option<T>, Fault> {
    row.try_get(index).map_err(|_| {
        let what = format!("the server's catalogue is not as expected (column {index})");
        Fault::new(Code::SourceVersion, what)
    })
}

/// The text of a catalogue column; null is empty.
pub(super) fn text(row: &Row, index: usize) -> Result<String, Fault> {
    Ok(get::<&str>(row, index)?.unwrap_or_default().to_owned())
}

/// The number of a catalogue column that the statement casts to bigint; null is 0.
pub(super) fn number(row: &Row, index: usize) -> Result<i64, Fault> {
    Ok(get(row, index)?.unwrap_or(0))
}

fn silence(doing: &str) -> Fault {
    Fault::new(Code::SourceUnreachable, format!("{doing}: the server stayed silent too long"))
}

async fn connect(
    settings: &Settings,
    (host, port): (&str, u16),
    what: &str,
) -> Result<Answer, Fault> {
    let config = config(settings, (host, port))?;
    let reached = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let stream = reached
        .map_err(|_| {
            let what = format!("{what}: no answer within {} s", CONNECT_TIMEOUT.as_secs());
            Fault::new(Code::SourceUnreachable, what)
        })?
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| said::unreachable(what.to_owned(), error))?;
    // The driver's handshake is a large future.
    match Box::pin(Client::connect(config, stream.compat_write())).await {
        Ok(client) => Ok(Answer::Here(Box::new(client))),
        Err(Error::Routing { host, port }) => Ok(Answer::Elsewhere(host, port)),
        Err(error) => Err(said::plain(what, &error)),
    }
}

fn config(settings: &Settings, (host, port): (&str, u16)) -> Result<Config, Fault> {
    let mut config = Config::new();
    config.host(host);
    config.port(port);
    config.database(&settings.database);
    config.application_name(APPLICATION_NAME);
    config.readonly(true);
    config.handshake_timeout(Some(LOGIN_TIMEOUT));
    // Every wait has a limit of its own here, which also says what was waited for.
    config.command_timeout(None);
    let password = settings.password.as_ref().map_or("", |password| password.reveal());
    config.authentication(AuthMethod::sql_server(&settings.user, password));
    match &settings.tls {
        Tls::Off => config.encryption(EncryptionLevel::NotSupported),
        Tls::Verify { ca_file } => {
            config.encryption(EncryptionLevel::Required);
            config.trust_cert_ca_bundle(certificates(ca_file)?);
        }
    }
    Ok(config)
}

fn certificates(ca_file: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(ca_file).map_err(|error| {
        let what = format!("cannot use the CA file {}", ca_file.display());
        Fault::because(Code::SourceTls, what, error)
    })
}

/// The settings of every session: one form for each value whatever the server's defaults are, a
/// bound on waiting for locks, and the first to give way in a deadlock.
pub(super) fn pinned(settings: &Settings) -> String {
    format!(
        "set ansi_nulls on; set ansi_padding on; set ansi_warnings on; set arithabort on; \
         set concat_null_yields_null on; set quoted_identifier on; set numeric_roundabort off; \
         set implicit_transactions off; set xact_abort on; set nocount on; set rowcount 0; \
         set language us_english; set dateformat ymd; set textsize 2147483647; \
         set lock_timeout {}; set deadlock_priority low",
        settings.guard.lock_timeout.as_millis(),
    )
}
