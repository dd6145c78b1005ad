//! The digest of a dataset's rows, to be compared with the agency's.

use futures_util::{TryStreamExt as _, pin_mut};
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::{BadRow, Tuple};
use tokio_postgres::{Client, Error};

use super::tables::Shape;
use crate::error::database_fault;

/// Bytes before the first row of a binary COPY.
const COPY_HEAD_BYTES: usize = 19;

/// The digest of all rows of a dataset, over the contract's fields in contract order.
///
/// # Errors
/// A fault of the warehouse.
pub async fn digest(client: &Client, shape: &Shape) -> Result<RowsDigest, Fault> {
    let sql = format!(
        "copy (select {} from {}) to stdout (format binary)",
        shape.column_list(""),
        shape.table()
    );
    let what = || format!("cannot read {}", shape.dataset());
    let fault = |error: Error| database_fault(what(), &error);
    let slices = client.copy_out(&sql).await.map_err(fault)?;
    pin_mut!(slices);
    let (mut digest, mut rest, mut head_bytes) =
        (RowsDigest::default(), Vec::new(), COPY_HEAD_BYTES);
    while let Some(slice) = slices.try_next().await.map_err(fault)? {
        rest.extend_from_slice(&slice);
        let head = head_bytes.min(rest.len());
        head_bytes -= head;
        let used = head + add_rows(&mut digest, rest.get(head..).unwrap_or_default());
        rest.drain(..used);
    }
    match rest.as_slice() {
        [0xff, 0xff] => Ok(digest),
        _ => Err(Fault::new(Code::WarehouseUnavailable, what())),
    }
}

/// Adds the whole rows in `bytes` and says how many bytes they were.
fn add_rows(digest: &mut RowsDigest, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Ok::<_, BadRow>(row) = Tuple::take(&mut rest) {
        digest.add_tuple(row.as_bytes());
    }
    bytes.len() - rest.len()
}
