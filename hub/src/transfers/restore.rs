//! Lets the log go on after the database was restored from a backup (decision 0016).
//!
//! Entries that were published and are no longer in the database stay in the files as leaves; an
//! entry says which they are and why. Nothing that was published is taken back, and no number is
//! given twice: entries of the backup that had a number and were not published when it was made, and
//! whose numbers the published log has given to others since, lose them and are numbered anew.

use deadpool_postgres::Transaction;
use phusa_protocol::entry::{Entry, Kind, Restored, link};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::leaf::{Leaf, checksum};
use phusa_protocol::time::Timestamp;

use super::audit::Leaves;
use super::folder::Folder;
use super::sequence::is_ours;
use super::{Log, Record, to_i64};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Transfers that may have been named in receipts after the backup was made; their identifiers are
/// passed over.
const IDENTIFIERS_PASSED_OVER: i64 = 1_000_000;

/// Entries compared with their leaves at once.
const ENTRIES_MAX: i64 = 256;

/// What was lost, as the new entry says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The first entry that the database no longer holds.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The number of the entry that says so.
    pub number: u64,
    /// Entries that had numbers which the published log gave to others; they are numbered anew.
    pub again: u64,
}

/// Writes the entry that explains the gap, in the place after the published log; `None` when there
/// is no gap.
///
/// # Errors
/// [`Code::LogBroken`] when an entry is neither the published one nor one that this hub committed;
/// otherwise when another process numbers entries just now, or the database or the files do not
/// answer.
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
    let Some(checkpoint) = folder.checkpoint()? else { return Ok(None) };
    let published = checkpoint.head;
    let held = last_held(&tx, folder).await?;
    if held >= published.size {
        return Ok(None);
    }
    let again = take_numbers_back(&tx, held, &log.public_key()).await?;
    let sql = "select setval(pg_get_serial_sequence('phusa.transfers', 'transfer'), \
               nextval(pg_get_serial_sequence('phusa.transfers', 'transfer')) + $1)";
    tx.execute(sql, &[&IDENTIFIERS_PASSED_OVER]).await.map_err(|error| failed(&error))?;
    let transfer = log.next_transfer(&tx).await?;
    let entry = Entry {
        restored: Some(Restored {
            last: held,
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
    Ok(Some(Continued { first: held + 1, last: published.size, number, again }))
}

/// The last entry that the database holds as it was published; 0 when it holds none.
async fn last_held(tx: &Transaction<'_>, folder: &Folder) -> Result<u64, Fault> {
    let mut leaves = Leaves::open(folder)?;
    let mut until = to_i64(leaves.size());
    let sql = "select number, entry from phusa.transfers where number <= $1 \
               order by number desc limit $2";
    loop {
        let rows = tx.query(sql, &[&until, &ENTRIES_MAX]).await.map_err(|error| failed(&error))?;
        if rows.is_empty() {
            return Ok(0);
        }
        for row in rows {
            let number: i64 = row.try_get(0).map_err(|error| failed(&error))?;
            let entry: &str = row.try_get(1).map_err(|error| failed(&error))?;
            let leaf = leaves.of(number.unsigned_abs())?;
            if leaf.is_some_and(|leaf| leaf.checksum == checksum(entry.as_bytes())) {
                return Ok(number.unsigned_abs());
            }
            until = number - 1;
        }
    }
}

/// Takes the numbers of all entries after `held` back; how many those were. Each must be as this hub
/// committed it, or somebody altered what was published.
async fn take_numbers_back(tx: &Transaction<'_>, held: u64, hub: &PublicKey) -> Result<u64, Fault> {
    let sql = "update phusa.transfers set number = null, link = null where number > $1 \
               returning transfer, entry, leaf";
    let rows = tx.query(sql, &[&to_i64(held)]).await.map_err(|error| failed(&error))?;
    for row in &rows {
        let transfer: i64 = row.try_get(0).map_err(|error| failed(&error))?;
        let entry: &str = row.try_get(1).map_err(|error| failed(&error))?;
        let leaf: Option<&[u8]> = row.try_get(2).map_err(|error| failed(&error))?;
        if !leaf.and_then(Leaf::from_bytes).is_some_and(|l| l.covers(entry.as_bytes(), hub)) {
            let what = format!(
                "the entry of transfer {transfer} is neither the published one nor as the hub \
                 committed it"
            );
            return Err(Fault::new(Code::LogBroken, what));
        }
    }
    Ok(rows.len() as u64)
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot let the log go on", error)
}
