//! The load guard at work on every engine: outside the allowed hours no table is read, whichever way
//! it is followed, and whoever reads all rows takes no more a second than is allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use phusa_protocol::time::Timestamp;
use phusa_tests::database::{Database, Server, Version};
use phusa_tests::mysql::{Flavour, MySqlServer};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Readable};

use crate::world::{AGENCY, Share, World, said};

const ROWS: &str = "(1, 'a'), (2, 'b'), (3, 'c')";

/// Hours that begin three hours from now, by Vietnam's clock.
fn closed_hours() -> String {
    let hour = |later: i64| {
        let hours = Timestamp::now().micros() / 3_600_000_000 + 7 + later;
        format!("{:02}:00", hours.rem_euclid(24))
    };
    format!("[guard]\nallowed_hours = [\"{}-{}\"]\n", hour(3), hour(5))
}

fn people(capture: &str) -> Share<'_> {
    Share { table: "dan", key: "id", fields: &["id int4", "ten text"], rules: capture }
}

async fn is_not_read<S: Readable>(mut world: World<S>, capture: &str) {
    world.share(&closed_hours(), &[people(capture)]);
    world.start();
    wait_until("the agent to say that it waits", ARRIVES_WITHIN, async || {
        let log = world.province.agent_process(AGENCY).log();
        (log.contains("dan waits ") && log.contains("min for allowed_hours")).then_some(())
    })
    .await;
    assert_eq!(world.carried("dan", "snapshot"), 0, "{capture}");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_the_allowed_hours_no_engine_reads_a_table_whichever_way_it_is_followed() {
    for capture in ["capture = \"log\"", "capture = \"reconcile\""] {
        let world = World::new(Version::V15);
        world.source.psql(&format!(
            "create table dan (id int primary key, ten text); insert into dan values {ROWS}"
        ));
        is_not_read(world, capture).await;
        let world = World::around(MySqlServer::shared().database());
        world.source.sql(&format!(
            "create table dan (id int primary key, ten text); insert into dan values {ROWS}"
        ));
        is_not_read(world, capture).await;
    }
}

/// A session of somebody else that is at work until this is dropped.
struct Other {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Other {
    /// Two of them in turn, each for two seconds, so that one is always there.
    fn working(work: impl Fn() + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |after| {
            let (stop, work) = (Arc::clone(&stop), work.clone());
            std::thread::spawn(move || {
                std::thread::sleep(after);
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            })
        };
        let threads = vec![one(Duration::ZERO), one(Duration::from_secs(1))];
        Self { stop, threads }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

const GIVES_WAY: &str = "Others have the source work; reading";

/// Reads the three rows, and whether the agent said that it gives way meanwhile.
async fn gave_way<S: Readable>(world: &mut World<S>, settings: &str, capture: &str) -> bool {
    world.share(settings, &[people(capture)]);
    world.start();
    wait_until("the rows", ARRIVES_WITHIN, async || {
        (world.carried("dan", "snapshot") == 3).then_some(())
    })
    .await;
    let process = world.province.agent_process(AGENCY);
    let gave_way = process.log().contains(GIVES_WAY);
    assert!(process.stop().success());
    gave_way
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_gives_way_where_others_are_at_work_and_only_there() {
    let rows = format!(
        "create table dan (id int primary key, ten varchar(9)); insert into dan values {ROWS}"
    );
    let (log, never) = ("capture = \"log\"", "[guard]\nwork_loss_max_percent = 100\n");
    for (others, settings, capture) in [
        (true, "", log),
        (true, "", "capture = \"reconcile\""),
        (false, "", log),
        (true, never, log),
    ] {
        let expected = others && settings.is_empty();
        let mut world = World::new(Version::V15);
        world.source.psql(&rows);
        let server = Arc::clone(world.source.server());
        let work = move || drop(server.psql("postgres", "select pg_sleep(2)"));
        let other = others.then(|| Other::working(work));
        assert_eq!(gave_way(&mut world, settings, capture).await, expected, "{capture}");
        drop(other);

        let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
        let mut world = World::around(server.database());
        world.source.sql(&rows);
        let work = move || drop(server.sql("", "select sleep(2)"));
        let other = others.then(|| Other::working(work));
        assert_eq!(gave_way(&mut world, settings, capture).await, expected, "{capture}");
        drop(other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_at_its_own_work_alone_is_read_without_rests() {
    let primary = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    let replica = Arc::new(primary.replica());
    replica.sql(
        "",
        "stop slave; set global slave_parallel_threads = 4, global event_scheduler = on; start slave",
    );
    let database = primary.database();
    let name = database.name().to_owned();
    database.sql(&format!(
        "create table dan (id int primary key, ten varchar(9)); insert into dan values {ROWS}"
    ));
    wait_until("the replica to follow", ARRIVES_WITHIN, async || {
        replica.accepts(&name, "select 1 from dan").then_some(())
    })
    .await;
    for others in [false, true] {
        let mut world = World::around(replica.database_named(&name));
        let server = Arc::clone(&replica);
        let work = move || drop(server.sql("", "select sleep(2)"));
        let other = others.then(|| Other::working(work));
        let gave_way = gave_way(&mut world, "", "capture = \"reconcile\"").await;
        drop(other);
        assert_eq!(gave_way, others);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_counts_all_rows_takes_no_more_a_second_than_is_allowed() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, 3000) n",
    );
    let settings = "[guard]\nrows_per_second_max = 1000\n[batch]\nbatch_rows_max = 200\n";
    world.share(settings, &[people("")]);
    let begun = Instant::now();
    let counted = world.agent(&["verify", "--offline"]);
    assert!(counted.status.success(), "{}", said(&counted));
    // A second's worth may be taken at once.
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tables_leave_the_connections_to_the_agencys_own_programs() {
    const TABLES: usize = 16;
    let mut world = World::new(Version::V15);
    let names: Vec<String> = (1..=TABLES).map(|at| format!("dan_{at}")).collect();
    for name in &names {
        world.source.psql(&format!(
            "create table {name} (id int primary key, ten text); \
             insert into {name} select n, 'Lê ' || n from generate_series(1, 400) n"
        ));
    }
    let share =
        |name| Share { table: name, key: "id", fields: &["id int4", "ten text"], rules: "" };
    let tables: Vec<Share<'_>> = names.iter().map(|name| share(name)).collect();
    world.share("[guard]\nreads_at_once = 2\nchunk_rows = 100\n", &tables);
    let all_read =
        |world: &World<_>| names.iter().all(|name| world.carried(name, "snapshot") == 400);
    world.start();
    let mut most = 0;
    let begun = Instant::now();
    while !all_read(&world) {
        assert!(begun.elapsed() < ARRIVES_WITHIN, "read within {ARRIVES_WITHIN:?}");
        most = most.max(connections(&world));
    }
    // Two reads of two workers, each with a witness of its place, and what goes before them; and the
    // four that watch all slots.
    assert!(most <= 20, "{most} connections at once for {TABLES} tables that are read");

    assert!(world.province.agent_process(AGENCY).stop().success());
    for name in &names {
        world.source.psql(&format!("insert into {name} values (0, 'Mới')"));
    }
    world.start_agent();
    let begun = Instant::now();
    let all_follow = |world: &World<_>| names.iter().all(|name| world.carried(name, "insert") == 1);
    let mut most = 0;
    while !all_follow(&world) {
        assert!(begun.elapsed() < ARRIVES_WITHIN, "followed within {ARRIVES_WITHIN:?}");
        most = most.max(connections(&world));
    }
    assert!(most <= 20, "{most} connections at once for {TABLES} tables that go on");
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_others_commit_often_no_sender_of_the_log_is_woken_by_each_of_them() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = World::around(server.database());
    world.source.psql(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, 100) n;
         create table viec (id int primary key, lan int not null); insert into viec values (1, 0);
         create procedure lam() language plpgsql as $$ begin
           set synchronous_commit = off;
           for lan in 1..2000 loop update viec set lan = viec.lan + 1; commit; end loop;
         end $$",
    );
    // At one percent, from 200 commits a second on.
    world.share("[guard]\nwork_loss_max_percent = 1\n", &[people("capture = \"log\"")]);
    world.start();
    let senders = "select count(*) from pg_stat_replication \
                   where application_name = 'phusa-agent' and state = 'streaming'";
    let name = world.source.name().to_owned();
    let senders_now = || server.psql("postgres", senders).trim().to_owned();
    let follows = async |wanted: &str| {
        wait_until("senders of the log", ARRIVES_WITHIN, async || {
            (senders_now() == wanted).then_some(())
        })
        .await;
    };
    follows("1").await;
    let busy = Arc::clone(&server);
    let other = Other::working(move || drop(busy.psql(&name, "call lam()")));
    says_strides(&mut world).await;
    follows("0").await;
    world.source.psql("update dan set ten = 'Người ' || id where id <= 50");
    world.source.psql("delete from dan where id > 90");
    wait_until("what was changed meanwhile", ARRIVES_WITHIN, async || {
        (world.carried("dan", "update") == 50 && world.carried("dan", "delete") == 10).then_some(())
    })
    .await;
    assert_eq!(senders_now(), "0");
    drop(other);
    follows("1").await;
    world.source.psql("insert into dan values (101, 'Mới')");
    wait_until("what came afterwards", ARRIVES_WITHIN, async || {
        (world.carried("dan", "insert") == 1).then_some(())
    })
    .await;
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_others_commit_often_mariadbs_log_is_read_in_strides() {
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    let mut world = World::around(server.database());
    world.source.sql(
        "create table dan (id int primary key, ten varchar(20));
         insert into dan select seq, concat('Dân ', seq) from seq_1_to_100;
         create table viec (id int primary key, lan int not null); insert into viec values (1, 0);
         set global innodb_flush_log_at_trx_commit = 0",
    );
    world.share("[guard]\nwork_loss_max_percent = 1\n", &[people("capture = \"log\"")]);
    world.start();
    let name = world.source.name().to_owned();
    let busy = Arc::clone(&server);
    let work = "update viec set lan = lan + 1;".repeat(500);
    let other = Other::working(move || drop(busy.sql(&name, &work)));
    says_strides(&mut world).await;
    world.source.sql("update dan set ten = concat('Người ', id) where id <= 50");
    world.source.sql("delete from dan where id > 90");
    wait_until("what was changed meanwhile", ARRIVES_WITHIN, async || {
        (world.carried("dan", "update") == 50 && world.carried("dan", "delete") == 10).then_some(())
    })
    .await;
    drop(other);
    // Whatever rest is left, and then no more of them.
    for (id, within) in [(101, 30), (102, 30), (103, 5), (104, 5)] {
        world.source.sql(&format!("insert into dan values ({id}, 'Mới')"));
        wait_until("what came afterwards", Duration::from_secs(within), async || {
            (world.carried("dan", "insert") == id - 100).then_some(())
        })
        .await;
    }
    assert!(world.province.agent_process(AGENCY).stop().success());
}

async fn says_strides<S: Readable>(world: &mut World<S>) {
    wait_until("the agent to say that it reads in strides", ARRIVES_WITHIN, async || {
        let log = world.province.agent_process(AGENCY).log();
        log.contains("dan is read in strides").then_some(())
    })
    .await;
}

/// Connections of the agent that count against what the server allows; senders of the log do not.
fn connections(world: &World<Database>) -> u32 {
    let sql = "select count(*) from pg_stat_activity \
               where application_name = 'phusa-agent' and backend_type = 'client backend'";
    world.source.psql(sql).trim().parse().expect("a count")
}
