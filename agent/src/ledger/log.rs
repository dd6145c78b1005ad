//! What the agent keeps of the hub's log: the newest checkpoint it saw, the proofs of its own
//! entries, and every contradiction it was ever shown.
//!
//! `ledger/_log/key` and `checkpoint` are replaced at once; `ledger/_log/fork-<n>.json` is never
//! removed; `ledger/<dataset>/<epoch>.proofs.jsonl` is appended to, a line for each proven batch, in
//! the batches' order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::receipt::SignedReceipt;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, disk_code};

/// Contradictions that are kept, each with both signed versions; a hub that shows more of them
/// shows nothing new.
const FORKS_MAX: usize = 100;

/// How much of a file of proofs is read to find its last line, which holds an entry and a proof.
const TAIL_BYTES: u64 = 256 << 10;

/// How much of a ledger is read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// A batch that is proven to stand in the hub's log, with all that is needed to show it to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// The batch's number.
    pub seq: Seq,
    /// The entry's number; 0 where the log does not hold what the receipt promises.
    pub number: u64,
    /// The entry's canonical JSON, letter by letter; empty where there is none.
    pub entry: String,
    /// The proof, in Sigsum's form; empty where there is none.
    pub evidence: String,
}

/// Two signed statements of the hub that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// What the contradiction is.
    pub what: String,
    /// When it was seen, by the agent's clock.
    pub at: phusa_protocol::time::Timestamp,
    /// The checkpoint this agent had.
    pub before: String,
    /// The one it was shown.
    pub after: String,
}

/// The files.
#[derive(Debug, Clone)]
pub struct LogBook {
    disk: Arc<dyn Disk>,
    ledger: PathBuf,
}

/// One epoch of one dataset in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamName {
    /// Which dataset.
    pub dataset: DatasetId,
    /// Which epoch.
    pub epoch: Epoch,
}

/// Receipts of one stream read in order, from where the last reading ended.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    offset: u64,
}

impl LogBook {
    /// The book below `state_dir`; nothing is made until there is something to write.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { disk, ledger: state_dir.join("ledger") }
    }

    /// The log's key as it was first seen.
    ///
    /// # Errors
    /// `disk_failed` when the file cannot be read or holds no key.
    pub fn key(&self) -> Result<Option<PublicKey>, Fault> {
        let Some(text) = self.text("key")? else { return Ok(None) };
        let key = PublicKey::try_from(text);
        key.map(Some).map_err(|e| Fault::because(Code::DiskFailed, "ledger/_log/key is no key", e))
    }

    /// Keeps the log's key.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn keep_key(&self, key: &PublicKey) -> Result<(), Fault> {
        self.replace("key", key.to_string().as_bytes())
    }

    /// The newest checkpoint that was seen and found to extend all before it.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn checkpoint(&self) -> Result<Option<String>, Fault> {
        self.text("checkpoint")
    }

    /// Keeps a checkpoint; on return it is durable, and only then it may be cosigned.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn keep_checkpoint(&self, note: &str) -> Result<(), Fault> {
        self.replace("checkpoint", note.as_bytes())
    }

    /// Keeps a contradiction, unless it is kept already.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn keep_fork(&self, fork: &Fork) -> Result<(), Fault> {
        let kept = self.forks()?;
        let is_known = kept.iter().any(|k| k.before == fork.before && k.after == fork.after);
        if is_known || kept.len() >= FORKS_MAX {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(fork)
            .map_err(|error| Fault::because(Code::Bug, "cannot write a fork as JSON", error))?;
        self.replace(&format!("fork-{:03}.json", kept.len() + 1), &text)
    }

    /// Every contradiction, the first one first.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn forks(&self) -> Result<Vec<Fork>, Fault> {
        let folder = self.folder();
        let names = self.disk.list(&folder).map_err(|error| failed(&folder, error))?;
        let is_fork = |name: &String| name.starts_with("fork-") && name.ends_with(".json");
        let mut forks = Vec::new();
        for name in names.into_iter().map(|(name, _)| name).filter(is_fork) {
            let path = folder.join(name);
            let bytes = self.disk.read(&path).map_err(|error| failed(&path, error))?;
            let fork = serde_json::from_slice(&bytes).map_err(|error| {
                Fault::because(Code::DiskFailed, format!("{} is damaged", path.display()), error)
            })?;
            forks.push(fork);
        }
        Ok(forks)
    }

    /// Every stream that has a ledger.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn streams(&self) -> Result<Vec<StreamName>, Fault> {
        let mut streams = Vec::new();
        let folders = self.disk.list(&self.ledger).map_err(|error| failed(&self.ledger, error))?;
        for (name, _) in folders {
            let Ok(dataset) = DatasetId::try_from(name.clone()) else { continue };
            let folder = self.ledger.join(name);
            let files = self.disk.list(&folder).map_err(|error| failed(&folder, error))?;
            for (file, _) in files {
                let epoch = file.strip_suffix(".jsonl").and_then(|number| number.parse().ok());
                let Some(epoch) = epoch else { continue };
                streams.push(StreamName { dataset: dataset.clone(), epoch: Epoch(epoch) });
            }
        }
        Ok(streams)
    }

    /// The newest batch that is proven, or known to be missing; 0 for none.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn last_proven(&self, stream: &StreamName) -> Result<Seq, Fault> {
        let file = self.proofs_file(stream);
        let tail = self.disk.read_tail(&file, TAIL_BYTES).map_err(|error| failed(&file, error))?;
        // The first line may be cut by the tail, the last by a crash; what it told is proven again.
        let lines = tail.split(|byte| *byte == b'\n').rev();
        let proven = lines.filter_map(|line| serde_json::from_slice::<Proven>(line).ok());
        Ok(proven.map(|proven| proven.seq).next().unwrap_or(Seq::NONE))
    }

    /// The batches of a stream that are known to be missing from the log.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn missing(&self, stream: &StreamName) -> Result<BTreeSet<Seq>, Fault> {
        let file = self.proofs_file(stream);
        let length = self.disk.length(&file).map_err(|error| failed(&file, error))?;
        let (mut offset, mut missing) = (0, BTreeSet::new());
        while length.is_some_and(|length| offset < length) {
            let piece = self.disk.read_piece(&file, offset, PIECE_BYTES);
            let piece = piece.map_err(|error| failed(&file, error))?;
            let Some(last) = piece.iter().rposition(|byte| *byte == b'\n') else { break };
            offset += last as u64 + 1;
            let lines = piece.get(..last).unwrap_or_default().split(|byte| *byte == b'\n');
            let proven = lines.filter_map(|line| serde_json::from_slice::<Proven>(line).ok());
            missing.extend(proven.filter(|proven| proven.number == 0).map(|proven| proven.seq));
        }
        Ok(missing)
    }

    /// Appends proofs, with one sync for all; on return they are durable.
    ///
    /// # Errors
    /// `disk_failed`, `disk_full`.
    pub fn keep_proofs(&self, stream: &StreamName, proofs: &[Proven]) -> Result<(), Fault> {
        let mut lines = Vec::new();
        for proof in proofs {
            serde_json::to_writer(&mut lines, proof)
                .map_err(|error| Fault::because(Code::Bug, "cannot write a proof", error))?;
            lines.push(b'\n');
        }
        let file = self.proofs_file(stream);
        let append = || {
            let is_new = self.disk.length(&file)?.is_none();
            let folder = file.parent().unwrap_or(&self.ledger);
            if !is_new && self.disk.read_tail(&file, 1)? != b"\n" {
                self.disk.append_synced(&file, b"\n")?;
            }
            self.disk.append_synced(&file, &lines)?;
            if is_new { self.disk.sync_folder(folder) } else { Ok(()) }
        };
        let appended: std::io::Result<()> = append();
        appended.map_err(|error| failed(&file, error))
    }

    /// Every proof of a stream, oldest first; lines that a crash cut are passed over.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn proofs(&self, stream: &StreamName) -> Result<Vec<Proven>, Fault> {
        let file = self.proofs_file(stream);
        if self.disk.length(&file).map_err(|error| failed(&file, error))?.is_none() {
            return Ok(Vec::new());
        }
        let bytes = self.disk.read(&file).map_err(|error| failed(&file, error))?;
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The next receipts of a stream, some hundred at most; empty at the end. A line that is not
    /// whole yet is left for the next time.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn receipts(
        &self,
        stream: &StreamName,
        reading: &mut Reading,
    ) -> Result<Vec<SignedReceipt>, Fault> {
        let folder = self.ledger.join(stream.dataset.to_string());
        let file = folder.join(format!("{:012}.jsonl", stream.epoch.0));
        let piece = self.disk.read_piece(&file, reading.offset, PIECE_BYTES);
        let piece = piece.map_err(|error| failed(&file, error))?;
        let whole = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        reading.offset += whole as u64;
        let lines = piece.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    fn proofs_file(&self, stream: &StreamName) -> PathBuf {
        let folder = self.ledger.join(stream.dataset.to_string());
        folder.join(format!("{:012}.proofs.jsonl", stream.epoch.0))
    }

    fn folder(&self) -> PathBuf {
        self.ledger.join("_log")
    }

    fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        let path = self.folder().join(name);
        if self.disk.length(&path).map_err(|error| failed(&path, error))?.is_none() {
            return Ok(None);
        }
        let bytes = self.disk.read(&path).map_err(|error| failed(&path, error))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Write, sync, rename, sync the folder: there is the old file or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        let folder = self.folder();
        let (temporary, file) = (folder.join(format!("{name}.tmp")), folder.join(name));
        let replace = || {
            self.disk.create_folder(&folder)?;
            self.disk.write_synced(&temporary, bytes)?;
            self.disk.rename(&temporary, &file)?;
            self.disk.sync_folder(&folder)
        };
        let replaced: std::io::Result<()> = replace();
        replaced.map_err(|error| failed(&file, error))
    }
}

fn failed(path: &Path, error: std::io::Error) -> Fault {
    Fault::because(disk_code(&error), format!("cannot use {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_proof_that_a_crash_cut_is_proven_again_and_forks_are_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let book = LogBook::new(Arc::new(RealDisk), dir.path());
        let dataset = DatasetId::new("cong_dan.citizens").unwrap();
        let stream = StreamName { dataset, epoch: Epoch(2) };
        std::fs::create_dir_all(dir.path().join("ledger/cong_dan.citizens")).unwrap();
        let proven = |seq: u64| Proven {
            seq: Seq(seq),
            number: seq + 4,
            entry: "{}".to_owned(),
            evidence: "version=2\n".to_owned(),
        };
        assert_eq!(book.last_proven(&stream).unwrap(), Seq::NONE);
        book.keep_proofs(&stream, &[proven(1), proven(2)]).unwrap();
        let file = book.proofs_file(&stream);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
        assert_eq!(book.last_proven(&stream).unwrap(), Seq(1));
        book.keep_proofs(&stream, &[proven(2)]).unwrap();
        assert_eq!(book.proofs(&stream).unwrap(), vec![proven(1), proven(2)]);
        let fork = |after: &str| Fork {
            what: "size".to_owned(),
            at: phusa_protocol::time::Timestamp::UNIX_EPOCH,
            before: "a".to_owned(),
            after: after.to_owned(),
        };
        for after in ["b", "c", "b"] {
            book.keep_fork(&fork(after)).unwrap();
        }
        assert_eq!(book.forks().unwrap(), vec![fork("b"), fork("c")]);
        assert_eq!(book.streams().unwrap(), Vec::new());
    }
}
