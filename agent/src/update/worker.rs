//! The agent's side: asks the hub what to run, brings it over, has it prove itself, shows signs of life, and
//! ends when another program is to be started in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::Want;
use phusa_protocol::release::{Stage, UpdateReport, Version};
use phusa_protocol::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::fetch::{Pieces, fetch};
use super::form::{self, Condition, Health, Offer, SelfTest, State};
use super::slots::{Slots, slot_of};
use super::trust::{Fetching, Source, Trust, wanted};
use super::{beside, disk};
use crate::config::UpdateMode;
use crate::config::plan::UpdatePlan;
use crate::orders::Book;
use crate::status::{AgentStatus, DatasetStatus, State as Doing};
use crate::transport::https::Hub;

/// How often a sign of life is shown.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long a program may take for its self-test.
const SELF_TEST_MAX: Duration = Duration::from_secs(120);

/// How long the service manager has to start another program before this one ends by itself.
const END_AFTER: u32 = 10;

/// What the agent knows of itself.
pub type Look = Arc<dyn Fn() -> AgentStatus + Send + Sync>;

/// The agent's side of updates.
pub struct Worker {
    agent: AgentId,
    plan: UpdatePlan,
    config: PathBuf,
    slots: Slots,
    hub: Arc<Hub>,
    look: Look,
    orders: Arc<Book>,
    show: watch::Sender<Option<UpdateReport>>,
    running: Version,
    own: Mutex<Own>,
}

/// How far the next release is before the updater has it, and what stands in its way.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    stage: Option<(Stage, Version)>,
    obstacle: Option<Code>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Source for Hub {
    async fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.release_metadata(name).await
    }
}

impl Pieces for Hub {
    async fn piece(&self, file: &str, from: u64) -> Result<Option<Vec<u8>>, Fault> {
        self.release_piece(file, from).await
    }
}

/// The version that runs: of the slot this program lies in, as its one file was signed, or its own.
#[must_use]
pub fn running() -> Option<Version> {
    let program = std::env::current_exe().ok();
    let slot = program.as_deref().and_then(slot_of).map(|facts| facts.version);
    let alone = || program.as_deref().and_then(beside::running);
    slot.or_else(alone).or_else(|| own_version().ok())
}

/// The version this program was built as.
///
/// # Errors
/// `bug` when it is none.
pub fn own_version() -> Result<Version, Fault> {
    let own = Version::try_from(env!("CARGO_PKG_VERSION").to_owned());
    own.map_err(|error| Fault::because(Code::Bug, "this program has no version", error))
}

impl Worker {
    /// One that has asked nothing yet.
    ///
    /// # Errors
    /// `disk_failed` when there is no folder to hand releases over in.
    pub fn new(
        (agent, plan, config): (AgentId, UpdatePlan, PathBuf),
        hub: Arc<Hub>,
        (look, orders): (Look, Arc<Book>),
        show: watch::Sender<Option<UpdateReport>>,
    ) -> Result<Self, Fault> {
        let made = fs::create_dir_all(&plan.incoming_dir);
        made.map_err(disk(format!("cannot make incoming_dir {}", plan.incoming_dir.display())))?;
        let bug = || Fault::new(Code::Bug, "this program has no version");
        let (running, slots) = (running().ok_or_else(bug)?, Slots::new(&plan.slots_dir));
        Ok(Self {
            agent,
            plan,
            config,
            slots,
            hub,
            look,
            orders,
            show,
            running,
            own: Mutex::default(),
        })
    }

    /// Works until it is stopped; stops `all` when another program is to run.
    pub async fn run(self, all: CancellationToken) {
        tokio::join!(self.beats(&all), self.proofs(&all), self.checks(&all));
    }

    async fn beats(&self, all: &CancellationToken) {
        let (mut beat, mut other_runs) = (0, 0);
        loop {
            beat += 1;
            self.say(beat, self.state().as_ref());
            other_runs = if self.other_is_to_run() { other_runs + 1 } else { 0 };
            if other_runs > END_AFTER {
                info!("Another version is to run: this process ends");
                return all.cancel();
            }
            if all.run_until_cancelled(tokio::time::sleep(BEAT_EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn proofs(&self, all: &CancellationToken) {
        while all.run_until_cancelled(tokio::time::sleep(BEAT_EVERY)).await.is_some() {
            let state = self.state();
            let proven = self.prove(state.as_ref());
            let _stopped = all.run_until_cancelled(proven).await;
        }
    }

    async fn checks(&self, all: &CancellationToken) {
        let mut said = None;
        loop {
            let wanted = self.wanted();
            let Some(ended) = all.run_until_cancelled(self.check(self.state().as_ref())).await
            else {
                return;
            };
            let code = ended.as_ref().err().map(|fault| fault.code);
            self.set(|own| own.obstacle = code);
            if let Some(order) = wanted {
                self.orders.ended(order, code.map_or(Ok(()), Err));
            }
            if let Err(fault) = ended
                && said != code
            {
                warn!(code = %fault.code, "No update, and {} runs on: {}", self.running, fault.chain());
            }
            said = code;
            // What is wanted still has just failed, and waits as every look that failed does.
            let rests = self.wanted().is_some();
            tokio::select! {
                () = all.cancelled() => return,
                () = tokio::time::sleep(self.plan.check_every) => {}
                _order = self.orders.asked(Want::CheckUpdate), if !rests => {}
            }
        }
    }

    fn wanted(&self) -> Option<u64> {
        self.orders.errand(Want::CheckUpdate, None, Timestamp::now())
    }

    fn set(&self, change: impl FnOnce(&mut Own)) {
        change(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn incoming(&self, name: &str) -> PathBuf {
        self.plan.incoming_dir.join(name)
    }

    fn state(&self) -> Option<State> {
        form::read(&self.slots.state_file()).ok().flatten()
    }

    /// A sign of life for the judge, and the state of updates for people.
    fn say(&self, beat: u64, state: Option<&State>) {
        let status = (self.look)();
        let datasets =
            status.datasets.iter().map(|one| (one.dataset.clone(), condition(one))).collect();
        let health = Health {
            running: self.running,
            started_at: status.started_at,
            beat,
            rss_kib: rss_kib(),
            datasets,
        };
        if let Err(fault) = form::write(&self.incoming("health.json"), &health, false) {
            tracing::debug!(code = %fault.code, "No sign of life was written: {}", fault.chain());
        }
        let idle = (Stage::Idle, None, status.started_at);
        let mut of_updater = state.map_or(idle, |state| (state.stage, state.target, state.since));
        if of_updater.0 == Stage::Committed && of_updater.1 != Some(self.running) {
            // One file was exchanged by hand, and this process is of the one before.
            of_updater.0 = Stage::Staged;
        }
        let of_updater_is_new =
            matches!(of_updater.0, Stage::Staged | Stage::Probation | Stage::RolledBack);
        let Own { stage: own, obstacle } = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = own.filter(|own| of_updater.1 != Some(own.1) || !of_updater_is_new);
        let own = own.filter(|own| own.1 != self.running);
        let (stage, target, since) = match own {
            Some((stage, version)) => (stage, Some(version), status.at),
            None => of_updater,
        };
        let why = state.filter(|state| state.stage == stage).and_then(|state| state.why);
        let obstacle = obstacle.map(|code| code.name().to_owned());
        let obstacle = obstacle.or_else(|| state.and_then(|state| state.obstacle.clone()));
        self.show.send_replace(Some(UpdateReport {
            running: self.running,
            stage,
            target,
            why: why.map(|why| why.name().to_owned()),
            obstacle,
            since,
        }));
    }

    /// Whether another program is to run in the place of this one.
    fn other_is_to_run(&self) -> bool {
        let other = self.slots.current().is_some_and(|current| current != self.running);
        other && std::env::current_exe().is_ok_and(|own| slot_of(&own).is_some())
    }

    /// Has a staged program say whether it can work here.
    async fn prove(&self, state: Option<&State>) {
        let Some((Stage::Staged, Some(target))) = state.map(|one| (one.stage, one.target)) else {
            return;
        };
        let file = self.incoming("self-test.json");
        let done = form::read::<SelfTest>(&file).ok().flatten();
        let since = state.map_or(Timestamp::UNIX_EPOCH, |state| state.since);
        let is_new = fs::metadata(&file).and_then(|meta| meta.modified()).is_ok_and(|at| {
            let at = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Timestamp::UNIX_EPOCH.after(at) >= since
        });
        if is_new && done.is_some_and(|done| done.version == target) {
            return;
        }
        let said = self_test(&self.slots.program(target), &self.config).await;
        let (passed, said) = match said {
            Ok(()) => (true, String::new()),
            Err(said) => (false, said),
        };
        info!(version = %target, passed, "The self-test of {target} ended: {said}");
        let test = SelfTest { version: target, passed, said };
        if let Err(fault) = form::write(&file, &test, true) {
            warn!(code = %fault.code, "{}", fault.chain());
        }
    }

    /// Asks what to run, and brings it over.
    async fn check(&self, state: Option<&State>) -> Result<(), Fault> {
        let Some(said) = self.hub.assignment(&self.agent).await? else { return Ok(()) };
        let number = self.incoming("assignment.json");
        let seen: Option<u64> = form::read(&number).unwrap_or_default();
        if seen.is_some_and(|seen| seen > said.number) {
            let what = "the hub's assignment is older than the one this agent saw";
            return Err(Fault::new(Code::ReleaseOlder, what));
        }
        if seen != Some(said.number) {
            form::write(&number, &said.number, true)?;
        }
        let Some(version) = said.version.filter(|version| *version != self.running) else {
            self.set(|own| own.stage = None);
            return Ok(());
        };
        let busy = |state: &State| matches!(state.stage, Stage::Staged | Stage::Probation);
        let rejected = |state: &State| state.rejected.contains(&version);
        if state.is_some_and(|state| busy(state) || rejected(state)) {
            self.set(|own| own.stage = None);
            return Ok(());
        }
        self.set(|own| own.stage = Some((Stage::Offered, version)));
        if !self.may_now(version) {
            return Ok(());
        }
        self.bring(version).await
    }

    /// The agency's own hours, and its word where it wants to be asked.
    fn may_now(&self, version: Version) -> bool {
        let accepted = || {
            let accepted = form::read::<Version>(&self.incoming("accepted.json")).ok().flatten();
            accepted == Some(version)
        };
        // Without an updater a person has the program exchange its own file: `update now`.
        let in_slot = std::env::current_exe().is_ok_and(|own| slot_of(&own).is_some());
        let asked = in_slot && (self.plan.mode == UpdateMode::Auto || accepted());
        asked && self.plan.allowed_hours.closed_for(Timestamp::now()).is_zero()
    }

    async fn bring(&self, version: Version) -> Result<(), Fault> {
        let base = Url::parse("https://hub/release/")
            .map_err(|error| Fault::because(Code::Bug, "cannot name the releases", error))?;
        let trust =
            Trust { root_file: self.plan.root_file.clone(), memory: self.incoming("trust") };
        let fetching = Fetching::new(Arc::clone(&self.hub));
        let programs = trust.look(fetching.clone(), &base).await?;
        let signed = wanted(&programs, version)?;
        self.set(|own| own.stage = Some((Stage::Downloading, version)));
        let program = self.incoming("program");
        info!(%version, "Release {version} is fetched");
        fetch(&*self.hub, &signed, &program, self.plan.rate_max).await?;
        fetching.lay_down(&self.incoming("metadata"))?;
        let offer = Offer { facts: signed.facts, length: signed.length };
        form::write(&self.incoming("offer.json"), &offer, true)?;
        self.set(|own| own.stage = Some((Stage::Verified, version)));
        info!(%version, "Release {version} is whole and what people signed");
        Ok(())
    }
}

/// How a dataset is, for the judge.
fn condition(one: &DatasetStatus) -> Condition {
    let troubles = [&one.reading_trouble, &one.delivery_trouble];
    let worst = troubles.into_iter().flatten().map(|trouble| trouble.code.class()).max();
    match (worst, one.state) {
        (Some(Class::Operator | Class::Bug), _) => Condition::Bad,
        (Some(Class::Retry), _) => Condition::Excused,
        (None, Doing::Starting) => Condition::Waiting,
        (None, Doing::Faulted) => Condition::Bad,
        (None, Doing::Reading | Doing::Following) => Condition::Well,
    }
}

/// Memory of this program in KiB, where the system says.
#[must_use]
pub fn rss_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Runs `self-test` of a program; why not, where it does not pass.
pub(super) async fn self_test(program: &Path, config: &Path) -> Result<(), String> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--config").arg(config).arg("self-test");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(SELF_TEST_MAX, command.status()).await;
    match ran {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it ended with {status}")),
        Ok(Err(error)) => Err(format!("it does not start: {}", error.kind())),
        Err(_) => Err("it did not end in time".to_owned()),
    }
}
