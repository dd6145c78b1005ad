//! The form that a folder of state is written in: a number in the file `<folder>.format` beside it. A program meets the state of the
//! next one when a release is taken back; what it does not know it leaves as it lies, and says so by name.

use std::io;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};

use crate::disk::{Disk, disk_code};

fn file(folder: &Path) -> PathBuf {
    folder.with_extension("format")
}

/// Refuses a folder that a newer program wrote in a form of its own. Without a file it is the first form, as it
/// is of programs that wrote none.
///
/// # Errors
/// `state_newer` when it is newer than `known`; `disk_failed` when it cannot be read or is no number.
pub fn check(disk: &dyn Disk, folder: &Path, known: u32) -> Result<(), Fault> {
    let what = || format!("cannot use {}", folder.display());
    let text = match disk.read(&file(folder)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Fault::because(Code::DiskFailed, what(), error)),
    };
    let written: u32 =
        text.parse().map_err(|error| Fault::because(Code::DiskFailed, what(), error))?;
    if written > known {
        let what = format!(
            "{} is written in form {written}, and this program knows form {known}",
            folder.display()
        );
        return Err(Fault::new(Code::StateNewer, what));
    }
    Ok(())
}

/// Writes the form down, where it does not stand there; the folder is synced by whoever writes into it next.
///
/// # Errors
/// `disk_failed`, `disk_full`.
pub fn mark(disk: &dyn Disk, folder: &Path, form: u32) -> Result<(), Fault> {
    let file = file(folder);
    let marked = || {
        if disk.length(&file)?.is_none() {
            let part = folder.with_extension("format.part");
            disk.write_synced(&part, format!("{form}\n").as_bytes())?;
            disk.rename(&part, &file)?;
        }
        Ok(())
    };
    let marked: io::Result<()> = marked();
    let what = || format!("cannot write {}", file.display());
    marked.map_err(|error| Fault::because(disk_code(&error), what(), error))
}
