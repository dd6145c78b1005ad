//! Who has said hello, where the streams stand, and how far behind they are.

pub mod alarms;
pub mod contact;
pub mod flow;
pub mod health;
pub mod orders;
pub mod proofs;
pub mod reports;

use std::net::IpAddr;
use std::time::SystemTime;

use deadpool_postgres::Object;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::Hello;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time};

/// One stream as people and metrics see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamRow {
    /// Who sends.
    pub agent: String,
    /// What.
    pub dataset: String,
    /// In which epoch.
    pub epoch: i64,
    /// The last batch committed.
    pub seq: i64,
    /// Row changes committed since the stream began.
    pub rows: i64,
    /// Where it is in its life: `reading` until the first live batch of the epoch, then `live`.
    pub state: &'static str,
    /// Now minus the source's commit time of the newest change that is durable here.
    pub lag_seconds: Option<f64>,
    /// When the last batch was committed.
    pub last_committed_at: Option<Timestamp>,
}

/// One agent as people see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentRow {
    /// Who.
    pub agent: String,
    /// When it last said hello.
    pub last_hello_at: Option<Timestamp>,
    /// Its program's version.
    pub version: String,
    /// Where it came from then.
    pub address: String,
    /// Its clock minus the hub's, in milliseconds, network time included.
    pub skew_ms: i64,
    /// Its streams.
    pub streams: Vec<StreamRow>,
}

impl AgentRow {
    /// An agent of which nothing is known but its name.
    #[must_use]
    pub fn unseen(agent: String) -> Self {
        Self {
            agent,
            last_hello_at: None,
            version: String::new(),
            address: String::new(),
            skew_ms: 0,
            streams: Vec::new(),
        }
    }
}

/// Notes that an agent has said hello.
///
/// # Errors
/// When the database does not answer.
pub async fn seen(
    client: &Object,
    hello: &Hello,
    address: IpAddr,
    now: Timestamp,
) -> Result<(), Fault> {
    let skew_ms = hello.sent_at.micros().saturating_sub(now.micros()) / 1_000;
    let sql = "insert into phusa.agents_seen (agent, last_hello_at, version, skew_ms, address) \
               values ($1, $2, $3, $4, $5) on conflict (agent) do update \
               set last_hello_at = $2, version = $3, skew_ms = $4, address = $5";
    let (agent, at) = (hello.agent.to_string(), system_time(now));
    let version: String = hello.agent_version.chars().take(VERSION_CHARS_MAX).collect();
    let done = client.execute(sql, &[&agent, &at, &version, &skew_ms, &address.to_string()]).await;
    done.map_err(not_read)?;
    Ok(())
}

/// A version is a few characters; an agent that says more is cut short.
const VERSION_CHARS_MAX: usize = 60;

/// Every stream, by agent and dataset.
///
/// # Errors
/// When the database does not answer.
pub async fn streams(client: &Object, now: Timestamp) -> Result<Vec<StreamRow>, Fault> {
    let sql = "select agent, dataset, epoch, seq, rows, consistent_at is not null, \
               last_source_time, last_committed_at from phusa.streams order by agent, dataset";
    let rows = client.query(sql, &[]).await.map_err(not_read)?;
    rows.iter().map(|row| stream(row, now).map_err(not_read)).collect()
}

/// Every agent that has ever said hello or sent something, with its streams.
///
/// # Errors
/// When the database does not answer.
pub async fn agents(client: &Object, now: Timestamp) -> Result<Vec<AgentRow>, Fault> {
    let sql = "select agent, last_hello_at, version, skew_ms, address from phusa.agents_seen \
               order by agent";
    let rows = client.query(sql, &[]).await.map_err(not_read)?;
    let agents = rows.iter().map(agent).collect::<Result<Vec<_>, _>>();
    let mut agents = agents.map_err(not_read)?;
    for stream in streams(client, now).await? {
        match agents.iter_mut().find(|agent| agent.agent == stream.agent) {
            Some(agent) => agent.streams.push(stream),
            None => agents
                .push(AgentRow { streams: vec![stream.clone()], ..AgentRow::unseen(stream.agent) }),
        }
    }
    Ok(agents)
}

/// How many entries the log has, and how many wait for a number.
///
/// # Errors
/// When the database does not answer.
pub async fn log_length(client: &Object) -> Result<(i64, i64), Fault> {
    let sql = "select (select coalesce(max(number), 0) from phusa.transfers), \
               (select count(*) from phusa.transfers where number is null)";
    let row = client.query_one(sql, &[]).await.map_err(not_read)?;
    Ok((row.try_get(0).map_err(not_read)?, row.try_get(1).map_err(not_read)?))
}

/// Commits a transaction of its own: the proof that batches could be taken.
///
/// # Errors
/// When nothing can be committed.
pub async fn can_commit(client: &mut Object) -> Result<(), Fault> {
    let tx = client.transaction().await.map_err(not_committed)?;
    // Taking a transaction number makes the commit write, and wait for the disk.
    tx.query_one("select pg_current_xact_id()::text", &[]).await.map_err(not_committed)?;
    tx.commit().await.map_err(not_committed)
}

/// The table `fleet ls` prints.
#[must_use]
pub fn table(agents: &[AgentRow]) -> String {
    let head = [
        "Tác tử (agent)",
        "Bộ dữ liệu (dataset)",
        "Trạng thái (state)",
        "Kỷ/lô (epoch/batch)",
        "Dòng (rows)",
        "Trễ (lag)",
        "Chào lúc (last hello)",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    for agent in agents {
        let hello = agent.last_hello_at.map(|at| at.to_string()).unwrap_or_default();
        if agent.streams.is_empty() {
            let dash = || "–".to_owned();
            let name = agent.agent.clone();
            lines.push([name, dash(), dash(), dash(), dash(), dash(), hello.clone()]);
        }
        for stream in &agent.streams {
            let state = if stream.state == "live" {
                "trực tiếp (live)"
            } else {
                "đang đọc (reading)"
            };
            lines.push([
                agent.agent.clone(),
                stream.dataset.clone(),
                state.to_owned(),
                format!("{}/{}", stream.epoch, stream.seq),
                stream.rows.to_string(),
                stream.lag_seconds.map_or("–".to_owned(), |lag| format!("{lag:.1} s")),
                hello.clone(),
            ]);
        }
    }
    aligned(&lines)
}

pub(crate) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
            text.push_str(cell);
            text.push_str(&padding);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn stream(row: &Row, now: Timestamp) -> Result<StreamRow, tokio_postgres::Error> {
    let source_time: Option<SystemTime> = row.try_get(6)?;
    let committed: Option<SystemTime> = row.try_get(7)?;
    Ok(StreamRow {
        agent: row.try_get(0)?,
        dataset: row.try_get(1)?,
        epoch: row.try_get(2)?,
        seq: row.try_get(3)?,
        rows: row.try_get(4)?,
        state: if row.try_get(5)? { "live" } else { "reading" },
        lag_seconds: source_time.map(|time| now.since(from_system_time(time)).as_secs_f64()),
        last_committed_at: committed.map(from_system_time),
    })
}

fn agent(row: &Row) -> Result<AgentRow, tokio_postgres::Error> {
    let hello: Option<SystemTime> = row.try_get(1)?;
    Ok(AgentRow {
        agent: row.try_get(0)?,
        last_hello_at: hello.map(from_system_time),
        version: row.try_get(2)?,
        skew_ms: row.try_get(3)?,
        address: row.try_get(4)?,
        streams: Vec::new(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_read(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot read or note where the fleet stands", &error)
}

fn not_committed(error: tokio_postgres::Error) -> Fault {
    Fault::because(Code::WarehouseUnavailable, "cannot commit", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_bilingual() {
        let stream = StreamRow {
            agent: "H57.12/may-1".to_owned(),
            dataset: "cong_dan.citizens".to_owned(),
            epoch: 1,
            seq: 42,
            rows: 1000,
            state: "live",
            lag_seconds: Some(0.25),
            last_committed_at: None,
        };
        let agent = AgentRow {
            agent: "H57.12/may-1".to_owned(),
            last_hello_at: Some(Timestamp::UNIX_EPOCH),
            version: "0.1.0".to_owned(),
            address: "10.0.0.7".to_owned(),
            skew_ms: 3,
            streams: vec![stream],
        };
        let table = table(&[agent]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("Tác tử (agent)  Bộ dữ liệu (dataset)"));
        assert!(lines[1].contains("trực tiếp (live)"), "{table}");
        assert!(lines[1].contains("1/42"), "{table}");
    }
}
