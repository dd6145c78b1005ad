//! Events become changes, and everything that hides a change from the log ends it.

use phusa_protocol::change::{Change as Told, runs};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;

use super::super::event::{self, Text};
use super::super::target::tests::sample;
use super::*;

const ARTIFICIAL: u16 = 0x20;

fn head(next: u32) -> Head {
    Head { code: 0, timestamp: 1_000, server_id: 1, length: 30, next, flags: 0 }
}

fn assembler(settle_until: Option<u64>) -> Assembler {
    let at =
        |offset: u64| Position { file: "bin.000001".to_owned(), offset, ..Position::default() };
    let following = Following {
        at: at(100),
        open: None,
        settle_until: settle_until.map(at),
        told_live: false,
        prepared: BTreeMap::new(),
    };
    Assembler::new(Arc::new(sample()), Tracking::File, Limits::default(), following)
}

/// A query in schema `d`.
fn query(assembler: &mut Assembler, next: u32, text: &str) -> Result<bool, Fault> {
    let event = Event::Query { schema: b"d", text: Text::Plain(text.as_bytes()) };
    assembler.take(head(next), &event).map(|asks| matches!(asks, Asks::Look))
}

/// The table map of `d.t (id int, ward varchar(20), name varchar(20))`.
fn table_map(assembler: &mut Assembler, types: [u8; 3], names: &[u8]) -> Result<(), Fault> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 3];
    body.extend(types);
    body.extend([4, 80, 0, 80, 0, 0]);
    body.extend_from_slice(names);
    let raw = Head { code: 19, ..head(0) };
    let event = event::read(raw, &body).unwrap();
    assembler.take(Head { flags: ARTIFICIAL, ..raw }, &event).map(drop)
}

/// Rows of the table: `present` columns, and the images' bytes.
fn rows(
    assembler: &mut Assembler,
    change: Change,
    (present, after): (u8, u8),
    images: &[u8],
) -> Result<Option<Incomplete>, Fault> {
    let rows = Event::Rows(Rows {
        table: 7,
        change,
        column_count: 3,
        present: &[present],
        present_after: &[after],
        images: Text::Plain(images),
    });
    let asks = assembler.take(Head { flags: ARTIFICIAL, ..head(0) }, &rows)?;
    let Asks::Rows(mut cursor) = asks else { return Ok(None) };
    assembler.advance(&mut cursor)
}

/// A whole image of the table, without nulls.
fn image(id: u8, ward: &str, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, id, 0, 0, 0];
    for text in [ward, name] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

const TYPES: [u8; 3] = [3, 15, 15];

/// A transaction that inserts these rows, without its commit.
fn begin(assembler: &mut Assembler, ids: &[u8]) {
    query(assembler, 130, "BEGIN").unwrap();
    table_map(assembler, TYPES, &[]).unwrap();
    for id in ids {
        rows(assembler, Change::Insert, (7, 7), &image(*id, "a", "x")).unwrap();
    }
}

fn commit(assembler: &mut Assembler, next: u32) {
    assembler.take(head(next), &Event::Commit).unwrap();
}

fn shown(sealed: &Sealed) -> Vec<String> {
    let field = |field: Field<'_>| match field {
        Field::Null => "-".to_owned(),
        Field::Unchanged => "u".to_owned(),
        Field::Value([0, 0, 0, id]) => id.to_string(),
        Field::Value(text) => String::from_utf8_lossy(text).into_owned(),
    };
    let tuple = |tuple: Tuple<'_>| tuple.fields().map(field).collect::<Vec<_>>().join("·");
    let change = |change: Told<'_>| match change {
        Told::Snapshot(new) => format!("S {}", tuple(new)),
        Told::Insert(new) => format!("I {}", tuple(new)),
        Told::Update(new) => format!("U {}", tuple(new)),
        Told::Delete(old) => format!("D {}", tuple(old)),
        Told::Truncate => "T".to_owned(),
        Told::Rekey { old, new } => format!("K {} {}", tuple(old), tuple(new)),
    };
    runs(&sealed.body).flat_map(|run| run.unwrap().changes()).map(|c| change(c.unwrap())).collect()
}

#[test]
fn each_change_has_its_form() {
    let check = |change: Change, present: (u8, u8), images: &[u8], expected: &str| {
        let mut assembler = assembler(None);
        begin(&mut assembler, &[]);
        assert_eq!(rows(&mut assembler, change, present, images).unwrap(), None);
        commit(&mut assembler, 200);
        let sealed = assembler.seal();
        assert_eq!(shown(&sealed), [expected], "{change:?}");
        assert_eq!((sealed.phase, sealed.tx_open), (Phase::Live, false));
        assert_eq!(sealed.position, "bin.000001:200");
    };
    let two = |one: &[u8], other: &[u8]| [one, other].concat();
    let whole = (7, 7);
    check(Change::Insert, whole, &image(1, "a", "x"), "I a·1·x");
    check(Change::Insert, whole, &[0b100, 1, 0, 0, 0, 1, b'a'], "I a·1·-");
    check(Change::Delete, whole, &image(1, "a", "x"), "D a·1");
    check(Change::Update, whole, &two(&image(1, "a", "x"), &image(1, "a", "y")), "U a·1·y");
    check(Change::Update, whole, &two(&image(1, "a", "x"), &image(2, "a", "x")), "K a·1 a·2·x");
    check(Change::Update, whole, &two(&image(1, "a", "x"), &image(1, "b", "x")), "K a·1 b·1·x");
    // Minimal images: the key before, what changed after.
    let key = [0, 1, 0, 0, 0, 1, b'a'];
    check(Change::Update, (3, 4), &two(&key, &[0, 1, b'y']), "U a·1·y");
    check(Change::Update, (3, 1), &two(&key, &[0, 2, 0, 0, 0]), "K a·1 a·2·u");
    check(Change::Delete, (3, 3), &key, "D a·1");
}

#[test]
fn a_truncate_is_a_transaction_of_its_own() {
    let mut assembler = assembler(None);
    query(&mut assembler, 150, "truncate table t").unwrap();
    let sealed = assembler.seal();
    assert_eq!((shown(&sealed), sealed.tx_open), (vec!["T".to_owned()], false));
    assert_eq!(assembler.following().at.offset, 150);
}

#[test]
fn a_transaction_that_was_cut_goes_on_where_it_was_cut() {
    let mut first = assembler(None);
    begin(&mut first, &[1, 2]);
    let sealed = first.seal();
    assert_eq!((sealed.tx_open, sealed.position.as_str()), (true, "bin.000001:100+2"));
    let place = first.following().clone();
    let again = || {
        let target = Arc::new(sample());
        Assembler::new(target, Tracking::File, Limits::default(), place.clone())
    };
    let mut second = again();
    assert!(!second.is_between_transactions());
    begin(&mut second, &[1, 2, 3]);
    commit(&mut second, 400);
    assert_eq!(shown(&second.seal()), ["I a·3·x"]);
    assert_eq!(second.following().at.offset, 400);
    assert!(second.is_between_transactions());
    // A log that does not repeat it is another log.
    let mut shorter = again();
    begin(&mut shorter, &[1]);
    let fault = shorter.take(head(400), &Event::Commit).err().unwrap();
    assert_eq!(fault.code, Code::SourceGap);
    let mut other = again();
    other.named(Name::Domain(0, 1, 9));
    let fault = query(&mut other, 150, "BEGIN").err().unwrap();
    assert_eq!(fault.code, Code::SourceGap);
}

#[test]
fn a_transaction_that_a_crash_tore_is_taken_back_unless_a_part_was_handed_on() {
    let rotate = |assembler: &mut Assembler| {
        let rotate = Event::Rotate { file: b"bin.000002", offset: 4 };
        assembler.take(Head { code: 4, ..head(0) }, &rotate).map(drop)
    };
    let mut torn = assembler(None);
    begin(&mut torn, &[1]);
    commit(&mut torn, 200);
    torn.named(Name::Domain(0, 1, 9));
    begin(&mut torn, &[2, 3]);
    rotate(&mut torn).unwrap();
    // The server gave the name to another transaction.
    torn.named(Name::Domain(0, 1, 9));
    begin(&mut torn, &[4]);
    commit(&mut torn, 300);
    assert_eq!(shown(&torn.seal()), ["I a·1·x", "I a·4·x"]);
    assert_eq!(torn.following().at.to_string(), "bin.000002:300");
    let mut inside_an_event = assembler(None);
    begin(&mut inside_an_event, &[2]);
    inside_an_event.torn("bin.000002".to_owned()).unwrap();
    assert_eq!((inside_an_event.rows(), inside_an_event.following().open.as_ref()), (0, None));
    assert_eq!(inside_an_event.following().at.to_string(), "bin.000002:4");
    let mut handed_on = assembler(None);
    begin(&mut handed_on, &[2]);
    assert!(handed_on.seal().tx_open);
    rows(&mut handed_on, Change::Insert, (7, 7), &image(3, "a", "x")).unwrap();
    assert_eq!(rotate(&mut handed_on).unwrap_err().code, Code::SourceGap);
    assert_eq!(handed_on.torn("bin.000002".to_owned()).unwrap_err().code, Code::SourceGap);
}

#[test]
fn whatever_changes_the_table_beside_the_log_is_a_gap() {
    let check = |text: &str, words: &str| {
        let mut assembler = assembler(None);
        let fault = query(&mut assembler, 150, text).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap, "{text}");
        assert!(fault.what.contains(words), "{}", fault.what);
    };
    check("update t set name = 'x'", "by a statement");
    check("drop table t", "dropped");
    check("rename table t to old, new to t", "renamed");
    check("XA COMMIT X'61',X'',1", "XA");
    let check = |event: Event<'static>| {
        let mut assembler = assembler(None);
        begin(&mut assembler, &[1]);
        let fault = assembler.take(head(150), &event).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap);
    };
    check(Event::Incident);
    check(Event::PartialRows { table: 7 });
    check(Event::Query { schema: b"d", text: Text::Plain(b"ROLLBACK TO `a`") });
    check(Event::Query { schema: b"d", text: Text::Plain(b"ROLLBACK") });
    let mut assembler = assembler(None);
    query(&mut assembler, 150, "update other set name = 't'").unwrap();
    assert!(query(&mut assembler, 160, "alter table t add x int").unwrap());
}

#[test]
fn prepared_transactions_count_when_they_are_committed() {
    let prepare = |assembler: &mut Assembler, ids: &[u8], name: &str| {
        query(assembler, 120, "XA START X'61',X'',1").unwrap();
        begin(assembler, ids);
        let event = Event::Prepare { one_phase: false, name: name.to_owned() };
        assembler.take(head(200), &event).unwrap();
    };
    let mut harmless = assembler(None);
    prepare(&mut harmless, &[], "61,");
    query(&mut harmless, 300, "XA COMMIT X'61',X'',1").unwrap();
    assert_eq!((harmless.rows(), harmless.following().at.offset), (0, 300));
    let mut touched = assembler(None);
    prepare(&mut touched, &[1], "61,");
    assert_eq!(touched.rows(), 0, "it may yet be taken back");
    assert!(query(&mut touched, 300, "XA COMMIT X'61',X'',1").is_err());
    let mut taken_back = assembler(None);
    prepare(&mut taken_back, &[1], "61,");
    query(&mut taken_back, 300, "XA ROLLBACK X'61',X'',1").unwrap();
    assert!(taken_back.following().prepared.is_empty());
}

#[test]
fn while_the_read_settles_incomplete_rows_are_asked_for() {
    let key = [0, 1, 0, 0, 0, 1, b'a'];
    let images = [&key[..], &[0, 2, 0, 0, 0]].concat();
    let mut assembler = assembler(Some(500));
    begin(&mut assembler, &[]);
    let moved = rows(&mut assembler, Change::Update, (3, 1), &images).unwrap().unwrap();
    assert_eq!(moved.walk, ["2", "_utf8mb4 x'61'"]);
    let mut tuple = Vec::new();
    let row = [Field::Value(b"a"), Field::Value(&[0, 0, 0, 2]), Field::Value(b"read again")];
    phusa_protocol::row::put_tuple(&mut tuple, &row);
    assembler.complete(&moved, Some(&tuple));
    assembler.complete(&moved, None);
    commit(&mut assembler, 300);
    let sealed = assembler.seal();
    assert_eq!(shown(&sealed), ["K a·1 a·2·read again", "D a·1", "D a·2"]);
    assert_eq!(sealed.phase, Phase::Settle);
    begin(&mut assembler, &[]);
    commit(&mut assembler, 500);
    assert!(assembler.has_become_live());
    assert_eq!(assembler.seal().phase, Phase::Live);
    assert!(!assembler.has_become_live());
}

#[test]
fn a_new_row_without_all_its_columns_is_asked_for_at_any_time() {
    let mut assembler = assembler(None);
    begin(&mut assembler, &[]);
    let row = rows(&mut assembler, Change::Insert, (3, 3), &[0, 1, 0, 0, 0, 1, b'a']);
    assert_eq!(row.unwrap().unwrap().walk, ["1", "_utf8mb4 x'61'"]);
}

#[test]
fn a_mapped_column_that_is_no_longer_what_it_was_is_named() {
    let check = |types: [u8; 3], names: &[u8], words: Option<&str>| {
        let mut assembler = assembler(None);
        let result = table_map(&mut assembler, types, names);
        assert!(result.as_ref().err().is_none_or(|fault| fault.code == Code::SourceSchema));
        let what = result.err().map(|fault| fault.what).unwrap_or_default();
        assert_eq!(what.is_empty(), words.is_none(), "{what}");
        assert!(what.contains(words.unwrap_or_default()), "{what}");
    };
    check(TYPES, &[], None);
    check([8, 15, 15], &[], Some("other columns in the log"));
    let names = |id: &[u8; 2]| [&[4, 13, 2][..], id, b"\x04ward\x04name"].concat();
    check(TYPES, &names(b"id"), None);
    check(TYPES, &names(b"ix"), Some("no longer has the column id"));
    check([8, 15, 15], &names(b"id"), Some("column id of d.t is no longer int(11)"));
}

#[test]
fn a_row_without_the_contracts_key_is_refused() {
    let mut assembler = assembler(None);
    begin(&mut assembler, &[]);
    let fault = rows(&mut assembler, Change::Delete, (1, 1), &[0, 1, 0, 0, 0]).err().unwrap();
    assert_eq!(fault.code, Code::SourceKeyMissing);
}

#[test]
fn positions_follow_files_and_stand_only_between_transactions() {
    let mut assembler = assembler(None);
    let rotate = Event::Rotate { file: b"bin.000002", offset: 4 };
    assembler.take(Head { code: 4, ..head(0) }, &rotate).unwrap();
    assert_eq!(assembler.following().at.to_string(), "bin.000002:4");
    assembler.named(Name::Domain(0, 1, 7));
    assembler.take(head(50), &Event::Gtid).unwrap();
    assert_eq!(assembler.following().at.offset, 4, "a named transaction has begun");
    begin(&mut assembler, &[1]);
    assert_eq!(assembler.following().at.offset, 4);
    commit(&mut assembler, 180);
    let at = &assembler.following().at;
    assert_eq!((at.offset, at.domains.get(&0)), (180, Some(&(1, 7))));
    let nameless = Event::Rotate { file: b"", offset: 4 };
    assert!(assembler.take(Head { code: 4, ..head(0) }, &nameless).is_err());
}
