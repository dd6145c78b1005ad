//! Backups of the hub at an independent place, and the way back from one (CT-36, CB-19; decision 0018).
//!
//! A backup is a folder: the cluster as a sealed copy ([`seal`]), the hub's files ([`files`]), and a
//! signed [`manifest`]. It is written under a temporary name and renamed when all of it is durable.
//! The log's files are not in it: `log/` beside the backups follows every checkpoint before it is
//! published ([`crate::transfers::mirror`]). [`make`] makes one, [`restore`] goes back to one,
//! [`drill`] tries that out, [`schedule`] sees that it happens every day.

pub mod seal;
pub mod manifest;
pub mod files;
pub mod place;
pub mod make;
pub mod restore;
pub mod drill;
pub mod schedule;

use std::path::PathBuf;
use std::time::Duration;

use phusa_protocol::units::ByteSize;

use self::seal::BackupKey;

/// `[backup]` of `hub.toml`, checked.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The independent place.
    pub to: PathBuf,
    /// Seals what is written there.
    pub key: BackupKey,
    /// The file of that key, which is never part of a backup.
    pub key_file: PathBuf,
    /// How often.
    pub every: Duration,
    /// Complete backups that are kept, at least 1.
    pub keep: usize,
    /// Age of the newest at which an alarm is raised.
    pub max_age: Duration,
    /// How often the newest is restored for trial.
    pub drill_every: Duration,
    /// Free space that is left at the place.
    pub reserve: ByteSize,
}
