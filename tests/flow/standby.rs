//! A hot standby as the source: the primary is spared, and what its log cannot do is said.

use std::sync::Arc;

use phusa_tests::database::{Server, Version};
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World, said};

fn world(primary: &Arc<Server>, rules: &str) -> (World, Server) {
    let mut world = World::around(primary.database());
    world.source.psql(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, 500) n",
    );
    let share = Share { table: "dan", key: "id", fields: &["id int4", "ten text"], rules };
    world.share("", &[share]);
    let standby = primary.standby();
    let port = |server: &Server| format!("port = {}\n", server.port());
    world.edit("agent.toml", &port(primary), &port(&standby));
    (world, standby)
}

async fn the_log_is_read_from_a_standby(version: Version) {
    let primary = Arc::new(Server::start(version, ""));
    let (mut world, standby) = world(&primary, "");
    world.edit("agent.toml", "tls = \"off\"\n", "tls = \"off\"\nslot_wait = \"2s\"\n");
    let checked = world.agent(&["check", "--offline"]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("pg_log_standby_snapshot()"), "{}", said(&checked));
    world.start();
    // A primary on which nothing happens gives the standby nothing to begin its slot with.
    let what = world.trouble("dan", "source_slot_wait").await;
    assert!(what.contains("select pg_log_standby_snapshot()"), "{what}");
    let login = world.login();
    assert_eq!(world.slots(), "", "the primary has no slot of the agent");

    wait_until("the slot on the standby", ARRIVES_WITHIN, async || {
        primary.psql("postgres", "select pg_log_standby_snapshot()");
        let epoch = world.epoch("dan");
        (epoch > 0).then_some(())
    })
    .await;
    assert_eq!(world.identical("dan").await, 500);
    primary.psql(
        world.source.name(),
        "insert into dan values (501, 'Mới'); update dan set ten = 'Đổi' where id = 1; delete from dan where id = 2",
    );
    world
        .warehouse_says(
            "select count(*) || (select ten from thu.dan where id = 1) from thu.dan",
            "500Đổi",
        )
        .await;
    world.identical("dan").await;
    let readers =
        "select count(*) from pg_stat_activity where usename = '{}'".replace("{}", &login);
    assert_eq!(primary.psql("postgres", &readers).trim(), "0", "nobody reads at the primary");
    assert!(world.province.agent_process(AGENCY).stop().success());
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_from_a_hot_standby_of_16_once_the_primary_has_told_it_to_begin() {
    the_log_is_read_from_a_standby(Version::V16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_from_a_hot_standby_of_18_once_the_primary_has_told_it_to_begin() {
    the_log_is_read_from_a_standby(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_made_at_the_primary_read_the_log_of_its_standby_for_a_login_without_rights() {
    let primary = Arc::new(Server::start(Version::V18, ""));
    let (mut world, standby) = world(&primary, "capture = \"functions\"");
    let login = world.login();
    primary.psql("postgres", &format!("alter role {login} noreplication"));
    world.start();
    wait_until("the slot on the standby", ARRIVES_WITHIN, async || {
        primary.psql("postgres", "select pg_log_standby_snapshot()");
        (world.epoch("dan") > 0).then_some(())
    })
    .await;
    assert_eq!(world.identical("dan").await, 500);
    primary.psql(
        world.source.name(),
        "insert into dan values (501, 'Mới'); update dan set id = -id where id < 9; delete from dan where id = 20",
    );
    assert_eq!(world.identical("dan").await, 500);
    assert_eq!(world.slots(), "", "the primary has no slot of the agent");
    assert!(world.province.agent_process(AGENCY).stop().success());
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_standby_of_15_check_says_what_to_use_and_a_promoted_one_is_a_new_epoch() {
    let primary = Arc::new(Server::start(Version::V15, ""));
    let (mut world, standby) = world(&primary, "");
    let file = "datasets/thu.dan.toml";
    world.edit(file, "table = ", "capture = \"log\"\ntable = ");
    let checked = world.agent(&["check", "--offline"]);
    let text = said(&checked);
    assert!(!checked.status.success());
    assert!(text.contains("source_version"), "{text}");
    assert!(text.contains("connect to the primary, or to a standby of version 16"), "{text}");

    // From the primary it goes; then the primary is lost and the standby takes its place.
    let port = |server: &Server| format!("port = {}\n", server.port());
    world.edit("agent.toml", &port(&standby), &port(&primary));
    world.start();
    assert_eq!(world.identical("dan").await, 500);
    assert!(world.province.agent_process(AGENCY).stop().success());
    primary.kill();
    standby.promote();
    standby.psql(
        world.source.name(),
        "delete from dan where id <= 10; insert into dan values (501, 'Sau khi chuyển')",
    );
    world.edit("agent.toml", &port(&primary), &port(&standby));
    world.start_agent();
    world.warehouse_says("select count(*) from thu.dan", "491").await;
    assert_eq!(world.identical("dan").await, 491);
    assert_eq!(world.epoch("dan"), 2, "another timeline is another epoch");
    standby.psql(world.source.name(), "update dan set ten = 'Đổi' where id = 11");
    world.warehouse_says("select ten from thu.dan where id = 11", "Đổi").await;
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
    drop(standby);
}
