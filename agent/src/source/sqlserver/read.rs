//! The full read: workers read key ranges in parallel, one collector numbers the blocks.
//!
//! Each range is read by one statement, in a snapshot where the database allows it. Ranges are read
//! at different moments, so the changes since before the read are replayed over them afterwards.

use std::collections::VecDeque;
use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use tokio::sync::{Mutex as TurnTaking, mpsc, watch};
use tokio::task::JoinSet;

use super::Settings;
use super::place::{Identity, Mark, Place, Stage};
use super::session::Session;
use super::target::Target;
use crate::source::Progress;
use crate::source::outbox::{Filler, Outbox, Sealed, nobody_takes_blocks};
use crate::source::snapshot::{After, Chunk, KeyText, Reading};
use crate::source::throttle::{Throttle, Turn};

/// What the workers of one read share.
struct Work {
    settings: Arc<Settings>,
    target: Arc<Target>,
    snapshots: bool,
    queue: TurnTaking<Queue>,
    throttle: Arc<Throttle>,
}

/// Ranges that nobody reads yet.
struct Queue {
    left_over: VecDeque<(u64, Chunk)>,
    frontier: Option<After>,
    next_number: u64,
}

/// A range with its bounds as text.
struct Range {
    number: u64,
    after: Option<KeyText>,
    upto: Option<KeyText>,
}

/// What a worker tells the collector.
enum Found {
    /// A range begins; nothing of it has been read.
    Range(u64, Chunk),
    /// Rows of a range, with the key of the last.
    Rows { number: u64, body: Vec<u8>, rows: u64, last: KeyText },
    /// A range was read to its end.
    End(u64),
}

/// A full read, and what must be known to write its blocks.
pub(super) struct FullRead {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    pub(super) identity: Identity,
    pub(super) throttle: Arc<Throttle>,
    pub(super) snapshots: bool,
    /// Where the changes are followed from afterwards.
    pub(super) start: Mark,
    pub(super) reading: Reading,
    pub(super) progress: watch::Sender<Progress>,
}

impl FullRead {
    /// Reads everything that is left.
    pub(super) async fn run(mut self, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        while !self.reading.is_over() {
            self.throttle.wait_for_hours().await;
            self.run_within_hours(outbox).await?;
        }
        Ok(())
    }

    /// Reads until nothing is left or the hours are over.
    async fn run_within_hours(&mut self, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        let worker_count = self.settings.guard.snapshot_workers.max(1);
        let work = self.work();
        let (found, mut founds) = mpsc::channel(1);
        let mut workers = JoinSet::new();
        for _ in 0..worker_count {
            workers.spawn(read_ranges(Arc::clone(&work), found.clone()));
        }
        drop(found);
        loop {
            tokio::select! {
                Some(ended) = workers.join_next() => {
                    ended.map_err(|error| Fault::because(Code::Bug, "a reader broke off", error))??;
                }
                next = founds.recv() => match next {
                    Some(next) => self.collect(next, outbox).await?,
                    None => break,
                },
            }
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|error| Fault::because(Code::Bug, "a reader broke off", error))??;
        }
        Ok(())
    }

    fn work(&self) -> Arc<Work> {
        let left_over = self.reading.open().map(|(number, chunk)| (number, chunk.clone()));
        let queue = Queue {
            left_over: left_over.collect(),
            frontier: self.reading.frontier().cloned(),
            next_number: self.reading.next_number(),
        };
        Arc::new(Work {
            settings: Arc::clone(&self.settings),
            target: Arc::clone(&self.target),
            snapshots: self.snapshots,
            queue: TurnTaking::new(queue),
            throttle: Arc::clone(&self.throttle),
        })
    }

    async fn collect(&mut self, found: Found, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        match found {
            Found::Range(number, chunk) => self.reading.found(number, chunk),
            Found::End(number) => self.reading.finished(number),
            Found::Rows { number, body, rows, last } => {
                let last = last.into_iter().map(String::into_bytes).collect();
                self.reading.advanced(number, rows, last);
                let sealed = Sealed {
                    body,
                    phase: Phase::Read,
                    tx_open: false,
                    position: format!("read:{}", self.reading.position()),
                    source_time: None,
                };
                let stage = Stage::Reading { start: self.start, reading: self.reading.clone() };
                let place = Place { identity: self.identity.clone(), stage };
                outbox.hand_on(sealed, place.seal(), self.start).await?;
            }
        }
        self.progress.send_modify(|progress| {
            progress.snapshot_rows = self.reading.rows();
            progress.snapshot_rows_estimated = self.target.rows_estimated;
        });
        Ok(())
    }
}

/// One worker: takes range after range until none is left.
async fn read_ranges(work: Arc<Work>, found: mpsc::Sender<Found>) -> Result<(), Fault> {
    let mut session = Session::open(&work.settings).await?;
    session.isolate(work.snapshots).await?;
    let mut turn = Turn::default();
    while let Some(range) = work.next_range(&mut session, &found).await? {
        work.throttle.give_way(&mut turn, &mut session).await?;
        work.read_range(&mut session, &range, &found).await?;
        found.send(Found::End(range.number)).await.map_err(|_| nobody_takes_blocks())?;
    }
    Ok(())
}

impl Work {
    /// The next range: one left over from an earlier run, or the next found along the index.
    /// Workers take turns, so that ranges are announced in order.
    async fn next_range(
        &self,
        session: &mut Session,
        found: &mpsc::Sender<Found>,
    ) -> Result<Option<Range>, Fault> {
        if !self.throttle.is_open() {
            return Ok(None);
        }
        let mut queue = self.queue.lock().await;
        if let Some((number, chunk)) = queue.left_over.pop_front() {
            let range = Range { number, after: key(chunk.after)?, upto: chunk.upto };
            return Ok(Some(range));
        }
        let Some(frontier) = queue.frontier.take() else { return Ok(None) };
        let number = queue.next_number;
        queue.next_number += 1;
        let after = key(frontier.clone())?;
        let upto = self.boundary(session, after.as_ref()).await?;
        queue.frontier = upto.clone().map(After::Text);
        let chunk = Chunk { after: frontier, upto: upto.clone() };
        found.send(Found::Range(number, chunk)).await.map_err(|_| nobody_takes_blocks())?;
        Ok(Some(Range { number, after, upto }))
    }

    async fn boundary(
        &self,
        session: &mut Session,
        after: Option<&KeyText>,
    ) -> Result<Option<KeyText>, Fault> {
        let statement = self.target.boundary(after, self.settings.guard.chunk_rows);
        let doing = self.target.doing();
        let mut rows = session.stream(&doing, &statement.sql, &statement.params).await?;
        let mut last = None;
        while let Some(row) = rows.next().await? {
            last = Some(self.target.boundary_key(&row)?);
        }
        Ok(last)
    }

    /// Reads the rows of one range into blocks.
    async fn read_range(
        &self,
        session: &mut Session,
        range: &Range,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Fault> {
        let statement = self.target.chunk(range.after.as_ref(), range.upto.as_ref(), None);
        let doing = self.target.doing();
        let mut rows = session.stream(&doing, &statement.sql, &statement.params).await?;
        let mut filler = Filler::new(self.settings.batch);
        let mut last = None;
        while let Some(row) = rows.next().await? {
            self.target.put_row(&row, 0, filler.begin_row(Op::Snapshot))?;
            if filler.is_full() {
                let key = self.target.walk_key(&row)?;
                self.hand_on(&mut filler, (range.number, key), found).await?;
                last = None;
            } else {
                last = Some(row);
            }
        }
        if let Some(row) = last {
            let key = self.target.walk_key(&row)?;
            self.hand_on(&mut filler, (range.number, key), found).await?;
        }
        Ok(())
    }

    async fn hand_on(
        &self,
        filler: &mut Filler,
        (number, last): (u64, KeyText),
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Fault> {
        let rows = filler.rows();
        let message = Found::Rows { number, body: filler.take(), rows, last };
        self.throttle.aside(found.send(message)).await.map_err(|_| nobody_takes_blocks())?;
        self.throttle.spend(rows).await;
        Ok(())
    }
}

/// The key a range begins after; `None` is the start of the table. The last row handed on left its
/// key in the same text that boundaries have.
fn key(after: After) -> Result<Option<KeyText>, Fault> {
    match after {
        After::Start => Ok(None),
        After::Text(key) => Ok(Some(key)),
        After::Row(parts) => {
            let parts: Result<KeyText, _> = parts.into_iter().map(String::from_utf8).collect();
            parts.map(Some).map_err(|_| Fault::new(Code::SourceGap, "a key to go on at is no text"))
        }
    }
}
