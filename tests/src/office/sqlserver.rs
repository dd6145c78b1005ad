//! An office with SQL Server, which is the scripted server: its tables are changed in the model.

use super::{Change, Office, Row, Way};
use crate::tds::SqlServer;
use crate::tds::model::{Database, Table};
use crate::tds::value::Value;

const WAYS: &[Way] = &[Way::Snapshot, Way::Log, Way::Captured, Way::Watermark, Way::Reconcile];

/// Columns without the row version, which only the table followed by it has.
const COLUMNS: [&str; 4] = ["id bigint", "nhom int", "ten nvarchar(200) null", "so bigint"];

impl Office for SqlServer {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    /// A table that has a row version and nothing else is followed by it without being told.
    fn rules(&self, way: Way) -> Vec<String> {
        let auto = Way::Snapshot.rules();
        if way == Way::Watermark { vec![way.rules(), auto] } else { vec![way.rules()] }
    }

    fn create(&self, way: Way, rows: &[Row]) {
        let mut columns = COLUMNS.to_vec();
        columns.extend((way == Way::Watermark).then_some("rv rowversion"));
        let name = way.table();
        let mut database = self.database();
        database.create(Table::new(name, &columns, &["id"]));
        database.commit(|database| {
            for row in rows {
                database.insert(name, values(way, row));
            }
        });
        match way {
            Way::Captured => {
                database.table(name).granted = true;
                database.capture(name);
            }
            // Whatever else could be turned on for it stays off.
            Way::Watermark => database.table(name).granted = true,
            Way::Snapshot | Way::Log | Way::Functions | Way::Reconcile => {}
        }
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        self.database().commit(|database| {
            for change in changes {
                apply(database, way, change);
            }
        });
        true
    }

    fn lines(&self, way: Way) -> Vec<String> {
        let mut rows: Vec<Row> =
            self.database().table(way.table()).rows.iter().map(|values| row(values)).collect();
        rows.sort_by_key(|row| row.id);
        rows.iter().map(Row::line).collect()
    }

    fn stop(&self) {
        self.stop();
    }

    fn resume(&self) {
        self.resume();
    }

    fn kill(&self) {
        self.stop();
    }
}

fn values(way: Way, row: &Row) -> Vec<Value> {
    let Row { id, part, name, number } = row;
    let mut values =
        vec![Value::Int(*id), Value::Int(*part), Value::text(name), Value::Int(*number)];
    values.extend((way == Way::Watermark).then_some(Value::Null));
    values
}

fn row(values: &[Value]) -> Row {
    let number = |at: usize| match values.get(at) {
        Some(Value::Int(number)) => *number,
        other => panic!("{other:?} is no number"),
    };
    let Some(Value::Text(units)) = values.get(2) else { panic!("a row has a name") };
    let name = String::from_utf16_lossy(units);
    Row { id: number(0), part: number(1), name, number: number(3) }
}

fn apply(database: &mut Database, way: Way, change: &Change) {
    let table = way.table();
    let remove = |database: &mut Database, id: i64| {
        if is_there(database, table, id) {
            database.delete(table, &[Value::Int(id)]);
        }
    };
    match change {
        Change::Insert(row) => database.insert(table, values(way, row)),
        Change::Put(row) => {
            remove(database, row.id);
            database.insert(table, values(way, row));
        }
        Change::Update(id, name, number) => {
            if is_there(database, table, *id) {
                database.update(table, &[Value::Int(*id)], |row| {
                    (row[2], row[3]) = (Value::text(name), Value::Int(*number));
                });
            }
        }
        Change::Delete(id) => remove(database, *id),
        Change::Rekey(from, to) => {
            remove(database, *to);
            if is_there(database, table, *from) {
                database.update(table, &[Value::Int(*from)], |row| row[0] = Value::Int(*to));
            }
        }
        Change::Bump => {
            let ids: Vec<Value> =
                database.table(table).rows.iter().map(|row| row[0].clone()).collect();
            for id in ids {
                database.update(table, &[id], |row| {
                    if let Value::Int(number) = &mut row[3] {
                        *number += 1;
                    }
                });
            }
        }
    }
}

fn is_there(database: &mut Database, table: &str, id: i64) -> bool {
    database.table(table).rows.iter().any(|row| row[0] == Value::Int(id))
}
