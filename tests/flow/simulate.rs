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
    let mut simulator = Process::start(&folder, "simulator", command.arg(&dir)).leading();
    wait_until("eight healthy agents", WELL_WITHIN, async || {
        let said = output(&mut hub(&["fleet", "ls", "--json"]));
        let all: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
        let well = all.iter().filter(|one| one["verdict"]["state"] == "healthy").count();
        (well == 8).then_some(())
    })
    .await;
    what_is_wanted_is_answered(&hub).await;
    simulator.signal(rustix::process::Signal::INT);
    assert!(simulator.wait(Duration::from_secs(60)).success(), "{}", simulator.log());
    let said = run(&mut hub(&["log", "verify"]));
    assert!(said.contains("the log verifies"), "{said}");

    let mut again = Command::new(program("phusa-hub"));
    let refused = output(again.args(["simulate", "--dir"]).arg(&dir));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is in use"), "{why}");
}

/// What somebody orders of a made-up agency is answered as by a real one: done where it can be done.
async fn what_is_wanted_is_answered(hub: &impl Fn(&[&str]) -> Command) {
    const OF_DATASET: [&str; 2] = ["MP.0003/may-1", "mo_phong.bang_0003"];
    let give = |what: &[&str]| run(&mut hub(&[&["fleet"], what, &["--because", "thử"]].concat()));
    let newest = async |kind: &str, state: &str| {
        wait_until(&format!("{kind} to be {state}"), WELL_WITHIN, async || {
            let said = output(&mut hub(&["fleet", "orders", "--all", "--json"]));
            let all: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
            let found = all.first()?;
            (found["kind"] == kind && found["state"] == state).then(|| found.clone())
        })
        .await
    };
    give(&["reconcile", OF_DATASET[0], OF_DATASET[1]]);
    newest("compare", "done").await;
    let compared = run(&mut hub(&["log", "ls"]));
    assert!(compared.contains("proof"), "{compared}");
    give(&["check-update", OF_DATASET[0]]);
    newest("check_update", "done").await;
    give(&["diagnose", OF_DATASET[0]]);
    newest("diagnose", "done").await;
    let shown = run(&mut hub(&["fleet", "show", "MP.0003"]));
    assert!(shown.contains("mô phỏng (simulated)"), "{shown}");
    give(&["rotate-certificate", OF_DATASET[0]]);
    assert_eq!(newest("rotate", "refused").await["outcome"], "order_refused");
    give(&["pause", OF_DATASET[0], OF_DATASET[1]]);
    wait_until("deliveries to be paused", WELL_WITHIN, async || {
        let said = output(&mut hub(&["fleet", "ls", "--json"]));
        let all: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
        let found = all.iter().find(|one| one["agent"] == OF_DATASET[0])?;
        (found["verdict"]["reason"] == "paused").then_some(())
    })
    .await;
    run(&mut hub(&["fleet", "resume", OF_DATASET[0], OF_DATASET[1]]));
    give(&["re-read", OF_DATASET[0], OF_DATASET[1]]);
    newest("reread", "done").await;
}
