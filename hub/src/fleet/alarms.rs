//! Which of all that is said of agents a person has to look at, as incidents that last.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{Reason, State, Verdict};

use super::health::Health;
use crate::incidents::Kind;
use crate::incidents::lasting::{Known, Lasting, settle};

/// What is wrong now, and of whom nothing is known.
#[derive(Debug, Default)]
struct Found {
    lasting: Vec<Lasting>,
    /// What these agents said last is old: only whether they are heard of is known.
    away: Agents,
    /// These are under maintenance that was announced: nothing is said of them.
    excused: Agents,
}

/// By their names.
type Agents = BTreeSet<String>;

/// Opens incidents for what began, and writes down what came back and what is over; `hub` is what is
/// wrong with the hub itself. Says how many were opened.
///
/// # Errors
/// When the database does not answer.
pub async fn keep(
    client: &mut Object,
    all: &[Health],
    hub: Vec<Lasting>,
    now: Timestamp,
) -> Result<usize, Fault> {
    let mut found = find(all);
    found.lasting.extend(hub);
    let is_unsure = |known: &Known| {
        let Some(agent) = &known.agent else { return false };
        found.excused.contains(agent)
            || (found.away.contains(agent) && known.kind != Some(Kind::Heartbeat))
    };
    settle(client, &found.lasting, is_unsure, now).await
}

fn find(all: &[Health]) -> Found {
    let mut found = Found::default();
    for one in all.iter().filter(|one| one.report.is_some()) {
        let Ok(agent) = AgentId::try_from(one.row.agent.clone()) else { continue };
        match one.verdict.state {
            State::Maintenance => {
                found.excused.insert(one.row.agent.clone());
            }
            State::Offline | State::Suspended => {
                found.away.insert(one.row.agent.clone());
                // Whoever was stopped by somebody at the agency has not lost its heartbeat.
                if matches!(one.verdict.reason, Reason::Silent | Reason::Lost) {
                    found.lasting.push(lasting(
                        Kind::Heartbeat,
                        "lost heartbeat",
                        &agent,
                        &one.verdict,
                    ));
                }
            }
            State::Healthy
            | State::Working
            | State::Unreported
            | State::Attention
            | State::Late
            | State::Faulted => {
                let all = one.datasets.iter().chain(&one.machine);
                found.lasting.extend(all.filter_map(|verdict| of(&agent, verdict)));
            }
        }
    }
    found
}

/// The incident that a verdict about a dataset or a machine is, where it is one.
fn of(agent: &AgentId, verdict: &Verdict) -> Option<Lasting> {
    let (kind, cause) = match (verdict.state, verdict.reason) {
        (State::Late, _) => (Kind::Lateness, "late"),
        (State::Faulted, _) => (Kind::Stopped, "stopped"),
        (_, Reason::DiskLow) => (Kind::Disk, "disk"),
        (_, Reason::SpoolFills) => (Kind::Disk, "spool"),
        (_, Reason::CertificateEnds) => (Kind::Certificate, "certificate"),
        _ => return None,
    };
    Some(lasting(kind, cause, agent, verdict))
}

fn lasting(kind: Kind, cause: &'static str, agent: &AgentId, verdict: &Verdict) -> Lasting {
    let words = verdict.words();
    let fault = verdict.fault.as_ref().map(|fault| format!(" [{fault}]")).unwrap_or_default();
    Lasting {
        kind,
        cause,
        agent: Some(agent.clone()),
        dataset: verdict.dataset.clone(),
        what: format!("{} · {}{fault}", words.reason_vi, words.reason_en),
    }
}
