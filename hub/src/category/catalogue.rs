//! `Catalogue`: which lists a province shares, and the file each comes from; `categories.toml` as
//! written and checked. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use phusa_protocol::contract::Class;
use serde::Deserialize;

/// `categories.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueFile {
    /// The lists. At least one.
    pub category: Vec<CategoryFile>,
}

/// One list of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryFile {
    /// Its number in the annex, from 1. Required.
    pub number: u32,
    /// Its name, the same as in its file. Required.
    pub list: String,
    /// The file with its codes, relative to this one. Required.
    pub file: PathBuf,
    /// Its title in Vietnamese, as in the annex. Required.
    pub title_vi: String,
    /// Its title in English. Required.
    pub title_en: String,
    /// The group it belongs to. Required. Example `"person_code"`.
    pub group: String,
    /// The list its codes are below of. Default none.
    #[serde(default)]
    pub parent: Option<String>,
    /// Its level, where lists are of levels. Default: they are not.
    #[serde(default)]
    pub level: Option<u32>,
    /// How sensitive a code is once it is tied to a person. Required.
    pub class: Class,
    /// How codes are written: a proposal, not the issuer's rule. Required.
    pub pattern: String,
    /// Where the list is asked for. Required.
    pub clause: String,
}

impl CatalogueFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// Line and column, or the rule that is broken, in words.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let names: BTreeSet<_> = file.category.iter().map(|c| c.list.as_str()).collect();
        let numbers: BTreeSet<_> = file.category.iter().map(|c| c.number).collect();
        if names.len() != file.category.len() || numbers.len() != file.category.len() {
            return Err("a `list` or a `number` stands twice".to_owned());
        }
        let known = |category: &&CategoryFile| {
            category.parent.as_deref().is_some_and(|parent| !names.contains(parent))
        };
        match file.category.iter().find(known) {
            Some(orphan) => Err(format!("the parent of `{}` is no list of this file", orphan.list)),
            None if file.category.is_empty() => Err("`category` needs an entry".to_owned()),
            None => Ok(file),
        }
    }
}
