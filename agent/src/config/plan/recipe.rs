//! The rules of one field as written into the rules as used: each with what it needs and nothing it
//! does not take, and only on fields that can carry it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use phusa_protocol::contract::{Contract, ContractField};
use phusa_protocol::fault::Fault;
use phusa_protocol::value::Kind;
use regex::RegexBuilder;

use super::lists::Lists;
use crate::config::rules::{
    CheckFile, CheckRuleFile, ComputeFile, ConvertFile, CrosswalkFile, DateFormatFile,
    DecimalSignFile, EncodingFile, NormaliseFile, OnBad,
};
use crate::config::{FieldFile, MaskFile};
use crate::mapping::check::{AsOf, Bound, Check, Sex, Test};
use crate::mapping::codes::{self, CodeList};
use crate::mapping::compute::{Compute, Part};
use crate::mapping::decode::Encoding;
use crate::mapping::field::{Crosswalk, Decode, Recipe};
use crate::mapping::format::{DateFormat, DecimalSign, Format, PAD_WIDTH_MAX};
use crate::mapping::normalise::Normal;

/// A pattern is short enough to be read by a person.
const PATTERN_CHARS_MAX: usize = 500;
/// What a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// More columns than this in one field are a mistake.
const COLUMNS_MAX: usize = 20;

/// What is wrong with a rule: something here, or in a list file.
pub(super) enum Flaw {
    Here(Range<usize>, String),
    There(Fault),
}

/// What the rules of a field may refer to.
pub(super) struct Reading<'a> {
    pub(super) folder: &'a Path,
    pub(super) contract: &'a Contract,
    /// Contract fields that get values.
    pub(super) shared: &'a [&'a str],
    pub(super) lists: &'a mut Lists,
}

impl Reading<'_> {
    /// Everything of `file` but its mask.
    pub(super) fn recipe(
        &mut self,
        file: &FieldFile,
        agreed: &ContractField,
    ) -> Result<Recipe, Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut keep = |flaw: Flaw| flaws.push(flaw);
        let on_bad = file.on_bad.as_ref().map(|written| *written.get_ref()).unwrap_or_default();
        let mut recipe = Recipe { on_bad, ..Recipe::default() };
        recipe.compute = file.compute.as_ref().map(|written| compute(written.get_ref()));
        recipe.decode = file.encoding.as_ref().map(|written| decode(*written.get_ref()));
        let written = file.normalise.iter().flat_map(toml::Spanned::get_ref);
        recipe.normalise = written.copied().map(normal).collect();
        recipe.normalise.sort_unstable();
        recipe.normalise.dedup();
        recipe.pad_left = file.pad_left.as_ref().map(|width| *width.get_ref());
        recipe.convert = file.convert.as_ref().map(|written| format(written.get_ref()));
        if let Some(written) = &file.crosswalk {
            match self.crosswalk(written.get_ref(), on_bad) {
                Ok(crosswalk) => recipe.crosswalk = Some(crosswalk),
                Err(flaw) => keep(flaw.at(written.span())),
            }
        }
        for written in &file.checks {
            match self.check(written.get_ref()) {
                Ok(check) => recipe.checks.push(check),
                Err(flaw) => keep(flaw.at(written.span())),
            }
        }
        self.sense(file, agreed, &recipe).into_iter().for_each(keep);
        if flaws.is_empty() { Ok(recipe) } else { Err(flaws) }
    }

    /// What the rules ask of the field that it cannot do.
    fn sense(&self, file: &FieldFile, agreed: &ContractField, recipe: &Recipe) -> Vec<Flaw> {
        let here = |span: Range<usize>, rule: &str| Flaw::Here(span, rule.to_owned());
        let position = self.contract.fields.iter().position(|field| field.name == agreed.name);
        let nullable = position.is_some_and(|index| self.contract.is_nullable(index));
        let is_key = self.contract.key.contains(&agreed.name);
        let mut flaws = Vec::new();
        let nulls = recipe.on_bad == OnBad::NullField
            || recipe.crosswalk.as_ref().is_some_and(|c| c.on_bad == OnBad::NullField)
            || recipe.checks.iter().any(|check| check.on_bad == OnBad::NullField);
        if nulls && !nullable {
            flaws
                .push(here(file.to.span(), "a field that may not be null cannot use `null_field`"));
        }
        if let Some(written) = file.on_bad.as_ref().filter(|_| recipe.on_bad == OnBad::Warn) {
            let rule = "`on_bad` of a field is `reject_row` or `null_field`: a value that cannot be \
                        read cannot be sent with a warning";
            flaws.push(here(written.span(), rule));
        }
        if let Some(written) = &file.pad_left
            && !(1..=PAD_WIDTH_MAX).contains(written.get_ref())
        {
            flaws.push(here(written.span(), "`pad_left` is 1 to 64"));
        }
        if let (Some(written), Some(format)) = (&file.convert, &recipe.convert)
            && let Some(misfit) = format.misfit(converted_kind(file, agreed))
        {
            flaws.push(Flaw::Here(written.span(), misfit));
        }
        if let (Some(written), Some(compute)) = (&file.compute, &recipe.compute) {
            let count = compute.columns().len();
            if is_key {
                let rule = "a key field is a column: deletes carry nothing else of the row";
                flaws.push(here(written.span(), rule));
            }
            if count == 0 || count > COLUMNS_MAX {
                flaws.push(here(written.span(), "a computed field reads 1 to 20 columns"));
            }
        }
        if let Some(written) = file.crosswalk.as_ref().filter(|_| is_key) {
            let rule = "a key field takes no crosswalk: two codes may become one";
            flaws.push(here(written.span(), rule));
        }
        if agreed.kind == Kind::Bytea && !recipe.is_empty() && file.mask.is_none() {
            flaws
                .push(here(file.to.span(), "rules work on text; a field of type bytea takes none"));
        }
        flaws
    }

    fn crosswalk(&mut self, file: &CrosswalkFile, on_bad: OnBad) -> Result<Crosswalk, Where> {
        let list = self.list(&file.list)?;
        let as_of = self.as_of(file.as_of.as_deref(), file.as_of_field.as_deref())?;
        Ok(Crosswalk { list, as_of, on_bad: file.on_bad.unwrap_or(on_bad) })
    }

    fn list(&mut self, file: &str) -> Result<Arc<CodeList>, Where> {
        self.lists.load(&self.folder.join(file)).map_err(Where::There)
    }

    fn as_of(&self, day: Option<&str>, field: Option<&str>) -> Result<AsOf, Where> {
        match (day, field) {
            (Some(day), None) => codes::day(day)
                .map(AsOf::Day)
                .ok_or_else(|| said("`as_of` is a date like \"2025-07-01\"")),
            (None, Some(field)) => Ok(AsOf::Field(self.field(field)?)),
            _ => Err(said("name the day: `as_of`, or `as_of_field`, and not both")),
        }
    }

    /// Where a field stands that another asks for; it must get values.
    fn field(&self, name: &str) -> Result<usize, Where> {
        let found = self.contract.fields.iter().position(|field| field.name == name);
        found.filter(|_| self.shared.contains(&name)).ok_or_else(|| {
            Where::Here(format!("`{name}` is not a field of the contract that this file fills"))
        })
    }

    fn check(&mut self, file: &CheckFile) -> Result<Check, Where> {
        takes_no_more(file)?;
        let need = |key: &Option<String>, name: &str| {
            key.clone().ok_or_else(|| Where::Here(format!("this rule needs `{name}`")))
        };
        let test = match file.rule {
            CheckRuleFile::Required => Test::Required,
            CheckRuleFile::Unique => Test::Unique,
            CheckRuleFile::TaxCode => Test::TaxCode,
            CheckRuleFile::SocialInsurance => Test::SocialInsurance,
            CheckRuleFile::HealthCard => Test::HealthCard,
            CheckRuleFile::Phone => Test::Phone,
            CheckRuleFile::Email => Test::Email,
            CheckRuleFile::CitizenId => self.citizen_id(file)?,
            CheckRuleFile::InList => Test::InList {
                list: self.list(&need(&file.list, "list")?)?,
                as_of: self.as_of(file.as_of.as_deref(), file.as_of_field.as_deref())?,
            },
            CheckRuleFile::Length => length(file)?,
            CheckRuleFile::Range => range(file)?,
            CheckRuleFile::NotBefore => Test::NotBefore(self.field(&need(&file.field, "field")?)?),
            CheckRuleFile::NotAfter => Test::NotAfter(self.field(&need(&file.field, "field")?)?),
            CheckRuleFile::Regex => pattern(&need(&file.pattern, "pattern")?)?,
        };
        let on_bad = file.on_bad.unwrap_or_default();
        if on_bad == OnBad::NullField && file.rule == CheckRuleFile::Required {
            return Err(said("what is null cannot be made null: `required` rejects or warns"));
        }
        Ok(Check { test, on_bad })
    }

    fn citizen_id(&self, file: &CheckFile) -> Result<Test, Where> {
        let sex = match &file.sex_field {
            None => None,
            Some(_) if file.male.is_empty() || file.female.is_empty() => {
                return Err(said("`sex_field` needs `male` and `female`: code systems differ"));
            }
            Some(name) => Some(Sex {
                field: self.field(name)?,
                male: file.male.clone(),
                female: file.female.clone(),
            }),
        };
        let birth = file.birth_field.as_deref().map(|name| self.field(name)).transpose()?;
        Ok(Test::CitizenId { sex, birth })
    }
}

/// What `convert` makes of a value: of one that is then cut to its year, the text of a date.
fn converted_kind(file: &FieldFile, agreed: &ContractField) -> Kind {
    let is_year = file.mask.as_ref().is_some_and(|mask| *mask.get_ref() == MaskFile::Year);
    if is_year { Kind::Text } else { agreed.kind }
}

/// As [`Flaw`], before it is known at which key it is said.
enum Where {
    Here(String),
    There(Fault),
}

impl Where {
    fn at(self, span: Range<usize>) -> Flaw {
        match self {
            Self::Here(rule) => Flaw::Here(span, rule),
            Self::There(fault) => Flaw::There(fault),
        }
    }
}

fn said(rule: &str) -> Where {
    Where::Here(rule.to_owned())
}

/// A key that another rule takes would be taken for one that works.
fn takes_no_more(file: &CheckFile) -> Result<(), Where> {
    use CheckRuleFile::{CitizenId, InList, Length, NotAfter, NotBefore, Range, Regex};
    let rule = file.rule;
    let keys: [(&str, bool, &[CheckRuleFile]); 11] = [
        ("list", file.list.is_some(), &[InList]),
        ("as_of", file.as_of.is_some(), &[InList]),
        ("as_of_field", file.as_of_field.is_some(), &[InList]),
        ("min", file.min.is_some(), &[Range, Length]),
        ("max", file.max.is_some(), &[Range, Length]),
        ("field", file.field.is_some(), &[NotBefore, NotAfter]),
        ("pattern", file.pattern.is_some(), &[Regex]),
        ("sex_field", file.sex_field.is_some(), &[CitizenId]),
        ("male", !file.male.is_empty(), &[CitizenId]),
        ("female", !file.female.is_empty(), &[CitizenId]),
        ("birth_field", file.birth_field.is_some(), &[CitizenId]),
    ];
    match keys.into_iter().find(|(_, is_there, takers)| *is_there && !takers.contains(&rule)) {
        Some((key, ..)) => Err(Where::Here(format!("this rule takes no `{key}`"))),
        None => Ok(()),
    }
}

fn length(file: &CheckFile) -> Result<Test, Where> {
    let read = |text: &Option<String>, absent| match text {
        None => Ok(absent),
        Some(text) => text.parse().map_err(|_| said("`length` counts characters, such as \"12\"")),
    };
    let (min, max) = (read(&file.min, 0)?, read(&file.max, usize::MAX)?);
    if min > max || (file.min.is_none() && file.max.is_none()) {
        return Err(said("`length` needs `min`, `max` or both, and `min` is at most `max`"));
    }
    Ok(Test::Length { min, max })
}

fn range(file: &CheckFile) -> Result<Test, Where> {
    let read = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => Bound::read(text)
            .map(Some)
            .ok_or_else(|| said("`range` compares numbers (\"0\") or dates (\"1900-01-01\")")),
    };
    let (min, max) = (read(&file.min)?, read(&file.max)?);
    if min.is_none() && max.is_none() {
        return Err(said("`range` needs `min`, `max` or both"));
    }
    Ok(Test::Range { min, max })
}

/// Searching takes time in proportion to the text, whatever the pattern.
fn pattern(text: &str) -> Result<Test, Where> {
    if text.chars().count() > PATTERN_CHARS_MAX {
        return Err(said("`pattern` has at most 500 characters"));
    }
    let whole = format!("^(?:{text})$");
    let mut builder = RegexBuilder::new(&whole);
    let built = builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    built.map(Test::Regex).map_err(|bad| Where::Here(format!("`pattern`: {bad}")))
}

fn compute(file: &ComputeFile) -> Compute {
    match file {
        ComputeFile::Concat(concat) => {
            Compute::Concat { columns: concat.columns.clone(), with: concat.with.clone() }
        }
        ComputeFile::Coalesce(columns) => Compute::Coalesce(columns.clone()),
        ComputeFile::Year(column) => Compute::Part(Part::Year, column.clone()),
        ComputeFile::Month(column) => Compute::Part(Part::Month, column.clone()),
        ComputeFile::Day(column) => Compute::Part(Part::Day, column.clone()),
        ComputeFile::Upper(column) => Compute::Upper(column.clone()),
        ComputeFile::Lower(column) => Compute::Lower(column.clone()),
        ComputeFile::Map(map) => Compute::Map {
            column: map.column.clone(),
            values: map.values.clone(),
            otherwise: map.otherwise.clone(),
        },
    }
}

fn decode(file: EncodingFile) -> Decode {
    Decode::As(match file {
        EncodingFile::Utf8 => Encoding::Utf8,
        EncodingFile::Cp1258 => Encoding::Cp1258,
        EncodingFile::Tcvn3 => Encoding::Tcvn3,
        EncodingFile::Vni => Encoding::Vni,
        EncodingFile::Viscii => Encoding::Viscii,
        EncodingFile::DoubleUtf8 => Encoding::DoubleUtf8,
        EncodingFile::Auto => return Decode::Auto,
    })
}

fn normal(file: NormaliseFile) -> Normal {
    match file {
        NormaliseFile::DStroke => Normal::DStroke,
        NormaliseFile::LookAlikes => Normal::LookAlikes,
        NormaliseFile::Digits => Normal::Digits,
        NormaliseFile::Trim => Normal::Trim,
        NormaliseFile::InnerSpaces => Normal::InnerSpaces,
        NormaliseFile::Capitals => Normal::Capitals,
        NormaliseFile::Phone => Normal::Phone,
        NormaliseFile::EmptyIsNull => Normal::EmptyIsNull,
    }
}

fn format(file: &ConvertFile) -> Format {
    match file {
        ConvertFile::Date(formats) => Format::Date(formats.iter().copied().map(date).collect()),
        ConvertFile::Number(DecimalSignFile::Comma) => Format::Number(DecimalSign::Comma),
        ConvertFile::Number(DecimalSignFile::Point) => Format::Number(DecimalSign::Point),
        ConvertFile::Bool(lists) => Format::Bool { yes: lists.yes.clone(), no: lists.no.clone() },
    }
}

fn date(file: DateFormatFile) -> DateFormat {
    match file {
        DateFormatFile::DayMonthYear => DateFormat::DayMonthYear,
        DateFormatFile::DayMonthYearTime => DateFormat::DayMonthYearTime,
        DateFormatFile::Compact => DateFormat::Compact,
        DateFormatFile::CompactMinute => DateFormat::CompactMinute,
        DateFormatFile::YearMonthDay => DateFormat::YearMonthDay,
        DateFormatFile::MonthYear => DateFormat::MonthYear,
        DateFormatFile::Year => DateFormat::Year,
        DateFormatFile::Excel => DateFormat::Excel,
    }
}
