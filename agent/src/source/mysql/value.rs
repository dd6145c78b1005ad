//! Pure: values become the bytes of their PostgreSQL type, exactly.
//!
//! A date that is none (`0000-00-00`, `2026-00-15`, `2026-02-31`) has no such bytes. It is written
//! as its text, which no date's length has: mapping lets it pass into a text and refuses it else.

use mysql_async::Value;
use phusa_protocol::row::begin_tuple;

use super::kind::{Charset, Kind};
use crate::source::Native;
use crate::source::postgres::text::{Form, to_binary};

/// Bytes or a value that its column cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is not what its column's type holds")]
pub(super) struct BadValue;

/// Begins a tuple of so many fields.
pub(super) fn put_tuple_head(out: &mut Vec<u8>, fields: usize) {
    begin_tuple(out, fields);
}

/// Appends a field: the length and then what `put` writes.
pub(super) fn put_sized(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), BadValue>,
) -> Result<(), BadValue> {
    let at = out.len();
    out.extend([0; 4]);
    put(out)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| BadValue)?;
    out.get_mut(at..at + 4).ok_or(BadValue)?.copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends a value as a query returned it.
pub(super) fn put_queried(kind: &Kind, value: &Value, out: &mut Vec<u8>) -> Result<(), BadValue> {
    match (kind, value) {
        (Kind::Int { .. } | Kind::Year, Value::Int(value)) => put_int(kind, (*value).into(), out),
        (Kind::Int { .. } | Kind::Year, Value::UInt(value)) => put_int(kind, (*value).into(), out),
        (Kind::Int { .. } | Kind::Year, Value::Bytes(text)) => {
            let text = std::str::from_utf8(text).map_err(|_| BadValue)?;
            put_int(kind, text.parse().map_err(|_| BadValue)?, out)
        }
        (Kind::Float, Value::Float(value)) => put_bytes(&value.to_be_bytes(), out),
        (Kind::Double, Value::Double(value)) => put_bytes(&value.to_be_bytes(), out),
        (Kind::Decimal { .. }, Value::Bytes(text)) => put_decimal(text, out),
        (Kind::Bit { bits }, Value::Bytes(bytes)) => put_bits(*bits, bytes, out),
        (Kind::Text(_) | Kind::Enum(..) | Kind::Set(..) | Kind::Json, Value::Bytes(bytes))
        | (Kind::Binary { .. } | Kind::Bytes, Value::Bytes(bytes)) => put_bytes(bytes, out),
        (Kind::Date, Value::Date(year, month, day, ..)) => {
            put_date((*year, *month, *day), out);
            Ok(())
        }
        (
            Kind::DateTime | Kind::Timestamp,
            Value::Date(year, month, day, hour, minute, second, micros),
        ) => {
            let clock = Clock { hour: *hour, minute: *minute, second: *second, micros: *micros };
            put_moment((*year, *month, *day), clock, out);
            Ok(())
        }
        (Kind::Time, Value::Time(negative, days, hours, minutes, seconds, micros)) => {
            let hours = u64::from(*days) * 24 + u64::from(*hours);
            let whole = (hours * 60 + u64::from(*minutes)) * 60 + u64::from(*seconds);
            // The wire has room for days that no TIME has.
            let span =
                whole.checked_mul(1_000_000).and_then(|span| span.checked_add((*micros).into()));
            let span = span.and_then(|span| i64::try_from(span).ok()).ok_or(BadValue)?;
            put_span(if *negative { -span } else { span }, out);
            Ok(())
        }
        _ => Err(BadValue),
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    out.extend_from_slice(bytes);
    Ok(())
}

/// An integer in the form of its column.
pub(super) fn put_int(kind: &Kind, value: i128, out: &mut Vec<u8>) -> Result<(), BadValue> {
    let native = kind.native();
    if native == Native::Int2 {
        out.extend(i16::try_from(value).map_err(|_| BadValue)?.to_be_bytes());
    } else if native == Native::Int4 {
        out.extend(i32::try_from(value).map_err(|_| BadValue)?.to_be_bytes());
    } else if native == Native::Int8 {
        out.extend(i64::try_from(value).map_err(|_| BadValue)?.to_be_bytes());
    } else {
        put_decimal(value.to_string().as_bytes(), out)?;
    }
    Ok(())
}

/// A decimal from its text; it keeps its scale.
pub(super) fn put_decimal(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let form = Form { native: &Native::Numeric, element_oid: 0 };
    to_binary(form, text, out).map_err(|_| BadValue)
}

/// One bit is a truth value; more are bytes, the highest first.
pub(super) fn put_bits(bits: u16, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    match (bits, bytes) {
        (1, [byte]) => out.push(u8::from(*byte != 0)),
        (1, _) => return Err(BadValue),
        _ => out.extend_from_slice(bytes),
    }
    Ok(())
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Clock {
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    pub(super) micros: u32,
}

impl Clock {
    fn micros_of_day(self) -> i64 {
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute);
        (minutes * 60 + i64::from(self.second)) * 1_000_000 + i64::from(self.micros)
    }
}

/// Year, month, day, as the server stores them: any of them may be 0.
pub(super) type Day = (u16, u8, u8);

const DAY_MICROS: i64 = 86_400_000_000;

/// Days since 2000-01-01, or the text of what is no date.
pub(super) fn put_date(day: Day, out: &mut Vec<u8>) {
    match days(day).and_then(|days| i32::try_from(days).ok()) {
        Some(days) => out.extend(days.to_be_bytes()),
        None => out.extend(day_text(day).into_bytes()),
    }
}

/// Microseconds since 2000-01-01, or the text of what is no date.
pub(super) fn put_moment(day: Day, clock: Clock, out: &mut Vec<u8>) {
    match days(day) {
        Some(days) => out.extend((days * DAY_MICROS + clock.micros_of_day()).to_be_bytes()),
        None => {
            let Clock { hour, minute, second, micros } = clock;
            let mut text = format!("{} {hour:02}:{minute:02}:{second:02}", day_text(day));
            if micros > 0 {
                text += format!(".{micros:06}").trim_end_matches('0');
            }
            out.extend(text.into_bytes());
        }
    }
}

/// Seconds between 1970-01-01 and 2000-01-01.
const UNIX_TO_2000: i64 = 946_684_800;

/// A moment from seconds since 1970; second 0 stands for the zero date.
pub(super) fn put_unix(seconds: u32, micros: u32, out: &mut Vec<u8>) {
    if seconds == 0 {
        return put_moment((0, 0, 0), Clock { micros, ..Clock::default() }, out);
    }
    let micros = (i64::from(seconds) - UNIX_TO_2000) * 1_000_000 + i64::from(micros);
    out.extend(micros.to_be_bytes());
}

/// A span of time as an interval of microseconds.
pub(super) fn put_span(micros: i64, out: &mut Vec<u8>) {
    out.extend(micros.to_be_bytes());
    out.extend([0; 8]);
}

fn day_text((year, month, day): Day) -> String {
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days since 2000-01-01 of a day that the calendar has.
fn days((year, month, day): Day) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > length {
        return None;
    }
    // The year begins in March, so that a leap day is its last day.
    let (year, month) = (i64::from(year), i64::from(month));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leaps + (153 * month + 2) / 5 + i64::from(day) - 1 - 730_425)
}

/// Appends a text of the log as UTF-8.
pub(super) fn put_text(charset: Charset, bytes: &[u8], out: &mut Vec<u8>) {
    match charset {
        Charset::Utf8 => out.extend_from_slice(bytes),
        Charset::Latin1 => {
            let mut letters = [0; 4];
            for &byte in bytes {
                out.extend_from_slice(latin1(byte).encode_utf8(&mut letters).as_bytes());
            }
        }
    }
}

/// The letters of Windows-1252 from 0x80 to 0x9f; its gaps are the control characters of that
/// number, as the server reads them.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn latin1(byte: u8) -> char {
    let at = usize::from(byte).checked_sub(0x80);
    at.and_then(|at| WINDOWS_1252.get(at)).copied().unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    #[test]
    fn dates_are_days_and_what_is_none_is_its_text() {
        let check = |day: Day, expected: &[u8]| {
            assert_eq!(written(|out| put_date(day, out)), expected, "{day:?}");
        };
        check((2000, 1, 1), &[0; 4]);
        check((2000, 3, 1), &60_i32.to_be_bytes());
        check((1999, 12, 31), &(-1_i32).to_be_bytes());
        check((9999, 12, 31), &2_921_939_i32.to_be_bytes());
        check((1, 1, 1), &(-730_119_i32).to_be_bytes());
        check((0, 0, 0), b"0000-00-00");
        check((2026, 0, 15), b"2026-00-15");
        check((2026, 2, 31), b"2026-02-31");
        check((0, 5, 1), b"0000-05-01");
    }

    #[test]
    fn moments_are_microseconds_and_what_is_none_is_its_text() {
        let clock = Clock { hour: 0, minute: 0, second: 1, micros: 500_000 };
        let check = |day: Day, expected: &[u8]| {
            assert_eq!(written(|out| put_moment(day, clock, out)), expected, "{day:?}");
        };
        check((2000, 1, 1), &1_500_000_i64.to_be_bytes());
        check((2026, 0, 0), b"2026-00-00 00:00:01.5");
        let unix = |seconds: u32| written(|out| put_unix(seconds, 0, out));
        assert_eq!(unix(946_684_801), 1_000_000_i64.to_be_bytes());
        assert_eq!(unix(0), b"0000-00-00 00:00:00");
    }

    #[test]
    fn integers_fit_their_column_or_are_refused() {
        let check = |kind: Kind, value: i128, expected: Option<&[u8]>| {
            let mut out = Vec::new();
            let result = put_int(&kind, value, &mut out);
            assert_eq!(result.ok().map(|()| out.as_slice()), expected, "{kind:?} {value}");
        };
        check(Kind::Int { bytes: 1, unsigned: true }, 255, Some(&[0, 255]));
        check(Kind::Int { bytes: 3, unsigned: false }, -5, Some(&[0xff, 0xff, 0xff, 0xfb]));
        check(
            Kind::Int { bytes: 4, unsigned: true },
            4_294_967_295,
            Some(&[0, 0, 0, 0, 255, 255, 255, 255]),
        );
        check(Kind::Int { bytes: 4, unsigned: false }, 4_294_967_295, None);
        let most = written(|out| put_decimal(b"18446744073709551615", out).unwrap());
        check(Kind::Int { bytes: 8, unsigned: true }, i128::from(u64::MAX), Some(&most));
    }

    #[test]
    fn a_time_of_more_days_than_there_are_is_refused() {
        let check = |days: u32, expected: bool| {
            let value = Value::Time(true, days, 0, 0, 0, 0);
            assert_eq!(put_queried(&Kind::Time, &value, &mut Vec::new()).is_ok(), expected);
        };
        check(34, true);
        check(u32::MAX, false);
    }

    #[test]
    fn latin1_is_what_the_server_reads_it_as() {
        let check = |bytes: &[u8], expected: &str| {
            let out = written(|out| put_text(Charset::Latin1, bytes, out));
            assert_eq!(out, expected.as_bytes());
        };
        check(b"Hu\xe9 \x80\x93", "Hué €“");
        check(b"\x81\x8d\x8f\x90\x9d\xff", "\u{81}\u{8d}\u{8f}\u{90}\u{9d}ÿ");
    }
}
