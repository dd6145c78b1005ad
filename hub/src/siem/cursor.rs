//! Where a collector stands, in the database, and what it has not been told.

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use std::time::SystemTime;

use super::message::Event;
use super::told;
use super::window::Arrived;
use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time, to_i64};
use crate::warehouse::Warehouse;

/// Entries, and incidents, that are sent at once.
pub const TAKEN_MAX: i64 = 500;

/// What there is to be sent.
#[derive(Debug, Default)]
pub struct Next {
    /// Events of entries, in the order of their numbers.
    pub entries: Vec<Event>,
    /// The last of those numbers, or the one asked for.
    pub number: u64,
    /// Incidents, in the order of theirs.
    pub incidents: Vec<(i64, Event)>,
}

/// The last entry that this collector is known to have; `None` for one that is new.
///
/// # Errors
/// When the database does not answer.
pub async fn read(warehouse: &Warehouse, collector: &str) -> Result<Option<u64>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select number from phusa.siem where collector = $1";
    let row = client.query_opt(sql, &[&collector]).await.map_err(|error| failed(&error))?;
    let number =
        |row: &tokio_postgres::Row| row.try_get::<_, i64>(0).map_err(|error| failed(&error));
    Ok(row.as_ref().map(number).transpose()?.map(i64::unsigned_abs))
}

/// Writes down what has arrived; a cursor never goes back.
///
/// # Errors
/// When the database does not answer.
pub async fn write(warehouse: &Warehouse, collector: &str, arrived: &Arrived) -> Result<(), Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    let now = system_time(Timestamp::now());
    let sql = "insert into phusa.siem as s (collector, number, moved_at) values ($1, $2, $3) \
               on conflict (collector) do update \
               set number = greatest(s.number, excluded.number), moved_at = excluded.moved_at";
    tx.execute(sql, &[&collector, &to_i64(arrived.number), &now])
        .await
        .map_err(|error| failed(&error))?;
    if !arrived.incidents.is_empty() {
        let sql = "update phusa.incidents set siem_told_at = $2 where incident = any($1)";
        tx.execute(sql, &[&arrived.incidents, &now]).await.map_err(|error| failed(&error))?;
    }
    tx.commit().await.map_err(|error| failed(&error))
}

/// What comes after an entry, and incidents that were not told and are not on their way.
///
/// # Errors
/// When the database does not answer.
pub async fn next(warehouse: &Warehouse, after: u64, on_way: &[i64]) -> Result<Next, Fault> {
    let client = warehouse.client().await?;
    let mut next = Next { number: after, ..Next::default() };
    let sql = "select number, committed_at, entry from phusa.transfers \
               where number > $1 order by number limit $2";
    let statement = client.prepare_cached(sql).await.map_err(|error| failed(&error))?;
    let rows = client
        .query(&statement, &[&to_i64(after), &TAKEN_MAX])
        .await
        .map_err(|error| failed(&error))?;
    for row in &rows {
        next.number = row.try_get::<_, i64>(0).map_err(|error| failed(&error))?.unsigned_abs();
        let at: SystemTime = row.try_get(1).map_err(|error| failed(&error))?;
        let text: &str = row.try_get(2).map_err(|error| failed(&error))?;
        next.entries.push(told::entry(next.number, from_system_time(at), text));
    }
    let sql = "select incident, opened_at, kind, agent, dataset, cause from phusa.incidents \
               where siem_told_at is null and incident <> all($1) order by incident limit $2";
    let statement = client.prepare_cached(sql).await.map_err(|error| failed(&error))?;
    let rows =
        client.query(&statement, &[&on_way, &TAKEN_MAX]).await.map_err(|error| failed(&error))?;
    for row in &rows {
        let incident: i64 = row.try_get(0).map_err(|error| failed(&error))?;
        let at: SystemTime = row.try_get(1).map_err(|error| failed(&error))?;
        let [kind, agent, dataset, cause] =
            [2, 3, 4, 5].map(|column| row.try_get::<_, Option<&str>>(column));
        let concerned =
            (agent.map_err(|error| failed(&error))?, dataset.map_err(|error| failed(&error))?);
        let kind = kind.map_err(|error| failed(&error))?.unwrap_or_default();
        let cause = cause.map_err(|error| failed(&error))?.unwrap_or_default();
        let event = told::incident(incident, from_system_time(at), kind, concerned, cause);
        next.incidents.push((incident, event));
    }
    Ok(next)
}

/// How many numbered entries come after this one, and when the first of them was committed.
///
/// # Errors
/// When the database does not answer.
pub async fn behind(warehouse: &Warehouse, number: u64) -> Result<(u64, Option<Timestamp>), Fault> {
    let client = warehouse.client().await?;
    let sql = "select (select max(number) from phusa.transfers), \
               (select committed_at from phusa.transfers where number > $1 order by number limit 1)";
    let statement = client.prepare_cached(sql).await.map_err(|error| failed(&error))?;
    let row =
        client.query_one(&statement, &[&to_i64(number)]).await.map_err(|error| failed(&error))?;
    let last: Option<i64> = row.try_get(0).map_err(|error| failed(&error))?;
    let oldest: Option<SystemTime> = row.try_get(1).map_err(|error| failed(&error))?;
    let last = last.unwrap_or_default().unsigned_abs();
    Ok((last.saturating_sub(number), oldest.map(from_system_time)))
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or move the collector's place in the log", error)
}
