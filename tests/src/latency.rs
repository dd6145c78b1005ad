//! How long a committed change takes to be visible at the other end: single-row transactions at a
//! fixed rate, and a reader that asks again and again.

use std::time::{Duration, Instant};

use futures_util::future::try_join;
use serde::Serialize;
use tokio_postgres::{Client, Error};

/// Between two looks at the target.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// How long the last change may take.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// How many transactions.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Transactions a second.
    pub per_second: u64,
    /// For how long.
    pub seconds: u64,
}

/// Milliseconds from commit to visible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Transactions measured.
    pub transactions: usize,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 90 of 100 are at most this.
    pub p90_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Changes that were not seen within a minute after the last commit.
    pub missing: usize,
}

/// Changes row 1 of `probe` at the source and looks for it in `table` at the target.
///
/// # Errors
/// What either server says.
pub async fn measure(
    source: &Client,
    target: &Client,
    table: &str,
    rate: Rate,
) -> Result<Latency, Error> {
    let first: i64 = source.query_one("select seq from probe where id = 1", &[]).await?.get(0);
    let count = rate.per_second * rate.seconds;
    let last = first + i64::try_from(count).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(rate.seconds) + GIVE_UP_AFTER;
    let written = write(source, first..last, rate.per_second);
    let seen = watch(target, table, last, deadline);
    let (written, seen) = try_join(written, seen).await?;
    Ok(compare(&written, &seen))
}

/// A number, and when it was committed or first seen.
type Mark = (i64, Instant);

async fn write(
    client: &Client,
    numbers: std::ops::Range<i64>,
    per_second: u64,
) -> Result<Vec<Mark>, Error> {
    let update =
        client.prepare("update probe set seq = $1, note = 'Cập nhật hồ sơ' where id = 1").await?;
    let step = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
    let mut due = Instant::now();
    let mut written = Vec::new();
    for number in numbers {
        due += step;
        tokio::time::sleep_until(due.into()).await;
        client.execute(&update, &[&(number + 1)]).await?;
        written.push((number + 1, Instant::now()));
    }
    Ok(written)
}

async fn watch(
    client: &Client,
    table: &str,
    until: i64,
    deadline: Instant,
) -> Result<Vec<Mark>, Error> {
    let select = client.prepare(&format!("select seq from {table} where id = 1")).await?;
    let mut seen: Vec<Mark> = Vec::new();
    let newest = |seen: &[Mark]| seen.last().map_or(i64::MIN, |(number, _)| *number);
    while newest(&seen) < until && Instant::now() < deadline {
        let found: Option<i64> = client.query_opt(&select, &[]).await?.map(|row| row.get(0));
        if let Some(number) = found.filter(|number| *number > newest(&seen)) {
            seen.push((number, Instant::now()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(seen)
}

fn compare(written: &[Mark], seen: &[Mark]) -> Latency {
    let mut waits = Vec::new();
    let mut ahead = seen.iter().peekable();
    for (number, committed) in written {
        while ahead.next_if(|(shown, _)| shown < number).is_some() {}
        if let Some((_, at)) = ahead.peek() {
            waits.push(at.saturating_duration_since(*committed).as_secs_f64() * 1_000.0);
        }
    }
    waits.sort_by(f64::total_cmp);
    let quantile = |per_cent: usize| {
        let at = (waits.len() * per_cent / 100).min(waits.len().saturating_sub(1));
        waits.get(at).copied().unwrap_or(f64::NAN)
    };
    Latency {
        transactions: written.len(),
        p50_ms: quantile(50),
        p90_ms: quantile(90),
        p99_ms: quantile(99),
        max_ms: quantile(100),
        missing: written.len() - waits.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_with_the_first_number_that_is_not_smaller() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let written = [(1, after(0)), (2, after(10)), (3, after(20))];
        let found = compare(&written, &[(2, after(15))]);
        assert_eq!((found.transactions, found.missing), (3, 1));
        assert!((found.max_ms - 15.0).abs() < 0.01, "{found:?}");
        assert!((found.p50_ms - 15.0).abs() < 0.01, "{found:?}");
    }
}
