//! What the rules of a field work on and may look at: room for texts that is used from row to row,
//! notes of what was broken and travels all the same, and the other fields of the row.

use std::collections::{BTreeMap, BTreeSet};

use phusa_protocol::value::Field;

use super::chain::Found;
use super::check::{AsOf, Beside};
use super::codes;
use super::quality::{OnBad, Rule};
use super::row::Row;
use super::step::Step;

/// Room to work in, and what a block has shown so far.
#[derive(Debug, Default)]
pub(super) struct Bench {
    /// The text of the value at hand.
    pub(super) words: String,
    /// Where the next stage writes.
    pub(super) spare: String,
    /// Where texts of other types are printed.
    pub(super) bytes: Vec<u8>,
    /// Rules that the row at hand broke and that do not keep it back: field, rule, answer.
    pub(super) notes: Vec<(usize, Rule, OnBad)>,
    /// Per field that must be unique: its values in this block.
    seen: BTreeMap<usize, BTreeSet<String>>,
}

/// What a step may look at and write beside its own field.
pub(super) struct Scene<'s, 'b> {
    pub(super) neighbours: &'s Neighbours<'s, 'b>,
    pub(super) bench: &'s mut Bench,
    /// Which step it is.
    pub(super) index: usize,
    /// Whether the row is read or inserted, and so must be one of its kind.
    pub(super) fresh: bool,
}

/// The other fields of a row.
pub(super) struct Neighbours<'s, 'b> {
    /// The row; `None` for a key that comes alone.
    pub(super) row: Option<&'s Row<'b>>,
    /// Every step of the mapping.
    pub(super) steps: &'s [Step],
    /// Whether a field may come without its value.
    pub(super) unchanged_allowed: bool,
}

impl Bench {
    /// Notes a broken rule that does not keep the row back.
    pub(super) fn note(&mut self, field: usize, rule: Rule, on_bad: OnBad) {
        self.notes.push((field, rule, on_bad));
    }

    /// Whether the value at hand stood in this block before; from now on it did. There are never
    /// more values than rows in a block (`batch_rows_max`).
    pub(super) fn was_seen(&mut self, field: usize) -> bool {
        !self.seen.entry(field).or_default().insert(self.words.clone())
    }
}

impl Beside for Neighbours<'_, '_> {
    /// The other field is derived anew: cross-checks are few, and this way each field is still
    /// made in one go.
    fn text(&self, field: usize) -> Option<String> {
        let (row, step) = (self.row?, self.steps.get(field)?);
        let value = step.column.map_or(Field::Null, |column| row.field(column));
        let mut bench = Bench::default();
        let found = step.derive(value, self, &mut bench)?;
        (found == Found::Text).then_some(bench.words)
    }

    fn day(&self, as_of: AsOf) -> Option<i64> {
        match as_of {
            AsOf::Day(day) => Some(day),
            AsOf::Field(field) => codes::day(self.text(field)?.get(..10)?),
        }
    }
}
