//! How every agent is: what it reported, what arrived, and the verdict that page, commands, metrics
//! and incidents share.

use std::collections::BTreeMap;
use std::time::SystemTime;

use deadpool_postgres::Object;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::report::{Alive, Report};
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{
    Arrived, Ended, Heard, Seen, State, Verdict, judge, judge_datasets, judge_machine,
};
use serde::Serialize;

use super::contact::{self, Contact, Level};
use super::{AgentRow, StreamRow, agents, not_read};
use crate::catalog::Contracts;
use crate::config::register::Register;
use crate::notices;
use crate::transfers::from_system_time;

/// An agent with what is said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// What it delivered.
    #[serde(flatten)]
    pub row: AgentRow,
    /// How it is.
    pub verdict: Verdict,
    /// How its datasets are, in the order of its report.
    pub datasets: Vec<Verdict>,
    /// What is found about its machine.
    #[serde(skip)]
    pub machine: Vec<Verdict>,
    /// The newest report.
    pub report: Option<Report>,
    /// When that arrived.
    pub reported_at: Option<Timestamp>,
    /// Whom to call at its agency.
    pub contact: Option<Contact>,
    /// What was said of it last, if that is kept.
    #[serde(skip)]
    before: Option<Verdict>,
}

impl Health {
    /// The part of its name before the slash.
    #[must_use]
    pub fn agency(&self) -> &str {
        agency_of(&self.row.agent)
    }
}

fn agency_of(agent: &str) -> &str {
    agent.split_once('/').map_or(agent, |(agency, _)| agency)
}

/// What the link left in the database of one agent.
#[derive(Default)]
struct Told {
    report: Option<Report>,
    reported_at: Option<Timestamp>,
    ended: Option<Ended>,
    before: Option<Verdict>,
}

/// Every agent that is registered, has said hello, reported or delivered: the worst first.
///
/// # Errors
/// When the database does not answer.
pub async fn all(
    client: &Object,
    (register, contracts): (&Register, &Contracts),
    now: Timestamp,
) -> Result<Vec<Health>, Fault> {
    let mut rows: BTreeMap<String, AgentRow> = BTreeMap::new();
    for row in agents(client, now).await? {
        rows.insert(row.agent.clone(), row);
    }
    let mut told = told(client).await?;
    let registered = register.keys().into_keys().map(|agent| agent.to_string());
    for agent in registered.chain(told.keys().cloned()) {
        rows.entry(agent.clone()).or_insert_with(|| AgentRow::unseen(agent));
    }
    let standing = standing(client, register).await?;
    let contacts = contact::all(client).await?;
    let notices = notices::list(&***client, false, now).await?;
    let mut all: Vec<_> = rows
        .into_values()
        .map(|row| {
            let told = told.remove(&row.agent).unwrap_or_default();
            let mut standing = standing.get(&row.agent).copied().unwrap_or_default();
            standing.maintenance = notices::until(&notices, agency_of(&row.agent), now);
            let mut health = health(row, told, (standing, contracts), now);
            health.contact = contact::of(&contacts, health.agency(), Level::Focal).cloned();
            health
        })
        .collect();
    all.sort_by(|a, b| {
        let first = b.verdict.state.cmp(&a.verdict.state);
        first.then(a.verdict.since.cmp(&b.verdict.since)).then(a.row.agent.cmp(&b.row.agent))
    });
    Ok(all)
}

fn health(
    row: AgentRow,
    told: Told,
    (standing, contracts): (Standing, &Contracts),
    now: Timestamp,
) -> Health {
    let Told { report, reported_at, ended, before } = told;
    let arrived: Vec<_> = row.streams.iter().filter_map(|one| arrived(one, contracts)).collect();
    let committed = row.streams.iter().filter_map(|stream| stream.last_committed_at);
    // Who was let in again has as long to be heard as one that was just heard.
    let delivered_at = committed.chain(row.last_hello_at).chain(standing.let_in_at).max();
    let barred = standing.barred;
    let heard = report.as_ref().zip(reported_at).map(|(report, at)| Heard { report, at });
    let before_seen = before.as_ref();
    let maintenance = standing.maintenance;
    let seen = Seen {
        now,
        heard,
        ended,
        delivered_at,
        barred,
        maintenance,
        arrived: &arrived,
        before: before_seen,
    };
    let (verdict, datasets, machine) = (judge(&seen), judge_datasets(&seen), judge_machine(&seen));
    Health { row, verdict, datasets, machine, report, reported_at, contact: None, before }
}

fn arrived(stream: &StreamRow, contracts: &Contracts) -> Option<Arrived> {
    let dataset = DatasetId::new(stream.dataset.clone()).ok()?;
    let frequency = contracts.get(&dataset).map(|agreed| agreed.contract.frequency.0);
    let [epoch, seq] = [stream.epoch, stream.seq].map(|n| u64::try_from(n).unwrap_or(0));
    Some(Arrived { dataset, epoch, seq, frequency })
}

async fn told(client: &Object) -> Result<BTreeMap<String, Told>, Fault> {
    let sql = "select agent, report, reported_at, ended, ended_at, verdict from phusa.fleet_agents";
    let mut all = BTreeMap::new();
    for row in client.query(sql, &[]).await.map_err(not_read)? {
        let text = |index: usize| row.try_get::<_, Option<String>>(index).map_err(not_read);
        let moment = |index: usize| {
            let at = row.try_get::<_, Option<SystemTime>>(index).map_err(not_read);
            at.map(|at| at.map(from_system_time))
        };
        // Of a later version of the hub, or of an earlier: then nothing is known until the next.
        let report = text(1)?.and_then(|text| serde_json::from_str(&text).ok());
        let before = text(5)?.and_then(|text| serde_json::from_str(&text).ok());
        let state = text(3)?.map(|ended| match ended.as_str() {
            "leaving" => Alive::Leaving,
            _ => Alive::Lost,
        });
        let ended = state.zip(moment(4)?).map(|(state, at)| Ended { state, at });
        let agent: String = row.try_get(0).map_err(not_read)?;
        all.insert(agent, Told { report, reported_at: moment(2)?, ended, before });
    }
    Ok(all)
}

/// Whether an agent is let in.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// The fault that says why not.
    barred: Option<Code>,
    /// When somebody decided that it is.
    let_in_at: Option<Timestamp>,
    /// Until when a window of maintenance lasts that was announced.
    maintenance: Option<Timestamp>,
}

/// How agents stand by their files and by decisions.
async fn standing(
    client: &Object,
    register: &Register,
) -> Result<BTreeMap<String, Standing>, Fault> {
    let mut all = BTreeMap::new();
    for agent in register.keys().into_keys() {
        let stopped = register.get(&agent).and_then(|enrolled| enrolled.stopped.as_ref());
        if let Some(stopped) = stopped {
            let barred = Some(stopped.code);
            all.insert(agent.to_string(), Standing { barred, ..Standing::default() });
        }
    }
    let sql = "select agent, state, since from phusa.identities";
    for row in client.query(sql, &[]).await.map_err(not_read)? {
        let state: String = row.try_get(1).map_err(not_read)?;
        let barred = match state.as_str() {
            "active" => None,
            "revoked" => Some(Code::AgentRevoked),
            "locked" => Some(Code::IdentityCloned),
            _ => Some(Code::AgentSuspended),
        };
        let since: SystemTime = row.try_get(2).map_err(not_read)?;
        let of: &mut Standing = all.entry(row.try_get(0).map_err(not_read)?).or_default();
        // What stops an agent in either place does.
        of.barred = barred.or(of.barred);
        of.let_in_at = barred.is_none().then(|| from_system_time(since));
    }
    Ok(all)
}

/// Keeps what changed of what was said of agents that report.
///
/// # Errors
/// When the database does not answer.
pub async fn keep(client: &Object, all: &[Health]) -> Result<(), Fault> {
    let sql = "update phusa.fleet_agents set verdict = $2 where agent = $1";
    for one in all {
        if one.report.is_none() || one.before.as_ref() == Some(&one.verdict) {
            continue;
        }
        let text = serde_json::to_string(&one.verdict).unwrap_or_default();
        client.execute(sql, &[&one.row.agent, &text]).await.map_err(not_read)?;
    }
    Ok(())
}

/// How many agents are in each state, from the worst.
#[must_use]
pub fn counts(all: &[Health]) -> Vec<(State, usize)> {
    let count = |state: State| all.iter().filter(|one| one.verdict.state == state).count();
    State::ALL.into_iter().rev().map(|state| (state, count(state))).collect()
}
