//! Minutes say what the log says, in every form; whoever changes one of them is found out.

use std::fs;

use calamine::{Data, Reader as _, Xlsx};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use serde_json::Value;

use crate::world::{Sender, World};

const OPERATIONS: [&str; 6] = ["snapshot", "insert", "update", "delete", "rekey", "truncate"];

/// Counted by hand from the exported entries of one agency: batches, operations, bytes.
fn counted(export: &str, agency: &str) -> (u64, [u64; 6], u64) {
    let mut found = (0, [0; 6], 0);
    for line in export.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let entry: Value = serde_json::from_str(line["entry"].as_str().unwrap()).unwrap();
        let is_own = entry["agent"].as_str().is_some_and(|agent| agent.starts_with(agency));
        if entry["kind"] != "push" || !is_own {
            continue;
        }
        let header: Value = serde_json::from_str(entry["header"].as_str().unwrap()).unwrap();
        found.0 += 1;
        for (sum, operation) in found.1.iter_mut().zip(OPERATIONS) {
            *sum += header["counts"][operation].as_u64().unwrap();
        }
        found.2 += entry["bytes"].as_u64().unwrap();
    }
    found
}

async fn deliver(agent: &mut Sender) {
    let people: Vec<(Op, i64, String)> =
        (0..1_234).map(|id| (Op::Snapshot, id, format!("Nguyễn {id}"))).collect();
    let rows: Vec<_> = people.iter().map(|(op, id, name)| (*op, *id, name.as_str())).collect();
    let batches = [
        agent.seal(Phase::Read, false, &rows),
        agent.seal(Phase::ReadEnd, false, &[]),
        agent.seal(Phase::Live, false, &[(Op::Insert, 9_001, "An"), (Op::Update, 5, "Bình")]),
    ];
    for batch in &batches {
        agent.send(batch).await.unwrap();
    }
    let mut far = agent.clone();
    far.skip(7);
    assert!(far.send(&far.clone().seal(Phase::Live, false, &[])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_are_signed_equal_to_the_log_in_every_form_and_changed_ones_are_found_out() {
    let world = World::start().await;
    deliver(&mut world.sender("H57.12/may-1")).await;
    world.log_verify();
    let path = |name: &str| world.path(name).display().to_string();
    let period = ["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
    let make = |form: &str, out: &str| {
        let wanted =
            ["log", "minutes", "make", "--agency", "H57.12", "--format", form, "--out", out];
        world.run(&[wanted.as_slice(), &period].concat())
    };
    let (page, csv, xlsx) = (path("bb.html"), path("bb.csv"), path("bb.xlsx"));
    for (form, out) in [("html", &page), ("csv", &csv), ("xlsx", &xlsx)] {
        make(form, out);
    }
    let export = world.run(&["log", "export"]);
    let log = world.write("log.jsonl", &export);
    let (batches, operations, bytes) = counted(&export, "H57.12/");
    assert_eq!((batches, operations), (3, [1_234, 1, 1, 0, 0, 0]));

    let told = world.run(&["log", "minutes", "verify", &page, "--log", &log, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let line = &told["figures"]["delivered"][0];
    let said = OPERATIONS.map(|operation| line["rows"][operation].as_u64().unwrap());
    assert_eq!(
        (&line["batches"], said, &line["bytes"]),
        (&batches.into(), operations, &bytes.into())
    );
    assert_eq!(told["figures"]["refused"][0]["code"], "batch_out_of_turn");
    assert_eq!(told["counted_again"], true);
    assert!(world.run(&["log", "minutes", "verify", &page, "--database"]).contains("trùng khớp"));

    let mut expected = vec![batches];
    expected.extend(operations);
    expected.push(bytes);
    let text = fs::read_to_string(&csv).unwrap();
    let total = text.lines().find(|line| line.starts_with("total,")).unwrap();
    let found: Vec<u64> = total.split(',').skip(4).take(8).map(|n| n.parse().unwrap()).collect();
    assert_eq!(found, expected, "{text}");
    let mut book: Xlsx<_> = calamine::open_workbook(&xlsx).unwrap();
    let sheet = book.worksheet_range_at(0).unwrap().unwrap();
    let total = sheet.rows().find(|row| row[0] == Data::String("total".to_owned())).unwrap();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    let found: Vec<String> = total.iter().skip(4).take(8).map(ToString::to_string).collect();
    assert_eq!(found, expected);

    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<td class=\"n\">1.234</td>"), "as people write it");
    assert!(!html.contains("<script") && !html.contains("Nguyễn"));
    keep_for_looking(&html);
    check_changes(&world, &html);
    let exports = "select count(*) = 4 from phusa.transfers where kind = 'disclose'";
    assert!(world.ask(exports).await, "three minutes and an export of the log");
    assert_eq!(world.log_verify()["accepted"], 3);
    world.stop().await;
}

fn check_changes(world: &World, html: &str) {
    let changed = html.replacen("1.234", "1.235", 1);
    let changed = world.write("changed.html", &changed);
    let (code, said) = world.run_and_fail(&["log", "minutes", "verify", &changed]);
    assert_eq!(code, 1);
    assert!(said.contains("log_broken") && said.contains("changed after it was signed"), "{said}");
    let key = world.path("hub/agents").parent().unwrap().join("other.pub");
    let other = phusa_protocol::keys::SigningKey::generate().unwrap().public();
    fs::write(&key, other.to_string()).unwrap();
    let page = world.path("bb.html").display().to_string();
    let key = key.display().to_string();
    let (code, _) = world.run_and_fail(&["log", "minutes", "verify", &page, "--hub-key", &key]);
    assert_eq!(code, 1, "another hub's");
}

/// For a person who wants to look at it: `KEEP=folder`.
fn keep_for_looking(html: &str) {
    if let Some(folder) = std::env::var_os("KEEP") {
        fs::write(std::path::Path::new(&folder).join("minutes.html"), html).unwrap();
    }
}
