//! Timestamps as files: `state_dir/timestamps/<entries>.checkpoint`, as it was stamped, and `.tsr`, the
//! reply as it came. Both are what `openssl ts -verify` reads. Nothing is ever removed; backups hold them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::token::{REPLY_BYTES_MAX, time_of};

/// Where they lie.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

/// A checkpoint that was stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stamped {
    /// How many entries it holds.
    pub entries: u64,
    /// When the authority says it was there.
    pub at: Timestamp,
}

impl Shelf {
    /// The shelf of a hub's state folder; nothing is made yet.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("timestamps") }
    }

    fn file(&self, entries: u64, ending: &str) -> PathBuf {
        self.dir.join(format!("{entries:012}.{ending}"))
    }

    /// Puts a checkpoint and the verified reply there; the reply last, so that one without the other
    /// is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, entries: u64, note: &str, reply: &[u8]) -> Result<(), Fault> {
        let write = |path: PathBuf, bytes: &[u8]| -> std::io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let temporary = path.with_extension("new");
            let mut file = fs::File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write(self.file(entries, "checkpoint"), note.as_bytes())
            .and_then(|()| write(self.file(entries, "tsr"), reply))
            .map_err(|error| self.failed("cannot write", error))
    }

    /// How many entries each stamped checkpoint holds, in order.
    fn sizes(&self) -> Result<Vec<u64>, Fault> {
        let files = match fs::read_dir(&self.dir) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("cannot read", error)),
        };
        let size = |file: fs::DirEntry| {
            let name = file.file_name();
            name.to_str()?.strip_suffix(".tsr")?.parse().ok()
        };
        let mut sizes: Vec<u64> = files.flatten().filter_map(size).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// The newest.
    ///
    /// # Errors
    /// When the disk fails, or its file is none.
    pub fn last(&self) -> Result<Option<Stamped>, Fault> {
        self.sizes()?.last().map(|entries| self.stamped(*entries)).transpose()
    }

    /// The first that holds the entry of this number.
    ///
    /// # Errors
    /// When the disk fails, or its file is none.
    pub fn first_with(&self, number: u64) -> Result<Option<Stamped>, Fault> {
        let sizes = self.sizes()?;
        let first = sizes.into_iter().find(|entries| *entries >= number);
        first.map(|entries| self.stamped(entries)).transpose()
    }

    fn stamped(&self, entries: u64) -> Result<Stamped, Fault> {
        let reply = self.reply(entries)?;
        let at = time_of(&reply).map_err(|error| {
            Fault::because(Code::LogBroken, format!("the timestamp of {entries} entries"), error)
        })?;
        Ok(Stamped { entries, at })
    }

    /// The reply as it came.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than any that was kept.
    pub fn reply(&self, entries: u64) -> Result<Vec<u8>, Fault> {
        let path = self.file(entries, "tsr");
        let length = fs::metadata(&path).map(|file| file.len());
        let length = length.map_err(|error| self.failed("cannot read", error))?;
        if length > REPLY_BYTES_MAX as u64 {
            let what = format!("{} is longer than any timestamp", path.display());
            return Err(Fault::new(Code::LogBroken, what));
        }
        fs::read(&path).map_err(|error| self.failed("cannot read", error))
    }

    /// The checkpoint, letter by letter, and what it says.
    ///
    /// # Errors
    /// When it cannot be read, or the log's key did not sign it.
    pub fn checkpoint(&self, entries: u64, log: &PublicKey) -> Result<(String, Checkpoint), Fault> {
        let path = self.file(entries, "checkpoint");
        let note = fs::read_to_string(&path).map_err(|error| self.failed("cannot read", error))?;
        let checkpoint = Checkpoint::parse(&note, log)
            .map_err(|error| Fault::because(Code::LogBroken, path.display().to_string(), error))?;
        Ok((note, checkpoint))
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Fault {
        Fault::because(Code::DiskFailed, format!("{what} {}", self.dir.display()), error)
    }
}
