//! `Step`: one contract field's rule joined to the column it comes from, ready for bytes.

use hmac::{Hmac, Mac as _};
use phusa_protocol::row::put_field;
use phusa_protocol::value::{Field, Kind};
use sha2::Sha256;

use super::bench::{Bench, Neighbours, Scene};
use super::chain::{Chain, Found, Reader, put_absent};
use super::convert::{Conversion, integer, put_sized};
use super::field::{Decode, FieldRule, Mask};
use super::format::Format;
use super::mask::hexadecimal;
use super::moment;
use super::nfc;
use super::pack;
use super::quality::{OnBad, Rule};
use super::terms::Terms;
use super::text::{self, exact};
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
    /// Whether null passes without being looked at: no check asks for it.
    nulls_pass: bool,
    /// Whether it is part of the key.
    key: bool,
    /// How a value that stays as it is can be told.
    glance: Glance,
    work: Work,
    /// How its value is read as text, where another field asks for it.
    reader: Option<Reader>,
    /// What the contract asks of a text; of most nothing, so that it costs one comparison.
    terms: Option<Box<Terms>>,
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
    Year {
        of: YearOf,
        kind: Kind,
    },
    Pseudonym {
        conversion: Conversion,
        /// In a box, so that a row's steps lie close together.
        hmac: Box<Pseudonym>,
        kind: Kind,
    },
    /// Everything that needs the value as text.
    Chain(Box<Chain>),
    /// Work that needs no text; what cannot be done is null, as the file chose.
    OrNull(Box<Work>),
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
        Self {
            column: None,
            nullable: true,
            nulls_pass: true,
            key: false,
            glance: Glance::Never,
            work,
            reader: None,
            terms: None,
        }
    }

    /// Joins `rule` to the columns it reads; `hmac` is there when the rule's mask needs it.
    ///
    /// # Errors
    /// Why a column's type cannot become the field's, and which contract type would do.
    pub(super) fn bind(
        rule: &FieldRule,
        columns: &[Column],
        key: bool,
        hmac: Option<&Pseudonym>,
    ) -> Result<Self, String> {
        let find = |name: &str| columns.iter().enumerate().find(|(_, column)| column.name == name);
        if rule.recipe.compute.is_some() {
            return Self::bind_computed(rule, find, hmac);
        }
        let Some((index, column)) = rule.from.as_deref().and_then(find) else {
            return Ok(Self::absent());
        };
        let needs_text = match rule.mask {
            Mask::Keep | Mask::Hmac(_) => false,
            // A date or moment has its year without being put into words.
            Mask::Year => year_of(column).is_none() || rule.recipe.on_bad == OnBad::NullField,
            Mask::KeepLast(_)
            | Mask::KeepFirst(_)
            | Mask::Initials
            | Mask::Band(_)
            | Mask::Commune
            | Mask::Constant(_) => true,
        };
        let reader = reader(rule, column);
        let work = if rule.recipe.is_empty() && !needs_text {
            direct(rule, column, hmac)?
        } else {
            let reader = reader.clone().ok_or_else(|| refusal(rule, column, None))?;
            fits_as_text(rule, column)?;
            let mask = (rule.mask.clone(), hmac.cloned());
            Work::Chain(Box::new(Chain::of_column(reader, rule.recipe.clone(), mask, rule.kind)))
        };
        let is_alone = !matches!(work, Work::Chain(_));
        let work = match rule.recipe.on_bad {
            OnBad::NullField if is_alone => Work::OrNull(Box::new(work)),
            OnBad::NullField | OnBad::RejectRow | OnBad::Warn => work,
        };
        let glance = work.glance();
        let nullable = rule.nullable;
        let nulls_pass = nullable && !rule.recipe.requires();
        let terms = terms_of(rule);
        Ok(Self { column: Some(index), nullable, nulls_pass, key, glance, work, reader, terms })
    }

    fn bind_computed<'c>(
        rule: &FieldRule,
        find: impl Fn(&str) -> Option<(usize, &'c Column)>,
        hmac: Option<&Pseudonym>,
    ) -> Result<Self, String> {
        let Some(compute) = &rule.recipe.compute else { return Ok(Self::absent()) };
        let mut parts = Vec::new();
        for (index, column) in compute.columns().into_iter().filter_map(find) {
            let reader = reader(rule, column).ok_or_else(|| refusal(rule, column, None))?;
            parts.push((index, reader));
        }
        let mask = (rule.mask.clone(), hmac.cloned());
        let parts = (parts, compute.clone());
        let chain = Chain::computed(parts, rule.recipe.clone(), mask, rule.kind);
        let (work, glance) = (Work::Chain(Box::new(chain)), Glance::Never);
        let nullable = rule.nullable;
        let nulls_pass = false;
        let (key, reader, terms) = (false, None, terms_of(rule));
        Ok(Self { column: None, nullable, nulls_pass, key, glance, work, reader, terms })
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
            (Field::Value(bytes), Glance::Text) => {
                nfc::is_plain(bytes) && self.breach(bytes).is_none()
            }
            (Field::Value(bytes), Glance::Fits(kind)) => kind.fits(bytes),
            (Field::Value(_), Glance::Never) => false,
            (Field::Null, _) => self.nulls_pass,
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
        scene: &mut Scene<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Rule> {
        let (unchanged_allowed, start) = (scene.neighbours.unchanged_allowed, out.len());
        let found = match (&self.work, field) {
            (Work::Chain(chain), _) => chain.put(field, scene, out)?,
            (_, Field::Null) => Found::Null,
            (_, Field::Unchanged) => Found::Unchanged,
            (_, Field::Value(bytes)) if self.keeps(field, false) => {
                put_field(out, Field::Value(bytes));
                Found::Text
            }
            (Work::OrNull(work), Field::Value(bytes)) => {
                let start = out.len();
                match put_sized(out, |out| work.put(bytes, out)) {
                    Ok(()) => Found::Text,
                    Err(rule) => {
                        out.truncate(start);
                        scene.bench.note(scene.index, rule, OnBad::NullField);
                        Found::Null
                    }
                }
            }
            (_, Field::Value(bytes)) => {
                put_sized(out, |out| self.work.put(bytes, out))?;
                Found::Text
            }
        };
        match found {
            // Behind the length of four bytes.
            Found::Text => {
                return self.breach(out.get(start + 4..).unwrap_or_default()).map_or(Ok(()), Err);
            }
            Found::Null if self.key => return Err(Rule::KeyNull),
            Found::Null if !self.nullable => return Err(Rule::RequiredNull),
            Found::Unchanged if self.key => return Err(Rule::KeyUnknown),
            Found::Unchanged if !unchanged_allowed => return Err(Rule::RowIncomplete),
            Found::Null | Found::Unchanged => {}
        }
        put_absent(found, out);
        Ok(())
    }

    /// What the contract does not allow of a mapped value.
    #[inline]
    fn breach(&self, bytes: &[u8]) -> Option<Rule> {
        self.terms.as_ref().and_then(|terms| terms.breach(bytes))
    }

    /// Its value as text before checks and mask, on the bench; `None` when it cannot be told.
    pub(super) fn derive(
        &self,
        field: Field<'_>,
        neighbours: &Neighbours<'_, '_>,
        bench: &mut Bench,
    ) -> Option<Found> {
        if let Work::Chain(chain) = &self.work {
            return chain.derive(field, neighbours, bench).ok().map(|(found, _)| found);
        }
        let Field::Value(bytes) = field else { return Some(Found::Null) };
        self.reader.as_ref()?.put(bytes, bench).ok()?;
        Some(Found::Text)
    }
}

impl Work {
    fn glance(&self) -> Glance {
        match self {
            Self::Convert(Conversion::Text) => Glance::Text,
            Self::Convert(Conversion::Same(kind)) => {
                kind.fixed_length().map_or(Glance::Fits(*kind), Glance::Length)
            }
            Self::OrNull(work) => work.glance(),
            Self::Convert(_) | Self::Year { .. } | Self::Pseudonym { .. } | Self::Chain(_) => {
                Glance::Never
            }
        }
    }

    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
        match self {
            Self::Convert(conversion) => conversion.put(bytes, out),
            Self::OrNull(work) => work.put(bytes, out),
            Self::Year { of, kind } => put_year(*of, *kind, bytes, out),
            Self::Pseudonym { conversion, hmac, kind } => {
                let start = out.len();
                conversion.put(bytes, out)?;
                let value = out.get(start..).unwrap_or_default();
                let code = Pseudonym::clone(hmac).chain_update(value).finalize().into_bytes();
                out.truncate(start);
                if *kind == Kind::Bytea {
                    out.extend_from_slice(&code);
                } else {
                    hexadecimal(&code, out);
                }
                Ok(())
            }
            // A chain is run by `Step::put`, which knows the rest of the row.
            Self::Chain(_) => Err(Rule::Malformed),
        }
    }
}

fn terms_of(rule: &FieldRule) -> Option<Box<Terms>> {
    (!rule.terms.is_empty()).then(|| Box::new(rule.terms.clone()))
}

/// The work of a field whose value need not be put into words.
fn direct(rule: &FieldRule, column: &Column, hmac: Option<&Pseudonym>) -> Result<Work, String> {
    let refused = |proposal: Option<Kind>| refusal(rule, column, proposal);
    let text = || Conversion::choose(&column.native, Kind::Text).map_err(refused);
    if let (Mask::Year, Some(of)) = (&rule.mask, year_of(column)) {
        return Ok(Work::Year { of, kind: rule.kind });
    }
    if let (Mask::Hmac(_), Some(hmac)) = (&rule.mask, hmac) {
        let bytes = Conversion::Same(Kind::Bytea);
        let conversion = if column.native == Native::Bytea { bytes } else { text()? };
        return Ok(Work::Pseudonym { conversion, hmac: Box::new(hmac.clone()), kind: rule.kind });
    }
    Ok(Work::Convert(Conversion::choose(&column.native, rule.kind).map_err(refused)?))
}

/// How a column is read as text; `None` for a type without one.
fn reader(rule: &FieldRule, column: &Column) -> Option<Reader> {
    let encoding = match rule.recipe.decode {
        Some(Decode::As(encoding)) => Some(encoding),
        Some(Decode::Auto) | None => None,
    };
    let is_legacy = matches!(column.native, Native::Text | Native::Bytea) && encoding.is_some();
    let is_text = text::exists(&column.native) && encoding.is_none();
    (is_legacy || is_text).then(|| Reader { native: column.native.clone(), encoding })
}

/// A field whose value goes through words keeps to what could be carried without: its type changes
/// only where a rule says how.
fn fits_as_text(rule: &FieldRule, column: &Column) -> Result<(), String> {
    let is_date = matches!(rule.recipe.convert, Some(Format::Date(_)));
    if rule.mask == Mask::Year && year_of(column).is_none() && !is_date {
        let Column { name, type_name, .. } = column;
        let to = &rule.name;
        return Err(format!(
            "column `{name}` ({type_name}) has no year for `{to}`; `year` is for date, timestamp, \
             timestamptz, and what `convert` makes a date"
        ));
    }
    let masked_to_text = match rule.mask {
        Mask::Keep => false,
        Mask::Year | Mask::Hmac(_) | Mask::Constant(_) => true,
        Mask::Band(_) => text::exists(&column.native),
        Mask::KeepLast(_) | Mask::KeepFirst(_) | Mask::Initials | Mask::Commune => true,
    };
    let carried = rule.recipe.changes_type()
        || masked_to_text
        || (rule.recipe.decode.is_some() && rule.kind == Kind::Text);
    let packed = pack::exists(rule.kind) || matches!(rule.mask, Mask::Hmac(_));
    if !packed {
        return Err(refusal(rule, column, Some(Kind::Text)));
    }
    if carried {
        return Ok(());
    }
    Conversion::choose(&column.native, rule.kind)
        .map(|_| ())
        .map_err(|proposal| refusal(rule, column, proposal))
}

fn refusal(rule: &FieldRule, column: &Column, proposal: Option<Kind>) -> String {
    let Column { name, type_name, .. } = column;
    let exact = match proposal {
        Some(kind) => format!("contract type {kind} would carry it exactly"),
        None => "no contract type carries it exactly".to_owned(),
    };
    let wanted = match rule.mask {
        Mask::KeepLast(_) | Mask::Hmac(_) => Kind::Text,
        Mask::Keep
        | Mask::Year
        | Mask::KeepFirst(_)
        | Mask::Initials
        | Mask::Band(_)
        | Mask::Commune
        | Mask::Constant(_) => rule.kind,
    };
    let to = &rule.name;
    format!("column `{name}` ({type_name}) cannot become `{to}` ({wanted}); {exact}")
}

fn year_of(column: &Column) -> Option<YearOf> {
    if column.native == Native::Date {
        return Some(YearOf::Date);
    }
    if column.native == Native::Tenths(Box::new(Native::Timestamp)) {
        return Some(YearOf::Tenths);
    }
    matches!(column.native, Native::Timestamp | Native::Timestamptz).then_some(YearOf::Timestamp)
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

#[cfg(test)]
mod tests;
