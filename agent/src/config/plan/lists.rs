//! Code lists from their files, each read once, with the digest that makes a changed list a
//! changed mapping.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use toml::Spanned;

use super::place::{self, Place};
use crate::config::rules::{BecomesFile, CodeFile, ListFile};
use crate::mapping::codes::{CodeList, Period};

/// The lists that a dataset file names.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<PathBuf, (Arc<CodeList>, Digest)>);

impl Lists {
    /// The list in the file at `path`.
    ///
    /// # Errors
    /// `mapping_invalid` with file, line and rule.
    pub(super) fn load(&mut self, path: &Path) -> Result<Arc<CodeList>, Fault> {
        if let Some((list, _)) = self.0.get(path) {
            return Ok(Arc::clone(list));
        }
        let text = place::read(path, Code::MappingInvalid)?;
        let file: ListFile = place::parse(path, &text, Code::MappingInvalid)?;
        let place = Place::new(path, &text);
        let list = Arc::new(list(&file, &place)?);
        self.0.insert(path.to_path_buf(), (Arc::clone(&list), Digest::of(text.as_bytes())));
        Ok(list)
    }

    /// The digests of all lists read, in the order of their paths.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.values().map(|(_, digest)| *digest).collect()
    }
}

fn list(file: &ListFile, place: &Place<'_>) -> Result<CodeList, Fault> {
    let whole = Period::new(file.valid_from.as_deref(), file.valid_to.as_deref());
    let whole = whole.map_err(|rule| place.fault(0..0, Code::MappingInvalid, rule))?;
    let mut list = CodeList::new(whole);
    if file.only_becomes {
        list.only_becomes();
    }
    match file.any_of_digits {
        Some(digits @ 1..=20) => list.any_of_digits(digits),
        Some(_) => {
            let rule = "`any_of_digits` is 1 to 20";
            return Err(place.fault(0..0, Code::MappingInvalid, rule));
        }
        None => {}
    }
    for code in &file.codes {
        add_code(code.get_ref(), &mut list).map_err(|rule| wrong(place, code, &rule))?;
    }
    for becomes in &file.becomes {
        add_becomes(becomes.get_ref(), &mut list).map_err(|rule| wrong(place, becomes, &rule))?;
    }
    if let Some(dangling) = list.dangling().first() {
        let rule = format!("codes become `{dangling}`, which is not a code of this list");
        return Err(place.fault(0..0, Code::MappingInvalid, rule));
    }
    Ok(list)
}

fn wrong<T>(place: &Place<'_>, at: &Spanned<T>, rule: &str) -> Fault {
    place.fault(at.span(), Code::MappingInvalid, rule)
}

fn add_code(code: &CodeFile, list: &mut CodeList) -> Result<(), String> {
    let period = Period::new(code.valid_from.as_deref(), code.valid_to.as_deref())?;
    list.add(code.code.clone(), period);
    Ok(())
}

fn add_becomes(becomes: &BecomesFile, list: &mut CodeList) -> Result<(), String> {
    let period = Period::new(becomes.valid_from.as_deref(), becomes.valid_to.as_deref())?;
    list.add_becomes(becomes.from.clone(), becomes.to.clone(), period)
}
