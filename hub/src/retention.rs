//! The end of rows: what is due by the contract's retention, holds, and destruction by two people, with
//! a certificate that stays in the transfer log (CB-18, HU-26b; decision 0018).
//!
//! What counts is when a version ended: a row that was changed or deleted at its source has a former
//! version in `<table>__history`, kept for `retention` from then on. A row in force is due only where a
//! person asks for it (`--current`), `retention` after its last change. [`destroy`] does it.

pub mod destroy;

use deadpool_postgres::Object;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::catalog::{Agreed, Contracts};
use crate::error::{database_fault, statement_fault};
use crate::transfers::{from_system_time, system_time};

/// Why nothing of a dataset may be destroyed for now.
#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    /// Its number.
    pub hold: i64,
    /// Which dataset.
    pub dataset: String,
    /// Why.
    pub because: String,
    /// Who said so.
    pub added_by: String,
    /// Since when.
    pub added_at: Timestamp,
}

/// What of a dataset is due.
#[derive(Debug, Clone, Serialize)]
pub struct Due {
    /// Which dataset.
    pub dataset: String,
    /// The agreed retention.
    pub retention: String,
    /// Versions that ended before this moment are due.
    pub before: Timestamp,
    /// Former versions that are due.
    pub versions: u64,
    /// Rows in force whose last change is that old; they go only where a person says `--current`.
    pub rows: u64,
    /// Holds in force: with one, nothing is due.
    pub holds: u64,
}

/// The moment before which what ended is due.
#[must_use]
pub fn due_before(agreed: &Agreed, now: Timestamp) -> Timestamp {
    let span = i64::try_from(agreed.contract.retention.0.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(span))
}

/// What is due, dataset by dataset.
///
/// # Errors
/// When the database does not answer.
pub async fn plan(client: &Object, contracts: &Contracts) -> Result<Vec<Due>, Fault> {
    let (now, mut due) = (Timestamp::now(), Vec::new());
    for agreed in contracts.iter() {
        let before = due_before(agreed, now);
        let (rows, versions) = count(&***client, agreed, before).await?;
        let holds = holds(&***client, Some(&agreed.contract.dataset)).await?.len() as u64;
        due.push(Due {
            dataset: agreed.contract.dataset.to_string(),
            retention: agreed.contract.retention.to_string(),
            before,
            versions,
            rows,
            holds,
        });
    }
    Ok(due)
}

/// Rows in force last changed before this moment, and former versions that ended before it.
///
/// # Errors
/// When the database does not answer.
pub async fn count(
    client: &impl GenericClient,
    agreed: &Agreed,
    before: Timestamp,
) -> Result<(u64, u64), Fault> {
    let failed = |error: tokio_postgres::Error| statement_fault("cannot count what is due", &error);
    let (table, history) = (agreed.shape.table(), agreed.shape.history());
    let sql = format!(
        "select (select count(*) from {table} where _source_time < $1), \
                (select count(*) from {history} where _until < $1)"
    );
    let row = client.query_one(&sql, &[&system_time(before)]).await.map_err(failed)?;
    let number = |index: usize| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
    Ok((number(0).map_err(failed)?, number(1).map_err(failed)?))
}

/// Forbids the destruction of anything of a dataset until it is lifted.
///
/// # Errors
/// When the database does not answer.
pub async fn add_hold(
    client: &impl GenericClient,
    dataset: &DatasetId,
    (by, because): (&str, &str),
) -> Result<i64, Fault> {
    let sql = "insert into phusa.holds (dataset, because, added_by, added_at) \
               values ($1, $2, $3, $4) returning hold";
    let at = system_time(Timestamp::now());
    let row = client.query_one(sql, &[&dataset.to_string(), &because, &by, &at]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(&error))
}

/// Lifts a hold; whether one of this number was in force.
///
/// # Errors
/// When the database does not answer.
pub async fn lift_hold(client: &impl GenericClient, hold: i64, by: &str) -> Result<bool, Fault> {
    let sql = "update phusa.holds set lifted_by = $2, lifted_at = $3 \
               where hold = $1 and lifted_at is null";
    let at = system_time(Timestamp::now());
    let lifted = client.execute(sql, &[&hold, &by, &at]).await;
    Ok(lifted.map_err(|error| failed(&error))? > 0)
}

/// Holds in force, of one dataset or of all.
///
/// # Errors
/// When the database does not answer.
pub async fn holds(
    client: &impl GenericClient,
    dataset: Option<&DatasetId>,
) -> Result<Vec<Hold>, Fault> {
    let sql = "select hold, dataset, because, added_by, added_at from phusa.holds \
               where lifted_at is null and ($1::text is null or dataset = $1) order by hold";
    let rows = client.query(sql, &[&dataset.map(ToString::to_string)]).await;
    let read = |row: &Row| {
        Ok(Hold {
            hold: row.try_get(0)?,
            dataset: row.try_get(1)?,
            because: row.try_get(2)?,
            added_by: row.try_get(3)?,
            added_at: from_system_time(row.try_get(4)?),
        })
    };
    let read: Result<_, tokio_postgres::Error> =
        rows.map_err(|error| failed(&error))?.iter().map(read).collect();
    read.map_err(|error| failed(&error))
}

/// Whether a dataset may lose what ended before this moment.
///
/// # Errors
/// `retention_runs` with the reason.
pub async fn check_may_end(
    client: &impl GenericClient,
    agreed: &Agreed,
    before: Timestamp,
) -> Result<(), Fault> {
    let dataset = &agreed.contract.dataset;
    let latest = due_before(agreed, Timestamp::now());
    if before > latest {
        let what = format!(
            "{dataset} is kept for {}: only what ended before {latest} may be destroyed, not {before}",
            agreed.contract.retention
        );
        return Err(Fault::new(Code::RetentionRuns, what));
    }
    if let Some(hold) = holds(client, Some(dataset)).await?.first() {
        let what = format!("{dataset} is held by {} (hold {})", hold.added_by, hold.hold);
        return Err(Fault::new(Code::RetentionRuns, what));
    }
    Ok(())
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write what is kept", error)
}
