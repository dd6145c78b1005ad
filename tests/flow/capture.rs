//! Each way of following a table, put through everything that can happen to it: what is written at
//! the agency stands in the warehouse, and nothing was read anew to get it there.

use std::sync::Arc;

use phusa_tests::database::{Server, Version};
use phusa_tests::process::output;

use crate::world::{AGENCY, Share, World, said};

const TABLE: &str = "
create table dan (id int primary key, ten text, luong int, kin text default 'KIN');
insert into dan select n, 'Dân ' || n, n * 10, 'KIN ' || n from generate_series(1, 2000) n;
";

const FIELDS: &[&str] = &["id int4", "ten text", "luong int4"];

/// What can happen to a table, by name.
const HAPPENINGS: [(&str, &str); 5] = [
    ("insert", "insert into dan select n, 'Mới ' || n, n from generate_series(2001, 2100) n"),
    ("update", "update dan set ten = ten || '!' where id % 7 = 0"),
    ("delete", "delete from dan where id % 11 = 0"),
    (
        "key change",
        "update dan set id = id + 50000 where id between 300 and 360; \
                    update dan set id = id - 100000 where id between 900 and 910",
    ),
    (
        "large transaction",
        "begin; \
        insert into dan select n, repeat('Đông ', 20), n from generate_series(100001, 130000) n; \
        update dan set luong = luong + 1 where id < 1500; \
        delete from dan where id between 100001 and 101000; commit",
    ),
];

/// A world whose table is followed in this way; the login has no more than that needs.
fn world(server: &Arc<Server>, capture: &str, settings: &str) -> World {
    let mut world = World::around(server.database());
    world.source.psql(TABLE);
    let rules = format!("capture = \"{capture}\"");
    world.share(settings, &[Share { table: "dan", key: "id", fields: FIELDS, rules: &rules }]);
    world.source.psql(&format!("alter role {} noreplication", world.login()));
    world
}

/// Everything that can happen, one after the other, and after each both ends are the same.
async fn nothing_is_missed(world: &mut World) {
    world.start();
    assert_eq!(world.identical("dan").await, 2_000);
    for (name, sql) in HAPPENINGS {
        world.source.psql(sql);
        let rows = world.identical("dan").await;
        assert!(rows > 0, "{name}");
    }
    // A crash of the agent while it is busy, one of the hub, and a restart of the source.
    let busy =
        "insert into dan select n, repeat('Vội ', 30), n from generate_series(200001, 220000) n";
    world.source.psql(busy);
    world.province.agent_process(AGENCY).kill();
    world.source.psql(
        "delete from dan where id between 200001 and 205000;
         update dan set ten = 'Sau khi đổ' where id between 205001 and 206000",
    );
    world.start_agent();
    world.identical("dan").await;
    world.source.psql("update dan set luong = -1 where id % 3 = 0");
    world.source.server().restart();
    world.source.psql("delete from dan where id % 13 = 0; insert into dan values (0, 'Không', 0)");
    world.identical("dan").await;
    assert_eq!(world.epoch("dan"), 1, "nothing was read anew");
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
}

/// Runs SQL as the agent's login; `Err` with what the server said.
fn as_login(world: &World, sql: &str) -> Result<String, String> {
    let (server, name) = (world.source.server(), world.source.name());
    let url = format!("postgres://{}:bi-mat@127.0.0.1:{}/{name}", world.login(), server.port());
    let psql = server.version().programs().join("psql");
    let done = output(std::process::Command::new(psql).args(["-XqAt", "-d", &url, "-c", sql]));
    if done.status.success() { Ok(said(&done)) } else { Err(said(&done)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_functions_a_login_without_any_right_on_the_table_misses_nothing() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let mut world = world(&server, "functions", "");
    let checked = world.agent(&["check", "--offline"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let role = "select rolsuper or rolreplication or has_table_privilege(oid, 'dan', 'select')
                or has_any_column_privilege(oid, 'dan', 'select')
                from pg_roles where rolname = '{}'";
    assert_eq!(world.source.psql(&role.replace("{}", &world.login())).trim(), "f");
    nothing_is_missed(&mut world).await;

    let slot = world.slots();
    for sql in [
        "select kin from dan".to_owned(),
        "select id from dan".to_owned(),
        format!("select * from pg_logical_slot_peek_binary_changes('{slot}', null, null)"),
        format!("select * from pg_create_physical_replication_slot('khac')"),
    ] {
        let refused = as_login(&world, &sql);
        let words = ["permission denied", "must be superuser or replication role"];
        let is_refused = |said: &String| words.iter().any(|word| said.contains(word));
        assert!(refused.as_ref().is_err_and(is_refused), "{sql}: {refused:?}");
    }
    world.source.psql("update dan set kin = 'CHIM-HOANG-YEN-KIN', ten = 'CHIM-HOANG-YEN-MO'");
    for function in ["rows(null, null, null, null) r", "peek(1000000) r"] {
        let sql =
            format!("select encode(convert_to(r::text, 'utf8'), 'escape') from {slot}.{function}");
        let seen = as_login(&world, &sql).unwrap();
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let shows = |text: &str| seen.contains(text) || seen.contains(&hex(text));
        assert!(shows("CHIM-HOANG-YEN-MO"), "{function} shows what is mapped");
        assert!(!shows("CHIM-HOANG-YEN-KIN"), "{function} shows what is not");
    }
}
