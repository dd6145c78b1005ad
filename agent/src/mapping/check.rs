//! Checks of a value before it is masked: each gives a verdict, what is done with it is the file's.
//!
//! Cross-checks of a citizen id against sex and birth only ever warn: re-registered births exist.

use std::cmp::Ordering;
use std::sync::Arc;

use regex::Regex;

use super::codes::CodeList;
use super::ids::{self, CitizenId};
use super::number::{self, Decimal};
use super::quality::{OnBad, Rule};

/// A check and what is done with a value that fails it.
#[derive(Debug, Clone)]
pub struct Check {
    /// What is checked.
    pub test: Test,
    /// What is done.
    pub on_bad: OnBad,
}

/// What is checked.
#[derive(Debug, Clone)]
pub enum Test {
    /// It is not null.
    Required,
    /// It stands once among the inserted and read rows of a batch.
    Unique,
    /// It is built as a citizen id.
    CitizenId {
        /// The sex beside it.
        sex: Option<Sex>,
        /// Which field of the contract holds the date of birth.
        birth: Option<usize>,
    },
    /// It is a tax code with the right check digit.
    TaxCode,
    /// It is a social insurance number.
    SocialInsurance,
    /// It is a health insurance card.
    HealthCard,
    /// It is a Vietnamese telephone number.
    Phone,
    /// It is an e-mail address.
    Email,
    /// It is in a code list.
    InList {
        /// Which.
        list: Arc<CodeList>,
        /// On which day.
        as_of: AsOf,
    },
    /// It has so many characters.
    Length {
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// It lies between two numbers or two dates.
    Range {
        /// At least.
        min: Option<Bound>,
        /// At most.
        max: Option<Bound>,
    },
    /// It is not before the date in this field of the contract.
    NotBefore(usize),
    /// It is not after the date in this field of the contract.
    NotAfter(usize),
    /// All of it is of this pattern.
    Regex(Regex),
}

/// The sex beside a citizen id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sex {
    /// Which field of the contract holds it.
    pub field: usize,
    /// Its texts for a man.
    pub male: Vec<String>,
    /// Its texts for a woman.
    pub female: Vec<String>,
}

/// On which day a code is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// This one.
    Day(i64),
    /// The date in this field of the contract.
    Field(usize),
}

/// An end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A decimal in its binary form.
    Number(Vec<u8>),
    /// A date `2026-11-21`, perhaps partial.
    Date(String),
}

impl Bound {
    /// Reads a date or a decimal.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if super::codes::day(text).is_some() {
            return Some(Self::Date(text.to_owned()));
        }
        number::from_literal(text).map(Self::Number)
    }

    /// `None` for a text that is not of its kind.
    fn compare(&self, words: &str) -> Option<Ordering> {
        match self {
            Self::Number(bound) => {
                let value = number::from_literal(words)?;
                Some(Decimal::read(&value)?.compare(&Decimal::read(bound)?))
            }
            Self::Date(bound) => compare_dates(words, bound),
        }
    }
}

/// What else of the row a check may look at.
pub(super) trait Beside {
    /// The text of another field before its mask; `None` when it is null or not known.
    fn text(&self, field: usize) -> Option<String>;
    /// The day that is meant; `None` when it is not known.
    fn day(&self, as_of: AsOf) -> Option<i64>;
}

impl Test {
    /// The rule that `words` break, perhaps with an answer of its own.
    ///
    /// `Required` and `Unique` are judged by the step, which knows of nulls and of other rows.
    pub(super) fn judge(&self, words: &str, beside: &impl Beside) -> Option<(Rule, Option<OnBad>)> {
        let broken = |sound: bool, rule: Rule| (!sound).then_some((rule, None));
        match self {
            Self::Required | Self::Unique => None,
            Self::CitizenId { sex, birth } => match ids::citizen_id(words) {
                None => Some((Rule::CitizenId, None)),
                Some(id) => contradiction(id, sex.as_ref(), *birth, beside)
                    .map(|rule| (rule, Some(OnBad::Warn))),
            },
            Self::TaxCode => broken(ids::is_tax_code(words), Rule::TaxCode),
            Self::SocialInsurance => broken(ids::is_social_insurance(words), Rule::SocialInsurance),
            Self::HealthCard => broken(ids::is_health_card(words), Rule::HealthCard),
            Self::Phone => broken(ids::is_phone(words), Rule::Phone),
            Self::Email => broken(ids::is_email(words), Rule::Email),
            Self::InList { list, as_of } => match beside.day(*as_of) {
                Some(day) => broken(list.holds(words, day), Rule::InList),
                None => Some((Rule::DayUnknown, None)),
            },
            Self::Length { min, max } => {
                broken((*min..=*max).contains(&words.chars().count()), Rule::Length)
            }
            Self::Range { min, max } => {
                let order = |bound: &Bound| bound.compare(words);
                let above = min.as_ref().is_none_or(|min| order(min).is_some_and(Ordering::is_ge));
                let below = max.as_ref().is_none_or(|max| order(max).is_some_and(Ordering::is_le));
                broken(above && below, Rule::Range)
            }
            Self::NotBefore(field) => {
                let order = beside.text(*field).and_then(|other| compare_dates(words, &other));
                broken(order.is_none_or(Ordering::is_ge), Rule::NotBefore)
            }
            Self::NotAfter(field) => {
                let order = beside.text(*field).and_then(|other| compare_dates(words, &other));
                broken(order.is_none_or(Ordering::is_le), Rule::NotAfter)
            }
            Self::Regex(pattern) => broken(pattern.is_match(words), Rule::Regex),
        }
    }
}

fn contradiction(
    id: CitizenId,
    sex: Option<&Sex>,
    birth: Option<usize>,
    beside: &impl Beside,
) -> Option<Rule> {
    let is_one = |list: &[String], text: &String| list.contains(text);
    let other_sex = |sex: &Sex| {
        let found = beside.text(sex.field)?;
        let other = if id.is_male { &sex.female } else { &sex.male };
        Some(is_one(other, &found))
    };
    if sex.and_then(other_sex) == Some(true) {
        return Some(Rule::CitizenIdSex);
    }
    let birth = birth.and_then(|field| beside.text(field));
    let year = birth.as_deref().and_then(|date| date.get(..4)).and_then(|year| year.parse().ok());
    year.is_some_and(|year: i32| year != id.birth_year).then_some(Rule::CitizenIdBirth)
}

/// Compares dates as far as both are known: 1990 is neither before nor after 1990-05. `None` when
/// one of them is no date.
fn compare_dates(one: &str, other: &str) -> Option<Ordering> {
    let is_date = |text: &str| {
        let year = text.as_bytes().first_chunk::<4>();
        year.is_some_and(|year| year.iter().all(u8::is_ascii_digit)) && !text.ends_with(" BC")
    };
    let shared = one.len().min(other.len());
    let both = is_date(one) && is_date(other);
    both.then(|| one.as_bytes().iter().take(shared).cmp(other.as_bytes().iter().take(shared)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::codes::{Period, day};

    /// Field 1 is the sex, field 2 a date.
    struct Row(Option<&'static str>, Option<&'static str>);

    impl Beside for Row {
        fn text(&self, field: usize) -> Option<String> {
            let found = if field == 1 { self.0 } else { self.1 };
            found.map(str::to_owned)
        }

        fn day(&self, as_of: AsOf) -> Option<i64> {
            match as_of {
                AsOf::Day(day) => Some(day),
                AsOf::Field(field) => day(&self.text(field)?),
            }
        }
    }

    fn judged(test: &Test, words: &str, row: &Row) -> Option<(Rule, Option<OnBad>)> {
        test.judge(words, row)
    }

    #[test]
    fn contradictions_beside_a_citizen_id_only_warn() {
        let list = |text: &str| vec![text.to_owned()];
        let sex = Some(Sex { field: 1, male: list("1"), female: list("2") });
        let test = Test::CitizenId { sex, birth: Some(2) };
        let check = |row: Row, expected: Option<(Rule, Option<OnBad>)>| {
            assert_eq!(judged(&test, "046199000001", &row), expected);
        };
        let warn = |rule| Some((rule, Some(OnBad::Warn)));
        check(Row(Some("2"), Some("1999-05-01")), None);
        check(Row(Some("1"), Some("1999-05-01")), warn(Rule::CitizenIdSex));
        check(Row(Some("3"), Some("1999")), None);
        check(Row(None, Some("1998-05-01")), warn(Rule::CitizenIdBirth));
        check(Row(None, None), None);
        assert_eq!(judged(&test, "1", &Row(None, None)), Some((Rule::CitizenId, None)));
    }

    #[test]
    fn values_are_held_against_lists_ranges_dates_and_patterns() {
        let nothing = Row(None, None);
        let check = |test: &Test, words: &str, row: &Row, expected: Option<Rule>| {
            assert_eq!(
                judged(test, words, row).map(|(rule, _)| rule),
                expected,
                "{test:?} {words}"
            );
        };
        let range =
            |min: &str, max: &str| Test::Range { min: Bound::read(min), max: Bound::read(max) };
        check(&range("0", "150"), "7.5", &nothing, None);
        check(&range("0", "150"), "-1", &nothing, Some(Rule::Range));
        check(&range("0", "150"), "x", &nothing, Some(Rule::Range));
        check(&range("1900-01-01", "2026-12-31"), "1990", &nothing, None);
        check(&range("1900-01-01", "2026-12-31"), "1890-02-01", &nothing, Some(Rule::Range));
        check(&Test::Length { min: 2, max: 3 }, "Huế", &nothing, None);
        check(&Test::Length { min: 4, max: 9 }, "Huế", &nothing, Some(Rule::Length));
        let born = Row(None, Some("1990-05-01"));
        check(&Test::NotBefore(2), "1990-04-30", &born, Some(Rule::NotBefore));
        check(&Test::NotBefore(2), "1990", &born, None);
        check(&Test::NotAfter(2), "1990-05-02", &born, Some(Rule::NotAfter));
        check(&Test::NotAfter(2), "1990-05-02", &nothing, None);
        check(&Test::Regex(Regex::new("^(?:[A-Z]{2}\\d+)$").unwrap()), "AB1", &nothing, None);
        let mut codes = CodeList::new(Period::ALWAYS);
        codes.add("45".to_owned(), Period::new(None, Some("2025-07-01")).unwrap());
        let in_list = |as_of| Test::InList { list: Arc::new(codes.clone()), as_of };
        let then = in_list(AsOf::Day(day("2025-07-01").unwrap()));
        check(&then, "45", &nothing, Some(Rule::InList));
        check(&in_list(AsOf::Field(2)), "45", &born, None);
        check(&in_list(AsOf::Field(2)), "45", &nothing, Some(Rule::DayUnknown));
    }
}
