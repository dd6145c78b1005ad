//! The exact text of a value: what `value::text` prints in PostgreSQL under `datestyle = ISO`,
//! `timezone = UTC` and `intervalstyle = iso_8601`, brought to NFC.
//!
//! Floats and bytes have no text here: the first print differently between versions, the second
//! are not text. Lists have one text per element (`text[]`).

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::moment;
use super::nfc;
use super::number::Decimal;
use super::quality::Rule;
use crate::source::Native;

/// Whether every value of this type has an exact text.
pub(super) fn exists(native: &Native) -> bool {
    match native {
        Native::Float4 | Native::Float8 | Native::Bytea | Native::Array(_) => false,
        Native::Range(bound) => is_bound(bound),
        Native::Tenths(of) => matches!(**of, Native::Time | Native::Timestamp),
        Native::OffsetTenths
        | Native::Bool
        | Native::Int2
        | Native::Int4
        | Native::Int8
        | Native::Numeric
        | Native::Text
        | Native::Date
        | Native::Time
        | Native::Timetz
        | Native::Timestamp
        | Native::Timestamptz
        | Native::Interval
        | Native::Uuid
        | Native::Json
        | Native::Jsonb
        | Native::Inet
        | Native::Cidr
        | Native::Macaddr => true,
    }
}

/// Types that a range may be of. Inside a range PostgreSQL prints some of the others differently
/// than by themselves.
fn is_bound(native: &Native) -> bool {
    matches!(
        native,
        Native::Int2
            | Native::Int4
            | Native::Int8
            | Native::Numeric
            | Native::Date
            | Native::Time
            | Native::Timestamp
            | Native::Timestamptz
    )
}

/// Appends the text of a value whose type has one.
///
/// # Errors
/// [`Rule::Malformed`] or [`Rule::TextNotUtf8`]; `out` may then hold a part.
pub(super) fn put(native: &Native, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let is_dated = matches!(native, Native::Date | Native::Timestamp | Native::Timestamptz);
    if let Some(text) = moment::partial(bytes).filter(|_| is_dated) {
        out.extend_from_slice(text);
        return Ok(());
    }
    match native {
        Native::Bool => {
            let [value] = exact(bytes)?;
            out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
        }
        Native::Int2 => show(out, format_args!("{}", i16::from_be_bytes(exact(bytes)?))),
        Native::Int4 => show(out, format_args!("{}", i32::from_be_bytes(exact(bytes)?))),
        Native::Int8 => show(out, format_args!("{}", i64::from_be_bytes(exact(bytes)?))),
        Native::Numeric => Decimal::read(bytes).ok_or(Rule::Malformed)?.put_text(out),
        Native::Text | Native::Json => nfc::put(bytes, out)?,
        Native::Jsonb => match bytes {
            [1, json @ ..] => nfc::put(json, out)?,
            _ => return Err(Rule::Malformed),
        },
        Native::Date => moment::put_date(i32::from_be_bytes(exact(bytes)?), out),
        Native::Time => moment::put_time(i64::from_be_bytes(exact(bytes)?), out),
        Native::Timetz => put_timetz(exact(bytes)?, out),
        Native::Timestamp => moment::put_timestamp(i64::from_be_bytes(exact(bytes)?), "", out),
        Native::Timestamptz => moment::put_timestamp(i64::from_be_bytes(exact(bytes)?), "+00", out),
        Native::Interval => put_interval(exact(bytes)?, out),
        Native::Uuid => put_uuid(exact(bytes)?, out),
        Native::Inet | Native::Cidr => put_network(bytes, out)?,
        Native::Macaddr => put_macaddr(exact(bytes)?, out),
        Native::Range(bound) => put_range(bound, bytes, out)?,
        Native::Tenths(of) => put_tenths(of, i64::from_be_bytes(exact(bytes)?), out),
        Native::OffsetTenths => put_offset_tenths(exact(bytes)?, out),
        Native::Float4 | Native::Float8 | Native::Bytea | Native::Array(_) => {
            return Err(Rule::Malformed);
        }
    }
    Ok(())
}

/// Bytes of the one length that their type has.
pub(super) fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Rule> {
    bytes.try_into().map_err(|_| Rule::Malformed)
}

fn show(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn put_tenths(of: &Native, tenths: i64, out: &mut Vec<u8>) {
    match of {
        Native::Time => moment::put_time_tenths(tenths, out),
        _ => moment::put_timestamp_tenths(tenths, out),
    }
}

/// The local time and its zone, as the source's owner wrote it.
fn put_offset_tenths(bytes: [u8; 10], out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h, minutes @ ..] = bytes;
    let east = i64::from(i16::from_be_bytes(minutes));
    let utc = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    moment::put_timestamp_tenths(utc.saturating_add(east * moment::TENTHS_PER_MINUTE), out);
    moment::put_zone(-60 * i32::from(i16::from_be_bytes(minutes)), out);
}

fn put_timetz(bytes: [u8; 12], out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h, zone @ ..] = bytes;
    moment::put_time(i64::from_be_bytes([a, b, c, d, e, f, g, h]), out);
    moment::put_zone(i32::from_be_bytes(zone), out);
}

fn put_interval(bytes: [u8; 16], out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h, d0, d1, d2, d3, months @ ..] = bytes;
    let micros = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let days = i32::from_be_bytes([d0, d1, d2, d3]);
    moment::put_interval(micros, days, i32::from_be_bytes(months), out);
}

fn put_uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        show(out, format_args!("{byte:02x}"));
    }
}

fn put_macaddr(bytes: [u8; 6], out: &mut Vec<u8>) {
    let [first, rest @ ..] = bytes;
    show(out, format_args!("{first:02x}"));
    for byte in rest {
        show(out, format_args!(":{byte:02x}"));
    }
}

/// `inet::text` and `cidr::text` always name the bits of the network, `192.0.2.1/32`.
fn put_network(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    match bytes {
        [_, bits, _, 4, address @ ..] => {
            show(out, format_args!("{}/{bits}", Ipv4Addr::from(exact::<4>(address)?)));
        }
        [_, bits, _, 16, address @ ..] => {
            put_ipv6(Ipv6Addr::from(exact::<16>(address)?), out);
            show(out, format_args!("/{bits}"));
        }
        _ => return Err(Rule::Malformed),
    }
    Ok(())
}

/// As Rust prints it, but for the IPv4-compatible form `::192.0.2.1`, which PostgreSQL keeps.
fn put_ipv6(address: Ipv6Addr, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, high, low] = address.segments();
    if [a, b, c, d, e, f] == [0; 6] && high != 0 {
        let bits = u32::from(high) << 16 | u32::from(low);
        return show(out, format_args!("::{}", Ipv4Addr::from(bits)));
    }
    show(out, format_args!("{address}"));
}

const RANGE_EMPTY: u8 = 0x01;
const LOWER_INCLUDED: u8 = 0x02;
const UPPER_INCLUDED: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

fn put_range(bound: &Native, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let (&flags, mut rest) = bytes.split_first().ok_or(Rule::Malformed)?;
    if flags & RANGE_EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    out.push(if flags & LOWER_INCLUDED != 0 { b'[' } else { b'(' });
    if flags & LOWER_INFINITE == 0 {
        put_bound(bound, &mut rest, out)?;
    }
    out.push(b',');
    if flags & UPPER_INFINITE == 0 {
        put_bound(bound, &mut rest, out)?;
    }
    out.push(if flags & UPPER_INCLUDED != 0 { b']' } else { b')' });
    if rest.is_empty() { Ok(()) } else { Err(Rule::Malformed) }
}

/// A bound whose text has a space (timestamps) stands in quotes.
fn put_bound(bound: &Native, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let bytes = take_sized(rest)?.ok_or(Rule::Malformed)?;
    let start = out.len();
    put(bound, bytes, out)?;
    if out.get(start..).is_some_and(|text| text.contains(&b' ')) {
        out.insert(start, b'"');
        out.push(b'"');
    }
    Ok(())
}

/// Takes `i32` length and that many bytes; -1 is null.
pub(super) fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Rule> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(Rule::Malformed)?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        *rest = after;
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Rule::Malformed)?;
    let (bytes, after) = after.split_at_checked(length).ok_or(Rule::Malformed)?;
    *rest = after;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(native: &Native, bytes: &[u8]) -> Result<String, Rule> {
        let mut out = Vec::new();
        put(native, bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_print_as_postgresql_casts_them_to_text() {
        let check = |native: Native, bytes: &[u8], expected: &str| {
            assert_eq!(text(&native, bytes).as_deref(), Ok(expected), "{native:?}");
        };
        check(Native::Bool, &[1], "true");
        check(Native::Int2, &[0xff, 0xfe], "-2");
        check(Native::Timetz, &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x9d, 0x90], "00:00:00+07");
        let uuid = b"\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00";
        check(Native::Uuid, uuid, "550e8400-e29b-41d4-a716-446655440000");
        check(Native::Macaddr, &[8, 0, 0x2b, 1, 2, 3], "08:00:2b:01:02:03");
        check(Native::Inet, &[2, 32, 0, 4, 192, 0, 2, 1], "192.0.2.1/32");
        check(Native::Cidr, &[2, 8, 1, 4, 10, 0, 0, 0], "10.0.0.0/8");
        let mut address = vec![3, 128, 0, 16];
        address.extend(Ipv6Addr::from_bits(0xc000_0201).octets());
        check(Native::Inet, &address, "::192.0.2.1/128");
        check(Native::Jsonb, b"\x01{\"a\": 1.10}", "{\"a\": 1.10}");
        let int_range = |flags: u8, bounds: &[i32]| {
            let mut bytes = vec![flags];
            for bound in bounds {
                bytes.extend([0, 0, 0, 4]);
                bytes.extend(bound.to_be_bytes());
            }
            text(&Native::Range(Box::new(Native::Int4)), &bytes)
        };
        assert_eq!(int_range(2, &[1, 5]).as_deref(), Ok("[1,5)"));
        assert_eq!(int_range(8, &[5]).as_deref(), Ok("(,5)"));
        assert_eq!(int_range(1, &[]).as_deref(), Ok("empty"));
        assert_eq!(int_range(2, &[1]), Err(Rule::Malformed));
        let moments = [&[0x12][..], &[0, 0, 0, 8], &[0; 8]].concat();
        let range = Native::Range(Box::new(Native::Timestamp));
        check(range, &moments, "[\"2000-01-01 00:00:00\",)");
    }

    fn native(name: &str) -> Native {
        if let Some(bound) = name.strip_prefix("range ") {
            return Native::Range(Box::new(native(bound)));
        }
        match name {
            "bool" => Native::Bool,
            "int2" => Native::Int2,
            "int4" => Native::Int4,
            "int8" => Native::Int8,
            "numeric" => Native::Numeric,
            "date" => Native::Date,
            "time" => Native::Time,
            "timetz" => Native::Timetz,
            "timestamp" => Native::Timestamp,
            "timestamptz" => Native::Timestamptz,
            "interval" => Native::Interval,
            "uuid" => Native::Uuid,
            "json" => Native::Json,
            "jsonb" => Native::Jsonb,
            "inet" => Native::Inet,
            "cidr" => Native::Cidr,
            "macaddr" => Native::Macaddr,
            other => panic!("{other} is no type"),
        }
    }

    /// Lines of `type|send(value) in hexadecimal|value::text`, as PostgreSQL 15 printed them.
    #[test]
    fn a_real_server_prints_the_same() {
        for line in include_str!("text/postgresql.txt").lines() {
            let mut parts = line.splitn(3, '|');
            let (name, hex) = (parts.next().unwrap(), parts.next().unwrap());
            let (pairs, _) = hex.as_bytes().as_chunks::<2>();
            let pair = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
            let bytes: Vec<u8> = pairs.iter().map(|digits| pair(digits).unwrap()).collect();
            assert_eq!(text(&native(name), &bytes).as_deref(), Ok(parts.next().unwrap()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_printed_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            which in 0_usize..20,
        ) {
            let range = |bound| Native::Range(Box::new(bound));
            let natives = [
                Native::Bool, Native::Int2, Native::Int4, Native::Int8, Native::Numeric,
                Native::Text, Native::Date, Native::Time, Native::Timetz, Native::Timestamp,
                Native::Timestamptz, Native::Interval, Native::Uuid, Native::Json, Native::Jsonb,
                Native::Inet, Native::Cidr, Native::Macaddr, range(Native::Int4),
                range(Native::Numeric),
            ];
            let printed = text(&natives[which], &bytes);
            prop_assert!(printed.is_ok() || printed.is_err());
        }
    }
}
