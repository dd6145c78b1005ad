//! The database behind the scripted server: tables that change, and what the real server would
//! remember of the changes: change tracking, change data capture, row versions.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::sql::compare;
use super::value::{Type, Value};

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// Whether it may be null.
    pub nullable: bool,
}

/// What happened to a row; the numbers are those of change data capture.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: i64,
    pub(super) lsn: u64,
    pub(super) operation: i64,
    pub(super) row: Vec<Value>,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// `dbo.name`.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Which columns make the primary key.
    pub key: Vec<usize>,
    /// Its rows, in no order.
    pub rows: Vec<Vec<Value>>,
    /// The oldest version that change tracking answers for; `None` where it is off.
    pub tracked_since: Option<i64>,
    /// The capture instance and the oldest position it has.
    pub capture: Option<(String, u64)>,
    /// Whether the login may select from it, and see its changes.
    pub granted: bool,
    /// Whether the login may see its changes.
    pub changes_granted: bool,
    pub(super) number: i64,
    pub(super) altered: u64,
    pub(super) log: Vec<Change>,
}

/// A database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its tables.
    pub tables: Vec<Table>,
    /// The current version of change tracking, which also stands for the row version.
    pub version: i64,
    /// Stands for when the database was made or restored.
    pub made: u64,
    /// Whether readers may work in snapshots.
    pub snapshots: bool,
    /// Whether change tracking is on in the database.
    pub tracking: bool,
    /// Whether change data capture is on in the database.
    pub cdc: bool,
    /// Whether it is a readable secondary.
    pub read_only: bool,
    /// Ways in which the login could write.
    pub ways: Vec<String>,
    /// Whether SQL Server Agent runs, so that the log is captured.
    pub agent_runs: bool,
    pub(super) captured: u64,
    pub(super) clock: u64,
    pub(super) captured_at: u64,
}

impl Table {
    /// An empty table `dbo.name`; the first words of each column are its name and its type, and
    /// `null` after them lets it be null.
    ///
    /// # Panics
    /// When a key column is none.
    #[must_use]
    pub fn new(name: &str, columns: &[&str], key: &[&str]) -> Self {
        let column = |text: &&str| {
            let (name, kind) = text.split_once(' ').expect("a name and a type");
            let (kind, nullable) = match kind.strip_suffix(" null") {
                Some(kind) => (kind, true),
                None => (kind, false),
            };
            Column { name: name.to_owned(), kind: Type::parse(kind), nullable }
        };
        let columns: Vec<Column> = columns.iter().map(column).collect();
        let place = |name: &&str| columns.iter().position(|column| column.name == **name);
        Self {
            name: format!("dbo.{name}"),
            key: key.iter().map(|name| place(name).expect("a column")).collect(),
            columns,
            rows: Vec::new(),
            tracked_since: None,
            capture: None,
            granted: false,
            changes_granted: false,
            number: 0,
            altered: 0,
            log: Vec::new(),
        }
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().map(|&at| row[at].clone()).collect()
    }

    fn position(&self, key: &[Value]) -> usize {
        let found = self.rows.iter().position(|row| same(&self.key_of(row), key));
        found.expect("a row with this key")
    }

    /// The column that has the row version, where there is one.
    fn row_version(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.kind.base == "timestamp")
    }

    /// What changed in `after..=upto` as change tracking tells it: one line for each key, with the
    /// first and the last operation folded.
    pub(super) fn tracked(&self, after: i64, upto: i64) -> Vec<(i64, &'static str, Vec<Value>)> {
        let mut keys: Vec<(i64, i64, i64, Vec<Value>)> = Vec::new();
        for change in self.log.iter().filter(|change| change.version > after) {
            if change.operation == 3 {
                continue;
            }
            let key = self.key_of(&change.row);
            match keys.iter_mut().find(|(.., known)| same(known, &key)) {
                Some((_, last, version, _)) => {
                    (*last, *version) = (change.operation, change.version);
                }
                None => keys.push((change.operation, change.operation, change.version, key)),
            }
        }
        let told = |(first, last, version, key): (i64, i64, i64, Vec<Value>)| {
            let operation = match (first, last) {
                (_, 1) => "D",
                (2, _) => "I",
                _ => "U",
            };
            (version, operation, key)
        };
        keys.into_iter().map(told).filter(|(version, ..)| *version <= upto).collect()
    }
}

fn same(left: &[Value], right: &[Value]) -> bool {
    left.iter().zip(right).all(|(left, right)| compare(left, right) == Ordering::Equal)
}

impl Database {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tables: Vec::new(),
            version: 10,
            made: 1,
            snapshots: true,
            tracking: false,
            cdc: false,
            read_only: false,
            ways: Vec::new(),
            agent_runs: true,
            captured: 0,
            clock: 0,
            captured_at: 0,
        }
    }

    /// Adds a table.
    pub fn create(&mut self, mut table: Table) {
        table.number = i64::try_from(self.tables.len()).unwrap_or(0) + 1_000 + self.version;
        self.tables.push(table);
    }

    /// The table of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn table(&mut self, name: &str) -> &mut Table {
        let full = format!("dbo.{name}");
        self.tables.iter_mut().find(|table| table.name == full).expect("a table of this name")
    }

    /// Everything that `change` does is one transaction.
    pub fn commit(&mut self, change: impl FnOnce(&mut Self)) {
        self.version += 1;
        change(self);
    }

    /// Adds a row.
    pub fn insert(&mut self, table: &str, mut row: Vec<Value>) {
        self.stamp(table, &mut row);
        self.note(table, 2, row.clone());
        self.table(table).rows.push(row);
    }

    /// Changes the row of this key.
    pub fn update(&mut self, table: &str, key: &[Value], change: impl FnOnce(&mut Vec<Value>)) {
        let at = self.table(table).position(key);
        let old = self.table(table).rows[at].clone();
        let mut new = old.clone();
        change(&mut new);
        self.stamp(table, &mut new);
        let moved = !same(&self.table(table).key_of(&new), key);
        let (before, after) = if moved { (1, 2) } else { (3, 4) };
        self.note(table, before, old);
        self.note(table, after, new.clone());
        self.table(table).rows[at] = new;
    }

    /// Removes the row of this key.
    pub fn delete(&mut self, table: &str, key: &[Value]) {
        let at = self.table(table).position(key);
        let old = self.table(table).rows.remove(at);
        self.note(table, 1, old);
    }

    /// Removes all rows, of which change tracking tells nothing but that it forgot.
    pub fn truncate(&mut self, table: &str) {
        self.version += 1;
        let version = self.version;
        let table = self.table(table);
        table.rows.clear();
        table.log.clear();
        table.tracked_since = table.tracked_since.map(|_| version);
    }

    /// Passes the retention: what change tracking and change data capture kept is gone.
    pub fn forget(&mut self) {
        let version = self.version;
        for table in &mut self.tables {
            table.log.clear();
            table.tracked_since = table.tracked_since.map(|_| version);
            if let Some((_, oldest)) = &mut table.capture {
                *oldest = lsn_of(version) + 1;
            }
        }
    }

    /// Gives a column of a table another type.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn retype(&mut self, table: &str, column: &str, kind: &str) {
        let table = self.table(table);
        table.altered += 1;
        let found = table.columns.iter_mut().find(|found| found.name == column);
        found.expect("a column").kind = Type::parse(kind);
    }

    /// Runs one statement of the administrator's, as `check` prints them.
    ///
    /// # Panics
    /// When it is none that this server knows.
    pub fn administer(&mut self, statement: &str) {
        let name = |text: &str| {
            let name = text.split("[dbo].[").nth(1).and_then(|rest| rest.split(']').next());
            name.expect("a table").to_owned()
        };
        let version = self.version;
        match statement {
            grant if grant.starts_with("grant select (") => {
                self.table(&name(grant)).granted = true;
            }
            grant if grant.starts_with("grant view change tracking on ") => {
                self.table(&name(grant)).changes_granted = true;
            }
            alter
                if alter.starts_with("alter table ")
                    && alter.contains("enable change_tracking") =>
            {
                assert!(self.tracking, "the database comes first");
                self.table(&name(alter)).tracked_since = Some(version);
            }
            alter if alter.contains("set change_tracking = on") => self.tracking = true,
            alter if alter.contains("allow_snapshot_isolation on") => self.snapshots = true,
            other => panic!("the administrator does not know {other:?}"),
        }
    }

    /// Starts capturing a table.
    pub fn capture(&mut self, table: &str) {
        self.cdc = true;
        let oldest = lsn_of(self.version);
        self.table(table).capture = Some((format!("dbo_{table}"), oldest));
        self.captured = self.captured.max(oldest);
    }

    /// The capture job: what was committed comes into the change tables, with the time.
    pub(super) fn run_capture(&mut self) {
        if self.agent_runs {
            self.clock += 1;
            (self.captured, self.captured_at) = (lsn_of(self.version), self.clock);
        }
    }

    fn stamp(&mut self, table: &str, row: &mut [Value]) {
        let version = self.version;
        if let Some(at) = self.table(table).row_version() {
            row[at] = Value::Bytes(version.to_be_bytes().to_vec());
        }
    }

    fn note(&mut self, table: &str, operation: i64, row: Vec<Value>) {
        let (version, lsn) = (self.version, lsn_of(self.version));
        self.table(table).log.push(Change { version, lsn, operation, row });
    }

    /// Each table's rows as a test counts them.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.tables.iter().map(|table| (table.name.clone(), table.rows.len())).collect()
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

/// The position of the log at which a version was committed.
pub(super) fn lsn_of(version: i64) -> u64 {
    u64::try_from(version).unwrap_or(0) * 16
}

/// A position as its ten bytes.
pub(super) fn lsn_bytes(lsn: u64) -> Vec<u8> {
    [&[0, 0][..], &lsn.to_be_bytes()].concat()
}
