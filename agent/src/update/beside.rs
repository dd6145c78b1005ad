//! What lies beside a program that is one file: the one before (`….previous`) and what people signed of each
//! (`….release.json`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::release::{Facts, Version};

use super::worker::own_version;
use super::{disk, form};

fn named(program: &Path, ending: &str) -> PathBuf {
    let mut name = program.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    program.with_file_name(name)
}

fn facts_of(program: &Path) -> PathBuf {
    named(program, ".release.json")
}

/// The program before this one, where one is kept.
#[must_use]
pub fn previous(program: &Path) -> PathBuf {
    named(program, ".previous")
}

/// The version that people signed this program as; `None` where it was laid down by hand, and where what is
/// said lies beside another program than it was said of.
#[must_use]
pub fn running(program: &Path) -> Option<Version> {
    let facts: Facts = form::read(&facts_of(program)).ok().flatten()?;
    let built_as = facts.program_version.unwrap_or(facts.version);
    (own_version().ok() == Some(built_as)).then_some(facts.version)
}

/// Lets a program be started.
///
/// # Errors
/// The system's.
pub fn executable(program: &Path) -> io::Result<()> {
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
}

/// Writes down what people signed of the program that lies here.
///
/// # Errors
/// `disk_failed`.
pub fn name(program: &Path, facts: &Facts) -> Result<(), Fault> {
    form::write(&facts_of(program), facts, true)
}

/// Keeps this program and what is said of it.
///
/// # Errors
/// `disk_failed`.
pub fn keep(program: &Path) -> Result<(), Fault> {
    let kept = previous(program);
    let part = named(program, ".previous.part");
    let copied = || {
        fs::copy(program, &part)?;
        File::open(&part)?.sync_all()?;
        fs::rename(&part, &kept)?;
        match fs::copy(facts_of(program), facts_of(&kept)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&facts_of(&kept))?,
            other => other.map(drop)?,
        }
        settle(program)
    };
    copied().map_err(disk(format!("cannot keep {}", kept.display())))
}

/// Brings the one before back.
///
/// # Errors
/// `update_failed` where none is kept, `disk_failed`.
pub fn go_back(program: &Path) -> Result<(), Fault> {
    let kept = previous(program);
    if !kept.is_file() {
        let what = format!("no program is kept at {}", kept.display());
        return Err(Fault::new(Code::UpdateFailed, what));
    }
    let what = format!("cannot bring {} back", kept.display());
    let moved = self_update::Move::from_source(&kept).to_dest(program);
    moved.map_err(|error| Fault::because(Code::DiskFailed, what.clone(), error))?;
    let named = match fs::rename(facts_of(&kept), facts_of(program)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&facts_of(program)),
        other => other,
    };
    named.and_then(|()| settle(program)).map_err(disk(what))
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Has the exchange of names outlive a power cut.
///
/// # Errors
/// The system's.
pub fn settle(program: &Path) -> io::Result<()> {
    File::open(program)?.sync_all()?;
    File::open(program.parent().unwrap_or(Path::new(".")))?.sync_all()
}
