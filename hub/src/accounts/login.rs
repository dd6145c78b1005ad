//! Signing in, and taking an invitation.
//!
//! Whoever fails learns nothing: an unknown name, a wrong password, a wrong code and a locked account
//! take the same work and get the same answer. What failed is an entry of the log.

use std::time::{Duration, SystemTime};

use phusa_protocol::deed::{Action, Deed, Denied};
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tracing::warn;

use super::secret::{self, Token};
use super::tries::{self, Turn};
use super::{People, bounded, is_name, not_changed, not_read, session, totp};
use crate::transfers::{deed, from_system_time, to_i64};

/// What somebody typed.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    /// The account's name.
    pub name: &'a str,
    /// The password.
    pub password: &'a str,
    /// The code of the authenticator, or a recovery code.
    pub code: &'a str,
    /// From where.
    pub address: &'a str,
}

/// What a try came to.
#[derive(Debug)]
pub enum Tried<T> {
    /// It was right.
    Right(T),
    /// It was not; why, is not said.
    Wrong,
    /// It was not looked at; the next one is after this long.
    Wait(Duration),
}

/// An account with its secrets, for as long as one try lasts.
struct Secrets {
    account: i64,
    password: Option<String>,
    totp: Option<Vec<u8>>,
    totp_step: i64,
    recovery: Vec<Vec<u8>>,
    invitation: Option<Vec<u8>>,
    invited_until: Option<Timestamp>,
    locked: bool,
}

/// How the second factor was shown.
enum Second {
    Code(u64),
    Recovery([u8; 32]),
}

/// What somebody chose when they took an invitation.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// The account's name.
    pub name: &'a str,
    /// The invitation.
    pub invitation: &'a str,
    /// The password.
    pub password: &'a str,
    /// The code of the authenticator.
    pub code: &'a str,
    /// From where.
    pub address: &'a str,
}

/// What taking an invitation came to, once the invitation itself was right.
#[derive(Debug)]
pub enum Taken {
    /// The account is active; these recovery codes are shown once.
    Active(Vec<String>),
    /// The password will not do; Vietnamese and English.
    Password((&'static str, &'static str)),
    /// The code is not the authenticator's.
    Code,
}

impl People {
    /// Tries to sign in.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn login(&self, typed: Typed<'_>) -> Result<Tried<Token>, Fault> {
        let now = Timestamp::now();
        let name = typed.name.trim().to_lowercase();
        if let Some(pause) = self.wait(&name, typed.address, Action::Login, now).await? {
            return Ok(Tried::Wait(pause));
        }
        let secrets = self.secrets(&name).await?;
        let kept = secrets.as_ref().and_then(|secrets| secrets.password.clone());
        let is_password = secret::is_password(kept, typed.password).await?;
        let second = secrets.as_ref().and_then(|s| self.second(s, &name, typed.code, now));
        let open = secrets.filter(|secrets| is_password && !secrets.locked);
        let begun = match (open, second) {
            (Some(secrets), Some(second)) => {
                self.begin(&secrets, (&name, typed.address), second, now).await?
            }
            _ => None,
        };
        match begun {
            Some(token) => Ok(Tried::Right(token)),
            None => self.wrong(&name, typed.address, Action::Login).await,
        }
    }

    /// Shows the second factor of an invitation: a new secret each time the invitation is opened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_invitation(
        &self,
        name: &str,
        invitation: &str,
        address: &str,
    ) -> Result<Tried<Vec<u8>>, Fault> {
        let now = Timestamp::now();
        if let Some(pause) = self.wait(name, address, Action::Activate, now).await? {
            return Ok(Tried::Wait(pause));
        }
        let Some(found) = self.invited(name, invitation, now).await? else {
            return self.wrong(name, address, Action::Activate).await;
        };
        let secret = secret::totp_secret()?;
        let sealed = self.sealer.seal(&secret, name)?;
        let client = self.warehouse.client().await?;
        let sql = "update phusa.accounts set totp = $2, totp_step = 0 where account = $1";
        let kept = client.execute(sql, &[&found.account, &sealed]).await;
        kept.map_err(|error| not_changed(&error))?;
        tries::forget(&**client, (name, address)).await?;
        Ok(Tried::Right(secret.to_vec()))
    }

    /// Takes an invitation; the second factor is the one it showed last, which comes back with what
    /// is to be mended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn take_invitation(
        &self,
        chosen: Chosen<'_>,
    ) -> Result<Tried<(Vec<u8>, Taken)>, Fault> {
        let Chosen { name, address, .. } = chosen;
        let now = Timestamp::now();
        if let Some(pause) = self.wait(name, address, Action::Activate, now).await? {
            return Ok(Tried::Wait(pause));
        }
        let found = self.invited(name, chosen.invitation, now).await?;
        let shown = found.as_ref().and_then(|found| found.totp.as_deref());
        let shown = shown.and_then(|sealed| self.sealer.open_sealed(sealed, name));
        let (Some(found), Some(secret)) = (found, shown) else {
            return self.wrong(name, address, Action::Activate).await;
        };
        let seconds = seconds(now);
        let taken = match secret::password_fault(chosen.password, name) {
            Some(why) => Taken::Password(why),
            None => match totp::step_of(&secret, chosen.code, seconds, 0) {
                None => Taken::Code,
                Some(step) => self.activate(&found, chosen, step).await?,
            },
        };
        if !matches!(taken, Taken::Code) {
            let client = self.warehouse.client().await?;
            tries::forget(&**client, (name, address)).await?;
        }
        Ok(Tried::Right((secret, taken)))
    }

    async fn activate(
        &self,
        found: &Secrets,
        chosen: Chosen<'_>,
        step: u64,
    ) -> Result<Taken, Fault> {
        let hash = secret::hash(chosen.password).await?;
        let codes = secret::recovery_codes()?;
        let digests: Vec<Vec<u8>> =
            codes.iter().map(|code| secret::typed_digest(code).to_vec()).collect();
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let sql = "update phusa.accounts set password = $2, totp_step = $3, recovery = $4, \
                   invitation = null, invited_until = null \
                   where account = $1 and invitation = $5";
        let invitation = secret::typed_digest(chosen.invitation);
        let done = tx
            .execute(sql, &[&found.account, &hash, &to_i64(step), &digests, &invitation.as_slice()])
            .await
            .map_err(|error| not_changed(&error))?;
        if done == 0 {
            return Ok(Taken::Code);
        }
        let told = Deed::new(chosen.name, Action::Activate).on(chosen.name).from(chosen.address);
        deed::write(&tx, &self.log, told).await?;
        self.commit(tx).await?;
        Ok(Taken::Active(codes))
    }

    /// Counts a try; how long it has to wait when it is one too many.
    async fn wait(
        &self,
        name: &str,
        address: &str,
        action: Action,
        now: Timestamp,
    ) -> Result<Option<Duration>, Fault> {
        match tries::take(&self.warehouse, (name, address), now).await? {
            Turn::Now => Ok(None),
            Turn::Wait { pause, first } => {
                if first {
                    self.tell(name, address, (action, Denied::RateLimit)).await?;
                } else {
                    // The entry of the first stands for all; a collector hears of each.
                    let seconds = pause.as_secs();
                    warn!(target: crate::SECURITY, address, seconds, "Turned away a try to sign in from {address} for {seconds} s more");
                }
                Ok(Some(pause))
            }
        }
    }

    async fn wrong<T>(&self, name: &str, address: &str, action: Action) -> Result<Tried<T>, Fault> {
        self.tell(name, address, (action, Denied::Credentials)).await?;
        Ok(Tried::Wrong)
    }

    /// What was typed as a name stands in the log only where there is an account of it: it may have
    /// been a password.
    async fn tell(
        &self,
        name: &str,
        address: &str,
        (action, why): (Action, Denied),
    ) -> Result<(), Fault> {
        let known = self.secrets(name).await?.is_some();
        let by = if known { bounded(name) } else { "-" };
        let told = Deed::new(by, action).from(address).denied(why);
        deed::write_alone(&self.warehouse, &self.log, told).await.map(drop)
    }

    fn second(&self, secrets: &Secrets, name: &str, code: &str, now: Timestamp) -> Option<Second> {
        let secret = self.sealer.open_sealed(secrets.totp.as_deref()?, name)?;
        let used = secrets.totp_step.unsigned_abs();
        if let Some(step) = totp::step_of(&secret, code, seconds(now), used) {
            return Some(Second::Code(step));
        }
        let digest = secret::typed_digest(code);
        let is_kept = secrets.recovery.iter().any(|kept| kept.as_slice() == digest);
        is_kept.then_some(Second::Recovery(digest))
    }

    /// Uses the second factor up and begins a session, all or nothing; `None` when somebody else
    /// used it first.
    async fn begin(
        &self,
        secrets: &Secrets,
        (name, address): (&str, &str),
        second: Second,
        now: Timestamp,
    ) -> Result<Option<Token>, Fault> {
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_changed(&error))?;
        let used = match second {
            Second::Code(step) => {
                let sql = "update phusa.accounts set totp_step = $2 \
                           where account = $1 and totp_step < $2 and locked_at is null";
                tx.execute(sql, &[&secrets.account, &to_i64(step)]).await
            }
            Second::Recovery(digest) => {
                let sql = "update phusa.accounts set recovery = array_remove(recovery, $2) \
                           where account = $1 and $2 = any(recovery) and locked_at is null";
                tx.execute(sql, &[&secrets.account, &digest.as_slice()]).await
            }
        };
        if used.map_err(|error| not_changed(&error))? == 0 {
            return Ok(None);
        }
        let token = session::begin(&*tx, secrets.account, address, now).await?;
        tries::forget(&*tx, (name, address)).await?;
        let told = Deed::new(name, Action::Login).from(address);
        deed::write(&tx, &self.log, told).await?;
        self.commit(tx).await?;
        Ok(Some(token))
    }

    async fn invited(
        &self,
        name: &str,
        invitation: &str,
        now: Timestamp,
    ) -> Result<Option<Secrets>, Fault> {
        let digest = secret::typed_digest(invitation);
        let is_good = |secrets: &Secrets| {
            secrets.invitation.as_deref() == Some(&digest)
                && secrets.invited_until.is_some_and(|until| now < until)
                && !secrets.locked
        };
        Ok(self.secrets(name).await?.filter(is_good))
    }

    async fn secrets(&self, name: &str) -> Result<Option<Secrets>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let client = self.warehouse.client().await?;
        let sql = "select account, password, totp, totp_step, recovery, invitation, invited_until, \
                   locked_at is not null from phusa.accounts where name = $1";
        let row = client.query_opt(sql, &[&name]).await.map_err(|error| not_read(&error))?;
        let Some(row) = row else { return Ok(None) };
        let field = |error: tokio_postgres::Error| not_read(&error);
        let until: Option<SystemTime> = row.try_get(6).map_err(field)?;
        Ok(Some(Secrets {
            account: row.try_get(0).map_err(field)?,
            password: row.try_get(1).map_err(field)?,
            totp: row.try_get(2).map_err(field)?,
            totp_step: row.try_get(3).map_err(field)?,
            recovery: row.try_get(4).map_err(field)?,
            invitation: row.try_get(5).map_err(field)?,
            invited_until: until.map(from_system_time),
            locked: row.try_get(7).map_err(field)?,
        }))
    }
}

fn seconds(now: Timestamp) -> u64 {
    now.micros().unsigned_abs() / 1_000_000
}
