//! Comparing rows with SELECT alone: what is written at the agency stands in the warehouse, only
//! differences travel, and the server alone says which key follows which.

use std::sync::Arc;
use std::time::Instant;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Readable as _};
use serde_json::Value;

use super::{mysql_or_why_not, numbers, shared};
use crate::world::{AGENCY, Share, World, said};

/// Often enough that a test need not wait, in ranges small enough that there are many.
const OFTEN: &str = "[guard]\nreconcile_interval = \"500ms\"\nchunk_rows = 300\n";

const FIELDS: &[&str] = &["id int4", "ten text", "luong int4"];

/// A world whose table `dan` is followed in this way; the login gets no more than that needs.
fn world(source: MySqlDatabase, capture: &str, settings: &str) -> World<MySqlDatabase> {
    let mut world = World::around(source);
    world.source.sql(&format!(
        "create table dan (id int primary key, ten text, luong int, kin varchar(40) default 'KIN');
         insert into dan select n, concat('Dân ', n), n * 10, concat('KIN ', n) from {}",
        numbers(2_000)
    ));
    let rules = format!("capture = \"{capture}\"");
    world.share(settings, &[Share { table: "dan", key: "id", fields: FIELDS, rules: &rules }]);
    world
}

/// Waits until the running agent has gone through the table so many more times.
async fn passes(world: &World<MySqlDatabase>, count: u64) {
    let pass = || world.status("dan")?["passes"].as_u64();
    let begun = wait_until("a pass", ARRIVES_WITHIN, async || pass()).await;
    wait_until("more passes", ARRIVES_WITHIN, async || pass().filter(|now| *now >= begun + count))
        .await;
}

fn batches(world: &World<MySqlDatabase>) -> u64 {
    let sql = "select count(*) from phusa.transfers where kind = 'push'";
    world.warehouse.psql(sql).trim().parse().unwrap()
}

/// What the server lets the agent's login do, but for names and passwords.
fn grants(world: &World<MySqlDatabase>) -> String {
    let grants = world.source.sql(&format!("show grants for '{}'@'%'", world.login()));
    grants.replace(world.source.name(), "d")
}

/// Everything that can happen, one after the other, and after each both ends are the same.
async fn nothing_is_missed(world: &mut World<MySqlDatabase>) {
    let held = grants(world);
    assert!(held.contains("GRANT SELECT (") && !held.contains("`kin`"), "{held}");
    assert!(!held.contains("REPLICATION") && !held.contains("BINLOG"), "{held}");
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    let many = numbers(10_000);
    for sql in [
        format!("insert into dan select 2000 + n, 'Mới', n, '' from {}", numbers(100)),
        "update dan set ten = concat(ten, '!') where id % 7 = 0".to_owned(),
        "delete from dan where id % 11 = 0".to_owned(),
        "update dan set id = id + 50000 where id between 300 and 360;
         update dan set id = id - 100000 where id between 900 and 910"
            .to_owned(),
        format!(
            "begin; insert into dan select 100000 + n, repeat('Đông ', 20), n, '' from {many};
             insert into dan select 110000 + n, repeat('Đông ', 20), n, '' from {many};
             update dan set luong = luong + 1 where id < 1500;
             delete from dan where id between 100001 and 101000; commit"
        ),
    ] {
        world.source.sql(&sql);
        world.identical("dan").await;
    }
    world.source.sql(&format!("insert into dan select 200000 + n, 'Vội', n, '' from {many}"));
    world.province.agent_process(AGENCY).kill();
    world.source.sql(
        "delete from dan where id between 200001 and 205000;
         update dan set ten = 'Sau khi đổ' where id between 205001 and 206000",
    );
    world.start_agent();
    world.identical("dan").await;
    world.source.sql("update dan set luong = -1 where id % 3 = 0");
    world.source.server().kill();
    world.source.server().resume();
    world
        .source
        .sql("delete from dan where id % 13 = 0; insert into dan values (0, 'Không', 0, '')");
    world.identical("dan").await;
    let before = batches(world);
    passes(world, 3).await;
    assert_eq!(batches(world), before, "a pass without a difference sends nothing");
    assert_eq!(world.epoch("dan"), 1, "nothing was read anew");
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mariadb_a_login_with_select_alone_misses_nothing_and_sends_only_differences() {
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    nothing_is_missed(&mut world(server.database(), "reconcile", OFTEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mysql_a_login_with_select_alone_misses_nothing_and_sends_only_differences() {
    let Some(server) = mysql_or_why_not("") else { return };
    nothing_is_missed(&mut world(server.database(), "reconcile", OFTEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_killed_in_its_first_pass_goes_on_where_it_stood_and_sends_no_row_twice() {
    let settings = "[batch]\nbatch_rows_max = 250\n[guard]\nreconcile_interval = \"500ms\"\n\
                    chunk_rows = 1000\nrows_per_second_max = 3000\n";
    let mut world = world(shared().source, "reconcile", settings);
    world
        .source
        .sql(&format!("insert into dan select 10000 + n, 'Dân', 0, '' from {}", numbers(10_000)));
    world.province.start_hub();
    for part in 1..=2 {
        world.start_agent();
        wait_until("a part of the read", ARRIVES_WITHIN, async || {
            (world.carried("dan", "snapshot") >= part * 3_000).then_some(())
        })
        .await;
        world.province.agent_process(AGENCY).kill();
        // Behind the reader and before it.
        let (removed, changed) = (19_000 + part, 19_100 + part);
        world.source.sql(&format!(
            "delete from dan where id in ({part}, {removed});
             update dan set ten = 'Đổi' where id in ({part} + 10, {changed})"
        ));
    }
    world.start_agent();
    assert_eq!(world.identical("dan").await, 12_000 - 4);
    assert_eq!(world.epoch("dan"), 1);
    let ops = ["snapshot", "insert", "update", "delete"].map(|op| world.carried("dan", op));
    assert_eq!(ops, [12_000 - 2, 0, 2, 2], "each row once, and what changed behind the reader");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_compared_as_their_server_orders_them_and_not_as_bytes() {
    let mut world = shared();
    let letters = ["a", "Ă", "â", "b", "D", "đ", "e", "Ê", "ô", "Ơ", "u", "ư", "y"];
    let letters: Vec<String> = letters.iter().map(|chu| format!("select '{chu}' chu")).collect();
    let (letters, sixty, many) = (letters.join(" union all "), numbers(60), numbers(700));
    world.source.sql(&format!(
        "create table viet (ma varchar(40) collate utf8mb4_vietnamese_ci primary key, so int);
         insert into viet select concat(chu, n), n from ({letters}) c, {sixty};
         create table hoa (ma varchar(40) collate utf8mb4_general_ci primary key, so int);
         insert into hoa select concat(if(n % 2, 'Hà ', 'HÀ '), n), n from {many};
         insert into hoa values ('ha', 0);
         create table tay (ma varchar(40) character set latin1 primary key, so int);
         insert into tay select concat(if(n % 2, 'é', 'Z'), n), n from {many};
         create table dem (ma char(9), e enum('z','a'), ngay date, so int, primary key (ngay, ma, e));
         insert into dem select n % 50, 1 + n % 2, date '2026-01-01' + interval n day, n from {many};
         create table phu (id int primary key, ho int not null, ma varchar(9) not null, so int,
           unique key (ma, ho)) collate utf8mb4_unicode_nopad_ci;
         insert into phu select n, n % 7, concat('x', repeat(' ', n % 3), n div 7), n from {many};"
    ));
    let rules = "capture = \"reconcile\"";
    let share = |table, key, fields| Share { table, key, fields, rules };
    let text: &[&str] = &["ma text", "so int4"];
    world.share(
        &OFTEN.replace("300", "100"),
        &[
            share("viet", "ma", text),
            share("hoa", "ma", text),
            share("tay", "ma", text),
            share("dem", "ma ngay e", &["ma text", "e text", "ngay date", "so int4"]),
            share("phu", "ho ma", &["ho int4", "ma text", "so int4"]),
        ],
    );
    world.start();
    let tables = [("viet", 780), ("hoa", 701), ("tay", 700), ("dem", 700), ("phu", 700)];
    for (table, rows) in tables {
        assert_eq!(world.identical(table).await, rows, "{table}");
    }
    // To the server these are one key, to the warehouse each is another.
    for ma in ["HÀ", "hà ", "Ha", "hà"] {
        world.source.sql(&format!("update hoa set ma = '{ma}' where so = 0"));
        assert_eq!(world.source.sql("select count(*) from hoa where ma = 'hA'").trim(), "1");
        assert_eq!(world.identical("hoa").await, 701, "{ma}");
        world.warehouse_says("select ma || '|' from thu.hoa where so = 0", &format!("{ma}|")).await;
    }
    world.source.sql(
        "update viet set ma = concat('đ', ma) where so % 9 = 0; delete from viet where ma like 'Ơ%';
         insert into viet values ('Ẩ', 1), ('ẫy ', 2), ('z', 3);
         update hoa set ma = lower(ma) where so % 3 = 0; delete from hoa where so % 7 = 5;
         update tay set ma = replace(ma, 'é', 'É') where so % 5 = 0; delete from tay where so % 7 = 0;
         update dem set ngay = ngay + interval 1000 day where so % 5 = 0;
         update dem set ma = 'x', e = 'a' where so % 11 = 0; delete from dem where so % 13 = 0;
         update phu set ma = concat(ma, ' ') where so % 5 = 0; delete from phu where so % 13 = 0",
    );
    for (table, _) in tables {
        world.identical(table).await;
        assert_eq!(world.epoch(table), 1, "{table}");
    }
    world.warehouse_says("select count(*) from thu.hoa where ma = 'hà 3'", "1").await;
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_row_log_is_followed_all_the_same_and_check_says_why() {
    for (settings, why) in [
        ("skip_log_bin\nlog_slave_updates=OFF\ngtid_strict_mode=OFF\n", "log_bin is OFF"),
        ("binlog_format=MIXED\n", "binlog_format is MIXED"),
    ] {
        let server = Arc::new(MySqlServer::start(Flavour::MariaDb, settings));
        let mut world = world(server.database(), "auto", OFTEN);
        let held = grants(&world);
        assert!(!held.contains("REPLICATION") && !held.contains("BINLOG"), "{held}");
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(checked.status.success(), "{text}");
        assert!(text.contains("capture \"reconcile\", because "), "{text}");
        assert!(text.contains(why), "{text}");
        world.start();
        world.identical("dan").await;
        world
            .source
            .sql("delete from dan where id < 100; insert into dan values (-1, 'Mới', 1, '')");
        assert_eq!(world.identical("dan").await, 1_902);
        assert!(world.province.agent_process(AGENCY).stop().success());
        // Asked for by name, what is missing is a fault again.
        world.edit("datasets/thu.dan.toml", "capture = \"auto\"", "capture = \"log\"");
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success() && text.contains("source_setting"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_tells_what_a_server_offers_and_its_statements_are_all_that_each_way_needs() {
    let mut world = World::around(shared().source);
    world.source.sql("create table dan (id varchar(9) primary key, ten text)");
    let fields = &["id text", "ten text"];
    let share = Share { table: "dan", key: "id", fields, rules: "capture = \"reconcile\"" };
    world.share("", &[share]);
    world.edit("datasets/thu.dan.toml", "capture = \"reconcile\"", "");
    let login = world.login();
    world.source.sql(&format!("revoke select (id, ten) on dan from '{login}'@'%'"));
    let probed = || -> Value {
        let output = world.agent(&["probe", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let way = |probed: &Value, name: &str| {
        let ways = probed["tables"][0]["ways"].as_array().unwrap().clone();
        ways.into_iter().find(|way| way["capture"] == name).unwrap()
    };
    assert_eq!(probed()["tables"][0]["chosen"], "log", "without any right the best is proposed");
    for name in ["reconcile", "log"] {
        let before = way(&probed(), name);
        assert_ne!(before["obstacles"].as_array().unwrap().len(), 0, "{name}: {before}");
        assert_ne!(before["risks"].as_array().unwrap().len(), 0, "{name}");
        for statement in before["statements"].as_array().unwrap() {
            world.source.sql(statement.as_str().unwrap());
        }
        let after = probed();
        assert_eq!(way(&after, name)["obstacles"], serde_json::json!([]), "{name}");
        assert_eq!(after["tables"][0]["chosen"], name, "{after}");
        let key = after["tables"][0]["key"][0].as_str().unwrap_or_default().to_owned();
        assert!(key.starts_with("id varchar(9) collate utf8mb4_"), "{key}");
    }
    let shown = said(&world.agent(&["probe"]));
    for part in ["được chọn · chosen: log, because ", "✓ log", "✓ reconcile", "rủi ro · risk: "]
    {
        assert!(shown.contains(part), "{part} is not among:\n{shown}");
    }
}

/// Prints how fast; nothing depends on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_hundred_thousand_rows_is_compared_and_nothing_of_it_is_sent() {
    // Other tests have the same server work, and it is not giving way to them that is looked at here.
    let guard = "[guard]\nreconcile_interval = \"100ms\"\nwork_loss_max_percent = 100\n";
    let mut world = world(shared().source, "reconcile", guard);
    for tenth in 1..10 {
        world.source.sql(&format!(
            "insert into dan select {tenth} * 10000 + n, concat('Nguyễn Văn ', n), n, '' from {}",
            numbers(10_000)
        ));
    }
    world
        .source
        .sql(&format!("insert ignore into dan select n, 'Dân', n, '' from {}", numbers(10_000)));
    world.start();
    assert_eq!(world.identical("dan").await, 100_000);
    // The last batch of the first pass, which has no row, may come after all rows are there.
    passes(&world, 1).await;
    wait_until("the first pass to be delivered", ARRIVES_WITHIN, async || {
        let status = world.status("dan")?;
        (status["spooled_seq"] == status["released_seq"]).then_some(())
    })
    .await;
    let before = batches(&world);
    let begun = Instant::now();
    passes(&world, 5).await;
    let took = begun.elapsed().as_secs_f64() / 5.0;
    eprintln!("{:.0} rows/s are compared, pauses of 0.1 s included", 100_000.0 / took);
    assert_eq!(batches(&world), before);
    assert!(world.province.agent_process(AGENCY).stop().success());
}
