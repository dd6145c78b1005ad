//! Evidence for one entry: its text, its place, and the proof that the published log holds it.

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::entry::Entry;
use phusa_protocol::evidence::Evidence;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::leaf::{Leaf, Placed};
use phusa_protocol::policy::Policy;
use phusa_protocol::tile::TILE_HASHES;
use phusa_protocol::tree::inclusion_plan;
use serde::Serialize;

use super::folder::Folder;
use super::publish::blocking;
use super::{to_i64, witnesses};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Entries given to an agent at once.
const PLACED_MAX: i64 = 256;

/// How much of the log an entry can be shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Committed; it has no number yet.
    Committed,
    /// Numbered; no checkpoint holds it yet.
    Numbered,
    /// In a published checkpoint that too few witnesses have signed yet.
    Pending,
    /// In a checkpoint that enough witnesses have signed.
    Proven,
}

/// Where the log stands: as published, and as witnesses have signed it.
#[derive(Debug, Clone)]
pub struct Heads {
    /// The newest checkpoint.
    pub published: Option<Checkpoint>,
    /// The newest with enough cosignatures.
    pub proven: Option<Checkpoint>,
}

impl Heads {
    /// Looks.
    ///
    /// # Errors
    /// When the database or the folder does not answer.
    pub async fn read(warehouse: &Warehouse, folder: &Folder) -> Result<Self, Fault> {
        let client = warehouse.client().await?;
        let proven = witnesses::proven(&client, folder.log()).await?;
        let folder = folder.clone();
        let published = blocking(move || folder.checkpoint()).await?;
        Ok(Self { published, proven })
    }

    /// The stage of an entry with this number, if it has one.
    #[must_use]
    pub fn stage(&self, number: Option<u64>) -> Stage {
        let holds = |head: &Option<Checkpoint>, number: u64| {
            head.as_ref().is_some_and(|checkpoint| number <= checkpoint.head.size)
        };
        match number {
            None => Stage::Committed,
            Some(number) if holds(&self.proven, number) => Stage::Proven,
            Some(number) if holds(&self.published, number) => Stage::Pending,
            Some(_) => Stage::Numbered,
        }
    }

    /// The head to prove an entry in: one with enough witnesses, if it holds the entry.
    #[must_use]
    pub fn best(&self, number: u64) -> Option<&Checkpoint> {
        let heads = [&self.proven, &self.published].into_iter().flatten();
        heads.into_iter().find(|checkpoint| number <= checkpoint.head.size)
    }
}

/// Proves that entry `number` is in the log under this checkpoint.
///
/// # Errors
/// [`Code::LogBroken`] when the files do not show it.
pub fn prove(
    folder: &Folder,
    number: u64,
    checkpoint: &Checkpoint,
    policy: &Policy,
) -> Result<Evidence, Fault> {
    let what = || Fault::new(Code::LogBroken, format!("no proof for entry {number}"));
    let (index, size) = (number.checked_sub(1).ok_or_else(what)?, checkpoint.head.size);
    let plan = inclusion_plan(index, size).ok_or_else(what)?;
    let leaves = folder.leaves(index / TILE_HASHES, size)?;
    let place = usize::try_from(index % TILE_HASHES).unwrap_or(usize::MAX);
    let leaf: &Leaf = leaves.get(place).ok_or_else(what)?;
    let loaded = folder.load(plan.iter().flatten(), size)?;
    let hashes = loaded.proof(&plan).ok_or_else(what)?;
    let witnesses: Vec<_> = policy.witnesses().copied().collect();
    Ok(Evidence::new(leaf, (index, hashes), checkpoint, &witnesses))
}

/// An agent's own accepted batches of one epoch that the published log holds, from `first` on.
///
/// # Errors
/// When the database does not answer.
pub async fn placed(
    warehouse: &Warehouse,
    agent: &AgentId,
    (dataset, epoch, first): (&DatasetId, Epoch, Seq),
) -> Result<Vec<Placed>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select number, entry, leaf from phusa.transfers where kind = 'push' \
               and agent = $1 and dataset = $2 and epoch = $3 and seq >= $4 \
               and number <= (select size from phusa.log) and leaf is not null \
               order by seq limit $5";
    let (epoch, first) = (to_i64(epoch.0), to_i64(first.0));
    let (agent, dataset) = (agent.to_string(), dataset.to_string());
    let rows = client.query(sql, &[&agent, &dataset, &epoch, &first, &PLACED_MAX]).await;
    let rows = rows.map_err(|error| not_read(&error))?;
    let read = |row: &tokio_postgres::Row| -> Result<Option<Placed>, tokio_postgres::Error> {
        let (number, leaf): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(2)?);
        let entry = row.try_get(1)?;
        let leaf = Leaf::from_bytes(&leaf);
        Ok(leaf.map(|leaf| Placed { number: number.unsigned_abs(), entry, leaf }))
    };
    let placed: Result<Vec<_>, _> = rows.iter().map(read).collect();
    Ok(placed.map_err(|error| not_read(&error))?.into_iter().flatten().collect())
}

/// One entry as the database has it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its number, once it has one.
    pub number: Option<u64>,
    /// Its canonical JSON.
    pub text: String,
    /// What it says.
    pub entry: Entry,
}

/// Finds an entry by its number, or by the transfer that receipts and rows name.
///
/// # Errors
/// When there is none, or the database does not answer.
pub async fn find(warehouse: &Warehouse, which: Which) -> Result<Found, Fault> {
    let client = warehouse.client().await?;
    let (column, value) = match which {
        Which::Number(number) => ("number", number),
        Which::Transfer(transfer) => ("transfer", transfer),
    };
    let sql = format!("select number, entry from phusa.transfers where {column} = $1");
    let row = client.query_opt(&sql, &[&to_i64(value)]).await.map_err(|error| not_read(&error))?;
    let none = || {
        let what = format!("the database holds no entry with {column} {value}");
        Fault::new(Code::LogEntryMissing, what)
    };
    let row = row.ok_or_else(none)?;
    let number: Option<i64> = row.try_get(0).map_err(|error| not_read(&error))?;
    let text: String = row.try_get(1).map_err(|error| not_read(&error))?;
    let entry = serde_json::from_str(&text)
        .map_err(|error| Fault::because(Code::LogBroken, format!("{column} {value}"), error))?;
    Ok(Found { number: number.map(i64::unsigned_abs), text, entry })
}

/// What an entry is looked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Its place in the log.
    Number(u64),
    /// The transfer it tells of.
    Transfer(u64),
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read entries of the log", error)
}
