//! Named points between durable steps at which a test may kill the hub as a power cut would.
//!
//! `PHUSA_FAILPOINT=<name>` or `<name>:<n>` kills this process with SIGKILL when the point is
//! passed for the first or the n-th time. Without the variable a point is one relaxed load.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every point, in the order in which a batch passes them, its log entry last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The batch is checked; nothing is in the database yet.
    BeforePrepare,
    /// Its rows are copied, not merged.
    AfterPrepare,
    /// Its rows are in the dataset's table, uncommitted.
    AfterFinish,
    /// Its log entry is inserted, uncommitted.
    AfterEntry,
    /// Everything of it is written; only the commit is missing.
    BeforeCommit,
    /// It is committed; the agent has no answer yet.
    AfterCommit,
    /// Numbers and links are written; only their commit is missing.
    SequencerBeforeCommit,
    /// The log's tiles are durable; the checkpoint that names them is not written.
    LogTilesDurable,
    /// The checkpoint is published; the database does not know of it yet.
    LogPublished,
}

impl Point {
    /// Every point, for tests that loop over them.
    pub const ALL: [Self; 9] = [
        Self::BeforePrepare,
        Self::AfterPrepare,
        Self::AfterFinish,
        Self::AfterEntry,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::SequencerBeforeCommit,
        Self::LogTilesDurable,
        Self::LogPublished,
    ];

    /// The name in `PHUSA_FAILPOINT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforePrepare => "before_prepare",
            Self::AfterPrepare => "after_prepare",
            Self::AfterFinish => "after_finish",
            Self::AfterEntry => "after_entry",
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::SequencerBeforeCommit => "sequencer_before_commit",
            Self::LogTilesDurable => "log_tiles_durable",
            Self::LogPublished => "log_published",
        }
    }
}

struct Armed {
    point: Option<Point>,
    passings_left: AtomicU64,
}

static ARMED: LazyLock<Armed> = LazyLock::new(|| {
    let text = std::env::var("PHUSA_FAILPOINT").unwrap_or_default();
    let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
    Armed {
        point: Point::ALL.into_iter().find(|point| point.name() == name),
        passings_left: AtomicU64::new(count.parse().unwrap_or(1)),
    }
});

/// Dies here, if the environment asks for it.
pub fn pass(point: Point) {
    if ARMED.point == Some(point) && ARMED.passings_left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let own = rustix::process::getpid();
        let _killed = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        std::process::abort();
    }
}
