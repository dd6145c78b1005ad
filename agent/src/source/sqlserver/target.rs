//! A selection joined with what the catalogue says of its table: what is read, in which order,
//! along which key, and the SQL that reads it. Every text that the engine can send about rows is
//! made here, and `tests/golden/sqlserver.sql` shows them all.

use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::begin_tuple;
use tiberius::{ColumnData, Row};

use super::catalogue::{Table, place};
use super::session::Param;
use super::shape::{Shape, ident};
use super::value;
use crate::source::snapshot::KeyText;
use crate::source::{Column, Selection};

/// Bytes before a field's value in a tuple: its length.
const FIELD_HEAD: usize = 4;

/// What is read of one table.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) selection: Selection,
    pub(super) object_id: i64,
    pub(super) rows_estimated: u64,
    /// Columns in the order of the selection.
    pub(super) columns: Arc<[Column]>,
    /// How each is read, in the same order.
    shapes: Vec<Shape>,
    /// The unique key along which the table is read: places in `columns`, in index order.
    pub(super) walk: Vec<usize>,
    /// The primary key's columns, by which a change joins its row.
    primary_key: Vec<String>,
}

/// A statement and what is bound to it.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) params: Vec<Param>,
}

impl Target {
    /// Joins the two; the table was admitted before.
    pub(super) fn new(selection: Selection, table: &Table) -> Result<Self, Fault> {
        let (mut columns, mut shapes) = (Vec::new(), Vec::new());
        for name in &selection.columns {
            let attribute = table.attribute(name).ok_or_else(|| {
                Fault::new(Code::SourceColumnMissing, format!("there is no column {name}"))
            })?;
            let shape = attribute.shape.clone().map_err(|why| {
                let what = format!("column {name} is {}: {why}", attribute.column.type_name);
                Fault::new(Code::SourceTypeRefused, what)
            })?;
            columns.push(attribute.column.clone());
            shapes.push(shape);
        }
        let walk = table.walk_key(&selection).ok_or_else(|| {
            Fault::new(Code::SourceKeyMissing, format!("{} has no usable key", selection.table))
        })?;
        Ok(Self {
            object_id: table.object_id,
            rows_estimated: table.rows_estimated,
            columns: columns.into(),
            shapes,
            walk,
            primary_key: table.primary_key().to_vec(),
            selection,
        })
    }

    /// Stands for the names and types of the columns: a column that was given another type was
    /// rewritten, and of that no log tells anything.
    pub(super) fn fingerprint(&self) -> String {
        let column = |column: &Column| format!("{} {}", ident(&column.name), column.type_name);
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        Digest::of(columns.join(", ").as_bytes()).to_string()
    }

    /// What reading it is called in a fault.
    pub(super) fn doing(&self) -> String {
        format!("cannot read {}.{}", self.selection.schema, self.selection.table)
    }

    /// `[schema].[table]`.
    fn table(&self) -> String {
        place(&self.selection)
    }

    /// The select list of all columns of `alias`.
    fn select_list(&self, alias: &str) -> String {
        let columns = self.columns.iter().zip(&self.shapes);
        let select = |(column, shape): (&Column, &Shape)| shape.select(alias, &column.name);
        columns.map(select).collect::<Vec<_>>().join(", ")
    }

    /// The select list of the contract's key, in its order.
    fn key_list(&self, alias: &str) -> String {
        self.select_some(alias, &self.selection.key)
    }

    fn select_some(&self, alias: &str, places: &[usize]) -> String {
        let one = |&at: &usize| {
            let (column, shape) = (self.columns.get(at)?, self.shapes.get(at)?);
            Some(shape.select(alias, &column.name))
        };
        places.iter().filter_map(one).collect::<Vec<_>>().join(", ")
    }

    fn order(&self) -> String {
        let names = self.walk.iter().filter_map(|&at| self.columns.get(at));
        names.map(|column| format!("t.{}", ident(&column.name))).collect::<Vec<_>>().join(", ")
    }

    /// The key's columns and, for each, its parameter as a value of its type.
    fn parts(&self, first_parameter: usize) -> Vec<(String, String)> {
        let part = |(index, &at): (usize, &usize)| {
            let (column, shape) = (self.columns.get(at)?, self.shapes.get(at)?);
            let value = shape.key_part(&format!("@P{}", first_parameter + index))?;
            Some((format!("t.{}", ident(&column.name)), value))
        };
        self.walk.iter().enumerate().filter_map(part).collect()
    }

    /// The conditions of a range, and their parameters. Tuples are not compared by any version, so
    /// the order of several columns is written out; the first alone bounds the index.
    fn range(&self, after: Option<&KeyText>, upto: Option<&KeyText>) -> (Vec<String>, Vec<Param>) {
        let (mut wanted, mut params) = (Vec::new(), Vec::new());
        for (key, (last, before)) in [(after, (">", ">")), (upto, ("<=", "<"))] {
            let Some(key) = key else { continue };
            let parts = self.parts(params.len() + 1);
            if let [(column, value), _, ..] = parts.as_slice() {
                wanted.push(format!("{column} {before}= {value}"));
            }
            wanted.push(compare(&parts, last, before));
            params.extend(key.iter().cloned().map(Param::Text));
        }
        (wanted, params)
    }

    /// The last key of the next range of `rows` rows.
    pub(super) fn boundary(&self, after: Option<&KeyText>, rows: u64) -> Statement {
        let (wanted, mut params) = self.range(after, None);
        params.push(Param::Number(i64::try_from(rows.max(1) - 1).unwrap_or(i64::MAX)));
        let sql = format!(
            "select {} from {} as t{} order by {} offset @P{} rows fetch next 1 rows only",
            self.select_some("t", &self.walk),
            self.table(),
            conditions(&wanted),
            self.order(),
            params.len(),
        );
        Statement { sql, params }
    }

    /// The rows of a range, or the first so many, in key order.
    pub(super) fn chunk(
        &self,
        after: Option<&KeyText>,
        upto: Option<&KeyText>,
        rows_max: Option<u64>,
    ) -> Statement {
        let (mut wanted, params) = self.range(after, upto);
        wanted.extend(self.filter());
        let sql = format!(
            "select {}{} from {} as t{} order by {}",
            top(rows_max),
            self.select_list("t"),
            self.table(),
            conditions(&wanted),
            self.order(),
        );
        Statement { sql, params }
    }

    /// All rows, or the first so many.
    pub(super) fn scan(&self, rows_max: Option<u64>) -> Statement {
        let wanted: Vec<_> = self.filter().into_iter().collect();
        let sql = format!(
            "select {}{} from {} as t{}",
            top(rows_max),
            self.select_list("t"),
            self.table(),
            conditions(&wanted),
        );
        Statement { sql, params: Vec::new() }
    }

    /// The row filter as far as the server can judge it. Changes are not filtered here: a row that
    /// does not fit any more has to be forgotten.
    fn filter(&self) -> Option<String> {
        self.selection.filter.as_ref().map(|filter| format!("({filter})"))
    }

    /// What changed after one version and up to another, joined to the rows as they are: the
    /// operation, whether the row is there, the key, the row.
    pub(super) fn tracked_changes(&self, after: i64, upto: i64) -> Statement {
        let names = || self.primary_key.iter().map(|name| ident(name));
        let on: Vec<_> = names().map(|name| format!("t.{name} = c.{name}")).collect();
        let there = names().next().unwrap_or_default();
        let sql = format!(
            "select cast(c.SYS_CHANGE_OPERATION as nvarchar(1)), \
             cast(case when t.{there} is null then 0 else 1 end as int), {}, {} \
             from changetable(changes {}, @P1) as c left join {} as t on {} \
             where c.SYS_CHANGE_VERSION <= @P2",
            self.key_list("c"),
            self.select_list("t"),
            self.table(),
            self.table(),
            on.join(" and "),
        );
        Statement { sql, params: vec![Param::Number(after), Param::Number(upto)] }
    }

    /// What a capture instance holds after one log position and up to another, in the order of the
    /// log: the transaction, the operation, the key, the row.
    pub(super) fn captured_changes(&self, instance: &str, after: &[u8], upto: &[u8]) -> Statement {
        let sql = format!(
            "declare @from binary(10) = sys.fn_cdc_increment_lsn(@P1); \
             select c.__$start_lsn, cast(c.__$operation as int), {}, {} \
             from cdc.{}(@from, @P2, N'all update old') as c \
             order by c.__$start_lsn, c.__$seqval, c.__$operation",
            self.key_list("c"),
            self.select_list("c"),
            ident(&format!("fn_cdc_get_all_changes_{instance}")),
        );
        Statement { sql, params: vec![Param::Bytes(after.to_vec()), Param::Bytes(upto.to_vec())] }
    }

    /// The rows written from one row version up to another, that one left out.
    pub(super) fn written_rows(&self, column: &str, from: &[u8], to: &[u8]) -> Statement {
        let version = format!("t.{}", ident(column));
        let sql = format!(
            "select {} from {} as t where {version} >= cast(@P1 as binary(8)) \
             and {version} < cast(@P2 as binary(8))",
            self.select_list("t"),
            self.table(),
        );
        Statement { sql, params: vec![Param::Bytes(from.to_vec()), Param::Bytes(to.to_vec())] }
    }

    /// Appends the whole row whose columns begin at `first` of what was read.
    pub(super) fn put_row(&self, row: &Row, first: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        begin_tuple(out, self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            self.put_field(column, row, first + index, out)?;
        }
        Ok(())
    }

    /// Appends the contract's key, whose columns begin at `first` of what was read.
    pub(super) fn put_key(&self, row: &Row, first: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        begin_tuple(out, self.selection.key.len());
        for (index, &at) in self.selection.key.iter().enumerate() {
            let column = self.columns.get(at).ok_or_else(|| self.broken("a key"))?;
            self.put_field(column, row, first + index, out)?;
        }
        Ok(())
    }

    fn put_field(
        &self,
        column: &Column,
        row: &Row,
        at: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let value = self.cell(row, at)?;
        value::put(&column.native, value, out).map_err(|_| self.broken(&column.name))
    }

    fn cell<'r>(&self, row: &'r Row, at: usize) -> Result<&'r ColumnData<'static>, Fault> {
        row.get_column_data(at).map_err(|_| self.broken("a column"))
    }

    fn broken(&self, name: &str) -> Fault {
        let what = format!("{}: {name} came as another type than was asked for", self.doing());
        Fault::new(Code::Bug, what)
    }

    /// The key along which the table is read, out of a whole row that begins at `first`.
    pub(super) fn walk_key(&self, row: &Row) -> Result<KeyText, Fault> {
        self.key_text(self.walk.iter().map(|&at| (at, at)), row)
    }

    /// The parts of that key as they lie in the row's tuple.
    pub(super) fn walk_parts(&self, row: &Row) -> Result<Vec<Vec<u8>>, Fault> {
        let part = |&at: &usize| {
            let column = self.columns.get(at).ok_or_else(|| self.broken("a key"))?;
            let mut field = Vec::new();
            self.put_field(column, row, at, &mut field)?;
            field.drain(..FIELD_HEAD.min(field.len()));
            Ok(field)
        };
        self.walk.iter().map(part).collect()
    }

    /// The same out of a row that holds nothing else.
    pub(super) fn boundary_key(&self, row: &Row) -> Result<KeyText, Fault> {
        self.key_text(self.walk.iter().enumerate().map(|(at, &column)| (at, column)), row)
    }

    fn key_text(
        &self,
        places: impl Iterator<Item = (usize, usize)>,
        row: &Row,
    ) -> Result<KeyText, Fault> {
        let part = |(at, column): (usize, usize)| {
            let column = self.columns.get(column).ok_or_else(|| self.broken("a key"))?;
            value::key_text(&column.native, self.cell(row, at)?).ok_or_else(|| {
                let what = format!(
                    "{}: a value of key column {} has no text; correct it at the source",
                    self.doing(),
                    column.name
                );
                Fault::new(Code::SourceTypeRefused, what)
            })
        };
        places.map(part).collect()
    }

    /// How many columns stand before the row in the answers that carry changes.
    pub(super) fn key_length(&self) -> usize {
        self.selection.key.len()
    }
}

/// `(a > x or (a = x and b > y))`, for any number of columns.
fn compare(parts: &[(String, String)], last: &str, before: &str) -> String {
    match parts {
        [] => "1 = 1".to_owned(),
        [(column, value)] => format!("{column} {last} {value}"),
        [(column, value), rest @ ..] => format!(
            "({column} {before} {value} or ({column} = {value} and {}))",
            compare(rest, last, before)
        ),
    }
}

fn top(rows_max: Option<u64>) -> String {
    rows_max.map(|rows| format!("top ({rows}) ")).unwrap_or_default()
}

fn conditions(wanted: &[String]) -> String {
    if wanted.is_empty() { String::new() } else { format!(" where {}", wanted.join(" and ")) }
}
