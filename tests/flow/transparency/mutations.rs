//! Everything that can be done to the log afterwards, by whoever has the database, the files or even
//! the keys: each is detected, and the entry named.

use std::fs;
use std::path::{Path, PathBuf};

use phusa_hub::transfers::folder::Folder;
use phusa_hub::transfers::writer::Writer;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::leaf::Leaf;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use super::{add, newest, proven, seen, world};
use crate::world::{AGENCY, World, said};

/// What a superuser of the database might do, and what names it.
const IN_THE_DATABASE: &[(&str, &str, &str)] = &[
    ("flipped", "update phusa.transfers set entry = replace(entry, 'H57.12', 'H57.13') where number = 7", "entry 7"),
    ("dropped", "delete from phusa.transfers where number = 3", "entry 4"),
    ("cut off at its end", "delete from phusa.transfers where number = (select max(number) from phusa.transfers)", "log_restored"),
    ("reordered", "update phusa.transfers set number = -number where number in (3, 4); update phusa.transfers set number = 7 + number where number in (-3, -4)", "entry 3"),
    ("inserted", "insert into phusa.transfers (transfer, kind, agent, dataset, epoch, seq, header_digest, entry, hub_signature, bytes, number, link)
        select 999999, kind, agent, dataset, epoch, seq + 1000, header_digest, entry, hub_signature, bytes, (select max(number) + 1 from phusa.transfers), link from phusa.transfers where number = 3", "entry"),
    ("contents of two entries swapped", "update phusa.transfers as t set entry = o.entry, hub_signature = o.hub_signature, leaf = o.leaf
        from phusa.transfers as o where (t.number, o.number) in ((3, 4), (4, 3))", "entry 3"),
];

/// What is done, to which file, how, and what names it.
type OfAFile = (&'static str, &'static str, fn(&Path), &'static str);

/// What someone with the hub's disk might do to a file.
const IN_THE_FILES: &[OfAFile] = &[
    ("a hash flipped", "tile/0/000.p/", flip, "entry 3"),
    ("a leaf flipped", "tile/entries/000.p/", flip, "entry 1"),
    ("two leaves swapped", "tile/entries/000.p/", swap, "entry 3"),
    ("a leaf dropped", "tile/entries/000.p/", cut, "entries 1 to"),
    ("a tile removed", "tile/0/000.p/", remove, "tile/0/000"),
    ("the checkpoint altered", "checkpoint", flip, "checkpoint"),
];

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[70] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn swap(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let (third, fourth) = bytes[2 * 130..4 * 130].split_at_mut(130);
    third.swap_with_slice(fourth);
    fs::write(file, bytes).unwrap();
}

fn cut(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 130]).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn log_folder(world: &World) -> PathBuf {
    world.province.hub_folder().join("state/log")
}

/// The file of this path for the published size.
fn file(world: &World, path: &str) -> PathBuf {
    let size = newest(world);
    let path = if path.ends_with(".p/") { format!("{path}{size}") } else { path.to_owned() };
    log_folder(world).join(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_altered_in_database_or_files_is_named() {
    let mut world = world(20).await;
    for id in 100..104 {
        add(&world, id).await;
    }
    proven(&world, 5).await;
    assert!(world.province.agent_process(AGENCY).stop().success());
    assert!(world.province.hub_process().stop().success());
    let audit = |what: &str, named: Option<&str>| {
        let audited = world.province.hub(&["log", "audit", "--full"]);
        let text = said(&audited);
        assert_eq!(audited.status.success(), named.is_none(), "{what}: {text}");
        let named = named.unwrap_or_default();
        assert!(text.contains(named), "{what} names {named}: {text}");
        println!("{what}: {}", text.lines().next().unwrap_or_default());
    };
    audit("untouched", None);
    let run =
        |sql: &str| world.warehouse.psql(&format!("set session_replication_role = replica; {sql}"));
    run("create table kept as table phusa.transfers");
    for (what, sql, named) in IN_THE_DATABASE {
        run(sql);
        audit(what, Some(named));
        run("delete from phusa.transfers; insert into phusa.transfers select * from kept");
    }
    for (what, path, alter, named) in IN_THE_FILES {
        let file = file(&world, path);
        let kept = fs::read(&file).unwrap();
        alter(&file);
        audit(what, Some(named));
        fs::write(&file, kept).unwrap();
    }
    audit("put back", None);
    shortened(&world, &audit);
}

/// A log that was truly published and then put back to an earlier state of itself.
fn shortened(world: &World, audit: &impl Fn(&str, Option<&str>)) {
    let folder = log_folder(world);
    let kept = folder.with_extension("kept");
    assert!(fs::rename(&folder, &kept).is_ok());
    rewrite(world, &kept, |leaves| leaves.truncate(2));
    audit("truncated and signed by the true key", Some("log_forked"));
    fs::remove_dir_all(&folder).unwrap();
    rewrite(world, &kept, |leaves| leaves.swap(1, 2));
    audit("rewritten and signed by the true key", Some("log_forked"));
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&kept, &folder).unwrap();
}

/// Writes another log with the true key in the place of the one that was moved to `kept`.
fn rewrite(world: &World, kept: &Path, alter: impl Fn(&mut Vec<Leaf>)) {
    let state = world.province.hub_folder().join("state");
    let key = fs::read_to_string(state.join("log.key")).unwrap();
    let key = SigningKey::from_text(&key).unwrap();
    let size = newest(world);
    let bundle = fs::read(kept.join(format!("tile/entries/000.p/{size}"))).unwrap();
    let mut leaves = phusa_protocol::leaf::unbundle(&bundle).unwrap();
    alter(&mut leaves);
    let folder = Folder::new(&state, key.public());
    let mut writer = Writer::open(&folder).unwrap().unwrap();
    writer.append(&leaves).unwrap();
    writer.publish(&key).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_keeps_both_versions_when_the_hub_rewrites_its_log_with_the_true_keys() {
    let mut world = world(20).await;
    for id in 100..104 {
        add(&world, id).await;
    }
    proven(&world, 5).await;
    assert!(world.province.hub_process().stop().success());
    // The operator has everything at the hub: keys, files, database. Two entries change places,
    // numbers and links and whatever the hub remembers of its log along with them.
    let folder = log_folder(&world);
    let kept = folder.with_extension("kept");
    fs::rename(&folder, &kept).unwrap();
    rewrite(&world, &kept, |leaves| leaves.swap(2, 3));
    world.warehouse.psql(
        "set session_replication_role = replica;
         update phusa.transfers set number = -number where number in (3, 4);
         update phusa.transfers set number = 7 + number where number in (-3, -4);
         update phusa.log set size = 0, root = null; delete from phusa.heads",
    );
    world.province.start_hub_with(&[]);
    world.source.psql("insert into dan values (200, 'Sau')");
    wait_until("the agent to see it", ARRIVES_WITHIN, async || {
        let log = seen(&world)?;
        (log["forks"].as_u64()? >= 1 && log["trouble"]["code"] == "log_forked").then_some(())
    })
    .await;
    // Deliveries go on; the contradiction stays, also without the hub and after a restart.
    assert_eq!(world.identical("dan").await, 25);
    assert!(world.province.agent_process(AGENCY).stop().success());
    let verified = world.agent(&["ledger", "verify"]);
    assert!(!verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("log_forked"), "{}", said(&verified));
    println!("{}", said(&verified));
    let forks = world.province.agent_folder(AGENCY).join("state/ledger/_log/fork-001.json");
    let fork: serde_json::Value = serde_json::from_slice(&fs::read(forks).unwrap()).unwrap();
    for side in ["before", "after"] {
        assert!(fork[side].as_str().unwrap().starts_with("sigsum.org/v1/tree/"), "{fork}");
    }
}
