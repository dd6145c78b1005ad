//! The agent's side of one stream: what it keeps on disk, the `Sender` rebuilt from that after every
//! start, and checks on each action the sender asks for.

use std::collections::{BTreeMap, BTreeSet};

use phusa_protocol::delivery::{Action, Answer, Input, Moment, Sender, WINDOW};
use phusa_protocol::digest::Digest;
use phusa_protocol::hello::Committed;
use phusa_protocol::ids::{Epoch, Seq};

use crate::hub::Batch;

/// What survives a crash, and what a backup of the agent's disk copies.
#[derive(Debug, Clone)]
pub struct Durable {
    pub epoch: Epoch,
    pub released: Seq,
    pub released_header: Digest,
    pub spool: BTreeMap<Seq, Batch>,
    pub last: Seq,
    pub last_header: Digest,
    /// How far the source has been read into the spool.
    pub position: u64,
}

impl Durable {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            released: Seq::NONE,
            released_header: Digest::ZERO,
            spool: BTreeMap::new(),
            last: Seq::NONE,
            last_header: Digest::ZERO,
            position: 0,
        }
    }
}

pub struct Agent {
    pub stream: usize,
    pub durable: Durable,
    pub sender: Sender,
    /// Counts starts, so that answers to a process that is gone reach nobody.
    pub life: u64,
    pub greeting: bool,
    pub in_flight: BTreeSet<Seq>,
    receipts: BTreeSet<Seq>,
    pub epochs_opened: u64,
}

impl Agent {
    pub fn new(stream: usize) -> Self {
        Self {
            stream,
            sender: Sender::new(Epoch(1), Seq::NONE, Digest::ZERO),
            durable: Durable::new(Epoch(1)),
            life: 0,
            greeting: false,
            in_flight: BTreeSet::new(),
            receipts: BTreeSet::new(),
            epochs_opened: 0,
        }
    }

    /// A new process with this disk; what its sender asks for first is returned.
    pub fn restart(&mut self, durable: Durable, now: Moment) -> Vec<Action> {
        let mut sender = Sender::new(durable.epoch, durable.released, durable.released_header);
        let mut actions = Vec::new();
        for (seq, batch) in &durable.spool {
            actions.extend(sender.step(Input::Spooled(*seq, batch.digest()), now));
        }
        // A hole the sender sees for itself; that the newest file is gone, only the disk can tell.
        if durable.last > durable.released && !durable.spool.contains_key(&durable.last) {
            actions.extend(sender.step(Input::Damaged(durable.last), now));
        }
        let (life, epochs_opened) = (self.life + 1, self.epochs_opened);
        *self = Self { sender, durable, life, epochs_opened, ..Self::new(self.stream) };
        actions
    }

    /// Reads the source up to `to` into the spool.
    pub fn spool(&mut self, to: u64, salt: u64, now: Moment) -> Vec<Action> {
        let durable = &mut self.durable;
        let seq = durable.last.next();
        let (epoch, previous, from) = (durable.epoch, durable.last_header, durable.position);
        let batch = Batch { stream: self.stream, epoch, seq, previous, from, to, salt };
        (durable.last, durable.last_header, durable.position) = (seq, batch.digest(), to);
        durable.spool.insert(seq, batch);
        self.sender.step(Input::Spooled(seq, batch.digest()), now)
    }

    /// Tells the sender of an answer; answers for actions that were never asked for are the test's
    /// own mistake.
    pub fn answered(&mut self, seq: Seq, answer: Answer, now: Moment) -> Vec<Action> {
        assert!(self.in_flight.remove(&seq), "batch {seq} was not on its way");
        if answer == Answer::Receipt {
            self.receipts.insert(seq);
        }
        self.sender.step(Input::Answered(seq, answer), now)
    }

    /// Whether the file of batch `seq` is needed no more, unless the answer is lost.
    pub fn is_answered_or_on_its_way(&self, seq: Seq) -> bool {
        self.in_flight.contains(&seq) || self.receipts.contains(&seq)
    }

    /// Records a receipt and deletes the spool file, in that order.
    pub fn release(&mut self, seq: Seq) -> Result<Digest, String> {
        if seq != self.durable.released.next() {
            return Err(format!("batch {seq} is released after {}", self.durable.released));
        }
        if !self.receipts.remove(&seq) {
            return Err(format!("batch {seq} is released without a receipt"));
        }
        let Some(batch) = self.durable.spool.remove(&seq) else {
            return Err(format!("batch {seq} is released and was not in the spool"));
        };
        self.durable.released = seq;
        self.durable.released_header = batch.digest();
        Ok(batch.digest())
    }

    /// The batch to send; checks that it may be sent.
    pub fn send(&mut self, seq: Seq) -> Result<Option<Batch>, String> {
        if !self.in_flight.insert(seq) {
            return Err(format!("batch {seq} is sent while it is on its way"));
        }
        if self.in_flight.len() as u64 > WINDOW {
            return Err(format!("{} batches are on their way", self.in_flight.len()));
        }
        Ok(self.durable.spool.get(&seq).copied())
    }

    /// The disk with which the stream begins anew.
    pub fn open_epoch(&mut self, epoch: Epoch) -> Result<Durable, String> {
        if epoch <= self.durable.epoch {
            return Err(format!("epoch {epoch} is opened after {}", self.durable.epoch));
        }
        self.epochs_opened += 1;
        Ok(Durable::new(epoch))
    }

    /// Whether delivery can go on from what both sides hold: seen from above, with all the facts.
    pub fn fits(&self, committed: Option<Committed>) -> bool {
        let durable = &self.durable;
        let whole = (durable.released.0 + 1..=durable.last.0)
            .all(|number| durable.spool.contains_key(&Seq(number)));
        let Some(committed) = committed.filter(|c| c.epoch >= durable.epoch) else {
            return whole && durable.released == Seq::NONE;
        };
        let header = if committed.seq == durable.released {
            Some(durable.released_header)
        } else {
            durable.spool.get(&committed.seq).map(Batch::digest)
        };
        whole && committed.epoch == durable.epoch && header == Some(committed.header)
    }

    /// Everything read is in the warehouse, as far as the agent knows.
    pub fn is_done(&self, source_end: u64) -> bool {
        self.durable.position == source_end && self.sender.is_idle() && self.in_flight.is_empty()
    }
}
