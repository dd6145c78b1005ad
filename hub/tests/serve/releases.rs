//! The page of updates: what is published, who signed, the rollout with each agent's reason, what somebody may
//! do to it after being asked twice; and the end of signatures, told in time.

use std::path::Path;
use std::time::Duration;

use phusa_hub::incidents::lasting::settle;
use phusa_hub::release::ceremony::{self, People};
use phusa_hub::release::online::End;
use phusa_hub::release::store::Store;
use phusa_hub::release::{countdown, online};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;

use crate::incidents::Lab;
use crate::people::{first, hire};
use crate::rollout::{publish, start};
use crate::world::World;

const DAY: Duration = Duration::from_secs(86_400);

/// An agent that was taken back and one that cannot verify what it is shown.
pub(crate) const AGENTS: &str = "
  insert into phusa.release_assignments (agent, version, rollout, stage, why, changed_at)
  select 'H57.12/may-1', version, rollout, 'rolled_back', 'memory', now() from phusa.rollouts
  union all select 'H57.13/may-2', version, rollout, 'offered', null, now() from phusa.rollouts;
  insert into phusa.fleet_agents (agent, report, reported_at) values
  ('H57.13/may-2', '{\"update\":{\"obstacle\":\"release_expired\"}}', now() - interval '1 d')
  on conflict (agent) do update set report = excluded.report";

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_seen_by_right_with_their_reasons_and_turned_in_two_steps() {
    let world = World::start().await;
    publish(&world);
    world.run(&start("0.2.0"));
    let (an, _) = first(&world).await;
    world.database().await.batch_execute(AGENTS).await.unwrap();
    let (unit, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let shown = an.get("/releases").await.text;
    for said in [
        "0.3.0",
        "x86_64-linux",
        "đã ký",
        "không ký bản đang dùng",
        "364 ngày",
        "30 %",
        "dùng quá nhiều bộ nhớ",
        "H57.13/may-2",
    ] {
        assert!(shown.contains(said), "{said} not in {shown}");
    }
    let own = unit.get("/releases").await.text;
    assert!(own.contains("H57.12/may-1") && !own.contains("H57.13/may-2"), "{own}");
    assert!(!own.contains("action=\"/releases/"), "a unit's administrator decides nothing here");

    let why = [("because", "đợi nhà thầu")];
    assert_eq!(unit.submit("/own", "/releases/pause", &why).await.status, 403);
    let asked = an.submit("/releases", "/releases/pause", &why).await;
    assert!(asked.status == 200 && asked.text.contains("Tạm dừng: 0.2.0?"), "{}", asked.text);
    assert!(world.run(&["rollout", "status", "--json"]).contains("\"state\":\"running\""));
    let none = an.submit("/releases", "/releases/pause", &[("meant", "1")]).await;
    assert!(none.text.contains("reason_missing"), "{}", none.text);
    let meant = [why[0], ("meant", "1")];
    assert_eq!(an.submit("/releases", "/releases/pause", &meant).await.to, "/releases");
    let paused = an.get("/releases").await.text;
    assert!(paused.contains("tạm dừng") && paused.contains("đợi nhà thầu"), "{paused}");
    assert_eq!(an.submit("/releases", "/releases/resume", &meant).await.to, "/releases");
    assert_eq!(an.submit("/releases", "/releases/revert", &meant).await.to, "/releases");
    let entries = "select count(*) = 4 from phusa.transfers where kind = 'operator' \
                   and entry::json->'deed'->>'action' in ('rollout_pause', 'rollout_resume', \
                   'rollout_revert') and entry::json->'deed'->>'by' in ('an.nguyen', 'h57-12.it')";
    assert!(world.ask(entries).await, "three turns and a refused try");
    assert_eq!(an.submit("/releases", "/releases/destroy", &meant).await.status, 404);
    world.log_verify();
    world.stop().await;
}

/// Releases that were signed so long ago.
fn signed_before(dir: &Path, age: Duration) -> Store {
    let at = Timestamp::now().before(age);
    let store = Store::new(dir);
    let keys: Vec<_> = (0..2).map(|_| SigningKey::generate().unwrap()).collect();
    let people: Vec<_> = keys.iter().map(SigningKey::public).collect();
    let people = People { root: people.clone(), targets: people, threshold: 2 };
    let drafts = ceremony::init(&store, people, at).unwrap();
    for (draft, key) in drafts.iter().flat_map(|draft| keys.iter().map(move |key| (draft, key))) {
        ceremony::sign(draft, key).unwrap();
    }
    ceremony::publish(&store, at).unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_signatures_is_told_on_pages_by_commands_and_as_incidents_step_by_step() {
    let world = World::start().await;
    let (an, _) = first(&world).await;
    assert!(!an.get("/fleet").await.text.contains("Chữ ký"));
    assert!(an.get("/releases").await.text.contains("Chưa phát hành bản nào"));
    let store = signed_before(&world.path("state"), 359 * DAY);
    world.metrics_when("phusa_release_days{role=\"targets\"} 5").await;
    let (code, said) = world.say(&["release", "expire-report"]);
    assert!(code == 1 && said.contains("targets") && said.contains("(below) 7"), "{said}");
    let fleet = world.say(&["fleet", "ls"]).1;
    assert!(fleet.contains("The signatures of root end in 5 days"), "{fleet}");
    let overview = an.get("/fleet").await.text;
    assert!(overview.contains("Chữ ký targets của các bản phát hành còn 5 ngày"), "{overview}");
    assert!(an.get("/releases").await.text.contains("mốc 7"));

    let ends = online::ends(&store).unwrap().unwrap();
    world.stop().await;
    step_by_step(&ends).await;
}

/// Day after day, as the hub looks: each step is one incident, and all are over once people have signed.
async fn step_by_step(ends: &[End]) {
    let lab = Lab::new().await;
    let mut client = lab.warehouse.client().await.unwrap();
    let open = "select string_agg(cause_key, ' ' order by cause_key) from phusa.incidents \
                where kind = 'release' and holds";
    let begun = ends[0].until;
    let mut seen = Vec::new();
    for left in [40, 29, 20, 13, 6, 0] {
        let now = begun.before(left * DAY + DAY / 2);
        let lasting: Vec<_> =
            ends[..2].iter().filter_map(|end| countdown::incident(end, now)).collect();
        settle(&mut client, &lasting, |_| false, now).await.unwrap();
        let row = client.query_one(open, &[]).await.unwrap();
        let found: Option<String> = row.get(0);
        seen.push(found.unwrap_or_default().matches("root").count());
    }
    assert_eq!(seen, [0, 1, 1, 1, 1, 1], "one step at a time");
    settle(&mut client, &[], |_| false, begun).await.unwrap();
    let over = "select count(*), bool_and(not holds) from phusa.incidents where kind = 'release'";
    let row = client.query_one(over, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (8_i64, true), "four steps of root and targets each");
    drop(client);
    lab.warehouse.close().await;
}
