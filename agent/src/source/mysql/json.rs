//! Pure: MySQL's binary JSON becomes the text that the server itself prints for it.

use super::cell::{code, decimal_text, unpacked};
use super::value::BadValue;

/// Objects and arrays inside each other; the server's own limit.
const DEPTH_MAX: u8 = 100;

/// What may still be read of a document.
///
/// Values are found by pointers, and nothing in the format keeps two from leading to the same place,
/// or to a container around them: a hundred bytes would be written out without end. No server does
/// that, so the parts of a document together are no longer than it is.
struct Left {
    depth: u8,
    bytes: usize,
}

impl Left {
    fn take(&mut self, bytes: usize) -> Result<(), BadValue> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(BadValue)?;
        Ok(())
    }
}

/// Appends the text of a document; an empty one is the `null` that a column of an older server
/// may hold.
pub(super) fn put(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    match bytes.split_first() {
        None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        Some((kind, content)) => {
            let mut left = Left { depth: DEPTH_MAX, bytes: bytes.len() };
            put_value(*kind, content, &mut left, out)
        }
    }
}

fn put_value(kind: u8, bytes: &[u8], left: &mut Left, out: &mut Vec<u8>) -> Result<(), BadValue> {
    left.take(1)?;
    match kind {
        0x00 | 0x01 => put_container(&Container::of(bytes, kind == 0x01, true)?, left, out),
        0x02 | 0x03 => put_container(&Container::of(bytes, kind == 0x03, false)?, left, out),
        0x04 => put_literal(*bytes.first().ok_or(BadValue)?, out),
        0x05 => put_shown(i16::from_le_bytes(head(bytes)?), out),
        0x06 => put_shown(u16::from_le_bytes(head(bytes)?), out),
        0x07 => put_shown(i32::from_le_bytes(head(bytes)?), out),
        0x08 => put_shown(u32::from_le_bytes(head(bytes)?), out),
        0x09 => put_shown(i64::from_le_bytes(head(bytes)?), out),
        0x0a => put_shown(u64::from_le_bytes(head(bytes)?), out),
        0x0b => put_double(f64::from_le_bytes(head(bytes)?), out),
        0x0c => {
            let text = sized(bytes)?;
            left.take(text.len())?;
            put_string(text, out)
        }
        0x0f => {
            let (kind, content) = bytes.split_first().ok_or(BadValue)?;
            let content = sized(content)?;
            left.take(content.len())?;
            put_opaque(*kind, content, out)
        }
        _ => Err(BadValue),
    }
}

fn head<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BadValue> {
    bytes.first_chunk().copied().ok_or(BadValue)
}

fn put_shown(value: impl std::fmt::Display, out: &mut Vec<u8>) -> Result<(), BadValue> {
    out.extend(value.to_string().into_bytes());
    Ok(())
}

fn put_literal(literal: u8, out: &mut Vec<u8>) -> Result<(), BadValue> {
    out.extend_from_slice(match literal {
        0 => b"null",
        1 => b"true",
        2 => b"false",
        _ => return Err(BadValue),
    });
    Ok(())
}

/// Content after a length of 7 bits a byte, the lowest first.
fn sized(bytes: &[u8]) -> Result<&[u8], BadValue> {
    let mut length = 0_usize;
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..at + 1 + length).ok_or(BadValue);
        }
    }
    Err(BadValue)
}

/// An object or array: count, size, entries of keys, entries of values, and what they point to.
struct Container<'a> {
    bytes: &'a [u8],
    wide: bool,
    is_object: bool,
    count: usize,
}

impl<'a> Container<'a> {
    fn of(bytes: &'a [u8], wide: bool, is_object: bool) -> Result<Self, BadValue> {
        let mut container = Self { bytes, wide, is_object, count: 0 };
        container.count = container.number(0)?;
        Ok(container)
    }

    fn number_bytes(&self) -> usize {
        if self.wide { 4 } else { 2 }
    }

    fn number(&self, at: usize) -> Result<usize, BadValue> {
        let bytes = self.bytes.get(at..at + self.number_bytes()).ok_or(BadValue)?;
        let number = bytes.iter().rev().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte));
        usize::try_from(number).map_err(|_| BadValue)
    }

    fn key(&self, index: usize) -> Result<&'a [u8], BadValue> {
        let at = 2 * self.number_bytes() + index * (self.number_bytes() + 2);
        let start = self.number(at)?;
        let length = self.bytes.get(at + self.number_bytes()..).ok_or(BadValue)?;
        let length = usize::from(u16::from_le_bytes(head(length)?));
        self.bytes.get(start..start + length).ok_or(BadValue)
    }

    /// The kind of a value and its bytes, which stand in the entry itself where they fit.
    fn value(&self, index: usize) -> Result<(u8, &'a [u8]), BadValue> {
        let keys = if self.is_object { self.count * (self.number_bytes() + 2) } else { 0 };
        let at = 2 * self.number_bytes() + keys + index * (self.number_bytes() + 1);
        let kind = *self.bytes.get(at).ok_or(BadValue)?;
        let is_inline = matches!(kind, 0x04..=0x06) || (self.wide && matches!(kind, 0x07 | 0x08));
        let start = if is_inline { at + 1 } else { self.number(at + 1)? };
        Ok((kind, self.bytes.get(start..).ok_or(BadValue)?))
    }
}

fn put_container(
    container: &Container<'_>,
    left: &mut Left,
    out: &mut Vec<u8>,
) -> Result<(), BadValue> {
    left.depth = left.depth.checked_sub(1).ok_or(BadValue)?;
    let (open, close) = if container.is_object { (b'{', b'}') } else { (b'[', b']') };
    out.push(open);
    for index in 0..container.count {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        if container.is_object {
            let key = container.key(index)?;
            left.take(key.len())?;
            put_string(key, out)?;
            out.extend_from_slice(b": ");
        }
        let (kind, bytes) = container.value(index)?;
        put_value(kind, bytes, left, out)?;
    }
    left.depth += 1;
    out.push(close);
    Ok(())
}

fn put_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend(format!("\\u{byte:04x}").into_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    Ok(())
}

/// Digits before the point up to which a number without a fraction is written out.
const POINT_MAX: i32 = 15;

/// The shortest digits that read back as the same number, with an exponent where the server uses
/// one.
fn put_double(value: f64, out: &mut Vec<u8>) -> Result<(), BadValue> {
    let shown = format!("{:e}", value.abs());
    let (mantissa, exponent) = shown.split_once('e').ok_or(BadValue)?;
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().map_err(|_| BadValue)?;
    let count = i32::try_from(digits.len()).map_err(|_| BadValue)?;
    // Where the point stands, counted from the first digit.
    let point = if value == 0.0 { 1 } else { exponent + 1 };
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let text = if point > -POINT_MAX && (point <= POINT_MAX || count > point) {
        if point <= 0 {
            format!("0.{}{digits}", zeros(-point))
        } else if count > point {
            let (whole, fraction) =
                digits.split_at_checked(usize::try_from(point).unwrap_or(0)).ok_or(BadValue)?;
            format!("{whole}.{fraction}")
        } else {
            format!("{digits}{}.0", zeros(point - count))
        }
    } else {
        shown
    };
    out.extend(text.into_bytes());
    Ok(())
}

/// A value of a type that JSON itself does not have.
fn put_opaque(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    match kind {
        code::DECIMAL => {
            let (meta, cell) = bytes.split_first_chunk::<2>().ok_or(BadValue)?;
            out.extend(decimal_text(*meta, cell).ok_or(BadValue)?.into_bytes());
            Ok(())
        }
        code::DATE | code::TIMESTAMP | code::DATETIME | code::TIME => {
            let text = temporal(kind, i64::from_le_bytes(head(bytes)?))?;
            put_string(text.as_bytes(), out)
        }
        _ => {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            put_string(format!("base64:type{kind}:{encoded}").as_bytes(), out)
        }
    }
}

fn temporal(kind: u8, packed: i64) -> Result<String, BadValue> {
    let magnitude = packed.unsigned_abs();
    let (whole, micros) = (magnitude >> 24, magnitude & 0xff_ffff);
    if kind == code::TIME {
        let (hour, minute, second) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
        let sign = if packed < 0 { "-" } else { "" };
        return Ok(format!("{sign}{hour:02}:{minute:02}:{second:02}.{micros:06}"));
    }
    let micros = u32::try_from(micros).map_err(|_| BadValue)?;
    let ((year, month, day), clock) = unpacked(whole, micros).map_err(|_| BadValue)?;
    let date = format!("{year:04}-{month:02}-{day:02}");
    if kind == code::DATE {
        return Ok(date);
    }
    let (hour, minute, second) = (clock.hour, clock.minute, clock.second);
    Ok(format!("{date} {hour:02}:{minute:02}:{second:02}.{micros:06}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, BadValue> {
        let mut out = Vec::new();
        put(bytes, &mut out)?;
        String::from_utf8(out).map_err(|_| BadValue)
    }

    #[test]
    fn numbers_are_written_as_the_server_writes_them() {
        let check = |value: f64, expected: &str| {
            let bytes = [&[0x0b][..], &value.to_le_bytes()].concat();
            assert_eq!(text(&bytes).as_deref(), Ok(expected));
        };
        check(0.0, "0.0");
        check(-0.5, "-0.5");
        check(1.0, "1.0");
        check(0.001, "0.001");
        check(123_456.789, "123456.789");
        check(1e14, "100000000000000.0");
        check(1e15, "1e15");
        check(1.5e300, "1.5e300");
        check(1e-15, "0.000000000000001");
        check(1e-16, "1e-16");
        check(1_234_567_890_123_456.0, "1.234567890123456e15");
        assert_eq!(text(&[0x05, 0xfe, 0xff]).as_deref(), Ok("-2"));
        assert_eq!(
            text(&[0x0a, 255, 255, 255, 255, 255, 255, 255, 255]).as_deref(),
            Ok("18446744073709551615")
        );
    }

    #[test]
    fn containers_strings_and_literals() {
        // {"a": [1, "é\n"], "bb": null}
        let document = [
            0x00, 2, 0, 44, 0, 18, 0, 1, 0, 19, 0, 2, 0, 0x02, 21, 0, 0x04, 0, 0, b'a', b'b', b'b',
            2, 0, 14, 0, 0x05, 1, 0, 0x0c, 10, 0, 3, 0xc3, 0xa9, b'\n',
        ];
        assert_eq!(text(&document).as_deref(), Ok(r#"{"a": [1, "é\n"], "bb": null}"#));
        assert_eq!(text(&[0x04, 1]).as_deref(), Ok("true"));
        assert_eq!(text(&[]).as_deref(), Ok("null"));
        assert_eq!(text(&[0x0c, 3, b'"', b'\\', 1]).as_deref(), Ok(r#""\"\\\u0001""#));
        assert_eq!(text(&[0x0c, 9, b'a']), Err(BadValue));
        assert_eq!(text(&[0x00, 9]), Err(BadValue));
    }

    #[test]
    fn a_document_whose_pointers_lead_back_into_it_is_refused_at_once() {
        // An array of two, each of which is the array itself.
        let itself = [0x02, 2, 0, 10, 0, 0x02, 0, 0, 0x02, 0, 0];
        assert_eq!(text(&itself), Err(BadValue));
        // A hundred times the same long text.
        let mut same = vec![0x02, 100, 0, 0xff, 0xff];
        let start = 4 + 3 * 100_u16;
        same.extend((0..100).flat_map(|_| [&[0x0c][..], &start.to_le_bytes()].concat()));
        same.extend([&[0x64][..], &[b'x'; 100]].concat());
        assert_eq!(text(&same), Err(BadValue));
    }
}
