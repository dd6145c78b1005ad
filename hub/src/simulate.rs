//! A province that is not there, to try a hub with before anything is approved: agencies made up here,
//! each with keys, a contract, batches by HTTPS and a session of the link, and troubles that befall them
//! by a schedule that one seed decides.
//!
//! The hub beside them is the real one, in a process of its own; it is told nothing but what agents tell
//! it. What is made up: the rows, and what reports say of source, disk, clock and certificate. [`fate`]
//! says what befalls whom, [`agency`] delivers, [`line`] reports, [`orders`] holds what the hub wants.

mod agency;
pub mod fate;
mod line;
mod orders;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::contract::consent::SignedConsent;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::agency::Agency;
use self::fate::{Fate, Schedule};
use self::line::Line;
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::identity;
use crate::service::open_warehouse;
use crate::transfers::Log;

/// The most that are simulated; one machine holds so many lines.
pub const AGENTS_MAX: u16 = 2_000;

/// Between the starts of two agents: a province is not turned on in one moment.
const STARTS_EVERY: Duration = Duration::from_millis(15);

/// How often an agent looks what befell it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after an errand failed it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long the hub may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A folder for everything; it must not be there, or be empty.
    pub dir: PathBuf,
    /// How many agencies, with an agent each.
    pub agents: u16,
    /// What befalls them.
    pub schedule: Schedule,
    /// How often each has something to deliver.
    pub delivers_every: Duration,
}

/// The province, made and agreed upon; nothing of it runs yet.
#[derive(Debug)]
pub struct Province {
    /// Configuration of its hub.
    pub config: PathBuf,
    /// Where people sign in.
    pub portal: String,
    /// Where the hub's figures are.
    pub metrics: String,
    dir: PathBuf,
    schedule: Schedule,
    delivers_every: Duration,
    link: u16,
    agencies: Vec<Agency>,
}

/// Makes keys, certificates, a hub's configuration and a contract for every agency, which its agent and
/// the hub sign.
///
/// # Errors
/// When the folder is in use, or anything cannot be made.
pub async fn prepare(wanted: &Wanted) -> Result<Province, Vec<Fault>> {
    let one = |fault| vec![fault];
    let Wanted { dir, agents, schedule, delivers_every } = wanted;
    is_free(dir).map_err(one)?;
    let names: Vec<AgentId> =
        (1..=*agents).map(agency::name).collect::<Result<_, _>>().map_err(one)?;
    identity::make(&identity::Wanted {
        dir: dir.clone(),
        hub_names: vec!["127.0.0.1".to_owned()],
        broker_names: Vec::new(),
        agents: names.clone(),
        days: 30,
    })
    .map_err(one)?;
    let [listen, metrics, portal, link] = ports().map_err(one)?;
    let config = dir.join("hub/hub.toml");
    let text = format!(
        "state_dir = \"state\"\nlisten = \"127.0.0.1:{listen}\"\nallowed_networks = [\"127.0.0.0/8\"]\n\
         ca_file = \"ca.pem\"\ncertificate_file = \"hub.pem\"\nkey_file = \"hub.key\"\n\
         signing_key_file = \"signing.key\"\nagents_dir = \"agents\"\n\
         metrics_listen = \"127.0.0.1:{metrics}\"\n\n\
         [portal]\nlisten = \"127.0.0.1:{portal}\"\n\n[link]\nlisten = \"127.0.0.1:{link}\"\n"
    );
    fs::write(&config, text).map_err(|error| one(not_written(&config, error)))?;
    let agencies: Vec<Agency> = names
        .into_iter()
        .map(|name| Agency::new(name, dir, listen))
        .collect::<Result<_, _>>()
        .map_err(one)?;
    let plan = Plan::read(&config)?;
    agree(&plan, &agencies).await.map_err(one)?;
    Ok(Province {
        config,
        portal: format!("https://127.0.0.1:{portal}"),
        metrics: format!("http://127.0.0.1:{metrics}/metrics"),
        dir: dir.clone(),
        schedule: *schedule,
        delivers_every: *delivers_every,
        link,
        agencies,
    })
}

async fn agree(plan: &Plan, agencies: &[Agency]) -> Result<(), Fault> {
    let warehouse = open_warehouse(plan).await?;
    let agreed = async {
        let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
        let log = Log::new(plan.signing_key.clone());
        for agency in agencies {
            let contract = agency.contract();
            let signed = SignedConsent::of_owner(contract, agency.agent(), agency.key());
            catalog.propose(contract, &log).await?;
            catalog.owner_signs(&signed, &plan.register, &log).await?;
            catalog.hub_signs(&contract.dataset, &log).await?;
            catalog.apply(&contract.dataset, false, &log).await?;
        }
        Ok(())
    };
    let agreed = agreed.await;
    warehouse.close().await;
    agreed
}

impl Province {
    /// Starts its hub, whose log is `hub.log` of the folder; it ends with what is returned.
    ///
    /// # Errors
    /// When it does not start within two minutes.
    pub async fn start_hub(&self) -> Result<Child, Fault> {
        let failed = |error| Fault::because(Code::Bug, "the hub cannot be started", error);
        let own = std::env::current_exe().map_err(failed)?;
        let file = self.dir.join("hub.log");
        let log = fs::File::create(&file).map_err(|error| not_written(&file, error))?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = Command::new(own);
        command.arg("--config").arg(&self.config).arg("serve");
        // So that Ctrl-C at a terminal ends the agencies first.
        command.process_group(0);
        let mut hub =
            command.stdout(log).stderr(errors).kill_on_drop(true).spawn().map_err(failed)?;
        let began = Instant::now();
        let figures = self.reader();
        while figures.read().await.is_none() {
            let ended = hub.try_wait().map_err(failed)?;
            if ended.is_some() || began.elapsed() > STARTS_WITHIN {
                let what = format!("the hub does not answer: see {}", file.display());
                return Err(Fault::new(Code::HubUnreachable, what));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(hub)
    }

    /// Reads the hub's figures.
    #[must_use]
    pub fn reader(&self) -> Figures {
        Figures { url: self.metrics.clone() }
    }

    /// Runs every agency until `stop`. What befalls each is told in `events.jsonl` of the folder, a line
    /// at a time.
    ///
    /// # Errors
    /// When that file cannot be made.
    pub async fn live(self, stop: &CancellationToken) -> Result<(), Fault> {
        let file = self.dir.join("events.jsonl");
        let events = fs::File::create(&file).map_err(|error| not_written(&file, error))?;
        let (events, began) = (Arc::new(Mutex::new(events)), Instant::now());
        let lives = TaskTracker::new();
        for (number, agency) in self.agencies.into_iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let line = Line::new(&agency, &self.dir, self.link)?;
            let life = Life {
                agency,
                line,
                events: Arc::clone(&events),
                began,
                number,
                schedule: self.schedule,
                delivers_every: self.delivers_every,
                delivers_at: began,
                errands_at: began,
                fate: Fate::Well,
            };
            lives.spawn(life.run(stop.clone()));
        }
        lives.close();
        lives.wait().await;
        Ok(())
    }
}

/// Where the hub's figures are read.
#[derive(Debug, Clone)]
pub struct Figures {
    url: String,
}

impl Figures {
    /// The page of metrics; none while the hub does not answer within five seconds.
    pub async fn read(&self) -> Option<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().ok()?;
        client.get(&self.url).send().await.ok()?.text().await.ok()
    }
}

/// One agency as it goes on.
struct Life {
    agency: Agency,
    line: Line,
    events: Arc<Mutex<fs::File>>,
    began: Instant,
    number: u32,
    schedule: Schedule,
    delivers_every: Duration,
    delivers_at: Instant,
    errands_at: Instant,
    fate: Fate,
}

impl Life {
    async fn run(mut self, stop: CancellationToken) {
        let waits = STARTS_EVERY.saturating_mul(self.number);
        if stop.run_until_cancelled(tokio::time::sleep(waits)).await.is_none() {
            return;
        }
        loop {
            self.look();
            self.work().await;
            self.line.keep(self.fate, &self.agency);
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return self.line.leave().await;
            }
        }
    }

    /// Delivers what is due, unless something or somebody holds it up, and does what the hub wants.
    async fn work(&mut self) {
        let now = Instant::now();
        if self.fate.delivers() {
            self.agency.begin_again();
            let is_due = now >= self.delivers_at || !self.agency.follows();
            if is_due && !self.agency.orders().is_paused() {
                self.agency.deliver().await;
                self.delivers_at = now + self.delivers_every;
            }
        }
        if self.fate.hears() && now >= self.errands_at {
            let is_done = self.agency.run_errands(self.fate.fault()).await;
            self.errands_at = if is_done { now } else { now + AGAIN_AFTER };
        }
    }

    /// Takes what befalls it now, and tells of a change.
    fn look(&mut self) {
        let fate = self.schedule.fate(self.number, self.began.elapsed());
        if fate == std::mem::replace(&mut self.fate, fate) {
            return;
        }
        let (at, agent) = (Timestamp::now(), self.agency.agent());
        let event = serde_json::json!({ "at": at, "agent": agent, "fate": fate });
        let mut file = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{event}") {
            tracing::warn!(%error, "What befell {agent} could not be written down: {error}");
        }
    }
}

fn is_free(dir: &Path) -> Result<(), Fault> {
    let used = fs::read_dir(dir).is_ok_and(|mut inside| inside.next().is_some());
    if used {
        let what = format!("{} is in use; name a folder that is empty or not there", dir.display());
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    fs::create_dir_all(dir).map_err(|error| not_written(dir, error))?;
    // The embedded database runs as another user where the hub is root.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .map_err(|error| not_written(dir, error))
}

/// Ports that are free just now, below those that outgoing connections take by themselves.
fn ports<const N: usize>() -> Result<[u16; N], Fault> {
    let mut drawn = [0; 2];
    getrandom::fill(&mut drawn).map_err(identity::files::not_made_for)?;
    let first = 10_000 + u16::from_be_bytes(drawn) % 20_000;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut free = (first..32_000).chain(10_000..first).filter(is_free);
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free.next().ok_or_else(|| Fault::new(Code::ConfigInvalid, "no port is free"))?;
    }
    Ok(ports)
}

fn not_written(path: &Path, error: std::io::Error) -> Fault {
    Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
}
