//! `Chain`: the rules of one field in their one order, on the text of its value.
//!
//! decode → normalise → convert (`pad_left`, then `convert`) → crosswalk → check → mask, and then
//! the bytes of the contract's type. Each stage takes the text the one before left; what a broken
//! rule does is the file's (`on_bad`). A field without rules never comes here.

use phusa_protocol::row::put_field;
use phusa_protocol::value::{Field, Kind};

use super::bench::{Bench, Neighbours, Scene};
use super::check::{Beside as _, Test};
use super::codes::Became;
use super::compute::Compute;
use super::convert::put_sized;
use super::decode::{Encoding, put_utf8};
use super::field::{Mask, Recipe};
use super::mask;
use super::nfc;
use super::normalise::{self, Normal};
use super::pack;
use super::quality::{OnBad, Rule};
use super::step::Pseudonym;
use super::text;
use crate::source::Native;

/// The rules of one field joined to the columns they read.
#[derive(Clone)]
pub(super) struct Chain {
    input: Input,
    recipe: Recipe,
    mask: Mask,
    pseudonym: Option<Pseudonym>,
    kind: Kind,
}

#[derive(Clone)]
enum Input {
    /// The step's own column.
    Column(Reader),
    /// Columns of the row, by their places.
    Computed(Vec<(usize, Reader)>, Compute),
}

/// How a column's bytes become a text.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) native: Native,
    pub(super) encoding: Option<Encoding>,
}

/// What a field is before its checks; a value's text is on the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Text,
    Null,
    Unchanged,
}

/// What a field is, and a rule that was broken on the way and did not end it.
type Derived = Result<(Found, Option<(Rule, OnBad)>), Rule>;

impl Chain {
    pub(super) fn of_column(
        reader: Reader,
        recipe: Recipe,
        mask: (Mask, Option<Pseudonym>),
        kind: Kind,
    ) -> Self {
        Self { input: Input::Column(reader), recipe, mask: mask.0, pseudonym: mask.1, kind }
    }

    pub(super) fn computed(
        parts: (Vec<(usize, Reader)>, Compute),
        recipe: Recipe,
        mask: (Mask, Option<Pseudonym>),
        kind: Kind,
    ) -> Self {
        let input = Input::Computed(parts.0, parts.1);
        Self { input, recipe, mask: mask.0, pseudonym: mask.1, kind }
    }

    /// Appends the field, length first.
    ///
    /// # Errors
    /// The rule that ends the row.
    pub(super) fn put(
        &self,
        field: Field<'_>,
        scene: &mut Scene<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Found, Rule> {
        let Scene { neighbours, bench, index, .. } = scene;
        let (mut found, noted) = self.derive(field, neighbours, bench)?;
        if let Some((rule, on_bad)) = noted {
            bench.note(*index, rule, on_bad);
        }
        // A key alone is that of a row whose value was checked when it came.
        if neighbours.row.is_some() {
            found = self.check(found, scene)?;
        }
        if found == Found::Text {
            let start = out.len();
            match self.put_text(scene.bench, out) {
                Err(rule) if self.recipe.on_bad == OnBad::NullField => {
                    out.truncate(start);
                    scene.bench.note(scene.index, rule, OnBad::NullField);
                    found = Found::Null;
                }
                done => done?,
            }
        }
        Ok(found)
    }

    /// The value before checks and mask.
    pub(super) fn derive(
        &self,
        field: Field<'_>,
        neighbours: &Neighbours<'_, '_>,
        bench: &mut Bench,
    ) -> Derived {
        let read = match &self.input {
            Input::Column(reader) => match field {
                Field::Null => return Ok((Found::Null, None)),
                Field::Unchanged => return Ok((Found::Unchanged, None)),
                Field::Value(bytes) => {
                    bench.words.clear();
                    reader.put(bytes, bench).map(|()| Found::Text)
                }
            },
            Input::Computed(parts, compute) => put_computed(parts, compute, neighbours, bench),
        };
        let settled = read.and_then(|found| match found {
            Found::Text => self.settle(bench),
            Found::Null | Found::Unchanged => Ok(found),
        });
        match settled {
            Ok(Found::Text) => Ok(self.crosswalk(neighbours, bench)),
            Ok(found) => Ok((found, None)),
            Err(rule) => match self.recipe.on_bad {
                OnBad::NullField => Ok((Found::Null, Some((rule, OnBad::NullField)))),
                // Text that cannot be read cannot be sent with a warning.
                OnBad::RejectRow | OnBad::Warn => Err(rule),
            },
        }
        .and_then(|(found, noted)| match noted {
            Some((rule, OnBad::RejectRow)) => Err(rule),
            noted => Ok((found, noted)),
        })
    }

    /// Normalise, pad, convert.
    fn settle(&self, bench: &mut Bench) -> Result<Found, Rule> {
        let Recipe { normalise, pad_left, convert, .. } = &self.recipe;
        let Bench { words, spare, .. } = bench;
        normalise::apply(normalise, words, spare);
        if words.is_empty() && normalise.contains(&Normal::EmptyIsNull) {
            return Ok(Found::Null);
        }
        if let Some(width) = pad_left {
            super::format::pad_left(*width, words)?;
        }
        if let Some(format) = convert {
            let partial = self.kind == Kind::Text || self.mask == Mask::Year;
            format.apply(words, spare, partial)?;
        }
        Ok(Found::Text)
    }

    fn crosswalk(
        &self,
        neighbours: &Neighbours<'_, '_>,
        bench: &mut Bench,
    ) -> (Found, Option<(Rule, OnBad)>) {
        let Some(crosswalk) = &self.recipe.crosswalk else { return (Found::Text, None) };
        let rule = match neighbours.day(crosswalk.as_of) {
            None => Rule::DayUnknown,
            Some(day) => match crosswalk.list.became(&bench.words, day) {
                Became::Itself => return (Found::Text, None),
                Became::Other(code) => {
                    bench.words.clear();
                    bench.words.push_str(code);
                    return (Found::Text, None);
                }
                Became::Unknown => Rule::CodeUnknown,
            },
        };
        let found = if crosswalk.on_bad == OnBad::NullField { Found::Null } else { Found::Text };
        (found, Some((rule, crosswalk.on_bad)))
    }

    fn check(&self, mut found: Found, scene: &mut Scene<'_, '_>) -> Result<Found, Rule> {
        let Scene { neighbours, bench, index, fresh } = scene;
        for check in &self.recipe.checks {
            let broken = match (&check.test, found) {
                (Test::Required, Found::Null) => Some((Rule::Required, None)),
                (_, Found::Null | Found::Unchanged) => None,
                (Test::Unique, Found::Text) => {
                    (*fresh && bench.was_seen(*index)).then_some((Rule::Duplicate, None))
                }
                (test, Found::Text) => test.judge(&bench.words, *neighbours),
            };
            let Some((rule, own)) = broken else { continue };
            match own.unwrap_or(check.on_bad) {
                OnBad::RejectRow => return Err(rule),
                OnBad::NullField => {
                    bench.note(*index, rule, OnBad::NullField);
                    found = Found::Null;
                }
                OnBad::Warn => bench.note(*index, rule, OnBad::Warn),
            }
        }
        Ok(found)
    }

    fn put_text(&self, bench: &mut Bench, out: &mut Vec<u8>) -> Result<(), Rule> {
        let Bench { words, spare, .. } = bench;
        match &self.mask {
            Mask::Keep => {}
            Mask::KeepLast(count) => mask::keep_last(*count, words, spare),
            Mask::KeepFirst(count) => mask::keep_first(*count, words, spare),
            Mask::Initials => mask::initials(words, spare),
            Mask::Year => mask::year(words)?,
            Mask::Band(width) => mask::band(*width, self.kind != Kind::Text, words)?,
            Mask::Commune => mask::commune(words)?,
            Mask::Constant(text) => words.clone_from(text),
            Mask::Hmac(_) => return self.put_pseudonym(bench, out),
        }
        put_sized(out, |out| pack::put(self.kind, &bench.words, out))
    }

    fn put_pseudonym(&self, bench: &Bench, out: &mut Vec<u8>) -> Result<(), Rule> {
        use hmac::Mac as _;
        let hmac = self.pseudonym.clone().ok_or(Rule::MaskUnfit)?;
        let code = hmac.chain_update(bench.words.as_bytes()).finalize().into_bytes();
        put_sized(out, |out| {
            if self.kind == Kind::Bytea {
                out.extend_from_slice(&code);
            } else {
                mask::hexadecimal(&code, out);
            }
            Ok(())
        })
    }
}

impl Reader {
    /// Appends the text of `bytes` to the words on the bench.
    pub(super) fn put(&self, bytes: &[u8], bench: &mut Bench) -> Result<(), Rule> {
        if let Some(encoding) = self.encoding {
            return encoding.put(bytes, &mut bench.words);
        }
        if self.native == Native::Text {
            return put_utf8(bytes, &mut bench.words);
        }
        bench.bytes.clear();
        text::put(&self.native, bytes, &mut bench.bytes)?;
        let text = std::str::from_utf8(&bench.bytes).map_err(|_| Rule::TextNotUtf8)?;
        bench.words.push_str(text);
        Ok(())
    }
}

fn put_computed(
    parts: &[(usize, Reader)],
    compute: &Compute,
    neighbours: &Neighbours<'_, '_>,
    bench: &mut Bench,
) -> Result<Found, Rule> {
    let row = neighbours.row.ok_or(Rule::ComputeUnknown)?;
    let unchanged = |(column, _): &(usize, Reader)| row.field(*column) == Field::Unchanged;
    if parts.iter().all(unchanged) {
        return Ok(Found::Unchanged);
    }
    bench.words.clear();
    let mut is_null = true;
    for (column, reader) in parts {
        match row.field(*column) {
            Field::Null => continue,
            Field::Unchanged => return Err(Rule::ComputeUnknown),
            Field::Value(bytes) => {
                bench.words.push_str(if is_null { "" } else { compute.between() });
                reader.put(bytes, bench)?;
                is_null = false;
            }
        }
        if compute.takes_first() {
            break;
        }
    }
    if is_null {
        return Ok(Found::Null);
    }
    // Two texts in NFC side by side need not be in NFC: a mark may begin the second.
    if !nfc::is_plain(bench.words.as_bytes()) {
        use unicode_normalization::UnicodeNormalization as _;
        bench.words = bench.words.nfc().collect();
    }
    let Bench { words, spare, .. } = bench;
    Ok(if compute.finish(words, spare) { Found::Text } else { Found::Null })
}

/// A field without a value, as it stands in a row.
pub(super) fn put_absent(found: Found, out: &mut Vec<u8>) {
    match found {
        Found::Null | Found::Text => put_field(out, Field::Null),
        Found::Unchanged => put_field(out, Field::Unchanged),
    }
}

#[cfg(test)]
mod tests;
