//! Staged rows into the dataset's table, set by set. A row that is already there as it comes is
//! left alone: no new version, no history.

use deadpool_postgres::Transaction;
use phusa_protocol::batch::Phase;
use phusa_protocol::fault::{Code, Fault};
use tokio_postgres::Error;

use super::staging;
use super::{Delivery, Stamp};
use crate::warehouse::tables::{Column, Shape};

/// Removes the records whose keys are staged under `part`.
pub(super) async fn delete(tx: &Transaction<'_>, shape: &Shape, part: i32) -> Result<(), Error> {
    let sql = format!(
        "delete from {table} as t using {stage} as s where s._part = $1 and ({keys}) = ({staged})",
        table = shape.table(),
        stage = staging::table(shape),
        keys = shape.key_list("t."),
        staged = shape.key_list("s."),
    );
    let statement = tx.prepare_cached(&sql).await?;
    tx.execute(&statement, &[&part]).await.map(drop)
}

/// Writes the rows staged under `part`, over what is there.
pub(super) async fn upsert(
    tx: &Transaction<'_>,
    shape: &Shape,
    stamp: &Stamp<'_>,
    part: i32,
) -> Result<(), Error> {
    let columns: Vec<_> = rewritten(shape).collect();
    let update = if columns.is_empty() {
        String::new() // a row that is nothing but its key cannot differ
    } else {
        format!(
            "when matched and ({differs}) then update set {sets}, {stamps}",
            differs = differs(&columns, "t.", "s."),
            sets = assignments(&columns, "s."),
            stamps = stamp_assignments("$1", "$2", "$3"),
        )
    };
    // `on conflict do update` locks and logs every row it meets, equal or not: 22,800 WAL records
    // instead of 14,400 for a batch of 6,000 updates and 2,500 inserts.
    let sql = format!(
        "merge into {table} as t using (select * from {stage} where _part = $4) as s \
         on ({key}) = ({staged_key}) {update} \
         when not matched then \
         insert ({columns}, _version, _agency, _source_time, _transfer) \
         values ({staged}, $1, $2, $3, $1)",
        table = shape.table(),
        stage = staging::table(shape),
        key = shape.key_list("t."),
        staged_key = shape.key_list("s."),
        columns = shape.column_list(""),
        staged = shape.column_list("s."),
    );
    let statement = tx.prepare_cached(&sql).await?;
    let [transfer, agency, source_time] = stamp.parameters();
    tx.execute(&statement, &[transfer, agency, source_time, &part]).await.map(drop)
}

/// Writes the rows staged under `part`, all but their `unchanged` fields.
///
/// While the stream settles, a record that is not there was removed later and is left out. In a
/// live stream it should be there.
pub(super) async fn patch(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    stamp: &Stamp<'_>,
    (part, unchanged, row_count): (i32, &[usize], i64),
) -> Result<(), Fault> {
    let fault = |error| delivery.fault(&error);
    if delivery.phase == Phase::Live {
        let found = count_there(tx, delivery.shape, part).await.map_err(fault)?;
        if found != row_count {
            return Err(lost_record(delivery.shape));
        }
    }
    patch_there(tx, delivery.shape, stamp, (part, unchanged)).await.map_err(fault)
}

/// The fault of a change to a record that should be in the warehouse and is not; the agent then
/// reads the dataset again.
pub(super) fn lost_record(shape: &Shape) -> Fault {
    let what = format!("a change names a record that {} does not have", shape.dataset());
    Fault::new(Code::BatchConflict, what)
}

async fn count_there(tx: &Transaction<'_>, shape: &Shape, part: i32) -> Result<i64, Error> {
    let sql = format!(
        "select count(*) from {stage} as s where s._part = $1 \
         and exists (select from {table} as t where ({keys}) = ({staged}))",
        stage = staging::table(shape),
        table = shape.table(),
        keys = shape.key_list("t."),
        staged = shape.key_list("s."),
    );
    let statement = tx.prepare_cached(&sql).await?;
    Ok(tx.query_one(&statement, &[&part]).await?.get(0))
}

async fn patch_there(
    tx: &Transaction<'_>,
    shape: &Shape,
    stamp: &Stamp<'_>,
    (part, unchanged): (i32, &[usize]),
) -> Result<(), Error> {
    let is_carried = |(index, _): &(usize, &Column)| !unchanged.contains(index);
    let carried = shape.columns().iter().enumerate().filter(is_carried);
    let keys = shape.key();
    let carried = carried.filter(|(index, column)| is_rewritten(keys.contains(index), column));
    let carried: Vec<_> = carried.map(|(_, column)| column).collect();
    if carried.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "update {table} as t set {sets}, {stamps} from {stage} as s \
         where s._part = $4 and ({keys}) = ({staged}) and ({differs})",
        table = shape.table(),
        sets = assignments(&carried, "s."),
        stamps = stamp_assignments("$1", "$2", "$3"),
        stage = staging::table(shape),
        keys = shape.key_list("t."),
        staged = shape.key_list("s."),
        differs = differs(&carried, "t.", "s."),
    );
    // Not kept: there may be as many of these as sets of unchanged fields.
    let statement = tx.prepare(&sql).await?;
    let [transfer, agency, source_time] = stamp.parameters();
    tx.execute(&statement, &[transfer, agency, source_time, &part]).await.map(drop)
}

/// Removes all rows of the agency.
pub(super) async fn truncate(
    tx: &Transaction<'_>,
    shape: &Shape,
    stamp: &Stamp<'_>,
) -> Result<(), Error> {
    let sql = format!("delete from {} where _agency = $1", shape.table());
    let statement = tx.prepare_cached(&sql).await?;
    let [_, agency, _] = stamp.parameters();
    tx.execute(&statement, &[agency]).await.map(drop)
}

/// The columns an update writes: all but the key, which is equal. Where equal may still be
/// different bytes, the key too.
fn rewritten(shape: &Shape) -> impl Iterator<Item = &Column> {
    let keys = shape.key();
    let columns = shape.columns().iter().enumerate();
    columns.filter(|(index, column)| is_rewritten(keys.contains(index), column)).map(|(_, c)| c)
}

fn is_rewritten(is_key: bool, column: &Column) -> bool {
    !is_key || column.hides_differences()
}

fn assignments(columns: &[&Column], from: &str) -> String {
    let sets: Vec<_> =
        columns.iter().map(|c| format!("{name} = {from}{name}", name = c.name)).collect();
    sets.join(", ")
}

/// A record's source time never goes back, so that its versions follow each other without overlap
/// even when the source's clock was set.
pub(super) fn stamp_assignments(transfer: &str, agency: &str, source_time: &str) -> String {
    format!(
        "_version = {transfer}, _agency = {agency}, \
         _source_time = greatest(t._source_time, {source_time}), _transfer = {transfer}"
    )
}

/// A condition that is true when any of `columns` differs in value or in bytes.
pub(super) fn differs(columns: &[&Column], left: &str, right: &str) -> String {
    let (by_bytes, by_value): (Vec<_>, Vec<_>) =
        columns.iter().partition(|column| column.hides_differences());
    let mut conditions = Vec::new();
    if !by_value.is_empty() {
        let (left, right) = (names(&by_value, left), names(&by_value, right));
        conditions.push(format!("row({left}) is distinct from row({right})"));
    }
    if !by_bytes.is_empty() {
        let (left, right) = (names(&by_bytes, left), names(&by_bytes, right));
        conditions.push(format!("row({left})::record *<> row({right})::record"));
    }
    conditions.join(" or ")
}

fn names(columns: &[&Column], prefix: &str) -> String {
    let names: Vec<_> = columns.iter().map(|column| format!("{prefix}{}", column.name)).collect();
    names.join(", ")
}
