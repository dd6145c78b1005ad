//! Every statement that the engine can send, in one file for someone who has a real server:
//! `tests/golden/sqlserver.sql`. `UPDATE=1` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use phusa_protocol::ids::DatasetId;

use super::catalogue::{Attribute, COLUMNS_SQL, KEYS_SQL, Key, TABLE_SQL, Table};
use super::choice::{INSTANCES_SQL, TRACKING_SQL};
use super::login::{PROCEDURES_SQL, WAYS_SQL};
use super::probe::{DATABASE_SQL, SERVER_SQL};
use super::session::{Param, pinned};
use super::shape::{Described, Shape};
use super::tables::TABLES_SQL;
use super::target::{Statement, Target};
use super::{Settings, log};
use crate::source::{Column, Selection};

/// Every base type, under the name of a column of it.
const TYPES: &[(&str, i64, i64)] = &[
    ("bit", 1, 0),
    ("tinyint", 1, 0),
    ("smallint", 2, 0),
    ("int", 4, 0),
    ("bigint", 8, 0),
    ("decimal", 9, 2),
    ("numeric", 17, 10),
    ("money", 8, 4),
    ("smallmoney", 4, 4),
    ("real", 4, 0),
    ("float", 8, 0),
    ("date", 3, 0),
    ("time", 5, 7),
    ("datetime2", 8, 7),
    ("datetimeoffset", 10, 7),
    ("datetime", 8, 3),
    ("smalldatetime", 4, 0),
    ("uniqueidentifier", 16, 0),
    ("char", 10, 0),
    ("varchar", 50, 0),
    ("nchar", 20, 0),
    ("nvarchar", 100, 0),
    ("text", 16, 0),
    ("ntext", 16, 0),
    ("xml", -1, 0),
    ("binary", 4, 0),
    ("varbinary", -1, 0),
    ("image", 16, 0),
    ("timestamp", 8, 0),
];

fn attribute(name: &str, base: &str, max_length: i64, scale: i64) -> Attribute {
    let collation = "Vietnamese_CI_AS".to_owned();
    let described = Described {
        base: base.to_owned(),
        max_length,
        precision: 18,
        scale,
        collation: collation.clone(),
    };
    let shape = Shape::of(&described).unwrap();
    let column = Column {
        name: name.to_owned(),
        type_name: shape.type_name.clone(),
        native: shape.native.clone(),
        nullable: false,
    };
    Attribute { column, shape: Ok(shape), computed: false, collation, readable: true }
}

fn target(attributes: Vec<Attribute>, key: &[&str], filter: Option<&str>) -> Target {
    let columns: Vec<String> = attributes.iter().map(|one| one.column.name.clone()).collect();
    let place = |name: &&str| columns.iter().position(|column| column == name).unwrap();
    let selection = Selection {
        dataset: DatasetId::new("cong_dan.citizens").unwrap(),
        schema: "dbo".to_owned(),
        table: "Công dân]1".to_owned(),
        key: key.iter().map(place).collect(),
        filter: filter.map(str::to_owned),
        capture: crate::source::Capture::Auto,
        watermark: None,
        columns,
    };
    let key = key.iter().map(|name| (*name).to_owned()).collect();
    let table = Table {
        object_id: 7,
        created: String::new(),
        altered: String::new(),
        rows_estimated: 0,
        has_primary_key: true,
        in_cdc: true,
        attributes,
        keys: vec![Key { primary: true, columns: key }],
    };
    Target::new(selection, &table).unwrap()
}

fn note(out: &mut String, title: &str, sql: &str) {
    let _ = write!(out, "\n-- {title}\n{sql};\n");
}

fn note_rows(out: &mut String, title: &str, statement: &Statement) {
    let kinds = statement.params.iter().map(|param| match param {
        Param::Text(_) => "nvarchar(4000)",
        Param::Number(_) => "bigint",
        Param::Bytes(_) => "varbinary(8000)",
    });
    let bound: Vec<_> =
        kinds.enumerate().map(|(at, kind)| format!("@P{} {kind}", at + 1)).collect();
    note(out, &format!("{title} ({})", bound.join(", ")), &statement.sql);
}

/// What is asked of a server and its tables before a row is read.
fn note_looks(out: &mut String) {
    let settings = Settings::new("127.0.0.1", "hotich", "phusa");
    note(out, "each session begins with", &pinned(&settings));
    note(out, "where the database allows it", "set transaction isolation level snapshot");
    note(out, "elsewhere", "set transaction isolation level read committed");
    note(out, "around a round of changes in a snapshot", "begin transaction");
    note(out, "its end", "commit transaction");
    note(out, "whether it is slow for everyone", "select 1");
    note(out, "the server", SERVER_SQL);
    note(out, "the database", DATABASE_SQL);
    note(out, "what the login could change", WAYS_SQL);
    note(out, "what it may run", PROCEDURES_SQL);
    note(out, "the tables, for the wizard", TABLES_SQL);
    note(out, "a table (@P1 schema, @P2 name)", TABLE_SQL);
    note(out, "its columns (@P1 object id, @P2 quoted name)", COLUMNS_SQL);
    note(out, "its unique keys (@P1 object id)", KEYS_SQL);
    note(out, "its change tracking (@P1 object id, @P2 quoted name)", TRACKING_SQL);
    note(out, "its capture instances (@P1 schema, @P2 name)", INSTANCES_SQL);
    note(out, "how far change tracking goes (@P1 object id)", log::TRACKING_STATE_SQL);
    note(out, "how far change data capture goes (@P1 instance)", log::CAPTURE_STATE_SQL);
    note(out, "how far row versions go", log::ROW_VERSION_STATE_SQL);
    note(out, "the server's clock", log::CLOCK_SQL);
    note(out, "whether the capture passed a time (@P1 position, @P2 time)", log::PASSED_SQL);
    note(out, "when a transaction was committed (@P1 position)", log::COMMITTED_SQL);
}

#[test]
fn every_statement_is_shown_to_people() {
    let mut out = "-- Every statement that phusa-agent can send to a SQL Server, for review.\n\
                   -- Made by agent/src/source/sqlserver/golden.rs; UPDATE=1 rewrites it.\n"
        .to_owned();
    note_looks(&mut out);

    let names = || vec![attribute("id", "int", 4, 0), attribute("tên", "nvarchar", 100, 0)];
    let one = target(names(), &["id"], None);
    let filtered = target(names(), &["id"], Some("[tên] = N'Huế'"));
    let text = |text: &str| vec![text.to_owned()];
    let (after, upto) = (text("5"), text("9"));
    note_rows(&mut out, "the end of the first range", &one.boundary(None, 50_000));
    note_rows(&mut out, "the end of the next", &one.boundary(Some(&after), 50_000));
    note_rows(&mut out, "the first range", &one.chunk(None, Some(&upto), None));
    note_rows(&mut out, "another", &one.chunk(Some(&after), Some(&upto), None));
    note_rows(&mut out, "the last", &one.chunk(Some(&after), None, None));
    let first = one.chunk(Some(&after), None, Some(50_000));
    note_rows(&mut out, "the first of them, for comparing", &first);
    note_rows(&mut out, "with a row filter", &filtered.chunk(Some(&after), None, None));
    note_rows(&mut out, "all rows, for verify", &one.scan(None));
    note_rows(&mut out, "some rows, for preview", &one.scan(Some(20)));
    note_rows(&mut out, "a round of change tracking", &one.tracked_changes(5, 9));
    note_rows(
        &mut out,
        "a round of change data capture",
        &one.captured_changes("dbo_t", &[0; 10], &[9; 10]),
    );
    note_rows(&mut out, "a round of row versions", &one.written_rows("rv", &[0; 8], &[9; 8]));

    let several = [("xa", "varchar", 5), ("ma", "uniqueidentifier", 16), ("luc", "datetime", 8)];
    let several = several.map(|(name, base, length)| attribute(name, base, length, 3)).to_vec();
    let several = target(several, &["xa", "ma", "luc"], None);
    let key =
        vec!["X1".to_owned(), "00112233-4455-6677-8899-aabbccddeeff".to_owned(), "…".to_owned()];
    note_rows(
        &mut out,
        "a range with a key of three columns",
        &several.chunk(Some(&key), Some(&key), None),
    );
    note_rows(&mut out, "its changes", &several.tracked_changes(5, 9));

    let of_types = TYPES.iter().map(|(base, length, scale)| attribute(base, base, *length, *scale));
    note_rows(&mut out, "every type", &target(of_types.collect(), &["int"], None).scan(None));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/sqlserver.sql");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &out).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, out, "run with UPDATE=1 and review");
}
