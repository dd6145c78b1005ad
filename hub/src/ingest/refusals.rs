//! How many refusals are written down: every one, up to a bound per agent and minute, so that a
//! hostile agent cannot fill the log. The rest is counted and told with the next one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::ids::AgentId;
use tokio::time::Instant;

/// Entries per agent and minute: far above what a broken stream makes, far below a flood.
pub(super) const ENTRIES_PER_MINUTE: u32 = 30;

/// Agents remembered at once; certificates are issued by hand, so this is never reached honestly.
const AGENTS_MAX: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

/// Whether a refusal becomes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it down; so many before it were not.
    Write {
        /// Refusals of this agent that were left out since the last entry.
        left_out: u64,
    },
    /// Count it.
    LeaveOut,
}

/// The count of refusals per agent.
#[derive(Debug, Default)]
pub(super) struct Budget {
    agents: Mutex<BTreeMap<Option<AgentId>, Spent>>,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    minute_began: Instant,
    written: u32,
    left_out: u64,
}

impl Budget {
    /// Judges one refusal of `agent` (`None` = a certificate that names none) at `now`.
    pub(super) fn take(&self, agent: Option<&AgentId>, now: Instant) -> Verdict {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= AGENTS_MAX && !agents.contains_key(&agent.cloned()) {
            agents.retain(|_, spent| now.duration_since(spent.minute_began) < MINUTE);
            if agents.len() >= AGENTS_MAX {
                return Verdict::LeaveOut;
            }
        }
        let fresh = Spent { minute_began: now, written: 0, left_out: 0 };
        let spent = agents.entry(agent.cloned()).or_insert(fresh);
        if now.duration_since(spent.minute_began) >= MINUTE {
            (spent.minute_began, spent.written) = (now, 0);
        }
        if spent.written >= ENTRIES_PER_MINUTE {
            spent.left_out += 1;
            return Verdict::LeaveOut;
        }
        spent.written += 1;
        Verdict::Write { left_out: std::mem::take(&mut spent.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_with_the_next_entry() {
        let (budget, start) = (Budget::default(), Instant::now());
        for _ in 0..ENTRIES_PER_MINUTE {
            assert_eq!(budget.take(None, start), Verdict::Write { left_out: 0 });
        }
        for _ in 0..7 {
            assert_eq!(budget.take(None, start), Verdict::LeaveOut);
        }
        let other = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        assert_eq!(budget.take(Some(&other), start), Verdict::Write { left_out: 0 });
        assert_eq!(budget.take(None, start + MINUTE), Verdict::Write { left_out: 7 });
        assert_eq!(budget.take(None, start + MINUTE), Verdict::Write { left_out: 0 });
    }
}
