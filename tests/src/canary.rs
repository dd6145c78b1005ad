//! Canaries: values that must never leave the agency, and the search for them in every file.

use std::fs;
use std::path::{Path, PathBuf};

/// The files at and below `root` that contain `canary`, sorted.
///
/// # Panics
/// When `canary` is empty: it would be everywhere.
#[must_use]
pub fn files_with(canary: &[u8], root: &Path) -> Vec<PathBuf> {
    assert!(!canary.is_empty(), "an empty canary sings everywhere");
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        match fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                ahead.extend(entries.map(|entry| entry.path()));
            }
            // What vanishes while we look was a temporary file and is looked for under its new name.
            Ok(about) if about.is_file() && has(&path, canary) => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

fn has(path: &Path, canary: &[u8]) -> bool {
    fs::read(path).is_ok_and(|bytes| contains(&bytes, canary))
}

/// Whether `canary` stands anywhere in `bytes`.
#[must_use]
pub fn contains(bytes: &[u8], canary: &[u8]) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn a_canary_is_found_at_any_depth_and_nowhere_else() {
        let folder = Folder::new();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("with"), b"\0\xffx CANARY-7 y").unwrap();
        fs::write(deep.join("without"), b"CANARY-8").unwrap();
        assert_eq!(files_with(b"CANARY-7", folder.path()), [deep.join("with")]);
    }
}
