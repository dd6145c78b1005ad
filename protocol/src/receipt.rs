//! `Receipt`: the hub's statement that a batch is durable in warehouse and transfer log.
//!
//! It is sent after the commit and says only what it holds: which batch, by the digest of its
//! header; which entry of the log; when. An agent deletes a spool file only after it has verified
//! and recorded the receipt.

use serde::{Deserialize, Serialize};

use crate::batch::canonical_json;
use crate::digest::Digest;
use crate::ids::{AgentId, DatasetId, Epoch, Seq};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// What the hub states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Form of this receipt; 1.
    pub v: u32,
    /// Whose batch.
    pub agent: AgentId,
    /// Of which dataset.
    pub dataset: DatasetId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// Digest of its header.
    pub header: Digest,
    /// The transfer whose entry in the log this is.
    pub transfer: u64,
    /// When it was committed, by the hub's clock.
    pub committed_at: Timestamp,
}

/// A receipt with the hub's signature; the body of a 200 answer to `POST /v1/batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// What is stated.
    pub receipt: Receipt,
    /// The hub's signature over the receipt's canonical JSON.
    pub signature: Signature,
}

impl SignedReceipt {
    /// Signs with the hub's key.
    #[must_use]
    pub fn sign(receipt: Receipt, key: &SigningKey) -> Self {
        let signature = key.sign(&canonical_json(&receipt));
        Self { receipt, signature }
    }

    /// Whether the hub whose key this is states that the batch with this header is durable.
    #[must_use]
    pub fn covers(&self, header: Digest, key: &PublicKey) -> bool {
        self.receipt.header == header
            && key.verifies(&canonical_json(&self.receipt), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{key, sample};

    #[test]
    fn a_receipt_covers_one_header_and_cannot_be_altered() {
        let signed = sample(3, Digest::ZERO);
        let receipt = Receipt {
            v: 1,
            agent: signed.header.agent.clone(),
            dataset: signed.header.dataset.clone(),
            epoch: signed.header.epoch,
            seq: signed.header.seq,
            header: signed.digest(),
            transfer: 12,
            committed_at: Timestamp::UNIX_EPOCH,
        };
        let mut receipt = SignedReceipt::sign(receipt, &key());
        assert!(receipt.covers(signed.digest(), &key().public()));
        assert!(!receipt.covers(Digest::ZERO, &key().public()));
        receipt.receipt.transfer = 13;
        assert!(!receipt.covers(signed.digest(), &key().public()));
    }
}
