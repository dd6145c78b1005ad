//! What `probe` says of the scripted server: each way with what stands in it, and the statements
//! that clear it.

use phusa_tests::process::wait_until;
use phusa_tests::province::ARRIVES_WITHIN;
use phusa_tests::tds::model::Table;
use phusa_tests::tds::value::Value;

use super::{Agency, PEOPLE, int, people};
use crate::world::{AGENCY, said};

fn shows(agency: &Agency, parts: &[&str]) {
    let text = said(&agency.province.agent(AGENCY, &["probe"]));
    for part in parts {
        assert!(text.contains(part), "{part} is not among:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_of_sql_server_tells_every_way_and_its_statements_are_what_each_needs() {
    let mut agency = Agency::new();
    agency.server.database().create(people(5));
    agency.place("", &[PEOPLE]);
    // A server shows nobody a table that it may not read.
    shows(&agency, &["thu.nguoi ← dbo.nguoi (missing", "the table is not there"]);
    agency
        .server
        .database()
        .administer("grant select ([id], [ten], [so]) on [dbo].[nguoi] to [phusa]");
    shows(
        &agency,
        &[
            "not yet verified against a real server",
            "the database can be written: a primary, or a server alone",
            "change data capture is off in the database",
            "✗ log (change tracking)",
            "change tracking is off for dbo.nguoi",
            "login lacks VIEW CHANGE TRACKING on dbo.nguoi",
            "alter table [dbo].[nguoi] enable change_tracking;",
            "grant view change tracking on [dbo].[nguoi] to [phusa];",
            "✗ log (change data capture)",
            "exec sys.sp_cdc_enable_db; -- as sysadmin",
            "✗ log (row version)",
            "dbo.nguoi has no rowversion column",
            "✓ reconcile (comparing all rows)",
            "khóa · key: id int",
            "deletes are not seen until the next full read",
        ],
    );
    agency.share("", &[PEOPLE]);
    shows(
        &agency,
        &[
            "được chọn · chosen: log, because change tracking is on",
            "✓ log (change tracking)",
            "✗ log (change data capture)",
            "✓ reconcile (comparing all rows)",
        ],
    );
    agency.server.database().read_only = true;
    shows(
        &agency,
        &[
            "a readable secondary, or a database set read-only",
            "change tracking is read on the primary, not on a replica",
            "chosen: reconcile",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_stays_at_the_agency_alone_and_is_counted() {
    let mut agency = Agency::new();
    let mut table = Table::new("nguoi", &["id int", "ten nvarchar(max) null", "so int"], &["id"]);
    table.rows = people(50).rows;
    let large = || Value::text(&"x".repeat(9_000));
    table.rows[10][1] = large();
    agency.server.database().create(table);
    agency.share("[batch]\nrow_bytes_max = \"4KiB\"\n", &[PEOPLE]);
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 49);
    agency.server.database().commit(|database| {
        database.insert("nguoi", vec![int(100), large(), int(1)]);
        database.insert("nguoi", vec![int(101), Value::text("sau"), int(1)]);
    });
    agency.says("select ten from thu.nguoi where id = 101", "sau").await;
    assert_eq!(agency.identical("nguoi").await, 50);
    wait_until("both to be counted", ARRIVES_WITHIN, async || {
        let text = said(&agency.province.agent(AGENCY, &["status"]));
        text.contains("row_bytes_max: 2").then_some(())
    })
    .await;
    assert!(agency.province.agent_process(AGENCY).stop().success());
}
