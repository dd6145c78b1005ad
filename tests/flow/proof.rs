//! The proof that source and warehouse are the same: what differs is found and named at the agency
//! alone, mended from the source, and the hub knows when that was last so (HU-03).

use phusa_tests::database::Version;
use phusa_tests::mysql::MySqlServer;
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Readable};
use serde_json::Value;

use crate::world::{AGENCY, Share, World, said};

fn world() -> World {
    world_with("")
}

fn world_with(settings: &str) -> World {
    let mut world = World::new(Version::V15);
    world.source.psql(
        "create table dan (id int primary key, ten text);
         insert into dan select n, 'Dân ' || n from generate_series(1, 3000) n",
    );
    let fields = &["id int4", "ten text"];
    world.share(settings, &[Share { table: "dan", key: "id", fields, rules: "" }]);
    world
}

fn verified<S: Readable>(world: &World<S>, arguments: &[&str]) -> (bool, Vec<Value>) {
    let output = world.agent(&[&["verify", "--json"], arguments].concat());
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    assert!(!lines.is_empty(), "{}", said(&output));
    (output.status.success(), lines)
}

fn known_at_the_hub<S: Readable>(world: &World<S>) -> Value {
    let output = world.province.hub(&["verify", "--json"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    all[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_named_at_the_agency_and_mended_and_the_hub_keeps_the_proof() {
    let mut world = world();
    world.start();
    assert_eq!(world.identical("dan").await, 3_000);
    assert_eq!(known_at_the_hub(&world)["compared_at"], Value::Null);
    let text = said(&world.province.hub(&["verify"]));
    assert!(text.contains("? thu.dan: chưa đối chiếu (never compared)"), "{text}");

    let (fine, lines) = verified(&world, &[]);
    assert!(fine && lines[0]["identical"] == true && lines[0]["rows"] == 3_000, "{lines:?}");
    let known = known_at_the_hub(&world);
    assert!(known["identical"] == true && known["compared_at"].is_string(), "{known}");
    assert_eq!(known["agent"], "H57.12/may-1");

    // Behind everyone's back: a value, a row less, a row more under a key that only the hub has.
    world.warehouse.psql(
        "set session_replication_role = replica;
         update thu.dan set ten = 'Sai' where id = 5; delete from thu.dan where id = 6;
         update thu.dan set id = 987654 where id = 7",
    );
    let (fine, lines) = verified(&world, &[]);
    assert!(!fine && lines[0]["identical"] == false && lines[0]["differing"] == 4, "{lines:?}");
    let text = said(&world.agent(&["verify", "thu.dan"]));
    for part in [
        "✗ thu.dan: 4 bản ghi khác · records differ",
        "5: khác giá trị · values differ",
        "6: chỉ ở nguồn · only at the source",
        "7: chỉ ở nguồn · only at the source",
        "987654: chỉ ở kho · only in the warehouse",
    ] {
        assert!(text.contains(part), "{part} is not among:\n{text}");
    }
    let known = known_at_the_hub(&world);
    assert!(known["identical"] == false && known["differing"] == 4, "{known}");

    let before = world.warehouse.psql("select max(_transfer) from thu.dan");
    let (fine, lines) = verified(&world, &["--repair"]);
    assert!(fine && lines.len() == 2 && lines[1]["identical"] == true, "{lines:?}");
    assert_eq!(known_at_the_hub(&world)["identical"], true);
    assert_eq!(world.identical("dan").await, 3_000);
    let changed = format!(
        "select string_agg(id::text, ' ' order by id) from thu.dan where _transfer > {before}"
    );
    assert_eq!(world.warehouse.psql(&changed).trim(), "5 6 7", "no other record was touched");
    assert_eq!(world.epoch("dan"), 1, "the dataset was not read anew");
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains("Read 4 records of thu.dan again"), "{log}");
    let log = world.province.hub_process().log();
    assert!(log.contains("differs from its source in 4 records"), "{log}");
    assert!(!log.contains("987654"), "the hub's log names no record");
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_while_it_is_compared_is_not_called_different() {
    let mut world = world();
    world.start();
    assert_eq!(world.identical("dan").await, 3_000);
    let busy = "do $$ begin for round in 1..80 loop
                  update dan set ten = 'Lần ' || round where id % 30 = round % 30; commit;
                  perform pg_sleep(0.05);
                end loop; end $$";
    let (fine, lines) = std::thread::scope(|threads| {
        threads.spawn(|| world.source.psql(busy));
        verified(&world, &[])
    });
    assert!(fine && lines[0]["differing"] == 0, "{lines:?}");
    world.identical("dan").await;
    assert!(world.province.agent_process(AGENCY).stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_due_finds_what_differs_and_has_just_that_read_again() {
    let mut world = world_with("[verify]\nevery = \"2s\"\n");
    world.start();
    assert_eq!(world.identical("dan").await, 3_000);
    let proven = async |expected: &str| {
        let sql = format!("select count(*) > 0 from phusa.proofs where {expected}");
        wait_until(expected, ARRIVES_WITHIN, async || {
            (world.warehouse.psql(&sql).trim() == "t").then_some(())
        })
        .await;
    };
    proven("differing = 0 and source_sum = warehouse_sum").await;
    world.warehouse.psql(
        "set session_replication_role = replica;
         update thu.dan set ten = 'Sai' where id = 5; delete from thu.dan where id = 6;
         update thu.dan set id = 987654 where id = 7",
    );
    proven("differing > 0").await;
    assert_eq!(world.identical("dan").await, 3_000);
    assert_eq!(world.epoch("dan"), 1);
    wait_until("the hub to know", ARRIVES_WITHIN, async || {
        (known_at_the_hub(&world)["identical"] == true).then_some(())
    })
    .await;
    let entries = "select count(*) > 2 from phusa.transfers where kind = 'proof'
                   and entry::json->'compared'->>'differing' is not null";
    assert_eq!(world.warehouse.psql(entries).trim(), "t");
    assert!(world.province.agent_process(AGENCY).stop().success());
    world.province.verify_log();
    world.warehouse.psql("update phusa.proofs set differing = 0, warehouse_rows = source_rows");
    let verified = world.province.hub(&["log", "verify"]);
    let text = said(&verified);
    assert!(
        !verified.status.success() && text.contains("a comparison of thu.dan is not"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_mariadb_are_read_again_by_their_keys() {
    let mut world = World::around(MySqlServer::shared().database());
    world.source.sql(
        "create table ho (xa varchar(9), so int, ten text, primary key (xa, so));
         insert into ho values ('Ea Súp', 1, 'a'), ('Ea Súp', 2, 'b'), ('Ơ Môn', 1, 'c')",
    );
    let fields = &["so int4", "xa text", "ten text"];
    world.share("", &[Share { table: "ho", key: "so xa", fields, rules: "" }]);
    world.start();
    assert_eq!(world.identical("ho").await, 3);
    world.warehouse.psql(
        "set session_replication_role = replica;
         update thu.ho set ten = 'x' where xa = 'Ơ Môn'; update thu.ho set so = 9 where so = 2",
    );
    let (fine, lines) = verified(&world, &["--repair"]);
    assert!(!lines.is_empty() && fine, "{lines:?}");
    assert_eq!((world.identical("ho").await, world.epoch("ho")), (3, 1));
    assert!(world.province.agent_process(AGENCY).stop().success());
}
