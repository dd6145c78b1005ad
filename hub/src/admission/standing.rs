//! Suspend, resume, revoke (CT-40): decisions about an agent, each with its reason and in a
//! person's name. Hub processes see them within a second and cut what is open.

use phusa_protocol::entry::{IdentityAct, IdentityStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;

use super::store::{self, Identity, State};
use super::{failed, step, write_down};
use crate::config::register::Register;
use crate::transfers::Log;
use crate::warehouse::Warehouse;

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Everything it sends is refused until that is lifted.
    Suspend,
    /// Its identity is withdrawn; it needs a new code.
    Revoke,
    /// It may speak again; `by_two` where that takes a second person, who `confirms`.
    Resume {
        /// Whether one person is not enough.
        by_two: bool,
        /// Whether this is the second one's word.
        confirms: bool,
    },
}

/// Who decides, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decider<'a> {
    /// Their name.
    pub by: &'a str,
    /// Their reason.
    pub because: &'a str,
}

/// Takes a decision about an agent that the hub knows; how it stands then.
///
/// # Errors
/// `agent_unknown`; `second_person`; `agent_revoked` for one that nothing brings back.
pub async fn decide(
    warehouse: &Warehouse,
    (log, files): (&Log, &Register),
    agent: &AgentId,
    (decision, decider): (Decision, Decider<'_>),
) -> Result<Identity, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    let now = Timestamp::now();
    let known = store::for_update(&tx, agent, &log.public_key()).await?;
    let known = known.or_else(|| files.get(agent).map(|_| Identity::new(agent.clone(), now)));
    let unknown = || Fault::new(Code::AgentUnknown, format!("no agent {agent} is registered"));
    let (next, act) = after(known.ok_or_else(unknown)?, decision, decider, now)?;
    let row = Some(store::save(&tx, &next, log.key()).await?);
    let (by, because) = (Some(decider.by.to_owned()), Some(decider.because.to_owned()));
    write_down(&tx, log, agent, IdentityStep { by, because, row, ..step(act) }).await?;
    tx.commit().await.map_err(failed)?;
    Ok(next)
}

/// How an identity stands after a decision.
fn after(
    known: Identity,
    decision: Decision,
    decider: Decider<'_>,
    now: Timestamp,
) -> Result<(Identity, IdentityAct), Fault> {
    let agent = known.agent.clone();
    let decided = Identity {
        because: decider.because.to_owned(),
        decided_by: decider.by.to_owned(),
        since: now,
        resume_asked_by: None,
        ..known.clone()
    };
    if known.state == State::Revoked {
        let what = format!("agent {agent} is revoked ({}); enrol it anew", known.because);
        return Err(Fault::new(Code::AgentRevoked, what));
    }
    match decision {
        Decision::Suspend => {
            Ok((Identity { state: State::Suspended, ..decided }, IdentityAct::Suspended))
        }
        Decision::Revoke => {
            Ok((Identity { state: State::Revoked, ..decided }, IdentityAct::Revoked))
        }
        Decision::Resume { .. } if known.state == State::Active => {
            let what = format!("agent {agent} is not suspended");
            Err(Fault::new(Code::AgentUnknown, what))
        }
        Decision::Resume { by_two, confirms } => {
            let asked_by = known.resume_asked_by.clone();
            match asked_by {
                _ if !by_two => {}
                Some(first) if confirms && !is_same_person(&first, decider.by) => {}
                Some(first) if confirms => {
                    let what = format!("{first} asked to resume {agent}; another person confirms");
                    return Err(Fault::new(Code::SecondPerson, what));
                }
                None if confirms => {
                    let what = format!("nobody asked to resume {agent} yet");
                    return Err(Fault::new(Code::SecondPerson, what));
                }
                Some(_) | None => {
                    let resume_asked_by = Some(decider.by.to_owned());
                    return Ok((Identity { resume_asked_by, ..known }, IdentityAct::ResumeAsked));
                }
            }
            // Of two that used one identity only the holder of the newest certificate goes on.
            let least_generation = match known.state {
                State::Locked => known.generation,
                State::Active | State::Suspended | State::Revoked => known.least_generation,
            };
            let resumed = Identity { state: State::Active, least_generation, ..decided };
            Ok((resumed, IdentityAct::Resumed))
        }
    }
}

/// Whether two names are one person's, however they are spelt.
pub(super) fn is_same_person(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.trim().to_lowercase();
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifting_a_suspension_takes_two_people_where_the_regulation_says_so() {
        let agent = AgentId::try_from("H57/a".to_owned()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let decide = |known: &Identity, decision, by: &str| {
            let decider = Decider { by, because: "lý do" };
            after(known.clone(), decision, decider, now)
        };
        let resume = |by_two, confirms| Decision::Resume { by_two, confirms };
        let active = Identity { generation: 4, ..Identity::new(agent, now) };
        let (suspended, act) = decide(&active, Decision::Suspend, "An").unwrap();
        assert_eq!((suspended.state, act), (State::Suspended, IdentityAct::Suspended));
        let (alone, _) = decide(&suspended, resume(false, false), "An").unwrap();
        assert_eq!(alone.state, State::Active);

        let code = |found: Result<(Identity, IdentityAct), Fault>| found.unwrap_err().code;
        assert_eq!(code(decide(&suspended, resume(true, true), "Bình")), Code::SecondPerson);
        let (asked, act) = decide(&suspended, resume(true, false), "An").unwrap();
        assert_eq!((asked.state, act), (State::Suspended, IdentityAct::ResumeAsked));
        assert_eq!(code(decide(&asked, resume(true, true), " an ")), Code::SecondPerson);
        let (resumed, _) = decide(&asked, resume(true, true), "Bình").unwrap();
        assert_eq!((resumed.state, resumed.resume_asked_by), (State::Active, None));

        let locked = Identity { state: State::Locked, ..active.clone() };
        let (unlocked, _) = decide(&locked, resume(false, false), "An").unwrap();
        assert_eq!(unlocked.least_generation, 4);
        let (revoked, _) = decide(&active, Decision::Revoke, "An").unwrap();
        assert_eq!(code(decide(&revoked, resume(false, false), "An")), Code::AgentRevoked);
        assert_eq!(code(decide(&active, resume(false, false), "An")), Code::AgentUnknown);
    }
}
