//! Code lists with validity: which code is in force on a day, and what an old or foreign code has
//! become.
//!
//! A day lies in a period from its first day on and before its end. Days count from 2000-01-01, as
//! everywhere in mapping.

use indexmap::IndexMap;

use super::moment;

/// From a first day to the day before an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first day in force.
    pub from: i64,
    /// The first day no longer in force.
    pub to: i64,
}

impl Period {
    /// All days.
    pub const ALWAYS: Self = Self { from: i64::MIN, to: i64::MAX };

    /// Between two dates `2025-07-01`, each of which may be absent.
    ///
    /// # Errors
    /// Which of them is no date, or that the end is not after the beginning.
    pub fn new(from: Option<&str>, to: Option<&str>) -> Result<Self, String> {
        let day = |text: Option<&str>, absent| match text {
            None => Ok(absent),
            Some(text) => day(text).ok_or_else(|| format!("{text:?} is no date like 2025-07-01")),
        };
        let period = Self { from: day(from, i64::MIN)?, to: day(to, i64::MAX)? };
        if period.from >= period.to {
            return Err("a period ends after it begins".to_owned());
        }
        Ok(period)
    }

    /// Whether it holds a day.
    #[must_use]
    pub fn holds(&self, day: i64) -> bool {
        self.from <= day && day < self.to
    }
}

/// The number of a day written `2025-07-01`.
#[must_use]
pub fn day(text: &str) -> Option<i64> {
    moment::parse_date(text)
}

/// One code list, whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodeList {
    /// Its codes with the periods in which each is in force.
    codes: IndexMap<String, Vec<Period>>,
    /// What a code of another list or time becomes, and when.
    becomes: IndexMap<String, Vec<(Period, String)>>,
    /// Nothing of the list is in force outside of this.
    whole: Option<Period>,
    /// Where the codes themselves are not at hand: how many digits each has.
    digits: Option<usize>,
    /// Whether the source numbers by another list, so that no code is taken as it is.
    only_becomes: bool,
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Became<'l> {
    /// It is in force as it is.
    Itself,
    /// It is this one now.
    Other(&'l str),
    /// The list does not know it on that day.
    Unknown,
}

impl CodeList {
    /// An empty list, in force during `whole`.
    #[must_use]
    pub fn new(whole: Period) -> Self {
        Self { whole: Some(whole), ..Self::default() }
    }

    /// Lets every code of so many digits stand for one of the list.
    pub fn any_of_digits(&mut self, digits: usize) {
        self.digits = Some(digits);
    }

    /// Takes no code as it is: the source's numbers are those of another list.
    pub fn only_becomes(&mut self) {
        self.only_becomes = true;
    }

    /// Adds a code.
    pub fn add(&mut self, code: String, period: Period) {
        self.codes.entry(code).or_default().push(period);
    }

    /// Adds what a code has become.
    ///
    /// # Errors
    /// When it would become two different codes on one day.
    pub fn add_becomes(&mut self, from: String, to: String, period: Period) -> Result<(), String> {
        let ways = self.becomes.entry(from).or_default();
        let overlaps = |other: &Period| period.from < other.to && other.from < period.to;
        if ways.iter().any(|(other, _)| overlaps(other)) {
            return Err(format!("a code becomes `{to}` and another at the same time"));
        }
        ways.push((period, to));
        Ok(())
    }

    /// How many codes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The codes that stand at the end of a crosswalk and are not in force themselves.
    #[must_use]
    pub fn dangling(&self) -> Vec<&str> {
        let ends = self.becomes.values().flatten().map(|(_, to)| to.as_str());
        let lacking = |to: &&str| !self.codes.is_empty() && !self.codes.contains_key(*to);
        ends.filter(lacking).collect()
    }

    /// Whether `code` is in force on `day`.
    #[must_use]
    pub fn holds(&self, code: &str, day: i64) -> bool {
        let is_code = |digits| code.len() == digits && code.bytes().all(|b| b.is_ascii_digit());
        let listed = self.codes.get(code).is_some_and(|list| list.iter().any(|p| p.holds(day)));
        self.whole.is_none_or(|whole| whole.holds(day))
            && (listed || self.digits.is_some_and(is_code))
    }

    /// What `code` is on `day`. A crosswalk is looked at first: the number of an old province may
    /// be that of a new one with another name.
    pub(crate) fn became(&self, code: &str, day: i64) -> Became<'_> {
        let ways = self.becomes.get(code).into_iter().flatten();
        let way = ways.into_iter().find(|(period, _)| period.holds(day));
        match way {
            Some((_, to)) => Became::Other(to),
            None if !self.only_becomes && self.holds(code, day) => Became::Itself,
            None => Became::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_force_on_their_days_and_become_others() {
        let turn = Some("2025-07-01");
        let mut list = CodeList::new(Period::ALWAYS);
        let old = Period::new(None, turn).unwrap();
        let new = Period::new(turn, None).unwrap();
        list.add("44".to_owned(), old);
        list.add("44".to_owned(), new);
        list.add("45".to_owned(), old);
        list.add_becomes("45".to_owned(), "44".to_owned(), new).unwrap();
        let check = |code: &str, date: &str, expected: Became<'_>| {
            assert_eq!(list.became(code, day(date).unwrap()), expected, "{code} {date}");
        };
        check("45", "2025-06-30", Became::Itself);
        check("45", "2025-07-01", Became::Other("44"));
        check("44", "2026-01-01", Became::Itself);
        check("99", "2026-01-01", Became::Unknown);
        assert!(!list.holds("45", day("2025-07-01").unwrap()));
        assert!(list.dangling().is_empty());
    }

    #[test]
    fn a_list_that_ended_holds_nothing_and_contradictions_are_refused() {
        let mut gone = CodeList::new(Period::new(None, Some("2025-07-01")).unwrap());
        gone.any_of_digits(3);
        assert!(gone.holds("474", day("2025-06-30").unwrap()));
        assert!(!gone.holds("474", day("2025-07-01").unwrap()));
        gone.add_becomes("1".to_owned(), "2".to_owned(), Period::ALWAYS).unwrap();
        assert!(gone.add_becomes("1".to_owned(), "3".to_owned(), Period::ALWAYS).is_err());
        assert!(!gone.holds("4744", day("2025-06-30").unwrap()));
        gone.add("9".to_owned(), Period::ALWAYS);
        assert_eq!(gone.dangling(), ["2"]);
        assert!(Period::new(Some("2025-02-29"), None).is_err());
        assert!(Period::new(Some("2025-07-01"), Some("2025-07-01")).is_err());
    }
}
