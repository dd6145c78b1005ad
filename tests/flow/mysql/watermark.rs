//! Rows found by the time at which they were written: nothing that is committed behind the last
//! look is lost, and what such a column cannot tell, a comparison of all rows does.

use std::sync::Arc;
use std::thread;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Readable as _};

use super::{mysql_or_why_not, numbers, shared};
use crate::world::{AGENCY, Share, World, said};

const RULES: &str = "capture = \"watermark\"\nwatermark_column = \"sua_luc\"";
const FIELDS: &[&str] = &["id int4", "ten text", "luong int4"];

/// No comparison of all rows but the first, and no overlap worth the name.
const LOOKS_ALONE: &str = "[guard]\nreconcile_interval = \"1h\"\nwatermark_interval = \"200ms\"\n\
                           watermark_overlap = \"1s\"\n";

/// A world whose table `dan` has a column of the type `clock` that says when a row was written.
fn world(source: MySqlDatabase, clock: &str, settings: &str, rules: &str) -> World<MySqlDatabase> {
    let mut world = World::around(source);
    world.source.sql(&format!(
        "create table dan (id int primary key, ten text, luong int,
           sua_luc {clock} not null default current_timestamp on update current_timestamp,
           key (sua_luc));
         insert into dan (id, ten, luong) select n, concat('Dân ', n), n * 10 from {}",
        numbers(2_000)
    ));
    world.share(settings, &[Share { table: "dan", key: "id", fields: FIELDS, rules }]);
    world
}

fn may_see_transactions(world: &World<MySqlDatabase>) {
    world.source.sql(&format!("grant process on *.* to '{}'@'%'", world.login()));
}

fn passes(world: &World<MySqlDatabase>) -> Option<u64> {
    world.status("dan")?["passes"].as_u64()
}

/// Writers whose transactions last longer than the overlap commit behind looks that have gone past
/// them, while quick ones go on.
async fn long_transactions_lose_nothing(world: &mut World<MySqlDatabase>) {
    may_see_transactions(world);
    let checked = said(&world.agent(&["check", "--offline"]));
    assert!(checked.contains("goes back to where the oldest open transaction began"), "{checked}");
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    let source = &world.source;
    thread::scope(|threads| {
        for writer in 0..6 {
            threads.spawn(move || {
                let (first, last) = (writer * 300 + 1, writer * 300 + 200);
                let (waits, new) = (writer + 1, 10_000 * (writer + 1));
                source.sql(&format!(
                    "begin; update dan set luong = -{writer} where id between {first} and {last};
                     do sleep({waits});
                     insert into dan (id, ten, luong) select {new} + n, 'Mới', n from {};
                     do sleep({waits}); commit",
                    numbers(50)
                ));
            });
        }
        threads.spawn(move || {
            for round in 0..60 {
                let id = 1_801 + round;
                source.sql(&format!("update dan set ten = 'Vội' where id = {id}; do sleep(0.1)"));
            }
        });
    });
    assert_eq!(world.identical("dan").await, 2_300);
    assert_eq!(passes(world), Some(1), "all rows were compared once, before the first was written");
    assert_eq!(world.epoch("dan"), 1);
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mariadb_what_long_transactions_commit_behind_the_watermark_is_not_lost() {
    let mut world = world(shared().source, "timestamp", LOOKS_ALONE, RULES);
    long_transactions_lose_nothing(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mysql_what_long_transactions_commit_behind_the_watermark_is_not_lost() {
    // The clock on the wall is not UTC.
    let Some(server) = mysql_or_why_not("default_time_zone=+07:00\n") else { return };
    let mut world = world(server.database(), "datetime", LOOKS_ALONE, RULES);
    long_transactions_lose_nothing(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_column_does_not_tell_shows_when_all_rows_are_compared() {
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    let settings = "[guard]\nreconcile_interval = \"2s\"\nwatermark_interval = \"200ms\"\n";
    let mut world = world(server.database(), "timestamp(3)", settings, RULES);
    let checked = said(&world.agent(&["check", "--offline"]));
    assert!(checked.contains("goes back 600 s (watermark_overlap)"), "{checked}");
    assert!(checked.contains("`grant process on *.* to"), "{checked}");
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    for sql in [
        "delete from dan where id % 11 = 0",
        "update dan set ten = 'Lặng', sua_luc = sua_luc where id % 13 = 0",
        "update dan set id = id + 50000 where id between 300 and 360",
        "update dan set ten = 'Cũ', sua_luc = '2001-01-01' where id % 17 = 0",
    ] {
        world.source.sql(sql);
        world.identical("dan").await;
    }
    world.province.agent_process(AGENCY).kill();
    world.source.sql("delete from dan where id < 50; update dan set luong = 1 where id < 100");
    world.start_agent();
    world.identical("dan").await;
    server.kill();
    server.resume();
    world.source.sql("insert into dan (id, ten, luong) values (0, 'Không', 0)");
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1, "nothing was read anew");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_written_is_seen_long_before_all_rows_are_compared_and_auto_takes_that_way() {
    let server = Arc::new(MySqlServer::start(
        Flavour::MariaDb,
        "skip_log_bin\nlog_slave_updates=OFF\ngtid_strict_mode=OFF\n",
    ));
    let rules = "watermark_column = \"sua_luc\"";
    let mut world = world(server.database(), "timestamp", LOOKS_ALONE, rules);
    let checked = said(&world.agent(&["check", "--offline"]));
    assert!(checked.contains("capture \"watermark\", because log_bin is OFF"), "{checked}");
    let probed = said(&world.agent(&["probe"]));
    for part in ["✗ log", "✓ watermark", "✓ reconcile", "writes are noticed every 0.2 s"] {
        assert!(probed.contains(part), "{part} is not among:\n{probed}");
    }
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    world.source.sql("update dan set ten = 'Mới' where id = 7");
    world.warehouse_says("select ten from thu.dan where id = 7", "Mới").await;
    wait_until("the status", ARRIVES_WITHIN, async || passes(&world).filter(|count| *count == 1))
        .await;
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_cannot_serve_is_refused_with_the_statement_that_mends_it() {
    let world = world(shared().source, "timestamp", "", RULES);
    world.source.sql("alter table dan drop key sua_luc");
    let check = |world: &World<MySqlDatabase>| said(&world.agent(&["check", "--offline"]));
    let name = world.source.name().to_owned();
    let text = check(&world);
    assert!(text.contains("watermark_column sua_luc of"), "{text}");
    assert!(text.contains("is the first column of no index"), "{text}");
    let cure = format!("alter table `{name}`.`dan` add index (`sua_luc`);");
    assert!(text.contains(&cure), "{text}");
    world.source.sql(&cure);
    let text = check(&world);
    assert!(text.contains("✓ Sẵn sàng"), "{text}");
    world.edit("datasets/thu.dan.toml", "\"sua_luc\"", "\"luong\"");
    let text = check(&world);
    assert!(text.contains("is int(11): a timestamp or a datetime is needed"), "{text}");
    world.edit("datasets/thu.dan.toml", "watermark_column = \"luong\"", "");
    let text = check(&world);
    assert!(text.contains("`capture = \"watermark\"` needs `watermark_column`"), "{text}");
}
