//! The hub's side in its simplest form: real judgements of `Receiver`, an idealised warehouse, and a
//! check at every commit that nothing was skipped or repeated.

use std::collections::{BTreeMap, BTreeSet};

use phusa_protocol::delivery::{Judgement, Receiver};
use phusa_protocol::digest::Digest;
use phusa_protocol::hello::Committed;
use phusa_protocol::ids::{Epoch, Seq};

/// A batch as the hub sees it: its place in the chain and the stretch of the source it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub stream: usize,
    pub epoch: Epoch,
    pub seq: Seq,
    pub previous: Digest,
    /// Changes after this place of the source …
    pub from: u64,
    /// … up to and including this one.
    pub to: u64,
    /// Batches made twice from the same changes differ (salt, times).
    pub salt: u64,
}

impl Batch {
    pub fn digest(&self) -> Digest {
        let (epoch, seq) = (self.epoch.0, self.seq.0);
        let numbers = [self.stream as u64, epoch, seq, self.from, self.to, self.salt];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        Digest::of_pair(self.previous.as_bytes(), &bytes)
    }
}

/// What survives a restart of the hub, and what a backup copies.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    committed: BTreeMap<usize, Committed>,
    /// How far the warehouse has come in the source of each stream.
    upto: BTreeMap<usize, u64>,
    entries: BTreeMap<(usize, Epoch, Seq), Digest>,
}

/// The hub's answer to a batch, before the network touches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Receipt,
    Conflict,
    OutOfTurn,
    Hold,
}

#[derive(Debug, Default)]
pub struct Hub {
    pub stored: Stored,
    /// Every batch that was ever durable, even if a restored backup has forgotten it.
    ever_committed: BTreeSet<Digest>,
    pub commits: u64,
}

impl Hub {
    pub fn committed(&self, stream: usize) -> Option<Committed> {
        self.stored.committed.get(&stream).copied()
    }

    pub fn upto(&self, stream: usize) -> u64 {
        self.stored.upto.get(&stream).copied().unwrap_or(0)
    }

    pub fn has_ever_committed(&self, header: Digest) -> bool {
        self.ever_committed.contains(&header)
    }

    /// Judges a batch and, if its turn has come, commits it.
    pub fn receive(&mut self, batch: &Batch) -> Result<Verdict, String> {
        let receiver = Receiver(self.committed(batch.stream));
        match receiver.judge(batch.epoch, batch.seq, batch.previous) {
            Judgement::Next | Judgement::NewEpoch => {
                self.commit(batch)?;
                Ok(Verdict::Receipt)
            }
            Judgement::Repeat => {
                let stored = self.stored.entries.get(&(batch.stream, batch.epoch, batch.seq));
                let same = stored == Some(&batch.digest());
                Ok(if same { Verdict::Receipt } else { Verdict::Conflict })
            }
            Judgement::Early => Ok(Verdict::Hold),
            Judgement::OutOfTurn { .. } => Ok(Verdict::OutOfTurn),
            Judgement::Conflict => Ok(Verdict::Conflict),
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), String> {
        let last = self.committed(batch.stream).filter(|last| last.epoch == batch.epoch);
        let first_of_epoch = batch.seq == Seq(1) && batch.previous == Digest::ZERO;
        let follows = match last {
            Some(last) => batch.seq == last.seq.next() && batch.previous == last.header,
            None => first_of_epoch,
        };
        let older = self.committed(batch.stream).is_some_and(|last| last.epoch > batch.epoch);
        if !follows || older {
            return Err(format!("{batch:?} was committed after {last:?}"));
        }
        let upto = if first_of_epoch { 0 } else { self.upto(batch.stream) };
        if batch.from != upto {
            return Err(format!("{batch:?} was committed where the warehouse stands at {upto}"));
        }
        let header = batch.digest();
        let committed = Committed { epoch: batch.epoch, seq: batch.seq, header };
        self.stored.committed.insert(batch.stream, committed);
        self.stored.upto.insert(batch.stream, batch.to);
        self.stored.entries.insert((batch.stream, batch.epoch, batch.seq), header);
        self.ever_committed.insert(header);
        self.commits += 1;
        Ok(())
    }
}
