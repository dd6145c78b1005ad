//! The files of the repository as this test sees them: paths below its root, and their text.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// The text of a file; empty when there is none.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Every file under `folder` whose name ends so, as (path below the root, text), in order.
pub fn below(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    found
}

/// Every Rust file of the four crates.
pub fn rust() -> Vec<(String, String)> {
    ["protocol", "agent", "hub", "tests"]
        .into_iter()
        .flat_map(|krate| below(krate, ".rs"))
        .collect()
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, ending, found);
        } else if name.ends_with(ending)
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let below = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push((below, text));
        }
    }
}

/// The part of a Rust file before its unit tests.
pub fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

/// Every stretch of `text` that begins after `start` and goes on while `goes_on`.
pub fn after_each<'a>(
    text: &'a str,
    start: &'a str,
    goes_on: fn(char) -> bool,
) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).map(move |rest| {
        let end = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

pub fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
