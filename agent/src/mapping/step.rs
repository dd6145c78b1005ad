//! `Step`: one contract field's rule joined to the column it comes from, ready for bytes.

use hmac::{Hmac, Mac as _};
use phusa_protocol::row::put_field;
use phusa_protocol::value::{Field, Kind};
use sha2::Sha256;

use super::convert::{Conversion, integer, put_sized};
use super::field::{FieldRule, Mask};
use super::moment;
use super::nfc;
use super::quality::Rule;
use super::text::exact;
use crate::source::{Column, Native};

/// A keyed pseudonymiser, ready to be given a value.
pub(super) type Pseudonym = Hmac<Sha256>;

/// What makes one contract field of a row.
#[derive(Clone)]
pub(super) struct Step {
    /// Where its column stands among the block's; `None` sends null.
    pub(super) column: Option<usize>,
    /// Whether the contract allows null.
    nullable: bool,
    /// Whether it is part of the key.
    key: bool,
    /// How a value that stays as it is can be told.
    glance: Glance,
    work: Work,
}

/// The cheapest test of whether a value stays as it is.
#[derive(Debug, Clone, Copy)]
enum Glance {
    /// It has this length.
    Length(usize),
    /// It is text in NFC.
    Text,
    /// It fits this type of varying length.
    Fits(Kind),
    /// No value does.
    Never,
}

#[derive(Clone)]
enum Work {
    Convert(Conversion),
    KeepLast { conversion: Conversion, count: usize },
    Year { of: YearOf, kind: Kind },
    Pseudonym { conversion: Conversion, hmac: Pseudonym, kind: Kind },
}

#[derive(Debug, Clone, Copy)]
enum YearOf {
    Date,
    Timestamp,
    Tenths,
}

impl Step {
    /// A step that sends null.
    pub(super) fn absent() -> Self {
        let work = Work::Convert(Conversion::Same(Kind::Bytea));
        Self { column: None, nullable: true, key: false, glance: Glance::Never, work }
    }

    /// Joins `rule` to the column at `index`; `hmac` is there when the rule's mask needs it.
    ///
    /// # Errors
    /// Why the column's type cannot become the field's, and which contract type would do.
    pub(super) fn bind(
        rule: &FieldRule,
        (index, column): (usize, &Column),
        key: bool,
        hmac: Option<&Pseudonym>,
    ) -> Result<Self, String> {
        let refused = |proposal: Option<Kind>| refusal(rule, column, proposal);
        let text = || Conversion::choose(&column.native, Kind::Text).map_err(refused);
        let work = match (&rule.mask, hmac) {
            (Mask::KeepLast(count), _) => Work::KeepLast { conversion: text()?, count: *count },
            (Mask::Year, _) => Work::Year { of: year_of(rule, column)?, kind: rule.kind },
            (Mask::Hmac(_), Some(hmac)) => {
                let bytes = Conversion::Same(Kind::Bytea);
                let conversion = if column.native == Native::Bytea { bytes } else { text()? };
                Work::Pseudonym { conversion, hmac: hmac.clone(), kind: rule.kind }
            }
            (Mask::Keep | Mask::Hmac(_), _) => {
                Work::Convert(Conversion::choose(&column.native, rule.kind).map_err(refused)?)
            }
        };
        let glance = work.glance();
        Ok(Self { column: Some(index), nullable: rule.nullable, key, glance, work })
    }

    /// Whether it leaves most values of `column` as they are.
    pub(super) fn is_passing(&self, column: usize) -> bool {
        !matches!(self.glance, Glance::Never) && self.column == Some(column)
    }

    /// Whether this very field may stand in the mapped row.
    #[inline]
    pub(super) fn keeps(&self, field: Field<'_>, unchanged_allowed: bool) -> bool {
        match (field, self.glance) {
            (Field::Value(bytes), Glance::Length(length)) => bytes.len() == length,
            (Field::Value(bytes), Glance::Text) => nfc::is_plain(bytes),
            (Field::Value(bytes), Glance::Fits(kind)) => kind.fits(bytes),
            (Field::Value(_), Glance::Never) => false,
            (Field::Null, _) => self.nullable,
            (Field::Unchanged, _) => unchanged_allowed && !self.key,
        }
    }

    /// Appends the mapped field, length first.
    ///
    /// # Errors
    /// The rule that the field breaks; `out` may then hold a part.
    pub(super) fn put(
        &self,
        field: Field<'_>,
        unchanged_allowed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Rule> {
        match field {
            Field::Value(bytes) if self.keeps(field, false) => {
                put_field(out, Field::Value(bytes));
                Ok(())
            }
            Field::Value(bytes) => put_sized(out, |out| self.work.put(bytes, out)),
            Field::Null if self.key => Err(Rule::KeyNull),
            Field::Null if !self.nullable => Err(Rule::RequiredNull),
            Field::Unchanged if self.key => Err(Rule::KeyUnknown),
            Field::Unchanged if !unchanged_allowed => Err(Rule::RowIncomplete),
            Field::Null | Field::Unchanged => {
                put_field(out, field);
                Ok(())
            }
        }
    }
}

impl Work {
    fn glance(&self) -> Glance {
        match self {
            Self::Convert(Conversion::Text) => Glance::Text,
            Self::Convert(Conversion::Same(kind)) => {
                kind.fixed_length().map_or(Glance::Fits(*kind), Glance::Length)
            }
            Self::Convert(_) | Self::KeepLast { .. } | Self::Year { .. } => Glance::Never,
            Self::Pseudonym { .. } => Glance::Never,
        }
    }

    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
        match self {
            Self::Convert(conversion) => conversion.put(bytes, out),
            Self::KeepLast { conversion, count } => {
                let start = out.len();
                conversion.put(bytes, out)?;
                hide_but_last(*count, start, out);
                Ok(())
            }
            Self::Year { of, kind } => put_year(*of, *kind, bytes, out),
            Self::Pseudonym { conversion, hmac, kind } => {
                let start = out.len();
                conversion.put(bytes, out)?;
                let value = out.get(start..).unwrap_or_default();
                let code = hmac.clone().chain_update(value).finalize().into_bytes();
                out.truncate(start);
                put_pseudonym(*kind, &code, out);
                Ok(())
            }
        }
    }
}

fn refusal(rule: &FieldRule, column: &Column, proposal: Option<Kind>) -> String {
    let Column { name, type_name, .. } = column;
    let exact = match proposal {
        Some(kind) => format!("contract type {kind} would carry it exactly"),
        None => "no contract type carries it exactly".to_owned(),
    };
    let wanted = match rule.mask {
        Mask::Keep | Mask::Year => rule.kind,
        Mask::KeepLast(_) | Mask::Hmac(_) => Kind::Text,
    };
    let to = &rule.name;
    format!("column `{name}` ({type_name}) cannot become `{to}` ({wanted}); {exact}")
}

fn year_of(rule: &FieldRule, column: &Column) -> Result<YearOf, String> {
    let Column { name, type_name, native, .. } = column;
    if *native == Native::Date {
        return Ok(YearOf::Date);
    }
    if matches!(native, Native::Timestamp | Native::Timestamptz) {
        return Ok(YearOf::Timestamp);
    }
    if *native == Native::Tenths(Box::new(Native::Timestamp)) {
        return Ok(YearOf::Tenths);
    }
    let to = &rule.name;
    Err(format!(
        "column `{name}` ({type_name}) has no year for `{to}`; `year` is for date, timestamp and \
         timestamptz"
    ))
}

/// Of the text that begins at `start`: `*` for each character before the last `count`.
fn hide_but_last(count: usize, start: usize, out: &mut Vec<u8>) {
    let bytes = out.get(start..).unwrap_or_default();
    let is_lead = |byte: &u8| byte & 0xc0 != 0x80;
    let hidden = bytes.iter().filter(|byte| is_lead(byte)).count().saturating_sub(count);
    let leads = bytes.iter().enumerate().filter(|(_, byte)| is_lead(byte));
    let shown = leads.map(|(at, _)| at).nth(hidden).unwrap_or(bytes.len());
    out.splice(start..start + shown, std::iter::repeat_n(b'*', hidden));
}

fn put_year(of: YearOf, kind: Kind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let year = match of {
        YearOf::Date => moment::year_of_date(i32::from_be_bytes(exact(bytes)?)),
        YearOf::Timestamp => moment::year_of_timestamp(integer(bytes)?),
        YearOf::Tenths => moment::year_of_timestamp(integer(bytes)?.div_euclid(10)),
    };
    let year = year.ok_or(Rule::YearUnknown)?;
    if kind == Kind::Text {
        out.extend_from_slice(year.to_string().as_bytes());
    } else if kind == Kind::Int2 {
        let year = i16::try_from(year).map_err(|_| Rule::YearOutOfRange)?;
        out.extend_from_slice(&year.to_be_bytes());
    } else {
        let year = i32::try_from(year).map_err(|_| Rule::YearOutOfRange)?;
        out.extend_from_slice(&year.to_be_bytes());
    }
    Ok(())
}

fn put_pseudonym(kind: Kind, code: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if kind == Kind::Bytea {
        return out.extend_from_slice(code);
    }
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend(code.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

#[cfg(test)]
mod tests;
