//! A dataset as it was at any past time (CB-22, HU-26): one query over table and history.

use super::tables::Shape;

/// The query for a dataset's rows as they were at the time `$1` (`timestamptz`), by the clocks of
/// their sources: the contract's fields in contract order, then `_record` and `_version`.
#[must_use]
pub fn as_of(shape: &Shape) -> String {
    let columns = shape.column_list("");
    format!(
        "select {columns}, _record, _version from {table} where _source_time <= $1 \
         union all \
         select {columns}, _record, _version from {history} where _source_time <= $1 and $1 < _until",
        table = shape.table(),
        history = shape.history(),
    )
}
