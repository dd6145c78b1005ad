//! Whole blocks through a mapping: what passes, what stays, what can never get out.

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Change, Op, runs};
use phusa_protocol::row::{Tuple, put_tuple};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};
use proptest::prelude::*;

use super::field::{FieldRule, Recipe};
use super::filter::Filter;
use super::quality::Rule;
use super::terms::Terms;
use super::*;
use crate::source::{Block, Native, Resume};

fn rule(name: &str, kind: Kind, nullable: bool, from: Option<&str>) -> FieldRule {
    let from = from.map(str::to_owned);
    let recipe = Recipe::default();
    FieldRule {
        name: name.to_owned(),
        kind,
        nullable,
        from,
        recipe,
        mask: Mask::Keep,
        terms: Terms::default(),
    }
}

fn column(name: &str, native: Native) -> Column {
    Column { name: name.to_owned(), type_name: format!("{native:?}"), native, nullable: true }
}

/// id int4 → ma int4 (key), name text → ten text (required), note text → `ghi_chu` text.
fn rules(filter: Option<&str>) -> Rules {
    Rules {
        fields: vec![
            rule("ma", Kind::Int4, false, Some("id")),
            rule("ten", Kind::Text, false, Some("name")),
            rule("ghi_chu", Kind::Text, true, Some("note")),
        ],
        key: vec![0],
        filter: filter.map(|text| Filter::parse(text).unwrap()),
        row_bytes_max: 100,
    }
}

fn columns() -> Vec<Column> {
    vec![column("id", Native::Int4), column("name", Native::Text), column("note", Native::Text)]
}

fn block(columns: &[Column], rows: &[(Op, Vec<Vec<Field<'_>>>)]) -> Block {
    let mut body = BodyWriter::default();
    for (op, tuples) in rows {
        let out = body.begin_row(*op);
        tuples.iter().for_each(|tuple| put_tuple(out, tuple));
    }
    Block {
        number: 7,
        columns: Arc::from(columns),
        body: body.finish().0,
        phase: Phase::Live,
        tx_open: true,
        position: "0/16B3748".to_owned(),
        resume: Resume(vec![1, 2, 3]),
        read_at: Timestamp::from_micros(5),
        source_time: Timestamp::from_micros(4),
    }
}

fn id(value: u8) -> Field<'static> {
    const IDS: [[u8; 4]; 10] = {
        let mut ids = [[0; 4]; 10];
        let mut i = 0_u8;
        while i < 10 {
            ids[i as usize][3] = i;
            i += 1;
        }
        ids
    };
    Field::Value(&IDS[usize::from(value)])
}

fn text(value: &str) -> Field<'_> {
    Field::Value(value.as_bytes())
}

fn words(tuple: Tuple<'_>, kinds: &[Kind]) -> String {
    let word = |(field, kind): (Field<'_>, &Kind)| match field {
        Field::Value(bytes) => preview::render(*kind, bytes),
        Field::Null => "null".to_owned(),
        Field::Unchanged => "same".to_owned(),
    };
    tuple.fields().zip(kinds).map(word).collect::<Vec<_>>().join(",")
}

/// One line per change, `I 1,An,null`.
fn lines(body: &[u8], kinds: &[Kind], key: &[Kind]) -> Vec<String> {
    let changes = runs(body).flat_map(|run| run.unwrap().changes().collect::<Vec<_>>());
    let line = |change| match change {
        Change::Snapshot(row) => format!("S {}", words(row, kinds)),
        Change::Insert(row) => format!("I {}", words(row, kinds)),
        Change::Update(row) => format!("U {}", words(row, kinds)),
        Change::Delete(old) => format!("D {}", words(old, key)),
        Change::Truncate => "T".to_owned(),
        Change::Rekey { old, new } => format!("K {} {}", words(old, key), words(new, kinds)),
    };
    changes.map(|change| line(change.unwrap())).collect()
}

const KINDS: [Kind; 3] = [Kind::Int4, Kind::Text, Kind::Text];

/// What leaves, one line per change, and what stays, `rule field`.
fn map(rules: &Rules, rows: &[(Op, Vec<Vec<Field<'_>>>)]) -> (Vec<String>, Vec<String>) {
    let columns = columns();
    let bound = Mapping::new(rules).unwrap().bind(&columns).unwrap();
    let mapped = bound.apply(block(&columns, rows)).unwrap();
    let rejects = mapped.rejects.iter();
    let rejects = rejects.map(|reject| {
        format!("{} {} {}", reject.key, reject.rule, reject.field.as_deref().unwrap_or("-"))
    });
    let sent = lines(mapped.shareable.body(), &KINDS, &[Kind::Int4]);
    assert_eq!(mapped.shareable.counts().total(), sent.len() as u64);
    (sent, rejects.collect())
}

#[test]
fn every_operation_passes() {
    let rows = [
        (Op::Snapshot, vec![vec![id(1), text("An"), Field::Null]]),
        (Op::Insert, vec![vec![id(2), text("Bi\u{300}nh"), text("x")]]),
        (Op::Update, vec![vec![id(2), text("Bình"), Field::Unchanged]]),
        (Op::Rekey, vec![vec![id(2)], vec![id(3), text("Bình"), Field::Unchanged]]),
        (Op::Delete, vec![vec![id(3)]]),
        (Op::Truncate, vec![]),
    ];
    let (sent, rejects) = map(&rules(None), &rows);
    let expected = ["S 1,An,null", "I 2,Bình,x", "U 2,Bình,same", "K 2 3,Bình,same", "D 3", "T"];
    assert_eq!(sent, expected);
    assert_eq!(rejects, [""; 0]);
}

#[test]
fn rows_that_all_pass_are_copied_as_they_lie() {
    let columns = columns();
    let rows = [
        (Op::Snapshot, vec![vec![id(1), text("Nguyễn Văn An"), Field::Null]]),
        (Op::Snapshot, vec![vec![id(2), text("Huế"), text("")]]),
    ];
    let block = block(&columns, &rows);
    let bound = Mapping::new(&rules(None)).unwrap().bind(&columns).unwrap();
    let body = block.body.clone();
    let shareable = bound.apply(block).unwrap().shareable;
    assert_eq!(shareable.body(), body);
    let (_, envelope) = shareable.into_parts();
    assert_eq!((envelope.number, envelope.phase, envelope.tx_open), (7, Phase::Live, true));
    assert_eq!((envelope.position.as_str(), envelope.resume), ("0/16B3748", Resume(vec![1, 2, 3])));
    assert_eq!(envelope.counts.snapshot, 2);
}

#[test]
fn a_block_looks_the_same_whichever_way_it_took() {
    let columns = columns();
    let rows = [
        (Op::Update, vec![vec![id(1), text("Huế"), Field::Unchanged]]),
        (Op::Rekey, vec![vec![id(1)], vec![id(2), text("Huế"), Field::Unchanged]]),
        (Op::Delete, vec![vec![id(2)]]),
        (Op::Truncate, vec![]),
    ];
    let bound = Mapping::new(&rules(None)).unwrap().bind(&columns).unwrap();
    let map = |rows: &[_]| bound.apply(block(&columns, rows)).unwrap().shareable.into_parts();
    let untouched = map(&rows);
    let poison = [(Op::Insert, vec![vec![id(1), Field::Null, Field::Null]])];
    assert_eq!(map(&poison).1.counts.total(), 0);
    let row_by_row = map(&rows);
    assert_eq!(map(&rows), untouched);
    assert_eq!(row_by_row, untouched);
    assert_eq!(untouched.1.counts.total(), 4);
}

#[test]
fn rows_that_their_contract_forbids_stay_and_are_counted() {
    let long = "x".repeat(200);
    let rows = [
        (Op::Insert, vec![vec![Field::Null, text("An"), Field::Null]]),
        (Op::Insert, vec![vec![id(1), Field::Null, Field::Null]]),
        (Op::Insert, vec![vec![id(2), text("An"), Field::Unchanged]]),
        (Op::Update, vec![vec![Field::Unchanged, text("An"), Field::Null]]),
        (Op::Update, vec![vec![id(3), text(&long), Field::Null]]),
        (Op::Insert, vec![vec![id(4), Field::Value(b"\xff"), Field::Null]]),
        (Op::Insert, vec![vec![Field::Value(&[1]), text("An"), Field::Null]]),
        (Op::Delete, vec![vec![Field::Null]]),
        (Op::Insert, vec![vec![id(5), text("An"), Field::Null]]),
    ];
    let (sent, rejects) = map(&rules(None), &rows);
    assert_eq!(sent, ["I 5,An,null"]);
    let expected = [
        "id=null key_null ma",
        "id=1 required_null ten",
        "id=2 row_incomplete ghi_chu",
        "id=(unchanged) key_unknown ma",
        "id=3 row_bytes_max -",
        "id=4 text_not_utf8 ten",
        "id=(1 bytes that are no such value) malformed ma",
        "id=null key_null ma",
    ];
    assert_eq!(rejects, expected);
}

#[test]
fn a_row_that_leaves_the_filter_is_deleted_at_the_warehouse() {
    let rows = [
        (Op::Snapshot, vec![vec![id(1), text("out"), Field::Null]]),
        (Op::Insert, vec![vec![id(2), text("in"), Field::Null]]),
        (Op::Update, vec![vec![id(2), text("out"), Field::Null]]),
        (Op::Update, vec![vec![id(3), Field::Unchanged, Field::Null]]),
        (Op::Rekey, vec![vec![id(4)], vec![id(5), text("out"), Field::Null]]),
        (Op::Rekey, vec![vec![id(5)], vec![id(6), text("in"), Field::Unchanged]]),
        (Op::Rekey, vec![vec![id(7)], vec![id(8), Field::Unchanged, Field::Null]]),
        (Op::Delete, vec![vec![id(9)]]),
    ];
    let (sent, rejects) = map(&rules(Some("name = 'in'")), &rows);
    assert_eq!(sent, ["I 2,in,null", "D 2", "D 4", "K 5 6,in,same", "D 7", "D 9"]);
    assert_eq!(rejects, ["id=3 filter_unknown -", "id=7 filter_unknown -"]);
}

#[test]
fn fields_find_their_columns_whatever_the_order() {
    let mut rules = rules(None);
    rules.fields[0].kind = Kind::Int8;
    rules.fields[2].from = None;
    rules.fields.push(rule("ten_lai", Kind::Text, true, Some("name")));
    let columns = [column("name", Native::Text), column("id", Native::Int4)];
    let rows = [(Op::Insert, vec![vec![text("An"), id(1)]]), (Op::Delete, vec![vec![id(1)]])];
    let bound = Mapping::new(&rules).unwrap().bind(&columns).unwrap();
    let mapped = bound.apply(block(&columns, &rows)).unwrap();
    let kinds = [Kind::Int8, Kind::Text, Kind::Text, Kind::Text];
    let sent = lines(mapped.shareable.body(), &kinds, &[Kind::Int8]);
    assert_eq!(sent, ["I 1,An,null,An", "D 1"]);
}

#[test]
fn columns_that_cannot_be_carried_are_refused_by_name() {
    let check = |columns: &[Column], expected: &str| {
        let fault = Mapping::new(&rules(Some("name = 'in'"))).unwrap().bind(columns).unwrap_err();
        assert_eq!(format!("{} {}", fault.code, fault.what), expected);
    };
    let with = |index: usize, native: Native| {
        let mut columns = columns();
        columns[index] = column(&columns[index].name, native);
        columns
    };
    check(&columns()[..2], "source_column_missing the table has no column note");
    check(
        &with(0, Native::Int8),
        "source_type_refused column `id` (Int8) cannot become `ma` (int4); contract type int8 \
         would carry it exactly",
    );
    check(
        &with(1, Native::Int4),
        "mapping_invalid `where` cannot compare column `name` (Int4) with 'in'",
    );
    let mut two = with(2, Native::Bytea);
    two[0] = column("id", Native::Float8);
    let fault = Mapping::new(&rules(None)).unwrap().bind(&two).unwrap_err();
    assert!(fault.what.contains("`id`") && fault.what.contains("`note`"), "{}", fault.what);
}

#[test]
fn a_block_of_another_shape_is_not_mapped() {
    let bound = Mapping::new(&rules(None)).unwrap().bind(&columns()).unwrap();
    let other = block(&columns()[..2], &[]);
    assert_eq!(bound.apply(other).unwrap_err().code, Code::SourceSchema);
    let short = block(&columns(), &[(Op::Insert, vec![vec![id(1)]])]);
    assert_eq!(bound.apply(short).unwrap_err().code, Code::Bug);
    let mut cut = block(&columns(), &[(Op::Delete, vec![vec![id(1)]])]);
    cut.body.pop();
    assert_eq!(bound.apply(cut).unwrap_err().code, Code::Bug);
}

#[test]
fn nothing_that_is_printed_shows_a_row() {
    let columns = columns();
    let rows = [(Op::Insert, vec![vec![id(1), Field::Null, text("canary")]])];
    let bound = Mapping::new(&rules(None)).unwrap().bind(&columns).unwrap();
    let mapped = bound.apply(block(&columns, &rows)).unwrap();
    assert_eq!(mapped.rejects[0].rule, Rule::RequiredNull);
    let shown = format!("{mapped:?} {bound:?}");
    assert!(!shown.contains("canary") && !shown.contains("99, 97, 110"), "{shown}");
    assert!(!shown.contains("id=1"), "{shown}");
}

/// A value of any field, tagged so that it can be found again.
fn any_field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Some),
        "[a-zà-ỹ\u{300}-\u{303}]{0,8}".prop_map(|text| Some(text.into_bytes())),
        any::<i32>().prop_map(|value| Some(value.to_be_bytes().to_vec())),
    ]
}

fn field(value: Option<&Vec<u8>>) -> Field<'_> {
    value.map_or(Field::Null, |bytes| Field::Value(bytes))
}

proptest! {
    #[test]
    fn what_is_mapped_can_be_read_and_keeps_to_its_contract(
        rows in proptest::collection::vec((0_usize..4, any_field(), any_field(), any_field()), 0..12),
        filtered in any::<bool>(),
    ) {
        let ops = [Op::Snapshot, Op::Insert, Op::Update, Op::Delete];
        let rows: Vec<_> = rows
            .iter()
            .map(|(op, a, b, c)| {
                let row = vec![field(a.as_ref()), field(b.as_ref()), field(c.as_ref())];
                let delete = ops[*op] == Op::Delete;
                (ops[*op], vec![if delete { row[..1].to_vec() } else { row }])
            })
            .collect();
        let rules = rules(filtered.then_some("name <> 'a' and id > 0"));
        let columns = columns();
        let bound = Mapping::new(&rules).unwrap().bind(&columns).unwrap();
        let mapped = bound.apply(block(&columns, &rows)).unwrap();
        for run in runs(mapped.shareable.body()) {
            for change in run.unwrap().changes() {
                let row = match change.unwrap() {
                    Change::Snapshot(row) | Change::Insert(row) | Change::Update(row) => row,
                    Change::Delete(key) => key,
                    Change::Truncate | Change::Rekey { .. } => panic!("never put in"),
                };
                for (field, kind) in row.fields().zip(KINDS) {
                    let Field::Value(bytes) = field else { continue };
                    prop_assert!(kind.fits(bytes));
                    prop_assert!(kind != Kind::Text || std::str::from_utf8(bytes).is_ok());
                }
            }
        }
        let total = mapped.shareable.counts().total() + mapped.rejects.len() as u64;
        prop_assert!(total <= rows.len() as u64);
        prop_assert!(filtered || total == rows.len() as u64);
    }

    #[test]
    fn a_column_that_no_rule_names_never_gets_out(before in any::<bool>(), key in 0_u8..10) {
        let canary = column("secret", Native::Text);
        let mut columns = columns();
        columns.insert(if before { 0 } else { 3 }, canary);
        let mut row = vec![id(key), text("An"), text("x")];
        row.insert(if before { 0 } else { 3 }, text("canary"));
        let rows = [(Op::Insert, vec![row.clone()]), (Op::Update, vec![row])];
        let bound = Mapping::new(&rules(None)).unwrap().bind(&columns).unwrap();
        let mapped = bound.apply(block(&columns, &rows)).unwrap();
        let body = mapped.shareable.body();
        prop_assert_eq!(mapped.shareable.counts().total(), 2);
        prop_assert!(!body.windows(6).any(|bytes| bytes == b"canary"));
    }
}
