//! One dataset's life: recover, read, map, spool, deliver; begin anew where it must.
//!
//! Four stages run side by side and hand on through bounded channels: capture (source), mapping and
//! packing (on blocking threads, two blocks at a time, kept in order), spool (one writer), delivery.
//! The source is told a block is durable only after the spool said so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::delivery::{BACKOFF_MAX, EpochReason, backoff};
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::hello::Offer;
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{repair, sample};
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::{Bound, Mapping, Quality, Reject};
use crate::rejects::RejectsFile;
use crate::source::{Block, Column, Intake, Progress, Resume, Source, Start};
use crate::spool::{BatchIdentity, Packed, Recovered, Recovery, Spool, Tail, Writer};
use crate::status::{DatasetStatus, State};
use crate::transport::https::Hub;
use crate::transport::{
    Delivering, Ended, Greeting, Lane, Spooled, Standing, ask_standing, deliver, entropy,
    on_blocking_thread,
};
use crate::trouble::Trouble;

/// Blocks that wait between two stages. Together with the one each stage holds this bounds memory
/// to some ten blocks of `batch_bytes_max`.
const STAGE_BLOCKS: usize = 1;

/// Durable batches whose news the delivery has not taken yet; they are numbers only.
const SPOOLED_NEWS: usize = 256;

/// While this many batches have no receipt, a small block waits a moment so that the next one
/// gathers more: many small transactions then travel as fewer, larger batches, and the last of them
/// is visible sooner than if each queued behind the others.
const SMALL_BATCHES_MAX: u64 = 2;

/// From this size on a block is not held back.
const SMALL_BYTES_MAX: u64 = 64 << 10;

/// How long a small block is held back at most; a hub that is away must not stop the spooling.
const HOLD_MAX: Duration = Duration::from_millis(100);

/// How long a write that found the disk full waits before it is tried again.
const DISK_RETRY: Duration = Duration::from_secs(2);

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
    /// The agent's plan.
    pub plan: Arc<Plan>,
    /// Which of its datasets this is.
    pub index: usize,
    /// Where rows come from.
    pub source: Arc<S>,
    /// Where batches wait.
    pub spool: Spool,
    /// Where they go.
    pub hub: Arc<Hub>,
    /// Signs headers.
    pub signing_key: SigningKey,
    /// What is shown of it.
    pub show: watch::Sender<Shown>,
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
        Greeting { agent: self.plan.agent.clone(), offer }
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

/// Reading, mapping and spooling within one epoch, repeated after every fault that passes.
struct Capture<'a, S> {
    owner: &'a Dataset<S>,
    dataset: &'a DatasetPlan,
    epoch: Epoch,
    writer: Writer,
    resume: Option<Resume>,
    spooled: mpsc::Sender<Spooled>,
    standing: watch::Receiver<Standing>,
    rejects: RejectsFile,
    stop: CancellationToken,
}

/// What capture and delivery tell each other: what is durable, and how far it has come.
struct News {
    spooled: mpsc::Sender<Spooled>,
    standing: watch::Receiver<Standing>,
}

/// A block after mapping and packing.
struct Finished {
    packed: Packed,
    resume: Resume,
    rejects: Vec<Reject>,
    quality: Quality,
}

impl<'a, S: Source> Capture<'a, S> {
    fn new(
        owner: &'a Dataset<S>,
        dataset: &'a DatasetPlan,
        recovery: Recovery,
        news: News,
        stop: CancellationToken,
    ) -> Self {
        let identity = BatchIdentity {
            agent: owner.plan.agent.clone(),
            key: owner.signing_key.clone(),
            contract: dataset.contract.fingerprint(),
            mapping: dataset.mapping,
        };
        let epoch = recovery.stream.epoch();
        let writer = Writer::new(recovery.stream, recovery.tail, identity);
        let rejects = RejectsFile::new(&owner.plan.state_dir, dataset.dataset());
        let (resume, News { spooled, standing }) = (recovery.resume, news);
        Self { owner, dataset, epoch, writer, resume, spooled, standing, rejects, stop }
    }

    /// Captures until stopped (`None`) or until the epoch cannot go on (the fault that says why).
    async fn repeat(mut self) -> Option<Fault> {
        let mut failures = 0;
        loop {
            let before = self.writer.tail().seq;
            let result = self.once().await;
            if self.stop.is_cancelled() {
                return None;
            }
            let fault = result
                .err()
                .unwrap_or_else(|| Fault::new(Code::SourceUnreachable, "the source ended its log"));
            if matches!(fault.code, Code::SourceGap | Code::SourceSlotGivenUp) {
                return Some(fault);
            }
            self.owner.note_trouble(&fault);
            failures = if self.writer.tail().seq > before { 0 } else { failures + 1 };
            let wait = match fault.code.class() {
                Class::Retry => backoff(failures, entropy()),
                Class::Operator | Class::Bug => BACKOFF_MAX,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// One capture from the last durable block to a fault or the stop.
    async fn once(&mut self) -> Result<(), Fault> {
        let mapping = tokio::select! {
            mapping = sample::mapping(&*self.owner.source, self.dataset) => mapping?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let (blocks, taken) = mpsc::channel(STAGE_BLOCKS);
        let (finished, written) = mpsc::channel(STAGE_BLOCKS);
        let (durable, seen) = watch::channel(0);
        let (progress, shown) = watch::channel(Progress::default());
        self.owner.show.send_modify(|all| all.progress = Some(shown));
        let start = Start { epoch: self.epoch, resume: self.resume.clone() };
        let stop = self.stop.child_token();
        let intake = Intake { blocks, durable: seen, progress, stop: stop.clone() };
        let (source, dataset) = (Arc::clone(&self.owner.source), self.dataset);
        let (tasks, selection) = (self.owner.tasks.clone(), dataset.selection.clone());
        let level = self.owner.plan.hub.compression_level;
        let reading = tasks.spawn(async move { source.capture(&selection, start, intake).await });
        let (captured, mapped, written) = tokio::join!(
            reading,
            async {
                let mapped = map_blocks(&mapping, level, &tasks, taken, finished).await;
                stop.cancel();
                mapped
            },
            self.write_blocks(written, durable),
        );
        let captured = captured.unwrap_or_else(|error| {
            Err(Fault::because(Code::Bug, "the capture ended early", error))
        });
        mapped.and(written).and(captured)
    }

    async fn write_blocks(
        &mut self,
        mut finished: mpsc::Receiver<JoinHandle<Result<Finished, Fault>>>,
        durable: watch::Sender<u64>,
    ) -> Result<(), Fault> {
        while let Some(handle) = finished.recv().await {
            let joined = handle.await;
            let block = joined.map_err(|error| {
                Fault::because(Code::Bug, "a mapping thread ended early", error)
            })??;
            if !self.write_block(&block).await? {
                return Ok(());
            }
            self.resume = Some(block.resume);
            durable.send_replace(block.packed.number());
        }
        Ok(())
    }

    /// Makes one block durable, waiting for room as long as it takes; false when stopped first.
    async fn write_block(&mut self, block: &Finished) -> Result<bool, Fault> {
        if block.packed.file_bytes() < SMALL_BYTES_MAX {
            let few = |standing: &Standing| standing.waiting < SMALL_BATCHES_MAX;
            let held = self.standing.wait_for(few);
            // Held long enough, or the delivery has ended: go on either way.
            let _ = tokio::time::timeout(HOLD_MAX, held).await;
        }
        self.rejects.append(&block.rejects)?;
        loop {
            let written = tokio::task::block_in_place(|| self.store(&block.packed));
            let fault = match written {
                Ok(spooled) => {
                    self.show_written(block, spooled.is_some());
                    if let Some(spooled) = spooled {
                        // The delivery ends only when the epoch does; then the news is not needed.
                        let _ = self.spooled.send(spooled).await;
                    }
                    return Ok(true);
                }
                Err(fault) if matches!(fault.code, Code::SpoolFull | Code::DiskFull) => fault,
                Err(fault) => return Err(fault),
            };
            self.owner.note_trouble(&fault);
            tokio::select! {
                () = self.owner.spool.room_made() => {}
                () = tokio::time::sleep(DISK_RETRY) => {}
                () = self.stop.cancelled() => return Ok(false),
            }
        }
    }

    fn store(&mut self, packed: &Packed) -> Result<Option<Spooled>, Fault> {
        if packed.is_note_after(self.writer.tail()) {
            self.writer.note(packed)?;
            return Ok(None);
        }
        let (seq, header) = self.writer.append(packed)?;
        Ok(Some(Spooled { seq, header, phase: packed.phase() }))
    }

    fn show_written(&self, block: &Finished, is_batch: bool) {
        let counts = block.packed.counts();
        self.owner.show.send_modify(|shown| {
            let base = &mut shown.base;
            base.spooled_seq = self.writer.tail().seq.0;
            base.position.clone_from(&self.writer.tail().position);
            base.source_time = Some(block.packed.source_time());
            base.reading_trouble = None;
            base.state = match block.packed.phase() {
                Phase::Read => State::Reading,
                Phase::ReadEnd | Phase::Settle | Phase::Live => State::Following,
            };
            base.batches += u64::from(is_batch);
            let by_op = [
                ("snapshot", counts.snapshot),
                ("insert", counts.insert),
                ("update", counts.update),
                ("delete", counts.delete),
                ("rekey", counts.rekey),
                ("truncate", counts.truncate),
            ];
            add_counts(&mut base.rows, by_op.into_iter().map(|(op, n)| (op.to_owned(), n)));
            add_counts(&mut base.rejects, block.quality.by_rule(true));
            add_counts(&mut base.noted, block.quality.by_rule(false));
        });
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

fn add_counts(sums: &mut BTreeMap<String, u64>, more: impl Iterator<Item = (String, u64)>) {
    for (name, count) in more.filter(|(_, count)| *count > 0) {
        *sums.entry(name).or_default() += count;
    }
}

/// Maps and packs blocks on blocking threads, a few at a time, and hands them on in order.
async fn map_blocks(
    mapping: &Mapping,
    compression_level: i32,
    tasks: &TaskTracker,
    mut blocks: mpsc::Receiver<Block>,
    finished: mpsc::Sender<JoinHandle<Result<Finished, Fault>>>,
) -> Result<(), Fault> {
    let mut bound: Option<(Arc<[Column]>, Arc<Bound>)> = None;
    while let Some(block) = blocks.recv().await {
        let current = match &bound {
            Some((columns, bound)) if Arc::ptr_eq(columns, &block.columns) => Arc::clone(bound),
            Some(_) | None => {
                let fresh = Arc::new(mapping.bind(&block.columns)?);
                bound = Some((Arc::clone(&block.columns), Arc::clone(&fresh)));
                fresh
            }
        };
        let work = tasks.spawn_blocking(move || finish(&current, block, compression_level));
        if finished.send(work).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn finish(bound: &Bound, block: Block, compression_level: i32) -> Result<Finished, Fault> {
    let resume = block.resume.clone();
    let mapped = bound.apply(block)?;
    let packed = Packed::new(mapped.shareable, compression_level)?;
    Ok(Finished { packed, resume, rejects: mapped.rejects, quality: mapped.quality })
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
