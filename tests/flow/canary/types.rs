//! A canary in every column type of every engine: unmapped, dropped and masked columns of each type,
//! read in full and from the log, and nothing of their values in a request, a file or what is printed.
//!
//! `bool`, one- and two-byte numbers and `bit` have too few values for one to be told from all others,
//! and are left out.

use std::fmt::Write as _;
use std::sync::Arc;

use phusa_tests::canary::{contains, files_with};
use phusa_tests::database::{Server, Version};
use phusa_tests::mysql::MySqlServer;
use phusa_tests::province::{Province, statements};
use phusa_tests::relay::Relay;
use phusa_tests::tds::SqlServer;
use phusa_tests::tds::model::Table;
use phusa_tests::tds::sql::{days, tenths};
use phusa_tests::tds::value::Value;

use super::everything_printed;
use crate::house::{AGENCY, edit};
use crate::world::{Share, World, said};

/// Stands in a shared column, so that the search is known to find something.
const SHARED: &[u8] = b"CHIM-MO-LONG";

/// A type, a value of it as SQL, the field that its masked column becomes (`""`: none hides it), and
/// what must be found nowhere: texts, or bytes after `0x` as they lie in a body.
type Caged = (&'static str, &'static str, &'static str, &'static [&'static str]);

const KEPT: &str = "text { keep_last = 2 }";
const HIDDEN: &str = "text { constant = \"đã ẩn\" }";
const YEAR: &str = "int4 \"year\"";

#[rustfmt::skip] // one type a line, so that they read as a table
const POSTGRESQL: &[Caged] = &[
    ("int4", "1987654321", "int4 { band = 1000 }", &["1987654321", "0x767932b1"]),
    ("int8", "7234567890123456789", "int8 { band = 1000 }", &["7234567890123456789", "0x6466592a6a418115"]),
    ("numeric(20,2)", "73185520419273.46", "numeric { band = 1000 }", &["73185520419273.46", "0x0049073f07f9243911f8"]),
    ("float4", "7.1234567e20", "", &["7.1234567e+20", "0x621a7721"]),
    ("float8", "7.123456789012345e77", "", &["7.123456789012345e+77", "0x50189b95771fd7b7"]),
    ("text", "'CHIM-CHU-PG'", KEPT, &["CHIM-CHU-PG"]),
    ("varchar(30)", "'CHIM-VC-PG'", HIDDEN, &["CHIM-VC-PG"]),
    ("char(12)", "'CHIM-CH-PG12'", "text \"initials\"", &["CHIM-CH-PG12"]),
    ("name", "'CHIM-TEN-PG'", KEPT, &["CHIM-TEN-PG"]),
    ("bytea", "'CHIM-BYTE-PG'", "", &["CHIM-BYTE-PG", "4348494d2d425954452d5047"]),
    ("date", "'1887-06-05'", YEAR, &["1887-06-05", "0xffff5f63"]),
    ("time", "'17:43:21.123457'", "", &["17:43:21.123457", "0x0000000edad7e281"]),
    ("timetz", "'17:43:21.123457+07'", "", &["17:43:21.123457"]),
    ("timestamp", "'1987-06-05 04:32:10.987654'", YEAR, &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("timestamptz", "'1987-06-05 04:32:10.987654+00'", YEAR, &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("interval", "'7654321 days 03:04:05.678901'", "", &["7654321 days", "0x0074cbb1"]),
    ("uuid", "'c41a57e1-1987-4321-8765-c0ffee15bad5'", "", &["c41a57e1-1987-4321", "0xc41a57e119874321"]),
    ("json", "'{\"kin\":\"CHIM-JSON-PG\"}'", "", &["CHIM-JSON-PG"]),
    ("jsonb", "'{\"kin\":\"CHIM-JSONB-PG\"}'", "", &["CHIM-JSONB-PG"]),
    ("text[]", "'{CHIM-MANG-PG}'", "", &["CHIM-MANG-PG"]),
    ("int8[]", "'{7234567890123456780}'", "", &["7234567890123456780", "0x6466592a6a41810c"]),
    ("inet", "'2001:db8:c41a:57e1::1987'", "", &["2001:db8:c41a:57e1", "0x20010db8c41a57e1"]),
    ("cidr", "'2001:db8:c41a:57e2::/64'", "", &["2001:db8:c41a:57e2", "0x20010db8c41a57e2"]),
    ("macaddr", "'c4:1a:57:e1:19:87'", "", &["c4:1a:57:e1:19:87", "0xc41a57e11987"]),
    ("int8range", "'[7234567890123456781,7234567890123456790)'", "", &["7234567890123456781", "0x6466592a6a41810d"]),
    ("daterange", "'[1887-06-06,1887-06-09)'", "", &["1887-06-06", "0xffff5f64"]),
];

#[rustfmt::skip]
const MARIADB: &[Caged] = &[
    ("mediumint unsigned", "16012345", "int4 { band = 1000 }", &["16012345"]),
    ("int", "1987654321", "int4 { band = 1000 }", &["1987654321", "0x767932b1"]),
    ("int unsigned", "3987654321", "int8 { band = 1000 }", &["3987654321", "0x00000000edaec6b1"]),
    ("bigint", "7234567890123456789", "int8 { band = 1000 }", &["7234567890123456789", "0x6466592a6a418115"]),
    ("bigint unsigned", "17234567890123456789", "", &["17234567890123456789"]),
    ("decimal(20,2)", "73185520419273.46", "numeric { band = 1000 }", &["73185520419273.46", "0x0049073f07f9243911f8"]),
    ("float", "7.1234567e20", "", &["7.12346e20", "0x621a7721"]),
    ("double", "7.123456789012345e77", "", &["7.123456789012345e77", "0x50189b95771fd7b7"]),
    ("bit(64)", "0xc41a57e119874321", "", &["0xc41a57e119874321"]),
    ("char(12)", "'CHIM-CH-MY12'", "text \"initials\"", &["CHIM-CH-MY12"]),
    ("varchar(30)", "'CHIM-VC-MY'", KEPT, &["CHIM-VC-MY"]),
    ("varchar(30) character set latin1", "'CHIM-L1-MY'", HIDDEN, &["CHIM-L1-MY"]),
    ("tinytext", "'CHIM-TINY-MY'", KEPT, &["CHIM-TINY-MY"]),
    ("text", "'CHIM-TEXT-MY'", KEPT, &["CHIM-TEXT-MY"]),
    ("longtext", "'CHIM-LONG-MY'", KEPT, &["CHIM-LONG-MY"]),
    ("binary(12)", "'CHIM-BIN-MY1'", "", &["CHIM-BIN-MY1"]),
    ("varbinary(30)", "'CHIM-VBIN-MY'", "", &["CHIM-VBIN-MY"]),
    ("longblob", "'CHIM-BLOB-MY'", "", &["CHIM-BLOB-MY"]),
    ("enum('CHIM-ENUM-MY','x')", "'CHIM-ENUM-MY'", HIDDEN, &["CHIM-ENUM-MY"]),
    ("set('CHIM-SET-MY','x')", "'CHIM-SET-MY'", HIDDEN, &["CHIM-SET-MY"]),
    ("date", "'1887-06-05'", YEAR, &["1887-06-05", "0xffff5f63"]),
    ("time(6)", "'17:43:21.123457'", "", &["17:43:21.123457", "0x0000000edad7e281"]),
    ("datetime(6)", "'1987-06-05 04:32:10.987654'", YEAR, &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("timestamp(6) null", "'1987-06-05 04:32:10.987654'", YEAR, &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("json", "'{\"kin\":\"CHIM-JSON-MY\"}'", "", &["CHIM-JSON-MY"]),
];

/// As for the others, with the value as the scripted server holds it.
type Scripted = (&'static str, fn() -> Value, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const SQLSERVER: &[Scripted] = &[
    ("int", || Value::Int(1_987_654_321), "int4 { band = 1000 }", &["1987654321", "0x767932b1"]),
    ("bigint", || Value::Int(7_234_567_890_123_456_789), "int8 { band = 1000 }", &["7234567890123456789", "0x6466592a6a418115"]),
    ("decimal(20, 2)", || Value::Decimal(7_318_552_041_927_346, 2), "numeric { band = 1000 }", &["73185520419273.46", "0x0049073f07f9243911f8"]),
    ("money", || Value::Decimal(731_855_204_192_734_600, 4), "numeric { band = 1000 }", &["73185520419273.46", "0x0049073f07f9243911f8"]),
    ("real", || Value::Real(7.123_457e20), "", &["0x621a7721"]),
    ("float", || Value::Float(7.123_456_789_012_345e77), "", &["0x50189b95771fd7b7"]),
    ("date", || Value::Date(days("1887-06-05")), YEAR, &["1887-06-05", "0xffff5f63"]),
    ("time(6)", || Value::Time(tenths("17:43:21.123457")), "", &["17:43:21.123457", "0x0000000edad7e281"]),
    ("datetime2(6)", || Value::Moment(days("1987-06-05"), tenths("04:32:10.987654")), YEAR, &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("datetimeoffset(6)", || Value::Offset(days("1987-06-05"), tenths("04:32:10.987654"), 0), "", &["1987-06-05 04:32:10.987654", "0xfffe97186845b886"]),
    ("uniqueidentifier", || Value::Guid(*b"\xc4\x1a\x57\xe1\x19\x87\x43\x21\x87\x65\xc0\xff\xee\x15\xba\xd5"), "", &["c41a57e1-1987-4321", "0xc41a57e119874321"]),
    ("char(12)", || Value::text("CHIM-CH-MS12"), "text \"initials\"", &["CHIM-CH-MS12"]),
    ("varchar(30)", || Value::text("CHIM-VC-MS"), KEPT, &["CHIM-VC-MS"]),
    ("nchar(12)", || Value::text("CHIM-NC-MS12"), HIDDEN, &["CHIM-NC-MS12"]),
    ("nvarchar(30)", || Value::text("CHIM-NVC-MS"), KEPT, &["CHIM-NVC-MS"]),
    ("nvarchar(max)", || Value::text("CHIM-NMAX-MS"), KEPT, &["CHIM-NMAX-MS"]),
    ("varbinary(30)", || Value::Bytes(b"CHIM-VBIN-MS".to_vec()), "", &["CHIM-VBIN-MS"]),
];

/// Columns `a<n>` are not mapped, `b<n>` are dropped, `c<n>` are masked; all hold the same value.
struct Cages {
    /// `name type` of each.
    columns: Vec<(String, &'static str)>,
    /// Of each column, which type's value it holds.
    holds: Vec<usize>,
    fields: Vec<String>,
    needles: Vec<(String, Vec<u8>)>,
}

fn cages(types: &[(&'static str, &'static str, &'static [&'static str])]) -> Cages {
    let mut cages = Cages {
        columns: Vec::new(),
        holds: Vec::new(),
        fields: vec!["id int4".to_owned(), "mo text".to_owned()],
        needles: Vec::new(),
    };
    for (at, (kind, field, needles)) in types.iter().enumerate() {
        for role in ["a", "b", "c"] {
            cages.columns.push((format!("{role}{at}"), kind));
            cages.holds.push(at);
        }
        cages.fields.push(format!("b{at} text \"drop\""));
        if !field.is_empty() {
            cages.fields.push(format!("c{at} {field}"));
        }
        for needle in *needles {
            let bytes = match needle.strip_prefix("0x") {
                Some(digits) => (0..digits.len() / 2)
                    .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                    .collect(),
                None => needle.as_bytes().to_vec(),
            };
            cages.needles.push((format!("{kind}: {needle}"), bytes));
        }
    }
    cages
}

/// Puts an ear between agent and hub.
async fn listen(province: &Province) -> Relay {
    let folder = province.agent_folder(AGENCY).to_owned();
    let hub = Relay::inside_tls(province.hub_port(), &province.hub_folder(), &folder).await;
    let url = |port| format!("127.0.0.1:{port}");
    edit(&province.agent_config(AGENCY), &url(province.hub_port()), &url(hub.port()));
    hub
}

/// Ends everything and looks everywhere.
fn nothing_sings(province: &mut Province, hub: &Relay, cages: &Cages, engine: &str) {
    let printed = everything_printed(province);
    assert!(province.agent_process(AGENCY).stop().success());
    assert!(province.hub_process().stop().success());
    let (tapes, bodies) = (hub.tapes().concat(), hub.bodies().concat());
    assert!(contains(&bodies, SHARED), "the relay saw no batch");
    for (name, needle) in &cages.needles {
        assert!(!contains(&bodies, needle) && !contains(&tapes, needle), "{name} went to the hub");
        assert!(!contains(printed.as_bytes(), needle), "{name} is in what is printed");
        let none: [std::path::PathBuf; 0] = [];
        assert_eq!(files_with(needle, province.path()), none, "{name}");
    }
    println!(
        "{engine}: {} values of {} columns found nowhere",
        cages.needles.len(),
        cages.columns.len()
    );
}

/// The statements that make the table with a row, and those that change it.
fn sql(types: &[Caged], cages: &Cages) -> (String, String) {
    let (mut columns, mut values) = (String::new(), String::new());
    for ((name, kind), at) in cages.columns.iter().zip(&cages.holds) {
        let _ = write!(columns, ", {name} {kind}");
        let _ = write!(values, ", {}", types[*at].1);
    }
    let table = format!(
        "create table chim (id int primary key, mo text{columns}); \
         insert into chim values (1, 'CHIM-MO-LONG'{values});"
    );
    let changes = format!(
        "insert into chim values (2, 'CHIM-MO-LONG'{values}); \
         update chim set mo = 'CHIM-MO-LONG!' where id = 1; \
         insert into chim values (3, 'x'{values}); delete from chim where id = 3;"
    );
    (table, changes)
}

fn named(types: &[Caged]) -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    types.iter().map(|(kind, _, field, needles)| (*kind, *field, *needles)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_hidden_column_of_any_type_leaves_postgresql() {
    let cages = cages(&named(POSTGRESQL));
    let (table, changes) = sql(POSTGRESQL, &cages);
    let mut world = World::around(Arc::new(Server::start(Version::V15, "")).database());
    world.source.psql(&table);
    let fields: Vec<&str> = cages.fields.iter().map(String::as_str).collect();
    world.share("", &[Share { table: "chim", key: "id", fields: &fields, rules: "" }]);
    let hub = listen(&world.province).await;
    world.start();
    assert_eq!(world.identical("chim").await, 1);
    world.source.psql(&changes);
    world.warehouse_says("select count(*) from thu.chim where mo like 'CHIM%'", "2").await;
    assert_eq!(world.identical("chim").await, 2);
    nothing_sings(&mut world.province, &hub, &cages, "PostgreSQL");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_hidden_column_of_any_type_leaves_mariadb() {
    let cages = cages(&named(MARIADB));
    let (table, changes) = sql(MARIADB, &cages);
    let mut world = World::around(MySqlServer::shared().database());
    let zone = "set time_zone = '+00:00'; ";
    world.source.sql(&format!("{zone}{table}"));
    let fields: Vec<&str> = cages.fields.iter().map(String::as_str).collect();
    world.share("", &[Share { table: "chim", key: "id", fields: &fields, rules: "" }]);
    let hub = listen(&world.province).await;
    world.start();
    assert_eq!(world.identical("chim").await, 1);
    world.source.sql(&format!("{zone}{changes}"));
    world.warehouse_says("select count(*) from thu.chim where mo like 'CHIM%'", "2").await;
    assert_eq!(world.identical("chim").await, 2);
    nothing_sings(&mut world.province, &hub, &cages, "MariaDB");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_hidden_column_of_any_type_leaves_sql_server() {
    let types: Vec<_> = SQLSERVER.iter().map(|(kind, _, field, n)| (*kind, *field, *n)).collect();
    let cages = cages(&types);
    let warehouse = Server::shared(Version::V15).database();
    let mut province = Province::with_external(&warehouse);
    let server = SqlServer::start("bi-mat");
    let mut columns = vec!["id int".to_owned(), "mo nvarchar(40) null".to_owned()];
    columns.extend(cages.columns.iter().map(|(name, kind)| format!("{name} {kind} null")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let row = |id: i64, mo: &str| {
        let values = cages.holds.iter().map(|at| SQLSERVER[*at].1());
        [Value::Int(id), Value::text(mo)].into_iter().chain(values).collect::<Vec<_>>()
    };
    server.database().create(Table::new("chim", &columns, &["id"]));
    server.database().commit(|database| database.insert("chim", row(1, "CHIM-MO-LONG")));
    let fields: Vec<&str> = cages.fields.iter().map(String::as_str).collect();
    let share = Share { table: "chim", key: "id", fields: &fields, rules: "" };
    let source = format!(
        "engine = \"sqlserver\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"hotich\"\n\
         user = \"phusa\"\npassword_file = \"source.password\"\ntls = \"off\"\n",
        server.port()
    );
    province.place_agent(AGENCY, &source, &[share.dataset_of("dbo")]);
    for _ in 0..4 {
        let checked = said(&province.agent(AGENCY, &["check", "--offline"]));
        statements(&checked).into_iter().for_each(|sql| server.database().administer(sql));
    }
    let hub = listen(&province).await;
    province.start_hub();
    province.start_agent(AGENCY);
    assert_eq!(province.wait_until_identical(AGENCY, "thu.chim").await, 1);
    server.database().commit(|database| {
        database.insert("chim", row(2, "CHIM-MO-LONG"));
        database.update("chim", &[Value::Int(1)], |row| row[1] = Value::text("CHIM-MO-LONG!"));
    });
    assert_eq!(province.wait_until_identical(AGENCY, "thu.chim").await, 2);
    nothing_sings(&mut province, &hub, &cages, "SQL Server");
}
