//! `Profile`: what a province's regulation fixes (deadlines, report dates, purposes, roles, terms),
//! as written in `profile/*.toml` and as checked.
//!
//! Five ship inside the program, so that a hub without a file of its own still has one. Nothing here
//! is a constant of the code, because these values change with the law; each names its clause.

use std::collections::BTreeSet;

use phusa_protocol::ids::is_identifier;
use serde::Deserialize;

/// The profiles that ship with the program, by name.
const SHIPPED: [(&str, &str); 5] = [
    ("hue-2026", include_str!("../../../configs/profile/hue-2026.toml")),
    ("cantho-2023", include_str!("../../../configs/profile/cantho-2023.toml")),
    ("caobang-2024", include_str!("../../../configs/profile/caobang-2024.toml")),
    ("camau-2021", include_str!("../../../configs/profile/camau-2021.toml")),
    ("nghean-draft", include_str!("../../../configs/profile/nghean-draft.toml")),
];

/// The most a deadline may be, in its unit; anything longer is a slip of the pen.
const AMOUNT_MAX: u32 = 10_000;

/// `profile/*.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Its name. Required. Example `"hue-2026"`.
    pub profile: String,
    /// The letters its own clauses begin with. Required. Example `"HU"`.
    pub regulation: String,
    /// Its title in Vietnamese. Required.
    pub title_vi: String,
    /// Its title in English. Required.
    pub title_en: String,
    /// The decision it stands in. Required.
    pub decision: String,
    /// Whether the decision was issued; a draft was not. Required.
    pub issued: bool,
    /// The deadlines: `maintenance_notice`, `publish`, `request`, `review`, `backup`, each once.
    pub deadline: Vec<DeadlineFile>,
    /// Reports that are due. Default none.
    #[serde(default)]
    pub report: Vec<ReportFile>,
    /// The purposes data may be used for (HU-02). At least one.
    pub purpose: Vec<NamedFile>,
    /// The roles it gives people and agencies (HU-24, CB-07). At least one.
    pub role: Vec<NamedFile>,
    /// The themes it asks for: schemas of the warehouse (CT-18, CB-06). At least one.
    pub theme: Vec<NamedFile>,
    /// Its own words and addresses for things. Default none.
    #[serde(default)]
    pub term: Vec<TermFile>,
    /// Whether lifting a suspension takes two people (CT-40). Default `false`.
    #[serde(default)]
    pub resume_by_two: bool,
}

/// One deadline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadlineFile {
    /// Which. Required.
    pub name: String,
    /// How many of the unit, from 1. Required.
    pub amount: u32,
    /// `hours`, `working_days` or `months`. Required.
    pub unit: Unit,
    /// Where it stands. Required. Example `"CB 10.2"`.
    pub clause: String,
}

/// What a deadline is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Hours of the clock.
    Hours,
    /// Working days of the state.
    WorkingDays,
    /// Months of the calendar.
    Months,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    /// Its name. Required.
    pub name: String,
    /// Its title. Required.
    pub title_vi: String,
    /// The day of each year before which it is due, month and day. Default: no fixed
    /// day. Example `"12-15"`.
    #[serde(default)]
    pub before: Option<String>,
    /// Where it stands. Required.
    pub clause: String,
}

/// A purpose, role or theme.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// Its code. Required. Example `"tthc"`.
    pub name: String,
    /// What it is, in Vietnamese. Required.
    pub title_vi: String,
    /// What it is, in English. Required.
    pub title_en: String,
    /// Where it stands. Required.
    pub clause: String,
}

/// A regulation's own word or address for something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermFile {
    /// For what. Required. Example `"open_data_portal"`.
    pub name: String,
    /// The word or address. Required.
    pub text: String,
    /// Where it stands. Required.
    pub clause: String,
}

/// The deadlines of a profile; every profile has them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// Hours between a notice of maintenance and its beginning.
    pub maintenance_notice: DeadlineFile,
    /// Working days until a service that is ready is published.
    pub publish: DeadlineFile,
    /// Working days until a request for data is answered.
    pub request: DeadlineFile,
    /// Months between two reviews of the catalogue.
    pub review: DeadlineFile,
    /// Hours within which the next backup is made.
    pub backup: DeadlineFile,
}

/// A profile as used: complete, and free of contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its title in Vietnamese.
    pub title_vi: String,
    /// Its title in English.
    pub title_en: String,
    /// The letters its own clauses begin with.
    pub regulation: String,
    /// The decision it stands in.
    pub decision: String,
    /// Whether that was issued; a draft was not.
    pub issued: bool,
    /// Its deadlines.
    pub deadlines: Deadlines,
    /// The reports that are due.
    pub reports: Vec<ReportFile>,
    /// The purposes data may be used for.
    pub purposes: Vec<NamedFile>,
    /// The roles it gives.
    pub roles: Vec<NamedFile>,
    /// The themes it asks for.
    pub themes: Vec<NamedFile>,
    /// Its own words.
    pub terms: Vec<TermFile>,
    /// Whether lifting a suspension takes two people.
    pub resume_by_two: bool,
}

impl Profile {
    /// The one a hub works by that names none.
    pub const DEFAULT: &str = "hue-2026";

    /// The names of the profiles that ship with the program.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A profile that ships with the program.
    ///
    /// # Errors
    /// The names there are, when this is none of them.
    pub fn shipped(name: &str) -> Result<Self, String> {
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Self::from_toml(text),
            None => {
                let names: Vec<_> = Self::shipped_names().collect();
                Err(format!("no profile {name:?} ships with the hub; there are {names:?}"))
            }
        }
    }

    /// Reads and checks a profile file.
    ///
    /// # Errors
    /// Line and column, or the rule that is broken, in words.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: ProfileFile = toml::from_str(text).map_err(|error| error.to_string())?;
        names("purpose", file.purpose.iter().map(|p| (&p.name, &p.clause)), 1)?;
        names("role", file.role.iter().map(|r| (&r.name, &r.clause)), 1)?;
        names("theme", file.theme.iter().map(|t| (&t.name, &t.clause)), 1)?;
        names("report", file.report.iter().map(|r| (&r.name, &r.clause)), 0)?;
        names("term", file.term.iter().map(|t| (&t.name, &t.clause)), 0)?;
        for report in &file.report {
            if report.before.as_deref().is_some_and(|day| !is_day_of_every_year(day)) {
                let name = &report.name;
                return Err(format!(
                    "report `{name}`: `before` is month and day, such as \"12-15\""
                ));
            }
        }
        Ok(Self {
            deadlines: deadlines(&file.deadline)?,
            name: file.profile,
            title_vi: file.title_vi,
            title_en: file.title_en,
            regulation: file.regulation,
            decision: file.decision,
            issued: file.issued,
            reports: file.report,
            purposes: file.purpose,
            roles: file.role,
            themes: file.theme,
            terms: file.term,
            resume_by_two: file.resume_by_two,
        })
    }

    /// The codes among `purposes` that this profile does not have.
    #[must_use]
    pub fn unknown_purposes<'p>(&self, purposes: &'p [String]) -> Vec<&'p str> {
        let is_known = |code: &str| self.purposes.iter().any(|known| known.name == code);
        purposes.iter().map(String::as_str).filter(|code| !is_known(code)).collect()
    }

    /// What it means, for people: Vietnamese with English beside it.
    #[must_use]
    pub fn explained(&self) -> String {
        let state = if self.issued { "đã ban hành (issued)" } else { "dự thảo (a draft)" };
        let mut lines = vec![format!(
            "Hồ sơ pháp lý (legal profile) {}: {}, {state}",
            self.name, self.decision
        )];
        let d = &self.deadlines;
        for (what, deadline) in [
            ("báo bảo trì trước (notice of maintenance)", &d.maintenance_notice),
            ("công bố dịch vụ trong (publishing a service)", &d.publish),
            ("trả lời yêu cầu trong (answering a request)", &d.request),
            ("rà soát mỗi (review every)", &d.review),
            ("sao lưu mỗi (backup every)", &d.backup),
        ] {
            let (amount, unit) = (deadline.amount, deadline.unit.words());
            lines.push(format!("  {what}: {amount} {unit}{}", self.source(&deadline.clause)));
        }
        for report in &self.reports {
            let due = report.before.as_deref().map_or_else(
                || "không ấn định ngày (no fixed day)".to_owned(),
                |day| format!("trước (before) {}", day_first(day)),
            );
            let (title, source) = (&report.title_vi, self.source(&report.clause));
            lines.push(format!("  báo cáo (report) {title}: {due}{source}"));
        }
        for (what, named) in [
            ("mục đích (purposes)", &self.purposes),
            ("vai trò (roles)", &self.roles),
            ("chủ đề (themes)", &self.themes),
        ] {
            let names: Vec<_> = named.iter().map(|named| named.name.as_str()).collect();
            lines.push(format!("  {what}: {}", names.join(", ")));
        }
        lines.join("\n")
    }

    fn source(&self, clause: &str) -> String {
        let own = clause.split(' ').next() == Some(self.regulation.as_str());
        let borrowed = if own { "" } else { ", mượn (borrowed)" };
        format!(" — {clause}{borrowed}")
    }
}

impl Unit {
    fn words(self) -> &'static str {
        match self {
            Self::Hours => "giờ (hours)",
            Self::WorkingDays => "ngày làm việc (working days)",
            Self::Months => "tháng (months)",
        }
    }
}

/// Every name is an identifier, stands once and names its clause.
fn names<'n>(
    what: &str,
    all: impl Iterator<Item = (&'n String, &'n String)>,
    least: usize,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (name, clause) in all {
        if !is_identifier(name) || !seen.insert(name) {
            return Err(format!("{what} `{name}` is no name such as `tthc`, or stands twice"));
        }
        if clause.trim().is_empty() {
            return Err(format!("{what} `{name}` names no `clause`"));
        }
    }
    if seen.len() < least {
        return Err(format!("`{what}` needs at least one entry"));
    }
    Ok(())
}

fn deadlines(all: &[DeadlineFile]) -> Result<Deadlines, String> {
    const NAMES: [&str; 5] = ["maintenance_notice", "publish", "request", "review", "backup"];
    names("deadline", all.iter().map(|d| (&d.name, &d.clause)), 1)?;
    if let Some(other) = all.iter().find(|deadline| !NAMES.contains(&deadline.name.as_str())) {
        return Err(format!("deadline `{}` is none of {NAMES:?}", other.name));
    }
    let find = |name: &str, unit: Unit| {
        let found = all.iter().find(|deadline| deadline.name == name);
        let found = found.ok_or_else(|| format!("deadline `{name}` is missing"))?;
        if found.unit != unit || !(1..=AMOUNT_MAX).contains(&found.amount) {
            let unit = unit.words();
            return Err(format!("deadline `{name}` is 1 to {AMOUNT_MAX} {unit}"));
        }
        Ok(found.clone())
    };
    Ok(Deadlines {
        maintenance_notice: find("maintenance_notice", Unit::Hours)?,
        publish: find("publish", Unit::WorkingDays)?,
        request: find("request", Unit::WorkingDays)?,
        review: find("review", Unit::Months)?,
        backup: find("backup", Unit::Hours)?,
    })
}

/// Whether `text` is month and day of a day that every year has.
fn is_day_of_every_year(text: &str) -> bool {
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let Some((month, day)) = text.split_once('-').filter(|(m, d)| digits(m) && digits(d)) else {
        return false;
    };
    let last = match month.parse() {
        Ok(2_u8) => 28,
        Ok(4 | 6 | 9 | 11) => 30,
        Ok(1 | 3 | 5 | 7 | 8 | 10 | 12) => 31,
        Ok(_) | Err(_) => 0,
    };
    day.parse::<u8>().is_ok_and(|day| (1..=last).contains(&day))
}

fn day_first(month_and_day: &str) -> String {
    month_and_day.split_once('-').map_or_else(String::new, |(month, day)| format!("{day}/{month}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_shipped_profiles_are_complete_and_named_as_they_are_asked_for() {
        for name in Profile::shipped_names() {
            let profile = Profile::shipped(name).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(profile.name, name);
        }
        assert!(Profile::shipped("hanoi-2030").unwrap_err().contains("hue-2026"));
    }

    #[test]
    fn a_profile_says_what_it_means_and_from_where() {
        let said = Profile::shipped("hue-2026").unwrap().explained();
        for part in [
            "hue-2026: Quyết định 1046/QĐ-UBND",
            "báo bảo trì trước (notice of maintenance): 24 giờ (hours) — CB 10.2, mượn (borrowed)",
            "Báo cáo tổng hợp năm gửi UBND: trước (before) 15/12 — HU 22.1",
            "mục đích (purposes): kt_xh, cong_dong,",
        ] {
            assert!(said.contains(part), "{part} not in {said}");
        }
        assert!(Profile::shipped("nghean-draft").unwrap().explained().contains("dự thảo"));
        let sectors = Profile::shipped("caobang-2024").unwrap().themes;
        assert_eq!(sectors.iter().filter(|theme| theme.clause == "CB 5.2").count(), 8);
    }

    #[test]
    fn a_profile_that_lacks_or_contradicts_says_what() {
        let hue = SHIPPED[0].1;
        let check = |from: &str, to: &str, expected: &str| {
            assert!(hue.contains(from), "{from}");
            let why = Profile::from_toml(&hue.replacen(from, to, 1)).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("profile =", "profil =", "unknown field `profil`");
        check("name = \"review\"", "name = \"revue\"", "deadline `revue` is none of");
        check("amount = 24", "amount = 0", "deadline `maintenance_notice` is 1 to 10000 giờ");
        check("unit = \"months\"", "unit = \"hours\"", "`review`");
        check("unit = \"months\"", "unit = \"years\"", "unknown variant `years`");
        check("\"12-15\"", "\"02-29\"", "report `tong_hop_nam`: `before`");
        check("\"12-15\"", "\"13-01\"", "report `tong_hop_nam`: `before`");
        check("name = \"kt_xh\"", "name = \"tthc\"", "purpose `tthc`");
        check("clause = \"HU 4.1a\"", "clause = \" \"", "names no `clause`");
    }

    #[test]
    fn purposes_are_those_of_the_profile() {
        let hue = Profile::shipped("hue-2026").unwrap();
        let purposes = ["tthc", "quang_cao"].map(str::to_owned);
        assert_eq!(hue.unknown_purposes(&purposes), ["quang_cao"]);
    }
}
