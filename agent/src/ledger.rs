//! What left this house: the hub's receipts, kept here and verifiable without the hub.
//!
//! One file per dataset and epoch, `ledger/<dataset>/<epoch>.jsonl`, one signed receipt a line,
//! appended and synced before the spool file it answers is deleted. A line cut by a crash is as if
//! the receipt had not come: the batch is sent again and answered again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::receipt::SignedReceipt;

use crate::disk::Disk;

/// How much of a ledger's end is read at start: some 150 receipts, far more than can be under way.
const TAIL_BYTES: u64 = 96 << 10;

/// The ledger of one dataset's epoch.
#[derive(Debug, Clone)]
pub struct Ledger {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    file: PathBuf,
}

impl Ledger {
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

    /// Records a receipt; on return it is durable.
    ///
    /// # Errors
    /// `disk_failed` or `disk_full`; the receipt then does not count as recorded.
    pub fn record(&self, receipt: &SignedReceipt) -> Result<(), Fault> {
        let mut line = serde_json::to_vec(receipt)
            .map_err(|error| Fault::because(Code::Bug, "cannot write a receipt as JSON", error))?;
        line.push(b'\n');
        self.append(&line, format!("cannot record the receipt of batch {}", receipt.receipt.seq))
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

    fn append(&self, line: &[u8], what: String) -> Result<(), Fault> {
        let made = self.disk.create_folder(&self.folder);
        let appended = made.and_then(|()| self.disk.append_synced(&self.file, line));
        appended.map_err(|error| Fault::because(crate::disk::disk_code(&error), what, error))
    }
}
