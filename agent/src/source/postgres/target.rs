//! A selection joined with what the catalogue says of its table: what is read, in which order,
//! along which key, and the SQL that reads it.

use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};

use super::catalogue::{Table, TypeNumbers, ident, idents, literal};
use super::functions::Functions;
use super::oversize;
use crate::source::snapshot::{After, Chunk, KeyText};
use crate::source::{Column, Native, Selection};

/// What is read of one table.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) selection: Selection,
    pub(super) oid: u32,
    pub(super) rows_estimated: u64,
    /// Columns in the order of the selection.
    pub(super) columns: Arc<[Column]>,
    /// Their types' numbers, in the same order.
    pub(super) types: Vec<TypeNumbers>,
    /// The unique key along which the table is read: places in `columns`, in index order.
    pub(super) walk: Vec<usize>,
    /// Through what rows and log are read, where the login may not read them itself.
    pub(super) through: Option<Functions>,
}

impl Target {
    /// Joins the two; the table was admitted before.
    pub(super) fn new(selection: Selection, table: &Table) -> Result<Self, Fault> {
        let (mut columns, mut types) = (Vec::new(), Vec::new());
        for name in &selection.columns {
            let attribute = table.column(name).ok_or_else(|| {
                Fault::new(Code::SourceColumnMissing, format!("there is no column {name}"))
            })?;
            columns.push(attribute.column.clone());
            types.push(attribute.numbers);
        }
        let walk = table.walk_key(&selection).ok_or_else(|| {
            Fault::new(Code::SourceKeyMissing, format!("{} has no usable key", selection.table))
        })?;
        let (oid, rows_estimated) = (table.oid, table.rows_estimated);
        let columns = columns.into();
        Ok(Self { selection, oid, rows_estimated, columns, types, walk, through: None })
    }

    /// The same, read through these functions.
    pub(super) fn through(self, through: Option<Functions>) -> Self {
        Self { through, ..self }
    }

    /// Stands for the names and types of the columns: a column that was given another type was
    /// rewritten, and of that the log tells nothing.
    pub(super) fn fingerprint(&self) -> String {
        let column = |column: &Column| format!("{} {}", ident(&column.name), column.type_name);
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        Digest::of(columns.join(", ").as_bytes()).to_string()
    }

    /// How the column at `index` is read.
    pub(super) fn native(&self, index: usize) -> Option<&Native> {
        self.columns.get(index).map(|column| &column.native)
    }

    /// What reading it is called in a fault.
    pub(super) fn doing(&self) -> String {
        format!("cannot read {}.{}", self.selection.schema, self.selection.table)
    }

    /// `"schema"."table"`.
    fn table(&self) -> String {
        format!("{}.{}", ident(&self.selection.schema), ident(&self.selection.table))
    }

    fn walk_columns(&self) -> Vec<&Column> {
        self.walk.iter().filter_map(|&index| self.columns.get(index)).collect()
    }

    fn walk_names(&self) -> String {
        idents(self.walk_columns().iter().map(|column| column.name.as_str()))
    }

    /// A key as SQL: each part with the type of its column, so that the index serves it and the
    /// server alone says what is greater.
    fn key_sql(&self, key: &KeyText) -> String {
        let columns = self.walk_columns();
        let part = |(text, column): (&String, &&Column)| {
            format!("{}::{}", literal(text), column.type_name)
        };
        key.iter().zip(&columns).map(part).collect::<Vec<_>>().join(", ")
    }

    /// The `where` of a range; `after` must have been brought to text.
    fn range_sql(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> Vec<String> {
        let names = self.walk_names();
        let lower = after.map(|key| format!("({names}) > ({})", self.key_sql(key)));
        let upper = upto.map(|key| format!("({names}) <= ({})", self.key_sql(key)));
        lower.into_iter().chain(upper).collect()
    }

    /// The query for the last key of the next range of `rows` rows.
    pub(super) fn boundary_query(&self, after: Option<&KeyText>, rows: u64) -> String {
        if let Some(functions) = &self.through {
            return functions.boundary_query(after, rows, self.walk.len());
        }
        let names = self.walk_names();
        let texts: Vec<String> =
            self.walk_columns().iter().map(|c| format!("{}::text", ident(&c.name))).collect();
        // Only the boundary itself is put into text: put beside the offset, every key that is
        // passed over would be (measured: as much CPU again as reading the rows).
        format!(
            "select {} from (select {names} from {}{} order by {names} offset {} limit 1) as boundary",
            texts.join(", "),
            self.table(),
            conditions(self.range_sql(after, None)),
            rows.max(1) - 1,
        )
    }

    /// The query for the rows of a range, in key order.
    pub(super) fn chunk_query(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> String {
        self.chunk_sql(&self.names(), after, upto)
    }

    /// The same, where values above `bytes_max` may be met: they are cut, but in the key.
    pub(super) fn cut_chunk_query(
        &self,
        after: Option<&KeyText>,
        upto: Option<&KeyText>,
        bytes_max: u64,
    ) -> String {
        self.chunk_sql(&self.cut_names(bytes_max), after, upto)
    }

    fn chunk_sql(&self, names: &str, after: Option<&KeyText>, upto: Option<&KeyText>) -> String {
        if let Some(functions) = &self.through {
            // Rows come in key order, and a filter leaves that as it is.
            let filter = conditions(self.filter_sql().into_iter().collect());
            return format!("select {names} from {}{filter}", functions.range(after, upto));
        }
        let mut wanted = self.range_sql(after, upto);
        wanted.extend(self.filter_sql());
        let (from, walk) = (self.table(), self.walk_names());
        format!("select {names} from {from}{} order by {walk}", conditions(wanted))
    }

    /// The query for all rows, or the first so many.
    pub(super) fn scan_query(&self, rows_max: Option<u64>) -> String {
        let limit = rows_max.map(|rows| format!(" limit {rows}")).unwrap_or_default();
        let wanted = self.filter_sql().into_iter().collect();
        let from = match &self.through {
            // A function's result is gathered before it is sent: no more than is wanted of it.
            Some(functions) if self.selection.filter.is_none() => functions.first(rows_max),
            Some(functions) => functions.range(None, None),
            None => self.table(),
        };
        format!("select {} from {from}{}{limit}", self.names(), conditions(wanted))
    }

    /// The query for the rows that fulfil a condition on what is not mapped.
    pub(super) fn written_query(&self, condition: &str) -> String {
        let wanted = self.filter_sql().into_iter().chain([condition.to_owned()]).collect();
        format!("select {} from {}{}", self.names(), self.table(), conditions(wanted))
    }

    /// The query for the row with this key, values above `bytes_max` cut.
    pub(super) fn row_query(&self, key: &KeyText, bytes_max: u64) -> String {
        let select = format!("select {} from", self.cut_names(bytes_max));
        if let Some(functions) = &self.through {
            return format!("{select} {}", functions.only(key));
        }
        let (table, names) = (self.table(), self.walk_names());
        let select = format!("{select} {table}");
        format!("{select} where ({names}) = ({})", self.key_sql(key))
    }

    /// The query that turns a key's bytes, given as parameters, into text.
    pub(super) fn key_text_query(&self) -> String {
        let part = |(index, column): (usize, &Column)| {
            format!("(${}::{})::text", index + 1, column.type_name)
        };
        let columns = self.walk_columns();
        let parts: Vec<String> = columns.into_iter().enumerate().map(part).collect();
        format!("select {}", parts.join(", "))
    }

    fn names(&self) -> String {
        idents(self.columns.iter().map(|column| column.name.as_str()))
    }

    fn cut_names(&self, bytes_max: u64) -> String {
        let column = |(index, column): (usize, &Column)| {
            let is_key = self.walk.contains(&index) || self.selection.key.contains(&index);
            if is_key { ident(&column.name) } else { oversize::cut_sql(column, bytes_max) }
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        columns.join(", ")
    }

    fn filter_sql(&self) -> Option<String> {
        self.selection.filter.as_ref().map(|filter| format!("({filter})"))
    }
}

fn conditions(wanted: Vec<String>) -> String {
    if wanted.is_empty() { String::new() } else { format!(" where {}", wanted.join(" and ")) }
}

/// The key a range begins after, once it is text; `None` is the start of the table.
pub(super) fn after_text(chunk: &Chunk) -> Option<&KeyText> {
    match &chunk.after {
        After::Text(key) => Some(key),
        After::Start | After::Row(_) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use phusa_protocol::ids::DatasetId;

    use super::*;
    use crate::source::Capture;

    /// A table `public.t (ward text, id int4, name text)` with the key `(id, ward)`.
    pub(in crate::source::postgres) fn sample() -> Target {
        let column = |name: &str, type_name: &str, native: Native| Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            native,
            nullable: false,
        };
        let names = ["ward", "id", "name"];
        let number = |type_oid: u32| TypeNumbers { type_oid, element_oid: 0, modifier: -1 };
        Target {
            selection: Selection {
                dataset: DatasetId::new("cong_dan.citizens").unwrap(),
                schema: "public".to_owned(),
                table: "t".to_owned(),
                columns: names.map(str::to_owned).to_vec(),
                key: vec![0, 1],
                filter: Some("ward = 'x' or true".to_owned()),
                capture: Capture::Log,
                watermark: None,
            },
            oid: 0x4001,
            rows_estimated: 10,
            columns: Arc::from([
                column("ward", "text", Native::Text),
                column("id", "integer", Native::Int4),
                column("name", "text", Native::Text),
            ]),
            types: vec![number(25), number(23), number(25)],
            walk: vec![1, 0],
            through: None,
        }
    }

    #[test]
    fn ranges_are_read_along_the_index_with_typed_quoted_keys() {
        let target = sample();
        let key = vec!["7".to_owned(), "O'x".to_owned()];
        assert_eq!(
            target.boundary_query(Some(&key), 50),
            "select \"id\"::text, \"ward\"::text from \
             (select \"id\", \"ward\" from \"public\".\"t\" \
             where (\"id\", \"ward\") > ('7'::integer, 'O''x'::text) \
             order by \"id\", \"ward\" offset 49 limit 1) as boundary"
        );
        assert_eq!(
            target.chunk_query(None, Some(&key)),
            "select \"ward\", \"id\", \"name\" from \"public\".\"t\" \
             where (\"id\", \"ward\") <= ('7'::integer, 'O''x'::text) \
             and (ward = 'x' or true) order by \"id\", \"ward\""
        );
        assert_eq!(target.key_text_query(), "select ($1::integer)::text, ($2::text)::text");
    }
}
