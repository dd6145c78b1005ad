//! What the server's catalogue says of a table: columns with what they hold, and its unique keys.

use phusa_protocol::fault::Fault;

use super::kind::{Described, Kind};
use super::session::{Session, get};
use crate::source::{Column, Selection};

/// A table as the catalogue describes it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Schema and table as the log writes them.
    pub(super) names: (String, String),
    /// `BASE TABLE`, or something without a log of its own.
    pub(super) kind: String,
    pub(super) engine: String,
    /// The columns that the login may see, in order.
    pub(super) columns: Vec<Attribute>,
    /// Columns of each unique index over NOT NULL columns, primary key first.
    pub(super) unique_keys: Vec<Vec<String>>,
    /// Columns that stand first in an index.
    pub(super) leading: Vec<String>,
    /// Rows as the server's statistics estimate them.
    pub(super) rows_estimated: u64,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) column: Column,
    /// Where it stands in the table, from 0.
    pub(super) place: usize,
    pub(super) charset: Option<String>,
    /// How the server compares its texts.
    pub(super) collation: Option<String>,
    /// What it holds, or why it cannot be carried.
    pub(super) kind: Result<Kind, String>,
    /// Whether it is computed on reading and stands in no log.
    pub(super) is_virtual: bool,
}

impl Table {
    /// Looks the table up; `None` when there is none that the login may see.
    pub(super) async fn find(
        session: &mut Session,
        schema: &str,
        name: &str,
    ) -> Result<Option<Self>, Fault> {
        let doing = format!("cannot look up table {schema}.{name}");
        let named =
            format!("table_schema = {} and table_name = {}", literal(schema), literal(name));
        let sql = format!(
            "select table_type, coalesce(engine, ''), coalesce(table_rows, 0), table_schema, \
                    table_name \
             from information_schema.tables where {named}"
        );
        let rows = session.rows(&doing, &sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (kind, engine, rows_estimated) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let names = (get(row, 3)?, get(row, 4)?);
        let columns = attributes(session, &doing, &named).await?;
        let unique_keys = unique_keys(session, &doing, &named, &columns).await?;
        let sql = format!(
            "select column_name from information_schema.statistics \
             where {named} and seq_in_index = 1 and column_name is not null"
        );
        let leading = session.rows(&doing, &sql).await?;
        let leading = leading.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        Ok(Some(Self { names, kind, engine, columns, unique_keys, leading, rows_estimated }))
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Attribute> {
        self.columns.iter().find(|attribute| attribute.column.name == name)
    }

    /// Whether the login sees every column up to the last it sees.
    pub(super) fn is_whole(&self) -> bool {
        self.columns.iter().enumerate().all(|(at, attribute)| attribute.place == at)
    }

    /// The unique key that lies within the selection's key, along which the table is read.
    pub(super) fn walk_key(&self, selection: &Selection) -> Option<Vec<usize>> {
        let within = |name: &String| {
            let at = selection.columns.iter().position(|column| column == name)?;
            let attribute = self.column(name)?;
            let walkable = attribute.kind.as_ref().is_ok_and(|kind| !kind.cannot_be_walked());
            (walkable && selection.key.contains(&at)).then_some(at)
        };
        self.unique_keys.iter().find_map(|key| key.iter().map(within).collect())
    }
}

async fn attributes(
    session: &mut Session,
    doing: &str,
    named: &str,
) -> Result<Vec<Attribute>, Fault> {
    let sql = format!(
        "select column_name, data_type, column_type, character_set_name, numeric_precision, \
                numeric_scale, character_octet_length, is_nullable, ordinal_position, extra, \
                collation_name \
         from information_schema.columns where {named} order by ordinal_position"
    );
    let mut attributes = Vec::new();
    for row in session.rows(doing, &sql).await? {
        let (data_type, column_type): (String, String) = (get(&row, 1)?, get(&row, 2)?);
        let charset: Option<String> = get(&row, 3)?;
        let kind = Kind::of(Described {
            data_type: &data_type,
            column_type: &column_type,
            charset: charset.as_deref(),
            precision: get(&row, 4)?,
            scale: get(&row, 5)?,
            bytes_max: get(&row, 6)?,
        });
        let native = kind.as_ref().map_or(crate::source::Native::Bytea, Kind::native);
        let nullable = get::<String>(&row, 7)?.eq_ignore_ascii_case("yes");
        let column = Column { name: get(&row, 0)?, type_name: column_type, native, nullable };
        let place = usize::try_from(get::<u64>(&row, 8)?.saturating_sub(1)).unwrap_or(0);
        let is_virtual = get::<String>(&row, 9)?.to_uppercase().contains("VIRTUAL");
        let collation = get(&row, 10)?;
        attributes.push(Attribute { column, place, charset, collation, kind, is_virtual });
    }
    Ok(attributes)
}

async fn unique_keys(
    session: &mut Session,
    doing: &str,
    named: &str,
    columns: &[Attribute],
) -> Result<Vec<Vec<String>>, Fault> {
    let sql = format!(
        "select index_name, column_name, sub_part from information_schema.statistics \
         where {named} and non_unique = 0 \
         order by index_name <> 'PRIMARY', index_name, seq_in_index"
    );
    let mut keys: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for row in session.rows(doing, &sql).await? {
        let index: String = get(&row, 0)?;
        let (name, part): (Option<String>, Option<u64>) = (get(&row, 1)?, get(&row, 2)?);
        if keys.last().is_none_or(|(last, _)| *last != index) {
            keys.push((index, Some(Vec::new())));
        }
        let is_whole = |name: &String| {
            let found = columns.iter().find(|attribute| attribute.column.name == *name);
            part.is_none() && found.is_some_and(|attribute| !attribute.column.nullable)
        };
        let name = name.filter(is_whole);
        if let Some((_, key)) = keys.last_mut() {
            *key = key.take().zip(name).map(|(mut key, name)| {
                key.push(name);
                key
            });
        }
    }
    Ok(keys.into_iter().filter_map(|(_, key)| key).collect())
}

/// A name as SQL.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Names as SQL, separated by commas.
pub(super) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A text as SQL; the session's `sql_mode` is pinned.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(ident("Họ `tên`"), "`Họ ``tên```");
        assert_eq!(idents(["a", "b"]), "`a`, `b`");
        assert_eq!(literal("O'Hara\\"), "'O''Hara\\\\'");
    }
}
