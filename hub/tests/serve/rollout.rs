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

use crate::fleet::report;
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
fn publish(world: &World) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_over_fifty_agents_with_three_bad_ones_halts_says_why_and_ends_with_a_mended_one()
{
    let world = World::start().await;
    publish(&world);
    let mut fleet = Fleet::new(&world).await;
    let bad = ["H57.101/may-1", "H57.120/may-1", "H57.140/may-1"];
    fleet.bad = bad.iter().map(|agent| ((*agent).to_owned(), version("0.2.0"))).collect();
    let canaries = ["--canary", "H57.110/may-1", "--canary", "H57.111/may-1"];
    let start = |release: &'static str| {
        let head = ["rollout", "start", release, "--previous", "0.1.0", "--share", "30,100"];
        [&head[..], &canaries[..], &["--by", "an"]].concat()
    };
    let unknown = world.run_and_fail(&start("0.9.0"));
    assert!(unknown.1.contains("0.9.0 is not among the published"), "{}", unknown.1);
    world.run(&start("0.2.0"));
    let another = world.run_and_fail(&start("0.3.0"));
    assert!(another.1.contains("another rollout is under way"), "{}", another.1);
    // Nobody is updated outside a window that was announced a day before (CB-16).
    let span = |hours: u64| Timestamp::now().after(Duration::from_secs(hours * 3_600)).to_string();
    let window = |from: u64| {
        vec![
            "rollout".to_owned(),
            "window".to_owned(),
            "--from".to_owned(),
            span(from),
            "--to".to_owned(),
            span(48),
        ]
    };
    let run = |words: Vec<String>| world.say(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let late = run(window(23));
    assert!(late.0 == 1 && late.1.contains("24 hours"), "{}", late.1);
    assert_eq!(run(window(25)).0, 0);
    for _ in 0..3 {
        fleet.live().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(fleet.running("0.1.0"), 50, "the window has not begun");
    let emergency = [window(0), vec!["--emergency".to_owned(), "lỗ hổng".to_owned()]].concat();
    assert_eq!(run(emergency).0, 0);
    let canary = |status: &Value| {
        let agents = status["agents"].as_array().unwrap();
        let through = agents.len() == 2 && agents.iter().all(|one| one["stage"] == "committed");
        through && status["waiting"] == 0
    };
    fleet.until(&world, "the canaries", canary).await;
    assert_eq!(fleet.running("0.2.0"), 2);
    let because = ["--because", "đã xem", "--by", "an"];
    let turn = |what: &'static str| world.say(&[&["rollout", what], &because[..]].concat());
    assert_eq!(turn("promote").0, 0);
    assert_eq!(turn("promote").0, 1, "not before everybody has committed");
    // The first that takes it back halts it, in whichever ring it is.
    let mut halted = None;
    while halted.is_none() {
        let status = fleet
            .until(&world, "the ring", |status| {
                status["state"] == "halted" || status["waiting"] == 0
            })
            .await;
        match status["state"] == "halted" {
            true => halted = Some(status),
            false => assert_eq!(turn("promote").0, 0, "{status}"),
        }
    }
    let because = halted.unwrap()["because"].as_str().unwrap().to_owned();
    println!("halted because {because}; {} of 50 run 0.2.0", fleet.running("0.2.0"));
    assert!(bad.iter().any(|agent| because == format!("{agent}: crash")), "{because}");
    assert!(fleet.running("0.2.0") < 50);
    let people_see = world.run(&["rollout", "status"]);
    assert!(
        people_see.contains("đã chặn (halted)") && people_see.contains("rolled_back"),
        "{people_see}"
    );
    // The mended one takes its place and goes through.
    world.run(&start("0.3.0"));
    let mut done = false;
    while !done {
        let status = fleet
            .until(&world, "the mended one", |status| {
                status["state"] == "done" || status["waiting"] == 0
            })
            .await;
        done = status["state"] == "done";
        let at_last = status["ring"] == 2;
        if !done && !at_last {
            turn("promote");
        }
    }
    assert_eq!(fleet.running("0.3.0"), 50);
    let log = world.run(&["log", "ls"]);
    for word in
        ["release_publish", "rollout_start", "rollout_promote", "rollout_halt", "maintenance_set"]
    {
        assert!(log.contains(word), "{word} not in {log}");
    }
    world.stop().await;
}
