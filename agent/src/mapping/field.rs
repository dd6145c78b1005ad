//! What is to become of each field: where it comes from, what it must be, what is hidden of it.
//!
//! These are the checked rules of a dataset file; what they do to bytes is decided once the
//! source's columns are known ([`super::Mapping::bind`]). A column that no rule names is not shared.

use std::sync::Arc;

use phusa_protocol::value::Kind;

use super::check::{AsOf, Check, Test};
use super::codes::CodeList;
use super::compute::Compute;
use super::decode::Encoding;
use super::filter::Filter;
use super::format::Format;
use super::normalise::Normal;
use super::quality::OnBad;
use super::terms::Terms;
use crate::config::secret::SecretFile;

/// The rules of one dataset.
#[derive(Debug, Clone)]
pub struct Rules {
    /// One per contract field, in contract order.
    pub fields: Vec<FieldRule>,
    /// Which of `fields` identify a record, in the contract's key order.
    pub key: Vec<usize>,
    /// Which rows are shared; `None` shares all.
    pub filter: Option<Filter>,
    /// The largest mapped row that is carried, in bytes.
    pub row_bytes_max: usize,
}

/// The rule of one contract field.
#[derive(Debug, Clone)]
pub struct FieldRule {
    /// The contract's name.
    pub name: String,
    /// The contract's type.
    pub kind: Kind,
    /// Whether the contract allows null.
    pub nullable: bool,
    /// The column at the source; `None` sends null and reads nothing, unless the field is computed.
    pub from: Option<String>,
    /// What is done to its values before they are masked; by default nothing.
    pub recipe: Recipe,
    /// What is hidden of it.
    pub mask: Mask,
    /// What the contract asks of it beyond its type.
    pub terms: Terms,
}

/// What is done to the values of a field, in this order.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// Columns that it is made of.
    pub compute: Option<Compute>,
    /// The encoding of the columns it reads.
    pub decode: Option<Decode>,
    /// Repairs, in order.
    pub normalise: Vec<Normal>,
    /// Zeros to be put back before digits, up to this width.
    pub pad_left: Option<usize>,
    /// How the source writes it.
    pub convert: Option<Format>,
    /// Which code list says what a code has become.
    pub crosswalk: Option<Crosswalk>,
    /// What is checked.
    pub checks: Vec<Check>,
    /// What is done with a value that cannot be decoded, converted or masked.
    pub on_bad: OnBad,
}

/// How bytes become letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// As this encoding has it.
    As(Encoding),
    /// As a sample of the column shows; a mapping is bound only once that is settled.
    Auto,
}

/// A code list and the day for which it is asked.
#[derive(Debug, Clone)]
pub struct Crosswalk {
    /// The list.
    pub list: Arc<CodeList>,
    /// The day.
    pub as_of: AsOf,
    /// What is done with a code that it does not know.
    pub on_bad: OnBad,
}

impl Recipe {
    /// Whether it does nothing, so that values may pass as they lie.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { compute, decode, normalise, pad_left, convert, crosswalk, checks, on_bad: _ } =
            self;
        compute.is_none()
            && decode.is_none()
            && normalise.is_empty()
            && pad_left.is_none()
            && convert.is_none()
            && crosswalk.is_none()
            && checks.is_empty()
    }

    /// Whether a check asks whether there is a value at all.
    #[must_use]
    pub fn requires(&self) -> bool {
        self.checks.iter().any(|check| matches!(check.test, Test::Required))
    }

    /// Whether its values need not be of the column's own type.
    #[must_use]
    pub fn changes_type(&self) -> bool {
        self.compute.is_some() || self.convert.is_some() || self.crosswalk.is_some()
    }
}

impl FieldRule {
    /// The columns it reads.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let own = self.from.as_deref().into_iter();
        let parts = self.recipe.compute.iter().flat_map(Compute::columns);
        own.chain(parts).collect()
    }
}

/// What is hidden of a field. A dropped field has no mask: it is not read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Nothing.
    Keep,
    /// All but this many characters at the end, at most half; `*` stands for each of the others.
    KeepLast(usize),
    /// All but this many characters at the beginning, at most half.
    KeepFirst(usize),
    /// All of a name but the first letter of each word.
    Initials,
    /// All of a date or timestamp but its year (of a moment: the year in UTC).
    Year,
    /// All of a number but the band of this width that it lies in.
    Band(u32),
    /// All of an address before its commune.
    Commune,
    /// Everything; equal values get equal pseudonyms under the key in this file.
    Hmac(SecretFile),
    /// Everything; this stands for every value.
    Constant(String),
}

impl Mask {
    /// Whether the masked value still identifies the record one to one.
    #[must_use]
    pub fn keeps_apart(&self) -> bool {
        matches!(self, Self::Keep | Self::Hmac(_))
    }

    /// Why a field of this kind cannot carry this mask; `None` when it can.
    #[must_use]
    pub fn misfit(&self, kind: Kind) -> Option<&'static str> {
        let text = kind == Kind::Text;
        let whole = matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
        match self {
            Self::Keep => None,
            Self::KeepLast(_) => (!text).then_some("`keep_last` is for contract type text"),
            Self::KeepFirst(_) => (!text).then_some("`keep_first` is for contract type text"),
            Self::Initials => (!text).then_some("`initials` is for contract type text"),
            Self::Commune => (!text).then_some("`commune` is for contract type text"),
            Self::Constant(_) => (!text).then_some("`constant` is for contract type text"),
            Self::Band(_) => (!text && !whole && kind != Kind::Numeric)
                .then_some("`band` is for contract types int2, int4, int8, numeric and text"),
            Self::Year => (!text && kind != Kind::Int2 && kind != Kind::Int4)
                .then_some("`year` is for contract types int2, int4 and text"),
            Self::Hmac(_) => (!text && kind != Kind::Bytea)
                .then_some("`hmac` is for contract types text and bytea"),
        }
    }
}
