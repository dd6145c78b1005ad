//! Pure: what the index holds of a range of keys, and how rows are compared with it.
//!
//! Keys are kept in the order in which the server gave them and are only ever tested for being the
//! same bytes. Which of two keys is greater is the server's business: collations, trailing spaces
//! and letters that count as equal are right because nothing here has an opinion on them.

use std::collections::BTreeMap;

use phusa_protocol::digest::RowsDigest;
use phusa_protocol::row::{Tuple, begin_tuple, put_field};
use phusa_protocol::value::Field;

/// One row as the warehouse is known to have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The key's fields as a tuple, as a delete carries them.
    pub(super) key: Box<[u8]>,
    /// The digest of the row's tuple.
    pub(super) digest: u128,
}

/// What one change does to the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) key: Box<[u8]>,
    /// The row's digest afterwards; `None` when the row is gone.
    pub(super) digest: Option<u128>,
}

/// The digest of one row's tuple.
pub(super) fn digest_of(row: &[u8]) -> u128 {
    let mut digest = RowsDigest::default();
    digest.add_tuple(row);
    digest.sum
}

/// Some fields of a row as a tuple of their own; `None` when the row has no such fields.
pub(super) fn key_of(row: &[u8], places: &[usize]) -> Option<Box<[u8]>> {
    let field = |&place: &usize| Tuple::known(row).fields().nth(place);
    // Asked for every row of a table: its room is neither too small nor given back.
    let mut length = 2;
    for place in places {
        length += match field(place)? {
            Field::Value(bytes) => 4 + bytes.len(),
            Field::Null | Field::Unchanged => 4,
        };
    }
    let mut out = Vec::with_capacity(length);
    begin_tuple(&mut out, places.len());
    for place in places {
        put_field(&mut out, field(place)?);
    }
    Some(out.into_boxed_slice())
}

/// The bytes of some fields of a row; `None` when one of them is not there or null.
pub(super) fn parts_of(mut row: &[u8], places: &[usize]) -> Option<Vec<Vec<u8>>> {
    let fields: Vec<Field<'_>> = Tuple::take(&mut row).ok()?.fields().collect();
    let part = |&place: &usize| match fields.get(place) {
        Some(Field::Value(bytes)) => Some(bytes.to_vec()),
        Some(Field::Null | Field::Unchanged) | None => None,
    };
    places.iter().map(part).collect()
}

/// Rows of a range against the entries of it.
pub(super) struct Comparison<'a> {
    entries: &'a [Entry],
    seen: Vec<bool>,
    /// Where the next row stands, if it stands where it stood.
    at: usize,
    /// Made when the first row does not.
    by_key: Option<BTreeMap<&'a [u8], usize>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        Self { entries, seen: vec![false; entries.len()], at: 0, by_key: None }
    }

    /// The digest under which the row with this key is known; the row counts as seen.
    pub(super) fn find(&mut self, key: &[u8]) -> Option<u128> {
        let place = match self.entries.get(self.at) {
            Some(entry) if *entry.key == *key => self.at,
            Some(_) | None => *self.by_key().get(key)?,
        };
        self.at = place + 1;
        if let Some(seen) = self.seen.get_mut(place) {
            *seen = true;
        }
        self.entries.get(place).map(|entry| entry.digest)
    }

    fn by_key(&mut self) -> &BTreeMap<&'a [u8], usize> {
        let entries = self.entries;
        self.by_key.get_or_insert_with(|| {
            entries.iter().enumerate().map(|(place, entry)| (&*entry.key, place)).collect()
        })
    }

    /// The entries whose rows were not seen.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().zip(&self.seen).filter(|(_, seen)| !**seen).map(|(entry, _)| entry)
    }
}

/// Does to entries what the first `count` steps say.
pub(super) fn apply(entries: &mut Vec<Entry>, steps: &[Step], count: usize) {
    let mut places: BTreeMap<Box<[u8]>, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
    let mut gone = vec![false; entries.len()];
    for step in steps.iter().take(count) {
        match (step.digest, places.get(&step.key)) {
            (Some(digest), Some(&place)) => {
                if let (Some(entry), Some(gone)) = (entries.get_mut(place), gone.get_mut(place)) {
                    (entry.digest, *gone) = (digest, false);
                }
            }
            (Some(digest), None) => {
                places.insert(step.key.clone(), entries.len());
                entries.push(Entry { key: step.key.clone(), digest });
                gone.push(false);
            }
            (None, Some(&place)) => {
                if let Some(gone) = gone.get_mut(place) {
                    *gone = true;
                }
            }
            (None, None) => {}
        }
    }
    let mut gone = gone.into_iter();
    entries.retain(|_| !gone.next().unwrap_or(false));
}

/// Entries as bytes: for each `u32` length of the key, the key, 16 bytes of digest.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.iter().map(|entry| entry.key.len() + 20).sum());
    for entry in entries {
        out.extend_from_slice(&u32::try_from(entry.key.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&entry.key);
        out.extend_from_slice(&entry.digest.to_be_bytes());
    }
    out
}

/// Entries from bytes; `None` for what [`encode`] did not write.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (key, rest) = rest.split_at_checked(length)?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        entries.push(Entry { key: key.into(), digest: u128::from_be_bytes(*digest) });
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: &[(&str, u128)]) -> Vec<Entry> {
        let entry =
            |(key, digest): &(&str, u128)| Entry { key: key.as_bytes().into(), digest: *digest };
        keys.iter().map(entry).collect()
    }

    #[test]
    fn rows_are_found_in_whatever_order_the_server_gives_them() {
        let known = entries(&[("A", 1), ("b", 2), ("C", 3), ("d", 4)]);
        let check = |order: &[&str], found: &[Option<u128>], unseen: &[&str]| {
            let mut comparison = Comparison::new(&known);
            let digests: Vec<_> = order.iter().map(|key| comparison.find(key.as_bytes())).collect();
            assert_eq!(digests, found, "{order:?}");
            let left: Vec<_> = comparison.unseen().map(|entry| &*entry.key).collect();
            let unseen: Vec<_> = unseen.iter().map(|key| key.as_bytes()).collect();
            assert_eq!(left, unseen, "{order:?}");
        };
        check(&["A", "b", "C", "d"], &[Some(1), Some(2), Some(3), Some(4)], &[]);
        check(&["A", "a", "C"], &[Some(1), None, Some(3)], &["b", "d"]);
        check(&["d", "C", "b", "A"], &[Some(4), Some(3), Some(2), Some(1)], &[]);
        check(&["B"], &[None], &["A", "b", "C", "d"]);
        check(&[], &[], &["A", "b", "C", "d"]);
    }

    #[test]
    fn what_was_sent_before_a_crash_is_known_and_no_more() {
        let step = |key: &str, digest| Step { key: key.as_bytes().into(), digest };
        let steps = [step("b", None), step("a", Some(9)), step("n", Some(5)), step("n", None)];
        let check = |count: usize, expected: &[(&str, u128)]| {
            let mut known = entries(&[("a", 1), ("b", 2)]);
            apply(&mut known, &steps, count);
            assert_eq!(known, entries(expected), "{count} of them");
        };
        check(0, &[("a", 1), ("b", 2)]);
        check(1, &[("a", 1)]);
        check(2, &[("a", 9)]);
        check(3, &[("a", 9), ("n", 5)]);
        check(9, &[("a", 9)]);
    }

    #[test]
    fn entries_come_back_and_cut_ones_do_not() {
        let known = entries(&[("", 0), ("khóa", u128::MAX)]);
        let bytes = encode(&known);
        assert_eq!(decode(&bytes), Some(known));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_key_is_the_tuple_of_its_fields_in_the_contracts_order() {
        let mut row = Vec::new();
        begin_tuple(&mut row, 3);
        for field in [Field::Value(b"x"), Field::Null, Field::Value(b"yz")] {
            put_field(&mut row, field);
        }
        let key = key_of(&row, &[2, 0]).unwrap();
        assert_eq!(*key, *b"\0\x02\0\0\0\x02yz\0\0\0\x01x");
        assert_eq!(parts_of(&row, &[2]), Some(vec![b"yz".to_vec()]));
        assert_eq!(parts_of(&row, &[1]), None);
    }
}
