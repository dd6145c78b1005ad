//! What left this house: the hub's receipts, kept here and verifiable without the hub.
//!
//! One file per dataset and epoch, `ledger/<dataset>/<epoch>.jsonl`, one signed receipt a line,
//! appended and synced before the spool file it answers is deleted. A line cut by a crash is as if
//! the receipt had not come: the batch is sent again and answered again.

pub mod log;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::receipt::SignedReceipt;

use crate::disk::Disk;
use crate::format;

/// How much of a ledger's end is read at start: some 150 receipts, far more than can be under way.
const TAIL_BYTES: u64 = 96 << 10;

/// The ledger of one dataset's epoch.
#[derive(Debug, Clone)]
pub struct Ledger {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    file: PathBuf,
}

/// The form of what lies in the ledger; it grows with a change that programs before it cannot read.
const FORM: u32 = 1;

impl Ledger {
    /// Refuses a ledger that a newer program wrote in a form of its own.
    ///
    /// # Errors
    /// `state_newer`, `disk_failed`.
    pub fn check(disk: &dyn Disk, state_dir: &Path) -> Result<(), Fault> {
        format::check(disk, &state_dir.join("ledger"), FORM)
    }

    /// Writes down in which form the ledger is.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn mark(disk: &dyn Disk, state_dir: &Path) -> Result<(), Fault> {
        format::mark(disk, &state_dir.join("ledger"), FORM)
    }

    /// The ledger below `state_dir`; nothing is made until there is something to write.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path, dataset: &DatasetId, epoch: Epoch) -> Self {
        let folder = state_dir.join("ledger").join(dataset.to_string());
        Self { disk, file: folder.join(format!("{:012}.jsonl", epoch.0)), folder }
    }

    /// Closes a last line that a crash cut, so that the next receipt has its own.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn mend(&self) -> Result<(), Fault> {
        if self.read_tail()?.last().is_some_and(|byte| *byte != b'\n') {
            self.append(b"\n", "cannot mend the ledger".to_owned())?;
        }
        Ok(())
    }

    /// Records receipts, with one sync for all; on return they are durable.
    ///
    /// # Errors
    /// `disk_failed` or `disk_full`; none of them then counts as recorded.
    pub fn record(&self, receipts: &[SignedReceipt]) -> Result<(), Fault> {
        let Some(first) = receipts.first() else { return Ok(()) };
        let mut lines = Vec::new();
        for receipt in receipts {
            let written = serde_json::to_writer(&mut lines, receipt);
            written.map_err(|error| {
                Fault::because(Code::Bug, "cannot write a receipt as JSON", error)
            })?;
            lines.push(b'\n');
        }
        let (seq, count) = (first.receipt.seq, receipts.len());
        self.append(&lines, format!("cannot record {count} receipts from batch {seq} on"))
    }

    /// The receipts at the end of the ledger, oldest first.
    ///
    /// # Errors
    /// `disk_failed` when the file is there and cannot be read.
    pub fn tail(&self) -> Result<Vec<SignedReceipt>, Fault> {
        let bytes = self.read_tail()?;
        // The first line may be cut by the tail, any line by a crash; both are skipped.
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    fn read_tail(&self) -> Result<Vec<u8>, Fault> {
        self.disk.read_tail(&self.file, TAIL_BYTES).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot read {}", self.file.display()), error)
        })
    }

    fn append(&self, lines: &[u8], what: String) -> Result<(), Fault> {
        let append = || {
            let is_new = self.disk.length(&self.file)?.is_none();
            if is_new {
                self.disk.create_folder(&self.folder)?;
            }
            self.disk.append_synced(&self.file, lines)?;
            if is_new { self.disk.sync_folder(&self.folder) } else { Ok(()) }
        };
        let appended: std::io::Result<()> = append();
        appended.map_err(|error| Fault::because(crate::disk::disk_code(&error), what, error))
    }
}
