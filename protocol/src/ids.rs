//! Names that must never be mixed up: agency, agent, dataset, stream, batch sequence.
//!
//! Each is checked where it enters; afterwards it can be used in file names and topics as it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name that was refused, and the rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not a valid name: {rule}")]
pub struct BadName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

/// An agency's electronic identifier, such as `H57.12` (QCVN 102:2016).
///
/// 1 to 40 characters of `A-Z a-z 0-9 . -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgencyId(String);

impl AgencyId {
    /// Checks `text` against the rule above.
    ///
    /// # Errors
    /// [`BadName`] when the rule is broken.
    pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
        let text = text.into();
        let rest = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if is_name(&text, 40, |c| c.is_ascii_alphanumeric(), rest) {
            return Ok(Self(text));
        }
        let rule = "1 to 40 of A-Z a-z 0-9 . -, beginning with a letter or digit";
        Err(BadName { kind: "agency", text, rule })
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One installation at one agency, written `H57.12/may-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId {
    agency: AgencyId,
    name: String,
}

impl AgentId {
    /// An agent of `agency`; `name` is 1 to 40 of `a-z 0-9 -`, beginning with a letter or digit.
    ///
    /// # Errors
    /// [`BadName`] when the rule is broken.
    pub fn new(agency: AgencyId, name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if is_name(&name, 40, first, |c| first(c) || c == '-') {
            return Ok(Self { agency, name });
        }
        let rule = "1 to 40 of a-z 0-9 -, beginning with a letter or digit";
        Err(BadName { kind: "agent", text: name, rule })
    }

    /// The agency this agent stands at.
    #[must_use]
    pub fn agency(&self) -> &AgencyId {
        &self.agency
    }

    /// The installation's own name within its agency.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One shared table of the warehouse, written `theme.table`, such as `cong_dan.citizens`.
///
/// Each half is 1 to 48 of `a-z 0-9 _`, beginning with a letter, so that it is a PostgreSQL
/// identifier that needs no quotes and leaves room for suffixes such as `__history`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetId {
    theme: String,
    table: String,
}

impl DatasetId {
    /// Checks both halves against the rule above; themes the hub needs itself are refused.
    ///
    /// # Errors
    /// [`BadName`] when the rule is broken.
    pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
        let text = text.into();
        let reserved = ["phusa", "public", "information_schema"];
        match text.split_once('.') {
            Some((theme, table))
                if is_identifier(theme)
                    && is_identifier(table)
                    && !table.contains("__")
                    && !theme.starts_with("pg_")
                    && !reserved.contains(&theme) =>
            {
                Ok(Self { theme: theme.to_owned(), table: table.to_owned() })
            }
            _ => {
                let rule = "theme.table, each 1 to 48 of a-z 0-9 _ beginning with a letter, \
                            no `__` in the table, and not a reserved theme \
                            (phusa, public, information_schema, pg_…)";
                Err(BadName { kind: "dataset", text, rule })
            }
        }
    }

    /// The warehouse schema.
    #[must_use]
    pub fn theme(&self) -> &str {
        &self.theme
    }

    /// The table within its schema.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// Whether `text` may name a contract field: 1 to 48 of `a-z 0-9 _`, beginning with a letter.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase();
    is_name(text, 48, first, |c| first(c) || c.is_ascii_digit() || c == '_')
}

/// The count of full reads of a dataset by one agent, from 1; a new epoch begins with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A batch's place in its stream: 1, 2, 3 … without gaps; 0 means "none yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first batch.
    pub const NONE: Self = Self(0);

    /// The number that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What batches are numbered within: one agent, one dataset, one full read and what follows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Who sends.
    pub agent: AgentId,
    /// What is sent.
    pub dataset: DatasetId,
    /// Since which full read.
    pub epoch: Epoch,
}

fn is_name(
    text: &str,
    length_max: usize,
    first: impl Fn(char) -> bool,
    rest: impl Fn(char) -> bool,
) -> bool {
    text.len() <= length_max && text.chars().next().is_some_and(first) && text.chars().all(rest)
}

impl fmt::Display for AgencyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.agency, self.name)
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.theme, self.table)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.agent, self.dataset, self.epoch)
    }
}

impl TryFrom<String> for AgencyId {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl TryFrom<String> for AgentId {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let Some((agency, name)) = text.split_once('/') else {
            return Err(BadName { kind: "agent", text, rule: "agency/name" });
        };
        Self::new(AgencyId::new(agency)?, name)
    }
}

impl TryFrom<String> for DatasetId {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl From<AgencyId> for String {
    fn from(id: AgencyId) -> Self {
        id.0
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.to_string()
    }
}

impl From<DatasetId> for String {
    fn from(id: DatasetId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_or_refused_by_rule() {
        for good in ["H57.12", "H57", "000.00.00.H57", "G01-105"] {
            assert!(AgencyId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".H57", "H57/12", "Huế", &"x".repeat(41)] {
            assert!(AgencyId::new(bad).is_err(), "{bad}");
        }
        assert!(AgentId::try_from("H57.12/may-1".to_owned()).is_ok());
        for bad in ["H57.12", "H57.12/", "H57.12/Máy", "H57.12/a/b"] {
            assert!(AgentId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(DatasetId::new("cong_dan.citizens").is_ok());
        for bad in ["citizens", "cong_dan.", "phusa.streams", "pg_x.t", "a.b__history", "A.b"] {
            assert!(DatasetId::new(bad).is_err(), "{bad}");
        }
    }
}
