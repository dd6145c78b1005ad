//! An installation of one file, without an updater beside it: the program exchanges its own file by
//! `self_update`, keeps the one before next to it, and goes back where the new one cannot work here.
//!
//! Only what people signed is ever laid down: the library asks this room where releases come from (TUF, by
//! [`trust`](super::trust)), how a program is brought over ([`fetch`](super::fetch()), by the agent's own line) and
//! whether to go on (length and digest, then the new program's self-test). Nothing judges it after that, and
//! whoever started the agent starts it anew.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::release::{Stage, Version, Why};
use phusa_protocol::time::Timestamp;
use self_update::backends::custom;
use self_update::http_client::{HeaderMap, HttpClient, HttpResponse};
use self_update::{Error, Release, ReleaseAsset, ReleaseSource};
use tokio::runtime::Handle;
use url::Url;

use super::fetch::{fetch, is_whole};
use super::form::{self, State};
use super::slots::{Slots, slot_of};
use super::trust::{Fetching, PRODUCT, SYSTEM, Signed, Trust, wanted};
use super::worker::{own_version, self_test};
use super::{beside, disk};
use crate::config::plan::UpdatePlan;
use crate::transport::https::Hub;

/// Versions that were taken back and are remembered.
const REJECTED_MAX: usize = 32;

/// The one file and what is needed to exchange it.
#[derive(Debug, Clone)]
pub struct Alone {
    /// The program that runs, and is to be exchanged.
    pub program: PathBuf,
    /// The agent's configuration, for the new program's self-test.
    pub config: PathBuf,
    /// Which agent this is.
    pub agent: AgentId,
    /// The checked `[update]`.
    pub plan: UpdatePlan,
}

/// How asking for an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The hub wants nothing else than what runs.
    Same(Version),
    /// It is not the time: the agency's own `allowed_hours` open in so long.
    Closed(Version, Duration),
    /// It was taken back here before.
    Rejected(Version),
    /// Exchanged; the one before is kept.
    Exchanged(Version, Version),
    /// Exchanged and taken back, and what it said.
    Back(Version, String),
}

impl Alone {
    fn state_file(&self) -> PathBuf {
        Slots::new(&self.plan.slots_dir).state_file()
    }

    /// Where downloads and the memory of this way lie, apart from those of a running agent.
    fn folder(&self) -> PathBuf {
        self.plan.incoming_dir.join("alone")
    }

    /// Refuses what an updater owns, and lets one at a time work.
    fn begin(&self) -> Result<File, Fault> {
        if slot_of(&self.program).is_some() {
            let what = "this program lies in a slot, which the updater's service exchanges";
            return Err(Fault::new(Code::UpdateFailed, what));
        }
        for folder in [&self.plan.slots_dir, &self.folder()] {
            let what = format!("cannot make {}", folder.display());
            fs::create_dir_all(folder).map_err(disk(what))?;
        }
        let lock = self.folder().join("lock");
        let open = File::create(&lock).map_err(disk(format!("cannot open {}", lock.display())))?;
        let held =
            |_| Fault::new(Code::UpdateFailed, "another exchange of this program is under way");
        open.try_lock().map_err(held)?;
        Ok(open)
    }

    /// Exchanges the program for what the hub assigns, where that may be done now; `again` also for one that
    /// was taken back before.
    ///
    /// # Errors
    /// The faults of [`trust`](super::trust) and [`fetch`](super::fetch()); `update_failed` where the new program says that
    /// it cannot work here, or its file cannot be exchanged: then nothing was.
    pub async fn exchange(&self, hub: Arc<Hub>, again: bool) -> Result<Ended, Fault> {
        let _lock = self.begin()?;
        let own = own_version()?;
        let running = beside::running(&self.program).unwrap_or(own);
        let mut state: State = form::read(&self.state_file())?
            .unwrap_or_else(|| State::idle(running, Timestamp::now()));
        if (state.stage, state.target) == (Stage::Staged, Some(running)) {
            // The power was cut after the exchange and before it was proven.
            return self.prove(state, running).await;
        }
        let assigned = hub.assignment(&self.agent).await?.and_then(|said| said.version);
        let Some(version) = assigned.filter(|version| *version != running) else {
            return Ok(Ended::Same(running));
        };
        if state.rejected.contains(&version) && !again {
            return Ok(Ended::Rejected(version));
        }
        let closed = self.plan.allowed_hours.closed_for(Timestamp::now());
        if !closed.is_zero() {
            return Ok(Ended::Closed(version, closed));
        }
        (state.current, state.target) = (running, Some(version));
        (state.stage, state.since) = (Stage::Staged, Timestamp::now());
        let lent = self.clone();
        let (handle, kept) = (Handle::current(), state.clone());
        let laid = tokio::task::spawn_blocking(move || lent.lay_down(hub, handle, &kept)).await;
        let laid = laid.map_err(|error| Fault::because(Code::Bug, "an exchange ended", error))?;
        if let Err(Refused { why, fault }) = laid {
            if why.is_some() {
                self.taken_back(state, version, (why, fault.to_string()))?;
            }
            return Err(fault);
        }
        self.prove(state, version).await
    }

    /// Has `self_update` do it; whether the new program itself is the reason where it did not.
    fn lay_down(&self, hub: Arc<Hub>, handle: Handle, state: &State) -> Result<(), Refused> {
        let source = Arc::new(Source::new(self.clone(), hub, handle, state.clone()));
        let (of_archive, of_program) = (Arc::clone(&source), Arc::clone(&source));
        let version = state.target.unwrap_or(state.current).to_string();
        let update = custom::Update::configure()
            .source(Releases(Arc::clone(&source)))
            .http_client(Arc::new(Line(Arc::clone(&source))))
            .unattended()
            .show_download_progress(false)
            .current_version(state.current.to_string())
            .release_tag(version)
            .target(SYSTEM)
            .bin_name(PRODUCT)
            .bin_install_path(&self.program)
            .check_install_path_writable(true)
            .verify_archive(move |file| of_archive.heed(of_archive.is_signed(file)))
            .verify_binary(move |file| of_program.heed(of_program.can_work(file)))
            .build();
        let ended = update.and_then(|update| update.update());
        let what = format!("cannot exchange {}", self.program.display());
        if let Err(error) = ended {
            let own = source.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            let other = || Fault::because(Code::UpdateFailed, what, error).into();
            return Err(own.unwrap_or_else(other));
        }
        // The library renames without a sync; what was before is synced beside it already.
        beside::settle(&self.program).map_err(disk(what))?;
        beside::name(&self.program, &source.signed()?.facts)?;
        Ok(())
    }

    /// Sees that the exchanged program works where it lies, and goes back where it does not.
    async fn prove(&self, mut state: State, version: Version) -> Result<Ended, Fault> {
        let before = state.current;
        match self_test(&self.program, &self.config).await {
            Ok(()) => {
                state.previous = Some(before);
                state.current = version;
                state.rejected.retain(|one| *one != version);
                (state.stage, state.why, state.since) = (Stage::Committed, None, Timestamp::now());
                form::write(&self.state_file(), &state, true)?;
                Ok(Ended::Exchanged(before, version))
            }
            Err(said) => {
                beside::go_back(&self.program)?;
                self.taken_back(state, version, (Some(Why::SelfTest), said.clone()))?;
                Ok(Ended::Back(version, said))
            }
        }
    }

    fn taken_back(
        &self,
        mut state: State,
        version: Version,
        (why, detail): (Option<Why>, String),
    ) -> Result<(), Fault> {
        state.rejected.retain(|one| *one != version);
        state.rejected.push(version);
        let over = state.rejected.len().saturating_sub(REJECTED_MAX);
        state.rejected.drain(..over);
        (state.stage, state.why, state.detail) = (Stage::RolledBack, why, detail);
        (state.target, state.since) = (Some(version), Timestamp::now());
        form::write(&self.state_file(), &state, true)
    }

    /// A person brings the one before back; the other is not installed again by itself.
    ///
    /// # Errors
    /// `update_failed` where none is kept, `disk_failed`.
    pub fn back(&self) -> Result<(Version, Version), Fault> {
        let _lock = self.begin()?;
        let from = beside::running(&self.program).map_or_else(own_version, Ok)?;
        let mut state: State =
            form::read(&self.state_file())?.unwrap_or_else(|| State::idle(from, Timestamp::now()));
        let Some(to) = state.previous.take() else {
            let what = format!("no program before {from} is kept");
            return Err(Fault::new(Code::UpdateFailed, what));
        };
        beside::go_back(&self.program)?;
        state.current = to;
        self.taken_back(state, from, (None, "a person went back".to_owned()))?;
        Ok((from, to))
    }
}

/// Why a program is not laid down, and whether the program itself is the reason.
#[derive(Debug)]
struct Refused {
    why: Option<Why>,
    fault: Fault,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { why: None, fault }
    }
}

/// What `self_update` asks: which programs there are, their bytes, and whether one may be laid down.
struct Source {
    alone: Alone,
    hub: Arc<Hub>,
    handle: Handle,
    state: State,
    signed: Mutex<Option<Signed>>,
    refused: Mutex<Option<Refused>>,
}

impl Source {
    fn new(alone: Alone, hub: Arc<Hub>, handle: Handle, state: State) -> Self {
        let (signed, refused) = (Mutex::default(), Mutex::default());
        Self { alone, hub, handle, state, signed, refused }
    }

    /// Keeps our own fault, since the library's errors carry its text alone.
    fn heed<T>(&self, ended: Result<T, Refused>) -> self_update::Result<T> {
        ended.map_err(|refused| {
            let text = refused.fault.code.name();
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
            Error::transport(text)
        })
    }

    fn signed(&self) -> Result<Signed, Fault> {
        let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let what = "a program is asked for before its signature";
        signed.ok_or_else(|| Fault::new(Code::Bug, what))
    }

    /// The release that people signed as this version.
    fn look(&self, version: Version) -> Result<Signed, Refused> {
        let base = Url::parse("https://hub/release/")
            .map_err(|error| Fault::because(Code::Bug, "cannot name the releases", error))?;
        let (root_file, memory) =
            (self.alone.plan.root_file.clone(), self.alone.folder().join("trust"));
        let trust = Trust { root_file, memory };
        let fetching = Fetching::new(Arc::clone(&self.hub));
        let programs = self.handle.block_on(trust.look(fetching, &base))?;
        let signed = wanted(&programs, version)?;
        *self.signed.lock().unwrap_or_else(PoisonError::into_inner) = Some(signed.clone());
        Ok(signed)
    }

    fn bring(&self) -> Result<File, Refused> {
        let signed = self.signed()?;
        let to = self.alone.folder().join("program");
        let rate_max = self.alone.plan.rate_max;
        self.handle.block_on(fetch(&*self.hub, &signed, &to, rate_max))?;
        Ok(File::open(&to).map_err(disk("cannot read a release"))?)
    }

    fn is_signed(&self, file: &Path) -> Result<(), Refused> {
        if is_whole(file, &self.signed()?) {
            return Ok(());
        }
        Err(Fault::new(Code::ReleaseDamaged, "the program is not what was signed").into())
    }

    /// The last question before the exchange: the new program proves itself, the old one is kept.
    fn can_work(&self, file: &Path) -> Result<(), Refused> {
        self.is_signed(file)?;
        beside::executable(file).map_err(disk("cannot start a release"))?;
        let proven = self.handle.block_on(self_test(file, &self.alone.config));
        proven.map_err(|said| {
            let version = self.state.target.unwrap_or(self.state.current);
            let what = format!("{version} cannot work here: {said}");
            Refused { why: Some(Why::SelfTest), fault: Fault::new(Code::UpdateFailed, what) }
        })?;
        form::write(&self.alone.state_file(), &self.state, true)?;
        Ok(beside::keep(&self.alone.program)?)
    }
}

/// Where releases come from.
struct Releases(Arc<Source>);

impl ReleaseSource for Releases {
    fn get_releases(&self) -> self_update::Result<Vec<Release>> {
        let version = self.0.state.target.unwrap_or(self.0.state.current);
        let signed = self.0.heed(self.0.look(version))?;
        let url = format!("https://hub/release/targets/{}", signed.file);
        let asset = ReleaseAsset::new(signed.facts.target_name(), url);
        Ok(vec![Release::builder().version(version.to_string()).asset(asset).build()?])
    }
}

/// How a program is brought over: the agent's own line, resumed where it broke, no faster than allowed.
struct Line(Arc<Source>);

impl HttpClient for Line {
    fn get(
        &self,
        _url: &str,
        _headers: &HeaderMap,
        _timeout: Option<Duration>,
    ) -> self_update::Result<Box<dyn HttpResponse>> {
        let file = self.0.heed(self.0.bring())?;
        Ok(Box::new(Brought { file, headers: HeaderMap::new() }))
    }
}

/// A program that was brought over and is whole.
struct Brought {
    file: File,
    headers: HeaderMap,
}

impl HttpResponse for Brought {
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn body(self: Box<Self>) -> Box<dyn Read> {
        Box::new(self.file)
    }
}
