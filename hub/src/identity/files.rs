//! Files of keys and certificates: made once, of mode 0600 where they are secret, replaced at once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use rcgen::{CertificateParams, KeyPair};

/// A clock may be this wrong before a new certificate is not yet valid.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// Valid from a day ago, for so many whole days after this one.
pub(crate) fn set_days(params: &mut CertificateParams, days: u32) {
    let now = Timestamp::now();
    let begin = Timestamp::from_micros(now.micros() - micros(SKEW));
    let span = Duration::from_secs(24 * 3600).saturating_mul(days.saturating_add(1));
    set_validity(params, begin, now.after(span));
}

/// Valid between these moments, to the second.
pub(crate) fn set_validity(params: &mut CertificateParams, begin: Timestamp, end: Timestamp) {
    let seconds = |moment: Timestamp| {
        Duration::from_secs(u64::try_from(moment.micros() / 1_000_000).unwrap_or(0))
    };
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(begin);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds(end);
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// What stands in a file; `None` when there is none, so that a key that cannot be read is not replaced.
pub(crate) fn existing(path: &Path) -> Result<Option<String>, Fault> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("cannot read {}", path.display());
            Err(Fault::because(Code::SecretUnreadable, what, error))
        }
    }
}

pub(crate) fn key_pair(path: &Path) -> Result<KeyPair, Fault> {
    if let Some(pem) = existing(path)? {
        return KeyPair::from_pem(&pem).map_err(|error| {
            let what = format!("{} is not a private key", path.display());
            Fault::because(Code::SecretUnreadable, what, error)
        });
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
    write_secret(path, &key.serialize_pem())?;
    Ok(key)
}

/// The key in this file, made if there is none yet; what others verify with is written beside it.
///
/// # Errors
/// When it is no key or cannot be written.
pub fn log_key(path: &Path) -> Result<SigningKey, Fault> {
    let key = signing_key(path)?;
    write_public(&path.with_extension("pub"), &key.public().to_string())?;
    // The log is nothing without its key: it must outlast a power cut before it signs.
    let folder = path.parent().unwrap_or(Path::new("."));
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    let synced = synced.and_then(|()| fs::File::open(folder)?.sync_all());
    synced.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot keep {}", path.display()), error)
    })?;
    Ok(key)
}

pub(crate) fn signing_key(path: &Path) -> Result<SigningKey, Fault> {
    if let Some(text) = existing(path)? {
        return SigningKey::from_text(&text).map_err(|error| {
            let what = format!("{} is not a signing key", path.display());
            Fault::because(Code::SecretUnreadable, what, error)
        });
    }
    let key = SigningKey::generate().map_err(not_made_for)?;
    write_secret(path, &key.to_secret_text())?;
    Ok(key)
}

pub(crate) fn not_made(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::because(Code::ConfigInvalid, "cannot make a key or certificate", error)
}

/// For error types that are no standard errors, so that they go in as text.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(crate) fn not_made_for(error: impl ToString) -> Fault {
    not_made(error.to_string())
}

pub(crate) fn make_dir(path: &Path) -> Result<(), Fault> {
    fs::create_dir_all(path).map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot make folder {}", path.display()), error)
    })
}

pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), Fault> {
    write(path, text, 0o644)
}

pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Fault> {
    write(path, text, 0o600)
}

/// The old file or the new one, whatever happens between.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&temporary);
    let written = file.and_then(|mut file| {
        file.write_all(text.trim_end().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
    })
}
