//! What agent and updater lay down for each other: small JSON files, replaced at once.
//!
//! In `incoming` (written by the agent): `offer.json` with `program` and `metadata/`, `health.json` every
//! second, `self-test.json`. In the folder of the slots (written by the updater): `state.json`. Fields that
//! are not known are passed over, so that a program reads what the next one wrote.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::release::{Facts, Stage, Version, Why};
use phusa_protocol::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk;

/// The largest of these files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A release that is whole and verified, for the updater.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What people signed of it.
    pub facts: Facts,
    /// Its length in bytes.
    pub length: u64,
}

/// How a dataset is, as the judge sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It reads and delivers.
    Well,
    /// Something stands in its way that goes away by itself: a dead database, a hub that is busy.
    Excused,
    /// It has not begun.
    Waiting,
    /// It stands still.
    Bad,
}

/// A sign of life, every second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The version of the slot it runs from.
    pub running: Version,
    /// Since when this process runs.
    pub started_at: Timestamp,
    /// Grows with each sign, so that no clock is needed to tell a new one.
    pub beat: u64,
    /// Its memory in KiB, where the system says.
    pub rss_kib: Option<u64>,
    /// Every dataset.
    pub datasets: Vec<(DatasetId, Condition)>,
}

/// What the new program said of itself where it is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Of which release.
    pub version: Version,
    /// Whether it can work here.
    pub passed: bool,
    /// Why not: the name of a fault, or how it ended.
    pub said: String,
}

/// What was healthy before a release was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Datasets that were well.
    pub well: Vec<DatasetId>,
    /// Memory in KiB.
    pub rss_kib: Option<u64>,
}

/// The updater's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version that is to run when nothing is tried.
    pub current: Version,
    /// The one before it, which is kept.
    #[serde(default)]
    pub previous: Option<Version>,
    /// How far an update is.
    pub stage: Stage,
    /// Which version that is about.
    #[serde(default)]
    pub target: Option<Version>,
    /// Why it was taken back.
    #[serde(default)]
    pub why: Option<Why>,
    /// More about that: names and numbers.
    #[serde(default)]
    pub detail: String,
    /// What must become healthy again.
    #[serde(default)]
    pub before: Before,
    /// Versions that were taken back here; they are not tried again.
    #[serde(default)]
    pub rejected: Vec<Version>,
    /// Why an offer was not taken, as the name of a fault.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// Since when, for people.
    pub since: Timestamp,
}

impl State {
    /// Nothing ever happened.
    #[must_use]
    pub fn idle(current: Version, since: Timestamp) -> Self {
        Self {
            current,
            previous: None,
            stage: Stage::Idle,
            target: None,
            why: None,
            detail: String::new(),
            before: Before::default(),
            rejected: Vec::new(),
            obstacle: None,
            since,
        }
    }

    /// The version that is to be started.
    #[must_use]
    pub fn wanted(&self) -> Version {
        match (self.stage, self.target) {
            (Stage::Probation, Some(target)) => target,
            _ => self.current,
        }
    }
}

/// A file's value; `None` when there is none.
///
/// # Errors
/// `disk_failed` when it cannot be read, `update_failed` when it is not of its form.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, Fault> {
    let what = format!("cannot read {}", file.display());
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(what)(error)),
    };
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(disk(what.clone()))?;
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| Fault::because(Code::UpdateFailed, what, error))
}

/// Replaces a file at once; with `durable` it stays after a power cut.
///
/// # Errors
/// `disk_failed`.
pub fn write(file: &Path, value: &impl Serialize, durable: bool) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let written = || {
        let temporary = file.with_extension("part");
        let mut open = File::create(&temporary)?;
        open.write_all(&bytes)?;
        if durable {
            open.sync_all()?;
        }
        fs::rename(&temporary, file)?;
        if durable {
            File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
        } else {
            Ok(())
        }
    };
    written().map_err(disk(format!("cannot write {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_the_state_that_the_next_one_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        // What a later version may add stands beside what this one knows.
        let later = r#"{"current":"0.2.0","stage":"committed","since":"2026-11-26T00:00:00Z",
            "target":"0.2.0","reason_of_people":"…","weather":{"rain":true}}"#;
        fs::write(&file, later).unwrap();
        let state: State = read(&file).unwrap().unwrap();
        assert_eq!((state.wanted().to_string().as_str(), state.stage), ("0.2.0", Stage::Committed));
        write(&file, &state, true).unwrap();
        assert_eq!(read::<State>(&file).unwrap().unwrap(), state);
        assert_eq!(read::<State>(&dir.path().join("none")).unwrap(), None);
        fs::write(&file, "{").unwrap();
        assert_eq!(read::<State>(&file).unwrap_err().code, Code::UpdateFailed);
    }
}
