//! Conversions between source and contract types, exact or refused.
//!
//! | from | to |
//! |---|---|
//! | any contract type | itself |
//! | int2, int4, int8 | every wider integer, numeric |
//! | float4 | float8 |
//! | time and timestamp in tenths of a microsecond | the same in microseconds, where the tenth is 0 |
//! | interval of microseconds within a day (MySQL's time) | time |
//! | text, and every type that has an exact text ([`super::text`]) | text, in NFC |
//! | a list of any of those | `text[]` |
//!
//! `json` keeps white space, order and repetition, which `jsonb` in the warehouse would not; so it
//! travels as text. Everything else is refused by name before a row is read.

use phusa_protocol::value::Kind;

use super::moment;
use super::nfc;
use super::number;
use super::quality::Rule;
use super::text::{self, exact, take_sized};
use crate::source::Native;

/// How the bytes of a column become those of a contract field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conversion {
    /// As they are; their length is checked.
    Same(Kind),
    /// As they are once the text is in NFC.
    Text,
    /// An integer with more bytes.
    Widen(Kind),
    /// An integer as a decimal.
    ToNumeric,
    /// A float with twice the bits.
    ToFloat8,
    /// Microseconds out of tenths of them; what else stands after the count is left out.
    ToMicros,
    /// An interval that is a time of day.
    ToTime,
    /// The exact text.
    ToText(Native),
    /// The exact text of each element.
    ToTextArray(Native),
}

impl Conversion {
    /// The exact way from `native` to `kind`.
    ///
    /// # Errors
    /// Where there is none: the contract type that would do, if one would.
    pub(super) fn choose(native: &Native, kind: Kind) -> Result<Self, Option<Kind>> {
        if own_kind(native) == Some(kind) {
            return Ok(if kind == Kind::Text { Self::Text } else { Self::Same(kind) });
        }
        match (native, kind) {
            (Native::Int2, Kind::Int4 | Kind::Int8) | (Native::Int4, Kind::Int8) => {
                Ok(Self::Widen(kind))
            }
            (Native::Int2 | Native::Int4 | Native::Int8, Kind::Numeric) => Ok(Self::ToNumeric),
            (Native::Float4, Kind::Float8) => Ok(Self::ToFloat8),
            (Native::Tenths(of), kind) if own_kind(of) == Some(kind) => Ok(Self::ToMicros),
            (Native::OffsetTenths, Kind::Timestamptz) => Ok(Self::ToMicros),
            (Native::Interval, Kind::Time) => Ok(Self::ToTime),
            (Native::Array(element), Kind::TextArray) if text::exists(element) => {
                Ok(Self::ToTextArray(Native::clone(element)))
            }
            (native, Kind::Text) if text::exists(native) => Ok(Self::ToText(native.clone())),
            (native, _) => Err(proposal(native)),
        }
    }

    /// Appends the converted value.
    ///
    /// # Errors
    /// The rule that the value breaks; `out` may then hold a part.
    pub(super) fn put(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
        match self {
            Self::Same(kind) if kind.fits(bytes) => out.extend_from_slice(bytes),
            Self::Same(kind) => return Err(misfit(*kind, bytes)),
            Self::Text => nfc::put(bytes, out)?,
            Self::Widen(Kind::Int4) => {
                out.extend_from_slice(&i32::from(i16::from_be_bytes(exact(bytes)?)).to_be_bytes());
            }
            Self::Widen(_) => out.extend_from_slice(&integer(bytes)?.to_be_bytes()),
            Self::ToNumeric => number::put_integer(integer(bytes)?, out),
            Self::ToFloat8 => {
                out.extend_from_slice(&f64::from(f32::from_be_bytes(exact(bytes)?)).to_be_bytes());
            }
            Self::ToMicros => out.extend_from_slice(&micros(bytes)?.to_be_bytes()),
            Self::ToTime => out.extend_from_slice(&time_of_day(bytes)?.to_be_bytes()),
            Self::ToText(native) => text::put(native, bytes, out)?,
            Self::ToTextArray(element) => put_text_array(element, bytes, out)?,
        }
        Ok(())
    }
}

/// Why bytes do not fit their own type.
fn misfit(kind: Kind, bytes: &[u8]) -> Rule {
    let is_dated = matches!(kind, Kind::Date | Kind::Timestamp | Kind::Timestamptz);
    if is_dated && moment::partial(bytes).is_some() { Rule::DatePartial } else { Rule::Malformed }
}

/// Microseconds since midnight of an interval without days and months.
fn time_of_day(bytes: &[u8]) -> Result<i64, Rule> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let (micros, rest) = bytes.split_first_chunk::<8>().ok_or(Rule::Malformed)?;
    let micros = i64::from_be_bytes(*micros);
    let days_and_months: [u8; 8] = exact(rest)?;
    let fits = days_and_months == [0; 8] && (0..=DAY_MICROS).contains(&micros);
    if fits { Ok(micros) } else { Err(Rule::TimeOutOfRange) }
}

/// The contract type whose bytes are the source's own.
fn own_kind(native: &Native) -> Option<Kind> {
    Some(match native {
        Native::Bool => Kind::Bool,
        Native::Int2 => Kind::Int2,
        Native::Int4 => Kind::Int4,
        Native::Int8 => Kind::Int8,
        Native::Numeric => Kind::Numeric,
        Native::Float4 => Kind::Float4,
        Native::Float8 => Kind::Float8,
        Native::Text => Kind::Text,
        Native::Bytea => Kind::Bytea,
        Native::Date => Kind::Date,
        Native::Time => Kind::Time,
        Native::Timestamp => Kind::Timestamp,
        Native::Timestamptz => Kind::Timestamptz,
        Native::Uuid => Kind::Uuid,
        Native::Jsonb => Kind::Jsonb,
        Native::Timetz
        | Native::Interval
        | Native::Json
        | Native::Inet
        | Native::Cidr
        | Native::Macaddr
        | Native::Range(_)
        | Native::Array(_)
        | Native::Tenths(_)
        | Native::OffsetTenths => return None,
    })
}

/// The contract type that carries this type exactly.
fn proposal(native: &Native) -> Option<Kind> {
    if let Native::Array(element) = native {
        return text::exists(element).then_some(Kind::TextArray);
    }
    own_kind(native).or_else(|| text::exists(native).then_some(Kind::Text))
}

/// Microseconds of a count of tenths of them. None is dropped: a value that is finer breaks a rule.
fn micros(bytes: &[u8]) -> Result<i64, Rule> {
    let tenths = i64::from_be_bytes(*bytes.first_chunk().ok_or(Rule::Malformed)?);
    if tenths % 10 == 0 { Ok(tenths / 10) } else { Err(Rule::FinerThanMicroseconds) }
}

/// An integer of 2, 4 or 8 bytes.
pub(super) fn integer(bytes: &[u8]) -> Result<i64, Rule> {
    match bytes.len() {
        2 => Ok(i64::from(i16::from_be_bytes(exact(bytes)?))),
        4 => Ok(i64::from(i32::from_be_bytes(exact(bytes)?))),
        _ => Ok(i64::from_be_bytes(exact(bytes)?)),
    }
}

/// The object identifier of `text` in every PostgreSQL.
const TEXT_OID: u32 = 25;
/// PostgreSQL allows no array more dimensions.
const DIMENSIONS_MAX: u32 = 6;
const DIMENSION_BYTES: usize = 8;

/// `dimensions · has nulls · element type`, a length and a lower bound per dimension, elements.
/// The shape stays; the element type becomes text.
fn put_text_array(element: &Native, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let (head, rest) = bytes.split_first_chunk::<12>().ok_or(Rule::Malformed)?;
    let &[d0, d1, d2, d3, n0, n1, n2, n3, ..] = head;
    let dimensions = u32::from_be_bytes([d0, d1, d2, d3]);
    if dimensions > DIMENSIONS_MAX {
        return Err(Rule::Malformed);
    }
    let shape_bytes = DIMENSION_BYTES * usize::try_from(dimensions).unwrap_or(0);
    let (shape, mut elements) = rest.split_at_checked(shape_bytes).ok_or(Rule::Malformed)?;
    out.extend_from_slice(&[d0, d1, d2, d3, n0, n1, n2, n3]);
    out.extend_from_slice(&TEXT_OID.to_be_bytes());
    out.extend_from_slice(shape);
    while !elements.is_empty() {
        match take_sized(&mut elements)? {
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => put_sized(out, |out| text::put(element, value, out))?,
        }
    }
    Ok(())
}

/// Appends what `put` writes, with its length before it.
pub(super) fn put_sized(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), Rule>,
) -> Result<(), Rule> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out)?;
    // A value of 2 GiB or more cannot come out of a row that fits into a block.
    let length = i32::try_from(out.len() - start - 4).map_err(|_| Rule::RowBytesMax)?;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn array(oid: u8, elements: &[Option<&[u8]>]) -> Vec<u8> {
        let count = u8::try_from(elements.len()).unwrap();
        let mut out = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, oid, 0, 0, 0, count, 0, 0, 0, 1];
        for element in elements {
            match element {
                Some(bytes) => {
                    out.extend([0, 0, 0, u8::try_from(bytes.len()).unwrap()]);
                    out.extend_from_slice(bytes);
                }
                None => out.extend([0xff; 4]),
            }
        }
        out
    }

    #[test]
    fn conversions_are_exact() {
        let check = |native: Native, kind: Kind, bytes: &[u8], expected: Result<&[u8], Rule>| {
            let conversion = Conversion::choose(&native, kind).unwrap();
            let mut out = Vec::new();
            let result = conversion.put(bytes, &mut out).map(|()| out.as_slice());
            assert_eq!(result, expected, "{native:?} {kind}");
        };
        check(Native::Int2, Kind::Int4, &[0xff, 0xfe], Ok(&[0xff, 0xff, 0xff, 0xfe]));
        check(Native::Int4, Kind::Int8, &[0, 0, 0, 7], Ok(&[0, 0, 0, 0, 0, 0, 0, 7]));
        check(Native::Int8, Kind::Numeric, &[0; 8], Ok(&[0; 8]));
        check(Native::Float4, Kind::Float8, &1.5_f32.to_be_bytes(), Ok(&1.5_f64.to_be_bytes()));
        check(Native::Int4, Kind::Int4, &[0; 3], Err(Rule::Malformed));
        let tenths = Native::Tenths(Box::new(Native::Timestamp));
        let count = |tenths: i64| tenths.to_be_bytes();
        let finer = Err(Rule::FinerThanMicroseconds);
        check(tenths.clone(), Kind::Timestamp, &count(-70), Ok(&count(-7)));
        check(tenths.clone(), Kind::Timestamp, &count(71), finer);
        check(tenths, Kind::Text, &count(71), Ok(b"2000-01-01 00:00:00.0000071"));
        let there = [count(10).as_slice(), &420_i16.to_be_bytes()].concat();
        check(Native::OffsetTenths, Kind::Timestamptz, &there, Ok(&count(1)));
        let shown = b"2000-01-01 07:00:00.000001+07";
        check(Native::OffsetTenths, Kind::Text, &there, Ok(shown));
        check(Native::Json, Kind::Text, b"{\"a\" :1}", Ok(b"{\"a\" :1}"));
        check(Native::Text, Kind::Text, "e\u{301}".as_bytes(), Ok("é".as_bytes()));
        let zero: &[u8] = b"0000-00-00";
        check(Native::Date, Kind::Date, zero, Err(Rule::DatePartial));
        check(Native::Date, Kind::Text, zero, Ok(zero));
        check(Native::Timestamp, Kind::Timestamp, b"2026-00-15 08:30:00", Err(Rule::DatePartial));
        check(Native::Date, Kind::Date, b"2026-00-1x", Err(Rule::Malformed));
        let span = |micros: i64, days: i32| {
            [&micros.to_be_bytes()[..], &days.to_be_bytes(), &[0; 4]].concat()
        };
        check(Native::Interval, Kind::Time, &span(7, 0), Ok(&7_i64.to_be_bytes()));
        check(Native::Interval, Kind::Time, &span(-1, 0), Err(Rule::TimeOutOfRange));
        check(Native::Interval, Kind::Time, &span(86_400_000_001, 0), Err(Rule::TimeOutOfRange));
        check(Native::Interval, Kind::Time, &span(7, 1), Err(Rule::TimeOutOfRange));
        let list = |element: Native| Native::Array(Box::new(element));
        let names = [Some("ê".as_bytes()), None];
        check(list(Native::Text), Kind::TextArray, &array(211, &names), Ok(&array(25, &names)));
        let numbers = array(21, &[Some(&[0, 7]), None]);
        let shown = array(25, &[Some(b"7"), None]);
        check(list(Native::Int2), Kind::TextArray, &numbers, Ok(&shown));
    }

    #[test]
    fn what_is_not_exact_is_refused_with_what_would_do() {
        let check = |native: Native, kind: Kind, proposal: Option<Kind>| {
            assert_eq!(Conversion::choose(&native, kind), Err(proposal), "{native:?} {kind}");
        };
        check(Native::Int8, Kind::Int4, Some(Kind::Int8));
        check(Native::Numeric, Kind::Float8, Some(Kind::Numeric));
        check(Native::Json, Kind::Jsonb, Some(Kind::Text));
        check(Native::Tenths(Box::new(Native::Time)), Kind::Timestamp, Some(Kind::Text));
        check(Native::Interval, Kind::Int8, Some(Kind::Text));
        check(Native::Float8, Kind::Text, Some(Kind::Float8));
        check(Native::Bytea, Kind::Text, Some(Kind::Bytea));
        check(Native::Array(Box::new(Native::Int4)), Kind::Text, Some(Kind::TextArray));
        check(Native::Array(Box::new(Native::Float8)), Kind::TextArray, None);
        check(Native::Range(Box::new(Native::Float8)), Kind::Text, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_converted_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let list = Native::Array(Box::new(Native::Int4));
            let conversion = Conversion::choose(&list, Kind::TextArray).unwrap();
            let mut out = Vec::new();
            if conversion.put(&bytes, &mut out).is_ok() {
                prop_assert!(Kind::TextArray.fits(&out));
            }
        }
    }
}
