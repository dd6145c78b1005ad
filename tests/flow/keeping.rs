//! What is kept and what is not: backups and the way back from one, reads and exports as entries, and
//! destruction at the end of retention.

use std::fs;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::Code;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use serde_json::Value;

use crate::house::{AGENCY, DATASET, House, assert_fault, text};

/// A house whose hub has a place for backups; `settings` is added to that part of `hub.toml`. Returns
/// the place, and the key, which lies elsewhere too.
fn house(settings: &str) -> (House, PathBuf, PathBuf) {
    let backup = format!("\n[backup]\nto = \"../../place\"\nkey_file = \"backup.key\"\n{settings}");
    let house = House::new("", &backup);
    let place = house.province.path().join("place");
    fs::create_dir(&place).unwrap();
    let (own, kept) = (house.province.hub_folder().join("backup.key"), place.with_extension("key"));
    let made = house.province.hub(&["backup", "key", "--out", own.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made));
    fs::copy(&own, &kept).unwrap();
    (house, place, kept)
}

/// Runs a command of the hub that must succeed; returns what it printed.
fn hub(house: &House, arguments: &[&str]) -> String {
    let output = house.province.hub(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn hub_fails(house: &House, arguments: &[&str], code: Code) -> String {
    let output = house.province.hub(arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output));
    assert_fault(&text(&output), code);
    text(&output)
}

/// Lines in the files of a folder whose names end so.
fn lines(folder: &Path, end: &str) -> u64 {
    let files = files(folder).into_iter().filter(|file| file.display().to_string().ends_with(end));
    files.map(|file| fs::read_to_string(file).unwrap().lines().count() as u64).sum()
}

/// Waits until every receipt the agent has is proven, or known to be missing from the log.
async fn proven(house: &House) -> Value {
    let ledger = house.agent().join("state/ledger").join(DATASET);
    wait_until("every batch to be proven", ARRIVES_WITHIN, async || {
        let status = house.province.agent(AGENCY, &["status", "--json"]);
        let mut status = serde_json::from_slice::<Value>(&status.stdout).ok()?;
        let (dataset, log) = (status["datasets"][0].take(), status["log"].take());
        let current = format!("{:012}.jsonl", dataset["epoch"].as_u64()?);
        let released = dataset["released_seq"].as_u64().filter(|released| *released > 0)?;
        let is_quiet = dataset["spooled_seq"] == released && lines(&ledger, &current) == released;
        let receipts = lines(&ledger, ".jsonl") - lines(&ledger, ".proofs.jsonl");
        let settled = log["proven"].as_u64()? + log["missing"].as_u64()?;
        (is_quiet && settled == receipts && log["pending"] == 0).then_some(log)
    })
    .await
}

/// Goes back to the newest backup, in the hub's own folder, which is gone.
fn restore(house: &House, place: &Path, key: &Path) -> String {
    let to = house.province.hub_folder();
    let [from, to, key] = [place, &to, key].map(|path| path.to_str().unwrap());
    let arguments = ["restore", from, "--to", to, "--key-file", key, "--by", "Trần Vận Hành"];
    hub(house, &[&arguments[..], &["--because", "máy chủ hỏng"]].concat())
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Files below a folder whose bytes hold this text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files(folder).into_iter().filter(holds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_hub_goes_on_from_its_backup_in_a_clean_folder_and_nothing_is_lost() {
    let (mut house, place, key) = house("");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    proven(&house).await;
    println!("{}", hub(&house, &["backup", "make", "--by", "Trần Vận Hành"]));
    assert_eq!(holding(&place, "Nguyễn"), Vec::<PathBuf>::new(), "rows lie open in a backup");

    // What the backup does not hold: delivered, receipted, gone from the spool, and proven.
    for id in 301..306 {
        house.database.psql(&format!(
            "insert into people values ({id}, 'Mới {id}', '090', ''); \
             update people set name = 'Đổi ' || id where id = {id} - 300; \
             delete from people where id = {id} - 200"
        ));
        assert_eq!(house.settle().await, 200);
    }
    let before = proven(&house).await;
    assert!(house.province.hub_process().stop().success());
    fs::remove_dir_all(house.province.hub_folder()).unwrap();
    // And what no hub has seen yet.
    house.database.psql("insert into people values (400, 'Trong lúc chờ', '090', '')");

    let restored = restore(&house, &place, &key);
    println!("{restored}");
    assert!(restored.contains("texts of entries that are lost"), "{restored}");
    house.province.start_hub_with(&[]);
    // The agent was never stopped and has nothing to be told.
    assert_eq!(house.settle().await, 201);
    house.database.psql("insert into people values (401, 'Sau khôi phục', '090', '')");
    assert_eq!(house.settle().await, 202);
    let after = proven(&house).await;
    println!("log seen by the agent before {before} and after {after}");
    assert_eq!((&after["forks"], &after["missing"]), (&Value::from(0), &Value::from(0)));
    let verified = hub(&house, &["log", "verify"]);
    println!("{verified}");
    assert!(verified.contains("mục chỉ còn trong tệp nhật ký"), "{verified}");
    println!("{}", hub(&house, &["log", "audit", "--full"]));
    house.log_tells("\\\"step\\\":\\\"restored\\\"").await;
    house.log_tells("máy chủ hỏng").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_whose_entry_went_down_with_the_hub_is_missing_and_not_pending_for_ever() {
    let (mut house, place, key) = house("");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    proven(&house).await;
    hub(&house, &["backup", "make", "--by", "Trần Vận Hành"]);
    assert!(house.province.agent_process(AGENCY).stop().success());

    // Two batches after the backup; the second has a receipt, and its agent ends before the log is
    // looked at. The first is no longer in the spool: what the hub lost cannot be sent again.
    house.province.start_agent_with(AGENCY, &[("PHUSA_FAILPOINT", "after_spool_delete:2")]);
    house.database.psql("insert into people values (301, 'Mới', '090', '')");
    assert_eq!(house.settle().await, 201);
    house.database.psql("insert into people values (302, 'Mới', '090', '')");
    let end = house.province.agent_process(AGENCY).wait(ARRIVES_WITHIN);
    assert!(!end.success(), "the failpoint was not reached");
    assert!(house.province.hub_process().stop().success());
    fs::remove_dir_all(house.province.hub_folder()).unwrap();
    restore(&house, &place, &key);
    house.province.start_hub_with(&[]);
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 202);
    let log = proven(&house).await;
    let missing = log["missing"].as_u64().unwrap();
    assert!((1..=2).contains(&missing), "{log}");
    assert_eq!(log["forks"], 0, "{log}");

    // And so after a restart: what is missing is not taken for proven.
    assert!(house.province.agent_process(AGENCY).stop().success());
    house.province.start_agent(AGENCY);
    let log = proven(&house).await;
    assert_eq!(log["missing"], missing, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_tries_the_newest_backup_out_and_names_one_that_is_damaged() {
    let (mut house, place, key) = house("keep = 2\n");
    hub_fails(&house, &["backup", "ls"], Code::BackupOverdue);
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    for _ in 0..3 {
        hub(&house, &["backup", "make", "--by", "Lê Sao Lưu"]);
    }
    let listed = hub(&house, &["backup", "ls"]);
    println!("{listed}");
    assert_eq!(listed.lines().filter(|line| line.starts_with("phusa-")).count(), 2);
    let drilled = hub(&house, &["backup", "drill", "--by", "Lê Sao Lưu"]);
    println!("{drilled}");
    assert!(drilled.contains("200 bản ghi (rows)"), "{drilled}");
    assert!(!house.province.hub_folder().join("state/drill").exists());

    let listed = complete(&house);
    damage(&place, &listed[1]);
    println!("{}", hub_fails(&house, &["backup", "drill"], Code::BackupBroken));
    house.log_tells("\\\"failed\\\":\\\"backup_broken\\\"").await;

    // With another key, or into a folder in use, nothing is restored.
    let (other, to) = (place.with_extension("other"), house.province.path().join("new"));
    hub(&house, &["backup", "key", "--out", other.to_str().unwrap()]);
    let oldest = &*listed[0];
    let restore = |key: &Path, to: &Path| {
        let (from, to, key) =
            (place.to_str().unwrap(), to.to_str().unwrap(), key.to_str().unwrap());
        let arguments = ["restore", from, "--name", oldest, "--to", to, "--key-file", key];
        house.province.hub(&[&arguments[..], &["--by", "x", "--because", "y"]].concat())
    };
    let refused = restore(&other, &to);
    assert!(!refused.status.success());
    assert_fault(&text(&refused), Code::BackupBroken);
    let refused = restore(&key, &place);
    assert!(!refused.status.success(), "{}", text(&refused));
    house.nothing_is_lost(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_fails_by_itself_is_an_incident() {
    let (mut house, place, _) = house("drill_every = \"1s\"\n");
    house.province.start_hub();
    house.log_tells("\\\"step\\\":\\\"drilled\\\"").await;
    damage(&place, complete(&house).last().unwrap());
    let told = wait_until("the incident of the drill", ARRIVES_WITHIN, async || {
        let said = text(&house.province.hub(&["incident", "ls"]));
        said.contains("could not be restored").then_some(said)
    })
    .await;
    assert!(told.contains(Code::BackupBroken.name()), "{told}");
    house.log_tells("\\\"failed\\\":\\\"backup_broken\\\"").await;
    assert!(!house.province.hub_folder().join("state/drill").exists());
}

/// Names of the complete backups, the oldest first; none while they cannot be listed.
fn complete(house: &House) -> Vec<String> {
    let listed = house.province.hub(&["backup", "ls", "--json"]);
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    let listed: Value =
        serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap_or_default();
    let all = listed.as_array().into_iter().flatten();
    all.filter_map(|backup| Some(backup["name"].as_str()?.to_owned())).collect()
}

/// Flips one bit in the middle of a backup.
fn damage(place: &Path, name: &str) {
    let file = place.join(name).join("cluster.tar.zst.sealed");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_hub_makes_its_backups_by_itself_and_says_when_it_cannot() {
    let (mut house, place, _) =
        house("every = \"2s\"\nkeep = 2\nmax_age = \"10s\"\ndrill_every = \"1s\"\n");
    house.province.start_hub();
    wait_until("two backups", ARRIVES_WITHIN, async || (complete(&house).len() == 2).then_some(()))
        .await;
    // The newest is restored for trial by nobody's order.
    let log = house.log_tells("\\\"step\\\":\\\"drilled\\\"").await;
    let drilled = log.lines().find(|line| line.contains("drilled")).unwrap();
    println!("{drilled}");
    assert!(!drilled.contains("\\\"failed\\\"") && !drilled.contains("\\\"by\\\""));
    fs::rename(&place, place.with_extension("away")).unwrap();
    wait_until("the alarm", ARRIVES_WITHIN, async || {
        let said = text(&house.province.hub(&["incident", "ls"]));
        said.contains("the newest complete backup is").then_some(())
    })
    .await;
    let page = house.province.page("/metrics");
    assert!(page.contains("phusa_incidents_open{kind=\"backup\"}"), "{page}");
    assert!(page.contains("phusa_backups "), "{page}");
    fs::rename(place.with_extension("away"), &place).unwrap();
    wait_until("backups to go on", ARRIVES_WITHIN, async || {
        house.province.hub(&["backup", "ls"]).status.success().then_some(())
    })
    .await;
    assert!(house.province.hub_process().stop().success());
}
