//! The transfer log: entries committed with the data, numbered and linked afterwards.
//!
//! An accepted batch's entry is inserted in the transaction that applies its rows (invariant 4); a
//! refusal's in one of its own. [`sequence`] then gives each the next number and link, and
//! [`publish`] takes it into the transparency log's files, which [`folder`] and [`writer`] keep.

pub mod deed;
pub mod sheet;
pub mod export;
pub mod page;
pub mod keys;
pub mod acts;
pub mod mirror;
pub mod sequence;
pub mod folder;
pub mod writer;
pub mod publish;
pub mod witnesses;
pub mod evidence;
pub mod minutes;
pub mod verify;
pub mod audit;
pub mod restore;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool_postgres::Transaction;
use phusa_protocol::batch::{SALT_BYTES, SignedHeader, canonical_json};
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{Entry, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::leaf::Leaf;
use phusa_protocol::receipt::{Receipt, SignedReceipt};
use phusa_protocol::time::Timestamp;
use tokio::sync::Notify;

use crate::error::database_fault;

/// Writes and seals entries in the hub's name; a clone writes to the same log.
#[derive(Debug, Clone)]
pub struct Log {
    key: SigningKey,
    wake: Arc<Notify>,
}

/// One entry to be inserted.
#[derive(Debug)]
pub struct Record {
    /// What it says.
    pub entry: Entry,
    /// For an accepted batch: what is kept beside the entry.
    pub push: Option<Push>,
}

/// What is kept beside the entry of an accepted batch.
#[derive(Debug)]
pub struct Push {
    /// The agent's header.
    pub signed: SignedHeader,
    /// Blinds the commitment; destroyed with the rows it covers (HU-26b).
    pub salt: [u8; SALT_BYTES],
    /// What the agent is told, as JSON.
    pub receipt: String,
}

/// A batch as the log tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// The agent's header.
    pub signed: &'a SignedHeader,
    /// Blinds the commitment.
    pub salt: &'a [u8; SALT_BYTES],
    /// Bytes as received.
    pub bytes: u64,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl Log {
    /// A log whose entries and receipts `key` signs.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self { key, wake: Arc::default() }
    }

    /// The key that signs.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The key others verify with.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Says that an entry has been committed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until an entry has been committed, or for `limit`.
    pub async fn woken(&self, limit: Duration) {
        // Elapsing is as good as being woken: other processes commit entries too.
        let _elapsed = tokio::time::timeout(limit, self.wake.notified()).await;
    }

    /// The next transfer's identifier: rising, not gap-free.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next_transfer(&self, tx: &Transaction<'_>) -> Result<i64, Fault> {
        let sql = "select nextval(pg_get_serial_sequence('phusa.transfers', 'transfer'))";
        let statement = tx.prepare_cached(sql).await.map_err(not_logged)?;
        let row = tx.query_one(&statement, &[]).await.map_err(not_logged)?;
        row.try_get(0).map_err(not_logged)
    }

    /// The record of an accepted batch, with its receipt.
    #[must_use]
    pub fn accepted(
        &self,
        arrived: &Arrived<'_>,
        transfer: i64,
        now: Timestamp,
    ) -> (Record, SignedReceipt) {
        let header = &arrived.signed.header;
        let receipt = Receipt {
            v: 1,
            agent: header.agent.clone(),
            dataset: header.dataset.clone(),
            epoch: header.epoch,
            seq: header.seq,
            header: arrived.signed.digest(),
            transfer: transfer.unsigned_abs(),
            committed_at: now,
        };
        let entry = Entry {
            v: 1,
            kind: Kind::Push,
            transfer: transfer.unsigned_abs(),
            agent: Some(header.agent.clone()),
            dataset: Some(header.dataset.clone()),
            header: String::from_utf8(arrived.signed.bytes.clone()).ok(),
            agent_signature: Some(arrived.signed.signature),
            refused: None,
            compared: None,
            contract: Some(header.contract),
            bytes: arrived.bytes,
            received_at: arrived.received_at,
            committed_at: now,
            hub_version: crate::VERSION.to_owned(),
            step: None,
            restored: None,
            identity: None,
            act: None,
            deed: None,
        };
        let receipt = SignedReceipt::sign(receipt, &self.key);
        let push = Push {
            signed: arrived.signed.clone(),
            salt: *arrived.salt,
            receipt: String::from_utf8(canonical_json(&receipt)).unwrap_or_default(),
        };
        (Record { entry, push: Some(push) }, receipt)
    }

    /// Inserts an entry, and for an accepted batch its receipt and salt.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert(&self, tx: &Transaction<'_>, record: &Record) -> Result<(), Fault> {
        let entry = &record.entry;
        let (text, signature) = entry.seal(&self.key);
        let leaf = Leaf::sign(text.as_bytes(), &self.key).to_bytes();
        let transfer = to_i64(entry.transfer);
        let header = record.push.as_ref().map(|push| &push.signed.header);
        let epoch = header.map(|header| to_i64(header.epoch.0));
        let seq = header.map(|header| to_i64(header.seq.0));
        let digest = record.push.as_ref().map(|push| push.signed.digest().as_bytes().to_vec());
        let receipt = record.push.as_ref().map(|push| push.receipt.as_str());
        let sql = "insert into phusa.transfers (transfer, kind, agent, dataset, epoch, seq, \
                   header_digest, entry, hub_signature, leaf, receipt, bytes, committed_at) \
                   values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let statement = tx.prepare_cached(sql).await.map_err(not_logged)?;
        tx.execute(
            &statement,
            &[
                &transfer,
                &kind_name(entry.kind),
                &entry.agent.as_ref().map(ToString::to_string),
                &entry.dataset.as_ref().map(ToString::to_string),
                &epoch,
                &seq,
                &digest,
                &text,
                &String::from(signature),
                &leaf.as_slice(),
                &receipt,
                &to_i64(entry.bytes),
                &system_time(entry.committed_at),
            ],
        )
        .await
        .map_err(not_logged)?;
        if let Some(push) = &record.push {
            let sql = "insert into phusa.salts (transfer, salt) values ($1, $2)";
            let statement = tx.prepare_cached(sql).await.map_err(not_logged)?;
            tx.execute(&statement, &[&transfer, &push.salt.as_slice()])
                .await
                .map_err(not_logged)?;
        }
        Ok(())
    }
}

/// The receipt of a batch committed before, if its header was this one; `None` when the log holds
/// another or none.
///
/// # Errors
/// When the database does not answer.
pub async fn receipt_of(
    client: &deadpool_postgres::Object,
    signed: &SignedHeader,
) -> Result<Option<SignedReceipt>, Fault> {
    let header = &signed.header;
    let (agent, dataset) = (header.agent.to_string(), header.dataset.to_string());
    let sql = "select header_digest, receipt from phusa.transfers where kind = 'push' \
               and agent = $1 and dataset = $2 and epoch = $3 and seq = $4";
    let statement = client.prepare_cached(sql).await.map_err(not_found)?;
    let (epoch, seq) = (to_i64(header.epoch.0), to_i64(header.seq.0));
    let row = client.query_opt(&statement, &[&agent, &dataset, &epoch, &seq]).await;
    let Some(row) = row.map_err(not_found)? else { return Ok(None) };
    let digest: Vec<u8> = row.try_get(0).map_err(not_found)?;
    let receipt: String = row.try_get(1).map_err(not_found)?;
    if digest != signed.digest().as_bytes() {
        return Ok(None);
    }
    serde_json::from_str(&receipt)
        .map(Some)
        .map_err(|error| Fault::because(Code::LogBroken, "a stored receipt is unreadable", error))
}

/// A kind's name in the column `kind`, the same as in the entry.
#[must_use]
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Push => "push",
        Kind::Refuse => "refuse",
        Kind::Contract => "contract",
        Kind::Category => "category",
        Kind::Proof => "proof",
        Kind::Restore => "restore",
        Kind::Identity => "identity",
        Kind::Backup => "backup",
        Kind::Read => "read",
        Kind::Export => "export",
        Kind::Destroy => "destroy",
        Kind::Disclose => "disclose",
        Kind::Operator => "operator",
    }
}

/// A count as PostgreSQL's `bigint`; saturates, far beyond anything that is counted here.
#[must_use]
pub fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A moment as the database driver takes it.
#[must_use]
pub fn system_time(moment: Timestamp) -> SystemTime {
    let micros = moment.micros();
    let span = Duration::from_micros(micros.unsigned_abs());
    let shifted = if micros < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    };
    shifted.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A moment as the database driver gives it.
#[must_use]
pub fn from_system_time(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp::UNIX_EPOCH.after(after),
        Err(before) => {
            let micros = i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(micros.saturating_neg())
        }
    }
}

/// A digest from a `bytea` column; `None` when it is not 32 bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest::from_bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_logged(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot write a log entry", &error)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_found(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot read a batch's receipt", &error)
}
