//! People: accounts, who may do what to which ([`right`]), secrets ([`secret`], [`totp`]), sessions
//! ([`session`]) and tries ([`tries`]).
//!
//! Each change is one transaction with the log entry that tells of it (CT-39). Nothing here knows
//! HTTP; the console and the portal call the same functions.

pub mod decider;
pub mod right;
pub mod secret;
pub mod totp;
pub mod tries;
pub mod session;
pub mod login;

use std::time::{Duration, SystemTime};

use phusa_protocol::deed::{Action, Deed, Denied};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::error::database_fault;
use crate::transfers::{Log, deed, from_system_time, system_time};
use crate::warehouse::Warehouse;
use right::{Actor, Doing, Role, Target};
use secret::{Invitation, Sealer};

/// How long an invitation is good for.
pub const INVITED_FOR: Duration = Duration::from_secs(72 * 3_600);

/// Accounts shown at once; a province has some hundreds.
const LISTED_MAX: i64 = 2_000;

/// Characters of a person's name.
const TITLE_CHARACTERS_MAX: usize = 120;

/// What accounts are kept with.
#[derive(Debug, Clone)]
pub struct People {
    /// Where they are.
    pub warehouse: Warehouse,
    /// Where it is written down what is done.
    pub log: Log,
    /// Seals second factors.
    pub sealer: Sealer,
}

/// An account without its secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// Its key in the database.
    #[serde(skip)]
    pub account: i64,
    /// What is typed to sign in.
    pub name: String,
    /// Who it is.
    pub title: String,
    /// What they may do.
    pub role: Role,
    /// The unit they belong to; none for the hub's own people.
    pub agency: Option<AgencyId>,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// Whether the invitation was taken: password and second factor are set.
    pub active: bool,
    /// Until when the invitation is good, while there is one.
    pub invited_until: Option<Timestamp>,
    /// Since when it is locked.
    pub locked_at: Option<Timestamp>,
    /// By whom.
    pub locked_by: Option<String>,
    /// Open sessions.
    pub sessions: i64,
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What will be typed to sign in: 3 to 32 of `a-z0-9.-_`, beginning with a letter.
    pub name: String,
    /// Who it is; at most 120 characters.
    pub title: String,
    /// What they may do.
    pub role: Role,
    /// The unit they belong to.
    pub agency: Option<AgencyId>,
}

/// What is done to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Lock it and end its sessions.
    Lock,
    /// Unlock it.
    Unlock,
    /// End its sessions.
    Kill,
}

impl Change {
    fn action(self) -> Action {
        match self {
            Self::Lock => Action::AccountLock,
            Self::Unlock => Action::AccountUnlock,
            Self::Kill => Action::AccountKill,
        }
    }

    fn doing(self) -> Doing {
        match self {
            Self::Lock | Self::Kill => Doing::Stop,
            Self::Unlock => Doing::Issue,
        }
    }
}

impl Account {
    /// As the target of somebody's doing.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        Target { role: self.role, agency: self.agency.as_ref() }
    }
}

impl People {
    /// Accounts that `actor` may see, by name; at most 2,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(&self, actor: &Actor) -> Result<Vec<Account>, Fault> {
        let client = self.warehouse.client().await?;
        let sql = format!("{SELECT} order by a.name limit $1");
        let rows = client.query(&sql, &[&LISTED_MAX]).await.map_err(|error| not_read(&error))?;
        let accounts: Vec<Account> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let seen = |account: &Account| right::may(actor, Doing::See, account.target());
        Ok(accounts.into_iter().filter(seen).collect())
    }

    /// One account.
    ///
    /// # Errors
    /// `account_unknown`, also when `actor` may not see it; or when the database does not answer.
    pub async fn show(&self, actor: &Actor, name: &str) -> Result<Account, Fault> {
        let client = self.warehouse.client().await?;
        let sql = format!("{SELECT} where a.name = $1");
        let row = client.query_opt(&sql, &[&name]).await.map_err(|error| not_read(&error))?;
        let account = row.as_ref().map(read).transpose()?;
        let seen = |account: &Account| right::may(actor, Doing::See, account.target());
        account.filter(seen).ok_or_else(|| unknown(name))
    }

    /// Whether a general administrator was ever made.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_first(&self) -> Result<bool, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select exists (select from phusa.accounts where role = $1)";
        let row = client.query_one(sql, &[&Role::GeneralAdmin.name()]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| not_read(&error))
    }

    /// Makes an account and invites its holder; the invitation is shown once.
    ///
    /// # Errors
    /// `right_missing` (which is an entry), `account_invalid` for a name that is none or taken, or
    /// when the database does not answer.
    pub async fn create(&self, actor: &Actor, wanted: &Wanted) -> Result<Invitation, Fault> {
        let target = Target { role: wanted.role, agency: wanted.agency.as_ref() };
        self.check(actor, Doing::Issue, target, (Action::AccountCreate, &wanted.name)).await?;
        check_wanted(wanted)?;
        let invitation = Invitation::new()?;
        let now = Timestamp::now();
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let sql = "insert into phusa.accounts \
                   (name, title, role, agency, made_by, made_at, invitation, invited_until) \
                   values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (name) do nothing";
        let agency = wanted.agency.as_ref().map(ToString::to_string);
        let made = tx
            .execute(
                sql,
                &[
                    &wanted.name,
                    &wanted.title,
                    &wanted.role.name(),
                    &agency,
                    &actor.name,
                    &system_time(now),
                    &invitation.digest().as_slice(),
                    &system_time(now.after(INVITED_FOR)),
                ],
            )
            .await
            .map_err(|error| not_changed(&error))?;
        if made == 0 {
            let what = format!("there is an account {} already", wanted.name);
            return Err(Fault::new(Code::AccountInvalid, what));
        }
        let told = self.deed(actor, Action::AccountCreate).on(&wanted.name);
        deed::write(&tx, &self.log, told).await?;
        self.commit(tx).await?;
        Ok(invitation)
    }

    /// Locks or unlocks an account, or ends its sessions; says how many sessions ended.
    ///
    /// # Errors
    /// `account_unknown`, `right_missing` (which is an entry), or when the database does not answer.
    pub async fn change(&self, actor: &Actor, name: &str, change: Change) -> Result<u64, Fault> {
        let account = self.show(actor, name).await?;
        self.check(actor, change.doing(), account.target(), (change.action(), name)).await?;
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let now = system_time(Timestamp::now());
        match change {
            Change::Lock => lock(&tx, account.account, (&actor.name, now)).await?,
            Change::Unlock => {
                let sql = "update phusa.accounts set locked_at = null, locked_by = null \
                           where account = $1";
                tx.execute(sql, &[&account.account]).await.map_err(|error| not_changed(&error))?;
            }
            Change::Kill => {}
        }
        let ended = match change {
            Change::Lock | Change::Kill => session::end_all(&*tx, account.account).await?,
            Change::Unlock => 0,
        };
        deed::write(&tx, &self.log, self.deed(actor, change.action()).on(name)).await?;
        self.commit(tx).await?;
        Ok(ended)
    }

    /// Takes password, second factor and recovery codes away, ends the sessions, unlocks, and
    /// invites anew.
    ///
    /// # Errors
    /// As [`People::change`].
    pub async fn reset(&self, actor: &Actor, name: &str) -> Result<Invitation, Fault> {
        let account = self.show(actor, name).await?;
        let action = Action::AccountReset;
        self.check(actor, Doing::Issue, account.target(), (action, name)).await?;
        let invitation = Invitation::new()?;
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let sql = "update phusa.accounts set password = null, totp = null, recovery = '{}', \
                   invitation = $2, invited_until = $3, locked_at = null, locked_by = null \
                   where account = $1";
        let until = system_time(Timestamp::now().after(INVITED_FOR));
        tx.execute(sql, &[&account.account, &invitation.digest().as_slice(), &until])
            .await
            .map_err(|error| not_changed(&error))?;
        session::end_all(&*tx, account.account).await?;
        deed::write(&tx, &self.log, self.deed(actor, action).on(name)).await?;
        self.commit(tx).await?;
        Ok(invitation)
    }

    /// "I lost my account": locks the own account and ends all its sessions at once (CB-08).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lost(&self, account: &Account, address: &str) -> Result<u64, Fault> {
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let now = system_time(Timestamp::now());
        lock(&tx, account.account, (&account.name, now)).await?;
        let ended = session::end_all(&*tx, account.account).await?;
        let told = Deed::new(&account.name, Action::AccountLost).on(&account.name).from(address);
        deed::write(&tx, &self.log, told).await?;
        self.commit(tx).await?;
        Ok(ended)
    }

    /// Refuses what the rules do not allow, and writes the refusal down.
    async fn check(
        &self,
        actor: &Actor,
        doing: Doing,
        target: Target<'_>,
        (action, name): (Action, &str),
    ) -> Result<(), Fault> {
        if right::may(actor, doing, target) {
            return Ok(());
        }
        let told = self.deed(actor, action).on(bounded(name)).denied(Denied::Right);
        deed::write_alone(&self.warehouse, &self.log, told).await?;
        let what = format!("{} ({}) may not do this to {}", actor.name, actor.role(), target.role);
        Err(Fault::new(Code::RightMissing, what))
    }

    fn deed(&self, actor: &Actor, action: Action) -> Deed {
        Deed { from: actor.address.clone(), ..Deed::new(&actor.name, action) }
    }

    async fn commit(&self, tx: deadpool_postgres::Transaction<'_>) -> Result<(), Fault> {
        tx.commit().await.map_err(|error| not_changed(&error))?;
        self.log.wake();
        Ok(())
    }
}

/// A name as it may stand in the log: what was typed is not a name until it has the form of one.
fn bounded(name: &str) -> &str {
    if is_name(name) { name } else { "-" }
}

/// Whether this can be the name of an account.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
    (3..=32).contains(&name.len())
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(inside)
}

fn check_wanted(wanted: &Wanted) -> Result<(), Fault> {
    let wrong = |why: &str| Err(Fault::new(Code::AccountInvalid, why.to_owned()));
    if !is_name(&wanted.name) {
        return wrong("a name is 3 to 32 of a-z, 0-9, '.', '-', '_', and begins with a letter");
    }
    let title = wanted.title.trim();
    let is_line = !title.chars().any(char::is_control);
    if title.is_empty() || title.chars().count() > TITLE_CHARACTERS_MAX || !is_line {
        return wrong("the holder's name is missing, or longer than 120 characters");
    }
    match (wanted.role.has_agency(), &wanted.agency) {
        (true, None) => wrong("an account of this role belongs to an agency"),
        (false, Some(_)) => wrong("an account of this role belongs to no agency"),
        (true, Some(_)) | (false, None) => Ok(()),
    }
}

async fn lock(
    tx: &deadpool_postgres::Transaction<'_>,
    account: i64,
    (by, at): (&str, SystemTime),
) -> Result<(), Fault> {
    let sql = "update phusa.accounts set locked_at = $2, locked_by = $3, invitation = null, \
               invited_until = null where account = $1 and locked_at is null";
    let locked = tx.execute(sql, &[&account, &at, &by]).await;
    locked.map(drop).map_err(|error| not_changed(&error))
}

const SELECT: &str = "select a.account, a.name, a.title, a.role, a.agency, a.made_by, a.made_at, \
                      a.password is not null, a.invited_until, a.locked_at, a.locked_by, \
                      (select count(*) from phusa.sessions s where s.account = a.account) \
                      from phusa.accounts a";

fn read(row: &Row) -> Result<Account, Fault> {
    let field = |error: tokio_postgres::Error| not_read(&error);
    let moment = |time: Option<SystemTime>| time.map(from_system_time);
    let (role, agency): (String, Option<String>) =
        (row.try_get(3).map_err(field)?, row.try_get(4).map_err(field)?);
    let wrong = |what: &str| Fault::new(Code::WarehouseSchema, format!("an account's {what}"));
    let role = Role::named(&role).ok_or_else(|| wrong("role"))?;
    let agency = agency.map(AgencyId::new).transpose().map_err(|_| wrong("agency"))?;
    Ok(Account {
        account: row.try_get(0).map_err(field)?,
        name: row.try_get(1).map_err(field)?,
        title: row.try_get(2).map_err(field)?,
        role,
        agency,
        made_by: row.try_get(5).map_err(field)?,
        made_at: from_system_time(row.try_get(6).map_err(field)?),
        active: row.try_get(7).map_err(field)?,
        invited_until: moment(row.try_get(8).map_err(field)?),
        locked_at: moment(row.try_get(9).map_err(field)?),
        locked_by: row.try_get(10).map_err(field)?,
        sessions: row.try_get(11).map_err(field)?,
    })
}

fn unknown(name: &str) -> Fault {
    Fault::new(Code::AccountUnknown, format!("account {}", bounded(name)))
}

fn not_changed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot change an account", error)
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read the accounts", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_the_log_and_in_a_command() {
        for name in ["an.nguyen", "h57-12_it", "abc"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "ab", "An", "1an", "an nguyễn", "a\nb", &"a".repeat(33), "-an"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
