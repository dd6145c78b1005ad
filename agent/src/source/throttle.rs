//! Holds every read of many rows to the load guard: rows a second, hours, and giving way to a server
//! that is slow or that others have work. What all workers of a read share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::guard::{Guard, Hours, Pace, RowBudget, latency_limit};
use super::sharing::{Sharing, Work, rest_after};
use super::wakes::{Followers, Follows};

/// How long at most until the clock is looked at again: it may have been set.
const HOURS_LOOK_MAX: Duration = Duration::from_secs(60);

/// A stretch of reading that is shorter is joined with the next: looking around costs too.
const STRETCH_MIN: Duration = Duration::from_millis(100);

/// How often is looked where somebody is at work, and how far apart.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A connection that can be asked how the server is.
pub(super) trait Answers {
    /// Returns when the server has answered a statement that costs it nothing.
    fn answer(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What others have the server do; `None` where it does not tell this login.
    fn work(&mut self) -> impl Future<Output = Result<Option<Work>, Fault>> + Send;
}

/// What all readers of one source share, whichever table they read: while others have it work, one of
/// them reads at a time, for a share of the time.
#[derive(Debug, Clone)]
pub struct Turns {
    sharing: Arc<Mutex<Sharing>>,
    one: Arc<Semaphore>,
    followers: Followers,
}

impl Turns {
    /// Others may lose `loss_max_percent` of what they do; 100 is everything.
    #[must_use]
    pub fn new(loss_max_percent: u32) -> Self {
        let sharing = Arc::new(Mutex::new(Sharing::new(loss_max_percent)));
        Self { sharing, one: Arc::new(Semaphore::new(1)), followers: Followers::default() }
    }

    /// One more reader follows the log.
    pub(super) fn follow(&self) -> Follows {
        self.followers.join()
    }

    /// Whether waking all who follow the log at so many commits a second costs others more than they
    /// may lose, were they to need the whole of a processor.
    pub(super) fn forbid_waking(&self, commits_per_second: f64) -> bool {
        let loss_max = self.with(|sharing| sharing.loss_max());
        loss_max < 1.0 && self.followers.cost(commits_per_second) > loss_max
    }

    fn with<T>(&self, act: impl FnOnce(&mut Sharing) -> T) -> T {
        act(&mut self.sharing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One worker's stretch of reading, from one giving way to the next.
#[derive(Debug, Default)]
pub(super) struct Turn {
    begun: Option<Begun>,
    /// Held while others are at work.
    alone: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    /// What all workers had spent aside by then, in microseconds.
    aside: u64,
    work: Work,
}

impl Turn {
    /// Lets others read: this worker will not for a while.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// The load guard at work.
#[derive(Debug)]
pub(super) struct Throttle {
    /// What is read, `schema.table`, for the log.
    table: String,
    hours: Hours,
    latency_max: Duration,
    budget: Mutex<RowBudget>,
    pace: Mutex<Pace>,
    /// How long the server took to answer before anything was read.
    unburdened: Mutex<Option<Duration>>,
    turns: Turns,
    /// Microseconds in which workers waited for something else than the server.
    aside: AtomicU64,
    /// Whether the log was told that others are at work.
    shares: Mutex<bool>,
}

impl Throttle {
    pub(super) fn new(guard: &Guard, table: String) -> Self {
        Self {
            table,
            hours: guard.allowed_hours.clone(),
            latency_max: guard.latency_max,
            budget: Mutex::new(RowBudget::new(guard.rows_per_second_max, Timestamp::now())),
            pace: Mutex::new(Pace::default()),
            unburdened: Mutex::new(None),
            turns: guard.turns.clone(),
            aside: AtomicU64::new(0),
            shares: Mutex::new(false),
        }
    }

    /// How long it is until all rows may be read; zero when they may.
    pub(super) fn closed_for(&self) -> Duration {
        self.hours.closed_for(Timestamp::now())
    }

    /// Whether this is an hour in which all rows may be read.
    pub(super) fn is_open(&self) -> bool {
        self.closed_for().is_zero()
    }

    /// Waits for an hour in which all rows may be read.
    pub(super) async fn wait_for_hours(&self) {
        let closed = || self.closed_for();
        let table = &self.table;
        if !closed().is_zero() {
            let minutes = closed().as_secs().div_ceil(60);
            tracing::info!(minutes, "Reading {table} waits {minutes} min for allowed_hours");
        }
        while !closed().is_zero() {
            sleep(closed().min(HOURS_LOOK_MAX)).await;
        }
    }

    /// Counts rows that were read, and waits until the next ones may be.
    pub(super) async fn spend(&self, rows: u64) {
        let wait = {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.take(rows, Timestamp::now())
        };
        if !wait.is_zero() {
            self.aside(sleep(wait)).await;
        }
    }

    /// Waits for something that is not the server's doing, such as a full spool.
    pub(super) async fn aside<T>(&self, waits: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = waits.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.aside.fetch_add(micros, Ordering::Relaxed);
        result
    }

    /// Pauses where the server is slow for everyone, and rests where others have it work: called
    /// before each stretch of reading, with a connection that is not busy with the rows.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn give_way(
        &self,
        turn: &mut Turn,
        server: &mut impl Answers,
    ) -> Result<(), Fault> {
        let read = turn.begun.map(|begun| self.read_since(begun));
        if read.is_some_and(|read| read < STRETCH_MIN) {
            return Ok(());
        }
        self.give_way_to_slowness(turn, server).await?;
        let Some(work) = self.look_around(server).await? else { return Ok(()) };
        if let (Some(begun), Some(read), true) = (turn.begun, read, turn.alone.is_some()) {
            self.turns.with(|sharing| sharing.read(read, done_between(begun.work, work)));
        }
        let share = self.turns.with(Sharing::next_share);
        self.say(share);
        if let Some(read) = read {
            self.rest(rest_after(read, share), turn, server).await?;
        }
        // Given back first, so that whoever waits is next.
        turn.end();
        let work = if share < 1.0 {
            turn.alone = Arc::clone(&self.turns.one).acquire_owned().await.ok();
            server.work().await?.unwrap_or_default()
        } else {
            work
        };
        let aside = self.aside.load(Ordering::Relaxed);
        turn.begun = Some(Begun { at: Instant::now(), aside, work });
        Ok(())
    }

    /// How long rows were read since, without what was spent aside.
    fn read_since(&self, begun: Begun) -> Duration {
        let aside = self.aside.load(Ordering::Relaxed).saturating_sub(begun.aside);
        begun.at.elapsed().saturating_sub(Duration::from_micros(aside))
    }

    /// Notes how many are at work: one look, or the average of a few where that finds somebody.
    async fn look_around(&self, server: &mut impl Answers) -> Result<Option<Work>, Fault> {
        let Some(first) = server.work().await? else { return Ok(None) };
        let (mut busy, mut looks) = (first.busy, 1);
        while first.busy > 0 && looks < LOOKS {
            sleep(LOOK_PAUSE).await;
            busy += server.work().await?.map_or(0, |work| work.busy);
            looks += 1;
        }
        self.turns.with(|sharing| sharing.found(f64::from(busy) / f64::from(looks)));
        Ok(Some(first))
    }

    /// Reads nothing for a while; what others get done in it counts where nobody else reads.
    async fn rest(
        &self,
        span: Duration,
        turn: &Turn,
        server: &mut impl Answers,
    ) -> Result<(), Fault> {
        if span.is_zero() {
            return Ok(());
        }
        let before = server.work().await?.unwrap_or_default();
        let begun = Instant::now();
        sleep(span).await;
        let after = server.work().await?.unwrap_or_default();
        if turn.alone.is_some() {
            let done = done_between(before, after);
            self.turns.with(|sharing| sharing.rested(begun.elapsed(), done));
        }
        Ok(())
    }

    /// Tells the log when giving way begins, and when it ends.
    fn say(&self, share: f64) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if *shares == (share < 1.0) {
            return;
        }
        *shares = share < 1.0;
        let (table, percent) = (&self.table, (share * 100.0).round());
        if *shares {
            tracing::info!(
                percent,
                "Others have the source work; reading {table} takes {percent} % of the time"
            );
        } else {
            tracing::info!(
                "Nobody else has the source work; reading {table} goes on without rests"
            );
        }
    }

    /// Pauses where the server is slow for everyone.
    async fn give_way_to_slowness(
        &self,
        turn: &mut Turn,
        server: &mut impl Answers,
    ) -> Result<(), Fault> {
        let mut latency = answered_after(server).await?;
        let limit = {
            let mut unburdened = self.unburdened.lock().unwrap_or_else(PoisonError::into_inner);
            latency_limit(*unburdened.get_or_insert(latency), self.latency_max)
        };
        if latency > limit {
            // One late answer may be this machine's own doing.
            latency = latency.min(answered_after(server).await?);
        }
        let pause = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.after(latency, limit)
        };
        if !pause.is_zero() {
            turn.alone = None;
            let (seconds, table) = (pause.as_secs_f64(), &self.table);
            tracing::info!(seconds, "The source is slow; reading {table} pauses");
            sleep(pause).await;
        }
        Ok(())
    }
}

/// What was done between two looks; nothing where that is not counted.
fn done_between(before: Work, after: Work) -> u64 {
    let (before, after) = (before.done.unwrap_or(0), after.done.unwrap_or(0));
    after.saturating_sub(before)
}

async fn answered_after(server: &mut impl Answers) -> Result<Duration, Fault> {
    let asked = Instant::now();
    server.answer().await?;
    Ok(asked.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes this long to answer, with so many others at work.
    struct Busy(Duration, Option<u32>);

    impl Answers for Busy {
        async fn answer(&mut self) -> Result<(), Fault> {
            sleep(self.0).await;
            Ok(())
        }

        async fn work(&mut self) -> Result<Option<Work>, Fault> {
            Ok(self.1.map(|busy| Work { busy, done: None }))
        }
    }

    #[tokio::test]
    async fn a_server_that_is_slow_to_answer_is_given_a_pause_and_a_quick_one_is_not() {
        for (latency_ms, latency_max_ms, pauses) in
            [(30, 5, true), (0, 1_000, false), (30, 0, false)]
        {
            let latency_max = Duration::from_millis(latency_max_ms);
            let guard = Guard { latency_max, ..Guard::default() };
            let throttle = Throttle::new(&guard, "d.t".to_owned());
            let asked = Instant::now();
            let mut server = Busy(Duration::from_millis(latency_ms), None);
            throttle.give_way(&mut Turn::default(), &mut server).await.unwrap();
            assert_eq!(asked.elapsed() >= Duration::from_secs(1), pauses, "{latency_ms}");
        }
    }

    /// How long it takes two readers to read two stretches of 0.12 s each beside so many others.
    async fn two_readers(others: Option<u32>) -> Duration {
        let throttle = Throttle::new(&Guard::default(), "d.t".to_owned());
        let reader = async || {
            let (mut turn, mut server) = (Turn::default(), Busy(Duration::ZERO, others));
            for _ in 0..2 {
                throttle.give_way(&mut turn, &mut server).await.unwrap();
                sleep(Duration::from_millis(120)).await;
                throttle.aside(sleep(Duration::from_millis(20))).await;
            }
        };
        let begun = Instant::now();
        tokio::join!(reader(), reader());
        begun.elapsed()
    }

    #[tokio::test]
    async fn readers_beside_other_work_take_turns_and_rest_and_without_it_neither() {
        for idle in [None, Some(0)] {
            let took = two_readers(idle).await;
            assert!(took < Duration::from_millis(700), "{took:?}");
        }
        // Beside four, a quarter of the time: one reads, rests three times as long, the other does
        // the same, and each reads once more.
        let took = two_readers(Some(4)).await;
        assert!(took >= Duration::from_millis(1_200), "{took:?}");
        // Beside one, a tenth.
        let took = two_readers(Some(1)).await;
        assert!(took >= Duration::from_millis(2_600), "{took:?}");
    }

    #[tokio::test]
    async fn a_turn_that_ends_lets_others_read() {
        let throttle = Throttle::new(&Guard::default(), "d.t".to_owned());
        let mut server = Busy(Duration::ZERO, Some(4));
        let (mut one, mut other) = (Turn::default(), Turn::default());
        throttle.give_way(&mut one, &mut server).await.unwrap();
        let waits = throttle.give_way(&mut other, &mut server);
        assert!(tokio::time::timeout(Duration::from_millis(300), waits).await.is_err());
        one.end();
        throttle.give_way(&mut other, &mut server).await.unwrap();
    }
}
