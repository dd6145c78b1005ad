//! Pure: cells of the row log, each by its type byte and its two bytes of metadata.
//!
//! The driver's own reader loses the sign of MEDIUMINT, the year 0000, the zeros at the end of
//! BINARY, and every unsigned type where the log does not say so. Here the catalogue says what a
//! column is ([`Kind`]), and the log only how it is laid out ([`Layout`]).

use super::json;
use super::kind::{Charset, Kind};
use super::value::{
    BadValue, Clock, put_bits, put_date, put_decimal, put_int, put_moment, put_span, put_text,
    put_unix,
};

/// A column's layout in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) code: u8,
    pub(super) meta: [u8; 2],
}

/// Bytes of the log that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCell {
    #[error("the event ends inside a value")]
    Cut,
    #[error("type {0} of the log is not known")]
    Type(u8),
    #[error(transparent)]
    Value(#[from] BadValue),
}

pub(super) mod code {
    pub(in super::super) const TINY: u8 = 1;
    pub(in super::super) const SHORT: u8 = 2;
    pub(in super::super) const LONG: u8 = 3;
    pub(in super::super) const FLOAT: u8 = 4;
    pub(in super::super) const DOUBLE: u8 = 5;
    pub(in super::super) const TIMESTAMP: u8 = 7;
    pub(in super::super) const LONGLONG: u8 = 8;
    pub(in super::super) const INT24: u8 = 9;
    pub(in super::super) const DATE: u8 = 10;
    pub(in super::super) const TIME: u8 = 11;
    pub(in super::super) const DATETIME: u8 = 12;
    pub(in super::super) const YEAR: u8 = 13;
    pub(in super::super) const NEWDATE: u8 = 14;
    pub(in super::super) const VARCHAR: u8 = 15;
    pub(in super::super) const BIT: u8 = 16;
    pub(in super::super) const TIMESTAMP2: u8 = 17;
    pub(in super::super) const DATETIME2: u8 = 18;
    pub(in super::super) const TIME2: u8 = 19;
    /// MariaDB's compressed columns.
    pub(in super::super) const BLOB_COMPRESSED: u8 = 140;
    pub(in super::super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(in super::super) const VECTOR: u8 = 242;
    pub(in super::super) const JSON: u8 = 245;
    pub(in super::super) const DECIMAL: u8 = 246;
    pub(in super::super) const ENUM: u8 = 247;
    pub(in super::super) const SET: u8 = 248;
    pub(in super::super) const TINY_BLOB: u8 = 249;
    pub(in super::super) const MEDIUM_BLOB: u8 = 250;
    pub(in super::super) const LONG_BLOB: u8 = 251;
    pub(in super::super) const BLOB: u8 = 252;
    pub(in super::super) const VAR_STRING: u8 = 253;
    pub(in super::super) const STRING: u8 = 254;
    pub(in super::super) const GEOMETRY: u8 = 255;
}

impl Layout {
    /// How many bytes of metadata a type has in a table map.
    pub(super) fn meta_bytes(code: u8) -> Result<usize, BadCell> {
        Ok(match code {
            code::TINY
            | code::SHORT
            | code::LONG
            | code::TIMESTAMP
            | code::LONGLONG
            | code::INT24
            | code::DATE
            | code::TIME
            | code::DATETIME
            | code::YEAR
            | code::NEWDATE => 0,
            code::FLOAT
            | code::DOUBLE
            | code::TIMESTAMP2
            | code::DATETIME2
            | code::TIME2
            | code::BLOB_COMPRESSED
            | code::VECTOR
            | code::JSON
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::GEOMETRY => 1,
            code::VARCHAR
            | code::BIT
            | code::VARCHAR_COMPRESSED
            | code::DECIMAL
            | code::ENUM
            | code::SET
            | code::VAR_STRING
            | code::STRING => 2,
            other => return Err(BadCell::Type(other)),
        })
    }

    /// ENUM and SET travel as strings; their metadata says so.
    pub(super) fn resolved(self) -> Self {
        match (self.code, self.meta) {
            (code::STRING, [code::ENUM | code::SET, _]) => Self { code: self.meta[0], ..self },
            _ => self,
        }
    }

    /// The longest content of a CHAR or BINARY, hidden in its metadata's spare bits.
    fn string_bytes_max(self) -> usize {
        let [high, low] = self.meta.map(usize::from);
        if high & 0x30 == 0x30 { low } else { low | (((high & 0x30) ^ 0x30) << 4) }
    }

    /// Takes a cell's content off `bytes`, without its length.
    pub(super) fn take<'a>(self, bytes: &mut &'a [u8]) -> Result<&'a [u8], BadCell> {
        let fraction = |count: u8| usize::from(count.div_ceil(2));
        let [first, second] = self.meta;
        let length = match self.code {
            code::TINY | code::YEAR => 1,
            code::SHORT => 2,
            code::INT24 | code::DATE | code::NEWDATE | code::TIME => 3,
            code::LONG | code::FLOAT | code::TIMESTAMP => 4,
            code::DOUBLE | code::LONGLONG | code::DATETIME => 8,
            code::TIMESTAMP2 => 4 + fraction(first),
            code::DATETIME2 => 5 + fraction(first),
            code::TIME2 => 3 + fraction(first),
            code::DECIMAL => decimal_bytes(first, second),
            code::BIT => usize::from(second) + usize::from(first > 0),
            code::ENUM | code::SET => usize::from(second),
            code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => {
                let wide = u16::from_le_bytes(self.meta) > 255;
                length(bytes, if wide { 2 } else { 1 })?
            }
            code::STRING => length(bytes, if self.string_bytes_max() > 255 { 2 } else { 1 })?,
            code::BLOB_COMPRESSED
            | code::VECTOR
            | code::JSON
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::GEOMETRY => length(bytes, usize::from(first))?,
            other => return Err(BadCell::Type(other)),
        };
        let (content, rest) = bytes.split_at_checked(length).ok_or(BadCell::Cut)?;
        *bytes = rest;
        Ok(content)
    }

    /// Whether a column of this kind may lie in the log like this.
    pub(super) fn fits(self, kind: &Kind) -> bool {
        let [first, second] = self.meta;
        match kind {
            Kind::Int { bytes: 1, .. } => self.code == code::TINY,
            Kind::Int { bytes: 2, .. } => self.code == code::SHORT,
            Kind::Int { bytes: 3, .. } => self.code == code::INT24,
            Kind::Int { bytes: 4, .. } => self.code == code::LONG,
            Kind::Int { .. } => self.code == code::LONGLONG,
            Kind::Year => self.code == code::YEAR,
            Kind::Float => self.code == code::FLOAT,
            Kind::Double => self.code == code::DOUBLE,
            Kind::Decimal { precision, scale } => {
                self.code == code::DECIMAL && (first, second) == (*precision, *scale)
            }
            Kind::Bit { bits } => {
                let here = u16::from(second) * 8 + u16::from(first);
                self.code == code::BIT && here == *bits
            }
            Kind::Text(_) | Kind::Bytes => matches!(
                self.code,
                code::VARCHAR
                    | code::VAR_STRING
                    | code::STRING
                    | code::TINY_BLOB
                    | code::MEDIUM_BLOB
                    | code::LONG_BLOB
                    | code::BLOB
            ),
            Kind::Binary { .. } => matches!(self.code, code::STRING),
            Kind::Enum(..) => self.code == code::ENUM,
            Kind::Set(..) => self.code == code::SET,
            Kind::Json => self.code == code::JSON,
            Kind::Date => matches!(self.code, code::DATE | code::NEWDATE),
            Kind::Time => matches!(self.code, code::TIME | code::TIME2),
            Kind::DateTime => matches!(self.code, code::DATETIME | code::DATETIME2),
            Kind::Timestamp => matches!(self.code, code::TIMESTAMP | code::TIMESTAMP2),
        }
    }

    /// Appends a cell in the form of its column; `labels` are those of an ENUM or SET as the log
    /// itself names them, where it does.
    pub(super) fn put(
        self,
        kind: &Kind,
        labels: Option<&[Vec<u8>]>,
        cell: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadCell> {
        match kind {
            Kind::Int { unsigned, .. } => put_int(kind, integer(cell, *unsigned), out)?,
            Kind::Year => {
                let year = cell.first().copied().ok_or(BadCell::Cut)?;
                put_int(kind, if year == 0 { 0 } else { 1900 + i128::from(year) }, out)?;
            }
            Kind::Float => out.extend(f32::from_le_bytes(fixed(cell)?).to_be_bytes()),
            Kind::Double => out.extend(f64::from_le_bytes(fixed(cell)?).to_be_bytes()),
            Kind::Decimal { .. } => {
                let text = decimal_text(self.meta, cell).ok_or(BadValue)?;
                put_decimal(text.as_bytes(), out)?;
            }
            Kind::Bit { bits } => put_bits(*bits, cell, out)?,
            Kind::Text(charset) => put_text(*charset, cell, out),
            Kind::Bytes => out.extend_from_slice(cell),
            Kind::Binary { length } => {
                let end = out.len() + (*length).max(cell.len());
                out.extend_from_slice(cell);
                out.resize(end, 0);
            }
            Kind::Enum(charset, known) => {
                let index = usize::try_from(integer(cell, true)).map_err(|_| BadValue)?;
                put_label((*charset, known, labels), index, out)?;
            }
            Kind::Set(charset, known) => put_labels((*charset, known, labels), cell, out)?,
            Kind::Json => json::put(cell, out)?,
            Kind::Date | Kind::Time | Kind::DateTime | Kind::Timestamp => {
                self.put_temporal(cell, out)?;
            }
        }
        Ok(())
    }

    fn put_temporal(self, cell: &[u8], out: &mut Vec<u8>) -> Result<(), BadCell> {
        match self.code {
            code::DATE | code::NEWDATE => {
                let packed = little(cell);
                put_date((part(packed >> 9)?, part(packed >> 5 & 15)?, part(packed & 31)?), out);
            }
            code::TIME => {
                let packed = i64::try_from(integer(cell, false)).map_err(|_| BadValue)?;
                let (h, m, s) =
                    (packed.abs() / 10_000, packed.abs() / 100 % 100, packed.abs() % 100);
                put_span(((h * 60 + m) * 60 + s) * 1_000_000 * packed.signum(), out);
            }
            code::DATETIME => {
                let (day, clock) = (little(cell) / 1_000_000, little(cell) % 1_000_000);
                let clock = Clock {
                    hour: part(clock / 10_000)?,
                    minute: part(clock / 100 % 100)?,
                    second: part(clock % 100)?,
                    micros: 0,
                };
                put_moment(
                    (part(day / 10_000)?, part(day / 100 % 100)?, part(day % 100)?),
                    clock,
                    out,
                );
            }
            code::TIMESTAMP => put_unix(u32::from_le_bytes(fixed(cell)?), 0, out),
            code::TIMESTAMP2 => {
                let (seconds, fraction) = cell.split_at_checked(4).ok_or(BadCell::Cut)?;
                put_unix(u32::from_be_bytes(fixed(seconds)?), micros(fraction)?, out);
            }
            code::DATETIME2 => {
                let (whole, fraction) = cell.split_at_checked(5).ok_or(BadCell::Cut)?;
                let packed = big(whole).checked_sub(0x80_0000_0000).ok_or(BadValue)?;
                let (day, clock) = unpacked(packed, micros(fraction)?)?;
                put_moment(day, clock, out);
            }
            code::TIME2 => put_span(time2(cell)?, out),
            other => return Err(BadCell::Type(other)),
        }
        Ok(())
    }
}

/// Takes a little-endian length of so many bytes.
fn length(bytes: &mut &[u8], count: usize) -> Result<usize, BadCell> {
    let (length, rest) = bytes.split_at_checked(count).ok_or(BadCell::Cut)?;
    *bytes = rest;
    usize::try_from(little(length)).map_err(|_| BadCell::Cut)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BadCell> {
    bytes.try_into().map_err(|_| BadCell::Cut)
}

fn part<T: TryFrom<u64>>(value: u64) -> Result<T, BadCell> {
    T::try_from(value).map_err(|_| BadCell::Value(BadValue))
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn big(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// A little-endian integer of up to 8 bytes.
fn integer(cell: &[u8], unsigned: bool) -> i128 {
    let value = i128::from(little(cell));
    let negative = !unsigned && cell.last().is_some_and(|high| high & 0x80 != 0);
    if negative { value - (1_i128 << (8 * cell.len().min(8))) } else { value }
}

/// Microseconds of a fraction of 0 to 3 bytes, two digits each.
fn micros(fraction: &[u8]) -> Result<u32, BadCell> {
    let unit = [1_000_000, 10_000, 100, 1].get(fraction.len()).copied().ok_or(BadCell::Cut)?;
    part(big(fraction) * unit)
}

/// Day and time of day of the packed form: `(year × 13 + month) · day:5 · hour:5 · minute:6 ·
/// second:6`.
pub(super) fn unpacked(packed: u64, micros: u32) -> Result<((u16, u8, u8), Clock), BadCell> {
    let months = packed >> 22;
    let day = (part(months / 13)?, part(months % 13)?, part(packed >> 17 & 31)?);
    let (hour, minute) = (part(packed >> 12 & 31)?, part(packed >> 6 & 63)?);
    Ok((day, Clock { hour, minute, second: part(packed & 63)?, micros }))
}

/// Microseconds of a TIME: its sign is that of the whole number, fraction included.
fn time2(cell: &[u8]) -> Result<i64, BadCell> {
    let fraction_bytes = cell.len().checked_sub(3).ok_or(BadCell::Cut)?;
    let unit = [1_000_000, 10_000, 100, 1].get(fraction_bytes).copied().ok_or(BadCell::Cut)?;
    let bits = 8 * fraction_bytes;
    let packed = i64::try_from(big(cell)).map_err(|_| BadValue)? - (0x80_0000 << bits);
    let (whole, fraction) = (packed.abs() >> bits, packed.abs() & ((1 << bits) - 1));
    let seconds = (whole >> 12 & 0x3ff) * 3_600 + (whole >> 6 & 63) * 60 + (whole & 63);
    Ok((seconds * 1_000_000 + fraction * unit) * packed.signum())
}

/// Names of an ENUM or SET: in UTF-8 from the catalogue, or as the log has them.
type Labels<'a> = (Charset, &'a [String], Option<&'a [Vec<u8>]>);

/// The label at `index`, counted from 1; 0 stands for a value that was none of them.
fn put_label(
    (charset, known, logged): Labels<'_>,
    index: usize,
    out: &mut Vec<u8>,
) -> Result<(), BadCell> {
    let Some(at) = index.checked_sub(1) else { return Ok(()) };
    match logged {
        Some(logged) => put_text(charset, logged.get(at).ok_or(BadValue)?, out),
        None => out.extend_from_slice(known.get(at).ok_or(BadValue)?.as_bytes()),
    }
    Ok(())
}

fn put_labels(labels: Labels<'_>, cell: &[u8], out: &mut Vec<u8>) -> Result<(), BadCell> {
    let mut first = true;
    for (at, &byte) in cell.iter().enumerate() {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
            if !first {
                out.push(b',');
            }
            first = false;
            put_label(labels, at * 8 + bit + 1, out)?;
        }
    }
    Ok(())
}

/// Bytes that 0 to 9 decimal digits take.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn digit_bytes(digits: u8) -> usize {
    let left = DIGIT_BYTES.get(usize::from(digits % 9)).copied().unwrap_or(0);
    usize::from(digits / 9) * 4 + left
}

fn decimal_bytes(precision: u8, scale: u8) -> usize {
    digit_bytes(precision.saturating_sub(scale)) + digit_bytes(scale)
}

/// The text of a binary decimal: groups of nine digits, the incomplete ones outermost; the highest
/// bit is the sign, and of negative numbers every bit is turned.
pub(super) fn decimal_text([precision, scale]: [u8; 2], cell: &[u8]) -> Option<String> {
    let whole_digits = precision.checked_sub(scale)?;
    let negative = cell.first()? & 0x80 == 0;
    let mut bytes: Vec<u8> = cell.iter().map(|byte| if negative { !byte } else { *byte }).collect();
    *bytes.first_mut()? ^= 0x80;
    let (mut whole, mut fraction) = bytes.split_at_checked(digit_bytes(whole_digits))?;
    let mut digits = String::new();
    digits.push_str(&group(&mut whole, whole_digits % 9)?);
    while !whole.is_empty() {
        digits.push_str(&group(&mut whole, 9)?);
    }
    let trimmed = digits.trim_start_matches('0');
    let mut text = if negative { "-".to_owned() } else { String::new() };
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        text.push('.');
        for _ in 0..scale / 9 {
            text.push_str(&group(&mut fraction, 9)?);
        }
        text.push_str(&group(&mut fraction, scale % 9)?);
    }
    Some(text)
}

fn group(bytes: &mut &[u8], digits: u8) -> Option<String> {
    if digits == 0 {
        return Some(String::new());
    }
    let length = DIGIT_BYTES.get(usize::from(digits)).copied()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(format!("{:0width$}", big(head), width = usize::from(digits)))
}

#[cfg(test)]
mod tests;
