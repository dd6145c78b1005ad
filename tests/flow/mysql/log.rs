//! The binlog: transactions larger than memory, restarts, rotations and purges, replicas, changes
//! of shape, and everything that could hide a change.

use std::process::Command;
use std::sync::Arc;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Readable as _};

use super::{mysql_or_why_not, numbers, shared};
use crate::world::{AGENCY, Share, World};

const DAN: Share<'static> =
    Share { table: "dan", key: "id", fields: &["id int4", "ten text", "so int4"], rules: "" };

/// A world whose table `dan` of a thousand rows is read and followed.
async fn followed(source: MySqlDatabase, settings: &str) -> World<MySqlDatabase> {
    let mut world = World::around(source);
    world.source.sql(&format!(
        "create table dan (id int primary key, ten varchar(40), so int);
         insert into dan select n, concat('Nguyễn ', n), 0 from {}",
        numbers(1_000)
    ));
    world.share(settings, &[DAN]);
    world.start();
    is_live(&world).await;
    assert_eq!(world.identical("dan").await, 1_000);
    world
}

async fn is_live(world: &World<MySqlDatabase>) {
    world
        .warehouse_says("select count(*) from phusa.streams where consistent_at is not null", "1")
        .await;
}

fn own(settings: &str) -> Arc<MySqlServer> {
    Arc::new(MySqlServer::start(Flavour::MariaDb, settings))
}

/// Purges all of the log but its last file; a connection that is not noticed to be dead yet holds
/// that up.
async fn purge(world: &World<MySqlDatabase>, status: &str) {
    let last = world.source.sql(status);
    let last = last.split('\t').next().unwrap_or_default().to_owned();
    wait_until("the log to be purged", ARRIVES_WITHIN, async || {
        world.source.sql(&format!("purge binary logs to '{last}'"));
        world.source.sql("show binary logs").starts_with(&last).then_some(())
    })
    .await;
}

/// Waits until the agent began its table anew because of `why`, and both ends are the same again.
async fn is_read_anew(world: &mut World<MySqlDatabase>, epoch: u64, why: &str) {
    wait_until(&format!("epoch {epoch}"), ARRIVES_WITHIN, async || {
        (world.epoch("dan") == epoch).then_some(())
    })
    .await;
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains(why), "{why}: {log}");
    world.identical("dan").await;
    is_live(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_a_block_is_never_half_visible_and_goes_on_after_kill_9() {
    let settings = "[batch]\nbatch_rows_max = 500\n";
    let mut world = followed(shared().source, settings).await;
    let rows = numbers(10_000);
    world.source.sql(&format!(
        "begin; insert into dan select 100000 + n, concat('Lê ', n), 1 from {rows};
         update dan set so = so + 1 where id > 100000; commit"
    ));
    wait_until("a part of the transaction to be at the hub", ARRIVES_WITHIN, async || {
        let staged = world.warehouse.psql("select count(*) from phusa.staged");
        let seen = world.warehouse.psql("select count(*) from thu.dan where id > 100000");
        let (staged, seen) = (staged.trim(), seen.trim());
        assert!(seen == "0" || seen == "10000", "{seen} rows are half of a transaction");
        (staged != "0" || seen == "10000").then_some(())
    })
    .await;
    world.province.agent_process(AGENCY).kill();
    world.start_agent();
    world.warehouse_says("select count(*) from thu.dan where so = 2", "10000").await;
    assert_eq!(world.identical("dan").await, 11_000);
    assert_eq!(world.carried("dan", "insert"), 10_000);
    assert_eq!(world.epoch("dan"), 1);
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_rotates_or_crashes_is_followed_on() {
    let mut world = followed(own("").database(), "").await;
    world.source.sql("update dan set so = 1 where id <= 10; flush binary logs; update dan set so = 2 where id <= 5");
    world.identical("dan").await;
    world.source.server().stop();
    world.source.server().resume();
    world.source.sql("delete from dan where id = 7; flush binary logs");
    world.identical("dan").await;
    world.source.server().kill();
    world.source.server().resume();
    world.source.sql("insert into dan values (5000, 'Sau', 9)");
    world.province.agent_process(AGENCY).kill();
    world.source.sql("update dan set so = 3 where id = 5000; flush binary logs");
    world.start_agent();
    world.warehouse_says("select so from thu.dan where id = 5000", "3").await;
    assert_eq!(world.identical("dan").await, 1_000);
    assert_eq!(world.epoch("dan"), 1, "nothing of this is a reason to begin anew");
}

/// The log's last file and where it ends.
fn end_of_log(source: &MySqlDatabase) -> (String, usize) {
    let said = source.sql("show master status");
    let mut fields = said.split('\t');
    let file = fields.next().unwrap().to_owned();
    (file, fields.next().unwrap().trim().parse().unwrap())
}

/// Ends the server as if it had been writing the transaction `sql` to its log: everything is as it
/// was before, but for the log's last file, which goes on with what `kept` says of its bytes.
fn tear(source: &MySqlDatabase, sql: &str, kept: fn(&[u8]) -> usize) {
    let server = source.server();
    let (data, copy) = (server.folder().join("data"), server.folder().join("copy"));
    let (file, end) = end_of_log(source);
    server.kill();
    std::fs::create_dir(&copy).unwrap();
    let all = format!("{}/.", data.display());
    assert!(Command::new("cp").arg("-a").arg(all).arg(&copy).status().unwrap().success());
    server.resume();
    let (written_to, start) = end_of_log(source);
    source.sql(sql);
    let written = std::fs::read(data.join(written_to)).unwrap();
    server.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    let transaction = written.get(start..).unwrap();
    let mut torn = std::fs::read(data.join(&file)).unwrap();
    assert_eq!(torn.len(), end, "the log ends where the server said");
    torn.extend_from_slice(transaction.get(..kept(transaction)).unwrap());
    std::fs::write(data.join(&file), torn).unwrap();
    server.resume();
}

/// Bytes of the first `events` events.
fn events(bytes: &[u8], events: usize) -> usize {
    let length = |at: usize| bytes.get(at + 9..at + 13).unwrap().try_into().unwrap();
    (0..events).fold(0, |at, _| at + usize::try_from(u32::from_le_bytes(length(at))).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_a_crash_tore_is_followed_on_without_what_was_never_committed() {
    // Behind the transaction's name, behind its rows, and inside them.
    let tears: [fn(&[u8]) -> usize; 3] =
        [|bytes| events(bytes, 1), |bytes| events(bytes, 4), |bytes| events(bytes, 3) + 40];
    let mut world = followed(own("").database(), "").await;
    for (round, tear_at) in (0_u64..).zip(tears) {
        world.province.agent_process(AGENCY).kill();
        let id = 7_000 + round;
        world.source.sql(&format!("insert into dan values ({id}, 'trước', 1)"));
        tear(&world.source, "insert into dan values (6000, 'chưa bao giờ', 1)", tear_at);
        world.source.sql(&format!("update dan set ten = 'sau' where id = {id}"));
        world.start_agent();
        let sql = format!("select ten from thu.dan where id = {id}");
        world.warehouse_says(&sql, "sau").await;
        assert_eq!(world.identical("dan").await, 1_001 + round, "round {round}");
        assert_eq!(world.epoch("dan"), 1, "nothing is missing, so nothing is read anew");
    }
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains("ends inside an event"), "the last tear was none: {log}");
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_purged_or_made_anew_is_a_new_epoch_and_said_plainly() {
    let mut world = followed(own("").database(), "").await;
    world.province.agent_process(AGENCY).kill();
    world
        .source
        .sql("update dan set so = 1 where id < 9; flush binary logs; delete from dan where id = 9");
    purge(&world, "show master status").await;
    world.start_agent();
    is_read_anew(&mut world, 2, "is not there any more").await;
    // Another history under the same names.
    world.province.agent_process(AGENCY).kill();
    world.source.sql("reset master; update dan set so = 5");
    world.source.sql("flush binary logs; flush binary logs; update dan set so = 6 where id < 5");
    world.start_agent();
    is_read_anew(&mut world, 3, "in epoch 3: log file bin.00000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_read_as_well_as_its_primary() {
    let primary = own("");
    let replica = Arc::new(primary.replica());
    let made = primary.database();
    let name = made.name().to_owned();
    wait_until("the replica to follow", ARRIVES_WITHIN, async || {
        replica.sql("", "show databases").lines().any(|line| line == name).then_some(())
    })
    .await;
    let source = replica.database_named(&name);
    made.sql(&format!(
        "create table dan (id int primary key, ten varchar(40), so int);
         insert into dan select n, concat('Nguyễn ', n), 0 from {}",
        numbers(500)
    ));
    wait_until("the table to be replicated", ARRIVES_WITHIN, async || {
        let rows = replica.sql(
            "",
            &format!(
                "select table_rows from information_schema.tables where table_schema = '{name}'"
            ),
        );
        (!rows.trim().is_empty()).then_some(())
    })
    .await;
    let mut world = World::around(source);
    world.share("", &[DAN]);
    world.start();
    world.warehouse_says("select count(*) from thu.dan", "500").await;
    made.sql("update dan set so = 4; delete from dan where id = 3; insert into dan values (900, 'Mới', 1)");
    world.warehouse_says("select sum(so) from thu.dan", "1997").await;
    assert_eq!(world.identical("dan").await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shape_of_a_table_may_change_and_what_is_mapped_is_followed_or_named() {
    let mut world = followed(shared().source, "").await;
    // Columns that are not mapped come and go, in front as well.
    world.source.sql(
        "alter table dan add column moi int default 7 first; update dan set so = 1 where id = 1;
         alter table dan drop column moi; update dan set so = 2 where id = 2;
         alter table dan add index (so); insert into dan values (2000, 'Thêm', 3)",
    );
    world
        .warehouse_says(
            "select string_agg(so::text, ' ' order by id) from thu.dan where so > 0",
            "1 2 3",
        )
        .await;
    assert_eq!(world.epoch("dan"), 1);
    world.source.sql("truncate table dan; insert into dan values (1, 'Một', 1)");
    world.warehouse_says("select count(*) from thu.dan", "1").await;
    assert_eq!(world.carried("dan", "truncate"), 1);
    assert_eq!(world.epoch("dan"), 1);
    // A mapped column gets another type: what that did to its values is in no log.
    world.source.sql("alter table dan modify ten varchar(3); insert into dan values (2, 'Hai', 2)");
    is_read_anew(&mut world, 2, "columns have other types").await;
    // As gh-ost and pt-online-schema-change swap tables.
    world.source.sql(
        "create table _dan_gho like dan; insert into _dan_gho select * from dan where id = 1;
         rename table dan to _dan_del, _dan_gho to dan; insert into dan values (9, 'Chn', 9)",
    );
    is_read_anew(&mut world, 3, "renamed or replaced").await;
    world.warehouse_says("select string_agg(id::text, ' ' order by id) from thu.dan", "1 9").await;
    world.source.sql("alter table dan drop column so");
    let what = world.trouble("dan", "source_column_missing").await;
    assert!(what.contains("no column so"), "{what}");
    world.source.sql("alter table dan add column so int; update dan set so = 5");
    world
        .warehouse_says("select string_agg(id::text || so, ' ' order by id) from thu.dan", "15 95")
        .await;
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_the_log_as_text_is_a_reason_to_read_again() {
    let mut world = followed(shared().source, "").await;
    world.source.sql("set session binlog_format = 'STATEMENT'; create table khac (a int); insert into khac values (1)");
    world.source.sql("update dan set so = 1 where id = 1");
    world.warehouse_says("select so from thu.dan where id = 1", "1").await;
    assert_eq!(world.epoch("dan"), 1, "a statement on another table concerns nobody");
    world
        .source
        .sql("set session binlog_format = 'STATEMENT'; update dan set so = 8 where id <= 8");
    is_read_anew(&mut world, 2, "as its text").await;
    world.warehouse_says("select sum(so) from thu.dan", "64").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xa_transaction_counts_when_it_is_committed() {
    let mut world = followed(shared().source, "").await;
    world.source.sql("xa start 'a'; update dan set so = 4 where id = 4; xa end 'a'; xa prepare 'a'; xa rollback 'a'");
    world.source.sql("update dan set so = 1 where id = 1");
    world.warehouse_says("select sum(so) from thu.dan", "1").await;
    assert_eq!(world.epoch("dan"), 1);
    world.source.sql("xa start 'b'; update dan set so = 5 where id = 5; xa end 'b'; xa prepare 'b'; xa commit 'b'");
    is_read_anew(&mut world, 2, "XA transaction").await;
    world.warehouse_says("select sum(so) from thu.dan", "6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_left_out_columns_are_completed_or_carried_over() {
    let server = own("binlog_row_image=MINIMAL\nbinlog_row_metadata=NO_LOG\n");
    let mut world = followed(server.database(), "[guard]\nchunk_rows = 100\n").await;
    world.source.sql(
        "update dan set so = 1 where id <= 3; update dan set id = 7000 where id = 7;
         delete from dan where id = 8; alter table dan alter column ten set default 'mặc định';
         insert into dan (id, so) values (8000, 2)",
    );
    world.warehouse_says("select ten || so from thu.dan where id = 8000", "mặc định2").await;
    world.warehouse_says("select ten || so from thu.dan where id = 7000", "Nguyễn 70").await;
    assert_eq!(world.identical("dan").await, 1_000);
    is_live(&world).await;
    world.province.agent_process(AGENCY).kill();
    world
        .source
        .sql("update dan set so = 9 where id <= 100; update dan set ten = 'x' where id = 100");
    world.start_agent();
    world.warehouse_says("select count(*) from thu.dan where so = 9", "98").await;
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_followed_by_transaction_names_through_restarts_and_purges() {
    let Some(server) = mysql_or_why_not("binlog_transaction_compression=ON\n") else { return };
    let mut world = followed(server.database(), "[batch]\nbatch_rows_max = 400\n").await;
    let rows = numbers(5_000);
    world.source.sql(&format!(
        "update dan set so = 1 where id <= 10; flush binary logs;
         begin; insert into dan select 100000 + n, repeat('ế', 20), 1 from {rows};
         delete from dan where id = 3; commit; truncate table mysql.slow_log"
    ));
    world.warehouse_says("select count(*) from thu.dan", "5999").await;
    world.province.agent_process(AGENCY).kill();
    world.source.server().kill();
    world.source.server().resume();
    world.source.sql("set session binlog_transaction_compression = off; update dan set id = 9000 where id = 9; alter table dan add x json first; update dan set x = '{}', so = 2 where id = 10");
    world.start_agent();
    world.warehouse_says("select so from thu.dan where id = 10", "2").await;
    assert_eq!(world.identical("dan").await, 5_999);
    assert_eq!(world.epoch("dan"), 1);
    world.province.agent_process(AGENCY).kill();
    world.source.sql("update dan set so = 7 where id = 7; flush binary logs");
    purge(&world, "show binary log status").await;
    world.start_agent();
    is_read_anew(&mut world, 2, "purged log that was not read yet").await;
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_without_transaction_names_is_followed_by_file_and_offset() {
    let settings = "gtid_mode=OFF\nenforce_gtid_consistency=OFF\nbinlog_row_metadata=MINIMAL\n";
    let Some(server) = mysql_or_why_not(settings) else { return };
    let mut world = followed(server.database(), "").await;
    world.source.sql(
        "update dan set so = 1 where id <= 10; flush binary logs; delete from dan where id = 3",
    );
    world.identical("dan").await;
    world.province.agent_process(AGENCY).kill();
    world.source.sql("insert into dan values (3, 'Ba', 3); flush binary logs; update dan set so = 4 where id = 3");
    world.start_agent();
    world.warehouse_says("select so from thu.dan where id = 3", "4").await;
    assert_eq!(world.identical("dan").await, 1_000);
    assert_eq!(world.epoch("dan"), 1);
}

/// The agent before this transaction came, and with it: unpacked it has 300 MB.
const MEMORY_KIB_MAX: u64 = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_transaction_too_large_for_memory_is_refused_before_the_driver_unpacks_it() {
    let settings = "binlog_transaction_compression=ON\nmax_allowed_packet=64M\n";
    let Some(server) = mysql_or_why_not(settings) else { return };
    let mut world = followed(server.database(), "").await;
    world.source.sql(&format!(
        "create table khac (id int primary key, b longtext);
         begin; update dan set so = 5 where id <= 10;
         insert into khac select n, repeat('x', 1000000) from {}; commit",
        numbers(300)
    ));
    is_read_anew(&mut world, 2, "unpacks to 286 MiB").await;
    world.source.sql("update dan set so = 6 where id <= 20");
    world.warehouse_says("select count(*) from thu.dan where so = 6", "20").await;
    assert_eq!(world.epoch("dan"), 2, "it goes on behind that transaction");
    let agent = world.province.agent_process(AGENCY).id();
    let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("the agent took at most {peak} KiB");
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB");
}
