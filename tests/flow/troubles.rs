//! Real troubles one after the other: each is shown in time with its state, its reason and what to do, and
//! goes away by itself when what caused it does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use phusa_hub::identity::issue::Issuing;
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{Reason, Verdict};
use phusa_tests::database::connect_with;
use phusa_tests::process::wait_until;
use phusa_tests::relay::Relay;
use serde_json::Value;

use crate::fleet::{OFFLINE_WITHIN, SHOWS_WITHIN, agent_of, becomes, link_port, linked_in};
use crate::house::{AGENCY, AGENT, CONTRACT, House, SmallDisk, edit, text};

/// What makes a program's clock differ (Debian's `faketime`).
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Waits until the agent is in this state for this reason, and sees what `fleet show` says to do.
async fn shows(house: &House, (state, reason): (&str, Reason), within: Duration) -> Value {
    let name = serde_json::to_value(reason).unwrap();
    let what = format!("the agent to be {state} because of {name}");
    let found = wait_until(&what, within, async || {
        let found = agent_of(house);
        let verdict = &found["verdict"];
        (verdict["state"] == state && verdict["reason"] == name).then_some(found)
    })
    .await;
    let shown = text(&house.province.hub(&["fleet", "show", AGENCY]));
    let words = serde_json::from_value::<Verdict>(found["verdict"].clone()).unwrap().words();
    for part in [words.reason_vi, words.reason_en, words.remedy_vi, words.remedy_en] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    let deadline = &found["verdict"]["deadline"];
    assert!(deadline.is_string(), "somebody is to act by then: {found}");
    found
}

/// As `phusa-agent status` judges by itself.
fn own_verdict(house: &House) -> Value {
    let status = house.province.agent(AGENCY, &["status", "--json"]);
    let found: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
    found["verdict"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_on_its_way_and_a_warehouse_that_does_not_answer() {
    let mut house = linked_in(House::agreed(&CONTRACT.replace("15m", "1m"), "", ""));
    house.province.start_hub();
    let config = house.province.agent_config(AGENCY);
    let both = [house.province.hub_port(), link_port(&house)];
    let relays = [Relay::plain(both[0]).await, Relay::plain(both[1]).await];
    for (port, relay) in both.iter().zip(&relays) {
        edit(&config, &format!("127.0.0.1:{port}\""), &format!("127.0.0.1:{}\"", relay.port()));
    }
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    assert_eq!(own_verdict(&house)["state"], "healthy");

    relays.iter().for_each(|relay| relay.part(true));
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    shows(&house, ("offline", Reason::Silent), OFFLINE_WITHIN).await;
    relays.iter().for_each(|relay| relay.part(false));
    becomes(&house, "healthy", SHOWS_WITHIN * 2).await;
    assert_eq!(house.settle().await, 201);

    // Somebody holds the table: what was changed waits at the agency, longer than was agreed.
    let client = connect_with(&house.province.warehouse_config()).await.unwrap();
    client.batch_execute("begin; lock table cong_dan.people").await.unwrap();
    house.database.psql("insert into people values (202, 'Lê', '1', 'x')");
    shows(&house, ("late", Reason::Behind), Duration::from_secs(60) + SHOWS_WITHIN).await;
    let own = own_verdict(&house);
    assert_eq!(own["reason"], "behind", "the agent says it too: {own}");
    client.batch_execute("rollback").await.unwrap();
    becomes(&house, "healthy", SHOWS_WITHIN * 2).await;
    assert_eq!(house.settle().await, 202);
    house.nothing_is_lost(202).await;
}

/// Where a contract asks for data every minute, a source that is away for longer makes it late.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_and_comes_back() {
    let mut house = linked_in(House::agreed(&CONTRACT.replace("15m", "1m"), "", ""));
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    let server = std::sync::Arc::clone(house.database.server());
    server.stop();
    let found =
        shows(&house, ("late", Reason::Obstacle), Duration::from_secs(60) + SHOWS_WITHIN).await;
    assert_eq!(found["verdict"]["fault"], "source_unreachable", "{found}");
    let own = own_verdict(&house);
    assert_eq!((&own["state"], &own["reason"]), (&"late".into(), &"obstacle".into()), "{own}");
    server.resume();
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    becomes(&house, "healthy", SHOWS_WITHIN * 2).await;
    house.nothing_is_lost(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_and_a_disk_that_is_nearly_full() {
    let mut house = linked_in(House::new("", ""));
    let config = house.province.agent_config(AGENCY);
    edit(&config, "[spool]", "[spool]\ndisk_reserve = \"16MiB\"");
    let Some(disk) = SmallDisk::mount(&house.agent().join("state"), 128) else { return };
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    let filler = disk.fill_but(24);
    shows(&house, ("attention", Reason::DiskLow), SHOWS_WITHIN).await;
    assert_eq!(own_verdict(&house)["reason"], "disk_low");
    fs::remove_file(filler).unwrap();
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    if !Path::new(FAKETIME).exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no faketime in CI");
        return println!("skipped: {FAKETIME} is not there");
    }
    house.province.agent_process(AGENCY).stop();
    let fast = [("LD_PRELOAD", FAKETIME), ("FAKETIME", "+150s")];
    house.province.start_agent_with(AGENCY, &fast);
    let found = shows(&house, ("attention", Reason::ClockDiffers), SHOWS_WITHIN).await;
    let skew = found["report"]["skew_ms"].as_i64().unwrap();
    assert!((140_000..160_000).contains(&skew), "{skew} ms");
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    assert_eq!(house.settle().await, 201, "what is delivered does not depend on the clock");
    house.province.agent_process(AGENCY).stop();
    house.province.start_agent(AGENCY);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    house.nothing_is_lost(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_and_one_that_has_ended() {
    let mut house = linked_in(House::new("", ""));
    house.province.start_hub();
    let certs = house.province.path().join("certs");
    let file = certs.join("agents/H57.12__may-1/agent.pem");
    let lasting = fs::read(&file).unwrap();
    let short = Duration::from_secs(60);
    fs::write(&file, certificate(&certs, short)).unwrap();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    let found = shows(&house, ("attention", Reason::CertificateEnds), SHOWS_WITHIN).await;
    let until = &found["report"]["certificate"]["until"];
    let until: Timestamp = serde_json::from_value(until.clone()).unwrap();
    wait_until("its end", short, async || (Timestamp::now() > until).then_some(())).await;
    house.province.agent_process(AGENCY).kill();
    house.province.start_agent(AGENCY);
    house.province.agent_process(AGENCY).wait_for_log("certificate", SHOWS_WITHIN).await;
    shows(&house, ("offline", Reason::Silent), OFFLINE_WITHIN).await;
    fs::write(&file, lasting).unwrap();
    house.province.agent_process(AGENCY).stop();
    house.province.start_agent(AGENCY);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    house.nothing_is_lost(200).await;
}

/// The agent's certificate anew, under the same CA and for the same key, for so long.
fn certificate(certs: &Path, validity: Duration) -> String {
    let read = |file: &str| fs::read_to_string(certs.join(file)).unwrap();
    let issuing = Issuing::read(&read("hub/ca.pem"), &read("ca.key"), validity).unwrap();
    let key = rcgen::KeyPair::from_pem(&read("agents/H57.12__may-1/agent.key")).unwrap();
    let asked = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    let agent = AgentId::try_from(AGENT.to_owned()).unwrap();
    let issued = issuing.issue(&agent, &asked.pem().unwrap(), (1, Timestamp::now()));
    issued.unwrap().chain
}
