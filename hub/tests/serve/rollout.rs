//! A rollout over fifty agents, three of which take the release back: it halts, says why, and goes through
//! with a release that is mended.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::release::{Stage, UpdateReport, Version};
use phusa_protocol::time::Timestamp;
use serde_json::Value;

use crate::five_hundred::report;
use crate::world::World;

const WITHIN: Duration = Duration::from_secs(90);

fn version(text: &str) -> Version {
    Version::try_from(text.to_owned()).unwrap()
}

/// Fifty agents as far as the hub sees them: they run what they are assigned, and report it.
struct Fleet {
    client: tokio_postgres::Client,
    runs: BTreeMap<String, (Version, Stage, Option<Version>)>,
    /// Who takes which version back.
    bad: Vec<(String, Version)>,
}

impl Fleet {
    async fn new(world: &World) -> Self {
        let mut runs = BTreeMap::new();
        for own in ["H57.12/may-1", "H57.13/may-2", "H57.99/la"] {
            runs.insert(own.to_owned(), (version("0.1.0"), Stage::Idle, None));
        }
        for index in 100..147 {
            let agent = format!("H57.{index}/may-1");
            let key = SigningKey::generate().unwrap().public();
            let text = format!("agent = \"{agent}\"\nsigning_key = \"{key}\"\n");
            let file = world.path("hub/agents").join(agent.replace('/', "__") + ".toml");
            fs::write(file, text).unwrap();
            runs.insert(agent, (version("0.1.0"), Stage::Idle, None));
        }
        world.reload_register();
        Self { client: world.database().await, runs, bad: Vec::new() }
    }

    /// What every agent would do in a minute: install what it is to run, or take it back, and say so.
    async fn live(&mut self) {
        let sql = "select a.agent, a.version from phusa.release_assignments a \
                   join phusa.rollouts r using (rollout) \
                   where r.state in ('running', 'done', 'reverted')";
        for row in self.client.query(sql, &[]).await.unwrap() {
            let (agent, wanted): (String, String) = (row.get(0), row.get(1));
            let wanted = version(&wanted);
            let Some(runs) = self.runs.get_mut(&agent) else { continue };
            if runs.0 == wanted || runs.2 == Some(wanted) && runs.1 == Stage::RolledBack {
                continue;
            }
            let is_bad = self.bad.contains(&(agent.clone(), wanted));
            *runs = match is_bad {
                true => (runs.0, Stage::RolledBack, Some(wanted)),
                false => (wanted, Stage::Committed, Some(wanted)),
            };
        }
        for (agent, (running, stage, target)) in &self.runs {
            let mut report = report(agent);
            let why = (*stage == Stage::RolledBack).then(|| "crash".to_owned());
            report.agent = AgentId::try_from(agent.clone()).unwrap();
            report.update = Some(UpdateReport {
                running: *running,
                stage: *stage,
                target: *target,
                why,
                obstacle: None,
                since: Timestamp::now(),
            });
            let text = serde_json::to_string(&report).unwrap();
            let sql = "insert into phusa.fleet_agents (agent, report, reported_at) \
                       values ($1, $2, clock_timestamp()) on conflict (agent) do update \
                       set report = excluded.report, reported_at = excluded.reported_at";
            self.client.execute(sql, &[agent, &text]).await.unwrap();
        }
    }

    fn running(&self, release: &str) -> usize {
        self.runs.values().filter(|(runs, ..)| *runs == version(release)).count()
    }

    async fn until(&mut self, world: &World, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            self.live().await;
            let said = world.run(&["rollout", "status", "--json"]);
            let status: Value = serde_json::from_str(&said).unwrap();
            if done(&status) {
                return status;
            }
            assert!(begun.elapsed() < WITHIN, "{what}: {said}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Three people, of whom two sign two programs.
pub(crate) fn publish(world: &World) {
    fs::write(world.path("pass"), "mật khẩu đủ dài để dùng\n").unwrap();
    let path = |name: &str| world.path(name).display().to_string();
    let pass = path("pass");
    for name in ["an", "binh", "cuong"] {
        let key = path(&format!("{name}.key"));
        world.run(&["release", "key", "--out", &key, "--passphrase-file", &pass]);
    }
    let mut init = vec!["release".to_owned(), "init".to_owned()];
    for name in ["an", "binh", "cuong"] {
        let file = path(&format!("{name}.pub"));
        init.extend(["--root".to_owned(), file.clone(), "--targets".to_owned(), file]);
    }
    world.run(&init.iter().map(String::as_str).collect::<Vec<_>>());
    for release in ["0.1.0", "0.2.0", "0.3.0"] {
        fs::write(world.path("program"), release).unwrap();
        let add = ["release", "add", &path("program"), "--release", release];
        world.run(&[&add[..], &["--min-version", "0.1.0"]].concat());
    }
    let publish = ["release", "publish", "--by", "an"];
    let refused = world.run_and_fail(&publish);
    assert!(refused.1.contains("release_refused") && refused.1.contains("0 of 2"), "{}", refused.1);
    for (draft, name) in [("root", "an"), ("root", "binh"), ("targets", "an"), ("targets", "cuong")]
    {
        let draft = path(&format!("state/release/draft/{draft}.json"));
        let key = path(&format!("{name}.key"));
        world.run(&["release", "sign", &draft, "--key", &key, "--passphrase-file", &pass]);
    }
    assert!(world.run(&publish).contains("root 1 targets 1"));
    let ends = world.run(&["release", "expire-report"]);
    assert!(ends.contains("root") && ends.contains("364"), "{ends}");
}

pub(crate) fn start(release: &str) -> Vec<&str> {
    let head = ["rollout", "start", release, "--previous", "0.1.0", "--share", "30,100"];
    let canaries = ["--canary", "H57.110/may-1", "--canary", "H57.111/may-1"];
    [&head[..], &canaries[..], &["--by", "an"]].concat()
}

fn turn(world: &World, what: &str) -> i32 {
    world.say(&["rollout", what, "--because", "đã xem", "--by", "an"]).0
}

/// Nobody is updated outside a window that was announced a day before, but in an emergency (CB-16).
async fn windows(world: &World, fleet: &mut Fleet) {
    let span = |hours: u64| Timestamp::now().after(Duration::from_secs(hours * 3_600)).to_string();
    let announce = |from: u64, more: &[&str]| {
        let (from, to) = (span(from), span(48));
        let head = ["notice", "create", "--title", "Cập nhật tác tử", "--by", "an"];
        world.say(&[&head[..], &["--from", &from, "--until", &to], more].concat())
    };
    let late = announce(23, &[]);
    assert!(late.0 == 1 && late.1.contains("24 hours"), "{}", late.1);
    assert_eq!(announce(25, &[]).0, 0);
    // That nothing happens can only be waited for: the hub looks at least once in this time.
    for _ in 0..3 {
        fleet.live().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(fleet.running("0.1.0"), 50, "the window has not begun");
    assert_eq!(announce(0, &["--emergency", "--because", "lỗ hổng nghiêm trọng"]).0, 0);
}

/// Goes on ring after ring as long as all commit, until the rollout is in this state.
async fn through(world: &World, fleet: &mut Fleet, state: &str) -> Value {
    loop {
        let counted = |status: &Value| status["state"] == state || status["waiting"] == 0;
        let status = fleet.until(world, state, counted).await;
        if status["state"] == state {
            return status;
        }
        // At its last ring it ends by itself.
        let _may_be_the_last = turn(world, "promote");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_over_fifty_agents_with_three_bad_ones_halts_says_why_and_ends_with_a_mended_one()
{
    let world = World::start().await;
    publish(&world);
    let mut fleet = Fleet::new(&world).await;
    let bad = ["H57.101/may-1", "H57.120/may-1", "H57.140/may-1"];
    fleet.bad = bad.iter().map(|agent| ((*agent).to_owned(), version("0.2.0"))).collect();
    let unknown = world.run_and_fail(&start("0.9.0"));
    assert!(unknown.1.contains("0.9.0 is not among the published"), "{}", unknown.1);
    world.run(&start("0.2.0"));
    let another = world.run_and_fail(&start("0.3.0"));
    assert!(another.1.contains("another rollout is under way"), "{}", another.1);
    windows(&world, &mut fleet).await;
    let canaries = |status: &Value| {
        let agents = status["agents"].as_array().unwrap();
        agents.len() == 2 && status["waiting"] == 0
    };
    fleet.until(&world, "the canaries", canaries).await;
    assert_eq!(fleet.running("0.2.0"), 2);
    assert_eq!(turn(&world, "pause"), 0);
    assert_eq!(turn(&world, "promote"), 1, "not while it is paused");
    assert_eq!(turn(&world, "resume"), 0);
    assert_eq!(turn(&world, "promote"), 0);
    assert_eq!(turn(&world, "promote"), 1, "not before everybody has committed");
    // The first that takes it back halts it, in whichever ring it is.
    let halted = through(&world, &mut fleet, "halted").await;
    let because = halted["because"].as_str().unwrap();
    assert!(bad.iter().any(|agent| because == format!("{agent}: crash")), "{because}");
    assert!(fleet.running("0.2.0") < 50);
    let told = world.run(&["rollout", "status"]);
    assert!(told.contains("đã chặn (halted)") && told.contains("rolled_back"), "{told}");
    // The mended one takes its place and goes through.
    world.run(&start("0.3.0"));
    through(&world, &mut fleet, "done").await;
    assert_eq!(fleet.running("0.3.0"), 50);
    // Going back needs no signer's key: it is an assignment of what people signed before.
    assert_eq!(turn(&world, "pause"), 1, "it is done");
    assert_eq!(turn(&world, "revert"), 0);
    let back = |status: &Value| {
        let agents = status["agents"].as_array().unwrap();
        agents.iter().all(|one| one["version"] == "0.1.0" && one["stage"] == "committed")
    };
    fleet.until(&world, "all to be back", back).await;
    assert_eq!(fleet.running("0.1.0"), 50);
    let log = world.run(&["log", "ls"]);
    for word in
        ["release_publish", "rollout_start", "rollout_promote", "rollout_halt", "rollout_revert"]
    {
        assert!(log.contains(word), "{word} not in {log}");
    }
    world.stop().await;
}
