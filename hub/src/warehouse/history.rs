//! A dataset as it was at any past time (CB-22, HU-26): one query over table and history.

use phusa_protocol::time::Timestamp;

use super::tables::Shape;

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those in force.
    Current,
    /// Those that were in force then, by the clocks of their sources.
    AsOf(Timestamp),
    /// Every version that is kept.
    History,
}

/// What is shown behind the contract's fields.
pub const SHOWN_BEHIND: [&str; 6] =
    ["_record", "_version", "_agency", "_source_time", "_transfer", "_until"];

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

/// The query for rows with their fields in contract order and [`SHOWN_BEHIND`]; its texts hold no
/// value but the moment.
#[must_use]
pub fn rows(shape: &Shape, which: Which) -> String {
    let columns = shape.column_list("");
    let metadata = "_record, _version, _agency, _source_time, _transfer";
    let (table, history) = (shape.table(), shape.history());
    let current = format!("select {columns}, {metadata}, null::timestamptz as _until from {table}");
    let former = format!("select {columns}, {metadata}, _until from {history}");
    match which {
        Which::Current => current,
        Which::AsOf(moment) => format!(
            "{current} where _source_time <= '{moment}'::timestamptz union all {former} \
             where _source_time <= '{moment}'::timestamptz and '{moment}'::timestamptz < _until"
        ),
        Which::History => format!("{current} union all {former}"),
    }
}

/// The query for one record, whose key's fields are the texts `$1`, `$2` …; every value is a text, the
/// oldest version first.
#[must_use]
pub fn record(shape: &Shape, which: Which, limit: u32) -> String {
    let texts = |name: &str| format!("r.{name}::text");
    let fields = shape.columns().iter().map(|column| texts(&column.name));
    let texts: Vec<_> = fields.chain(SHOWN_BEHIND.iter().map(|name| texts(name))).collect();
    let keys: Vec<_> = shape
        .key_columns()
        .enumerate()
        .map(|(index, column)| {
            format!("r.{} = (${}::text)::{}", column.name, index + 1, column.kind)
        })
        .collect();
    format!(
        "select {} from ({}) as r where {} order by r._source_time, r._version limit {limit}",
        texts.join(", "),
        rows(shape, which),
        keys.join(" and ")
    )
}
