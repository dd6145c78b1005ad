//! Pure: the parts of a key, as they lie in blocks, as SQL. The server alone compares them.

use std::fmt::Write as _;

use super::catalogue::literal;
use super::kind::Kind;

/// A part of a key as SQL, so that comparing it with its column is exact; `None` for bytes that
/// are not of its column's form.
pub(super) fn part(kind: &Kind, bytes: &[u8]) -> Option<String> {
    Some(match kind {
        Kind::Int { bytes: 8, unsigned: true } | Kind::Decimal { .. } => decimal(bytes)?,
        Kind::Int { .. } | Kind::Year => integer(bytes)?.to_string(),
        Kind::Bit { bits: 1 } => integer(bytes)?.to_string(),
        Kind::Bit { .. } => {
            bytes.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte)).to_string()
        }
        // An introduced literal takes on the collation of the column.
        Kind::Text(_) => format!("_utf8mb4 {}", hexadecimal(bytes)),
        // Ordered by number, not by name.
        Kind::Enum(_, labels) if bytes.is_empty() && !labels.iter().any(String::is_empty) => {
            "0".to_owned()
        }
        Kind::Enum(_, labels) => {
            let at = labels.iter().position(|label| label.as_bytes() == bytes)?;
            (at + 1).to_string()
        }
        Kind::Binary { .. } | Kind::Bytes => hexadecimal(bytes),
        Kind::Date => match bytes.try_into() {
            Ok(days) => literal(&day(i64::from(i32::from_be_bytes(days)))),
            Err(_) => literal(std::str::from_utf8(bytes).ok()?),
        },
        Kind::DateTime | Kind::Timestamp => match bytes.try_into() {
            Ok(micros) => literal(&moment(i64::from_be_bytes(micros))),
            Err(_) => literal(std::str::from_utf8(bytes).ok()?),
        },
        Kind::Time => literal(&span(i64::from_be_bytes(*bytes.first_chunk()?))),
        Kind::Float | Kind::Double | Kind::Set(..) | Kind::Json => return None,
    })
}

fn integer(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    let sign = if first & 0x80 != 0 && bytes.len() > 1 { -1 } else { 0 };
    (bytes.len() <= 8).then(|| bytes.iter().fold(sign, |sum, &byte| sum << 8 | i64::from(byte)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = "x'".to_owned();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

/// The text of PostgreSQL's binary decimal.
fn decimal(bytes: &[u8]) -> Option<String> {
    let (words, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let word = |at: usize| words.get(at).map(|word| u16::from_be_bytes(*word));
    let (weight, sign, scale) =
        (i32::from(word(1)?.cast_signed()), word(2)?, usize::from(word(3)?));
    let digits = words.get(4..)?;
    let digit = |position: i32| {
        let at = usize::try_from(weight - position).ok();
        let found = at.and_then(|at| digits.get(at)).map(|digit| u16::from_be_bytes(*digit));
        format!("{:04}", found.unwrap_or(0))
    };
    let whole: String = (0..=weight.max(0)).rev().map(digit).collect();
    let whole = whole.trim_start_matches('0');
    let groups = i32::try_from(scale.div_ceil(4)).ok()?;
    let fraction: String = (1..=groups).map(|at| digit(-at)).collect();
    let fraction = fraction.get(..scale)?;
    let sign = if sign == 0x4000 { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

const DAY_MICROS: i64 = 86_400_000_000;

/// `2026-11-21` of days since 2000-01-01.
fn day(days: i64) -> String {
    // Counted from the 1st of March of the year 0, so that a leap day is its year's last.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn moment(micros: i64) -> String {
    let (days, clock) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    format!("{} {}", day(days), span(clock))
}

fn span(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, fraction) =
        (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}")
}

#[cfg(test)]
mod tests {
    use super::super::kind::Charset;
    use super::super::value::{Clock, put_date, put_decimal, put_moment, put_span};
    use super::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    #[test]
    fn each_part_is_exact_sql() {
        let check = |kind: Kind, bytes: &[u8], expected: Option<&str>| {
            assert_eq!(part(&kind, bytes).as_deref(), expected, "{kind:?}");
        };
        let int = |bytes: u8, unsigned: bool| Kind::Int { bytes, unsigned };
        check(int(4, false), &(-7_i32).to_be_bytes(), Some("-7"));
        check(int(8, false), &i64::MIN.to_be_bytes(), Some("-9223372036854775808"));
        check(int(1, true), &255_i16.to_be_bytes(), Some("255"));
        check(Kind::Text(Charset::Utf8), "ế".as_bytes(), Some("_utf8mb4 x'e1babf'"));
        check(Kind::Text(Charset::Utf8), b"", Some("_utf8mb4 x''"));
        check(Kind::Bytes, b"\0'", Some("x'0027'"));
        check(Kind::Bit { bits: 10 }, &[2, 1], Some("513"));
        let labels = Kind::Enum(Charset::Utf8, vec!["b".to_owned(), "a".to_owned()]);
        check(labels.clone(), b"a", Some("2"));
        check(labels.clone(), b"", Some("0"));
        check(labels, b"c", None);
        check(Kind::Double, &[0; 8], None);
    }

    #[test]
    fn decimals_and_moments_come_back_as_they_were() {
        for text in ["0", "0.00", "-1.50", "18446744073709551615", "12345.6789", "0.00005", "10000"]
        {
            let bytes = written(|out| put_decimal(text.as_bytes(), out).unwrap());
            assert_eq!(decimal(&bytes).as_deref(), Some(text));
        }
        for (day, text) in [
            ((2026, 2, 28), "2026-02-28"),
            ((2000, 2, 29), "2000-02-29"),
            ((1, 1, 1), "0001-01-01"),
            ((9999, 12, 31), "9999-12-31"),
            ((1999, 12, 31), "1999-12-31"),
            ((2026, 2, 31), "2026-02-31"),
        ] {
            let bytes = written(|out| put_date(day, out));
            assert_eq!(part(&Kind::Date, &bytes), Some(format!("'{text}'")));
        }
        let clock = Clock { hour: 23, minute: 59, second: 58, micros: 7 };
        let bytes = written(|out| put_moment((1999, 12, 31), clock, out));
        assert_eq!(part(&Kind::DateTime, &bytes).as_deref(), Some("'1999-12-31 23:59:58.000007'"));
        let bytes = written(|out| put_span(-(838 * 3_600 + 59) * 1_000_000, out));
        assert_eq!(part(&Kind::Time, &bytes).as_deref(), Some("'-838:00:59.000000'"));
    }
}
