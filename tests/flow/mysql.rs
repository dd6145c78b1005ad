//! MySQL and MariaDB: the same ways from table to warehouse, from the row binlog.

mod compare;
mod log;
mod login;
mod meaning;
mod types;
mod watermark;

use std::sync::Arc;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer, mysql_programs, why_no_mysql};
use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;

use crate::world::{AGENCY, Share, World};

const SMALL_CHUNKS: &str = "[guard]\nchunk_rows = 150\nsnapshot_workers = 3\n\
                            [batch]\nbatch_rows_max = 90\n";

fn shared() -> World<MySqlDatabase> {
    World::around(MySqlServer::shared().database())
}

/// A MySQL of the test's own; where its programs could not be fetched, says so.
///
/// Only a failed fetch is a reason: nothing else leaves the file with its words behind.
fn mysql_or_why_not(settings: &str) -> Option<Arc<MySqlServer>> {
    if mysql_programs().is_none() {
        let why = why_no_mysql().expect("MySQL, or why not: run packaging/setup --tests");
        eprintln!("MySQL was not fetched, and this was not tested with it: {why}");
        return None;
    }
    Some(Arc::new(MySqlServer::start(Flavour::MySql, settings)))
}

/// Rows of `n` from 1 to so many, at most 10,000.
fn numbers(rows: u32) -> String {
    let digits: Vec<String> = (0..10).map(|digit| format!("select {digit} d")).collect();
    let digits = format!("({})", digits.join(" union all "));
    format!(
        "(select 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d n
          from {digits} a, {digits} b, {digits} c, {digits} e having n <= {rows}) s"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_composite_and_text_keys_are_read_whole_from_mariadb_and_followed() {
    let mut world = shared();
    world.source.sql(&format!(
        r#"create table thua_dat (xa varchar(40) collate utf8mb4_vietnamese_ci, so int, to_ban_do text,
             primary key (xa, so));
           insert into thua_dat select xa, n, concat(xa, '/', n) from {twelfths},
             (select 'Ea Súp' xa union all select 'An Bình' union all select 'Ân Bình'
              union all select 'Đăk Mil' union all select 'Ô Môn' union all select 'Ơ Môn' union all select '') x;
           create table so_ho (ma varchar(60) primary key, ten text) collate utf8mb4_bin;
           insert into so_ho select concat(repeat(x, 1 + n % 3), n), x from {sixty},
             (select 'O''Hara' x union all select 'a\\b' union all select '"' union all select '%'
              union all select ' ' union all select '\t' union all select 'ế' union all select 'Ế' union all select '🐃'
              union all select ',(') x;
           create table nhat_ky (luc datetime(6), id decimal(30, 5), b varbinary(9), e enum('nam','nữ'),
             primary key (luc, id, b, e));
           insert into nhat_ky select '2026-01-01' + interval n div 7 microsecond, -n / 3, unhex(hex(n)), 1 + n % 2
             from {hundreds};
           create table trong (id bigint unsigned primary key, ten text);"#,
        twelfths = numbers(120),
        sixty = numbers(60),
        hundreds = numbers(700),
    ));
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
            key: "luc id b e",
            fields: &["luc timestamp", "id numeric", "b bytea", "e text"],
            rules: "",
        },
        Share { table: "trong", key: "id", fields: &["id numeric", "ten text"], rules: "" },
    ];
    world.share(SMALL_CHUNKS, &shares);
    world.start();
    let expected = [("thua_dat", 840), ("so_ho", 600), ("nhat_ky", 700), ("trong", 0)];
    for (table, rows) in expected {
        assert_eq!(world.identical(table).await, rows);
        assert_eq!(world.carried(table, "snapshot"), rows, "{table} was read more than once");
    }
    world
        .warehouse_says("select count(*) from phusa.streams where consistent_at is not null", "4")
        .await;
    world.source.sql(
        "insert into trong values (18446744073709551615, 'Nhiều nhất');
         update thua_dat set to_ban_do = 'mới' where so = 7;
         update so_ho set ma = 'đổi khóa' where ma = '\"\"1';
         delete from nhat_ky where id > -10;",
    );
    world.warehouse_says("select id || ten from thu.trong", "18446744073709551615Nhiều nhất").await;
    for (table, _) in expected {
        world.identical(table).await;
    }
    assert_eq!(world.carried("so_ho", "rekey"), 1);
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_of_mariadb_goes_on_at_the_last_durable_chunk_after_kill_9() {
    const ROWS: u64 = 6_000;
    let mut world = shared();
    world.source.sql(&format!(
        "create table nguoi (id bigint primary key, ten text, so int);
         insert into nguoi select n, concat('Nguyễn Văn ', n), 0 from {}",
        numbers(6_000)
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
        // While the agent is away rows change that were read and that were not.
        world.source.sql(&format!(
            "update nguoi set so = so + {reached} where id % 50 = 0;
             delete from nguoi where id % 500 = {};
             update nguoi set id = id + 100000 where id % 700 = {};
             insert into nguoi select 200000 + {reached} + n, 'Mới', 1 from {}",
            reached % 497,
            reached % 699,
            numbers(20),
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
