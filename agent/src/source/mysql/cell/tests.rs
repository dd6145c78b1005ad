//! Cells as a server writes them, extremes included; each defect of the driver's own reader.

use super::*;
use crate::source::Native;
use crate::source::postgres::text::{Form, to_binary};

fn put(kind: &Kind, code: u8, meta: [u8; 2], cell: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Layout { code, meta }.put(kind, None, cell, &mut out).unwrap();
    out
}

fn numeric(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    to_binary(Form { native: &Native::Numeric, element_oid: 0 }, text.as_bytes(), &mut out)
        .unwrap();
    out
}

#[test]
fn a_time_of_more_digits_than_there_are_is_refused() {
    for bytes in [4, 8, 11, 20] {
        let layout = Layout { code: code::TIME2, meta: [2 * bytes, 0] };
        let cell = vec![0x80; 3 + usize::from(bytes)];
        assert!(layout.put(&Kind::Time, None, &cell, &mut Vec::new()).is_err(), "{bytes}");
    }
}

#[test]
fn a_negative_mediumint_keeps_its_sign() {
    let check = |unsigned: bool, cell: [u8; 3], expected: i32| {
        let kind = Kind::Int { bytes: 3, unsigned };
        assert_eq!(put(&kind, code::INT24, [0; 2], &cell), expected.to_be_bytes());
    };
    check(false, [0xfb, 0xff, 0xff], -5);
    check(false, [0, 0, 0x80], -8_388_608);
    check(false, [0xff, 0xff, 0x7f], 8_388_607);
    check(true, [0xff, 0xff, 0xff], 16_777_215);
}

#[test]
fn unsigned_integers_are_so_without_the_logs_saying_it() {
    let check = |bytes: u8, code: u8, cell: &[u8], expected: &[u8]| {
        assert_eq!(put(&Kind::Int { bytes, unsigned: true }, code, [0; 2], cell), expected);
    };
    check(1, code::TINY, &[255], &[0, 255]);
    check(2, code::SHORT, &[255, 255], &[0, 0, 255, 255]);
    check(4, code::LONG, &[255; 4], &[0, 0, 0, 0, 255, 255, 255, 255]);
    check(8, code::LONGLONG, &[255; 8], &numeric("18446744073709551615"));
}

#[test]
fn the_year_0000_is_not_1900() {
    assert_eq!(put(&Kind::Year, code::YEAR, [0; 2], &[0]), [0, 0]);
    assert_eq!(put(&Kind::Year, code::YEAR, [0; 2], &[1]), 1901_i16.to_be_bytes());
    assert_eq!(put(&Kind::Year, code::YEAR, [0; 2], &[255]), 2155_i16.to_be_bytes());
}

#[test]
fn binary_gets_back_the_zeros_that_the_log_leaves_out() {
    let kind = Kind::Binary { length: 4 };
    assert_eq!(put(&kind, code::STRING, [254, 4], &[1]), [1, 0, 0, 0]);
    assert_eq!(put(&kind, code::STRING, [254, 4], &[]), [0; 4]);
}

#[test]
fn decimals_are_exact_to_the_last_digit() {
    let check = |precision: u8, scale: u8, cell: &[u8], expected: &str| {
        let kind = Kind::Decimal { precision, scale };
        assert_eq!(put(&kind, code::DECIMAL, [precision, scale], cell), numeric(expected));
    };
    check(10, 2, &[0x80, 0x12, 0xd6, 0x87, 0x2d], "1234567.45");
    check(10, 2, &[0x7f, 0xed, 0x29, 0x78, 0xd2], "-1234567.45");
    check(10, 2, &[0x80, 0, 0, 0, 0], "0.00");
    check(4, 4, &[0x80, 5], "0.0005");
    let nines: Vec<u8> = [&[0x80 | 0x3b, 0x9a, 0xc9, 0xff][..], &[0x3b, 0x9a, 0xc9, 0xff]].concat();
    check(18, 0, &nines, "999999999999999999");
}

#[test]
fn times_reach_beyond_a_day_and_below_zero() {
    let check = |meta: u8, cell: &[u8], micros: i64| {
        let expected = [&micros.to_be_bytes()[..], &[0; 8]].concat();
        assert_eq!(put(&Kind::Time, code::TIME2, [meta, 0], cell), expected);
    };
    let hours_838 = (838 * 3_600 + 59 * 60 + 59) * 1_000_000;
    check(0, &[0xb4, 0x6e, 0xfb], hours_838);
    check(0, &[0x4b, 0x91, 0x05], -hours_838);
    check(2, &[0x7f, 0xff, 0xff, 0xce], -500_000);
    check(6, &[0x80, 0x00, 0x01, 0x00, 0x00, 0x01], 1_000_001);
    let old = [&(-3_661_000_000_i64).to_be_bytes()[..], &[0; 8]].concat();
    assert_eq!(put(&Kind::Time, code::TIME, [0; 2], &[0x8b, 0xd8, 0xff]), old);
}

#[test]
fn zero_and_partial_dates_are_told_as_their_text() {
    let date =
        |packed: u32| put(&Kind::Date, code::DATE, [0; 2], packed.to_le_bytes().get(..3).unwrap());
    assert_eq!(date(0), b"0000-00-00");
    assert_eq!(date(2026 << 9 | 15), b"2026-00-15");
    assert_eq!(date(2000 << 9 | 1 << 5 | 2), 1_i32.to_be_bytes());
    let zero = [0x80, 0, 0, 0, 0];
    assert_eq!(put(&Kind::DateTime, code::DATETIME2, [0; 2], &zero), b"0000-00-00 00:00:00");
    assert_eq!(put(&Kind::Timestamp, code::TIMESTAMP2, [0; 2], &[0; 4]), b"0000-00-00 00:00:00");
}

#[test]
fn labels_come_from_the_log_where_it_names_them() {
    let kind = Kind::Enum(Charset::Utf8, vec!["nam".to_owned(), "nữ".to_owned()]);
    assert_eq!(put(&kind, code::ENUM, [247, 1], &[2]), "nữ".as_bytes());
    assert_eq!(put(&kind, code::ENUM, [247, 1], &[0]), b"");
    let layout = Layout { code: code::ENUM, meta: [247, 1] };
    let logged = [b"khac".to_vec(), b"nam".to_vec()];
    let mut out = Vec::new();
    layout.put(&kind, Some(&logged), &[2], &mut out).unwrap();
    assert_eq!(out, b"nam");
    assert!(layout.put(&kind, None, &[3], &mut out).is_err());
    let set = Kind::Set(Charset::Utf8, ["a", "b", "c"].map(str::to_owned).to_vec());
    assert_eq!(put(&set, code::SET, [248, 1], &[0b101]), b"a,c");
    assert_eq!(put(&set, code::SET, [248, 1], &[0]), b"");
}

#[test]
fn bits_are_a_truth_value_or_bytes() {
    assert_eq!(put(&Kind::Bit { bits: 1 }, code::BIT, [1, 0], &[1]), [1]);
    assert_eq!(put(&Kind::Bit { bits: 10 }, code::BIT, [2, 1], &[2, 1]), [2, 1]);
}

#[test]
fn cells_are_taken_by_their_own_length() {
    let check = |code: u8, meta: [u8; 2], bytes: &[u8], content: &[u8]| {
        let mut left = bytes;
        assert_eq!(Layout { code, meta }.take(&mut left), Ok(content), "{code}");
        assert_eq!(left, b"rest", "{code}");
    };
    check(code::VARCHAR, [10, 0], b"\x02abrest", b"ab");
    check(code::VARCHAR, [0, 2], b"\x02\0abrest", b"ab");
    check(code::STRING, [254, 20], b"\x02abrest", b"ab");
    check(code::STRING, [0xee, 0xfc], b"\x02\0abrest", b"ab");
    check(code::BLOB, [3, 0], b"\x02\0\0abrest", b"ab");
    check(code::DECIMAL, [65, 30], &[&[7; 30][..], b"rest"].concat(), &[7; 30]);
    check(code::BIT, [2, 1], b"\x01\x02rest", b"\x01\x02");
    let mut short: &[u8] = b"\x09ab";
    assert_eq!(Layout { code: code::VARCHAR, meta: [10, 0] }.take(&mut short), Err(BadCell::Cut));
    assert_eq!(Layout { code: 20, meta: [0, 0] }.take(&mut short), Err(BadCell::Type(20)));
}
