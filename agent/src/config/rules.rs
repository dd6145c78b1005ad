//! The rules of a field exactly as written: what is done to its values, and in which code lists
//! codes are looked up. What each does is in `docs/MAPPING.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;

/// What is done with a value that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// The row stays at the agency.
    #[default]
    RejectRow,
    /// The row travels with null in the field.
    NullField,
    /// The row travels as it is.
    Warn,
}

impl OnBad {
    /// Its name in files and counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RejectRow => "reject_row",
            Self::NullField => "null_field",
            Self::Warn => "warn",
        }
    }
}

/// How a field is made of columns, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeFile {
    /// `{ concat = { columns = ["ho", "ten"], with = " " } }`: texts side by side, nulls left out.
    Concat(ConcatFile),
    /// `{ coalesce = ["so_moi", "so_cu"] }`: the first that is not null.
    Coalesce(Vec<String>),
    /// `{ year = "ngay_sinh" }`: the year of a date.
    Year(String),
    /// `{ month = "ngay_sinh" }`: its month.
    Month(String),
    /// `{ day = "ngay_sinh" }`: its day.
    Day(String),
    /// `{ upper = "ten" }`: in capitals.
    Upper(String),
    /// `{ lower = "ten" }`: in small letters.
    Lower(String),
    /// `{ map = { column = "gt", values = { "1" = "Nam" }, otherwise = "Khác" } }`: a text for each
    /// of some texts.
    Map(MapFile),
}

/// `concat` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcatFile {
    /// The columns, in order, at least one. Required. Example `["ho", "ten_dem", "ten"]`.
    pub columns: Vec<String>,
    /// What stands between two texts. Default `""`. Example `" "`.
    #[serde(default)]
    pub with: String,
}

/// `map` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapFile {
    /// The column. Required. Example `"gt"`.
    pub column: String,
    /// What becomes what. Required. Example `{ "1" = "Nam", "2" = "Nữ" }`.
    pub values: BTreeMap<String, String>,
    /// What all others become. Default: null. Example `"Khác"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
}

/// How bytes become letters, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodingFile {
    /// Unicode, brought to NFC: what is done without this key.
    Utf8,
    /// Windows code page 1258.
    Cp1258,
    /// TCVN 5712:1993, as the `VnTime` fonts use it.
    Tcvn3,
    /// VNI for Windows.
    Vni,
    /// RFC 1456.
    Viscii,
    /// UTF-8 that was read as Windows-1252.
    DoubleUtf8,
    /// What a sample of the column shows; refused where that is not clear.
    Auto,
}

/// A repair of texts, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormaliseFile {
    /// `Ð ð Ɖ ɖ` become `Đ đ`.
    DStroke,
    /// Cyrillic and Greek letters that look Latin become Latin.
    LookAlikes,
    /// Full-width and Arabic-Indic digits become 0 to 9.
    Digits,
    /// No white space at the ends, no invisible letters.
    Trim,
    /// One blank wherever there is white space.
    InnerSpaces,
    /// A word whose unmarked letters are all capitals is all capitals.
    Capitals,
    /// A telephone number without blanks, dots, dashes, brackets; `+84` becomes `0`.
    Phone,
    /// An empty text becomes null.
    EmptyIsNull,
}

/// How a source writes a value, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvertFile {
    /// `{ date = ["dd/MM/yyyy", "yyyy"] }`: the first that fits.
    Date(Vec<DateFormatFile>),
    /// `{ number = "comma" }`: the sign before the decimals.
    Number(DecimalSignFile),
    /// `{ bool = { yes = ["1", "Có"], no = ["0"] } }`: closed lists.
    Bool(BoolFile),
}

/// `bool` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoolFile {
    /// Texts for true. Required. Example `["1", "Có"]`.
    pub yes: Vec<String>,
    /// Texts for false. Required. Example `["0", "Không"]`.
    pub no: Vec<String>,
}

/// The sign before the decimals, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalSignFile {
    /// `1.234,5`.
    Comma,
    /// `1,234.5`.
    Point,
}

/// A way of writing a date, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DateFormatFile {
    /// `21/11/2026`.
    #[serde(rename = "dd/MM/yyyy")]
    DayMonthYear,
    /// `21/11/2026 08:30` or `08:30:15`.
    #[serde(rename = "dd/MM/yyyy HH:mm")]
    DayMonthYearTime,
    /// `20261121`.
    #[serde(rename = "yyyyMMdd")]
    Compact,
    /// `202611210830`.
    #[serde(rename = "yyyyMMddHHmm")]
    CompactMinute,
    /// `2026-11-21`.
    #[serde(rename = "yyyy-MM-dd")]
    YearMonthDay,
    /// `11/2026`.
    #[serde(rename = "MM/yyyy")]
    MonthYear,
    /// `2026`.
    #[serde(rename = "yyyy")]
    Year,
    /// Days of the 1900 system.
    #[serde(rename = "excel")]
    Excel,
}

/// `crosswalk` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrosswalkFile {
    /// The list's file. Required. Example `"../lists/province.toml"`.
    pub list: String,
    /// The day for which codes are asked. This or `as_of_field`. Example `"2025-07-01"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// The contract field that holds that day. Example `"ngay_cap"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_field: Option<String>,
    /// What is done with a code that the list does not know. Default: the field's `on_bad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_bad: Option<OnBad>,
}

/// One of `check` as written; which keys a rule takes is in `docs/MAPPING.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckFile {
    /// What is checked. Required. Example `"citizen_id"`.
    pub rule: CheckRuleFile,
    /// What is done with a value that fails: `"reject_row"`, `"null_field"` or `"warn"`. Default
    /// `"reject_row"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_bad: Option<OnBad>,
    /// Of `in_list`: the list's file. Example `"../lists/ethnic_group.toml"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// Of `in_list`: the day. Example `"2025-07-01"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Of `in_list`: the contract field that holds the day. Example `"ngay_cap"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_field: Option<String>,
    /// Of `range` a number or date, of `length` a number of characters: at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Of `range` and `length`: at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Of `not_before` and `not_after`: the contract field with the other date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of `regex`: what the whole value must be, at most 500 characters. Example `"[A-Z]{2}\\d+"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Of `citizen_id`: the contract field with the sex; needs `male` and `female`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sex_field: Option<String>,
    /// Of `citizen_id`: the texts of `sex_field` for a man. Example `["1"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub male: Vec<String>,
    /// Of `citizen_id`: the texts of `sex_field` for a woman. Example `["2"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub female: Vec<String>,
    /// Of `citizen_id`: the contract field with the date of birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth_field: Option<String>,
}

/// What is checked, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckRuleFile {
    /// It is not null.
    Required,
    /// It stands once in a batch.
    Unique,
    /// Twelve digits of a citizen id.
    CitizenId,
    /// A tax code with its check digit.
    TaxCode,
    /// Ten digits of social insurance.
    SocialInsurance,
    /// A health insurance card.
    HealthCard,
    /// A Vietnamese telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// A code in force.
    InList,
    /// Characters.
    Length,
    /// Numbers or dates.
    Range,
    /// Not before another date.
    NotBefore,
    /// Not after another date.
    NotAfter,
    /// A pattern.
    Regex,
}

/// A code list as written: `lists/*.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFile {
    /// Its name. Required. Example `"admin_unit_province"`.
    pub list: String,
    /// Its title in Vietnamese. Required.
    pub title_vi: String,
    /// Its title in English. Default empty.
    #[serde(default)]
    pub title_en: String,
    /// The law, decision or standard it stands in. Required.
    pub source: String,
    /// The first day the list is in force. Default: always was. Example `"2025-07-01"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// The first day it is no longer. Default: always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
    /// Where the codes are not at hand: how many digits each has, 1 to 20. Default: only the codes
    /// below are of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of_digits: Option<usize>,
    /// Whether a code of the source is never taken as it is, because another list numbers the
    /// same things otherwise. Default `false`.
    #[serde(default)]
    pub only_becomes: bool,
    /// Its codes. Default: none.
    #[serde(default, rename = "code", skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Spanned<CodeFile>>,
    /// What codes of another list or time become. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub becomes: Vec<Spanned<BecomesFile>>,
}

/// One code of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeFile {
    /// The code. Required. Example `"46"`.
    pub code: String,
    /// What it stands for. Required. Example `"Huế"`.
    pub name: String,
    /// The first day in force. Default: always was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// The first day no longer in force. Default: always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
}

/// What one code becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BecomesFile {
    /// The code as the source has it. Required. Example `"45"`.
    pub from: String,
    /// The code of this list. Required. Example `"44"`.
    pub to: String,
    /// The first day it becomes that. Default: always did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// The first day it no longer does. Default: always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
}
