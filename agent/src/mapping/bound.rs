//! `Bound`: rules joined to columns, and what they make of a block.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use phusa_protocol::change::{BodyWriter, Change, Counts, Op, runs};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::{Tuple, begin_tuple};
use phusa_protocol::value::Field;

use super::bench::{Bench, Neighbours, Scene};
use super::field::Rules;
use super::filter::{BoundFilter, Verdict};
use super::preview;
use super::quality::{OnBad, Quality, Reject, Rule};
use super::row::{Row, Span};
use super::shareable::Shareable;
use super::step::Step;
use crate::source::{Block, Column};

/// Rules joined to the columns of a table.
pub struct Bound {
    columns: Vec<Column>,
    /// One per contract field.
    steps: Vec<Step>,
    /// Names of the contract fields.
    names: Vec<String>,
    /// Which steps make the key, in key order.
    key: Vec<usize>,
    /// Where the key's columns stand in a row, in key order.
    key_columns: Vec<usize>,
    filter: Option<BoundFilter>,
    /// Whether a row whose fields all pass may be copied as it lies.
    whole: bool,
    row_bytes_max: usize,
    /// Whether no row of the block before had to be rewritten: a hint, shared by blocks that are
    /// mapped side by side.
    last_was_whole: AtomicBool,
    /// How much longer the last block became: masks that lengthen values do so in every row.
    last_growth: AtomicUsize,
}

/// What became of a block.
#[derive(Debug)]
pub struct Mapped {
    /// What may leave the agency; perhaps without any row.
    pub shareable: Shareable,
    /// What stays, and why; and, up to [`NOTES_MAX`] a block, what broke a rule and travels.
    pub rejects: Vec<Reject>,
    /// How often which rule was broken; all of it.
    pub quality: Quality,
}

/// A rule that a whole table breaks would fill the rejects file with rows that travel: of those,
/// the first of each block stand for the rest.
const NOTES_MAX: usize = 100;

/// What is being made of a block.
struct Work<'b> {
    out: BodyWriter,
    rejects: Vec<Reject>,
    quality: Quality,
    /// How many of `rejects` travel all the same.
    noted: usize,
    /// The row at hand.
    row: Row<'b>,
    bench: Bench,
    /// Whether every row so far passed as it lies.
    all_whole: bool,
}

/// A broken rule and the contract field that broke it.
struct Flaw {
    rule: Rule,
    field: Option<usize>,
}

impl Bound {
    pub(super) fn new(
        rules: &Rules,
        columns: &[Column],
        steps: Vec<Step>,
        filter: Option<BoundFilter>,
    ) -> Self {
        let in_order = steps.iter().enumerate().all(|(index, step)| step.is_passing(index));
        let key_column = |&index: &usize| steps.get(index).and_then(|step| step.column);
        let whole = in_order && steps.len() == columns.len();
        Self {
            last_was_whole: AtomicBool::new(whole && filter.is_none()),
            last_growth: AtomicUsize::new(0),
            key_columns: rules.key.iter().filter_map(key_column).collect(),
            whole,
            columns: columns.to_vec(),
            names: rules.fields.iter().map(|field| field.name.clone()).collect(),
            key: rules.key.clone(),
            row_bytes_max: rules.row_bytes_max,
            filter,
            steps,
        }
    }

    /// The columns it was joined to.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Maps a block. The result has the block's envelope, even when no row is left.
    ///
    /// # Errors
    /// `source_schema` when the block's columns are not the ones joined; `bug` when its bytes are
    /// not a body.
    pub fn apply(&self, mut block: Block) -> Result<Mapped, Fault> {
        if *self.columns != *block.columns {
            return Err(Fault::new(Code::SourceSchema, "the columns of the table have changed"));
        }
        // Looking first costs a second look at the rows of a block that does not pass, so a block
        // is looked at only if all rows of the one before could be copied.
        let look = self.last_was_whole.load(Ordering::Relaxed);
        let passing = look.then(|| self.counts_if_passing(&block.body)).flatten();
        if let Some(counts) = passing {
            let body = std::mem::take(&mut block.body);
            let quality = Quality::default();
            let shareable = Shareable::new((body, counts), &quality, block);
            return Ok(Mapped { shareable, rejects: Vec::new(), quality });
        }
        let Work { out, rejects, quality, all_whole, .. } = self.map_rows(&block)?;
        self.last_was_whole.store(all_whole, Ordering::Relaxed);
        let (read, (body, counts)) = (block.body.len(), out.finish());
        self.last_growth.store(body.len().saturating_sub(read), Ordering::Relaxed);
        let shareable = Shareable::new((body, counts), &quality, block);
        Ok(Mapped { shareable, rejects, quality })
    }

    /// The counts of a body that may leave as it is; `None` when a row must be looked at.
    fn counts_if_passing(&self, body: &[u8]) -> Option<Counts> {
        let mut counts = Counts::default();
        for run in runs(body) {
            let run = run.ok()?;
            for change in run.changes() {
                let change = change.ok()?;
                if self.fits(change).is_err() || !self.passes(change) {
                    return None;
                }
            }
            *count_of(&mut counts, run.op) += u64::from(run.row_count);
        }
        Some(counts)
    }

    fn passes(&self, change: Change<'_>) -> bool {
        match change {
            Change::Snapshot(row) => self.passes_whole(Op::Snapshot, row),
            Change::Insert(row) => self.passes_whole(Op::Insert, row),
            Change::Update(row) => self.passes_whole(Op::Update, row),
            Change::Delete(key) => self.key_passes(key),
            Change::Truncate => true,
            Change::Rekey { old, new } => self.key_passes(old) && self.passes_whole(Op::Rekey, new),
        }
    }

    fn key_passes(&self, key: Tuple<'_>) -> bool {
        let steps = self.key.iter().filter_map(|&index| self.steps.get(index));
        steps.zip(key.fields()).all(|(step, field)| step.keeps(field, false))
    }

    fn map_rows<'b>(&self, block: &'b Block) -> Result<Work<'b>, Fault> {
        let growth = self.last_growth.load(Ordering::Relaxed);
        let mut work = Work {
            out: BodyWriter::with_capacity(block.body.len() / 16 * 17 + growth),
            rejects: Vec::new(),
            quality: Quality::default(),
            noted: 0,
            row: Row::default(),
            bench: Bench::default(),
            all_whole: self.whole && self.filter.is_none(),
        };
        let damaged = |bad| {
            let what = format!("the source's block {} is damaged", block.number);
            Fault::because(Code::Bug, what, bad)
        };
        for run in runs(&block.body) {
            for change in run.map_err(damaged)?.changes() {
                self.change(change.map_err(damaged)?, &mut work)?;
            }
        }
        Ok(work)
    }

    fn change<'b>(&self, change: Change<'b>, work: &mut Work<'b>) -> Result<(), Fault> {
        self.fits(change)?;
        let mapped = match change {
            Change::Snapshot(row) => self.row(Op::Snapshot, row, work),
            Change::Insert(row) => self.row(Op::Insert, row, work),
            Change::Update(row) => self.row(Op::Update, row, work),
            Change::Delete(key) => self.delete(key, work),
            Change::Truncate => {
                work.out.begin_row(Op::Truncate);
                Ok(())
            }
            Change::Rekey { old, new } => self.rekey(old, new, work),
        };
        match mapped {
            Err(flaw) => {
                let reject = self.reject(change, &flaw);
                work.quality.note(&reject);
                work.rejects.push(reject);
            }
            Ok(()) => self.note(change, work),
        }
        work.bench.notes.clear();
        Ok(())
    }

    /// What the row broke that travels all the same.
    fn note(&self, change: Change<'_>, work: &mut Work<'_>) {
        let Work { bench, quality, rejects, noted, .. } = work;
        for (field, rule, on_bad) in &bench.notes {
            quality.count(*on_bad, self.names.get(*field).cloned(), *rule, 1);
            if *noted < NOTES_MAX {
                *noted += 1;
                let flaw = Flaw { rule: *rule, field: Some(*field) };
                rejects.push(Reject { on_bad: *on_bad, ..self.reject(change, &flaw) });
            }
        }
    }

    /// Whether rows have as many fields as columns, and keys as many as key columns.
    fn fits(&self, change: Change<'_>) -> Result<(), Fault> {
        let row = |row: Tuple<'_>| row.field_count() == self.columns.len();
        let key = |key: Tuple<'_>| key.field_count() == self.key_columns.len();
        let fits = match change {
            Change::Snapshot(new) | Change::Insert(new) | Change::Update(new) => row(new),
            Change::Delete(old) => key(old),
            Change::Truncate => true,
            Change::Rekey { old, new } => key(old) && row(new),
        };
        if fits {
            return Ok(());
        }
        Err(Fault::new(Code::Bug, "the source handed on a row with a wrong number of fields"))
    }

    fn row<'b>(&self, op: Op, tuple: Tuple<'b>, work: &mut Work<'b>) -> Result<(), Flaw> {
        if self.filter.is_none() && self.passes_whole(op, tuple) {
            work.out.begin_row(op).extend_from_slice(tuple.as_bytes());
            return Ok(());
        }
        work.all_whole = false;
        work.row.load(tuple);
        match self.judge(&work.row) {
            Verdict::Shared => {}
            Verdict::Unknown => return Err(Flaw { rule: Rule::FilterUnknown, field: None }),
            Verdict::NotShared if op == Op::Update => return self.forget(work),
            Verdict::NotShared => return Ok(()),
        }
        let Work { out, row, bench, .. } = work;
        let written = self.put_row(row, op, bench, out.begin_row(op));
        keep_or_take_back(written, &mut work.out)
    }

    fn judge(&self, row: &Row<'_>) -> Verdict {
        self.filter.as_ref().map_or(Verdict::Shared, |filter| filter.judge(row.fields()))
    }

    fn passes_whole(&self, op: Op, row: Tuple<'_>) -> bool {
        let unchanged_allowed = op == Op::Update || op == Op::Rekey;
        let mut pairs = self.steps.iter().zip(row.fields());
        self.whole
            && row.as_bytes().len() <= self.row_bytes_max
            && pairs.all(|(step, field)| step.keeps(field, unchanged_allowed))
    }

    fn put_row(
        &self,
        row: &Row<'_>,
        op: Op,
        bench: &mut Bench,
        out: &mut Vec<u8>,
    ) -> Result<(), Flaw> {
        // As it was read, too: of a value that is too large the source hands on the beginning only.
        if row.tuple_bytes() > self.row_bytes_max {
            return Err(Flaw { rule: Rule::RowBytesMax, field: None });
        }
        let start = out.len();
        let unchanged_allowed = op == Op::Update || op == Op::Rekey;
        let neighbours = Neighbours { row: Some(row), steps: &self.steps, unchanged_allowed };
        let fresh = op == Op::Snapshot || op == Op::Insert;
        begin_tuple(out, self.steps.len());
        let mut kept = Span::default();
        for (index, step) in self.steps.iter().enumerate() {
            let field = step.column.map_or(Field::Null, |column| row.field(column));
            if let Some(column) = step.column
                && step.keeps(field, unchanged_allowed)
            {
                kept.add(row, column, out);
                continue;
            }
            kept.flush(row, out);
            let mut scene = Scene { neighbours: &neighbours, bench, index, fresh };
            let put = step.put(field, &mut scene, out);
            put.map_err(|rule| Flaw { rule, field: Some(index) })?;
        }
        kept.flush(row, out);
        if out.len() - start > self.row_bytes_max {
            return Err(Flaw { rule: Rule::RowBytesMax, field: None });
        }
        Ok(())
    }

    /// The row at hand is shared no longer: for the warehouse that is a delete.
    fn forget(&self, work: &mut Work<'_>) -> Result<(), Flaw> {
        let Work { out, row, bench, .. } = work;
        let key = self.key_columns.iter().map(|&column| row.field(column));
        let written = self.put_key(key, bench, out.begin_row(Op::Delete));
        keep_or_take_back(written, &mut work.out)
    }

    fn delete(&self, key: Tuple<'_>, work: &mut Work<'_>) -> Result<(), Flaw> {
        let Work { out, bench, .. } = work;
        let written = self.put_key(key.fields(), bench, out.begin_row(Op::Delete));
        keep_or_take_back(written, &mut work.out)
    }

    fn put_key<'f>(
        &self,
        fields: impl Iterator<Item = Field<'f>>,
        bench: &mut Bench,
        out: &mut Vec<u8>,
    ) -> Result<(), Flaw> {
        let neighbours = Neighbours { row: None, steps: &self.steps, unchanged_allowed: false };
        begin_tuple(out, self.key.len());
        for (&index, field) in self.key.iter().zip(fields) {
            let Some(step) = self.steps.get(index) else { continue };
            let mut scene = Scene { neighbours: &neighbours, bench, index, fresh: false };
            let put = step.put(field, &mut scene, out);
            put.map_err(|rule| Flaw { rule, field: Some(index) })?;
        }
        Ok(())
    }

    /// A row that may not travel under its new key is gone under its old one all the same.
    fn rekey<'b>(&self, old: Tuple<'b>, new: Tuple<'b>, work: &mut Work<'b>) -> Result<(), Flaw> {
        work.all_whole = false;
        work.row.load(new);
        let flaw = match self.judge(&work.row) {
            Verdict::Shared => {
                let Work { out, row, bench, .. } = work;
                let out = out.begin_row(Op::Rekey);
                let written = self.put_key(old.fields(), bench, out);
                let written = written.and_then(|()| self.put_row(row, Op::Rekey, bench, out));
                match keep_or_take_back(written, &mut work.out) {
                    Ok(()) => return Ok(()),
                    Err(flaw) => Some(flaw),
                }
            }
            Verdict::NotShared => None,
            Verdict::Unknown => Some(Flaw { rule: Rule::FilterUnknown, field: None }),
        };
        let deleted = self.delete(old, work);
        flaw.map_or(deleted, Err)
    }

    /// Only now, off the common way, is the key put into words.
    fn reject(&self, change: Change<'_>, flaw: &Flaw) -> Reject {
        let fields: Vec<Field<'_>> = match change {
            Change::Snapshot(row) | Change::Insert(row) | Change::Update(row) => {
                let row: Vec<Field<'_>> = row.fields().collect();
                let key = self.key_columns.iter().filter_map(|&column| row.get(column).copied());
                key.collect()
            }
            Change::Delete(key) | Change::Rekey { old: key, .. } => key.fields().collect(),
            Change::Truncate => Vec::new(),
        };
        let columns = self.key_columns.iter().filter_map(|&column| self.columns.get(column));
        let words = columns.zip(fields).map(|(column, field)| {
            format!("{}={}", column.name, preview::render_native(&column.native, field))
        });
        Reject {
            key: words.collect::<Vec<_>>().join(", "),
            rule: flaw.rule,
            field: flaw.field.and_then(|index| self.names.get(index).cloned()),
            on_bad: OnBad::RejectRow,
        }
    }
}

fn count_of(counts: &mut Counts, op: Op) -> &mut u64 {
    match op {
        Op::Snapshot => &mut counts.snapshot,
        Op::Insert => &mut counts.insert,
        Op::Update => &mut counts.update,
        Op::Delete => &mut counts.delete,
        Op::Truncate => &mut counts.truncate,
        Op::Rekey => &mut counts.rekey,
    }
}

/// A row that broke a rule half written leaves no trace.
fn keep_or_take_back(written: Result<(), Flaw>, out: &mut BodyWriter) -> Result<(), Flaw> {
    if written.is_err() {
        out.take_back_row();
    }
    written
}

impl std::fmt::Debug for Bound {
    /// Without the keys of its masks.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("names", &self.names)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}
