//! Alert rules and dashboard speak of metrics that the hub has, and promtool finds them right.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::documents::registered;
use crate::files::{after_each, is_name, root, text};

const FILES: [&str; 2] = ["configs/prometheus/alerts.yml", "configs/grafana/phusa.json"];

#[test]
fn alerts_and_dashboard_speak_of_metrics_that_the_hub_has() {
    let known = registered("hub");
    for file in FILES {
        let text = text(file);
        let mut named = after_each(&text, "phusa_", is_name).peekable();
        assert!(named.peek().is_some(), "{file} speaks of nothing");
        for name in named {
            let kept = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
            let name = format!("phusa_{}", kept.unwrap_or(name));
            assert!(known.contains(&name), "{file}: the hub has no metric {name}");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text(FILES[1])).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
}

/// Where `packaging/setup --tests` put it, or in the path.
fn promtool() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folders = [Path::new("/var/cache/phusa").to_owned(), home.join(".cache/phusa")];
    let found = folders.map(|folder| folder.join("promtool/promtool"));
    found.into_iter().find(|program| program.exists()).unwrap_or_else(|| "promtool".into())
}

#[test]
fn promtool_finds_the_alerts_right_and_they_fire_when_they_should() {
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let mut command = Command::new(promtool());
        let ran = command.args(arguments).current_dir(root().join("configs/prometheus")).output();
        let Ok(ran) = ran else {
            // It could not be fetched: packaging/setup said why.
            eprintln!("promtool is not there: the alert rules were not checked by it");
            return;
        };
        let said = String::from_utf8_lossy(&ran.stdout);
        let wrong = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "promtool {arguments:?}: {said}{wrong}");
    }
}
