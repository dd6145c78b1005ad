//! The full read: workers copy key ranges in parallel, one collector numbers the blocks.
//!
//! With the snapshot of the slot's start every worker reads in it and asserts that it does; after
//! a restart, ranges are read under whatever snapshot comes, and the log is replayed over them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tokio::sync::{Mutex as TurnTaking, mpsc, watch};
use tokio::task::JoinSet;

use super::keys;
use super::oversize;
use super::place::{Identity, Lsn, Place, Stage};
use super::session::{CopiedRows, Session, get};
use super::target::{Target, after_text};
use super::{Settings, slot};
use crate::source::Progress;
use crate::source::outbox::{Filler, Outbox, Sealed, nobody_takes_blocks};
use crate::source::snapshot::{After, Chunk, KeyText, Reading};
use crate::source::throttle::{Throttle, Turn};

/// What the workers of one read share.
struct Work {
    settings: Arc<Settings>,
    target: Arc<Target>,
    /// The exported snapshot all of them read in.
    snapshot: Option<String>,
    standby: bool,
    /// What a worker saw in that snapshot; all must see the same.
    seen: Mutex<Option<String>>,
    queue: TurnTaking<Queue>,
    throttle: Arc<Throttle>,
}

/// Ranges that nobody reads yet.
struct Queue {
    left_over: VecDeque<(u64, Chunk)>,
    frontier: Option<After>,
    next_number: u64,
}

/// What a worker tells the collector.
enum Found {
    /// A range begins; nothing of it has been read.
    Range(u64, Chunk),
    /// Rows of a range, with the key of the last.
    Rows { number: u64, body: Vec<u8>, rows: u64, last: Vec<Vec<u8>> },
    /// A range was read to its end.
    End(u64),
}

/// A full read, and what must be known to write its blocks.
pub(super) struct FullRead {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) slot: String,
    pub(super) standby: bool,
    pub(super) throttle: Arc<Throttle>,
    /// Where the slot starts.
    pub(super) start: Lsn,
    pub(super) reading: Reading,
    /// The slot just made, whose snapshot all of it is read in.
    pub(super) exported: Option<slot::Exported>,
    pub(super) progress: watch::Sender<Progress>,
}

impl FullRead {
    /// Reads everything that is left, and returns what the read became.
    pub(super) async fn run(mut self, outbox: &mut Outbox<Lsn>) -> Result<Reading, Fault> {
        while !self.reading.is_over() {
            self.run_within_hours(outbox).await?;
            if self.reading.is_over() {
                break;
            }
            // A snapshot that waited for the next allowed hour would keep the server from clearing
            // up; the rest is read under later ones.
            self.exported = None;
            self.reading = self.reading.resumed();
            self.throttle.wait_for_hours().await;
        }
        Ok(self.reading)
    }

    /// Reads until nothing is left or the hours are over.
    async fn run_within_hours(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
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
            snapshot: self.exported.as_ref().map(|exported| exported.snapshot.clone()),
            standby: self.standby,
            seen: Mutex::new(None),
            queue: TurnTaking::new(queue),
            throttle: Arc::clone(&self.throttle),
        })
    }

    async fn collect(&mut self, found: Found, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        match found {
            Found::Range(number, chunk) => self.reading.found(number, chunk),
            Found::End(number) => self.reading.finished(number),
            Found::Rows { number, body, rows, last } => {
                self.reading.advanced(number, rows, last);
                let sealed = Sealed {
                    body,
                    phase: Phase::Read,
                    tx_open: false,
                    position: format!("read:{}", self.reading.position()),
                    source_time: None,
                };
                outbox.hand_on(sealed, self.place().seal(), self.start).await?;
            }
        }
        self.progress.send_modify(|progress| {
            progress.snapshot_rows = self.reading.rows();
            progress.snapshot_rows_estimated = self.target.rows_estimated;
        });
        Ok(())
    }

    fn place(&self) -> Place {
        let stage = Stage::Reading { start: self.start, reading: self.reading.clone() };
        let identity = self.identity.borrow().clone();
        Place { identity, slot: self.slot.clone(), stage }
    }
}

/// Rows come in key order out of the key's index. A planner without fresh statistics might rather
/// gather a range out of order and sort it on the agency's disk.
const ALONG_THE_INDEX: &str = "set enable_sort = off; set enable_bitmapscan = off";

/// One worker: takes range after range until none is left.
async fn read_ranges(work: Arc<Work>, found: mpsc::Sender<Found>) -> Result<(), Fault> {
    let session = Session::open(&work.settings).await?;
    session.run("cannot prepare for reading", ALONG_THE_INDEX).await?;
    work.enter_snapshot(&session).await?;
    // Outside the snapshot, in which the server's figures would stand still.
    let mut witness = Session::open(&work.settings).await?;
    let mut turn = Turn::default();
    while let Some((number, after, upto)) = work.next_range(&session, &found).await? {
        work.throttle.give_way(&mut turn, &mut witness).await?;
        // The server's statement time-out would also count the time for which the spool, not the
        // server, is slow; for rows the agent's own limit on silence takes its place.
        session.run("cannot prepare for reading", "set statement_timeout = 0").await?;
        let query = work.chunk_query(&session, after.as_ref(), upto.as_ref()).await?;
        let rows = session.copy(&work.target.doing(), &query).await?;
        if work.snapshot.is_none() {
            // The copy has its snapshot, and none of its rows was handed on yet.
            slot::wait_until_on_disk(&witness, work.standby).await?;
        }
        work.copy_range(rows, number, &found).await?;
        session.run("cannot end reading", "reset statement_timeout").await?;
        found.send(Found::End(number)).await.map_err(|_| nobody_takes_blocks())?;
    }
    Ok(())
}

impl Work {
    /// Enters the exported snapshot, and asserts that it is the one the others are in.
    async fn enter_snapshot(&self, session: &Session) -> Result<(), Fault> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        let doing = "cannot read in the exported snapshot";
        let sql = format!(
            "begin isolation level repeatable read read only; set transaction snapshot {}",
            super::catalogue::literal(snapshot)
        );
        session.run(doing, &sql).await?;
        let row = session.row(doing, "select txid_current_snapshot()::text", &[]).await?;
        let mine: String = get(&row, 0)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some(seen) if *seen != mine => {
                Err(Fault::new(Code::Bug, "two readers are in different snapshots"))
            }
            _ => {
                *seen = Some(mine);
                Ok(())
            }
        }
    }

    /// The next range with its bounds as text: one left over from an earlier run, or the next
    /// found along the index. Workers take turns, so that ranges are announced in order.
    async fn next_range(
        &self,
        session: &Session,
        found: &mpsc::Sender<Found>,
    ) -> Result<Option<(u64, Option<KeyText>, Option<KeyText>)>, Fault> {
        if !self.throttle.is_open() {
            return Ok(None);
        }
        let mut queue = self.queue.lock().await;
        if let Some((number, mut chunk)) = queue.left_over.pop_front() {
            if let After::Row(key) = &chunk.after {
                chunk.after = After::Text(keys::text_of(session, &self.target, key).await?);
            }
            return Ok(Some((number, after_text(&chunk).cloned(), chunk.upto)));
        }
        let Some(after) = queue.frontier.take() else { return Ok(None) };
        let number = queue.next_number;
        queue.next_number += 1;
        let mut chunk = Chunk { after, upto: None };
        chunk.upto = self.boundary(session, after_text(&chunk)).await?;
        queue.frontier = chunk.upto.clone().map(After::Text);
        let range = (number, after_text(&chunk).cloned(), chunk.upto.clone());
        found.send(Found::Range(number, chunk)).await.map_err(|_| nobody_takes_blocks())?;
        Ok(Some(range))
    }

    async fn boundary(
        &self,
        session: &Session,
        after: Option<&KeyText>,
    ) -> Result<Option<KeyText>, Fault> {
        let query = self.target.boundary_query(after, self.settings.guard.chunk_rows);
        let Some(row) = session.first_row(&self.target.doing(), &query, &[]).await? else {
            return Ok(None);
        };
        (0..self.target.walk.len())
            .map(|index| get(&row, index))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The query for a range; where its rows may be larger than is carried, it cuts them.
    async fn chunk_query(
        &self,
        session: &Session,
        after: Option<&KeyText>,
        upto: Option<&KeyText>,
    ) -> Result<String, Fault> {
        let bytes_max = self.settings.batch.row_bytes_max.0;
        if oversize::may_stand_in(session, self.target.oid, bytes_max).await? {
            return Ok(self.target.cut_chunk_query(after, upto, bytes_max));
        }
        Ok(self.target.chunk_query(after, upto))
    }

    /// Copies the rows of one range into blocks.
    async fn copy_range(
        &self,
        mut rows: CopiedRows,
        number: u64,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Fault> {
        let mut filler = Filler::new(self.settings.batch);
        let mut last = Bytes::new();
        while let Some(row) = rows.next().await? {
            if filler.is_crowded_by(row.len()) {
                self.hand_on(&mut filler, number, &last, found).await?;
            }
            filler.begin_row(Op::Snapshot).extend_from_slice(&row);
            last = row;
            if filler.is_full() {
                self.hand_on(&mut filler, number, &last, found).await?;
            }
        }
        if filler.rows() > 0 {
            self.hand_on(&mut filler, number, &last, found).await?;
        }
        Ok(())
    }

    async fn hand_on(
        &self,
        filler: &mut Filler,
        number: u64,
        last: &[u8],
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Fault> {
        let rows = filler.rows();
        let last = self.walk_key(last)?;
        let message = Found::Rows { number, body: filler.take(), rows, last };
        self.throttle.aside(found.send(message)).await.map_err(|_| nobody_takes_blocks())?;
        self.throttle.spend(rows).await;
        Ok(())
    }

    /// The key along which the table is read, out of a row.
    fn walk_key(&self, mut row: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let broken = || Fault::new(Code::Bug, "a row has no key");
        let tuple = Tuple::take(&mut row).map_err(|_| broken())?;
        let fields: Vec<Field<'_>> = tuple.fields().collect();
        let part = |index: &usize| match fields.get(*index) {
            Some(Field::Value(bytes)) => Ok(bytes.to_vec()),
            _ => Err(broken()),
        };
        self.target.walk.iter().map(part).collect()
    }
}
