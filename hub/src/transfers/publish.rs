//! Takes numbered entries into the log's files and publishes checkpoints.
//!
//! Whoever holds the sequencer's lock and the folder's writes. Each leaf is checked before it goes
//! in: it must be the one made with its entry, by this hub's key. A checkpoint that was published is
//! never taken back: a database that holds less, or other entries, is reported and nothing is
//! written (decision 0016).

use deadpool_postgres::Transaction;
use phusa_protocol::checkpoint::{Checkpoint, Head};
use phusa_protocol::entry::link;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::{PublicKey, Signature, SigningKey};
use phusa_protocol::leaf::{Leaf, checksum};
use phusa_protocol::tile::TILE_HASHES;
use tokio_postgres::Row;
use tracing::{info, warn};

use super::folder::Folder;
use super::mirror::Mirror;
use super::sequence::{check_not_restored, end_of_chain, is_ours};
use super::writer::Writer;
use super::{digest_of, to_i64};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Entries taken from the database at once.
const ENTRIES_MAX: i64 = 1_000;

/// Keeps the log's files in step with the database.
#[derive(Debug)]
pub struct Publisher {
    warehouse: Warehouse,
    folder: Folder,
    log_key: SigningKey,
    hub_key: SigningKey,
    writer: Option<Writer>,
    mirror: Option<Mirror>,
    /// Whether was said that the second copy is behind.
    said: bool,
}

impl Publisher {
    /// A publisher for the log whose checkpoints `log_key` signs and whose leaves `hub_key`.
    #[must_use]
    pub fn new(
        warehouse: Warehouse,
        folder: Folder,
        log_key: SigningKey,
        hub_key: SigningKey,
    ) -> Self {
        Self { warehouse, folder, log_key, hub_key, writer: None, mirror: None, said: false }
    }

    /// Keeps a second copy of the log's files.
    #[must_use]
    pub fn mirrored(self, mirror: Option<Mirror>) -> Self {
        Self { mirror, ..self }
    }

    /// Entries in the log as it was last published; 0 before.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn published(&self) -> Result<u64, Fault> {
        match &self.writer {
            Some(writer) => Ok(writer.published().size),
            None => Ok(self.folder.checkpoint()?.map_or(0, |checkpoint| checkpoint.head.size)),
        }
    }

    /// Takes in what is numbered and publishes it; the new head, or `None` when there was nothing
    /// new or another process is at it.
    ///
    /// # Errors
    /// [`Code::LogRestored`], [`Code::LogBroken`] naming the entry, or the disk's or database's.
    pub async fn grow(&mut self) -> Result<Option<Head>, Fault> {
        let warehouse = self.warehouse.clone();
        let mut client = warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_published(&error))?;
        if !is_ours(&tx).await? {
            return Ok(None);
        }
        // Given back only when all went well: whatever failed, the files are looked at anew.
        let Some(mut writer) = self.open(&tx).await? else { return Ok(None) };
        let (last, _) = end_of_chain(&tx).await?;
        let published = writer.published();
        check_not_restored(last, published.size)?;
        if last.unsigned_abs() == published.size {
            self.writer = Some(writer);
            return Ok(None);
        }
        while writer.head().size < last.unsigned_abs() {
            let leaves = self.next_leaves(&tx, writer.head().size).await?;
            if leaves.is_empty() {
                break;
            }
            check_extends(&tx, &leaves, &writer).await?;
            writer = blocking(move || writer.append(&leaves).map(|()| writer)).await?;
        }
        let key = self.log_key.clone();
        let (writer, checkpoint) =
            blocking(move || writer.publish(&key).map(|published| (writer, published))).await?;
        self.tell_of_copy(writer.behind());
        remember(&tx, &checkpoint).await?;
        tx.commit().await.map_err(|error| not_published(&error))?;
        self.writer = Some(writer);
        Ok(Some(checkpoint.head))
    }

    /// Says once that the second copy is behind, and once that it is not any more.
    fn tell_of_copy(&mut self, behind: Option<&Fault>) {
        match behind {
            Some(fault) if !self.said => {
                warn!(code = %fault.code, "The log's second copy is behind: {}", fault.chain());
            }
            None if self.said => info!("The log's second copy is complete again"),
            Some(_) | None => {}
        }
        self.said = behind.is_some();
    }

    /// The files' end, looked at when this process begins to write them.
    async fn open(&mut self, tx: &Transaction<'_>) -> Result<Option<Writer>, Fault> {
        if let Some(writer) = self.writer.take() {
            return Ok(Some(writer));
        }
        let folder = self.folder.clone();
        let Some(writer) = blocking(move || Writer::open(&folder)).await? else {
            return Ok(None);
        };
        check_log_key(tx, &self.log_key.public()).await?;
        check_last(tx, &self.folder, writer.published()).await?;
        let mirror = self.mirror.clone();
        let writer = blocking(move || Ok(writer.mirrored(mirror))).await?;
        self.tell_of_copy(writer.behind());
        Ok(Some(writer))
    }

    /// The leaves after the first `size`, each checked against its entry.
    async fn next_leaves(&self, tx: &Transaction<'_>, size: u64) -> Result<Vec<Leaf>, Fault> {
        let sql = "select t.number, t.transfer, t.entry, t.hub_signature, t.leaf, t.link, \
                   t.transfer <= (select leafless_until from phusa.log), \
                   (select b.link from phusa.transfers as b where b.number = t.number - 1) \
                   from phusa.transfers as t where t.number > $1 order by t.number limit $2";
        let statement = tx.prepare_cached(sql).await.map_err(|error| not_published(&error))?;
        let rows = tx.query(&statement, &[&to_i64(size), &ENTRIES_MAX]).await;
        let rows = rows.map_err(|error| not_published(&error))?;
        let (mut leaves, mut made) = (Vec::with_capacity(rows.len()), Vec::new());
        for (row, expected) in rows.iter().zip(size + 1..) {
            let entry = Stored::read(row).map_err(|error| not_published(&error))?;
            if entry.number.unsigned_abs() != expected {
                return Err(broken(expected, "is not in the database"));
            }
            let leaf = match entry.leaf(&self.hub_key.public()) {
                Some(leaf) => leaf,
                None if entry.is_old(&self.hub_key.public()) => {
                    let leaf = Leaf::sign(entry.text.as_bytes(), &self.hub_key);
                    made.push((entry.transfer, leaf.to_bytes().to_vec()));
                    leaf
                }
                None => return Err(broken(expected, "is not as the hub committed it")),
            };
            leaves.push(leaf);
        }
        if !made.is_empty() {
            let (transfers, made): (Vec<i64>, Vec<Vec<u8>>) = made.into_iter().unzip();
            let sql = "update phusa.transfers as t set leaf = m.leaf \
                       from unnest($1::bigint[], $2::bytea[]) as m(transfer, leaf) \
                       where t.transfer = m.transfer";
            let kept = tx.execute(sql, &[&transfers, &made]).await;
            kept.map_err(|error| not_published(&error))?;
        }
        Ok(leaves)
    }
}

/// An entry as the database has it.
struct Stored {
    number: i64,
    transfer: i64,
    text: String,
    signature: String,
    leaf: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    leafless: bool,
    before: Option<Vec<u8>>,
}

impl Stored {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            number: row.try_get(0)?,
            transfer: row.try_get(1)?,
            text: row.try_get(2)?,
            signature: row.try_get(3)?,
            leaf: row.try_get(4)?,
            link: row.try_get(5)?,
            leafless: row.try_get(6)?,
            before: row.try_get(7)?,
        })
    }

    /// The leaf that was committed with the entry, if it is the entry's.
    fn leaf(&self, hub: &PublicKey) -> Option<Leaf> {
        let leaf = Leaf::from_bytes(self.leaf.as_ref()?)?;
        leaf.covers(self.text.as_bytes(), hub).then_some(leaf)
    }

    /// Whether this is an entry from before there were leaves, as it was then: signed by this hub,
    /// or by a key it had before and in its place in the chain.
    fn is_old(&self, hub: &PublicKey) -> bool {
        let signature = Signature::try_from(self.signature.clone());
        let signed = signature.is_ok_and(|s| hub.verifies(self.text.as_bytes(), &s));
        let digest = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(digest_of);
        let before = digest(&self.before).unwrap_or(phusa_protocol::digest::Digest::ZERO);
        let linked = digest(&self.link) == Some(link(before, &self.text));
        self.leafless && self.leaf.is_none() && (signed || linked)
    }
}

/// A folder that holds less than was published once, because it was lost or brought back from a
/// backup, is filled again from the database; it must come to what was published then.
async fn check_extends(
    tx: &Transaction<'_>,
    leaves: &[Leaf],
    writer: &Writer,
) -> Result<(), Fault> {
    let Some(known) = last_published(tx).await? else { return Ok(()) };
    let size = writer.head().size;
    if known.size <= size || known.size > size + leaves.len() as u64 {
        return Ok(());
    }
    let count = usize::try_from(known.size - size).unwrap_or(usize::MAX);
    let mut edge = writer.edge();
    leaves.iter().take(count).for_each(|leaf| edge.push(leaf.hash(), &mut |_, _| {}));
    if edge.root() == known.root {
        return Ok(());
    }
    let what = format!("the database does not lead to the log published with {}", known.size);
    Err(Fault::new(Code::LogBroken, what))
}

async fn last_published(tx: &Transaction<'_>) -> Result<Option<Head>, Fault> {
    let row = tx.query_one("select size, root from phusa.log", &[]).await;
    let row = row.map_err(|error| not_published(&error))?;
    let size: i64 = row.try_get(0).map_err(|error| not_published(&error))?;
    let root: Option<Vec<u8>> = row.try_get(1).map_err(|error| not_published(&error))?;
    let root = root.as_deref().and_then(digest_of);
    Ok(root.map(|root| Head { size: size.unsigned_abs(), root }))
}

/// A log has one key for ever: another one would be another log.
async fn check_log_key(tx: &Transaction<'_>, key: &PublicKey) -> Result<(), Fault> {
    let row = tx.query_one("select log_key from phusa.log", &[]).await;
    let known: Option<String> =
        row.and_then(|row| row.try_get(0)).map_err(|error| not_published(&error))?;
    if known.is_none_or(|known| known == key.to_string()) {
        return Ok(());
    }
    let what = "the log was published under another key than log_key_file holds";
    Err(Fault::new(Code::LogBroken, what))
}

/// The newest published leaf must be the database's entry of that number.
async fn check_last(tx: &Transaction<'_>, folder: &Folder, head: Head) -> Result<(), Fault> {
    let Some(last) = head.size.checked_sub(1) else { return Ok(()) };
    let sql = "select entry from phusa.transfers where number = $1";
    let row = tx.query_opt(sql, &[&to_i64(head.size)]).await;
    let Some(row) = row.map_err(|error| not_published(&error))? else {
        // Less than was published is seen, and said, elsewhere.
        return Ok(());
    };
    let entry: String = row.try_get(0).map_err(|error| not_published(&error))?;
    let leaves = folder.leaves(last / TILE_HASHES, head.size)?;
    if leaves.last().is_some_and(|leaf| leaf.checksum == checksum(entry.as_bytes())) {
        return Ok(());
    }
    Err(broken(head.size, "is another one in the database than in the published log"))
}

async fn remember(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<(), Fault> {
    let (size, root) = (to_i64(checkpoint.head.size), checkpoint.head.root.as_bytes().to_vec());
    let key = checkpoint.log().to_string();
    let sql = "update phusa.log set log_key = $1, size = $2, root = $3, published_at = now()";
    tx.execute(sql, &[&key, &size, &root]).await.map_err(|error| not_published(&error))?;
    super::witnesses::offer(tx, checkpoint).await
}

fn broken(number: u64, what: &str) -> Fault {
    Fault::new(Code::LogBroken, format!("entry {number} {what}"))
}

/// Runs file work where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Fault::because(Code::Bug, "file work ended", error)))
}

fn not_published(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot take entries into the log's files", error)
}
