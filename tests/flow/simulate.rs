//! The made-up province: its agencies deliver and report to a real hub, whose log verifies.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use phusa_tests::folder::Folder;
use phusa_tests::process::{Process, output, program, run, wait_until};
use serde_json::Value;

/// How long a hub with its made-up agencies may take to be well.
const WELL_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_province_is_well_and_its_log_verifies() {
    let folder = Arc::new(Folder::new());
    let dir = folder.path().join("tinh");
    let hub = |arguments: &[&str]| {
        let mut command = Command::new(program("phusa-hub"));
        command.arg("--config").arg(dir.join("hub/hub.toml")).args(arguments);
        command
    };
    let mut command = Command::new(program("phusa-hub"));
    command.args(["simulate", "--agents", "8", "--troubles", "0", "--no-account", "--dir"]);
    let mut simulator = Process::start(&folder, "simulator", command.arg(&dir));
    wait_until("eight healthy agents", WELL_WITHIN, async || {
        let said = output(&mut hub(&["fleet", "ls", "--json"]));
        let all: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
        let well = all.iter().filter(|one| one["verdict"]["state"] == "healthy").count();
        (well == 8).then_some(())
    })
    .await;
    simulator.signal(rustix::process::Signal::INT);
    assert!(simulator.wait(Duration::from_secs(60)).success(), "{}", simulator.log());
    let said = run(&mut hub(&["log", "verify"]));
    assert!(said.contains("the log verifies"), "{said}");

    let mut again = Command::new(program("phusa-hub"));
    let refused = output(again.args(["simulate", "--dir"]).arg(&dir));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is in use"), "{why}");
}
