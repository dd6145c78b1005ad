//! `Memory`: what bodies may take, over all senders and each sender's share of it, so that one who
//! announces much and sends it slowly keeps nobody else waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::ids::AgentId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may wait for memory before its sender is asked to come again.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Senders whose shares are remembered; those that hold nothing are forgotten first.
const SENDERS_MAX: usize = 10_000;

/// Memory in mebibytes.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    all: Arc<Semaphore>,
    share_mib: usize,
    wait_max: Duration,
    shares: Arc<Mutex<BTreeMap<AgentId, Arc<Semaphore>>>>,
}

/// Memory that is held; given back when this goes.
#[derive(Debug)]
pub(crate) struct Held {
    _of_sender: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Memory {
    /// So much for all, and a third of it for each.
    pub(crate) fn new(mib: usize) -> Self {
        let (all, shares) = (Arc::new(Semaphore::new(mib)), Arc::default());
        Self { all, share_mib: mib / 3, wait_max: MEMORY_WAIT_MAX, shares }
    }

    /// Room for a body of this length; `None` when it did not come free in [`MEMORY_WAIT_MAX`], or
    /// never could. First come, first served, and each sender stands in its own queue before it
    /// stands in the one for all.
    pub(crate) async fn take(&self, agent: &AgentId, bytes: usize) -> Option<Held> {
        let mib = (bytes >> 20) + 1;
        if mib > self.share_mib {
            return None;
        }
        let mib = u32::try_from(mib).ok()?;
        let (own, all) = (self.share_of(agent), Arc::clone(&self.all));
        let taking = async move {
            let of_sender = own.acquire_many_owned(mib).await.ok()?;
            let of_all = all.acquire_many_owned(mib).await.ok()?;
            Some(Held { _of_sender: of_sender, _of_all: of_all })
        };
        tokio::time::timeout(self.wait_max, taking).await.ok().flatten()
    }

    fn share_of(&self, agent: &AgentId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SENDERS_MAX {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = shares.entry(agent.clone());
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.share_mib))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::try_from(format!("H57.12/{name}")).unwrap()
    }

    #[tokio::test]
    async fn whoever_holds_all_it_may_waits_alone() {
        let memory = Memory { wait_max: Duration::from_millis(20), ..Memory::new(12) };
        let (greedy, other) = (agent("a"), agent("b"));
        let held = memory.take(&greedy, 3 << 20).await;
        assert!(held.is_some());
        assert!(memory.take(&greedy, 0).await.is_none(), "its share is spent");
        let others = [memory.take(&other, 3 << 20).await, memory.take(&agent("c"), 1 << 20).await];
        assert!(others.iter().all(Option::is_some), "nobody else is kept waiting");
        assert!(memory.take(&agent("d"), 3 << 20).await.is_none(), "there are two left of twelve");
        drop(held);
        assert!(memory.take(&greedy, 3 << 20).await.is_some());
        assert!(memory.take(&greedy, 4 << 20).await.is_none(), "more than a share is never had");
    }
}
