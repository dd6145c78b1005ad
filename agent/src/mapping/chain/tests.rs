//! Rules as a person writes them, on the bytes a source sends: what leaves, what stays, what is
//! counted. And: no bytes break any rule, and no mask lets a canary through.

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Change, Op, runs};
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};
use proptest::prelude::*;
use unicode_normalization::is_nfc;

use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::{Bound, Mapped, Mapping, preview};
use crate::source::{Block, Column, Native, Resume};

const AGENT: &str = r#"
agency = "H57.12"
agent = "may-1"
state_dir = "state"
allowed_networks = ["127.0.0.1"]
[hub]
url = "https://127.0.0.1:7443"
ca_file = "ca.pem"
certificate_file = "agent.pem"
key_file = "agent.key"
signing_key_file = "signing.key"
hub_key_file = "hub.pub"
[spool]
key_file = "spool.key"
[source]
engine = "postgresql"
host = "127.0.0.1"
database = "hotich"
user = "phusa"
tls = "off"
"#;

const LIST: &str = r#"
list = "tinh"
title_vi = "Tỉnh"
source = "Nghị quyết 202/2025/QH15"
code = [
  { code = "44", name = "Quảng Bình", valid_to = "2025-07-01" },
  { code = "44", name = "Quảng Trị", valid_from = "2025-07-01" },
  { code = "45", name = "Quảng Trị", valid_to = "2025-07-01" },
]
becomes = [{ from = "45", to = "44", valid_from = "2025-07-01" }]
"#;

/// A dataset of fields written `name type | lines of the mapping`; the first is the key.
fn plan(fields: &[&str]) -> DatasetPlan {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("datasets")).unwrap();
    let mut contract = "dataset = \"thu.nghiem\"\nversion = 1\ntitle_vi = \"Thử\"\n\
        owner = \"H57.12\"\nlegal_basis = \"x\"\nsharing = \"default\"\nfrequency = \"15m\"\n\
        retention = \"30d\"\nkey = [\"id\"]\n"
        .to_owned();
    let mut mapping = "dataset = \"thu.nghiem\"\ncontract = \"../contract.toml\"\n\
        table = \"public.t\"\n"
        .to_owned();
    for field in fields {
        let (agreed, written) = field.split_once('|').unwrap();
        let (name, kind) = agreed.trim().split_once(' ').unwrap();
        contract += &format!(
            "[[field]]\nname = \"{name}\"\ntype = \"{kind}\"\nclass = \"I\"\nname_vi = \"x\"\n"
        );
        let from = if written.contains("compute") { "" } else { &format!("from = \"{name}\"\n") };
        let lines = written.trim().replace("; ", "\n");
        mapping += &format!("[[field]]\n{from}to = \"{name}\"\nclass = \"I\"\n{lines}\n");
    }
    std::fs::write(at("agent.toml"), AGENT).unwrap();
    std::fs::write(at("list.toml"), LIST).unwrap();
    std::fs::write(at("contract.toml"), contract).unwrap();
    std::fs::write(at("datasets/one.toml"), &mapping).unwrap();
    let plan = Plan::load(&at("agent.toml"));
    let plan = plan.unwrap_or_else(|faults| panic!("{faults:#?}\n{mapping}"));
    plan.datasets.into_iter().next().unwrap()
}

fn bound(plan: &DatasetPlan, natives: &[Native]) -> Bound {
    let column = |(name, native): (&String, &Native)| Column {
        name: name.clone(),
        type_name: format!("{native:?}"),
        native: native.clone(),
        nullable: true,
    };
    let columns: Vec<Column> = plan.selection.columns.iter().zip(natives).map(column).collect();
    Mapping::new(&plan.rules).unwrap().bind(&columns).unwrap()
}

fn map(bound: &Bound, rows: &[(Op, Vec<Field<'_>>)]) -> Mapped {
    let mut body = BodyWriter::default();
    for (op, row) in rows {
        put_tuple(body.begin_row(*op), row);
    }
    bound
        .apply(Block {
            number: 1,
            columns: Arc::from(bound.columns()),
            body: body.finish().0,
            phase: Phase::Live,
            tx_open: false,
            position: String::new(),
            resume: Resume(Vec::new()),
            read_at: Timestamp::UNIX_EPOCH,
            source_time: Timestamp::UNIX_EPOCH,
        })
        .unwrap()
}

/// The mapped rows, `a,b,null`.
fn shown(plan: &DatasetPlan, mapped: &Mapped) -> Vec<String> {
    let kinds: Vec<Kind> = plan.rules.fields.iter().map(|field| field.kind).collect();
    let word = |(field, kind): (Field<'_>, &Kind)| match field {
        Field::Value(bytes) => preview::render(*kind, bytes),
        Field::Null => "null".to_owned(),
        Field::Unchanged => "same".to_owned(),
    };
    let changes =
        runs(mapped.shareable.body()).flat_map(|run| run.unwrap().changes().collect::<Vec<_>>());
    changes
        .map(|change| match change.unwrap() {
            Change::Snapshot(row) | Change::Insert(row) | Change::Update(row) => row,
            Change::Delete(key) => key,
            Change::Truncate | Change::Rekey { .. } => panic!("never put in"),
        })
        .map(|row| row.fields().zip(&kinds).map(word).collect::<Vec<_>>().join(","))
        .collect()
}

fn counts(mapped: &Mapped) -> Vec<String> {
    let quality = &mapped.shareable.envelope().quality;
    quality.iter().map(|(name, rows)| format!("{name} {rows}")).collect()
}

fn text(value: &str) -> Field<'_> {
    Field::Value(value.as_bytes())
}

/// One field `x` of text with these rules on one value: what comes out, or the counted rule.
fn one(kind: &str, rules: &str, value: Field<'_>) -> String {
    let plan = plan(&["id text |", &format!("x {kind} | {rules}")]);
    let bound = bound(&plan, &[Native::Text, Native::Text]);
    let mapped = map(&bound, &[(Op::Insert, vec![text("1"), value])]);
    let rows: Vec<String> =
        shown(&plan, &mapped).iter().map(|row| row.trim_start_matches("1,").to_owned()).collect();
    [rows, counts(&mapped)].concat().join(" ")
}

#[test]
fn each_rule_does_what_its_line_says() {
    let check = |kind: &str, rules: &str, value: &str, expected: &str| {
        assert_eq!(one(kind, rules, text(value)), expected, "{rules}");
    };
    check("text", "encoding = \"tcvn3\"", "NguyÔn V¨n An", "Nguyễn Văn An");
    check("text", "encoding = \"tcvn3\"", "Nguyễn", "reject_row/x/undecodable 1");
    check(
        "text",
        "encoding = \"vni\"; on_bad = \"null_field\"",
        "ø",
        "null null_field/x/undecodable 1",
    );
    check("text", "normalise = [\"inner_spaces\", \"trim\", \"d_stroke\"]", "  Ðỗ  An ", "Đỗ An");
    check("text", "normalise = [\"trim\", \"empty_is_null\"]", "   ", "null");
    check("text", "pad_left = 12", "46199000001", "046199000001");
    check("text", "pad_left = 12", "7.9E+10", "reject_row/x/pad_unfit 1");
    check("date", "convert = { date = [\"dd/MM/yyyy\", \"excel\"] }", "21/11/2026", "2026-11-21");
    check("date", "convert = { date = [\"dd/MM/yyyy\", \"excel\"] }", "45658", "2025-01-01");
    check(
        "date",
        "convert = { date = [\"dd/MM/yyyy\"] }",
        "00/11/2026",
        "reject_row/x/unconvertible 1",
    );
    check("text", "convert = { date = [\"dd/MM/yyyy\"] }", "00/11/2026", "2026-11");
    check("int4", "convert = { number = \"comma\" }", "1.234", "1234");
    check(
        "int2",
        "convert = { number = \"comma\" }; on_bad = \"null_field\"",
        "99.999",
        "null null_field/x/unconvertible 1",
    );
    check("numeric", "convert = { number = \"comma\" }", "-1.234,50", "-1234.50");
    check("bool", "convert = { bool = { yes = [\"C\"], no = [\"K\"] } }", "K", "false");
}

#[test]
fn codes_checks_and_masks_do_what_their_lines_say() {
    let check = |kind: &str, rules: &str, value: &str, expected: &str| {
        assert_eq!(one(kind, rules, text(value)), expected, "{rules}");
    };
    let list = "list = \"../list.toml\"";
    let today = format!("crosswalk = {{ {list}, as_of = \"2026-01-01\" }}");
    check("text", &today, "45", "44");
    check("int2", &today, "45", "44");
    check("text", &today, "99", "reject_row/x/code_unknown 1");
    let warned = format!("crosswalk = {{ {list}, as_of = \"2026-01-01\", on_bad = \"warn\" }}");
    check("text", &warned, "99", "99 warn/x/code_unknown 1");
    let before = format!("check = [{{ rule = \"in_list\", {list}, as_of = \"2025-06-30\" }}]");
    check("text", &before, "45", "45");
    let after = before.replace("2025-06-30", "2025-07-01");
    check("text", &after, "45", "reject_row/x/in_list 1");
    check(
        "text",
        "check = [{ rule = \"phone\", on_bad = \"null_field\" }]",
        "12",
        "null null_field/x/phone 1",
    );
    check("text", "check = [{ rule = \"regex\", pattern = \"[A-Z]+\\\\d\" }]", "AB1", "AB1");
    check(
        "text",
        "check = [{ rule = \"regex\", pattern = \"[A-Z]+\\\\d\" }]",
        "AB12",
        "reject_row/x/regex 1",
    );
    check(
        "text",
        "check = [{ rule = \"length\", max = \"3\" }, { rule = \"email\", on_bad = \"warn\" }]",
        "Huế",
        "Huế warn/x/email 1",
    );
    check("text", "mask = { keep_first = 3 }", "0905123456", "090*******");
    check("text", "mask = \"initials\"", "Nguyễn Văn An", "N.V.A.");
    check("text", "convert = { date = [\"dd/MM/yyyy\"] }; mask = \"year\"", "21/11/1990", "1990");
    check("int2", "convert = { date = [\"dd/MM/yyyy\"] }; mask = \"year\"", "21/11/1990", "1990");
    check("text", "mask = { band = 1000 }", "1234", "1000-1999");
    check("text", "mask = \"commune\"", "Số 1, Xã A Lưới 1, Huế", "Xã A Lưới 1, Huế");
    check(
        "text",
        "mask = \"commune\"; on_bad = \"null_field\"",
        "Số 1",
        "null null_field/x/mask_unfit 1",
    );
    check("text", "mask = { constant = \"đã ẩn\" }", "x", "đã ẩn");
    assert_eq!(
        one("text", "check = [{ rule = \"required\", on_bad = \"warn\" }]", Field::Null),
        "null warn/x/required 1"
    );
    assert_eq!(one("text", "mask = { constant = \"đã ẩn\" }", Field::Null), "null");
}

#[test]
fn stages_follow_each_other_and_checks_see_the_value_before_its_mask() {
    let rules = "encoding = \"utf8\"; normalise = [\"trim\", \"digits\"]; pad_left = 12; \
                 check = [{ rule = \"citizen_id\" }]; mask = { keep_last = 4 }";
    assert_eq!(one("text", rules, text(" ４6199000001 ")), "********0001");
    assert_eq!(one("text", rules, text("99999999999")), "reject_row/x/citizen_id 1");
}

#[test]
fn bytes_of_a_database_without_an_encoding_are_decoded_too() {
    let raw = Field::Value(b"Hu\xd5");
    assert_eq!(one("text", "encoding = \"tcvn3\"", raw), "Huế");
    assert_eq!(one("text", "normalise = [\"trim\"]", raw), "reject_row/x/text_not_utf8 1");
}

#[test]
fn a_date_without_a_year_is_answered_as_the_file_says() {
    let year = |rules: &str| {
        let plan = plan(&["id text |", &format!("x int4 | {rules}mask = \"year\"")]);
        let bound = bound(&plan, &[Native::Text, Native::Date]);
        let infinite = Field::Value(&[0x7f, 0xff, 0xff, 0xff]);
        let rows = [infinite, Field::Value(&[0; 4])].map(|x| (Op::Insert, vec![text("1"), x]));
        let mapped = map(&bound, &rows);
        (shown(&plan, &mapped), counts(&mapped))
    };
    let counted = |name: &str| vec![format!("{name}/x/year_unknown 1")];
    assert_eq!(year(""), (vec!["1,2000".to_owned()], counted("reject_row")));
    let both = vec!["1,null".to_owned(), "1,2000".to_owned()];
    assert_eq!(year("on_bad = \"null_field\"; "), (both, counted("null_field")));
}

#[test]
fn fields_are_held_against_each_other() {
    let plan = plan(&[
        "id text |",
        "so text | check = [{ rule = \"citizen_id\", sex_field = \"gt\", male = [\"1\"], \
         female = [\"2\"], birth_field = \"sinh\" }]; mask = { keep_last = 3 }",
        "gt int2 |",
        "sinh date | convert = { date = [\"dd/MM/yyyy\"] }",
        "chet text | convert = { date = [\"dd/MM/yyyy\"] }; \
         check = [{ rule = \"not_before\", field = \"sinh\", on_bad = \"warn\" }]",
        "tinh text | crosswalk = { list = \"../list.toml\", as_of_field = \"chet\", on_bad = \"null_field\" }",
    ]);
    let bound = bound(
        &plan,
        &[Native::Text, Native::Text, Native::Int2, Native::Text, Native::Text, Native::Text],
    );
    let row = |so: &'static str, gt: &'static [u8], chet: Field<'static>| {
        let fields =
            vec![text("1"), text(so), Field::Value(gt), text("05/03/1999"), chet, text("45")];
        (Op::Insert, fields)
    };
    let mapped = map(
        &bound,
        &[
            row("046199000001", &[0, 2], text("01/07/2025")),
            row("046199000001", &[0, 1], text("30/06/2025")),
            row("046198000001", &[0, 2], text("04/03/1999")),
            row("046199000001", &[0, 3], Field::Null),
        ],
    );
    let expected = [
        "1,*********001,2,1999-03-05,2025-07-01,44",
        "1,*********001,1,1999-03-05,2025-06-30,45",
        "1,*********001,2,1999-03-05,1999-03-04,45",
        "1,*********001,3,1999-03-05,null,null",
    ];
    assert_eq!(shown(&plan, &mapped), expected);
    let expected = [
        "null_field/tinh/day_unknown 1",
        "warn/chet/not_before 1",
        "warn/so/citizen_id_birth 1",
        "warn/so/citizen_id_sex 1",
    ];
    assert_eq!(counts(&mapped), expected);
    // Rows that travel all the same are in the rejects file by key and rule.
    let lines: Vec<String> = mapped
        .rejects
        .iter()
        .map(|r| format!("{} {} {}", r.key, r.rule, r.on_bad.name()))
        .collect();
    assert_eq!(lines[0], "id=1 citizen_id_sex warn");
    assert_eq!(lines.len(), 4);
}

#[test]
fn fields_are_computed_of_columns_and_nothing_else_is_read() {
    let plan = plan(&[
        "id text |",
        "ten text | compute = { concat = { columns = [\"ho\", \"dem\", \"goi\"], with = \" \" } }",
        "so text | compute = { coalesce = [\"moi\", \"cu\"] }; mask = { keep_last = 2 }",
        "nam int2 | compute = { year = \"sinh\" }",
        "loai text | compute = { map = { column = \"ma\", values = { \"1\" = \"Nam\" } } }",
    ]);
    let columns = ["id", "ho", "dem", "goi", "moi", "cu", "sinh", "ma"];
    assert_eq!(plan.selection.columns, columns);
    let mut natives = vec![Native::Text; 8];
    natives[6] = Native::Date;
    let bound = bound(&plan, &natives);
    let row = |op, rest: [Field<'static>; 7]| (op, [vec![text("1")], rest.to_vec()].concat());
    let (null, same) = (Field::Null, Field::Unchanged);
    let day = Field::Value(&[0, 0, 0, 0]);
    let mapped = map(
        &bound,
        &[
            row(Op::Insert, [text("Lê"), null, text("An"), null, text("1234"), day, text("1")]),
            row(Op::Insert, [null, null, null, text("9876"), text("1"), null, text("2")]),
            row(Op::Update, [same, same, same, same, same, same, same]),
            row(Op::Update, [text("Lê"), same, null, null, null, null, null]),
        ],
    );
    let expected = ["1,Lê An,**34,2000,Nam", "1,null,**76,null,null", "1,same,same,same,same"];
    assert_eq!(shown(&plan, &mapped), expected);
    assert_eq!(counts(&mapped), ["reject_row/ten/compute_unknown 1"]);
}

#[test]
fn a_value_must_be_the_only_one_of_its_kind_in_a_batch() {
    let plan =
        plan(&["id text |", "so text | check = [{ rule = \"unique\", on_bad = \"null_field\" }]"]);
    let bound = bound(&plan, &[Native::Text, Native::Text]);
    let row = |op, id: &'static str, so| (op, vec![text(id), text(so)]);
    let rows = [row(Op::Insert, "1", "a"), row(Op::Insert, "2", "a"), row(Op::Update, "2", "a")];
    let mapped = map(&bound, &rows);
    assert_eq!(shown(&plan, &mapped), ["1,a", "2,null", "2,a"]);
    assert_eq!(counts(&mapped), ["null_field/so/duplicate 1"]);
    assert_eq!(shown(&plan, &map(&bound, &rows[..1])), ["1,a"], "another batch begins anew");
}

#[test]
fn a_delete_needs_no_more_than_its_key() {
    let plan = plan(&[
        "id text | pad_left = 3; check = [{ rule = \"regex\", pattern = \"9+\" }]",
        "x text |",
    ]);
    let bound = bound(&plan, &[Native::Text, Native::Text]);
    let mapped =
        map(&bound, &[(Op::Delete, vec![text("1")]), (Op::Insert, vec![text("2"), text("x")])]);
    assert_eq!(shown(&plan, &mapped), ["001"]);
    assert_eq!(counts(&mapped), ["reject_row/id/regex 1"]);
}

#[test]
fn one_hundred_rows_stand_for_all_that_a_block_warns_of() {
    let plan = plan(&["id text |", "x text | check = [{ rule = \"phone\", on_bad = \"warn\" }]"]);
    let bound = bound(&plan, &[Native::Text, Native::Text]);
    let rows: Vec<_> = (0..300).map(|_| (Op::Insert, vec![text("1"), text("x")])).collect();
    let mapped = map(&bound, &rows);
    assert_eq!(mapped.shareable.counts().insert, 300);
    assert_eq!(counts(&mapped), ["warn/x/phone 300"]);
    assert_eq!(mapped.rejects.len(), 100);
}

fn field_of(value: Option<&Vec<u8>>) -> Field<'_> {
    value.map_or(Field::Null, |bytes| Field::Value(bytes))
}

/// Every rule at once, on columns of several types.
fn everything() -> (DatasetPlan, Vec<Native>) {
    let plan = plan(&[
        "id text | normalise = [\"digits\"]; pad_left = 12",
        "a text | encoding = \"tcvn3\"; normalise = [\"d_stroke\", \"look_alikes\", \"trim\", \
         \"inner_spaces\", \"capitals\"]; mask = \"initials\"; on_bad = \"null_field\"",
        "b text | encoding = \"vni\"; mask = \"commune\"; on_bad = \"null_field\"",
        "c text | encoding = \"double_utf8\"; normalise = [\"phone\", \"empty_is_null\"]; \
         check = [{ rule = \"phone\", on_bad = \"warn\" }, { rule = \"unique\", on_bad = \"warn\" }]; \
         mask = { keep_first = 2 }; on_bad = \"null_field\"",
        "d date | convert = { date = [\"dd/MM/yyyy\", \"yyyyMMdd\", \"yyyy-MM-dd\", \"excel\"] }; \
         on_bad = \"null_field\"",
        "e numeric | convert = { number = \"comma\" }; mask = { band = 7 }; on_bad = \"null_field\"",
        "f text | encoding = \"viscii\"; crosswalk = { list = \"../list.toml\", as_of_field = \"d\", \
         on_bad = \"warn\" }; on_bad = \"null_field\"",
        "g text | encoding = \"cp1258\"; check = [{ rule = \"citizen_id\", birth_field = \"d\", \
         on_bad = \"warn\" }, { rule = \"tax_code\", on_bad = \"warn\" }, { rule = \"health_card\", \
         on_bad = \"warn\" }, { rule = \"email\", on_bad = \"warn\" }, { rule = \"range\", min = \"0\", \
         on_bad = \"warn\" }, { rule = \"not_after\", field = \"d\", on_bad = \"warn\" }, \
         { rule = \"regex\", pattern = \"(a|b)*c?\", on_bad = \"warn\" }]; mask = { keep_last = 4 }; \
         on_bad = \"null_field\"",
        "h int4 | mask = \"year\"; on_bad = \"null_field\"",
        "i text | compute = { concat = { columns = [\"a\", \"b\"], with = \"-\" } }; encoding = \"tcvn3\"; \
         on_bad = \"null_field\"",
        "k text | compute = { month = \"h\" }",
        "l text | mask = { constant = \"đã ẩn\" }",
    ]);
    let mut natives = vec![Native::Text; plan.selection.columns.len()];
    let at = |name: &str| plan.selection.columns.iter().position(|column| column == name).unwrap();
    natives[at("a")] = Native::Bytea;
    natives[at("b")] = Native::Bytea;
    natives[at("h")] = Native::Timestamp;
    natives[at("l")] = Native::Int4;
    (plan, natives)
}

/// Bytes of any kind, and texts that come far through the rules.
fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let text = |text: &'static str| text.prop_map(|text| Some(text.into_bytes()));
    prop_oneof![
        Just(None),
        proptest::collection::vec(any::<u8>(), 0..24).prop_map(Some),
        text("[0-9]{0,15}"),
        text("[0-3]?[0-9]/[01]?[0-9]/[0-9]{4}"),
        text("-?[0-9.]{1,9}(,[0-9]{1,3})?"),
        text("[A-ZĐa-zà-ỹ µ-þ,.]{0,20}"),
        text("(Số [0-9]{1,3}, )?(Xã|Phường|x\\.) [A-Z][a-z]{0,9}"),
        text("\\PC{0,16}"),
        any::<i64>().prop_map(|value| Some(value.to_be_bytes().to_vec())),
    ]
}

/// Loaded once: a fuzz run has millions of cases.
static EVERYTHING: std::sync::LazyLock<(DatasetPlan, Vec<Native>)> =
    std::sync::LazyLock::new(everything);

proptest! {
    #[test]
    fn no_bytes_break_a_rule(
        rows in proptest::collection::vec(proptest::collection::vec(any_value(), 12), 1..8),
        update in any::<bool>(),
    ) {
        let (plan, natives) = &*EVERYTHING;
        let bound = bound(plan, natives);
        let op = if update { Op::Update } else { Op::Insert };
        let rows: Vec<(Op, Vec<Field<'_>>)> = rows
            .iter()
            .map(|row| (op, row.iter().take(natives.len()).map(|value| field_of(value.as_ref())).collect()))
            .collect();
        let mapped = map(&bound, &rows);
        for run in runs(mapped.shareable.body()) {
            for change in run.unwrap().changes() {
                let (Change::Insert(row) | Change::Update(row)) = change.unwrap() else { panic!() };
                for (field, rule) in row.fields().zip(&plan.rules.fields) {
                    let Field::Value(bytes) = field else { continue };
                    prop_assert!(rule.kind.fits(bytes));
                    if rule.kind == Kind::Text {
                        let text = std::str::from_utf8(bytes).unwrap();
                        prop_assert!(is_nfc(text) && !text.contains('\0'), "{}", rule.name);
                    }
                }
            }
        }
    }

    /// Digits that are no bound of their band: a band names its bounds, and every value of it
    /// comes out alike, so that a bound is not told from the others.
    #[test]
    fn no_mask_lets_a_canary_through(digits in "[1-9][0-9]{8}[1-8]", word in "[A-Z][a-z]{7}") {
        let plan = plan(&[
            "id text |",
            "a text | mask = { keep_last = 4 }",
            "b text | mask = { keep_first = 4 }",
            "c text | mask = \"initials\"",
            "d text | mask = { band = 1000 }",
            "e text | mask = \"commune\"",
            "f text | mask = { constant = \"x\" }",
            "g text | mask = \"drop\"",
            "h text | mask = \"year\"; convert = { date = [\"dd/MM/yyyy\"] }",
        ]);
        let bound = bound(&plan, &vec![Native::Text; 8]);
        let (name, address) = (format!("{word} {word}"), format!("Số {digits}, {word}, Xã A"));
        let row = vec![
            text("1"), text(&digits), text(&digits), text(&name), text(&digits), text(&address),
            text(&name), text("21/11/1990"),
        ];
        let mapped = map(&bound, &[(Op::Insert, row)]);
        prop_assert_eq!(mapped.shareable.counts().insert, 1);
        let body = mapped.shareable.body();
        for canary in [digits.as_bytes(), word.as_bytes(), b"21/11"] {
            prop_assert!(!body.windows(canary.len()).any(|window| window == canary));
        }
    }
}
