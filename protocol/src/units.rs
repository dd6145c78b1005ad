//! Sizes and durations as people write them in a config file (`64MiB`, `30s`), and back.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text that is no size or no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: write {example}")]
pub struct BadUnit {
    what: &'static str,
    text: String,
    example: &'static str,
}

/// A number of bytes, written `512B`, `64KiB`, `8MiB`, `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As a length in memory; saturates where the platform's is smaller.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A length of time, written `5ms`, `30s`, `15m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl TryFrom<String> for ByteSize {
    type Error = BadUnit;
    fn try_from(text: String) -> Result<Self, BadUnit> {
        let found = split(&text, &SIZE_UNITS).map(Self);
        found.ok_or(BadUnit { what: "size", text, example: "512B, 64KiB, 8MiB or 2GiB" })
    }
}

impl TryFrom<String> for Span {
    type Error = BadUnit;
    fn try_from(text: String) -> Result<Self, BadUnit> {
        let found = split(&text, &SPAN_UNITS).map(|ms| Self(Duration::from_millis(ms)));
        found.ok_or(BadUnit { what: "length of time", text, example: "5ms, 30s, 15m, 2h or 7d" })
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, factor): &&(&str, u64)| self.0.is_multiple_of(factor);
        let &(unit, factor) = SIZE_UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |&&(_, factor): &&(&str, u64)| ms.is_multiple_of(factor) && ms > 0;
        let &(unit, factor) = SPAN_UNITS.iter().rev().find(fits).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", ms / factor)
    }
}

fn split(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let &(_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_come_back_as_written() {
        for text in ["512B", "64KiB", "8MiB", "2GiB", "1023B"] {
            assert_eq!(ByteSize::try_from(text.to_owned()).map(String::from), Ok(text.to_owned()));
        }
        for text in ["5ms", "30s", "15m", "2h", "7d", "90s"] {
            assert_eq!(Span::try_from(text.to_owned()).map(String::from), Ok(text.to_owned()));
        }
        for bad in
            ["", "8", "8MB", "-1s", "1.5h", "99999999999999999999B", "18446744073709551615GiB"]
        {
            assert!(ByteSize::try_from(bad.to_owned()).is_err(), "{bad}");
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
