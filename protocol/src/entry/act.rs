//! `Act`: what was done with what the hub holds, other than taking it in. Backups, reads, exports and
//! destructions are transfers too (CT-39, CB-19, HU-26b): who, what for, how much; never a key or a
//! value.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::digest::Digest;
use crate::fault::Code;
use crate::time::Timestamp;

/// What was done, in an entry of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A backup was made, tried out or restored.
    Backup(BackupAct),
    /// Rows were shown to a person.
    Read(ReadAct),
    /// Rows were written to a file.
    Export(ReadAct),
    /// Rows were destroyed.
    Destroy(DestroyAct),
}

impl Act {
    /// The kind of the entries that tell of it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Backup(_) => Kind::Backup,
            Self::Read(_) => Kind::Read,
            Self::Export(_) => Kind::Export,
            Self::Destroy(_) => Kind::Destroy,
        }
    }

    /// Who did it; `None` where the hub did it by itself.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Backup(backup) => backup.by.as_deref(),
            Self::Read(read) | Self::Export(read) => Some(&read.by),
            Self::Destroy(destroyed) => Some(&destroyed.run_by),
        }
    }
}

/// What was done with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupStep {
    /// It was made, and is complete.
    Made,
    /// It was restored into a folder that went away again, and its log verified there.
    Drilled,
    /// The hub goes on from it.
    Restored,
}

/// A backup, and what was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupAct {
    /// What was done.
    pub step: BackupStep,
    /// Its name.
    pub name: String,
    /// When it was begun, by the hub's clock.
    pub made_at: Timestamp,
    /// The digest of its manifest, which names the digest of each of its files.
    pub manifest: Digest,
    /// Its files' bytes.
    pub bytes: u64,
    /// For `made`, the numbered entries it holds at least; otherwise those that verified.
    pub entries: u64,
    /// Rows in the restored tables; absent for `made`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Why the drill failed; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Code>,
    /// In whose name; absent when the hub did it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which rows were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// As they are.
    Current,
    /// As they were at a time.
    AsOf,
    /// Every version that is kept.
    History,
}

/// A read or an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadAct {
    /// Who asked.
    pub by: String,
    /// What for: a code of the province's legal profile (HU-02, CT-43).
    pub purpose: String,
    /// Which rows.
    pub seen: Seen,
    /// The time of `as_of`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// How many rows, or versions of rows, were given out.
    pub rows: u64,
    /// Salted commitment of what was asked for; the salt stays at the hub.
    pub asked: Digest,
    /// For an export: salted commitment of the file's bytes, under the same salt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
}

/// A destruction: the certificate that stays when the rows are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestroyAct {
    /// The number of the proposal that was approved.
    pub proposal: u64,
    /// What ended, or was last changed, before this moment.
    pub before: Timestamp,
    /// Whether rows that were in force went too, not only former versions.
    pub current: bool,
    /// Rows in force that went.
    pub rows: u64,
    /// Former versions that went.
    pub versions: u64,
    /// Transfers that had carried any of them; their salts went.
    pub transfers: u64,
    /// The first and the last of those transfers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(u64, u64)>,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who approved it; another person.
    pub approved_by: String,
    /// Who ran it.
    pub run_by: String,
    /// Why, in the words of whoever proposed it.
    pub because: String,
    /// Complete backups that were there and may still hold the rows, until newer ones replace them.
    pub backups: u64,
}
