//! The key file of a person who signs releases: an Ed25519 key sealed with a passphrase (argon2id, then
//! XChaCha20-Poly1305), because it lies on a stick in a drawer and not on a guarded machine.

use std::fs;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::{PublicKey, SigningKey};
use serde::{Deserialize, Serialize};

use super::{refused, wrong};
use crate::identity::files::{write_public, write_secret};

/// Memory in KiB, passes, lanes: RFC 9106's second choice; such a file is opened a few times a year.
const COST: (u32, u32, u32) = (65_536, 3, 4);

/// Characters of a passphrase.
const PASSPHRASE_CHARACTERS_MIN: usize = 12;

#[derive(Serialize, Deserialize)]
struct Sealed {
    form: String,
    public: PublicKey,
    salt: String,
    nonce: String,
    sealed: String,
}

const FORM: &str = "phusa release key v1";

/// The operating system's error type here is no standard error, so it goes in as text.
fn no_randomness(error: getrandom::Error) -> Fault {
    Fault::because(Code::Bug, "the system gives no randomness", error.to_string())
}

fn seal(passphrase: &str, salt: &[u8]) -> Result<XChaCha20Poly1305, Fault> {
    let params = Params::new(COST.0, COST.1, COST.2, Some(32));
    let params = params.map_err(|error| refused(format!("cannot seal a key: {error}")))?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut key)
        .map_err(|error| refused(format!("cannot seal a key: {error}")))?;
    Ok(XChaCha20Poly1305::new(&key.into()))
}

/// Makes a key file of mode 0600 that is not there yet, and beside it the public key as `.pub`.
///
/// # Errors
/// `release_refused` for a short passphrase or a file that is there, `disk_failed`.
pub fn make(file: &Path, passphrase: &str) -> Result<PublicKey, Fault> {
    if passphrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
        let what = format!("a passphrase has {PASSPHRASE_CHARACTERS_MIN} characters or more");
        return Err(refused(what));
    }
    if file.exists() {
        return Err(refused(format!("{} is there already", file.display())));
    }
    let key = SigningKey::generate().map_err(no_randomness)?;
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    getrandom::fill(&mut salt).map_err(no_randomness)?;
    getrandom::fill(&mut nonce).map_err(no_randomness)?;
    let secret = key.to_secret_text();
    let sealed = seal(passphrase, &salt)?
        .encrypt(&XNonce::from(nonce), secret.as_bytes())
        .map_err(|_| refused("cannot seal a key"))?;
    let sealed = Sealed {
        form: FORM.to_owned(),
        public: key.public(),
        salt: BASE64.encode(salt),
        nonce: BASE64.encode(nonce),
        sealed: BASE64.encode(sealed),
    };
    let text = serde_json::to_string_pretty(&sealed).unwrap_or_default();
    write_secret(file, &text)?;
    write_public(&file.with_extension("pub"), &key.public().to_string())?;
    Ok(key.public())
}

/// Opens a key file.
///
/// # Errors
/// `secret_unreadable` when it is none, `release_refused` for another passphrase.
pub fn open(file: &Path, passphrase: &str) -> Result<SigningKey, Fault> {
    let what = format!("cannot use {}", file.display());
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, what.clone(), error)
    };
    let text = fs::read_to_string(file).map_err(|error| unreadable(error.into()))?;
    let sealed: Sealed = serde_json::from_str(&text).map_err(|error| unreadable(error.into()))?;
    let bytes = |text: &str| BASE64.decode(text).map_err(|error| unreadable(error.into()));
    let nonce: [u8; 24] =
        bytes(&sealed.nonce)?.try_into().map_err(|_| unreadable("no nonce".into()))?;
    let opened = seal(passphrase, &bytes(&sealed.salt)?)?
        .decrypt(&XNonce::from(nonce), bytes(&sealed.sealed)?.as_slice())
        .map_err(|_| refused(format!("{} opens with another passphrase", file.display())))?;
    let opened = String::from_utf8(opened).map_err(|error| unreadable(error.into()))?;
    SigningKey::from_text(&opened).map_err(|error| unreadable(error.into()))
}

/// The public key in a `.pub` file.
///
/// # Errors
/// `release_refused` when it is none.
pub fn public(file: &Path) -> Result<PublicKey, Fault> {
    let what = format!("{} is no public key", file.display());
    let text = fs::read_to_string(file).map_err(wrong(&what))?;
    PublicKey::try_from(text.trim().to_owned()).map_err(wrong(&what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_opens_with_its_passphrase_alone_and_shows_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("an.key");
        assert_eq!(make(&file, "too short").unwrap_err().code, Code::ReleaseRefused);
        let made = make(&file, "ba mươi sáu phố phường").unwrap();
        assert_eq!(make(&file, "ba mươi sáu phố phường").unwrap_err().code, Code::ReleaseRefused);
        let opened = open(&file, "ba mươi sáu phố phường").unwrap();
        assert_eq!(opened.public(), made);
        assert_eq!(public(&file.with_extension("pub")).unwrap(), made);
        assert!(!fs::read_to_string(&file).unwrap().contains(&opened.to_secret_text()));
        assert_eq!(open(&file, "ba mươi sáu phố phườnh").unwrap_err().code, Code::ReleaseRefused);
    }
}
