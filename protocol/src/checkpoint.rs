//! A checkpoint: how large the log is and its root, signed by the log and by its witnesses.
//!
//! The form is C2SP's tlog-checkpoint under Sigsum's name for a log, so that the log's signature
//! and the witnesses' (tlog-cosignature v1) hold for Sigsum's tools too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::{PublicKey, SIGNATURE_BYTES, Signature, SigningKey};
use crate::note::{COSIGNATURE, ED25519, Line, Note, key_id};
use crate::time::Timestamp;

/// The hub's word for which key signs its log, for agents that were given no policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKey {
    /// The key whose owner signs checkpoints.
    pub log_key: PublicKey,
    /// By the key that signs receipts.
    pub signature: Signature,
}

impl LogKey {
    /// States it.
    #[must_use]
    pub fn sign(log_key: PublicKey, hub: &SigningKey) -> Self {
        Self { log_key, signature: hub.sign(&Self::text(&log_key)) }
    }

    /// The key, if the hub whose receipts this key signs says so.
    #[must_use]
    pub fn verified(&self, hub: &PublicKey) -> Option<PublicKey> {
        hub.verifies(&Self::text(&self.log_key), &self.signature).then_some(self.log_key)
    }

    fn text(log_key: &PublicKey) -> Vec<u8> {
        format!("phusa log key v1\n{log_key}\n").into_bytes()
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries in the log.
    pub size: u64,
    /// The root of the tree over their leaves.
    pub root: Digest,
}

/// A head with the log's signature, which has been checked, and whatever witnesses added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says.
    pub head: Head,
    /// The log's signature.
    pub signature: Signature,
    /// Witnesses' signatures; checked only against a witness's key.
    pub cosignatures: Vec<Cosignature>,
    log: PublicKey,
}

/// A witness's statement that it has seen this head and that it extends those it saw before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's name.
    pub name: String,
    /// The id of its key under that name.
    pub key_id: [u8; 4],
    /// When, in seconds since 1970 by the witness's clock.
    pub time: u64,
    /// Over head and time.
    pub signature: Signature,
}

/// Why a text is no checkpoint of the log whose key was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// It has another form.
    #[error("not a checkpoint")]
    Form,
    /// It names another log.
    #[error("a checkpoint of another log")]
    OtherLog,
    /// The log did not sign it.
    #[error("not signed with the log's key")]
    Signature,
}

/// The log's name: Sigsum's, made from its key.
#[must_use]
pub fn origin(log: &PublicKey) -> String {
    format!("sigsum.org/v1/tree/{}", log.hash())
}

impl Head {
    /// The text that the log signs.
    #[must_use]
    pub fn text(&self, log: &PublicKey) -> String {
        format!("{}\n{}\n{}\n", origin(log), self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// The text that a witness signs.
    #[must_use]
    pub fn cosigned_text(&self, log: &PublicKey, time: u64) -> String {
        format!("cosignature/v1\ntime {time}\n{}", self.text(log))
    }

    fn parse(text: &str, log: &PublicKey) -> Result<Self, BadCheckpoint> {
        let mut lines = text.strip_suffix('\n').ok_or(BadCheckpoint::Form)?.split('\n');
        if lines.next() != Some(&origin(log)) {
            return Err(BadCheckpoint::OtherLog);
        }
        let size = lines.next().and_then(|size| size.parse().ok());
        let root = lines.next().and_then(|root| BASE64.decode(root).ok()?.try_into().ok());
        let head = Self {
            size: size.ok_or(BadCheckpoint::Form)?,
            root: Digest::from_bytes(root.ok_or(BadCheckpoint::Form)?),
        };
        // Letter by letter what we would write: no sign, no leading nought, nothing after it.
        if head.text(log) == text { Ok(head) } else { Err(BadCheckpoint::Form) }
    }
}

impl Checkpoint {
    /// Signs with the log's key.
    #[must_use]
    pub fn sign(head: Head, key: &SigningKey) -> Self {
        let log = key.public();
        let signature = key.sign(head.text(&log).as_bytes());
        Self { head, signature, cosignatures: Vec::new(), log }
    }

    /// Reads a note and checks the log's signature; other signatures are kept as they are.
    ///
    /// # Errors
    /// When it is no checkpoint, or not this log's.
    pub fn parse(note: &str, log: &PublicKey) -> Result<Self, BadCheckpoint> {
        let note = Note::parse(note).map_err(|_| BadCheckpoint::Form)?;
        let head = Head::parse(&note.text, log)?;
        let name = origin(log);
        let id = key_id(&name, ED25519, log);
        let mut signature = None;
        let mut cosignatures = Vec::new();
        for line in &note.signatures {
            if line.name == name && line.key_id == id {
                signature = line.bytes.as_slice().try_into().ok().map(Signature::from_bytes);
            } else if let Some(cosignature) = Cosignature::from_line(line) {
                cosignatures.push(cosignature);
            }
        }
        let signature = signature.ok_or(BadCheckpoint::Signature)?;
        if !log.verifies(note.text.as_bytes(), &signature) {
            return Err(BadCheckpoint::Signature);
        }
        Ok(Self { head, signature, cosignatures, log: *log })
    }

    /// The log's key.
    #[must_use]
    pub fn log(&self) -> &PublicKey {
        &self.log
    }

    /// The note with all signatures.
    #[must_use]
    pub fn to_note(&self) -> String {
        let name = origin(&self.log);
        let own = Line {
            key_id: key_id(&name, ED25519, &self.log),
            name,
            bytes: self.signature.as_bytes().to_vec(),
        };
        let others = self.cosignatures.iter().map(Cosignature::to_line);
        let signatures = std::iter::once(own).chain(others).collect();
        Note { text: self.head.text(&self.log), signatures }.to_text()
    }

    /// Adds a witness's signature.
    pub fn cosign(&mut self, name: &str, key: &SigningKey, now: Timestamp) {
        let time = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
        let signature = key.sign(self.head.cosigned_text(&self.log, time).as_bytes());
        let key_id = key_id(name, COSIGNATURE, &key.public());
        self.cosignatures.push(Cosignature { name: name.to_owned(), key_id, time, signature });
    }

    /// The cosignature that the owner of this key made, if there is a true one.
    #[must_use]
    pub fn cosigned_by(&self, witness: &PublicKey) -> Option<&Cosignature> {
        self.cosignatures.iter().find(|cosignature| cosignature.holds(self, witness))
    }
}

impl Cosignature {
    /// Whether the owner of this key made it, over this checkpoint's head.
    #[must_use]
    pub fn holds(&self, checkpoint: &Checkpoint, witness: &PublicKey) -> bool {
        let text = checkpoint.head.cosigned_text(&checkpoint.log, self.time);
        self.key_id == key_id(&self.name, COSIGNATURE, witness)
            && witness.verifies(text.as_bytes(), &self.signature)
    }

    fn from_line(line: &Line) -> Option<Self> {
        let (time, signature) = line.bytes.split_first_chunk::<8>()?;
        let signature: [u8; SIGNATURE_BYTES] = signature.try_into().ok()?;
        Some(Self {
            name: line.name.clone(),
            key_id: line.key_id,
            time: u64::from_be_bytes(*time),
            signature: Signature::from_bytes(signature),
        })
    }

    /// Reads a line of a note; `None` when it is no cosignature.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        Self::from_line(&Line::parse(line)?)
    }

    /// As a line of a note.
    #[must_use]
    pub fn to_line(&self) -> Line {
        let bytes = [&self.time.to_be_bytes()[..], self.signature.as_bytes()].concat();
        Line { name: self.name.clone(), key_id: self.key_id, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::key;

    #[test]
    fn a_checkpoint_comes_back_with_its_cosignatures_and_no_letter_can_be_changed() {
        let log = SigningKey::from_text("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=").unwrap();
        let head = Head { size: 12, root: Digest::of(b"root") };
        let mut checkpoint = Checkpoint::sign(head, &log);
        checkpoint.cosign("H57.12/may-1", &key(), Timestamp::from_micros(1_700_000_000_000_000));
        let note = checkpoint.to_note();
        let read = Checkpoint::parse(&note, &log.public()).unwrap();
        assert_eq!(read, checkpoint);
        assert_eq!(read.cosigned_by(&key().public()).map(|c| c.time), Some(1_700_000_000));
        assert!(read.cosigned_by(&log.public()).is_none());
        assert_eq!(Checkpoint::parse(&note, &key().public()), Err(BadCheckpoint::OtherLog));
        for (from, to) in [("\n12\n", "\n13\n"), ("\n12\n", "\n012\n"), ("\n12\n", "\n+12\n")] {
            assert!(Checkpoint::parse(&note.replace(from, to), &log.public()).is_err(), "{to}");
        }
        let (text, _) = note.split_once("\n\n").unwrap();
        assert_eq!(Checkpoint::parse(text, &log.public()), Err(BadCheckpoint::Form));
    }
}
