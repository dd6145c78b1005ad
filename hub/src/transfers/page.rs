//! One page of the log, the newest first, for people who look through it.

use std::collections::BTreeMap;

use phusa_protocol::entry::Entry;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};

use super::to_i64;
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Which entries are looked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Only of agents of this agency.
    pub agency: Option<AgencyId>,
    /// Only of this kind, by its name.
    pub kind: Option<String>,
    /// Only of this dataset.
    pub dataset: Option<DatasetId>,
    /// Only transfers before this one.
    pub before: Option<u64>,
    /// How many at most.
    pub lines: i64,
}

/// An entry of a page.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The transfer it tells of.
    pub transfer: u64,
    /// Its number, once it has one.
    pub number: Option<u64>,
    /// What it says.
    pub entry: Entry,
}

/// The page. Entries that have no number yet are on it.
///
/// # Errors
/// When the database does not answer, or an entry cannot be read.
pub async fn list(warehouse: &Warehouse, asked: &Asked) -> Result<Vec<Listed>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select transfer, number, entry from phusa.transfers \
               where transfer < $1 and ($2::text is null or starts_with(agent, $2)) \
               and ($3::text is null or kind = $3) and ($4::text is null or dataset = $4) \
               order by transfer desc limit $5";
    let before = asked.before.map_or(i64::MAX, to_i64);
    let agency = asked.agency.as_ref().map(|agency| format!("{agency}/"));
    let dataset = asked.dataset.as_ref().map(ToString::to_string);
    let failed = |error| database_fault("cannot list entries", &error);
    let rows = client
        .query(sql, &[&before, &agency, &asked.kind, &dataset, &asked.lines])
        .await
        .map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        let transfer: i64 = row.try_get(0).map_err(failed)?;
        let number: Option<i64> = row.try_get(1).map_err(failed)?;
        let text: String = row.try_get(2).map_err(failed)?;
        let entry = serde_json::from_str(&text).map_err(|error| {
            Fault::because(Code::LogBroken, format!("transfer {transfer}"), error)
        })?;
        let number = number.map(i64::unsigned_abs);
        Ok(Listed { transfer: transfer.unsigned_abs(), number, entry })
    };
    rows.iter().map(read).collect()
}

/// The numbers that the entries of these transfers have; one that has none yet is not among them.
///
/// # Errors
/// When the database does not answer.
pub async fn numbers(warehouse: &Warehouse, of: &[i64]) -> Result<BTreeMap<i64, u64>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select transfer, number from phusa.transfers \
               where transfer = any($1) and number is not null";
    let failed = |error| database_fault("cannot look entries up", &error);
    let rows = client.query(sql, &[&of]).await.map_err(failed)?;
    let read =
        |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}
