//! Capture with nothing but SELECT: all rows are read now and then in key order and compared with
//! an index of what the warehouse has; only differences travel. Works on any replica and for any
//! table with a unique key.
//!
//! An engine gives [`KeyOrder`] and no more; this module keeps the index ([`index`]), compares
//! ([`piece`], pure), and hands on blocks ([`book`]). Ranges are cut by rows and bytes, so memory
//! does not depend on the table. What was handed on before a crash is known exactly: nothing is
//! sent twice and nothing is forgotten.
//!
//! With a watermark the engine also tells, between two comparisons, which rows were written since a
//! moment of its own count; what was removed only the next comparison finds.

mod piece;
mod index;
mod book;

use std::time::Duration;

use bytes::Bytes;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use self::book::{Book, Gathered};
use super::guard::Guard;
use super::outbox::Outbox;
use super::settings::{Keep, Limits};
use super::sharing::Work;
use super::snapshot::KeyText;
use super::throttle::{Answers, Throttle, Turn};
use super::{Intake, Progress, Start};

/// Rows that wait between engine and comparison.
pub(super) const ROWS_WAITING: usize = 1_024;

/// Rows sent since the last comparison above which the next one is not waited for: each of them is
/// held in memory.
const RECENT_ROWS_MAX: usize = 200_000;

/// A look for what was written is followed by a pause at least this many times as long.
const PAUSE_FACTOR: u32 = 20;

/// Rows with a key after `after`, up to and with `upto`; the first `rows_max` of them.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) after: Option<KeyText>,
    pub(super) upto: Option<KeyText>,
    pub(super) rows_max: u64,
}

/// Where an engine puts the rows it reads.
#[derive(Debug, Clone)]
pub(super) struct Rows(mpsc::Sender<Bytes>);

impl Rows {
    /// Takes the tuple of one row; false when no more rows are wanted, which is not a fault.
    pub(super) async fn take(&self, row: Bytes) -> bool {
        self.0.send(row).await.is_ok()
    }
}

/// What an engine gives so that its tables can be compared.
///
/// It alone says what follows what: rows of a range come in the order of the server's own key
/// comparison, and a range of two keys holds what the server thinks lies between them.
pub(super) trait KeyOrder: Send {
    /// Stands for the columns, their types, and everything on which the order of keys depends, such
    /// as collations and their versions. Not for the server: another one with the same rows is as
    /// good. A change means that all is read anew in a new epoch. Proves again that the login cannot
    /// write.
    fn identify(&mut self) -> impl Future<Output = Result<String, Fault>> + Send;

    /// Reads the rows of a range, as tuples of the selection's columns.
    fn read(&mut self, range: &Range, rows: Rows)
    -> impl Future<Output = Result<(), Fault>> + Send;

    /// Returns when the server has answered a statement that costs it nothing.
    fn answers(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What others have the server do; `None` where it does not tell.
    fn work(&mut self) -> impl Future<Output = Result<Option<Work>, Fault>> + Send;

    /// The text of a key whose parts have these bytes.
    fn text_of(&mut self, key: &[Vec<u8>]) -> impl Future<Output = Result<KeyText, Fault>> + Send;

    /// Reads every row that may have become visible since `mark`, and returns the mark for the next
    /// time. Without a mark it reads none. `None` when it cannot tell, because the server is not the
    /// one that gave the mark or has counted too far: then all rows are compared.
    fn written_since(
        &mut self,
        mark: Option<&str>,
        rows: Rows,
    ) -> impl Future<Output = Result<Option<String>, Fault>> + Send;
}

/// What is followed, and how.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) dataset: DatasetId,
    /// The table as people write it.
    pub(super) table: String,
    pub(super) keep: Keep,
    pub(super) columns: std::sync::Arc<[super::Column]>,
    /// The contract's key: places in `columns`, in its order.
    pub(super) key: Vec<usize>,
    /// The unique key along which ranges are cut: places in `columns`, in the index's order.
    pub(super) walk: Vec<usize>,
    /// Whether rows written are looked for between two comparisons.
    pub(super) watermark: bool,
    pub(super) limits: Limits,
    pub(super) guard: Guard,
    pub(super) rows_estimated: u64,
}

/// Follows a table until stopped.
pub(super) async fn follow<E: KeyOrder>(
    mut engine: E,
    job: Job,
    start: Start,
    intake: Intake,
) -> Result<(), Fault> {
    let identity = engine.identify().await?;
    let throttle = Throttle::new(&job.guard, job.table.clone());
    let outbox = Outbox::new(intake.blocks, intake.durable, std::sync::Arc::clone(&job.columns));
    let (guard, watermark) = (job.guard.clone(), job.watermark);
    let book = Book::open(job, start, identity, outbox)?;
    let progress = intake.progress;
    let turn = Turn::default();
    Follower { engine, book, guard, watermark, throttle, turn, progress }.run().await
}

/// The engine as one that answers.
struct Asking<'e, E>(&'e mut E);

impl<E: KeyOrder> Answers for Asking<'_, E> {
    async fn answer(&mut self) -> Result<(), Fault> {
        self.0.answers().await
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        self.0.work().await
    }
}

struct Follower<E> {
    engine: E,
    book: Book,
    guard: Guard,
    watermark: bool,
    throttle: Throttle,
    turn: Turn,
    progress: watch::Sender<Progress>,
}

impl<E: KeyOrder> Follower<E> {
    async fn run(&mut self) -> Result<(), Fault> {
        self.book.tell_live().await?;
        loop {
            self.throttle.wait_for_hours().await;
            // Before anything is compared, so that what is written meanwhile is looked for.
            let mark = if self.watermark { self.mark().await? } else { None };
            let identity = self.engine.identify().await?;
            if identity != self.book.identity() {
                let what = "columns, or the order of keys, are not what they were";
                return Err(Fault::new(Code::SourceGap, what));
            }
            let whole = self.compare_all(mark.is_some()).await?;
            if whole && self.book.take_deferred() {
                continue;
            }
            let interval = if whole { self.guard.reconcile_interval } else { Duration::ZERO };
            let until = Instant::now() + interval.max(self.throttle.closed_for());
            match mark {
                Some(mark) => self.look_until(until, mark).await?,
                None => self.pause(until, interval).await,
            }
        }
    }

    /// Compares all rows, within the hours in which that may be. Where rows written are looked for
    /// meanwhile and the hours end, what was compared is left behind, which is false, so that looking
    /// goes on; without that, it waits for the next of them.
    async fn compare_all(&mut self, looks: bool) -> Result<bool, Fault> {
        let mut read = 0;
        while self.book.has_ranges_left() {
            if !self.throttle.is_open() {
                self.turn.end();
            }
            if looks && !self.book.is_reading() && !self.throttle.is_open() {
                self.book.leave_pass();
                return Ok(false);
            }
            self.throttle.wait_for_hours().await;
            self.give_way().await?;
            let rows = self.compare_next().await?;
            read += rows;
            let estimated = self.book.rows_estimated().max(read);
            self.progress.send_modify(|progress| {
                (progress.snapshot_rows, progress.snapshot_rows_estimated) = (read, estimated);
            });
            self.throttle.spend(rows).await;
        }
        self.turn.end();
        self.book.end_pass().await?;
        self.progress.send_modify(|progress| {
            progress.snapshot_done = true;
            progress.passes = Some(progress.passes.unwrap_or(0) + 1);
        });
        Ok(true)
    }

    /// Compares the next range, or as much of it as is taken at once; returns the rows read.
    async fn compare_next(&mut self) -> Result<u64, Fault> {
        let (range, known) = self.book.next_range(self.guard.chunk_rows)?;
        let mut gathered = Gathered::new(&self.book, &known);
        let (sender, mut rows) = mpsc::channel(ROWS_WAITING);
        let read = self.engine.read(&range, Rows(sender));
        let take = async {
            while let Some(row) = rows.recv().await {
                if !gathered.row(row)? {
                    break;
                }
            }
            drop(rows);
            Ok(())
        };
        let (read, taken) = tokio::join!(read, take);
        let taken: Result<(), Fault> = taken;
        read.and(taken)?;
        let count = gathered.rows();
        let compared = gathered.finish(&range)?;
        let cut = match compared.cut_after() {
            Some(key) => Some(self.engine.text_of(key).await?),
            None => None,
        };
        self.throttle.aside(self.book.settle_range(compared, cut)).await?;
        Ok(count)
    }

    async fn give_way(&mut self) -> Result<(), Fault> {
        self.throttle.give_way(&mut self.turn, &mut Asking(&mut self.engine)).await
    }

    async fn mark(&mut self) -> Result<Option<String>, Fault> {
        let (sender, _nobody) = mpsc::channel(1);
        self.engine.written_since(None, Rows(sender)).await
    }

    /// Looks for what was written until it is time to compare all rows, or until only that helps.
    async fn look_until(&mut self, until: Instant, mark: String) -> Result<(), Fault> {
        let (mut mark, mut took) = (mark, Duration::ZERO);
        while self.book.recent_rows() <= RECENT_ROWS_MAX {
            let least = self.guard.watermark_interval;
            let pause = took.saturating_mul(PAUSE_FACTOR).clamp(least, least.max(PAUSE_MAX));
            self.pause(until, pause).await;
            if Instant::now() >= until {
                return Ok(());
            }
            self.give_way().await?;
            let begun = Instant::now();
            let looked = self.look(&mark).await?;
            self.turn.end();
            match looked {
                Some(next) => mark = next,
                None => return Ok(()),
            }
            took = begun.elapsed();
        }
        Ok(())
    }

    async fn look(&mut self, mark: &str) -> Result<Option<String>, Fault> {
        let (sender, mut rows) = mpsc::channel(ROWS_WAITING);
        let (engine, book, throttle) = (&mut self.engine, &mut self.book, &self.throttle);
        let read = engine.written_since(Some(mark), Rows(sender));
        let take = async {
            while let Some(row) = rows.recv().await {
                book.written(row).await?;
                throttle.spend(1).await;
            }
            book.settle_written().await
        };
        let (read, taken) = tokio::join!(read, take);
        taken.and(read)
    }

    /// Waits for `span`, but not beyond `until`.
    async fn pause(&self, until: Instant, span: Duration) {
        let span = span.min(until.saturating_duration_since(Instant::now()));
        self.progress.send_modify(|progress| progress.poll_pause = Some(span));
        sleep(span).await;
    }
}

/// However long a look took, the next one is not further away than this.
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
