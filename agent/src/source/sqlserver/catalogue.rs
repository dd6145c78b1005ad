//! What the server's catalogue says of a table: columns, unique keys, size, rights. Documented views
//! alone, as they are since SQL Server 2012.

use phusa_protocol::fault::Fault;
use tiberius::Row;

use super::session::{Param, Session, get, number, text};
use super::shape::{Described, Shape, ident};
use crate::source::{Column, Native, Selection};

/// A table as the login sees it.
pub(super) const TABLE_SQL: &str = "\
select cast(o.object_id as bigint), convert(nvarchar(30), o.create_date, 126), \
  convert(nvarchar(30), o.modify_date, 126), \
  cast((select sum(p.rows) from sys.partitions p \
    where p.object_id = o.object_id and p.index_id in (0, 1)) as bigint), \
  cast(objectproperty(o.object_id, 'TableHasPrimaryKey') as bigint), \
  cast(o.is_tracked_by_cdc as bigint) \
from sys.tables o join sys.schemas s on s.schema_id = o.schema_id \
where s.name = @P1 and o.name = @P2";

/// Its columns, each with the type under its alias.
pub(super) const COLUMNS_SQL: &str = "\
select c.name, coalesce(b.name, u.name), cast(c.max_length as bigint), \
  cast(c.precision as bigint), cast(c.scale as bigint), coalesce(c.collation_name, ''), \
  cast(c.is_nullable as bigint), cast(c.is_computed as bigint), \
  cast(has_perms_by_name(@P2, 'OBJECT', 'SELECT', c.name, 'COLUMN') as bigint) \
from sys.columns c \
join sys.types u on u.user_type_id = c.user_type_id \
left join sys.types b on b.user_type_id = c.system_type_id \
where c.object_id = @P1 order by c.column_id";

/// Its unique keys, the primary key first, and their columns in the order of the index.
pub(super) const KEYS_SQL: &str = "\
select cast(i.index_id as bigint), cast(i.is_primary_key as bigint), c.name, \
  cast(c.is_nullable as bigint) \
from sys.indexes i \
join sys.index_columns ic on ic.object_id = i.object_id and ic.index_id = i.index_id \
join sys.columns c on c.object_id = ic.object_id and c.column_id = ic.column_id \
where i.object_id = @P1 and i.is_unique = 1 and i.has_filter = 0 and i.is_disabled = 0 \
  and i.type in (1, 2) and ic.is_included_column = 0 \
order by i.is_primary_key desc, i.index_id, ic.key_ordinal";

/// One column of a table.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) column: Column,
    /// How it is read, or the reason why it is not.
    pub(super) shape: Result<Shape, &'static str>,
    pub(super) computed: bool,
    /// How the server compares its texts.
    pub(super) collation: String,
    pub(super) readable: bool,
}

/// A unique key without nulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) primary: bool,
    pub(super) columns: Vec<String>,
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) object_id: i64,
    /// When it was made: a table made anew has another.
    pub(super) created: String,
    /// When its definition was last altered.
    pub(super) altered: String,
    pub(super) rows_estimated: u64,
    pub(super) has_primary_key: bool,
    pub(super) in_cdc: bool,
    pub(super) attributes: Vec<Attribute>,
    pub(super) keys: Vec<Key>,
}

impl Table {
    /// Looks a table up; `None` where there is none that the login can see.
    pub(super) async fn find(
        session: &mut Session,
        selection: &Selection,
    ) -> Result<Option<Self>, Fault> {
        let (schema, name) = (&selection.schema, &selection.table);
        let doing = format!("cannot look up {schema}.{name}");
        let names = [Param::Text(schema.clone()), Param::Text(name.clone())];
        let found = session.rows(&doing, TABLE_SQL, &names).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let object_id = number(row, 0)?;
        let place = place(selection);
        let params = [Param::Number(object_id), Param::Text(place)];
        let columns = session.rows(&doing, COLUMNS_SQL, &params).await?;
        let keys = session.rows(&doing, KEYS_SQL, &params[..1]).await?;
        Ok(Some(Self {
            object_id,
            created: text(row, 1)?,
            altered: text(row, 2)?,
            rows_estimated: u64::try_from(number(row, 3)?).unwrap_or(0),
            has_primary_key: number(row, 4)? == 1,
            in_cdc: number(row, 5)? == 1,
            attributes: columns.iter().map(attribute).collect::<Result<_, _>>()?,
            keys: unique_keys(&keys)?,
        }))
    }

    /// The column of this very name.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.column.name == name)
    }

    /// The `rowversion` column, where there is one; a table has one at most.
    pub(super) fn row_version(&self) -> Option<&str> {
        let is_version = |attribute: &&Attribute| attribute.column.type_name == "rowversion";
        self.attributes.iter().find(is_version).map(|found| found.column.name.as_str())
    }

    /// The unique key along which the table is read, as places in the selection: all its columns
    /// belong to the contract's key, so that no two records of the contract share one.
    pub(super) fn walk_key(&self, selection: &Selection) -> Option<Vec<usize>> {
        let place = |name: &String| {
            let walkable = self.attribute(name)?.shape.as_ref().ok()?.makes_a_key();
            let at = selection.columns.iter().position(|column| column == name)?;
            (walkable && selection.key.contains(&at)).then_some(at)
        };
        self.keys.iter().find_map(|key| key.columns.iter().map(place).collect())
    }

    /// The primary key's columns.
    pub(super) fn primary_key(&self) -> &[String] {
        self.keys.iter().find(|key| key.primary).map_or(&[], |key| &key.columns)
    }
}

/// `[schema].[table]`.
pub(super) fn place(selection: &Selection) -> String {
    format!("{}.{}", ident(&selection.schema), ident(&selection.table))
}

fn attribute(row: &Row) -> Result<Attribute, Fault> {
    let described = Described {
        base: text(row, 1)?,
        max_length: number(row, 2)?,
        precision: number(row, 3)?,
        scale: number(row, 4)?,
        collation: text(row, 5)?,
    };
    let (type_name, native, shape) = match Shape::of(&described) {
        Ok(shape) => (shape.type_name.clone(), shape.native.clone(), Ok(shape)),
        Err((type_name, why)) => (type_name, Native::Bytea, Err(why)),
    };
    let column = Column { name: text(row, 0)?, type_name, native, nullable: number(row, 6)? == 1 };
    let readable = get::<i64>(row, 8)? == Some(1);
    let (computed, collation) = (number(row, 7)? == 1, described.collation);
    Ok(Attribute { column, shape, computed, collation, readable })
}

fn unique_keys(rows: &[Row]) -> Result<Vec<Key>, Fault> {
    let mut keys: Vec<(i64, bool, Key)> = Vec::new();
    for row in rows {
        let (index, primary, name) = (number(row, 0)?, number(row, 1)? == 1, text(row, 2)?);
        let nullable = number(row, 3)? == 1;
        match keys.last_mut() {
            Some((last, with_nulls, key)) if *last == index => {
                *with_nulls |= nullable;
                key.columns.push(name);
            }
            _ => keys.push((index, nullable, Key { primary, columns: vec![name] })),
        }
    }
    Ok(keys.into_iter().filter(|(_, nullable, _)| !nullable).map(|(_, _, key)| key).collect())
}
