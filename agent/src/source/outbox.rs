//! Where finished blocks leave: numbered, in order, bounded; and what is durable comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Mark, Op, TRUNCATES_MAX};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};

use super::settings::Limits;
use super::{Block, Column, Resume};

/// What a block is filled with, and when it is full.
pub(super) struct Filler {
    body: BodyWriter,
    rows: u64,
    limits: Limits,
}

/// Room that is kept above the limit, so that the row that reaches it seldom moves the rest.
const SPARE_BYTES: usize = 64 << 10;

impl Filler {
    pub(super) fn new(limits: Limits) -> Self {
        Self { body: BodyWriter::default(), rows: 0, limits }
    }

    /// Begins a row; its tuples follow in what is returned.
    pub(super) fn begin_row(&mut self, op: Op) -> &mut Vec<u8> {
        if self.rows == 0 {
            let capacity = self.limits.bytes_max.as_usize().saturating_add(SPARE_BYTES);
            self.body = BodyWriter::with_capacity(capacity);
        }
        self.rows += 1;
        self.body.begin_row(op)
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether it has reached a limit.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.limits.rows_max
            || self.body.len() >= self.limits.bytes_max.as_usize()
            || self.body.counts().truncate >= u64::from(TRUNCATES_MAX)
    }

    /// Whether a row of this length had better begin a block of its own.
    pub(super) fn is_crowded_by(&self, row_bytes: usize) -> bool {
        self.rows > 0 && row_bytes >= self.limits.row_bytes_max.as_usize()
    }

    /// Where it stands, to go back to before it is taken.
    pub(super) fn mark(&self) -> (Mark, u64) {
        (self.body.mark(), self.rows)
    }

    /// Takes back what was filled in since.
    pub(super) fn rewind(&mut self, (mark, rows): (Mark, u64)) {
        self.body.rewind(mark);
        self.rows = rows;
    }

    /// Takes what was filled in and begins anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.rows = 0;
        std::mem::take(&mut self.body).finish().0
    }
}

/// A block without the number it gets when it leaves.
pub(super) struct Sealed {
    pub(super) body: Vec<u8>,
    pub(super) phase: Phase,
    pub(super) tx_open: bool,
    pub(super) position: String,
    /// Commit time of the last transaction; `None` for a full read.
    pub(super) source_time: Option<Timestamp>,
}

/// The end of a capture that hands blocks on; `P` is a position of the source's log.
pub(super) struct Outbox<P> {
    blocks: mpsc::Sender<Block>,
    durable: watch::Receiver<u64>,
    columns: Arc<[Column]>,
    /// The number of the last block handed on.
    number: u64,
    /// Blocks that are not yet durable, with the log position each releases.
    in_flight: VecDeque<(u64, P)>,
    /// Released and not yet asked for.
    free: Option<P>,
}

impl<P: Copy> Outbox<P> {
    pub(super) fn new(
        blocks: mpsc::Sender<Block>,
        durable: watch::Receiver<u64>,
        columns: Arc<[Column]>,
    ) -> Self {
        Self { blocks, durable, columns, number: 0, in_flight: VecDeque::new(), free: None }
    }

    /// Hands a block on; waits while the next step is behind. Once it is durable, the log up to
    /// `releases` is not needed any more.
    pub(super) async fn hand_on(
        &mut self,
        sealed: Sealed,
        resume: Resume,
        releases: P,
    ) -> Result<(), Fault> {
        self.number += 1;
        let read_at = Timestamp::now();
        let block = Block {
            number: self.number,
            columns: Arc::clone(&self.columns),
            body: sealed.body,
            phase: sealed.phase,
            tx_open: sealed.tx_open,
            position: sealed.position,
            resume,
            read_at,
            source_time: sealed.source_time.unwrap_or(read_at),
        };
        self.in_flight.push_back((self.number, releases));
        self.blocks.send(block).await.map_err(|_| nobody_takes_blocks())
    }

    /// Whether every block handed on is durable.
    pub(super) fn is_settled(&mut self) -> bool {
        self.collect();
        self.in_flight.is_empty()
    }

    /// The log position released by what became durable since the last call, if any.
    pub(super) fn released(&mut self) -> Option<P> {
        self.collect();
        self.free.take()
    }

    fn collect(&mut self) {
        let durable = *self.durable.borrow_and_update();
        while let Some((_, position)) =
            self.in_flight.pop_front_if(|(number, _)| *number <= durable)
        {
            self.free = Some(position);
        }
    }

    /// Waits until more became durable.
    pub(super) async fn more_durable(&mut self) -> Result<(), Fault> {
        self.durable.changed().await.map_err(|_| nobody_takes_blocks())
    }

    /// Waits until every block handed on is durable, and returns the log position released.
    pub(super) async fn all_durable(&mut self) -> Result<Option<P>, Fault> {
        let number = self.number;
        let reached = self.durable.wait_for(|durable| *durable >= number).await.map(drop);
        reached.map_err(|_| nobody_takes_blocks())?;
        Ok(self.released())
    }
}

/// The pipeline went away without stopping the capture first.
pub(super) fn nobody_takes_blocks() -> Fault {
    Fault::new(Code::Bug, "nobody takes the blocks of the capture")
}

#[cfg(test)]
mod tests {
    use phusa_protocol::units::ByteSize;

    use super::*;

    #[test]
    fn a_block_is_full_where_the_hub_would_refuse_more_truncates() {
        let limits = Limits { rows_max: u64::MAX, ..Limits::default() };
        let mut filler = Filler::new(limits);
        let taken = (0..5_000).take_while(|_| {
            filler.begin_row(Op::Truncate);
            !filler.is_full()
        });
        assert_eq!(taken.count() + 1, 1_000);
    }

    #[test]
    fn a_block_is_full_by_rows_or_bytes_and_a_huge_row_stands_alone() {
        let limits = Limits {
            bytes_max: ByteSize(100),
            rows_max: 3,
            row_bytes_max: ByteSize(50),
            ..Limits::default()
        };
        let mut filler = Filler::new(limits);
        let check = |filler: &mut Filler, bytes: usize, full: bool| {
            filler.begin_row(Op::Insert).extend(std::iter::repeat_n(0, bytes));
            assert_eq!(filler.is_full(), full, "{bytes} bytes more");
        };
        assert!(!filler.is_crowded_by(60));
        check(&mut filler, 60, false);
        assert!(filler.is_crowded_by(60) && !filler.is_crowded_by(10));
        check(&mut filler, 60, true);
        filler.take();
        check(&mut filler, 1, false);
        check(&mut filler, 1, false);
        check(&mut filler, 1, true);
    }
}
