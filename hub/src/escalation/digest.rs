//! What is reported now and then: lateness of a week by agency (HU-10), and how long the hub could be used
//! in a month (CB-15), from a probe each minute.

use std::time::SystemTime;

use deadpool_postgres::Object;
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time};

/// Lateness, silence and faults of one agency in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which agency.
    pub agency: String,
    /// How often data was later than agreed.
    pub late: i64,
    /// How often contact was lost.
    pub lost: i64,
    /// How often a dataset stopped.
    pub stopped: i64,
    /// Incidents of these kinds that are open.
    pub open: i64,
    /// The oldest of those.
    pub oldest: Option<Timestamp>,
}

/// What came to pass since a moment, the worst agency first; agencies without any are not listed.
///
/// # Errors
/// When the database does not answer.
pub async fn lateness(client: &Object, since: Timestamp) -> Result<Vec<Line>, Fault> {
    let sql = "select split_part(agent, '/', 1), \
               sum(count) filter (where kind = 'lateness')::bigint, \
               sum(count) filter (where kind = 'heartbeat')::bigint, \
               sum(count) filter (where kind = 'stopped')::bigint, \
               count(*) filter (where closed_at is null), \
               min(opened_at) filter (where closed_at is null) \
               from phusa.incidents where kind in ('lateness', 'heartbeat', 'stopped') \
               and agent is not null and (last_at >= $1 or closed_at is null) \
               group by 1 order by 5 desc, sum(count) desc, 1";
    let rows = client.query(sql, &[&system_time(since)]).await.map_err(|error| failed(&error))?;
    let read = |row: &tokio_postgres::Row| {
        let count =
            |index: usize| row.try_get::<_, Option<i64>>(index).map(Option::unwrap_or_default);
        let oldest: Option<SystemTime> = row.try_get(5)?;
        Ok(Line {
            agency: row.try_get(0)?,
            late: count(1)?,
            lost: count(2)?,
            stopped: count(3)?,
            open: row.try_get(4)?,
            oldest: oldest.map(from_system_time),
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(&error))
}

/// How long the hub could be used in a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Availability {
    /// The month, `2026-11`.
    pub month: String,
    /// Minutes that are counted: from the first probe there ever was, up to now.
    pub minutes: i64,
    /// Minutes in which a probe committed something.
    pub good: i64,
    /// Minutes that were announced as maintenance of everybody.
    pub announced: i64,
    /// Good minutes in a hundred.
    pub percent: f64,
}

/// Notes that something could be committed in this minute; once a minute, whoever says it.
///
/// # Errors
/// When the database does not answer, which is then not noted.
pub async fn probe(client: &Object, now: Timestamp) -> Result<(), Fault> {
    let sql = "insert into phusa.probes as p (day, minutes, last_minute) \
               values (($1::timestamptz at time zone '+07')::date, 1, date_trunc('minute', $1::timestamptz)) \
               on conflict (day) do update set minutes = p.minutes + 1, \
               last_minute = excluded.last_minute where p.last_minute < excluded.last_minute";
    client.execute(sql, &[&system_time(now)]).await.map(drop).map_err(|error| failed(&error))
}

/// The figures of a month, by the Vietnamese calendar.
///
/// # Errors
/// When the database does not answer.
pub async fn availability(
    client: &Object,
    month: &str,
    now: Timestamp,
) -> Result<Availability, Fault> {
    let sql = "with bounds as (select greatest(($1 || '-01')::timestamp at time zone '+07', \
                 (select min(day)::timestamp at time zone '+07' from phusa.probes)) as low, \
                 least((($1 || '-01')::timestamp + interval '1 month') at time zone '+07', $2) as high) \
               select greatest(coalesce(extract(epoch from high - low) / 60, 0), 0)::bigint, \
               (select coalesce(sum(minutes), 0)::bigint from phusa.probes \
                 where to_char(day, 'YYYY-MM') = $1), \
               (select coalesce(sum(extract(epoch from least(until_at, high) - greatest(from_at, low)) \
                 / 60), 0)::bigint from phusa.notices where agencies = '{}' and withdrawn_at is null \
                 and from_at < high and until_at > low) from bounds";
    let row = client.query_one(sql, &[&month, &system_time(now)]).await;
    let row = row.map_err(|error| failed(&error))?;
    let number = |index: usize| row.try_get::<_, i64>(index).map_err(|error| failed(&error));
    let (minutes, good, announced) = (number(0)?, number(1)?, number(2)?);
    let part = |n: i64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let percent = if minutes == 0 { 0.0 } else { (part(good) / part(minutes) * 100.0).min(100.0) };
    Ok(Availability { month: month.to_owned(), minutes, good, announced, percent })
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write the figures of lateness and availability", error)
}
