//! `Store`: the folder of releases below the hub's state folder.
//!
//! `metadata/` and `targets/` are what agents are served; `draft/` is what people have not signed enough
//! yet; `online.key` is the hub's own key. A file has its name only when it is whole and synced.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use serde::de::DeserializeOwned;
use tough::schema::{Root, Signed, Snapshot, Targets};

use super::wrong;
use crate::identity::files::{make_dir, signing_key};

/// The largest metadata file, in bytes.
const METADATA_BYTES_MAX: u64 = 8 << 20;

/// Where releases are.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The one of this state folder; it need not be there.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("release") }
    }

    /// What agents read of.
    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.dir.join("metadata")
    }

    /// The programs.
    #[must_use]
    pub fn targets_dir(&self) -> PathBuf {
        self.dir.join("targets")
    }

    /// What waits for signatures.
    #[must_use]
    pub fn draft(&self) -> PathBuf {
        self.dir.join("draft")
    }

    /// Whether anything was ever published.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.metadata().join("1.root.json").exists()
    }

    /// Makes the folders that are missing.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn make(&self) -> Result<(), Fault> {
        for dir in [self.metadata(), self.targets_dir(), self.draft().join("targets")] {
            make_dir(&dir)?;
        }
        Ok(())
    }

    /// Keeps others from writing metadata as long as what comes back lives.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn lock(&self) -> Result<File, Fault> {
        make_dir(&self.dir)?;
        let locked = File::create(self.dir.join("lock")).and_then(|file| {
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(file)
        });
        locked.map_err(disk(format!("cannot lock {}", self.dir.display())))
    }

    /// The hub's own key; made where there is none.
    ///
    /// # Errors
    /// `secret_unreadable`, `disk_failed`.
    pub fn online_key(&self) -> Result<SigningKey, Fault> {
        make_dir(&self.dir)?;
        signing_key(&self.online_key_file())
    }

    pub(super) fn online_key_file(&self) -> PathBuf {
        self.dir.join("online.key")
    }

    /// The newest root, where there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn root(&self) -> Result<Option<Signed<Root>>, Fault> {
        self.newest("root.json")
    }

    /// The newest targets, where there are any.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn targets(&self) -> Result<Option<Signed<Targets>>, Fault> {
        self.newest("targets.json")
    }

    /// The newest snapshot, where there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn snapshot(&self) -> Result<Option<Signed<Snapshot>>, Fault> {
        self.newest("snapshot.json")
    }

    /// The timestamp, where there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn timestamp(&self) -> Result<Option<Signed<tough::schema::Timestamp>>, Fault> {
        read(&self.metadata().join("timestamp.json"))
    }

    fn newest<T: DeserializeOwned>(&self, ending: &str) -> Result<Option<Signed<T>>, Fault> {
        let failed = disk(format!("cannot list {}", self.metadata().display()));
        let entries = match fs::read_dir(self.metadata()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let number = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(ending)?.strip_suffix('.')?.parse::<u64>().ok()
        };
        match entries.flatten().filter_map(number).max() {
            Some(number) => read(&self.metadata().join(format!("{number}.{ending}"))),
            None => Ok(None),
        }
    }

    /// At most `bytes_max` bytes of a file that agents are served, from `from` on; `None` when there is
    /// no such file or its name is none of a release's.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn piece(
        &self,
        (folder, name): (Folder, &str),
        from: u64,
        bytes_max: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        if !is_name(name) {
            return Ok(None);
        }
        let dir = match folder {
            Folder::Metadata => self.metadata(),
            Folder::Targets => self.targets_dir(),
        };
        let mut file = match File::open(dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Which of the two folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Signed words.
    Metadata,
    /// Programs.
    Targets,
}

/// Whether a name can be one of a release's files: nothing that leads elsewhere.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(plain)
}

/// A file of metadata; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<Signed<T>>, Fault> {
    let what = format!("cannot read {}", file.display());
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(what)(error)),
    };
    let mut bytes = Vec::new();
    open.take(METADATA_BYTES_MAX).read_to_end(&mut bytes).map_err(disk(what.clone()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(wrong(&what))
}

/// Writes a file so that it is whole under its name or not there, and stays after a power cut.
pub(super) fn put(file: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let written = || {
        let temporary = file.with_extension("part");
        let mut open = File::create(&temporary)?;
        open.write_all(bytes)?;
        open.sync_all()?;
        fs::rename(&temporary, file)?;
        sync_folder(file)
    };
    written().map_err(disk(format!("cannot write {}", file.display())))
}

/// Gives a file another name for good.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    let renamed = fs::rename(from, to).and_then(|()| sync_folder(to));
    renamed.map_err(disk(format!("cannot write {}", to.display())))
}

fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes a file that need not be there.
pub(super) fn remove(file: &Path) -> Result<(), Fault> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(disk(format!("cannot remove {}", file.display()))(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn disk(what: String) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::because(Code::DiskFailed, what.clone(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_of_the_two_folders_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.make().unwrap();
        put(&store.metadata().join("1.root.json"), b"0123456789").unwrap();
        store.online_key().unwrap();
        let piece = |name, from, max| store.piece((Folder::Metadata, name), from, max).unwrap();
        assert_eq!(piece("1.root.json", 0, 4).unwrap(), b"0123");
        assert_eq!(piece("1.root.json", 8, 4).unwrap(), b"89");
        assert_eq!(piece("1.root.json", 99, 4).unwrap(), b"");
        for bad in ["", "..", "../online.key", "a/b", ".part", "2.root.json", "a\0b"] {
            assert_eq!(piece(bad, 0, 4), None, "{bad:?}");
        }
    }
}
