//! The few file operations the spool and the ledger need; a faulty form stands in the tests.
//!
//! All are blocking; callers hop to a blocking thread once per batch, not once per call.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use phusa_protocol::fault::Code;

/// What the spool asks of a file system. Every method fails only with the system's own error.
#[expect(clippy::missing_errors_doc, reason = "said once for all methods, above")]
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Creates a folder and those above it, readable by this user only.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Writes a new file of mode 0600 and syncs it; an older one of that name is replaced.
    fn write_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Appends to a file of mode 0600 and syncs it.
    fn append_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file or folder another name, at once for everyone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// The whole file.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;
    /// The last `bytes_max` bytes of a file; none when it does not exist.
    fn read_tail(&self, file: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// At most `bytes_max` bytes of a file from `offset` on; none when it does not exist or ends
    /// before.
    fn read_piece(&self, file: &Path, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// The names in a folder with their sizes, sorted; none when it does not exist.
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>>;
    /// The length of a file; none when it does not exist.
    fn length(&self, file: &Path) -> io::Result<Option<u64>>;
    /// Removes a file.
    fn remove_file(&self, file: &Path) -> io::Result<()>;
    /// Removes a folder and all below it; fine when it does not exist.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes this user may still write on the file system of `folder`.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn write_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut open = OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(file)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn append_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(file)
    }

    fn read_tail(&self, file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = match File::open(file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let start = file.metadata()?.len().saturating_sub(bytes_max);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_piece(&self, file: &Path, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = match File::open(file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let size = entry.metadata()?.len();
            names.push((entry.file_name().to_string_lossy().into_owned(), size));
        }
        names.sort();
        Ok(names)
    }

    fn length(&self, file: &Path) -> io::Result<Option<u64>> {
        match std::fs::metadata(file) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        std::fs::remove_file(file)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(folder)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Writes `bytes` under `name` in `folder` so that after a crash there is the old file or the new
/// one, and after return the new one: write, sync, rename, sync the folder.
///
/// A crash before the rename leaves a `.tmp` that the next start removes; one before the last
/// sync may lose the name, which is as if the write had not been.
///
/// # Errors
/// The system's own; the old file then stands.
pub fn replace(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
    bytes: &[u8],
    between: [crate::failpoint::Failpoint; 2],
) -> io::Result<PathBuf> {
    let [before_rename, after_rename] = between;
    let (temporary, file) = (folder.join(format!("{name}.tmp")), folder.join(name));
    disk.write_synced(&temporary, bytes)?;
    before_rename.pass();
    disk.rename(&temporary, &file)?;
    after_rename.pass();
    disk.sync_folder(folder)?;
    Ok(file)
}

/// The code of a failed file operation: a full disk is its own.
#[must_use]
pub fn disk_code(error: &io::Error) -> Code {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&error.kind()) { Code::DiskFull } else { Code::DiskFailed }
}
