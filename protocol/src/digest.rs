//! Digests of bytes (SHA-256) and of rows (BLAKE3, summed per key range), and how they are compared.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 of exact bytes, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// What the first link of a chain points at.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of `first` followed by `second`, without joining them in memory.
    #[must_use]
    pub fn of_pair(first: &[u8], second: &[u8]) -> Self {
        Self(Sha256::new().chain_update(first).chain_update(second).finalize().into())
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct BadDigest;

impl TryFrom<String> for Digest {
    type Error = BadDigest;
    fn try_from(text: String) -> Result<Self, BadDigest> {
        crate::hex::decode(&text).map(Self).ok_or(BadDigest)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digest of a set of rows: how many, and the sum modulo 2^128 of each row's BLAKE3.
///
/// A sum, so that the order of reading does not matter; not XOR, under which a row that stands
/// twice would cancel itself out. Each row is hashed as a tuple, whose fields carry their lengths
/// and their nulls, so no two rows share a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsDigest {
    /// How many rows.
    pub rows: u64,
    /// The sum, as 32 hexadecimal digits.
    #[serde(with = "hex_u128")]
    pub sum: u128,
}

impl RowsDigest {
    /// The digest of one row.
    #[must_use]
    pub fn of(tuple: &[u8]) -> Self {
        let mut digest = Self::default();
        digest.add_tuple(tuple);
        digest
    }

    /// Adds the row whose tuple bytes these are.
    pub fn add_tuple(&mut self, tuple: &[u8]) {
        self.rows += 1;
        let hash = blake3::hash(tuple);
        if let Some((half, _)) = hash.as_bytes().split_first_chunk::<16>() {
            self.sum = self.sum.wrapping_add(u128::from_be_bytes(*half));
        }
    }
}

impl AddAssign for RowsDigest {
    /// The other end may say of its rows what it likes, so their number is bounded here too.
    fn add_assign(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl fmt::Display for RowsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, digest {:032x}", self.rows, self.sum)
    }
}

pub(crate) mod hex_u128 {
    //! A sum as 32 hexadecimal digits: JSON's numbers are too small for it.

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(sum: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{sum:032x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_comes_back_from_its_text() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::try_from(text.to_owned()), Ok(digest));
        assert_eq!(Digest::of_pair(b"a", b"bc"), digest);
        for bad in ["", "ba", &text.to_uppercase(), &format!("{text}00")] {
            assert_eq!(Digest::try_from((*bad).to_owned()), Err(BadDigest));
        }
    }

    #[test]
    fn numbers_of_rows_that_nobody_has_are_summed_all_the_same() {
        let mut sum = RowsDigest { rows: u64::MAX, sum: u128::MAX };
        sum += RowsDigest { rows: 2, sum: 2 };
        assert_eq!((sum.rows, sum.sum), (u64::MAX, 1));
    }

    #[test]
    fn row_order_does_not_matter_but_repetition_does() {
        let digest = |rows: &[&[u8]]| {
            let mut digest = RowsDigest::default();
            rows.iter().for_each(|row| digest.add_tuple(row));
            digest
        };
        assert_eq!(digest(&[b"a", b"b"]), digest(&[b"b", b"a"]));
        assert_ne!(digest(&[b"a", b"a"]), digest(&[]));
        assert_ne!(digest(&[b"ab"]), digest(&[b"a", b"b"]));
    }
}
