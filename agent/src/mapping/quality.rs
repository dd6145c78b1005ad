//! What was wrong with a row, and how often: counts by rule and field, without the rows.

use std::collections::BTreeMap;
use std::fmt;

use phusa_protocol::fault::{Code, Fault};
use serde::Serialize;

/// A rule that a row can break. A row that breaks one stays at the agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A key field is null.
    KeyNull,
    /// A key field of a change came without its value.
    KeyUnknown,
    /// A field that the contract requires is null.
    RequiredNull,
    /// A column that the row filter reads came without its value.
    FilterUnknown,
    /// The mapped row is larger than `row_bytes_max`.
    RowBytesMax,
    /// A whole row came without one of its values.
    RowIncomplete,
    /// The bytes of a text are not UTF-8.
    TextNotUtf8,
    /// A date or timestamp has no year (it is infinite).
    YearUnknown,
    /// A year does not fit the contract's type.
    YearOutOfRange,
    /// A time is finer than the microseconds that the contract's type counts.
    FinerThanMicroseconds,
    /// The bytes are not what the column's type sends.
    Malformed,
}

impl Rule {
    /// Its name in counts and in the rejects file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyNull => "key_null",
            Self::KeyUnknown => "key_unknown",
            Self::RequiredNull => "required_null",
            Self::FilterUnknown => "filter_unknown",
            Self::RowBytesMax => "row_bytes_max",
            Self::RowIncomplete => "row_incomplete",
            Self::TextNotUtf8 => "text_not_utf8",
            Self::YearUnknown => "year_unknown",
            Self::YearOutOfRange => "year_out_of_range",
            Self::FinerThanMicroseconds => "finer_than_microseconds",
            Self::Malformed => "malformed",
        }
    }

    /// The fault that tells a person of it.
    #[must_use]
    pub fn code(self) -> Code {
        if self == Self::RowBytesMax { Code::RowTooLarge } else { Code::RowRejected }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A row that stays at the agency.
#[derive(Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its key as `column=value`, for the agency's own rejects file and for nothing else.
    pub key: String,
    /// The rule it breaks.
    pub rule: Rule,
    /// The contract field at fault, where it is one.
    pub field: Option<String>,
}

impl fmt::Debug for Reject {
    /// Without the key, because a key is a row value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _, rule, field } = self;
        f.debug_struct("Reject").field("rule", rule).field("field", field).finish_non_exhaustive()
    }
}

/// How many rows broke which rule on which field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quality(BTreeMap<(Rule, Option<String>), u64>);

impl Quality {
    /// Counts one more.
    pub fn note(&mut self, reject: &Reject) {
        *self.0.entry((reject.rule, reject.field.clone())).or_default() += 1;
    }

    /// Adds what another block counted.
    pub fn merge(&mut self, other: &Self) {
        for (key, rows) in &other.0 {
            *self.0.entry(key.clone()).or_default() += rows;
        }
    }

    /// Rows of all rules together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Rule, field and rows, in a fixed order.
    pub fn counts(&self) -> impl Iterator<Item = (Rule, Option<&str>, u64)> {
        self.0.iter().map(|((rule, field), rows)| (*rule, field.as_deref(), *rows))
    }

    /// One fault per rule and field, ready to be shown: counts and names, no values.
    #[must_use]
    pub fn faults(&self, dataset: &phusa_protocol::ids::DatasetId) -> Vec<Fault> {
        let fault = |(rule, field, rows): (Rule, Option<&str>, u64)| {
            let place = field.map(|name| format!(" at `{name}`")).unwrap_or_default();
            Fault::new(rule.code(), format!("{rows} rows of {dataset} break rule {rule}{place}"))
        };
        self.counts().map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_blocks_and_show_no_key() {
        let reject = Reject {
            key: "id=canary".to_owned(),
            rule: Rule::RequiredNull,
            field: Some("ho_ten".to_owned()),
        };
        let mut first = Quality::default();
        first.note(&reject);
        let mut sum = first.clone();
        sum.merge(&first);
        sum.note(&Reject { key: "id=canary".to_owned(), rule: Rule::RowBytesMax, field: None });
        let counts: Vec<_> = sum.counts().collect();
        assert_eq!(counts, [(Rule::RequiredNull, Some("ho_ten"), 2), (Rule::RowBytesMax, None, 1)]);
        assert_eq!(sum.total(), 3);
        let dataset = phusa_protocol::ids::DatasetId::new("cong_dan.citizens").unwrap();
        let faults = sum.faults(&dataset);
        assert_eq!(faults[1].code, Code::RowTooLarge);
        assert!(!format!("{reject:?} {sum:?} {faults:?}").contains("canary"));
    }
}
