//! Pure: messages of the log become changes of one table, and a place to resume from.
//!
//! Both transports end here. A transaction that blocks cut is recognised when the server sends it
//! again after a restart, and what was already handed on of it is passed over.

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::{begin_tuple, put_field};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;

use super::decode::{Cell, Cells, Message, Old, Relation};
use super::drift;
use super::oversize;
use super::place::{Following, Lsn, OpenTx};
use super::target::Target;
use super::text::{self, Form};
use crate::source::outbox::{Filler, Sealed};
use crate::source::settings::Limits;

/// Turns messages into the body of the next block.
pub(super) struct Assembler {
    target: Arc<Target>,
    following: Following,
    filler: Filler,
    row_bytes_max: usize,
    shape: Option<Shape>,
    transaction: Option<Transaction>,
    /// Commit time of the transaction seen last.
    source_time: Timestamp,
    told_of_new_columns: bool,
}

/// The transaction that is being read.
struct Transaction {
    final_lsn: Lsn,
    /// Changes of the table seen so far.
    changes: u64,
    /// How many of them earlier blocks hold.
    known: u64,
}

/// A change whose row the log does not hold in full, while the full read may not hold it either.
///
/// The read may have met the row under its later key, or not at all, so that nothing is there from
/// which unchanged values could be carried over. Its row has to be read from the table.
pub(super) struct Incomplete {
    /// The key it had, if it changed: a tuple in the contract's key order.
    old: Option<Vec<u8>>,
    /// The key it has: a tuple in the contract's key order.
    key: Vec<u8>,
    /// The parts of the key along which the table is read.
    pub(super) walk: Vec<Vec<u8>>,
}

/// Where the columns stand in the messages of a table.
struct Shape {
    /// For each column of the target, its place in a message.
    places: Vec<usize>,
    /// For each column of a message, whether it belongs to the replica identity.
    identity: Vec<bool>,
}

impl Assembler {
    pub(super) fn new(target: Arc<Target>, limits: Limits, following: Following) -> Self {
        Self {
            target,
            following,
            filler: Filler::new(limits),
            row_bytes_max: limits.row_bytes_max.as_usize(),
            shape: None,
            transaction: None,
            source_time: Timestamp::now(),
            told_of_new_columns: false,
        }
    }

    /// Where it stands, everything taken in so far included.
    pub(super) fn following(&self) -> &Following {
        &self.following
    }

    /// Changes taken in since the last block.
    pub(super) fn rows(&self) -> u64 {
        self.filler.rows()
    }

    /// Whether the next block has reached a limit.
    pub(super) fn is_full(&self) -> bool {
        self.filler.is_full()
    }

    /// Whether it is inside a transaction.
    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether every transaction begun has ended, counting one that an earlier connection left
    /// half handed on.
    pub(super) fn is_between_transactions(&self) -> bool {
        !self.in_transaction() && self.following.open.is_none()
    }

    /// Whether the dataset has become consistent and no block has told so yet. Never inside a
    /// transaction: a block that told so would close what the hub has of it.
    pub(super) fn has_become_live(&self) -> bool {
        !self.following.told_live && self.is_between_transactions() && self.has_settled()
    }

    fn has_settled(&self) -> bool {
        self.following.settle_until.is_none_or(|until| self.following.at >= until)
    }

    /// Forgets a connection that ended: the next one begins at a transaction's start.
    pub(super) fn reconnected(&mut self) {
        self.transaction = None;
        self.shape = None;
    }

    /// Nothing is left to be read before this position, and no transaction is open.
    pub(super) fn idle(&mut self, at: Lsn) {
        if self.is_between_transactions() {
            self.following.at = self.following.at.max(at);
        }
    }

    /// Takes one message in.
    ///
    /// # Errors
    /// `source_schema` when a mapped column is no longer what it was, `source_gap` when a
    /// transaction that was handed on in part does not come again.
    pub(super) fn take(&mut self, message: Message<'_>) -> Result<Option<Incomplete>, Fault> {
        match message {
            Message::Begin { final_lsn, commit_micros } => {
                self.source_time = Timestamp::from_postgres_micros(commit_micros);
                self.begin(Lsn(final_lsn))?;
            }
            Message::Commit { end_lsn } => {
                self.transaction = None;
                self.following.at = self.following.at.max(Lsn(end_lsn));
                if self.following.open.is_some_and(|open| open.final_lsn.0 < end_lsn) {
                    self.following.open = None;
                }
            }
            Message::Relation(relation) if relation.oid == self.target.oid => {
                self.shape = Some(self.shape_of(&relation)?);
            }
            Message::Insert { relation, new } if self.is_new_change(relation) => {
                let shape = self.shape.as_ref().ok_or_else(no_shape)?;
                let row = fitting(&self.target, shape, cells(new), self.row_bytes_max);
                put_row(&self.target, shape, self.filler.begin_row(Op::Insert), &row)?;
            }
            Message::Update { relation, old, new } if self.is_new_change(relation) => {
                return self.update(old, new);
            }
            Message::Delete { relation, old } if self.is_new_change(relation) => {
                let shape = self.shape.as_ref().ok_or_else(no_shape)?;
                let (Old::Key(old) | Old::Full(old)) = old;
                put_key(&self.target, shape, self.filler.begin_row(Op::Delete), &cells(old))?;
            }
            Message::Truncate { relations } if names(relations, self.target.oid) => {
                if self.is_new_change(self.target.oid) {
                    self.filler.begin_row(Op::Truncate);
                }
            }
            Message::Relation(_)
            | Message::Insert { .. }
            | Message::Update { .. }
            | Message::Delete { .. }
            | Message::Truncate { .. }
            | Message::Other => {}
        }
        Ok(None)
    }

    /// Takes a change in whose row was read from the table; `None` when no row has its key now.
    /// The row was then removed or given another key meanwhile, which the log tells later.
    pub(super) fn complete(&mut self, change: &Incomplete, row: Option<&[u8]>) {
        match (&change.old, row) {
            (None, Some(row)) => self.filler.begin_row(Op::Update).extend_from_slice(row),
            (Some(old), Some(row)) => {
                let out = self.filler.begin_row(Op::Rekey);
                out.extend_from_slice(old);
                out.extend_from_slice(row);
            }
            (old, None) => {
                for key in old.iter().chain([&change.key]) {
                    self.filler.begin_row(Op::Delete).extend_from_slice(key);
                }
            }
        }
    }

    /// Changes before this may differ from what was read; once they are past, it is told anew that
    /// the dataset is consistent.
    pub(super) fn settle_until(&mut self, at: Lsn) {
        self.following.settle_until = self.following.settle_until.max(Some(at));
        self.following.told_live = false;
    }

    fn begin(&mut self, final_lsn: Lsn) -> Result<(), Fault> {
        // The server's own rule: a transaction whose commit record begins before the confirmed
        // position was confirmed with it.
        let known = match self.following.open {
            _ if final_lsn < self.following.at => u64::MAX,
            Some(open) if open.final_lsn == final_lsn => open.changes,
            Some(open) if open.final_lsn < final_lsn => {
                let what = format!("transaction {} did not come again", open.final_lsn);
                return Err(Fault::new(Code::SourceGap, what));
            }
            Some(_) | None => 0,
        };
        self.transaction = Some(Transaction { final_lsn, changes: 0, known });
        Ok(())
    }

    /// Counts a change of the table; false for one of another table and for one handed on before.
    fn is_new_change(&mut self, relation: u32) -> bool {
        let Some(transaction) = &mut self.transaction else { return false };
        if relation != self.target.oid {
            return false;
        }
        transaction.changes += 1;
        if transaction.changes <= transaction.known {
            return false;
        }
        let (final_lsn, changes) = (transaction.final_lsn, transaction.changes);
        self.following.open = Some(OpenTx { final_lsn, changes });
        true
    }

    fn update(
        &mut self,
        old: Option<Old<'_>>,
        new: Cells<'_>,
    ) -> Result<Option<Incomplete>, Fault> {
        let shape = self.shape.as_ref().ok_or_else(no_shape)?;
        let mut row = cells(new);
        let (whole, old) = match old {
            None => (false, None),
            Some(Old::Key(old)) => (false, Some(cells(old))),
            Some(Old::Full(old)) => (true, Some(cells(old))),
        };
        let rekeyed = old.as_ref().filter(|old| key_differs(&self.target, shape, old, &row));
        if let Some(old) = &old {
            carry_over(shape, &mut row, old, whole);
        }
        let row = fitting(&self.target, shape, row, self.row_bytes_max);
        let is_settling = self.transaction.as_ref().zip(self.following.settle_until);
        if is_settling.is_some_and(|(transaction, until)| transaction.final_lsn < until)
            && shape.places.iter().any(|&at| row.get(at) == Some(&Cell::Unchanged))
        {
            let old = rekeyed.map(|old| key_tuple(&self.target, shape, old)).transpose()?;
            let key = key_tuple(&self.target, shape, &row)?;
            let walk = walk_parts(&self.target, shape, &row)?;
            return Ok(Some(Incomplete { old, key, walk }));
        }
        let out = self.filler.begin_row(if rekeyed.is_some() { Op::Rekey } else { Op::Update });
        if let Some(old) = rekeyed {
            put_key(&self.target, shape, out, old)?;
        }
        put_row(&self.target, shape, out, &row)?;
        Ok(None)
    }

    fn shape_of(&mut self, relation: &Relation<'_>) -> Result<Shape, Fault> {
        let columns: Vec<_> = relation.columns().collect();
        let place = format!("{}.{}", relation.schema, relation.name);
        let schema = |what: String| Err(Fault::new(Code::SourceSchema, what));
        let mut places = Vec::with_capacity(self.target.columns.len());
        for (column, numbers) in self.target.columns.iter().zip(&self.target.types) {
            let Some(at) = columns.iter().position(|found| found.name == column.name) else {
                return schema(format!("{place} no longer has the column {}", column.name));
            };
            let (name, was) = (&column.name, &column.type_name);
            match columns.get(at) {
                Some(found) if found.type_oid != numbers.type_oid => {
                    return schema(format!("column {name} of {place} is no longer {was}"));
                }
                Some(found) if found.modifier != numbers.modifier => {
                    let what = format!("column {name} is no longer {was}");
                    return Err(drift::gap(&self.target, &what));
                }
                Some(_) | None => {}
            }
            places.push(at);
        }
        let key = self.target.selection.key.iter().filter_map(|&index| places.get(index));
        if key.clone().any(|&at| columns.get(at).is_some_and(|column| !column.identity)) {
            let what = format!("the replica identity of {place} no longer holds the key");
            return Err(Fault::new(Code::SourceKeyMissing, what));
        }
        if columns.len() > places.len() && !self.told_of_new_columns {
            self.told_of_new_columns = true;
            let count = columns.len() - places.len();
            tracing::info!(table = place, "{place} publishes {count} columns that are not mapped");
        }
        Ok(Shape { places, identity: columns.iter().map(|column| column.identity).collect() })
    }

    /// Ends the block here.
    pub(super) fn seal(&mut self) -> Sealed {
        let rows = self.filler.rows();
        let live = match self.following.settle_until {
            None => true,
            Some(_) => rows == 0 && self.has_settled() && !self.in_transaction(),
        };
        if self.has_settled() && !self.in_transaction() {
            self.following.settle_until = None;
        }
        self.following.told_live |= live;
        let tx_open = self.in_transaction() && self.following.open.is_some();
        let at = self.following.at;
        let position = match self.following.open {
            Some(open) if tx_open => format!("{at}+{}:{}", open.final_lsn, open.changes),
            _ => at.to_string(),
        };
        Sealed {
            body: self.filler.take(),
            phase: if live { Phase::Live } else { Phase::Settle },
            tx_open,
            position,
            source_time: (rows > 0).then_some(self.source_time),
        }
    }
}

fn cells(cells: Cells<'_>) -> Vec<Cell<'_>> {
    cells.iter().collect()
}

fn names(relations: &[u8], oid: u32) -> bool {
    relations.as_chunks::<4>().0.iter().any(|number| u32::from_be_bytes(*number) == oid)
}

fn no_shape() -> Fault {
    Fault::new(Code::Bug, "a change came before the shape of its table")
}

/// Takes from the old form of a row what the new one leaves out: from a whole row everything, from
/// a key only the columns of the replica identity, because its others stand as null.
fn carry_over<'a>(shape: &Shape, new: &mut [Cell<'a>], old: &[Cell<'a>], whole: bool) {
    for ((cell, before), identity) in new.iter_mut().zip(old).zip(&shape.identity) {
        if *cell == Cell::Unchanged && (whole || *identity) {
            *cell = *before;
        }
    }
}

/// The row with values that are too large cut; mapping sees that it is too large all the same.
fn fitting<'a>(
    target: &Target,
    shape: &Shape,
    mut row: Vec<Cell<'a>>,
    bytes_max: usize,
) -> Vec<Cell<'a>> {
    for (&at, column) in shape.places.iter().zip(target.columns.iter()) {
        if let Some(cell) = row.get_mut(at) {
            *cell = oversize::cut(*cell, &column.native, bytes_max);
        }
    }
    row
}

fn put_row(
    target: &Target,
    shape: &Shape,
    out: &mut Vec<u8>,
    new: &[Cell<'_>],
) -> Result<(), Fault> {
    begin_tuple(out, shape.places.len());
    for (index, &at) in shape.places.iter().enumerate() {
        put_cell(target, index, out, *new.get(at).ok_or_else(no_shape)?)?;
    }
    Ok(())
}

fn key_tuple(target: &Target, shape: &Shape, row: &[Cell<'_>]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    put_key(target, shape, &mut out, row)?;
    Ok(out)
}

/// The bytes of the key along which the table is read.
fn walk_parts(target: &Target, shape: &Shape, row: &[Cell<'_>]) -> Result<Vec<Vec<u8>>, Fault> {
    let part = |&index: &usize| {
        let cell = shape.places.get(index).and_then(|&at| row.get(at)).ok_or_else(no_shape)?;
        let mut field = Vec::new();
        put_cell(target, index, &mut field, *cell)?;
        Ok(field.split_off(4))
    };
    target.walk.iter().map(part).collect()
}

/// The key fields alone, in the contract's key order.
fn put_key(
    target: &Target,
    shape: &Shape,
    out: &mut Vec<u8>,
    old: &[Cell<'_>],
) -> Result<(), Fault> {
    begin_tuple(out, target.selection.key.len());
    for &index in &target.selection.key {
        let cell = shape.places.get(index).and_then(|&at| old.get(at)).ok_or_else(no_shape)?;
        put_cell(target, index, out, *cell)?;
    }
    Ok(())
}

fn key_differs(target: &Target, shape: &Shape, old: &[Cell<'_>], new: &[Cell<'_>]) -> bool {
    target.selection.key.iter().filter_map(|&index| shape.places.get(index)).any(|&at| {
        new.get(at).is_some_and(|cell| *cell != Cell::Unchanged) && old.get(at) != new.get(at)
    })
}

fn put_cell(target: &Target, index: usize, out: &mut Vec<u8>, cell: Cell<'_>) -> Result<(), Fault> {
    match cell {
        Cell::Binary(bytes) => put_field(out, Field::Value(bytes)),
        Cell::Null => put_field(out, Field::Null),
        Cell::Unchanged => put_field(out, Field::Unchanged),
        Cell::Text(bytes) => put_text(target, index, out, bytes)?,
    }
    Ok(())
}

fn put_text(target: &Target, index: usize, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Fault> {
    let native = target.native(index).ok_or_else(no_shape)?;
    let element_oid = target.types.get(index).map_or(0, |numbers| numbers.element_oid);
    let at = out.len();
    out.extend([0; 4]);
    text::to_binary(Form { native, element_oid }, bytes, out).map_err(|error| {
        let name = target.columns.get(index).map_or("", |column| &column.name);
        Fault::because(Code::SourceTypeRefused, format!("cannot read column {name}"), error)
    })?;
    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
