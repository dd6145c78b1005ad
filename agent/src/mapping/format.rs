//! Texts as sources write them into the one text of the contract's type, exactly or not at all:
//! dates, numbers, yes and no, codes that lost their zeros.

use std::fmt::Write as _;

use phusa_protocol::value::Kind;

use super::moment;
use super::quality::Rule;

/// How a source writes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One of these, tried in order.
    Date(Vec<DateFormat>),
    /// A number with this sign before its decimals; the other may part thousands.
    Number(DecimalSign),
    /// Closed lists of texts for true and false.
    Bool {
        /// Texts for true.
        yes: Vec<String>,
        /// Texts for false.
        no: Vec<String>,
    },
}

/// The sign before the decimals of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalSign {
    /// `1.234.567,89`, as Vietnamese writes it.
    Comma,
    /// `1,234,567.89`.
    Point,
}

/// A way of writing a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateFormat {
    /// `21/11/2026`; `-` and `.` part as well; day and month may have one digit.
    DayMonthYear,
    /// `20261121`.
    Compact,
    /// `2026-11-21`; `/` parts as well.
    YearMonthDay,
    /// `202611210830`: a moment.
    CompactMinute,
    /// `21/11/2026 08:30` or `21/11/2026 08:30:15`: a moment.
    DayMonthYearTime,
    /// Days since 1899-12-30 as Excel counts them (the 1900 system); a fraction is a time.
    Excel,
    /// `11/2026`: a month.
    MonthYear,
    /// `2026`.
    Year,
}

impl DateFormat {
    /// Every way.
    pub const ALL: [Self; 8] = [
        Self::DayMonthYear,
        Self::Compact,
        Self::YearMonthDay,
        Self::CompactMinute,
        Self::DayMonthYearTime,
        Self::Excel,
        Self::MonthYear,
        Self::Year,
    ];

    /// Its name in a dataset's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DayMonthYear => "dd/MM/yyyy",
            Self::Compact => "yyyyMMdd",
            Self::YearMonthDay => "yyyy-MM-dd",
            Self::CompactMinute => "yyyyMMddHHmm",
            Self::DayMonthYearTime => "dd/MM/yyyy HH:mm",
            Self::Excel => "excel",
            Self::MonthYear => "MM/yyyy",
            Self::Year => "yyyy",
        }
    }

    /// Whether `text` is a date written so; some or all of it may be missing where that shows.
    #[must_use]
    pub fn reads(self, text: &str) -> bool {
        self.put(text, true, &mut String::new()).is_some()
    }

    /// What it can be the text of, besides `text` itself.
    #[must_use]
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Self::DayMonthYear | Self::Compact | Self::YearMonthDay | Self::Excel => {
                matches!(kind, Kind::Text | Kind::Date | Kind::Timestamp)
            }
            Self::CompactMinute | Self::DayMonthYearTime => {
                matches!(kind, Kind::Text | Kind::Timestamp)
            }
            Self::MonthYear | Self::Year => kind == Kind::Text,
        }
    }
}

impl Format {
    /// Why a field of this type cannot come out of it; `None` when it can.
    #[must_use]
    pub fn misfit(&self, kind: Kind) -> Option<String> {
        let whole = matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
        let fits = match self {
            Self::Date(formats) => formats.iter().all(|format| format.fits(kind)),
            Self::Number(_) => whole || matches!(kind, Kind::Numeric | Kind::Text),
            Self::Bool { .. } => matches!(kind, Kind::Bool | Kind::Text),
        };
        let what = match self {
            Self::Date(_) => {
                "a partial date is for contract type text, a whole one for text, date \
                              and timestamp, one with a time for text and timestamp"
            }
            Self::Number(_) => "`number` is for contract types int2, int4, int8, numeric and text",
            Self::Bool { .. } => "`bool` is for contract types bool and text",
        };
        (!fits).then(|| what.to_owned())
    }

    /// Puts the contract's text of `words` in their place. `partial` says whether a date may lack
    /// its day, or day and month (`00`).
    ///
    /// # Errors
    /// [`Rule::Unconvertible`].
    pub(super) fn apply(
        &self,
        words: &mut String,
        spare: &mut String,
        partial: bool,
    ) -> Result<(), Rule> {
        spare.clear();
        let found = match self {
            Self::Date(formats) => {
                formats.iter().any(|format| format.put(words, partial, spare).is_some())
            }
            Self::Number(sign) => sign.put(words, spare).is_some(),
            Self::Bool { yes, no } => {
                let is_one = |list: &[String]| list.iter().any(|text| text == words);
                let (is_yes, is_no) = (is_one(yes), is_one(no));
                spare.push_str(if is_yes { "true" } else { "false" });
                is_yes || is_no
            }
        };
        if !found {
            return Err(Rule::Unconvertible);
        }
        std::mem::swap(words, spare);
        Ok(())
    }
}

impl DateFormat {
    /// Appends the date in ISO 8601; nothing when `text` is not written so.
    fn put(self, text: &str, partial: bool, out: &mut String) -> Option<()> {
        match self {
            Self::DayMonthYear => put_date(parts(text, ['/', '-', '.'])?.reversed(), partial, out),
            Self::YearMonthDay => {
                let date = parts(text, ['-', '/', '-'])?;
                (date.0.len() == 4).then_some(())?;
                put_date(date, partial, out)
            }
            Self::Compact => put_date(compact(text)?, partial, out),
            Self::CompactMinute => {
                let (date, time) = text.split_at_checked(8).filter(|(_, time)| time.len() == 4)?;
                let time = time.split_at_checked(2)?;
                put_moment(compact(date)?, [time.0, time.1, "00"], out)
            }
            Self::DayMonthYearTime => {
                let (date, time) = text.split_once(' ')?;
                let mut clock = time.splitn(3, ':');
                let (hour, minute) = (clock.next()?, clock.next()?);
                let second = clock.next().unwrap_or("00");
                let date = parts(date, ['/', '-', '.'])?.reversed();
                put_moment(date, [hour, minute, second], out)
            }
            Self::Excel => put_excel(text, out),
            Self::MonthYear => {
                let (month, year) = text.split_once(['/', '-'])?;
                put_date(Date(year, month, "00"), true, out)
            }
            Self::Year => put_date(Date(text, "00", "00"), true, out),
        }
    }
}

/// Year, month and day as written.
struct Date<'t>(&'t str, &'t str, &'t str);

impl Date<'_> {
    fn reversed(self) -> Self {
        Self(self.2, self.1, self.0)
    }
}

fn parts(text: &str, signs: [char; 3]) -> Option<Date<'_>> {
    let sign = signs.into_iter().find(|sign| text.contains(*sign))?;
    let mut parts = text.split(sign);
    let date = Date(parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(date)
}

fn compact(text: &str) -> Option<Date<'_>> {
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    (day.len() == 2).then_some(Date(year, month, day))
}

/// 1 or 2 digits; years have four.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let sound = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().ok()).flatten()
}

fn put_date(date: Date<'_>, partial: bool, out: &mut String) -> Option<()> {
    let (year, month) = (number(date.0, 4..=4)?, number(date.1, 1..=2)?);
    let day = number(date.2, 1..=2)?;
    let exists = moment::days(year, month, day).is_some();
    // Writing into a String cannot fail.
    let _ = match (year, month, day) {
        (1.., 1..=12, 1..) if exists => write!(out, "{year:04}-{month:02}-{day:02}"),
        (1.., 1..=12, 0) if partial => write!(out, "{year:04}-{month:02}"),
        (1.., 0, 0) if partial => write!(out, "{year:04}"),
        _ => return None,
    };
    Some(())
}

fn put_moment(date: Date<'_>, time: [&str; 3], out: &mut String) -> Option<()> {
    let start = out.len();
    put_date(date, false, out)?;
    let [hour, minute, second] = time;
    let clock = format!("{hour:0>2}:{minute}:{second}");
    let Some(_) = moment::parse_time(&clock) else {
        out.truncate(start);
        return None;
    };
    out.push(' ');
    out.push_str(&clock);
    Some(())
}

/// Day 60 of the 1900 system is 1900-02-29, which never was: it is refused, and the days before
/// it count from 1899-12-31.
fn put_excel(text: &str, out: &mut String) -> Option<()> {
    const SECONDS_PER_DAY: f64 = 86_400.0;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let serial = number(whole, 1..=7).filter(|serial| (1..=2_958_465).contains(serial))?;
    let since_1899 = match serial {
        60 => return None,
        ..60 => serial + 1,
        _ => serial,
    };
    // 1899-12-30 to 2000-01-01.
    let (year, month, day) = moment::civil(since_1899 - 36_526);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    if fraction.bytes().all(|byte| byte == b'0') {
        return Some(());
    }
    let share: f64 = format!("0.{fraction}").parse().ok()?;
    // The sheet keeps 15 digits, so the second is exact once rounded; one that rounds up to
    // midnight belongs to no day that can be told.
    let seconds = (share * SECONDS_PER_DAY).round();
    if !(0.0..SECONDS_PER_DAY).contains(&seconds) {
        out.truncate(out.len() - "0000-00-00".len());
        return None;
    }
    let clock = |per: f64, wrap: f64| (seconds / per).floor() % wrap;
    let _ =
        write!(out, " {:02}:{:02}:{:02}", clock(3_600.0, 24.0), clock(60.0, 60.0), seconds % 60.0);
    Some(())
}

impl DecimalSign {
    /// Its name in a dataset's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Comma => "comma",
            Self::Point => "point",
        }
    }

    /// Whether `text` is a number written so.
    #[must_use]
    pub fn reads(self, text: &str) -> bool {
        self.put(text, &mut String::new()).is_some()
    }

    /// Appends the plain decimal, `-1234567.89`.
    fn put(self, text: &str, out: &mut String) -> Option<()> {
        let (decimal, thousands) = match self {
            Self::Comma => (',', '.'),
            Self::Point => ('.', ','),
        };
        let unsigned = text.strip_prefix('-');
        let (whole, fraction) = match unsigned.unwrap_or(text).split_once(decimal) {
            Some((_, "")) => return None,
            Some(pair) => pair,
            None => (unsigned.unwrap_or(text), ""),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(fraction) || !is_grouped(whole, thousands) {
            return None;
        }
        out.push_str(if unsigned.is_some() { "-" } else { "" });
        out.extend(whole.chars().filter(|sign| *sign != thousands));
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
        Some(())
    }
}

/// Digits alone, or groups of three after a first of one to three.
fn is_grouped(whole: &str, thousands: char) -> bool {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split(thousands);
    let first = groups.next().unwrap_or_default();
    let alone = !whole.contains(thousands);
    is_digits(first)
        && (alone || first.len() <= 3)
        && groups.all(|group| group.len() == 3 && is_digits(group))
}

/// Puts zeros before digits that are fewer than `width`.
///
/// # Errors
/// [`Rule::PadUnfit`] for more digits, or anything but digits.
pub(super) fn pad_left(width: usize, words: &mut String) -> Result<(), Rule> {
    let digits = words.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || words.is_empty() || words.len() > width {
        return Err(Rule::PadUnfit);
    }
    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let missing = width - words.len();
    words.insert_str(0, ZEROS.get(..missing).ok_or(Rule::PadUnfit)?);
    Ok(())
}

/// The widest `pad_left`.
pub const PAD_WIDTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &Format, text: &str, expected: Option<&str>) {
        let (mut words, mut spare) = (text.to_owned(), String::new());
        let found = format.apply(&mut words, &mut spare, true);
        assert_eq!(found.ok().map(|()| words.as_str()), expected, "{format:?} {text}");
    }

    #[test]
    fn dates_come_out_in_iso_or_not_at_all() {
        let date = |format| Format::Date(vec![format]);
        check(&date(DateFormat::DayMonthYear), "21/11/2026", Some("2026-11-21"));
        check(&date(DateFormat::DayMonthYear), "1-2-1990", Some("1990-02-01"));
        check(&date(DateFormat::DayMonthYear), "29/02/2025", None);
        check(&date(DateFormat::DayMonthYear), "00/00/1990", Some("1990"));
        check(&date(DateFormat::DayMonthYear), "00/05/1990", Some("1990-05"));
        check(&date(DateFormat::DayMonthYear), "05/00/1990", None);
        check(&date(DateFormat::DayMonthYear), "21/11/26", None);
        check(&date(DateFormat::Compact), "20261121", Some("2026-11-21"));
        check(&date(DateFormat::Compact), "2026112", None);
        check(&date(DateFormat::YearMonthDay), "2026/11/21", Some("2026-11-21"));
        check(&date(DateFormat::YearMonthDay), "21-11-2026", None);
        check(&date(DateFormat::CompactMinute), "202611210830", Some("2026-11-21 08:30:00"));
        check(&date(DateFormat::CompactMinute), "202611212430", None);
        check(&date(DateFormat::DayMonthYearTime), "21/11/2026 8:30", Some("2026-11-21 08:30:00"));
        check(&date(DateFormat::DayMonthYearTime), "21/11/2026 08:30:61", None);
        check(&date(DateFormat::MonthYear), "11/2026", Some("2026-11"));
        check(&date(DateFormat::MonthYear), "13/2026", None);
        check(&date(DateFormat::Year), "1975", Some("1975"));
        let two = Format::Date(vec![DateFormat::DayMonthYear, DateFormat::Year]);
        check(&two, "1975", Some("1975"));
        let (mut words, mut spare) = ("00/05/1990".to_owned(), String::new());
        let whole = date(DateFormat::DayMonthYear).apply(&mut words, &mut spare, false);
        assert_eq!(whole, Err(Rule::Unconvertible), "a date of type date is whole");
    }

    #[test]
    fn excel_counts_a_day_that_never_was() {
        let excel = Format::Date(vec![DateFormat::Excel]);
        check(&excel, "1", Some("1900-01-01"));
        check(&excel, "59", Some("1900-02-28"));
        check(&excel, "60", None);
        check(&excel, "61", Some("1900-03-01"));
        check(&excel, "36526", Some("2000-01-01"));
        check(&excel, "45658", Some("2025-01-01"));
        check(&excel, "45658.0", Some("2025-01-01"));
        check(&excel, "45658.5", Some("2025-01-01 12:00:00"));
        check(&excel, "45658.999999999", None);
        check(&excel, "2958465", Some("9999-12-31"));
        for bad in ["0", "2958466", "-1", "x", "1e5", "45658.x"] {
            check(&excel, bad, None);
        }
    }

    #[test]
    fn numbers_and_truths_come_from_closed_forms() {
        let comma = Format::Number(DecimalSign::Comma);
        check(&comma, "1.234.567,89", Some("1234567.89"));
        check(&comma, "-12,5", Some("-12.5"));
        check(&comma, "1234", Some("1234"));
        check(&comma, "1.23", None);
        check(&comma, "1234.567", None);
        check(&comma, "12,", None);
        check(&comma, ",5", None);
        let point = Format::Number(DecimalSign::Point);
        check(&point, "1,234.50", Some("1234.50"));
        check(&point, "1e5", None);
        check(&point, "", None);
        let yes_no = Format::Bool { yes: vec!["Có".to_owned()], no: vec!["0".to_owned()] };
        check(&yes_no, "Có", Some("true"));
        check(&yes_no, "0", Some("false"));
        check(&yes_no, "có", None);
    }

    #[test]
    fn zeros_are_put_back_only_before_digits() {
        let check = |text: &str, expected: Result<&str, Rule>| {
            let mut words = text.to_owned();
            let found = pad_left(12, &mut words);
            assert_eq!(found.map(|()| words.as_str()), expected, "{text}");
        };
        check("46199000001", Ok("046199000001"));
        check("046199000001", Ok("046199000001"));
        check("0461990000012", Err(Rule::PadUnfit));
        check("7.9E+10", Err(Rule::PadUnfit));
        check("", Err(Rule::PadUnfit));
    }
}
