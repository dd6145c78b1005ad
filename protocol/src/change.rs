//! `Change`: snapshot row, insert, update, delete, change of key or truncate; and the body of a
//! batch, which is a list of runs of them.
//!
//! A run is `op: u8 · rows: u32 · bytes: u32` and then its rows in COPY's binary tuple format
//! ([`crate::row`]) in contract order, integers big-endian. A delete carries the key fields only,
//! in the contract's key order; a change of key carries the old key and then the whole new row,
//! because unchanged TOAST fields must be carried over from the old one; a truncate carries no
//! bytes. A snapshot or insert run without unchanged fields is what `COPY … (FORMAT binary)` reads.

use serde::{Deserialize, Serialize};

use crate::row::{BadRow, Tuple};

/// What happened to the rows of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    /// A row found by a full read.
    Snapshot = b'S',
    /// A row that came into being.
    Insert = b'I',
    /// A row that changed and kept its key.
    Update = b'U',
    /// A row that went away.
    Delete = b'D',
    /// All rows went away at once.
    Truncate = b'T',
    /// A row whose key changed.
    Rekey = b'K',
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 6] =
        [Self::Snapshot, Self::Insert, Self::Update, Self::Delete, Self::Truncate, Self::Rekey];

    /// The letter on the wire.
    #[must_use]
    pub fn letter(self) -> u8 {
        self as u8
    }

    fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.letter() == letter)
    }
}

/// How many rows of each operation a batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows removed.
    pub delete: u64,
    /// Rows that came into being.
    pub insert: u64,
    /// Rows whose key changed.
    pub rekey: u64,
    /// Rows found by a full read.
    pub snapshot: u64,
    /// Times the table was emptied.
    pub truncate: u64,
    /// Rows that changed.
    pub update: u64,
}

impl Counts {
    /// All operations together; at most `u64::MAX`, because a header that was refused stands in the
    /// log with whatever counts its sender wrote.
    #[must_use]
    pub fn total(&self) -> u64 {
        let parts =
            [self.delete, self.insert, self.rekey, self.snapshot, self.truncate, self.update];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    fn of(&mut self, op: Op) -> &mut u64 {
        match op {
            Op::Snapshot => &mut self.snapshot,
            Op::Insert => &mut self.insert,
            Op::Update => &mut self.update,
            Op::Delete => &mut self.delete,
            Op::Truncate => &mut self.truncate,
            Op::Rekey => &mut self.rekey,
        }
    }
}

/// One change as it lies in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A row found by a full read.
    Snapshot(Tuple<'a>),
    /// A row that came into being.
    Insert(Tuple<'a>),
    /// A row that changed; its key is the same.
    Update(Tuple<'a>),
    /// The key of a row that went away.
    Delete(Tuple<'a>),
    /// All rows went away.
    Truncate,
    /// A row whose key changed.
    Rekey {
        /// The key it had.
        old: Tuple<'a>,
        /// The row it is now.
        new: Tuple<'a>,
    },
}

/// Bytes that are not a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The bytes ended inside a run.
    #[error("the bytes end inside a run")]
    Cut,
    /// A letter that is no operation.
    #[error("{0:#04x} is no operation")]
    Op(u8),
    /// The rows of a run do not fill its bytes, or overrun them.
    #[error("a run's rows do not fill its bytes")]
    RunLength,
    /// A row inside a run is damaged.
    #[error("a row of a run is damaged")]
    Row(#[from] BadRow),
}

const RUN_HEAD_BYTES: usize = 9;

/// Truncates in one batch. They take no bytes, so that nothing else bounds what nine bytes claim.
pub const TRUNCATES_MAX: u32 = 1_000;

/// Builds a body row by row; rows of one operation that follow each other share a run.
#[derive(Debug, Default)]
pub struct BodyWriter {
    bytes: Vec<u8>,
    counts: Counts,
    /// The run being written: its operation, where its head stands, its rows so far.
    run: Option<(Op, usize, u32)>,
    row_start: usize,
}

/// A moment of a body.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bytes: usize,
    counts: Counts,
    run: Option<(Op, usize, u32)>,
}

impl BodyWriter {
    /// An empty body with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// Begins a row: append its tuple (or, for a change of key, its two tuples) to what is returned.
    pub fn begin_row(&mut self, op: Op) -> &mut Vec<u8> {
        let goes_on =
            |(current, _, rows)| current == op && !(op == Op::Truncate && rows >= TRUNCATES_MAX);
        if !self.run.is_some_and(goes_on) {
            self.end_run();
            self.run = Some((op, self.bytes.len(), 0));
            self.bytes.extend_from_slice(&[op.letter(), 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        self.row_start = self.bytes.len();
        if let Some((_, _, rows)) = &mut self.run {
            *rows += 1;
        }
        *self.counts.of(op) += 1;
        &mut self.bytes
    }

    /// Takes back the row begun last, as if it had never been.
    pub fn take_back_row(&mut self) {
        let Some((op, head, rows)) = self.run else { return };
        self.bytes.truncate(self.row_start);
        *self.counts.of(op) -= 1;
        self.run = Some((op, head, rows - 1));
        if rows == 1 {
            self.bytes.truncate(head);
            self.run = None;
        }
    }

    /// Where it stands, to go back to.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), counts: self.counts, run: self.run }
    }

    /// Takes back every row begun since `mark`, which must be of this body.
    pub fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        (self.counts, self.run, self.row_start) = (mark.counts, mark.run, mark.bytes);
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no row yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The finished body and what it counts.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Counts) {
        self.end_run();
        (self.bytes, self.counts)
    }

    fn end_run(&mut self) {
        let Some((_, head, rows)) = self.run.take() else { return };
        // A body is cut at `batch_bytes_max`, far below 4 GiB; see `frame::BODY_BYTES_MAX`.
        let length = u32::try_from(self.bytes.len() - head - RUN_HEAD_BYTES).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(head + 1..head + RUN_HEAD_BYTES) {
            let (row_field, length_field) = field.split_at_mut(4);
            row_field.copy_from_slice(&rows.to_be_bytes());
            length_field.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// One run of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// What happened to its rows.
    pub op: Op,
    /// How many rows it claims.
    pub row_count: u32,
    /// Its rows, undecoded.
    pub bytes: &'a [u8],
}

impl<'a> Run<'a> {
    /// Its changes in order; an error ends the walk.
    pub fn changes(&self) -> impl Iterator<Item = Result<Change<'a>, BadBody>> + use<'a> {
        let (op, mut left, mut rest) = (self.op, self.row_count, self.bytes);
        std::iter::from_fn(move || {
            if left == 0 {
                let leftover = !std::mem::take(&mut rest).is_empty();
                return leftover.then_some(Err(BadBody::RunLength));
            }
            left -= 1;
            let change = take_change(op, &mut rest);
            if change.is_err() {
                (left, rest) = (0, &[]);
            }
            Some(change)
        })
    }
}

fn take_change<'a>(op: Op, rest: &mut &'a [u8]) -> Result<Change<'a>, BadBody> {
    Ok(match op {
        Op::Snapshot => Change::Snapshot(Tuple::take(rest)?),
        Op::Insert => Change::Insert(Tuple::take(rest)?),
        Op::Update => Change::Update(Tuple::take(rest)?),
        Op::Delete => Change::Delete(Tuple::take(rest)?),
        Op::Truncate => Change::Truncate,
        Op::Rekey => Change::Rekey { old: Tuple::take(rest)?, new: Tuple::take(rest)? },
    })
}

/// The runs of a body in order; an error ends the walk.
pub fn runs(body: &[u8]) -> impl Iterator<Item = Result<Run<'_>, BadBody>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let run = take_run(&mut rest);
        if run.is_err() {
            rest = &[];
        }
        Some(run)
    })
}

fn take_run<'a>(rest: &mut &'a [u8]) -> Result<Run<'a>, BadBody> {
    let (head, after) = rest.split_first_chunk::<RUN_HEAD_BYTES>().ok_or(BadBody::Cut)?;
    let &[letter, r0, r1, r2, r3, l0, l1, l2, l3] = head;
    let op = Op::from_letter(letter).ok_or(BadBody::Op(letter))?;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).map_err(|_| BadBody::Cut)?;
    let (bytes, after) = after.split_at_checked(length).ok_or(BadBody::Cut)?;
    let row_count = u32::from_be_bytes([r0, r1, r2, r3]);
    if op == Op::Truncate && row_count > TRUNCATES_MAX {
        return Err(BadBody::RunLength);
    }
    *rest = after;
    Ok(Run { op, row_count, bytes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::put_tuple;
    use crate::value::Field;

    fn row(body: &mut BodyWriter, op: Op, text: &str) {
        put_tuple(body.begin_row(op), &[Field::Value(text.as_bytes())]);
    }

    #[test]
    fn rows_of_one_operation_share_a_run() {
        let mut body = BodyWriter::default();
        for (op, text) in [(Op::Insert, "a"), (Op::Insert, "b"), (Op::Update, "c")] {
            row(&mut body, op, text);
        }
        body.begin_row(Op::Truncate);
        let (bytes, counts) = body.finish();
        let runs: Vec<_> = runs(&bytes).collect::<Result<_, _>>().unwrap();
        let shape: Vec<_> = runs.iter().map(|run| (run.op, run.row_count)).collect();
        assert_eq!(shape, [(Op::Insert, 2), (Op::Update, 1), (Op::Truncate, 1)]);
        assert_eq!((counts.insert, counts.update, counts.truncate, counts.total()), (2, 1, 1, 4));
        assert_eq!(runs.iter().flat_map(Run::changes).filter(Result::is_ok).count(), 4);
    }

    #[test]
    fn counts_that_no_body_can_have_are_summed_all_the_same() {
        let counts = Counts { insert: u64::MAX, update: 1, ..Counts::default() };
        assert_eq!(counts.total(), u64::MAX);
    }

    #[test]
    fn a_run_that_claims_billions_of_truncations_is_refused() {
        let claimed = |rows: u32| {
            let body = [&b"T"[..], &rows.to_be_bytes(), &[0; 4]].concat();
            runs(&body).next().unwrap().map(|run| run.row_count)
        };
        assert_eq!(claimed(TRUNCATES_MAX), Ok(TRUNCATES_MAX));
        assert_eq!(claimed(TRUNCATES_MAX + 1), Err(BadBody::RunLength));
        assert_eq!(claimed(u32::MAX), Err(BadBody::RunLength));
    }

    #[test]
    fn a_run_of_truncates_ends_where_a_reader_would_refuse_it() {
        let mut body = BodyWriter::default();
        for _ in 0..2_500 {
            body.begin_row(Op::Truncate);
        }
        let (bytes, counts) = body.finish();
        let claimed: Result<Vec<_>, _> =
            runs(&bytes).map(|run| run.map(|run| run.row_count)).collect();
        assert_eq!(claimed, Ok(vec![1_000, 1_000, 500]));
        assert_eq!(counts.truncate, 2_500);
    }

    #[test]
    fn a_row_taken_back_leaves_no_trace() {
        let mut with = BodyWriter::default();
        row(&mut with, Op::Insert, "a");
        row(&mut with, Op::Delete, "poison");
        with.take_back_row();
        row(&mut with, Op::Insert, "b");
        let mut without = BodyWriter::default();
        row(&mut without, Op::Insert, "a");
        row(&mut without, Op::Insert, "b");
        let count = |bytes: &[u8]| {
            runs(bytes).flatten().flat_map(|run| run.changes().collect::<Vec<_>>()).count()
        };
        let ((with, with_counts), (without, without_counts)) = (with.finish(), without.finish());
        assert_eq!(with_counts, without_counts);
        assert_eq!(count(&with), count(&without));
    }

    #[test]
    fn damage_is_named() {
        let check = |bytes: &[u8], expected: BadBody| {
            let found = runs(bytes).find_map(|run| match run {
                Err(error) => Some(error),
                Ok(run) => run.changes().find_map(Result::err),
            });
            assert_eq!(found, Some(expected), "{bytes:?}");
        };
        check(b"S", BadBody::Cut);
        check(b"Z\0\0\0\0\0\0\0\0", BadBody::Op(b'Z'));
        check(b"S\0\0\0\x01\0\0\0\x02\0\0\0", BadBody::Cut);
        check(b"S\0\0\0\0\0\0\0\x02\0\0", BadBody::RunLength);
        check(b"S\0\0\0\x02\0\0\0\x02\0\0", BadBody::Row(BadRow::Cut));
    }

    #[test]
    fn rows_taken_back_to_a_mark_leave_no_trace() {
        let ops = [Op::Insert, Op::Insert, Op::Delete, Op::Update, Op::Insert];
        let body_of = |ops: &[Op]| {
            let mut body = BodyWriter::default();
            ops.iter().for_each(|op| row(&mut body, *op, "a"));
            body
        };
        for kept in 0..=ops.len() {
            for torn in kept..=ops.len() {
                let mut body = body_of(ops.get(..kept).unwrap());
                let mark = body.mark();
                ops.iter().take(torn).skip(kept).for_each(|op| row(&mut body, *op, "poison"));
                body.rewind(mark);
                row(&mut body, Op::Insert, "a");
                let expected = [ops.get(..kept).unwrap(), &[Op::Insert]].concat();
                assert_eq!(body.finish(), body_of(&expected).finish(), "{kept} {torn}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = runs(&bytes).flatten().map(|run| run.changes().count()).sum::<usize>();
        }
    }
}
