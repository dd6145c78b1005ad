//! Certificates as the agent keeps them: renewed ones in `identity/` of its state folder, because
//! the files that `agent.toml` names may not be its own to write. One file, exchanged whole, so that
//! a certificate never stands beside another one's key.

use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::Issued;
use rcgen::{CertificateParams, KeyPair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::{Files, Identity};
use crate::disk::{Disk as _, RealDisk, disk_code};

/// A certificate with its key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Current {
    /// The private key, PEM.
    pub key: String,
    /// The certificate, and whom to trust.
    pub issued: Issued,
}

/// A new key with the request that is made of it: asked again, it is the same request.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pending {
    /// The private key, PEM.
    pub key: String,
    /// The request, PKCS #10, PEM.
    pub csr: String,
    /// Which one-time code it is for; empty for a renewal.
    #[serde(default)]
    pub code: String,
}

/// The folder they are in.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

const CURRENT: &str = "current.json";
const PENDING: &str = "pending.json";

impl Kept {
    /// Below the agent's state folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("identity") }
    }

    /// The certificate renewed last, or as the files have it where that is newer.
    ///
    /// # Errors
    /// `secret_unreadable` when the files cannot be used.
    pub fn newest(&self, files: &Files) -> Result<Identity, Fault> {
        let named = Identity::read(files)?;
        let leaf = named.leaf()?;
        // Files without a generation were not made by enrolment, and nothing renews them.
        let (Some(generation), Some(agent)) = (leaf.generation, leaf.agent) else {
            return Ok(named);
        };
        let kept = self.read::<Current>(CURRENT)?;
        let newer =
            kept.filter(|kept| kept.issued.agent == agent && kept.issued.generation > generation);
        Ok(newer.map_or(named, |kept| self.identity(&kept)))
    }

    /// An answer as an identity.
    #[must_use]
    pub fn identity(&self, of: &Current) -> Identity {
        Identity {
            ca: of.issued.ca.clone().into_bytes(),
            chain: of.issued.certificate.clone().into_bytes(),
            key: of.key.clone().into_bytes(),
            from: self.folder.join(CURRENT),
        }
    }

    /// The request under way for this code, or a new one, durable before it is sent.
    ///
    /// # Errors
    /// `disk_full` or `disk_failed`.
    pub fn begin(&self, code: &str, held: Option<&[u8]>) -> Result<Pending, Fault> {
        let pending = self.read::<Pending>(PENDING)?;
        let pending = pending.filter(|pending| pending.code == code);
        // The answer came and was kept, and then the agent was stopped.
        if let Some(pending) = pending.filter(|p| held.is_none_or(|held| held != p.key.as_bytes()))
        {
            return Ok(pending);
        }
        let made = |error| Fault::because(Code::Bug, "cannot make a key", error);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let params = CertificateParams::new(Vec::new()).map_err(made)?;
        let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(made)?;
        let pending = Pending { key: key.serialize_pem(), csr, code: code.to_owned() };
        self.write(PENDING, &pending)?;
        Ok(pending)
    }

    /// Whether a request for this code is under way.
    ///
    /// # Errors
    /// `secret_unreadable` or `disk_failed` when that cannot be told.
    pub fn has_begun(&self, code: &str) -> Result<bool, Fault> {
        Ok(self.read::<Pending>(PENDING)?.is_some_and(|pending| pending.code == code))
    }

    /// Keeps an answer, then forgets its request.
    ///
    /// # Errors
    /// `disk_full` or `disk_failed`.
    pub fn keep(&self, current: &Current) -> Result<(), Fault> {
        self.write(CURRENT, current)?;
        self.done()
    }

    /// Forgets the request under way.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn done(&self) -> Result<(), Fault> {
        self.forget(PENDING)
    }

    /// Forgets what was renewed: the files have a later enrolment's.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn clear(&self) -> Result<(), Fault> {
        self.forget(CURRENT)?;
        self.forget(PENDING)
    }

    fn forget(&self, name: &str) -> Result<(), Fault> {
        match RealDisk.remove_file(&self.folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.failed(name, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        match RealDisk.read(&self.folder.join(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let file = self.folder.join(name);
                let what = format!("cannot use {}; set it aside", file.display());
                Fault::because(Code::SecretUnreadable, what, error)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        let text = serde_json::to_vec(value)
            .map_err(|error| Fault::because(Code::Bug, "cannot write an identity", error))?;
        let temporary = self.folder.join(format!("{name}.tmp"));
        let written = RealDisk
            .create_folder(&self.folder)
            .and_then(|()| RealDisk.write_synced(&temporary, &text))
            .and_then(|()| RealDisk.rename(&temporary, &self.folder.join(name)))
            .and_then(|()| RealDisk.sync_folder(&self.folder));
        written.map_err(|error| self.failed(name, error))
    }

    fn failed(&self, name: &str, error: std::io::Error) -> Fault {
        let what = format!("cannot read or write {}", self.folder.join(name).display());
        Fault::because(disk_code(&error), what, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_until_its_answer_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path());
        let first = kept.begin("", None).unwrap();
        assert_eq!(kept.begin("", None).unwrap().csr, first.csr);
        assert_ne!(kept.begin("", Some(first.key.as_bytes())).unwrap().csr, first.csr);
        let coded = kept.begin("0011", None).unwrap();
        assert_eq!(kept.begin("0011", None).unwrap().csr, coded.csr);
        assert_ne!(kept.begin("", None).unwrap().csr, coded.csr);
        kept.clear().unwrap();
        kept.clear().unwrap();
    }
}
