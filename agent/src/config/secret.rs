//! Secrets from files or systemd credentials; read when they are needed, never printed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use phusa_protocol::fault::{Code, Fault};

/// No password, key or certificate chain is larger; a wrong path must not fill the memory.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What a path begins with when it names a systemd credential.
const CREDENTIAL: &str = "credential:";

/// Where a secret lies; the secret itself is read by [`SecretFile::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFile {
    /// A file that its owner alone may read.
    File(PathBuf),
    /// A file of this name in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// A secret's bytes. Shown as `Secret` wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl SecretFile {
    /// `text` is `credential:<name>` or a path, which is relative to `folder`.
    #[must_use]
    pub fn new(folder: &Path, text: &str) -> Self {
        match text.strip_prefix(CREDENTIAL) {
            Some(name) => Self::Credential(name.to_owned()),
            None => Self::File(folder.join(text)),
        }
    }

    /// Reads the secret, once the file is known to be closed to others.
    ///
    /// # Errors
    /// `secret_unreadable` when the file is missing, readable by group or others, empty or larger
    /// than 64 KiB.
    pub fn load(&self) -> Result<Secret, Fault> {
        let path = self.path()?;
        let what = || format!("cannot read the secret {self}");
        let file =
            File::open(&path).map_err(|e| Fault::because(Code::SecretUnreadable, what(), e))?;
        let mode = file.metadata().map(|m| m.permissions().mode());
        let mode = mode.map_err(|e| Fault::because(Code::SecretUnreadable, what(), e))?;
        if mode & 0o077 != 0 && matches!(self, Self::File(_)) {
            let mode = mode & 0o777;
            let what = format!("the secret {self} is open to others (mode {mode:04o})");
            return Err(Fault::new(Code::SecretUnreadable, what));
        }
        let mut bytes = Vec::new();
        let read = file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|e| Fault::because(Code::SecretUnreadable, what(), e))?;
        if bytes.is_empty() || bytes.len() as u64 > SECRET_BYTES_MAX {
            let what = format!("the secret {self} is empty or larger than 64 KiB");
            return Err(Fault::new(Code::SecretUnreadable, what));
        }
        Ok(Secret(bytes))
    }

    /// Reads a key of 32 bytes that stands in the file as base64.
    ///
    /// # Errors
    /// As [`SecretFile::load`], and when the file holds something else.
    pub fn load_key(&self) -> Result<[u8; 32], Fault> {
        let secret = self.load()?;
        let decoded = secret.text().and_then(|text| BASE64.decode(text).ok());
        decoded.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            let what = format!("the secret {self} is not 32 bytes in base64");
            Fault::new(Code::SecretUnreadable, what)
        })
    }

    /// The file to open.
    fn path(&self) -> Result<PathBuf, Fault> {
        match self {
            Self::File(path) => Ok(path.clone()),
            // systemd makes credentials readable by the service alone (mode 0440, owned by root
            // on some versions), so only their place is checked here.
            Self::Credential(name) => credential(name).ok_or_else(|| {
                let what = format!("the service was given no systemd credential `{name}`");
                Fault::new(Code::SecretUnreadable, what)
            }),
        }
    }
}

fn credential(name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.contains('/') && name != "..";
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|_| plain)?;
    Some(Path::new(&folder).join(name))
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "{CREDENTIAL}{name}"),
        }
    }
}

impl Secret {
    /// The bytes as they stand in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text without the line end that editors add; `None` when it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().map(|text| text.trim_end_matches(['\r', '\n']))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn only_a_closed_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source.password");
        let secret = SecretFile::new(folder.path(), "source.password");
        let check = |mode: u32, text: &str, expected: &str| {
            write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = match secret.load() {
                Ok(secret) => format!("{secret:?} {}", secret.text().unwrap_or("not UTF-8")),
                Err(fault) => format!("{} {}", fault.code, fault.chain()),
            };
            assert!(found.starts_with(expected), "{found}");
        };
        check(0o600, "mật khẩu \n", "Secret mật khẩu ");
        check(0o640, "x", "secret_unreadable the secret ");
        check(0o604, "x", "secret_unreadable the secret ");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.load().unwrap_err().code, Code::SecretUnreadable);
    }

    #[test]
    fn a_key_is_32_bytes_of_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hmac.key");
        let check = |text: &str, expected: Option<[u8; 32]>| {
            write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(SecretFile::File(path.clone()).load_key().ok(), expected, "{text}");
        };
        check(&format!("{}\n", BASE64.encode([7; 32])), Some([7; 32]));
        check(&BASE64.encode([7; 31]), None);
        check("not base64", None);
    }

    #[test]
    fn a_credential_keeps_to_its_folder() {
        assert_eq!(credential("../etc/shadow"), None);
        assert_eq!(credential(".."), None);
        let named = SecretFile::new(Path::new("/etc/phusa"), "credential:spool.key");
        assert_eq!(named.to_string(), "credential:spool.key");
    }
}
