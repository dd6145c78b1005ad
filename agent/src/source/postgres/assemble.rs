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
mod tests {
    use phusa_protocol::change::{Change, runs};
    use phusa_protocol::row::Tuple;

    use super::super::decode;
    use super::super::target::tests::sample;
    use super::*;

    const OID: [u8; 4] = [0, 0, 0x40, 1];

    fn assembler(at: u64, open: Option<OpenTx>, settle_until: Option<u64>) -> Assembler {
        let settle_until = settle_until.map(Lsn);
        let following = Following { at: Lsn(at), open, settle_until, told_live: false };
        let mut assembler = Assembler::new(Arc::new(sample()), Limits::default(), following);
        take(&mut assembler, &relation(&[("id", 23), ("ward", 25), ("name", 25)]));
        assembler
    }

    fn take(assembler: &mut Assembler, message: &[u8]) -> Option<Incomplete> {
        assembler.take(decode::read(message).unwrap()).unwrap()
    }

    fn relation(columns: &[(&str, u32)]) -> Vec<u8> {
        let mut message = [b"R".as_slice(), &OID, b"public\0t\0d\0"].concat();
        message.push(u8::try_from(columns.len()).unwrap());
        for (name, type_oid) in columns {
            message.push(u8::from(*name != "name"));
            message.extend([name.as_bytes(), &[0], &type_oid.to_be_bytes(), &[255; 4]].concat());
        }
        message
    }

    fn begin(final_lsn: u64) -> Vec<u8> {
        [b"B".as_slice(), &final_lsn.to_be_bytes(), &[0; 12]].concat()
    }

    fn commit(end_lsn: u64) -> Vec<u8> {
        [b"C\0".as_slice(), &[0; 8], &end_lsn.to_be_bytes(), &[0; 8]].concat()
    }

    /// `1·a·u` is the cells "1", "a" and unchanged; `-` is null.
    fn cells(text: &str) -> Vec<u8> {
        let mut cells = vec![0, 3];
        for cell in text.split('·') {
            match cell {
                "u" => cells.push(b'u'),
                "-" => cells.push(b'n'),
                cell => {
                    cells.push(b't');
                    cells.extend(u32::try_from(cell.len()).unwrap().to_be_bytes());
                    cells.extend(cell.as_bytes());
                }
            }
        }
        cells
    }

    fn change(letters: &str, parts: &[&str]) -> Vec<u8> {
        let mut letters = letters.bytes();
        let mut message = vec![letters.next().unwrap()];
        message.extend(OID);
        for (letter, part) in letters.zip(parts) {
            message.push(letter);
            message.extend(cells(part));
        }
        message
    }

    /// A body as text, columns in the order of the target: ward, id, name.
    fn shown(sealed: &Sealed) -> Vec<String> {
        let tuple = |tuple: Tuple<'_>| {
            let field = |field: Field<'_>| match field {
                Field::Null => "-".to_owned(),
                Field::Unchanged => "u".to_owned(),
                Field::Value(bytes) if bytes.len() == 4 => bytes[3].to_string(),
                Field::Value(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            };
            tuple.fields().map(field).collect::<Vec<_>>().join("·")
        };
        let change = |change: Change<'_>| match change {
            Change::Snapshot(new) => format!("S {}", tuple(new)),
            Change::Insert(new) => format!("I {}", tuple(new)),
            Change::Update(new) => format!("U {}", tuple(new)),
            Change::Delete(old) => format!("D {}", tuple(old)),
            Change::Truncate => "T".to_owned(),
            Change::Rekey { old, new } => format!("K {} {}", tuple(old), tuple(new)),
        };
        runs(&sealed.body)
            .flat_map(|run| run.unwrap().changes())
            .map(|c| change(c.unwrap()))
            .collect()
    }

    #[test]
    fn nothing_is_told_inside_a_transaction_that_an_earlier_connection_began() {
        let open = OpenTx { final_lsn: Lsn(110), changes: 1 };
        let mut assembler = assembler(100, Some(open), None);
        assert!(!assembler.has_become_live() && !assembler.is_between_transactions());
        take(&mut assembler, &begin(110));
        take(&mut assembler, &change("IN", &["1·a·x"]));
        take(&mut assembler, &commit(120));
        assert_eq!(assembler.rows(), 0, "it was handed on before");
        assert!(assembler.has_become_live() && assembler.is_between_transactions());
    }

    #[test]
    fn each_change_has_its_form() {
        let check = |letters: &str, parts: &[&str], expected: &str| {
            let mut assembler = assembler(100, None, None);
            take(&mut assembler, &begin(110));
            assert!(take(&mut assembler, &change(letters, parts)).is_none());
            take(&mut assembler, &commit(120));
            let sealed = assembler.seal();
            assert_eq!(shown(&sealed), [expected], "{letters} {parts:?}");
            assert_eq!((sealed.phase, sealed.tx_open), (Phase::Live, false));
            assert_eq!(sealed.position, "0/78");
        };
        check("IN", &["1·a·x"], "I a·1·x");
        check("IN", &["1·a·-"], "I a·1·-");
        check("UN", &["1·a·u"], "U a·1·u");
        check("UKN", &["1·a·-", "2·a·u"], "K a·1 a·2·u");
        check("UKN", &["1·a·-", "1·a·u"], "U a·1·u");
        check("UON", &["1·a·x", "2·a·u"], "K a·1 a·2·x");
        check("UON", &["1·a·x", "1·u·u"], "U a·1·x");
        check("UKN", &["1·b·-", "2·u·u"], "K b·1 b·2·u");
        check("DK", &["1·a·-"], "D a·1");
        check("DO", &["1·a·x"], "D a·1");
    }

    #[test]
    fn a_transaction_that_was_cut_goes_on_where_it_was_cut() {
        let mut first = assembler(100, None, None);
        take(&mut first, &begin(110));
        take(&mut first, &change("IN", &["1·a·x"]));
        take(&mut first, &change("IN", &["2·a·x"]));
        let sealed = first.seal();
        assert_eq!((sealed.tx_open, sealed.position.as_str()), (true, "0/64+0/6E:2"));
        let place = first.following().clone();
        assert_eq!((place.at, place.open.map(|open| open.changes)), (Lsn(100), Some(2)));

        let mut second = assembler(place.at.0, place.open, None);
        take(&mut second, &begin(90));
        take(&mut second, &change("IN", &["9·a·x"]));
        take(&mut second, &commit(95));
        take(&mut second, &begin(110));
        for row in ["1·a·x", "2·a·x", "3·a·x"] {
            take(&mut second, &change("IN", &[row]));
        }
        take(&mut second, &commit(120));
        assert_eq!(shown(&second.seal()), ["I a·3·x"]);
        assert_eq!(second.following().at, Lsn(120));

        let mut lost = assembler(place.at.0, place.open, None);
        let fault = lost.take(decode::read(&begin(130)).unwrap()).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap);
    }

    #[test]
    fn while_the_read_settles_incomplete_rows_are_asked_for() {
        let mut assembler = assembler(100, None, Some(150));
        take(&mut assembler, &begin(110));
        let moved = take(&mut assembler, &change("UKN", &["1·a·-", "2·a·u"])).unwrap();
        assert_eq!(moved.walk, [2_i32.to_be_bytes().to_vec(), b"a".to_vec()]);
        let row = [Field::Value(b"a"), Field::Value(&[0, 0, 0, 2]), Field::Value(b"read again")];
        let mut tuple = Vec::new();
        phusa_protocol::row::put_tuple(&mut tuple, &row);
        assembler.complete(&moved, Some(&tuple));
        assembler.complete(&moved, None);
        take(&mut assembler, &commit(120));
        let sealed = assembler.seal();
        assert_eq!(shown(&sealed), ["K a·1 a·2·read again", "D a·1", "D a·2"]);
        assert_eq!(sealed.phase, Phase::Settle);
        take(&mut assembler, &begin(160));
        assert!(take(&mut assembler, &change("UN", &["2·a·u"])).is_none());
        take(&mut assembler, &commit(170));
        assert!(!assembler.has_become_live() || assembler.rows() > 0);
        assert_eq!(assembler.seal().phase, Phase::Settle);
        assert!(assembler.has_become_live());
        assert_eq!(assembler.seal().phase, Phase::Live);
        assert!(!assembler.has_become_live());
    }

    #[test]
    fn a_mapped_column_that_is_no_longer_what_it_was_is_named() {
        let check = |columns: &[(&str, u32)], code: Code, words: &str| {
            let message = relation(columns);
            let mut assembler = assembler(0, None, None);
            let fault = assembler.take(decode::read(&message).unwrap()).err().unwrap();
            assert_eq!(fault.code, code);
            assert!(fault.what.contains(words), "{}", fault.what);
        };
        check(&[("id", 23), ("ward", 25)], Code::SourceSchema, "column name");
        check(&[("id", 20), ("ward", 25), ("name", 25)], Code::SourceSchema, "column id");
        let mut narrower = relation(&[("id", 23), ("ward", 25), ("name", 25)]);
        narrower.pop();
        narrower.push(24);
        let mut assembler_of = assembler(0, None, None);
        let fault = assembler_of.take(decode::read(&narrower).unwrap()).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap, "its values were rewritten outside the log");
        let mut wider = assembler(0, None, None);
        take(&mut wider, &relation(&[("new", 23), ("id", 23), ("ward", 25), ("name", 25)]));
    }
}
