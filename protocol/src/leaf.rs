//! An entry's leaf in the transparency log, as Sigsum forms it: checksum, signature, key hash.
//!
//! The leaf tells nothing of the entry but that somebody who has it can prove it: the checksum is
//! `SHA-256(SHA-256(entry))`, signed by the hub's key under a name of its own.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::{PublicKey, SIGNATURE_BYTES, Signature, SigningKey};
use crate::tree::leaf_hash;

/// Length of a leaf in bytes.
pub const LEAF_BYTES: usize = 128;

const NAMESPACE: &[u8] = b"sigsum.org/v1/tree-leaf\0";

/// What stands in the log for one entry; in JSON 256 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Leaf {
    /// `SHA-256(SHA-256(entry))`.
    pub checksum: Digest,
    /// The submitter's signature over the checksum.
    pub signature: Signature,
    /// SHA-256 of the submitter's public key.
    pub key_hash: Digest,
}

/// An entry with its place in the log, as the hub gives it to the agent it tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its number, from 1; its leaf's index is one less.
    pub number: u64,
    /// The entry's canonical JSON, letter by letter.
    pub entry: String,
    /// Its leaf.
    pub leaf: Leaf,
}

/// A text that is no leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a leaf of 128 bytes in hexadecimal digits")]
pub struct BadLeaf;

impl TryFrom<String> for Leaf {
    type Error = BadLeaf;
    fn try_from(text: String) -> Result<Self, BadLeaf> {
        let bytes = crate::hex::decode::<LEAF_BYTES>(&text).ok_or(BadLeaf)?;
        Self::from_bytes(&bytes).ok_or(BadLeaf)
    }
}

impl From<Leaf> for String {
    fn from(leaf: Leaf) -> Self {
        crate::hex::encode(&leaf.to_bytes())
    }
}

/// The checksum of an entry's bytes.
#[must_use]
pub fn checksum(entry: &[u8]) -> Digest {
    Digest::of(Digest::of(entry).as_bytes())
}

impl Leaf {
    /// The leaf of an entry.
    #[must_use]
    pub fn sign(entry: &[u8], key: &SigningKey) -> Self {
        let checksum = checksum(entry);
        let signature = key.sign(&signed(checksum));
        Self { checksum, signature, key_hash: key.public().hash() }
    }

    /// Whether it is the leaf of this entry, by the owner of this key.
    #[must_use]
    pub fn covers(&self, entry: &[u8], key: &PublicKey) -> bool {
        self.checksum == checksum(entry) && self.is_signed_by(key)
    }

    /// Whether the owner of this key signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.key_hash == key.hash() && key.verifies(&signed(self.checksum), &self.signature)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEAF_BYTES] {
        let mut bytes = [0; LEAF_BYTES];
        let parts = [&self.checksum.as_bytes()[..], self.signature.as_bytes()]
            .concat()
            .into_iter()
            .chain(*self.key_hash.as_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    /// From its bytes; `None` when they are not 128.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (checksum, rest) = bytes.split_first_chunk::<32>()?;
        let (signature, key_hash) = rest.split_first_chunk::<SIGNATURE_BYTES>()?;
        Some(Self {
            checksum: Digest::from_bytes(*checksum),
            signature: Signature::from_bytes(*signature),
            key_hash: Digest::from_bytes(key_hash.try_into().ok()?),
        })
    }

    /// Its hash in the tree.
    #[must_use]
    pub fn hash(&self) -> Digest {
        leaf_hash(&self.to_bytes())
    }
}

fn signed(checksum: Digest) -> Vec<u8> {
    [NAMESPACE, checksum.as_bytes()].concat()
}

/// The leaves as `tile/entries/…` holds them: each after its length in two bytes.
#[must_use]
pub fn bundle(leaves: &[Leaf]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(leaves.len() * (LEAF_BYTES + 2));
    for leaf in leaves {
        bytes.extend_from_slice(&[0, 128]);
        bytes.extend_from_slice(&leaf.to_bytes());
    }
    bytes
}

/// The leaves of a bundle; `None` when it is none of ours.
#[must_use]
pub fn unbundle(bytes: &[u8]) -> Option<Vec<Leaf>> {
    let (leaves, rest) = bytes.as_chunks::<{ LEAF_BYTES + 2 }>();
    let read = |bytes: &[u8; LEAF_BYTES + 2]| Leaf::from_bytes(bytes.strip_prefix(&[0, 128])?);
    if rest.is_empty() { leaves.iter().map(read).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::key;

    #[test]
    fn a_leaf_covers_its_entry_and_nothing_else_and_comes_back_from_a_bundle() {
        let leaf = Leaf::sign(b"entry", &key());
        assert!(leaf.covers(b"entry", &key().public()));
        assert!(!leaf.covers(b"entrz", &key().public()));
        let other = Leaf { signature: Signature::from_bytes([1; 64]), ..leaf };
        assert!(!other.covers(b"entry", &key().public()));
        let bytes = bundle(&[leaf, other]);
        assert_eq!(unbundle(&bytes), Some(vec![leaf, other]));
        assert_eq!(unbundle(&bytes[1..]), None);
    }
}
