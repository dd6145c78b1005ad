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

/// Writes the form down, where it does not stand there already; the folder is synced by whoever writes into it next.
///
/// # Errors
/// `disk_failed`, `disk_full`.
pub fn mark(disk: &dyn Disk, folder: &Path, form: u32) -> Result<(), Fault> {
    let file = file(folder);
    let text = format!("{form}\n");
    let marked = || {
        match disk.read(&file) {
            Ok(bytes) if bytes == text.as_bytes() => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // None yet, or that of a program before.
            Ok(_) | Err(_) => {}
        }
        let part = folder.with_extension("format.part");
        disk.write_synced(&part, text.as_bytes())?;
        disk.rename(&part, &file)
    };
    let marked: io::Result<()> = marked();
    let what = || format!("cannot write {}", file.display());
    marked.map_err(|error| Fault::because(disk_code(&error), what(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_program_writes_its_form_over_an_older_one_and_refuses_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        check(&RealDisk, &folder, 1).unwrap();
        mark(&RealDisk, &folder, 1).unwrap();
        check(&RealDisk, &folder, 2).unwrap();
        mark(&RealDisk, &folder, 2).unwrap();
        assert_eq!(check(&RealDisk, &folder, 1).unwrap_err().code, Code::StateNewer);
        check(&RealDisk, &folder, 2).unwrap();
    }
}
