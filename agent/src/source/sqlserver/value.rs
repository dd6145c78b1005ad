//! Pure: what the driver hands on, as PostgreSQL's bytes of the column's [`Native`] type.
//!
//! Every value is carried exactly or not at all: the select list (`shape`) asks for each type in a
//! form that the driver does not change.

use phusa_protocol::row::put_field;
use phusa_protocol::value::Field;
use tiberius::ColumnData;
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime2, DateTimeOffset, Time};

use crate::source::Native;

/// Days from 0001-01-01 to 2000-01-01.
const DAYS_TO_2000: i64 = 730_119;
/// Tenths of a microsecond: what SQL Server's finest times count.
const TENTHS_PER_DAY: i64 = 864_000_000_000;
/// Ten-thousands a `numeric` counts in.
const BASE: u128 = 10_000;
const BASE_DIGITS: u32 = 4;

/// A value of another type than the select list asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit;

/// Appends one field.
pub(super) fn put(
    native: &Native,
    value: &ColumnData<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let mut write = |bytes: &[u8]| put_field(out, Field::Value(bytes));
    match (native, value) {
        (Native::Bool, ColumnData::Bit(Some(value))) => write(&[u8::from(*value)]),
        (Native::Int2, ColumnData::I16(Some(value))) => write(&value.to_be_bytes()),
        (Native::Int4, ColumnData::I32(Some(value))) => write(&value.to_be_bytes()),
        (Native::Int8, ColumnData::I64(Some(value))) => write(&value.to_be_bytes()),
        (Native::Float4, ColumnData::F32(Some(value))) => write(&value.to_be_bytes()),
        (Native::Float8, ColumnData::F64(Some(value))) => write(&value.to_be_bytes()),
        (Native::Numeric, ColumnData::Numeric(Some(value))) => write(&numeric(*value)),
        (Native::Uuid, ColumnData::Guid(Some(value))) => write(value.as_bytes()),
        (Native::Bytea, ColumnData::Binary(Some(bytes))) => write(bytes),
        (Native::Text, ColumnData::Binary(Some(bytes))) => write(&utf8(bytes).ok_or(Misfit)?),
        (Native::Date, ColumnData::Date(Some(date))) => write(&days(*date).to_be_bytes()),
        (_, ColumnData::Time(Some(_)) | ColumnData::DateTime2(Some(_))) => {
            write(&moment(native, value).ok_or(Misfit)?.to_be_bytes());
        }
        (Native::OffsetTenths, ColumnData::DateTimeOffset(Some(value))) => {
            write(&offset_tenths(*value).ok_or(Misfit)?);
        }
        (_, value) if is_null(value) => put_field(out, Field::Null),
        _ => return Err(Misfit),
    }
    Ok(())
}

/// A key part as text that the server reads back as the very same value; `None` where there is
/// none: null, text that is no Unicode, and types that make no key.
pub(super) fn key_text(native: &Native, value: &ColumnData<'_>) -> Option<String> {
    Some(match (native, value) {
        (Native::Bool, ColumnData::Bit(Some(value))) => u8::from(*value).to_string(),
        (Native::Int2, ColumnData::I16(Some(value))) => value.to_string(),
        (Native::Int4, ColumnData::I32(Some(value))) => value.to_string(),
        (Native::Int8, ColumnData::I64(Some(value))) => value.to_string(),
        (Native::Numeric, ColumnData::Numeric(Some(value))) => decimal_text(*value),
        (Native::Uuid, ColumnData::Guid(Some(value))) => value.to_string(),
        (Native::Bytea, ColumnData::Binary(Some(bytes))) => hex(bytes),
        (Native::Text, ColumnData::Binary(Some(bytes))) => String::from_utf8(utf8(bytes)?).ok()?,
        (Native::Date, ColumnData::Date(Some(date))) => date_text(i64::from(days(*date))),
        (_, ColumnData::Time(Some(time))) => time_text(tenths_of_day(*time)?),
        (_, ColumnData::DateTime2(Some(value))) => moment_text(tenths(*value)?),
        (Native::OffsetTenths, ColumnData::DateTimeOffset(Some(value))) => {
            format!("{} +00:00", moment_text(tenths(value.datetime2())?))
        }
        _ => return None,
    })
}

fn is_null(value: &ColumnData<'_>) -> bool {
    match value {
        ColumnData::U8(value) => value.is_none(),
        ColumnData::I16(value) => value.is_none(),
        ColumnData::I32(value) => value.is_none(),
        ColumnData::I64(value) => value.is_none(),
        ColumnData::F32(value) => value.is_none(),
        ColumnData::F64(value) => value.is_none(),
        ColumnData::Bit(value) => value.is_none(),
        ColumnData::String(value) => value.is_none(),
        ColumnData::Guid(value) => value.is_none(),
        ColumnData::Binary(value) => value.is_none(),
        ColumnData::Numeric(value) => value.is_none(),
        ColumnData::Xml(value) => value.is_none(),
        ColumnData::DateTime(value) => value.is_none(),
        ColumnData::SmallDateTime(value) => value.is_none(),
        ColumnData::Time(value) => value.is_none(),
        ColumnData::Date(value) => value.is_none(),
        ColumnData::DateTime2(value) => value.is_none(),
        ColumnData::DateTimeOffset(value) => value.is_none(),
    }
}

/// UTF-8 of UTF-16. A half of a surrogate pair that stands alone is written in three bytes that are
/// no UTF-8, so that the mapping sets the row aside and counts it. `None` for an odd length.
fn utf8(bytes: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let mut out = Vec::with_capacity(bytes.len());
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(alone) => {
                let [high, low] = alone.unpaired_surrogate().to_be_bytes();
                let middle = 0x80 | (high & 0x0f) << 2 | low >> 6;
                out.extend_from_slice(&[0xed, middle, 0x80 | low & 0x3f]);
            }
        }
    }
    Some(out)
}

fn days(date: Date) -> i32 {
    i32::try_from(i64::from(date.days()) - DAYS_TO_2000).unwrap_or(i32::MAX)
}

/// Tenths of a microsecond since midnight.
fn tenths_of_day(time: Time) -> Option<i64> {
    let finer = 7_u32.checked_sub(u32::from(time.scale()))?;
    i64::try_from(time.increments()).ok()?.checked_mul(10_i64.pow(finer))
}

/// Tenths of a microsecond since 2000-01-01.
fn tenths(value: DateTime2) -> Option<i64> {
    // The wire has room for days long after the year 9999, where the count has none.
    i64::from(days(value.date()))
        .checked_mul(TENTHS_PER_DAY)?
        .checked_add(tenths_of_day(value.time())?)
}

/// The count of a time or timestamp in the units of `native`.
fn moment(native: &Native, value: &ColumnData<'_>) -> Option<i64> {
    let (plain, counted) = if let ColumnData::Time(Some(time)) = value {
        (Native::Time, tenths_of_day(*time)?)
    } else if let ColumnData::DateTime2(Some(value)) = value {
        (Native::Timestamp, tenths(*value)?)
    } else {
        return None;
    };
    if let Native::Tenths(of) = native {
        return (**of == plain).then_some(counted);
    }
    (*native == plain && counted % 10 == 0).then_some(counted / 10)
}

/// The driver gives the moment in UTC and the offset beside it.
fn offset_tenths(value: DateTimeOffset) -> Option<Vec<u8>> {
    let utc = tenths(value.datetime2())?;
    Some([utc.to_be_bytes().as_slice(), &value.offset().to_be_bytes()].concat())
}

/// PostgreSQL's `numeric`: count of digits, weight of the first, sign, scale, digits of 10,000.
fn numeric(value: Numeric) -> Vec<u8> {
    let scale = u32::from(value.scale());
    // The digits after the point fill whole groups of four.
    let padding = (BASE_DIGITS - scale % BASE_DIGITS) % BASE_DIGITS;
    let (mut rest, mut digits) = (value.value().unsigned_abs(), Vec::new());
    let fraction_groups = i32::try_from((scale + padding) / BASE_DIGITS).unwrap_or(0);
    if padding > 0 {
        let split = 10_u128.pow(BASE_DIGITS - padding);
        digits.push(rest % split * 10_u128.pow(padding));
        rest /= split;
    }
    while rest > 0 {
        digits.push(rest % BASE);
        rest /= BASE;
    }
    let mut weight = i32::try_from(digits.len()).unwrap_or(0) - fraction_groups - 1;
    digits.reverse();
    let leading = digits.iter().take_while(|&&digit| digit == 0).count();
    weight -= i32::try_from(leading).unwrap_or(0);
    digits.drain(..leading);
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let sign: u16 = if value.value() < 0 { 0x4000 } else { 0 };
    let weight = if digits.is_empty() { 0 } else { weight };
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(8 + 2 * digits.len());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&i16::try_from(weight).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&u16::from(value.scale()).to_be_bytes());
    for digit in digits {
        out.extend_from_slice(&u16::try_from(digit).unwrap_or(0).to_be_bytes());
    }
    out
}

fn decimal_text(value: Numeric) -> String {
    let scale = usize::from(value.scale());
    let digits = format!("{:0>width$}", value.value().unsigned_abs(), width = scale + 1);
    let sign = if value.value() < 0 { "-" } else { "" };
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

fn time_text(tenths: i64) -> String {
    let (seconds, fraction) = (tenths / 10_000_000, tenths % 10_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    // Three digits where they are enough: `datetime` reads no more.
    let fraction = match fraction % 10_000 {
        0 => format!("{:03}", fraction / 10_000),
        _ => format!("{fraction:07}"),
    };
    format!("{hours:02}:{minutes:02}:{seconds:02}.{fraction}")
}

fn moment_text(tenths: i64) -> String {
    let (day, time) = (tenths.div_euclid(TENTHS_PER_DAY), tenths.rem_euclid(TENTHS_PER_DAY));
    format!("{} {}", date_text(day), time_text(time))
}

/// Year, month and day of a count of days since 2000-01-01 (proleptic Gregorian).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn bytes(native: &Native, value: &ColumnData<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        put(native, value, &mut out).ok()?;
        Some(out.split_off(4))
    }

    #[test]
    fn decimals_keep_every_digit_and_their_scale() {
        let check = |value: i128, scale: u8, expected: &[u16], text: &str| {
            let value = Numeric::new_with_scale(value, scale);
            let expected: Vec<u8> = expected.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(numeric(value), expected, "{text}");
            assert_eq!(decimal_text(value), text);
        };
        check(0, 2, &[0, 0, 0, 2], "0.00");
        check(1, 0, &[1, 0, 0, 0, 1], "1");
        check(10_000, 0, &[1, 1, 0, 0, 1], "10000");
        check(-110, 2, &[2, 0, 0x4000, 2, 1, 1_000], "-1.10");
        check(1, 4, &[1, 0xffff, 0, 4, 1], "0.0001");
        check(1, 5, &[1, 0xfffe, 0, 5, 1_000], "0.00001");
        check(123_456_789, 3, &[3, 1, 0, 3, 12, 3_456, 7_890], "123456.789");
        let most = 10_i128.pow(38) - 1;
        let nines = [9_999_u16; 9];
        let head: Vec<u16> = [10, 9, 0, 0, 99].into_iter().chain(nines).collect();
        check(most, 0, &head, &"9".repeat(38));
    }

    #[test]
    fn times_are_counted_from_2000_and_never_rounded() {
        let date = Date::new(730_119);
        let time = |increments: u64, scale: u8| Time::new(increments, scale);
        let at = |time: Time| ColumnData::DateTime2(Some(DateTime2::new(date, time)));
        let tenths = Native::Tenths(Box::new(Native::Timestamp));
        let count = |count: i64| Some(count.to_be_bytes().to_vec());
        assert_eq!(bytes(&Native::Timestamp, &at(time(500, 3))), count(500_000));
        assert_eq!(bytes(&tenths, &at(time(1, 7))), count(1));
        assert_eq!(bytes(&Native::Timestamp, &at(time(1, 7))), None);
        assert_eq!(
            bytes(&Native::Time, &ColumnData::Time(Some(time(86_399, 0)))),
            count(86_399_000_000)
        );
        assert_eq!(key_text(&tenths, &at(time(1, 7))).unwrap(), "2000-01-01 00:00:00.0000001");
        assert_eq!(
            key_text(&Native::Timestamp, &at(time(3, 3))).unwrap(),
            "2000-01-01 00:00:00.003"
        );
        let offset = DateTimeOffset::new(DateTime2::new(date, time(10, 7)), 420);
        let offset = ColumnData::DateTimeOffset(Some(offset));
        let expected = [10_i64.to_be_bytes().as_slice(), &420_i16.to_be_bytes()].concat();
        assert_eq!(bytes(&Native::OffsetTenths, &offset), Some(expected));
        let first = ColumnData::Date(Some(Date::new(0)));
        assert_eq!(bytes(&Native::Date, &first), Some((-730_119_i32).to_be_bytes().to_vec()));
        assert_eq!(key_text(&Native::Date, &first).unwrap(), "0001-01-01");
    }

    #[test]
    fn text_that_is_no_unicode_is_seen_and_not_mended() {
        let text = |units: &[u16]| {
            let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            ColumnData::Binary(Some(Cow::Owned(bytes)))
        };
        let huyen: Vec<u16> = "Huế 🐃".encode_utf16().collect();
        assert_eq!(bytes(&Native::Text, &text(&huyen)), Some("Huế 🐃".into()));
        let broken = bytes(&Native::Text, &text(&[0x41, 0xd83d, 0x42])).unwrap();
        assert!(std::str::from_utf8(&broken).is_err(), "{broken:?}");
        assert_eq!(broken, b"A\xed\xa0\xbdB");
        assert_eq!(key_text(&Native::Text, &text(&[0xdc00])), None);
        let odd = ColumnData::Binary(Some(Cow::Owned(vec![1])));
        assert_eq!(bytes(&Native::Text, &odd), None);
    }

    #[test]
    fn a_value_of_another_type_is_no_value_and_null_is_null() {
        assert_eq!(bytes(&Native::Int4, &ColumnData::I64(Some(1))), None);
        let mut out = Vec::new();
        assert_eq!(put(&Native::Int4, &ColumnData::I32(None), &mut out), Ok(()));
        assert_eq!(out, (-1_i32).to_be_bytes());
        assert_eq!(key_text(&Native::Int4, &ColumnData::I32(None)), None);
    }
}
