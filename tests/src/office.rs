//! `Office`: a database of any engine with small tables that a test changes by transactions, and a
//! server that it stops, starts and kills; what a test does there is the same for every engine.

mod mysql;
mod postgres;
mod sharing;
mod sqlserver;

use std::fmt::Write as _;

pub use self::mysql::Replica;
pub use self::postgres::{Pair, Standby};
pub use self::sharing::{Followed, Shared, share};

use crate::province::Readable;
use crate::world::Share;

/// The fields of every office's tables, as a [`Share`] names them.
pub const FIELDS: &[&str] = &["id int8", "nhom int4", "ten text", "so int8"];

/// Rows of one `insert`: a statement stays far below what a command line may hold.
const ROWS_A_STATEMENT: usize = 500;

/// How a table is to be followed, which decides what it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// As `auto` chooses; the full read is looked at.
    Snapshot,
    /// By the database's log; with SQL Server by change tracking.
    Log,
    /// By the log, through functions that show the mapped columns alone.
    Functions,
    /// By SQL Server's change data capture.
    Captured,
    /// By what was written since the last look.
    Watermark,
    /// By comparing all rows.
    Reconcile,
}

impl Way {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Log => "log",
            Self::Functions => "log by functions",
            Self::Captured => "log by CDC",
            Self::Watermark => "watermark",
            Self::Reconcile => "reconcile",
        }
    }

    /// The table that is followed so.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Snapshot => "dan_doc",
            Self::Log => "dan_nhat_ky",
            Self::Functions => "dan_ham",
            Self::Captured => "dan_cdc",
            Self::Watermark => "dan_moc",
            Self::Reconcile => "dan_so_sanh",
        }
    }

    /// `capture` in the dataset's file.
    fn capture(self) -> &'static str {
        match self {
            Self::Snapshot => "auto",
            Self::Log | Self::Captured => "log",
            Self::Functions => "functions",
            Self::Watermark => "watermark",
            Self::Reconcile => "reconcile",
        }
    }

    /// Its line at the head of the dataset's file.
    #[must_use]
    pub fn rules(self) -> String {
        format!("capture = \"{}\"", self.capture())
    }

    /// How its table is shared; `rules` is [`Way::rules`] and perhaps more.
    #[must_use]
    pub fn share(self, rules: &str) -> Share<'_> {
        Share { table: self.table(), key: "id", fields: FIELDS, rules }
    }
}

/// A row of an office's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub id: i64,
    /// Which part of the rows it belongs to.
    pub part: i64,
    /// A name.
    pub name: String,
    /// A number.
    pub number: i64,
}

impl Row {
    /// As PostgreSQL's and MySQL's clients print it, between bars.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { id, part, name, number } = self;
        format!("{id}|{part}|{name}|{number}")
    }

    fn literals(&self) -> String {
        let Self { id, part, name, number } = self;
        format!("({id},{part},'{}',{number})", name.replace('\'', "''"))
    }
}

/// One change of a table. All but `Insert` do what they can: of a row that is not there, nothing.
#[derive(Debug, Clone)]
pub enum Change {
    /// A row that was not there; where it was, the transaction fails.
    Insert(Row),
    /// The row in place of what has its key.
    Put(Row),
    /// Another name and number for the row of this key.
    Update(i64, String, i64),
    /// The row of this key goes.
    Delete(i64),
    /// The row of the first key gets the second, in place of what has that.
    Rekey(i64, i64),
    /// The number of every row is one more.
    Bump,
}

/// A database whose tables are changed and whose server comes and goes.
pub trait Office: Readable {
    /// The ways in which servers of this kind could be followed at all.
    fn ways(&self) -> &'static [Way];

    /// What its dataset's file says of a way: several lines where the agent may not know the first,
    /// the best first.
    fn rules(&self, way: Way) -> Vec<String> {
        vec![way.rules()]
    }

    /// Makes the table of a way, with these rows.
    fn create(&self, way: Way, rows: &[Row]);

    /// Changes the table of a way in one transaction; whether the server said that it is committed.
    fn commit(&self, way: Way, changes: &[Change]) -> bool;

    /// The rows of the table of a way in the order of the key, as [`Row::line`] prints them.
    fn lines(&self, way: Way) -> Vec<String>;

    /// Stops the server that is read, in order.
    fn stop(&self);

    /// Starts it again, and waits until it answers.
    fn resume(&self);

    /// `kill -9` to it.
    fn kill(&self);

    /// The server that is read is lost and another takes its place, at another port; whether there was
    /// one to do so.
    fn fail_over(&self) -> bool {
        false
    }

    /// What an administrator does now and then so that an idle server gets on.
    fn nudge(&self) {}

    /// A second of other work: some hundred transactions of a table that nobody shares.
    fn bustle(&self) {}
}

/// Statements that every SQL server understands.
fn statements(table: &str, changes: &[Change]) -> String {
    let mut sql = String::new();
    let mut rest = changes;
    while let Some(first) = rest.first() {
        let inserts = rest.iter().take_while(|change| matches!(change, Change::Insert(_))).count();
        let (now, later) = rest.split_at(inserts.clamp(1, ROWS_A_STATEMENT));
        rest = later;
        let _ = match first {
            Change::Insert(_) => {
                let rows: Vec<_> = now.iter().filter_map(inserted).collect();
                write!(sql, "{}", insert(table, &rows))
            }
            Change::Put(row) => {
                write!(sql, "delete from {table} where id = {};{}", row.id, insert(table, &[row]))
            }
            Change::Update(id, name, number) => {
                let name = name.replace('\'', "''");
                write!(sql, "update {table} set ten = '{name}', so = {number} where id = {id};")
            }
            Change::Delete(id) => write!(sql, "delete from {table} where id = {id};"),
            Change::Rekey(from, to) => write!(
                sql,
                "delete from {table} where id = {to};update {table} set id = {to} where id = {from};"
            ),
            Change::Bump => write!(sql, "update {table} set so = so + 1;"),
        };
    }
    sql
}

fn inserted(change: &Change) -> Option<&Row> {
    match change {
        Change::Insert(row) => Some(row),
        _ => None,
    }
}

fn insert(table: &str, rows: &[&Row]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.literals()).collect();
    format!("insert into {table} (id, nhom, ten, so) values {};", rows.join(","))
}

/// Statements that fill a table, each of them short enough for a command line.
fn filling<'a>(table: &'a str, rows: &'a [Row]) -> impl Iterator<Item = String> + 'a {
    rows.chunks(ROWS_A_STATEMENT).map(move |rows| insert(table, &rows.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_written_as_statements() {
        let row = |id| Row { id, part: 1, name: "O'Hà".to_owned(), number: -3 };
        let changes = [
            Change::Insert(row(1)),
            Change::Insert(row(2)),
            Change::Rekey(1, 9),
            Change::Put(row(2)),
            Change::Delete(9),
        ];
        let expected = "insert into t (id, nhom, ten, so) values (1,1,'O''Hà',-3),(2,1,'O''Hà',-3);\
                        delete from t where id = 9;update t set id = 9 where id = 1;\
                        delete from t where id = 2;\
                        insert into t (id, nhom, ten, so) values (2,1,'O''Hà',-3);\
                        delete from t where id = 9;";
        assert_eq!(statements("t", &changes), expected);
    }
}
