//! Whom the agent reads as: proved to be harmless, with the rights that capture needs and no more.

use phusa_tests::mysql::MySqlServer;
use phusa_tests::province::Readable as _;

use crate::world::{AGENCY, Share, World, said};

const MOT: Share<'static> = Share { table: "mot", key: "id", fields: &["id int4"], rules: "" };

fn world() -> World<phusa_tests::mysql::MySqlDatabase> {
    let world = World::around(MySqlServer::shared().database());
    world
        .source
        .sql("create table mot (id int primary key, kin text); insert into mot values (1, 'x')");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_the_grants_that_are_missing_and_they_suffice() {
    let mut world = world();
    world.share("", &[MOT]);
    let (name, login) = (world.source.name().to_owned(), world.login());
    let grants = world.source.sql(&format!("show grants for '{login}'@'%'"));
    assert!(grants.contains(&format!("GRANT SELECT (`id`) ON `{name}`.`mot`")), "{grants}");
    assert!(grants.contains("REPLICATION SLAVE"), "{grants}");
    assert!(grants.contains("BINLOG MONITOR"), "{grants}");
    world.source.sql(&format!("revoke replication slave on *.* from '{login}'@'%'"));
    let text = said(&world.agent(&["check", "--offline"]));
    assert!(text.contains("source_rights"), "{text}");
    assert!(text.contains(&format!("grant replication slave on *.* to '{login}'@'%';")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_could_change_data_is_refused_unless_the_file_says_why() {
    let mut world = world();
    world.share("", &[MOT]);
    let (name, login) = (world.source.name().to_owned(), world.login());
    for (grant, shown) in [
        (format!("update (id) on {name}.mot"), "UPDATE on"),
        (format!("insert on {name}.*"), "INSERT on"),
        ("super on *.*".to_owned(), "SUPER on *.*"),
    ] {
        world.source.sql(&format!("grant {grant} to '{login}'@'%'"));
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success(), "{grant}");
        assert!(text.contains("source_can_write") && text.contains(shown), "{grant}: {text}");
        world.source.sql(&format!("revoke {grant} from '{login}'@'%'"));
    }
    world.source.sql(&format!("create role sua_{name}; grant delete on {name}.* to sua_{name}; grant sua_{name} to '{login}'@'%'"));
    let text = said(&world.agent(&["check", "--offline"]));
    assert!(text.contains("source_can_write"), "{text}");
    let because = "tls = \"off\"\nlogin_may_write_because = \"hợp đồng 12/2026\"\n";
    world.edit("agent.toml", "tls = \"off\"\n", because);
    let checked = world.agent(&["check", "--offline"]);
    assert!(checked.status.success(), "{}", said(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_engine_are_refused_at_their_line() {
    let mut world = world();
    world.share("", &[MOT]);
    world.edit("agent.toml", "tls = \"off\"\n", "tls = \"off\"\nslot_wait = \"5s\"\n");
    let text = said(&world.agent(&["check", "--offline"]));
    assert!(text.contains("`slot_wait` is for engine \"postgresql\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_collation_takes_for_equal_are_told_apart_by_the_agent() {
    let mut world = World::around(MySqlServer::shared().database());
    world.source.sql(
        "create table ho (id int primary key, tinh varchar(20) collate utf8mb4_general_ci);
         insert into ho values (1, 'Huế'), (2, 'HUẾ'), (3, 'hue'), (4, null), (5, 'Huế '), (6, 'Đà Nẵng')",
    );
    let rules = "where = \"tinh = 'Huế'\"";
    world.share("", &[Share { table: "ho", key: "id", fields: &["id int4", "tinh text"], rules }]);
    world.start();
    assert_eq!(world.identical("ho").await, 1);
    world.source.sql("update ho set tinh = 'Huế' where id = 2; update ho set tinh = 'huế' where id = 1; insert into ho values (7, 'huế'), (8, 'Huế')");
    world.warehouse_says("select string_agg(id::text, ' ' order by id) from thu.ho", "2 8").await;
    assert_eq!(world.identical("ho").await, 2);
    assert!(world.province.agent_folder(AGENCY).exists());
}
