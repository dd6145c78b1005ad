//! Whose turn it is: batches of a stream that arrive together wait here for those before them.
//!
//! What stands here is a memory of what this process saw last; the database's row is the
//! authority. A batch that comes early may be prepared while its predecessor is still being
//! applied, and goes on the moment that one is committed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::batch::Header;
use phusa_protocol::delivery::Judgement;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::{AgentId, DatasetId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::stream::{self, Standing};
use crate::warehouse::Warehouse;

/// A batch waits at most this long for those before it; then it is out of turn and sent again.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The same in a hub that is stopping: no batch arrives there any more, and only those that have already
/// can be the ones waited for.
const WAIT_WHEN_STOPPING_MAX: Duration = Duration::from_secs(2);

/// How often a waiting batch looks whether another hub process committed its predecessor.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What this process knows of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Where it stood last; `None` = not looked yet, or nothing committed.
    pub(super) standing: Option<Standing>,
    /// How many batches failed when it was their turn; those waiting behind them need not wait on.
    failures: u64,
}

/// Every stream this process has met. One small record per agent and dataset.
#[derive(Debug)]
pub(super) struct Turns {
    streams: Mutex<BTreeMap<(AgentId, DatasetId), watch::Sender<Known>>>,
    /// Batches under way; closed when the hub stops.
    under_way: TaskTracker,
}

impl Turns {
    /// Nothing was met yet.
    #[must_use]
    pub(super) fn new(under_way: TaskTracker) -> Self {
        Self { streams: Mutex::default(), under_way }
    }

    /// What is known of this batch's stream.
    #[must_use]
    pub(super) fn known(&self, header: &Header) -> Known {
        *self.stream(header).borrow()
    }

    /// A batch was committed, or the database was looked at. Never goes back: a slow look must not
    /// hide a commit that came after it.
    pub(super) fn publish(&self, header: &Header, standing: Standing) {
        let place = |s: &Standing| (s.committed.epoch, s.committed.seq);
        self.stream(header).send_if_modified(|known| {
            let is_newer = known.standing.is_none_or(|old| place(&old) < place(&standing));
            if is_newer {
                known.standing = Some(standing);
            }
            is_newer
        });
    }

    /// A batch failed in its turn: those behind it are told at once.
    pub(super) fn fail(&self, header: &Header) {
        self.stream(header).send_modify(|known| known.failures += 1);
    }

    /// Waits until the batch is the next one, or it is clear that it will not be. `failures` is
    /// what [`Turns::known`] said before anything of this batch was begun.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn wait(
        &self,
        header: &Header,
        begun: Known,
        warehouse: &Warehouse,
    ) -> Result<Judgement, Fault> {
        let mut deadline = Instant::now() + WAIT_MAX;
        let mut is_stopping = false;
        let mut changes = self.stream(header).subscribe();
        loop {
            let known = *changes.borrow_and_update();
            let judgement = stream::judge(known.standing.as_ref(), header);
            if judgement != Judgement::Early {
                return Ok(judgement);
            }
            if known.failures != begun.failures || Instant::now() >= deadline {
                return Ok(out_of_turn(known.standing, header));
            }
            let changed = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
            if !is_stopping && self.under_way.is_closed() {
                is_stopping = true;
                deadline = deadline.min(Instant::now() + WAIT_WHEN_STOPPING_MAX);
            }
            if changed.is_err() {
                let client = warehouse.client().await?;
                let found = stream::load(&client, &header.agent, &header.dataset).await?;
                if let Some(standing) = found {
                    self.publish(header, standing);
                }
            }
        }
    }

    fn stream(&self, header: &Header) -> watch::Sender<Known> {
        let key = (header.agent.clone(), header.dataset.clone());
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.entry(key).or_default().clone()
    }
}

/// What is expected instead of a batch that waited in vain.
fn out_of_turn(standing: Option<Standing>, header: &Header) -> Judgement {
    let committed = standing.map(|standing| standing.committed);
    let expected = match committed {
        Some(committed) if committed.epoch == header.epoch => committed.seq.next(),
        Some(_) | None => phusa_protocol::ids::Seq(1),
    };
    Judgement::OutOfTurn { epoch: header.epoch, expected }
}
