//! Two hub processes on one warehouse, agents spread over both as a balancer does it: each of the two
//! dies in the middle of something, and what was begun ends at the other.

use std::sync::Arc;

use phusa_tests::database::{Server, Version};
use phusa_tests::process::wait_until;
use phusa_tests::province::Province;
use phusa_tests::relay::Relay;
use serde_json::Value;

use crate::fleet::{OFFLINE_WITHIN, SHOWS_WITHIN, becomes, link_port, linked_in};
use crate::house::{AGENCY, AGENT, CONTRACT, DATASET, House, edit, text};

/// What `incident ls` or `fleet orders --all` say.
fn list(house: &House, what: &[&str]) -> Vec<Value> {
    let found = house.province.hub(&[what, &["--json"]].concat());
    serde_json::from_slice(&found.stdout).unwrap_or_default()
}

fn fleet(house: &House, arguments: &[&str]) {
    let done = house.province.hub(&[&["fleet"], arguments].concat());
    assert!(done.status.success(), "{arguments:?}: {}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_share_one_warehouse_and_what_one_began_ends_at_the_other() {
    let server = Arc::new(Server::start(Version::V15, ""));
    let warehouse = server.database();
    let mut house = linked_in(House::of(Province::with_external(&warehouse), CONTRACT, ""));
    house.province.start_hub();
    let (mut second, ports) = house.province.start_second_hub();
    let first = [house.province.hub_port(), link_port(&house)];
    let relays =
        [Relay::among(&[first[0], ports[0]]).await, Relay::among(&[first[1], ports[1]]).await];
    let config = house.province.agent_config(AGENCY);
    for (port, relay) in first.iter().zip(&relays) {
        edit(&config, &format!("127.0.0.1:{port}\""), &format!("127.0.0.1:{}\"", relay.port()));
    }
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    // The first dies with an order open; what it asked for is lifted at the second.
    fleet(&house, &["pause", AGENT, DATASET, "--because", "thử"]);
    becomes(&house, "attention", SHOWS_WITHIN).await;
    house.province.hub_process().kill();
    house.database.psql("insert into people values (201, 'Lê', '1', 'x')");
    fleet(&house, &["resume", AGENT, DATASET]);
    assert_eq!(house.settle().await, 201);
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    // Now the other way round, in the middle of a read that was asked for.
    house.province.start_hub_with(&[]);
    fleet(&house, &["re-read", AGENT, DATASET, "--because", "thử"]);
    second.kill();
    house.database.psql("insert into people values (202, 'Lê', '1', 'x')");
    wait_until("the order to be done", SHOWS_WITHIN * 2, async || {
        let orders = list(&house, &["fleet", "orders", "--all"]);
        let states: Vec<_> = orders.iter().map(|one| one["state"].clone()).collect();
        (states == ["done", "cancelled"]).then_some(())
    })
    .await;
    assert_eq!(house.settle().await, 202);
    becomes(&house, "healthy", SHOWS_WITHIN).await;

    // Both look after the fleet, and each cause is one incident.
    drop(second);
    let (second, _) = house.province.start_second_hub();
    house.province.agent_process(AGENCY).kill();
    becomes(&house, "offline", OFFLINE_WITHIN).await;
    wait_until("the incident", OFFLINE_WITHIN * 2, async || {
        (!list(&house, &["incident", "ls"]).is_empty()).then_some(())
    })
    .await;
    house.province.start_agent(AGENCY);
    becomes(&house, "healthy", SHOWS_WITHIN).await;
    let incidents = list(&house, &["incident", "ls"]);
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    house.nothing_is_lost(202).await;
    drop(second);
}
