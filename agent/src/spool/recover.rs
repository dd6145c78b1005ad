//! What startup does with a leftover temporary, a bad seal, a missing number; nothing is dropped
//! silently.
//!
//! A temporary file is a write that never happened: it is removed. A file that does not open goes
//! to `quarantine/`, and so does everything after it, because it continues what is lost; the stream
//! is then read anew. So is one whose numbers have a gap or end before the last receipt.

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::time::Timestamp;

use super::Spool;
use super::file::{Stream, Tail, batch_name};
use super::record::Record;
use crate::ledger::Ledger;
use crate::source::Resume;

/// What the folder says about a dataset.
#[derive(Debug)]
pub enum Recovered {
    /// Nothing was ever read, or the folder was taken away.
    Nothing,
    /// The stream goes on.
    Whole(Box<Recovery>),
    /// The stream cannot go on from here and is read anew in a later epoch.
    Broken {
        /// The epoch that ended.
        epoch: Epoch,
        /// Why.
        fault: Fault,
    },
}

/// A stream as it lay in the folder.
#[derive(Debug)]
pub struct Recovery {
    /// Where it lies.
    pub stream: Stream,
    /// What the next batch follows.
    pub tail: Tail,
    /// Where the source goes on; `None` when nothing was read in this epoch yet.
    pub resume: Option<Resume>,
    /// Every batch up to here has its receipt recorded.
    pub released: Seq,
    /// Digest of that batch's header; all zero when there is none.
    pub released_header: Digest,
    /// Batches after it, with the digests of their headers.
    pub waiting: BTreeMap<Seq, Digest>,
    /// The fingerprints of contract and mapping its newest batch was made under.
    pub agreed: Option<(Digest, Digest)>,
    /// Files whose receipt is recorded and that may be deleted once a newer one is durable.
    pub receipted: Vec<Seq>,
}

impl Spool {
    /// What lies in the folder of `dataset`; changes nothing, so it may be asked at any time.
    ///
    /// # Errors
    /// `disk_failed` when folder or ledger cannot be read at all.
    pub fn look(&self, dataset: &DatasetId) -> Result<Recovered, Fault> {
        let Some(stream) = self.newest_epoch(dataset)? else { return Ok(Recovered::Nothing) };
        let receipts = self.ledger(dataset, stream.epoch()).tail()?;
        let numbers = numbers(&stream)?;
        Ok(match walk(&stream, &numbers, &receipts) {
            Ok(recovery) => Recovered::Whole(Box::new(recovery)),
            Err((_, fault)) => Recovered::Broken { epoch: stream.epoch(), fault },
        })
    }

    /// Looks at what an earlier run left of `dataset`, and puts it in order.
    ///
    /// # Errors
    /// `disk_failed` when folder or ledger cannot be read or put in order.
    pub fn recover(&self, dataset: &DatasetId) -> Result<Recovered, Fault> {
        let Some(stream) = self.newest_epoch(dataset)? else { return Ok(Recovered::Nothing) };
        remove_temporaries(&stream)?;
        let ledger = self.ledger(dataset, stream.epoch());
        ledger.mend()?;
        let numbers = numbers(&stream)?;
        match walk(&stream, &numbers, &ledger.tail()?) {
            Ok(recovery) => Ok(Recovered::Whole(Box::new(recovery))),
            Err((from, fault)) => {
                stream.set_aside(numbers.into_iter().filter(|seq| *seq >= from))?;
                Ok(Recovered::Broken { epoch: stream.epoch(), fault })
            }
        }
    }

    /// The receipts of one epoch.
    #[must_use]
    pub fn ledger(&self, dataset: &DatasetId, epoch: Epoch) -> Ledger {
        let inner = &self.inner;
        Ledger::new(Arc::clone(&inner.disk), &inner.settings.state_dir, dataset, epoch)
    }

    fn newest_epoch(&self, dataset: &DatasetId) -> Result<Option<Stream>, Fault> {
        let names = self.inner.disk.list(&self.dataset_folder(dataset)).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot list {dataset}"), error)
        })?;
        let epoch = names.iter().filter_map(|(name, _)| epoch_of(name)).max();
        Ok(epoch.map(|epoch| self.stream(dataset, epoch)))
    }
}

impl Stream {
    /// Moves files that cannot be used to `quarantine/`.
    ///
    /// # Errors
    /// `disk_failed`; what was not moved then still lies where it was.
    pub fn set_aside(&self, files: impl Iterator<Item = Seq>) -> Result<(), Fault> {
        let failed = |error| Fault::because(Code::DiskFailed, "cannot fill the quarantine", error);
        let (disk, quarantine) = (self.disk(), self.quarantine());
        disk.create_folder(&quarantine).map_err(failed)?;
        let (epoch, at) = (epoch_name(self.epoch()), Timestamp::now().micros());
        for seq in files {
            let name = batch_name(seq);
            let aside = quarantine.join(format!("{}-{epoch}-{name}.{at}", self.dataset()));
            disk.rename(&self.folder().join(&name), &aside).map_err(failed)?;
        }
        disk.sync_folder(&quarantine).map_err(failed)
    }
}

/// A temporary file is a write that never happened.
fn remove_temporaries(stream: &Stream) -> Result<(), Fault> {
    for name in names(stream)?.iter().filter(|name| name.ends_with(".tmp")) {
        stream.disk().remove_file(&stream.folder().join(name)).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot remove {name}"), error)
        })?;
    }
    Ok(())
}

/// The numbers of the batch files, sorted.
fn numbers(stream: &Stream) -> Result<Vec<Seq>, Fault> {
    let number = |name: &String| name.strip_suffix(".batch")?.parse().ok().map(Seq);
    Ok(names(stream)?.iter().filter_map(number).collect())
}

fn names(stream: &Stream) -> Result<Vec<String>, Fault> {
    let listed = stream.disk().list(stream.folder()).map_err(|error| {
        let what = format!("cannot list {}", stream.folder().display());
        Fault::because(Code::DiskFailed, what, error)
    })?;
    Ok(listed.into_iter().map(|(name, _)| name).collect())
}

/// Follows the chain of files; the error names the first file that cannot be used.
fn walk(
    stream: &Stream,
    numbers: &[Seq],
    receipts: &[SignedReceipt],
) -> Result<Recovery, (Seq, Fault)> {
    let damaged = |seq: Seq, what: String| (seq, Fault::new(Code::SpoolDamaged, what));
    let mut headers = BTreeMap::new();
    let (mut tail, mut resume, mut agreed) = (Tail::start(), None, None);
    let mut released_header = Digest::ZERO;
    for &seq in numbers {
        let record = stream.read(seq).map_err(|fault| (seq, fault))?;
        let batch = frame::decode(&record.frame).map_err(|error| {
            let what = format!("batch {seq} cannot be read");
            (seq, Fault::because(Code::SpoolDamaged, what, error))
        })?;
        let follows = seq == tail.seq.next() && batch.signed.header.previous == tail.header;
        if !follows && !headers.is_empty() {
            return Err(damaged(seq, format!("batch {seq} does not follow batch {}", tail.seq)));
        }
        if headers.is_empty() {
            released_header = batch.signed.header.previous;
        }
        let header = batch.signed.digest();
        headers.insert(seq, header);
        let of_batch = batch.signed.header;
        tail = Tail {
            seq,
            header,
            position: of_batch.position_to,
            tx_open: of_batch.tx_open,
            phase: Some(of_batch.phase),
        };
        (resume, agreed) = (Some(record.resume), Some((of_batch.contract, of_batch.mapping)));
    }
    if let Some(last) = receipts.iter().map(|r| r.receipt.seq).max().filter(|s| *s > tail.seq) {
        let what = format!("batch {last} has a receipt and its file is gone");
        return Err(damaged(tail.seq.next(), what));
    }
    if let Ok(Record { resume: noted, frame }) = stream.read_note(tail.seq) {
        resume = Some(noted);
        tail.position = String::from_utf8(frame).unwrap_or_default();
    }
    let has_receipt = |header: &Digest| receipts.iter().any(|r| r.receipt.header == *header);
    let mut released = Seq(numbers.first().map_or(0, |first| first.0.saturating_sub(1)));
    while let Some(header) = headers.get(&released.next()).filter(|header| has_receipt(header)) {
        (released, released_header) = (released.next(), *header);
    }
    let receipted = headers.keys().copied().filter(|seq| *seq <= released).collect();
    let waiting = headers.into_iter().filter(|(seq, _)| *seq > released).collect();
    Ok(Recovery {
        stream: stream.clone(),
        tail,
        resume,
        released,
        released_header,
        waiting,
        agreed,
        receipted,
    })
}

pub(super) fn epoch_name(epoch: Epoch) -> String {
    format!("epoch-{:012}", epoch.0)
}

pub(super) fn epoch_of(name: &str) -> Option<Epoch> {
    name.strip_prefix("epoch-")?.parse().ok().map(Epoch)
}
