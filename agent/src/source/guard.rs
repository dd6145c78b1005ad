//! Pure: how hard the agency's database may be worked.
//!
//! Time comes in as an argument, so that a test can set it.

use std::time::Duration;

use phusa_protocol::time::Timestamp;

/// How hard one agency's database may be worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Rows a full read may take per second, all its workers together; 0 = no cap. Default 0.
    pub rows_per_second_max: u64,
    /// Chunks of a full read that may be under way at once, at least 1. Default 2.
    pub snapshot_workers: usize,
    /// Rows in one chunk of a full read, at least 1. Default 50,000.
    pub chunk_rows: u64,
    /// How long a statement may run before the server ends it; for reading rows, how long the
    /// server may stay silent before the agent does. Default 5 min.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock before the server ends it. Default 5 s.
    pub lock_timeout: Duration,
    /// How long to wait between two comparisons of all rows. Default 15 min.
    pub reconcile_interval: Duration,
    /// How long to wait between two looks for what was written. Default 10 s.
    pub watermark_interval: Duration,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            rows_per_second_max: 0,
            snapshot_workers: 2,
            chunk_rows: 50_000,
            statement_timeout: Duration::from_secs(300),
            lock_timeout: Duration::from_secs(5),
            reconcile_interval: Duration::from_secs(900),
            watermark_interval: Duration::from_secs(10),
        }
    }
}

/// A bucket of rows that refills at the capped rate and holds at most one second of it.
#[derive(Debug, Clone)]
pub struct RowBudget {
    rows_per_second: u64,
    /// Rows that may be taken at once, in millionths; below zero means waiting.
    millionths: i128,
    filled_at: Timestamp,
}

/// How many millionths make a row: microseconds times rows per second needs no rounding.
const MILLION: i128 = 1_000_000;

impl RowBudget {
    /// A full bucket of `rows_per_second`; 0 never makes anyone wait.
    #[must_use]
    pub fn new(rows_per_second: u64, now: Timestamp) -> Self {
        let millionths = i128::from(rows_per_second) * MILLION;
        Self { rows_per_second, millionths, filled_at: now }
    }

    /// Takes `rows` and says how long to wait before the next ones.
    #[must_use]
    pub fn take(&mut self, rows: u64, now: Timestamp) -> Duration {
        if self.rows_per_second == 0 {
            return Duration::ZERO;
        }
        let rate = i128::from(self.rows_per_second);
        let elapsed = i128::try_from(now.since(self.filled_at).as_micros()).unwrap_or(i128::MAX);
        self.filled_at = now;
        let refilled = self.millionths.saturating_add(elapsed.saturating_mul(rate));
        self.millionths = refilled.min(rate * MILLION) - i128::from(rows) * MILLION;
        let owed_micros = self.millionths.min(0).unsigned_abs() / rate.unsigned_abs();
        Duration::from_micros(u64::try_from(owed_micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    #[test]
    fn rows_beyond_the_cap_wait_and_idle_time_is_not_saved_up() {
        let mut budget = RowBudget::new(1_000, at(0));
        let mut check = |rows: u64, now: i64, wait_millis: u64| {
            let wait = budget.take(rows, at(now));
            assert_eq!(wait, Duration::from_millis(wait_millis), "{rows} rows at {now} ms");
        };
        check(1_000, 0, 0);
        check(500, 0, 500);
        check(0, 250, 250);
        check(0, 500, 0);
        check(1_000, 60_000, 0);
        check(3_000, 60_000, 3_000);
    }

    #[test]
    fn no_cap_never_waits() {
        assert_eq!(RowBudget::new(0, at(0)).take(u64::MAX, at(0)), Duration::ZERO);
    }
}
