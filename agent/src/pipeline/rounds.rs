//! Proofs that are due by themselves: each dataset is compared with the warehouse now and then, in
//! the hours in which all rows may be read, one dataset after the other (HU-03).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::delivery::backoff;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::orders::Want;
use phusa_protocol::time::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::dataset::Shown;
use super::proof::{Comparing, Outcome, PAUSE};
use super::repair;
use crate::config::plan::{DatasetPlan, Plan};
use crate::orders::Book;
use crate::source::Source;
use crate::status::State;
use crate::transport::entropy;
use crate::transport::https::Hub;

/// Between two looks for what is due, at least and at most.
const LOOK_MIN: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(60);

/// How often is looked whether the hub wants a comparison.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// A dataset that was never proven is, this long after the agent was started, or as long as it is
/// between two proofs.
const FIRST_AFTER: Duration = Duration::from_secs(3_600);

/// How long records that are read again are waited for.
const RECORDS_WAIT_MAX: Duration = Duration::from_secs(600);

/// Everything the rounds need.
#[derive(Debug)]
pub struct Rounds<S> {
    /// The agent's plan.
    pub plan: Arc<Plan>,
    /// Where rows come from.
    pub source: Arc<S>,
    /// Where they went.
    pub hub: Arc<Hub>,
    /// What is shown of each dataset, in the plan's order.
    pub shown: Vec<watch::Receiver<Shown>>,
    /// What the hub wants compared now.
    pub orders: Arc<Book>,
    /// Ends them.
    pub stop: CancellationToken,
}

impl<S: Source> Rounds<S> {
    /// Proves what is due or asked for until stopped, one dataset after the other.
    pub async fn run(self) {
        let begun = Instant::now();
        let look = self.plan.verify.every.map(|every| (every / 10).clamp(LOOK_MIN, LOOK_MAX));
        let mut failed: BTreeMap<usize, (u32, Instant)> = BTreeMap::new();
        let mut next = look.map(|look| begun + look);
        let rounds = async {
            loop {
                sleep(look.map_or(ASKED_EVERY, |look| look.min(ASKED_EVERY))).await;
                let is_round = next.is_some_and(|next| Instant::now() >= next);
                next = if is_round { look.map(|look| Instant::now() + look) } else { next };
                for (index, dataset) in self.plan.datasets.iter().enumerate() {
                    let id = dataset.dataset();
                    let order = self.orders.errand(Want::Compare, Some(id), Timestamp::now());
                    let rests =
                        failed.get(&index).is_some_and(|(_, until)| Instant::now() < *until);
                    if rests || (order.is_none() && !is_round) || !self.may_be_read(index, order) {
                        continue;
                    }
                    if order.is_none() && !self.is_due(dataset, begun) {
                        continue;
                    }
                    let ended = self.prove(dataset).await;
                    if let Some(order) = order {
                        self.orders
                            .ended(order, ended.as_ref().copied().map_err(|fault| fault.code));
                    }
                    let Err(fault) = ended else {
                        failed.remove(&index);
                        continue;
                    };
                    let failures = failed.get(&index).map_or(0, |(failures, _)| failures + 1);
                    failed.insert(index, (failures, Instant::now() + backoff(failures, entropy())));
                    let what = fault.chain();
                    tracing::warn!(dataset = %id, code = fault.code.name(), "Cannot prove {id} yet: {what}");
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Whether all of a dataset may be read now: its agency's hours, and nothing in the way. What an
    /// order waits for is told.
    fn may_be_read(&self, index: usize, order: Option<u64>) -> bool {
        let Some(status) = self.shown.get(index).map(|seen| seen.borrow().status()) else {
            return false;
        };
        let hours = &self.plan.guard.allowed_hours;
        let is_open = hours.closed_for(Timestamp::now()).is_zero();
        match (order, status.reading_trouble) {
            (Some(order), Some(trouble)) => self.orders.ended(order, Err(trouble.code)),
            (Some(order), None) if !is_open => self.orders.waits_for(order, &hours.to_string()),
            (None, Some(_)) => return false,
            (_, None) => return is_open && status.state == State::Following,
        }
        false
    }

    fn is_due(&self, dataset: &DatasetPlan, begun: Instant) -> bool {
        let Some(every) = self.plan.verify.every else { return false };
        let (now, last) = (Timestamp::now(), last_proof(&self.plan.state_dir, dataset.dataset()));
        // A clock that was set back is no reason to wait for it.
        match last {
            Some(last) => now.since(last) >= every || last > now,
            None => begun.elapsed() >= every.min(FIRST_AFTER),
        }
    }

    async fn prove(&self, dataset: &DatasetPlan) -> Result<(), Fault> {
        let (plan, hub) = (&*self.plan, &*self.hub);
        let comparing = Comparing { plan, dataset, source: &*self.source, hub };
        let (id, outcome) = (dataset.dataset(), comparing.prove().await?);
        if outcome.differs() {
            let differing = outcome.differences.len();
            tracing::warn!(dataset = %id, differing, "{id} differs from the warehouse in {differing} records");
            if plan.verify.repair {
                self.mend(&comparing, &outcome).await?;
            }
        } else {
            let rows = outcome.source.rows;
            tracing::info!(dataset = %id, rows, "{id} was compared with the warehouse: no record differs");
        }
        note_proof(&plan.state_dir, id, Timestamp::now())
    }

    /// Has the records that differ read again, and proves once more. A whole dataset is read anew
    /// only where a person asks for it.
    async fn mend(&self, comparing: &Comparing<'_, S>, outcome: &Outcome) -> Result<(), Fault> {
        let id = comparing.dataset.dataset();
        if !comparing.ask_for_records(outcome).await? {
            tracing::warn!(dataset = %id, "What differs of {id} cannot be read again record by record: run verify --repair");
            return Ok(());
        }
        let until = Instant::now() + RECORDS_WAIT_MAX;
        while repair::is_asked_for_records(&self.plan.state_dir, id) && Instant::now() < until {
            sleep(PAUSE).await;
        }
        comparing.prove().await.map(drop)
    }
}

fn file(state_dir: &Path, dataset: &DatasetId) -> PathBuf {
    state_dir.join("proofs").join(format!("{dataset}.at"))
}

/// When the dataset was last proven by itself.
fn last_proof(state_dir: &Path, dataset: &DatasetId) -> Option<Timestamp> {
    let text = std::fs::read_to_string(file(state_dir, dataset)).ok()?;
    Timestamp::try_from(text.trim().to_owned()).ok()
}

/// A proof that is forgotten is only made again.
fn note_proof(state_dir: &Path, dataset: &DatasetId, at: Timestamp) -> Result<(), Fault> {
    let path = file(state_dir, dataset);
    let noted = std::fs::create_dir_all(state_dir.join("proofs"))
        .and_then(|()| std::fs::write(&path, format!("{at}\n")));
    noted.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
    })
}
