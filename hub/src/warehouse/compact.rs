//! A body's changes → the fewest steps with the same outcome. Pure.
//!
//! Between two changes of key or truncates the order of changes matters within a key only, so
//! they become one [`Net`]: per key the last row, the fields that are carried, or that it is gone.
//! Keys come out in the order of their bytes, which is near the order of the index.

use std::borrow::Cow;
use std::collections::BTreeMap;

use phusa_protocol::change::{BadBody, Change, runs};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::{Field, Kind};

use super::tables::Shape;

/// What has to be done after the step before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Changes that touch each key once.
    Net(Net<'a>),
    /// A record goes from one key to another.
    Rekey { old: Tuple<'a>, new: Tuple<'a> },
    /// All rows go.
    Truncate,
}

/// Changes that touch each key once, hence in any order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Net<'a> {
    pub(super) upserts: Vec<Row<'a>>,
    /// Key fields in key order.
    pub(super) deletes: Vec<Tuple<'a>>,
    /// Rows with unchanged fields, by which fields those are.
    pub(super) patches: BTreeMap<Vec<usize>, Vec<Vec<Field<'a>>>>,
    /// Rows with unchanged fields whose record is gone within the body.
    pub(super) orphan_count: usize,
}

/// A whole row, as it lay in the body or put together from several.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    Whole(Tuple<'a>),
    Joined(Vec<Field<'a>>),
}

/// Why a body cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error(transparent)]
    Body(#[from] BadBody),
    #[error("a row has not the number of fields that the contract has")]
    FieldCount,
}

/// The steps of `body` for the tables of `shape`.
pub(super) fn steps<'a>(shape: &Shape, body: &'a [u8]) -> Result<Vec<Step<'a>>, Unfit> {
    let keys = Keys::of(shape);
    let (mut steps, mut pending) = (Vec::new(), Pending::default());
    for run in runs(body) {
        for change in run?.changes() {
            match change? {
                Change::Snapshot(row) | Change::Insert(row) | Change::Update(row) => {
                    pending.put(keys.of_row(row)?, row);
                }
                Change::Delete(key) => pending.delete(keys.of_key(key)?, key),
                Change::Rekey { old, new } if keys.of_key(old)? == keys.of_row(new)? => {
                    pending.put(keys.of_row(new)?, new);
                }
                Change::Rekey { old, new } => {
                    steps.extend(pending.take());
                    steps.push(Step::Rekey { old, new });
                }
                Change::Truncate => {
                    steps.extend(pending.take());
                    steps.push(Step::Truncate);
                }
            }
        }
    }
    steps.extend(pending.take());
    Ok(steps)
}

/// What is known of each key since the last step.
#[derive(Debug, Default)]
struct Pending<'a> {
    last: BTreeMap<Cow<'a, [u8]>, Last<'a>>,
    orphan_count: usize,
}

#[derive(Debug)]
enum Last<'a> {
    Row(Tuple<'a>),
    Fields(Vec<Field<'a>>),
    Gone(Tuple<'a>),
}

impl<'a> Pending<'a> {
    fn delete(&mut self, key: Cow<'a, [u8]>, tuple: Tuple<'a>) {
        self.last.insert(key, Last::Gone(tuple));
    }

    fn put(&mut self, key: Cow<'a, [u8]>, row: Tuple<'a>) {
        if row.fields().all(|field| field != Field::Unchanged) {
            self.last.insert(key, Last::Row(row));
            return;
        }
        let fields = match self.last.get(&key) {
            None => row.fields().collect(),
            Some(Last::Row(before)) => over(before.fields(), row),
            Some(Last::Fields(before)) => over(before.iter().copied(), row),
            Some(Last::Gone(_)) => {
                self.orphan_count += 1;
                return;
            }
        };
        self.last.insert(key, Last::Fields(fields));
    }

    fn take(&mut self) -> Option<Step<'a>> {
        if self.last.is_empty() {
            return None;
        }
        let mut net =
            Net { orphan_count: std::mem::take(&mut self.orphan_count), ..Net::default() };
        for last in std::mem::take(&mut self.last).into_values() {
            match last {
                Last::Row(row) => net.upserts.push(Row::Whole(row)),
                Last::Gone(key) => net.deletes.push(key),
                Last::Fields(fields) => {
                    let unchanged = unchanged(&fields);
                    if unchanged.is_empty() {
                        net.upserts.push(Row::Joined(fields));
                    } else {
                        net.patches.entry(unchanged).or_default().push(fields);
                    }
                }
            }
        }
        Some(Step::Net(net))
    }
}

/// `row` laid over the fields that were there before.
fn over<'a>(before: impl Iterator<Item = Field<'a>>, row: Tuple<'a>) -> Vec<Field<'a>> {
    let pick = |(old, new)| if new == Field::Unchanged { old } else { new };
    before.zip(row.fields()).map(pick).collect()
}

/// Which fields are unchanged.
pub(super) fn unchanged(fields: &[Field<'_>]) -> Vec<usize> {
    let is_unchanged =
        |(index, field): (usize, &Field<'_>)| (*field == Field::Unchanged).then_some(index);
    fields.iter().enumerate().filter_map(is_unchanged).collect()
}

/// Where the key lies in a row, and which bytes of it tell records apart.
#[derive(Debug)]
struct Keys {
    field_count: usize,
    /// Position in a row and type of each key field, in key order.
    fields: Vec<(usize, Kind)>,
    /// Set when the key's bytes in a row can be taken as they lie there.
    lies_at: Option<usize>,
}

impl Keys {
    fn of(shape: &Shape) -> Self {
        let columns = shape.columns();
        let kind = |&index: &usize| columns.get(index).map(|column| (index, column.kind));
        let fields: Vec<_> = shape.key().iter().filter_map(kind).collect();
        let first = fields.first().map_or(0, |(index, _)| *index);
        let as_it_lies = |(place, (index, kind)): (usize, &(usize, Kind))| {
            *index == first + place && *kind != Kind::Numeric
        };
        let lies_at = fields.iter().enumerate().all(as_it_lies).then_some(first);
        Self { field_count: columns.len(), fields, lies_at }
    }

    fn of_row<'a>(&self, row: Tuple<'a>) -> Result<Cow<'a, [u8]>, Unfit> {
        if row.field_count() != self.field_count {
            return Err(Unfit::FieldCount);
        }
        if let Some(first) = self.lies_at {
            return span(row, first, self.fields.len()).map(Cow::Borrowed).ok_or(Unfit::FieldCount);
        }
        let fields: Vec<_> = row.fields().collect();
        let mut key = Vec::with_capacity(16 * self.fields.len());
        for (index, kind) in &self.fields {
            put_key_field(&mut key, *fields.get(*index).ok_or(Unfit::FieldCount)?, *kind);
        }
        Ok(Cow::Owned(key))
    }

    fn of_key<'a>(&self, key: Tuple<'a>) -> Result<Cow<'a, [u8]>, Unfit> {
        if key.field_count() != self.fields.len() {
            return Err(Unfit::FieldCount);
        }
        if self.lies_at.is_some() {
            return span(key, 0, self.fields.len()).map(Cow::Borrowed).ok_or(Unfit::FieldCount);
        }
        let mut bytes = Vec::with_capacity(16 * self.fields.len());
        for (field, (_, kind)) in key.fields().zip(&self.fields) {
            put_key_field(&mut bytes, field, *kind);
        }
        Ok(Cow::Owned(bytes))
    }
}

/// Lengths and bytes of `count` fields from the field `first` on, as they lie in the tuple.
fn span(tuple: Tuple<'_>, first: usize, count: usize) -> Option<&[u8]> {
    let mut rest = tuple.as_bytes().get(2..)?;
    for _ in 0..first {
        rest = after_field(rest)?;
    }
    let start = rest;
    for _ in 0..count {
        rest = after_field(rest)?;
    }
    start.get(..start.len() - rest.len())
}

fn after_field(bytes: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(usize::try_from(i32::from_be_bytes(length)).unwrap_or(0)..)
}

/// 1.0 and 1.00 are one key: the two bytes that say how many decimals are shown do not count.
fn put_key_field(key: &mut Vec<u8>, field: Field<'_>, kind: Kind) {
    let start = key.len();
    phusa_protocol::row::put_field(key, field);
    if kind == Kind::Numeric
        && let Some(scale) = key.get_mut(start + 10..start + 12)
    {
        scale.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use phusa_protocol::change::{BodyWriter, Op};
    use phusa_protocol::contract::Contract;
    use phusa_protocol::row::put_tuple;

    use super::*;

    const CONTRACT: &str = r#"
dataset = "a.b"
version = 1
title_vi = "B"
owner = "H57"
legal_basis = "QĐ"
sharing = "open"
frequency = "1d"
retention = "1d"
key = ["second", "first"]
[[field]]
name = "first"
type = "numeric"
class = "P"
name_vi = "1"
[[field]]
name = "note"
type = "text"
class = "P"
name_vi = "N"
[[field]]
name = "second"
type = "text"
class = "P"
name_vi = "2"
"#;

    fn shape() -> Shape {
        Shape::of(&Contract::from_toml(CONTRACT).unwrap())
    }

    /// The number 1 with `scale` decimals shown.
    fn one(scale: u8) -> [u8; 10] {
        [0, 1, 0, 0, 0, 0, 0, scale, 0, 1]
    }

    fn row<'a>(number: &'a [u8], note: Field<'a>) -> [Field<'a>; 3] {
        [Field::Value(number), note, Field::Value(b"k")]
    }

    #[test]
    fn a_key_is_found_whatever_its_order_in_the_row_and_the_scale_of_its_numbers() {
        let mut body = BodyWriter::default();

        let (plain, long) = (&one(0), &one(2));
        put_tuple(body.begin_row(Op::Insert), &row(plain, Field::Value(b"n")));
        put_tuple(body.begin_row(Op::Update), &row(long, Field::Unchanged));
        let key = [Field::Value(b"k"), Field::Value(plain.as_slice())];
        let rekey = body.begin_row(Op::Rekey);
        put_tuple(rekey, &key);
        put_tuple(rekey, &row(long, Field::Null));
        let (bytes, _) = body.finish();
        let steps = steps(&shape(), &bytes).unwrap();
        let [Step::Net(net)] = steps.as_slice() else { panic!("{} steps", steps.len()) };
        assert_eq!((net.upserts.len(), net.deletes.len(), net.patches.len()), (1, 0, 0));
        let mut body = BodyWriter::default();
        put_tuple(body.begin_row(Op::Insert), &row(plain, Field::Null));
        put_tuple(body.begin_row(Op::Delete), &key);
        let (bytes, _) = body.finish();
        let steps = super::steps(&shape(), &bytes).unwrap();
        let [Step::Net(net)] = steps.as_slice() else { panic!("{} steps", steps.len()) };
        assert_eq!((net.upserts.len(), net.deletes.len()), (0, 1));
    }

    #[test]
    fn changes_of_key_and_truncates_part_the_steps_and_patches_share_them() {
        let mut body = BodyWriter::default();
        let number = one(0);
        let row = |key: &'static [u8], note| [Field::Value(&number), note, Field::Value(key)];
        put_tuple(body.begin_row(Op::Update), &row(b"a", Field::Unchanged));
        put_tuple(body.begin_row(Op::Update), &row(b"b", Field::Unchanged));
        body.begin_row(Op::Truncate);
        put_tuple(body.begin_row(Op::Insert), &row(b"c", Field::Null));
        let (bytes, _) = body.finish();
        let steps = steps(&shape(), &bytes).unwrap();
        let [Step::Net(before), Step::Truncate, Step::Net(after)] = steps.as_slice() else {
            panic!("{} steps", steps.len())
        };
        assert_eq!(before.patches.get(&vec![1]).map(Vec::len), Some(2));
        assert_eq!(after.upserts.len(), 1);
    }

    #[test]
    fn a_row_of_another_width_is_refused() {
        let mut body = BodyWriter::default();
        put_tuple(body.begin_row(Op::Insert), &[Field::Null]);
        assert_eq!(steps(&shape(), &body.finish().0), Err(Unfit::FieldCount));
    }
}
