//! Every type of SQL Server arrives as the server prints it, read or changed; a value that the
//! contract's type cannot hold stays at the agency and is counted.

use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use phusa_tests::tds::model::Table;
use phusa_tests::tds::sql::{days, tenths, three_hundredths};
use phusa_tests::tds::value::Value;

use super::{Agency, int};
use crate::world::{AGENCY, Share, said};

/// A column: its name, its type, the contract's type, its values, and what the warehouse prints.
type Carried = (&'static str, &'static str, &'static str, Vec<(Value, &'static str)>);

fn moment(date: &str, time: &str) -> Value {
    Value::Moment(days(date), tenths(time))
}

fn datetime(date: &str, time: &str) -> Value {
    Value::Moment(days(date), three_hundredths(tenths(time)))
}

const MOST: i128 = 10_i128.pow(38) - 1;

#[rustfmt::skip] // one column a line, so that the types read as a table
fn carried() -> Vec<Carried> {
    let text = Value::text;
    vec![
        ("dung", "bit", "bool", vec![(Value::Bit(true), "true"), (Value::Bit(false), "false")]),
        ("i1", "tinyint", "int2", vec![(int(255), "255"), (int(0), "0")]),
        ("i2", "smallint", "int2", vec![(int(-32_768), "-32768"), (int(32_767), "32767")]),
        ("i4", "int", "int4", vec![(int(-2_147_483_648), "-2147483648"), (int(2_147_483_647), "2147483647")]),
        ("i8", "bigint", "int8", vec![(int(i64::MIN), "-9223372036854775808"), (int(i64::MAX), "9223372036854775807")]),
        ("so", "decimal(38, 0)", "numeric", vec![(Value::Decimal(MOST, 0), "99999999999999999999999999999999999999"), (Value::Decimal(-MOST, 0), "-99999999999999999999999999999999999999")]),
        ("le", "numeric(38, 38)", "numeric", vec![(Value::Decimal(1, 38), "0.00000000000000000000000000000000000001"), (Value::Decimal(0, 38), "0.00000000000000000000000000000000000000")]),
        ("tien", "money", "numeric", vec![(Value::Decimal(-9_223_372_036_854_775_808, 4), "-922337203685477.5808"), (Value::Decimal(1, 4), "0.0001")]),
        ("tien_it", "smallmoney", "numeric", vec![(Value::Decimal(-2_147_483_648, 4), "-214748.3648"), (Value::Decimal(2_147_483_647, 4), "214748.3647")]),
        ("f4", "real", "float4", vec![(Value::Real(0.1), "0.1"), (Value::Real(-3.402_823_5e38), "-3.4028235e+38")]),
        ("f8", "float", "float8", vec![(Value::Float(0.1), "0.1"), (Value::Float(5e-324), "5e-324")]),
        ("ngay", "date", "date", vec![(Value::Date(0), "0001-01-01"), (Value::Date(days("9999-12-31")), "9999-12-31")]),
        ("gio", "time(3)", "time", vec![(Value::Time(tenths("23:59:59.999")), "23:59:59.999"), (Value::Time(0), "00:00:00")]),
        ("gio0", "time(0)", "time", vec![(Value::Time(tenths("23:59:59")), "23:59:59"), (Value::Time(0), "00:00:00")]),
        ("gio7", "time(7)", "text", vec![(Value::Time(tenths("23:59:59.9999999")), "23:59:59.9999999"), (Value::Time(tenths("08:30:00")), "08:30:00")]),
        ("luc", "datetime2(7)", "timestamp", vec![(moment("9999-12-31", "23:59:59.999999"), "9999-12-31 23:59:59.999999"), (moment("0001-01-01", "00:00:00"), "0001-01-01 00:00:00")]),
        ("luc0", "datetime2(0)", "timestamp", vec![(moment("9999-12-31", "23:59:59"), "9999-12-31 23:59:59"), (moment("0001-01-01", "00:00:00"), "0001-01-01 00:00:00")]),
        ("luc_chu", "datetime2(7)", "text", vec![(moment("2026-11-21", "08:30:00.1234567"), "2026-11-21 08:30:00.1234567"), (moment("2026-11-21", "08:30:00.5"), "2026-11-21 08:30:00.5")]),
        ("luc_cu", "datetime", "timestamp", vec![(datetime("1753-01-01", "00:00:00.003"), "1753-01-01 00:00:00.003"), (datetime("9999-12-31", "23:59:59.997"), "9999-12-31 23:59:59.997")]),
        ("luc_ngan", "smalldatetime", "timestamp", vec![(moment("2079-06-06", "23:59:00"), "2079-06-06 23:59:00"), (moment("1900-01-01", "00:00:00"), "1900-01-01 00:00:00")]),
        ("luc_mui", "datetimeoffset(7)", "timestamptz", vec![(Value::Offset(days("2026-11-21"), tenths("01:30:00.5"), 420), "2026-11-21 01:30:00.5+00"), (Value::Offset(0, tenths("14:00:00"), -840), "0001-01-01 14:00:00+00")]),
        ("mui_chu", "datetimeoffset(7)", "text", vec![(Value::Offset(days("2026-11-21"), tenths("01:30:00.1234567"), 420), "2026-11-21 08:30:00.1234567+07"), (Value::Offset(days("2026-11-21"), tenths("01:30:00"), -570), "2026-11-20 16:00:00-09:30")]),
        ("ten", "nvarchar(50)", "text", vec![(text("Nguyễn Thị Ánh Tuyết 🐃"), "Nguyễn Thị Ánh Tuyết 🐃"), (text(""), "")]),
        ("ten_to_hop", "varchar(50)", "text", vec![(text("Ha\u{300} No\u{302}\u{323}i"), "Hà Nội"), (text("'; --"), "'; --")]),
        ("ten_dai", "varchar(max)", "text", vec![(text("Ha\u{309}i Pho\u{300}ng"), "Hải Phòng"), (text(""), "")]),
        ("ten_cu", "text", "text", vec![(text("Ba\u{301}c Ninh"), "Bác Ninh"), (text(""), "")]),
        ("ma_cu", "char(4)", "text", vec![(text("X1  "), "X1  "), (text("    "), "    ")]),
        ("ma_dem", "nchar(5)", "text", vec![(text("ấp   "), "ấp   "), (text("     "), "     ")]),
        ("dai", "nvarchar(max)", "text", vec![(text(LONG), LONG), (text(""), "")]),
        ("ghi_chu", "ntext", "text", vec![(text("cũ"), "cũ"), (text(""), "")]),
        ("tai_lieu", "xml", "text", vec![(text("<a b=\"1\">ế</a>"), "<a b=\"1\">ế</a>"), (text("<a/>"), "<a/>")]),
        ("b", "binary(4)", "bytea", vec![(Value::Bytes(vec![0, 0xff, 1, 2]), "\\x00ff0102"), (Value::Bytes(vec![0; 4]), "\\x00000000")]),
        ("vb", "varbinary(max)", "bytea", vec![(Value::Bytes(vec![]), "\\x"), (Value::Bytes(vec![0xab; 3]), "\\xababab")]),
        ("anh", "image", "bytea", vec![(Value::Bytes(vec![1]), "\\x01"), (Value::Bytes(vec![]), "\\x")]),
        ("ma", "uniqueidentifier", "uuid", vec![(Value::Guid(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"), "00112233-4455-6677-8899-aabbccddeeff"), (Value::Guid([0xff; 16]), "ffffffff-ffff-ffff-ffff-ffffffffffff")]),
    ]
}

const LONG: &str = "Trường Sa, Hoàng Sa; Trường Sa, Hoàng Sa; Trường Sa, Hoàng Sa; Trường Sa.";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_sql_server_arrives_exactly_and_a_value_that_cannot_is_set_aside() {
    let mut agency = Agency::new();
    let all = carried();
    let mut columns = vec!["id int".to_owned(), "rv rowversion".to_owned()];
    columns.extend(all.iter().map(|(name, kind, ..)| format!("{name} {kind} null")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let row = |id: i64, at: usize| {
        let mut row = vec![int(id), Value::Null];
        let value = |(.., values): &Carried| values.get(at).map_or(Value::Null, |v| v.0.clone());
        row.extend(all.iter().map(value));
        row
    };
    {
        let mut database = agency.server.database();
        database.create(Table::new("moi_kieu", &columns, &["id"]));
        database.commit(|database| {
            (0..3).for_each(|at| database.insert("moi_kieu", row(at, at as usize)));
        });
    }
    let fields: Vec<_> = all.iter().map(|(name, _, kind, _)| format!("{name} {kind}")).collect();
    let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    fields.splice(0..0, ["id int4", "rv bytea"]);
    agency.share("", &[Share { table: "moi_kieu", key: "id", fields: &fields, rules: "" }]);
    agency.start();
    assert_eq!(agency.identical("moi_kieu").await, 3);
    let printed = |at: usize, id: i64| {
        for (name, kind, _, values) in &all {
            let sql = format!(
                "set timezone = 'UTC'; select coalesce('=' || {name}::text, '∅') from thu.moi_kieu \
                 where id = {id}"
            );
            let expected = values.get(at).map_or("∅".to_owned(), |value| format!("={}", value.1));
            let found = agency.warehouse.psql(&sql);
            let found = found.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
            assert_eq!(found, expected, "{name} {kind} of row {id}");
        }
    };
    (0..3).for_each(|at| printed(at, i64::try_from(at).unwrap()));
    agency.server.database().commit(|database| {
        (0..3).for_each(|at| database.insert("moi_kieu", row(10 + at, at as usize)));
    });
    assert_eq!(agency.identical("moi_kieu").await, 6);
    (0..3).for_each(|at| printed(at, 10 + i64::try_from(at).unwrap()));

    // Finer than a microsecond, and half of a letter: those rows stay, the others go on.
    let place =
        |name: &str| columns.iter().position(|c| c.split(' ').next() == Some(name)).unwrap();
    let (finer, text) = (place("luc"), place("ten"));
    agency.server.database().commit(|database| {
        let mut row_20 = row(20, 0);
        row_20[finer] = moment("2026-11-21", "08:30:00.1234567");
        database.insert("moi_kieu", row_20);
        let mut row_21 = row(21, 0);
        row_21[text] = Value::Text(vec![0x41, 0xd83d]);
        database.insert("moi_kieu", row_21);
        database.insert("moi_kieu", row(22, 1));
    });
    agency.says("select count(*) from thu.moi_kieu where id >= 20", "1").await;
    let rejected = wait_until("both rows to be counted", ARRIVES_WITHIN, async || {
        let status = said(&agency.province.agent(AGENCY, &["status", "--json"]));
        status.contains("finer_than_microseconds").then_some(status)
    });
    let rejected = rejected.await;
    assert!(rejected.contains("ten:text_not_utf8"), "{rejected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_the_clr_are_refused_by_name() {
    let mut agency = Agency::new();
    let columns = ["id int", "cay hierarchyid", "hinh geometry", "dat geography"];
    let mut table = Table::new("ban_do", &columns, &["id"]);
    table.granted = true;
    agency.server.database().create(table);
    let fields = &["id int4", "cay text", "hinh bytea", "dat bytea"];
    agency.place("", &[Share { table: "ban_do", key: "id", fields, rules: "" }]);
    let said = said(&agency.province.agent(AGENCY, &["check", "--offline"]));
    for (column, kind) in [("cay", "hierarchyid"), ("hinh", "geometry"), ("dat", "geography")] {
        let refused =
            format!("column {column} of dbo.ban_do is {kind}: types of the CLR are not carried");
        assert!(said.contains(&refused), "{refused}: {said}");
    }
}
