//! Blocks of a scan: all rows once, for `preview` and `verify`. Nothing is resumed from them, so
//! they carry no place. A scan that is to see every row keeps to the load guard, but for its hours:
//! whoever wants it has chosen when.

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::Fault;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use tokio::sync::mpsc;

use super::guard::Guard;
use super::outbox::{Filler, nobody_takes_blocks};
use super::settings::Limits;
use super::throttle::{Answers, Throttle, Turn};
use super::{Block, Column, Resume, Selection};

/// The end of a scan that hands blocks on; `W` is a second connection that is asked how slow the
/// server is, the first being busy with the rows.
pub(super) struct Scanned<W> {
    blocks: mpsc::Sender<Block>,
    columns: Arc<[Column]>,
    number: u64,
    filler: Filler,
    held: Option<(Throttle, W)>,
    turn: Turn,
}

impl<W: Answers> Scanned<W> {
    /// Blocks of these columns; a scan without a witness is a small one, which nothing holds up.
    pub(super) fn new(
        blocks: mpsc::Sender<Block>,
        columns: &Arc<[Column]>,
        limits: Limits,
        held: Option<(Throttle, W)>,
    ) -> Self {
        let (columns, filler) = (Arc::clone(columns), Filler::new(limits));
        Self { blocks, columns, number: 0, filler, held, turn: Turn::default() }
    }

    /// Puts what was found under a key, whole: the row as it is now, or that there is none.
    pub(super) async fn found(&mut self, key: &[Vec<u8>], row: Option<&[u8]>) -> Result<(), Fault> {
        match row {
            Some(row) => self.filler.begin_row(Op::Update).extend_from_slice(row),
            None => {
                let fields: Vec<Field<'_>> = key.iter().map(|part| Field::Value(part)).collect();
                put_tuple(self.filler.begin_row(Op::Delete), &fields);
            }
        }
        self.end_row().await
    }

    /// Begins a row; its tuple follows in what is returned.
    pub(super) fn begin_row(&mut self) -> &mut Vec<u8> {
        self.filler.begin_row(Op::Snapshot)
    }

    /// Ends a row, and hands the block on where it is full.
    pub(super) async fn end_row(&mut self) -> Result<(), Fault> {
        if self.filler.is_full() { self.hand_on().await } else { Ok(()) }
    }

    /// Hands on what is left.
    pub(super) async fn finish(mut self) -> Result<(), Fault> {
        if self.filler.rows() > 0 { self.hand_on().await } else { Ok(()) }
    }

    async fn hand_on(&mut self) -> Result<(), Fault> {
        self.number += 1;
        let (now, rows) = (Timestamp::now(), self.filler.rows());
        let block = Block {
            number: self.number,
            columns: Arc::clone(&self.columns),
            body: self.filler.take(),
            phase: Phase::Read,
            tx_open: false,
            position: format!("scan:{}", self.number),
            resume: Resume(Vec::new()),
            read_at: now,
            source_time: now,
        };
        let sends = self.blocks.send(block);
        let Some((throttle, witness)) = &mut self.held else {
            return sends.await.map_err(|_| nobody_takes_blocks());
        };
        throttle.aside(sends).await.map_err(|_| nobody_takes_blocks())?;
        throttle.spend(rows).await;
        throttle.give_way(&mut self.turn, witness).await
    }
}

/// The parts of a key along which a table is read, out of the contract's key, which holds them all.
pub(super) fn walk_parts(
    selection: &Selection,
    walk: &[usize],
    key: &[Vec<u8>],
) -> Option<Vec<Vec<u8>>> {
    let part = |at: &usize| {
        let place = selection.key.iter().position(|place| place == at)?;
        key.get(place).cloned()
    };
    walk.iter().map(part).collect()
}

/// What holds up a scan of all rows of a table; `None` for one of the first few.
pub(super) fn throttle(
    guard: &Guard,
    selection: &Selection,
    rows_max: Option<u64>,
) -> Option<Throttle> {
    rows_max.is_none().then(|| Throttle::new(guard, selection.place()))
}
