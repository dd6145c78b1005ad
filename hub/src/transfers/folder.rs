//! The log's own folder: tiles, leaves and the checkpoint as files, written so that a checkpoint
//! never points at what is not durable.
//!
//! `log/checkpoint`, `log/tile/…` in the layout of C2SP tlog-tiles, and `log/lock`. Every file is
//! written under a temporary name, synced, renamed, and its folder synced; the checkpoint last. What
//! a crash leaves beyond the checkpoint is written again, the same. All calls block.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::leaf::{Leaf, unbundle};
use phusa_protocol::note::NOTE_BYTES_MAX;
use phusa_protocol::tile::{Asked, Loaded, TILE_HASHES, Tile, entries_path};
use phusa_protocol::tree::Node;

/// The longest file below `tile/`: 256 leaves with their lengths.
const TILE_BYTES_MAX: u64 = 256 * 130;

const CHECKPOINT: &str = "checkpoint";

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    log: PublicKey,
}

/// Held by the one process that writes.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Folder {
    /// The log of this key in the hub's state; nothing is made or read yet.
    #[must_use]
    pub fn new(state_dir: &Path, log: PublicKey) -> Self {
        Self { dir: state_dir.join("log"), log }
    }

    /// The key whose owner signs the checkpoints.
    #[must_use]
    pub fn log(&self) -> &PublicKey {
        &self.log
    }

    /// Whether the folder it lies in is there; a medium that is not mounted is not.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.dir.parent().is_some_and(Path::is_dir)
    }

    /// Takes the lock; `None` while another process has it.
    ///
    /// # Errors
    /// When the folder cannot be made or the lock not be asked for.
    pub fn lock(&self) -> Result<Option<Lock>, Fault> {
        let failed = |error| self.failed("cannot lock the log's folder", error);
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        let mut open = OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(self.dir.join("lock"));
        let file = file.map_err(failed)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// The checkpoint, its signature checked; `None` before the first.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when the file holds something else.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
        let Some(bytes) = self.read_file(CHECKPOINT, NOTE_BYTES_MAX as u64)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let what = || format!("checkpoint in {}", self.dir.display());
        Checkpoint::parse(&text, &self.log)
            .map(Some)
            .map_err(|error| Fault::because(Code::LogBroken, what(), error))
    }

    /// A tile or bundle; a part of one is cut from the whole where that is there. `None` when
    /// neither is.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self, asked: Asked) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(bytes) = self.read_file(&asked.path(), TILE_BYTES_MAX)? {
            return Ok(Some(bytes));
        }
        let (whole, bytes) = match asked {
            Asked::Hashes(tile, width) => (Asked::Hashes(tile, TILE_HASHES), width * 32),
            Asked::Entries(index, width) => (Asked::Entries(index, TILE_HASHES), width * 130),
        };
        let mut found = self.read_file(&whole.path(), TILE_BYTES_MAX)?;
        if let Some(found) = &mut found {
            found.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        Ok(found)
    }

    /// The leaves of one bundle as it is in a log of this size.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when there are fewer, or other bytes.
    pub fn leaves(&self, bundle: u64, size: u64) -> Result<Vec<Leaf>, Fault> {
        let width = Tile { level: 0, index: bundle }.width(size);
        let path = entries_path(bundle, width);
        let broken = || {
            let (first, last) = (bundle * TILE_HASHES + 1, bundle * TILE_HASHES + width);
            let what = format!("entries {first} to {last}: log file {path} is missing or damaged");
            Fault::new(Code::LogBroken, what)
        };
        let bytes = self.read(Asked::Entries(bundle, width))?.ok_or_else(broken)?;
        let leaves = unbundle(&bytes).ok_or_else(broken)?;
        if leaves.len() as u64 == width { Ok(leaves) } else { Err(broken()) }
    }

    /// The tiles from which these nodes are answered, in a log of this size.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when one is missing.
    pub fn load<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a Node>,
        size: u64,
    ) -> Result<Loaded, Fault> {
        let mut loaded = Loaded::default();
        for tile in Loaded::needed(nodes) {
            self.load_tile(&mut loaded, tile, tile.width(size))?;
        }
        Ok(loaded)
    }

    /// Reads one tile.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when it is missing or has another length.
    pub fn load_tile(&self, loaded: &mut Loaded, tile: Tile, width: u64) -> Result<(), Fault> {
        let bytes = self.read(Asked::Hashes(tile, width))?;
        let whole = bytes.filter(|bytes| bytes.len() as u64 == width * 32);
        if whole.is_some_and(|bytes| loaded.add(tile, &bytes)) {
            return Ok(());
        }
        let what = format!("log file {} is missing or damaged", tile.path(width));
        Err(Fault::new(Code::LogBroken, what))
    }

    /// Writes one file below the folder; its folder is synced by [`Writing::sync`].
    pub(super) fn write(
        &self,
        writing: &mut Writing,
        path: &str,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let file = self.dir.join(path);
        let mut write = || -> io::Result<()> {
            let folder = file.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder)?;
            let temporary = folder.join(".new");
            let mut to = File::create(&temporary)?;
            to.write_all(bytes)?;
            to.sync_all()?;
            std::fs::rename(&temporary, &file)?;
            // The folders above may be new too.
            writing.folders.extend(
                folder.ancestors().take_while(|f| f.starts_with(&self.dir)).map(Path::to_path_buf),
            );
            Ok(())
        };
        write().map_err(|error| self.failed(&format!("cannot write {path}"), error))
    }

    /// Publishes a checkpoint: everything it says must be durable by now.
    pub(super) fn publish(&self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let mut writing = Writing::default();
        self.write(&mut writing, CHECKPOINT, checkpoint.to_note().as_bytes())?;
        self.sync(writing)
    }

    /// Makes the names of written files durable, the deepest first.
    pub(super) fn sync(&self, writing: Writing) -> Result<(), Fault> {
        for folder in writing.folders.iter().rev() {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| self.failed("cannot sync the log's folder", error))?;
        }
        Ok(())
    }

    /// Removes the parts of a tile that is whole now; a part can be cut from the whole.
    pub(super) fn remove_parts(&self, path: &str) {
        // Left behind, they would only take room.
        let _ = std::fs::remove_dir_all(self.dir.join(format!("{path}.p")));
    }

    fn read_file(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Fault> {
        use std::io::Read as _;
        let failed = |error| self.failed(&format!("cannot read {path}"), error);
        let file = match File::open(self.dir.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > bytes_max {
            let what = format!("log file {path} is longer than any that was written");
            return Err(Fault::new(Code::LogBroken, what));
        }
        Ok(Some(bytes))
    }

    fn failed(&self, what: &str, error: io::Error) -> Fault {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        let code = if full.contains(&error.kind()) { Code::DiskFull } else { Code::DiskFailed };
        Fault::because(code, format!("{what} ({})", self.dir.display()), error)
    }
}

/// Folders in which files were written since the last sync.
#[derive(Debug, Default)]
pub(super) struct Writing {
    folders: BTreeSet<PathBuf>,
}
