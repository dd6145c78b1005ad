//! `Trouble`: a fault as it is shown while it lasts.

pub mod lately;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A fault as it is shown: when it began, what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// Which fault.
    pub code: Code,
    /// What was tried on what, with causes.
    pub what: String,
}

impl Trouble {
    /// `fault` as trouble; one that goes on keeps its beginning.
    #[must_use]
    pub fn from_fault(fault: &Fault, before: Option<&Self>) -> Self {
        let since = before.filter(|t| t.code == fault.code).map(|t| t.since);
        Self { since: since.unwrap_or_else(Timestamp::now), code: fault.code, what: fault.chain() }
    }
}
