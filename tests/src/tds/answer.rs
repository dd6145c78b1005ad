//! Which answer a statement gets: the catalogue by the texts that the engine sends, rows by
//! evaluating what it asks.

use std::cmp::Ordering;

use super::model::{Database, Table, lsn_bytes, lsn_of};
use super::sql::{Parser, compare};
use super::value::{Type, Value};

/// What a statement gives.
pub(super) enum Answer {
    /// Nothing but that it is done.
    Done,
    /// Rows.
    Rows(Vec<(String, Type)>, Vec<Vec<Value>>),
    /// An error.
    Error(u32, String),
}

/// Values with the types they have on the wire.
fn row(values: Vec<Value>) -> Answer {
    Answer::Rows(values.iter().map(|value| (String::new(), natural(value))).collect(), vec![values])
}

fn natural(value: &Value) -> Type {
    Type::parse(match value {
        Value::Int(_) => "bigint",
        Value::Bytes(_) => "varbinary(8000)",
        _ => "nvarchar(4000)",
    })
}

fn rows(kinds: &[&str], rows: Vec<Vec<Value>>) -> Answer {
    let column = |kind: &&str| (String::new(), Type::parse(kind));
    Answer::Rows(kinds.iter().map(column).collect(), rows)
}

fn flag(value: bool) -> Value {
    Value::Int(i64::from(value))
}

/// When every transaction that was captured was committed, in UTC.
pub const COMMITTED_AT: &str = "2026-11-01T08:15:30.003";

/// Answers one statement.
///
/// # Panics
/// For a statement that the engine does not send.
pub(super) fn answer(database: &mut Database, sql: &str, params: &[Value]) -> Answer {
    match sql {
        set if set.starts_with("set ") => Answer::Done,
        "select 1" => row(vec![Value::Int(1)]),
        _ if sql.contains("serverproperty('ProductVersion')") => row(vec![
            Value::text("11.0.7001.0"),
            Value::text("Standard Edition (64-bit)"),
            Value::text("Microsoft SQL Server 2012 (scripted)"),
        ]),
        _ if sql.contains("from sys.databases d") => describe(database),
        _ if sql.starts_with("select top (6) w.way") => {
            let ways = database.ways.iter().map(|way| vec![Value::text(way)]).collect();
            rows(&["nvarchar(400)"], ways)
        }
        _ if sql.contains("from sys.procedures p") => row(vec![Value::Int(0)]),
        _ if sql.contains("from sys.tables t join sys.schemas") => listed(database),
        _ if sql.contains("from sys.tables o") => find(database, params),
        _ if sql.contains("from sys.columns c join sys.types u") => columns(database, params),
        _ if sql.contains("from sys.indexes i") => keys(database, params),
        _ if sql.contains("from sys.change_tracking_tables") => {
            let table = numbered(database, &params[0]);
            row(vec![flag(table.tracked_since.is_some()), flag(table.changes_granted)])
        }
        _ if sql.starts_with("exec sys.sp_cdc_help_change_data_capture") => {
            instances(database, params)
        }
        _ if sql.contains("change_tracking_min_valid_version") => {
            let version = database.version;
            let since = numbered(database, &params[0]).tracked_since;
            row(vec![Value::Int(since.unwrap_or(-1)), Value::Int(version)])
        }
        _ if sql.contains("sys.fn_cdc_get_min_lsn") => {
            database.run_capture();
            let Value::Text(instance) = &params[0] else { panic!("an instance") };
            let instance = String::from_utf16_lossy(instance);
            let oldest = captured(database, &instance).and_then(|table| table.capture.clone());
            let oldest = oldest.map_or(0, |(_, oldest)| oldest);
            row(vec![Value::Bytes(lsn_bytes(oldest)), Value::Bytes(lsn_bytes(database.captured))])
        }
        _ if sql.contains("min_active_rowversion()") => {
            row(vec![Value::Bytes((database.version + 1).to_be_bytes().to_vec())])
        }
        _ if sql.contains("getdate()") => {
            database.clock += 1;
            row(vec![Value::text(&format!("{:09}", database.clock))])
        }
        _ if sql.contains("tzoffset") => row(vec![Value::text(COMMITTED_AT)]),
        _ if sql.contains("sys.fn_cdc_map_lsn_to_time") => {
            let Value::Text(time) = &params[1] else { panic!("a time") };
            let time: u64 = String::from_utf16_lossy(time).parse().expect("a time of this server");
            row(vec![flag(database.captured_at > time)])
        }
        _ if sql.contains(" from changetable(changes ") => tracked(database, sql, params),
        _ if sql.starts_with("declare @from binary(10)") => all_changes(database, sql, params),
        _ if sql.contains(" as t") => select(database, sql, params),
        other => panic!("the engine is not known to send {other:?}"),
    }
}

fn describe(database: &Database) -> Answer {
    let mode = if database.read_only { "READ_ONLY" } else { "READ_WRITE" };
    row(vec![
        Value::text(&format!("2026-01-01T00:00:00.{:03}", database.made)),
        Value::text(""),
        Value::text(""),
        Value::Int(110),
        flag(database.snapshots),
        flag(database.cdc),
        Value::text(mode),
        Value::text("Vietnamese_CI_AS"),
        Value::Int(if database.tracking { 2 } else { -1 }),
        Value::text(if database.tracking { "DAYS" } else { "" }),
        flag(true),
        Value::text("hotich"),
    ])
}

fn numbered<'a>(database: &'a Database, number: &Value) -> &'a Table {
    let found = database.tables.iter().find(|table| Value::Int(table.number) == *number);
    found.expect("a table of this number")
}

fn captured<'a>(database: &'a Database, instance: &str) -> Option<&'a Table> {
    let is_it = |table: &&Table| table.capture.as_ref().is_some_and(|(name, _)| name == instance);
    database.tables.iter().find(is_it)
}

fn named<'a>(database: &'a Database, params: &[Value]) -> Option<&'a Table> {
    let [Value::Text(schema), Value::Text(name)] = &params[..2] else { panic!("two names") };
    let (schema, name) = (String::from_utf16_lossy(schema), String::from_utf16_lossy(name));
    database.tables.iter().find(|table| table.name == format!("{schema}.{name}"))
}

/// A table that the login may see: one that it has some right on.
fn find(database: &Database, params: &[Value]) -> Answer {
    let found = named(database, params).filter(|table| table.granted).map(|table| {
        vec![
            Value::Int(table.number),
            Value::text("2026-01-01T00:00:00"),
            Value::text(&format!("2026-01-02T00:00:{:02}", table.altered)),
            Value::Int(i64::try_from(table.rows.len()).unwrap_or(0)),
            flag(!table.key.is_empty()),
            flag(table.capture.is_some()),
        ]
    });
    let text = "nvarchar(60)";
    rows(&["bigint", text, text, "bigint", "bigint", "bigint"], found.into_iter().collect())
}

/// Every table; a real server leaves out those the login has no right on.
fn listed(database: &Database) -> Answer {
    let found = database.tables.iter().map(|table| {
        let name = table.name.trim_start_matches("dbo.");
        let count = i64::try_from(table.rows.len()).unwrap_or(0);
        vec![Value::text("dbo"), Value::text(name), Value::Int(count), flag(table.granted)]
    });
    let text = "nvarchar(60)";
    rows(&[text, text, "bigint", "bigint"], found.collect())
}

fn columns(database: &Database, params: &[Value]) -> Answer {
    let table = numbered(database, &params[0]);
    let column = |column: &super::model::Column| {
        vec![
            Value::text(&column.name),
            Value::text(&column.kind.base),
            Value::Int(column.kind.max_length),
            Value::Int(column.kind.precision),
            Value::Int(column.kind.scale),
            Value::text("Vietnamese_CI_AS"),
            flag(column.nullable),
            flag(false),
            flag(table.granted),
        ]
    };
    let (text, number) = ("nvarchar(256)", "bigint");
    let kinds = [text, text, number, number, number, text, number, number, number];
    rows(&kinds, table.columns.iter().map(column).collect())
}

fn keys(database: &Database, params: &[Value]) -> Answer {
    let table = numbered(database, &params[0]);
    let part = |&at: &usize| {
        vec![Value::Int(1), Value::Int(1), Value::text(&table.columns[at].name), Value::Int(0)]
    };
    let kinds = ["bigint", "bigint", "nvarchar(256)", "bigint"];
    rows(&kinds, table.key.iter().map(part).collect())
}

fn instances(database: &Database, params: &[Value]) -> Answer {
    let column = |name: &str, kind: &str| (name.to_owned(), Type::parse(kind));
    let columns = vec![
        column("source_schema", "nvarchar(256)"),
        column("capture_instance", "nvarchar(256)"),
        column("start_lsn", "varbinary(10)"),
        column("captured_column_list", "nvarchar(max)"),
    ];
    let Some(table) = named(database, params).filter(|table| table.granted) else {
        return Answer::Error(22_981, "Object does not exist or access is denied.".to_owned());
    };
    let names: Vec<_> = table.columns.iter().map(|column| format!("[{}]", column.name)).collect();
    let instance = table.capture.as_ref().map(|(instance, oldest)| {
        vec![
            Value::text("dbo"),
            Value::text(instance),
            Value::Bytes(lsn_bytes(*oldest)),
            Value::text(&names.join(", ")),
        ]
    });
    Answer::Rows(columns, instance.into_iter().collect())
}

/// A column of a row, or of none, which has its type all the same.
fn cell(table: &Table, row: Option<&[Value]>, name: &str) -> (Type, Value) {
    let at = table.columns.iter().position(|column| column.name == name);
    let at = at.unwrap_or_else(|| panic!("{} has no column {name}", table.name));
    (table.columns[at].kind.clone(), row.map_or(Value::Null, |row| row[at].clone()))
}

/// `[schema].[table]` as the model names it.
fn table_name(parser: &mut Parser<'_>) -> String {
    let schema = parser.name();
    parser.expect(".");
    format!("{schema}.{}", parser.name())
}

fn unnamed(list: &[(Type, Value)]) -> Vec<(String, Type)> {
    list.iter().map(|(kind, _)| (String::new(), kind.clone())).collect()
}

fn values(list: Vec<(Type, Value)>) -> Vec<Value> {
    list.into_iter().map(|(_, value)| value).collect()
}

/// `select … from [s].[t] as t where … order by … offset …`.
fn select(database: &Database, sql: &str, params: &[Value]) -> Answer {
    let nothing = |_: &str, _: &str| (Type::parse("int"), Value::Null);
    let mut parser = Parser { rest: sql, scope: &nothing, params };
    parser.expect("select");
    let top = parser.eats("top (").then(|| parser.until(")").parse::<usize>().expect("a count"));
    let list = parser.until(" from ");
    let name = table_name(&mut parser);
    let table = database.tables.iter().find(|table| table.name == name).expect("a table");
    parser.expect("as t");
    let condition = parser.eats("where ").then(|| {
        let end = parser.rest.find(" order by ").unwrap_or(parser.rest.len());
        let (condition, rest) = parser.rest.split_at(end);
        parser.rest = rest;
        condition
    });
    let mut order = Vec::new();
    if parser.eats("order by ") {
        let end = parser.rest.find(" offset ").unwrap_or(parser.rest.len());
        let (names, rest) = parser.rest.split_at(end);
        parser.rest = rest;
        order = names.split(", ").map(|name| name[3..name.len() - 1].to_owned()).collect();
    }
    let offset = parser.eats("offset ").then(|| match parser.value().1 {
        Value::Int(offset) => usize::try_from(offset).expect("an offset"),
        other => panic!("{other:?} is no offset"),
    });
    let holds = |row: &&Vec<Value>| {
        let scope = |_: &str, name: &str| cell(table, Some(row), name);
        condition.is_none_or(|text| Parser { rest: text, scope: &scope, params }.condition())
    };
    let mut found: Vec<&Vec<Value>> = table.rows.iter().filter(holds).collect();
    let by = |left: &[Value], right: &[Value]| {
        let one = |name: &String| {
            compare(&cell(table, Some(left), name).1, &cell(table, Some(right), name).1)
        };
        order.iter().map(one).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    found.sort_by(|left, right| by(left, right));
    let found = found.into_iter().skip(offset.unwrap_or(0));
    let found = found.take(top.or(offset.map(|_| 1)).unwrap_or(usize::MAX));
    let listed = |row: Option<&[Value]>| {
        let scope = |_: &str, name: &str| cell(table, row, name);
        Parser { rest: list, scope: &scope, params }.list()
    };
    Answer::Rows(unnamed(&listed(None)), found.map(|row| values(listed(Some(row)))).collect())
}

/// `select … from changetable(changes [s].[t], @P1) as c left join …`.
fn tracked(database: &Database, sql: &str, params: &[Value]) -> Answer {
    let [Value::Int(after), Value::Int(upto)] = params else { panic!("two versions") };
    let nothing = |_: &str, _: &str| (Type::parse("int"), Value::Null);
    let mut parser = Parser { rest: sql, scope: &nothing, params };
    parser.expect("select");
    let list = parser.until(" from changetable(changes ");
    let name = table_name(&mut parser);
    let table = database.tables.iter().find(|table| table.name == name).expect("a table");
    let listed = |change: Option<&(i64, &'static str, Vec<Value>)>| {
        let row = change.and_then(|(_, _, key)| {
            let is_it = |row: &&Vec<Value>| {
                let own = table.key_of(row);
                own.iter().zip(key).all(|(left, right)| compare(left, right).is_eq())
            };
            table.rows.iter().find(is_it)
        });
        let scope = |alias: &str, name: &str| match (alias, name) {
            ("c", "SYS_CHANGE_OPERATION") => {
                let operation = change.map_or(Value::Null, |(_, op, _)| Value::text(op));
                (Type::parse("nchar(1)"), operation)
            }
            ("c", name) => {
                let (kind, _) = cell(table, None, name);
                let is_it = |at: &&usize| table.columns[**at].name == name;
                let part = table.key.iter().position(|at| is_it(&at)).expect("a key column");
                (kind, change.map_or(Value::Null, |(.., key)| key[part].clone()))
            }
            (_, name) => cell(table, row.map(Vec::as_slice), name),
        };
        Parser { rest: list, scope: &scope, params }.list()
    };
    let changes = table.tracked(*after, *upto);
    let found = changes.iter().map(|change| values(listed(Some(change)))).collect();
    Answer::Rows(unnamed(&listed(None)), found)
}

/// `select … from cdc.[fn_cdc_get_all_changes_…](@from, @P2, N'all update old') as c …`.
fn all_changes(database: &Database, sql: &str, params: &[Value]) -> Answer {
    let [Value::Bytes(after), Value::Bytes(upto)] = params else { panic!("two positions") };
    let instance =
        sql.split("fn_cdc_get_all_changes_").nth(1).and_then(|rest| rest.split(']').next());
    let table = captured(database, instance.expect("an instance")).expect("a captured table");
    let oldest = table.capture.as_ref().map_or(0, |(_, oldest)| *oldest);
    if *after < lsn_bytes(oldest.saturating_sub(1)) || *upto > lsn_bytes(database.captured) {
        let words =
            "An insufficient number of arguments were supplied for the procedure or function";
        return Answer::Error(313, words.to_owned());
    }
    let list = sql.split("; select ").nth(1).and_then(|rest| rest.split(" from cdc.").next());
    let list = list.expect("a select list");
    let listed = |change: Option<&super::model::Change>| {
        let scope = |_: &str, name: &str| match name {
            "__$start_lsn" => {
                let lsn = change.map_or(Value::Null, |change| Value::Bytes(lsn_bytes(change.lsn)));
                (Type::parse("binary(10)"), lsn)
            }
            "__$operation" => {
                (Type::parse("int"), change.map_or(Value::Null, |c| Value::Int(c.operation)))
            }
            name => cell(table, change.map(|change| change.row.as_slice()), name),
        };
        Parser { rest: list, scope: &scope, params }.list()
    };
    let wanted = table.log.iter().filter(|change| {
        let lsn = lsn_bytes(lsn_of(change.version));
        lsn > *after && lsn <= *upto
    });
    let found = wanted.map(|change| values(listed(Some(change)))).collect();
    Answer::Rows(unnamed(&listed(None)), found)
}
