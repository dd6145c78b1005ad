//! `Kind` and `Field`: the contract types, and one field as PostgreSQL binary bytes, null or
//! unchanged.
//!
//! The bytes of a field are what PostgreSQL's own send function makes of the type, because the
//! source often has them already, the warehouse takes them as they are, and they are documented
//! and stable. Conversions into them are made at the agent and are exact or refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The types a contract field may have, one to one with the warehouse's column types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// True or false; 1 byte.
    Bool,
    /// 16-bit integer, big-endian.
    Int2,
    /// 32-bit integer, big-endian.
    Int4,
    /// 64-bit integer, big-endian.
    Int8,
    /// Exact decimal, NaN and infinities included; base-10000 digits as PostgreSQL sends them.
    Numeric,
    /// 32-bit binary float.
    Float4,
    /// 64-bit binary float.
    Float8,
    /// UTF-8 in NFC, without U+0000.
    Text,
    /// Any bytes.
    Bytea,
    /// Days since 2000-01-01, with infinities.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 2000-01-01 in an unnamed zone, with infinities.
    Timestamp,
    /// Microseconds since 2000-01-01 UTC, with infinities.
    Timestamptz,
    /// 16 bytes.
    Uuid,
    /// A version byte 1 and JSON text as PostgreSQL normalises it.
    Jsonb,
    /// An array of text as `array_send` makes it, nulls and lower bounds included.
    #[serde(rename = "text[]")]
    TextArray,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Bool,
        Self::Int2,
        Self::Int4,
        Self::Int8,
        Self::Numeric,
        Self::Float4,
        Self::Float8,
        Self::Text,
        Self::Bytea,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::Timestamptz,
        Self::Uuid,
        Self::Jsonb,
        Self::TextArray,
    ];

    /// The name in contracts, which is also PostgreSQL's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Numeric => "numeric",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
            Self::TextArray => "text[]",
        }
    }

    /// The one length its bytes may have; `None` where they vary.
    #[must_use]
    pub fn fixed_length(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::Int2 => Some(2),
            Self::Int4 | Self::Float4 | Self::Date => Some(4),
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::Timestamptz => Some(8),
            Self::Uuid => Some(16),
            Self::Numeric | Self::Text | Self::Bytea | Self::Jsonb | Self::TextArray => None,
        }
    }

    /// Whether `to` holds every value of this kind exactly, and is another kind.
    #[must_use]
    pub fn widens_to(self, to: Self) -> bool {
        const INTEGERS: [Kind; 4] = [Kind::Int2, Kind::Int4, Kind::Int8, Kind::Numeric];
        let rank = |kind| INTEGERS.iter().position(|&integer| integer == kind);
        match (rank(self), rank(to)) {
            (Some(from), Some(to)) => from < to,
            _ => self == Self::Float4 && to == Self::Float8,
        }
    }

    /// Whether `bytes` have a length and a head that this kind can have.
    ///
    /// This is the cheap check of every field at the hub; PostgreSQL's receive functions check
    /// the rest (UTF-8, JSON grammar, digits) in the same transaction.
    #[must_use]
    pub fn fits(self, bytes: &[u8]) -> bool {
        match self {
            Self::Numeric => numeric_fits(bytes),
            Self::Jsonb => bytes.first() == Some(&1) && bytes.len() > 1,
            Self::TextArray => bytes.len() >= 12,
            Self::Text | Self::Bytea => true,
            Self::Bool
            | Self::Int2
            | Self::Int4
            | Self::Int8
            | Self::Float4
            | Self::Float8
            | Self::Date
            | Self::Time
            | Self::Timestamp
            | Self::Timestamptz
            | Self::Uuid => self.fixed_length() == Some(bytes.len()),
        }
    }
}

/// Eight bytes of head, of which the first two count the digits of two bytes each that follow.
fn numeric_fits(bytes: &[u8]) -> bool {
    match bytes {
        [high, low, _, _, _, _, _, _, digits @ ..] => {
            digits.len() == 2 * usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One field of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// The bytes of a value.
    Value(&'a [u8]),
    /// SQL null.
    Null,
    /// The source did not say (an unchanged TOAST value): what the warehouse holds stays.
    Unchanged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_heads_are_checked() {
        let check = |kind: Kind, bytes: &[u8], fits: bool| {
            assert_eq!(kind.fits(bytes), fits, "{kind} {bytes:?}");
        };
        check(Kind::Bool, &[1], true);
        check(Kind::Bool, &[], false);
        check(Kind::Int8, &[0; 8], true);
        check(Kind::Int8, &[0; 4], false);
        check(Kind::Numeric, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 5], true);
        check(Kind::Numeric, &[0, 2, 0, 0, 0, 0, 0, 0, 0, 5], false);
        check(Kind::Numeric, &[0, 0], false);
        check(Kind::Jsonb, b"\x01{}", true);
        check(Kind::Jsonb, b"{}", false);
        check(Kind::Text, b"", true);
    }

    #[test]
    fn names_are_the_ones_in_contracts() {
        for kind in Kind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }
}
