//! The units that are shipped: systemd understands every line of them, and how exposed each leaves its
//! service may only fall.

use std::process::Command;

use crate::files::{root, text};

/// Exposure by `systemd-analyze security`, times ten: what is allowed at most.
const EXPOSURE: [(&str, u32); 5] = [
    ("phusa-agent.service", 12),
    ("phusa-agent-update.service", 4),
    ("phusa-agent-restart.service", 9),
    ("phusa-hub.service", 13),
    ("phusa-hub-backup.service", 13),
];

/// Programs of ours that need not be installed where the units are looked at.
const PROGRAMS: [&str; 3] = [
    "/var/lib/phusa-update/current/phusa-agent",
    "/usr/lib/phusa/phusa-agent",
    "/usr/bin/phusa-hub",
];

fn analyze() -> Option<Command> {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if there.is_ok_and(|said| said.status.success()) {
        return Some(Command::new("systemd-analyze"));
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no systemd-analyze in CI");
    println!("skipped: systemd-analyze is not here");
    None
}

#[test]
fn systemd_understands_every_unit_and_none_is_more_exposed_than_before() {
    let Some(_) = analyze() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut units: Vec<String> = std::fs::read_dir(root().join("systemd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    units.sort();
    for unit in &units {
        let mut words = text(&format!("systemd/{unit}"));
        for program in PROGRAMS {
            words = words.replace(program, "/bin/true");
        }
        std::fs::write(folder.path().join(unit), words).unwrap();
    }
    for unit in &units {
        let file = folder.path().join(unit);
        let said = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&file)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
        let own: Vec<_> = complaint.lines().filter(|line| line.contains("phusa-")).collect();
        assert!(own.is_empty(), "{unit}: {own:?}");
        if !unit.ends_with(".service") {
            continue;
        }
        let allowed = EXPOSURE.iter().find(|(name, _)| name == unit);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{unit} has no allowed exposure"));
        let said = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={allowed}"))
            .arg(&file)
            .output()
            .unwrap();
        let table = String::from_utf8_lossy(&said.stdout).into_owned();
        let figure = table.lines().last().unwrap_or_default().to_owned();
        println!("{figure}");
        assert!(said.status.success(), "more than {allowed} tenths: {figure}");
    }
}
