//! Every type that is carried arrives exactly, read or from the log; every other is refused by name.

use std::fmt::Write as _;

use phusa_tests::database::Version;

use crate::world::{AGENCY, Share, World, said};

/// A column: its name, its type, the contract's type, its text at the source, and values.
type Carried = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip] // one column a line, so that the types read as a table
const CARRIED: &[Carried] = &[
    ("dung", "bool", "bool", "dung::text", &["true", "false"]),
    ("i2", "int2", "int2", "i2::text", &["-32768", "32767", "0"]),
    ("i4", "int4", "int4", "i4::text", &["-2147483648", "2147483647"]),
    ("i8", "int8", "int8", "i8::text", &["-9223372036854775808", "9223372036854775807"]),
    ("i2_rong", "int2", "int8", "i2_rong::text", &["-32768", "32767"]),
    ("i8_so", "int8", "numeric", "i8_so::text", &["-9223372036854775808", "10000", "0"]),
    ("so", "numeric", "numeric", "so::text", &["'NaN'", "'Infinity'", "'-Infinity'", "repeat('9', 131072)::numeric", "1e-16383", "0.00", "-1.10", "10000", "0.0001"]),
    ("tien", "numeric(14,2)", "numeric", "tien::text", &["999999999999.99", "-0.10", "0"]),
    ("f4", "float4", "float4", "f4::text", &["'NaN'", "'Infinity'", "'-0'", "1.17549435e-38", "3.4028235e38", "1e-45"]),
    ("f8", "float8", "float8", "f8::text", &["'NaN'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1"]),
    ("f4_rong", "float4", "float8", "(f4_rong::float8)::text", &["0.1", "'NaN'", "3.4028235e38"]),
    ("chu", "text", "text", "chu::text", &["''", "'Nguyễn Thị Ánh Tuyết'", "E'\\t\\n\\\\'", "'🐃 ₫'", "repeat('Trường Sa ', 20000)"]),
    ("vc", "varchar(20)", "text", "vc::text", &["'Cần Thơ  '", "''"]),
    ("ch", "char(6)", "text", "convert_from(bpcharsend(ch), 'UTF8')", &["'ấp'", "'123456'"]),
    ("by", "bytea", "bytea", "by::text", &["''", "'\\x00ff00'", "decode(repeat('ab', 100000), 'hex')"]),
    ("ngay", "date", "date", "ngay::text", &["'4714-11-24 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "'0001-12-31 BC'", "'2024-02-29'"]),
    ("gio", "time", "time", "gio::text", &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    ("ts", "timestamp", "timestamp", "ts::text", &["'4714-11-24 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'infinity'", "'-infinity'", "'1999-12-31 23:59:59.999999'"]),
    ("tz", "timestamptz", "timestamptz", "tz::text", &["'4714-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'", "'infinity'", "'-infinity'", "'2026-11-21 08:30:00.5+07'"]),
    ("ma", "uuid", "uuid", "ma::text", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("jb", "jsonb", "jsonb", "jb::text", &["'{\"a\": 1e300, \"b\": 1.10, \"c\": -0, \"d\": 123456789012345678901234567890.1230}'", "'null'", "'[\"\\u00ea\", \"\\\\\", {}]'", "'{\"b\":1,\"a\":{\"b\":[]},\"b\":2}'"]),
    ("ta", "text[]", "text[]", "ta::text", &["'{}'", "'{null,\"\",\"null\",\"a,b\",\"\\\"\"}'", "'[2:3][-1:0]={{a,b},{c,d}}'"]),
    ("ttz", "timetz", "text", "ttz::text", &["'00:00+15:59:59'", "'24:00-15:59'", "'12:00:00.000001+07'"]),
    ("iv", "interval", "text", "iv::text", &["'178000000 years'", "'-178000000 years'", "'1 mon -2 days +03:04:05.000006'", "'0'", "'-00:00:00.000001'", "'1 year 2 mons'", "'-1 year +2 mons -3 days'"]),
    ("js", "json", "text", "js::text", &["'{\"b\" : 1.10,  \"a\":[]  , \"b\":2}'", "'1e400'"]),
    ("dia_chi", "inet", "text", "dia_chi::text", &["'0.0.0.0/0'", "'255.255.255.255'", "'2001:db8::1/64'", "'::ffff:1.2.3.4'", "'::1'", "'::'", "'1:0:0:2:0:0:0:3'", "'2001:db8:0:1:1:1:1:1'"]),
    ("mang", "cidr", "text", "mang::text", &["'10.0.0.0/8'", "'2001:db8::/32'", "'192.0.2.1/32'"]),
    ("mac", "macaddr", "text", "mac::text", &["'00:00:00:00:00:00'", "'ff:0a:b0:c1:d2:e3'"]),
    ("cap", "cap_hanh_chinh", "text", "cap::text", &["'tỉnh'", "'xã'"]),
    ("ward", "ma_xa", "text", "ward::text", &["'31000'"]),
    ("tuoi", "tuoi", "int4", "tuoi::text", &["0", "150"]),
    ("r4", "int4range", "text", "r4::text", &["'empty'", "'(,)'", "'[-2147483648,5)'", "'[7,7]'"]),
    ("rn", "numrange", "text", "rn::text", &["'[1.10,2.200]'", "'(-infinity,infinity)'", "'[NaN,NaN]'"]),
    ("rd", "daterange", "text", "rd::text", &["'[2026-01-01,infinity)'", "'[4714-11-24 BC,2026-01-01)'"]),
    ("rts", "tsrange", "text", "rts::text", &["'[2026-01-01 00:00,)'", "'(,\"2026-01-01 00:00:00.5\"]'"]),
    ("rtz", "tstzrange", "text", "rtz::text", &["'[-infinity,\"2026-01-01 07:00+07\"]'"]),
    ("ai", "int4[]", "text[]", "ai::text[]::text", &["'{1,null,-3}'", "'[0:1]={5,6}'", "'{}'"]),
    ("an", "numeric[]", "text[]", "an::text[]::text", &["'{1.10,NaN,null}'"]),
    ("ae", "cap_hanh_chinh[]", "text[]", "ae::text[]::text", &["'{tỉnh,xã,null}'"]),
    ("ad", "date[]", "text[]", "ad::text[]::text", &["'{infinity,2026-01-01,\"0044-03-15 BC\"}'"]),
    ("x", "xml", "text", "x::text", &["'<a b=\"1\">ế</a>'"]),
    ("ten", "name", "text", "ten::text", &["'phù_sa'"]),
];

/// The most values of one column, and so the rows.
const ROWS: usize = 9;

fn columns() -> impl Iterator<Item = &'static Carried> {
    // The servers of the wheel are built without libxml.
    CARRIED.iter().filter(|(name, ..)| *name != "x")
}

/// A value as SQL: servers before 14 have no infinite numbers, so that a null stands there.
fn value(column: &Carried, row: usize, server: u32) -> &'static str {
    let (_, sql, _, _, values) = column;
    let value = values.get(row).copied().unwrap_or("null");
    let is_new =
        matches!(*sql, "numeric" | "numrange") && value.to_lowercase().contains("infinity");
    if is_new && server < 140_000 { "null" } else { value }
}

fn insert(first: usize, server: u32) -> String {
    let mut sql = String::new();
    let names: Vec<_> = columns().map(|(name, ..)| *name).collect();
    // One row beyond the values has nothing but nulls.
    for row in 0..=ROWS {
        let values: Vec<_> = columns().map(|column| value(column, row, server)).collect();
        let _ = writeln!(
            sql,
            "insert into moi_kieu (id, {}) values ({}, {});",
            names.join(", "),
            first + row,
            values.join(", ")
        );
    }
    sql
}

/// Each row's texts in one line; a text that is long as its digest.
fn texts(world: &World, at_source: bool) -> Vec<String> {
    let text = |(name, _, _, source, _): &Carried| {
        let text = if at_source { (*source).to_owned() } else { format!("{name}::text") };
        format!(
            "'{name}=' || coalesce(case when length({text}) > 200 then md5({text}) else {text} end, '∅')"
        )
    };
    let all: Vec<_> = columns().map(text).collect();
    let table = if at_source { "public.moi_kieu" } else { "thu.moi_kieu" };
    let sql = format!(
        "set intervalstyle = 'iso_8601'; set timezone = 'UTC'; set datestyle = 'ISO';
         select id || ' ' || unnest(array[{}]) from {table} order by id",
        all.join(", ")
    );
    let database = if at_source { &world.source } else { &world.warehouse };
    database.psql(&sql).lines().map(str::to_owned).collect()
}

async fn every_type_arrives(version: Version) {
    let mut world = World::new(version);
    let server = world.source_version();
    let columns_sql: Vec<_> = columns().map(|(name, sql, ..)| format!("{name} {sql}")).collect();
    world.source.psql(&format!(
        "create type cap_hanh_chinh as enum ('tỉnh', 'huyện', 'xã');
         create domain ma_xa as char(5) check (value ~ '^[0-9]+$');
         create domain tuoi as int check (value between 0 and 150);
         create table moi_kieu (id bigint primary key, {});
         {}",
        columns_sql.join(", "),
        insert(1, server)
    ));
    let fields: Vec<_> = columns().map(|(name, _, kind, ..)| format!("{name} {kind}")).collect();
    let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    fields.insert(0, "id int8");
    world.share("", &[Share { table: "moi_kieu", key: "id", fields: &fields, rules: "" }]);
    world.start();
    assert_eq!(world.identical("moi_kieu").await, 10);
    assert_eq!(texts(&world, true), texts(&world, false), "as read");

    let sets: Vec<_> = columns().map(|(name, ..)| format!("{name} = o.{name}")).collect();
    world.source.psql(&format!(
        "{} begin; insert into moi_kieu (id) select id + 200 from moi_kieu where id < 100;
         update moi_kieu n set {} from moi_kieu o where n.id = o.id + 200;
         update moi_kieu set id = id + 100 where id > 200; commit;",
        insert(101, server),
        sets.join(", ")
    ));
    world.warehouse_says("select count(*) from thu.moi_kieu where id > 300", "10").await;
    assert_eq!(world.identical("moi_kieu").await, 30);
    assert_eq!(texts(&world, true), texts(&world, false), "from the log");
    let [read, logged]: [Vec<_>; 2] = [1, 101].map(|first| {
        let rows = texts(&world, false).into_iter().filter_map(|line| {
            let (id, text) = line.split_once(' ')?;
            let id: usize = id.parse().ok()?;
            (first..first + 10).contains(&id).then(|| text.to_owned())
        });
        rows.collect()
    });
    assert_eq!(read, logged, "the two ways differ");
    assert!(
        std::fs::read_dir(world.province.agent_folder(AGENCY).join("state/rejects"))
            .map_or(true, |mut files| files.next().is_none()),
        "nothing was rejected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_carried_type_arrives_exactly_from_15() {
    every_type_arrives(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_carried_type_arrives_exactly_from_16() {
    every_type_arrives(Version::V16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_carried_type_arrives_exactly_from_18() {
    every_type_arrives(Version::V18).await;
}

/// A world with a table that is fine, and one more dataset that is only ever checked.
fn with_unchecked(version: Version, ddl: &str, share: Share<'_>) -> World {
    let mut world = World::new(version);
    world.source.psql(&format!("create table tot (id int primary key); {ddl}"));
    world.share("", &[Share { table: "tot", key: "id", fields: &["id int4"], rules: "" }]);
    let folder = world.province.agent_folder(AGENCY);
    let files = share.dataset();
    std::fs::write(folder.join(format!("contracts/{}.toml", files.id)), files.contract).unwrap();
    std::fs::write(folder.join(format!("datasets/{}.toml", files.id)), files.mapping).unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_cannot_be_carried_is_refused_by_column_and_type() {
    let ddl = "create type dia_chi as (pho text, so int);
        create table la (id int primary key, tien money, diem point, tim tsvector, bit_ bit(3),
          ghep dia_chi, nhieu int4multirange, thuc float8[], so_hieu oid, nhi_phan bytea[]);";
    let fields = &[
        "id int4",
        "tien numeric",
        "diem text",
        "tim text",
        "bit_ text",
        "ghep text",
        "nhieu text",
        "thuc text[]",
        "so_hieu int8",
        "nhi_phan text[]",
    ];
    let world =
        with_unchecked(Version::V15, ddl, Share { table: "la", key: "id", fields, rules: "" });
    let checked = world.agent(&["check", "--offline"]);
    let text = said(&checked);
    assert!(!checked.status.success());
    assert!(text.contains("source_type_refused"), "{text}");
    for (column, kind) in [
        ("tien", "money"),
        ("diem", "point"),
        ("tim", "tsvector"),
        ("bit_", "bit(3)"),
        ("ghep", "dia_chi"),
        ("nhieu", "int4multirange"),
        ("so_hieu", "oid"),
    ] {
        let named = format!("column {column} of public.la is {kind}");
        assert!(text.contains(&named), "{named}: {text}");
    }
    assert!(text.contains("thuc") && text.contains("double precision[]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_column_is_refused_before_18_and_carried_from_18_on() {
    let ddl = "create table tinh (id int primary key, a int,
                 hai_lan int generated always as (a * 2) stored);
               insert into tinh (id, a) values (1, 21);";
    let share = Share { table: "tinh", key: "id", fields: &["id int4", "hai_lan int4"], rules: "" };
    for version in [Version::V15, Version::V16] {
        let world = with_unchecked(version, ddl, share);
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success());
        assert!(text.contains("column hai_lan of public.tinh is generated"), "{text}");
    }
    let mut world = World::new(Version::V18);
    world.source.psql(ddl);
    world.share("", &[share]);
    world.start();
    assert_eq!(world.identical("tinh").await, 1);
    world
        .source
        .psql("insert into tinh (id, a) values (2, 50); update tinh set a = 22 where id = 1");
    world
        .warehouse_says(
            "select string_agg(id || '=' || hai_lan, ' ' order by id) from thu.tinh",
            "1=44 2=100",
        )
        .await;
    assert_eq!(world.identical("tinh").await, 2);
}
