//! Rows that a person reads or takes away: at any past time, for an agreed purpose, and never without an
//! entry that shows neither key nor value.

use std::fs;

use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use serde_json::Value;

use crate::house::{DATASET, House, assert_fault, text};

const WHO: [&str; 4] = ["--by", "Phạm Thanh Tra", "--purpose", "tthc"];

/// Runs a read that must succeed; returns what it printed on its output.
fn read(house: &House, arguments: &[&str]) -> String {
    let all = [&["warehouse"][..], arguments, &WHO[..]].concat();
    let output = house.province.hub(&all);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The names that a read of record 500 shows, oldest first.
fn names(house: &House, how: &[&str]) -> Vec<String> {
    let shown = read(house, &[&["show", DATASET, "500", "--json"][..], how].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["columns"][1], "ten");
    let rows = shown["rows"].as_array().unwrap();
    rows.iter().map(|row| row[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_at_any_past_time_is_shown_again_and_every_read_is_an_entry_without_key_or_value() {
    let house = House::at_work().await;
    let mut moments = Vec::new();
    house.database.psql("insert into people values (500, 'Đầu tiên', '0909999500', '')");
    for name in ["Đầu tiên", "Thứ hai", "Thứ ba"] {
        house.database.psql(&format!("update people set name = '{name}' where id = 500"));
        house.settle().await;
        moments.push((Timestamp::now().to_string(), Some(name)));
    }
    house.database.psql("delete from people where id = 500");
    house.settle().await;
    moments.push((Timestamp::now().to_string(), None));
    house.database.psql("insert into people values (500, 'Trở lại', '0909999500', '')");
    house.settle().await;
    moments.push((Timestamp::now().to_string(), Some("Trở lại")));

    for (moment, name) in &moments {
        let found = names(&house, &["--as-of", moment]);
        assert_eq!(found, name.iter().copied().collect::<Vec<_>>(), "as of {moment}");
    }
    assert_eq!(names(&house, &[]), ["Trở lại"]);
    assert_eq!(names(&house, &["--history"]), ["Đầu tiên", "Thứ hai", "Thứ ba", "Trở lại"]);

    let file = house.province.path().join("people.csv");
    println!("{}", read(&house, &["export", DATASET, "--to", file.to_str().unwrap()]));
    let csv = fs::read_to_string(&file).unwrap();
    assert_eq!(csv.lines().count(), 202);
    assert!(csv.starts_with("ma,ten,dien_thoai,_record,_version,"), "{csv}");
    assert!(csv.contains("Trở lại"));
    let again = house.province.hub(
        &[&["warehouse", "export", DATASET, "--to", file.to_str().unwrap()][..], &WHO[..]].concat(),
    );
    assert!(!again.status.success(), "an export wrote over a file");

    let log = house.log_tells("\\\"kind\\\":\\\"export\\\"").await;
    let entries = |kind: &str| log.matches(&format!("\\\"kind\\\":\\\"{kind}\\\"")).count();
    assert_eq!((entries("read"), entries("export")), (7, 1));
    for secret in ["Đầu tiên", "Thứ hai", "Trở lại", "0909999500"] {
        assert!(!log.contains(secret), "{secret} stands in the log");
    }
    assert!(log.contains("Phạm Thanh Tra") && log.contains("tthc"));
    house.nothing_is_lost(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_an_agreed_purpose_or_with_another_key_shows_nothing() {
    let house = House::at_work().await;
    let refused = |arguments: &[&str], code: Code| {
        let all = [&["warehouse", "show", DATASET][..], arguments].concat();
        let output = house.province.hub(&all);
        assert!(!output.status.success(), "{arguments:?}");
        assert_fault(&text(&output), code);
        text(&output)
    };
    let purpose = ["7", "--by", "Ai Đó", "--purpose", "quang_cao"];
    assert!(refused(&purpose, Code::PurposeNotAgreed).contains("tthc"));
    let said = refused(&[&["mười-bảy"][..], &WHO[..]].concat(), Code::KeyUnfit);
    assert!(!said.contains("mười-bảy"), "a key is shown: {said}");
    refused(&[&["7", "8"][..], &WHO[..]].concat(), Code::KeyUnfit);
    let log = text(&house.province.hub(&["log", "export"]));
    assert!(!log.contains("\\\"kind\\\":\\\"read\\\""), "{log}");
}
