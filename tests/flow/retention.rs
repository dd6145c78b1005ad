//! The end of rows: not before its time, not by one person, and then nowhere any more, with a certificate
//! that stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_tests::database::connect_with;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::house::{AGENCY, DATASET, House, assert_fault, edit, text};

// Nothing in common, so that no compression writes one as the other.
const FORMER: &str = "CHIMHOAMI-XUA";
const CURRENT: &str = "vàngAnh*2026*kẹt";

fn destroy(house: &House, arguments: &[&str]) -> std::process::Output {
    house.province.hub(&[&["warehouse", "destroy"][..], arguments].concat())
}

fn succeeds(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

fn fails(output: &std::process::Output, code: Code) {
    assert!(!output.status.success(), "{}", text(output));
    assert_fault(&text(output), code);
}

/// Files of the hub's state that hold this text.
fn holding(folder: &Path, canary: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, canary));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
            found.push(path);
        }
    }
    found
}

/// Others who read the warehouse all the while, each for a moment, so that somebody always began before
/// what is being destroyed; they end once the flag is set.
fn readers(house: &House) -> Arc<AtomicBool> {
    let tasks = TaskTracker::new();
    let stop = Arc::new(AtomicBool::new(false));
    // Of different lengths, so that they do not end together.
    for tenths in 1..4 {
        let (stop, config) = (Arc::clone(&stop), house.province.warehouse_config());
        tasks.spawn(async move {
            let client = connect_with(&config).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                let read = format!(
                    "begin isolation level repeatable read; select count(*) from pg_class; \
                     select pg_sleep(0.{tenths}); commit"
                );
                client.batch_execute(&read).await.unwrap();
            }
        });
    }
    stop
}

/// Brings what the server has in memory to its files.
async fn checkpoint(house: &House) {
    let client = connect_with(&house.province.warehouse_config()).await.unwrap();
    client.batch_execute("checkpoint").await.unwrap();
}

fn rows(house: &House) -> Option<u64> {
    let digest = house.province.hub(&["warehouse", "digest", DATASET, "--json"]);
    serde_json::from_slice::<Value>(&digest.stdout).ok()?["rows"].as_u64()
}

/// Waits until everything of now is older than the contract's retention, a second.
async fn a_second_later() {
    let then = std::time::Instant::now();
    wait_until("the retention to end", ARRIVES_WITHIN, async || {
        (then.elapsed() > Duration::from_millis(1_500)).then_some(())
    })
    .await;
}

/// Proposes, has it approved by another, runs it; returns the certificate.
fn destroyed(house: &House, number: &str, current: &[&str]) -> String {
    let by = ["--by", "Đỗ Đề Nghị", "--because", "hết thời hạn lưu trữ"];
    let proposed = [&["propose", DATASET][..], current, &by[..]].concat();
    println!("{}", succeeds(&destroy(house, &proposed)));
    fails(&destroy(house, &["run", number, "--by", "Hồ Thực Hiện"]), Code::SecondPerson);
    fails(&destroy(house, &["approve", number, "--by", " đỗ đề nghị"]), Code::SecondPerson);
    succeeds(&destroy(house, &["approve", number, "--by", "Bùi Phê Duyệt"]));
    succeeds(&destroy(house, &["run", number, "--by", "Hồ Thực Hiện"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_destroyed_is_in_no_file_of_the_database_and_does_not_come_back() {
    let mut house = House::new("", "");
    edit(&house.agent().join("contracts/cong_dan.people.toml"), "3650d", "1s");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    house.database.psql(&format!("insert into people values (600, '{FORMER}', '090', '')"));
    assert_eq!(house.settle().await, 201);
    house.database.psql(&format!("update people set name = '{CURRENT}' where id = 600"));
    assert_eq!(house.settle().await, 201);
    let state = house.province.hub_folder().join("state/postgresql");
    checkpoint(&house).await;
    let before = [holding(&state, FORMER), holding(&state, CURRENT)];
    println!("before: {before:?}");
    assert!(before.iter().all(|files| !files.is_empty()), "{before:?}");
    a_second_later().await;

    // Not while it is held, and not before its time.
    let hold = ["warehouse", "hold", "add", DATASET, "--by", "Thanh tra", "--because", "thanh tra"];
    succeeds(&house.province.hub(&hold));
    println!("{}", succeeds(&destroy(&house, &["plan"])));
    let propose = ["propose", DATASET, "--by", "Đỗ Đề Nghị", "--because", "thử"];
    fails(&destroy(&house, &propose), Code::RetentionRuns);
    succeeds(&house.province.hub(&["warehouse", "hold", "lift", "1", "--by", "Thanh tra"]));
    let early = [&propose[..], &["--before", "2100-01-01T00:00:00Z"]].concat();
    fails(&destroy(&house, &early), Code::RetentionRuns);

    // Former versions alone.
    println!("{}", destroyed(&house, "1", &[]));
    assert_eq!(holding(&state, FORMER), Vec::<PathBuf>::new(), "a former version is left");
    assert!(!holding(&state, CURRENT).is_empty());
    house.nothing_is_lost(201).await;

    // Rows in force too.
    a_second_later().await;
    let readers = readers(&house);
    let certificate = destroyed(&house, "2", &["--current"]);
    readers.store(true, Ordering::Relaxed);
    println!("{certificate}");
    assert!(certificate.contains("rows in force destroyed: 201"), "{certificate}");
    assert_eq!(holding(&state, CURRENT), Vec::<PathBuf>::new(), "a row is left");
    assert_eq!(rows(&house), Some(0));
    house.province.verify_log();
    let audited = succeeds(&house.province.hub(&["log", "audit", "--full"]));
    println!("{audited}");

    // Read anew from its source into the empty table, nothing of it comes back; what changes does.
    assert!(house.province.agent_process(AGENCY).stop().success());
    fs::remove_dir_all(house.agent().join("state")).unwrap();
    fs::create_dir(house.agent().join("state")).unwrap();
    house.province.start_agent(AGENCY);
    wait_until("everything to be read anew", ARRIVES_WITHIN, async || {
        let told = text(&house.province.hub(&["log", "export"]));
        let again = "\\\\\\\"epoch\\\\\\\":2,";
        let over = "\\\\\\\"phase\\\\\\\":\\\\\\\"live\\\\\\\"";
        told.lines().any(|line| line.contains(again) && line.contains(over)).then_some(())
    })
    .await;
    assert_eq!(rows(&house), Some(0), "destroyed rows came back");
    house.database.psql("update people set name = 'Người mới' where id = 7");
    wait_until("the changed row to come in", ARRIVES_WITHIN, async || {
        (rows(&house)? == 1).then_some(())
    })
    .await;
    house.province.verify_log();
    assert!(succeeds(&destroy(&house, &["certificate", "2"])).contains("Bùi Phê Duyệt"));
}
