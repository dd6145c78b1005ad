//! Applies one batch to its dataset's table inside the hub's transaction.
//!
//! Rows of a first full read go straight into the table (`load`). Everything else is reduced to
//! its net changes (`compact`), staged beside the table (`staging`), and merged when the batch's
//! turn has come (`merge`, `rekey`, `sweep`). The caller's transaction makes it all or nothing.

use deadpool_postgres::Transaction;
use phusa_protocol::batch::Phase;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::Error;

use super::compact::{self, Step};
use super::tables::Shape;
use crate::error::{database_fault, statement_fault};
use staging::Part;

pub use super::digest::{answer, digest};

mod load;
mod staging;
mod merge;
mod rekey;
mod sweep;

/// What is applied, and in whose name.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The tables it goes to.
    pub shape: &'a Shape,
    /// Whose rows they are.
    pub agency: &'a AgencyId,
    /// When the last of its changes was committed, by the source's clock.
    pub source_time: Timestamp,
    /// Where its stream is in its life.
    pub phase: Phase,
    /// Whether the table held no rows of this agency when the epoch began.
    pub initial_load: bool,
    /// The stream's number in `phusa.streams`.
    pub stream_key: i64,
}

impl Delivery<'_> {
    fn fault(&self, error: &Error) -> Fault {
        database_fault(format!("cannot merge a batch into {}", self.shape.dataset()), error)
    }

    /// Whether rows are remembered, so that those not seen can be swept at the end of the read.
    fn is_read_again(&self) -> bool {
        self.phase == Phase::Read && !self.initial_load
    }
}

/// A batch whose rows lie beside the table or, in a first full read, in it already.
#[derive(Debug)]
pub struct Prepared(Vec<Part>);

/// Copies the rows of `body` to where [`finish`] can merge them; those of a first full read go
/// into the table at once, in the name of `transfer`.
///
/// # Errors
/// `frame_damaged` or `contract_violation` for a body that is not what it claims,
/// `batch_conflict` for a change to a record that is not there, or a fault of the warehouse.
pub async fn prepare(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    transfer: i64,
    body: &[u8],
) -> Result<Prepared, Fault> {
    if delivery.phase == Phase::Read && delivery.initial_load && load::is_plain(body) {
        Stamp::of(delivery, transfer).tell(tx).await.map_err(|error| delivery.fault(&error))?;
        load::load(tx, delivery, body).await?;
        return Ok(Prepared(Vec::new()));
    }
    let steps = compact::steps(delivery.shape, body).map_err(|error| {
        let what = format!("cannot read a batch of {}", delivery.shape.dataset());
        Fault::because(Code::ContractViolation, what, error)
    })?;
    if delivery.phase == Phase::Live && steps.iter().any(has_orphans) {
        return Err(merge::lost_record(delivery.shape));
    }
    staging::stage(tx, delivery.shape, steps).await.map(Prepared)
}

fn has_orphans(step: &Step<'_>) -> bool {
    matches!(step, Step::Net(net) if net.orphan_count > 0)
}

/// Merges what [`prepare`] copied, in the name of `transfer`. A [`Phase::ReadEnd`] sweeps.
///
/// # Errors
/// As of [`prepare`].
pub async fn finish(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    transfer: i64,
    prepared: Prepared,
) -> Result<(), Fault> {
    let sweeps = delivery.phase == Phase::ReadEnd && !delivery.initial_load;
    if prepared.0.is_empty() && !sweeps {
        return Ok(());
    }
    let stamp = Stamp::of(delivery, transfer);
    stamp.tell(tx).await.map_err(|error| delivery.fault(&error))?;
    for part in prepared.0 {
        finish_part(tx, delivery, &stamp, part).await?;
    }
    if sweeps {
        let swept = sweep::sweep(tx, delivery.shape, delivery.stream_key, &stamp).await;
        swept.map_err(|error| delivery.fault(&error))?;
    }
    Ok(())
}

async fn finish_part(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    stamp: &Stamp<'_>,
    part: Part,
) -> Result<(), Fault> {
    let (shape, fault) = (delivery.shape, |error| delivery.fault(&error));
    match part {
        Part::Truncate => merge::truncate(tx, shape, stamp).await.map_err(fault),
        Part::Delete(part) => merge::delete(tx, shape, part).await.map_err(fault),
        Part::Upsert(part) => {
            merge::upsert(tx, shape, stamp, part).await.map_err(fault)?;
            if !delivery.is_read_again() {
                return Ok(());
            }
            sweep::remember(tx, shape, delivery.stream_key, part).await.map_err(fault)
        }
        Part::Patch { part, unchanged, row_count } => {
            merge::patch(tx, delivery, stamp, (part, &unchanged, row_count)).await
        }
        Part::Rekey { old, new } => rekey::rekey(tx, delivery, stamp, (&old, &new)).await,
    }
}

/// Forgets which rows an earlier, unfinished epoch of the stream had seen; to be called when a new
/// epoch begins.
///
/// # Errors
/// A fault of the warehouse.
pub async fn begin_epoch(tx: &Transaction<'_>, stream_key: i64) -> Result<(), Fault> {
    let what = "cannot forget an unfinished epoch";
    sweep::forget(tx, stream_key).await.map_err(|error| statement_fault(what, &error))
}

/// In whose name rows change: what goes into their metadata columns.
#[derive(Debug)]
struct Stamp<'a> {
    transfer: i64,
    agency: &'a str,
    source_time: Moment,
}

/// A moment as PostgreSQL takes it.
#[derive(Debug)]
struct Moment(Timestamp);

impl<'a> Stamp<'a> {
    fn of(delivery: &Delivery<'a>, transfer: i64) -> Self {
        let (agency, source_time) = (delivery.agency.as_str(), Moment(delivery.source_time));
        Self { transfer, agency, source_time }
    }

    /// `$1` transfer, `$2` agency, `$3` source time.
    fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.transfer, &self.agency, &self.source_time]
    }

    /// Tells the session, for the defaults that COPY takes and for the history's triggers.
    async fn tell(&self, tx: &Transaction<'_>) -> Result<(), Error> {
        let sql = "select set_config('phusa.transfer', $1, true), \
                   set_config('phusa.agency', $2, true), set_config('phusa.source_time', $3, true)";
        let statement = tx.prepare_cached(sql).await?;
        let (transfer, source_time) = (self.transfer.to_string(), self.source_time.0.to_string());
        tx.query_one(&statement, &[&transfer, &self.agency, &source_time]).await.map(drop)
    }
}

impl ToSql for Moment {
    fn to_sql(
        &self,
        kind: &postgres_types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<postgres_types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.postgres_micros().to_sql(kind, out)
    }

    fn accepts(kind: &postgres_types::Type) -> bool {
        *kind == postgres_types::Type::TIMESTAMPTZ
    }

    postgres_types::to_sql_checked!();
}
