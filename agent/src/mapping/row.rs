//! `Row`: a source row with the extent of each field, so that neighbours that stay as they are can
//! be copied together.

use std::ops::Range;

use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;

/// Bytes of a tuple before its first field.
const TUPLE_HEAD_BYTES: usize = 2;
/// Bytes of a field before its value.
const FIELD_HEAD_BYTES: usize = 4;

/// The row at hand; reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Row<'b> {
    bytes: &'b [u8],
    fields: Vec<Field<'b>>,
    /// Where each field ends, its length before it included.
    ends: Vec<usize>,
}

impl<'b> Row<'b> {
    /// Takes up another row.
    pub(super) fn load(&mut self, tuple: Tuple<'b>) {
        self.bytes = tuple.as_bytes();
        self.fields.clear();
        self.ends.clear();
        let mut end = TUPLE_HEAD_BYTES;
        for field in tuple.fields() {
            end += FIELD_HEAD_BYTES;
            if let Field::Value(bytes) = field {
                end += bytes.len();
            }
            self.fields.push(field);
            self.ends.push(end);
        }
    }

    /// How long it is.
    pub(super) fn tuple_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its fields in the order of the columns.
    pub(super) fn fields(&self) -> &[Field<'b>] {
        &self.fields
    }

    /// The field of a column.
    pub(super) fn field(&self, column: usize) -> Field<'b> {
        self.fields.get(column).copied().unwrap_or(Field::Null)
    }

    /// Where the field of a column lies, its length before it included.
    fn extent(&self, column: usize) -> Range<usize> {
        let end_of = |column: usize| self.ends.get(column).copied();
        let start = column.checked_sub(1).and_then(end_of).unwrap_or(TUPLE_HEAD_BYTES);
        start..end_of(column).unwrap_or(start)
    }
}

/// Fields of a row that stay as they are and lie side by side, not yet copied.
#[derive(Debug, Default)]
pub(super) struct Span(Range<usize>);

impl Span {
    /// Adds the field of a column; what does not lie beside it is copied first.
    #[inline]
    pub(super) fn add(&mut self, row: &Row<'_>, column: usize, out: &mut Vec<u8>) {
        let extent = row.extent(column);
        if self.0.end == extent.start {
            self.0.end = extent.end;
        } else {
            self.flush(row, out);
            self.0 = extent;
        }
    }

    /// Copies what is held.
    #[inline]
    pub(super) fn flush(&mut self, row: &Row<'_>, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.0);
        out.extend_from_slice(row.bytes.get(held).unwrap_or_default());
    }
}
