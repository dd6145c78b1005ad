//! Tries to sign in are listened to more and more slowly, by account and by address.
//!
//! A try is counted before it is looked at, so that many at once gain nothing; a good one takes its
//! own count back. Counting is in the database: every hub process sees the same.

use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio_postgres::GenericClient;

use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time};
use crate::warehouse::Warehouse;

/// Tries for an account before the pauses begin.
const FREE_FOR_ACCOUNT: u32 = 3;

/// Tries from an address before the pauses begin: a whole office may share one.
const FREE_FOR_ADDRESS: u32 = 20;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// What is counted is forgotten after so long without a try.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// Old lines removed at each try at most.
const SWEPT: i64 = 100;

/// What is known of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    failures: u32,
    free_at: Timestamp,
    last_at: Timestamp,
    told: bool,
}

/// What a try comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is looked at.
    Now,
    /// It is not; `first` is true once in each pause, for the log.
    Wait {
        /// How long until the next is.
        pause: Duration,
        /// Whether the log does not know of this pause yet.
        first: bool,
    },
}

/// The pause after so many tries of which `free` are free: 1 s, 2 s, 4 s … 15 min.
fn pause(failures: u32, free: u32) -> Duration {
    let Some(over) = failures.checked_sub(free + 1) else { return Duration::ZERO };
    let seconds = 1_u64.checked_shl(over.min(20)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(PAUSE_MAX)
}

/// Counts a try: what is known afterwards, or how long it has to wait.
fn count(seen: Option<Seen>, free: u32, now: Timestamp) -> Result<Seen, Duration> {
    let recent = seen.filter(|seen| now.since(seen.last_at) < FORGOTTEN_AFTER);
    if let Some(seen) = recent
        && seen.free_at > now
    {
        return Err(seen.free_at.since(now));
    }
    let failures = recent.map_or(0, |seen| seen.failures).saturating_add(1);
    Ok(Seen { failures, free_at: now.after(pause(failures, free)), last_at: now, told: false })
}

/// Counts a try for an account as typed, from an address.
///
/// # Errors
/// When the database does not answer.
pub async fn take(
    warehouse: &Warehouse,
    (name, address): (&str, &str),
    now: Timestamp,
) -> Result<Turn, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    // Always in this order, so that two tries wait for each other and not both for ever.
    let subjects =
        [(subject('a', name), FREE_FOR_ACCOUNT), (subject('i', address), FREE_FOR_ADDRESS)];
    let mut waits = None;
    let mut counted = Vec::new();
    for (subject, free) in subjects {
        let seen = lock(&*tx, &subject, now).await?;
        match count(seen, free, now) {
            Ok(next) => counted.push((subject, next)),
            Err(pause) => {
                let told = seen.is_some_and(|seen| seen.told);
                let longer = waits.as_ref().is_none_or(|(_, longest, _)| pause > *longest);
                if longer {
                    waits = Some((subject, pause, told));
                }
            }
        }
    }
    let turn = match waits {
        None => {
            for (subject, next) in &counted {
                store(&*tx, subject, next).await?;
            }
            Turn::Now
        }
        Some((subject, pause, told)) => {
            let sql = "update phusa.tries set told = true where subject = $1";
            tx.execute(sql, &[&subject]).await.map_err(|error| failed(&error))?;
            Turn::Wait { pause, first: !told }
        }
    };
    let old = system_time(now.before(FORGOTTEN_AFTER));
    let sql = "delete from phusa.tries where subject in \
               (select subject from phusa.tries where last_at < $1 limit $2 for update skip locked)";
    tx.execute(sql, &[&old, &SWEPT]).await.map_err(|error| failed(&error))?;
    tx.commit().await.map_err(|error| failed(&error))?;
    Ok(turn)
}

/// A good try: the account's count is forgotten, the address's is as it was before.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(tx: &impl GenericClient, (name, address): (&str, &str)) -> Result<(), Fault> {
    let sql = "delete from phusa.tries where subject = $1";
    tx.execute(sql, &[&subject('a', name)]).await.map_err(|error| failed(&error))?;
    let sql = "update phusa.tries set failures = greatest(failures - 1, 0), free_at = last_at \
               where subject = $1";
    tx.execute(sql, &[&subject('i', address)]).await.map(drop).map_err(|error| failed(&error))
}

fn subject(kind: char, text: &str) -> String {
    format!("{kind}:{}", text.chars().take(64).collect::<String>())
}

async fn lock(
    tx: &impl GenericClient,
    subject: &str,
    now: Timestamp,
) -> Result<Option<Seen>, Fault> {
    let sql = "insert into phusa.tries (subject, failures, free_at, last_at) \
               values ($1, 0, $2, $2) on conflict (subject) do nothing";
    let now = system_time(now);
    tx.execute(sql, &[&subject, &now]).await.map_err(|error| failed(&error))?;
    let sql =
        "select failures, free_at, last_at, told from phusa.tries where subject = $1 for update";
    let row = tx.query_opt(sql, &[&subject]).await.map_err(|error| failed(&error))?;
    let Some(row) = row else { return Ok(None) };
    let failures: i32 = row.try_get(0).map_err(|error| failed(&error))?;
    Ok(Some(Seen {
        failures: failures.unsigned_abs(),
        free_at: from_system_time(row.try_get(1).map_err(|error| failed(&error))?),
        last_at: from_system_time(row.try_get(2).map_err(|error| failed(&error))?),
        told: row.try_get(3).map_err(|error| failed(&error))?,
    }))
}

async fn store(tx: &impl GenericClient, subject: &str, next: &Seen) -> Result<(), Fault> {
    let sql = "update phusa.tries set failures = $2, free_at = $3, last_at = $4, told = false \
               where subject = $1";
    let failures = i32::try_from(next.failures).unwrap_or(i32::MAX);
    let (free_at, last_at) = (system_time(next.free_at), system_time(next.last_at));
    let stored = tx.execute(sql, &[&subject, &failures, &free_at, &last_at]).await;
    stored.map(drop).map_err(|error| failed(&error))
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot count tries to sign in", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_a_quarter_of_an_hour() {
        let check = |failures: u32, seconds: u64| {
            assert_eq!(pause(failures, 3), Duration::from_secs(seconds), "{failures}");
        };
        for (failures, seconds) in
            [(0, 0), (1, 0), (3, 0), (4, 1), (5, 2), (6, 4), (13, 512), (14, 900), (4_000_000, 900)]
        {
            check(failures, seconds);
        }
    }

    #[test]
    fn a_try_within_the_pause_is_not_counted_and_after_hours_all_is_forgotten() {
        let now = Timestamp::from_micros(1_795_250_600_000_000);
        let mut seen = None;
        for expected in [0, 0, 0, 1] {
            let next = count(seen, 3, now).unwrap();
            assert_eq!(next.free_at.since(now), Duration::from_secs(expected));
            seen = Some(next);
        }
        assert_eq!(count(seen, 3, now), Err(Duration::from_secs(1)));
        let later = now.after(Duration::from_secs(1));
        assert_eq!(count(seen, 3, later).unwrap().failures, 5);
        let much_later = now.after(FORGOTTEN_AFTER);
        assert_eq!(count(seen, 3, much_later).unwrap().failures, 1);
    }
}
