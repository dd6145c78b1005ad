//! How an agent is: one pure function, used by the hub's page, commands and metrics alike.
//!
//! Offline outranks all, because nothing else that is known is then of now. Healthy means that data
//! arrived, not that a program runs. Every limit is left at another value than it is entered by, so
//! that a figure at the limit does not flicker. Only the hub's clock is compared with itself, and
//! the agent's with itself.

mod dataset;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Code;
use crate::ids::DatasetId;
use crate::report::{Alive, Report};
use crate::time::Timestamp;

pub use self::words::Words;

/// How often an agent reports, at most a tenth earlier or later.
pub const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Silence after which an agent is offline: three reports that did not come.
pub const SILENCE_MAX: Duration = Duration::from_secs(90);

/// How long after a session broke off its agent may be back before it is offline: a line that is
/// cut and dialled again is no news.
pub const RETURN_WITHIN: Duration = Duration::from_secs(15);

/// How long a fault that goes away by itself may last before it is shown, where no contract asks for
/// fresher data.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How an agent or a dataset is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Data arrives.
    Healthy,
    /// It begins: the first read is under way.
    Working,
    /// It has never reported; what it delivers is all that is known.
    Unreported,
    /// It is away or late within a window of maintenance that was announced.
    Maintenance,
    /// Data arrives, and something will stop it one day.
    Attention,
    /// Data is later than agreed.
    Late,
    /// A dataset has stopped; a person must act.
    Faulted,
    /// The hub does not let it in.
    Suspended,
    /// Nothing is heard of it.
    Offline,
}

impl State {
    /// Every state, from good to bad.
    pub const ALL: [Self; 9] = [
        Self::Healthy,
        Self::Working,
        Self::Unreported,
        Self::Maintenance,
        Self::Attention,
        Self::Late,
        Self::Faulted,
        Self::Suspended,
        Self::Offline,
    ];

    /// How long a person has from the moment it began; none where nothing is to be done, or where
    /// it was a person's own decision.
    fn patience(self) -> Option<Duration> {
        const HOUR: u64 = 3_600;
        match self {
            Self::Healthy
            | Self::Working
            | Self::Unreported
            | Self::Maintenance
            | Self::Suspended => None,
            Self::Offline => Some(Duration::from_secs(HOUR)),
            Self::Faulted => Some(Duration::from_secs(4 * HOUR)),
            Self::Late => Some(Duration::from_secs(24 * HOUR)),
            Self::Attention => Some(Duration::from_secs(72 * HOUR)),
        }
    }
}

/// Why an agent or a dataset is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Data arrives.
    Arrives,
    /// It has not begun to read.
    Starting,
    /// The first read is under way.
    FirstRead,
    /// No report has ever come.
    NeverReported,
    /// Data comes, reports do not.
    ReportsSilent,
    /// Less than a third of the certificate's life is left.
    CertificateEnds,
    /// The clocks differ by more than a minute.
    ClockDiffers,
    /// The disk is nearly at its reserve.
    DiskLow,
    /// The spool is filling.
    SpoolFills,
    /// Somebody paused it.
    Paused,
    /// A window of maintenance that was announced.
    Announced,
    /// Changes wait longer than the contract's frequency.
    Behind,
    /// The hub holds nothing of what the agent says it delivered.
    NothingArrived,
    /// A fault that should go away by itself has lasted.
    Obstacle,
    /// A fault that needs a person.
    Fault,
    /// The hub does not let it in.
    Barred,
    /// It was stopped by somebody at the agency.
    Left,
    /// Its session broke off.
    Lost,
    /// It fell silent.
    Silent,
}

/// What is said of an agent or a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it is.
    pub state: State,
    /// Since when it has been in this state, by the hub's clock.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The dataset it is about, where it is about one.
    pub dataset: Option<DatasetId>,
    /// The name of the fault behind it, where there is one.
    pub fault: Option<String>,
    /// By when a person should have acted.
    pub deadline: Option<Timestamp>,
}

/// A report with the moment it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// What it says.
    pub report: &'a Report,
    /// When it arrived, by the hub's clock.
    pub at: Timestamp,
}

/// How the newest session ended, where it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What became of it.
    pub state: Alive,
    /// When that was heard, by the hub's clock.
    pub at: Timestamp,
}

/// What the hub itself has of a dataset from this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Which.
    pub dataset: DatasetId,
    /// The epoch and the last batch committed; 0 before the first.
    pub epoch: u64,
    /// See `epoch`.
    pub seq: u64,
    /// How fresh its contract wants it; none without a contract in force.
    pub frequency: Option<Duration>,
}

/// Everything the verdict is made from.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The hub's clock.
    pub now: Timestamp,
    /// The newest report.
    pub heard: Option<Heard<'a>>,
    /// How the newest session ended, where it has.
    pub ended: Option<Ended>,
    /// When it last delivered or greeted by HTTPS, by the hub's clock.
    pub delivered_at: Option<Timestamp>,
    /// Why the hub does not let it in, where that is so.
    pub barred: Option<Code>,
    /// Until when a window of maintenance that was announced lasts, while it does.
    pub maintenance: Option<Timestamp>,
    /// What the hub has of its datasets.
    pub arrived: &'a [Arrived],
    /// What was said of it last.
    pub before: Option<&'a Verdict>,
}

/// Something that was found, before it is known since when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    state: State,
    reason: Reason,
    dataset: Option<DatasetId>,
    fault: Option<String>,
    /// The moment it began, where that is known better than by when it was seen first.
    began: Option<Timestamp>,
    /// A deadline of its own.
    deadline: Option<Timestamp>,
}

impl Finding {
    fn new(state: State, reason: Reason) -> Self {
        Self { state, reason, dataset: None, fault: None, began: None, deadline: None }
    }

    fn verdict(self, before: Option<&Verdict>, now: Timestamp) -> Verdict {
        let same = before.filter(|before| before.state == self.state).map(|before| before.since);
        let since = same.or(self.began).unwrap_or(now).min(now);
        let patience = self.state.patience().filter(|_| self.reason != Reason::Barred);
        let patience = patience.map(|patience| since.after(patience));
        let deadline = self.deadline.or(patience);
        let Self { state, reason, dataset, fault, .. } = self;
        Verdict { state, since, reason, dataset, fault, deadline }
    }
}

/// How an agent is.
#[must_use]
pub fn judge(seen: &Seen<'_>) -> Verdict {
    let finding = offline(seen).or_else(|| barred(seen)).unwrap_or_else(|| worst(seen));
    announced(finding, seen).verdict(seen.before, seen.now)
}

/// What was announced needs nobody while it lasts; who is not let in is told of all the same.
fn announced(finding: Finding, seen: &Seen<'_>) -> Finding {
    let Some(until) = seen.maintenance else { return finding };
    if finding.state < State::Late || finding.reason == Reason::Barred {
        return finding;
    }
    let Finding { dataset, fault, began, .. } = finding;
    let found = Finding::new(State::Maintenance, Reason::Announced);
    Finding { dataset, fault, began, deadline: Some(until), ..found }
}

/// Everything that is found about the machine of an agent that is there, each as a verdict.
#[must_use]
pub fn judge_machine(seen: &Seen<'_>) -> Vec<Verdict> {
    let Some(heard) = seen.heard else { return Vec::new() };
    machine(heard, seen).map(|finding| finding.verdict(None, seen.now)).collect()
}

/// How each dataset of the newest report is; offline and barred agents are told by [`judge`].
#[must_use]
pub fn judge_datasets(seen: &Seen<'_>) -> Vec<Verdict> {
    let Some(heard) = seen.heard else { return Vec::new() };
    let of = |one| announced(dataset::find(one, heard.report, seen), seen).verdict(None, seen.now);
    heard.report.datasets.iter().map(of).collect()
}

fn offline(seen: &Seen<'_>) -> Option<Finding> {
    let heard = seen.heard?;
    let newest = seen.delivered_at.map_or(heard.at, |at| at.max(heard.at));
    let since_then = |finding| Some(Finding { began: Some(newest), ..finding });
    if let Some(code) = seen.barred.filter(|_| seen.now.since(newest) > SILENCE_MAX) {
        // It is offline because it is not let in, and nobody is to call its agency for that.
        let fault = Some(code.name().to_owned());
        let finding = Finding { fault, ..Finding::new(State::Offline, Reason::Barred) };
        return since_then(finding);
    }
    if seen.now.since(newest) > SILENCE_MAX {
        return since_then(Finding::new(State::Offline, Reason::Silent));
    }
    // The hub itself cuts whom it does not let in.
    let ended = seen.ended.filter(|ended| ended.at >= newest && seen.barred.is_none())?;
    match ended.state {
        Alive::Leaving => since_then(Finding::new(State::Offline, Reason::Left)),
        Alive::Lost if seen.now.since(ended.at) > RETURN_WITHIN => {
            since_then(Finding::new(State::Offline, Reason::Lost))
        }
        Alive::Lost | Alive::Born => None,
    }
}

fn barred(seen: &Seen<'_>) -> Option<Finding> {
    let code = seen.barred?;
    let fault = Some(code.name().to_owned());
    Some(Finding { fault, ..Finding::new(State::Suspended, Reason::Barred) })
}

/// The worst of what an agent that is there says, and of what the hub has.
fn worst(seen: &Seen<'_>) -> Finding {
    let Some(heard) = seen.heard else {
        return Finding::new(State::Unreported, Reason::NeverReported);
    };
    let silent = seen.now.since(heard.at) > SILENCE_MAX;
    let silent = silent.then(|| Finding::new(State::Attention, Reason::ReportsSilent));
    let datasets = heard.report.datasets.iter().map(|one| dataset::find(one, heard.report, seen));
    let all = silent.into_iter().chain(machine(heard, seen)).chain(datasets);
    // Of equals the first counts, so that the reason does not jump about.
    let begins = Finding::new(State::Working, Reason::Starting);
    all.reduce(|worst, next| if next.state > worst.state { next } else { worst }).unwrap_or(begins)
}

/// What is found about the machine an agent runs on.
fn machine<'a>(heard: Heard<'a>, seen: &'a Seen<'_>) -> impl Iterator<Item = Finding> + use<'a> {
    let report = heard.report;
    let was = |reason| seen.before.is_some_and(|before| before.reason == reason);
    let found = |reason, limits: (bool, bool)| {
        let (entered, not_left) = limits;
        let holds = entered || (not_left && was(reason));
        holds.then(|| Finding::new(State::Attention, reason))
    };
    let certificate = report.certificate.and_then(|certificate| {
        let life = certificate.until.since(certificate.from);
        // How much is left by the agent's own clock, less the time since it said so.
        let left = certificate.until.since(report.at).saturating_sub(seen.now.since(heard.at));
        (left < life / 3).then(|| Finding {
            deadline: Some(seen.now.after(left)),
            ..Finding::new(State::Attention, Reason::CertificateEnds)
        })
    });
    let free = report.disk_free_bytes.unwrap_or(u64::MAX);
    let times = |n: u64| free < report.disk_reserve_bytes.saturating_mul(n);
    let share = |of: u64| {
        report.spool.bytes.saturating_mul(100) >= report.spool.bytes_max.max(1).saturating_mul(of)
    };
    let skew = report.skew_ms.unwrap_or(0).unsigned_abs();
    [
        certificate,
        found(Reason::DiskLow, (times(2), times(3))),
        found(Reason::SpoolFills, (share(80), share(60))),
        found(Reason::ClockDiffers, (skew > 60_000, skew > 30_000)),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests;
