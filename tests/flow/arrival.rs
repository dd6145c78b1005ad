//! Rows arrive: the full read, then every change, then nothing is missing and nothing is twice.

use phusa_tests::canary;
use phusa_tests::database::{Server, Version};
use phusa_tests::province::{Dataset, Province, Reader};
use phusa_tests::registry::{Share, Table};
use phusa_tests::workload::{self, Plan};

const AGENCY: &str = "H57.12";

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_changes_arrive_and_what_is_not_mapped_stays() {
    let database = Server::shared(Version::V15).database();
    let client = database.connect().await;
    workload::load(&client, 3_000, 3_000, 1).await.unwrap();
    client
        .execute("update citizens set notes = 'CHIM-HOANG-YEN-42' where id = 7", &[])
        .await
        .unwrap();

    let mut province = Province::new();
    let datasets = Table::ALL.map(|table| Dataset::of_registry(table, AGENCY, Share::Agreed));
    province.add_agent(Reader { agency: AGENCY, database: &database, settings: "" }, &datasets);
    province.start_hub();
    province.start_agent(AGENCY);
    for table in Table::ALL {
        assert_eq!(province.wait_until_identical(AGENCY, table.dataset()).await, 3_000);
    }

    workload::run(&client, &Plan { changes: 4_000, large: 1_000, ..Plan::default() })
        .await
        .unwrap();
    client
        .batch_execute("update citizens set notes = 'CHIM-HOANG-YEN-43' where id = 8")
        .await
        .unwrap();
    for table in Table::ALL {
        province.wait_until_identical(AGENCY, table.dataset()).await;
    }
    assert!(province.agent_process(AGENCY).stop().success());
    assert!(province.hub_process().stop().success());
    assert_eq!(
        canary::files_with(b"CHIM-HOANG-YEN", province.path()),
        Vec::<std::path::PathBuf>::new()
    );
}
