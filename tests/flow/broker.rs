//! Reports and orders through a broker of the province: what holds at the hub's own port holds here, and
//! what the broker denies is seen.

use std::process::{Command, Output};

use phusa_tests::broker::Broker;
use phusa_tests::process::{output, wait_until};

use crate::fleet::{self, SHOWS_WITHIN, agent_of, becomes, brokered};
use crate::house::{AGENCY, AGENT, DATASET, House, text};

/// A house whose agent and hub meet at a broker.
fn met() -> (Broker, House) {
    let mut house = brokered(House::new("", ""));
    (house.broker.take().unwrap(), house)
}

/// One of mosquitto's programs with the agent's certificate.
fn mosquitto(house: &House, broker: &Broker, program: &str, more: &[&str]) -> Output {
    let own = house.province.path().join("certs/agents/H57.12__may-1");
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &broker.agents_port().to_string(), "-V", "mqttv5"]);
    for (option, name) in [("--cafile", "ca.pem"), ("--cert", "agent.pem"), ("--key", "agent.key")]
    {
        command.arg(option).arg(own.join(name));
    }
    output(command.args(more))
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_broker_an_agent_is_seen_well_killed_back_and_stopped() {
    let (_broker, house) = met();
    fleet::is_seen(house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_broker_what_the_hub_wants_is_followed_over_restarts() {
    let (_broker, house) = met();
    fleet::is_followed(house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_denies_is_seen_and_its_end_stops_no_delivery() {
    let (mut broker, mut house) = met();
    broker.set_rules(&Broker::shipped_rules().replace("pattern write phusa/%u/report\n", ""));
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    house.province.agent_process(AGENCY).wait_for_log("denies to report", SHOWS_WITHIN).await;
    let found = agent_of(&house);
    assert_eq!(found["verdict"]["state"], "unreported", "{found}");
    broker.set_rules(&Broker::shipped_rules());
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    // A paused dataset stays so over the broker's end: the hub lays its orders down again.
    let pause = ["fleet", "pause", AGENT, DATASET, "--because", "thử"];
    assert!(house.province.hub(&pause).status.success());
    becomes(&house, "attention", SHOWS_WITHIN).await;
    broker.kill();
    let log = wait_until("both to miss the broker", SHOWS_WITHIN, async || {
        let (hub, agent) =
            (house.province.hub_process().log(), house.province.agent_process(AGENCY).log());
        let missed = "Nothing is heard of agents through the broker";
        (hub.contains(missed) && agent.contains("link_unreachable")).then_some(hub)
    })
    .await;
    assert!(log.contains("deliveries go on"), "{log}");
    broker.restart();
    let resume = ["fleet", "resume", AGENT, DATASET];
    assert!(house.province.hub(&resume).status.success());
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    assert_eq!(house.settle().await, 201);
    becomes(&house, "healthy", SHOWS_WITHIN * 2).await;
    house.nothing_is_lost(201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_keeps_agents_to_their_own_topics_and_the_hub_hears_nobody_it_has_barred() {
    let (broker, mut house) = met();
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    house.province.agent_process(AGENCY).stop();
    becomes(&house, "offline", SHOWS_WITHIN).await;
    let denied = |topic: &str| {
        let said = ["-t", topic, "-m", "{}", "-q", "1", "-d"];
        text(&mosquitto(&house, &broker, "mosquitto_pub", &said))
    };
    for topic in ["phusa/H57.13/may-2/report", "phusa/H57.12/may-1/command", "phusa/+/x"] {
        let said = denied(topic);
        let is_denied =
            ["RC:135", "Not authorized", "Invalid"].iter().any(|word| said.contains(word));
        assert!(is_denied, "{topic}: {said}");
    }
    let heard = ["-t", "#", "-t", "phusa/+/+/report", "-W", "2", "-F", "%t"];
    let heard = text(&mosquitto(&house, &broker, "mosquitto_sub", &heard));
    assert!(!heard.contains("phusa/"), "nothing of others, retained or new: {heard}");
    // A report that is none, then one of an agent that is barred.
    let own = "phusa/H57.12/may-1/report";
    assert!(!denied(own).contains("RC:135"));
    let unread = "Left unread what came through the broker";
    house.province.hub_process().wait_for_log(unread, SHOWS_WITHIN).await;
    let suspend = ["agent", "suspend", AGENT, "--by", "An", "--because", "thử"];
    assert!(house.province.hub(&suspend).status.success());
    house.province.start_agent(AGENCY);
    house.province.hub_process().wait_for_log("is suspended: thử", SHOWS_WITHIN).await;
    let found = agent_of(&house);
    assert_eq!(found["verdict"]["reason"], "barred", "{found}");
}
