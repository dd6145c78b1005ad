//! Identities and certificates as the database keeps them. A row is signed by the hub; one that is
//! not stops its agent, so that nobody is let in by an edit.

use std::time::SystemTime;

use deadpool_postgres::Transaction;
use phusa_protocol::batch::canonical_json;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::Entry;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::{PublicKey, Signature, SigningKey};
use phusa_protocol::network::Network;
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{GenericClient, Row};

use super::failed;
use crate::config::register::{Overlay, Stopped};
use crate::transfers::{from_system_time, system_time, to_i64};

/// Whether an agent may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may.
    Active,
    /// Not until a person lifts it (CT-40).
    Suspended,
    /// Not until a person finds out which of two installations is the right one.
    Locked,
    /// Never again under this identity.
    Revoked,
}

impl State {
    const ALL: [Self; 4] = [Self::Active, Self::Suspended, Self::Locked, Self::Revoked];

    /// Its name in the table and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Locked => "locked",
            Self::Revoked => "revoked",
        }
    }

    /// What it is called, in both languages.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Active => "hoạt động · active",
            Self::Suspended => "tạm ngừng · suspended",
            Self::Locked => "bị khóa · locked",
            Self::Revoked => "đã thu hồi · revoked",
        }
    }

    /// The fault an agent in it meets.
    #[must_use]
    pub fn code(self) -> Option<Code> {
        match self {
            Self::Active => None,
            Self::Suspended => Some(Code::AgentSuspended),
            Self::Locked => Some(Code::IdentityCloned),
            Self::Revoked => Some(Code::AgentRevoked),
        }
    }
}

/// What is held of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Which.
    pub agent: AgentId,
    /// Its key, where it was enrolled.
    pub signing_key: Option<PublicKey>,
    /// The key bound to it.
    pub recovery_key: Option<PublicKey>,
    /// Of its newest certificate; 0 before the first.
    pub generation: u64,
    /// Of the oldest that is believed.
    pub least_generation: u64,
    /// Networks it may come from, between blanks.
    pub networks: String,
    /// Whether it may speak.
    pub state: State,
    /// Why it is in this state.
    pub because: String,
    /// Whose decision that was.
    pub decided_by: String,
    /// Since when.
    pub since: Timestamp,
    /// Who asked to lift a suspension that takes two.
    pub resume_asked_by: Option<String>,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The how many-th of its agent.
    pub generation: u64,
    /// Digest of the request it answers.
    pub asked: Digest,
    /// It and those between it and the root, PEM.
    pub chain: String,
    /// The moment after which it is not valid.
    pub not_after: Timestamp,
}

impl Identity {
    /// One that nothing was decided about yet.
    #[must_use]
    pub fn new(agent: AgentId, now: Timestamp) -> Self {
        Self {
            agent,
            signing_key: None,
            recovery_key: None,
            generation: 0,
            least_generation: 0,
            networks: String::new(),
            state: State::Active,
            because: String::new(),
            decided_by: String::new(),
            since: now,
            resume_asked_by: None,
        }
    }

    /// Stops it because of what was done to its row. Its keys are not believed either: whoever lifts the
    /// lock must not sign them unseen.
    fn lock(&mut self, because: &str) {
        (self.signing_key, self.recovery_key) = (None, None);
        self.state = State::Locked;
        because.clone_into(&mut self.because);
    }

    /// Why it may not speak.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        self.state.code().map(|code| Stopped { code, because: self.because.clone() })
    }

    /// As the register takes it.
    #[must_use]
    pub fn overlay(&self) -> Overlay {
        let networks = self.networks.split(' ').filter_map(|text| text.parse::<Network>().ok());
        Overlay {
            agent: self.agent.clone(),
            signing_key: self.signing_key,
            stopped: self.stopped(),
            allowed_networks: networks.collect(),
            least_generation: self.least_generation,
        }
    }
}

const COLUMNS: &str = "agent, signing_key, recovery_key, generation, least_generation, networks, \
                       state, because, decided_by, since, resume_asked_by, hub_signature";

/// The newest entry of an agent that says how its row stands; in a JSON text such a name is not quoted.
const NEWEST: &str = "(select entry from phusa.transfers t where t.kind = 'identity' \
                      and t.agent = i.agent and t.entry like '%\"row\":\"%' \
                      order by t.transfer desc limit 1)";

/// Every identity as its row says, in the order of names: the cheap look, by which a change is known.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn rows(
    client: &impl GenericClient,
    hub: &PublicKey,
) -> Result<Vec<Identity>, Fault> {
    let sql = format!("select {COLUMNS}, null::text from phusa.identities order by agent");
    let rows = client.query(&sql, &[]).await.map_err(failed)?;
    rows.iter().map(|row| read(row, hub)).collect()
}

/// Every identity, in the order of names, held against the log: one whose row is not the one that the
/// log's newest entry tells of is locked, and so is one whose row was taken away.
///
/// # Errors
/// When the database does not answer.
pub async fn all(client: &impl GenericClient, hub: &PublicKey) -> Result<Vec<Identity>, Fault> {
    let sql = format!("select {COLUMNS}, {NEWEST} from phusa.identities i order by agent");
    let rows = client.query(&sql, &[]).await.map_err(failed)?;
    let mut found: Vec<_> = rows.iter().map(|row| read(row, hub)).collect::<Result<_, _>>()?;
    // After the rows, so that one made meanwhile is not taken for one taken away.
    let sql = "select distinct agent from phusa.transfers t where kind = 'identity' \
               and entry like '%\"row\":\"%' \
               and not exists (select from phusa.identities i where i.agent = t.agent)";
    for row in client.query(sql, &[]).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        let Ok(agent) = AgentId::try_from(name) else { continue };
        let mut missing = Identity::new(agent, Timestamp::UNIX_EPOCH);
        missing.lock("the log tells of a row in phusa.identities that is not there");
        found.push(missing);
    }
    found.sort_by(|one, other| one.agent.cmp(&other.agent));
    Ok(found)
}

/// One identity, locked until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn for_update(
    tx: &Transaction<'_>,
    agent: &AgentId,
    hub: &PublicKey,
) -> Result<Option<Identity>, Fault> {
    // Also where there is no row to lock yet.
    let lock = "select pg_advisory_xact_lock(5033165, hashtext($1))";
    tx.execute(lock, &[&agent.to_string()]).await.map_err(failed)?;
    let sql = format!("select {COLUMNS}, {NEWEST} from phusa.identities i where agent = $1");
    let row = tx.query_opt(&sql, &[&agent.to_string()]).await.map_err(failed)?;
    row.as_ref().map(|row| read(row, hub)).transpose()
}

/// Writes an identity, signed; says what its entry is to say of the row.
///
/// # Errors
/// When the database refuses.
pub async fn save(tx: &Transaction<'_>, of: &Identity, hub: &SigningKey) -> Result<Digest, Fault> {
    let sql = format!(
        "insert into phusa.identities ({COLUMNS}) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         on conflict (agent) do update set signing_key = excluded.signing_key, \
         recovery_key = excluded.recovery_key, generation = excluded.generation, \
         least_generation = excluded.least_generation, networks = excluded.networks, \
         state = excluded.state, because = excluded.because, decided_by = excluded.decided_by, \
         since = excluded.since, resume_asked_by = excluded.resume_asked_by, \
         hub_signature = excluded.hub_signature"
    );
    let key = |key: Option<PublicKey>| key.map(String::from);
    let row = canonical_json(of);
    tx.execute(
        &sql,
        &[
            &of.agent.to_string(),
            &key(of.signing_key),
            &key(of.recovery_key),
            &to_i64(of.generation),
            &to_i64(of.least_generation),
            &of.networks,
            &of.state.name(),
            &of.because,
            &of.decided_by,
            &system_time(of.since),
            &of.resume_asked_by,
            &String::from(hub.sign(&row)),
        ],
    )
    .await
    .map_err(failed)?;
    Ok(Digest::of(&row))
}

fn read(row: &Row, hub: &PublicKey) -> Result<Identity, Fault> {
    let broken = |what: String| Fault::new(Code::LogBroken, what);
    let name: String = row.try_get(0).map_err(failed)?;
    let agent = AgentId::try_from(name.clone()).map_err(|_| broken(format!("no agent: {name}")))?;
    let key = |index: usize| -> Result<Option<PublicKey>, Fault> {
        let text: Option<String> = row.try_get(index).map_err(failed)?;
        Ok(text.and_then(|text| PublicKey::try_from(text).ok()))
    };
    let count = |index: usize| row.try_get::<_, i64>(index).map(i64::unsigned_abs).map_err(failed);
    let state: String = row.try_get(6).map_err(failed)?;
    let since: SystemTime = row.try_get(9).map_err(failed)?;
    let mut found = Identity {
        agent,
        signing_key: key(1)?,
        recovery_key: key(2)?,
        generation: count(3)?,
        least_generation: count(4)?,
        networks: row.try_get(5).map_err(failed)?,
        state: State::ALL.into_iter().find(|s| s.name() == state).unwrap_or(State::Locked),
        because: row.try_get(7).map_err(failed)?,
        decided_by: row.try_get(8).map_err(failed)?,
        since: from_system_time(since),
        resume_asked_by: row.try_get(10).map_err(failed)?,
    };
    let signature: String = row.try_get(11).map_err(failed)?;
    let signature = Signature::try_from(signature).ok();
    let signed = canonical_json(&found);
    if !signature.is_some_and(|signature| hub.verifies(&signed, &signature)) {
        found.lock("its row in phusa.identities is not signed with the hub's key");
    }
    let newest: Option<String> = row.try_get(12).map_err(failed)?;
    if newest.is_some_and(|entry| row_of(&entry) != Some(Digest::of(&signed))) {
        found.lock("its row in phusa.identities is not the one that the log tells of last");
    }
    Ok(found)
}

/// The row that an entry of an identity tells of.
fn row_of(entry: &str) -> Option<Digest> {
    serde_json::from_str::<Entry>(entry).ok()?.identity?.row
}

/// The certificate of this generation.
///
/// # Errors
/// When the database does not answer.
pub async fn certificate(
    tx: &Transaction<'_>,
    agent: &AgentId,
    generation: u64,
) -> Result<Option<Certificate>, Fault> {
    let sql = "select asked, certificate, not_after from phusa.certificates \
               where agent = $1 and generation = $2";
    let (agent, number) = (agent.to_string(), to_i64(generation));
    let Some(row) = tx.query_opt(sql, &[&agent, &number]).await.map_err(failed)? else {
        return Ok(None);
    };
    let asked: String = row.try_get(0).map_err(failed)?;
    let not_after: SystemTime = row.try_get(2).map_err(failed)?;
    let Ok(asked) = Digest::try_from(asked) else { return Ok(None) };
    let chain = row.try_get(1).map_err(failed)?;
    let not_after = from_system_time(not_after);
    Ok(Some(Certificate { generation, asked, chain, not_after }))
}

/// Keeps a certificate that was issued; those long ended go.
///
/// # Errors
/// When the database refuses.
pub async fn keep(tx: &Transaction<'_>, agent: &AgentId, of: &Certificate) -> Result<(), Fault> {
    let sql = "insert into phusa.certificates \
               (agent, generation, asked, certificate, not_after, issued_at) \
               values ($1, $2, $3, $4, $5, now())";
    let (agent, number) = (agent.to_string(), to_i64(of.generation));
    let (asked, not_after) = (of.asked.to_string(), system_time(of.not_after));
    tx.execute(sql, &[&agent, &number, &asked, &of.chain, &not_after]).await.map_err(failed)?;
    // The two newest tell a repeated request from a copied disk; the log knows of all.
    let sql = "delete from phusa.certificates where agent = $1 and generation < $2::bigint - 1";
    tx.execute(sql, &[&agent, &number]).await.map(drop).map_err(failed)
}
