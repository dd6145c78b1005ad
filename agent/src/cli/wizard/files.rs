//! The files that the wizard writes. What a person has changed since is set aside under another
//! name, never overwritten.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};

use crate::disk::disk_code;

/// Begins the last line of a written file; after it comes what the rest amounts to.
const SEAL: &str = "# phusa-agent wizard ";

/// Versions of one file that are set aside before the wizard refuses to write another.
const ASIDE_MAX: u32 = 100;

/// Writes a file with this mode so that there is the old one or the new one.
pub(super) fn write(file: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    let temporary = file.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(&temporary).and_then(|mut open| {
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&temporary, file)
    });
    written.map_err(|error| {
        Fault::because(disk_code(&error), format!("cannot write {}", file.display()), error)
    })
}

/// Makes a folder with all above it.
pub(super) fn folder(path: &Path) -> Result<(), Fault> {
    fs::create_dir_all(path).map_err(|error| {
        Fault::because(disk_code(&error), format!("cannot make folder {}", path.display()), error)
    })
}

/// Writes a file that people may edit; returns where their version went, if they did.
pub(super) fn put(file: &Path, text: &str) -> Result<Option<PathBuf>, Fault> {
    let sealed = format!("{text}\n{SEAL}{}\n", seal(text));
    let mut aside = None;
    match fs::read_to_string(file) {
        Ok(old) if old == sealed => return Ok(None),
        Ok(old) if is_untouched(&old) => {}
        Ok(_) => aside = Some(set_aside(file)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let what = format!("cannot read {}", file.display());
            return Err(Fault::because(Code::ConfigInvalid, what, error));
        }
    }
    write(file, &sealed, 0o644)?;
    Ok(aside)
}

fn seal(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string().chars().take(16).collect()
}

/// Whether the file is as the wizard wrote it.
fn is_untouched(old: &str) -> bool {
    let parts = old.rsplit_once(&format!("\n{SEAL}"));
    parts.is_some_and(|(text, sealed)| sealed.trim_end() == seal(text))
}

fn set_aside(file: &Path) -> Result<PathBuf, Fault> {
    let name = |number: u32| PathBuf::from(format!("{}.{number}.old", file.display()));
    let free = (1..=ASIDE_MAX).map(name).find(|path| !path.exists());
    let full = || Fault::new(Code::DiskFailed, format!("{} old versions of it", ASIDE_MAX));
    let aside = free.ok_or_else(full)?;
    fs::rename(file, &aside).map_err(|error| {
        Fault::because(disk_code(&error), format!("cannot set {} aside", file.display()), error)
    })?;
    Ok(aside)
}

/// Makes the key of pseudonyms, unless it is there.
pub(super) fn pseudonym_key(file: &Path) -> Result<bool, Fault> {
    use base64::Engine as _;
    if file.exists() {
        return Ok(false);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        Fault::because(Code::SecretUnreadable, "cannot make a key", error.to_string())
    })?;
    write(file, &base64::engine::general_purpose::STANDARD.encode(key), 0o600)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_changed_is_set_aside_and_what_the_wizard_wrote_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        assert_eq!(put(&file, "a = 1\n").unwrap(), None);
        assert_eq!(put(&file, "a = 2\n").unwrap(), None);
        let edited = fs::read_to_string(&file).unwrap().replace("a = 2", "a = 3");
        fs::write(&file, &edited).unwrap();
        let aside = put(&file, "a = 2\n").unwrap().unwrap();
        assert_eq!(aside, folder.path().join("agent.toml.1.old"));
        assert_eq!(fs::read_to_string(aside).unwrap(), edited);
        assert_eq!(put(&file, "a = 2\n").unwrap(), None);
        fs::write(&file, "b = 1\n").unwrap();
        let second = put(&file, "a = 2\n").unwrap().unwrap();
        assert_eq!(second, folder.path().join("agent.toml.2.old"));
    }

    #[test]
    fn secrets_are_for_their_owner_alone_and_a_key_is_made_once() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hmac.key");
        assert!(pseudonym_key(&file).unwrap());
        let first = fs::read(&file).unwrap();
        assert!(!pseudonym_key(&file).unwrap());
        assert_eq!(fs::read(&file).unwrap(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
