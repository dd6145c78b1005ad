//! A private key under a passphrase: PKCS #8 with PBES2 (scrypt, AES-256-CBC; RFC 8018, RFC 7914), which
//! `openssl pkey` opens too.

use std::path::Path;

use phusa_protocol::fault::{Code, Fault};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::scrypt::Params;
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use rcgen::KeyPair;

use super::files::{existing, not_made, not_made_for};

/// Shorter ones are guessed by whoever finds the medium.
const CHARACTERS_MIN: usize = 12;

/// What scrypt costs: five lanes of 2^14 rounds of 8 blocks, one of OWASP's equal choices; its 16 MiB
/// stay below what `openssl` lets it take.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);

const SEALED: &str = "ENCRYPTED PRIVATE KEY";

/// A passphrase; never printed.
pub struct Passphrase(String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Passphrase {
    /// One that was typed.
    ///
    /// # Errors
    /// `config_invalid` below 12 characters.
    pub fn new(text: String) -> Result<Self, Fault> {
        if text.chars().count() < CHARACTERS_MIN {
            let what = format!("a passphrase has at least {CHARACTERS_MIN} characters");
            return Err(Fault::new(Code::ConfigInvalid, what));
        }
        Ok(Self(text))
    }

    /// The first line of a file.
    ///
    /// # Errors
    /// As [`Passphrase::new`], and when the file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self, Fault> {
        let text = existing(path)?.ok_or_else(|| {
            Fault::new(Code::SecretUnreadable, format!("{} is not there", path.display()))
        })?;
        Self::new(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Whether the key in this PEM text is under a passphrase.
pub(crate) fn is_sealed(pem: &str) -> bool {
    pem.contains(SEALED)
}

/// The key as PEM under this passphrase.
pub(crate) fn seal(key: &KeyPair, Passphrase(passphrase): &Passphrase) -> Result<String, Fault> {
    let (mut salt, mut vector) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).map_err(not_made_for)?;
    getrandom::fill(&mut vector).map_err(not_made_for)?;
    let (rounds, blocks, lanes) = SCRYPT;
    let cost = Params::new(rounds, blocks, lanes, 32).map_err(not_made_for)?;
    let how = Parameters::scrypt_aes256cbc(cost, &salt, &vector).map_err(not_made_for)?;
    let plain = key.serialize_der();
    let plain = PrivateKeyInfo::try_from(plain.as_slice()).map_err(not_made)?;
    let sealed = plain.encrypt_with_params(how, passphrase).map_err(not_made)?;
    let pem = sealed.to_pem(SEALED, LineEnding::LF).map_err(not_made)?;
    Ok(String::clone(&pem))
}

/// The key that [`seal`] wrote.
pub(crate) fn open(pem: &str, Passphrase(passphrase): &Passphrase) -> Result<KeyPair, Fault> {
    let unreadable = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, what, error)
    };
    let (_, sealed) = SecretDocument::from_pem(pem.trim())
        .map_err(|error| unreadable("the encrypted key cannot be read", error.into()))?;
    let sealed = EncryptedPrivateKeyInfo::try_from(sealed.as_bytes())
        .map_err(|error| unreadable("the encrypted key cannot be read", error.into()))?;
    let plain = sealed
        .decrypt(passphrase)
        .map_err(|error| unreadable("the passphrase does not open the key", error.into()))?;
    KeyPair::try_from(plain.as_bytes())
        .map_err(|error| unreadable("the encrypted key holds no usable key", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_by_its_passphrase_alone() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let right = Passphrase::new("bến Ngự chiều mưa".to_owned()).unwrap();
        let pem = seal(&key, &right).unwrap();
        assert!(is_sealed(&pem) && !is_sealed(&key.serialize_pem()));
        assert_ne!(pem, seal(&key, &right).unwrap(), "salted");
        assert_eq!(open(&pem, &right).unwrap().serialize_der(), key.serialize_der());
        let wrong = Passphrase::new("bến Ngự chiều nắng".to_owned()).unwrap();
        let refused = open(&pem, &wrong).unwrap_err();
        assert_eq!(refused.what, "the passphrase does not open the key");
        assert_eq!(format!("{right:?}"), "Passphrase");
        assert_eq!(Passphrase::new("ngắn".to_owned()).unwrap_err().code, Code::ConfigInvalid);
    }
}
