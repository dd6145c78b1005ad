//! Evidence that an entry stands in the log, in Sigsum's form of a proof (version 2).
//!
//! With the entry's bytes, the hub's public key and a policy, anyone can check it, with our
//! programs or with `sigsum-verify`; nothing else is needed, and nobody has to be asked.

use std::collections::BTreeSet;

use crate::checkpoint::{Checkpoint, Head};
use crate::digest::Digest;
use crate::hex;
use crate::keys::{PublicKey, Signature};
use crate::leaf::{Leaf, checksum};
use crate::policy::Policy;
use crate::tree::includes;

/// Hashes in a proof at most; a tree of 2^63 leaves needs no more.
const HASHES_MAX: usize = 63;

/// Cosignatures in a proof at most.
const COSIGNATURES_MAX: usize = 2_000;

/// A proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Hash of the log's key.
    pub log: Digest,
    /// Hash of the key that signed the leaf.
    pub submitter: Digest,
    /// The leaf's signature.
    pub leaf_signature: Signature,
    /// The log as it was.
    pub head: Head,
    /// The log's signature over that.
    pub signature: Signature,
    /// Witnesses' signatures over that: hash of the key, seconds since 1970, signature.
    pub cosignatures: Vec<(Digest, u64, Signature)>,
    /// The leaf's place, from 0.
    pub index: u64,
    /// From the leaf up.
    pub hashes: Vec<Digest>,
}

/// Why evidence does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEvidence {
    /// It has another form.
    #[error("not a proof of version 2")]
    Form,
    /// The leaf was signed by somebody else.
    #[error("the leaf is not signed with the hub's key, or is another entry's")]
    Leaf,
    /// The log is none that the policy believes, or it did not sign.
    #[error("the tree is not signed by a log that the policy names")]
    Log,
    /// A witness that the policy names did not sign what stands under its name.
    #[error("a witness's signature is not true")]
    Witness,
    /// Too few witnesses.
    #[error("not enough witnesses have signed for the policy's quorum")]
    Quorum,
    /// The leaf is not there.
    #[error("the log does not hold this entry at this place")]
    Inclusion,
}

impl Evidence {
    /// Puts a proof together; `witnesses` are those whose cosignatures are taken along.
    #[must_use]
    pub fn new(
        leaf: &Leaf,
        (index, hashes): (u64, Vec<Digest>),
        checkpoint: &Checkpoint,
        witnesses: &[PublicKey],
    ) -> Self {
        let cosigned = |key: &PublicKey| {
            let found = checkpoint.cosigned_by(key)?;
            Some((key.hash(), found.time, found.signature))
        };
        Self {
            log: checkpoint.log().hash(),
            submitter: leaf.key_hash,
            leaf_signature: leaf.signature,
            head: checkpoint.head,
            signature: checkpoint.signature,
            cosignatures: witnesses.iter().filter_map(cosigned).collect(),
            index,
            hashes,
        }
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let signature = |signature: &Signature| hex::encode(signature.as_bytes());
        let mut text = format!(
            "version=2\nlog={}\nleaf={} {}\n\nsize={}\nroot_hash={}\nsignature={}\n",
            self.log,
            self.submitter,
            signature(&self.leaf_signature),
            self.head.size,
            self.head.root,
            signature(&self.signature)
        );
        for (key, time, cosignature) in &self.cosignatures {
            text += &format!("cosignature={key} {time} {}\n", signature(cosignature));
        }
        if self.head.size > 1 {
            text += &format!("\nleaf_index={}\n", self.index);
            self.hashes.iter().for_each(|hash| text += &format!("node_hash={hash}\n"));
        }
        text
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is no proof of version 2.
    pub fn parse(text: &str) -> Result<Self, BadEvidence> {
        Self::read(text).ok_or(BadEvidence::Form)
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n').peekable();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix('=');
        let signature = |text: &str| hex::decode(text).map(Signature::from_bytes);
        let digest = |text: &str| hex::decode(text).map(Digest::from_bytes);
        if value("version")? != "2" {
            return None;
        }
        let log = digest(value("log")?)?;
        let (submitter, leaf_signature) = value("leaf")?.split_once(' ')?;
        let (submitter, leaf_signature) = (digest(submitter)?, signature(leaf_signature)?);
        if !lines.next()?.is_empty() {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix('=');
        let size = value("size")?.parse().ok().filter(|size| *size > 0)?;
        let head = Head { size, root: digest(value("root_hash")?)? };
        let tree_signature = signature(value("signature")?)?;
        let mut cosignatures = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("cosignature=")) {
            let mut words = line.strip_prefix("cosignature=")?.split(' ');
            let (key, time) = (digest(words.next()?)?, words.next()?.parse().ok()?);
            cosignatures.push((key, time, signature(words.next()?)?));
        }
        let (mut index, mut hashes) = (0, Vec::new());
        if size > 1 {
            if !lines.next()?.is_empty() {
                return None;
            }
            index = lines.next()?.strip_prefix("leaf_index=")?.parse().ok()?;
            for line in lines.by_ref() {
                hashes.push(digest(line.strip_prefix("node_hash=")?)?);
            }
        }
        let bounded = hashes.len() <= HASHES_MAX && cosignatures.len() <= COSIGNATURES_MAX;
        (bounded && lines.next().is_none()).then_some(Self {
            log,
            submitter,
            leaf_signature,
            head,
            signature: tree_signature,
            cosignatures,
            index,
            hashes,
        })
    }

    /// Checks everything: the entry's leaf, the log, the witnesses, the place.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(
        &self,
        entry: &[u8],
        submitters: &[PublicKey],
        policy: &Policy,
    ) -> Result<(), BadEvidence> {
        let leaf = Leaf {
            checksum: checksum(entry),
            signature: self.leaf_signature,
            key_hash: self.submitter,
        };
        if !submitters.iter().any(|key| leaf.covers(entry, key)) {
            return Err(BadEvidence::Leaf);
        }
        let log = policy.logs().iter().find(|log| log.hash() == self.log);
        let log = log.ok_or(BadEvidence::Log)?;
        if !log.verifies(self.head.text(log).as_bytes(), &self.signature) {
            return Err(BadEvidence::Log);
        }
        let mut signed = BTreeSet::new();
        for (key_hash, time, signature) in &self.cosignatures {
            // A witness the policy does not know says nothing, true or not.
            let Some(witness) = policy.witness(*key_hash) else { continue };
            let text = self.head.cosigned_text(log, *time);
            if !witness.verifies(text.as_bytes(), signature) {
                return Err(BadEvidence::Witness);
            }
            signed.insert(*key_hash);
        }
        if !policy.is_met(&signed) {
            return Err(BadEvidence::Quorum);
        }
        let head = (self.head.size, self.head.root);
        if includes(leaf.hash(), self.index, head, &self.hashes) {
            Ok(())
        } else {
            Err(BadEvidence::Inclusion)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;
    use crate::time::Timestamp;
    use crate::tree::node_hash;

    #[test]
    fn evidence_holds_for_its_entry_and_names_what_does_not() {
        let key = || SigningKey::generate().unwrap();
        let (hub, log, agent) = (key(), key(), key());
        let leaf = |entry: &[u8]| Leaf::sign(entry, &hub);
        let (one, two) = (leaf(b"one"), leaf(b"two"));
        let head = Head { size: 2, root: node_hash(one.hash(), two.hash()) };
        let mut checkpoint = Checkpoint::sign(head, &log);
        checkpoint.cosign("a", &agent, Timestamp::from_micros(5_000_000));
        let path = (1, vec![one.hash()]);
        let witnesses = [agent.public()];
        let evidence = Evidence::new(&two, path.clone(), &checkpoint, &witnesses);
        assert_eq!(Evidence::parse(&evidence.to_text()).as_ref(), Ok(&evidence));
        let agents = [("a".to_owned(), agent.public())];
        let policy = Policy::of_agents(log.public(), &agents, 1);
        let check =
            |evidence: &Evidence, entry: &[u8]| evidence.verify(entry, &[hub.public()], &policy);
        assert_eq!(check(&evidence, b"two"), Ok(()));
        assert_eq!(check(&evidence, b"twO"), Err(BadEvidence::Leaf));
        let altered = |alter: fn(&mut Evidence)| {
            let mut altered = evidence.clone();
            alter(&mut altered);
            check(&altered, b"two")
        };
        assert_eq!(altered(|e| e.index = 0), Err(BadEvidence::Inclusion));
        assert_eq!(altered(|e| e.hashes.clear()), Err(BadEvidence::Inclusion));
        assert_eq!(altered(|e| e.head.size = 3), Err(BadEvidence::Log));
        assert_eq!(altered(|e| e.cosignatures[0].1 += 1), Err(BadEvidence::Witness));
        assert_eq!(altered(|e| e.cosignatures.clear()), Err(BadEvidence::Quorum));
        for line in 0..evidence.to_text().lines().count() {
            let text: Vec<_> = evidence.to_text().lines().map(ToOwned::to_owned).collect();
            let without: String = text
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != line)
                .map(|(_, l)| format!("{l}\n"))
                .collect();
            let held = Evidence::parse(&without).is_ok_and(|e| check(&e, b"two").is_ok());
            assert!(!held, "without line {line}");
        }
    }
}
