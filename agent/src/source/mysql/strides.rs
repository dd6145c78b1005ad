//! Pure: when a reader of the log rests, so that the server need not wake its sender at every commit.
//!
//! A sender whose reader does not read fills what lies between them and then sleeps, however often
//! others commit; afterwards it sends in bulk. A reader rests only where it stood at the end of the
//! log a moment ago, so it falls behind by little more than a rest.

use std::time::Duration;

use tokio::time::Instant;

use super::place::Position;
use crate::source::throttle::Turns;
use crate::source::wakes::{CALM_FACTOR, Commits, Follows};

/// How long a rest is.
pub(super) const REST: Duration = Duration::from_secs(10);

/// How soon a server that did not say where its log ends is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it comes.
    Live,
    /// As it comes, though there were many transactions: they may have been a backlog.
    Doubtful,
    /// Rests in between.
    Strides,
}

/// When one reader rests.
#[derive(Debug)]
pub(super) struct Strides {
    turns: Turns,
    _counted: Follows,
    way: Way,
    commits: Commits,
    /// Transactions that came so far, whatever they are about.
    pub(super) came: u64,
    /// The end of the log as it was a moment ago, while it is being reached.
    pub(super) end: Option<Position>,
    asked_at: Option<Instant>,
}

impl Strides {
    pub(super) fn new(turns: &Turns) -> Self {
        let (turns, counted) = (turns.clone(), turns.follow());
        let (way, commits) = (Way::Live, Commits::default());
        Self { turns, _counted: counted, way, commits, came: 0, end: None, asked_at: None }
    }

    /// Whether the log is read in strides.
    pub(super) fn is_on(&self) -> bool {
        self.way == Way::Strides
    }

    /// Whether it has to be known where the log ends.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        if self.end.is_some() {
            return false;
        }
        if self.way != Way::Strides {
            self.commits.counted(now, self.came);
            let Some(commits) = self.commits.per_second() else { return false };
            if !self.turns.forbid_waking(commits) {
                self.way = Way::Live;
                return false;
            }
        }
        // A server that does not say it is asked again later.
        let asks = self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN);
        if asks {
            self.asked_at = Some(now);
        }
        asks
    }

    /// The reader stands where the log ended a moment ago; whether it rests now.
    pub(super) fn reached(&mut self, now: Instant) -> bool {
        self.end = None;
        let asked_at = self.asked_at.take();
        // The reader is slower than it seemed: what it has not read yet comes first.
        let late = asked_at.is_some_and(|at| now.saturating_duration_since(at) > REST);
        match self.way {
            Way::Doubtful if late => self.commits = Commits::default(),
            Way::Strides if late => return false,
            // Counted anew: what came so far may have waited for it.
            Way::Live => (self.way, self.commits) = (Way::Doubtful, Commits::default()),
            Way::Doubtful => self.way = Way::Strides,
            Way::Strides => {
                self.commits.counted(now, self.came);
                let commits = self.commits.per_second().unwrap_or(0.0);
                if !self.turns.forbid_waking(commits * CALM_FACTOR) {
                    self.way = Way::Live;
                }
            }
        }
        self.is_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transactions a second for so many seconds; how many seconds of them were rests.
    fn seconds_of_rest(strides: &mut Strides, now: &mut Instant, rate: u64, seconds: u64) -> u64 {
        let (until, mut rests) = (*now + Duration::from_secs(seconds), 0);
        while *now < until {
            *now += Duration::from_secs(1);
            strides.came += rate;
            if strides.asks(*now) {
                strides.end = Some(Position::default());
            }
            if strides.end.is_some() && strides.reached(*now) {
                *now += REST;
                strides.came += rate * REST.as_secs();
                rests += REST.as_secs();
            }
        }
        rests
    }

    #[test]
    fn a_reader_rests_while_there_are_many_commits_and_only_then() {
        let turns = Turns::new(5);
        let (mut strides, mut now) = (Strides::new(&turns), Instant::now());
        let rests = |strides: &mut Strides, now: &mut Instant, rate| {
            seconds_of_rest(strides, now, rate, 120)
        };
        assert_eq!(rests(&mut strides, &mut now, 900), 0);
        assert!(rests(&mut strides, &mut now, 1_200) >= 80);
        // Once it rests, it goes on with it down to half as many.
        assert!(rests(&mut strides, &mut now, 600) >= 80);
        assert!(rests(&mut strides, &mut now, 400) <= 20);
        assert_eq!(rests(&mut strides, &mut now, 900), 0);
        // Two are woken twice as often.
        let _other = turns.follow();
        assert!(rests(&mut strides, &mut now, 600) >= 80);
    }

    #[test]
    fn a_backlog_is_not_taken_for_many_commits() {
        let (mut strides, mut now) = (Strides::new(&Turns::new(5)), Instant::now());
        for _ in 0..20 {
            now += Duration::from_secs(1);
            strides.came += 30_000;
            if strides.asks(now) {
                strides.end = Some(Position::default());
            }
        }
        assert!(strides.end.is_some());
        assert!(!strides.reached(now), "the end of the backlog");
        assert_eq!(seconds_of_rest(&mut strides, &mut now, 100, 60), 0);
    }

    #[test]
    fn whoever_may_take_everything_never_rests() {
        let (mut strides, mut now) = (Strides::new(&Turns::new(100)), Instant::now());
        assert_eq!(seconds_of_rest(&mut strides, &mut now, 50_000, 60), 0);
    }
}
