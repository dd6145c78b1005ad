//! What a sample of a column's values shows: how many, how long, in which shapes, how dates and
//! numbers are written, in which encoding. Counts and shapes come out, never a value.

use std::collections::BTreeMap;

use phusa_protocol::value::{Field, Kind};

use super::decode::detect::{Detection, detect};
use super::format::{DateFormat, DecimalSign};
use super::looks::{Look, Looks};
use super::preview::render_source;
use crate::source::Native;

/// Shapes that are kept apart; rarer ones are counted together.
const SHAPES_MAX: usize = 64;
/// Letters of a shape before the rest is left out.
const SHAPE_LETTERS_MAX: usize = 16;
/// Texts kept to tell their encoding, and how much of each.
const TEXTS_MAX: usize = 400;
const TEXT_BYTES_MAX: usize = 400;
/// Of a hundred values, so many must be read before a way of writing is proposed.
const READ_MIN: u64 = 98;

/// Pairs of texts that mean yes and no, as programs write them.
pub const YES_AND_NO: [(&str, &str); 7] =
    [("1", "0"), ("true", "false"), ("t", "f"), ("Y", "N"), ("y", "n"), ("Có", "Không"), ("x", "")];

/// What a sample of one column shows.
#[derive(Clone, Default)]
pub struct Evidence {
    values: u64,
    nulls: u64,
    longest: usize,
    looks: Looks,
    shapes: BTreeMap<String, u64>,
    other_shapes: u64,
    dates: [u64; DateFormat::ALL.len()],
    numbers: [u64; 2],
    signed: u64,
    yes_and_no: [u64; YES_AND_NO.len()],
    texts: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Evidence {
    /// Counts alone: texts and shapes are the agency's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evidence({} values, {} nulls)", self.values, self.nulls)
    }
}

impl Evidence {
    /// Looks at one more value.
    pub fn add(&mut self, native: &Native, field: Field<'_>) {
        let Field::Value(bytes) = field else {
            self.nulls += 1;
            return;
        };
        self.values += 1;
        if *native == Native::Text && self.texts.len() < TEXTS_MAX && !bytes.is_ascii() {
            self.texts.push(bytes.iter().copied().take(TEXT_BYTES_MAX).collect());
        }
        let text = render_source(native, field);
        self.longest = self.longest.max(text.chars().count());
        self.looks.add(&text);
        self.add_shape(&text);
        if *native == Native::Text {
            self.add_ways(text.trim());
        }
    }

    fn add_shape(&mut self, text: &str) {
        let shape = shape(text);
        let is_known = self.shapes.contains_key(&shape);
        if is_known || self.shapes.len() < SHAPES_MAX {
            *self.shapes.entry(shape).or_default() += 1;
        } else {
            self.other_shapes += 1;
        }
    }

    fn add_ways(&mut self, text: &str) {
        // Days by Excel's count have five digits from 1927 to 2173; other numbers are no dates.
        let whole = text.split('.').next().unwrap_or_default();
        for (format, count) in DateFormat::ALL.into_iter().zip(&mut self.dates) {
            let likely = format != DateFormat::Excel || whole.len() == 5;
            *count += u64::from(likely && format.reads(text));
        }
        let signs = [DecimalSign::Comma, DecimalSign::Point];
        for (sign, count) in signs.into_iter().zip(&mut self.numbers) {
            *count += u64::from(sign.reads(text));
        }
        self.signed += u64::from(text.contains([',', '.']));
        for ((yes, no), count) in YES_AND_NO.iter().zip(&mut self.yes_and_no) {
            *count += u64::from(text == *yes || text == *no);
        }
    }

    /// Values that are not null.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.values
    }

    /// Nulls.
    #[must_use]
    pub fn nulls(&self) -> u64 {
        self.nulls
    }

    /// Characters of the longest value.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Of a hundred values, how many look like this.
    #[must_use]
    pub fn percent(&self, look: Look) -> u64 {
        self.looks.count(look) * 100 / self.values.max(1)
    }

    /// What nearly all values look like, where that is an id, a number, an address or a name.
    #[must_use]
    pub fn looks_like(&self) -> Option<Look> {
        let told = [Look::CitizenId, Look::Phone, Look::Email, Look::PersonName];
        told.into_iter().find(|look| self.values > 0 && self.percent(*look) >= 80)
    }

    /// The most frequent shapes with how many of a hundred values have them: `9` stands for a digit,
    /// `a` and `A` for letters.
    #[must_use]
    pub fn shapes(&self, most: usize) -> Vec<(String, u64)> {
        let mut all: Vec<(&String, &u64)> = self.shapes.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let percent =
            |(shape, count): (&String, &u64)| (shape.clone(), *count * 100 / self.values.max(1));
        all.into_iter().take(most).map(percent).collect()
    }

    /// The ways in which dates are written, fewest first, that read nearly every value into this
    /// type; `None` where there is no such set.
    #[must_use]
    pub fn dates(&self, kind: Kind) -> Option<Vec<DateFormat>> {
        let fitting = DateFormat::ALL.into_iter().zip(self.dates);
        let mut fitting: Vec<(DateFormat, u64)> =
            fitting.filter(|(format, count)| format.fits(kind) && *count > 0).collect();
        fitting.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        // Excel's count is not guessed beside other ways.
        if fitting.len() > 1 {
            fitting.retain(|(format, _)| *format != DateFormat::Excel);
        }
        let read: u64 = fitting.iter().map(|(_, count)| count).sum();
        let enough = self.values > 0 && read.min(self.values) * 100 >= self.values * READ_MIN;
        enough.then(|| fitting.into_iter().map(|(format, _)| format).collect())
    }

    /// The sign before decimals, where the sample tells it.
    #[must_use]
    pub fn number(&self) -> Option<DecimalSign> {
        let [comma, point] = self.numbers;
        let enough = |count: u64| self.values > 0 && count * 100 >= self.values * READ_MIN;
        match (enough(comma), enough(point)) {
            (true, false) => Some(DecimalSign::Comma),
            (false, true) => Some(DecimalSign::Point),
            // Without any sign both read the same.
            (true, true) if self.signed == 0 => Some(DecimalSign::Comma),
            (true, true) | (false, false) => None,
        }
    }

    /// The texts for yes and no, where the sample has no others.
    #[must_use]
    pub fn yes_and_no(&self) -> Option<(&'static str, &'static str)> {
        let mut pairs = YES_AND_NO.iter().zip(self.yes_and_no);
        pairs.find(|(_, count)| self.values > 0 && *count == self.values).map(|(pair, _)| *pair)
    }

    /// In which encoding the texts seem to be.
    #[must_use]
    pub fn encoding(&self) -> Detection {
        detect(self.texts.iter().map(Vec::as_slice))
    }
}

/// `Nguyễn Văn An` is `Aaaaaa Aaa Aa`, `21/11/2026` is `99/99/9999`.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == SHAPE_LETTERS_MAX {
            shape.push('…');
            break;
        }
        shape.push(match letter {
            letter if letter.is_numeric() => '9',
            letter if letter.is_uppercase() => 'A',
            letter if letter.is_alphabetic() => 'a',
            letter if letter.is_whitespace() => ' ',
            letter if letter.is_ascii_punctuation() => letter,
            _ => '·',
        });
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Evidence {
        let mut evidence = Evidence::default();
        texts.iter().for_each(|text| evidence.add(&Native::Text, Field::Value(text.as_bytes())));
        evidence
    }

    #[test]
    fn a_sample_tells_how_dates_numbers_and_booleans_are_written() {
        let check = |texts: &[&str], kind: Kind, expected: Option<&[DateFormat]>| {
            assert_eq!(of(texts).dates(kind).as_deref(), expected, "{texts:?}");
        };
        check(&["21/11/2026", "1/2/1990"], Kind::Date, Some(&[DateFormat::DayMonthYear]));
        check(&["19900228"], Kind::Date, Some(&[DateFormat::Compact]));
        check(&["1990", "21/11/2026"], Kind::Date, None);
        check(
            &["1990", "21/11/2026", "03/1980"],
            Kind::Text,
            Some(&[DateFormat::DayMonthYear, DateFormat::MonthYear, DateFormat::Year]),
        );
        check(&["không rõ"], Kind::Date, None);
        check(&[], Kind::Date, None);
        let number =
            |texts: &[&str], expected| assert_eq!(of(texts).number(), expected, "{texts:?}");
        number(&["1.234,5", "7"], Some(DecimalSign::Comma));
        number(&["1,234.5", "7"], Some(DecimalSign::Point));
        number(&["12", "7"], Some(DecimalSign::Comma));
        number(&["1.234"], None);
        number(&["x"], None);
        assert_eq!(of(&["1", "0", "1"]).yes_and_no(), Some(("1", "0")));
        assert_eq!(of(&["Có", "Không"]).yes_and_no(), Some(("Có", "Không")));
        assert_eq!(of(&["1", "2"]).yes_and_no(), None);
    }

    #[test]
    fn shapes_tell_how_values_look_and_no_value_is_shown() {
        let evidence = of(&["Nguyễn Văn An", "046199000001", "046199000002"]);
        let shapes = evidence.shapes(2);
        assert_eq!(shapes, [("999999999999".to_owned(), 66), ("Aaaaaa Aaa Aa".to_owned(), 33)]);
        assert_eq!(evidence.longest(), 13);
        assert!(!format!("{evidence:?}").contains("046"));
        assert_eq!(of(&["0905123456", "0912345678"]).looks_like(), Some(Look::Phone));
        assert_eq!(shape(&"a".repeat(40)), format!("{}…", "a".repeat(SHAPE_LETTERS_MAX)));
    }
}
