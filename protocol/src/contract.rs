//! `Contract`: the agreed shape of a shared dataset (fields, types, key, legal basis) and its
//! fingerprint.
//!
//! A contract is a TOML file that agency and hub each hold a copy of; what they compare is its
//! fingerprint, the SHA-256 of its canonical JSON. Agreed fields and nothing else: CT-15, NA-12.
//! [`change`] says what a new version changes, [`consent`] who has agreed to one, [`words`] what it means.

pub mod change;
pub mod consent;
pub mod words;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{AgencyId, DatasetId, is_identifier};
use crate::value::Kind;

/// The largest `max_length`; a longer text belongs into a file.
const LENGTH_MAX: u32 = 1_000_000;

/// How sensitive a field is; what is not classed is not shared (domain notes §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Public.
    P,
    /// Internal to the administration.
    I,
    /// Basic personal data.
    B,
    /// Sensitive personal data; needs a named legal basis.
    X,
    /// Identifies a person.
    N,
    /// A state secret: never shared, and its mere mention stops the agent (CT-01).
    #[serde(rename = "state_secret")]
    StateSecret,
}

/// How others come to use a dataset (NA-02, NA-03, CT-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// For anyone.
    Open,
    /// For agencies, on simple approval.
    Default,
    /// For agencies, on a request that is worked out together.
    Special,
}

/// One agreed field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractField {
    /// Its name in the warehouse: 1 to 48 of `a-z 0-9 _`, beginning with a letter.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// How sensitive it is.
    pub class: Class,
    /// Whether it may never be null. Key fields always are. Default false.
    #[serde(default)]
    pub required: bool,
    /// Its name for people, in Vietnamese (CT-10).
    pub name_vi: String,
    /// Its name for people, in English. Default empty.
    #[serde(default)]
    pub name_en: String,
    /// The law or decision that lets a class X field be shared. Default empty.
    #[serde(default)]
    pub legal_basis: String,
    /// Of a `text` field: the most characters it may have, 1 to 1,000,000. Default: no bound of its
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// Of a `text` field: the category list its codes are of, such as `gender`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_list: Option<String>,
    /// The element of the national data dictionary it is (HU-20), where known. Default: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub national_name: Option<String>,
}

/// The agreed shape of a shared dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The table of the warehouse, `theme.table`.
    pub dataset: DatasetId,
    /// Major version, from 1; a change that breaks consumers needs the next one (NA-01).
    pub version: u32,
    /// Minor version; a change that breaks nobody needs the next one. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub minor: u32,
    /// Title for people, in Vietnamese.
    pub title_vi: String,
    /// Title for people, in English. Default empty.
    #[serde(default)]
    pub title_en: String,
    /// The agency that owns the data and alone may write it (HU-21).
    pub owner: AgencyId,
    /// The agency whose machines hold the data, where that is not the owner (CT-17). Default: the
    /// owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<AgencyId>,
    /// The purposes it may be used for: codes of the province's legal profile (HU-02). Default: not
    /// said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purposes: Vec<String>,
    /// What entitles the sharing (CB-02).
    pub legal_basis: String,
    /// How others come to use it.
    pub sharing: Sharing,
    /// Agreed freshness, such as `15m` (CT-41, HU-05).
    pub frequency: crate::units::Span,
    /// How long rows and history are kept at least (CB-18), such as `3650d`.
    pub retention: crate::units::Span,
    /// The fields that identify a record, in order; at least one.
    pub key: Vec<String>,
    /// The agreed fields in order; at least one.
    #[serde(rename = "field")]
    pub fields: Vec<ContractField>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A version in both its parts, written `1.2`; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Rises with a change that breaks consumers.
    pub major: u32,
    /// Rises with a change that breaks nobody.
    pub minor: u32,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A contract that contradicts itself, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadContract {
    /// The text is not such a file; the message has line, column and what is allowed.
    #[error("{0}")]
    Syntax(String),
    /// A rule across fields is broken.
    #[error("contract {dataset}: {rule}")]
    Rule {
        /// Which contract.
        dataset: String,
        /// What is wrong and what would be right.
        rule: String,
    },
}

impl Contract {
    /// Reads and checks a contract file.
    ///
    /// # Errors
    /// [`BadContract`] with the place or the rule.
    pub fn from_toml(text: &str) -> Result<Self, BadContract> {
        let contract: Self =
            toml::from_str(text).map_err(|error| BadContract::Syntax(error.to_string()))?;
        contract
            .check()
            .map_err(|rule| BadContract::Rule { dataset: contract.dataset.to_string(), rule })?;
        Ok(contract)
    }

    /// The contract as a file: what [`Contract::from_toml`] reads, with this fingerprint.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // A contract holds nothing that TOML cannot express.
        toml::to_string(self).unwrap_or_default()
    }

    /// Both parts of its version: `1.2`.
    #[must_use]
    pub fn number(&self) -> Number {
        Number { major: self.version, minor: self.minor }
    }

    /// The SHA-256 of the contract's canonical JSON.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&crate::batch::canonical_json(self))
    }

    /// Where the key fields stand among the fields, in key order.
    #[must_use]
    pub fn key_indexes(&self) -> Vec<usize> {
        let position = |name: &String| self.fields.iter().position(|field| field.name == *name);
        self.key.iter().filter_map(position).collect()
    }

    /// Whether field `index` may be null.
    #[must_use]
    pub fn is_nullable(&self, index: usize) -> bool {
        self.fields.get(index).is_some_and(|f| !f.required && !self.key.contains(&f.name))
    }

    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("`version` counts from 1".to_owned());
        }
        if self.fields.is_empty() || self.fields.len() > crate::row::FIELDS_MAX - 8 {
            return Err("`field` needs 1 to 1592 entries".to_owned());
        }
        let mut seen = BTreeSet::new();
        for field in &self.fields {
            check_field(field)?;
            if !seen.insert(field.name.as_str()) {
                return Err(format!("field `{}` stands twice", field.name));
            }
        }
        let mut purposes = BTreeSet::new();
        for code in &self.purposes {
            if !is_identifier(code) || !purposes.insert(code) {
                return Err(format!("purpose `{code}` is no code such as `tthc`, or stands twice"));
            }
        }
        self.check_key(&seen)
    }

    fn check_key(&self, fields: &BTreeSet<&str>) -> Result<(), String> {
        if self.key.is_empty() {
            return Err("`key` needs at least one field".to_owned());
        }
        let mut keys = BTreeSet::new();
        for name in &self.key {
            if !fields.contains(name.as_str()) {
                return Err(format!("key field `{name}` is not among the fields"));
            }
            if !keys.insert(name) {
                return Err(format!("key field `{name}` stands twice in `key`"));
            }
        }
        Ok(())
    }
}

fn check_field(field: &ContractField) -> Result<(), String> {
    let name = &field.name;
    if !is_identifier(name) {
        return Err(format!(
            "field name `{name}` is not 1 to 48 of a-z 0-9 _ beginning with a letter"
        ));
    }
    check_terms(field)?;
    match field.class {
        Class::StateSecret => Err(format!(
            "field `{name}` is classed state_secret; state secrets are never shared (CT-01)"
        )),
        Class::X if field.legal_basis.trim().is_empty() => {
            Err(format!("field `{name}` is of class X and needs its own `legal_basis`"))
        }
        Class::P | Class::I | Class::B | Class::X | Class::N => Ok(()),
    }
}

/// Lengths and lists are counted and looked up in text alone, because the hub sees bytes.
fn check_terms(field: &ContractField) -> Result<(), String> {
    let name = &field.name;
    if let Some(length) = field.max_length
        && (field.kind != Kind::Text || !(1..=LENGTH_MAX).contains(&length))
    {
        return Err(format!("field `{name}`: `max_length` is 1 to {LENGTH_MAX}, of type text"));
    }
    if let Some(list) = &field.code_list
        && (field.kind != Kind::Text || !is_identifier(list))
    {
        return Err(format!("field `{name}`: `code_list` names a list, and is of type text"));
    }
    match &field.national_name {
        Some(national) if national.trim().is_empty() => {
            Err(format!("field `{name}`: `national_name` is a name or is left out"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SAMPLE: &str = r#"
dataset = "cong_dan.citizens"
version = 1
title_vi = "Công dân"
owner = "H57.12"
legal_basis = "Quyết định 1046/QĐ-UBND"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["id"]

[[field]]
name = "id"
type = "int8"
class = "N"
name_vi = "Mã"

[[field]]
name = "ton_giao"
type = "text"
class = "X"
legal_basis = "Nghị định 356/2025, điều 4"
name_vi = "Tôn giáo"
"#;

    #[test]
    fn a_sound_contract_is_read_and_its_fingerprint_is_of_its_meaning() {
        let contract = Contract::from_toml(SAMPLE).unwrap();
        assert_eq!(contract.key_indexes(), [0]);
        assert!(!contract.is_nullable(0));
        assert!(contract.is_nullable(1));
        let spaced = SAMPLE.replace(" = ", "   =   ");
        let same = Contract::from_toml(&spaced).unwrap();
        assert_eq!(contract.fingerprint(), same.fingerprint());
        let other = Contract::from_toml(&SAMPLE.replace("15m", "20m")).unwrap();
        assert_ne!(contract.fingerprint(), other.fingerprint());
        let written = Contract::from_toml(&contract.to_toml()).unwrap();
        assert_eq!(written.fingerprint(), contract.fingerprint(), "{}", contract.to_toml());
        assert_eq!(contract.number().to_string(), "1.0");
    }

    #[test]
    fn keys_that_are_left_out_do_not_change_the_fingerprint_and_keys_that_stand_do() {
        // Agreed before these keys were known: must never change.
        let agreed = "638ac4af5a8fb8baaf338cf6a24b0743f9bcbee0e233ee8a5edd8ba52debd4ea";
        let plain = Contract::from_toml(SAMPLE).unwrap();
        assert_eq!(plain.fingerprint().to_string(), agreed);
        for (from, to) in [
            ("owner =", "host = \"H57\"\nowner ="),
            ("version = 1", "version = 1\nminor = 1"),
            ("owner =", "purposes = [\"tthc\"]\nowner ="),
            ("name_vi = \"Tôn giáo\"", "name_vi = \"Tôn giáo\"\nmax_length = 2"),
            ("name_vi = \"Tôn giáo\"", "name_vi = \"Tôn giáo\"\ncode_list = \"religion\""),
            ("name_vi = \"Tôn giáo\"", "name_vi = \"Tôn giáo\"\nnational_name = \"TonGiao\""),
        ] {
            let other = Contract::from_toml(&SAMPLE.replacen(from, to, 1)).unwrap();
            assert_ne!(other.fingerprint().to_string(), agreed, "{to}");
        }
    }

    #[test]
    fn a_contract_that_contradicts_itself_says_where() {
        let check = |from: &str, to: &str, expected: &str| {
            let error = Contract::from_toml(&SAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("version = 1", "version = 0", "counts from 1");
        check("key = [\"id\"]", "key = [\"ma\"]", "key field `ma` is not among the fields");
        check("class = \"N\"", "class = \"state_secret\"", "CT-01");
        check("legal_basis = \"Nghị định 356/2025, điều 4\"", "", "class X");
        check("name = \"ton_giao\"", "name = \"id\"", "stands twice");
        check("type = \"int8\"", "type = \"int9\"", "unknown variant `int9`, expected one of");
        let name = "name_vi = \"Tôn giáo\"";
        check(name, &format!("{name}\nmax_length = 0"), "`max_length` is 1 to 1000000");
        check(name, &format!("{name}\ncode_list = \"Tôn giáo\""), "`code_list` names a list");
        check(name, &format!("{name}\nnational_name = \" \""), "`national_name` is a name");
        check("class = \"N\"", "class = \"N\"\nmax_length = 12", "of type text");
        check("sharing", "purposes = [\"tthc\", \"tthc\"]\nsharing", "purpose `tthc`");
        check("version = 1", "verzion = 1", "unknown field `verzion`, expected one of");
    }
}
