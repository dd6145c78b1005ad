//! The checked `[update]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::units::ByteSize;

use super::{Check, seconds};
use crate::config::{UpdateFile, UpdateMode};
use crate::source::guard::Hours;

/// How the program is exchanged.
#[derive(Debug, Clone)]
pub struct UpdatePlan {
    /// The root of trust of releases.
    pub root_file: PathBuf,
    /// Folder of the slots.
    pub slots_dir: PathBuf,
    /// Folder of what is handed to the updater.
    pub incoming_dir: PathBuf,
    /// Who decides when.
    pub mode: UpdateMode,
    /// When a release is fetched and installed.
    pub allowed_hours: Hours,
    /// How often the hub is asked.
    pub check_every: Duration,
    /// Bytes a second of a download.
    pub rate_max: ByteSize,
}

impl Check<'_> {
    pub(super) fn update(&mut self, file: UpdateFile, folder: &Path) -> UpdatePlan {
        let day = (seconds(1), seconds(86_400));
        let check_every = self.within(&file.check_every, day, "`check_every` is 1s to 1d").0;
        let rates = (ByteSize(16 << 10), ByteSize(u64::MAX));
        let rate_max = self.within(&file.rate_max, rates, "`rate_max` is at least 16KiB");
        UpdatePlan {
            root_file: folder.join(file.root_file),
            slots_dir: folder.join(file.slots_dir),
            incoming_dir: folder.join(file.incoming_dir),
            mode: file.mode,
            allowed_hours: self.hours(&file.allowed_hours),
            check_every,
            rate_max,
        }
    }
}
