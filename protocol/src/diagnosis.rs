//! What an agent says when it is asked what may be wrong with it: versions, settings, faults of late.
//!
//! It travels in a report while that is asked for, and stands beside everything else of it. Of the
//! settings there are numbers, switches, spans, sizes and hours; of texts only that there is one, so that
//! no name, address, password or condition leaves the agency. No row value, and no text of an error.

use serde::{Deserialize, Serialize};

use crate::plain::{is_plain, plain};
use crate::time::Timestamp;

/// Settings in one diagnosis.
pub const SETTINGS_MAX: usize = 100;

/// Kinds of faults in one diagnosis.
pub const FAULTS_MAX: usize = 60;

/// One key of the agent's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Which, with its section: `guard.snapshot_workers`.
    pub key: String,
    /// What it is; `…` for a text.
    pub value: String,
}

/// A kind of fault since the program was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    /// Its name.
    pub code: String,
    /// How often it was logged.
    pub count: u64,
    /// When last, by the agent's clock.
    pub last: Timestamp,
}

/// What an agent says of itself when it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The order that asked for it.
    pub order: u64,
    /// System, architecture and kernel.
    pub platform: String,
    /// Memory of the program in KiB, where the system says.
    pub memory_kib: Option<u64>,
    /// Processors it may use.
    pub processors: u64,
    /// The agent's file, without texts.
    pub settings: Vec<Setting>,
    /// What went wrong since it was started, the newest first.
    pub faults: Vec<Lately>,
}

impl Diagnosis {
    /// The same within its bounds: what does not fit is left out.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.platform = plain(&self.platform);
        self.settings.truncate(SETTINGS_MAX);
        for one in &mut self.settings {
            (one.key, one.value) = (plain(&one.key), plain(&one.value));
        }
        self.faults.truncate(FAULTS_MAX);
        self
    }

    /// Whether it keeps to its bounds.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let settings = self.settings.iter().flat_map(|one| [&one.key, &one.value]);
        let faults = self.faults.iter().map(|one| &one.code);
        self.settings.len() <= SETTINGS_MAX
            && self.faults.len() <= FAULTS_MAX
            && settings.chain(faults).chain([&self.platform]).all(|text| is_plain(text))
    }
}
