//! What only the holder of an account knows: how it is made, and in which form it is kept.
//!
//! A password is kept as its argon2id text with the parameters of OWASP's cheat sheet (19 MiB, two
//! passes); the second factor's secret sealed with a key outside the database; random codes as
//! their SHA-256, for nobody guesses 80 bits. None of them has a `Debug` form.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;

use super::totp::to_base32;

/// Characters of a password.
pub const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 12..=128;

/// Memory in KiB, passes, lanes: OWASP's first choice for argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// Passwords looked at at once: 19 MiB and some 30 ms of a core each.
static HASHING: Semaphore = Semaphore::const_new(2);

/// Recovery codes of an account.
pub const RECOVERY_CODES: usize = 8;

/// Bytes of a recovery code.
const RECOVERY_BYTES: usize = 10;

/// Bytes of an invitation.
const INVITATION_BYTES: usize = 20;

/// Bytes of a session's token: 256 bits.
const TOKEN_BYTES: usize = 32;

const NONCE_BYTES: usize = 24;

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Fault::because(Code::Bug, "the system gives no randomness", e.to_string()))?;
    Ok(bytes)
}

/// A one-time code that lets somebody take an account.
pub struct Invitation([u8; INVITATION_BYTES]);

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Invitation(…)")
    }
}

impl Invitation {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new() -> Result<Self, Fault> {
        random().map(Self)
    }

    /// As it is handed over, once.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        grouped(&to_base32(&self.0))
    }

    /// As it is kept.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        typed_digest(&self.to_secret_text())
    }
}

/// Letters in groups of four.
fn grouped(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-")
}

/// The digest of a code as somebody typed it: letters' case, spaces and dashes do not matter.
#[must_use]
pub fn typed_digest(code: &str) -> [u8; 32] {
    let letters: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .map(|letter| letter.to_ascii_uppercase())
        .collect();
    *Digest::of(letters.as_bytes()).as_bytes()
}

/// New recovery codes as they are shown once.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn recovery_codes() -> Result<Vec<String>, Fault> {
    (0..RECOVERY_CODES)
        .map(|_| random::<RECOVERY_BYTES>().map(|bytes| grouped(&to_base32(&bytes))))
        .collect()
}

/// A session's token, as it stands in a cookie and nowhere else.
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>()?)))
    }

    /// From a cookie; `None` when it cannot be one.
    #[must_use]
    pub fn from_cookie(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == TOKEN_BYTES).then(|| Self(text.to_owned()))
    }

    /// For the cookie.
    #[must_use]
    pub fn to_cookie(&self) -> &str {
        &self.0
    }

    /// As it is kept.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *Digest::of(self.0.as_bytes()).as_bytes()
    }

    /// What the forms of this session carry, so that no other site can send them.
    #[must_use]
    pub fn form_token(&self) -> String {
        Digest::of_pair(b"phusa-form/v1\n", self.0.as_bytes()).to_string()
    }
}

/// Whether a password will do; the reason when not, Vietnamese and English.
#[must_use]
pub fn password_fault(password: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let letters: std::collections::BTreeSet<char> = password.chars().collect();
    if !PASSWORD_CHARACTERS.contains(&password.chars().count()) {
        return Some((
            "Mật khẩu phải có từ 12 đến 128 ký tự.",
            "A password has 12 to 128 characters.",
        ));
    }
    if letters.len() < 6 {
        return Some((
            "Mật khẩu lặp lại quá ít ký tự khác nhau.",
            "The password repeats too few different characters.",
        ));
    }
    if password.to_lowercase().contains(name) {
        return Some((
            "Mật khẩu không được chứa tên đăng nhập.",
            "The password must not contain the account's name.",
        ));
    }
    None
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// One spelling for what keyboards compose differently.
fn composed(password: &str) -> String {
    password.nfc().collect()
}

/// A password as it is kept.
///
/// # Errors
/// When the operating system gives no randomness.
pub async fn hash(password: &str) -> Result<String, Fault> {
    let password = composed(password);
    hashing(move || {
        let failed = |what: &str| Fault::new(Code::Bug, format!("cannot hash a password: {what}"));
        let salt = SaltString::encode_b64(&random::<16>()?).map_err(|_| failed("salt"))?;
        let hash = argon2().hash_password(password.as_bytes(), &salt);
        Ok(hash.map_err(|_| failed("argon2"))?.to_string())
    })
    .await
}

/// Whether a password is the one that is kept; where none is, as much work is done for nothing, so
/// that the time tells nothing.
///
/// # Errors
/// When the work was not done.
pub async fn is_password(kept: Option<String>, typed: &str) -> Result<bool, Fault> {
    static NOBODYS: OnceLock<String> = OnceLock::new();
    let typed = composed(typed);
    hashing(move || {
        let nobodys = || {
            let salt = SaltString::encode_b64(&[7; 16]).ok();
            let hash = salt.and_then(|salt| {
                argon2().hash_password(b"", &salt).ok().map(|hash| hash.to_string())
            });
            hash.unwrap_or_default()
        };
        let is_known = kept.is_some();
        let text = kept.unwrap_or_else(|| NOBODYS.get_or_init(nobodys).clone());
        let fits = PasswordHash::new(&text)
            .is_ok_and(|hash| argon2().verify_password(typed.as_bytes(), &hash).is_ok());
        Ok(fits && is_known)
    })
    .await
}

async fn hashing<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let failed = |error: &str| Fault::new(Code::Bug, format!("password work ended: {error}"));
    let _permit = HASHING.acquire().await.map_err(|_| failed("closed"))?;
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|_| Err(failed("panicked")))
}

/// Seals second factors with a key that is not in the database.
#[derive(Clone)]
pub struct Sealer(XChaCha20Poly1305);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// With the key in this file, which is made where there is none.
    ///
    /// # Errors
    /// `secret_unreadable` when it holds no key, or cannot be made.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let wrong = |why: String| {
            Fault::because(Code::SecretUnreadable, format!("key file {}", path.display()), why)
        };
        if !path.exists() {
            make(path).map_err(|error| wrong(error.to_string()))?;
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let key = STANDARD.decode(text.trim()).map_err(|error| wrong(error.to_string()))?;
        let cipher = XChaCha20Poly1305::new_from_slice(&key);
        cipher.map(Self).map_err(|_| wrong("it does not hold 32 bytes in base64".to_owned()))
    }

    /// Seals a secret for the account of this name.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal(&self, secret: &[u8], name: &str) -> Result<Vec<u8>, Fault> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| Fault::new(Code::Bug, "cannot seal a secret"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The secret that was sealed for this name; `None` when the key is another.
    #[must_use]
    pub fn open_sealed(&self, sealed: &[u8], name: &str) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: text, aad: name.as_bytes() };
        self.0.decrypt(XNonce::from_slice(nonce), payload).ok()
    }
}

/// A new second factor's secret.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn totp_secret() -> Result<[u8; super::totp::SECRET_BYTES], Fault> {
    random()
}

/// A new key file; the one that two processes make at once is the first's.
fn make(path: &Path) -> std::io::Result<()> {
    let key: [u8; 32] = random().map_err(|_| std::io::Error::other("no randomness"))?;
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(STANDARD.encode(key).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&part, path);
    fs::remove_file(&part)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_kept_as_argon2id_and_found_again_however_it_is_composed() {
        let kept = hash("Mật khẩu đủ dài").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        let apart: String = "Mật khẩu đủ dài".nfd().collect();
        assert!(is_password(Some(kept.clone()), &apart).await.unwrap());
        assert!(!is_password(Some(kept), "Mật khẩu đủ dà").await.unwrap());
        assert!(!is_password(None, "").await.unwrap(), "nobody's password is nobody's");
    }

    #[test]
    fn a_secret_is_sealed_for_one_name_under_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Sealer::open(&dir.path().join(name)).unwrap();
        let sealed = open("a.key").seal(b"secret", "an").unwrap();
        assert_eq!(open("a.key").open_sealed(&sealed, "an").as_deref(), Some(b"secret".as_slice()));
        assert_eq!(open("a.key").open_sealed(&sealed, "binh"), None);
        assert_eq!(open("b.key").open_sealed(&sealed, "an"), None);
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn a_code_may_be_typed_with_or_without_its_dashes() {
        let invitation = Invitation::new().unwrap();
        let text = invitation.to_secret_text();
        assert_eq!(text.len(), 39, "32 letters and 7 dashes");
        assert_eq!(typed_digest(&text.to_lowercase().replace('-', " ")), invitation.digest());
        assert_ne!(typed_digest(&text[1..]), invitation.digest());
    }

    #[test]
    fn a_password_must_be_long_varied_and_not_the_name() {
        let check = |password: &str, fits: bool| {
            assert_eq!(password_fault(password, "an.nguyen").is_none(), fits, "{password}");
        };
        check("ba con mèo đen", true);
        check("ngắn", false);
        check("aaaaaaaaaaaaaaaa", false);
        check("An.Nguyen2026!x", false);
        check(&"dài ơi là dài ".repeat(20), false);
    }
}
