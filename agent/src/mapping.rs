//! `Mapping`: a block of source rows in, a [`Shareable`] and counted rejections out; the only place
//! that can make a `Shareable`.
//!
//! It decides and does nothing else: no clock, no file, no socket. A dataset file's rules
//! ([`field::Rules`]) are joined to the columns that the source reports ([`Mapping::bind`]), where
//! every column that cannot be carried exactly is refused by name; after that each block passes
//! through [`Bound::apply`]. A row that its contract does not allow stays at the agency and is
//! counted by rule and field ([`quality`]).
//!
//! Most fields of most rows are the contract's own bytes already, so the way is built for them: a
//! row whose fields all pass is copied whole.

pub mod field;
pub mod filter;
pub mod syllable;
pub mod decode;
pub mod normalise;
pub mod format;
pub mod codes;
pub mod compute;
pub mod check;
pub mod quality;
pub mod terms;
pub mod preview;
pub mod looks;
pub mod evidence;
pub mod propose;
mod bench;
mod bound;
mod chain;
mod convert;
mod ids;
mod mask;
mod moment;
mod nfc;
mod number;
mod pack;
mod row;
mod shareable;
mod step;
mod text;
mod uuid;

use hmac::Mac as _;
use phusa_protocol::fault::{Code, Fault};

use self::field::{Decode, FieldRule, Mask, Rules};
use self::step::{Pseudonym, Step};
use crate::source::Column;

pub use self::bound::{Bound, Mapped};
pub use self::quality::{OnBad, Quality, Reject, Rule};
pub use self::shareable::{Envelope, Shareable};

/// The rules of one dataset with the keys they need.
pub struct Mapping {
    rules: Rules,
    /// One per field whose mask is a pseudonym.
    pseudonyms: Vec<Option<Pseudonym>>,
}

impl Mapping {
    /// Reads the keys that masks need; nothing else is read or written.
    ///
    /// # Errors
    /// `secret_unreadable`.
    pub fn new(rules: &Rules) -> Result<Self, Fault> {
        let mut pseudonyms = Vec::new();
        for field in &rules.fields {
            pseudonyms.push(match &field.mask {
                Mask::Hmac(file) => Some(pseudonym(&file.load_key()?)?),
                Mask::Keep
                | Mask::KeepLast(_)
                | Mask::KeepFirst(_)
                | Mask::Initials
                | Mask::Year
                | Mask::Band(_)
                | Mask::Commune
                | Mask::Constant(_) => None,
            });
        }
        Ok(Self { rules: rules.clone(), pseudonyms })
    }

    /// Joins the rules to the columns of a table. Blocks with other columns need a new join.
    ///
    /// # Errors
    /// `source_column_missing` or `source_type_refused`, naming every column concerned and the
    /// contract type that would carry it; `mapping_invalid` for a filter that does not fit.
    pub fn bind(&self, columns: &[Column]) -> Result<Bound, Fault> {
        let missing = |name: &&str| !columns.iter().any(|column| column.name == *name);
        let wanted = self.rules.fields.iter().flat_map(FieldRule::columns);
        let lacking: Vec<&str> = wanted.filter(missing).collect();
        if !lacking.is_empty() {
            let what = format!("the table has no column {}", lacking.join(", "));
            return Err(Fault::new(Code::SourceColumnMissing, what));
        }
        if let Some(field) =
            self.rules.fields.iter().find(|f| f.recipe.decode == Some(Decode::Auto))
        {
            let what = format!("the encoding of `{}` is not settled yet", field.name);
            return Err(Fault::new(Code::EncodingUnsure, what));
        }
        let steps = self
            .steps(columns)
            .map_err(|refused| Fault::new(Code::SourceTypeRefused, refused.join("; ")))?;
        let filter = self.rules.filter.as_ref().map(|filter| filter.bind(columns)).transpose();
        let filter = filter.map_err(|rule| Fault::new(Code::MappingInvalid, rule))?;
        Ok(Bound::new(&self.rules, columns, steps, filter))
    }

    fn steps(&self, columns: &[Column]) -> Result<Vec<Step>, Vec<String>> {
        let (mut steps, mut refused) = (Vec::new(), Vec::new());
        let rules = self.rules.fields.iter().zip(&self.pseudonyms).enumerate();
        for (index, (rule, pseudonym)) in rules {
            let key = self.rules.key.contains(&index);
            match Step::bind(rule, columns, key, pseudonym.as_ref()) {
                Ok(step) => steps.push(step),
                Err(refusal) => refused.push(refusal),
            }
        }
        if refused.is_empty() { Ok(steps) } else { Err(refused) }
    }
}

fn pseudonym(key: &[u8; 32]) -> Result<Pseudonym, Fault> {
    // HMAC takes keys of any length, so this cannot fail.
    Pseudonym::new_from_slice(key).map_err(|bad| Fault::because(Code::Bug, "an HMAC key", bad))
}

impl std::fmt::Debug for Mapping {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
