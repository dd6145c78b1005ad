//! What people do at the hub, as entries: in the transaction that does it, or in one of its own.

use deadpool_postgres::Transaction;
use phusa_protocol::deed::Deed;
use phusa_protocol::entry::{Entry, Kind};
use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;

use super::{Log, Record};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Writes a deed down in `tx`, which also does it; returns the transfer its entry is found by.
///
/// # Errors
/// When the database refuses.
pub async fn write(tx: &Transaction<'_>, log: &Log, deed: Deed) -> Result<u64, Fault> {
    let transfer = log.next_transfer(tx).await?.unsigned_abs();
    let entry = entry(deed, transfer, Timestamp::now());
    log.insert(tx, &Record { entry, push: None }).await?;
    Ok(transfer)
}

/// Writes a deed down by itself: one that changes nothing, such as a refused login, or that must
/// be known before it is done, such as an export.
///
/// # Errors
/// When the database refuses.
pub async fn write_alone(warehouse: &Warehouse, log: &Log, deed: Deed) -> Result<u64, Fault> {
    let failed = |error| database_fault("cannot write down what was done", &error);
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    let transfer = write(&tx, log, deed).await?;
    tx.commit().await.map_err(failed)?;
    log.wake();
    Ok(transfer)
}

fn entry(deed: Deed, transfer: u64, now: Timestamp) -> Entry {
    let kind = if deed.taken.is_some() { Kind::Disclose } else { Kind::Operator };
    let dataset = deed.taken.as_ref().and_then(|taken| taken.dataset.clone());
    Entry { dataset, deed: Some(deed), ..Entry::of_hub(kind, transfer, now, crate::VERSION) }
}

/// Who sits at the hub's own console: the user that `sudo` was called by, or the one of the
/// session. Whoever may run this command with the hub's keys may also say another name; that they
/// may is what the machine's administrator decides.
#[must_use]
pub fn console() -> String {
    let named = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| {
        let name = std::env::var(name).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (!name.is_empty() && name.len() <= 64 && name.chars().all(plain)).then_some(name)
    });
    named.map_or_else(
        || format!("console:uid-{}", rustix::process::getuid().as_raw()),
        |name| format!("console:{name}"),
    )
}
