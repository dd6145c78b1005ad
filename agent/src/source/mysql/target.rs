//! A selection joined with what the catalogue says of its table: what is read, in which order,
//! along which key, and the SQL that reads it.

use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;

use super::catalogue::{Table, ident, idents};
use super::key;
use super::kind::Kind;
use super::watermark::Watermark;
use crate::source::snapshot::KeyText;
use crate::source::{Column, Selection};

/// What is read of one table.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) selection: Selection,
    pub(super) rows_estimated: u64,
    /// Columns in the order of the selection.
    pub(super) columns: Arc<[Column]>,
    /// What they hold, in the same order.
    pub(super) kinds: Vec<Kind>,
    /// Where they stand in the table, in the same order.
    pub(super) places: Vec<usize>,
    /// What every column of the table holds, where that is known; for a log without names.
    pub(super) table_kinds: Vec<Option<Kind>>,
    /// The unique key along which the table is read: places in `columns`, in index order.
    pub(super) walk: Vec<usize>,
    /// What tells when a row was last written, where it is followed by that.
    pub(super) watermark: Option<Watermark>,
    /// Character sets, for the fingerprint.
    charsets: Vec<Option<String>>,
    /// Schema and table as the log writes them.
    logged_names: (String, String),
}

impl Target {
    /// Joins the two; the table was admitted before.
    pub(super) fn new(selection: Selection, table: &Table) -> Result<Self, Fault> {
        let (mut columns, mut kinds, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut charsets = Vec::new();
        for name in &selection.columns {
            let attribute = table.column(name).ok_or_else(|| {
                Fault::new(Code::SourceColumnMissing, format!("there is no column {name}"))
            })?;
            let kind = attribute.kind.clone().map_err(|reason| {
                Fault::new(Code::SourceTypeRefused, format!("column {name}: {reason}"))
            })?;
            columns.push(attribute.column.clone());
            kinds.push(kind);
            places.push(attribute.place);
            charsets.push(attribute.charset.clone());
        }
        let walk = table.walk_key(&selection).ok_or_else(|| {
            Fault::new(Code::SourceKeyMissing, format!("{} has no usable key", selection.table))
        })?;
        // Where it is used, the probe has said what is wrong with it.
        let watermark = Watermark::of(&selection, table).ok().flatten();
        let table_kinds =
            table.columns.iter().map(|attribute| attribute.kind.clone().ok()).collect();
        let (columns, rows_estimated) = (columns.into(), table.rows_estimated);
        Ok(Self {
            selection,
            rows_estimated,
            columns,
            kinds,
            places,
            table_kinds,
            walk,
            watermark,
            charsets,
            logged_names: table.names.clone(),
        })
    }

    /// A table of these columns and no others, read along the first; for what needs no server.
    pub(super) fn of_kinds(selection: Selection, kinds: Vec<Kind>) -> Self {
        let column = |(name, kind): (&String, &Kind)| Column {
            name: name.clone(),
            type_name: String::new(),
            native: kind.native(),
            nullable: true,
        };
        let columns: Vec<Column> = selection.columns.iter().zip(&kinds).map(column).collect();
        Self {
            logged_names: (selection.schema.clone(), selection.table.clone()),
            selection,
            rows_estimated: 0,
            charsets: vec![None; columns.len()],
            places: (0..columns.len()).collect(),
            columns: columns.into(),
            table_kinds: kinds.iter().cloned().map(Some).collect(),
            kinds,
            walk: vec![0],
            watermark: None,
        }
    }

    /// Stands for names, types and character sets of the columns: what an ALTER did to their
    /// values is in no log.
    pub(super) fn fingerprint(&self) -> String {
        let column = |(column, charset): (&Column, &Option<String>)| {
            let charset = charset.as_deref().unwrap_or_default();
            format!("{} {} {charset}", ident(&column.name), column.type_name)
        };
        let columns: Vec<_> = self.columns.iter().zip(&self.charsets).map(column).collect();
        Digest::of(columns.join(", ").as_bytes()).to_string()
    }

    /// Schema and table as the log writes them.
    pub(super) fn logged_names(&self) -> (&str, &str) {
        (&self.logged_names.0, &self.logged_names.1)
    }

    /// Whether the table is just as it was when `other` was made of it.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
            && self.places == other.places
            && self.table_kinds == other.table_kinds
    }

    /// What reading it is called in a fault.
    pub(super) fn doing(&self) -> String {
        format!("cannot read {}.{}", self.selection.schema, self.selection.table)
    }

    fn table(&self) -> String {
        format!("{}.{}", ident(&self.selection.schema), ident(&self.selection.table))
    }

    /// The columns of the key along which the table is read, in its order.
    pub(super) fn walk_columns(&self) -> Vec<&str> {
        let name = |&index: &usize| self.columns.get(index).map(|column| column.name.as_str());
        self.walk.iter().filter_map(name).collect()
    }

    /// What the parts of the key hold, in its order.
    pub(super) fn walk_kinds(&self) -> Vec<&Kind> {
        self.walk.iter().filter_map(|&index| self.kinds.get(index)).collect()
    }

    /// The key of a row, as SQL; `row` is a tuple of the target's columns.
    pub(super) fn key_of(&self, mut row: &[u8]) -> Option<KeyText> {
        let tuple = Tuple::take(&mut row).ok()?;
        let fields: Vec<Field<'_>> = tuple.fields().collect();
        let part = |&index: &usize| match (self.kinds.get(index), fields.get(index)) {
            (Some(kind), Some(Field::Value(bytes))) => key::part(kind, bytes),
            _ => None,
        };
        self.walk.iter().map(part).collect()
    }

    /// Rows beyond a key, or up to it and with it: written out part by part, because the server
    /// finds no index for a comparison of whole keys.
    fn beside(&self, key: &KeyText, sign: &str, last_sign: &str) -> String {
        let columns = self.walk_columns();
        let mut sql = String::new();
        for (at, (column, part)) in columns.iter().zip(key).enumerate().rev() {
            let column = ident(column);
            sql = if at + 1 == columns.len() {
                format!("{column} {last_sign} {part}")
            } else {
                format!("({column} {sign} {part} or ({column} = {part} and {sql}))")
            };
        }
        match (columns.as_slice(), key.as_slice()) {
            // The bound on the first part alone lets the server use the index's range.
            ([first, _, ..], [part, ..]) => format!("{} {sign}= {part} and {sql}", ident(first)),
            _ => sql,
        }
    }

    fn range_sql(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> Vec<String> {
        let lower = after.map(|key| self.beside(key, ">", ">"));
        let upper = upto.map(|key| self.beside(key, "<", "<="));
        lower.into_iter().chain(upper).collect()
    }

    /// The query for the last key of the next range of `rows` rows.
    pub(super) fn boundary_query(&self, after: Option<&KeyText>, rows: u64) -> String {
        let names = idents(self.walk_columns());
        format!(
            "select {names} from {}{} order by {names} limit 1 offset {}",
            self.table(),
            conditions(&self.range_sql(after, None)),
            rows.max(1) - 1,
        )
    }

    /// The query for the rows of a range, in key order.
    pub(super) fn chunk_query(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> String {
        let mut wanted = self.range_sql(after, upto);
        wanted.extend(self.filter_sql());
        let order = idents(self.walk_columns());
        format!("{}{} order by {order}", self.select_sql(), conditions(&wanted))
    }

    /// The query for all rows, or the first so many.
    pub(super) fn scan_query(&self, rows_max: Option<u64>) -> String {
        let limit = rows_max.map(|rows| format!(" limit {rows}")).unwrap_or_default();
        let wanted: Vec<String> = self.filter_sql().into_iter().collect();
        format!("{}{}{limit}", self.select_sql(), conditions(&wanted))
    }

    /// The query for all rows of which this is true.
    pub(super) fn written_query(&self, condition: &str) -> String {
        let mut wanted = vec![condition.to_owned()];
        wanted.extend(self.filter_sql());
        format!("{}{}", self.select_sql(), conditions(&wanted))
    }

    /// The query for the row with this key.
    pub(super) fn row_query(&self, key: &KeyText) -> String {
        let part = |(column, part): (&str, &String)| format!("{} = {part}", ident(column));
        let wanted: Vec<String> = self.walk_columns().into_iter().zip(key).map(part).collect();
        format!("{}{}", self.select_sql(), conditions(&wanted))
    }

    fn select_sql(&self) -> String {
        let names = idents(self.columns.iter().map(|column| column.name.as_str()));
        format!("select {names} from {}", self.table())
    }

    fn filter_sql(&self) -> Option<String> {
        self.selection.filter.as_ref().map(|filter| format!("({filter})"))
    }
}

fn conditions(wanted: &[String]) -> String {
    if wanted.is_empty() { String::new() } else { format!(" where {}", wanted.join(" and ")) }
}

#[cfg(test)]
pub(super) mod tests {
    use phusa_protocol::ids::DatasetId;

    use super::super::kind::Charset;
    use super::*;

    /// A table `d.t (id int, ward varchar, name varchar)` with the key `(id, ward)`, of which
    /// `ward, id, name` are read.
    pub(in crate::source::mysql) fn sample() -> Target {
        let text = Kind::Text(Charset::Utf8);
        let int = Kind::Int { bytes: 4, unsigned: false };
        let column = |name: &str, type_name: &str, kind: &Kind| Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            native: kind.native(),
            nullable: false,
        };
        Target {
            selection: Selection {
                dataset: DatasetId::new("cong_dan.citizens").unwrap(),
                schema: "d".to_owned(),
                table: "t".to_owned(),
                columns: ["ward", "id", "name"].map(str::to_owned).to_vec(),
                key: vec![0, 1],
                filter: Some("ward = 'x'".to_owned()),
                capture: crate::source::Capture::Auto,
                watermark: None,
            },
            rows_estimated: 10,
            columns: Arc::from([
                column("ward", "varchar(20)", &text),
                column("id", "int(11)", &int),
                column("name", "varchar(20)", &text),
            ]),
            kinds: vec![text.clone(), int.clone(), text.clone()],
            places: vec![1, 0, 2],
            table_kinds: vec![Some(int), Some(text.clone()), Some(text)],
            walk: vec![1, 0],
            watermark: None,
            charsets: vec![Some("utf8mb4".to_owned()), None, Some("utf8mb4".to_owned())],
            logged_names: ("d".to_owned(), "t".to_owned()),
        }
    }

    #[test]
    fn ranges_are_read_along_the_index() {
        let target = sample();
        let key = vec!["7".to_owned(), "x'41'".to_owned()];
        assert_eq!(
            target.boundary_query(Some(&key), 50),
            "select `id`, `ward` from `d`.`t` where `id` >= 7 and (`id` > 7 or (`id` = 7 and \
             `ward` > x'41')) order by `id`, `ward` limit 1 offset 49"
        );
        assert_eq!(
            target.chunk_query(None, Some(&key)),
            "select `ward`, `id`, `name` from `d`.`t` where `id` <= 7 and (`id` < 7 or (`id` = 7 \
             and `ward` <= x'41')) and (ward = 'x') order by `id`, `ward`"
        );
        assert_eq!(
            target.row_query(&key),
            "select `ward`, `id`, `name` from `d`.`t` where `id` = 7 and `ward` = x'41'"
        );
        let mut single = sample();
        single.walk = vec![1];
        let key = vec!["7".to_owned()];
        assert_eq!(
            single.chunk_query(Some(&key), Some(&key)),
            "select `ward`, `id`, `name` from `d`.`t` where `id` > 7 and `id` <= 7 and (ward = \
             'x') order by `id`"
        );
    }
}
