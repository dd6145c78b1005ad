//! What all datasets that follow the log of one source share: the connections through which their
//! slots are watched, and how much following each commit would cost the work of others.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::session::Session;

/// Connections that all slots of a source are looked at through.
const WATCH_SESSIONS: usize = 4;

/// Datasets whose log is read in strides at a time while others commit often.
const STRIDES: usize = 2;

/// How long a dataset waits for others to end theirs.
const STRIDE_WAIT: Duration = Duration::from_secs(30);

/// Over how long commits are counted at least.
const COUNT_SPAN: Duration = Duration::from_secs(5);

/// What a commit costs the server's processor for each reader of its log that is woken by it
/// (measured: PERFORMANCE.md).
const WAKE: Duration = Duration::from_micros(50);

/// What is shared, whichever dataset it is of: a connection for each would take as many from the
/// agency's own programs as there are datasets.
#[derive(Clone)]
pub struct Watchers {
    idle: Arc<Mutex<Vec<Session>>>,
    turns: Arc<Semaphore>,
    strides: Arc<Semaphore>,
    commits: Arc<Mutex<Commits>>,
    readers: Arc<AtomicU32>,
}

/// One reader of the log, counted for as long as it lives.
pub(super) struct Reader {
    all: Arc<AtomicU32>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many transactions that write the server has ended of late.
#[derive(Debug, Clone, Copy, Default)]
struct Commits {
    counted: Option<(Instant, u64)>,
    per_second: f64,
}

impl Commits {
    /// So many were there at this moment, all in all.
    fn counted(&mut self, at: Instant, all: u64) {
        let Some((before, known)) = self.counted else {
            self.counted = Some((at, all));
            return;
        };
        let span = at.saturating_duration_since(before);
        if span >= COUNT_SPAN {
            let new = u32::try_from(all.saturating_sub(known)).unwrap_or(u32::MAX);
            self.per_second = f64::from(new) / span.as_secs_f64();
            self.counted = Some((at, all));
        }
    }

    /// The part of one processor that `readers` cost when each is woken by every commit.
    fn cost(self, readers: u32) -> f64 {
        self.per_second * WAKE.as_secs_f64() * f64::from(readers)
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            idle: Arc::default(),
            turns: Arc::new(Semaphore::new(WATCH_SESSIONS)),
            strides: Arc::new(Semaphore::new(STRIDES)),
            commits: Arc::default(),
            readers: Arc::default(),
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watchers({} idle)", self.idle().len())
    }
}

impl Watchers {
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one of the connections may be used, for as long as what is returned lives.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Closed by nobody.
        self.turns.acquire().await.ok()
    }

    /// Waits until one more dataset may read a stretch of the log, as long as what is returned lives.
    /// It may after a while in any case: another's spool can be full for days.
    pub(super) async fn stride(&self) -> Option<SemaphorePermit<'_>> {
        timeout(STRIDE_WAIT, self.strides.acquire()).await.ok()?.ok()
    }

    /// A connection that nobody uses, if there is one.
    pub(super) fn take(&self) -> Option<Session> {
        self.idle().pop()
    }

    /// Lets others use a connection that works.
    pub(super) fn give_back(&self, session: Session) {
        self.idle().push(session);
    }

    /// One more reader of the log.
    pub(super) fn join(&self) -> Reader {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Reader { all: Arc::clone(&self.readers) }
    }

    /// The server has numbered so many transactions, all in all.
    pub(super) fn counted(&self, at: Instant, all: u64) {
        self.commits().counted(at, all);
    }

    /// The part of one processor of the server that its readers cost when every commit wakes each.
    pub(super) fn cost(&self) -> f64 {
        self.commits().cost(self.readers.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_over_some_seconds_and_cost_each_reader_a_wake() {
        let (watchers, begun) = (Watchers::default(), Instant::now());
        let check = |seconds: u64, all: u64, cost: f64| {
            watchers.counted(begun + Duration::from_secs(seconds), all);
            assert!((watchers.cost() - cost).abs() < 1e-9, "{seconds}: {}", watchers.cost());
        };
        let one = watchers.join();
        check(0, 5_000, 0.0);
        // Too soon to say.
        check(1, 9_000, 0.0);
        check(10, 15_000, 0.05);
        let two = watchers.join();
        check(20, 25_000, 0.1);
        drop((one, two));
        check(30, 35_000, 0.0);
        let _one = watchers.clone().join();
        // Another server, whose numbers are smaller.
        check(40, 10, 0.0);
        check(50, 20_010, 0.1);
    }
}
