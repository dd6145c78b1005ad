//! Masks hide what they say, and nothing is masked by mistake.

use hmac::Mac as _;

use super::*;
use crate::config::secret::SecretFile;
use crate::mapping::field::Recipe;

fn masked(native: Native, kind: Kind, mask: Mask, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let rule = FieldRule {
        name: "ho_ten".to_owned(),
        kind,
        nullable: true,
        from: Some("name".to_owned()),
        recipe: Recipe::default(),
        mask,
        terms: Terms::default(),
    };
    let column = Column {
        name: "name".to_owned(),
        type_name: "source type".to_owned(),
        native,
        nullable: true,
    };
    let hmac = Pseudonym::new_from_slice(b"Jefe").unwrap();
    let step = Step::bind(&rule, &[column], false, Some(&hmac))?;
    let mut out = Vec::new();
    let (steps, mut bench) = ([], Bench::default());
    let neighbours = Neighbours { row: None, steps: &steps, unchanged_allowed: true };
    let mut scene = Scene { neighbours: &neighbours, bench: &mut bench, index: 0, fresh: true };
    let put = step.put(Field::Value(bytes), &mut scene, &mut out);
    put.map_err(|rule| rule.to_string()).map(|()| out.split_off(4))
}

#[test]
fn keep_last_counts_characters() {
    let check = |count: usize, text: &str, expected: &str| {
        let found = masked(Native::Text, Kind::Text, Mask::KeepLast(count), text.as_bytes());
        assert_eq!(found.as_deref(), Ok(expected.as_bytes()), "{text}");
    };
    check(4, "001099001234", "********1234");
    check(3, "Huế", "**ế");
    check(2, "Huế", "**ế");
    check(1, "Hue\u{302}\u{301}", "**ế");
    check(9, "ngắn", "**ắn");
    check(0, "Huế", "***");
    check(2, "", "");
    let number = masked(Native::Int4, Kind::Text, Mask::KeepLast(1), &[0, 0, 0, 42]);
    assert_eq!(number.as_deref(), Ok(b"*2".as_slice()));
}

#[test]
fn year_is_all_that_is_left_of_a_date() {
    let date = 10_000_i32.to_be_bytes();
    let check = |kind: Kind, bytes: &[u8], expected: Result<&[u8], &str>| {
        let found = masked(Native::Date, kind, Mask::Year, bytes);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{kind}");
    };
    check(Kind::Int2, &date, Ok(&2027_i16.to_be_bytes()));
    check(Kind::Int4, &date, Ok(&2027_i32.to_be_bytes()));
    check(Kind::Text, &date, Ok(b"2027"));
    check(Kind::Int2, &2_000_000_000_i32.to_be_bytes(), Err("year_out_of_range"));
    check(Kind::Text, &i32::MAX.to_be_bytes(), Err("year_unknown"));
    check(Kind::Text, &(-730_120_i32).to_be_bytes(), Ok(b"-1"));
    let moment = masked(Native::Timestamptz, Kind::Text, Mask::Year, &(-1_i64).to_be_bytes());
    assert_eq!(moment.as_deref(), Ok(b"1999".as_slice()));
    let refused = masked(Native::Text, Kind::Text, Mask::Year, b"2026").unwrap_err();
    assert!(refused.starts_with("column `name` (source type) has no year for `ho_ten`"));
}

#[test]
fn a_pseudonym_is_the_hmac_of_the_text() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let mask = || Mask::Hmac(SecretFile::Credential("unused".to_owned()));
    let message = b"what do ya want for nothing?";
    let text = masked(Native::Text, Kind::Text, mask(), message);
    assert_eq!(text.as_deref(), Ok(expected.as_bytes()));
    let bytes = masked(Native::Bytea, Kind::Bytea, mask(), message).unwrap();
    assert_eq!((bytes.len(), bytes[0]), (32, 0x5b));
    let composed = masked(Native::Text, Kind::Text, mask(), "Huế".as_bytes());
    let loose = masked(Native::Text, Kind::Text, mask(), "Hue\u{302}\u{301}".as_bytes());
    assert_eq!(composed, loose);
    let number = masked(Native::Int4, Kind::Text, mask(), &[0, 0, 0, 42]);
    assert_eq!(number, masked(Native::Text, Kind::Text, mask(), b"42"));
}
