//! What was wrong with a row, and how often: counts by rule and field, without the rows.

use std::collections::BTreeMap;
use std::fmt;

use phusa_protocol::batch::QUALITY_COUNTS_MAX;
use phusa_protocol::fault::Code;
use serde::Serialize;

pub use crate::config::rules::OnBad;

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
    /// A date is zero or lacks its month or day (`2026-00-15`), or no calendar has it.
    DatePartial,
    /// A span of time is no time of day.
    TimeOutOfRange,
    /// The bytes are not what the column's type sends.
    Malformed,
    /// A text holds a byte that its legacy encoding does not define.
    Undecodable,
    /// A text is not written as the format says, or is no value of the contract's type.
    Unconvertible,
    /// `pad_left` met more digits than its width, or something else than digits.
    PadUnfit,
    /// A part of a computed field came without its value.
    ComputeUnknown,
    /// A code is not in the crosswalk on that day.
    CodeUnknown,
    /// The day for which a code is asked is not known.
    DayUnknown,
    /// A text cannot be masked as the file says.
    MaskUnfit,
    /// A field that the file requires is null.
    Required,
    /// A value stands twice in a batch.
    Duplicate,
    /// Not a citizen id.
    CitizenId,
    /// A citizen id and the sex beside it contradict each other.
    CitizenIdSex,
    /// A citizen id and the date of birth beside it contradict each other.
    CitizenIdBirth,
    /// Not a tax code, or its check digit is wrong.
    TaxCode,
    /// Not a social insurance number.
    SocialInsurance,
    /// Not a health insurance card.
    HealthCard,
    /// Not a Vietnamese telephone number.
    Phone,
    /// Not an e-mail address.
    Email,
    /// Not in the code list on that day.
    InList,
    /// Shorter or longer than allowed.
    Length,
    /// Smaller or larger than allowed.
    Range,
    /// Before the date beside it.
    NotBefore,
    /// After the date beside it.
    NotAfter,
    /// Not of the given pattern.
    Regex,
    /// Longer than the contract allows.
    AgreedLength,
    /// No code of the list that the contract names.
    AgreedCode,
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
            Self::DatePartial => "date_partial",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::Malformed => "malformed",
            Self::Undecodable => "undecodable",
            Self::Unconvertible => "unconvertible",
            Self::PadUnfit => "pad_unfit",
            Self::ComputeUnknown => "compute_unknown",
            Self::CodeUnknown => "code_unknown",
            Self::DayUnknown => "day_unknown",
            Self::MaskUnfit => "mask_unfit",
            Self::Required => "required",
            Self::Duplicate => "duplicate",
            Self::CitizenId => "citizen_id",
            Self::CitizenIdSex => "citizen_id_sex",
            Self::CitizenIdBirth => "citizen_id_birth",
            Self::TaxCode => "tax_code",
            Self::SocialInsurance => "social_insurance",
            Self::HealthCard => "health_card",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::InList => "in_list",
            Self::Length => "length",
            Self::Range => "range",
            Self::NotBefore => "not_before",
            Self::NotAfter => "not_after",
            Self::Regex => "regex",
            Self::AgreedLength => "agreed_length",
            Self::AgreedCode => "agreed_code",
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

/// A row that breaks a rule: it stays at the agency, or travels all the same as the file says.
#[derive(Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its key as `column=value`, for the agency's own rejects file and for nothing else.
    pub key: String,
    /// The rule it breaks.
    pub rule: Rule,
    /// The contract field at fault, where it is one.
    pub field: Option<String>,
    /// What was done.
    pub on_bad: OnBad,
}

impl fmt::Debug for Reject {
    /// Without the key, because a key is a row value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _, rule, field, on_bad } = self;
        f.debug_struct("Reject")
            .field("rule", rule)
            .field("field", field)
            .field("on_bad", on_bad)
            .finish_non_exhaustive()
    }
}

/// How often which rule was broken at which field, and what was done: counts and names, no values.
///
/// It travels with the batch, in the header, so its keys are few and bounded: a rule, a field of
/// the contract and one of three answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quality(BTreeMap<(OnBad, Option<String>, Rule), u64>);

impl Quality {
    /// Counts one more.
    pub fn note(&mut self, reject: &Reject) {
        self.count(reject.on_bad, reject.field.clone(), reject.rule, 1);
    }

    /// Adds to a count.
    pub fn count(&mut self, on_bad: OnBad, field: Option<String>, rule: Rule, rows: u64) {
        *self.0.entry((on_bad, field, rule)).or_default() += rows;
    }

    /// Rows of all rules together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How often rows broke a rule and were kept back, or travelled all the same: `field:rule`.
    pub fn by_rule(&self, kept_back: bool) -> impl Iterator<Item = (String, u64)> {
        let wanted = self
            .0
            .iter()
            .filter(move |((on_bad, ..), _)| (*on_bad == OnBad::RejectRow) == kept_back);
        wanted.map(|((_, field, rule), rows)| match field {
            Some(field) => (format!("{field}:{rule}"), *rows),
            None => (rule.to_string(), *rows),
        })
    }

    /// As the header has it: `answer/field/rule` and rows. Past the header's bound the least
    /// frequent are added up under `other`.
    #[must_use]
    pub fn for_header(&self) -> BTreeMap<String, u64> {
        let name = |(on_bad, field, rule): &(OnBad, Option<String>, Rule)| {
            format!("{}/{}/{rule}", on_bad.name(), field.as_deref().unwrap_or("-"))
        };
        let mut counts: Vec<_> = self.0.iter().map(|(key, rows)| (name(key), *rows)).collect();
        if counts.len() > QUALITY_COUNTS_MAX {
            counts.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
            let rest = counts.split_off(QUALITY_COUNTS_MAX - 1);
            counts.push(("other/-/-".to_owned(), rest.iter().map(|(_, rows)| rows).sum()));
        }
        counts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(field: Option<&str>, rule: Rule, on_bad: OnBad) -> Reject {
        Reject { key: "id=canary".to_owned(), rule, field: field.map(str::to_owned), on_bad }
    }

    #[test]
    fn counts_add_up_and_show_no_key() {
        let mut sum = Quality::default();
        sum.note(&reject(Some("ho_ten"), Rule::RequiredNull, OnBad::RejectRow));
        sum.note(&reject(Some("ho_ten"), Rule::RequiredNull, OnBad::RejectRow));
        sum.note(&reject(None, Rule::RowBytesMax, OnBad::RejectRow));
        sum.note(&reject(Some("so"), Rule::CitizenIdSex, OnBad::Warn));
        let shown: Vec<_> = sum.for_header().into_iter().collect();
        let expected = [
            ("reject_row/-/row_bytes_max", 1),
            ("reject_row/ho_ten/required_null", 2),
            ("warn/so/citizen_id_sex", 1),
        ];
        assert_eq!(shown, expected.map(|(name, rows)| (name.to_owned(), rows)));
        assert_eq!(sum.total(), 4);
        let noted: Vec<_> = sum.by_rule(false).collect();
        assert_eq!(noted, [("so:citizen_id_sex".to_owned(), 1)]);
        let kept: Vec<_> = sum.by_rule(true).collect();
        assert_eq!(kept, [("row_bytes_max".to_owned(), 1), ("ho_ten:required_null".to_owned(), 2)]);
        let one = reject(None, Rule::Phone, OnBad::Warn);
        assert!(!format!("{one:?} {sum:?}").contains("canary"));
    }

    #[test]
    fn many_counts_are_cut_to_what_a_header_holds() {
        let mut many = Quality::default();
        for index in 0..200_u64 {
            many.count(OnBad::Warn, Some(format!("truong_{index}")), Rule::Phone, index + 1);
        }
        let shown = many.for_header();
        assert_eq!(shown.len(), QUALITY_COUNTS_MAX);
        assert_eq!(shown.values().sum::<u64>(), many.total());
        assert!(shown.contains_key("other/-/-") && shown.contains_key("warn/truong_199/phone"));
    }
}
