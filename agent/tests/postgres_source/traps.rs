//! What a log does not tell, and what another agent on the same server could break.

use phusa_agent::source::guard::Hours;
use phusa_protocol::time::Timestamp;

use super::*;

/// A server with a table `public.<name>` that a capture has read and follows.
async fn followed(server: &Server, name: &str, ddl: &str) -> (Client, Dataset) {
    let admin = server.admin().await;
    roles(&admin).await;
    admin.batch_execute(ddl).await.unwrap();
    let mut dataset = Dataset::new(server.settings(), name, &["id", "name"], &[0]);
    dataset.prepare(&admin).await;
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    (admin, dataset)
}

const PARTS: &str = "create table parts (id int primary key, name text) partition by range (id); \
    create table parts_1 partition of parts for values from (0) to (100); \
    create table parts_2 partition of parts for values from (100) to (200) \
      partition by range (id); \
    create table parts_2a partition of parts_2 for values from (100) to (150); \
    insert into parts select i, 'dòng ' || i from generate_series(0, 149) i";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_goes_or_comes_with_rows_by_itself_is_a_gap_and_a_new_one_is_not() {
    let server = Server::start();
    let (admin, mut dataset) = followed(&server, "parts", PARTS).await;
    let run = async |sql: &str| admin.batch_execute(sql).await.unwrap();
    // A partition made as one has told all it holds; it is granted and altered as any table is.
    run("create table parts_3 partition of parts for values from (200) to (300)").await;
    run("grant select on parts_3 to public; alter table parts_3 set (fillfactor = 90)").await;
    run("insert into parts values (200, 'phân vùng mới')").await;
    dataset.capture_until(&[&200_i32.to_be_bytes()]).await;
    dataset.model.assert_same(&dataset.scan().await);
    for change in [
        "truncate parts_1",
        "alter table parts detach partition parts_1",
        "create table parts_4 (like parts including all); insert into parts_4 values (300, 'có sẵn'); \
         alter table parts attach partition parts_4 for values from (300) to (400)",
        "drop table parts_2a",
    ] {
        run(change).await;
        assert_eq!(capture_fault(&dataset, true).await, Code::SourceGap, "at start: {change}");
        dataset.begin_anew().await;
        dataset.model.assert_same(&dataset.scan().await);
    }
    let change = async {
        wait_until_active(&admin).await;
        run("truncate parts_3").await;
    };
    let (code, ()) = tokio::join!(capture_fault(&dataset, true), change);
    assert_eq!(code, Code::SourceGap, "while it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_gets_another_width_is_a_gap_with_and_without_a_change_of_a_row() {
    let server = Server::start();
    let ddl = "create table width (id int primary key, name numeric(10, 2)); \
               alter table width replica identity full; insert into width values (1, 1.25)";
    let (admin, mut dataset) = followed(&server, "width", ddl).await;
    for change in [
        "alter table width alter name type numeric(10, 1)",
        "alter table width alter name type numeric(10, 3); insert into width values (2, 7)",
    ] {
        let change = async {
            wait_until_active(&admin).await;
            admin.batch_execute(change).await.unwrap();
        };
        let (code, ()) = tokio::join!(capture_fault(&dataset, true), change);
        assert_eq!(code, Code::SourceGap);
        dataset.begin_anew().await;
        dataset.model.assert_same(&dataset.scan().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_one_name_on_two_databases_of_a_server_leave_each_other_their_slots() {
    let server = Server::start();
    let ddl = "create table same (id int primary key, name text); insert into same values (1)";
    let (admin, mut first) = followed(&server, "same", ddl).await;
    admin.batch_execute("create database other").await.unwrap();
    let other = server.admin_of("other").await;
    other.batch_execute(ddl).await.unwrap();
    let settings = Settings { database: "other".to_owned(), ..server.settings() };
    let mut second = Dataset::new(settings, "same", &["id", "name"], &[0]);
    second.prepare(&other).await;
    second.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    for (client, dataset) in [(&admin, &mut first), (&other, &mut second)] {
        client.batch_execute("insert into same values (2, 'hai')").await.unwrap();
        dataset.capture_until(&[&2_i32.to_be_bytes()]).await;
        dataset.model.assert_same(&dataset.scan().await);
    }
    // Giving up one slot leaves the other.
    second.source.release(&second.selection).await.unwrap();
    let left = "select string_agg(database, ' ') from pg_replication_slots";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, &str>(0), "postgres");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_named_as_before_serves_on_and_goes_with_the_next_epoch() {
    let server = Server::start();
    let ddl = "create table named (id int primary key, name text); insert into named values (1)";
    let (admin, mut dataset) = followed(&server, "named", ddl).await;
    let (agent, id) = (server.settings().agent, dataset.selection.dataset.clone());
    let (now, before) = (slot_name(&agent, "postgres", &id), publication_name(&agent, &id));
    wait_until_free(&admin).await;
    let copy = format!(
        "select pg_copy_logical_replication_slot('{now}', '{before}'); \
         select pg_drop_replication_slot('{now}')"
    );
    admin.batch_execute(&copy).await.unwrap();
    let resume = String::from_utf8(dataset.resume.take().unwrap().0).unwrap();
    let was = resume.replace(&now, &before);
    assert_ne!(resume, was);
    dataset.resume = Some(Resume(was.into_bytes()));
    admin.batch_execute("insert into named values (2, 'hai')").await.unwrap();
    dataset.capture_until(&[&2_i32.to_be_bytes()]).await;
    dataset.model.assert_same(&dataset.scan().await);
    wait_until_free(&admin).await;
    let slots = "select string_agg(slot_name, ' ') from pg_replication_slots";
    let slots = async || admin.query_one(slots, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(slots().await, before, "nothing was read anew");
    dataset.begin_anew().await;
    assert_eq!(slots().await, now);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_commit_that_a_crash_could_take_back_are_not_handed_on() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    fill(&admin, "unsure", "id").await;
    let slow = "alter system set wal_writer_delay = '3s'; select pg_reload_conf()";
    for statement in slow.split("; ") {
        admin.batch_execute(statement).await.unwrap();
    }
    let mut dataset = Dataset::new(server.settings(), "unsure", &COLUMNS, &[1]);
    dataset.prepare(&admin).await;
    // The first block only, so that the rest is read under snapshots that nobody exported.
    dataset.capture(|_| Some(End::After)).await;
    let writer = server.admin().await;
    writer.batch_execute("set synchronous_commit = off").await.unwrap();
    let mut unsure = 0;
    for round in 0..5 {
        let write = format!("update unsure set n = {round} where id > 5000");
        writer.batch_execute(&write).await.unwrap();
        let seen = "select pg_current_wal_insert_lsn()::text";
        let seen: String = writer.query_one(seen, &[]).await.unwrap().get(0);
        let ask = format!("select pg_current_wal_flush_lsn() >= '{seen}'::pg_lsn");
        let is_on_disk = async || admin.query_one(&ask, &[]).await.unwrap().get::<_, bool>(0);
        unsure += u64::from(!is_on_disk().await);
        dataset.capture(|block| (block.phase == Phase::Read).then_some(End::Before)).await;
        assert!(is_on_disk().await, "round {round}: a block came before its rows were safe");
    }
    assert!(unsure > 0, "the server wrote every commit at once, so that nothing was tested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_read_keeps_to_its_hours_and_goes_on_in_the_next_ones() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    fill(&admin, "nightly", "id").await;
    let seconds = |count| Duration::from_secs(count);
    let opened = Timestamp::now().after(seconds(2));
    let (closed, opened_again) = (opened.after(seconds(2)), opened.after(seconds(8)));
    let mut settings = server.settings();
    settings.guard.rows_per_second_max = 1_000;
    settings.guard.allowed_hours =
        Hours::default().and(opened, closed).and(opened_again, opened.after(seconds(3_600)));
    let mut dataset = Dataset::new(settings, "nightly", &COLUMNS, &[1]);
    dataset.prepare(&admin).await;
    let mut read_at = Vec::new();
    dataset
        .capture(|block| {
            read_at.extend((block.phase == Phase::Read).then_some(block.read_at));
            (block.phase == Phase::Live).then_some(End::After)
        })
        .await;
    dataset.model.assert_same(&dataset.scan().await);
    assert!(read_at.iter().all(|at| *at >= opened), "nothing is read before the hours");
    // The ranges that were begun are read to their end.
    let late = closed.after(seconds(3));
    assert!(!read_at.iter().any(|at| *at > late && *at < opened_again), "{read_at:?}");
    assert!(read_at.iter().any(|at| *at < closed) && read_at.iter().any(|at| *at > opened_again));
}
