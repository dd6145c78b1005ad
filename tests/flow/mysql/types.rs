//! Every type of MySQL and MariaDB arrives exactly, read or from the log; every other is refused
//! by name.

use std::fmt::Write as _;
use std::sync::Arc;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::province::Readable as _;

use super::mysql_or_why_not;
use crate::world::{AGENCY, Share, World, said};

/// A column: its name, its type, the contract's type, its text at the source and at the warehouse
/// (`""`: its own), and values.
type Carried =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip] // one column a line, so that the types read as a table
const CARRIED: &[Carried] = &[
    ("i1", "tinyint", "int2", "", "", &["-128", "127", "0"]),
    ("i1b", "tinyint(1)", "int2", "", "", &["1", "0", "-5"]),
    ("u1", "tinyint unsigned", "int2", "", "", &["255", "0"]),
    ("i2", "smallint", "int2", "", "", &["-32768", "32767"]),
    ("u2", "smallint unsigned", "int4", "", "", &["65535", "0"]),
    ("i3", "mediumint", "int4", "", "", &["-8388608", "8388607", "-5"]),
    ("u3", "mediumint unsigned", "int4", "", "", &["16777215", "0"]),
    ("i4", "int", "int4", "", "", &["-2147483648", "2147483647"]),
    ("u4", "int unsigned", "int8", "", "", &["4294967295", "0"]),
    ("i8", "bigint", "int8", "", "", &["-9223372036854775808", "9223372036854775807"]),
    ("u8", "bigint unsigned", "numeric", "", "", &["18446744073709551615", "0", "10000"]),
    ("nam", "year", "int2", "nam + 0", "", &["0", "1901", "2155"]),
    ("de", "decimal(65,30)", "numeric", "", "", &["99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0", "-12345678901234567890.5"]),
    ("tien", "decimal(14,2)", "numeric", "", "", &["999999999999.99", "-0.10", "0"]),
    ("nguyen", "decimal(9,0)", "numeric", "", "", &["-999999999", "100000000"]),
    ("f4", "float", "float4", "cast(f4 as double)", "replace((f4::float8)::text, 'e+', 'e')", &["0.1", "-3.4028234663852886e38", "1.1754943508222875e-38", "0"]),
    ("f8", "double", "float8", "", "replace(f8::text, 'e+', 'e')", &["0.1", "1.7976931348623157e308", "-2.2250738585072014e-308", "0"]),
    ("b1", "bit(1)", "bool", "case b1 when 1 then 'true' when 0 then 'false' end", "", &["b'1'", "b'0'"]),
    ("b10", "bit(10)", "bytea", "lower(lpad(hex(b10 + 0), 4, '0'))", "encode(b10, 'hex')", &["b'1000000001'", "b'0'"]),
    ("b64", "bit(64)", "bytea", "lower(lpad(hex(b64 + 0), 16, '0'))", "encode(b64, 'hex')", &["0xffffffffffffffff", "1"]),
    ("ch", "char(6)", "text", "", "", &["'ấp'", "'123456'", "''"]),
    ("vc", "varchar(20)", "text", "concat(vc, '.')", "vc || '.'", &["'Cần Thơ  '", "''", "'🐃 ₫'"]),
    ("dai", "varchar(300)", "text", "", "", &["repeat('Huế', 100)", "''"]),
    ("l1", "varchar(20) character set latin1", "text", "convert(l1 using utf8mb4)", "", &["'Hué €ÿ'", "''"]),
    ("l1c", "char(10) character set latin1", "text", "convert(l1c using utf8mb4)", "", &["'café'", "'x'"]),
    ("m3", "varchar(20) character set utf8mb3", "text", "convert(m3 using utf8mb4)", "", &["'Trường Sa'", "''"]),
    ("an", "varchar(20) character set ascii", "text", "", "", &["'abc'", "''"]),
    ("chu", "longtext", "text", "sha2(chu, 256)", "encode(sha256(convert_to(chu, 'UTF8')), 'hex')", &["repeat('Trường Sa ', 20000)", "''", "'\\t\\n\\\\'"]),
    ("bn", "binary(4)", "bytea", "lower(hex(bn))", "encode(bn, 'hex')", &["0x01000000", "0x00000000", "0xffffffff", "0x20"]),
    ("vb", "varbinary(300)", "bytea", "lower(hex(vb))", "encode(vb, 'hex')", &["''", "0x00ff00", "0x0100"]),
    ("bl", "longblob", "bytea", "sha2(bl, 256)", "encode(sha256(bl), 'hex')", &["repeat(0xab, 100000)", "''"]),
    ("gt", "enum('nam','nữ','it''s')", "text", "", "", &["'nam'", "'nữ'", "3"]),
    ("st", "set('a','b','ế')", "text", "", "", &["'a,ế'", "''", "'b'"]),
    ("ngay", "date", "date", "", "", &["'0001-01-01'", "'9999-12-31'", "'2024-02-29'"]),
    ("gio", "time(6)", "text", "cast(if(gio < 0, -1, 1) * (floor(abs(time_to_sec(gio))) + microsecond(gio) * 0.000001) as decimal(20,6))", "extract(epoch from gio::interval)::numeric(20,6)", &["'838:59:59'", "'-838:59:59'", "'-00:00:00.000001'", "'23:59:59.999999'"]),
    ("gio0", "time", "time", "", "", &["'00:00:00'", "'23:59:59'"]),
    ("gio2", "time(2)", "text", "cast(if(gio2 < 0, -1, 1) * (floor(abs(time_to_sec(gio2))) + microsecond(gio2) * 0.000001) as decimal(20,6))", "extract(epoch from gio2::interval)::numeric(20,6)", &["'-01:00:00.50'", "'25:00:00.01'"]),
    ("dt", "datetime(6)", "timestamp", "", "to_char(dt, 'YYYY-MM-DD HH24:MI:SS.US')", &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'1999-12-31 23:59:59.000001'"]),
    ("dt0", "datetime", "timestamp", "", "", &["'2026-11-21 08:30:00'", "'1000-01-01 00:00:00'"]),
    ("dt3", "datetime(3)", "timestamp", "", "to_char(dt3, 'YYYY-MM-DD HH24:MI:SS.MS')", &["'2026-11-21 08:30:00.123'"]),
    ("ts", "timestamp(6) null", "timestamptz", "", "to_char(ts at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'", "'2026-11-21 01:30:00.5'"]),
    ("ts0", "timestamp null", "timestamptz", "", "to_char(ts0 at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')", &["'2026-11-21 01:30:00'"]),
    ("nd", "date", "text", "", "", &["'0000-00-00'", "'2026-00-15'", "'2026-11-21'", "'2026-02-31'"]),
    ("ndt", "datetime", "text", "", "", &["'0000-00-00 00:00:00'", "'2026-11-00 08:30:00'", "'2026-11-21 08:30:00'"]),
    ("js", "json", "text", "", "", &["'{\"b\": 1.10, \"a\": [], \"bb\": null, \"x\": \"ế\\\\n\"}'", "'[1, -2, 18446744073709551615, 1e20, 0.001, true, 123456.75]'", "'\"chữ\"'", "'{}'"]),
];

/// Only MySQL has binary JSON, with values that JSON text cannot write.
#[rustfmt::skip]
const MYSQL_ONLY: &[Carried] = &[
    ("jb", "json", "text", "", "", &["json_object('d', cast('2026-11-21' as date), 't', cast('2026-11-21 08:30:00.5' as datetime(6)), 'n', cast(-1.50 as decimal(10,2)), 'g', cast('-10:11:12.5' as time(6)))", "json_array(1e15, 1e14, 1.5e-7, -0.0, 5e-324, cast(9223372036854775807 as signed))", "json_array(repeat('x', 70000), 'y')"]),
];

/// The most values of one column, and so the rows.
const ROWS: usize = 4;

fn value(values: &[&str], row: usize) -> String {
    values.get(row % values.len()).map_or("null".to_owned(), |value| (*value).to_owned())
}

fn insert(carried: &[Carried], first: usize) -> String {
    let mut sql = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00';".to_owned();
    for row in 0..=ROWS {
        let values: Vec<String> = carried
            .iter()
            .map(|column| if row == ROWS { "null".to_owned() } else { value(column.5, row) })
            .collect();
        let _ =
            write!(sql, "insert into moi_loai values ({}, {});", first + row, values.join(", "));
    }
    sql
}

async fn every_type_arrives(source: MySqlDatabase, carried: &[Carried]) {
    let mut world = World::around(source);
    let columns: Vec<String> = carried
        .iter()
        .map(|(name, kind, ..)| {
            let null = if kind.ends_with(" null") { "" } else { " null" };
            format!("{name} {kind}{null}")
        })
        .collect();
    world
        .source
        .sql(&format!("create table moi_loai (id int primary key, {})", columns.join(", ")));
    world.source.sql(&insert(carried, 0));
    let fields: Vec<String> =
        carried.iter().map(|(name, _, kind, ..)| format!("{name} {kind}")).collect();
    let mut shown: Vec<&str> = vec!["id int4"];
    shown.extend(fields.iter().map(String::as_str));
    world.share("", &[Share { table: "moi_loai", key: "id", fields: &shown, rules: "" }]);
    world.start();
    world.warehouse_says("select count(*) from thu.moi_loai", "5").await;
    // The same values from the log: inserted, and as updates of rows that were read.
    world.source.sql(&insert(carried, 100));
    let sets: Vec<String> = carried
        .iter()
        .filter_map(|(name, _, _, _, _, values)| Some(format!("{name} = {}", values.first()?)))
        .collect();
    world.source.sql(&format!(
        "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00';
         insert into moi_loai (id) values (200); update moi_loai set {} where id = 200",
        sets.join(", ")
    ));
    world.warehouse_says("select count(*) from thu.moi_loai", "11").await;
    world.identical("moi_loai").await;
    for (name, kind, _, at_source, at_warehouse, _) in carried {
        let at_source = if at_source.is_empty() { name } else { at_source };
        let at_warehouse = if at_warehouse.is_empty() { name } else { at_warehouse };
        let expected = world.source.sql(&format!(
            "set time_zone = '+00:00'; select coalesce({at_source}, 'NULL') from moi_loai order by id"
        ));
        let found = world.warehouse.psql(&format!(
            "select coalesce(({at_warehouse})::text, 'NULL') from thu.moi_loai order by id"
        ));
        assert_eq!(found, expected, "{name} {kind}");
    }
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb_arrives_exactly_read_or_from_the_log() {
    every_type_arrives(MySqlServer::shared().database(), CARRIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb_arrives_exactly_from_a_log_that_names_nothing() {
    let settings = "binlog_row_metadata=NO_LOG\nlog_bin_compress=ON\nlog_bin_compress_min_len=10\n";
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, settings));
    every_type_arrives(server.database(), CARRIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mysql_arrives_exactly_from_packed_transactions() {
    let Some(server) = mysql_or_why_not("binlog_transaction_compression=ON\n") else { return };
    let carried = [CARRIED, MYSQL_ONLY].concat();
    every_type_arrives(server.database(), &carried).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_cannot_be_carried_are_refused_by_name() {
    let mut world = World::around(MySqlServer::shared().database());
    world.source.sql(
        "create table la (id int primary key, noi point, i6 inet6, s varchar(9) character set sjis,
                          nen text compressed, tinh int as (id + 1) virtual)",
    );
    world.source.sql("create table thuong (id int primary key)");
    let fields = ["id int4", "noi text", "i6 text", "s text", "nen text", "tinh int4"];
    let share = Share { table: "la", key: "id", fields: &fields, rules: "" };
    world.share("", &[Share { table: "thuong", key: "id", fields: &["id int4"], rules: "" }]);
    let (folder, files) =
        (world.province.agent_folder(AGENCY), share.dataset_of(world.source.schema()));
    std::fs::write(folder.join("contracts/thu.la.toml"), files.contract).unwrap();
    std::fs::write(folder.join("datasets/thu.la.toml"), files.mapping).unwrap();
    let grant = format!("grant select on la to '{}'@'%'", world.login());
    world.source.sql(&grant);
    let text = said(&world.agent(&["check", "--offline"]));
    for (column, reason) in [
        ("noi", "type point cannot be carried exactly"),
        ("i6", "type inet6 cannot be carried exactly"),
        ("s", "character set sjis cannot be carried exactly"),
        ("nen", "compressed columns are not carried"),
        ("tinh", "computed on reading"),
    ] {
        let line = text.lines().find(|line| line.contains(&format!("column {column} ")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{column}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_zero_date_stays_at_the_agency_unless_the_contract_takes_its_text() {
    let mut world = World::around(MySqlServer::shared().database());
    world.source.sql(
        "set sql_mode = '';
         create table khai (id int primary key, sinh date, mat datetime);
         insert into khai values (1, '1990-05-01', '2020-01-01'), (2, '0000-00-00', null),
                                 (3, '1990-00-00', null), (4, null, '0000-00-00')",
    );
    let share = Share {
        table: "khai",
        key: "id",
        fields: &["id int4", "sinh date", "mat timestamp"],
        rules: "",
    };
    world.share("", &[share]);
    world.start();
    world.warehouse_says("select string_agg(id::text, ' ') from thu.khai", "1").await;
    let rejects = world.province.agent_folder(AGENCY).join("state/rejects");
    let files = std::fs::read_dir(rejects).unwrap().flatten();
    let text: String = files.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
    assert_eq!(text.matches("date_partial").count(), 3, "{text}");
}
