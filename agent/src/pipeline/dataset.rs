//! One dataset's life: recover, read, map, spool, deliver; begin anew where it must.
//!
//! Four stages run side by side and hand on through bounded channels: capture (source), mapping and
//! packing (on blocking threads, two blocks at a time, kept in order), spool (one writer), delivery.
//! The source is told a block is durable only after the spool said so.

mod capture;
mod weave;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::delivery::{EpochReason, backoff};
use phusa_protocol::fault::{Class, Fault};
use phusa_protocol::hello::Offer;
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::capture::{Capture, News};
use super::repair;
use super::seats::Seats;
use crate::accord::Accord;
use crate::config::plan::{DatasetPlan, Plan};
use crate::source::{Progress, Source};
use crate::spool::{Recovered, Recovery, Spool, Tail};
use crate::status::{DatasetStatus, State};
use crate::transport::https::Hub;
use crate::transport::{
    Delivering, Ended, Greeting, Lane, Standing, ask_standing, deliver, entropy, on_blocking_thread,
};
use crate::trouble::Trouble;

/// Durable batches whose news the delivery has not taken yet; they are numbers only.
const SPOOLED_NEWS: usize = 256;

/// Everything shown of one dataset; the status is made from it.
#[derive(Debug, Clone)]
pub struct Shown {
    base: DatasetStatus,
    standing: Option<watch::Receiver<Standing>>,
    progress: Option<watch::Receiver<Progress>>,
}

impl Shown {
    /// A dataset that has not begun.
    #[must_use]
    pub fn new(dataset: &DatasetId) -> Self {
        Self { base: DatasetStatus::starting(dataset.clone()), standing: None, progress: None }
    }

    /// All of it as one status.
    #[must_use]
    pub fn status(&self) -> DatasetStatus {
        let mut status = self.base.clone();
        if let Some(progress) = &self.progress {
            let progress = progress.borrow();
            status.snapshot_rows = progress.snapshot_rows;
            status.snapshot_rows_estimated = progress.snapshot_rows_estimated;
            (status.lag_bytes, status.retained_bytes) =
                (progress.lag_bytes, progress.retained_bytes);
            let millis = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            status.poll_pause_ms = progress.poll_pause.map(millis);
            status.passes = progress.passes;
            if progress.snapshot_done && status.state == State::Reading {
                status.state = State::Following;
            }
        }
        if let Some(standing) = &self.standing {
            let standing = standing.borrow();
            (status.released_seq, status.waiting_batches) = (standing.released, standing.waiting);
            (status.delivered_bytes, status.refusals) =
                (standing.delivered_bytes, standing.refusals);
            (status.hub_skew_ms, status.hub_heard_at) = (standing.skew_ms, standing.heard_at);
            status.delivery_trouble.clone_from(&standing.trouble);
        }
        status
    }
}

/// One dataset with all it needs.
#[derive(Debug)]
pub struct Dataset<S> {
    /// What the hub must show of its contract.
    pub accord: Arc<Accord>,
    /// The agent's plan.
    pub plan: Arc<Plan>,
    /// Which of its datasets this is.
    pub index: usize,
    /// Where rows come from.
    pub source: Arc<S>,
    /// How many datasets may be read there at once.
    pub seats: Seats,
    /// Where batches wait.
    pub spool: Spool,
    /// Where they go.
    pub hub: Arc<Hub>,
    /// Signs headers.
    pub signing_key: SigningKey,
    /// What is shown of it.
    pub show: watch::Sender<Shown>,
    /// `true` while somebody wants that nothing is delivered.
    pub gate: watch::Receiver<bool>,
    /// Where its tasks run.
    pub tasks: TaskTracker,
    /// Stops it.
    pub stop: CancellationToken,
}

/// How a run of one epoch ended.
enum EpochEnd {
    Stopped,
    Anew { epoch: Epoch, why: String },
}

impl<S: Source> Dataset<S> {
    /// Lives until stopped. Faults are shown and tried again.
    pub async fn supervise(self) {
        let Some(dataset) = self.plan.datasets.get(self.index) else { return };
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            match self.live(dataset).await {
                Ok(()) => return,
                Err(fault) => {
                    self.note_trouble(&fault);
                    self.pause(backoff(failures, entropy())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// One life from what the spool holds to the end; an error is about the spool itself.
    async fn live(&self, dataset: &DatasetPlan) -> Result<(), Fault> {
        let (spool, id) = (self.spool.clone(), dataset.dataset().clone());
        let recovered = on_blocking_thread(&self.tasks, move || spool.recover(&id)).await?;
        let mut recovery = match recovered {
            Recovered::Whole(recovery) if is_as_agreed(&recovery, dataset) => *recovery,
            Recovered::Whole(recovery) => {
                let epoch = recovery.stream.epoch().next();
                self.begin(dataset, epoch, "its mapping or contract has changed").await?
            }
            Recovered::Broken { epoch, fault } => {
                self.note_trouble(&fault);
                self.begin(dataset, epoch.next(), "the spool is damaged").await?
            }
            Recovered::Nothing => match self.ask_first_epoch(dataset).await {
                Some(epoch) => self.begin(dataset, epoch, "nothing was read here before").await?,
                None => return Ok(()),
            },
        };
        loop {
            match self.run_epoch(dataset, recovery).await? {
                EpochEnd::Stopped => return Ok(()),
                EpochEnd::Anew { epoch, why } => {
                    recovery = self.begin(dataset, epoch, &why).await?;
                }
            }
        }
    }

    /// Only the hub knows how often this dataset was read before, so the first start waits for it.
    async fn ask_first_epoch(&self, dataset: &DatasetPlan) -> Option<Epoch> {
        let (standing, seen) = watch::channel(Standing::default());
        self.show.send_modify(|shown| shown.standing = Some(seen));
        let greeting = self.greeting(dataset);
        let terms = ask_standing(&self.hub, &greeting, &standing, &self.stop).await?;
        Some(terms.committed.map_or(Epoch(0), |committed| committed.epoch).next())
    }

    async fn begin(
        &self,
        dataset: &DatasetPlan,
        epoch: Epoch,
        why: &str,
    ) -> Result<Recovery, Fault> {
        tracing::info!(dataset = %dataset.dataset(), epoch = epoch.0, why, "Reading {} anew in epoch {epoch}: {why}", dataset.dataset());
        let (spool, id) = (self.spool.clone(), dataset.dataset().clone());
        let stream = on_blocking_thread(&self.tasks, move || spool.open_epoch(&id, epoch)).await?;
        repair::done(&self.plan.state_dir, dataset.dataset());
        Ok(Recovery::fresh(stream))
    }

    async fn run_epoch(
        &self,
        dataset: &DatasetPlan,
        recovery: Recovery,
    ) -> Result<EpochEnd, Fault> {
        let epoch = recovery.stream.epoch();
        let stop = self.stop.child_token();
        let (spooled, news_of_spool) = mpsc::channel(SPOOLED_NEWS);
        let (standing, seen) = watch::channel(Standing::default());
        self.show.send_modify(|shown| {
            shown.standing = Some(seen.clone());
            shown.base.epoch = epoch.0;
            shown.base.spooled_seq = recovery.tail.seq.0;
            shown.base.position.clone_from(&recovery.tail.position);
            shown.base.state = State::Reading;
        });
        let lane = Lane {
            hub: Arc::clone(&self.hub),
            greeting: self.greeting(dataset),
            spool: self.spool.clone(),
            stream: recovery.stream.clone(),
            ledger: self.spool.ledger(dataset.dataset(), epoch),
            spooled: news_of_spool,
            standing,
            gate: self.gate.clone(),
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        };
        let delivering = Delivering::from(&recovery);
        let news = News { spooled, standing: seen };
        let capture = Capture::new(self, dataset, recovery, news, stop.clone());
        let (delivered, captured, repair) = tokio::join!(
            and_stop(&stop, deliver(lane, delivering)),
            and_stop(&stop, capture.repeat()),
            and_stop(&stop, repair::wait(&self.plan.state_dir, dataset.dataset(), &stop)),
        );
        Ok(match (delivered, captured) {
            (Ended::NewEpoch(reason, next), _) => {
                EpochEnd::Anew { epoch: next.max(epoch.next()), why: words(reason).to_owned() }
            }
            (Ended::Stopped, None) if repair && !self.stop.is_cancelled() => {
                let why = "a comparison with the hub found differences".to_owned();
                EpochEnd::Anew { epoch: epoch.next(), why }
            }
            (Ended::Stopped, Some(fault)) => {
                EpochEnd::Anew { epoch: epoch.next(), why: fault.chain() }
            }
            (Ended::Stopped, None) => EpochEnd::Stopped,
        })
    }

    fn greeting(&self, dataset: &DatasetPlan) -> Greeting {
        let offer = Offer {
            dataset: dataset.dataset().clone(),
            contract: dataset.contract.fingerprint(),
            mapping: dataset.mapping,
        };
        Greeting { agent: self.plan.agent.clone(), offer, accord: Arc::clone(&self.accord) }
    }

    fn note_trouble(&self, fault: &Fault) {
        let before = self.show.borrow().base.reading_trouble.clone();
        let trouble = Trouble::from_fault(fault, before.as_ref());
        if before.as_ref().is_none_or(|before| before.what != trouble.what) {
            tracing::warn!(code = fault.code.name(), "{}: {}", fault.code, trouble.what);
        }
        self.show.send_modify(|shown| {
            if fault.code.class() != Class::Retry {
                shown.base.state = State::Faulted;
            }
            shown.base.reading_trouble = Some(trouble);
        });
    }

    async fn pause(&self, span: Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Runs one of those that go side by side, and ends the others with it.
async fn and_stop<T>(stop: &CancellationToken, side: impl Future<Output = T>) -> T {
    let ended = side.await;
    stop.cancel();
    ended
}

/// Whether what lies in the spool was made under the contract and mapping of now.
fn is_as_agreed(recovery: &Recovery, dataset: &DatasetPlan) -> bool {
    let now = (dataset.contract.fingerprint(), dataset.mapping);
    recovery.agreed.is_none_or(|agreed| agreed == now)
}

fn words(reason: EpochReason) -> &'static str {
    match reason {
        EpochReason::HubAhead => "the hub has batches this agent does not know (an old disk?)",
        EpochReason::HubBehind => "the hub lacks batches this agent no longer has (a backup?)",
        EpochReason::Superseded => "the hub is in a later epoch",
        EpochReason::SpoolDamaged => "a batch is missing from the spool or cannot be read",
        EpochReason::Conflict => "the hub holds another batch under this number, or lacks a row",
    }
}

/// What the spool and the writer start from in a new epoch.
impl Recovery {
    fn fresh(stream: crate::spool::Stream) -> Self {
        Self {
            stream,
            tail: Tail::start(),
            resume: None,
            released: phusa_protocol::ids::Seq::NONE,
            released_header: phusa_protocol::digest::Digest::ZERO,
            waiting: BTreeMap::new(),
            agreed: None,
            receipted: Vec::new(),
        }
    }
}

impl DatasetStatus {
    fn starting(dataset: DatasetId) -> Self {
        Self {
            dataset,
            state: State::Starting,
            epoch: 0,
            spooled_seq: 0,
            released_seq: 0,
            waiting_batches: 0,
            position: String::new(),
            source_time: None::<Timestamp>,
            snapshot_rows: 0,
            snapshot_rows_estimated: 0,
            lag_bytes: None,
            retained_bytes: None,
            poll_pause_ms: None,
            passes: None,
            rows: BTreeMap::new(),
            batches: 0,
            delivered_bytes: 0,
            refusals: 0,
            rejects: BTreeMap::new(),
            noted: BTreeMap::new(),
            reading_trouble: None,
            delivery_trouble: None,
            hub_skew_ms: None,
            hub_heard_at: None,
        }
    }
}
