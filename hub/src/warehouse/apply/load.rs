//! The shortest way into a table: rows of a full read go to COPY as they lie in the body.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures_util::{SinkExt as _, pin_mut};
use phusa_protocol::change::{Op, runs};
use phusa_protocol::fault::{Code, Fault};
use tokio_postgres::{Error, Statement};

use super::Delivery;
use crate::error::database_fault;

/// What stands before the rows of a binary COPY: signature, flags, length of an extension.
pub(super) const COPY_HEAD: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands behind them.
pub(super) const COPY_TAIL: &[u8; 2] = b"\xff\xff";

/// Large enough that the cost of a message is nothing, small enough that the server works on one
/// while the next is under way.
const SLICE_BYTES: usize = 256 << 10;

/// Whether all of `body` is rows of a full read.
pub(super) fn is_plain(body: &[u8]) -> bool {
    runs(body).all(|run| run.is_ok_and(|run| run.op == Op::Snapshot))
}

/// Copies the rows of `body` into the dataset's table; its metadata columns take their defaults
/// from the session.
pub(super) async fn load(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    body: &[u8],
) -> Result<(), Fault> {
    let (table, columns) = (delivery.shape.table(), delivery.shape.column_list(""));
    let sql = format!("copy {table} ({columns}) from stdin (format binary)");
    let fault = |error: Error| {
        database_fault(format!("cannot load rows into {}", delivery.shape.dataset()), &error)
    };
    let mut rows = Vec::new();
    for run in runs(body) {
        let damaged =
            |error| Fault::because(Code::FrameDamaged, "cannot read the body of a batch", error);
        rows.push(run.map_err(damaged)?.bytes);
    }
    let statement = tx.prepare_cached(&sql).await.map_err(fault)?;
    let slices = rows.into_iter().flat_map(|rows| rows.chunks(SLICE_BYTES));
    copy_in(tx, &statement, slices.map(Bytes::copy_from_slice)).await.map_err(fault)
}

/// Sends `slices` of rows between head and tail.
pub(super) async fn copy_in(
    tx: &Transaction<'_>,
    statement: &Statement,
    slices: impl Iterator<Item = Bytes>,
) -> Result<(), Error> {
    let sink = tx.copy_in::<_, Bytes>(statement).await?;
    pin_mut!(sink);
    sink.feed(Bytes::from_static(COPY_HEAD)).await?;
    for slice in slices {
        sink.feed(slice).await?;
    }
    sink.feed(Bytes::from_static(COPY_TAIL)).await?;
    sink.finish().await.map(drop)
}

/// `bytes` in slices of the size that [`copy_in`] likes.
pub(super) fn sliced(bytes: Vec<u8>) -> impl Iterator<Item = Bytes> {
    let mut rest = Bytes::from(bytes);
    std::iter::from_fn(move || {
        let length = rest.len().min(SLICE_BYTES);
        (length > 0).then(|| rest.split_to(length))
    })
}
