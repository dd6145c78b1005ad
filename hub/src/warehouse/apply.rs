//! Applies one batch to its dataset's table inside the hub's transaction.

use deadpool_postgres::Transaction;
use phusa_protocol::batch::Phase;
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;

use super::tables::Shape;

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

/// A batch whose rows lie beside the table or, in an initial load, in it.
#[derive(Debug)]
pub struct Prepared;

/// Copies the rows of `body` to where [`finish`] can merge them.
///
/// # Errors
/// `contract_violation`, `batch_conflict` or a fault of the warehouse.
#[expect(clippy::unused_async, reason = "the interface")]
pub async fn prepare(
    _tx: &Transaction<'_>,
    _delivery: &Delivery<'_>,
    _transfer: i64,
    _body: &[u8],
) -> Result<Prepared, Fault> {
    Err(Fault::new(Code::Bug, "cannot apply batches"))
}

/// Merges what [`prepare`] copied, in the name of `transfer`.
///
/// # Errors
/// As of [`prepare`].
#[expect(clippy::unused_async, reason = "the interface")]
pub async fn finish(
    _tx: &Transaction<'_>,
    _delivery: &Delivery<'_>,
    _transfer: i64,
    _prepared: Prepared,
) -> Result<(), Fault> {
    Ok(())
}

/// Forgets which rows an earlier, unfinished epoch of the stream had seen; to be called when a new
/// epoch begins.
///
/// # Errors
/// A fault of the warehouse.
#[expect(clippy::unused_async, reason = "the interface")]
pub async fn begin_epoch(_tx: &Transaction<'_>, _stream_key: i64) -> Result<(), Fault> {
    Ok(())
}

/// The digest of all rows of a dataset, over the contract's fields.
///
/// # Errors
/// A fault of the warehouse.
#[expect(clippy::unused_async, reason = "the interface")]
pub async fn digest(_client: &tokio_postgres::Client, _shape: &Shape) -> Result<RowsDigest, Fault> {
    Ok(RowsDigest::default())
}
