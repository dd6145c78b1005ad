//! The full read: any key, in parallel, gently, and resumed where it was when the agent died.

use std::time::{Duration, Instant};

use phusa_tests::database::Version;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World, said};

const SMALL_CHUNKS: &str = "[guard]\nchunk_rows = 150\nsnapshot_workers = 3\n\
                            [batch]\nbatch_rows_max = 90\n";

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_composite_and_text_keys_are_read_whole_in_parallel_chunks() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        r#"create table thua_dat (xa text collate "vi-x-icu", so int, to_ban_do text,
             primary key (xa, so));
           insert into thua_dat select xa, so, xa || '/' || so
             from unnest(array['Ea Súp', 'Éa Súp', 'An Bình', 'Ân Bình', 'Ăn Bình', 'Đăk Mil',
                               'Dak Mil', 'đăk mil', 'Ô Môn', 'O Mon', 'Ơ Môn', '']) xa,
                  generate_series(1, 120) so;
           create table so_ho (ma text primary key, ten text);
           insert into so_ho select repeat(x, 1 + n % 3) || n, x
             from unnest(array['O''Hara', 'a\b', '"', '%', ' ', E'\t', 'ế', 'Ế', '🐃', ',(']) x,
                  generate_series(1, 60) n;
           create table nhat_ky (luc timestamptz, id uuid, primary key (luc, id));
           insert into nhat_ky select '2026-01-01'::timestamptz + n / 7 * interval '1 microsecond', md5(n::text)::uuid
             from generate_series(1, 700) n;
           create table trong (id bigint primary key, ten text);"#
    );
    let shares = [
        Share {
            table: "thua_dat",
            key: "xa so",
            fields: &["xa text", "so int4", "to_ban_do text"],
            rules: "",
        },
        Share { table: "so_ho", key: "ma", fields: &["ma text", "ten text"], rules: "" },
        Share {
            table: "nhat_ky",
            key: "luc id",
            fields: &["luc timestamptz", "id uuid"],
            rules: "",
        },
        Share { table: "trong", key: "id", fields: &["id int8", "ten text"], rules: "" },
    ];
    world.share(SMALL_CHUNKS, &shares);
    world.start();
    assert_eq!(world.identical("thua_dat").await, 1_440);
    assert_eq!(world.identical("so_ho").await, 600);
    assert_eq!(world.identical("nhat_ky").await, 700);
    assert_eq!(world.identical("trong").await, 0);
    for (table, rows) in [("thua_dat", 1_440), ("so_ho", 600), ("nhat_ky", 700), ("trong", 0)] {
        assert_eq!(world.carried(table, "snapshot"), rows, "{table} was read more than once");
    }
    world
        .warehouse_says("select count(*) from phusa.streams where consistent_at is not null", "4")
        .await;
    world.source.psql("insert into trong values (1, 'Một')");
    world.warehouse_says("select ten from thu.trong", "Một").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_refused_with_the_remedy_and_the_remedy_helps() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table mot (id int primary key); create table khong_khoa (ma text not null, ten text);
         insert into khong_khoa values ('a', 'An'), ('b', 'Bình')",
    );
    let keyless =
        Share { table: "khong_khoa", key: "ma", fields: &["ma text", "ten text"], rules: "" };
    let keyed = Share { table: "mot", key: "id", fields: &["id int4"], rules: "" };
    world.share("", &[keyed]);
    let folder = world.province.agent_folder(AGENCY);
    let files = keyless.dataset();
    std::fs::write(folder.join("contracts/thu.khong_khoa.toml"), files.contract).unwrap();
    std::fs::write(folder.join("datasets/thu.khong_khoa.toml"), files.mapping).unwrap();

    let checked = world.agent(&["check", "--offline"]);
    let text = said(&checked);
    assert!(!checked.status.success());
    assert!(text.contains("source_key_missing"), "{text}");
    assert!(text.contains("public.khong_khoa has no primary key"), "{text}");
    let remedy = text.lines().find(|line| line.starts_with("create unique index")).unwrap();
    let remedy = remedy.split(" -- ").next().unwrap();
    for statement in remedy.split_inclusive(';') {
        world.source.psql(statement);
    }
    let text = said(&world.agent(&["check", "--offline"]));
    assert!(!text.contains("source_key_missing"), "{text}");
    let publish = text.lines().find(|line| line.starts_with("create publication")).unwrap();
    world.source.psql(publish);
    let login = world.login();
    world.source.psql(&format!("grant select (ma, ten) on khong_khoa to {login}"));
    world.start();
    assert_eq!(world.identical("khong_khoa").await, 2);
    world.source.psql(
        "update khong_khoa set ten = 'Bảo' where ma = 'b'; delete from khong_khoa where ma = 'a'",
    );
    world.warehouse_says("select string_agg(ma || ten, ' ') from thu.khong_khoa", "bBảo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_goes_on_at_the_last_durable_chunk_after_kill_9() {
    const ROWS: u64 = 6_000;
    let mut world = World::new(Version::V15);
    world.source.psql(&format!(
        "create table nguoi (id bigint primary key, ten text, so int);
         insert into nguoi select n, 'Nguyễn Văn ' || n, 0 from generate_series(1, {ROWS}) n"
    ));
    let settings = "[guard]\nchunk_rows = 200\nrows_per_second_max = 1500\n\
                    [batch]\nbatch_rows_max = 100\n";
    let share =
        Share { table: "nguoi", key: "id", fields: &["id int8", "ten text", "so int4"], rules: "" };
    world.share(settings, &[share]);
    world.start();
    for reached in [1_500, 3_000] {
        wait_until("the read to be in its middle", ARRIVES_WITHIN, async || {
            (world.carried("nguoi", "snapshot") >= reached).then_some(())
        })
        .await;
        world.province.agent_process(AGENCY).kill();
        assert!(world.carried("nguoi", "snapshot") < ROWS, "the read was over too early");
        let slots = world.slots();
        assert!(slots.ends_with("thu_nguoi"), "the slot stays: {slots}");
        // While the agent is away rows change that were read and that were not.
        world.source.psql(&format!(
            "update nguoi set so = so + {reached} where id % 50 = 0;
             delete from nguoi where id % 500 = {};
             update nguoi set id = id + 100000 where id % 700 = {};
             insert into nguoi select 200000 + {reached} + n, 'Mới', 1 from generate_series(1, 20) n",
            reached % 497,
            reached % 699,
        ));
        world.start_agent();
    }
    world.identical("nguoi").await;
    world
        .warehouse_says("select count(*) from phusa.streams where consistent_at is not null", "1")
        .await;
    assert_eq!(world.epoch("nguoi"), 1, "a kill is no reason to begin anew");
    let read = world.carried("nguoi", "snapshot");
    assert!(read < ROWS + 2_000, "{read} rows were read of {ROWS}: too many twice");
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_keeps_its_cap_and_takes_no_lock_but_the_weakest() {
    const CAP: u64 = 1_000;
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id bigint primary key, ten text);
         insert into dan select n, 'Trần Thị ' || n from generate_series(1, 4000) n",
    );
    let settings = format!(
        "[guard]\nrows_per_second_max = {CAP}\nchunk_rows = 250\n[batch]\nbatch_rows_max = 50\n"
    );
    let share = Share { table: "dan", key: "id", fields: &["id int8", "ten text"], rules: "" };
    world.share(&settings, &[share]);
    world.start();
    let client = world.source.connect().await;
    let locks =
        "select l.mode, a.application_name from pg_locks l join pg_stat_activity a using (pid)
                 where a.usename = $1 and l.locktype = 'relation' and l.relation = 'dan'::regclass";
    let names = "select count(*) from pg_stat_activity
                 where usename = $1 and application_name = 'phusa-agent'";
    let login = world.login();
    let (mut begun, mut seen_locked, mut seen_named) = (None, 0, 0);
    let start = Instant::now();
    loop {
        for row in client.query(locks, &[&login]).await.unwrap() {
            assert_eq!(row.get::<_, String>(0), "AccessShareLock");
            assert_eq!(row.get::<_, String>(1), "phusa-agent");
            seen_locked += 1;
        }
        seen_named += client.query_one(names, &[&login]).await.unwrap().get::<_, i64>(0);
        let rows = world.carried("dan", "snapshot");
        if rows > 0 {
            let began = *begun.get_or_insert_with(Instant::now);
            // The bucket holds one second's worth, each worker may be one block ahead, and the first
            // rows took a moment from the source to where they are seen.
            let span = began.elapsed() + Duration::from_millis(1_500);
            let allowed = u128::from(CAP) * span.as_millis() / 1_000 + 400;
            assert!(u128::from(rows) <= allowed, "{rows} rows after {:?}", began.elapsed());
        }
        if rows >= 4_000 {
            break;
        }
        assert!(start.elapsed() < ARRIVES_WITHIN, "{rows} rows only");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.unwrap().elapsed() >= Duration::from_secs(2), "4,000 rows at 1,000 a second");
    assert!(seen_locked > 0 && seen_named > 0);
    world.identical("dan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_waits_for_locks_end_at_their_limits_and_reading_goes_on_afterwards() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table bi_khoa (id int primary key, ten text); insert into bi_khoa values (1, 'Một');
         create table cham (id int primary key);
         insert into cham select n from generate_series(1, 400) n;
         create table thong_thuong (id int primary key); insert into thong_thuong values (1);",
    );
    let settings = "[guard]\nlock_timeout = \"300ms\"\nstatement_timeout = \"1s\"\n";
    let shares = [
        Share { table: "bi_khoa", key: "id", fields: &["id int4", "ten text"], rules: "" },
        Share { table: "cham", key: "id", fields: &["id int4"], rules: "" },
        Share { table: "thong_thuong", key: "id", fields: &["id int4"], rules: "" },
    ];
    world.share(settings, &shares);
    // From now on every row of one table costs 10 ms to look at.
    world.source.psql(
        "alter table cham enable row level security;
         create policy cham on cham using (pg_sleep(0.01) is not null);",
    );
    world.edit("agent.toml", "tls = \"off\"\n", "tls = \"off\"\nslot_wait = \"2s\"\n");
    let locker = world.source.connect().await;
    locker.batch_execute("begin; lock table bi_khoa in access exclusive mode").await.unwrap();
    let waited = said(&world.agent(&["preview", "thu.bi_khoa"]));
    assert!(waited.contains("55P03"), "lock_timeout ends the wait: {waited}");
    world.start();
    // Making a slot locks nothing, and has a limit of its own.
    let waited = world.trouble("bi_khoa", "source_slot_wait").await;
    assert!(waited.contains("it waits for process"), "{waited}");
    locker.batch_execute("rollback").await.unwrap();
    let slow = world.trouble("cham", "source_unreachable").await;
    assert!(slow.contains("57014"), "statement_timeout ends the statement: {slow}");
    world.warehouse_says("select count(*) from thu.thong_thuong", "1").await;

    world.source.psql("alter table cham disable row level security");
    assert_eq!(world.identical("bi_khoa").await, 1);
    assert_eq!(world.identical("cham").await, 400);
}
