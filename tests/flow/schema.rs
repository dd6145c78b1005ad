//! Tables that change their shape while they are followed.

use phusa_tests::database::Version;

use crate::world::{AGENCY, Share, World};

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
    world.source.psql("alter table bo replica identity full; alter table them replica identity full");
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
    for table in ["bo", "bo_lo", "doi_ten", "doi_kieu"] {
        let what = world.trouble(table, "source_schema").await;
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
    world.province.agent_process(AGENCY).stop();
    world.province.start_agent(AGENCY);
    world.identical("doi_ten").await;
    world.identical("doi_kieu").await;
}
