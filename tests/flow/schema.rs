//! Tables that change their shape while they are followed.

use phusa_tests::database::Version;

use crate::world::{AGENCY, Share, World, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_column_that_goes_stops_its_dataset_alone_and_a_new_one_is_not_shared() {
    let mut world = World::new(Version::V15);
    let tables = ["bo", "bo_lo", "doi_ten", "doi_kieu", "them"];
    for table in tables {
        world.source.psql(&format!(
            "create table {table} (id int primary key, ten text, rieng text);
             insert into {table} values (1, 'Một', 'r')"
        ));
    }
    // With the whole row as identity the publication carries all columns.
    for table in ["bo", "doi_kieu", "them"] {
        world.source.psql(&format!("alter table {table} replica identity full"));
    }
    let fields = &["id int4", "ten text"];
    let shares = tables.map(|table| Share { table, key: "id", fields, rules: "" });
    world.share("", &shares);
    world.start();
    for table in tables {
        assert_eq!(world.identical(table).await, 1);
    }
    world.source.psql(
        "alter table bo drop column ten; insert into bo values (2, 'r');
         alter table bo_lo drop column ten cascade; insert into bo_lo values (2, 'r');
         alter table doi_ten rename ten to ho_ten; insert into doi_ten values (2, 'Hai', 'r');
         alter table doi_kieu alter ten type varchar(40); insert into doi_kieu values (2, 'Hai', 'r');
         alter table them add column bi_mat text default 'CHIM-CU-GAY'; insert into them values (2, 'Hai', 'r');",
    );
    // A column that a publication names goes only together with the table's place in it.
    for (table, code) in [
        ("bo", "source_schema"),
        ("bo_lo", "source_column_missing"),
        ("doi_ten", "source_schema"),
        ("doi_kieu", "source_schema"),
    ] {
        let what = world.trouble(table, code).await;
        assert!(what.contains("ten"), "{table}: {what}");
        assert!(what.contains(&format!("public.{table}")), "{table}: {what}");
    }
    // The others go on, and what was added is noted and stays.
    world.warehouse_says("select ten from thu.them where id = 2", "Hai").await;
    world.source.psql("update them set ten = 'Ba', bi_mat = 'CHIM-CU-GAY-2' where id = 2");
    world.warehouse_says("select ten from thu.them where id = 2", "Ba").await;
    let log = world.province.agent_process(AGENCY).log();
    assert!(log.contains("public.them publishes"), "{log}");
    assert!(!log.contains("CHIM-CU-GAY"));
    for table in ["bo", "bo_lo", "doi_ten", "doi_kieu"] {
        let held = world.warehouse.psql(&format!("select count(*) from thu.{table}"));
        assert_eq!(held.trim(), "1", "{table} stays as it was");
    }

    // Once the column is back the dataset goes on, and nothing of the time between is missing.
    world.source.psql("alter table doi_ten rename ho_ten to ten");
    world.source.psql("alter table doi_kieu alter ten type text");
    world.source.psql(
        "alter table bo_lo add column ten text default 'Lại có'; delete from bo_lo where id = 1",
    );
    let text = said(&world.agent(&["check"]));
    for line in
        text.lines().filter(|line| line.starts_with("grant") || line.starts_with("alter pub"))
    {
        world.source.psql(line);
    }
    world.province.agent_process(AGENCY).stop();
    world.start_agent();
    for table in ["doi_ten", "doi_kieu", "bo_lo"] {
        world.identical(table).await;
    }
    world.warehouse_says("select string_agg(id || ten, ' ') from thu.bo_lo", "2Lại có").await;
    for table in ["doi_ten", "doi_kieu", "bo_lo"] {
        assert!(world.epoch(table) > 1, "the log of the time between cannot be read: {table}");
    }
    assert_eq!(world.epoch("them"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_heirs_neither_its_log_nor_its_key_covers_is_refused_by_their_names() {
    let mut world = World::new(Version::V15);
    world.source.psql("create table nguoi (id int primary key, ten text)");
    let fields = &["id int4", "ten text"];
    world.share("", &[Share { table: "nguoi", key: "id", fields, rules: "" }]);
    world.start();
    world.source.psql("insert into nguoi values (1, 'Một')");
    assert_eq!(world.identical("nguoi").await, 1);
    world
        .source
        .psql("create table tre_em () inherits (nguoi); insert into tre_em values (1, 'Hai')");
    for capture in ["log", "reconcile"] {
        let from = if capture == "log" { "table = " } else { "capture = \"log\"\ntable = " };
        world.edit("datasets/thu.nguoi.toml", from, &format!("capture = \"{capture}\"\ntable = "));
        let checked = world.agent(&["check", "--offline"]);
        let text = said(&checked);
        assert!(!checked.status.success() && text.contains("source_key_missing"), "{text}");
        assert!(text.contains("has tables that inherit from it (tre_em)"), "{text}");
    }
    world.trouble("nguoi", "source_key_missing").await;
    world.warehouse_says("select count(*) from thu.nguoi", "1").await;
}
