//! The transparency log: every receipt is proven within seconds, agents cosign, programs that others
//! wrote believe it, and whatever is altered afterwards is named.

mod mutations;
mod outside;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use phusa_tests::database::Version;
use phusa_tests::log_tools;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use serde_json::Value;

use crate::world::{AGENCY, Share, World, said};

const SHARE: Share<'static> =
    Share { table: "dan", key: "id", fields: &["id int4", "ten text"], rules: "" };

/// A world whose agent delivered a full read and some batches after it, all of them proven.
async fn world(rows: u32) -> World {
    let mut world = World::new(Version::V15);
    world.source.psql(&format!(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, {rows}) n"
    ));
    world.share("[batch]\nbatch_linger = \"5ms\"\n", &[SHARE]);
    world.start();
    assert_eq!(world.identical("dan").await, u64::from(rows));
    world
}

/// Adds a row, which is a batch of its own, and waits for it.
async fn add(world: &World, id: u32) {
    world.source.psql(&format!("insert into dan values ({id}, 'Mới')"));
    world.warehouse_says(&format!("select count(*) from thu.dan where id = {id}"), "1").await;
}

/// What the running agent says of the hub's log.
fn seen(world: &World) -> Option<Value> {
    let status = world.agent(&["status", "--json"]);
    serde_json::from_slice::<Value>(&status.stdout).ok().map(|status| status["log"].clone())
}

/// Waits until every receipt is proven, at least `batches` of them.
async fn proven(world: &World, batches: u64) -> Value {
    let pushed = "select count(*) from phusa.transfers where kind = 'push'";
    wait_until("every batch to be proven", ARRIVES_WITHIN, async || {
        let log = seen(world)?;
        let all: u64 = world.warehouse.psql(pushed).trim().parse().ok()?;
        (log["proven"].as_u64()? >= all.max(batches)).then_some(log)
    })
    .await
}

/// The number of the newest entry.
fn newest(world: &World) -> String {
    world.warehouse.psql("select max(number) from phusa.transfers").trim().to_owned()
}

fn sigsum_verify(program: &Path, dir: &Path) -> (bool, String) {
    let entry = fs::File::open(dir.join("entry.json")).unwrap();
    let output = Command::new(program)
        .args(["-k", "hub.pub", "-p", "policy", "entry.proof"])
        .current_dir(dir)
        .stdin(Stdio::from(entry))
        .output()
        .unwrap();
    (output.status.success(), said(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_receipt_is_proven_within_seconds_and_verifies_without_the_hub() {
    let mut world = world(50).await;
    proven(&world, 1).await;
    let mut spans = Vec::new();
    for id in 60..65 {
        add(&world, id).await;
        let began = Instant::now();
        proven(&world, 1).await;
        spans.push(began.elapsed());
    }
    println!("row in the warehouse to proof in the ledger: {spans:?}");
    assert!(spans.iter().max() < Some(&Duration::from_secs(10)), "{spans:?}");
    let log = seen(&world).unwrap();
    assert_eq!((log["pending"].as_u64(), log["missing"].as_u64()), (Some(0), Some(0)));
    assert_eq!((&log["forks"], &log["trouble"]), (&Value::from(0), &Value::Null));
    assert!(said(&world.agent(&["status"])).contains("đã chứng minh · batches proven"));

    let listed = said(&world.province.hub(&["log", "ls"]));
    assert!(listed.contains("đã chứng minh (proven)") && !listed.contains("chờ nhân"), "{listed}");
    let number = newest(&world);
    let shown = said(&world.province.hub(&["log", "show", &number]));
    assert!(shown.contains("đã chứng minh") && shown.contains("\"kind\": \"push\""), "{shown}");
    let audited = world.province.hub(&["log", "audit", "--full"]);
    assert!(audited.status.success(), "{}", said(&audited));
    assert!(said(&audited).contains("(cosignatures)"), "{}", said(&audited));

    // The agency's own word, without the hub.
    assert!(world.province.hub_process().stop().success());
    let verified = world.agent(&["ledger", "verify", "--json"]);
    assert!(verified.status.success(), "{}", said(&verified));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verified["proven"].as_u64() >= Some(6), "{verified}");
    assert_eq!(verified["proven"], verified["receipts"]);
    let listed = said(&world.agent(&["ledger", "ls"]));
    assert!(listed.contains("thu.dan") && listed.contains("pending 0"), "{listed}");
    let shown = said(&world.agent(&["ledger", "show", "thu.dan", "2"]));
    assert!(shown.contains("version=2") && shown.contains("leaf_index="), "{shown}");
    let ledger = world.province.agent_folder(AGENCY).join("state/ledger/thu.dan");
    let proofs = fs::read_dir(&ledger).unwrap().map(|file| file.unwrap().path());
    let proofs = proofs.filter(|path| path.to_string_lossy().ends_with(".proofs.jsonl"));
    let file = proofs.last().unwrap();
    let kept = fs::read_to_string(&file).unwrap();
    let largest = kept.lines().map(str::len).max().unwrap();
    assert!(largest < 4 << 10, "entry and proof take {largest} bytes");
    fs::write(&file, kept.replacen("\\\"bytes\\\":", "\\\"bytes\\\":1", 1)).unwrap();
    let verified = world.agent(&["ledger", "verify"]);
    assert!(!verified.status.success() && said(&verified).contains("log_broken"));
    fs::write(&file, &kept).unwrap();
    the_agency_counts_minutes_again(&world, &file, &kept);
    foreign_tools_believe_it(&world, &number);
}

/// The hub's minutes against the agency's own ledger, without the hub.
fn the_agency_counts_minutes_again(world: &World, proofs: &Path, kept: &str) {
    let page = world.province.path().join("minutes.html");
    let out = page.display().to_string();
    let period = ["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--out", &out];
    let wanted = ["log", "minutes", "make", "--agency", AGENCY];
    let made = world.province.hub(&[wanted.as_slice(), &period].concat());
    assert!(made.status.success(), "{}", said(&made));
    let checked = world.agent(&["ledger", "minutes", &out]);
    assert!(
        checked.status.success() && said(&checked).contains("1 bộ dữ liệu"),
        "{}",
        said(&checked)
    );
    let less: String = kept.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(proofs, less).unwrap();
    let refused = said(&world.agent(&["ledger", "minutes", &out]));
    assert!(refused.contains("log_broken") && refused.contains("ledger says"), "{refused}");
    fs::write(proofs, kept).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, text.replacen(AGENCY, "H57.13", 1)).unwrap();
    let refused = said(&world.agent(&["ledger", "minutes", &out]));
    assert!(refused.contains("changed after it was signed"), "{refused}");
}

/// With the entry, the hub's public key and the policy, nothing else.
fn foreign_tools_believe_it(world: &World, number: &str) {
    let of_hub = world.province.path().join("evidence-hub");
    let dir = of_hub.display().to_string();
    let written = world.province.hub(&["log", "prove", number, "--dir", &dir]);
    assert!(written.status.success(), "{}", said(&written));
    let of_agent = world.province.path().join("evidence-agent");
    let dir = of_agent.display().to_string();
    let written = world.agent(&["ledger", "export", "thu.dan", "2", "--dir", &dir]);
    assert!(written.status.success(), "{}", said(&written));
    let program = match log_tools::program("sigsum-verify") {
        Ok(program) => program,
        Err(why) => return eprintln!("NOT VERIFIED with sigsum-verify: {why}"),
    };
    for dir in [&of_hub, &of_agent] {
        let (believed, what) = sigsum_verify(&program, dir);
        assert!(believed, "{}: {what}", dir.display());
        println!("sigsum-verify believes {}", dir.display());
        // One character anywhere, and it does not.
        for (file, from, to) in [
            ("entry.json", "\"bytes\":", "\"bytes\":1"),
            ("entry.proof", "leaf_index=", "leaf_index=1"),
            ("entry.proof", "size=", "size=1"),
            ("entry.proof", "cosignature=", "cosignaturE="),
            ("policy", "quorum agents", "quorum none2"),
        ] {
            let path = dir.join(file);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{file}: {text}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let (believed, what) = sigsum_verify(&program, dir);
            assert!(!believed, "{file} {to}");
            println!("sigsum-verify refuses {file} with {to}: {}", what.trim());
            fs::write(&path, text).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_checkpoint_is_never_taken_back_whatever_ends_the_hub() {
    let mut world = world(20).await;
    proven(&world, 1).await;
    for (round, id) in (100..106).enumerate() {
        add(&world, id).await;
        match round % 3 {
            0 => world.province.hub_process().kill(),
            1 => {
                assert!(world.province.hub_process().stop().success());
                // A folder that was lost is filled again from the database, to the same root.
                fs::remove_dir_all(world.province.hub_folder().join("state/log")).unwrap();
            }
            _ => assert!(world.province.hub_process().stop().success()),
        }
        world.province.start_hub_with(&[]);
        let log = proven(&world, 2 + round as u64).await;
        assert_eq!((&log["forks"], &log["missing"]), (&Value::from(0), &Value::from(0)));
    }
    let audited = world.province.hub(&["log", "audit", "--full"]);
    assert!(audited.status.success(), "{}", said(&audited));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_said_and_the_log_goes_on_without_a_fork() {
    let mut world = world(20).await;
    add(&world, 100).await;
    proven(&world, 2).await;
    assert!(world.province.agent_process(AGENCY).stop().success());
    assert!(world.province.hub_process().stop().success());
    // What a restore of an older backup leaves: the last batch is gone, rows, entry and cursor.
    let run =
        |sql: &str| world.warehouse.psql(&format!("set session_replication_role = replica; {sql}"));
    let last = newest(&world);
    run("create table lost as select transfer, agent, dataset, epoch, seq from phusa.transfers
           where number = (select max(number) from phusa.transfers);
         delete from phusa.salts where transfer in (select transfer from lost);
         delete from phusa.transfers where transfer in (select transfer from lost);
         delete from thu.dan where id = 100;
         update phusa.streams as s set seq = t.seq, header_digest = t.header_digest
           from (select seq, header_digest from phusa.transfers where kind = 'push' and dataset = 'thu.dan'
                 order by epoch desc, seq desc limit 1) as t where s.dataset = 'thu.dan'");
    let verified = world.province.hub(&["log", "verify"]);
    assert!(!verified.status.success());
    assert!(said(&verified).contains("log_restored"), "{}", said(&verified));

    world.province.start_hub_with(&[]);
    world.start_agent();
    world.source.psql("insert into dan values (200, 'Sau')");
    // Batches are taken all the same; their entries wait for numbers.
    assert_eq!(world.identical("dan").await, 22);
    assert!(
        world.warehouse.psql("select count(*) from phusa.transfers where number is null").trim()
            != "0"
    );
    let said_so = wait_until("the hub to say it", ARRIVES_WITHIN, async || {
        world.province.hub_process().log().contains("log_restored").then_some(())
    });
    said_so.await;
    let done = world.province.hub(&["log", "continue", "--because", "thử khôi phục"]);
    assert!(done.status.success(), "{}", said(&done));
    world.warehouse_says("select count(*) from phusa.transfers where number is null", "0").await;
    wait_until("new batches to be proven", ARRIVES_WITHIN, async || {
        let log = seen(&world)?;
        (log["entries"].as_u64()? > last.parse().ok()? && log["forks"] == 0).then_some(())
    })
    .await;
    let verified = world.province.hub(&["log", "verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("1 mục chỉ còn trong tệp"), "{}", said(&verified));
    let audited = world.province.hub(&["log", "audit", "--full"]);
    assert!(audited.status.success(), "{}", said(&audited));
}
