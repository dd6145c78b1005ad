//! Each way of following a table, put through everything that can happen to it: what is written at
//! the agency stands in the warehouse, and nothing was read anew to get it there.

use std::sync::Arc;

use phusa_tests::database::{Server, Version};
use phusa_tests::process::{output, wait_until};
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World, said};

const TABLE: &str = "
create table dan (id int primary key, ten text, luong int, kin text default 'KIN');
insert into dan select n, 'Dân ' || n, n * 10, 'KIN ' || n from generate_series(1, 2000) n;
";

const FIELDS: &[&str] = &["id int4", "ten text", "luong int4"];

/// What can happen to a table, by name.
const HAPPENINGS: [(&str, &str); 5] = [
    ("insert", "insert into dan select n, 'Mới ' || n, n from generate_series(2001, 2100) n"),
    ("update", "update dan set ten = ten || '!' where id % 7 = 0"),
    ("delete", "delete from dan where id % 11 = 0"),
    (
        "key change",
        "update dan set id = id + 50000 where id between 300 and 360; \
                    update dan set id = id - 100000 where id between 900 and 910",
    ),
    (
        "large transaction",
        "begin; \
        insert into dan select n, repeat('Đông ', 20), n from generate_series(100001, 130000) n; \
        update dan set luong = luong + 1 where id < 1500; \
        delete from dan where id between 100001 and 101000; commit",
    ),
];

/// A world whose table is followed in this way; the login has no more than that needs.
fn world(server: &Arc<Server>, capture: &str, settings: &str) -> World {
    let mut world = World::around(server.database());
    world.source.psql(TABLE);
    let rules = format!("capture = \"{capture}\"");
    world.share(settings, &[Share { table: "dan", key: "id", fields: FIELDS, rules: &rules }]);
    world.source.psql(&format!("alter role {} noreplication", world.login()));
    world
}

/// Everything that can happen, one after the other, and after each both ends are the same.
async fn nothing_is_missed(world: &mut World) {
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    for (name, sql) in HAPPENINGS {
        world.source.psql(sql);
        let rows = world.identical("dan").await;
        assert!(rows > 0, "{name}");
    }
    // A crash of the agent while it is busy, one of the hub, and a restart of the source.
    let busy =
        "insert into dan select n, repeat('Vội ', 30), n from generate_series(200001, 220000) n";
    world.source.psql(busy);
    world.province.agent_process(AGENCY).kill();
    world.source.psql(
        "delete from dan where id between 200001 and 205000;
         update dan set ten = 'Sau khi đổ' where id between 205001 and 206000",
    );
    world.start_agent();
    world.identical("dan").await;
    world.source.psql("update dan set luong = -1 where id % 3 = 0");
    world.source.server().restart();
    world.source.psql("delete from dan where id % 13 = 0; insert into dan values (0, 'Không', 0)");
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1, "nothing was read anew");
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
}

/// Runs SQL as the agent's login; `Err` with what the server said.
fn as_login(world: &World, sql: &str) -> Result<String, String> {
    let (server, name) = (world.source.server(), world.source.name());
    let url = format!("postgres://{}:bi-mat@127.0.0.1:{}/{name}", world.login(), server.port());
    let psql = server.version().programs().join("psql");
    let done = output(std::process::Command::new(psql).args(["-XqAt", "-d", &url, "-c", sql]));
    if done.status.success() { Ok(said(&done)) } else { Err(said(&done)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_functions_a_login_without_any_right_on_the_table_misses_nothing() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&server, "functions", "");
    let checked = world.agent(&["check", "--offline"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let role = "select rolsuper or rolreplication or has_table_privilege(oid, 'dan', 'select')
                or has_any_column_privilege(oid, 'dan', 'select')
                from pg_roles where rolname = '{}'";
    assert_eq!(world.source.psql(&role.replace("{}", &world.login())).trim(), "f");
    nothing_is_missed(&mut world).await;

    let slot = world.slots();
    for sql in [
        "select kin from dan".to_owned(),
        "select id from dan".to_owned(),
        format!("select * from pg_logical_slot_peek_binary_changes('{slot}', null, null)"),
        "select * from pg_create_physical_replication_slot('khac')".to_owned(),
    ] {
        let refused = as_login(&world, &sql);
        let words = ["permission denied", "must be superuser or replication role"];
        let is_refused = |said: &String| words.iter().any(|word| said.contains(word));
        assert!(refused.as_ref().is_err_and(is_refused), "{sql}: {refused:?}");
    }
    world.source.psql("update dan set kin = 'CHIM-HOANG-YEN-KIN', ten = 'CHIM-HOANG-YEN-MO'");
    for function in ["rows(null, null, null, null) r", "peek(1000000) r"] {
        let sql =
            format!("select encode(convert_to(r::text, 'utf8'), 'escape') from {slot}.{function}");
        let seen = as_login(&world, &sql).unwrap();
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let shows = |text: &str| seen.contains(text) || seen.contains(&hex(text));
        assert!(shows("CHIM-HOANG-YEN-MO"), "{function} shows what is mapped");
        assert!(!shows("CHIM-HOANG-YEN-KIN"), "{function} shows what is not");
    }
}

/// Often enough that a test need not wait, in ranges small enough that there are many.
const OFTEN: &str = "[guard]\nreconcile_interval = \"500ms\"\nwatermark_interval = \"200ms\"\n\
                     chunk_rows = 300\n";

#[tokio::test(flavor = "multi_thread")]
async fn by_comparing_rows_a_login_with_select_alone_misses_nothing_and_sends_only_differences() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&server, "reconcile", OFTEN);
    assert_eq!(world.source.psql("select count(*) from pg_publication").trim(), "0");
    nothing_is_missed(&mut world).await;
    let sent = |world: &World| -> u64 {
        let sql = "select count(*) from phusa.transfers where kind = 'push'";
        world.warehouse.psql(sql).trim().parse().unwrap()
    };
    world.start_agent();
    world.identical("dan").await;
    let before = sent(&world);
    passes(&world, 3).await;
    assert_eq!(sent(&world), before, "a pass without a difference sends nothing");
    assert_eq!(world.slots(), "", "nothing is left at the source");

    // An index that cannot be read is set aside, and what it knew is found out anew.
    assert!(world.province.agent_process(AGENCY).stop().success());
    let index = world.province.agent_folder(AGENCY).join("state/index/thu.dan.redb");
    std::fs::write(&index, b"not an index").unwrap();
    world.source.psql("delete from dan where id = 1");
    world.start_agent();
    wait_until("a new epoch", ARRIVES_WITHIN, async || (world.epoch("dan") == 2).then_some(()))
        .await;
    world.identical("dan").await;
    assert!(index.with_extension("damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_killed_in_its_first_pass_goes_on_where_it_stood_and_sends_no_row_twice() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let settings = "[batch]\nbatch_rows_max = 250\n[guard]\nreconcile_interval = \"500ms\"\n\
                    chunk_rows = 1000\nrows_per_second_max = 6000\n";
    let mut world = world(&server, "reconcile", settings);
    world.source.psql("insert into dan select n, 'Dân', 0 from generate_series(2001, 40000) n");
    world.province.start_hub();
    for part in 1..=3 {
        world.start_agent();
        wait_until("a part of the read", ARRIVES_WITHIN, async || {
            (world.carried("dan", "snapshot") >= part * 6_000).then_some(())
        })
        .await;
        world.province.agent_process(AGENCY).kill();
        // Behind the reader and before it.
        let sql = format!(
            "delete from dan where id in ({part}, {}); \
                           update dan set ten = 'Đổi' where id in ({part} + 10, {})",
            39_000 + part,
            39_100 + part
        );
        world.source.psql(&sql);
    }
    world.start_agent();
    assert_eq!(world.identical("dan").await, 40_000 - 6);
    assert_eq!(world.epoch("dan"), 1);
    let ops = ["snapshot", "insert", "update", "delete"].map(|op| world.carried("dan", op));
    assert_eq!(ops, [40_000 - 3, 0, 3, 3], "each row once, and what changed behind the reader");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_compared_as_their_server_orders_them_and_not_as_bytes() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = World::around(server.database());
    world.source.psql(
        "create collation kd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table viet (ma text collate \"vi-x-icu\" primary key, so int);
         create table hoa (ma text collate kd primary key, so int);
         create table dem (ma char(9), ngay date, so int, primary key (ngay, ma));
         insert into viet select chu || n, n from unnest(array['a','Ă','â','b','D','đ','e','Ê','ô',
             'Ơ','u','ư','y']) chu, generate_series(1, 60) n;
         insert into hoa select case when n % 2 = 0 then 'Hà ' else 'HÀ ' end || n, n
             from generate_series(1, 700) n;
         insert into dem select n % 50, date '2026-01-01' + n, n from generate_series(1, 700) n",
    );
    let rules = "capture = \"reconcile\"";
    let share = |table, key, fields| Share { table, key, fields, rules };
    let text: &[&str] = &["ma text", "so int4"];
    world.share(
        &OFTEN.replace("300", "100"),
        &[
            share("viet", "ma", text),
            share("hoa", "ma", text),
            share("dem", "ma ngay", &["ma text", "ngay date", "so int4"]),
        ],
    );
    world.start();
    let tables = [("viet", 780), ("hoa", 700), ("dem", 700)];
    for (table, rows) in tables {
        assert_eq!(world.identical(table).await, rows, "{table}");
    }
    world.source.psql(
        "update viet set ma = 'đ' || ma where so % 9 = 0; delete from viet where ma like 'Ơ%';
         insert into viet values ('Ẩ', 1), ('ẩ ', 2), ('z', 3);
         update hoa set ma = lower(ma) where so % 3 = 0; delete from hoa where so % 7 = 0;
         insert into hoa values ('hà', 0), ('Hà  ', -1);
         update dem set ngay = ngay + 1000 where so % 5 = 0; update dem set ma = 'x' where so % 11 = 0;
         delete from dem where so % 13 = 0",
    );
    for (table, _) in tables {
        world.identical(table).await;
        assert_eq!(world.epoch(table), 1, "{table}");
    }
    // The same letters in another case are the same key to the server, and another to the warehouse.
    world.warehouse_says("select count(*) from thu.hoa where ma = 'hà 3'", "1").await;
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_between_noting_spooling_and_settling_ends_with_both_ends_the_same() {
    for capture in ["reconcile", "watermark"] {
        let server = Arc::new(Server::start(Version::V15, ""));
        let mut world = world(&server, capture, OFTEN);
        world.start();
        assert_eq!(world.identical("dan").await, 2_000);
        let points =
            ["before_spool_rename", "after_spool_rename", "after_spool_durable", "after_receipt"];
        for (round, point) in (1..).zip(points) {
            world.source.psql(&format!(
                "update dan set luong = -{round} where id % 50 = 0;
                 insert into dan values (5000 + {round}, 'Mới', 0), (6000 + {round}, 'Mới', 0)"
            ));
            world.province.agent_process(AGENCY).kill();
            world.province.start_agent_with(AGENCY, &[("PHUSA_FAILPOINT", point)]);
            // Something to spool, whatever had got through before the kill.
            world.source.psql(&format!("update dan set ten = 'L{round}' where id % 50 = 1"));
            let agent = world.province.agent_process(AGENCY);
            let what = format!("the agent to die {point}");
            wait_until(&what, ARRIVES_WITHIN, async || agent.ended()).await;
            // What was on its way is no longer so.
            world.source.psql(&format!(
                "delete from dan where id = 5000 + {round}; update dan set luong = 7 where id % 100 = 0"
            ));
            world.start_agent();
            world.identical("dan").await;
        }
        assert_eq!(world.epoch("dan"), 1, "{capture}");
        world.province.verify_log();
        assert!(world.province.agent_process(AGENCY).stop().success());
    }
}

/// Waits until the running agent has gone through the table so many more times.
async fn passes(world: &World, count: u64) {
    let pass = || world.status("dan")?["passes"].as_u64();
    let begun = wait_until("a pass", ARRIVES_WITHIN, async || pass()).await;
    wait_until("more passes", ARRIVES_WITHIN, async || pass().filter(|now| *now >= begun + count))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_watermark_a_login_with_select_alone_misses_nothing() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&server, "watermark", OFTEN);
    nothing_is_missed(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_behind_the_watermark_is_not_missed() {
    let server = Arc::new(Server::start(Version::V15, ""));
    // Rows are compared once at the start and then not for a day: the watermark alone must do.
    let often = "[guard]\nwatermark_interval = \"200ms\"\nreconcile_interval = \"1d\"\n";
    let mut world = world(&server, "watermark", often);
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    let (mut old, mut nested) = (world.source.connect().await, world.source.connect().await);
    let old = old.transaction().await.unwrap();
    let insert = "insert into dan select n, 'Cũ', 0 from generate_series($1::int, $1 + 9) n";
    old.execute(insert, &[&10_000]).await.unwrap();
    let mut nested = nested.transaction().await.unwrap();
    nested.execute(insert, &[&20_000]).await.unwrap();
    for round in 0..3 {
        world.source.psql(&format!("insert into dan values ({round} - 100, 'Mới', {round})"));
        let arrived = format!("select count(*) from thu.dan where id = {round} - 100");
        world.warehouse_says(&arrived, "1").await;
        let savepoint = nested.transaction().await.unwrap();
        savepoint.execute(insert, &[&(30_000 + round * 100)]).await.unwrap();
        savepoint.commit().await.unwrap();
    }
    let before = world.carried("dan", "update");
    old.commit().await.unwrap();
    world.warehouse_says("select count(*) from thu.dan where ten = 'Cũ'", "10").await;
    world.source.psql("update dan set ten = 'Giữa' where id < -90");
    world.warehouse_says("select count(*) from thu.dan where ten = 'Giữa'", "3").await;
    nested.commit().await.unwrap();
    assert_eq!(world.identical("dan").await, 2_053);
    let after = world.carried("dan", "update");
    assert_eq!(after - before, 53, "each row once: 10 old, 3 changed, 40 of the nested one");
    // A table rewritten and rows frozen were not written anew.
    world.source.psql("vacuum freeze dan");
    world.source.psql("vacuum full dan");
    world.source.psql("insert into dan values (-1, 'Sau cùng', 0)");
    assert_eq!(world.identical("dan").await, 2_054);
    assert_eq!(world.carried("dan", "update"), after + 1);
    assert_eq!(world.epoch("dan"), 1);
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_offers_no_log_is_followed_all_the_same_and_a_restored_one_too() {
    let primary = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&primary, "auto", OFTEN);
    let (login, name) = (world.login(), world.source.name().to_owned());
    world.source.psql(&format!(
        "do $$ declare p text; begin for p in select pubname from pg_publication loop
             execute format('drop publication %I', p); end loop; end $$;
         grant select (id, ten, luong, xmin) on dan to {login}"
    ));
    let standby = primary.standby();
    let port = |server: &Server| format!("port = {}\n", server.port());
    world.edit("agent.toml", &port(&primary), &port(&standby));
    let checked = said(&world.agent(&["check", "--offline"]));
    assert!(checked.contains("capture \"watermark\", because "), "{checked}");
    assert!(checked.contains("cannot decode its log"), "{checked}");
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    primary.psql(
        &name,
        "delete from dan where id < 100; update dan set ten = 'Đổi' where id > 1990;
                         insert into dan values (9000, 'Mới', 1)",
    );
    world.warehouse_says("select count(*) from thu.dan where ten in ('Đổi', 'Mới')", "11").await;
    assert_eq!(world.identical("dan").await, 1_902);

    // What counts transactions now is another server, which knows less than the one before did.
    primary.psql(&name, "insert into dan values (9001, 'Mất', 1)");
    world.warehouse_says("select count(*) from thu.dan where id = 9001", "1").await;
    assert!(world.province.agent_process(AGENCY).stop().success());
    standby.promote();
    standby
        .psql(&name, "delete from dan where id = 9001; update dan set ten = 'Khác' where id = 500");
    world.start_agent();
    assert_eq!(world.identical("dan").await, 1_902);
    assert_eq!(world.epoch("dan"), 1, "differences are all there is to send");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_tells_what_a_database_offers_and_its_statements_are_all_that_each_way_needs() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let world = world(&server, "auto", "");
    let login = world.login();
    world.source.psql(&format!(
        "do $$ declare p text; begin for p in select pubname from pg_publication loop
             execute format('drop publication %I', p); end loop; end $$;
         revoke select (id, ten, luong) on dan from {login}"
    ));
    let probed = || -> serde_json::Value {
        let output = world.agent(&["probe", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let way = |probed: &serde_json::Value, name: &str| {
        let ways = probed["tables"][0]["ways"].as_array().unwrap().clone();
        ways.into_iter().find(|way| way["capture"] == name).unwrap()
    };
    let first = probed();
    assert!(first["server"].as_str().unwrap().starts_with("PostgreSQL "), "{first}");
    assert_eq!(first["login"], login.as_str());
    assert_eq!(first["tables"][0]["key"][0], "id integer");
    assert_eq!(first["tables"][0]["rows_estimated"], 0);
    for name in ["reconcile", "watermark", "functions", "log"] {
        let before = way(&probed(), name);
        assert_ne!(before["obstacles"].as_array().unwrap().len(), 0, "{name}: {before}");
        assert_ne!(before["risks"].as_array().unwrap().len(), 0, "{name}");
        for statement in before["statements"].as_array().unwrap() {
            world.source.psql(statement.as_str().unwrap());
        }
        let after = probed();
        let left = way(&after, name)["obstacles"].clone();
        assert_eq!(left, serde_json::json!([]), "{name}");
        let chosen = if name == "log" { "functions" } else { name };
        assert_eq!(after["tables"][0]["chosen"], chosen, "{after}");
    }
    let shown = said(&world.agent(&["probe"]));
    for part in ["được chọn · chosen: functions, because ", "✓ log", "rủi ro · risk: "]
    {
        assert!(shown.contains(part), "{part} is not among:\n{shown}");
    }
}
