//! Rings of a rollout: named canaries first, then shares of all, decided by nothing but names.

use std::collections::BTreeSet;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use serde::{Deserialize, Serialize};

use super::refused;

/// Rings of one rollout.
const RINGS_MAX: usize = 8;

/// One ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ring {
    /// These agents.
    Named(Vec<AgentId>),
    /// This share of all agents, in percent; the same agents each time they are asked for, and those of
    /// a smaller share are among those of a larger one.
    Share(u8),
}

impl Ring {
    /// For people: names, or a share.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Named(agents) => {
                agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            Self::Share(percent) => format!("{percent} %"),
        }
    }

    fn has(&self, agent: &AgentId, version: &str) -> bool {
        match self {
            Self::Named(agents) => agents.contains(agent),
            Self::Share(percent) => place(agent, version) < u32::from(*percent),
        }
    }
}

/// Where an agent stands among a hundred. Another for each version, so that not the same offices are
/// always the first to meet what is new.
fn place(agent: &AgentId, version: &str) -> u32 {
    let digest = Digest::of(format!("{version}\n{agent}").as_bytes());
    let first = digest.as_bytes().first_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(first) % 100
}

/// The rings of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rings(Vec<Ring>);

impl Rings {
    /// Canaries, then shares that grow.
    ///
    /// # Errors
    /// `release_refused` without a canary or with shares that do not grow.
    pub fn new(canaries: Vec<AgentId>, shares: &[u8]) -> Result<Self, Fault> {
        if canaries.is_empty() {
            return Err(refused("a rollout begins with named canaries: --canary H57.12/may-1"));
        }
        let grows = shares.windows(2).all(|pair| pair.first() < pair.last());
        let sane = shares.iter().all(|share| (1..=100).contains(share));
        if !grows || !sane || shares.len() >= RINGS_MAX {
            return Err(refused("shares are percents that grow, such as 25,100"));
        }
        let shares = shares.iter().map(|share| Ring::Share(*share));
        Ok(Self(std::iter::once(Ring::Named(canaries)).chain(shares).collect()))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, ring: usize) -> Option<&Ring> {
        self.0.get(ring)
    }

    /// Who of `all` is in the rings up to this one. An agent in no ring is not updated.
    #[must_use]
    pub fn up_to(&self, ring: usize, version: &str, all: &BTreeSet<AgentId>) -> BTreeSet<AgentId> {
        let rings = self.0.get(..=ring.min(self.0.len().saturating_sub(1))).unwrap_or_default();
        let within = |agent: &&AgentId| rings.iter().any(|one| one.has(agent, version));
        all.iter().filter(within).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_grow_hold_those_before_and_leave_nobody_out_at_a_hundred_percent() {
        let agent = |n: u32| AgentId::try_from(format!("H57.{n}/may-1")).unwrap();
        let all: BTreeSet<_> = (1..=400).map(agent).collect();
        let rings = Rings::new(vec![agent(7), agent(399)], &[25, 60, 100]).unwrap();
        let [canaries, quarter, more, whole] =
            [0, 1, 2, 3].map(|ring| rings.up_to(ring, "1.2.3", &all));
        assert_eq!(canaries.into_iter().collect::<Vec<_>>(), [agent(399), agent(7)]);
        assert!((70..130).contains(&quarter.len()), "{}", quarter.len());
        assert!(quarter.contains(&agent(7)) && quarter.is_subset(&more) && more.is_subset(&whole));
        assert_eq!(whole, all);
        assert_ne!(rings.up_to(1, "1.2.4", &all), quarter, "others are first next time");
        let only = Rings::new(vec![agent(7)], &[]).unwrap();
        assert_eq!(only.up_to(9, "1.2.3", &all).len(), 1, "agents in no ring are left alone");
    }

    #[test]
    fn a_rollout_without_canaries_or_with_shares_that_shrink_is_refused() {
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        for (canaries, shares) in
            [(vec![], &[25, 100][..]), (vec![agent.clone()], &[100, 25]), (vec![agent], &[0])]
        {
            assert!(Rings::new(canaries, shares).is_err(), "{shares:?}");
        }
    }
}
