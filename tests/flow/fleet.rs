//! An agent that reports is seen as it is: well, gone, back, cut off; and deliveries never wait for it.

use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_tests::database::free_port;
use phusa_tests::process::wait_until;
use serde_json::Value;

use crate::house::{AGENCY, AGENT, House, edit, text};

/// How long a report and its verdict may take on a busy machine.
const SHOWS_WITHIN: Duration = Duration::from_secs(60);

/// Offline is shown at most so long after the last sign of life.
const OFFLINE_WITHIN: Duration = Duration::from_secs(95);

/// A house whose agent reports.
fn linked() -> House {
    let house = House::new("", "");
    let port = free_port();
    let part = format!("[link]\nlisten = \"127.0.0.1:{port}\"\n\n[warehouse]");
    edit(&house.province.hub_config(), "[warehouse]", &part);
    let part = format!("[hub]\nlink_url = \"mqtts://127.0.0.1:{port}\"");
    edit(&house.province.agent_config(AGENCY), "[hub]", &part);
    house
}

/// What `fleet ls --json` says of the agent; the fault of agents that need somebody stands after it.
fn agent_of(house: &House) -> Value {
    let output = house.province.hub(&["fleet", "ls", "--json"]);
    let mut found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    found.get_mut(0).map(Value::take).unwrap_or_default()
}

async fn becomes(house: &House, state: &str, within: Duration) -> Value {
    wait_until(&format!("the agent to be {state}"), within, async || {
        let found = agent_of(house);
        (found["verdict"]["state"] == state).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_seen_well_killed_back_and_stopped() {
    let mut house = linked();
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    let well = becomes(&house, "healthy", SHOWS_WITHIN).await;
    assert_eq!(well["agent"], AGENT);
    assert_eq!(well["report"]["datasets"][0]["phase"], "following", "{well}");
    assert_eq!(well["report"]["datasets"][0]["rows"], 200, "{well}");
    assert!(!well.to_string().contains("Nguyễn"), "a report holds no row");
    assert!(house.province.hub(&["fleet", "ls"]).status.success(), "nobody is needed");
    house.province.agent_process(AGENCY).kill();
    let gone = becomes(&house, "offline", OFFLINE_WITHIN).await;
    assert_eq!(gone["verdict"]["reason"], "lost", "{gone}");
    let shown = house.province.hub(&["fleet", "show", AGENCY]);
    assert_eq!(shown.status.code(), Some(1), "somebody is needed");
    let shown = text(&shown);
    for word in ["Mất liên lạc (Offline)", "Gọi đầu mối", "Call the focal point", "hạn (deadline)"]
    {
        assert!(shown.contains(word), "{word} not in {shown}");
    }
    house.province.start_agent(AGENCY);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    assert!(house.province.agent_process(AGENCY).stop().success());
    let left = becomes(&house, "offline", SHOWS_WITHIN).await;
    assert_eq!(left["verdict"]["reason"], "left", "stopped by somebody: {left}");
    house.nothing_is_lost(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_cuts_the_session_and_it_comes_back_when_that_is_lifted() {
    let mut house = linked();
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    let sessions = |house: &House, count: u8| {
        house.province.page("/metrics").contains(&format!("phusa_link_sessions {count}\n"))
    };
    assert!(sessions(&house, 1), "{}", house.province.page("/metrics"));
    let decided = ["--by", "An", "--because", "thử"];
    let suspend = [["agent", "suspend", AGENT].as_slice(), &decided].concat();
    let begun = std::time::Instant::now();
    assert!(house.province.hub(&suspend).status.success());
    wait_until("the session to be cut", Duration::from_secs(5), async || {
        sessions(&house, 0).then_some(())
    })
    .await;
    println!("the session was cut {:?} after the command began", begun.elapsed());
    becomes(&house, "suspended", SHOWS_WITHIN).await;
    let log = house.province.hub_process().log();
    assert!(log.contains("its agent may speak no longer"), "{log}");
    let resume = [["agent", "resume", AGENT].as_slice(), &decided].concat();
    let resumed = house.province.hub(&resume);
    let asked = text(&resumed);
    if !resumed.status.success() || asked.contains("--confirm") {
        let confirm = ["agent", "resume", AGENT, "--by", "Bình", "--because", "thử", "--confirm"];
        let confirmed = house.province.hub(&confirm);
        assert!(confirmed.status.success(), "{asked}\n{}", text(&confirmed));
    }
    becomes(&house, "healthy", Duration::from_secs(120)).await;
    house.nothing_is_lost(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_the_port_takes_deliveries_all_the_same() {
    let mut house = House::new("", "");
    let part = format!("[hub]\nlink_url = \"mqtts://127.0.0.1:{}\"", free_port());
    edit(&house.province.agent_config(AGENCY), "[hub]", &part);
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    let found = agent_of(&house);
    assert_eq!(found["verdict"]["state"], "unreported", "{found}");
    let log = house.province.agent_process(AGENCY).log();
    assert!(log.contains("deliveries go on by themselves"), "{log}");
    house.nothing_is_lost(200).await;
}

#[test]
fn a_link_that_is_no_mqtts_or_leads_outside_is_refused_with_its_place() {
    for (url, code) in [
        ("mqtt://127.0.0.1:7445", Code::ConfigInvalid),
        ("mqtts://10.1.1.1:7445", Code::NetworkNotAllowed),
    ] {
        let house = House::new("", "");
        let part = format!("[hub]\nlink_url = \"{url}\"");
        edit(&house.province.agent_config(AGENCY), "[hub]", &part);
        let said = house.check_says(code);
        assert!(said.contains("link_url"), "{said}");
    }
}
