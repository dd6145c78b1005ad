//! Mapped values for people's eyes: the screen of `preview` and the agency's own rejects file, and
//! never a log.

use phusa_protocol::value::{Field, Kind};

use super::text::{self, take_sized};
use crate::source::Native;

/// Bytes of a `bytea` that are shown before the rest is only counted.
const BYTES_SHOWN: usize = 32;

/// A mapped value in words.
#[must_use]
pub fn render(kind: Kind, bytes: &[u8]) -> String {
    render_native(&native(kind), Field::Value(bytes))
}

/// A source's value in words; bytes that are no text in Unicode byte by byte.
#[must_use]
pub fn render_source(native: &Native, field: Field<'_>) -> String {
    if let Field::Value(bytes) = field
        && *native == Native::Text
        && std::str::from_utf8(bytes).is_err()
    {
        return hexadecimal(bytes);
    }
    render_native(native, field)
}

/// A source's value in words.
pub(super) fn render_native(native: &Native, field: Field<'_>) -> String {
    let bytes = match field {
        Field::Value(bytes) => bytes,
        Field::Null => return "null".to_owned(),
        Field::Unchanged => return "(unchanged)".to_owned(),
    };
    let words = if let Native::Array(element) = native {
        list(element, bytes)
    } else if *native == Native::Float4 {
        bytes.try_into().ok().map(|bytes| f32::from_be_bytes(bytes).to_string())
    } else if *native == Native::Float8 {
        bytes.try_into().ok().map(|bytes| f64::from_be_bytes(bytes).to_string())
    } else if *native == Native::Bytea {
        Some(hexadecimal(bytes))
    } else {
        exact_text(native, bytes)
    };
    words.unwrap_or_else(|| format!("({} bytes that are no such value)", bytes.len()))
}

fn exact_text(native: &Native, bytes: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    text::put(native, bytes, &mut out).ok()?;
    String::from_utf8(out).ok()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(BYTES_SHOWN).map(|byte| format!("{byte:02x}"));
    let rest = bytes.len().saturating_sub(BYTES_SHOWN);
    let more = if rest > 0 { format!("… ({rest} bytes more)") } else { String::new() };
    format!("\\x{}{more}", shown.collect::<String>())
}

/// The elements in order, without the dimensions.
fn list(element: &Native, bytes: &[u8]) -> Option<String> {
    let dimensions = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    let shape_bytes = usize::try_from(dimensions).ok()?.checked_mul(8)?.checked_add(12)?;
    let mut rest = bytes.get(shape_bytes..)?;
    let mut words = Vec::new();
    while !rest.is_empty() {
        let value = take_sized(&mut rest).ok()?;
        words.push(render_native(element, value.map_or(Field::Null, Field::Value)));
    }
    Some(format!("{{{}}}", words.join(", ")))
}

/// The source type whose bytes a contract type has.
fn native(kind: Kind) -> Native {
    match kind {
        Kind::Bool => Native::Bool,
        Kind::Int2 => Native::Int2,
        Kind::Int4 => Native::Int4,
        Kind::Int8 => Native::Int8,
        Kind::Numeric => Native::Numeric,
        Kind::Float4 => Native::Float4,
        Kind::Float8 => Native::Float8,
        Kind::Text => Native::Text,
        Kind::Bytea => Native::Bytea,
        Kind::Date => Native::Date,
        Kind::Time => Native::Time,
        Kind::Timestamp => Native::Timestamp,
        Kind::Timestamptz => Native::Timestamptz,
        Kind::Uuid => Native::Uuid,
        Kind::Jsonb => Native::Jsonb,
        Kind::TextArray => Native::Array(Box::new(Native::Text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_put_into_words() {
        let check = |kind: Kind, bytes: &[u8], expected: &str| {
            assert_eq!(render(kind, bytes), expected, "{kind}");
        };
        check(Kind::Bool, &[1], "true");
        check(Kind::Int4, &[0, 0, 0, 7], "7");
        check(Kind::Float8, &0.1_f64.to_be_bytes(), "0.1");
        check(Kind::Text, "Huế".as_bytes(), "Huế");
        check(Kind::Bytea, &[0xca, 0xfe], "\\xcafe");
        check(Kind::Date, &[0, 0, 0, 0], "2000-01-01");
        check(Kind::Jsonb, b"\x01{}", "{}");
        let list = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1];
        let list = [&list[..], &[0, 0, 0, 1, b'a'], &[0xff; 4]].concat();
        check(Kind::TextArray, &list, "{a, null}");
        check(Kind::Int4, &[1], "(1 bytes that are no such value)");
        assert!(render(Kind::Bytea, &[0; 40]).ends_with("… (8 bytes more)"));
        for kind in Kind::ALL {
            assert!(!render(kind, &[0xff; 3]).is_empty());
        }
    }
}
