//! The source goes away, comes back, is replaced, or loses its slot; nothing is missing afterwards,
//! and nobody's disk fills while an agent idles.

use std::sync::Arc;

use phusa_tests::database::{Server, Version};
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World, said};

const SHARE: Share<'static> =
    Share { table: "dan", key: "id", fields: &["id int4", "ten text"], rules: "" };

fn world(server: &Arc<Server>) -> World {
    let mut world = World::around(server.database());
    world.source.psql(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, 300) n",
    );
    world.share("", &[SHARE]);
    world
}

/// Writes about 100 MB of log that is of no concern to anyone.
fn write_other_log(server: &Server, database: &str) {
    server.psql(
        database,
        "select count(pg_logical_emit_message(false, 'khac', repeat('x', 1000000)))
         from generate_series(1, 100)",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_restarts_crashes_or_idles_beside_a_busy_one_loses_nothing_and_keeps_no_log()
{
    let server = Arc::new(Server::start(Version::V15, "checkpoint_timeout = '30s'\n"));
    let mut world = world(&server);
    world.start();
    assert_eq!(world.identical("dan").await, 300);

    server.restart();
    world.source.psql("insert into dan values (301, 'Sau khi khởi động lại')");
    world.warehouse_says("select count(*) from thu.dan", "301").await;

    world.source.psql("update dan set ten = 'Ngay trước khi đổ' where id = 1");
    server.kill();
    world.trouble("dan", "source_unreachable").await;
    server.resume();
    world.source.psql("delete from dan where id = 2; insert into dan values (302, 'Sau khi đổ')");
    world
        .warehouse_says(
            "select count(*) || (select ten from thu.dan where id = 1) from thu.dan",
            "301Ngay trước khi đổ",
        )
        .await;
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1);

    // Nothing happens here while another database writes much.
    let busy = server.database();
    write_other_log(&server, busy.name());
    let retained = "select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 5000000
                      and pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 40000000
                    from pg_replication_slots";
    wait_until("the idle slot to let go of the log", ARRIVES_WITHIN, async || {
        server.psql("postgres", "checkpoint");
        (server.psql("postgres", retained).trim() == "t").then_some(())
    })
    .await;
    let batches = "select count(*) from phusa.transfers where kind = 'push'";
    let before = world.warehouse.psql(batches);
    world.source.psql("insert into dan values (303, 'Sau khi nghỉ')");
    world.warehouse_says("select count(*) from thu.dan", "302").await;
    let after = world.warehouse.psql(batches);
    let [before, after]: [u64; 2] = [before, after].map(|text| text.trim().parse().unwrap());
    assert!(after - before <= 2, "idling sends no batches: {before} {after}");
    world.identical("dan").await;
    assert!(world.province.agent_process(AGENCY).stop().success());
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_dropped_or_holds_back_too_much_leads_to_a_new_epoch_and_identical_rows() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&server);
    world.edit("agent.toml", "tls = \"off\"\n", "tls = \"off\"\nslot_wal_max = \"64MiB\"\n");
    world.start();
    assert_eq!(world.identical("dan").await, 300);

    // Behind the agent's back, with changes that no slot remembers.
    world
        .source
        .psql("select pg_terminate_backend(active_pid) from pg_replication_slots where active;");
    wait_until("the slot to be dropped", ARRIVES_WITHIN, async || {
        let drop =
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active";
        world.source.psql(drop);
        (world.slots().is_empty()).then_some(())
    })
    .await;
    world
        .source
        .psql("delete from dan where id <= 10; insert into dan values (301, 'Không khe nào nhớ')");
    world.warehouse_says("select count(*) from thu.dan", "291").await;
    world.identical("dan").await;
    let epoch = world.epoch("dan");
    assert!(epoch >= 2, "a gap is a new epoch");

    // An old transaction keeps the slot from moving while others write.
    let old = world.source.connect().await;
    old.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
    world.source.psql("update dan set ten = 'Khi khe bị giữ' where id = 20");
    write_other_log(&server, world.source.name());
    wait_until("the slot to be given up", ARRIVES_WITHIN, async || {
        server.psql("postgres", "checkpoint");
        (world.slots().is_empty() || world.epoch("dan") > epoch).then_some(())
    })
    .await;
    old.batch_execute("delete from dan where id = 21; commit").await.unwrap();
    world
        .warehouse_says(
            "select count(*) || (select ten from thu.dan where id = 20) from thu.dan",
            "290Khi khe bị giữ",
        )
        .await;
    world.identical("dan").await;
    assert!(world.epoch("dan") > epoch);
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains("above 67108864"), "{log}");
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_in_the_place_of_the_old_one_is_a_new_epoch() {
    let old = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&old);
    world.start();
    assert_eq!(world.identical("dan").await, 300);
    assert!(world.province.agent_process(AGENCY).stop().success());

    // A copy restored from a dump: the same tables, another system identifier, an older state.
    let new = Arc::new(Server::start(Version::V15, ""));
    let name = world.source.name();
    let login = world.login();
    new.psql("postgres", &format!("create role {login} login replication password 'bi-mat'"));
    new.psql("postgres", &format!("create database {name}"));
    new.psql(
        name,
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Bản cũ ' || n from generate_series(1, 250) n",
    );
    world.edit(
        "agent.toml",
        &format!("port = {}\n", old.port()),
        &format!("port = {}\n", new.port()),
    );
    let text = said(&world.agent(&["check", "--offline"]));
    for line in
        text.lines().filter(|line| line.starts_with("grant") || line.starts_with("create pub"))
    {
        new.psql(name, line);
    }
    world.start_agent();
    world
        .warehouse_says("select count(*) || max(ten) from thu.dan where id = 250", "1Bản cũ 250")
        .await;
    assert_eq!(world.identical("dan").await, 250);
    assert_eq!(world.epoch("dan"), 2);
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains("the server is another one"), "{log}");
    assert!(world.province.agent_process(AGENCY).stop().success());
    new.stop();
    let away = world.agent(&["check", "--offline"]);
    assert!(said(&away).contains("source_unreachable"), "{}", said(&away));
}
