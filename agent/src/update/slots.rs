//! Slots: `slots/<version>/` holds one program, whole and synced; `current` is a link that is exchanged by
//! one rename. Whatever is cut off between two steps, the link points at a program that can be started.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::release::{Facts, Version};

use super::fetch::is_whole;
use super::trust::Signed;
use super::{disk, form};
use crate::failpoint::Failpoint;

/// The program's name within a slot.
pub const PROGRAM: &str = "phusa-agent";

/// What is known of a slot, within it.
const FACTS: &str = "release.json";

/// The folder of slots.
#[derive(Debug, Clone)]
pub struct Slots {
    dir: PathBuf,
}

impl Slots {
    /// The slots of this folder; nothing is made yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The link that is started.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        self.dir.join("current")
    }

    /// The updater's own file.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// The program of a version.
    #[must_use]
    pub fn program(&self, version: Version) -> PathBuf {
        self.slot(version).join(PROGRAM)
    }

    fn slot(&self, version: Version) -> PathBuf {
        self.dir.join("slots").join(version.to_string())
    }

    /// The version that the link points at; `None` without a link or where it points elsewhere.
    #[must_use]
    pub fn current(&self) -> Option<Version> {
        let target = fs::read_link(self.link()).ok()?;
        version_of(&target)
    }

    /// Whether a version lies in its slot, whole.
    #[must_use]
    pub fn has(&self, version: Version) -> bool {
        let facts = form::read::<Facts>(&self.slot(version).join(FACTS));
        facts.is_ok_and(|facts| facts.is_some_and(|facts| facts.version == version))
            && self.program(version).is_file()
    }

    /// Copies a program into its slot.
    ///
    /// # Errors
    /// `release_damaged` when the copy is not what people signed, `disk_failed`.
    pub fn fill(&self, from: &Path, signed: &Signed) -> Result<(), Fault> {
        let version = signed.facts.version;
        if self.has(version) && is_whole(&self.program(version), signed) {
            return Ok(());
        }
        let put = |part: &Path| {
            fs::copy(from, part.join(PROGRAM)).map(drop).map_err(disk("cannot fill a slot"))?;
            if is_whole(&part.join(PROGRAM), signed) {
                return Ok(());
            }
            let what = format!("the copy of {version} is not what was signed");
            Err(Fault::new(Code::ReleaseDamaged, what))
        };
        self.place(&signed.facts, put)
    }

    /// Takes over a program that a package brought.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn adopt(&self, program: &Path, facts: &Facts) -> Result<(), Fault> {
        let put = |part: &Path| {
            fs::copy(program, part.join(PROGRAM)).map(drop).map_err(disk("cannot fill a slot"))
        };
        self.place(facts, put)
    }

    fn place(&self, facts: &Facts, put: impl Fn(&Path) -> Result<(), Fault>) -> Result<(), Fault> {
        let failed = || disk("cannot fill a slot");
        let slots = self.dir.join("slots");
        let part = slots.join(format!(".{}.part", facts.version));
        remove(&part).map_err(failed())?;
        fs::create_dir_all(&part).map_err(failed())?;
        put(&part)?;
        let finish = || {
            let program = part.join(PROGRAM);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
            File::open(&program)?.sync_all()
        };
        finish().map_err(failed())?;
        form::write(&part.join(FACTS), facts, true)?;
        Failpoint::AfterSlotWritten.pass();
        let slot = self.slot(facts.version);
        let named = || {
            remove(&slot)?;
            fs::rename(&part, &slot)?;
            Failpoint::AfterSlotNamed.pass();
            File::open(&slots)?.sync_all()
        };
        named().map_err(failed())
    }

    /// Has the link point at a version from now on.
    ///
    /// # Errors
    /// `update_failed` when that version is not whole, `disk_failed`.
    pub fn flip(&self, to: Version) -> Result<(), Fault> {
        if !self.has(to) {
            let what = format!("there is no whole slot of {to} to start");
            return Err(Fault::new(Code::UpdateFailed, what));
        }
        let flipped = || {
            let new = self.dir.join("current.new");
            remove(&new)?;
            symlink(Path::new("slots").join(to.to_string()), &new)?;
            Failpoint::BeforeFlip.pass();
            fs::rename(&new, self.link())?;
            Failpoint::AfterFlip.pass();
            File::open(&self.dir)?.sync_all()
        };
        flipped().map_err(disk("cannot exchange the program"))
    }

    /// Removes every slot but these.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn keep_only(&self, keep: &[Version]) -> Result<(), Fault> {
        let failed = || disk("cannot clear old slots");
        let entries = fs::read_dir(self.dir.join("slots")).map_err(failed())?;
        let current = self.current();
        for entry in entries.flatten() {
            let version = version_of(&entry.path());
            let kept = version.is_some_and(|v| keep.contains(&v) || current == Some(v));
            if !kept {
                remove(&entry.path()).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// The version of the slot that a program lies in; `None` for one that lies elsewhere.
#[must_use]
pub fn slot_of(program: &Path) -> Option<Facts> {
    let facts = program.parent()?.join(FACTS);
    form::read(&facts).ok().flatten()
}

fn version_of(path: &Path) -> Option<Version> {
    Version::try_from(path.file_name()?.to_str()?.to_owned()).ok()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
