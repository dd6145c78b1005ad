//! Comparing rows of the scripted server: only differences travel, and the server alone says which
//! keys are equal.

use phusa_tests::tds::model::Table;
use phusa_tests::tds::value::Value;

use super::{Agency, PEOPLE, int, people};
use crate::world::{AGENCY, Share};

#[tokio::test(flavor = "multi_thread")]
async fn without_any_log_all_rows_are_compared_and_only_differences_are_sent() {
    let mut agency = Agency::new();
    let mut table = people(700);
    table.granted = true;
    let columns = ["ma nvarchar(40)", "xa char(4)", "so int"];
    let mut named = Table::new("ho", &columns, &["xa", "ma"]);
    let row = |at: i64| {
        let ma = format!("{} {at}", if at % 2 == 0 { "Hà" } else { "hà" });
        vec![Value::text(&ma), Value::text(&format!("X{:<3}", at % 3)), int(at)]
    };
    named.rows = (1..=400).rev().map(row).collect();
    named.granted = true;
    agency.server.database().create(table);
    agency.server.database().create(named);
    let fields = &["ma text", "xa text", "so int4"];
    let ho = Share { table: "ho", key: "xa ma", fields, rules: "capture = \"reconcile\"" };
    let often = "[guard]\nreconcile_interval = \"300ms\"\nchunk_rows = 100\n";
    agency.server.database().read_only = true;
    let said = agency.share(often, &[PEOPLE, ho]);
    for fact in [
        "capture of dbo.nguoi: \"reconcile\", all rows compared, because it has neither change tracking",
        "capture of dbo.ho: \"reconcile\", all rows compared, because the dataset's file asks for it",
    ] {
        assert!(said.contains(fact), "{fact}: {said}");
    }
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 700);
    assert_eq!(agency.identical("ho").await, 400);
    let last = |at: i64| [row(at)[1].clone(), row(at)[0].clone()];
    agency.server.database().commit(|database| {
        database.update("nguoi", &[int(7)], |row| row[1] = Value::text("Trần Thị Bảy"));
        database.delete("nguoi", &[int(8)]);
        database.insert("nguoi", vec![int(1_000), Value::Null, int(1)]);
        database.update("nguoi", &[int(9)], |row| row[0] = int(9_000));
        // The same key to the server, another to the warehouse.
        database.update("ho", &last(12), |row| row[0] = Value::text("HÀ 12"));
        database.delete("ho", &last(13));
    });
    assert_eq!(agency.identical("nguoi").await, 700);
    assert_eq!(agency.identical("ho").await, 399);
    agency.says("select so from thu.ho where ma = 'HÀ 12'", "12").await;
    agency.says("select count(*) from thu.ho where ma = 'Hà 12'", "0").await;
    agency.province.agent_process(AGENCY).kill();
    agency.server.database().commit(|database| {
        (600..650).for_each(|id| database.delete("nguoi", &[int(id)]));
        (2_000..2_900).for_each(|id| database.insert("nguoi", vec![int(id), Value::Null, int(2)]));
    });
    agency.start_agent();
    assert_eq!(agency.identical("nguoi").await, 1_550);
    assert_eq!((agency.epoch("nguoi"), agency.epoch("ho")), (1, 1), "nothing was read anew");
    assert!(agency.province.agent_process(AGENCY).stop().success());
}
