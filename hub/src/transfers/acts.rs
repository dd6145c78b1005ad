//! Entries of what the hub does with what it holds: backups, reads, exports, destructions.
//!
//! They are committed in the transaction of what they tell of, or before it is shown to anybody.

use deadpool_postgres::Transaction;
use phusa_protocol::batch::SALT_BYTES;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::Entry;
use phusa_protocol::entry::act::Act;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;

use super::{Log, Record, not_logged, to_i64};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// What was done, and to what.
#[derive(Debug)]
pub struct Done<'a> {
    /// What was done.
    pub act: Act,
    /// Which dataset, and the fingerprint of its contract; `None` for the hub as a whole.
    pub dataset: Option<(&'a DatasetId, Digest)>,
    /// Bytes given out, where there were any.
    pub bytes: u64,
    /// Blinds the commitments inside; kept beside the entry until it is destroyed.
    pub salt: Option<[u8; SALT_BYTES]>,
}

impl<'a> Done<'a> {
    /// Something done to the hub as a whole.
    #[must_use]
    pub fn whole(act: Act) -> Self {
        Self { act, dataset: None, bytes: 0, salt: None }
    }

    /// Something done to one dataset.
    #[must_use]
    pub fn to(dataset: &'a DatasetId, contract: Digest, act: Act) -> Self {
        Self { act, dataset: Some((dataset, contract)), bytes: 0, salt: None }
    }
}

impl Log {
    /// Inserts the entry of something that is done in this transaction; returns its transfer.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn done(&self, tx: &Transaction<'_>, done: Done<'_>) -> Result<u64, Fault> {
        let transfer = self.next_transfer(tx).await?.unsigned_abs();
        let kind = done.act.kind();
        let entry = Entry {
            dataset: done.dataset.map(|(dataset, _)| dataset.clone()),
            contract: done.dataset.map(|(_, contract)| contract),
            bytes: done.bytes,
            act: Some(done.act),
            ..Entry::of_hub(kind, transfer, Timestamp::now(), crate::VERSION)
        };
        self.insert(tx, &Record { entry, push: None }).await?;
        if let Some(salt) = done.salt {
            let sql = "insert into phusa.salts (transfer, salt) values ($1, $2)";
            let kept = tx.execute(sql, &[&to_i64(transfer), &salt.as_slice()]).await;
            kept.map_err(not_logged)?;
        }
        Ok(transfer)
    }

    /// The same in a transaction of its own.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn done_alone(&self, warehouse: &Warehouse, done: Done<'_>) -> Result<u64, Fault> {
        let failed = |error| database_fault("cannot write a log entry", &error);
        let mut client = warehouse.client().await?;
        let tx = client.transaction().await.map_err(failed)?;
        let transfer = self.done(&tx, done).await?;
        tx.commit().await.map_err(failed)?;
        self.wake();
        Ok(transfer)
    }
}

/// A fresh salt.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn salt() -> Result<[u8; SALT_BYTES], Fault> {
    let mut salt = [0; SALT_BYTES];
    let filled = getrandom::fill(&mut salt);
    filled.map_err(|error| {
        Fault::because(Code::Bug, "no randomness from the system", error.to_string())
    })?;
    Ok(salt)
}
