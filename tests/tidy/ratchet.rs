//! Debts that may only fall: a number that rises fails, and one that fell asks to be written down.

use std::collections::BTreeMap;

use crate::files::{root, rust, text};

const FILE: &str = "tests/tidy/ratchet.toml";

/// Longer functions are hard to hold in mind; the lint caps library code, this counts all.
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

fn long_functions(text: &str) -> usize {
    let mut count = 0;
    let mut begun: Option<(usize, &str)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let words = ["fn ", "pub fn ", "pub(crate) fn ", "async fn ", "pub async fn "];
        if words.iter().any(|word| line.trim_start().starts_with(word)) {
            begun = Some((number, indent));
        } else if line.trim_end() == format!("{}}}", begun.map_or("-", |(_, indent)| indent)) {
            let lines = begun.take().map_or(0, |(start, _)| number - start + 1);
            count += usize::from(lines > FUNCTION_LINES_MAX);
        }
    }
    count
}

#[test]
fn debts_only_fall() {
    let rust = rust();
    let count = |counted: fn(&str) -> usize| rust.iter().map(|(_, text)| counted(text)).sum();
    let expects: usize = count(|text| text.matches(concat!("#[", "expect(")).count());
    let now: BTreeMap<&str, usize> = [
        ("clippy_expects", expects),
        ("files_over_600_lines", count(|text| usize::from(text.lines().count() > FILE_LINES_MAX))),
        ("functions_over_70_lines", count(long_functions)),
        ("packages_in_lock", text("Cargo.lock").matches("\nname = ").count()),
    ]
    .into();
    if std::env::var_os("UPDATE").is_some() {
        let head =
            "# Debts that may only fall. Counted by tests/tidy; UPDATE=1 writes what is.\n\n";
        std::fs::write(root().join(FILE), head.to_owned() + &toml::to_string(&now).unwrap())
            .unwrap();
    }
    let allowed: BTreeMap<String, usize> = toml::from_str(&text(FILE)).unwrap();
    for (debt, found) in now {
        let allowed = allowed.get(debt).copied().unwrap_or(0);
        assert!(found <= allowed, "{debt} rose from {allowed} to {found}");
        assert!(found == allowed, "{debt} fell to {found}: write that into {FILE}");
    }
}
