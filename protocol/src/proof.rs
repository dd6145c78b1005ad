//! The proof that source and warehouse hold the same rows: both ends compute the same digests over
//! the same parts, and name the rows of parts that differ (HU-03).
//!
//! Rows are divided by the digest of their key and not by the key itself: agency and hub need not
//! agree on which of two keys is greater, and parts come out even whatever the keys are like. A
//! part is a range of such digests, given by their first bits.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, RowsDigest, hex_u128};
use crate::ids::{AgentId, DatasetId};
use crate::row::{Tuple, begin_tuple, put_field};
use crate::time::Timestamp;
use crate::value::Field;

/// Rows are divided into at most 2 to the power of this many parts: an answer then stays below
/// 512 KiB.
pub const BITS_MAX: u8 = 12;

/// Rows one answer names at most, for the same reason.
pub const NAMED_MAX: usize = 4_000;

/// One row as both ends compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// The key's fields as a tuple.
    pub key: Vec<u8>,
    /// The row's digest.
    pub row: RowsDigest,
}

impl Print {
    /// Of a row in contract order whose key fields stand at these places; `None` when it has no
    /// such fields.
    #[must_use]
    pub fn of(row: Tuple<'_>, key: &[usize]) -> Option<Self> {
        let fields: Vec<Field<'_>> = row.fields().collect();
        let mut tuple = Vec::with_capacity(16 * key.len());
        begin_tuple(&mut tuple, key.len());
        for &place in key {
            put_field(&mut tuple, *fields.get(place)?);
        }
        Some(Self { key: tuple, row: RowsDigest::of(row.as_bytes()) })
    }

    /// The part it falls into when rows are divided by so many bits.
    #[must_use]
    pub fn part(&self, bits: u8) -> u32 {
        let bits = u32::from(bits.min(BITS_MAX));
        let top = RowsDigest::of(&self.key).sum.checked_shr(128 - bits).unwrap_or(0);
        u32::try_from(top).unwrap_or(u32::MAX)
    }
}

/// Digests of all parts of a set of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    bits: u8,
    parts: BTreeMap<u32, RowsDigest>,
}

impl Summary {
    /// Of no rows, divided by so many bits.
    #[must_use]
    pub fn new(bits: u8) -> Self {
        Self { bits: bits.min(BITS_MAX), parts: BTreeMap::new() }
    }

    /// The bits by which parts are told apart.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Adds a row.
    pub fn add(&mut self, print: &Print) {
        *self.parts.entry(print.part(self.bits)).or_default() += print.row;
    }

    /// Parts with rows, as they are sent.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.parts.iter().map(|(part, digest)| Part { part: *part, digest: *digest }).collect()
    }

    /// From parts as they were sent.
    #[must_use]
    pub fn from_parts(bits: u8, parts: &[Part]) -> Self {
        let parts = parts.iter().map(|part| (part.part, part.digest)).collect();
        Self { bits: bits.min(BITS_MAX), parts }
    }

    /// The digest of all rows.
    #[must_use]
    pub fn total(&self) -> RowsDigest {
        let mut total = RowsDigest::default();
        self.parts.values().for_each(|digest| total += *digest);
        total
    }

    /// The parts in which two sets differ, each with the rows it has at the end that has more.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<(u32, u64)> {
        let all: std::collections::BTreeSet<u32> =
            self.parts.keys().chain(other.parts.keys()).copied().collect();
        let of = |summary: &Self, part: u32| summary.parts.get(&part).copied().unwrap_or_default();
        all.into_iter()
            .filter(|part| of(self, *part) != of(other, *part))
            .map(|part| (part, of(self, part).rows.max(of(other, part).rows)))
            .collect()
    }
}

/// What an agent asks of the hub: `POST /v1/digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Version of the protocol.
    pub protocol: u32,
    /// Who asks.
    pub agent: AgentId,
    /// Of which dataset.
    pub dataset: DatasetId,
    /// The contract both must hold.
    pub contract: Digest,
    /// By how many bits rows are divided, at most [`BITS_MAX`].
    pub bits: u8,
    /// The parts whose rows are to be named; none asks for the digests of all parts.
    pub named: Vec<u32>,
}

/// The digest of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its number.
    pub part: u32,
    /// Its rows.
    pub digest: RowsDigest,
}

/// One row of a part that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The tuple of its key fields, in base64.
    pub key: String,
    /// Its digest.
    #[serde(with = "hex_u128")]
    pub row: u128,
}

impl Named {
    /// As it is sent.
    #[must_use]
    pub fn new(print: &Print) -> Self {
        Self { key: BASE64.encode(&print.key), row: print.row.sum }
    }

    /// The key's tuple; `None` when it is not base64.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        BASE64.decode(&self.key).ok()
    }
}

/// What the hub answers: of the asking agency's own rows and nobody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// When it was read.
    pub answered_at: Timestamp,
    /// Parts with rows; all of them, or those that were asked for.
    pub parts: Vec<Part>,
    /// The rows of the parts that were asked for.
    pub named: Vec<Named>,
    /// Whether those are all; above [`NAMED_MAX`] the rest is left out.
    pub complete: bool,
}

/// What a comparison came to: `POST /v1/proof`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Version of the protocol.
    pub protocol: u32,
    /// Who compared.
    pub agent: AgentId,
    /// Which dataset.
    pub dataset: DatasetId,
    /// Under which contract.
    pub contract: Digest,
    /// All rows of the source, as mapped.
    pub source: RowsDigest,
    /// All rows of the warehouse, as the hub answered.
    pub warehouse: RowsDigest,
    /// Records that differ, or are at one end only, and were so twice in a row.
    pub differing: u64,
    /// When the comparison ended, by the agent's clock.
    pub compared_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u8, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        begin_tuple(&mut out, 2);
        put_field(&mut out, Field::Value(name));
        put_field(&mut out, Field::Value(&[id]));
        out
    }

    fn print(row: &[u8]) -> Print {
        Print::of(Tuple::take(&mut &*row).unwrap(), &[1]).unwrap()
    }

    fn summary(rows: &[(u8, &[u8])]) -> Summary {
        let mut summary = Summary::new(8);
        rows.iter().for_each(|(id, name)| summary.add(&print(&row(*id, name))));
        summary
    }

    #[test]
    fn only_the_parts_of_rows_that_differ_differ() {
        let source = summary(&[(1, b"a"), (2, b"b"), (3, b"c")]);
        let part = |id| print(&row(id, b"")).part(8);
        let check = |other: &[(u8, &[u8])], mut expected: Vec<(u32, u64)>| {
            expected.sort_unstable();
            assert_eq!(source.differing(&summary(other)), expected, "{other:?}");
        };
        check(&[(3, b"c"), (1, b"a"), (2, b"b")], vec![]);
        check(&[(1, b"a"), (2, b"x"), (3, b"c")], vec![(part(2), 1)]);
        check(&[(1, b"a"), (2, b"b")], vec![(part(3), 1)]);
        check(&[(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")], vec![(part(4), 1)]);
        assert_eq!(source.total().rows, 3);
        assert_eq!(Summary::from_parts(8, &source.parts()), source);
    }

    #[test]
    fn a_part_is_given_by_the_first_bits_of_the_keys_digest() {
        let one = print(&row(7, b"x"));
        assert_eq!(one.part(0), 0);
        assert_eq!(one.part(4), one.part(12) >> 8);
        assert_eq!(one.part(12), one.part(200), "no more bits than are allowed");
        assert_eq!(Named::new(&one).key(), Some(one.key));
    }
}
