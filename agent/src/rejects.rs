//! The rejects file: which rows stayed at the agency, by key and rule, for the agency's own eyes.
//!
//! `rejects/<dataset>.jsonl` below the state folder, mode 0600, one object a line with time, key,
//! field, rule and what was done (`on_bad`), never the offending value. At [`FILE_BYTES_MAX`] it becomes `.jsonl.1` and a new
//! one begins. It is synced before the batch that goes without these rows is stored, so a row is
//! never left out without a line (a crash in between may repeat lines).

use std::path::{Path, PathBuf};

use phusa_protocol::fault::Fault;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use serde_json::json;

use crate::disk::disk_code;
use crate::disk::{Disk as _, RealDisk};
use crate::mapping::Reject;

/// A file holds some hundred thousand lines; two are kept.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The rejects file of one dataset.
#[derive(Debug)]
pub struct RejectsFile {
    folder: PathBuf,
    name: String,
}

impl RejectsFile {
    /// The file below `state_dir`; nothing is made until there is something to write.
    #[must_use]
    pub fn new(state_dir: &Path, dataset: &DatasetId) -> Self {
        Self { folder: state_dir.join("rejects"), name: format!("{dataset}.jsonl") }
    }

    /// Appends `rejects`; on return they are durable.
    ///
    /// # Errors
    /// `disk_full`, `disk_failed`.
    pub fn append(&self, rejects: &[Reject]) -> Result<(), Fault> {
        if rejects.is_empty() {
            return Ok(());
        }
        let (at, mut lines) = (Timestamp::now(), Vec::new());
        for reject in rejects {
            let line = json!({
                "at": at, "key": reject.key, "field": reject.field, "rule": reject.rule.name(),
                "on_bad": reject.on_bad.name(),
            });
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
        }
        self.write(&lines).map_err(|error| {
            Fault::because(disk_code(&error), "cannot write the rejects file", error)
        })
    }

    fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        let (disk, file) = (RealDisk, self.folder.join(&self.name));
        disk.create_folder(&self.folder)?;
        let names = disk.list(&self.folder)?;
        let size = names.iter().find(|(name, _)| *name == self.name).map_or(0, |(_, size)| *size);
        if size > FILE_BYTES_MAX {
            disk.rename(&file, &self.folder.join(format!("{}.1", self.name)))?;
        }
        disk.append_synced(&file, lines)
    }
}
