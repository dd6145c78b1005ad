//! The updater: owns the slots, verifies what the agent lays down, tries it, keeps it or takes it back.
//!
//! It has no network and no keys. Every step is written down before it is taken, so that after a power cut
//! the link is brought to what was decided.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::release::{Facts, Stage, Version, Why};
use phusa_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::disk;
use super::form::{self, Before, Condition, Health, Offer, SelfTest, State};
use super::judge::{Judge, Terms, Verdict};
use super::slots::Slots;
use super::trust::{Fetching, Source, Trust, wanted};
use crate::failpoint::Failpoint;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a program may take to say whether it can work here.
const SELF_TEST_MAX: Duration = Duration::from_secs(300);

/// How long before an offer that was refused is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Versions that were taken back and are remembered.
const REJECTED_MAX: usize = 32;

/// Where it works.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folder of the slots.
    pub slots_dir: PathBuf,
    /// What the agent lays down.
    pub incoming_dir: PathBuf,
    /// The root of trust of releases.
    pub root_file: PathBuf,
    /// How long each thing may take.
    pub terms: Terms,
}

/// The updater.
#[derive(Debug)]
pub struct Watch {
    place: Place,
    slots: Slots,
    trust: Trust,
    state: State,
    judge: Option<Judge>,
    waited: Duration,
}

/// Metadata as the agent laid it down.
#[derive(Debug)]
struct Laid(PathBuf);

impl Source for Laid {
    async fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let file = self.0.join(name);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk(format!("cannot read {}", file.display()))(error)),
        }
    }
}

impl Watch {
    /// Reads what was decided and brings the link to it.
    ///
    /// # Errors
    /// `update_failed` where no program was ever adopted, `disk_failed`.
    pub fn open(place: Place) -> Result<Self, Fault> {
        let slots = Slots::new(&place.slots_dir);
        let kept = form::read::<State>(&slots.state_file());
        // A state that cannot be read is begun anew from the link, which is always whole.
        let kept = kept.unwrap_or_else(|fault| {
            warn!(code = %fault.code, "The updater begins anew: {}", fault.chain());
            None
        });
        let current = slots.current().filter(|version| slots.has(*version));
        let state = match (kept, current) {
            (Some(state), _) => state,
            (None, Some(current)) => State::idle(current, Timestamp::now()),
            (None, None) => {
                let what = format!("{} has no program", place.slots_dir.display());
                return Err(Fault::new(Code::UpdateFailed, what));
            }
        };
        let memory = place.slots_dir.join("trust");
        let trust = Trust { root_file: place.root_file.clone(), memory };
        let mut watch = Self { place, slots, trust, state, judge: None, waited: Duration::ZERO };
        watch.reconcile()?;
        Ok(watch)
    }

    /// What is decided counts, wherever the link was left.
    fn reconcile(&mut self) -> Result<(), Fault> {
        let decided = self.state.wanted();
        if self.slots.current() != Some(decided) {
            if !self.slots.has(decided) {
                // The link is whole whatever happened: what it starts is what counts.
                let Some(current) = self.slots.current().filter(|one| self.slots.has(*one)) else {
                    let what = format!("neither {decided} nor another slot is whole");
                    return Err(Fault::new(Code::UpdateFailed, what));
                };
                self.state = State::idle(current, Timestamp::now());
                return self.save();
            }
            info!(version = %decided, "The program is brought to what was decided: {decided}");
            self.slots.flip(decided)?;
            self.restart()?;
        }
        if let (Stage::Probation, Some(target)) = (self.state.stage, self.state.target) {
            self.judge = Some(self.trial(target));
        }
        self.save()
    }

    fn trial(&self, target: Version) -> Judge {
        Judge::new(target, self.state.before.clone(), self.place.terms)
    }

    /// Looks every second until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut said = None;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            match self.step(LOOK_EVERY).await {
                Ok(()) => said = None,
                Err(fault) if said != Some(fault.code) => {
                    warn!(code = %fault.code, "An update does not go on: {}", fault.chain());
                    said = Some(fault.code);
                }
                Err(_) => {}
            }
        }
    }

    /// Looks once, `elapsed` after the last time.
    ///
    /// # Errors
    /// What stands in the way; the program that runs is not touched then.
    pub async fn step(&mut self, elapsed: Duration) -> Result<(), Fault> {
        self.waited = self.waited.saturating_add(elapsed);
        match (self.state.stage, self.state.target) {
            (Stage::Probation, Some(target)) => self.look_at_trial(target, elapsed),
            (Stage::Staged, Some(target)) => self.look_at_self_test(target),
            _ => self.look_at_offer().await,
        }
    }

    /// What is decided now.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    fn health(&self) -> Option<Health> {
        form::read(&self.place.incoming_dir.join("health.json")).ok().flatten()
    }

    async fn look_at_offer(&mut self) -> Result<(), Fault> {
        let offer: Option<Offer> = form::read(&self.place.incoming_dir.join("offer.json"))?;
        let Some(offer) = offer else { return Ok(()) };
        let version = offer.facts.version;
        if version == self.state.current || self.state.rejected.contains(&version) {
            return Ok(());
        }
        if self.state.obstacle.is_some() && self.waited < AGAIN_AFTER {
            return Ok(());
        }
        match self.stage(version).await {
            Ok(facts) => {
                info!(%version, "Release {version} lies in its slot and is to prove itself");
                self.enter(Stage::Staged, Some(facts.version))
            }
            Err(fault) => {
                self.state.obstacle = Some(fault.code.name().to_owned());
                self.waited = Duration::ZERO;
                self.save()?;
                Err(fault)
            }
        }
    }

    /// Verifies everything again, and fills the slot.
    async fn stage(&self, version: Version) -> Result<Facts, Fault> {
        let source = Arc::new(Laid(self.place.incoming_dir.join("metadata")));
        let base = Url::parse("https://hub/release/")
            .map_err(|error| Fault::because(Code::Bug, "cannot name the releases", error))?;
        let programs = self.trust.look(Fetching::new(source), &base).await?;
        let signed = wanted(&programs, version)?;
        let (slots, from) = (self.slots.clone(), self.place.incoming_dir.join("program"));
        let facts = signed.facts.clone();
        let filled = tokio::task::spawn_blocking(move || slots.fill(&from, &signed)).await;
        filled.map_err(|error| Fault::because(Code::Bug, "file work ended", error))??;
        Ok(facts)
    }

    fn look_at_self_test(&mut self, target: Version) -> Result<(), Fault> {
        let file = self.place.incoming_dir.join("self-test.json");
        let said: Option<SelfTest> = form::read(&file)?;
        let own = self.state.since;
        match said.filter(|said| said.version == target) {
            Some(said) if said.passed => self.begin(target),
            Some(said) => self.back(target, Why::SelfTest, said.said),
            None if Timestamp::now().since(own) > SELF_TEST_MAX => {
                self.back(target, Why::SelfTest, "no answer".to_owned())
            }
            None => Ok(()),
        }
    }

    /// Tries it, as soon as there is something to compare with.
    fn begin(&mut self, target: Version) -> Result<(), Fault> {
        let Some(health) = self.health().filter(|now| now.running == self.state.current) else {
            return Ok(());
        };
        let is = |condition| health.datasets.iter().any(|(_, one)| *one == condition);
        // With a dead database or hub nothing could be told of the new program.
        if is(Condition::Excused) || (!health.datasets.is_empty() && !is(Condition::Well)) {
            return Ok(());
        }
        let well = health.datasets.iter().filter(|(_, one)| *one == Condition::Well);
        let well = well.map(|(id, _)| id.clone()).collect();
        self.state.before = Before { well, rss_kib: health.rss_kib };
        self.enter(Stage::Probation, Some(target))?;
        Failpoint::AfterTrialNoted.pass();
        self.slots.flip(target)?;
        self.judge = Some(self.trial(target));
        info!(version = %target, "Release {target} is on probation");
        self.restart()
    }

    fn look_at_trial(&mut self, target: Version, elapsed: Duration) -> Result<(), Fault> {
        let health = self.health();
        let judge = match &mut self.judge {
            Some(judge) => judge,
            none => none.insert(Judge::new(target, self.state.before.clone(), self.place.terms)),
        };
        match judge.look(elapsed, health.as_ref()) {
            Verdict::Wait => Ok(()),
            Verdict::Back(why, detail) => self.back(target, why, detail),
            Verdict::Commit => self.commit(target),
        }
    }

    fn commit(&mut self, target: Version) -> Result<(), Fault> {
        self.state.previous = Some(self.state.current);
        self.state.current = target;
        self.judge = None;
        self.enter(Stage::Committed, Some(target))?;
        Failpoint::AfterCommitNoted.pass();
        info!(version = %target, "Release {target} stays");
        let keep: Vec<_> = [Some(target), self.state.previous].into_iter().flatten().collect();
        self.slots.keep_only(&keep)
    }

    fn back(&mut self, target: Version, why: Why, detail: String) -> Result<(), Fault> {
        let current = self.state.current;
        warn!(code = %Code::UpdateFailed, version = %target, why = why.name(), "Release {target} is taken back, {current} runs on: {}: {detail}", why.words().1);
        self.state.rejected.retain(|one| *one != target);
        self.state.rejected.push(target);
        let over = self.state.rejected.len().saturating_sub(REJECTED_MAX);
        self.state.rejected.drain(..over);
        self.judge = None;
        self.enter_because(Stage::RolledBack, Some(target), Some((why, detail)))?;
        Failpoint::AfterReturnNoted.pass();
        if self.slots.current() != Some(current) {
            self.slots.flip(current)?;
            self.restart()?;
        }
        Ok(())
    }

    fn enter(&mut self, stage: Stage, target: Option<Version>) -> Result<(), Fault> {
        self.enter_because(stage, target, None)
    }

    fn enter_because(
        &mut self,
        stage: Stage,
        target: Option<Version>,
        because: Option<(Why, String)>,
    ) -> Result<(), Fault> {
        self.state.stage = stage;
        self.state.target = target;
        let (why, detail) = because.unzip();
        (self.state.why, self.state.detail) = (why, detail.unwrap_or_default());
        self.state.obstacle = None;
        self.state.since = Timestamp::now();
        self.waited = Duration::ZERO;
        self.save()
    }

    fn save(&self) -> Result<(), Fault> {
        form::write(&self.slots.state_file(), &self.state, true)
    }

    /// Asks for the agent to be started anew: a path unit of systemd watches this file.
    fn restart(&self) -> Result<(), Fault> {
        let file = self.place.slots_dir.join("restart");
        form::write(&file, &Timestamp::now(), false)
    }
}

/// Makes the program of a package the one that runs, where none is newer.
///
/// # Errors
/// `update_failed` when the version is none, `disk_failed`.
pub fn adopt(slots_dir: &Path, program: &Path, version: Version) -> Result<bool, Fault> {
    let slots = Slots::new(slots_dir);
    fs::create_dir_all(slots_dir.join("slots")).map_err(disk("cannot make the slots"))?;
    let state = form::read::<State>(&slots.state_file()).ok().flatten();
    let current = slots.current().filter(|one| slots.has(*one));
    if current.is_some_and(|current| current >= version) {
        return Ok(false);
    }
    let facts = Facts {
        product: super::trust::PRODUCT.to_owned(),
        version,
        system: super::trust::SYSTEM.to_owned(),
        min_version: version,
        program_version: None,
    };
    slots.adopt(program, &facts)?;
    let mut state = state.unwrap_or_else(|| State::idle(version, Timestamp::now()));
    state.previous = current;
    state.current = version;
    (state.stage, state.target) = (Stage::Idle, None);
    form::write(&slots.state_file(), &state, true)?;
    slots.flip(version)?;
    Ok(true)
}
