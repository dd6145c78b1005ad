//! `Batch`: signed header (stream, sequence, counts, commitment, positions) and a body of runs.
//!
//! The header is canonical JSON (RFC 8785 restricted to strings, booleans and integers below
//! 2^53) and holds nothing personal, because it stands in the transfer log for ever. The body is
//! bound to it by a salted commitment; salt and body travel beside it, so that destroying the salt
//! leaves a log that says nothing about the rows (HU-26b).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::Counts;
use crate::digest::Digest;
use crate::ids::{AgentId, DatasetId, Epoch, Seq, StreamId};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Part of the full read with which the epoch begins.
    Read,
    /// The full read ends here: rows of earlier epochs that were not seen again are swept.
    ReadEnd,
    /// Changes from the log that chunks read later may already hold; not yet consistent.
    Settle,
    /// Changes from the log; the dataset is consistent.
    Live,
}

/// How the body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    None,
    /// One zstd frame.
    Zstd,
}

/// What a batch says about itself; signed by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Form of this header; 1.
    pub v: u32,
    /// Who sends.
    pub agent: AgentId,
    /// What is sent.
    pub dataset: DatasetId,
    /// Since which full read.
    pub epoch: Epoch,
    /// Its number in the stream, from 1.
    pub seq: Seq,
    /// The digest of the header before it in the stream; all zero for the first.
    pub previous: Digest,
    /// Fingerprint of the contract it keeps to.
    pub contract: Digest,
    /// Fingerprint of the mapping that made it.
    pub mapping: Digest,
    /// Where the stream is in its life.
    pub phase: Phase,
    /// Whether it ends inside a source transaction: its rows become visible with the batch that
    /// closes the transaction, and not before (invariant 6).
    pub tx_open: bool,
    /// Source position after which it begins; opaque to the hub.
    pub position_from: String,
    /// Source position at which it ends; opaque to the hub.
    pub position_to: String,
    /// Rows by operation.
    pub counts: Counts,
    /// How often which rule of the mapping was broken: `answer/field/rule` and rows, names and
    /// counts alone (HU-27). Absent when none was. At most [`QUALITY_COUNTS_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, u64>,
    /// Length of the body unpacked, in bytes.
    pub body_bytes: u64,
    /// How the body is packed.
    pub encoding: Encoding,
    /// SHA-256 over salt and body as sent.
    pub commitment: Digest,
    /// When its rows were read, by the agent's clock.
    pub read_at: Timestamp,
    /// Commit time of its last source transaction, by the source's clock; for a full read, the
    /// time of reading.
    pub source_time: Timestamp,
    /// Version of the agent that made it.
    pub agent_version: String,
}

/// The form of header this crate writes and reads.
pub const HEADER_VERSION: u32 = 1;

/// Most counts of broken rules in a header: a name has up to 90 bytes, a header 16 KiB.
pub const QUALITY_COUNTS_MAX: usize = 100;

/// Length of the salt in bytes.
pub const SALT_BYTES: usize = 32;

/// A header as bytes with its signature: what is chained, logged and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeader {
    /// What it says.
    pub header: Header,
    /// The exact bytes that were signed.
    pub bytes: Vec<u8>,
    /// The agent's signature over them.
    pub signature: Signature,
}

/// A whole batch as it lies in a spool file and on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Who, what, how many; signed.
    pub signed: SignedHeader,
    /// Blinds the commitment.
    pub salt: [u8; SALT_BYTES],
    /// The body as sent, packed as the header says.
    pub body: Vec<u8>,
}

/// A header that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Not the JSON of a header, or not in canonical form.
    #[error("the header is not canonical JSON of version {HEADER_VERSION}")]
    Form,
    /// The signature is not the agent's.
    #[error("the header is not signed with the agent's key")]
    Signature,
}

impl Header {
    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId { agent: self.agent.clone(), dataset: self.dataset.clone(), epoch: self.epoch }
    }
}

impl SignedHeader {
    /// Signs `header` with the agent's key.
    #[must_use]
    pub fn sign(header: Header, key: &SigningKey) -> Self {
        let bytes = canonical_json(&header);
        let signature = key.sign(&bytes);
        Self { header, bytes, signature }
    }

    /// Reads a header without looking at its signature yet.
    ///
    /// # Errors
    /// [`BadHeader::Form`].
    pub fn read(bytes: Vec<u8>, signature: Signature) -> Result<Self, BadHeader> {
        let header: Header = serde_json::from_slice(&bytes).map_err(|_| BadHeader::Form)?;
        if header.v != HEADER_VERSION || canonical_json(&header) != bytes {
            return Err(BadHeader::Form);
        }
        let names_only = header.quality.keys().all(|name| is_quality_name(name));
        if !names_only || header.quality.len() > QUALITY_COUNTS_MAX {
            return Err(BadHeader::Form);
        }
        Ok(Self { header, bytes, signature })
    }

    /// Whether the agent whose key this is signed these bytes.
    ///
    /// # Errors
    /// [`BadHeader::Signature`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadHeader> {
        if key.verifies(&self.bytes, &self.signature) {
            return Ok(());
        }
        Err(BadHeader::Signature)
    }

    /// What the next header of the stream points at.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// Three names of lower case, so that nothing else can stand in the log for ever.
fn is_quality_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        part == "-" || (!part.is_empty() && part.len() <= 48 && part.bytes().all(sound))
    };
    name.split('/').count() == 3 && name.split('/').all(is_part)
}

/// The commitment of a body to be sent under `salt`.
#[must_use]
pub fn commitment(salt: &[u8; SALT_BYTES], body: &[u8]) -> Digest {
    Digest::of_pair(salt, body)
}

/// The one JSON form of a value: keys sorted, no white space (RFC 8785 for the values used here:
/// strings, booleans, null, arrays, objects with ASCII keys, integers below 2^53).
#[must_use]
pub fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Every type given to this function is a struct of plain fields, so neither step can fail;
    // an empty result would fail every signature and fingerprint check after it.
    let sorted = serde_json::to_value(value).unwrap_or_default();
    serde_json::to_vec(&sorted).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_text("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap()
    }

    pub(crate) fn sample(seq: u64, previous: Digest) -> SignedHeader {
        let header = Header {
            v: HEADER_VERSION,
            agent: AgentId::try_from("H57.12/may-1".to_owned()).unwrap(),
            dataset: DatasetId::new("cong_dan.citizens").unwrap(),
            epoch: Epoch(1),
            seq: Seq(seq),
            previous,
            contract: Digest::of(b"contract"),
            mapping: Digest::of(b"mapping"),
            phase: Phase::Live,
            tx_open: false,
            position_from: "0/16B3748".to_owned(),
            position_to: "0/16B3800".to_owned(),
            counts: Counts { insert: 1, ..Counts::default() },
            quality: BTreeMap::new(),
            body_bytes: 17,
            encoding: Encoding::None,
            commitment: commitment(&[9; SALT_BYTES], b"body"),
            read_at: Timestamp::from_micros(1_795_250_600_000_000),
            source_time: Timestamp::from_micros(1_795_250_599_000_000),
            agent_version: "0.1.0".to_owned(),
        };
        SignedHeader::sign(header, &key())
    }

    #[test]
    fn a_header_is_believed_only_as_it_was_signed() {
        let signed = sample(1, Digest::ZERO);
        let again = SignedHeader::read(signed.bytes.clone(), signed.signature).unwrap();
        assert_eq!(again.verify(&key().public()), Ok(()));
        let text = String::from_utf8(signed.bytes.clone()).unwrap();
        let changed = text.replace("\"insert\":1", "\"insert\":2").into_bytes();
        let changed = SignedHeader::read(changed, signed.signature).unwrap();
        assert_eq!(changed.verify(&key().public()), Err(BadHeader::Signature));
        let spaced = text.replace("\":", "\": ").into_bytes();
        assert_eq!(SignedHeader::read(spaced, signed.signature), Err(BadHeader::Form));
        let extra = text.replacen('{', "{\"a\":1,", 1).into_bytes();
        assert_eq!(SignedHeader::read(extra, signed.signature), Err(BadHeader::Form));
    }

    #[test]
    fn a_header_counts_broken_rules_by_names_and_nothing_else() {
        let read = |name: &str, times: usize| {
            let mut header = sample(1, Digest::ZERO).header;
            let names =
                (0..times).map(|n| if n == 0 { name.to_owned() } else { format!("warn/a{n}/b") });
            header.quality = names.map(|name| (name, 3)).collect();
            let signed = SignedHeader::sign(header, &key());
            SignedHeader::read(signed.bytes, signed.signature)
                .map(|signed| signed.header.quality.len())
        };
        assert_eq!(read("warn/so_dinh_danh/citizen_id_sex", 1), Ok(1));
        assert_eq!(read("reject_row/-/row_bytes_max", 100), Ok(100));
        assert_eq!(read("reject_row/-/row_bytes_max", 101), Err(BadHeader::Form));
        for name in ["warn/Nguyễn Văn An/x", "warn/a", "warn//x", "warn/a/b/c"] {
            assert_eq!(read(name, 1), Err(BadHeader::Form), "{name}");
        }
    }
}
