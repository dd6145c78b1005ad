//! An agent that reports is seen as it is: well, gone, back, cut off; and deliveries never wait for it.

use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use phusa_tests::broker::Broker;
use phusa_tests::database::free_port;
use phusa_tests::process::wait_until;
use serde_json::Value;

use crate::house::{AGENCY, AGENT, DATASET, House, edit, text};
use crate::identity::enrolled_in;

/// How long a report and its verdict may take on a busy machine.
pub(crate) const SHOWS_WITHIN: Duration = Duration::from_secs(60);

/// Offline is shown at most so long after the last sign of life.
pub(crate) const OFFLINE_WITHIN: Duration = Duration::from_secs(95);

/// A house whose agent reports.
fn linked() -> House {
    linked_in(House::new("", ""))
}

/// This house with its agent reporting to the hub's own port; with `PHUSA_LINK=broker`, through a broker
/// beside them.
pub(crate) fn linked_in(house: House) -> House {
    if std::env::var("PHUSA_LINK").is_ok_and(|by| by == "broker") {
        return brokered(house);
    }
    let port = free_port();
    let hub = format!("listen = \"127.0.0.1:{port}\"");
    linked_by(house, &hub, &format!("link_url = \"mqtts://127.0.0.1:{port}\""))
}

/// This house with its agent and hub meeting at a broker, which ends with it.
pub(crate) fn brokered(house: House) -> House {
    let broker = Broker::start(&house.province.path().join("certs/broker"));
    let hub = format!("broker_url = \"mqtts://127.0.0.1:{}\"", broker.hubs_port());
    let agent =
        format!("link_url = \"mqtts://127.0.0.1:{}\"\nlink_is_broker = true", broker.agents_port());
    let mut house = linked_by(house, &hub, &agent);
    house.broker = Some(broker);
    house
}

/// Where agents reach the hub, or the broker between them.
pub(crate) fn link_port(house: &House) -> u16 {
    if let Some(broker) = &house.broker {
        return broker.agents_port();
    }
    let text = std::fs::read_to_string(house.province.hub_config()).unwrap();
    let link = text.split("[link]").nth(1).unwrap();
    let port = link.split("127.0.0.1:").nth(1).unwrap();
    port.split('"').next().unwrap().parse().unwrap()
}

/// This house with these lines in `[link]` of the hub and `[hub]` of the agent.
pub(crate) fn linked_by(house: House, hub: &str, agent: &str) -> House {
    edit(&house.province.hub_config(), "[warehouse]", &format!("[link]\n{hub}\n\n[warehouse]"));
    edit(&house.province.agent_config(AGENCY), "[hub]", &format!("[hub]\n{agent}"));
    house
}

/// What `fleet ls --json` says of the agent; the fault of agents that need somebody stands after it.
pub(crate) fn agent_of(house: &House) -> Value {
    let output = house.province.hub(&["fleet", "ls", "--json"]);
    let mut found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    found.get_mut(0).map(Value::take).unwrap_or_default()
}

pub(crate) async fn becomes(house: &House, state: &str, within: Duration) -> Value {
    wait_until(&format!("the agent to be {state}"), within, async || {
        let found = agent_of(house);
        (found["verdict"]["state"] == state).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_seen_well_killed_back_and_stopped() {
    is_seen(linked()).await;
}

pub(crate) async fn is_seen(mut house: House) {
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
    // A hub that has just started waits as long as silence may last before it says so.
    let incident = wait_until("the incident", OFFLINE_WITHIN * 2, async || {
        let found = house.province.hub(&["incident", "ls", "--json"]);
        let found: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
        found.get(0).cloned()
    })
    .await;
    assert_eq!((&incident["kind"], &incident["agent"]), (&"heartbeat".into(), &AGENT.into()));
    house.province.start_agent(AGENCY);
    wait_until("a report of its new life", SHOWS_WITHIN, async || {
        let found = agent_of(&house);
        let is_new = found["report"]["birth"] != well["report"]["birth"];
        (is_new && found["verdict"]["state"] == "healthy").then_some(())
    })
    .await;
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
    // Sessions at a broker are not the hub's to count or to cut.
    let sessions = |house: &House, count: u8| {
        let is_counted = format!("phusa_link_sessions {count}\n");
        house.broker.is_some() || house.province.page("/metrics").contains(&is_counted)
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
    if house.broker.is_none() {
        let log = house.province.hub_process().log();
        assert!(log.contains("its agent may speak no longer"), "{log}");
    }
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
async fn what_the_hub_wants_is_followed_over_restarts_until_it_is_taken_back_or_done() {
    is_followed(linked()).await;
}

pub(crate) async fn is_followed(mut house: House) {
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    let fleet = |house: &House, arguments: &[&str]| {
        let output = house.province.hub(&[["fleet"].as_slice(), arguments].concat());
        (output.status.success(), text(&output))
    };
    let why = ["--because", "thử"];
    let unknown = fleet(&house, &[["pause", AGENT, "a.b"].as_slice(), &why].concat());
    assert!(!unknown.0 && unknown.1.contains("order_refused"), "{}", unknown.1);
    let pause = [["pause", AGENT, DATASET].as_slice(), &why].concat();
    let paused = fleet(&house, &pause);
    assert!(paused.0, "{}", paused.1);
    assert!(!fleet(&house, &pause).0, "one at a time");
    let held = becomes(&house, "attention", SHOWS_WITHIN).await;
    assert_eq!(held["verdict"]["reason"], "paused", "{held}");
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    // Both are killed in the middle of it; the order stands at both ends.
    house.province.hub_process().kill();
    house.province.agent_process(AGENCY).kill();
    house.province.start_agent(AGENCY);
    house.province.start_hub_with(&[]);
    wait_until("the row to wait in the spool", SHOWS_WITHIN * 2, async || {
        let found = agent_of(&house);
        let of = &found["report"]["datasets"][0];
        let waits = of["spooled_seq"].as_u64() > of["released_seq"].as_u64();
        (waits && of["phase"] == "paused").then_some(())
    })
    .await;
    let digest = house.province.hub(&["warehouse", "digest", DATASET, "--json"]);
    assert!(text(&digest).contains("\"rows\":200"), "nothing was delivered: {}", text(&digest));
    assert!(fleet(&house, &["resume", AGENT, DATASET]).0);
    assert_eq!(house.settle().await, 201);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    let asked = fleet(&house, &[["re-read", AGENT, DATASET].as_slice(), &why].concat());
    assert!(asked.0, "{}", asked.1);
    wait_until("the dataset to be read again", SHOWS_WITHIN * 2, async || {
        let done = house.province.hub(&["fleet", "orders", "--all", "--json"]);
        let done: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        (done[0]["state"] == "done" && done[1]["state"] == "cancelled").then_some(())
    })
    .await;
    // That an order is done may be told before the report that shows it.
    wait_until("a healthy report of the second epoch", SHOWS_WITHIN, async || {
        let found = agent_of(&house);
        let is_second = found["report"]["datasets"][0]["epoch"] == 2;
        (is_second && found["verdict"]["state"] == "healthy").then_some(())
    })
    .await;
    let log = house.province.hub(&["log", "ls"]);
    for word in ["fleet_pause", "fleet_resume", "fleet_reread"] {
        assert!(text(&log).contains(word), "{word} not in {}", text(&log));
    }
    house.nothing_is_lost(201).await;
}

/// Waits until the newest order is in this state, and says of whom and what it was.
async fn newest_order(house: &House, state: &str) -> Value {
    wait_until(&format!("the newest order to be {state}"), SHOWS_WITHIN * 2, async || {
        let all = house.province.hub(&["fleet", "orders", "--all", "--json"]);
        let all: Value = serde_json::from_slice(&all.stdout).unwrap_or_default();
        (all[0]["state"] == state).then(|| all[0].clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_compares_renews_and_tells_of_itself_once_when_it_is_asked_to() {
    let house = enrolled_in(linked(), "168h").await;
    let first = becomes(&house, "healthy", SHOWS_WITHIN).await;
    let give = |what: &[&str]| {
        let given = house.province.hub(&[&["fleet"], what, &["--because", "thử"]].concat());
        assert!(given.status.success(), "{what:?}: {}", text(&given));
    };
    give(&["reconcile", AGENT, DATASET]);
    let done = newest_order(&house, "done").await;
    assert_eq!((&done["kind"], &done["outcome"]), (&"compare".into(), &Value::Null), "{done}");
    let log = text(&house.province.hub(&["log", "ls"]));
    assert!(log.contains("proof") && log.contains("fleet_compare"), "{log}");
    give(&["rotate-certificate", AGENT]);
    assert_eq!(newest_order(&house, "done").await["kind"], "rotate");
    let certificate = |found: &Value| found["report"]["certificate"]["from"].clone();
    wait_until("the new certificate in a report", SHOWS_WITHIN, async || {
        let now = certificate(&agent_of(&house));
        (now.as_str() > certificate(&first).as_str()).then_some(())
    })
    .await;
    give(&["diagnose", AGENT]);
    assert_eq!(newest_order(&house, "done").await["kind"], "diagnose");
    let shown = text(&house.province.hub(&["fleet", "show", AGENCY]));
    for word in ["chẩn đoán (diagnosis)", "linux", "source.engine = postgresql", "source.user = …"]
    {
        assert!(shown.contains(word), "{word} not in {shown}");
    }
    assert!(!shown.contains("Nguyễn") && !shown.contains("127.0.0.1"), "{shown}");
    assert_eq!(agent_of(&house)["report"]["diagnosis"], Value::Null, "kept apart");
    // This agent is exchanged by hand, and says so.
    give(&["check-update", AGENT]);
    assert_eq!(newest_order(&house, "refused").await["kind"], "check_update");
    let unheard = house.province.hub(&["fleet", "diagnose", "H57.99/x", "--because", "thử"]);
    assert!(text(&unheard).contains("order_refused"), "{}", text(&unheard));
    house.nothing_is_lost(200).await;
}

/// An hour of the day that begins in so many hours, by Vietnam's clock.
fn hours_after(after: u64) -> [String; 2] {
    let now = Timestamp::now().micros().rem_euclid(86_400_000_000) / 3_600_000_000;
    let hour = now.unsigned_abs() + 7 + after;
    [hour, hour + 1].map(|hour| format!("{:02}:00", hour % 24))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_outside_the_agencys_hours_says_what_it_waits_for_and_is_made_when_they_begin()
{
    let mut house = linked();
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    // What is read before counts for the first read; now the agency allows one hour in half a day.
    let [from, until] = hours_after(12);
    let config = house.province.agent_config(AGENCY);
    let closed = format!("[guard]\nallowed_hours = [\"{from}-{until}\"]\n\n[spool]");
    edit(&config, "[spool]", &closed);
    house.restart_agent();
    let ordered = ["fleet", "reconcile", AGENT, DATASET, "--because", "thử"];
    assert!(house.province.hub(&ordered).status.success());
    let hours = format!("{from}–{until}");
    let waits = wait_until("the order to say what it waits for", SHOWS_WITHIN * 2, async || {
        let all = house.province.hub(&["fleet", "orders", "--json"]);
        let all: Value = serde_json::from_slice(&all.stdout).unwrap_or_default();
        (all[0]["hours"] == hours.as_str()).then(|| all[0].clone())
    })
    .await;
    assert_eq!((&waits["state"], &waits["outcome"]), (&"open".into(), &"outside_hours".into()));
    let shown = text(&house.province.hub(&["fleet", "orders"]));
    for words in ["chờ giờ được phép", "waits for the allowed hours"] {
        assert!(shown.contains(&format!("{words} {hours}")), "{words} not in {shown}");
    }
    edit(&config, &closed, "[spool]");
    house.restart_agent();
    assert_eq!(newest_order(&house, "done").await["hours"], Value::Null);
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
    for (url, code, what) in [
        ("mqtt://127.0.0.1:7445", Code::ConfigInvalid, "`link_url` is mqtts://host:port"),
        ("mqtts://10.1.1.1:7445", Code::NetworkNotAllowed, "agent.toml:8:12"),
    ] {
        let house = House::new("", "");
        let part = format!("[hub]\nlink_url = \"{url}\"");
        edit(&house.province.agent_config(AGENCY), "[hub]", &part);
        let said = house.check_says(code);
        assert!(said.contains(what), "{said}");
    }
}
