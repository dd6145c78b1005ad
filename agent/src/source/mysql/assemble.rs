//! Pure: events of the log become changes of one table, and a place to resume from.
//!
//! A transaction that blocks cut is recognised when the server sends it again after a restart, and
//! what was already handed on of it is passed over. Whatever changed rows of the table without
//! their being in the log ends the stream with `source_gap`.

mod name;

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{Mark, Op};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

pub(super) use self::name::Name;
use super::event::{BadEvent, Change, Event, Head, Rows, TableMap};
use super::place::{FILE_START, Following, OpenTx, Position, Tracking};
use super::shape::{Cell, Image, Shape};
use super::statement::{Meaning, meaning, replaces_column, xa_name};
use super::target::Target;
use crate::source::outbox::{Filler, Sealed};
use crate::source::settings::Limits;
use crate::source::snapshot::KeyText;

/// Prepared transactions that are remembered at once.
const PREPARED_MAX: usize = 10_000;

/// Turns events into the body of the next block.
pub(super) struct Assembler {
    target: Arc<Target>,
    tracking: Tracking,
    following: Following,
    filler: Filler,
    /// Table numbers of the log that stand for the target.
    shapes: BTreeMap<u64, Arc<Shape>>,
    /// Where the next event stands.
    file: String,
    offset: u64,
    /// The transaction that is named and has not begun, or is under way.
    name: Option<Name>,
    transaction: Option<Transaction>,
    /// Commit time of the transaction seen last.
    source_time: Timestamp,
}

/// The transaction that is being read.
#[derive(Debug, Default)]
struct Transaction {
    name: String,
    /// Changes of the table seen so far.
    changes: u64,
    /// How many of them earlier blocks hold.
    known: u64,
    /// Where the block stood when it began; `None` once a block holds a part of it.
    before: Option<(Mark, u64)>,
    /// Whether its commit comes later, by name; its changes are not known until then.
    is_xa: bool,
}

/// What an event asks of the one who reads the log.
#[derive(Debug)]
pub(super) enum Asks<'e> {
    Nothing,
    /// Rows of the table to take in, one after the other.
    Rows(Cursor<'e>),
    /// The table may have another shape now.
    Look,
}

/// Rows of one event that are still to be taken in.
#[derive(Debug)]
pub(super) struct Cursor<'e> {
    rows: &'e Rows<'e>,
    images: &'e [u8],
    shape: Arc<Shape>,
}

/// A change whose row the log does not hold in full, while nothing is there from which the rest
/// could be carried over. Its row has to be read from the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incomplete {
    /// The key it had, if it changed: a tuple in the contract's key order.
    old: Option<Vec<u8>>,
    /// The key it has: a tuple in the contract's key order.
    key: Vec<u8>,
    is_insert: bool,
    /// The key along which the table is read, as SQL.
    pub(super) walk: KeyText,
}

impl Assembler {
    pub(super) fn new(
        target: Arc<Target>,
        tracking: Tracking,
        limits: Limits,
        following: Following,
    ) -> Self {
        let (file, offset) = (following.at.file.clone(), following.at.offset);
        Self {
            target,
            tracking,
            following,
            filler: Filler::new(limits),
            shapes: BTreeMap::new(),
            file,
            offset,
            name: None,
            transaction: None,
            source_time: Timestamp::now(),
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
        let until = self.following.settle_until.as_ref();
        until.is_none_or(|until| self.following.at.has_reached(until, self.tracking))
    }

    /// Everything before the next event was taken in.
    fn stand_here(&mut self) {
        if self.following.open.is_none() {
            self.following.at.file.clone_from(&self.file);
            self.following.at.offset = self.offset;
        }
    }

    /// The event that comes next begins a transaction of this name.
    pub(super) fn named(&mut self, name: Name) {
        self.name = Some(name);
    }

    /// Forgets a connection that ended: the next one begins at a transaction's start.
    pub(super) fn reconnected(&mut self) {
        self.file.clone_from(&self.following.at.file);
        self.offset = self.following.at.offset;
        (self.name, self.transaction) = (None, None);
        self.shapes.clear();
    }

    /// Takes one event in.
    ///
    /// # Errors
    /// `source_schema` when a mapped column is no longer what it was; `source_gap` when changes of
    /// the table are not in the log, or a transaction that was handed on in part does not come
    /// again.
    pub(super) fn take<'e>(&mut self, head: Head, event: &'e Event<'e>) -> Result<Asks<'e>, Fault> {
        self.offset = head.offset_after(self.offset);
        let asks = self.understand(head, event)?;
        if self.name.is_none() && self.transaction.is_none() {
            self.stand_here();
        }
        Ok(asks)
    }

    fn understand<'e>(&mut self, head: Head, event: &'e Event<'e>) -> Result<Asks<'e>, Fault> {
        match event {
            Event::Rotate { file, offset } => self.rotate(file, *offset)?,
            Event::Domain { domain, seq, alone, xa } => {
                self.named(Name::Domain(*domain, head.server_id, *seq));
                if *xa {
                    self.begin_xa()?;
                } else if !alone {
                    self.begin()?;
                }
            }
            Event::Query { schema, text } => return self.query(head, schema, text.bytes()),
            Event::Commit => self.end(head)?,
            Event::Prepare { one_phase, name } => self.prepare(head, *one_phase, name)?,
            Event::TableMap(map) => self.table_map(map)?,
            Event::Rows(rows) => {
                if let Some(shape) = self.shapes.get(&rows.table) {
                    let (images, shape) = (rows.images.bytes(), Arc::clone(shape));
                    return Ok(Asks::Rows(Cursor { rows, images, shape }));
                }
            }
            Event::PartialRows { table } if self.shapes.contains_key(table) => {
                return Err(gap("the log has parts of JSON values (binlog_row_value_options)"));
            }
            Event::Incident => return Err(gap("the server lost a part of its own log")),
            Event::PartialRows { .. } | Event::Nothing | Event::Gtid | Event::Payload(_) => {}
        }
        Ok(Asks::Nothing)
    }

    /// Where the next event stands.
    pub(super) fn reached(&self) -> (&str, u64) {
        (&self.file, self.offset)
    }

    fn rotate(&mut self, file: &[u8], offset: u64) -> Result<(), Fault> {
        let file = std::str::from_utf8(file).ok().filter(|file| file.contains('.'));
        let file = file.ok_or_else(|| {
            Fault::new(Code::SourceVersion, "the log goes on in a file without a name")
        })?;
        if file != self.file {
            self.take_back()?;
        }
        file.clone_into(&mut self.file);
        self.offset = offset;
        Ok(())
    }

    /// A file that ends inside a transaction ended with the server, before the commit: when it came
    /// back it knew nothing of the transaction, and may have given its name to another.
    fn take_back(&mut self) -> Result<(), Fault> {
        self.name = None;
        if let Some(Transaction { before: Some(before), .. }) = self.transaction.take() {
            self.filler.rewind(before);
            self.following.open = None;
        }
        if self.following.open.is_some() {
            return Err(gap("a transaction that was handed on in part was never committed"));
        }
        Ok(())
    }

    /// The file ends inside an event; what the server has of its log goes on with `file`.
    ///
    /// # Errors
    /// `source_gap` when a part of the torn transaction was handed on.
    pub(super) fn torn(&mut self, file: String) -> Result<(), Fault> {
        self.take_back()?;
        (self.file, self.offset) = (file, FILE_START);
        self.stand_here();
        Ok(())
    }

    fn query<'e>(&mut self, head: Head, schema: &[u8], text: &[u8]) -> Result<Asks<'e>, Fault> {
        match meaning(text, schema, self.target.logged_names()) {
            Meaning::Begin => self.begin()?,
            Meaning::XaStart => self.begin_xa()?,
            Meaning::Commit => self.end(head)?,
            Meaning::Rollback | Meaning::RollbackTo if self.has_changes() => {
                return Err(gap("a transaction with changes of the table was taken back"));
            }
            Meaning::Rollback => self.end(head)?,
            Meaning::RollbackTo => {}
            Meaning::XaCommit => self.xa_commit(head, text)?,
            Meaning::XaRollback => {
                if let Some(name) = xa_name(text) {
                    self.following.prepared.remove(&name);
                }
                self.end(head)?;
            }
            Meaning::Truncate => {
                self.begin()?;
                if self.counts_change() {
                    self.filler.begin_row(Op::Truncate);
                }
                self.end(head)?;
            }
            Meaning::Replace => {
                return Err(gap("the table was made, dropped, renamed or replaced"));
            }
            Meaning::Statement => {
                return Err(gap(
                    "rows were changed by a statement that is in the log as its text \
                                (binlog_format of that session)",
                ));
            }
            Meaning::Alter
                if replaces_column(text, self.target.columns.iter().map(|c| &*c.name)) =>
            {
                return Err(gap("a column was put in the place of one that is read"));
            }
            Meaning::Alter => {
                self.statement_ended(head)?;
                return Ok(Asks::Look);
            }
            Meaning::None => self.statement_ended(head)?,
        }
        Ok(Asks::Nothing)
    }

    /// A statement that is a transaction of its own, unless one is under way.
    fn statement_ended(&mut self, head: Head) -> Result<(), Fault> {
        if self.transaction.is_some() {
            return Ok(());
        }
        self.begin()?;
        self.end(head)
    }

    fn has_changes(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.changes > 0)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        if self.transaction.is_some() {
            return Ok(());
        }
        let name = self.name.as_ref().map(Name::shown).unwrap_or_default();
        let known = match &self.following.open {
            Some(open) if open.name == name => open.changes,
            Some(open) => {
                return Err(gap(&format!("transaction {} did not come again", open.name)));
            }
            None => 0,
        };
        let before = self.following.open.is_none().then(|| self.filler.mark());
        self.transaction = Some(Transaction { name, known, before, ..Transaction::default() });
        Ok(())
    }

    fn begin_xa(&mut self) -> Result<(), Fault> {
        self.begin()?;
        if let Some(transaction) = &mut self.transaction {
            transaction.is_xa = true;
        }
        Ok(())
    }

    fn end(&mut self, head: Head) -> Result<(), Fault> {
        self.begin()?;
        let transaction = self.transaction.take().unwrap_or_default();
        if transaction.changes < transaction.known {
            return Err(gap(&format!("transaction {} came with fewer changes", transaction.name)));
        }
        self.following.open = None;
        match self.name.take() {
            Some(Name::Gtid(source, number)) => self.following.at.gtids.insert(&source, number),
            Some(Name::Domain(domain, server, number)) => {
                self.following.at.domains.insert(domain, (server, number));
            }
            Some(Name::Anonymous) | None => {}
        }
        self.source_time = Timestamp::from_micros(i64::from(head.timestamp) * 1_000_000);
        Ok(())
    }

    fn prepare(&mut self, head: Head, one_phase: bool, name: &str) -> Result<(), Fault> {
        let touched = self.has_changes();
        if one_phase && touched {
            return Err(gap("an XA transaction changed the table"));
        }
        if !one_phase {
            if self.following.prepared.len() >= PREPARED_MAX {
                return Err(gap("too many XA transactions are prepared and not committed"));
            }
            self.following.prepared.insert(name.to_owned(), touched);
        }
        self.end(head)
    }

    /// Its changes came when it was prepared, and were not handed on.
    fn xa_commit(&mut self, head: Head, text: &[u8]) -> Result<(), Fault> {
        let prepared = xa_name(text).and_then(|name| self.following.prepared.remove(&name));
        if prepared != Some(false) {
            return Err(gap("an XA transaction that may have changed the table was committed"));
        }
        self.end(head)
    }

    fn table_map(&mut self, map: &TableMap<'_>) -> Result<(), Fault> {
        let (schema, table) = self.target.logged_names();
        if map.schema != schema.as_bytes() || map.name != table.as_bytes() {
            self.shapes.remove(&map.table);
            return Ok(());
        }
        let columns = map.columns().map_err(|error| self.damaged(error))?;
        let shape = Arc::new(Shape::of(&self.target, columns)?);
        self.shapes.insert(map.table, shape);
        Ok(())
    }

    fn damaged(&self, error: impl Into<BadEvent>) -> Fault {
        let (schema, table) = self.target.logged_names();
        let what =
            format!("cannot read the log of {schema}.{table} at {}:{}", self.file, self.offset);
        Fault::because(Code::SourceVersion, what, error.into())
    }

    /// Takes rows in until one is incomplete or none is left.
    pub(super) fn advance(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Incomplete>, Fault> {
        let (rows, shape) = (cursor.rows, Arc::clone(&cursor.shape));
        if rows.column_count != shape.column_count() {
            return Err(self.damaged(super::cell::BadCell::Cut));
        }
        self.begin()?;
        while !cursor.images.is_empty() {
            let first = shape.take(rows.present, &mut cursor.images);
            let first = first.map_err(|error| self.damaged(error))?;
            let second = match rows.change {
                Change::Update => {
                    let second = shape.take(rows.present_after, &mut cursor.images);
                    Some(second.map_err(|error| self.damaged(error))?)
                }
                Change::Insert | Change::Delete => None,
            };
            if !self.counts_change() {
                continue;
            }
            let incomplete = match (rows.change, second) {
                (Change::Delete, _) => self.delete(&shape, &first)?,
                (Change::Insert, _) => self.insert(&shape, &first)?,
                (Change::Update, Some(second)) => self.update(&shape, &first, second)?,
                (Change::Update, None) => None,
            };
            if incomplete.is_some() {
                return Ok(incomplete);
            }
        }
        Ok(None)
    }

    /// Counts a change of the table; false for one that was handed on before, and for one whose
    /// transaction is not yet committed.
    fn counts_change(&mut self) -> bool {
        let Some(transaction) = &mut self.transaction else { return false };
        transaction.changes += 1;
        if transaction.changes <= transaction.known || transaction.is_xa {
            return false;
        }
        let (name, changes) = (transaction.name.clone(), transaction.changes);
        self.following.open = Some(OpenTx { name, changes });
        true
    }

    fn delete(&mut self, shape: &Shape, image: &Image<'_>) -> Result<Option<Incomplete>, Fault> {
        let key = self.key_tuple(shape, image)?;
        self.filler.begin_row(Op::Delete).extend_from_slice(&key);
        Ok(None)
    }

    /// A left-out column of a new row has its default, which is not in the log.
    fn insert(&mut self, shape: &Shape, image: &Image<'_>) -> Result<Option<Incomplete>, Fault> {
        if image.contains(&Cell::Absent) {
            return self.incomplete(shape, image, None, true).map(Some);
        }
        let out = self.filler.begin_row(Op::Insert);
        let put = shape.put(&self.target, 0..self.target.kinds.len(), image, out);
        put.map_err(|error| self.damaged(error))?;
        Ok(None)
    }

    fn update<'e>(
        &mut self,
        shape: &Shape,
        before: &Image<'e>,
        mut after: Image<'e>,
    ) -> Result<Option<Incomplete>, Fault> {
        // What the later image leaves out is as it was.
        for (cell, old) in after.iter_mut().zip(before) {
            if *cell == Cell::Absent {
                *cell = *old;
            }
        }
        let key = &self.target.selection.key;
        let rekeyed = key.iter().any(|&at| before.get(at) != after.get(at));
        let old = if rekeyed { Some(self.key_tuple(shape, before)?) } else { None };
        if !self.has_settled() && after.contains(&Cell::Absent) {
            return self.incomplete(shape, &after, old, false).map(Some);
        }
        let out = self.filler.begin_row(if rekeyed { Op::Rekey } else { Op::Update });
        if let Some(old) = old {
            out.extend_from_slice(&old);
        }
        let put = shape.put(&self.target, 0..self.target.kinds.len(), &after, out);
        put.map_err(|error| self.damaged(error))?;
        Ok(None)
    }

    fn key_tuple(&self, shape: &Shape, image: &Image<'_>) -> Result<Vec<u8>, Fault> {
        let key = &self.target.selection.key;
        if key.iter().any(|&at| matches!(image.get(at), None | Some(Cell::Absent))) {
            let (schema, table) = self.target.logged_names();
            let what = format!("the log of {schema}.{table} does not hold the contract's key");
            return Err(Fault::new(Code::SourceKeyMissing, what));
        }
        let mut tuple = Vec::new();
        let put = shape.put(&self.target, key.iter().copied(), image, &mut tuple);
        put.map_err(|error| self.damaged(error))?;
        Ok(tuple)
    }

    fn incomplete(
        &self,
        shape: &Shape,
        image: &Image<'_>,
        old: Option<Vec<u8>>,
        is_insert: bool,
    ) -> Result<Incomplete, Fault> {
        let key = self.key_tuple(shape, image)?;
        let mut row = Vec::new();
        let put = shape.put(&self.target, 0..self.target.kinds.len(), image, &mut row);
        put.map_err(|error| self.damaged(error))?;
        let walk = self.target.key_of(&row).ok_or_else(|| {
            Fault::new(Code::SourceKeyMissing, "the log does not hold the table's key")
        })?;
        Ok(Incomplete { old, key, is_insert, walk })
    }

    /// Takes a change in whose row was read from the table; `None` when no row has its key now.
    /// The row was then removed or given another key meanwhile, which the log tells later.
    pub(super) fn complete(&mut self, change: &Incomplete, row: Option<&[u8]>) {
        match (&change.old, row) {
            (None, Some(row)) => {
                let op = if change.is_insert { Op::Insert } else { Op::Update };
                self.filler.begin_row(op).extend_from_slice(row);
            }
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

    /// Changes before this may differ from what was read.
    pub(super) fn settle_until(&mut self, mark: Position) {
        self.following.settle_until = Some(mark);
        self.following.told_live = false;
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
        if let Some(transaction) = &mut self.transaction {
            transaction.before = None;
        }
        self.following.told_live |= live;
        let tx_open = self.in_transaction() && self.following.open.is_some();
        let at = &self.following.at;
        let position = match &self.following.open {
            Some(open) if tx_open => format!("{at}+{}", open.changes),
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

fn gap(what: &str) -> Fault {
    Fault::new(Code::SourceGap, what)
}

#[cfg(test)]
mod tests;
