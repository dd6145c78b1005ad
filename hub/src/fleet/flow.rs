//! How a dataset flowed of late, counted from the entries of the log that stand behind each figure.

mod hours;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use deadpool_postgres::Object;
use phusa_protocol::batch::Header;
use phusa_protocol::entry::Entry;
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

pub use self::hours::{Hour, of_day};
use super::not_read;
use crate::transfers::from_system_time;

/// Batches that are counted: the newest of a stream.
const BATCHES: i64 = 500;

/// How a stream flowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Flow {
    /// Batches that were counted, 500 at most.
    pub batches: usize,
    /// From commit at the source to commit at the hub: half of them within the first, 95 of a hundred
    /// within the second, all within the third, in milliseconds; none where there is no batch.
    pub lag_ms: Option<[u64; 3]>,
    /// Row changes committed since midnight of the Vietnamese clock.
    pub today: u64,
    /// Whether every batch of today was counted.
    pub is_whole_day: bool,
    /// Rows that broke a rule at the agency, by rule, in the batches counted.
    pub broken: BTreeMap<String, u64>,
}

/// Counts the newest batches of a stream.
///
/// # Errors
/// When the database does not answer.
pub async fn of(
    client: &Object,
    (agent, dataset): (&str, &str),
    now: Timestamp,
) -> Result<Flow, Fault> {
    let sql = "select committed_at, entry from phusa.transfers \
               where kind = 'push' and agent = $1 and dataset = $2 \
               order by epoch desc, seq desc limit $3";
    let rows = client.query(sql, &[&agent, &dataset, &BATCHES]).await.map_err(not_read)?;
    let mut batches = Vec::new();
    for row in &rows {
        let at: SystemTime = row.try_get(0).map_err(not_read)?;
        let text: &str = row.try_get(1).map_err(not_read)?;
        let header = serde_json::from_str::<Entry>(text).ok().and_then(|entry| entry.header);
        let header = header.and_then(|text| serde_json::from_str::<Header>(&text).ok());
        batches.extend(header.map(|header| (from_system_time(at), header)));
    }
    Ok(count(&batches, midnight(now)))
}

/// Midnight before a moment, by the Vietnamese clock.
fn midnight(now: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400_000_000;
    const AHEAD: i64 = 7 * 3_600_000_000;
    let local = now.micros().saturating_add(AHEAD);
    Timestamp::from_micros(local.saturating_sub(local.rem_euclid(DAY)).saturating_sub(AHEAD))
}

fn count(batches: &[(Timestamp, Header)], midnight: Timestamp) -> Flow {
    let mut flow = Flow { batches: batches.len(), ..Flow::default() };
    let lags = batches.iter().map(|(at, header)| at.since(header.source_time));
    flow.lag_ms = shares(lags.collect());
    for (at, header) in batches {
        if *at >= midnight {
            flow.today = flow.today.saturating_add(header.counts.total());
        }
        for (rule, rows) in &header.quality {
            let of = flow.broken.entry(rule.clone()).or_default();
            *of = of.saturating_add(*rows);
        }
    }
    let reaches_back = batches.last().is_none_or(|(at, _)| *at < midnight);
    flow.is_whole_day = reaches_back || i64::try_from(batches.len()).is_ok_and(|n| n < BATCHES);
    flow
}

/// The middle, the 95th of a hundred, the longest.
fn shares(mut spans: Vec<Duration>) -> Option<[u64; 3]> {
    spans.sort_unstable();
    let last = spans.len().checked_sub(1)?;
    let at = |percent: usize| {
        let span = spans.get(last * percent / 100).copied().unwrap_or_default();
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
    };
    Some([at(50), at(95), at(100)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_that_was_seen() {
        assert_eq!(shares(Vec::new()), None);
        assert_eq!(shares(vec![Duration::from_millis(7)]), Some([7, 7, 7]));
        let hundred = (0..=100).map(Duration::from_millis).rev().collect();
        assert_eq!(shares(hundred), Some([50, 95, 100]));
    }

    #[test]
    fn a_day_begins_at_midnight_in_vietnam() {
        let moment = |text: &str| Timestamp::try_from(text.to_owned()).unwrap();
        for (now, expected) in [
            ("2026-11-26T16:59:59Z", "2026-11-25T17:00:00Z"),
            ("2026-11-26T17:00:00Z", "2026-11-26T17:00:00Z"),
        ] {
            assert_eq!(midnight(moment(now)), moment(expected));
        }
    }
}
