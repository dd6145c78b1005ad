//! What is not mapped never leaves the source, and what is masked never leaves the agent in clear.

mod types;

use std::sync::Arc;

use phusa_tests::canary::{contains, files_with};
use phusa_tests::database::{Server, Version};
use phusa_tests::province::{Dataset, Province, Reader, private};
use phusa_tests::relay::Relay;

use crate::house::{AGENCY, CONTRACT, DATASET, MAPPING, edit, text};

/// Stands in a column that is not mapped.
const UNMAPPED: &[u8] = b"CHIM-HOANG-YEN-KIN";

/// Stands in a column of which only the last three characters are shared.
const MASKED: &[u8] = b"CHIM-HOANG-YEN-CHE";

/// Stands in a mapped column of a row that is rejected.
const REJECTED: &[u8] = b"CHIM-HOANG-YEN-LOAI";

/// Stands in a mapped column, so that the search is known to find something.
const SHARED: &[u8] = b"CHIM-HOANG-YEN-MO";

/// Masked columns of several types, each with a value that can be told from all others: the text
/// of it and, where the source sends bytes, those.
const TYPED: [(&[u8], &str); 8] = [
    (b"1987-06-05 04:32:10.987654", "timestamp -> year"),
    (&[0xff, 0xfe, 0x97, 0x18, 0x68, 0x45, 0xb8, 0x86], "bytes of the timestamp"),
    (b"7234567890123456789", "int8 -> band"),
    (&[0x64, 0x66, 0x59, 0x2a, 0x6a, 0x41, 0x81, 0x15], "bytes of the int8"),
    (b"CHIM-TEN", "text -> initials"),
    (b"CHIM-SO-NHA", "text -> commune"),
    (b"CHIM-MA", "text -> hmac"),
    (b"0905654321", "text -> keep_first"),
];

const TYPED_CONTRACT: &str = r#"
[[field]]
name = "nam"
type = "int4"
class = "B"
name_vi = "Năm"
[[field]]
name = "luong"
type = "int8"
class = "B"
name_vi = "Bậc"
[[field]]
name = "viet_tat"
type = "text"
class = "B"
name_vi = "Chữ đầu"
[[field]]
name = "xa"
type = "text"
class = "B"
name_vi = "Xã"
[[field]]
name = "ma_gia"
type = "text"
class = "N"
name_vi = "Mã giả"
[[field]]
name = "dau_so"
type = "text"
class = "B"
name_vi = "Đầu số"
"#;

const TYPED_MAPPING: &str = r#"
[[field]]
from = "born"
to = "nam"
class = "B"
mask = "year"
[[field]]
from = "salary"
to = "luong"
class = "B"
mask = { band = 1000 }
[[field]]
from = "alias"
to = "viet_tat"
class = "B"
check = [{ rule = "length", max = "5", on_bad = "warn" }]
mask = "initials"
[[field]]
from = "home"
to = "xa"
class = "B"
mask = "commune"
[[field]]
from = "code"
to = "ma_gia"
class = "N"
normalise = ["trim"]
mask = { hmac = "../hmac.key" }
[[field]]
from = "mobile"
to = "dau_so"
class = "B"
check = [{ rule = "phone" }]
mask = { keep_first = 4 }
"#;

const TABLE: &str = "
create table people (id bigint primary key, name text, phone text, secret text,
  born timestamp default '1987-06-05 04:32:10.987654', salary int8 default 7234567890123456789,
  alias text default 'CHIM-TEN Van', home text default 'CHIM-SO-NHA 7, Xã Lìa, Quảng Trị',
  code text default ' CHIM-MA ', mobile text default '0905654321');
insert into people select i, 'CHIM-HOANG-YEN-MO ' || i, 'CHIM-HOANG-YEN-CHE' || i,
    'CHIM-HOANG-YEN-KIN ' || i from generate_series(1, 300) i;
insert into people values (900, repeat('CHIM-HOANG-YEN-LOAI', 500), 'x', 'CHIM-HOANG-YEN-KIN');
";

const CHANGES: &str = "
update people set secret = 'CHIM-HOANG-YEN-KIN!', phone = 'CHIM-HOANG-YEN-CHE!' where id < 50;
update people set name = name || '!' where id < 20;
insert into people values (1000, 'CHIM-HOANG-YEN-MO', 'CHIM-HOANG-YEN-CHE', 'CHIM-HOANG-YEN-KIN');
insert into people values (1001, repeat('CHIM-HOANG-YEN-LOAI', 500), '', 'CHIM-HOANG-YEN-KIN');
delete from people where id > 290 and id < 300;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_sings_nowhere_outside_its_cage() {
    it_sings_nowhere_when_read_by("log").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_sings_nowhere_when_it_is_read_through_functions() {
    it_sings_nowhere_when_read_by("functions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_sings_nowhere_when_rows_are_remembered_to_be_compared() {
    it_sings_nowhere_when_read_by("watermark").await;
}

async fn it_sings_nowhere_when_read_by(capture: &str) {
    let database = Arc::new(Server::start(Version::V15, "")).database();
    database.psql(TABLE);
    let mut province = Province::new();
    let dataset = Dataset {
        id: DATASET.to_owned(),
        contract: format!("{CONTRACT}{TYPED_CONTRACT}"),
        mapping: format!("capture = \"{capture}\"\n{MAPPING}{TYPED_MAPPING}"),
    };
    let key = province.path().join(format!("certs/agents/{AGENCY}__may-1/hmac.key"));
    std::fs::create_dir_all(key.parent().unwrap()).unwrap();
    std::fs::write(&key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    private(&key);
    let settings = "[batch]\nrow_bytes_max = \"4KiB\"\n[guard]\nwatermark_interval = \"200ms\"\n\
                    reconcile_interval = \"2s\"\n";
    province.add_agent(Reader { agency: AGENCY, database: &database, settings }, &[dataset]);
    if capture != "log" {
        database.psql(&format!("alter role phusa_{} noreplication", database.name()));
    }
    let folder = province.agent_folder(AGENCY).to_owned();
    let source = Relay::plain(database.server().port()).await;
    let hub = Relay::inside_tls(province.hub_port(), &province.hub_folder(), &folder).await;
    let config = province.agent_config(AGENCY);
    let port = |port| format!("port = {port}");
    edit(&config, &port(database.server().port()), &port(source.port()));
    let url = |port| format!("127.0.0.1:{port}");
    edit(&config, &url(province.hub_port()), &url(hub.port()));

    province.start_hub();
    let logged = [("PHUSA_LOG", "debug")];
    province.start_agent_with(AGENCY, &logged);
    assert_eq!(province.wait_until_identical(AGENCY, DATASET).await, 300);
    database.psql(CHANGES);
    assert_eq!(province.wait_until_identical(AGENCY, DATASET).await, 292);
    let status = everything_printed(&mut province);
    // Both write out what they still hold.
    assert!(province.agent_process(AGENCY).stop().success());
    assert!(province.hub_process().stop().success());

    let from_source = source.tapes().concat();
    assert!(contains(&from_source, SHARED) && contains(&from_source, MASKED));
    assert!(!contains(&from_source, UNMAPPED), "an unmapped column was read");
    let to_hub = hub.tapes().concat();
    let bodies = hub.bodies().concat();
    assert!(contains(&bodies, SHARED), "the relay saw no batch");
    for (canary, of) in TYPED {
        // Full reads come as bytes, so not every text is among what was read.
        let read =
            contains(&from_source, canary) || of.starts_with("timestamp") || of.starts_with("int8");
        assert!(read, "{of} was not read at all");
        assert!(!contains(&bodies, canary) && !contains(&to_hub, canary), "{of} went to the hub");
        assert!(!contains(status.as_bytes(), canary), "{of} is in what is printed");
        let none: [std::path::PathBuf; 0] = [];
        assert_eq!(files_with(canary, province.path()), none, "{of}");
    }
    for canary in [UNMAPPED, MASKED, REJECTED] {
        let name = String::from_utf8_lossy(canary);
        assert!(!contains(&bodies, canary) && !contains(&to_hub, canary), "{name} went to the hub");
        assert!(!contains(status.as_bytes(), canary), "{name} is in what is printed");
        let none: [std::path::PathBuf; 0] = [];
        assert_eq!(files_with(canary, province.path()), none, "{name}");
    }
    assert!(!files_with(SHARED, &province.hub_folder()).is_empty(), "the warehouse holds nothing");
    let agents_own = files_with(SHARED, &folder);
    assert!(agents_own.is_empty(), "rows lie open at {agents_own:?}");
}

/// What agent and hub say to people and programs.
fn everything_printed(province: &mut Province) -> String {
    text(&province.agent(AGENCY, &["status"]))
        + &text(&province.agent(AGENCY, &["status", "--json"]))
        + &text(&province.agent(AGENCY, &["status", "--prometheus"]))
        + &text(&province.agent(AGENCY, &["spool"]))
        + &text(&province.hub(&["log", "export"]))
        + &province.page("/metrics")
}
