//! What all datasets that follow the log of one source share: the connections through which their
//! slots are watched, turns for strides, and how often the server commits.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::session::Session;
use crate::source::wakes::Commits;

/// Connections that all slots of a source are looked at through.
const WATCH_SESSIONS: usize = 4;

/// Datasets whose log is read in strides at a time while others commit often.
const STRIDES: usize = 2;

/// How long a dataset waits for others to end theirs.
const STRIDE_WAIT: Duration = Duration::from_secs(30);

/// What is shared, whichever dataset it is of: a connection for each would take as many from the
/// agency's own programs as there are datasets.
#[derive(Clone)]
pub struct Watchers {
    idle: Arc<Mutex<Vec<Session>>>,
    turns: Arc<Semaphore>,
    strides: Arc<Semaphore>,
    commits: Arc<Mutex<Commits>>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            idle: Arc::default(),
            turns: Arc::new(Semaphore::new(WATCH_SESSIONS)),
            strides: Arc::new(Semaphore::new(STRIDES)),
            commits: Arc::default(),
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

    /// The server has numbered so many transactions, all in all.
    pub(super) fn counted(&self, at: Instant, all: u64) {
        self.commits().counted(at, all);
    }

    /// How many it numbers a second; none before that is known.
    pub(super) fn commits_per_second(&self) -> f64 {
        self.commits().per_second().unwrap_or(0.0)
    }
}
