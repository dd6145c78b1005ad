//! Holds every read of many rows to the load guard: rows a second, hours, and giving way to a
//! server that is slow for everyone. What all workers of a read share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio::time::{Instant, sleep};

use super::guard::{Guard, Hours, Pace, RowBudget};

/// How long at most until the clock is looked at again: it may have been set.
const HOURS_LOOK_MAX: Duration = Duration::from_secs(60);

/// A connection that can be asked whether the server is there.
pub(super) trait Answers {
    /// Returns when the server has answered a statement that costs it nothing.
    fn answer(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;
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
}

impl Throttle {
    pub(super) fn new(guard: &Guard, table: String) -> Self {
        Self {
            table,
            hours: guard.allowed_hours.clone(),
            latency_max: guard.latency_max,
            budget: Mutex::new(RowBudget::new(guard.rows_per_second_max, Timestamp::now())),
            pace: Mutex::new(Pace::default()),
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
            sleep(wait).await;
        }
    }

    /// Pauses where the server is slow for everyone.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn give_way(&self, server: &mut impl Answers) -> Result<(), Fault> {
        let mut latency = answered_after(server).await?;
        if latency > self.latency_max {
            // One late answer may be this machine's own doing.
            latency = latency.min(answered_after(server).await?);
        }
        let pause = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.after(latency, self.latency_max)
        };
        if !pause.is_zero() {
            let (seconds, table) = (pause.as_secs_f64(), &self.table);
            tracing::info!(seconds, "The source is slow; reading {table} pauses");
            sleep(pause).await;
        }
        Ok(())
    }
}

async fn answered_after(server: &mut impl Answers) -> Result<Duration, Fault> {
    let asked = Instant::now();
    server.answer().await?;
    Ok(asked.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes this long to answer.
    struct Slow(Duration);

    impl Answers for Slow {
        async fn answer(&mut self) -> Result<(), Fault> {
            sleep(self.0).await;
            Ok(())
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
            throttle.give_way(&mut Slow(Duration::from_millis(latency_ms))).await.unwrap();
            assert_eq!(asked.elapsed() >= Duration::from_secs(1), pauses, "{latency_ms}");
        }
    }
}
