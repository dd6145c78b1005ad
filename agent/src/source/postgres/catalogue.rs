//! What the server's catalogue says of a table: columns with the type their bytes have, keys,
//! replica identity, and what its publication carries.

use std::collections::BTreeMap;

use phusa_protocol::fault::Fault;

use super::session::{Session, get};
use crate::source::{Column, Native, Selection};

/// A table as the catalogue describes it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) oid: u32,
    /// `r` ordinary, `p` partitioned; anything else has no log of its own.
    pub(super) kind: String,
    pub(super) identity: ReplicaIdentity,
    /// All its columns in order.
    pub(super) columns: Vec<Attribute>,
    /// Columns of each unique, immediate, complete index over NOT NULL columns, primary key first.
    pub(super) unique_keys: Vec<Vec<String>>,
    /// Tables that inherit from an ordinary one: a query of it shows their rows, and neither its log
    /// nor its key holds for them.
    pub(super) heirs: Vec<String>,
    /// Rows as the server's statistics estimate them.
    pub(super) rows_estimated: u64,
    /// Whether the login may use the schema.
    pub(super) schema_usable: bool,
    /// Whether the login may read which transaction wrote a row, where rows tell it.
    pub(super) stamps_readable: bool,
}

/// What the log says of a row that was changed or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplicaIdentity {
    /// Nothing: changes and removals are not logged, and a publication would make them fail.
    Nothing,
    /// These columns.
    Columns(Vec<String>),
    /// The whole row.
    Full,
}

/// One column of a table.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) column: Column,
    pub(super) numbers: TypeNumbers,
    /// Whether the login may read it.
    pub(super) readable: bool,
    /// Whether it is computed from others, and then `s` stored or `v` on reading.
    pub(super) generated: String,
    /// Why its type cannot be carried, if it cannot.
    pub(super) refused: Option<String>,
}

/// The numbers of a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeNumbers {
    pub(super) type_oid: u32,
    /// For an array, that of its elements; otherwise 0.
    pub(super) element_oid: u32,
    /// The width, precision or scale it was given; -1 is none.
    pub(super) modifier: i32,
}

/// A publication, and what it carries of one table.
#[derive(Debug, Clone)]
pub(super) struct Publication {
    /// Whether inserts, updates, deletes and truncates are all published.
    pub(super) complete: bool,
    /// Whether partitions are published as their root.
    pub(super) via_root: bool,
    /// What it carries of the table, if it carries it.
    pub(super) table: Option<Published>,
}

/// What a publication carries of one table.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// The columns; `None` on servers before 15, which always carry all.
    pub(super) columns: Option<Vec<String>>,
    /// Whether rows are filtered.
    pub(super) filtered: bool,
}

impl Table {
    /// Looks the table up; `None` when there is no such table.
    pub(super) async fn find(
        session: &Session,
        schema: &str,
        name: &str,
    ) -> Result<Option<Self>, Fault> {
        let doing = format!("cannot look up table {schema}.{name}");
        let sql = "select c.oid, c.relkind::text, c.relreplident::text, \
                          greatest(c.reltuples, 0)::float8, \
                          has_schema_privilege(n.oid, 'usage'), \
                          coalesce(has_column_privilege(c.oid, (-2)::int2, 'select'), false) \
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where n.nspname = $1 and c.relname = $2";
        let rows = session.rows(&doing, sql, &[&schema, &name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (oid, kind): (u32, String) = (get(row, 0)?, get(row, 1)?);
        let heirs = heirs(session, &doing, oid).await?;
        let (unique_keys, identity_index) = unique_keys(session, &doing, oid).await?;
        let identity = match (get::<String>(row, 2)?.as_str(), identity_index) {
            ("f", _) => ReplicaIdentity::Full,
            ("d" | "i", Some(columns)) => ReplicaIdentity::Columns(columns),
            _ => ReplicaIdentity::Nothing,
        };
        Ok(Some(Self {
            oid,
            kind,
            heirs,
            identity,
            columns: attributes(session, &doing, oid).await?,
            unique_keys,
            rows_estimated: whole(get(row, 3)?),
            schema_usable: get(row, 4)?,
            // The column of this number is xmin; a view has none.
            stamps_readable: get(row, 5)?,
        }))
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Attribute> {
        self.columns.iter().find(|attribute| attribute.column.name == name)
    }

    /// The columns of the replica identity; all for FULL.
    pub(super) fn identity_columns(&self) -> Vec<&str> {
        match &self.identity {
            ReplicaIdentity::Nothing => Vec::new(),
            ReplicaIdentity::Columns(columns) => columns.iter().map(String::as_str).collect(),
            ReplicaIdentity::Full => self.columns.iter().map(|a| a.column.name.as_str()).collect(),
        }
    }

    /// The unique key that lies within the selection's key, along which the table is read.
    pub(super) fn walk_key(&self, selection: &Selection) -> Option<Vec<usize>> {
        let within = |name: &String| {
            let at = selection.columns.iter().position(|column| column == name)?;
            selection.key.contains(&at).then_some(at)
        };
        self.unique_keys.iter().find_map(|key| key.iter().map(within).collect())
    }
}

/// The statistics keep the row count as a float.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of at least 0; `as` saturates"
)]
pub(super) fn whole(estimate: f64) -> u64 {
    estimate as u64
}

/// Unique keys, and the columns of the replica identity where an index gives it.
async fn unique_keys(
    session: &Session,
    doing: &str,
    table: u32,
) -> Result<(Vec<Vec<String>>, Option<Vec<String>>), Fault> {
    let sql = "select i.indisprimary, i.indisreplident, \
                      array_agg(a.attname::text order by k.n), bool_and(a.attnotnull), \
                      c.relreplident = 'd' \
               from pg_index i join pg_class c on c.oid = i.indrelid \
               cross join unnest(i.indkey::int2[]) with ordinality k (attnum, n) \
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
               where i.indrelid = $1 and i.indisunique and i.indimmediate and i.indisvalid \
                 and i.indpred is null and i.indexprs is null and k.n <= i.indnkeyatts \
               group by i.indexrelid, i.indisprimary, i.indisreplident, c.relreplident \
               order by i.indisprimary desc, i.indexrelid";
    let (mut keys, mut identity) = (Vec::new(), None);
    for row in session.rows(doing, sql, &[&table]).await? {
        let (primary, chosen): (bool, bool) = (get(&row, 0)?, get(&row, 1)?);
        let columns: Vec<String> = get(&row, 2)?;
        let default: bool = get(&row, 4)?;
        if if default { primary } else { chosen } {
            identity = Some(columns.clone());
        }
        if get(&row, 3)? {
            keys.push(columns);
        }
    }
    Ok((keys, identity))
}

/// Tables that inherit from an ordinary one, as people write them.
pub(super) async fn heirs(
    session: &Session,
    doing: &str,
    table: u32,
) -> Result<Vec<String>, Fault> {
    let sql = "select i.inhrelid::regclass::text from pg_inherits i \
               join pg_class c on c.oid = i.inhparent and c.relkind = 'r' \
               where i.inhparent = $1 order by 1";
    let rows = session.rows(doing, sql, &[&table]).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

async fn attributes(session: &Session, doing: &str, table: u32) -> Result<Vec<Attribute>, Fault> {
    let sql = "select a.attname::text, format_type(a.atttypid, a.atttypmod), a.atttypid, \
                      not a.attnotnull, has_column_privilege(a.attrelid, a.attnum, 'select'), \
                      a.attgenerated::text, a.atttypmod \
               from pg_attribute a where a.attrelid = $1 and a.attnum > 0 \
                 and not a.attisdropped order by a.attnum";
    let rows = session.rows(doing, sql, &[&table]).await?;
    let oids = rows.iter().map(|row| get(row, 2)).collect::<Result<Vec<u32>, _>>()?;
    let types = Types::load(session, doing, oids).await?;
    let mut attributes = Vec::with_capacity(rows.len());
    for row in &rows {
        let type_oid: u32 = get(row, 2)?;
        let (native, element_oid, refused) = match types.carried(type_oid, TYPE_DEPTH_MAX) {
            Ok((native, element_oid)) => (native, element_oid, None),
            Err(reason) => (Native::Bytea, 0, Some(reason)),
        };
        let (name, type_name, nullable) = (get(row, 0)?, get(row, 1)?, get(row, 3)?);
        let column = Column { name, type_name, native, nullable };
        let (readable, generated) = (get(row, 4)?, get(row, 5)?);
        let numbers = TypeNumbers { type_oid, element_oid, modifier: get(row, 6)? };
        attributes.push(Attribute { column, numbers, readable, generated, refused });
    }
    Ok(attributes)
}

/// Domains over arrays of ranges of domains … end here.
const TYPE_DEPTH_MAX: u8 = 8;

/// One type of the catalogue.
#[derive(Debug, Clone)]
struct Type {
    name: String,
    /// `b` base, `d` domain, `e` enum, `r` range, and others that are not carried.
    kind: String,
    /// What it is made of: the domain's base, the array's element, the range's bound; or 0.
    part: u32,
    is_array: bool,
}

struct Types(BTreeMap<u32, Type>);

impl Types {
    /// Loads these types and what they are made of.
    async fn load(session: &Session, doing: &str, mut wanted: Vec<u32>) -> Result<Self, Fault> {
        let sql = "select t.oid, t.typname::text, t.typtype::text, \
                          case t.typtype when 'd' then t.typbasetype \
                               when 'r' then (select r.rngsubtype from pg_range r \
                                              where r.rngtypid = t.oid) \
                               else t.typelem end, \
                          t.typcategory = 'A' and t.typlen = -1 and t.typelem <> 0 \
                            and t.typname::text not in ('int2vector', 'oidvector') \
                   from pg_type t where t.oid = any($1)";
        let mut types = BTreeMap::new();
        for _ in 0..TYPE_DEPTH_MAX {
            if wanted.is_empty() {
                break;
            }
            let rows = session.rows(doing, sql, &[&wanted]).await?;
            wanted.clear();
            for row in rows {
                let (name, kind) = (get(&row, 1)?, get(&row, 2)?);
                let (part, is_array): (u32, bool) = (get(&row, 3)?, get(&row, 4)?);
                types.insert(get(&row, 0)?, Type { name, kind, part, is_array });
                if part != 0 && !types.contains_key(&part) {
                    wanted.push(part);
                }
            }
        }
        Ok(Self(types))
    }

    /// How the bytes of a type are read and, for an array, the number of its element type; or why
    /// it cannot be carried.
    fn carried(&self, oid: u32, depth: u8) -> Result<(Native, u32), String> {
        let refuse = |name: &str| Err(format!("type {name} cannot be carried exactly"));
        let Some(found) = self.0.get(&oid) else { return refuse("unknown") };
        if depth == 0 {
            return refuse(&found.name);
        }
        match found.kind.as_str() {
            "e" => Ok((Native::Text, 0)),
            "d" => self.carried(found.part, depth - 1),
            "r" => {
                let (bound, _) = self.carried(found.part, depth - 1)?;
                Ok((Native::Range(Box::new(bound)), 0))
            }
            "b" if found.is_array => {
                let (element, _) = self.carried(found.part, depth - 1)?;
                Ok((Native::Array(Box::new(element)), found.part))
            }
            "b" => base(oid, &found.name).map_or_else(|| refuse(&found.name), |n| Ok((n, 0))),
            _ => refuse(&found.name),
        }
    }
}

/// The base types that are carried, by the numbers PostgreSQL fixed for them.
fn base(oid: u32, name: &str) -> Option<Native> {
    Some(match oid {
        16 => Native::Bool,
        17 => Native::Bytea,
        20 => Native::Int8,
        21 => Native::Int2,
        23 => Native::Int4,
        // name, text, xml, char(n), varchar
        19 | 25 | 142 | 1042 | 1043 => Native::Text,
        114 => Native::Json,
        650 => Native::Cidr,
        700 => Native::Float4,
        701 => Native::Float8,
        829 => Native::Macaddr,
        869 => Native::Inet,
        1082 => Native::Date,
        1083 => Native::Time,
        1114 => Native::Timestamp,
        1184 => Native::Timestamptz,
        1186 => Native::Interval,
        1266 => Native::Timetz,
        1700 => Native::Numeric,
        2950 => Native::Uuid,
        3802 => Native::Jsonb,
        // An extension's type has another number in each database.
        _ if name == "citext" => Native::Text,
        _ => return None,
    })
}

impl Publication {
    /// Looks the publication up; `None` when there is none of this name.
    pub(super) async fn find(
        session: &Session,
        version: u32,
        name: &str,
        selection: &Selection,
    ) -> Result<Option<Self>, Fault> {
        let doing = format!("cannot look up publication {name}");
        let via_root = if version >= 130_000 { "pubviaroot" } else { "false" };
        let sql = format!(
            "select pubinsert and pubupdate and pubdelete and pubtruncate, {via_root} \
             from pg_publication where pubname = $1"
        );
        let rows = session.rows(&doing, &sql, &[&name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let detail = match version {
            150_000.. => "attnames::text[], rowfilter is not null",
            _ => "null::text[], false",
        };
        let sql = format!(
            "select {detail} from pg_publication_tables \
             where pubname = $1 and schemaname = $2 and tablename = $3"
        );
        let (schema, of) = (&selection.schema, &selection.table);
        let tables = session.rows(&doing, &sql, &[&name, schema, of]).await?;
        let table = match tables.first() {
            Some(row) => Some(Published { columns: get(row, 0)?, filtered: get(row, 1)? }),
            None => None,
        };
        Ok(Some(Self { complete: get(row, 0)?, via_root: get(row, 1)?, table }))
    }
}

/// A name as SQL.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as SQL, separated by commas.
pub(super) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A text as SQL; `standard_conforming_strings` is pinned on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(ident("Họ \"tên\""), "\"Họ \"\"tên\"\"\"");
        assert_eq!(idents(["a", "b"]), "\"a\", \"b\"");
        assert_eq!(literal("O'Hara\\"), "'O''Hara\\'");
    }

    #[test]
    fn types_are_followed_to_their_base() {
        let of = |name: &str, kind: &str, part: u32, is_array: bool| Type {
            name: name.to_owned(),
            kind: kind.to_owned(),
            part,
            is_array,
        };
        let types = Types(BTreeMap::from([
            (23, of("int4", "b", 0, false)),
            (790, of("money", "b", 0, false)),
            (600, of("point", "b", 701, false)),
            (3904, of("int4range", "r", 23, false)),
            (3905, of("_int4range", "b", 3904, true)),
            (50_000, of("ward", "d", 3905, false)),
            (50_001, of("loop", "d", 50_001, false)),
            (50_002, of("address", "c", 0, false)),
            (50_003, of("citext", "b", 0, false)),
        ]));
        let check = |oid: u32, expected: Result<(Native, u32), &str>| {
            let expected =
                expected.map_err(|name| format!("type {name} cannot be carried exactly"));
            assert_eq!(types.carried(oid, TYPE_DEPTH_MAX), expected, "{oid}");
        };
        let range = Native::Range(Box::new(Native::Int4));
        check(3904, Ok((range.clone(), 0)));
        check(50_000, Ok((Native::Array(Box::new(range)), 3904)));
        check(50_003, Ok((Native::Text, 0)));
        check(790, Err("money"));
        check(600, Err("point"));
        check(50_001, Err("loop"));
        check(50_002, Err("address"));
        check(99, Err("unknown"));
    }
}
