//! The log: every kind of change arrives, whole transactions only, and an idle agent holds nothing
//! back.

use phusa_tests::database::Version;
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World, said};

const BIG: &str = "(select string_agg(md5(n::text), '') from generate_series(1, 3000) n)";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_arrives_under_every_replica_identity() {
    let mut world = World::new(Version::V15);
    world.source.psql(&format!(
        "create table mac_dinh (id bigint primary key, ten text, to_lon text);
         create table day_du (like mac_dinh including all);
         alter table day_du replica identity full;
         create table chi_muc (ma text not null, ten text, to_lon text);
         create unique index chi_muc_ma on chi_muc (ma);
         alter table chi_muc replica identity using index chi_muc_ma;
         insert into mac_dinh select n, 'Lê ' || n, {BIG} from generate_series(1, 40) n;
         insert into day_du select * from mac_dinh;
         insert into chi_muc select id::text, ten, to_lon from mac_dinh;"
    ));
    let fields = &["id int8", "ten text", "to_lon text"];
    let shares = [
        Share { table: "mac_dinh", key: "id", fields, rules: "" },
        Share { table: "day_du", key: "id", fields, rules: "" },
        Share {
            table: "chi_muc",
            key: "ma",
            fields: &["ma text", "ten text", "to_lon text"],
            rules: "",
        },
    ];
    world.share("", &shares);
    world.start();
    for share in &shares {
        assert_eq!(world.identical(share.table).await, 40);
    }
    for (table, key, cast) in
        [("mac_dinh", "id", ""), ("day_du", "id", ""), ("chi_muc", "ma", "::text")]
    {
        world.source.psql(&every_change(table, key, cast));
    }
    for share in &shares {
        assert_eq!(world.identical(share.table).await, 41, "{}", share.table);
        let table = share.table;
        let key = share.key;
        let ask = format!(
            "select string_agg({key} || ' ' || coalesce(ten, '∅') || ' ' || coalesce(md5(to_lon), '∅'), '|' order by {key}::int8)
             from {{schema}}.{table}"
        );
        let at_source = world.source.psql(&ask.replace("{schema}", "public"));
        assert_eq!(at_source, world.warehouse.psql(&ask.replace("{schema}", "thu")), "{table}");
    }
    assert!(world.carried("mac_dinh", "rekey") == 2, "a change of key is one");

    world.source.psql(
        "begin; truncate mac_dinh; insert into mac_dinh values (7, 'Sau khi làm rỗng', null); commit;
         truncate day_du, chi_muc",
    );
    world
        .warehouse_says("select string_agg(id || ten, ' ') from thu.mac_dinh", "7Sau khi làm rỗng")
        .await;
    world
        .warehouse_says(
            "select (select count(*) from thu.day_du) + (select count(*) from thu.chi_muc)",
            "0",
        )
        .await;
    for share in &shares {
        world.identical(share.table).await;
        assert_eq!(world.epoch(share.table), 1);
    }
    world.province.verify_log();
}

/// One of every change, in one transaction with savepoints; `cast` makes a number a key.
fn every_change(table: &str, key: &str, cast: &str) -> String {
    let k = |number: u32| format!("({number}){cast}");
    format!(
        "begin;
         insert into {table} values ({k100}, 'Thêm', {BIG}), ({k101}, null, null);
         update {table} set ten = 'Đổi tên, giữ giá trị lớn' where {key} = {k1};
         update {table} set to_lon = 'nhỏ đi' where {key} = {k2};
         update {table} set {key} = {k203} where {key} = {k3};
         update {table} set {key} = {k204}, ten = 'Đổi khóa và tên' where {key} = {k4};
         delete from {table} where {key} = {k5};
         savepoint a;
         insert into {table} values ({k102}, 'Bị hủy', null);
         update {table} set ten = 'Bị hủy' where {key} = {k6};
         delete from {table} where {key} = {k7};
         rollback to a;
         savepoint b;
         update {table} set ten = 'Được giữ' where {key} = {k8};
         release b;
         delete from {table} where {key} = {k9};
         insert into {table} values ({k9}, 'Xóa rồi thêm lại', null);
         commit;
         begin; delete from {table}; rollback;",
        k1 = k(1),
        k2 = k(2),
        k3 = k(3),
        k4 = k(4),
        k5 = k(5),
        k6 = k(6),
        k7 = k(7),
        k8 = k(8),
        k9 = k(9),
        k100 = k(100),
        k101 = k(101),
        k102 = k(102),
        k203 = k(203),
        k204 = k(204),
    )
}

/// A source that was given for this run may be too old for what the next one says.
fn a_partitioned_table_before_13_is_refused(world: &World) {
    let text = said(&world.agent(&["check", "--offline"]));
    assert!(text.contains("source_version") && text.contains("is partitioned"), "{text}");
    assert!(!text.contains("create publication"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_partitioned_table_arrive_as_rows_of_the_table() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table ho_so (nam int, id int, ten text, primary key (nam, id)) partition by range (nam);
         create table ho_so_2025 partition of ho_so for values from (2025) to (2026);
         create table ho_so_2026 partition of ho_so for values from (2026) to (2027);
         insert into ho_so select 2025 + n % 2, n, 'Hồ sơ ' || n from generate_series(1, 100) n;",
    );
    let fields = &["nam int4", "id int4", "ten text"];
    world.share("", &[Share { table: "ho_so", key: "nam id", fields, rules: "" }]);
    if world.source_version() < 130_000 {
        return a_partitioned_table_before_13_is_refused(&world);
    }
    world.start();
    assert_eq!(world.identical("ho_so").await, 100);
    world.source.psql(
        "create table ho_so_2027 partition of ho_so for values from (2027) to (2028);
         insert into ho_so values (2027, 1, 'Phân vùng mới');
         update ho_so set nam = 2026 where nam = 2025 and id = 2;
         update ho_so set nam = 2026 where id = 4;
         update ho_so set ten = 'Đổi' where id = 5;
         delete from ho_so where id = 6;",
    );
    world.warehouse_says("select nam from thu.ho_so where id = 4", "2026").await;
    assert_eq!(world.identical("ho_so").await, 100);
    // One partition by itself is beyond the log: the table is read anew, and its rows go.
    let text = said(&world.agent(&["check"]));
    assert!(text.contains("one partition is in no log; the table is then read anew"), "{text}");
    assert_eq!(world.epoch("ho_so"), 1);
    world.source.psql("alter table ho_so detach partition ho_so_2025");
    world.warehouse_says("select count(*) from thu.ho_so where nam = 2025", "0").await;
    world.identical("ho_so").await;
    assert_eq!(world.epoch("ho_so"), 2);
    world.source.psql("truncate ho_so; insert into ho_so values (2027, 2, 'Cuối')");
    world.warehouse_says("select string_agg(ten, ' ') from thu.ho_so", "Cuối").await;
    world.identical("ho_so").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_emptied_more_often_than_a_batch_may_say_is_followed_on() {
    let mut world = World::new(Version::V15);
    world.source.psql("create table dem (id int primary key, ten text)");
    world.share(
        "",
        &[Share { table: "dem", key: "id", fields: &["id int4", "ten text"], rules: "" }],
    );
    world.start();
    world.source.psql("insert into dem values (0, 'Đầu')");
    assert_eq!(world.identical("dem").await, 1);
    world.source.psql(
        "do $$ begin
           for i in 1..2100 loop truncate dem; insert into dem values (i, 'Lần ' || i); end loop;
         end $$",
    );
    world.warehouse_says("select string_agg(ten, ' ') from thu.dem", "Lần 2100").await;
    assert_eq!(world.carried("dem", "truncate"), 2_100);
    assert_eq!(world.epoch("dem"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_a_batch_is_never_seen_in_part() {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table tai_khoan (id int primary key, so int);
         insert into tai_khoan select n, 0 from generate_series(1, 4000) n",
    );
    let share = Share { table: "tai_khoan", key: "id", fields: &["id int4", "so int4"], rules: "" };
    world.share("[batch]\nbatch_rows_max = 150\nbatch_linger = \"5ms\"\n", &[share]);
    world.start();
    assert_eq!(world.identical("tai_khoan").await, 4_000);
    let client = world.warehouse.connect().await;
    for round in 1..=3_i64 {
        world.source.psql(&format!(
            "begin; update tai_khoan set so = {round};
             insert into tai_khoan select {round} * 10000 + n, {round} from generate_series(1, 1000) n;
             commit"
        ));
        let (before, after) = (3_000 + round * 1_000, 4_000 + round * 1_000);
        wait_until("the transaction to arrive", ARRIVES_WITHIN, async || {
            let ask = "select count(*), count(*) filter (where so = $1::int8) from thu.tai_khoan";
            let row = client.query_one(ask, &[&round]).await.unwrap();
            let found: (i64, i64) = (row.get(0), row.get(1));
            let whole = found == (before, 0) || found == (after, after);
            assert!(whole, "a part of transaction {round} is visible: {found:?}");
            (found == (after, after)).then_some(())
        })
        .await;
    }
    // The same with the agent killed while the pieces travel.
    world.source.psql("update tai_khoan set so = 99");
    world.province.agent_process(AGENCY).kill();
    world.start_agent();
    let ask = "select count(distinct so), max(so) from thu.tai_khoan";
    wait_until("the last transaction", ARRIVES_WITHIN, async || {
        let row = client.query_one(ask, &[]).await.unwrap();
        let (kinds, newest): (i64, i32) = (row.get(0), row.get(1));
        assert_eq!(kinds, 1, "a part of the last transaction is visible");
        (newest == 99).then_some(())
    })
    .await;
    world.identical("tai_khoan").await;
    assert_eq!(world.epoch("tai_khoan"), 1);
    world.province.verify_log();
}
