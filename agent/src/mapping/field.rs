//! What is to become of each field: where it comes from, what it must be, what is hidden of it.
//!
//! These are the checked rules of a dataset file; what they do to bytes is decided once the
//! source's columns are known ([`super::Mapping::bind`]). A column that no rule names is not shared.

use phusa_protocol::value::Kind;

use super::filter::Filter;
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
    /// The column at the source; `None` sends null and reads nothing.
    pub from: Option<String>,
    /// What is hidden of it.
    pub mask: Mask,
}

/// What is hidden of a field. A dropped field has no mask: it is not read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Nothing.
    Keep,
    /// All but this many characters at the end; `*` stands for each of the others.
    KeepLast(usize),
    /// All of a date or timestamp but its year (of a moment: the year in UTC).
    Year,
    /// Everything; equal values get equal pseudonyms under the key in this file.
    Hmac(SecretFile),
}

impl Mask {
    /// Whether the masked value still identifies the record one to one.
    #[must_use]
    pub fn keeps_apart(&self) -> bool {
        match self {
            Self::Keep | Self::Hmac(_) => true,
            Self::KeepLast(_) | Self::Year => false,
        }
    }

    /// Why a field of this kind cannot carry this mask; `None` when it can.
    #[must_use]
    pub fn misfit(&self, kind: Kind) -> Option<&'static str> {
        let text = kind == Kind::Text;
        match self {
            Self::Keep => None,
            Self::KeepLast(_) => (!text).then_some("`keep_last` is for contract type text"),
            Self::Year => (!text && kind != Kind::Int2 && kind != Kind::Int4)
                .then_some("`year` is for contract types int2, int4 and text"),
            Self::Hmac(_) => (!text && kind != Kind::Bytea)
                .then_some("`hmac` is for contract types text and bytea"),
        }
    }
}
