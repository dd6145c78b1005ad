//! `List`: one category list with its codes and the days each is in force; the same file form the
//! agent's `lists/*.toml` have. Pure.

use std::collections::{BTreeMap, BTreeSet};

use phusa_protocol::batch::canonical_json;
use phusa_protocol::digest::Digest;
use phusa_protocol::ids::is_identifier;
use serde::{Deserialize, Serialize};

use super::{csv, xlsx};

/// The columns of a CSV file; the last two may be missing.
const COLUMNS: [&str; 4] = ["code", "name", "valid_from", "valid_to"];

/// Codes and names longer than this are a slip of the import.
const CODE_CHARACTERS_MAX: usize = 100;
const NAME_CHARACTERS_MAX: usize = 1_000;

/// A day written `2025-07-01`; its text sorts as its time does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(String);

/// One category list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Its name. Required. Example `"gender"`.
    pub list: String,
    /// Its title in Vietnamese. Required.
    pub title_vi: String,
    /// Its title in English. Default empty.
    #[serde(default)]
    pub title_en: String,
    /// The law, decision or standard it stands in. Required.
    pub source: String,
    /// The first day in force. Default: always was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Day>,
    /// The first day no longer in force. Default: always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Day>,
    /// Where the codes are not at hand: how many digits each has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of_digits: Option<usize>,
    /// An agency's crosswalk from another numbering; such a file is no category list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_becomes: bool,
    /// Its codes.
    #[serde(default, rename = "code", skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Item>,
    /// What codes of another time have become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub becomes: Vec<Becomes>,
}

/// One code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The code.
    pub code: String,
    /// What it stands for.
    pub name: String,
    /// The first day in force. Default: always was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Day>,
    /// The first day no longer in force. Default: always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Day>,
}

/// What one code becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Becomes {
    /// The code of before.
    pub from: String,
    /// The code of this list.
    pub to: String,
    /// The first day it becomes that. Default: always did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Day>,
    /// The first day it no longer does. Default: always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Day>,
}

impl TryFrom<String> for Day {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no date like 2025-07-01");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return Err(wrong()) };
        let number = |part: &str, digits: usize| {
            let is_number = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| part.parse::<u32>().ok()).flatten()
        };
        let (year, month, day) = (number(year, 4), number(month, 2), number(day, 2));
        let (Some(year), Some(month), Some(day)) = (year, month, day) else { return Err(wrong()) };
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let last = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if year == 0 || !(1..=last).contains(&day) {
            return Err(wrong());
        }
        Ok(Self(text))
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.0
    }
}

impl Day {
    /// The day as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl List {
    /// Reads and checks a list file.
    ///
    /// # Errors
    /// Line and column, or the rule that is broken, in words.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        list.check()?;
        Ok(list)
    }

    /// The same list with the codes of a CSV file, columns `code`, `name`, `valid_from`, `valid_to`
    /// by their names in the first line.
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub fn with_codes_of_csv(&self, text: &str) -> Result<Self, String> {
        self.with_codes(&csv::read(text)?)
    }

    /// The same list with the codes of a spreadsheet, as [`List::with_codes_of_csv`].
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub fn with_codes_of_xlsx(&self, bytes: &[u8]) -> Result<Self, String> {
        let mut records = xlsx::read(bytes)?;
        // Empty cells at the end of a row are not there.
        let columns = records.first().map_or(0, |(_, head)| head.len());
        records.iter_mut().for_each(|(_, record)| record.resize(columns, String::new()));
        self.with_codes(&records)
    }

    fn with_codes(&self, records: &[(usize, Vec<String>)]) -> Result<Self, String> {
        let Some(((_, head), rows)) = records.split_first() else {
            return Err("the file is empty; its first line names the columns".to_owned());
        };
        if let Some(unknown) = head.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            return Err(format!("line 1: column {unknown:?} is none of {COLUMNS:?}"));
        }
        let place = |name: &str| head.iter().position(|column| column == name);
        let (Some(code), Some(name)) = (place("code"), place("name")) else {
            return Err("line 1: the columns `code` and `name` are needed".to_owned());
        };
        let (from, to) = (place("valid_from"), place("valid_to"));
        let mut codes = Vec::new();
        for (line, record) in rows {
            if record.len() != head.len() {
                return Err(format!("line {line}: {} fields, not {}", record.len(), head.len()));
            }
            let text = |at: usize| record.get(at).cloned().unwrap_or_default();
            let day = |at: Option<usize>| match at.map(text).filter(|text| !text.is_empty()) {
                Some(text) => {
                    Day::try_from(text).map(Some).map_err(|why| format!("line {line}: {why}"))
                }
                None => Ok(None),
            };
            let (valid_from, valid_to) = (day(from)?, day(to)?);
            codes.push(Item { code: text(code), name: text(name), valid_from, valid_to });
        }
        let list = Self { codes, any_of_digits: None, ..self.clone() };
        list.check()?;
        Ok(list)
    }

    /// The codes, all of them or those in force on a day, as CSV.
    #[must_use]
    pub fn to_csv(&self, as_of: Option<&Day>) -> String {
        let records = self.records(as_of);
        let texts = |record: &Vec<String>| {
            csv::line(&record.iter().map(String::as_str).collect::<Vec<_>>())
        };
        records.iter().map(texts).collect()
    }

    /// The codes, all of them or those in force on a day, as a spreadsheet.
    ///
    /// # Errors
    /// What the sheet cannot hold.
    pub fn to_xlsx(&self, as_of: Option<&Day>) -> Result<Vec<u8>, String> {
        xlsx::write(&self.list, &self.records(as_of))
    }

    /// The names of the columns, then the codes.
    fn records(&self, as_of: Option<&Day>) -> Vec<Vec<String>> {
        let day = |day: &Option<Day>| day.as_ref().map_or("", Day::as_str).to_owned();
        let held = self.codes.iter().filter(|item| as_of.is_none_or(|day| self.holds(item, day)));
        let record = |item: &Item| {
            vec![item.code.clone(), item.name.clone(), day(&item.valid_from), day(&item.valid_to)]
        };
        std::iter::once(COLUMNS.map(str::to_owned).to_vec()).chain(held.map(record)).collect()
    }

    /// The list as a file that an agent reads too.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut put = |key: &str, text: &str| out += &format!("{key} = {}\n", quoted(text));
        put("list", &self.list);
        put("title_vi", &self.title_vi);
        put("title_en", &self.title_en);
        put("source", &self.source);
        for (key, day) in [("valid_from", &self.valid_from), ("valid_to", &self.valid_to)] {
            if let Some(day) = day {
                put(key, day.as_str());
            }
        }
        if let Some(digits) = self.any_of_digits {
            out += &format!("any_of_digits = {digits}\n");
        }
        let codes = self.codes.iter().map(|item| {
            (("code", &item.code), ("name", &item.name), &item.valid_from, &item.valid_to)
        });
        out += &array("code", codes);
        let becomes = self.becomes.iter().map(|becomes| {
            (("from", &becomes.from), ("to", &becomes.to), &becomes.valid_from, &becomes.valid_to)
        });
        out += &array("becomes", becomes);
        out
    }

    /// The SHA-256 of its canonical JSON: equal for equal lists, however their files look.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&canonical_json(self))
    }

    /// Whether it has no content yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.any_of_digits.is_none()
    }

    /// What `other` adds (`+`), leaves out (`-`) and says differently (`~`), code by code.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let head = |list: &Self| {
            let days = (list.valid_from.clone(), list.valid_to.clone());
            (
                list.title_vi.clone(),
                list.title_en.clone(),
                list.source.clone(),
                days,
                list.any_of_digits,
            )
        };
        if head(self) != head(other) {
            lines.push("~ title, source or validity of the list".to_owned());
        }
        let (was, is) = (self.keyed(), other.keyed());
        for (key, item) in &was {
            match is.get(key) {
                None => lines.push(format!("- {}", item.words())),
                Some(new) if new != item => lines.push(format!("~ {}", new.words())),
                Some(_) => {}
            }
        }
        let added = is.iter().filter(|(key, _)| !was.contains_key(*key));
        lines.extend(added.map(|(_, item)| format!("+ {}", item.words())));
        if self.becomes != other.becomes {
            lines.push("~ what codes become".to_owned());
        }
        lines
    }

    fn holds(&self, item: &Item, day: &Day) -> bool {
        let within = |from: &Option<Day>, to: &Option<Day>| {
            from.as_ref().is_none_or(|from| from <= day) && to.as_ref().is_none_or(|to| day < to)
        };
        within(&self.valid_from, &self.valid_to) && within(&item.valid_from, &item.valid_to)
    }

    /// The codes by code and first day.
    fn keyed(&self) -> BTreeMap<(&str, Option<&Day>), &Item> {
        self.codes
            .iter()
            .map(|item| ((item.code.as_str(), item.valid_from.as_ref()), item))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        if !is_identifier(&self.list) {
            return Err(format!("list {:?} is not 1 to 48 of a-z 0-9 _", self.list));
        }
        if self.only_becomes {
            return Err("`only_becomes`: an agency's crosswalk is no category list".to_owned());
        }
        if self.title_vi.trim().is_empty() || self.source.trim().is_empty() {
            return Err("`title_vi` and `source` are needed".to_owned());
        }
        if self.any_of_digits.is_some_and(|digits| !(1..=20).contains(&digits)) {
            return Err("`any_of_digits` is 1 to 20".to_owned());
        }
        ends_after(&self.valid_from, &self.valid_to, "the list")?;
        let mut periods: BTreeMap<&str, Vec<Period<'_>>> = BTreeMap::new();
        for item in &self.codes {
            item.check()?;
            let period = (item.valid_from.as_ref(), item.valid_to.as_ref());
            periods.entry(&item.code).or_default().push(period);
        }
        self.check_becomes()?;
        stands_once(&mut periods, "code")
    }

    fn check_becomes(&self) -> Result<(), String> {
        let known: BTreeSet<&str> = self.codes.iter().map(|item| item.code.as_str()).collect();
        let mut periods: BTreeMap<&str, Vec<Period<'_>>> = BTreeMap::new();
        for becomes in &self.becomes {
            let to = becomes.to.as_str();
            if !known.is_empty() && !known.contains(to) {
                return Err(format!("codes become {to:?}, which is not a code of this list"));
            }
            ends_after(&becomes.valid_from, &becomes.valid_to, &becomes.from)?;
            let period = (becomes.valid_from.as_ref(), becomes.valid_to.as_ref());
            periods.entry(&becomes.from).or_default().push(period);
        }
        stands_once(&mut periods, "`becomes` of")
    }
}

impl Item {
    fn words(&self) -> String {
        let day = |day: &Option<Day>| day.as_ref().map_or("…", Day::as_str).to_owned();
        let (from, to) = (day(&self.valid_from), day(&self.valid_to));
        format!("{} {} [{from}, {to})", self.code, self.name)
    }

    fn check(&self) -> Result<(), String> {
        let fits = |text: &str, most: usize| {
            !text.trim().is_empty()
                && text.chars().count() <= most
                && !text.chars().any(char::is_control)
        };
        let code = &self.code;
        if !fits(code, CODE_CHARACTERS_MAX) || !fits(&self.name, NAME_CHARACTERS_MAX) {
            return Err(format!(
                "code {code:?}: codes have 1 to {CODE_CHARACTERS_MAX} characters, names 1 to \
                 {NAME_CHARACTERS_MAX}, in one line"
            ));
        }
        ends_after(&self.valid_from, &self.valid_to, code)
    }
}

type Period<'d> = (Option<&'d Day>, Option<&'d Day>);

fn ends_after(from: &Option<Day>, to: &Option<Day>, of: &str) -> Result<(), String> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => {
            Err(format!("{of}: `valid_to` is a day after `valid_from`"))
        }
        _ => Ok(()),
    }
}

/// No two periods of one code hold the same day.
fn stands_once(periods: &mut BTreeMap<&str, Vec<Period<'_>>>, what: &str) -> Result<(), String> {
    for (code, periods) in periods {
        // An absent beginning sorts first, as it should.
        periods.sort();
        let overlaps = |(a, b): (&Period<'_>, &Period<'_>)| match (a.1, b.0) {
            (Some(end), Some(start)) => end > start,
            (None, _) | (_, None) => true,
        };
        if periods.iter().zip(periods.iter().skip(1)).any(overlaps) {
            return Err(format!("{what} {code:?} stands twice on one day"));
        }
    }
    Ok(())
}

/// A TOML string: JSON's escapes are TOML's too, and no control letter is let in.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

type Row<'r> = ((&'r str, &'r String), (&'r str, &'r String), &'r Option<Day>, &'r Option<Day>);

fn array<'r>(name: &str, rows: impl Iterator<Item = Row<'r>>) -> String {
    let mut lines = String::new();
    for ((key, text), (other_key, other), from, to) in rows {
        lines += &format!("  {{ {key} = {}, {other_key} = {}", quoted(text), quoted(other));
        for (key, day) in [("valid_from", from), ("valid_to", to)] {
            if let Some(day) = day {
                lines += &format!(", {key} = {}", quoted(day.as_str()));
            }
        }
        lines += " },\n";
    }
    if lines.is_empty() { lines } else { format!("\n{name} = [\n{lines}]\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVINCES: &str = r#"
list = "tinh"
title_vi = "Tỉnh"
source = "QĐ 19/2025"
code = [
  { code = "44", name = "Quảng Bình", valid_to = "2025-07-01" },
  { code = "45", name = "Quảng Trị", valid_to = "2025-07-01" },
  { code = "44", name = "Quảng Trị", valid_from = "2025-07-01" },
]
becomes = [{ from = "45", to = "44", valid_from = "2025-07-01" }]
"#;

    #[test]
    fn a_list_is_read_written_and_asked_as_of_a_day() {
        let list = List::from_toml(PROVINCES).unwrap();
        assert_eq!(List::from_toml(&list.to_toml()).unwrap(), list);
        let csv = list.to_csv(None);
        assert_eq!(list.with_codes_of_csv(&csv).unwrap(), list);
        let xlsx = list.to_xlsx(None).unwrap();
        assert_eq!(list.with_codes_of_xlsx(&xlsx).unwrap(), list);
        let day = |text: &str| Day::try_from(text.to_owned()).unwrap();
        let old = list.to_csv(Some(&day("2025-06-30")));
        assert!(old.contains("44,Quảng Bình,") && old.contains("45,"), "{old}");
        let new = list.to_csv(Some(&day("2025-07-01")));
        assert_eq!(new, "code,name,valid_from,valid_to\r\n44,Quảng Trị,2025-07-01,\r\n");
    }

    #[test]
    fn a_list_that_contradicts_itself_says_where() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(PROVINCES.contains(from), "{from}");
            let why = List::from_toml(&PROVINCES.replacen(from, to, 1)).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("list =", "danh_sach =", "unknown field `danh_sach`");
        check("\"tinh\"", "\"Tỉnh\"", "is not 1 to 48");
        check("\"2025-07-01\"", "\"2025-02-29\"", "is no date");
        check(", valid_to = \"2025-07-01\"", "", "code \"44\" stands twice");
        check("becomes = [", "becomes = [{ from = \"45\", to = \"44\" }, ", "`becomes` of \"45\"");
        check("to = \"44\"", "to = \"46\"", "become \"46\"");
        check("name = \"Quảng Bình\"", "name = \"\"", "code \"44\": codes have");
        check("source =", "only_becomes = true\nsource =", "is no category list");
        let no = |csv: &str, expected: &str| {
            let list = List::from_toml(PROVINCES).unwrap();
            let why = list.with_codes_of_csv(csv).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        no("", "is empty");
        no("code,ten\n1,x", "column \"ten\"");
        no("code\n1", "`code` and `name`");
        no("code,name\n1", "line 2: 1 fields, not 2");
        no("code,name,valid_from\n1,x,01/07/2025", "line 2: \"01/07/2025\" is no date");
    }

    #[test]
    fn differences_are_said_code_by_code() {
        let list = List::from_toml(PROVINCES).unwrap();
        assert!(list.differences(&list.clone()).is_empty());
        let csv = "code,name,valid_from,valid_to\n44,Quảng Bình,,2025-07-01\n44,Trị,2025-07-01,\n46,Huế,,";
        let found = list.differences(&list.with_codes_of_csv(csv).unwrap());
        assert_eq!(
            found,
            ["~ 44 Trị [2025-07-01, …)", "- 45 Quảng Trị […, 2025-07-01)", "+ 46 Huế […, …)"]
        );
    }
}
