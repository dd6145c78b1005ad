//! Suspended, resumed, revoked: connections are cut within seconds, by another process, with the
//! reason; what takes two people takes two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use phusa_tests::database::connect_with;
use phusa_tests::process::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use super::caller::{Papers, config, connect};
use super::{SHOWS_WITHIN, code_for, enrol, enrolled, hub_refuses, hub_says, shown, steps};
use crate::house::{AGENCY, AGENT, House, edit};

/// What the regulation allows (CT-40).
const CUT_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_is_cut_within_five_seconds_and_comes_back_by_two_people() {
    let mut house = enrolled("7d").await;
    house.province.hub_process().stop();
    edit(
        &house.province.hub_config(),
        "[warehouse]",
        "[profile]\nname = \"cantho-2023\"\n\n[warehouse]",
    );
    house.province.start_hub_with(&[]);
    let why = "dấu hiệu xâm nhập ở máy trạm";
    let client = connect_with(&house.province.warehouse_config()).await.unwrap();
    client.batch_execute("create table active as table phusa.identities").await.unwrap();
    suspend_and_be_cut(&house, why).await;

    let refused = house.forger().hello(Timestamp::now()).await.unwrap_err();
    assert_eq!(refused.code, Code::AgentSuspended);
    assert!(refused.what.contains(why), "{}", refused.what);
    house.database.psql("update people set name = 'chờ' where id <= 20");
    house.agent_shows(Code::AgentSuspended).await;
    assert!(house.log_has_refusal(Code::AgentSuspended));

    an_edited_row_lets_nobody_in(&house).await;
    let confirm = |by| [resume(by).as_slice(), &["--confirm"]].concat();
    hub_refuses(&house, &confirm("Bình"), Code::SecondPerson);
    let said = hub_says(&house, &resume("An"));
    assert!(said.contains("another person confirms"), "{said}");
    assert_eq!(shown(&house)["state"], "suspended");
    hub_refuses(&house, &confirm("AN "), Code::SecondPerson);
    hub_says(&house, &confirm("Bình"));
    house.restart_agent();
    house.nothing_is_lost(200).await;

    revoked_and_back(&mut house).await;
    let seen = steps(&house);
    for act in ["suspended", "resume_asked", "resumed", "revoked"] {
        assert!(seen.contains(&act.to_owned()), "{act}: {seen:?}");
    }
    hub_refuses(
        &house,
        &["agent", "suspend", "H57.99/la", "--by", "An", "--because", "x"],
        Code::AgentUnknown,
    );
}

/// Whoever may write to the hub's database lets nobody in by that: an edited row is no longer the hub's,
/// and an older one, or none, is not what the log tells of.
async fn an_edited_row_lets_nobody_in(house: &House) {
    let client = connect_with(&house.province.warehouse_config()).await.unwrap();
    // The keys of a row that is not the hub's are not believed, so its agent is nobody.
    let whole = |from: &str| {
        format!("delete from phusa.identities; insert into phusa.identities table {from}")
    };
    client.batch_execute("create table suspended as table phusa.identities").await.unwrap();
    for (sql, code) in [
        ("update phusa.identities set state = 'active'".to_owned(), Code::AgentUnknown),
        (whole("suspended"), Code::AgentSuspended),
        (whole("active"), Code::AgentUnknown),
        (whole("suspended"), Code::AgentSuspended),
        ("delete from phusa.identities".to_owned(), Code::AgentUnknown),
        (whole("suspended"), Code::AgentSuspended),
    ] {
        client.batch_execute(&sql).await.unwrap();
        wait_until("the row to be looked at", SHOWS_WITHIN, async || {
            let refused = house.forger().hello(Timestamp::now()).await.unwrap_err();
            (refused.code == code).then_some(())
        })
        .await;
    }
}

/// What a person says to lift a suspension.
fn resume(by: &str) -> [&str; 7] {
    ["agent", "resume", AGENT, "--by", by, "--because", "đã xử lý"]
}

/// Three open connections, one of them in the middle of a body, end when another process decides so.
async fn suspend_and_be_cut(house: &House, why: &str) {
    let mut open = Vec::new();
    let papers = Papers::of(&house.agent());
    let config = Arc::new(config(&house.agent(), Some(&papers), &rustls::version::TLS13));
    for _ in 0..3 {
        let mut stream = connect(house.province.hub_port(), &config).await.unwrap();
        stream.write_all(b"GET /log/key HTTP/1.1\r\nHost: hub\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4_096];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        open.push(stream);
    }
    // One of them is in the middle of a body.
    let head = b"POST /v1/batch HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\nPHB1";
    open[0].write_all(head).await.unwrap();

    let began = Instant::now();
    let cut = TaskTracker::new().spawn(async move {
        for mut stream in open {
            let mut rest = Vec::new();
            // Cut, not said farewell to: either way nothing more comes.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
        Instant::now()
    });
    hub_says(house, &["agent", "suspend", AGENT, "--by", "An", "--because", why]);
    let decided = Instant::now();
    let cut = tokio::time::timeout(SHOWS_WITHIN, cut).await.unwrap().unwrap();
    println!(
        "suspend → cut of 3 connections: {} ms after the command began, {} ms after it ended",
        cut.duration_since(began).as_millis(),
        cut.saturating_duration_since(decided).as_millis(),
    );
    assert!(cut.saturating_duration_since(decided) < CUT_WITHIN);
}

/// A revoked identity comes back with a new code alone.
async fn revoked_and_back(house: &mut House) {
    hub_says(house, &["agent", "revoke", AGENT, "--by", "An", "--because", "mất máy"]);
    house.database.psql("update people set name = 'thu hồi' where id <= 20");
    house.agent_shows(Code::AgentRevoked).await;
    let refused = house.forger().hello(Timestamp::now()).await.unwrap_err();
    assert_eq!((refused.code, refused.what.contains("mất máy")), (Code::AgentRevoked, true));
    hub_refuses(house, &resume("An"), Code::AgentRevoked);
    // A revoked identity comes back with a new code alone; its old certificate stays void.
    let before = house.forger();
    house.province.agent_process(AGENCY).stop();
    let code = code_for(house, AGENT, &[]);
    enrol(house, &code);
    let refused = before.hello(Timestamp::now()).await.unwrap_err();
    assert_eq!(refused.code, Code::CertificateVoid);
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
}
