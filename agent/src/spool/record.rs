//! Pure: one batch, with the place to resume from after it, to sealed bytes and back.
//!
//! `"PHS1" · 24 bytes nonce · XChaCha20-Poly1305 of (u32 resume length · resume · frame)`. The
//! associated data names the stream and the number, so that a file put under another name does not
//! open. Unreadable without the key, and any change is found (CB-09).

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};

use crate::source::Resume;

const MAGIC: [u8; 4] = *b"PHS1";
const NONCE_BYTES: usize = 24;

/// What a spool file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where the source goes on once this record is durable.
    pub resume: Resume,
    /// The batch as one frame; empty in a position note.
    pub frame: Vec<u8>,
}

/// Which record it is: bound into the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Of which dataset.
    pub dataset: &'a DatasetId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Its number; for a position note, the last batch before it.
    pub seq: Seq,
    /// Whether it is a position note.
    pub is_note: bool,
}

/// A sealed record that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Cut, altered, moved, or sealed with another key.
    #[error("the seal does not open: the file was damaged, moved, or sealed with another key")]
    Seal,
    /// The operating system gave no random nonce.
    #[error("no randomness from the operating system")]
    Random,
}

/// The key that seals records.
#[derive(Clone)]
pub struct SealKey(XChaCha20Poly1305);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(secret)")
    }
}

impl SealKey {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Seals a record for its place.
    ///
    /// # Errors
    /// [`BadRecord::Random`].
    pub fn seal(&self, place: Place<'_>, record: &Record) -> Result<Vec<u8>, BadRecord> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| BadRecord::Random)?;
        let resume = &record.resume.0;
        let mut plain = Vec::with_capacity(4 + resume.len() + record.frame.len());
        plain.extend_from_slice(&u32::try_from(resume.len()).unwrap_or(u32::MAX).to_be_bytes());
        plain.extend_from_slice(resume);
        plain.extend_from_slice(&record.frame);
        let aad = place.to_string();
        let payload = Payload { msg: &plain, aad: aad.as_bytes() };
        let nonce = XNonce::from(nonce);
        let sealed = self.0.encrypt(&nonce, payload).map_err(|_| BadRecord::Seal)?;
        Ok([&MAGIC, nonce.as_slice(), &sealed].concat())
    }

    /// Opens a sealed record at its place.
    ///
    /// # Errors
    /// [`BadRecord::Seal`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Record, BadRecord> {
        let rest = sealed.strip_prefix(&MAGIC).ok_or(BadRecord::Seal)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(BadRecord::Seal)?;
        let aad = place.to_string();
        let payload = Payload { msg: rest, aad: aad.as_bytes() };
        let plain = self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| BadRecord::Seal)?;
        let (length, rest) = plain.split_first_chunk::<4>().ok_or(BadRecord::Seal)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BadRecord::Seal)?;
        let (resume, frame) = rest.split_at_checked(length).ok_or(BadRecord::Seal)?;
        Ok(Record { resume: Resume(resume.to_vec()), frame: frame.to_vec() })
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_note { "note" } else { "batch" };
        write!(f, "{kind}:{}:{}:{}", self.dataset, self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_whole_in_its_place_and_with_its_key() {
        let dataset = DatasetId::new("cong_dan.citizens").unwrap();
        let place = Place { dataset: &dataset, epoch: Epoch(1), seq: Seq(7), is_note: false };
        let record = Record { resume: Resume(b"0/16B3748".to_vec()), frame: b"canary".to_vec() };
        let key = SealKey::new(&[1; 32]);
        let sealed = key.seal(place, &record).unwrap();
        assert_eq!(key.open(place, &sealed), Ok(record));
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert_eq!(key.open(place, &damaged), Err(BadRecord::Seal), "byte {index}");
        }
        let elsewhere = Place { seq: Seq(8), ..place };
        assert_eq!(key.open(elsewhere, &sealed), Err(BadRecord::Seal));
        assert_eq!(SealKey::new(&[2; 32]).open(place, &sealed), Err(BadRecord::Seal));
    }
}
