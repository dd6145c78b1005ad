//! Lets the log go on after the database was restored from a backup (decision 0016).
//!
//! Entries that were published and are no longer in the database stay in the files as leaves; an
//! entry says which they are and why. Nothing that was published is taken back, and no number is
//! given twice.

use phusa_protocol::entry::{Entry, Kind, Restored, link};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::folder::Folder;
use super::sequence::{end_of_chain, is_ours};
use super::{Log, Record, to_i64};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Transfers that may have been named in receipts after the backup was made; their identifiers are
/// passed over.
const IDENTIFIERS_PASSED_OVER: i64 = 1_000_000;

/// What was lost, as the new entry says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The first entry that the database no longer holds.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The number of the entry that says so.
    pub number: u64,
}

/// Writes the entry that explains the gap, in the place after the published log; `None` when there
/// is no gap.
///
/// # Errors
/// When another process numbers entries just now, or the database or the files do not answer.
pub async fn go_on(
    warehouse: &Warehouse,
    folder: &Folder,
    log: &Log,
    because: &str,
) -> Result<Option<Continued>, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    if !is_ours(&tx).await? {
        return Err(Fault::new(Code::HubBusy, "entries are being numbered; try again"));
    }
    let (last, _) = end_of_chain(&tx).await?;
    let Some(checkpoint) = folder.checkpoint()? else { return Ok(None) };
    let published = checkpoint.head;
    if last.unsigned_abs() >= published.size {
        return Ok(None);
    }
    let sql = "select setval(pg_get_serial_sequence('phusa.transfers', 'transfer'), \
               nextval(pg_get_serial_sequence('phusa.transfers', 'transfer')) + $1)";
    tx.execute(sql, &[&IDENTIFIERS_PASSED_OVER]).await.map_err(|error| failed(&error))?;
    let transfer = log.next_transfer(&tx).await?;
    let entry = Entry {
        restored: Some(Restored {
            last: last.unsigned_abs(),
            entries: published.size,
            root: published.root,
            because: because.to_owned(),
        }),
        ..Entry::of_hub(Kind::Restore, transfer.unsigned_abs(), Timestamp::now(), crate::VERSION)
    };
    let text = entry.seal(log.key()).0;
    log.insert(&tx, &Record { entry, push: None }).await?;
    let number = published.size + 1;
    let link = link(published.root, &text).as_bytes().to_vec();
    let sql = "update phusa.transfers set number = $2, link = $3 where transfer = $1";
    tx.execute(sql, &[&transfer, &to_i64(number), &link]).await.map_err(|error| failed(&error))?;
    tx.commit().await.map_err(|error| failed(&error))?;
    Ok(Some(Continued { first: last.unsigned_abs() + 1, last: published.size, number }))
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot let the log go on", error)
}
