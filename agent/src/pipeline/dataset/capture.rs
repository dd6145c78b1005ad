//! Reading, mapping and spooling of one dataset in one epoch: three stages side by side, each handing
//! on through a bounded channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::delivery::{BACKOFF_MAX, backoff};
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::ids::Epoch;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::sample;
use super::super::seats::{BEGINS_WITHIN, Seat};
use super::Dataset;
use super::weave::{self, Weaving};
use crate::config::plan::DatasetPlan;
use crate::mapping::{Bound, Mapping, Quality, Reject};
use crate::rejects::RejectsFile;
use crate::source::{Block, Column, Intake, Progress, Resume, Source, Start};
use crate::spool::{BatchIdentity, Packed, Recovery, Writer};
use crate::status::State;
use crate::transport::{Spooled, Standing, entropy};

/// Blocks that wait between two stages. A stage takes the next only when it has room to hand it on, so
/// that memory is bounded to some ten blocks of `batch_bytes_max`: one that each of two readers fills,
/// one that is numbered, one between each two stages, and two that are mapped and packed at once, each
/// beside what becomes of it.
const STAGE_BLOCKS: usize = 1;

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

/// Reading, mapping and spooling within one epoch, repeated after every fault that passes.
pub(super) struct Capture<'a, S> {
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
pub(super) struct News {
    pub(super) spooled: mpsc::Sender<Spooled>,
    pub(super) standing: watch::Receiver<Standing>,
}

/// A block after mapping and packing.
struct Finished {
    packed: Packed,
    resume: Resume,
    rejects: Vec<Reject>,
    quality: Quality,
}

impl<'a, S: Source> Capture<'a, S> {
    pub(super) fn new(
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
    pub(super) async fn repeat(mut self) -> Option<Fault> {
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
        let reads = matches!(self.writer.tail().phase, None | Some(Phase::Read));
        let seat = tokio::select! {
            seat = self.owner.seats.take(self.dataset.dataset(), reads) => seat,
            () = self.stop.cancelled() => return Ok(()),
        };
        let mapping = tokio::select! {
            mapping = sample::mapping(&*self.owner.source, self.dataset) => mapping?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let (blocks, taken) = mpsc::channel(STAGE_BLOCKS);
        let (onward, woven) = mpsc::channel(STAGE_BLOCKS);
        let (finished, mapped) = mpsc::channel(STAGE_BLOCKS);
        let (written, seen_written) = watch::channel(0);
        let (durable, seen) = watch::channel(0);
        let (progress, shown) = watch::channel(Progress::default());
        let begun = shown.clone();
        self.owner.show.send_modify(|all| all.progress = Some(shown));
        let (read, begin) = if seat.reads { (Some(seat), None) } else { (None, Some(seat)) };
        let start = Start { epoch: self.epoch, resume: self.resume.clone() };
        let stop = self.stop.child_token();
        let intake = Intake { blocks, durable: seen, progress, stop: stop.clone() };
        let (source, dataset) = (Arc::clone(&self.owner.source), self.dataset);
        let (tasks, selection) = (self.owner.tasks.clone(), dataset.selection.clone());
        let level = self.owner.plan.hub.compression_level;
        let reading = tasks.spawn(async move { source.capture(&selection, start, intake).await });
        let weaving = Weaving {
            owner: self.owner,
            dataset,
            standing: weave::Standing::after(self.writer.tail(), self.resume.as_ref()),
            onward,
            written: seen_written,
        };
        let (captured, woven, mapped, written, ()) = tokio::join!(
            reading,
            weaving.run(taken),
            async {
                let mapped = map_blocks(&mapping, level, &tasks, woven, finished).await;
                stop.cancel();
                mapped
            },
            self.write_blocks(mapped, durable, (written, read)),
            until_begun(begun, begin),
        );
        let captured = captured.unwrap_or_else(|error| {
            Err(Fault::because(Code::Bug, "the capture ended early", error))
        });
        mapped.and(written).and(woven).and(captured)
    }

    async fn write_blocks(
        &mut self,
        mut finished: mpsc::Receiver<JoinHandle<Result<Finished, Fault>>>,
        durable: watch::Sender<u64>,
        (written, mut read): (watch::Sender<u64>, Option<Seat>),
    ) -> Result<(), Fault> {
        while let Some(handle) = finished.recv().await {
            let joined = handle.await;
            let block = joined.map_err(|error| {
                Fault::because(Code::Bug, "a mapping thread ended early", error)
            })??;
            if !self.write_block(&block).await? {
                return Ok(());
            }
            if block.packed.phase() != Phase::Read {
                drop(read.take());
            }
            self.resume = Some(block.resume);
            durable.send_replace(block.packed.number());
            written.send_modify(|count| *count += 1);
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
            if tokio::task::block_in_place(|| self.give_up_earlier_epochs())? {
                continue;
            }
            self.owner.note_trouble(&fault);
            tokio::select! {
                () = self.owner.spool.room_made() => {}
                () = tokio::time::sleep(DISK_RETRY) => {}
                () = self.stop.cancelled() => return Ok(false),
            }
        }
    }

    /// Makes room where batches of earlier epochs fill the spool: nobody sends them any more, and they
    /// would keep out the very read that replaces them. True when there were any.
    fn give_up_earlier_epochs(&self) -> Result<bool, Fault> {
        let (id, epoch) = (self.dataset.dataset(), self.epoch);
        let bytes = self.owner.spool.retire_before(id, epoch)?;
        if bytes > 0 {
            tracing::warn!(dataset = %id, epoch = epoch.0, bytes, "The spool is full; {bytes} bytes of {id} from before epoch {epoch} were given up, which the read of this epoch replaces");
        }
        Ok(bytes > 0)
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

/// Keeps the seat of one that goes on until it shows that it has begun, or has had its time.
async fn until_begun(mut shown: watch::Receiver<Progress>, seat: Option<Seat>) {
    if seat.is_some() {
        // Begun, ended, or late: the next may begin either way.
        let _ = tokio::time::timeout(BEGINS_WITHIN, shown.changed()).await;
    }
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
    loop {
        // Room first: a block that waits here would be one more in memory.
        let Ok(room) = finished.reserve().await else { return Ok(()) };
        let Some(block) = blocks.recv().await else { return Ok(()) };
        let current = match &bound {
            Some((columns, bound)) if Arc::ptr_eq(columns, &block.columns) => Arc::clone(bound),
            Some(_) | None => {
                let fresh = Arc::new(mapping.bind(&block.columns)?);
                bound = Some((Arc::clone(&block.columns), Arc::clone(&fresh)));
                fresh
            }
        };
        room.send(tasks.spawn_blocking(move || finish(&current, block, compression_level)));
    }
}

fn finish(bound: &Bound, block: Block, compression_level: i32) -> Result<Finished, Fault> {
    let resume = block.resume.clone();
    let mapped = bound.apply(block)?;
    let packed = Packed::new(mapped.shareable, compression_level)?;
    Ok(Finished { packed, resume, rejects: mapped.rejects, quality: mapped.quality })
}
