//! The full read: workers read key ranges in parallel, one collector numbers the blocks.
//!
//! Each statement has a snapshot of its own and takes no lock. The log was noted before the first
//! and is replayed over all of them, so that it does not matter which came when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Row;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::put_field;
use phusa_protocol::value::Field;
use tokio::sync::{Mutex as TurnTaking, mpsc, watch};
use tokio::task::JoinSet;

use super::place::{Identity, Place, Position, Stage};
use super::server::Server;
use super::session::{Session, statement_timeout};
use super::target::Target;
use super::value::{BadValue, put_queried, put_sized, put_tuple_head};
use super::{Settings, key};
use crate::source::Progress;
use crate::source::outbox::{Filler, Outbox, Sealed, nobody_takes_blocks};
use crate::source::snapshot::{After, Chunk, KeyText, Reading};
use crate::source::throttle::{Throttle, Turn};

/// What the workers of one read share.
struct Work {
    settings: Arc<Settings>,
    target: Arc<Target>,
    server: Server,
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
    Rows { number: u64, body: Vec<u8>, rows: u64, last: KeyText },
    /// A range was read to its end.
    End(u64),
}

/// A full read, and what must be known to write its blocks.
pub(super) struct FullRead {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    pub(super) server: Server,
    pub(super) identity: Identity,
    pub(super) throttle: Arc<Throttle>,
    /// From where the log is replayed.
    pub(super) start: Position,
    pub(super) reading: Reading,
    pub(super) progress: watch::Sender<Progress>,
}

impl FullRead {
    /// Reads everything that is left, and returns what the read became.
    pub(super) async fn run(mut self, outbox: &mut Outbox<()>) -> Result<Reading, Fault> {
        while !self.reading.is_over() {
            self.throttle.wait_for_hours().await;
            self.run_within_hours(outbox).await?;
        }
        Ok(self.reading)
    }

    /// Reads until nothing is left or the hours are over.
    async fn run_within_hours(&mut self, outbox: &mut Outbox<()>) -> Result<(), Fault> {
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
                Some(ended) = workers.join_next() => joined(ended)?,
                next = founds.recv() => match next {
                    Some(next) => self.collect(next, outbox).await?,
                    None => break,
                },
            }
        }
        while let Some(ended) = workers.join_next().await {
            joined(ended)?;
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
            server: self.server.clone(),
            queue: TurnTaking::new(queue),
            throttle: Arc::clone(&self.throttle),
        })
    }

    async fn collect(&mut self, found: Found, outbox: &mut Outbox<()>) -> Result<(), Fault> {
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
                let (start, reading) = (self.start.clone(), self.reading.clone());
                let stage = Stage::Reading { start, reading };
                let place = Place { identity: self.identity.clone(), stage };
                outbox.hand_on(sealed, place.seal(), ()).await?;
            }
        }
        self.progress.send_modify(|progress| {
            progress.snapshot_rows = self.reading.rows();
            progress.snapshot_rows_estimated = self.target.rows_estimated;
        });
        Ok(())
    }
}

fn joined(ended: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    ended.map_err(|error| Fault::because(Code::Bug, "a reader broke off", error))?
}

/// One worker: takes range after range until none is left.
async fn read_ranges(work: Arc<Work>, found: mpsc::Sender<Found>) -> Result<(), Fault> {
    let mut session = Session::open(&work.settings).await?;
    let (flavour, limit) = (work.server.flavour, work.settings.guard.statement_timeout);
    let mut turn = Turn::default();
    while let Some((number, after, upto)) = work.next_range(&mut session, &found).await? {
        work.throttle.give_way(&mut turn, &mut session).await?;
        // The server's limit on a statement would also count the time for which the spool, not the
        // server, is slow; for rows the agent's own limit on silence takes its place.
        let unlimited = statement_timeout(flavour, Duration::ZERO);
        session.run("cannot prepare for reading", &unlimited).await?;
        work.read_range(&mut session, (number, after, upto), &found).await?;
        let limited = statement_timeout(flavour, limit);
        session.run("cannot end reading", &limited).await?;
        found.send(Found::End(number)).await.map_err(|_| nobody_takes_blocks())?;
    }
    session.close().await;
    Ok(())
}

/// A range with its number and its bounds as SQL.
type Range = (u64, Option<KeyText>, Option<KeyText>);

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
            return Ok(Some((number, after_sql(&chunk.after)?, chunk.upto)));
        }
        let Some(after) = queue.frontier.take() else { return Ok(None) };
        let number = queue.next_number;
        queue.next_number += 1;
        let lower = after_sql(&after)?;
        let upto = self.boundary(session, lower.as_ref()).await?;
        queue.frontier = upto.clone().map(After::Text);
        let range = (number, lower, upto.clone());
        let chunk = Chunk { after, upto };
        found.send(Found::Range(number, chunk)).await.map_err(|_| nobody_takes_blocks())?;
        Ok(Some(range))
    }

    async fn boundary(
        &self,
        session: &mut Session,
        after: Option<&KeyText>,
    ) -> Result<Option<KeyText>, Fault> {
        let query = self.target.boundary_query(after, self.settings.guard.chunk_rows);
        let doing = self.target.doing();
        let Some(row) = session.first_row(&doing, &query).await? else { return Ok(None) };
        let kinds = self.target.walk_kinds();
        let part = |(at, kind): (usize, &&super::kind::Kind)| {
            let mut bytes = Vec::new();
            put_queried(kind, row.as_ref(at)?, &mut bytes).ok()?;
            key::part(kind, &bytes)
        };
        let key: Option<KeyText> = kinds.iter().enumerate().map(part).collect();
        key.map(Some).ok_or_else(|| bad_row(&doing))
    }

    /// Reads the rows of one range into blocks.
    async fn read_range(
        &self,
        session: &mut Session,
        (number, after, upto): Range,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Fault> {
        let query = self.target.chunk_query(after.as_ref(), upto.as_ref());
        let doing = self.target.doing();
        let mut rows = session.read(&doing, &query).await?;
        let mut filler = Filler::new(self.settings.batch);
        let (mut tuple, mut last) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next().await? {
            tuple.clear();
            put_row(&self.target, &row, &mut tuple).map_err(|_| bad_row(&doing))?;
            if filler.is_crowded_by(tuple.len()) {
                self.hand_on(&mut filler, number, &last, found).await?;
            }
            filler.begin_row(Op::Snapshot).extend_from_slice(&tuple);
            std::mem::swap(&mut tuple, &mut last);
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
        let last = self.target.key_of(last).ok_or_else(|| bad_row(&self.target.doing()))?;
        let message = Found::Rows { number, body: filler.take(), rows, last };
        self.throttle.aside(found.send(message)).await.map_err(|_| nobody_takes_blocks())?;
        self.throttle.spend(rows).await;
        Ok(())
    }
}

/// The key a range begins after, as SQL; `None` is the start of the table.
fn after_sql(after: &After) -> Result<Option<KeyText>, Fault> {
    match after {
        After::Start => Ok(None),
        After::Text(key) => Ok(Some(key.clone())),
        After::Row(parts) => {
            let part = |part: &Vec<u8>| String::from_utf8(part.clone());
            let key = parts.iter().map(part).collect::<Result<_, _>>();
            key.map(Some).map_err(|_| {
                Fault::new(Code::SourceGap, "the place to resume from holds a key that is none")
            })
        }
    }
}

/// Appends a row as a tuple of the target's columns.
pub(super) fn put_row(target: &Target, row: &Row, out: &mut Vec<u8>) -> Result<(), BadValue> {
    put_tuple_head(out, target.kinds.len());
    for (at, kind) in target.kinds.iter().enumerate() {
        let value = row.as_ref(at).ok_or(BadValue)?;
        if *value == mysql_async::Value::NULL {
            put_field(out, Field::Null);
        } else {
            put_sized(out, |out| put_queried(kind, value, out))?;
        }
    }
    Ok(())
}

/// The row that has this key now, as a tuple of the target's columns.
pub(super) async fn row_of(
    session: &mut Session,
    target: &Target,
    key: &KeyText,
) -> Result<Option<Vec<u8>>, Fault> {
    let doing = target.doing();
    let Some(row) = session.first_row(&doing, &target.row_query(key)).await? else {
        return Ok(None);
    };
    let mut tuple = Vec::new();
    put_row(target, &row, &mut tuple).map_err(|_| bad_row(&doing))?;
    Ok(Some(tuple))
}

fn bad_row(doing: &str) -> Fault {
    Fault::new(Code::Bug, format!("{doing}: a value is not what its column's type holds"))
}
