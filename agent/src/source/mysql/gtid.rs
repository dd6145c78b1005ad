//! Pure: the set of MySQL transactions that were taken in, as the server writes such sets.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers of one source in ranges, both ends included; in order and apart.
type Ranges = Vec<(u64, u64)>;

/// A set of global transaction identifiers. It is stored as the server writes it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct GtidSet(BTreeMap<String, Ranges>);

/// A text that is no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no set of transaction identifiers")]
pub(super) struct BadGtid;

impl TryFrom<String> for GtidSet {
    type Error = BadGtid;

    fn try_from(text: String) -> Result<Self, BadGtid> {
        Self::parse(&text)
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

impl GtidSet {
    /// Reads `uuid:1-5:7,uuid:tag:9`.
    pub(super) fn parse(text: &str) -> Result<Self, BadGtid> {
        let mut set = Self::default();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let uuid = parts.next().filter(|uuid| uuid.len() == 36).ok_or(BadGtid)?;
            let uuid = uuid.to_ascii_lowercase();
            let mut name = uuid.clone();
            for part in parts {
                if part.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
                    name = format!("{uuid}:{}", part.to_ascii_lowercase());
                    continue;
                }
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let number = |text: &str| text.trim().parse::<u64>().map_err(|_| BadGtid);
                let (first, last) = (number(first)?, number(last)?);
                if first == 0 || first > last {
                    return Err(BadGtid);
                }
                insert(set.0.entry(name.clone()).or_default(), (first, last));
            }
        }
        Ok(set)
    }

    /// Adds one: `uuid` or `uuid:tag`, and its number.
    pub(super) fn insert(&mut self, source: &str, number: u64) {
        insert(self.0.entry(source.to_owned()).or_default(), (number, number));
    }

    /// Whether it holds this one.
    #[cfg(test)]
    fn has(&self, source: &str, number: u64) -> bool {
        self.0.get(source).is_some_and(|ranges| covers(ranges, (number, number)))
    }

    /// Whether it holds all of `other`.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.0.iter().all(|(source, wanted)| {
            let ranges = self.0.get(source);
            wanted.iter().all(|range| ranges.is_some_and(|ranges| covers(ranges, *range)))
        })
    }

    /// Each source with its ranges, as text of its own.
    pub(super) fn sources(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|(_, ranges)| !ranges.is_empty()).map(|(source, ranges)| {
            let range = |(first, last): &(u64, u64)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            let ranges: Vec<String> = ranges.iter().map(range).collect();
            format!("{source}:{}", ranges.join(":"))
        })
    }
}

fn covers(ranges: &Ranges, (first, last): (u64, u64)) -> bool {
    ranges.iter().any(|range| range.0 <= first && last <= range.1)
}

fn insert(ranges: &mut Ranges, (mut first, mut last): (u64, u64)) {
    // As a rule the number that follows the last one.
    if let Some(end) = ranges.last_mut()
        && end.1.checked_add(1) == Some(first)
    {
        end.1 = last;
        return;
    }
    let touches = |range: &(u64, u64)| {
        range.0 <= last.saturating_add(1) && first <= range.1.saturating_add(1)
    };
    let (joined, mut apart): (Ranges, Ranges) = ranges.iter().partition(|range| touches(range));
    for range in joined {
        (first, last) = (first.min(range.0), last.max(range.1));
    }
    apart.push((first, last));
    apart.sort_unstable();
    *ranges = apart;
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sources().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_are_read_and_written_as_the_server_does() {
        let check = |text: &str, expected: Option<&str>| {
            let found = GtidSet::parse(text).ok().map(|set| set.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("", Some(""));
        check(&format!("{A}:1-5:7"), Some(&format!("{A}:1-5:7")));
        check(&format!("{B}:3,\n{A}:1:2:9-10"), Some(&format!("{A}:1-2:9-10,{B}:3")));
        check(&format!("{A}:1-5:vung:1-2"), Some(&format!("{A}:1-5,{A}:vung:1-2")));
        check("abc:1", None);
        check(&format!("{A}:0"), None);
        check(&format!("{A}:5-3"), None);
    }

    #[test]
    fn numbers_join_their_neighbours() {
        let mut set = GtidSet::parse(&format!("{A}:1-5:9")).unwrap();
        set.insert(A, 7);
        set.insert(A, 6);
        assert_eq!(set.to_string(), format!("{A}:1-7:9"));
        set.insert(A, 8);
        set.insert(A, 8);
        assert_eq!(set.to_string(), format!("{A}:1-9"));
        assert!(set.has(A, 4) && !set.has(A, 10) && !set.has(B, 1));
    }

    #[test]
    fn a_set_holds_another_where_every_number_is_in_it() {
        let set = |text: &str| GtidSet::parse(&text.replace('A', A).replace('B', B)).unwrap();
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(set(one).holds(&set(other)), expected, "{one} {other}");
        };
        check("A:1-9", "A:2-3:9", true);
        check("A:1-9", "", true);
        check("A:1-9", "A:9-10", false);
        check("A:1-9", "B:1", false);
        check("A:1-4:6-9", "A:4-6", false);
        check("", "A:1", false);
    }
}
