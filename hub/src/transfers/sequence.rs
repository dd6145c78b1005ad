//! Takes committed entries in order into the chain; one sequencer at a time, by advisory lock.
//!
//! Identifiers are taken before commits and may be committed in any order; numbers and links are
//! given afterwards, so that they have no gap. Within a stream the order is that of its batches: a
//! batch can only be seen here when all before it can, and sorting by epoch and number keeps them
//! so. Entries of different streams stand in whatever order they were found.

use phusa_protocol::digest::Digest;
use phusa_protocol::entry::link;
use phusa_protocol::fault::{Code, Fault};

use super::digest_of;
use crate::error::database_fault;
use crate::failpoint::{self, Point};
use crate::warehouse::Warehouse;

/// Entries numbered in one transaction at most.
const ENTRIES_MAX: i64 = 1_000;

/// The advisory lock under which numbers are given; any constant nobody else uses.
const SEQUENCER_LOCK: i64 = 0x7068_7573_6173_6571;

/// Numbers what is committed and has no number yet; returns how many entries that were. Nought
/// also when another process is at it. `published` are the entries the log's files hold already.
///
/// # Errors
/// When the database does not answer; [`Code::LogRestored`] when it holds less of the log than was
/// published: a number is never given twice. Nothing is changed then.
pub async fn number_next(warehouse: &Warehouse, published: u64) -> Result<usize, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(not_numbered)?;
    if !is_ours(&tx).await? {
        return Ok(0);
    }
    let (mut number, mut last) = end_of_chain(&tx).await?;
    check_not_restored(number, published)?;
    let sql = "select transfer, entry from phusa.transfers where number is null \
               order by coalesce(epoch, 0), coalesce(seq, 0), transfer limit $1";
    let statement = tx.prepare_cached(sql).await.map_err(not_numbered)?;
    let entries = tx.query(&statement, &[&ENTRIES_MAX]).await.map_err(not_numbered)?;
    if entries.is_empty() {
        return Ok(0);
    }
    let (mut transfers, mut numbers, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for row in &entries {
        number += 1;
        last = link(last, row.try_get(1).map_err(not_numbered)?);
        transfers.push(row.try_get::<_, i64>(0).map_err(not_numbered)?);
        numbers.push(number);
        links.push(last.as_bytes().to_vec());
    }
    let sql = "update phusa.transfers as t set number = n.number, link = n.link \
               from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as n(transfer, number, link) \
               where t.transfer = n.transfer";
    let statement = tx.prepare_cached(sql).await.map_err(not_numbered)?;
    tx.execute(&statement, &[&transfers, &numbers, &links]).await.map_err(not_numbered)?;
    failpoint::pass(Point::SequencerBeforeCommit);
    tx.commit().await.map_err(not_numbered)?;
    Ok(entries.len())
}

/// Takes the sequencer's lock until the transaction ends; false while another process has it.
///
/// # Errors
/// When the database does not answer.
pub async fn is_ours(tx: &deadpool_postgres::Transaction<'_>) -> Result<bool, Fault> {
    let sql = "select pg_try_advisory_xact_lock($1)";
    let statement = tx.prepare_cached(sql).await.map_err(not_numbered)?;
    let row = tx.query_one(&statement, &[&SEQUENCER_LOCK]).await.map_err(not_numbered)?;
    row.try_get(0).map_err(not_numbered)
}

/// Whether the database still holds all that was published.
///
/// # Errors
/// [`Code::LogRestored`] when it does not.
pub fn check_not_restored(number: i64, published: u64) -> Result<(), Fault> {
    if number.unsigned_abs() >= published {
        return Ok(());
    }
    let what = format!("the database ends at entry {number}, the published log at {published}");
    Err(Fault::new(Code::LogRestored, what))
}

/// The last number and link.
///
/// # Errors
/// When the database does not answer.
pub async fn end_of_chain(tx: &deadpool_postgres::Transaction<'_>) -> Result<(i64, Digest), Fault> {
    let sql = "select number, link from phusa.transfers where number is not null \
               order by number desc limit 1";
    let statement = tx.prepare_cached(sql).await.map_err(not_numbered)?;
    let Some(row) = tx.query_opt(&statement, &[]).await.map_err(not_numbered)? else {
        return Ok((0, Digest::ZERO));
    };
    let link: Vec<u8> = row.try_get(1).map_err(not_numbered)?;
    let broken = || Fault::new(Code::LogBroken, "the last link of the log is no digest");
    Ok((row.try_get(0).map_err(not_numbered)?, digest_of(&link).ok_or_else(broken)?))
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_numbered(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot number log entries", &error)
}
