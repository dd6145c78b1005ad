//! One-time codes: made, listed, approved or refused by a second person.

use std::time::{Duration, SystemTime};

use phusa_protocol::entry::{IdentityAct, IdentityStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::OneTimeCode;
use phusa_protocol::ids::AgentId;
use phusa_protocol::network::Network;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;

use super::standing::is_same_person;
use super::{failed, step, write_down};
use crate::transfers::{Log, from_system_time, system_time};
use crate::warehouse::Warehouse;

/// How an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Nobody has used it.
    Open,
    /// It was used and waits for a second person.
    Waiting,
    /// A second person approved; the agent's next request is answered.
    Approved,
    /// It was refused, or another took its place.
    Refused,
    /// A certificate was issued.
    Used,
}

impl Stands {
    const ALL: [Self; 5] = [Self::Open, Self::Waiting, Self::Approved, Self::Refused, Self::Used];

    /// Its name in the table and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Used => "used",
        }
    }

    /// By its name; what is not known lets nobody in.
    pub(super) fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|stands| stands.name() == name).unwrap_or(Self::Refused)
    }
}

/// What a code is made with.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// For whom.
    pub agent: &'a AgentId,
    /// Networks the agent may come from; none for anywhere the hub allows.
    pub networks: &'a [Network],
    /// How long the code is good.
    pub valid: Duration,
    /// Whether a second person must approve its use.
    pub needs_approval: bool,
    /// Who makes it.
    pub by: &'a str,
}

/// One invitation as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number, the first group of its code.
    pub invitation: String,
    /// For whom.
    pub agent: String,
    /// Who made it.
    pub created_by: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// `open`, `waiting`, `approved`, `refused`, `used`.
    pub state: String,
    /// Who approved or refused.
    pub decided_by: Option<String>,
    /// Digest of the request it was used with; the agent prints the same.
    pub asked: Option<String>,
}

/// Makes a code; earlier ones of the same agent that nobody used are good no longer.
///
/// # Errors
/// When the database refuses, or the system gives no randomness.
pub async fn create(
    warehouse: &Warehouse,
    log: &Log,
    code: &OneTimeCode,
    wanted: &Wanted<'_>,
) -> Result<Timestamp, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    let (agent, now) = (wanted.agent.to_string(), Timestamp::now());
    let sql = "update phusa.invitations set state = 'refused', code_key = null, decided_by = $2 \
               where agent = $1 and state in ('open', 'waiting', 'approved')";
    tx.execute(sql, &[&agent, &wanted.by]).await.map_err(failed)?;
    // Nobody can use them any more, so nobody need be able to.
    let sql = "update phusa.invitations set code_key = null where expires_at < now()";
    tx.execute(sql, &[]).await.map_err(failed)?;
    let networks: Vec<String> = wanted.networks.iter().map(ToString::to_string).collect();
    let networks = networks.join(" ");
    let expires_at = now.after(wanted.valid);
    let sql = "insert into phusa.invitations (invitation, agent, networks, code_key, created_by, \
               created_at, expires_at, needs_approval, state) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, 'open')";
    let key = code.key();
    let (created, expires) = (system_time(now), system_time(expires_at));
    let parameters: [&(dyn postgres_types::ToSql + Sync); 8] = [
        &code.invitation,
        &agent,
        &networks,
        &key.as_bytes().as_slice(),
        &wanted.by,
        &created,
        &expires,
        &wanted.needs_approval,
    ];
    tx.execute(sql, &parameters).await.map_err(failed)?;
    let by = Some(wanted.by.to_owned());
    let because = Some(format!("code {}", code.invitation));
    let invited = IdentityStep { by, because, ..step(IdentityAct::Invited) };
    write_down(&tx, log, wanted.agent, invited).await?;
    tx.commit().await.map_err(failed)?;
    Ok(expires_at)
}

/// Invitations, the newest first; those that can still be used, or up to a thousand of all.
///
/// # Errors
/// When the database does not answer.
pub async fn list(client: &impl GenericClient, all: bool) -> Result<Vec<Listed>, Fault> {
    let which = if all {
        "true"
    } else {
        "state in ('open', 'waiting', 'approved') and expires_at > now()"
    };
    let sql = format!(
        "select invitation, agent, created_by, expires_at, state, decided_by, asked \
         from phusa.invitations where {which} order by created_at desc limit 1000"
    );
    let rows = client.query(&sql, &[]).await.map_err(failed)?;
    let listed = rows.iter().map(|row| {
        let expires: SystemTime = row.try_get(3)?;
        Ok(Listed {
            invitation: row.try_get(0)?,
            agent: row.try_get(1)?,
            created_by: row.try_get(2)?,
            expires_at: from_system_time(expires),
            state: row.try_get(4)?,
            decided_by: row.try_get(5)?,
            asked: row.try_get(6)?,
        })
    });
    listed.collect::<Result<_, tokio_postgres::Error>>().map_err(failed)
}

/// A second person's word on an enrolment that waits.
///
/// # Errors
/// `enrol_refused` when none of this number waits, `second_person` when it is the first one's.
pub async fn decide(
    warehouse: &Warehouse,
    log: &Log,
    invitation: &str,
    (approves, by): (bool, &str),
) -> Result<AgentId, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    let sql = "select agent, created_by, state from phusa.invitations \
               where invitation = $1 and expires_at > now() for update";
    let row = tx.query_opt(sql, &[&invitation]).await.map_err(failed)?;
    let no_such = || Fault::new(Code::EnrolRefused, format!("no enrolment {invitation} waits"));
    let row = row.ok_or_else(no_such)?;
    let text = |index: usize| row.try_get::<_, String>(index).map_err(failed);
    let (agent, created_by, stands) = (text(0)?, text(1)?, Stands::of(&text(2)?));
    let agent = AgentId::try_from(agent).map_err(|_| no_such())?;
    let may_decide = match approves {
        true => stands == Stands::Waiting,
        false => matches!(stands, Stands::Open | Stands::Waiting | Stands::Approved),
    };
    if !may_decide {
        return Err(no_such());
    }
    if approves && is_same_person(&created_by, by) {
        let what = format!("{created_by} made the code of {agent}; another person approves it");
        return Err(Fault::new(Code::SecondPerson, what));
    }
    let (state, act) = match approves {
        true => (Stands::Approved, IdentityAct::Approved),
        false => (Stands::Refused, IdentityAct::Declined),
    };
    let sql = "update phusa.invitations set state = $2, decided_by = $3 where invitation = $1";
    tx.execute(sql, &[&invitation, &state.name(), &by]).await.map_err(failed)?;
    let because = Some(format!("code {invitation}"));
    let decided = IdentityStep { by: Some(by.to_owned()), because, ..step(act) };
    write_down(&tx, log, &agent, decided).await?;
    tx.commit().await.map_err(failed)?;
    Ok(agent)
}
