//! How much it costs others that a server wakes whoever follows its log at every commit, and when a
//! follower had better read it in strides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What a commit costs the server's processor for each reader of its log that is woken by it
/// (measured: PERFORMANCE.md).
const WAKE: Duration = Duration::from_micros(50);

/// Below so many commits a second strides are not cheaper: a stride has a price of its own, and
/// decodes some of the log again.
const COMMITS_MIN: f64 = 200.0;

/// Over how long commits are counted at least.
const COUNT_SPAN: Duration = Duration::from_secs(5);

/// It is calm again when so many times as many commits would not be too many.
pub(super) const CALM_FACTOR: f64 = 2.0;

/// How many transactions a server has ended of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Commits {
    counted: Option<(Instant, u64)>,
    per_second: Option<f64>,
}

impl Commits {
    /// So many were there at this moment, all in all.
    pub(super) fn counted(&mut self, at: Instant, all: u64) {
        let Some((before, known)) = self.counted else {
            self.counted = Some((at, all));
            return;
        };
        let span = at.saturating_duration_since(before);
        if span >= COUNT_SPAN {
            let new = u32::try_from(all.saturating_sub(known)).unwrap_or(u32::MAX);
            self.per_second = Some(f64::from(new) / span.as_secs_f64());
            self.counted = Some((at, all));
        }
    }

    /// How many a second; `None` before it is known.
    pub(super) fn per_second(self) -> Option<f64> {
        self.per_second
    }
}

/// All who follow the log of one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<AtomicU32>);

/// One of them, counted for as long as it lives.
#[derive(Debug)]
pub(super) struct Follows(Followers);

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Followers {
    /// One more.
    pub(super) fn join(&self) -> Follows {
        self.0.fetch_add(1, Ordering::Relaxed);
        Follows(self.clone())
    }

    /// The part of one processor that waking all of them takes, so far as strides would take less.
    pub(super) fn cost(&self, commits_per_second: f64) -> f64 {
        if commits_per_second < COMMITS_MIN {
            return 0.0;
        }
        commits_per_second * WAKE.as_secs_f64() * f64::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_over_some_seconds() {
        let (mut commits, begun) = (Commits::default(), Instant::now());
        let mut check = |seconds: u64, all: u64, per_second: Option<f64>| {
            commits.counted(begun + Duration::from_secs(seconds), all);
            assert_eq!(commits.per_second(), per_second, "{seconds}");
        };
        check(0, 5_000, None);
        // Too soon to say.
        check(1, 9_000, None);
        check(10, 15_000, Some(1_000.0));
        check(20, 15_000, Some(0.0));
        // Another server, whose numbers are smaller.
        check(30, 10, Some(0.0));
        check(40, 20_010, Some(2_000.0));
    }

    #[test]
    fn every_follower_is_woken_by_every_commit() {
        let all = Followers::default();
        let check = |cost: f64| assert!((all.cost(1_000.0) - cost).abs() < 1e-9, "{cost}");
        check(0.0);
        let (one, two) = (all.join(), all.clone().join());
        check(0.1);
        drop(one);
        check(0.05);
        assert_eq!(all.cost(199.0), 0.0);
        drop(two);
        check(0.0);
    }
}
