//! Files say what they hold, modules use only what stands before them, and agent and hub do not know
//! each other.

use crate::files::{after_each, below, is_name, rust, text, without_tests};

#[test]
fn every_file_opens_with_what_it_holds() {
    let silent = |(_, text): &(String, String)| !text.starts_with("//! ");
    let silent: Vec<_> = rust().into_iter().filter(silent).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no `//!` sentence on top: {silent:?}");
}

/// The order of `pub mod` lines in a crate's `lib.rs` is the way of the data.
fn rooms(krate: &str) -> Vec<String> {
    let lib = text(&format!("{krate}/src/lib.rs"));
    lib.lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|name| name.trim_end_matches(';').to_owned())
        .collect()
}

#[test]
fn a_module_uses_only_those_that_stand_before_it_in_the_flow() {
    let mut wrong = Vec::new();
    for krate in ["agent", "hub"] {
        let rooms = rooms(krate);
        for (path, text) in below(&format!("{krate}/src"), ".rs") {
            let room = path.split('/').nth(2).unwrap_or("").trim_end_matches(".rs").to_owned();
            let Some(place) = rooms.iter().position(|name| *name == room) else { continue };
            // The plan is made of the checked forms that each room takes, so it names them all.
            if path.contains("/config/plan") || path.ends_with("/tests.rs") {
                continue;
            }
            let code = |line: &&str| !line.trim_start().starts_with("//");
            let code: Vec<&str> = without_tests(&text).lines().filter(code).collect();
            for used in after_each(&code.join("\n"), "crate::", is_name) {
                if rooms.iter().position(|name| name == used).is_some_and(|later| later > place) {
                    wrong.push(format!("{path} uses crate::{used}, which comes after it"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rooms_stand_in_the_order_of_the_picture() {
    let orders: [(&str, &[&str]); 2] = [
        (
            "agent",
            &[
                "config",
                "source",
                "mapping",
                "ledger",
                "spool",
                "transport",
                "status",
                "pipeline",
                "cli",
            ],
        ),
        (
            "hub",
            &["config", "warehouse", "transfers", "catalog", "ingest", "listen", "service", "cli"],
        ),
    ];
    for (krate, order) in orders {
        let rooms = rooms(krate);
        let places: Vec<_> =
            order.iter().filter_map(|name| rooms.iter().position(|room| room == name)).collect();
        assert!(places.is_sorted(), "{krate}/src/lib.rs: {rooms:?}");
    }
}

#[test]
fn agent_and_hub_do_not_know_each_other() {
    for (krate, other) in [("agent", "phusa_hub"), ("hub", "phusa_agent"), ("protocol", "phusa_")] {
        for (path, text) in below(krate, ".rs") {
            let uses =
                text.lines().any(|line| line.trim_start().starts_with(&format!("use {other}")));
            assert!(!uses, "{path} uses {other}");
        }
        let manifest = text(&format!("{krate}/Cargo.toml"));
        let dependency = other.trim_end_matches('_').replace('_', "-");
        let named = manifest.lines().any(|line| line.starts_with(&format!("{dependency}.")));
        assert!(!named, "{krate}/Cargo.toml depends on {dependency}");
    }
}

#[test]
fn nothing_is_printed_past_the_log_but_by_the_command_line() {
    for (path, text) in [below("agent/src", ".rs"), below("hub/src", ".rs")].concat() {
        let speaks = path.contains("/cli") || path.ends_with("/main.rs");
        for printing in ["println!", "eprintln!", "print!(", "dbg!("] {
            assert!(speaks || !without_tests(&text).contains(printing), "{path}: {printing}");
        }
    }
}

#[test]
fn every_failpoint_is_crashed_at() {
    let crash: String = below("tests/crash", ".rs").into_iter().map(|(_, text)| text).collect();
    for krate in ["agent", "hub"] {
        let points = text(&format!("{krate}/src/failpoint.rs"));
        let Some((_, points)) = points.split_once("enum ") else { continue };
        let (name, body) = points.split_once(" {").unwrap_or_default();
        let body = body.split_once("\n}").map_or(body, |(body, _)| body);
        let variants = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let named = |variant: &str| crash.contains(variant.trim_end_matches(','));
        let loops = crash.contains(&format!(" {name}::ALL"));
        let missing: Vec<_> = variants.filter(|v| !v.is_empty() && !loops && !named(v)).collect();
        assert!(crash.is_empty() || missing.is_empty(), "{krate}: never crashed at {missing:?}");
    }
}

#[test]
fn no_file_names_a_registry_host() {
    // Written in two parts, so that this file does not name them either.
    let hosts =
        [["crates", ".io/"], ["pypi", ".org"], ["registry.npmjs", ".org"]].map(|h| h.concat());
    let folders = ["protocol", "agent", "hub", "tests", "docs", "configs", "packaging", "systemd"];
    for folder in folders {
        for (path, text) in below(folder, "") {
            assert!(!hosts.iter().any(|host| text.contains(host)), "{path} names a registry");
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = text("Cargo.toml");
    let (_, rest) = manifest.split_once("[workspace.dependencies]").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    for line in dependencies.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
        assert!(line.contains(" # ") || line.contains("path ="), "no reason: {line}");
    }
}
