//! Values whose meaning hangs on more than their bytes: on a definition that changes, on the zone of
//! a session, on an old code page, on what the agency chose for dates that are none.

use std::sync::Arc;

use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::province::Readable as _;

use super::{mysql_or_why_not, shared};
use crate::world::{Share, World};

/// What both ends print of a table, once they hold the same; `sql` is understood by both.
async fn both_print(world: &World<MySqlDatabase>, table: &str, values: &str) -> String {
    world.identical(table).await;
    let sql = |of: &str| format!("select concat_ws('|', {values}) from {of}.{table} order by id");
    let at_source = world.source.sql(&sql(world.source.schema()));
    assert_eq!(world.warehouse.psql(&sql("thu")), at_source);
    at_source
}

async fn is_live(world: &World<MySqlDatabase>) {
    world
        .warehouse_says("select count(*) from phusa.streams where consistent_at is not null", "1")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_enum_and_set_are_told_by_name_whatever_becomes_of_their_definition() {
    let mut world = shared();
    world.source.sql(
        "create table don (id int primary key, loai enum('mới','cũ'), co set('a','b'));
         insert into don values (1, 'mới', 'a'), (2, 'cũ', 'a,b'), (3, null, '')",
    );
    let fields = &["id int4", "loai text", "co text"];
    world.share("", &[Share { table: "don", key: "id", fields, rules: "" }]);
    world.start();
    is_live(&world).await;
    let values = "id, coalesce(loai, '-'), co";
    assert_eq!(both_print(&world, "don", values).await, "1|mới|a\n2|cũ|a,b\n3|-|\n");
    // A member at the end, which the server adds without touching a row.
    world.source.sql(
        "alter table don modify loai enum('mới','cũ','lạ'), modify co set('a','b','ế');
         insert into don values (4, 'lạ', 'b,ế'); update don set loai = 'lạ' where id = 3",
    );
    let expected = "1|mới|a\n2|cũ|a,b\n3|lạ|\n4|lạ|b,ế\n";
    world.warehouse_says("select loai || co from thu.don where id = 4", "lạb,ế").await;
    assert_eq!(both_print(&world, "don", values).await, expected);
    // Another order: the same number is another member now.
    world.source.sql(
        "alter table don modify loai enum('lạ','cũ','khác','mới'), modify co set('ế','a','b');
         insert into don values (5, 'khác', 'ế,a'); update don set loai = 'mới' where id = 2",
    );
    let expected = "1|mới|a\n2|mới|a,b\n3|lạ|\n4|lạ|ế,b\n5|khác|ế,a\n";
    world.warehouse_says("select loai || co from thu.don where id = 5", "khácế,a").await;
    assert_eq!(both_print(&world, "don", values).await, expected);
    world.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_is_one_moment_whatever_zone_server_and_session_are_in() {
    let settings = "default_time_zone=+07:00\n";
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, settings));
    let mut world = World::around(server.database());
    let table = "create table luc (id int primary key, t timestamp(3) null, d datetime(3))";
    world.source.sql(&format!(
        "{table}; insert into luc values (1, '2026-11-21 08:30:00.5', '2026-11-21 08:30:00.5')"
    ));
    let fields = &["id int4", "t timestamptz", "d timestamp"];
    world.share("", &[Share { table: "luc", key: "id", fields, rules: "" }]);
    world.start();
    is_live(&world).await;
    world.source.sql(
        "set time_zone = '-05:00'; insert into luc values (2, '2026-11-20 20:30:00.5', '2026-11-20 20:30:00.5');
         set time_zone = '+00:00'; insert into luc values (3, '2026-11-21 01:30:00.5', '2026-11-21 01:30:00.5')",
    );
    let moments = "set timezone = 'UTC'; select string_agg(distinct t::text, ' ') from thu.luc";
    world.warehouse_says("select count(*) from thu.luc", "3").await;
    world.warehouse_says(moments, "2026-11-21 01:30:00.5+00").await;
    let written = "select string_agg(to_char(d, 'DD HH24:MI'), ' ' order by id) from thu.luc";
    world.warehouse_says(written, "21 08:30 20 20:30 21 01:30").await;
    world.identical("luc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_in_an_old_code_page_becomes_unicode_read_or_from_the_log() {
    let mut world = shared();
    // What programs of that time wrote: code page 1258 in columns that say latin1, or in bytes.
    let rows = |first: i32| {
        format!(
            "insert into cu values ({first}, _latin1 x'4E677579EADE6E', x'4E677579EADE6E', 'Nguyễn'),
                                   ({first} + 1, _latin1 x'D0E0', x'D0F5', '')"
        )
    };
    world.source.sql(&format!(
        "create table cu (id int primary key, l varchar(20) character set latin1,
                          b varbinary(20), u varchar(20) character set utf8mb3); {}",
        rows(1)
    ));
    let fields = &["id int4", "l text", "u text"];
    world.share("", &[Share { table: "cu", key: "id", fields, rules: "" }]);
    world.edit("datasets/thu.cu.toml", "to = \"l\"\n", "to = \"l\"\nencoding = \"cp1258\"\n");
    world.start();
    is_live(&world).await;
    world.source.sql(&rows(11));
    world.warehouse_says("select count(*) from thu.cu", "4").await;
    world.warehouse_says("select count(*) from thu.cu where l = u and u = 'Nguyễn'", "2").await;
    world.warehouse_says("select string_agg(l, '|') from thu.cu where u = ''", "Đà|Đà").await;
    world.identical("cu").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_is_none_becomes_null_where_the_agency_chose_that() {
    let mut world = shared();
    world.source.sql(
        "set sql_mode = '';
         create table khai (id int primary key, sinh date, mat datetime);
         insert into khai values (1, '1990-05-01', '2020-01-01'), (2, '0000-00-00', null),
                                 (3, '1990-00-00', null), (4, null, '0000-00-00')",
    );
    let fields = &["id int4", "sinh date", "mat timestamp"];
    world.share("", &[Share { table: "khai", key: "id", fields, rules: "" }]);
    for field in ["sinh", "mat"] {
        let to = format!("to = \"{field}\"\n");
        world.edit("datasets/thu.khai.toml", &to, &format!("{to}on_bad = \"null_field\"\n"));
    }
    world.start();
    is_live(&world).await;
    world
        .source
        .sql("set sql_mode = ''; insert into khai values (5, '2000-02-00', '2001-00-01 01:02:03')");
    let shown = "select string_agg(concat_ws('|', id, coalesce(sinh::text, '-'), coalesce(mat::text, '-')), ' ' order by id) from thu.khai";
    world.warehouse_says(shown, "1|1990-05-01|2020-01-01 00:00:00 2|-|- 3|-|- 4|-|- 5|-|-").await;
    world.identical("khai").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_part_of_json_ends_with_the_whole_of_it() {
    let Some(server) = mysql_or_why_not("") else { return };
    let mut world = World::around(server.database());
    world.source.sql(
        "create table ho_so (id int primary key, js json);
         insert into ho_so values (1, json_object('a', 1, 'b', repeat('x', 300))), (2, '[1, 2, 3]'), (3, null)",
    );
    let fields = &["id int4", "js text"];
    world.share("", &[Share { table: "ho_so", key: "id", fields, rules: "" }]);
    world.start();
    is_live(&world).await;
    world.source.sql("update ho_so set js = json_set(js, '$.c', 'ế') where id = 1");
    world.warehouse_says("select js::json->>'c' from thu.ho_so where id = 1", "ế").await;
    // A session may write parts of values into the log, whatever the server says.
    world.source.sql(
        "set session binlog_row_value_options = 'PARTIAL_JSON';
         update ho_so set js = json_set(js, '$.a', 2) where id = 1;
         update ho_so set js = json_remove(js, '$[1]') where id = 2;
         insert into ho_so values (4, '{}')",
    );
    world.warehouse_says("select js::json->>'a' from thu.ho_so where id = 1", "2").await;
    assert!(both_print(&world, "ho_so", "id, js").await.contains("2|[1, 3]"));
    world.province.verify_log();
}
