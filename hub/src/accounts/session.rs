//! Sessions of people who signed in: random tokens, kept as digests, looked up at each request.
//!
//! Nothing of a session is kept in a process, so that whoever ends it, in whichever process, ends it
//! at the next request.

use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio_postgres::GenericClient;

use super::secret::Token;
use super::{Account, People, SELECT, not_read, read};
use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time};

/// Sessions of one account at once; the oldest ends when there is one more.
const SESSIONS_MAX: i64 = 5;

/// How often a session's last use is written down.
const SEEN_EVERY: Duration = Duration::from_secs(30);

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub whole: Duration,
}

/// One session, as its holder sees it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its key in the database.
    pub session: i64,
    /// From where it began.
    pub address: String,
    /// When.
    pub began_at: Timestamp,
    /// When it was last used, to half a minute.
    pub seen_at: Timestamp,
}

/// Begins a session.
///
/// # Errors
/// When the database does not answer.
pub async fn begin(
    tx: &impl GenericClient,
    account: i64,
    address: &str,
    now: Timestamp,
) -> Result<Token, Fault> {
    let token = Token::new()?;
    let sql = "delete from phusa.sessions where session in (select session from phusa.sessions \
               where account = $1 order by seen_at desc offset $2)";
    tx.execute(sql, &[&account, &(SESSIONS_MAX - 1)]).await.map_err(|error| failed(&error))?;
    let sql = "insert into phusa.sessions (token, account, address, began_at, seen_at) \
               values ($1, $2, $3, $4, $4)";
    let at = system_time(now);
    tx.execute(sql, &[&token.digest().as_slice(), &account, &address, &at])
        .await
        .map_err(|error| failed(&error))?;
    Ok(token)
}

/// Ends every session of an account; how many.
///
/// # Errors
/// When the database does not answer.
pub async fn end_all(tx: &impl GenericClient, account: i64) -> Result<u64, Fault> {
    let sql = "delete from phusa.sessions where account = $1";
    tx.execute(sql, &[&account]).await.map_err(|error| failed(&error))
}

impl People {
    /// Whose session this is; `None` when it has ended or the account is locked. What `is_use` of it
    /// keeps it from ending.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn session(
        &self,
        token: &Token,
        (ends, is_use): (Ends, bool),
        now: Timestamp,
    ) -> Result<Option<(Account, Session)>, Fault> {
        let client = self.warehouse.client().await?;
        let sql = format!(
            "{SELECT} join phusa.sessions own using (account) \
             where own.token = $1 and a.locked_at is null \
             and own.seen_at > $2 and own.began_at > $3"
        )
        .replacen(" from phusa.accounts a", OWN_COLUMNS, 1);
        let digest = token.digest();
        let idle = system_time(now.before(ends.idle));
        let whole = system_time(now.before(ends.whole));
        let row = client.query_opt(&sql, &[&digest.as_slice(), &idle, &whole]).await;
        let Some(row) = row.map_err(|error| not_read(&error))? else {
            let sql = "delete from phusa.sessions where seen_at <= $1 or began_at <= $2";
            client.execute(sql, &[&idle, &whole]).await.map_err(|error| failed(&error))?;
            return Ok(None);
        };
        let (account, session) = (read(&row)?, read_session(&row, 12)?);
        if is_use && now.since(session.seen_at) >= SEEN_EVERY {
            let sql = "update phusa.sessions set seen_at = $2 where session = $1";
            client
                .execute(sql, &[&session.session, &system_time(now)])
                .await
                .map_err(|error| failed(&error))?;
        }
        Ok(Some((account, session)))
    }

    /// Whether a session lives; to look is no use of it, so that it ends when its holder is away.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lives(&self, session: i64, ends: Ends, now: Timestamp) -> Result<bool, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select exists (select from phusa.sessions join phusa.accounts using (account) \
                   where session = $1 and locked_at is null and seen_at > $2 and began_at > $3)";
        let statement = client.prepare_cached(sql).await.map_err(|error| failed(&error))?;
        let (idle, whole) =
            (system_time(now.before(ends.idle)), system_time(now.before(ends.whole)));
        let row = client.query_one(&statement, &[&session, &idle, &whole]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| failed(&error))
    }

    /// The sessions of an account, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions(&self, account: &Account) -> Result<Vec<Session>, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select session, address, began_at, seen_at from phusa.sessions \
                   where account = $1 order by session desc";
        let rows = client.query(sql, &[&account.account]).await;
        let rows = rows.map_err(|error| failed(&error))?;
        rows.iter().map(|row| read_session(row, 0)).collect()
    }

    /// Ends one session of an account.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end(&self, account: &Account, session: i64, address: &str) -> Result<(), Fault> {
        use phusa_protocol::deed::{Action, Deed};
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| failed(&error))?;
        let sql = "delete from phusa.sessions where session = $1 and account = $2";
        let ended = tx.execute(sql, &[&session, &account.account]).await;
        if ended.map_err(|error| failed(&error))? > 0 {
            let told = Deed::new(&account.name, Action::Logout).from(address);
            crate::transfers::deed::write(&tx, &self.log, told).await?;
        }
        self.commit(tx).await
    }
}

const OWN_COLUMNS: &str =
    ", own.session, own.address, own.began_at, own.seen_at from phusa.accounts a";

fn read_session(row: &tokio_postgres::Row, first: usize) -> Result<Session, Fault> {
    let field = |error: tokio_postgres::Error| failed(&error);
    Ok(Session {
        session: row.try_get(first).map_err(field)?,
        address: row.try_get(first + 1).map_err(field)?,
        began_at: from_system_time(row.try_get(first + 2).map_err(field)?),
        seen_at: from_system_time(row.try_get(first + 3).map_err(field)?),
    })
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot use the sessions", error)
}
