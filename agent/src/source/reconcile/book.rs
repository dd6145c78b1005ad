//! What the warehouse has, kept with the blocks that bring it there: index and outbox as one.
//!
//! Order: note what is about to be handed on (durable), hand it on, wait until it is durable in the
//! spool, settle. Every block says which note it belongs to and how far into it the blocks have
//! come, so a restart finds out by itself what was still missing.

use std::collections::BTreeMap;

use bytes::Bytes;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

use super::index::{Head, Index, Note, Write};
use super::piece::{Comparison, Entry, Step, apply, digest_of, key_of, parts_of};
use super::{Job, Range};
use crate::source::outbox::{Filler, Outbox, Sealed};
use crate::source::snapshot::KeyText;
use crate::source::{Resume, Start};

/// Changed rows are held until a range was compared, so that removals come first; a range ends
/// early where they grow beyond this.
const CHANGED_BYTES_MAX: usize = 12 << 20;

/// Ranges without a difference after which the place is written down.
const RANGES_UNWRITTEN_MAX: usize = 16;

/// Rows of the last comparison that are known not to need sending again; others are sent once more.
const SETTLED_ROWS_MAX: usize = 100_000;

/// Where a capture goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The index it belongs to.
    index: String,
    /// The note it belongs to.
    note: u64,
    /// How many steps of the note were handed on.
    steps: usize,
    /// Whether the full read is still under way.
    reading: bool,
}

/// One difference that travels.
#[derive(Debug)]
struct Change {
    op: Op,
    step: Step,
    /// The row's tuple; of a removed one, its key's.
    bytes: Bytes,
}

/// Everything that is remembered of one dataset.
pub(super) struct Book {
    job: Job,
    index: Index,
    head: Head,
    /// Rows that belong to no range until a comparison meets them: sent since the last one outside
    /// of it, or left over from a range that was cut.
    recent: BTreeMap<Box<[u8]>, u128>,
    /// Rows that the last comparison found as they were sent, or sent: a look that goes back beyond
    /// it meets them again. Not kept on disk, and no more than [`SETTLED_ROWS_MAX`].
    settled: BTreeMap<Box<[u8]>, u128>,
    /// The same of the comparison that is under way.
    met: BTreeMap<Box<[u8]>, u128>,
    /// Whether rows written were looked for since the last comparison.
    looked: bool,
    outbox: Outbox<()>,
    /// Whether the full read is still under way.
    reading: bool,
    /// Whether something was found in the full read that only the next pass may tell.
    deferred: bool,
    ranges_unwritten: usize,
    /// Rows written, gathered for the next blocks.
    written: Vec<Change>,
    written_bytes: usize,
}

impl Book {
    /// Opens what there is, or begins anew when there is no place to go on from.
    ///
    /// # Errors
    /// `source_gap` when place and index do not belong together.
    pub(super) fn open(
        job: Job,
        start: Start,
        identity: String,
        outbox: Outbox<()>,
    ) -> Result<Self, Fault> {
        block_in_place(|| {
            let Some(resume) = start.resume else {
                let index = Index::begin_anew(&job.keep, &job.dataset)?;
                let head = Head::new(start.epoch, identity)?;
                index.write(&Write::of(&head))?;
                return Ok(Self::new(job, index, head, outbox, true));
            };
            let place: Place = serde_json::from_slice(&resume.0).map_err(|_| {
                gap("the place to resume from was written by another capture or version")
            })?;
            let index = Index::open(&job.keep, &job.dataset)?;
            let Some(head) = index.head()? else { return Err(gap("the index is gone")) };
            if (&head.id, head.epoch) != (&place.index, start.epoch) || head.notes < place.note {
                return Err(gap("the index is another or older one than the spool knows"));
            }
            if head.identity != identity {
                return Err(gap("columns, or the order of keys, are not what they were"));
            }
            let mut book = Self::new(job, index, head, outbox, place.reading);
            book.take_up(&place)?;
            Ok(book)
        })
    }

    fn new(job: Job, index: Index, head: Head, outbox: Outbox<()>, reading: bool) -> Self {
        Self {
            job,
            index,
            head,
            recent: BTreeMap::new(),
            settled: BTreeMap::new(),
            met: BTreeMap::new(),
            looked: false,
            outbox,
            reading,
            deferred: false,
            ranges_unwritten: 0,
            written: Vec::new(),
            written_bytes: 0,
        }
    }

    /// Brings the index to what the durable blocks say.
    fn take_up(&mut self, place: &Place) -> Result<(), Fault> {
        if let Some(note) = self.index.note()? {
            let count = if place.note == note.number { place.steps } else { 0 };
            let number = self.head.ranges.get(self.head.next).map_or(0, |(number, _)| *number);
            if note.of_range {
                let mut entries = self.index.entries(number)?;
                apply(&mut entries, &note.steps, count);
                let pieces = [(number, entries.as_slice())];
                // The range tells of them from now on: what was recent is older than what it says.
                let told = note.steps.iter().take(count);
                let recent: Vec<Step> = told.map(|step| forget(step.key.clone())).collect();
                let write = Write { pieces: &pieces, recent: &recent, ..Write::of(&self.head) };
                self.index.write(&write)?;
            } else {
                let recent = note.steps.get(..count).unwrap_or(&note.steps);
                self.index.write(&Write { recent, ..Write::of(&self.head) })?;
            }
        }
        self.recent = self.index.recent()?;
        if self.job.watermark {
            // The mark of the pass that was cut short is gone: what was written since in ranges
            // compared already would not be looked for.
            self.head.next = 0;
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> &str {
        &self.head.identity
    }

    pub(super) fn rows_estimated(&self) -> u64 {
        self.job.rows_estimated
    }

    /// Rows sent since the last comparison, outside of it.
    pub(super) fn recent_rows(&self) -> usize {
        self.recent.len()
    }

    /// Whether something waits for the next pass; asking takes it away.
    pub(super) fn take_deferred(&mut self) -> bool {
        std::mem::take(&mut self.deferred)
    }

    /// Tells that the dataset is consistent, if it is; where that was told before, this is no batch.
    pub(super) async fn tell_live(&mut self) -> Result<(), Fault> {
        if self.reading {
            return Ok(());
        }
        self.hand_on(Vec::new(), Phase::Live, usize::MAX).await
    }

    /// Whether the full read is still under way.
    pub(super) fn is_reading(&self) -> bool {
        self.reading
    }

    /// The next pass begins at the beginning, as if this one had not begun.
    pub(super) fn leave_pass(&mut self) {
        self.head.next = 0;
        self.keep_settled();
    }

    pub(super) fn has_ranges_left(&self) -> bool {
        self.head.next < self.head.ranges.len()
    }

    /// The next range and the rows known of it.
    pub(super) fn next_range(&self, chunk_rows: u64) -> Result<(Range, Vec<Entry>), Fault> {
        let next = self.head.next;
        let (number, upto) = self.head.ranges.get(next).cloned().unwrap_or((0, None));
        let before = next.checked_sub(1).and_then(|before| self.head.ranges.get(before));
        let after = before.and_then(|(_, upto)| upto.clone());
        // New rows may double a range before it is cut; the last one is cut as it grows.
        let rows_max = if upto.is_some() { chunk_rows.saturating_mul(2) } else { chunk_rows };
        let known = block_in_place(|| self.index.entries(number))?;
        Ok((Range { after, upto, rows_max }, known))
    }

    /// Hands on what was found of a range, and keeps it; `cut` is the key after which the rest of
    /// the range begins, if there is a rest.
    pub(super) async fn settle_range(
        &mut self,
        compared: Compared,
        cut: Option<KeyText>,
    ) -> Result<(), Fault> {
        let Compared { entries, changes, unplaced, seen_recent, deferred, untouched, .. } =
            compared;
        self.deferred |= deferred;
        if untouched && cut.is_none() {
            self.head.next += 1;
            self.ranges_unwritten += 1;
            if self.ranges_unwritten >= RANGES_UNWRITTEN_MAX {
                self.ranges_unwritten = 0;
                block_in_place(|| self.index.write(&Write::of(&self.head)))?;
            }
            return Ok(());
        }
        let sent = self.send(true, changes).await?;
        self.settle(&sent, &seen_recent);
        self.ranges_unwritten = 0;
        let next = self.head.next;
        let number = self.head.ranges.get(next).map_or(0, |(number, _)| *number);
        let (mut pieces, mut dropped) = (Vec::new(), Vec::new());
        if let Some(cut) = cut {
            let free = self.head.free_number();
            self.head.ranges.insert(next, (free, Some(cut)));
            self.head.next += 1;
            pieces.push((free, entries.as_slice()));
            pieces.push((number, &[]));
        } else if entries.is_empty() && next + 1 < self.head.ranges.len() {
            // Its keys belong to the range after it from now on.
            self.head.ranges.remove(next);
            dropped.push(number);
        } else {
            self.head.next += 1;
            pieces.push((number, entries.as_slice()));
        }
        let mut recent: Vec<Step> = seen_recent.into_iter().map(|step| forget(step.key)).collect();
        for Entry { key, digest } in unplaced {
            recent.push(Step { key, digest: Some(digest) });
        }
        self.remember(&recent);
        let write =
            Write { pieces: &pieces, dropped: &dropped, recent: &recent, ..Write::of(&self.head) };
        block_in_place(|| self.index.write(&write))
    }

    fn keep_settled(&mut self) {
        if self.settled.len() > SETTLED_ROWS_MAX.saturating_sub(self.met.len()) {
            self.settled.clear();
        }
        self.settled.append(&mut self.met);
    }

    /// Keeps what a range's rows came to, for looks that meet them again.
    fn settle(&mut self, sent: &[Step], seen_recent: &[Step]) {
        if !self.job.watermark || self.reading {
            return;
        }
        for Step { key, digest } in sent.iter().chain(seen_recent) {
            self.settled.remove(key);
            match digest {
                Some(digest) if self.met.len() < SETTLED_ROWS_MAX => {
                    self.met.insert(key.clone(), *digest);
                }
                Some(_) | None => {
                    self.met.remove(key);
                }
            }
        }
    }

    /// Ends a pass: recent rows that it did not meet are gone, and a full read is over. The pass
    /// after a full read tells what went meanwhile.
    pub(super) async fn end_pass(&mut self) -> Result<(), Fault> {
        if self.reading {
            self.deferred |= !self.recent.is_empty();
            self.reading = false;
            self.hand_on(Vec::new(), Phase::ReadEnd, usize::MAX).await?;
            self.outbox.all_durable().await?;
            self.tell_live().await?;
        } else {
            let gone = std::mem::take(&mut self.recent);
            for key in gone.keys() {
                self.settled.remove(key);
                self.met.remove(key);
            }
            let changes: Vec<Change> = gone.into_keys().map(removed).collect();
            self.send_recent(changes).await?;
        }
        (self.head.next, self.ranges_unwritten) = (0, 0);
        if std::mem::take(&mut self.looked) {
            self.settled.clear();
        }
        self.keep_settled();
        self.head.passes += 1;
        block_in_place(|| self.index.write(&Write::of(&self.head)))
    }

    /// Takes a row that may have been written since the last look.
    pub(super) async fn written(&mut self, row: Bytes) -> Result<(), Fault> {
        let key = key_of(&row, &self.job.key).ok_or_else(no_key)?;
        let digest = digest_of(&row);
        match self.recent.get(&key) {
            Some(recent) if *recent == digest => return Ok(()),
            None if self.settled.get(&key) == Some(&digest) => {
                // The next look may meet it again, whatever the next comparison does.
                self.met.insert(key, digest);
                return Ok(());
            }
            Some(_) | None => {}
        }
        self.written_bytes += row.len();
        let (step, bytes) = (Step { key, digest: Some(digest) }, Bytes::copy_from_slice(&row));
        self.written.push(Change { op: Op::Update, step, bytes });
        if self.written_bytes >= CHANGED_BYTES_MAX {
            self.settle_written().await?;
        }
        Ok(())
    }

    /// Hands on the rows written that were taken.
    pub(super) async fn settle_written(&mut self) -> Result<(), Fault> {
        (self.looked, self.written_bytes) = (true, 0);
        let changes = std::mem::take(&mut self.written);
        self.send_recent(changes).await
    }

    async fn send_recent(&mut self, changes: Vec<Change>) -> Result<(), Fault> {
        if changes.is_empty() {
            return Ok(());
        }
        let steps = self.send(false, changes).await?;
        self.remember(&steps);
        block_in_place(|| self.index.write(&Write { recent: &steps, ..Write::of(&self.head) }))
    }

    fn remember(&mut self, steps: &[Step]) {
        for Step { key, digest } in steps {
            match digest {
                Some(digest) => self.recent.insert(key.clone(), *digest),
                None => self.recent.remove(key),
            };
        }
    }

    /// Notes changes, hands them on, and waits until they are durable.
    async fn send(&mut self, of_range: bool, changes: Vec<Change>) -> Result<Vec<Step>, Fault> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.head.notes += 1;
        let (steps, rows): (Vec<Step>, Vec<(Op, Bytes)>) =
            changes.into_iter().map(|change| (change.step, (change.op, change.bytes))).unzip();
        let note = Note { number: self.head.notes, of_range, steps };
        block_in_place(|| self.index.write(&Write { note: Some(&note), ..Write::of(&self.head) }))?;
        let phase = if self.reading { Phase::Read } else { Phase::Live };
        let mut filler = Filler::new(self.job.limits);
        for (count, (op, bytes)) in rows.into_iter().enumerate() {
            if filler.is_crowded_by(bytes.len()) {
                self.hand_on(filler.take(), phase, count).await?;
            }
            filler.begin_row(op).extend_from_slice(&bytes);
            if filler.is_full() {
                self.hand_on(filler.take(), phase, count + 1).await?;
            }
        }
        if filler.rows() > 0 {
            self.hand_on(filler.take(), phase, note.steps.len()).await?;
        }
        self.outbox.all_durable().await?;
        Ok(note.steps)
    }

    async fn hand_on(&mut self, body: Vec<u8>, phase: Phase, steps: usize) -> Result<(), Fault> {
        let (index, note, reading) = (self.head.id.clone(), self.head.notes, self.reading);
        let place = Place { index, note, steps, reading };
        let (pass, next, all) = (self.head.passes, self.head.next, self.head.ranges.len());
        let position = format!("pass:{pass}:{next}/{all}");
        let sealed = Sealed { body, phase, tx_open: false, position, source_time: None };
        // Plain fields: serialising cannot fail, and an empty place would be a gap.
        let resume = Resume(serde_json::to_vec(&place).unwrap_or_default());
        self.outbox.hand_on(sealed, resume, ()).await
    }
}

/// Rows of a range while they are compared.
pub(super) struct Gathered<'a> {
    book: &'a Book,
    known: &'a [Entry],
    comparison: Comparison<'a>,
    entries: Vec<Entry>,
    changes: Vec<Change>,
    changed_bytes: usize,
    seen_recent: Vec<Step>,
    rows: u64,
    last: Bytes,
    deferred: bool,
    is_enough: bool,
}

/// What comparing a range came to.
#[derive(Debug)]
pub(super) struct Compared {
    /// The rows of the range, or of its part before the cut.
    entries: Vec<Entry>,
    changes: Vec<Change>,
    /// Rows known of a range that was cut, and not met before the cut: they are gone, or lie after
    /// it. Only the server knows which, so they belong to no range until one of them is met.
    unplaced: Vec<Entry>,
    /// Recent rows that were met, with what the warehouse has of them now.
    seen_recent: Vec<Step>,
    deferred: bool,
    /// Whether all is as it was known.
    untouched: bool,
    cut_after: Option<Vec<Vec<u8>>>,
}

impl Compared {
    /// The key after which the rest of the range begins, if there is a rest.
    pub(super) fn cut_after(&self) -> Option<&[Vec<u8>]> {
        self.cut_after.as_deref()
    }
}

impl<'a> Gathered<'a> {
    pub(super) fn new(book: &'a Book, known: &'a [Entry]) -> Self {
        Self {
            book,
            known,
            comparison: Comparison::new(known),
            entries: Vec::with_capacity(known.len()),
            changes: Vec::new(),
            changed_bytes: 0,
            seen_recent: Vec::new(),
            rows: 0,
            last: Bytes::new(),
            deferred: false,
            is_enough: false,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next row; false when the range is to be cut after it.
    pub(super) fn row(&mut self, row: Bytes) -> Result<bool, Fault> {
        let key = key_of(&row, &self.book.job.key).ok_or_else(no_key)?;
        let digest = digest_of(&row);
        let mut known = self.comparison.find(&key);
        if let Some(recent) = self.book.recent.get(&key) {
            known = Some(*recent);
            let told = if self.book.reading { *recent } else { digest };
            self.seen_recent.push(Step { key: key.clone(), digest: Some(told) });
        }
        self.rows += 1;
        self.last = row.clone();
        match known {
            Some(known) if known == digest => self.entries.push(Entry { key, digest }),
            // In the full read rows only come into being; the next pass tells what else there is.
            Some(known) if self.book.reading => {
                self.deferred = true;
                self.entries.push(Entry { key, digest: known });
            }
            known => {
                let op = match known {
                    Some(_) => Op::Update,
                    None if self.book.reading => Op::Snapshot,
                    None => Op::Insert,
                };
                self.entries.push(Entry { key: key.clone(), digest });
                self.changed_bytes += row.len();
                let step = Step { key, digest: Some(digest) };
                // A copy: the row may lie in a buffer with many that do not travel.
                let bytes = Bytes::copy_from_slice(&row);
                self.changes.push(Change { op, step, bytes });
            }
        }
        self.is_enough = self.changed_bytes >= CHANGED_BYTES_MAX;
        Ok(!self.is_enough)
    }

    pub(super) fn finish(self, range: &Range) -> Result<Compared, Fault> {
        let is_cut = self.is_enough || self.rows >= range.rows_max;
        let last = || parts_of(&self.last, &self.book.job.walk).ok_or_else(no_key);
        let cut_after = is_cut.then(last).transpose()?;
        let mut entries = self.entries;
        let mut seen_recent = self.seen_recent;
        let (mut unplaced, mut removals) = (Vec::new(), Vec::new());
        let mut deferred = self.deferred;
        for entry in self.comparison.unseen() {
            if cut_after.is_some() {
                // What is known of it as a recent row is newer.
                if !self.book.recent.contains_key(&entry.key) {
                    unplaced.push(entry.clone());
                }
            } else if self.book.reading {
                deferred = true;
                entries.push(entry.clone());
            } else {
                if self.book.recent.contains_key(&entry.key) {
                    seen_recent.push(forget(entry.key.clone()));
                }
                removals.push(removed(entry.key.clone()));
            }
        }
        let untouched = self.changes.is_empty()
            && removals.is_empty()
            && seen_recent.is_empty()
            && entries.len() == self.known.len();
        removals.extend(self.changes);
        let changes = removals;
        Ok(Compared { entries, changes, unplaced, seen_recent, deferred, untouched, cut_after })
    }
}

fn removed(key: Box<[u8]>) -> Change {
    let bytes = Bytes::copy_from_slice(&key);
    Change { op: Op::Delete, step: forget(key), bytes }
}

fn forget(key: Box<[u8]>) -> Step {
    Step { key, digest: None }
}

fn gap(what: &str) -> Fault {
    Fault::new(Code::SourceGap, what)
}

fn no_key() -> Fault {
    Fault::new(Code::Bug, "a row has no key")
}
