//! Reports as they arrive over the link: the newest of each agent, and a day of figures in steps of
//! five minutes. What is stored here is durable when the function returns, so it may be acknowledged.

use deadpool_postgres::Object;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use phusa_protocol::report::{Alive, Life, Report};
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::{not_read, orders};
use crate::transfers::{from_system_time, system_time};

/// How long figures are kept: 288 rows of an agent at most.
const HISTORY: &str = "24 hours";

/// One step of an agent's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When the step began.
    pub at: Timestamp,
    /// The longest lag in it, of any dataset.
    pub lag_seconds: i64,
    /// Rows made durable at the agency since its agent started, as last reported in it.
    pub rows: i64,
    /// Rows that stayed at the agency, likewise.
    pub rejects: i64,
    /// The fullest its spool was.
    pub spool_bytes: i64,
}

/// Stores a report; the session it names is the newest, and lives.
///
/// # Errors
/// When the database does not answer.
pub async fn keep(client: &mut Object, report: &Report, now: Timestamp) -> Result<(), Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    let agent = report.agent.to_string();
    orders::hear(&tx, report, now).await?;
    // What an agent says when it is asked is kept apart, by the order that asked.
    let newest = Report { diagnosis: None, ..report.clone() };
    let text = serde_json::to_string(&newest).unwrap_or_default();
    let (at, birth) = (system_time(now), report.birth.0.to_string());
    let sql = "insert into phusa.fleet_agents (agent, report, reported_at, birth) \
               values ($1, $2, $3, $4) on conflict (agent) do update \
               set report = $2, reported_at = $3, birth = $4, ended = null, ended_at = null";
    tx.execute(sql, &[&agent, &text, &at, &birth]).await.map_err(not_read)?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let sum = |of: fn(&phusa_protocol::report::DatasetReport) -> u64| {
        count(report.datasets.iter().map(of).fold(0, u64::saturating_add))
    };
    let lag = count(report.datasets.iter().map(|d| d.lag_seconds).max().unwrap_or(0));
    let (rows, rejects, spool) = (sum(|d| d.rows), sum(|d| d.rejects), count(report.spool.bytes));
    let sql = "insert into phusa.fleet_history as h \
               (agent, slot, lag_seconds, rows, rejects, spool_bytes) \
               values ($1, date_bin('5 minutes', $2::timestamptz, timestamptz 'epoch'), $3, $4, $5, $6) \
               on conflict (agent, slot) do update \
               set lag_seconds = greatest(h.lag_seconds, excluded.lag_seconds), \
               rows = excluded.rows, rejects = excluded.rejects, \
               spool_bytes = greatest(h.spool_bytes, excluded.spool_bytes)";
    tx.execute(sql, &[&agent, &at, &lag, &rows, &rejects, &spool]).await.map_err(not_read)?;
    let sql = format!(
        "delete from phusa.fleet_history where agent = $1 and slot < $2::timestamptz - interval '{HISTORY}'"
    );
    tx.execute(&sql, &[&agent, &at]).await.map_err(not_read)?;
    tx.commit().await.map_err(not_read)
}

/// Stores what became of a session. An end counts for the newest session alone: the will of one
/// that was replaced says nothing of its successor.
///
/// # Errors
/// When the database does not answer.
pub async fn keep_life(
    client: &Object,
    agent: &AgentId,
    life: Life,
    now: Timestamp,
) -> Result<(), Fault> {
    let (agent, birth, at) = (agent.to_string(), life.birth.0.to_string(), system_time(now));
    let ended = match life.state {
        Alive::Born => {
            let sql = "insert into phusa.fleet_agents (agent, birth) values ($1, $2) \
                       on conflict (agent) do update \
                       set birth = $2, ended = null, ended_at = null";
            return client.execute(sql, &[&agent, &birth]).await.map(drop).map_err(not_read);
        }
        Alive::Lost => "lost",
        Alive::Leaving => "leaving",
    };
    // Who said farewell is not lost on top of it.
    let sql = "update phusa.fleet_agents set ended = $3, ended_at = $4 \
               where agent = $1 and birth = $2 and ended is null";
    client.execute(sql, &[&agent, &birth, &ended, &at]).await.map(drop).map_err(not_read)
}

/// The last day of an agent, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn history(client: &Object, agent: &str) -> Result<Vec<Step>, Fault> {
    let sql = "select slot, lag_seconds, rows, rejects, spool_bytes from phusa.fleet_history \
               where agent = $1 order by slot";
    let rows = client.query(sql, &[&agent]).await.map_err(not_read)?;
    let step = |row: &tokio_postgres::Row| {
        Ok(Step {
            at: from_system_time(row.try_get(0)?),
            lag_seconds: row.try_get(1)?,
            rows: row.try_get(2)?,
            rejects: row.try_get(3)?,
            spool_bytes: row.try_get(4)?,
        })
    };
    rows.iter().map(step).collect::<Result<_, _>>().map_err(not_read)
}
