//! `log verify`: walks the log with nothing but public keys, from the database or from a file.
//!
//! In the database it also compares the log with what stands beside it: every entry must be the one
//! whose leaf was published, every transfer that a row names must be in the log, and every stream
//! must stand where its last entry says.

use std::collections::BTreeMap;
use std::io::BufRead;

use phusa_protocol::entry::{BrokenLog, Entry, KeySpan, LogLine, LogSummary, LogVerifier};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::PublicKey;
use serde::Serialize;

use super::audit::Leaves;
use super::export::{Filter, Pages};
use super::folder::Folder;
use super::sequence::check_not_restored;
use super::to_i64;
use crate::error::statement_fault;
use crate::warehouse::Warehouse;
use crate::warehouse::tables::Shape;

/// What was verified, and what is still on its way into the chain.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// What the log holds.
    #[serde(flatten)]
    pub summary: LogSummary,
    /// Committed entries that have no number yet; the sequencer gets to them within a second.
    pub unsequenced: u64,
    /// Tables whose rows were compared with the log; none when a file was verified.
    pub tables: usize,
    /// Entries compared with the published log's leaves; none when a file was verified.
    pub published: u64,
}

/// Verifies an exported log.
///
/// # Errors
/// [`Code::LogBroken`] naming the first entry that is wrong.
pub fn verify_file(
    file: impl BufRead,
    hub: Vec<PublicKey>,
    agents: BTreeMap<AgentId, Vec<KeySpan>>,
) -> Result<Verified, Fault> {
    let mut verifier = LogVerifier::new(hub, agents);
    for (index, line) in file.lines().enumerate() {
        let text = line.map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot read line {}", index + 1), error)
        })?;
        let line: LogLine = serde_json::from_str(&text).map_err(|error| {
            Fault::because(Code::LogBroken, format!("line {} is no log line", index + 1), error)
        })?;
        verifier.add(&line).map_err(broken)?;
    }
    Ok(Verified { summary: verifier.summary(), unsequenced: 0, tables: 0, published: 0 })
}

/// Verifies the log in the database, and that rows and streams agree with it.
///
/// # Errors
/// [`Code::LogBroken`] naming the first thing that is wrong.
pub async fn verify_database(
    warehouse: &Warehouse,
    hub: Vec<PublicKey>,
    agents: BTreeMap<AgentId, Vec<KeySpan>>,
    (tables, folder): (&[Shape], Option<&Folder>),
) -> Result<Verified, Fault> {
    let client = warehouse.client().await?;
    // Counted first: what is committed before the walk begins is either walked or counted here.
    let sql = "select count(*) from phusa.transfers where number is null";
    let row = client.query_one(sql, &[]).await.map_err(not_compared)?;
    let unsequenced: i64 = row.try_get(0).map_err(not_compared)?;
    let mut leaves = folder.map(Leaves::open).transpose()?;
    let published = leaves.as_ref().map_or(0, Leaves::size);
    let mut verifier = LogVerifier::new(hub, agents);
    let filter = Filter::default();
    let mut pages = Pages::new(warehouse, &filter);
    loop {
        let lines = pages.next().await?;
        if lines.is_empty() {
            break;
        }
        for (transfer, line) in lines {
            verifier.add(&line).map_err(broken)?;
            check_identifier(transfer, &line)?;
            if let Some(leaves) = &mut leaves {
                leaves.check(line.number, &line.entry)?;
            }
        }
    }
    check_not_restored(to_i64(verifier.summary().entries), published)?;
    check_streams(&client).await?;
    for table in tables {
        check_rows(&client, table).await?;
    }
    let (summary, tables) = (verifier.summary(), tables.len());
    let unsequenced = unsequenced.unsigned_abs();
    Ok(Verified { summary, unsequenced, tables, published })
}

/// Rows name the identifier an entry is stored under, so it must be the one inside the entry.
fn check_identifier(transfer: i64, line: &LogLine) -> Result<(), Fault> {
    let entry: Entry = serde_json::from_str(&line.entry).map_err(|error| {
        Fault::because(Code::LogBroken, format!("entry {}", line.number), error)
    })?;
    if entry.transfer == transfer.unsigned_abs() {
        return Ok(());
    }
    let what = format!("is stored as transfer {transfer} and says {}", entry.transfer);
    Err(broken(BrokenLog { number: line.number, what }))
}

/// A log whose end was cut off still has a sound chain; the streams know better.
async fn check_streams(client: &deadpool_postgres::Object) -> Result<(), Fault> {
    let sql = "select s.agent, s.dataset, s.epoch, s.seq from phusa.streams as s \
               where s.seq > 0 and not exists (select from phusa.transfers as t \
               where t.kind = 'push' and t.agent = s.agent and t.dataset = s.dataset \
               and t.epoch = s.epoch and t.seq = s.seq and t.header_digest = s.header_digest) \
               limit 1";
    let Some(row) = client.query_opt(sql, &[]).await.map_err(not_compared)? else { return Ok(()) };
    let text = |index: usize| row.try_get::<_, String>(index).unwrap_or_default();
    let number = |index: usize| row.try_get::<_, i64>(index).unwrap_or_default();
    let what = format!(
        "the log has no entry of batch {} of {} epoch {} by {}, where the stream stands",
        number(3),
        text(1),
        number(2),
        text(0)
    );
    Err(Fault::new(Code::LogBroken, what))
}

async fn check_rows(client: &deadpool_postgres::Object, shape: &Shape) -> Result<(), Fault> {
    let (table, dataset) = (shape.table(), shape.dataset());
    let sql = format!(
        "select r._transfer from (select distinct _transfer from {table} \
         union select distinct _version from {table}) as r \
         where not exists (select from phusa.transfers as t where t.transfer = r._transfer \
         and t.kind = 'push' and t.dataset = $1) limit 1"
    );
    let row = client.query_opt(&sql, &[&dataset.to_string()]).await.map_err(not_compared)?;
    let Some(row) = row else { return Ok(()) };
    let transfer: i64 = row.try_get(0).map_err(not_compared)?;
    let what = format!("rows of {dataset} name transfer {transfer}, which the log does not hold");
    Err(Fault::new(Code::LogBroken, what))
}

fn broken(broken: BrokenLog) -> Fault {
    Fault::because(Code::LogBroken, "the transfer log does not verify", broken)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_compared(error: tokio_postgres::Error) -> Fault {
    statement_fault("cannot compare rows and streams with the log", &error)
}
