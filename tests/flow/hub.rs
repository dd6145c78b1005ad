//! The hub: records and their history, one writer, contracts, a log that shows every tampering, and
//! stops and crashes under load.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use phusa_tests::database::Version;
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Reader};
use serde_json::Value;

use crate::world::{AGENCY, Share, World, said};

const FIELDS: &[&str] = &["id int4", "ten text"];

const SHARE: Share<'static> = Share { table: "dan", key: "id", fields: FIELDS, rules: "" };

fn world(rows: u32, settings: &str) -> World {
    let mut world = World::new(Version::V15);
    world.source.psql(&format!(
        "create table dan (id int primary key, ten text, luong int);
         insert into dan select n, 'Dân ' || n, n from generate_series(1, {rows}) n"
    ));
    world.share(settings, &[SHARE]);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_keeps_its_identity_its_versions_rise_and_every_moment_can_be_asked_for() {
    let mut world = world(5, "");
    world.start();
    assert_eq!(world.identical("dan").await, 5);
    let of = |id: u32| {
        let sql = format!("select _record, _version from thu.dan where id = {id}");
        let text = world.warehouse.psql(&sql);
        let (record, version) = text.trim().split_once('|').unwrap();
        (record.to_owned(), version.parse::<u64>().unwrap())
    };
    let moment = || world.source.psql("select clock_timestamp()").trim().to_owned();
    let (record, first) = of(1);
    let (untouched, kept) = of(2);
    let mut moments = vec![(moment(), "1 Dân 1")];
    for (sql, seen, shows) in [
        (
            "update dan set ten = 'Lần hai' where id = 1",
            "select ten from thu.dan where id = 1",
            "Lần hai",
        ),
        ("update dan set id = 77 where id = 1", "select ten from thu.dan where id = 77", "Lần hai"),
        (
            "update dan set ten = 'Lần ba' where id = 77",
            "select ten from thu.dan where id = 77",
            "Lần ba",
        ),
    ] {
        world.source.psql(sql);
        world.warehouse_says(seen, shows).await;
        moments.push((moment(), shows));
    }
    let (same, last) = of(77);
    assert_eq!(record, same, "a change of key makes no other record");
    assert!(last > first, "{first} {last}");
    assert_eq!(of(2), (untouched, kept), "what did not change keeps its version");
    // What the source does not change is no new version.
    world.source.psql("update dan set luong = luong + 1; update dan set ten = ten; insert into dan values (100, 'Mốc', 0)");
    world.warehouse_says("select count(*) from thu.dan where id = 100", "1").await;
    assert_eq!(of(77).1, last, "an update that changes no shared field is no new version");

    world.source.psql("delete from dan where id = 77");
    world.warehouse_says("select count(*) from thu.dan where id = 77", "0").await;
    for (at, shown) in &moments {
        let sql = format!(
            "select id || ' ' || ten from (
               select id, ten, _record, _source_time, 'infinity'::timestamptz as _until from thu.dan
               union all select id, ten, _record, _source_time, _until from thu.dan__history) rows
             where _record = {record} and _source_time <= '{at}' and '{at}' < _until"
        );
        let found = world.warehouse.psql(&sql);
        assert!(found.contains(shown.split_once(' ').map_or(*shown, |_| *shown)), "{at}: {found}");
        assert_eq!(found.lines().count(), 1, "one version at one moment: {found}");
    }
    let history = "select count(*), count(distinct _version), bool_and(_until > _source_time),
                     bool_and(_until_transfer > _version) from thu.dan__history where _record = ";
    assert_eq!(world.warehouse.psql(&format!("{history}{record}")).trim(), "4|4|t|t");
    let named = "select count(*) from thu.dan__history h where not exists
                   (select from phusa.transfers t where t.transfer = h._until_transfer and t.kind = 'push')";
    assert_eq!(world.warehouse.psql(named).trim(), "0", "every change names its transfer");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agency_may_not_write_and_a_contract_may_widen_but_not_break() {
    let mut world = world(3, "");
    let intruder = Reader { agency: "H57.13", database: &world.source, settings: "" };
    world.source.psql(&format!("drop role if exists {}_khac", world.login()));
    let other = phusa_tests::database::Server::shared(Version::V15).database();
    other.psql(
        "create table dan (id int primary key, ten text); insert into dan values (1, 'Giả mạo')",
    );
    let intruder = Reader { database: &other, ..intruder };
    world.province.add_agent(intruder, &[SHARE.dataset()]);
    world.start();
    world.province.start_agent("H57.13");
    assert_eq!(world.identical("dan").await, 3);
    wait_until("the other agency to be refused", ARRIVES_WITHIN, async || {
        let output = world.province.agent("H57.13", &["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["datasets"][0]["delivery_trouble"]["code"] == "not_owner").then_some(())
    })
    .await;
    assert!(world.province.agent_process("H57.13").stop().success());
    let foreign = "select count(*) from thu.dan where _agency <> 'H57.12'";
    assert_eq!(world.warehouse.psql(foreign).trim(), "0");
    assert!(said(&world.province.agent("H57.13", &["check"])).contains("not_owner"));

    // A field that may be null and a wider number break nobody.
    let contract = world.province.agent_folder(AGENCY).join("contracts/thu.dan.toml");
    let text = fs::read_to_string(&contract).unwrap();
    let field =
        "\n[[field]]\nname = \"luong\"\ntype = \"int8\"\nclass = \"I\"\nname_vi = \"Lương\"\n";
    let wider = text.replacen("type = \"int4\"", "type = \"int8\"", 1) + field;
    let wider = wider.replacen("version = 1", "version = 1\nminor = 1", 1);
    for (file, broken) in [
        (
            "bot.toml",
            text.replace(
                &field.replace("luong", "ten").replace("int8", "text").replace("Lương", "ten"),
                "",
            ),
        ),
        ("kieu.toml", text.replace("type = \"text\"", "type = \"int4\"")),
        ("batbuoc.toml", format!("{text}{}required = true\n", field)),
        ("chu.toml", text.replace(AGENCY, "H57.13")),
    ] {
        let path = world.province.path().join(file);
        fs::write(&path, &broken).unwrap();
        assert_ne!(broken, text, "{file}");
        let applied = world.province.hub(&["contract", "apply", &path.display().to_string()]);
        let what = said(&applied);
        assert!(!applied.status.success(), "{file}: {what}");
        assert!(what.contains("contract_invalid"), "{file}: {what}");
    }
    let in_force = "select count(*) from phusa.contracts where in_force and version = 1";
    assert_eq!(world.warehouse.psql(in_force).trim(), "1");

    assert!(world.province.agent_process(AGENCY).stop().success());
    fs::write(&contract, &wider).unwrap();
    let mapping = "\n[[field]]\nfrom = \"luong\"\nto = \"luong\"\nclass = \"I\"\n";
    let dataset = world.province.agent_folder(AGENCY).join("datasets/thu.dan.toml");
    fs::write(&dataset, fs::read_to_string(&dataset).unwrap() + mapping).unwrap();
    world.province.sign_contracts(AGENCY, std::slice::from_ref(&contract));
    let applied = world.province.hub(&["contract", "apply", &contract.display().to_string()]);
    assert!(said(&applied).contains("widened"), "{}", said(&applied));
    let text = said(&world.agent(&["check", "--offline"]));
    let wanted = |line: &&str| line.starts_with("grant") || line.starts_with("alter pub");
    text.lines().filter(wanted).for_each(|line| drop(world.source.psql(line)));
    let checked = world.agent(&["check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    world.start_agent();
    world.source.psql("insert into dan values (4, 'Dân 4', 4)");
    world.warehouse_says("select luong from thu.dan where id = 4", "4").await;
    assert_eq!(world.identical("dan").await, 4);
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_and_crashes_under_load_lose_nothing_and_repeat_nothing() {
    let mut world = world(500, "[batch]\nbatch_linger = \"5ms\"\n");
    world.start();
    assert_eq!(world.identical("dan").await, 500);
    let writer = world.source.connect().await;
    let done = AtomicBool::new(false);
    let write = async {
        let mut id = 1_000;
        while !done.load(Ordering::Relaxed) {
            let sql = format!(
                "begin; insert into dan values ({id}, 'Mới', 0); update dan set ten = ten || '.' where id = {};
                 delete from dan where id = {}; commit",
                id % 400 + 1, id - 7
            );
            writer.batch_execute(&sql).await.unwrap();
            id += 1;
        }
        id
    };
    let disturb = async {
        let entries = "select count(*) from phusa.transfers where kind = 'push'";
        for round in 0..4 {
            let before: u64 = world.warehouse.psql(entries).trim().parse().unwrap();
            wait_until("more batches", ARRIVES_WITHIN, async || {
                let now: u64 = world.warehouse.psql(entries).trim().parse().unwrap();
                (now > before + 10).then_some(())
            })
            .await;
            match round {
                0 => assert!(world.province.hub_process().stop().success()),
                1 | 3 => world.province.hub_process().kill(),
                _ => {
                    assert!(world.province.agent_process(AGENCY).stop().success());
                    world.start_agent();
                    continue;
                }
            }
            world.province.start_hub_with(&[]);
        }
        done.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(write, disturb);
    assert!(written > 1_020, "{written}");
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1);
    let gaps = "select count(*) - count(distinct seq), max(seq) - count(*) from phusa.transfers
                where kind = 'push' and dataset = 'thu.dan'";
    assert_eq!(world.warehouse.psql(gaps).trim(), "0|0", "every batch once, none left out");
    let numbers = "select count(*) from (select number, row_number() over (order by number) as n
                   from phusa.transfers where number is not null) x where number <> n";
    assert_eq!(world.warehouse.psql(numbers).trim(), "0", "numbers without gaps");
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_disk_reads_anew_and_rows_that_vanished_are_swept() {
    let mut world = world(200, "");
    world.start();
    assert_eq!(world.identical("dan").await, 200);
    for round in 1..=2 {
        assert!(world.province.agent_process(AGENCY).stop().success());
        let state = world.province.agent_folder(AGENCY).join("state");
        fs::remove_dir_all(&state).unwrap();
        fs::create_dir_all(&state).unwrap();
        world.source.psql(&format!(
            "delete from dan where id % 10 = {round}; update dan set ten = 'Vòng {round}' where id = 200;
             insert into dan values ({}, 'Thêm', 0)",
            1_000 + round
        ));
        world.start_agent();
        world
            .warehouse_says("select ten from thu.dan where id = 200", &format!("Vòng {round}"))
            .await;
        world.identical("dan").await;
        assert_eq!(world.epoch("dan"), 1 + round);
    }
    let swept = "select count(distinct id) from thu.dan__history where id <= 200
                 and id not in (select id from thu.dan)";
    assert_eq!(world.warehouse.psql(swept).trim(), "40");
    // What was there and did not change kept its record through both epochs.
    let same = "select count(*) from thu.dan where id = 5 and _version = (select min(_version) from thu.dan)";
    assert_eq!(world.warehouse.psql(same).trim(), "1");
    world.province.verify_log();
}

/// What someone with every right in the database might do, and what `log verify` names.
const TAMPERINGS: &[(&str, &str, &str)] = &[
        ("altered", "update phusa.transfers set entry = replace(entry, 'H57.12', 'H57.99') where number = 5", "entry 5"),
        ("altered without trace in the text", "update phusa.transfers set link = set_byte(link, 0, get_byte(link, 0) # 1) where number = 3", "entry 3"),
        ("deleted", "delete from phusa.salts where transfer = (select transfer from phusa.transfers where number = 3); delete from phusa.transfers where number = 3", "entry 4"),
        ("cut", "delete from phusa.salts where transfer = (select transfer from phusa.transfers order by number desc limit 1); delete from phusa.transfers where number = (select max(number) from phusa.transfers)", "log_"),
        ("added", "insert into phusa.transfers (transfer, kind, agent, dataset, epoch, seq, header_digest, entry, hub_signature, receipt, bytes, number, link)
           select 999999, kind, agent, dataset, epoch, seq + 1000, header_digest, entry, hub_signature, receipt, bytes, (select max(number) + 1 from phusa.transfers), link from phusa.transfers where number = 5", "log_broken"),
        ("reordered", "update phusa.transfers set number = -number where number in (3, 4); update phusa.transfers set number = 7 + number where number in (-3, -4)", "entry 3"),
        ("a row that no transfer brought", "insert into thu.dan (id, ten, _version, _agency, _source_time, _transfer) values (1000, 'Giả', 424242, 'H57.12', now(), 424242)", "424242"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_log_verifies_with_public_keys_alone_and_shows_every_tampering() {
    let mut world = world(50, "");
    world.start();
    assert_eq!(world.identical("dan").await, 50);
    for id in 60..65 {
        world.source.psql(&format!("insert into dan values ({id}, 'Mới', 0)"));
        world.warehouse_says(&format!("select count(*) from thu.dan where id = {id}"), "1").await;
    }
    assert!(world.province.agent_process(AGENCY).stop().success());
    world.warehouse_says("select count(*) from phusa.transfers where number is null", "0").await;
    assert!(world.province.hub_process().stop().success());
    world.province.verify_log();

    // An inspector has the exported file and public keys, nothing else.
    let exported = world.province.hub(&["log", "export", "--format", "json"]);
    let file = world.province.path().join("log.jsonl");
    fs::write(&file, &exported.stdout).unwrap();
    let hub = world.province.hub_folder();
    let inspector = |file: &std::path::Path| {
        let paths = [file.to_owned(), hub.join("signing.pub"), hub.join("agents")];
        let [file, key, agents] = paths.map(|path| path.display().to_string());
        let keys = ["--hub-key", &key, "--agents", &agents];
        world.province.hub(&[["log", "verify", "--file", &file].as_slice(), &keys].concat())
    };
    let verified = inspector(&file);
    assert!(verified.status.success(), "{}", said(&verified));
    let lines: Vec<&str> = std::str::from_utf8(&exported.stdout).unwrap().lines().collect();
    assert!(lines.len() > 6);
    let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    changed.swap(2, 3);
    let without: Vec<String> = lines
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .map(|(_, line)| (*line).to_owned())
        .collect();
    let altered: Vec<String> =
        lines.iter().map(|line| line.replacen("\\\"bytes\\\":", "\\\"bytes\\\":1", 1)).collect();
    for (name, lines) in [("swapped", changed), ("left out", without), ("altered", altered)] {
        let path = world.province.path().join("changed.jsonl");
        fs::write(&path, lines.join("\n")).unwrap();
        let verified = inspector(&path);
        assert!(!verified.status.success(), "{name}");
        assert!(said(&verified).contains("log_broken"), "{name}: {}", said(&verified));
    }
    let csv = world.province.hub(&["log", "export", "--format", "csv", "--dataset", "thu.dan"]);
    assert!(said(&csv).lines().count() > 5 && !said(&csv).contains("Dân"), "{}", said(&csv));

    let run =
        |sql: &str| world.warehouse.psql(&format!("set session_replication_role = replica; {sql}"));
    run("create table kept as table phusa.transfers; create table kept_salts as table phusa.salts;
         create table kept_rows as table thu.dan");
    for (name, sql, named) in TAMPERINGS {
        run(sql);
        let verified = world.province.hub(&["log", "verify"]);
        let what = said(&verified);
        assert!(!verified.status.success(), "{name} was not noticed");
        let is_fault = what.contains("log_broken") || what.contains("log_restored");
        assert!(is_fault && what.contains(named), "{name}: {what}");
        run("delete from phusa.salts; delete from phusa.transfers; insert into phusa.transfers select * from kept;
             insert into phusa.salts select * from kept_salts; delete from thu.dan; insert into thu.dan select * from kept_rows");
        world.province.verify_log();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_and_agent_say_how_they_are() {
    let mut world = world(20, "");
    for program in [world.agent(&["version"]), world.province.hub(&["version"])] {
        assert!(program.status.success() && said(&program).contains(env!("CARGO_PKG_VERSION")));
    }
    assert!(world.province.hub(&["check"]).status.success());
    let silent = world.agent(&["status"]);
    assert!(!silent.status.success() && said(&silent).contains("is it running?"));
    world.start_agent();
    // The hub is away: the agent says so, and what it has read waits.
    wait_until("the agent to miss its hub", ARRIVES_WITHIN, async || {
        let trouble = world.status("dan")?["delivery_trouble"]["code"].clone();
        (trouble == "hub_unreachable").then_some(())
    })
    .await;
    world.province.start_hub();
    assert_eq!(world.identical("dan").await, 20);
    world.source.psql("insert into dan values (21, 'Hai mốt', 0)");
    world.warehouse_says("select count(*) from thu.dan", "21").await;
    wait_until("the agent to follow", ARRIVES_WITHIN, async || {
        let status = world.status("dan")?;
        let calm = status["delivery_trouble"].is_null() && status["waiting_batches"] == 0;
        (status["state"] == "following" && calm).then_some(())
    })
    .await;

    let text = said(&world.agent(&["status"]));
    assert!(text.contains("thu.dan") && text.contains("theo dõi"), "{text}");
    let text = said(&world.agent(&["status", "--prometheus"]));
    for name in [
        "rows_total",
        "bytes_total",
        "batches_total",
        "lag_seconds",
        "spool_bytes",
        "refusals_total",
    ] {
        assert!(text.contains(&format!("phusa_agent_{name}")), "{name}: {text}");
    }
    assert!(text.contains("phusa_agent_rows_total{dataset=\"thu.dan\",op=\"insert\"} 1"), "{text}");
    let spool = world.agent(&["spool"]);
    assert!(spool.status.success() && said(&spool).contains("thu.dan"), "{}", said(&spool));
    assert!(!said(&spool).contains("Hai mốt"));

    let metrics = world.province.page("/metrics");
    for name in [
        "phusa_rows_total{dataset=\"thu.dan\",op=\"snapshot\"} 20",
        "phusa_rows_total{dataset=\"thu.dan\",op=\"insert\"} 1",
        "phusa_batches_total",
        "phusa_bytes_total",
        "phusa_refusals",
        "phusa_lag_seconds",
        "phusa_log_entries",
        "phusa_connections",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert!(world.province.page("/healthz").starts_with("HTTP/1.1 200"));
    assert!(world.province.page("/readyz").starts_with("HTTP/1.1 200"));
    let fleet = world.province.hub(&["fleet", "ls", "--json"]);
    let fleet: Value = serde_json::from_slice(&fleet.stdout).unwrap();
    assert_eq!(fleet[0]["agent"], "H57.12/may-1");
    assert_eq!(fleet[0]["streams"][0]["dataset"], "thu.dan");
    assert_eq!(fleet[0]["streams"][0]["state"], "live");
    assert!(said(&world.province.hub(&["fleet", "ls"])).contains("H57.12/may-1"));
    assert!(world.province.agent_process(AGENCY).stop().success());
    assert!(world.province.hub_process().stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_on_another_machine_is_reached_by_tls_with_a_certificate_that_is_checked() {
    let mut world = World::with_warehouse_by_tls();
    world
        .source
        .psql("create table dan (id int primary key, ten text); insert into dan values (1)");
    world.share("", &[SHARE]);
    world.start();
    assert_eq!(world.identical("dan").await, 1);
    let plain = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
                 where application_name = 'phusa-hub' and not ssl";
    let by_tls = plain.replace("not ssl", "ssl");
    assert_eq!(world.warehouse.psql(plain).trim(), "0");
    assert_ne!(world.warehouse.psql(&by_tls).trim(), "0");
    // An authority that did not sign it, and none at all.
    let config = world.province.hub_config();
    let text = fs::read_to_string(&config).unwrap();
    let ca_file = text.lines().find(|line| line.starts_with("tls_ca_file")).unwrap();
    for (line, code) in
        [("tls_ca_file = \"ca.pem\"", "warehouse_unavailable"), ("", "config_invalid")]
    {
        fs::write(&config, text.replace(ca_file, line)).unwrap();
        let refused = world.province.hub(&["check"]);
        assert!(!refused.status.success());
        assert!(said(&refused).contains(code), "{line}: {}", said(&refused));
    }
}
