//! Documents say what the code says: faults, metrics, keys, tests of duties. `UPDATE=1` rewrites
//! `docs/FAULTS.md`.

use std::collections::BTreeSet;

use phusa_protocol::fault::{CATALOGUE, Class};

use crate::files::{after_each, below, exists, is_name, root, rust, text};

#[test]
fn faults_are_documented_as_they_are() {
    let mut expected = include_str!("faults_head.md").to_owned();
    for words in &CATALOGUE {
        let who = match words.class {
            Class::Retry => "tự qua · retry",
            Class::Operator => "người vận hành · operator",
            Class::Bug => "lỗi chương trình · bug",
        };
        let (meaning, remedy) = (words.meaning_vi, words.remedy_vi);
        expected += &format!(
            "| `{}` | {who} | {meaning}<br>{} | {remedy}<br>{} |\n",
            words.name, words.meaning_en, words.remedy_en
        );
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join("docs/FAULTS.md"), &expected).unwrap();
    }
    assert_eq!(text("docs/FAULTS.md"), expected, "run with UPDATE=1 and review");
}

/// Metric names as Prometheus shows them, without `_total`: from `register("name", …)` at the hub,
/// and written out at the agent.
pub fn registered(krate: &str) -> BTreeSet<String> {
    let sources = below(&format!("{krate}/src"), ".rs");
    let names = |(_, text): &(String, String)| {
        let names = after_each(text, "register(\"", is_name).map(|name| format!("phusa_{name}"));
        let written = after_each(text, "\"phusa_agent_", is_name)
            .map(|name| format!("phusa_agent_{}", name.trim_end_matches("_total")));
        names.chain(written).collect::<Vec<_>>()
    };
    sources.iter().flat_map(names).collect()
}

fn documented(krate: &str) -> BTreeSet<String> {
    let operations = text("docs/OPERATIONS.md");
    let heading = format!("### Metrics of the {krate}");
    let section = operations.split_once(&heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n#").next().unwrap_or("");
    after_each(section, "| `phusa_", is_name)
        .map(|name| format!("phusa_{}", name.trim_end_matches("_total")))
        .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    for krate in ["agent", "hub"] {
        let registered = registered(krate);
        assert_eq!(documented(krate), registered, "docs/OPERATIONS.md, metrics of the {krate}");
    }
}

/// Keys of a configuration file: `key =` at the start of a line, commented out or not, and those
/// of inline tables.
fn keys(toml: &str) -> BTreeSet<&str> {
    let key = |line| {
        let (key, _) = str::trim_start_matches(line, "# ").split_once(" =")?;
        (!key.is_empty() && key.chars().all(is_name)).then_some(key)
    };
    let keys: BTreeSet<_> = toml.lines().filter_map(key).collect();
    keys.union(&after_each(toml, "{ ", is_name).collect()).copied().collect()
}

#[test]
fn every_key_is_explained() {
    let config = text("docs/CONFIG.md");
    for (path, text) in below("configs", ".toml") {
        for key in keys(&text) {
            assert!(
                config.contains(&format!("| `{key}` |")),
                "{path}: `{key}` is not in CONFIG.md"
            );
        }
    }
}

#[test]
fn every_key_of_the_code_is_explained() {
    let config = text("docs/CONFIG.md");
    let files = [
        "agent/src/config.rs",
        "agent/src/config/rules.rs",
        "hub/src/config.rs",
        "hub/src/config/profile.rs",
        "hub/src/category/catalogue.rs",
        "protocol/src/contract.rs",
    ];
    for path in files.into_iter().filter(|path| exists(path)) {
        let text = text(path);
        let structs = text.split("pub struct ").skip(1).filter(|part| {
            part.split_once(' ')
                .is_some_and(|(name, _)| name.contains("File") || name.contains("Contract"))
        });
        for fields in structs.filter_map(|part| part.split("\n}").next()) {
            for key in after_each(fields, "\n    pub ", is_name) {
                // Renamed in the file: `rename = "field"`, `"type"`, `"where"`.
                let renamed = ["fields", "kind", "filter", "checks", "codes"].contains(&key);
                let sections = [
                    "hub",
                    "spool",
                    "batch",
                    "source",
                    "guard",
                    "verify",
                    "update",
                    "warehouse",
                    "profile",
                    "identity",
                    "backup",
                    "portal",
                    "siem",
                    "timestamp",
                    "link",
                    "escalation",
                ];
                let known = renamed || sections.contains(&key);
                assert!(known || config.contains(&format!("| `{key}` |")), "{path}: `{key}`");
            }
        }
    }
}

#[test]
fn every_duty_and_threat_that_claims_a_test_has_it() {
    let code: String = rust().into_iter().map(|(_, text)| text).collect();
    for document in ["docs/REGULATIONS.md", "docs/THREATS.md", "docs/EVIDENCE.md"] {
        for line in text(document).lines() {
            for name in after_each(line, "`test:", is_name) {
                assert!(
                    code.contains(&format!("fn {name}(")),
                    "{document}: no test {name}: {line}"
                );
            }
        }
    }
}

#[test]
fn every_attacker_is_met_by_a_test_or_it_is_said_that_there_is_none() {
    let threats = text("docs/THREATS.md");
    let rows =
        threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| actor"));
    let rows = rows.filter(|line| !line.starts_with("| attacker"));
    let untested: Vec<_> =
        rows.filter(|line| !line.contains("`test:") && !line.contains("no test")).collect();
    assert!(untested.is_empty(), "{}", untested.join("\n"));
}
