//! One batch as one write-once file: name, write, sync, rename, sync the folder, delete after its
//! receipt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phusa_protocol::batch::{
    Batch, Encoding, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::Counts;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;

use super::Spool;
use super::record::{Place, Record};
use crate::disk::{self, disk_code};
use crate::failpoint::Failpoint;
use crate::mapping::Shareable;
use crate::source::Resume;

/// What every header of a stream says in the same words.
#[derive(Debug, Clone)]
pub struct BatchIdentity {
    /// Who sends.
    pub agent: AgentId,
    /// Signs the headers.
    pub key: SigningKey,
    /// Fingerprint of the contract.
    pub contract: Digest,
    /// Fingerprint of the mapping.
    pub mapping: Digest,
}

/// What mapping let through, packed and committed to; only the number and the signature are
/// missing. It can be made from a [`Shareable`] and from nothing else.
#[derive(Debug)]
pub struct Packed {
    number: u64,
    body: Vec<u8>,
    encoding: Encoding,
    body_bytes: u64,
    salt: [u8; SALT_BYTES],
    commitment: Digest,
    counts: Counts,
    quality: BTreeMap<String, u64>,
    phase: Phase,
    tx_open: bool,
    position: String,
    resume: Resume,
    read_at: Timestamp,
    source_time: Timestamp,
}

impl Packed {
    /// Packs the body at `compression_level` (zstd; 0 leaves it as it is). Takes a processor for a
    /// few milliseconds per megabyte, so call it on a blocking thread.
    ///
    /// # Errors
    /// `bug` when the operating system gives no random salt.
    pub fn new(shareable: Shareable, compression_level: i32) -> Result<Self, Fault> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| {
            Fault::because(Code::Bug, "no randomness from the operating system", error)
        })?;
        let (body, envelope) = shareable.into_parts();
        let body_bytes = body.len() as u64;
        let (encoding, body) = frame::pack(body, compression_level);
        let commitment = commitment(&salt, &body);
        Ok(Self {
            number: envelope.number,
            body,
            encoding,
            body_bytes,
            salt,
            commitment,
            counts: envelope.counts,
            quality: envelope.quality,
            phase: envelope.phase,
            tx_open: envelope.tx_open,
            position: envelope.position,
            resume: envelope.resume,
            read_at: envelope.read_at,
            source_time: envelope.source_time,
        })
    }

    /// The number of the block it came from.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the stream is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Rows by operation.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The position at its end.
    #[must_use]
    pub fn position(&self) -> &str {
        &self.position
    }

    /// Commit time of its last source transaction.
    #[must_use]
    pub fn source_time(&self) -> Timestamp {
        self.source_time
    }

    /// Whether it only notes a position after `tail`: no rows, nothing closed, the same phase, no
    /// broken rule to be counted. A change of phase must travel although it is empty, or the hub would not learn of it.
    #[must_use]
    pub fn is_note_after(&self, tail: &Tail) -> bool {
        self.counts.total() == 0
            && self.quality.is_empty()
            && self.phase != Phase::ReadEnd
            && tail.phase == Some(self.phase)
            && !tail.tx_open
            && !self.tx_open
    }

    /// About how many bytes its file will have.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        (self.body.len() + self.resume.0.len()) as u64 + 2_048
    }
}

#[cfg(test)]
impl Packed {
    /// A batch of one inserted row, for tests of the spool alone.
    pub(super) fn sample(number: u64, body: &[u8]) -> Self {
        let salt = [7; SALT_BYTES];
        Self {
            number,
            body: body.to_vec(),
            encoding: Encoding::None,
            body_bytes: body.len() as u64,
            salt,
            commitment: commitment(&salt, body),
            counts: Counts { insert: 1, ..Counts::default() },
            quality: BTreeMap::new(),
            phase: Phase::Live,
            tx_open: false,
            position: format!("0/{number}"),
            resume: Resume(format!("resume {number}").into_bytes()),
            read_at: Timestamp::UNIX_EPOCH,
            source_time: Timestamp::UNIX_EPOCH,
        }
    }
}

/// The end of a stream: what the next batch follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Number of the newest batch.
    pub seq: Seq,
    /// Digest of its header.
    pub header: Digest,
    /// Its position, or that of a later note.
    pub position: String,
    /// Whether it ends inside a source transaction.
    pub tx_open: bool,
    /// Where the stream was when it was made; `None` before the first.
    pub phase: Option<Phase>,
}

impl Tail {
    /// Before the first batch of an epoch.
    #[must_use]
    pub fn start() -> Self {
        Self {
            seq: Seq::NONE,
            header: Digest::ZERO,
            position: "start".to_owned(),
            tx_open: false,
            phase: None,
        }
    }
}

/// One epoch of one dataset in the spool; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Stream {
    spool: Spool,
    dataset: DatasetId,
    epoch: Epoch,
    folder: PathBuf,
}

impl Stream {
    pub(super) fn new(spool: Spool, dataset: DatasetId, epoch: Epoch, folder: PathBuf) -> Self {
        Self { spool, dataset, epoch, folder }
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &DatasetId {
        &self.dataset
    }

    /// The folder its files lie in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads batch `seq`.
    ///
    /// # Errors
    /// `disk_failed` when it cannot be read, `spool_damaged` when its seal does not open.
    pub fn read(&self, seq: Seq) -> Result<Record, Fault> {
        self.open(&batch_name(seq), self.place(seq, false))
    }

    /// Deletes batch `seq`, whose receipt is recorded.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn delete(&self, seq: Seq) -> Result<(), Fault> {
        let file = self.folder.join(batch_name(seq));
        let what = |error| {
            Fault::because(Code::DiskFailed, format!("cannot delete {}", file.display()), error)
        };
        let disk = &self.spool.inner.disk;
        let Some(size) = disk.length(&file).map_err(what)? else { return Ok(()) };
        disk.remove_file(&file).map_err(what)?;
        self.spool.give_back(size);
        Failpoint::AfterSpoolDelete.pass();
        Ok(())
    }

    pub(super) fn disk(&self) -> &dyn disk::Disk {
        &*self.spool.inner.disk
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.spool.inner.settings.state_dir.join("quarantine")
    }

    pub(super) fn read_note(&self, after: Seq) -> Result<Record, Fault> {
        self.open(NOTE_NAME, self.place(after, true))
    }

    fn open(&self, name: &str, place: Place<'_>) -> Result<Record, Fault> {
        let file = self.folder.join(name);
        let sealed = self.spool.inner.disk.read(&file).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot read {}", file.display()), error)
        })?;
        self.spool.inner.settings.key.open(place, &sealed).map_err(|error| {
            Fault::because(Code::SpoolDamaged, format!("cannot open {}", file.display()), error)
        })
    }

    fn replace(&self, name: &str, place: Place<'_>, record: &Record) -> Result<(), Fault> {
        let what = || format!("cannot write {name} of {} epoch {}", self.dataset, self.epoch);
        let sealed = self.spool.inner.settings.key.seal(place, record);
        let sealed = sealed.map_err(|error| Fault::because(Code::Bug, what(), error))?;
        self.spool.check_room(sealed.len() as u64)?;
        let points = [Failpoint::BeforeSpoolRename, Failpoint::AfterSpoolRename];
        disk::replace(&*self.spool.inner.disk, &self.folder, name, &sealed, points)
            .map_err(|error| Fault::because(disk_code(&error), what(), error))?;
        if !place.is_note {
            self.spool.take(sealed.len() as u64);
        }
        Ok(())
    }

    fn place(&self, seq: Seq, is_note: bool) -> Place<'_> {
        Place { dataset: &self.dataset, epoch: self.epoch, seq, is_note }
    }
}

/// The one who appends to a stream.
#[derive(Debug)]
pub struct Writer {
    stream: Stream,
    tail: Tail,
    identity: BatchIdentity,
}

impl Writer {
    /// A writer that goes on after `tail`.
    #[must_use]
    pub fn new(stream: Stream, tail: Tail, identity: BatchIdentity) -> Self {
        Self { stream, tail, identity }
    }

    /// Numbers, signs and stores a batch. On return it is durable; on a fault it is not there, and
    /// the same call may be made again.
    ///
    /// # Errors
    /// `spool_full`, `disk_full`, `disk_failed`.
    pub fn append(&mut self, packed: &Packed) -> Result<(Seq, Digest), Fault> {
        let seq = self.tail.seq.next();
        let signed = SignedHeader::sign(self.header(seq, packed), &self.identity.key);
        let header = signed.digest();
        let batch = Batch { signed, salt: packed.salt, body: packed.body.clone() };
        let record = Record { resume: packed.resume.clone(), frame: frame::encode(&batch) };
        self.stream.replace(&batch_name(seq), self.stream.place(seq, false), &record)?;
        let position = packed.position.clone();
        let (tx_open, phase) = (packed.tx_open, Some(packed.phase));
        self.tail = Tail { seq, header, position, tx_open, phase };
        Failpoint::AfterSpoolDurable.pass();
        Ok((seq, header))
    }

    /// Notes a position that lies after the newest batch although no row came in between.
    ///
    /// # Errors
    /// `spool_full`, `disk_full`, `disk_failed`.
    pub fn note(&mut self, packed: &Packed) -> Result<(), Fault> {
        let frame = packed.position.clone().into_bytes();
        let record = Record { resume: packed.resume.clone(), frame };
        self.stream.replace(NOTE_NAME, self.stream.place(self.tail.seq, true), &record)?;
        self.tail.position.clone_from(&packed.position);
        Ok(())
    }

    /// The end of the stream.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    fn header(&self, seq: Seq, packed: &Packed) -> Header {
        Header {
            v: HEADER_VERSION,
            agent: self.identity.agent.clone(),
            dataset: self.stream.dataset.clone(),
            epoch: self.stream.epoch,
            seq,
            previous: self.tail.header,
            contract: self.identity.contract,
            mapping: self.identity.mapping,
            phase: packed.phase,
            tx_open: packed.tx_open,
            position_from: self.tail.position.clone(),
            position_to: packed.position.clone(),
            counts: packed.counts,
            quality: packed.quality.clone(),
            body_bytes: packed.body_bytes,
            encoding: packed.encoding,
            commitment: packed.commitment,
            read_at: packed.read_at,
            source_time: packed.source_time,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The name of the file that notes a position.
const NOTE_NAME: &str = "note";

/// Twelve digits, so that lexical order is age order for longer than any agent lives.
pub(super) fn batch_name(seq: Seq) -> String {
    format!("{:012}.batch", seq.0)
}
