//! Names after `--by` are people once there are any: active accounts whose role may do it; whatever else is
//! tried at the console is refused and an entry.

use phusa_protocol::fault::Code;

use crate::house::{AGENT, DATASET, House, assert_fault, text};

/// Adds a hold in somebody's name.
fn hold(house: &House, by: &str) -> std::process::Output {
    let because = ["--because", "đang thanh tra"];
    house.province.hub(&[&["warehouse", "hold", "add", DATASET, "--by", by], &because[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_at_the_console_is_an_active_account_that_may_once_there_are_accounts() {
    let mut house = House::new("", "");
    assert!(text(&house.province.hub(&["check"])).contains("--by"));
    house.province.start_hub();
    let believed = hold(&house, "Ai Đó");
    assert!(believed.status.success(), "{}", text(&believed));

    let account = |name: &str, role: &[&str]| {
        let base = ["account", "create", name, "--title", "Một Người"];
        let made = house.province.hub(&[&base[..], role].concat());
        assert!(made.status.success(), "{}", text(&made));
    };
    account("an.tran", &["--first"]);
    account("binh.le", &["--role", "unit_admin", "--agency", "H57.13"]);
    account("cuong.vu", &["--role", "inspector"]);
    account("dung.pham", &["--role", "general_admin"]);
    account("em.ho", &["--role", "unit_admin", "--agency", "H57.12"]);
    // As if they had taken their invitations at the portal, which this house does not have.
    let (client, connection) =
        house.province.warehouse_config().connect(tokio_postgres::NoTls).await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    drop(tasks.spawn(connection));
    let active = "update phusa.accounts set password = 'x', invitation = null \
                  where name <> 'dung.pham'";
    client.batch_execute(active).await.unwrap();

    let refused = [
        ("Ai Đó", Code::AccountUnknown),
        ("dung.pham", Code::AccountUnknown),
        ("cuong.vu", Code::RightMissing),
        ("binh.le", Code::RightMissing),
    ];
    for (by, code) in refused {
        let said = hold(&house, by);
        println!("{by}: {}", text(&said).lines().next().unwrap_or_default());
        assert!(!said.status.success(), "{by}");
        assert_fault(&text(&said), code);
    }
    for by in ["an.tran", "em.ho"] {
        let said = hold(&house, by);
        assert!(said.status.success(), "{by}: {}", text(&said));
    }
    let suspend = |by: &str| {
        house.province.hub(&["agent", "suspend", AGENT, "--by", by, "--because", "nghi xâm nhập"])
    };
    assert_fault(&text(&suspend("cuong.vu")), Code::RightMissing);
    let stopped = suspend("em.ho");
    assert!(stopped.status.success(), "{}", text(&stopped));
    let resumed = |by: &str| {
        house.province.hub(&["agent", "resume", AGENT, "--by", by, "--because", "đã xong"])
    };
    assert_fault(&text(&resumed("em.ho")), Code::RightMissing);

    client
        .batch_execute("update phusa.accounts set locked_at = now() where name = 'an.tran'")
        .await
        .unwrap();
    assert_fault(&text(&resumed("an.tran")), Code::AccountUnknown);

    let log = house.log_tells("\\\"by\\\":\\\"em.ho\\\"").await;
    let tries = log.matches("\\\"action\\\":\\\"decide\\\"").count();
    println!("{tries} tries stand in the log");
    assert_eq!(tries, 7);
    assert!(!log.contains("Ai Đó"), "what was typed as a name may have been anything");
}
