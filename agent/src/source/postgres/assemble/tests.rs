//! What each message of the log becomes, and where a cut transaction goes on.

use phusa_protocol::change::{Change, runs};
use phusa_protocol::row::Tuple;

use super::super::decode;
use super::super::target::tests::sample;
use super::*;

const OID: [u8; 4] = [0, 0, 0x40, 1];

fn assembler(at: u64, open: Option<OpenTx>, settle_until: Option<u64>) -> Assembler {
    let settle_until = settle_until.map(Lsn);
    let following = Following { at: Lsn(at), open, settle_until, told_live: false };
    let mut assembler = Assembler::new(Arc::new(sample()), Limits::default(), following);
    take(&mut assembler, &relation(&[("id", 23), ("ward", 25), ("name", 25)]));
    assembler
}

fn take(assembler: &mut Assembler, message: &[u8]) -> Option<Incomplete> {
    assembler.take(decode::read(message).unwrap()).unwrap()
}

fn relation(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut message = [b"R".as_slice(), &OID, b"public\0t\0d\0"].concat();
    message.push(u8::try_from(columns.len()).unwrap());
    for (name, type_oid) in columns {
        message.push(u8::from(*name != "name"));
        message.extend([name.as_bytes(), &[0], &type_oid.to_be_bytes(), &[255; 4]].concat());
    }
    message
}

fn begin(final_lsn: u64) -> Vec<u8> {
    [b"B".as_slice(), &final_lsn.to_be_bytes(), &[0; 12]].concat()
}

fn commit(end_lsn: u64) -> Vec<u8> {
    [b"C\0".as_slice(), &[0; 8], &end_lsn.to_be_bytes(), &[0; 8]].concat()
}

/// `1·a·u` is the cells "1", "a" and unchanged; `-` is null.
fn cells(text: &str) -> Vec<u8> {
    let mut cells = vec![0, 3];
    for cell in text.split('·') {
        match cell {
            "u" => cells.push(b'u'),
            "-" => cells.push(b'n'),
            cell => {
                cells.push(b't');
                cells.extend(u32::try_from(cell.len()).unwrap().to_be_bytes());
                cells.extend(cell.as_bytes());
            }
        }
    }
    cells
}

fn change(letters: &str, parts: &[&str]) -> Vec<u8> {
    let mut letters = letters.bytes();
    let mut message = vec![letters.next().unwrap()];
    message.extend(OID);
    for (letter, part) in letters.zip(parts) {
        message.push(letter);
        message.extend(cells(part));
    }
    message
}

/// A body as text, columns in the order of the target: ward, id, name.
fn shown(sealed: &Sealed) -> Vec<String> {
    let tuple = |tuple: Tuple<'_>| {
        let field = |field: Field<'_>| match field {
            Field::Null => "-".to_owned(),
            Field::Unchanged => "u".to_owned(),
            Field::Value(bytes) if bytes.len() == 4 => bytes[3].to_string(),
            Field::Value(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        };
        tuple.fields().map(field).collect::<Vec<_>>().join("·")
    };
    let change = |change: Change<'_>| match change {
        Change::Snapshot(new) => format!("S {}", tuple(new)),
        Change::Insert(new) => format!("I {}", tuple(new)),
        Change::Update(new) => format!("U {}", tuple(new)),
        Change::Delete(old) => format!("D {}", tuple(old)),
        Change::Truncate => "T".to_owned(),
        Change::Rekey { old, new } => format!("K {} {}", tuple(old), tuple(new)),
    };
    runs(&sealed.body).flat_map(|run| run.unwrap().changes()).map(|c| change(c.unwrap())).collect()
}

#[test]
fn nothing_is_told_inside_a_transaction_that_an_earlier_connection_began() {
    let open = OpenTx { final_lsn: Lsn(110), changes: 1 };
    let mut assembler = assembler(100, Some(open), None);
    assert!(!assembler.has_become_live() && !assembler.is_between_transactions());
    take(&mut assembler, &begin(110));
    take(&mut assembler, &change("IN", &["1·a·x"]));
    take(&mut assembler, &commit(120));
    assert_eq!(assembler.rows(), 0, "it was handed on before");
    assert!(assembler.has_become_live() && assembler.is_between_transactions());
}

#[test]
fn each_change_has_its_form() {
    let check = |letters: &str, parts: &[&str], expected: &str| {
        let mut assembler = assembler(100, None, None);
        take(&mut assembler, &begin(110));
        assert!(take(&mut assembler, &change(letters, parts)).is_none());
        take(&mut assembler, &commit(120));
        let sealed = assembler.seal();
        assert_eq!(shown(&sealed), [expected], "{letters} {parts:?}");
        assert_eq!((sealed.phase, sealed.tx_open), (Phase::Live, false));
        assert_eq!(sealed.position, "0/78");
    };
    check("IN", &["1·a·x"], "I a·1·x");
    check("IN", &["1·a·-"], "I a·1·-");
    check("UN", &["1·a·u"], "U a·1·u");
    check("UKN", &["1·a·-", "2·a·u"], "K a·1 a·2·u");
    check("UKN", &["1·a·-", "1·a·u"], "U a·1·u");
    check("UON", &["1·a·x", "2·a·u"], "K a·1 a·2·x");
    check("UON", &["1·a·x", "1·u·u"], "U a·1·x");
    check("UKN", &["1·b·-", "2·u·u"], "K b·1 b·2·u");
    check("DK", &["1·a·-"], "D a·1");
    check("DO", &["1·a·x"], "D a·1");
}

#[test]
fn a_transaction_that_was_cut_goes_on_where_it_was_cut() {
    let mut first = assembler(100, None, None);
    take(&mut first, &begin(110));
    take(&mut first, &change("IN", &["1·a·x"]));
    take(&mut first, &change("IN", &["2·a·x"]));
    let sealed = first.seal();
    assert_eq!((sealed.tx_open, sealed.position.as_str()), (true, "0/64+0/6E:2"));
    let place = first.following().clone();
    assert_eq!((place.at, place.open.map(|open| open.changes)), (Lsn(100), Some(2)));

    let mut second = assembler(place.at.0, place.open, None);
    take(&mut second, &begin(90));
    take(&mut second, &change("IN", &["9·a·x"]));
    take(&mut second, &commit(95));
    take(&mut second, &begin(110));
    for row in ["1·a·x", "2·a·x", "3·a·x"] {
        take(&mut second, &change("IN", &[row]));
    }
    take(&mut second, &commit(120));
    assert_eq!(shown(&second.seal()), ["I a·3·x"]);
    assert_eq!(second.following().at, Lsn(120));

    let mut lost = assembler(place.at.0, place.open, None);
    let fault = lost.take(decode::read(&begin(130)).unwrap()).err().unwrap();
    assert_eq!(fault.code, Code::SourceGap);
}

#[test]
fn while_the_read_settles_incomplete_rows_are_asked_for() {
    let mut assembler = assembler(100, None, Some(150));
    take(&mut assembler, &begin(110));
    let moved = take(&mut assembler, &change("UKN", &["1·a·-", "2·a·u"])).unwrap();
    assert_eq!(moved.walk, [2_i32.to_be_bytes().to_vec(), b"a".to_vec()]);
    let row = [Field::Value(b"a"), Field::Value(&[0, 0, 0, 2]), Field::Value(b"read again")];
    let mut tuple = Vec::new();
    phusa_protocol::row::put_tuple(&mut tuple, &row);
    assembler.complete(&moved, Some(&tuple));
    assembler.complete(&moved, None);
    take(&mut assembler, &commit(120));
    let sealed = assembler.seal();
    assert_eq!(shown(&sealed), ["K a·1 a·2·read again", "D a·1", "D a·2"]);
    assert_eq!(sealed.phase, Phase::Settle);
    take(&mut assembler, &begin(160));
    assert!(take(&mut assembler, &change("UN", &["2·a·u"])).is_none());
    take(&mut assembler, &commit(170));
    assert!(!assembler.has_become_live() || assembler.rows() > 0);
    assert_eq!(assembler.seal().phase, Phase::Settle);
    assert!(assembler.has_become_live());
    assert_eq!(assembler.seal().phase, Phase::Live);
    assert!(!assembler.has_become_live());
}

#[test]
fn a_mapped_column_that_is_no_longer_what_it_was_is_named() {
    let check = |columns: &[(&str, u32)], code: Code, words: &str| {
        let message = relation(columns);
        let mut assembler = assembler(0, None, None);
        let fault = assembler.take(decode::read(&message).unwrap()).err().unwrap();
        assert_eq!(fault.code, code);
        assert!(fault.what.contains(words), "{}", fault.what);
    };
    check(&[("id", 23), ("ward", 25)], Code::SourceSchema, "column name");
    check(&[("id", 20), ("ward", 25), ("name", 25)], Code::SourceSchema, "column id");
    let mut narrower = relation(&[("id", 23), ("ward", 25), ("name", 25)]);
    narrower.pop();
    narrower.push(24);
    let mut assembler_of = assembler(0, None, None);
    let fault = assembler_of.take(decode::read(&narrower).unwrap()).err().unwrap();
    assert_eq!(fault.code, Code::SourceGap, "its values were rewritten outside the log");
    let mut wider = assembler(0, None, None);
    take(&mut wider, &relation(&[("new", 23), ("id", 23), ("ward", 25), ("name", 25)]));
}
