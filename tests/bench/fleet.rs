//! What a fleet costs its hub, and how soon a person sees what befell an agent: `phusa-hub simulate`,
//! whose hub and links are real.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::time::Timestamp;
use phusa_tests::folder::Folder;
use phusa_tests::process::{Process, output, program, wait_until};
use serde_json::Value;

use crate::curves::{Point, small};
use crate::lab::Outcome;
use crate::meter::{family, own_cpu, private_bytes};
use crate::report::{Figure, Report};
use crate::visitor::{self, Visitor};

/// How long every agent may take to begin its session.
const BEGINS_WITHIN: Duration = Duration::from_secs(600);

/// Reports come every 30 s: how long the first ones are left out of account.
const WARM: Duration = Duration::from_secs(40);

/// How long the hub is watched.
const WATCHED: Duration = Duration::from_secs(60);

/// How often each page is asked for; the first of them is left out of account.
const LOOKS: usize = 21;

/// Pages that are timed, and as what.
const PAGES: [(&str, [&str; 2]); 3] = [
    ("/fleet", ["overview, median", "overview, slowest"]),
    ("/datasets", ["datasets, median", "datasets, slowest"]),
    ("/transfers", ["transfers, median", "transfers, slowest"]),
];

/// How long troubles are watched: two turns of three minutes.
const TROUBLED: Duration = Duration::from_secs(420);

/// Agents that troubles are watched with; what each takes does not depend on how many there are.
const TROUBLED_AGENTS: u16 = 60;

/// What a person should see of each trouble.
const SEEN_AS: [(&str, &str); 8] = [
    ("cut", "offline"),
    ("silent", "offline"),
    ("stopped", "offline"),
    ("login_refused", "faulted"),
    ("disk_low", "attention"),
    ("clock_wrong", "attention"),
    ("certificate_ends", "attention"),
    ("behind", "late"),
];

/// Takes what `agents` agents cost the hub, and what a person sees how soon.
pub(crate) async fn take(agents: u16, report: &mut Report) -> Outcome<()> {
    eprintln!("{agents} agents that report and deliver nothing more");
    cost(agents, report).await?;
    eprintln!("{TROUBLED_AGENTS} agents in trouble, for {} s", TROUBLED.as_secs());
    seen(report).await
}

async fn cost(agents: u16, report: &mut Report) -> Outcome<()> {
    let (fleet, Cost { hub, database, bytes }) = watched(agents).await?;
    report.add(Figure::share("fleet", "hub, CPU", hub));
    report.add(Figure::share("fleet", "its database, CPU", database));
    report.add(Figure::bytes("fleet", "hub, memory", bytes));
    pages(&fleet, report).await?;
    fleet.end();
    Ok(())
}

/// What each of so many agents costs: CPU microseconds a second of hub and database, those of the hub
/// alone, and the hub's memory.
pub(crate) async fn point(agents: u64) -> Outcome<Point> {
    let (fleet, Cost { hub, database, bytes }) = watched(u16::try_from(agents)?).await?;
    fleet.end();
    let each = |share: f64| share * 1e6 / small(agents);
    let memory = small(bytes / 1_024) / 1_024.0;
    Ok(Point {
        count: agents,
        micros: each(hub + database),
        cpu_micros: each(hub),
        memory,
        at_rest: None,
    })
}

/// Shares of a core, and memory.
struct Cost {
    hub: f64,
    database: f64,
    bytes: u64,
}

/// A fleet whose agents all report, and what it cost its hub for a while.
async fn watched(agents: u16) -> Outcome<(Fleet, Cost)> {
    // Its page of figures is read by plain HTTP; the library asks for a provider all the same.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let count = agents.to_string();
    let calm = ["--agents", &count, "--troubles", "0", "--delivers", "1h"];
    let fleet = Fleet::start(&calm).await?;
    wait_until("every session", BEGINS_WITHIN, async || {
        let page = fleet.figures().await?;
        page.contains(&format!("phusa_link_sessions {agents}\n")).then_some(())
    })
    .await;
    tokio::time::sleep(WARM).await;
    let hub = fleet.hub()?;
    // The embedded database is nobody's child.
    let file = fleet.folder.path().join("sim/hub/state/postgresql/data/postmaster.pid");
    let first: u32 = std::fs::read_to_string(file)?.lines().next().unwrap_or_default().parse()?;
    let database = || family(first).into_iter().filter_map(own_cpu).sum();
    let (own, others): (f64, f64) = (own_cpu(hub).unwrap_or(0.0), database());
    tokio::time::sleep(WATCHED).await;
    let share = |used: f64| used / WATCHED.as_secs_f64();
    let used = own_cpu(hub).unwrap_or(0.0) - own;
    let (used, database) = (share(used), share(database() - others));
    Ok((fleet, Cost { hub: used, database, bytes: private_bytes(hub) }))
}

/// How long a person waits for pages while every agent goes on.
async fn pages(fleet: &Fleet, report: &mut Report) -> Outcome<()> {
    let create = ["account", "create", "--first", visitor::NAME, "--title", "Người xem"];
    let said = String::from_utf8(fleet.command(&create).stdout)?;
    let (portal, ca) = fleet.portal()?;
    let visitor = Visitor::sign_in(portal, &ca, &said).await?;
    for (path, [median, slowest]) in PAGES {
        let mut spans = Vec::new();
        for _ in 0..LOOKS {
            spans.push(visitor.time(path).await?.0);
        }
        let mut spans = spans.split_off(1);
        spans.sort();
        let ms = |span: Option<&Duration>| span.map_or(f64::NAN, |s| s.as_secs_f64() * 1e3);
        report.add(Figure::plain("page", median, ms(spans.get(spans.len() / 2)), "ms"));
        report.add(Figure::plain("page", slowest, ms(spans.last()), "ms"));
    }
    Ok(())
}

/// How long after each trouble the worst agent of it was shown so.
async fn seen(report: &mut Report) -> Outcome<()> {
    let count = TROUBLED_AGENTS.to_string();
    let fleet = Fleet::start(&["--agents", &count, "--troubles", "60"]).await?;
    let (mut shown, until) = (BTreeMap::new(), tokio::time::Instant::now() + TROUBLED);
    while tokio::time::Instant::now() < until {
        let all = fleet.agents()?;
        let now = Timestamp::now();
        for one in all {
            let (agent, state) = (text(&one["agent"]), text(&one["verdict"]["state"]));
            let last: &mut Vec<(String, Timestamp)> = shown.entry(agent).or_default();
            if last.last().is_none_or(|(known, _)| *known != state) {
                last.push((state, now));
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let events = std::fs::read_to_string(fleet.folder.path().join("sim/events.jsonl"))?;
    let events: Vec<Value> =
        events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for (fate, state) in SEEN_AS {
        let begun = events.iter().filter(|event| event["fate"] == fate);
        let spans = begun.filter_map(|event| {
            let agent = text(&event["agent"]);
            let at: Timestamp = serde_json::from_value(event["at"].clone()).ok()?;
            let seen =
                shown.get(&agent)?.iter().find(|(seen, when)| seen == state && *when >= at)?;
            // Later than one turn it is another turn's.
            Some(seen.1.since(at).as_secs_f64()).filter(|span| *span < 170.0)
        });
        let worst = spans.max_by(f64::total_cmp);
        report.add(Figure::plain("shown after, at most", fate, worst.unwrap_or(f64::NAN), "s"));
    }
    fleet.end();
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `phusa-hub simulate` under way.
struct Fleet {
    folder: Arc<Folder>,
    simulator: Process,
    metrics: String,
}

impl Fleet {
    async fn start(arguments: &[&str]) -> Outcome<Self> {
        let folder = Arc::new(Folder::new());
        let mut command = Command::new(program("phusa-hub"));
        command.args(["simulate", "--no-account", "--dir"]).arg(folder.path().join("sim"));
        let simulator = Process::start(&folder, "simulator", command.args(arguments));
        let config = folder.path().join("sim/hub/hub.toml");
        let metrics = wait_until("the hub's configuration", BEGINS_WITHIN, async || {
            let text = std::fs::read_to_string(&config).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("metrics_listen = "))?;
            Some(format!("http://{}/metrics", line.trim_matches('"')))
        })
        .await;
        let fleet = Self { folder, simulator, metrics };
        wait_until("the hub", BEGINS_WITHIN, async || fleet.figures().await).await;
        Ok(fleet)
    }

    async fn figures(&self) -> Option<String> {
        reqwest::get(&self.metrics).await.ok()?.text().await.ok()
    }

    /// The hub's own process.
    fn hub(&self) -> Outcome<u32> {
        let serves = |id: &u32| {
            let title = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            title.ends_with(b"\0serve\0")
        };
        family(self.simulator.id()).into_iter().find(serves).ok_or_else(|| "no hub".into())
    }

    fn agents(&self) -> Outcome<Vec<Value>> {
        Ok(serde_json::from_slice(&self.command(&["fleet", "ls", "--json"]).stdout)?)
    }

    /// What a command of its hub says.
    fn command(&self, arguments: &[&str]) -> std::process::Output {
        let config = self.folder.path().join("sim/hub/hub.toml");
        let mut command = Command::new(program("phusa-hub"));
        output(command.arg("--config").arg::<&Path>(&config).args(arguments))
    }

    /// Where people sign in, and who vouches for its certificate.
    fn portal(&self) -> Outcome<(String, Vec<u8>)> {
        let hub = self.folder.path().join("sim/hub");
        let config = std::fs::read_to_string(hub.join("hub.toml"))?;
        let after =
            config.split_once("[portal]").and_then(|(_, rest)| rest.split_once("listen = \""));
        let listen = after.and_then(|(_, rest)| rest.split_once('"')).ok_or("no portal")?.0;
        Ok((format!("https://{listen}"), std::fs::read(hub.join("ca.pem"))?))
    }

    fn end(self) {
        let Self { folder, mut simulator, .. } = self;
        simulator.signal(rustix::process::Signal::INT);
        simulator.wait(Duration::from_secs(60));
        drop(folder);
    }
}
