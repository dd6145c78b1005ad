//! Digests of a dataset's rows, to be compared with the agency's.

use futures_util::{TryStreamExt as _, pin_mut};
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::proof::{Answer, NAMED_MAX, Named, Print, Question, Summary};
use phusa_protocol::row::{BadRow, Tuple};
use phusa_protocol::time::Timestamp;
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
    let mut digest = RowsDigest::default();
    each_row(client, shape, None, |row| digest.add_tuple(row.as_bytes())).await?;
    Ok(digest)
}

/// What the hub answers to a [`Question`]: parts of the agency's own rows, or the rows of some.
///
/// # Errors
/// A fault of the warehouse.
pub async fn answer(
    client: &Client,
    shape: &Shape,
    agency: &AgencyId,
    question: &Question,
) -> Result<Answer, Fault> {
    let mut summary = Summary::new(question.bits);
    let (mut named, mut complete) = (Vec::new(), true);
    let mut lost = false;
    each_row(client, shape, Some(agency), |row| {
        let Some(print) = Print::of(row, shape.key()) else {
            lost = true;
            return;
        };
        if !question.named.is_empty() {
            if !question.named.contains(&print.part(question.bits)) {
                return;
            }
            complete &= named.len() < NAMED_MAX;
            if complete {
                named.push(Named::new(&print));
            }
        }
        summary.add(&print);
    })
    .await?;
    if lost {
        return Err(Fault::new(Code::Bug, format!("a row of {} has no key", shape.dataset())));
    }
    Ok(Answer { answered_at: Timestamp::now(), parts: summary.parts(), named, complete })
}

/// Hands on every row of a dataset, or of one agency in it, as a tuple of the contract's fields.
async fn each_row(
    client: &Client,
    shape: &Shape,
    agency: Option<&AgencyId>,
    mut take: impl FnMut(Tuple<'_>),
) -> Result<(), Fault> {
    let own =
        agency.map(|agency| format!(" where _agency = '{}'", agency.as_str().replace('\'', "''")));
    let sql = format!(
        "copy (select {} from {}{}) to stdout (format binary)",
        shape.column_list(""),
        shape.table(),
        own.unwrap_or_default()
    );
    let what = || format!("cannot read {}", shape.dataset());
    let fault = |error: Error| database_fault(what(), &error);
    let slices = client.copy_out(&sql).await.map_err(fault)?;
    pin_mut!(slices);
    let (mut rest, mut head_bytes) = (Vec::new(), COPY_HEAD_BYTES);
    while let Some(slice) = slices.try_next().await.map_err(fault)? {
        rest.extend_from_slice(&slice);
        let head = head_bytes.min(rest.len());
        head_bytes -= head;
        let used = head + take_rows(rest.get(head..).unwrap_or_default(), &mut take);
        rest.drain(..used);
    }
    match rest.as_slice() {
        [0xff, 0xff] => Ok(()),
        _ => Err(Fault::new(Code::WarehouseUnavailable, what())),
    }
}

/// Hands on the whole rows in `bytes` and says how many bytes they were.
fn take_rows(bytes: &[u8], take: &mut impl FnMut(Tuple<'_>)) -> usize {
    let mut rest = bytes;
    while let Ok::<_, BadRow>(row) = Tuple::take(&mut rest) {
        take(row);
    }
    bytes.len() - rest.len()
}
