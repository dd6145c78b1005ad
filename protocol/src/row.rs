//! Reading and writing rows in PostgreSQL's binary COPY tuple format.
//!
//! A tuple is `i16` field count, then per field `i32` length and that many bytes, all big-endian;
//! length -1 is null and, in this protocol alone, -2 is "unchanged". The canonical form that
//! digests are taken over is the tuple itself: PostgreSQL's send functions give one value one
//! form, and fields that could differ (text) are brought to NFC before they get here.

use crate::value::Field;

/// No table has more columns than this (PostgreSQL's own limit).
pub const FIELDS_MAX: usize = 1_600;

const NULL: i32 = -1;
const UNCHANGED: i32 = -2;

/// Bytes that are not a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// The bytes ended inside a tuple.
    #[error("the bytes end inside a row")]
    Cut,
    /// A field count below 0 or above [`FIELDS_MAX`].
    #[error("a row claims {0} fields")]
    FieldCount(i16),
    /// A length below -2.
    #[error("a field claims {0} bytes")]
    FieldLength(i32),
}

/// One row whose extent and field lengths have been checked, still lying in the buffer it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    bytes: &'a [u8],
    field_count: usize,
}

impl<'a> Tuple<'a> {
    /// Takes the first tuple off `bytes`.
    ///
    /// # Errors
    /// [`BadRow`] when there is none; `bytes` is then left as it was.
    #[inline]
    pub fn take(bytes: &mut &'a [u8]) -> Result<Self, BadRow> {
        let all = *bytes;
        let (&count, mut rest) = all.split_first_chunk::<2>().ok_or(BadRow::Cut)?;
        let count = i16::from_be_bytes(count);
        let field_count = usize::try_from(count).map_err(|_| BadRow::FieldCount(count))?;
        if field_count > FIELDS_MAX {
            return Err(BadRow::FieldCount(count));
        }
        for _ in 0..field_count {
            let (&length, after) = rest.split_first_chunk::<4>().ok_or(BadRow::Cut)?;
            let length = i32::from_be_bytes(length);
            rest = match usize::try_from(length) {
                Ok(length) => after.get(length..).ok_or(BadRow::Cut)?,
                Err(_) if length >= UNCHANGED => after,
                Err(_) => return Err(BadRow::FieldLength(length)),
            };
        }
        let (tuple, rest) = all.split_at(all.len() - rest.len());
        *bytes = rest;
        Ok(Self { bytes: tuple, field_count })
    }

    /// A tuple that was made or checked before. Bytes that are none have fields as far as they go.
    #[inline]
    #[must_use]
    pub fn known(bytes: &'a [u8]) -> Self {
        let count = bytes.first_chunk::<2>().map_or(0, |count| i16::from_be_bytes(*count));
        Self { bytes, field_count: usize::try_from(count).unwrap_or(0) }
    }

    /// How many fields it has.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.field_count
    }

    /// The tuple as it stands in the buffer.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its fields in order.
    #[inline]
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut rest = self.bytes.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(length);
            let Ok(length) = usize::try_from(length) else {
                rest = after;
                return Some(if length == NULL { Field::Null } else { Field::Unchanged });
            };
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            Some(Field::Value(value))
        })
    }
}

/// Begins a tuple of `field_count` fields (at most [`FIELDS_MAX`]); that many [`put_field`] follow.
#[inline]
pub fn begin_tuple(out: &mut Vec<u8>, field_count: usize) {
    let count = i16::try_from(field_count.min(FIELDS_MAX)).unwrap_or(i16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
}

/// Appends one field. A value longer than 2,147,483,647 bytes cannot come from any database here
/// and is written as null; sources refuse it long before.
#[inline]
pub fn put_field(out: &mut Vec<u8>, field: Field<'_>) {
    match field {
        Field::Value(bytes) => match i32::try_from(bytes.len()) {
            Ok(length) => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Err(_) => out.extend_from_slice(&NULL.to_be_bytes()),
        },
        Field::Null => out.extend_from_slice(&NULL.to_be_bytes()),
        Field::Unchanged => out.extend_from_slice(&UNCHANGED.to_be_bytes()),
    }
}

/// Appends a whole tuple.
pub fn put_tuple(out: &mut Vec<u8>, fields: &[Field<'_>]) {
    begin_tuple(out, fields.len());
    for field in fields {
        put_field(out, *field);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tuple_comes_back_field_by_field() {
        let fields =
            [Field::Value(b"Hu\xe1\xba\xbf"), Field::Null, Field::Unchanged, Field::Value(b"")];
        let mut bytes = Vec::new();
        put_tuple(&mut bytes, &fields);
        bytes.push(0xff);
        let mut rest = bytes.as_slice();
        let tuple = Tuple::take(&mut rest).unwrap();
        assert_eq!(tuple.fields().collect::<Vec<_>>(), fields);
        assert_eq!(rest, [0xff]);
    }

    #[test]
    fn damaged_tuples_are_named_and_leave_the_buffer() {
        let check = |bytes: &[u8], expected: BadRow| {
            let mut rest = bytes;
            assert_eq!(Tuple::take(&mut rest), Err(expected));
            assert_eq!(rest, bytes);
        };
        check(&[], BadRow::Cut);
        check(&[0, 1, 0, 0, 0, 9, 1], BadRow::Cut);
        check(&[0xff, 0xff], BadRow::FieldCount(-1));
        check(&[0x7f, 0xff], BadRow::FieldCount(0x7fff));
        check(&[0, 1, 0xff, 0xff, 0xff, 0xfd], BadRow::FieldLength(-3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = bytes.as_slice();
            while let Ok(tuple) = Tuple::take(&mut rest) {
                prop_assert_eq!(tuple.fields().count(), tuple.field_count());
            }
        }
    }
}
