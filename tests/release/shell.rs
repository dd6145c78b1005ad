//! Small programs that stand for releases.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a program that prints these words.
pub(crate) fn program(file: &Path, words: &str) {
    fs::write(file, format!("#!/bin/sh\necho {words}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
