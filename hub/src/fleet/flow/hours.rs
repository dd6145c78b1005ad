//! A stream hour by hour over the last day, counted from the entries of the log by the database.

use std::time::SystemTime;

use deadpool_postgres::Object;
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use crate::fleet::not_read;
use crate::transfers::{from_system_time, system_time};

/// Batches that are counted: the newest of a stream. One every 9 seconds fills a day.
const BATCHES: i64 = 10_000;

/// One hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// When it began.
    pub at: Timestamp,
    /// From commit at the source to commit at the hub, in milliseconds: half of the batches within the
    /// first, 95 of a hundred within the second, all within the third.
    pub lag_ms: [u64; 3],
    /// Row changes.
    pub rows: u64,
}

/// The hours of the last day in which batches arrived, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_day(
    client: &Object,
    (agent, dataset): (&str, &str),
    now: Timestamp,
) -> Result<Vec<Hour>, Fault> {
    let sql = "with newest as (select committed_at, (entry::json->>'header')::json as header \
                 from phusa.transfers where kind = 'push' and agent = $1 and dataset = $2 \
                 order by epoch desc, seq desc limit $3), \
               told as (select committed_at, \
                 greatest(extract(epoch from committed_at - (header->>'source_time')::timestamptz), 0) as lag, \
                 (select coalesce(sum(value::text::bigint), 0) from json_each(header->'counts')) as rows \
                 from newest where header is not null \
                 and committed_at > $4::timestamptz - interval '24 hours') \
               select date_bin('1 hour', committed_at, timestamptz 'epoch') as hour, \
               (percentile_disc(0.5) within group (order by lag) * 1000)::bigint, \
               (percentile_disc(0.95) within group (order by lag) * 1000)::bigint, \
               (max(lag) * 1000)::bigint, sum(rows)::bigint from told group by 1 order by 1";
    let wanted: [&(dyn postgres_types::ToSql + Sync); 4] =
        [&agent, &dataset, &BATCHES, &system_time(now)];
    let rows = client.query(sql, &wanted).await.map_err(not_read)?;
    let hour = |row: &tokio_postgres::Row| {
        let at: SystemTime = row.try_get(0)?;
        let number = |index: usize| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
        let lag_ms = [number(1)?, number(2)?, number(3)?];
        Ok(Hour { at: from_system_time(at), lag_ms, rows: number(4)? })
    };
    rows.iter().map(hour).collect::<Result<_, _>>().map_err(not_read)
}
