//! Pure: a value as PostgreSQL writes it in text, turned into the bytes its send function makes.
//!
//! Servers before 14 put only text into the log. The text is the one made under the settings that
//! `session` pins (`DateStyle` ISO, `IntervalStyle` `iso_8601`, `TimeZone` UTC, hex bytea,
//! shortest exact floats), so there is one form to read, and reading it is exact.

use std::net::IpAddr;
use std::str::FromStr;

use crate::source::Native;

/// A text that is not what the type's output function makes under the pinned settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is not in the text form of its type")]
pub struct BadText;

/// What is known of a type when its text is read.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// How its bytes are read.
    pub native: &'a Native,
    /// For an array, the number of its element type, which stands in its head.
    pub element_oid: u32,
}

/// Appends the binary form of `text` to `out`.
///
/// # Errors
/// [`BadText`]; `out` may then hold a part of the value.
pub fn to_binary(form: Form<'_>, text: &[u8], out: &mut Vec<u8>) -> Result<(), BadText> {
    if let Native::Text | Native::Json = form.native {
        out.extend_from_slice(text);
        return Ok(());
    }
    let text = std::str::from_utf8(text).map_err(|_| BadText)?;
    match form.native {
        Native::Bool => out.push(u8::from(text == "t")),
        Native::Int2 => out.extend(number::<i16>(text)?.to_be_bytes()),
        Native::Int4 => out.extend(number::<i32>(text)?.to_be_bytes()),
        Native::Int8 => out.extend(number::<i64>(text)?.to_be_bytes()),
        Native::Float4 => out.extend(number::<f32>(text)?.to_be_bytes()),
        Native::Float8 => out.extend(number::<f64>(text)?.to_be_bytes()),
        Native::Numeric => numeric(text, out)?,
        Native::Text | Native::Json => out.extend_from_slice(text.as_bytes()),
        Native::Jsonb => {
            out.push(1);
            out.extend_from_slice(text.as_bytes());
        }
        Native::Bytea => hex(text.strip_prefix("\\x").ok_or(BadText)?, out)?,
        Native::Uuid => hex(&text.replace('-', ""), out)?,
        Native::Macaddr => hex(&text.replace(':', ""), out)?,
        Native::Date => out.extend(date(text)?.to_be_bytes()),
        Native::Time => out.extend(time_of_day(text)?.to_be_bytes()),
        Native::Timetz => timetz(text, out)?,
        Native::Timestamp => out.extend(timestamp(text)?.to_be_bytes()),
        Native::Timestamptz => out.extend(timestamp(&text.replacen("+00", "", 1))?.to_be_bytes()),
        Native::Interval => interval(text, out)?,
        Native::Inet => network(text, false, out)?,
        Native::Cidr => network(text, true, out)?,
        Native::Range(bound) => range(Form { native: bound, ..form }, text, out)?,
        Native::Array(element) => array(Form { native: element, ..form }, text, out)?,
        // No column of PostgreSQL is read so.
        Native::Tenths(_) | Native::OffsetTenths => return Err(BadText),
    }
    Ok(())
}

fn number<T: FromStr>(text: &str) -> Result<T, BadText> {
    text.parse().map_err(|_| BadText)
}

fn hex(text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return Err(BadText);
    }
    for &[high, low] in pairs {
        out.push((nibble(high)? << 4) | nibble(low)?);
    }
    Ok(())
}

fn nibble(digit: u8) -> Result<u8, BadText> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(BadText),
    }
}

/// `numeric_send`: digit count, weight of the first digit, sign, scale, then base-10000 digits
/// without zeros at either end.
fn numeric(text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    // The scale of an infinity means nothing, but it is what `numeric_send` makes of its header.
    let special = match text {
        "NaN" => Some((0xc000_u16, 0_u16)),
        "Infinity" => Some((0xd000, 32)),
        "-Infinity" => Some((0xf000, 32)),
        _ => None,
    };
    if let Some((sign, scale)) = special {
        let mut head = [0; NUMERIC_HEAD_BYTES];
        put_numeric_head(&mut head, 0, (0, sign, scale));
        out.extend(head);
        return Ok(());
    }
    let (sign, text) = text.strip_prefix('-').map_or((0, text), |rest| (0x4000, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (whole, fraction) = (whole.as_bytes(), fraction.as_bytes());
    let start = out.len();
    out.extend([0; NUMERIC_HEAD_BYTES]);
    // The groups of four digits lie on both sides of the point.
    let (first, rest) = whole.split_at_checked(whole.len() % 4).unwrap_or_default();
    let first = (!first.is_empty()).then_some(first).into_iter();
    let before = first.chain(rest.chunks(4)).map(|group| (group, 0));
    let behind = fraction.chunks(4).map(|group| (group, 4 - group.len()));
    let mut leading = 0_i32;
    for (group, missing) in before.chain(behind) {
        let digit = base_10000(group, missing)?;
        if digit == 0 && out.len() == start + NUMERIC_HEAD_BYTES {
            leading += 1;
        } else {
            out.extend(digit.to_be_bytes());
        }
    }
    while out.len() > start + NUMERIC_HEAD_BYTES && out.ends_with(&[0, 0]) {
        out.truncate(out.len() - 2);
    }
    let count = (out.len() - start - NUMERIC_HEAD_BYTES) / 2;
    // The largest numbers have one group more than the weight can count.
    let groups = i32::try_from(whole.len().div_ceil(4)).map_err(|_| BadText)?;
    let weight = i16::try_from(groups - 1 - leading).map_err(|_| BadText);
    let (weight, sign) = if count == 0 { (0, 0) } else { (weight?, sign) };
    let scale = u16::try_from(fraction.len()).map_err(|_| BadText)?;
    put_numeric_head(out.get_mut(start..).unwrap_or_default(), count, (weight, sign, scale));
    Ok(())
}

/// The value of a group of up to four digits that `missing` zeros follow.
fn base_10000(group: &[u8], missing: usize) -> Result<u16, BadText> {
    let digits = group.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + u16::from(digit - b'0')),
        _ => Err(BadText),
    })?;
    Ok((0..missing).fold(digits, |digits, _| digits * 10))
}

/// Count of groups, weight, sign, scale.
const NUMERIC_HEAD_BYTES: usize = 8;

fn put_numeric_head(out: &mut [u8], count: usize, (weight, sign, scale): (i16, u16, u16)) {
    // At most 131,072 digits before and 16,383 after the point: far below 65,536 groups.
    let count = u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
    let [weight, sign, scale] = [weight.to_be_bytes(), sign.to_be_bytes(), scale.to_be_bytes()];
    let head = [count, weight, sign, scale];
    for (place, bytes) in out.iter_mut().zip(head.as_flattened()) {
        *place = *bytes;
    }
}

const DAY_MICROS: i64 = 86_400_000_000;
/// Days from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar.
const DAYS_TO_2000: i64 = 730_425;

fn date(text: &str) -> Result<i32, BadText> {
    match text {
        "infinity" => Ok(i32::MAX),
        "-infinity" => Ok(i32::MIN),
        _ => {
            let (text, bc) = era(text);
            i32::try_from(day(text, bc)?).map_err(|_| BadText)
        }
    }
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

/// Days since 2000-01-01 of `YYYY-MM-DD`; the year before year 1 is 1 BC.
fn day(text: &str, bc: bool) -> Result<i64, BadText> {
    let mut parts = text.splitn(3, '-');
    let mut next = || parts.next().ok_or(BadText).and_then(part);
    let (year, month, day) = (next()?, next()?, next()?);
    let year = if bc { 1 - year } else { year };
    // The year begins in March, so that a leap day is its last day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Ok(year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - DAYS_TO_2000)
}

fn time_of_day(text: &str) -> Result<i64, BadText> {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().ok_or(BadText);
    let (hours, minutes) = (part(next()?)?, part(next()?)?);
    Ok((hours * 60 + minutes) * 60_000_000 + seconds(next()?)?)
}

/// Microseconds of `SS` or `SS.ffffff`, perhaps with a sign.
fn seconds(text: &str) -> Result<i64, BadText> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 6 {
        return Err(BadText);
    }
    let micros = part(whole)? * 1_000_000 + part(&format!("{fraction:0<6}"))?;
    Ok(if negative { -micros } else { micros })
}

/// A number of at most seven digits, as years are at most: what is made of it cannot overflow.
fn part(text: &str) -> Result<i64, BadText> {
    let value = number::<i64>(text)?;
    if value.unsigned_abs() < 10_000_000 { Ok(value) } else { Err(BadText) }
}

fn timetz(text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    let at = text.rfind(['+', '-']).ok_or(BadText)?;
    let (time, zone) = text.split_at_checked(at).ok_or(BadText)?;
    // PostgreSQL writes the zone east of UTC and stores it west of UTC.
    let (west, zone) = match zone.strip_prefix('-') {
        Some(zone) => (1, zone),
        None => (-1, zone.strip_prefix('+').ok_or(BadText)?),
    };
    let mut seconds = 0;
    for (text, unit) in zone.splitn(3, ':').zip([3_600, 60, 1]) {
        seconds += part(text)? * unit;
    }
    let seconds = i32::try_from(seconds).map_err(|_| BadText)?;
    out.extend(time_of_day(time)?.to_be_bytes());
    out.extend((west * seconds).to_be_bytes());
    Ok(())
}

fn timestamp(text: &str) -> Result<i64, BadText> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, bc) = era(text);
    let (date, time) = text.split_once(' ').ok_or(BadText)?;
    let days = day(date, bc)?.checked_mul(DAY_MICROS).ok_or(BadText)?;
    days.checked_add(time_of_day(time)?).ok_or(BadText)
}

/// `P1Y2M-3DT4H5M-6.5S`: each number has its own sign.
fn interval(text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    let (micros, days, months) = match text {
        "infinity" => (i64::MAX, i32::MAX, i32::MAX),
        "-infinity" => (i64::MIN, i32::MIN, i32::MIN),
        _ => interval_parts(text.strip_prefix('P').ok_or(BadText)?)?,
    };
    out.extend(micros.to_be_bytes());
    out.extend(days.to_be_bytes());
    out.extend(months.to_be_bytes());
    Ok(())
}

fn interval_parts(mut rest: &str) -> Result<(i64, i32, i32), BadText> {
    let (mut micros, mut days, mut months) = (0_i64, 0_i32, 0_i64);
    let mut in_time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (in_time, rest) = (true, after);
            continue;
        }
        let at = rest.find(|c: char| c.is_ascii_uppercase()).ok_or(BadText)?;
        let (value, unit) = rest.split_at_checked(at).ok_or(BadText)?;
        let (unit, after) = unit.split_at_checked(1).ok_or(BadText)?;
        match (unit, in_time) {
            ("Y" | "M", false) => {
                let unit = if unit == "Y" { 12 } else { 1 };
                let more = i64::from(number::<i32>(value)?) * unit;
                months = months.checked_add(more).ok_or(BadText)?;
            }
            ("D", false) => days = number(value)?,
            ("H", true) => {
                let hours = number::<i64>(value)?.checked_mul(3_600_000_000).ok_or(BadText)?;
                micros = micros.checked_add(hours).ok_or(BadText)?;
            }
            ("M", true) => {
                micros = micros.checked_add(part(value)? * 60_000_000).ok_or(BadText)?;
            }
            ("S", true) => micros = micros.checked_add(seconds(value)?).ok_or(BadText)?,
            _ => return Err(BadText),
        }
        rest = after;
    }
    Ok((micros, days, i32::try_from(months).map_err(|_| BadText)?))
}

/// Family, prefix length, whether it is a cidr, length, address.
fn network(text: &str, cidr: bool, out: &mut Vec<u8>) -> Result<(), BadText> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
    let bits = bits.map(number::<u8>).transpose()?;
    let cidr = u8::from(cidr);
    match address.parse::<IpAddr>().map_err(|_| BadText)? {
        IpAddr::V4(address) => {
            out.extend([2, bits.unwrap_or(32), cidr, 4]);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            out.extend([3, bits.unwrap_or(128), cidr, 16]);
            out.extend(address.octets());
        }
    }
    Ok(())
}

/// Writes a length and then what `value` writes.
fn sized(
    out: &mut Vec<u8>,
    value: impl FnOnce(&mut Vec<u8>) -> Result<(), BadText>,
) -> Result<(), BadText> {
    let at = out.len();
    out.extend([0; 4]);
    value(out)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| BadText)?;
    out.get_mut(at..at + 4).ok_or(BadText)?.copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn range(bound: Form<'_>, text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    if text == "empty" {
        out.push(0x01);
        return Ok(());
    }
    let lower_included = text.starts_with('[');
    let upper_included = text.ends_with(']');
    let mut chars = text.get(1..text.len().saturating_sub(1)).ok_or(BadText)?.chars().peekable();
    let (lower, comma) = item(&mut chars, &[',']);
    let (upper, _) = item(&mut chars, &[]);
    if comma.is_none() {
        return Err(BadText);
    }
    let mut flags = if lower_included { 0x02 } else { 0 } | if upper_included { 0x04 } else { 0 };
    flags |= if lower.is_absent() { 0x08 } else { 0 };
    flags |= if upper.is_absent() { 0x10 } else { 0 };
    out.push(flags);
    for side in [lower, upper].iter().filter(|side| !side.is_absent()) {
        sized(out, |out| to_binary(bound, side.text.as_bytes(), out))?;
    }
    Ok(())
}

/// One bound of a range or one element of an array, without its quotes and escapes.
struct Item {
    text: String,
    quoted: bool,
}

impl Item {
    fn is_absent(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Takes an item and the character of `ends` after it, if one comes.
fn item(chars: &mut Chars<'_>, ends: &[char]) -> (Item, Option<char>) {
    let mut item = Item { text: String::new(), quoted: false };
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => item.text.extend(chars.next()),
            // Ranges double a quote inside quotes; arrays escape it.
            '"' if inside && chars.next_if_eq(&'"').is_some() => item.text.push('"'),
            '"' => (inside, item.quoted) = (!inside, true),
            c if !inside && ends.contains(&c) => return (item, Some(c)),
            c => item.text.push(c),
        }
    }
    (item, None)
}

/// What an array's braces hold, gathered before its head can be written.
#[derive(Default)]
struct Elements {
    /// Elements seen at each depth in the first branch: the size of each dimension.
    sizes: Vec<i32>,
    bytes: Vec<u8>,
    has_null: bool,
}

/// No array has more dimensions (PostgreSQL's own limit).
const DIMENSIONS_MAX: usize = 6;

fn array(element: Form<'_>, text: &str, out: &mut Vec<u8>) -> Result<(), BadText> {
    let (bounds, braces) = match text.split_once('=') {
        Some((bounds, braces)) if bounds.starts_with('[') => (lower_bounds(bounds)?, braces),
        _ => (Vec::new(), text),
    };
    let mut elements = Elements::default();
    let mut chars = braces.chars().peekable();
    if braces == "{}" {
        elements.sizes.clear();
    } else {
        chars.next_if_eq(&'{').ok_or(BadText)?;
        level(element, &mut chars, 0, &mut elements)?;
    }
    let dimensions = i32::try_from(elements.sizes.len()).map_err(|_| BadText)?;
    out.extend(dimensions.to_be_bytes());
    out.extend(i32::from(elements.has_null).to_be_bytes());
    out.extend(element.element_oid.to_be_bytes());
    for (depth, size) in elements.sizes.iter().enumerate() {
        out.extend(size.to_be_bytes());
        out.extend(bounds.get(depth).copied().unwrap_or(1).to_be_bytes());
    }
    out.append(&mut elements.bytes);
    Ok(())
}

/// `[-1:2][3:4]`.
fn lower_bounds(text: &str) -> Result<Vec<i32>, BadText> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(BadText)?;
    inner.split("][").map(|pair| number(pair.split_once(':').ok_or(BadText)?.0)).collect()
}

/// Reads what stands after an opening brace up to its closing one.
fn level(
    element: Form<'_>,
    chars: &mut Chars<'_>,
    depth: usize,
    elements: &mut Elements,
) -> Result<(), BadText> {
    if depth == DIMENSIONS_MAX {
        return Err(BadText);
    }
    let first = elements.sizes.len() == depth;
    if first {
        elements.sizes.push(0);
    }
    let mut size = 0;
    loop {
        size += 1;
        let end = if chars.next_if_eq(&'{').is_some() {
            level(element, chars, depth + 1, elements)?;
            chars.next()
        } else {
            let (item, end) = item(chars, &[',', '}']);
            put_element(element, &item, elements)?;
            end
        };
        match end {
            Some(',') => {}
            Some('}') => break,
            _ => return Err(BadText),
        }
    }
    if first {
        *elements.sizes.get_mut(depth).ok_or(BadText)? = size;
    }
    Ok(())
}

fn put_element(element: Form<'_>, item: &Item, elements: &mut Elements) -> Result<(), BadText> {
    if item.text == "NULL" && !item.quoted {
        elements.has_null = true;
        elements.bytes.extend((-1_i32).to_be_bytes());
        return Ok(());
    }
    sized(&mut elements.bytes, |out| to_binary(element, item.text.as_bytes(), out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(native: &Native, text: &str, expected: &[u8]) {
        let mut out = Vec::new();
        let result = to_binary(Form { native, element_oid: 23 }, text.as_bytes(), &mut out);
        assert_eq!(result, Ok(()), "{native:?} {text}");
        assert_eq!(out, expected, "{native:?} {text}");
    }

    fn refuse(native: &Native, text: &str) {
        let mut out = Vec::new();
        let result = to_binary(Form { native, element_oid: 23 }, text.as_bytes(), &mut out);
        assert_eq!(result, Err(BadText), "{native:?} {text}");
    }

    #[test]
    fn numbers() {
        check(&Native::Bool, "t", &[1]);
        check(&Native::Int2, "-2", &[0xff, 0xfe]);
        check(&Native::Int8, "9223372036854775807", &i64::MAX.to_be_bytes());
        check(&Native::Float8, "-Infinity", &f64::NEG_INFINITY.to_be_bytes());
        check(&Native::Float4, "1.1754944e-38", &f32::MIN_POSITIVE.to_be_bytes());
        refuse(&Native::Int2, "40000");
    }

    #[test]
    fn numerics_are_base_10000_without_outer_zeros_and_keep_their_scale() {
        let head = |count: u16, weight: i16, sign: u16, scale: u16, digits: &[u16]| {
            let mut bytes = Vec::new();
            bytes.extend(count.to_be_bytes());
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(scale.to_be_bytes());
            bytes.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
            bytes
        };
        let check = |text: &str, bytes: Vec<u8>| check(&Native::Numeric, text, &bytes);
        check("NaN", head(0, 0, 0xc000, 0, &[]));
        check("-Infinity", head(0, 0, 0xf000, 32, &[]));
        check("0.00", head(0, 0, 0, 2, &[]));
        check("12345.678", head(3, 1, 0, 3, &[1, 2345, 6780]));
        check("-0.00005", head(1, -2, 0x4000, 5, &[5000]));
        check("10000000", head(1, 1, 0, 0, &[1000]));
        check(&"9".repeat(131_072), head(32_768, i16::MAX, 0, 0, &[9_999; 32_768]));
        refuse(&Native::Numeric, "12x");
    }

    #[test]
    fn dates_and_times() {
        check(&Native::Date, "2000-01-01", &[0; 4]);
        check(&Native::Date, "2000-03-01", &60_i32.to_be_bytes());
        check(&Native::Date, "0044-03-15 BC", &(-746_117_i32).to_be_bytes());
        check(&Native::Date, "5874897-12-31", &2_145_031_948_i32.to_be_bytes());
        check(&Native::Date, "infinity", &i32::MAX.to_be_bytes());
        check(&Native::Time, "24:00:00", &DAY_MICROS.to_be_bytes());
        check(&Native::Timestamp, "1999-12-31 23:59:59.5", &(-500_000_i64).to_be_bytes());
        check(&Native::Timestamptz, "2000-01-01 00:00:01+00", &1_000_000_i64.to_be_bytes());
        check(&Native::Timestamptz, "-infinity", &i64::MIN.to_be_bytes());
        let zoned = [&60_000_000_i64.to_be_bytes()[..], &(-25_200_i32).to_be_bytes()].concat();
        check(&Native::Timetz, "00:01:00+07", &zoned);
        let interval = [
            &(-500_000_i64 + 3_600_000_000).to_be_bytes()[..],
            &(-3_i32).to_be_bytes(),
            &14_i32.to_be_bytes(),
        ]
        .concat();
        check(&Native::Interval, "P1Y2M-3DT1H-0.5S", &interval);
        check(&Native::Interval, "PT0S", &[0; 16]);
        refuse(&Native::Timestamp, "2000-01-01");
    }

    /// Found by fuzzing: each was multiplied beyond what the number could hold.
    #[test]
    fn parts_of_dates_and_times_that_no_calendar_has_are_refused() {
        for (native, text) in [
            (Native::Date, "92233720368547758-01-01"),
            (Native::Date, "2000-92233720368547758-01"),
            (Native::Time, "9223372036854775807:00:00"),
            (Native::Time, "00:00:9223372036854775807"),
            (Native::Timetz, "00:00:00+2147483647"),
            (Native::Timetz, "00:00:00+9999999:9999999"),
            (Native::Timestamp, "2000-01-01 00:9223372036854775807:00"),
            (Native::Interval, "P9223372036854775807Y"),
            (Native::Interval, "PT9223372036854775807M"),
            (Native::Interval, "PT6-2021211S"),
        ] {
            refuse(&native, text);
        }
    }

    #[test]
    fn bytes_names_and_addresses() {
        check(&Native::Bytea, "\\x00ff", &[0, 0xff]);
        check(&Native::Jsonb, "{}", b"\x01{}");
        check(&Native::Text, "Huế", "Huế".as_bytes());
        check(&Native::Inet, "10.0.0.1", &[2, 32, 0, 4, 10, 0, 0, 1]);
        check(&Native::Cidr, "10.0.0.0/8", &[2, 8, 1, 4, 10, 0, 0, 0]);
        check(&Native::Macaddr, "08:00:2b:01:02:03", &[8, 0, 0x2b, 1, 2, 3]);
        refuse(&Native::Bytea, "abc");
    }

    #[test]
    fn ranges_and_arrays() {
        let range = Native::Range(Box::new(Native::Int4));
        check(&range, "empty", &[1]);
        check(&range, "(,)", &[0x18]);
        check(&range, "[1,3)", &[2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3]);
        let array = Native::Array(Box::new(Native::Text));
        let bytes = |parts: &[i32], rest: &[u8]| {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_be_bytes()).collect();
            bytes.extend(rest);
            bytes
        };
        check(&array, "{}", &bytes(&[0, 0, 23], b""));
        check(&array, "{a,NULL}", &bytes(&[1, 1, 23, 2, 1, 1], b"a\xff\xff\xff\xff"));
        check(&array, r#"[0:0]={"q\"\\,"}"#, &bytes(&[1, 0, 23, 1, 0, 4], br#"q"\,"#));
        check(&array, r#"{{"NULL"},{""}}"#, &bytes(&[2, 0, 23, 2, 1, 1, 1, 4], b"NULL\0\0\0\0"));
        refuse(&array, "{a");
    }
}
