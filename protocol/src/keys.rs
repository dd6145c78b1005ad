//! Ed25519 keys as they stand in files and registers, and signatures over exact bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A private signing key; never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key, written in base64 (44 characters).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

/// A signature over bytes that both sides hold, written in base64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// A text that is no key or no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {0} in base64")]
pub struct BadKey(&'static str);

impl SigningKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads the one-line file form.
    ///
    /// # Errors
    /// When the text is not 32 bytes of base64.
    pub fn from_text(text: &str) -> Result<Self, BadKey> {
        let seed = decode::<32>(text).ok_or(BadKey("signing key"))?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// The one-line file form. Write it to files of mode 0600 only.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        BASE64.encode(self.0.to_bytes())
    }

    /// The key others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs exactly these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

impl PublicKey {
    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// From its 32 bytes.
    ///
    /// # Errors
    /// When they are no point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes);
        key.map(Self).map_err(|_| BadKey("public key"))
    }

    /// The key's SHA-256, by which transparency logs name it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(self.as_bytes())
    }

    /// The key as one line of OpenSSH's form, which Sigsum's tools read.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> String {
        const KIND: &[u8] = b"ssh-ed25519";
        let parts = [&[0, 0, 0, 11], KIND, &[0, 0, 0, 32], self.as_bytes()].concat();
        format!("ssh-ed25519 {} {comment}\n", BASE64.encode(parts))
    }

    /// Whether `signature` over exactly these bytes was made by this key's owner.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(bytes, &signature).is_ok()
    }
}

impl Signature {
    /// From its 64 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text.trim()).ok()?.try_into().ok()
}

impl TryFrom<String> for PublicKey {
    type Error = BadKey;
    fn try_from(text: String) -> Result<Self, BadKey> {
        Self::from_bytes(&decode::<32>(&text).ok_or(BadKey("public key"))?)
    }
}

impl TryFrom<String> for Signature {
    type Error = BadKey;
    fn try_from(text: String) -> Result<Self, BadKey> {
        decode(&text).map(Self).ok_or(BadKey("signature"))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        BASE64.encode(key.0.as_bytes())
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        BASE64.encode(signature.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", BASE64.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_and_key_verify() {
        let key = SigningKey::from_text(&BASE64.encode([7; 32])).unwrap();
        let other = SigningKey::from_text(&BASE64.encode([8; 32])).unwrap();
        let signature = key.sign(b"batch 1");
        assert!(key.public().verifies(b"batch 1", &signature));
        assert!(!key.public().verifies(b"batch 2", &signature));
        assert!(!other.public().verifies(b"batch 1", &signature));
        assert_eq!(format!("{key:?}"), "SigningKey(secret)");
    }
}
