//! Contract → DDL: dataset table, metadata columns, history table and its triggers, and what a
//! widened contract changes. Pure: it makes texts, others run them.

use std::collections::BTreeMap;

use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::value::Kind;

/// The metadata columns that stand behind the contract's fields.
///
/// The defaults serve COPY alone; see `hub/migrations/V1__hub_tables.sql`.
const METADATA: [(&str, &str); 5] = [
    ("_record", "bigint not null default nextval('phusa.record')"),
    ("_version", "bigint not null default phusa.current_transfer()"),
    ("_agency", "text not null default phusa.current_agency()"),
    ("_source_time", "timestamptz not null default phusa.current_source_time()"),
    ("_transfer", "bigint not null default phusa.current_transfer()"),
];

/// What the columns of [`METADATA`] mean, for people.
const METADATA_TITLES: [(&str, &str); 5] = [
    ("_record", "Số định danh bản ghi, không đổi suốt đời bản ghi"),
    ("_version", "Phiên bản: lần truyền làm thay đổi bản ghi gần nhất"),
    ("_agency", "Cơ quan cung cấp"),
    ("_source_time", "Thời điểm thay đổi tại nguồn"),
    ("_transfer", "Lần truyền đã ghi bản ghi này"),
];

/// Room a page keeps free, so that a changed row can stay on its page and no index is touched.
const FILLFACTOR: u8 = 90;

/// One column that carries a contract field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// The field's name, in quotes: a field may be called `order`.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    title: String,
}

/// The tables of one dataset, as its contract has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    dataset: DatasetId,
    title: String,
    columns: Vec<Column>,
    key: Vec<usize>,
}

impl Shape {
    /// The tables that `contract` asks for.
    #[must_use]
    pub fn of(contract: &Contract) -> Self {
        let column = |(index, field): (usize, &phusa_protocol::contract::ContractField)| Column {
            name: quoted(&field.name),
            kind: field.kind,
            nullable: contract.is_nullable(index),
            title: field.name_vi.clone(),
        };
        Self {
            dataset: contract.dataset.clone(),
            title: contract.title_vi.clone(),
            columns: contract.fields.iter().enumerate().map(column).collect(),
            key: contract.key_indexes(),
        }
    }

    /// The dataset whose tables these are.
    #[must_use]
    pub fn dataset(&self) -> &DatasetId {
        &self.dataset
    }

    /// The dataset's table, with its schema and quotes.
    #[must_use]
    pub fn table(&self) -> String {
        format!("{}.{}", quoted(self.dataset.theme()), quoted(self.dataset.table()))
    }

    /// The table of rows as they were, with its schema and quotes.
    #[must_use]
    pub fn history(&self) -> String {
        self.beside("history")
    }

    /// The statements that make schema, table, history and triggers, in order.
    #[must_use]
    pub fn create(&self) -> Vec<String> {
        let (table, history) = (self.table(), self.history());
        let fields = self.columns.iter().map(Column::definition);
        let metadata = METADATA.iter().map(|(name, rest)| format!("{name} {rest}"));
        let columns: Vec<_> = fields.chain(metadata).collect();
        let columns = columns.join(",\n  ");
        let key = self.key_list("");
        let mut statements = vec![
            format!("create schema if not exists {}", quoted(self.dataset.theme())),
            format!(
                "create table {table} (\n  {columns},\n  primary key ({key})\n) \
                 with (fillfactor = {FILLFACTOR})"
            ),
            format!(
                "create table {history} (\n  like {table},\n  _until timestamptz not null,\n  \
                 _until_transfer bigint not null\n)"
            ),
            format!("create index on {history} ({key}, _until)"),
            self.keep_function(),
        ];
        statements.extend(self.keep_triggers());
        statements.extend(self.comments());
        statements
    }

    /// The statements that bring these tables to the shape `to`: new nullable fields and wider
    /// numbers.
    ///
    /// # Errors
    /// Any other difference, in words: it needs a contract of the next major version (NA-01).
    pub fn widen(&self, to: &Self) -> Result<Vec<String>, String> {
        if self.dataset != to.dataset {
            return Err(format!("{} is not {}", to.dataset, self.dataset));
        }
        if self.key_list("") != to.key_list("") {
            return Err(format!("the key of {} changes", self.dataset));
        }
        let mut wanted: BTreeMap<&str, &Column> =
            to.columns.iter().map(|column| (column.name.as_str(), column)).collect();
        let mut alterations = Vec::new();
        for old in &self.columns {
            let name = &old.name;
            let new = wanted.remove(name.as_str()).ok_or_else(|| format!("{name} goes away"))?;
            alterations.extend(old.widened(new)?);
        }
        for column in to.columns.iter().filter(|column| wanted.contains_key(column.name.as_str())) {
            alterations.push(column.added()?);
        }
        Ok(to.altered(&alterations))
    }

    /// The statements that keep these tables, with their history, as `<table>__v<major>`, so that
    /// others can be made under their names. Nothing writes to them any more.
    #[must_use]
    pub fn set_aside(&self, major: u32) -> Vec<String> {
        let name = format!("{}__v{major}", self.dataset.table());
        let (table, history) = (self.table(), self.history());
        let drop = |event: &str| format!("drop trigger keep_{event} on {table}");
        vec![
            drop("update"),
            drop("delete"),
            format!("alter table {history} rename to {}", quoted(&format!("{name}__history"))),
            format!("alter table {table} rename to {}", quoted(&name)),
        ]
    }

    /// The alterations on both tables, and what has to know of them.
    fn altered(&self, alterations: &[String]) -> Vec<String> {
        let mut statements = Vec::new();
        if !alterations.is_empty() {
            let alterations = alterations.join(", ");
            statements.push(format!("alter table {} {alterations}", self.table()));
            statements.push(format!("alter table {} {alterations}", self.history()));
            statements.push(self.keep_function());
        }
        statements.extend(self.comments());
        statements
    }

    /// The columns in contract order.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where the key columns stand among the columns, in key order.
    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    /// The key columns in key order.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|&index| self.columns.get(index))
    }

    /// Every column name in contract order, each after `prefix`.
    pub(super) fn column_list(&self, prefix: &str) -> String {
        list(self.columns.iter(), prefix)
    }

    /// The key column names in key order, each after `prefix`.
    pub(super) fn key_list(&self, prefix: &str) -> String {
        list(self.key_columns(), prefix)
    }

    /// A name for something of this shape alone within a session; 16 hexadecimal digits.
    pub(super) fn tag(&self) -> String {
        let mut text = self.dataset.to_string();
        for column in &self.columns {
            text.push_str(&column.definition());
        }
        let mut digits = Digest::of(text.as_bytes()).to_string();
        digits.truncate(16);
        digits
    }

    pub(super) fn beside(&self, suffix: &str) -> String {
        let name = format!("{}__{suffix}", self.dataset.table());
        format!("{}.{}", quoted(self.dataset.theme()), quoted(&name))
    }

    /// Copies rows as they were to the history. No statement of the hub updates a row to what it
    /// already is, so this has nothing to compare.
    fn keep_function(&self) -> String {
        let names: Vec<_> = METADATA.iter().map(|(name, _)| *name).collect();
        let all = format!("{}, {}", self.column_list(""), names.join(", "));
        format!(
            "create or replace function {keep}() returns trigger language plpgsql as $keep$\n\
             declare\n  \
               until timestamptz := current_setting('phusa.source_time');\n  \
               until_transfer bigint := current_setting('phusa.transfer');\n\
             begin\n  \
               insert into {history} ({all}, _until, _until_transfer)\n  \
               select {all}, greatest(_source_time, until), until_transfer from old_rows;\n  \
               return null;\n\
             end $keep$",
            keep = self.beside("keep"),
            history = self.history(),
        )
    }

    fn keep_triggers(&self) -> [String; 2] {
        let trigger = |event: &str| {
            format!(
                "create trigger keep_{event} after {event} on {} referencing old table as \
                 old_rows for each statement execute function {}()",
                self.table(),
                self.beside("keep"),
            )
        };
        [trigger("update"), trigger("delete")]
    }

    fn comments(&self) -> Vec<String> {
        let table = self.table();
        let of_column = |name: &str, title: &str| {
            format!("comment on column {table}.{name} is {}", literal(title))
        };
        let mut comments = vec![
            format!("comment on table {table} is {}", literal(&self.title)),
            format!(
                "comment on table {} is {}",
                self.history(),
                literal(&format!("{} (lịch sử)", self.title))
            ),
        ];
        comments.extend(self.columns.iter().map(|c| of_column(&c.name, &c.title)));
        comments.extend(METADATA_TITLES.iter().map(|(name, title)| of_column(name, title)));
        comments
    }
}

impl Column {
    /// Whether two values of it may be equal in SQL and yet be different bytes: the scale of a
    /// number, alone or inside JSON, and the sign of a zero.
    pub(super) fn hides_differences(&self) -> bool {
        matches!(self.kind, Kind::Numeric | Kind::Float4 | Kind::Float8 | Kind::Jsonb)
    }

    fn definition(&self) -> String {
        let rule = if self.nullable { "" } else { " not null" };
        format!("{} {}{rule}", self.name, self.kind)
    }

    fn added(&self) -> Result<String, String> {
        if self.nullable {
            return Ok(format!("add column {} {}", self.name, self.kind));
        }
        Err(format!("the new field {} is required, and rows that are there lack it", self.name))
    }

    fn widened(&self, to: &Self) -> Result<Option<String>, String> {
        let name = &self.name;
        if self.nullable != to.nullable {
            let now = if to.nullable { "may be null" } else { "is required" };
            return Err(format!("{name} now {now}"));
        }
        if self.kind == to.kind {
            return Ok(None);
        }
        if self.kind.widens_to(to.kind) {
            return Ok(Some(format!("alter column {name} type {}", to.kind)));
        }
        Err(format!("{name} changes from {} to {}, which may lose values", self.kind, to.kind))
    }
}

fn list<'a>(columns: impl Iterator<Item = &'a Column>, prefix: &str) -> String {
    let names: Vec<_> = columns.map(|column| format!("{prefix}{}", column.name)).collect();
    names.join(", ")
}

/// Identifiers here are checked to be of `a-z 0-9 _`; the quotes are for reserved words.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
