//! The independent place: complete backups as folders, the newest last; one writer at a time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::manifest::{FILE, Signed};

/// What every backup's name begins with; the rest is its moment, so that the order of names is that of
/// time.
const PREFIX: &str = "phusa-";

/// What an unfinished one's name begins with.
const UNFINISHED: &str = ".new-";

/// Backups looked at; a place with more is cleared by hand.
const LISTED_MAX: usize = 10_000;

/// The place.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
}

/// A complete backup.
#[derive(Debug, Clone, Serialize)]
pub struct Complete {
    /// Its name.
    pub name: String,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries of the log that it holds at least.
    pub entries: u64,
    /// Its folder.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// Held while a backup is written.
#[derive(Debug)]
pub struct Writing {
    _lock: File,
}

impl Place {
    /// The place in this folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Complete backups, the oldest first. Whether they are what they say is not looked at.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub fn complete(&self) -> Result<Vec<Complete>, Fault> {
        let failed = |error| self.failed("cannot read", error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)?.take(LISTED_MAX) {
            let dir = entry.map_err(failed)?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) || !dir.join(FILE).exists() {
                continue;
            }
            let Ok(signed) = Signed::read(&dir) else { continue };
            let (bytes, manifest) = (signed.manifest.bytes(), signed.manifest);
            let (made_at, entries) = (manifest.made_at, manifest.entries);
            found.push(Complete { name, made_at, bytes, entries, dir });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The newest complete one, or the one of this name.
    ///
    /// # Errors
    /// `backup_broken` when there is none.
    pub fn find(&self, name: Option<&str>) -> Result<Complete, Fault> {
        let mut all = self.complete()?;
        let found = match name {
            None => all.pop(),
            Some(name) => all.into_iter().find(|one| one.name == name),
        };
        found.ok_or_else(|| {
            let which = name.unwrap_or("complete backup");
            Fault::new(Code::BackupBroken, format!("no {which} in {}", self.dir.display()))
        })
    }

    /// Takes the right to write; what an earlier backup left unfinished goes.
    ///
    /// # Errors
    /// `hub_busy` while another process writes; otherwise when the place cannot be written.
    pub fn lock(&self) -> Result<Writing, Fault> {
        let failed = |error| self.failed("cannot write in", error);
        if !self.dir.is_dir() {
            // Made by a person alone: an empty folder where nothing is mounted is no independent place.
            let what = format!("the place {} is not there: is it mounted?", self.dir.display());
            return Err(Fault::new(Code::DiskFailed, what));
        }
        let mut open = OpenOptions::new();
        let lock = open.create(true).truncate(false).write(true).open(self.dir.join("lock"));
        let lock = lock.map_err(failed)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Fault::new(Code::HubBusy, "another backup is being written"));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                tracing::info!("An unfinished backup is removed: {name}");
                fs::remove_dir_all(&path).map_err(failed)?;
            }
        }
        Ok(Writing { _lock: lock })
    }

    /// A name for a backup that begins now.
    #[must_use]
    pub fn name(now: Timestamp) -> String {
        let text = now.to_string();
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let (day, time) = digits.split_at(8.min(digits.len()));
        format!("{PREFIX}{day}T{time}Z")
    }

    /// Makes the folder in which a backup of this name is written.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self, name: &str) -> Result<PathBuf, Fault> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = self.dir.join(format!("{UNFINISHED}{name}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| self.failed("cannot make a folder in", error))?;
        Ok(dir)
    }

    /// Gives a backup its name, once all of it is durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(&self, unfinished: &Path, name: &str) -> Result<PathBuf, Fault> {
        let done = self.dir.join(name);
        let named = File::open(unfinished)
            .and_then(|dir| dir.sync_all())
            .and_then(|()| fs::rename(unfinished, &done))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        named.map_err(|error| self.failed("cannot finish a backup in", error))?;
        Ok(done)
    }

    /// Removes the oldest complete backups, so that `keep` newer ones stay; returns their names.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn prune(&self, keep: usize) -> Result<Vec<String>, Fault> {
        let all = self.complete()?;
        let count = all.len().saturating_sub(keep.max(1));
        let mut removed = Vec::new();
        for old in all.into_iter().take(count) {
            // Renamed first: what is half removed must not look complete.
            let going = self.dir.join(format!("{UNFINISHED}{}", old.name));
            fs::rename(&old.dir, &going)
                .and_then(|()| fs::remove_dir_all(&going))
                .map_err(|error| self.failed("cannot remove an old backup in", error))?;
            removed.push(old.name);
        }
        Ok(removed)
    }

    /// Free bytes at the place.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }

    /// Whether the place is on another volume than this folder; what is on one disk goes with it.
    #[must_use]
    pub fn is_independent_of(&self, folder: &Path) -> bool {
        match (fs::metadata(&self.dir), fs::metadata(folder)) {
            (Ok(place), Ok(folder)) => place.dev() != folder.dev(),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Fault {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { Code::DiskFull } else { Code::DiskFailed };
        Fault::because(code, format!("{what} {}", self.dir.display()), error)
    }
}
