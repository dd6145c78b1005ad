//! What a backup consists of, signed by the hub: the digest of each file, and how much of the log it
//! holds.

use std::path::Path;

use phusa_protocol::batch::canonical_json;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::{PublicKey, Signature, SigningKey};
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Its name in a backup's folder.
pub const FILE: &str = "manifest.json";

/// Longer than any that is written.
const BYTES_MAX: u64 = 1 << 20;

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Form; 1.
    pub v: u32,
    /// The backup's name.
    pub name: String,
    /// When it was begun, by the hub's clock.
    pub made_at: Timestamp,
    /// The program that made it.
    pub hub_version: String,
    /// The major version of PostgreSQL that it needs.
    pub postgresql: u32,
    /// Whose it is.
    pub hub: PublicKey,
    /// Numbered entries of the transfer log that it holds at least.
    pub entries: u64,
    /// The link of the last of them; all zero for none.
    pub link: Digest,
    /// The published log's checkpoint at that time, as a signed note; absent before the first.
    pub checkpoint: Option<String>,
    /// Its files.
    pub files: Vec<Part>,
}

/// A manifest with its signature, as read.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What it says.
    pub manifest: Manifest,
    /// Its bytes, letter by letter.
    text: String,
    signature: Signature,
}

impl Manifest {
    /// The file: the canonical JSON and, on the next line, the hub's signature over it.
    #[must_use]
    pub fn seal(&self, key: &SigningKey) -> String {
        let bytes = canonical_json(self);
        let signature = String::from(key.sign(&bytes));
        format!("{}\n{signature}\n", String::from_utf8(bytes).unwrap_or_default())
    }

    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|part| part.bytes).sum()
    }
}

impl Signed {
    /// Reads the manifest of a backup's folder.
    ///
    /// # Errors
    /// `backup_broken` when it is none.
    pub fn read(folder: &Path) -> Result<Self, Fault> {
        use std::io::Read as _;
        let path = folder.join(FILE);
        let what = || format!("manifest {}", path.display());
        let mut text = String::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| Fault::because(Code::BackupBroken, what(), error))?;
        let broken = || Fault::new(Code::BackupBroken, what());
        let (text, signature) = text.trim_end().split_once('\n').ok_or_else(broken)?;
        let manifest: Manifest = serde_json::from_str(text)
            .map_err(|error| Fault::because(Code::BackupBroken, what(), error))?;
        let signature = Signature::try_from(signature.to_owned()).map_err(|_| broken())?;
        Ok(Self { manifest, text: text.to_owned(), signature })
    }

    /// Whether this hub signed it.
    ///
    /// # Errors
    /// `backup_broken` when it did not.
    pub fn check(&self, hub: &PublicKey) -> Result<(), Fault> {
        if self.manifest.v == 1
            && self.manifest.hub == *hub
            && hub.verifies(self.text.as_bytes(), &self.signature)
        {
            return Ok(());
        }
        let what = format!("the manifest of {} is not signed by its hub", self.manifest.name);
        Err(Fault::new(Code::BackupBroken, what))
    }

    /// By which entries name it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_its_hubs_and_no_letter_of_it_can_be_changed() {
        let key = SigningKey::generate().unwrap();
        let manifest = Manifest {
            v: 1,
            name: "phusa-1".to_owned(),
            made_at: Timestamp::UNIX_EPOCH,
            hub_version: "0.1.0".to_owned(),
            postgresql: 15,
            hub: key.public(),
            entries: 7,
            link: Digest::ZERO,
            checkpoint: None,
            files: vec![Part { name: "a".to_owned(), bytes: 3, sha256: Digest::of(b"abc") }],
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let text = manifest.seal(&key);
        std::fs::write(&file, &text).unwrap();
        let read = Signed::read(dir.path()).unwrap();
        assert_eq!(read.manifest, manifest);
        read.check(&key.public()).unwrap();
        assert!(read.check(&SigningKey::generate().unwrap().public()).is_err());
        std::fs::write(&file, text.replace("\"entries\":7", "\"entries\":8")).unwrap();
        assert!(Signed::read(dir.path()).unwrap().check(&key.public()).is_err());
    }
}
