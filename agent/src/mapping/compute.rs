//! Computed fields: a small closed set, each over columns it names; there is no scripting.

use std::collections::BTreeMap;

/// How a field is made of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compute {
    /// The texts of columns that are not null, with `with` between them; null when all are.
    Concat {
        /// In this order.
        columns: Vec<String>,
        /// Between two texts.
        with: String,
    },
    /// The first that is not null.
    Coalesce(Vec<String>),
    /// A part of a date.
    Part(Part, String),
    /// In capitals.
    Upper(String),
    /// In small letters.
    Lower(String),
    /// A text for each of some texts.
    Map {
        /// The column.
        column: String,
        /// What becomes what.
        values: BTreeMap<String, String>,
        /// What all others become; `None` is null.
        otherwise: Option<String>,
    },
}

/// A part of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `2026`.
    Year,
    /// `11`.
    Month,
    /// `21`.
    Day,
}

impl Compute {
    /// The columns it reads.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Concat { columns, .. } | Self::Coalesce(columns) => {
                columns.iter().map(String::as_str).collect()
            }
            Self::Part(_, column)
            | Self::Upper(column)
            | Self::Lower(column)
            | Self::Map { column, .. } => vec![column],
        }
    }

    /// Whether the first column that is not null settles it.
    pub(super) fn takes_first(&self) -> bool {
        !matches!(self, Self::Concat { .. })
    }

    /// Makes the field of the texts so far, in place: `words` holds the one text, or for `concat`
    /// what was joined. False is null.
    pub(super) fn finish(&self, words: &mut String, spare: &mut String) -> bool {
        match self {
            Self::Concat { .. } | Self::Coalesce(_) => return true,
            Self::Part(part, _) => return part.take(words),
            Self::Upper(_) => {
                spare.clear();
                spare.extend(words.chars().flat_map(char::to_uppercase));
            }
            Self::Lower(_) => {
                spare.clear();
                spare.extend(words.chars().flat_map(char::to_lowercase));
            }
            Self::Map { values, otherwise, .. } => {
                let Some(value) = values.get(words.as_str()).or(otherwise.as_ref()) else {
                    return false;
                };
                spare.clear();
                spare.push_str(value);
            }
        }
        std::mem::swap(words, spare);
        true
    }

    /// What stands between two joined texts.
    pub(super) fn between(&self) -> &str {
        match self {
            Self::Concat { with, .. } => with,
            Self::Coalesce(_)
            | Self::Part(..)
            | Self::Upper(_)
            | Self::Lower(_)
            | Self::Map { .. } => "",
        }
    }
}

impl Part {
    /// Leaves the part of an ISO date or moment; false when there is none (a partial date).
    fn take(self, words: &mut String) -> bool {
        let is_date = words.as_bytes().iter().take(10).enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let range = match self {
            Self::Year => 0..4,
            Self::Month => 5..7,
            Self::Day => 8..10,
        };
        let part = words.get(range).filter(|_| is_date).map(|part| part.trim_start_matches('0'));
        let Some(part) = part.map(str::to_owned) else { return false };
        *words = part;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_made_of_texts() {
        let column = || "a".to_owned();
        let check = |compute: Compute, text: &str, expected: Option<&str>| {
            let (mut words, mut spare) = (text.to_owned(), String::from("left over"));
            let is_there = compute.finish(&mut words, &mut spare);
            assert_eq!(is_there.then_some(words.as_str()), expected, "{compute:?}");
            assert_eq!(compute.columns(), ["a"]);
        };
        check(Compute::Upper(column()), "Huế", Some("HUẾ"));
        check(Compute::Lower(column()), "HUẾ", Some("huế"));
        check(Compute::Part(Part::Year, column()), "1990-02-28", Some("1990"));
        check(Compute::Part(Part::Month, column()), "1990-02-28 10:00:00", Some("2"));
        check(Compute::Part(Part::Day, column()), "1990-02", None);
        check(Compute::Part(Part::Year, column()), "28/02/1990", None);
        check(Compute::Coalesce(vec![column()]), "x", Some("x"));
        let values = BTreeMap::from([("1".to_owned(), "Nam".to_owned())]);
        let map = |otherwise| Compute::Map { column: column(), values: values.clone(), otherwise };
        check(map(None), "1", Some("Nam"));
        check(map(None), "2", None);
        check(map(Some("Khác".to_owned())), "2", Some("Khác"));
    }
}
