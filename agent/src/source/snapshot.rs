//! Pure: a full read in key ranges: what is found, what is read, where to go on.
//!
//! Ranges are found one after the other along the key's index and read in any order. What is kept
//! is only what is still open, so that the place to resume from stays small however large the
//! table is. The server orders keys; nothing here compares them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A key as the source writes it in text, one part per key column.
pub type KeyText = Vec<String>;

/// The key after which a range begins.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Before the first row.
    Start,
    /// A boundary found along the index.
    Text(KeyText),
    /// The last row handed on, as it stood in the block.
    Row(Vec<Vec<u8>>),
}

/// A range of keys that is still to be read: after `after`, up to and with `upto`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it begins.
    pub after: After,
    /// Its last key; `None` is the end of the table.
    pub upto: Option<KeyText>,
}

/// A full read under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Ranges found and not read to their end, by number.
    open: BTreeMap<u64, Chunk>,
    /// Where the next range begins; `None` once the end of the table was found.
    frontier: Option<After>,
    /// Ranges found so far.
    found: u64,
    /// Rows handed on so far.
    rows: u64,
    /// Whether all of it was read in the one snapshot that belongs to the slot's start.
    exact: bool,
}

impl Reading {
    /// A read that has not begun; `exact` when it has the snapshot of the slot's start.
    #[must_use]
    pub fn new(exact: bool) -> Self {
        let (open, frontier) = (BTreeMap::new(), Some(After::Start));
        Self { open, frontier, found: 0, rows: 0, exact }
    }

    /// The same read after a restart: what is left is read under other snapshots.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { exact: self.exact && self.is_over(), ..self }
    }

    /// The ranges that are left over from an earlier run.
    pub fn open(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.open.iter().map(|(number, chunk)| (*number, chunk))
    }

    /// Where the next range begins; `None` once the end of the table was found.
    #[must_use]
    pub fn frontier(&self) -> Option<&After> {
        self.frontier.as_ref()
    }

    /// Rows handed on so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The number the next range gets.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.found
    }

    /// A range was found.
    pub fn found(&mut self, number: u64, chunk: Chunk) {
        self.frontier = chunk.upto.clone().map(After::Text);
        self.found = self.found.max(number + 1);
        self.open.insert(number, chunk);
    }

    /// Rows of a range were handed on, the last of them with this key.
    pub fn advanced(&mut self, number: u64, rows: u64, last: Vec<Vec<u8>>) {
        self.rows += rows;
        if let Some(chunk) = self.open.get_mut(&number) {
            chunk.after = After::Row(last);
        }
    }

    /// A range was read to its end.
    pub fn finished(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Whether every range was found and read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.frontier.is_none() && self.open.is_empty()
    }

    /// Whether all of it was read in the one snapshot that belongs to the slot's start.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Ranges done of those found, for the log: `3/41`.
    #[must_use]
    pub fn position(&self) -> String {
        let open = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        format!("{}/{}", self.found.saturating_sub(open), self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upto(key: &str) -> Option<KeyText> {
        Some(vec![key.to_owned()])
    }

    fn two_chunks() -> Reading {
        let mut reading = Reading::new(true);
        reading.found(0, Chunk { after: After::Start, upto: upto("5") });
        let after = After::Text(vec!["5".to_owned()]);
        reading.found(1, Chunk { after, upto: None });
        reading
    }

    #[test]
    fn a_read_is_over_when_all_ranges_are_found_and_read() {
        let mut reading = two_chunks();
        assert_eq!(reading.position(), "0/2");
        reading.advanced(1, 4, vec![b"9".to_vec()]);
        reading.finished(1);
        assert_eq!((reading.position().as_str(), reading.is_over()), ("1/2", false));
        reading.finished(0);
        assert!(reading.is_over() && reading.is_exact());
        assert_eq!(reading.rows(), 4);
        assert!(reading.resumed().is_exact(), "nothing is left to read under another snapshot");
    }

    #[test]
    fn a_restart_goes_on_after_the_last_row_handed_on() {
        let mut reading = two_chunks();
        reading.finished(0);
        reading.advanced(1, 1, vec![b"7".to_vec()]);
        let text = serde_json::to_string(&reading).unwrap();
        let again = serde_json::from_str::<Reading>(&text).unwrap().resumed();
        assert!(!again.is_exact());
        let open: Vec<_> = again.open().collect();
        let left = Chunk { after: After::Row(vec![b"7".to_vec()]), upto: None };
        assert!(open == [(1, &left)]);
        assert!(again.frontier().is_none());
        assert_eq!(again.next_number(), 2);
    }

    #[test]
    fn the_frontier_is_the_last_boundary_found() {
        let mut reading = Reading::new(false);
        assert!(reading.frontier() == Some(&After::Start));
        reading.found(0, Chunk { after: After::Start, upto: upto("5") });
        assert!(reading.frontier() == Some(&After::Text(vec!["5".to_owned()])));
    }
}
