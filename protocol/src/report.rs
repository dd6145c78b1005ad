//! What an agent says of itself over the link: its report, and whether it lives.
//!
//! A report is the whole state each time, so a lost one costs nothing and none is ever added to
//! another. It carries names, counts, positions and moments; no row value, and no text of an error.

use serde::{Deserialize, Serialize};

use crate::diagnosis::Diagnosis;
use crate::digest::Digest;
use crate::fault::Code;
use crate::ids::{AgentId, DatasetId};
use crate::orders::{OrdersReport, Told};
pub use crate::plain::plain;
use crate::plain::{TEXT_CHARACTERS_MAX, is_plain};
use crate::release::UpdateReport;
use crate::time::Timestamp;

/// The largest report that is taken, in bytes: two hundred datasets with room to spare.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;

/// The largest message about a life, in bytes.
pub const LIFE_BYTES_MAX: usize = 1_024;

/// Datasets in one report.
pub const DATASETS_MAX: usize = 200;

/// The version of this form.
const FORM: u32 = 1;

/// What a topic of an agent is for: `phusa/<agency>/<agent>/<channel>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Reports, from the agent.
    Report,
    /// Birth, last will and farewell, from the agent.
    Life,
    /// What the hub wants, to the agent.
    Command,
}

impl Channel {
    /// The topic of one agent; nobody else may use it.
    #[must_use]
    pub fn topic(self, agent: &AgentId) -> String {
        format!("phusa/{agent}/{}", self.name())
    }

    /// The filter that matches this topic of every agent, for who may listen to all.
    #[must_use]
    pub fn of_all(self) -> String {
        format!("phusa/+/+/{}", self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Life => "life",
            Self::Command => "command",
        }
    }
}

/// The moment a session of the link began, by the agent's clock: the epoch of its birth. It is
/// compared for equality alone, so that a clock that was set back does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth(pub Timestamp);

/// Whether a session lives. Its birth says `born`, its last will `lost`, its farewell `leaving`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which session.
    pub birth: Birth,
    /// What became of it.
    pub state: Alive,
}

/// What became of a session of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alive {
    /// It began.
    Born,
    /// It broke off.
    Lost,
    /// The agent was stopped by somebody.
    Leaving,
}

/// What a dataset is doing at its agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not begun: the hub has not said yet which epoch comes next.
    Starting,
    /// The full read is under way.
    Reading,
    /// Changes are followed.
    Following,
    /// Reading has stopped on a fault.
    Faulted,
    /// Somebody asked it to wait.
    Paused,
}

/// What stands in the way, as far as a report tells: a name, never a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The fault's name; of a later version of the agent it may be one this program does not know.
    pub code: String,
    /// Since when, by the agent's clock.
    pub since: Timestamp,
}

impl Obstacle {
    /// The fault, where this program knows it.
    #[must_use]
    pub fn known(&self) -> Option<Code> {
        Code::named(&self.code)
    }
}

/// One dataset of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetReport {
    /// Which.
    pub dataset: DatasetId,
    /// What it is doing.
    pub phase: Phase,
    /// The epoch it is in; 0 before the first.
    pub epoch: u64,
    /// Where reading stands at the source: a place in its log, never a value of a row.
    pub position: String,
    /// The newest batch in the spool, and the newest with a receipt.
    pub spooled_seq: u64,
    /// See `spooled_seq`.
    pub released_seq: u64,
    /// Age of the newest change that waits for its receipt; 0 when none waits.
    pub lag_seconds: u64,
    /// Rows made durable in the spool since the agent started.
    pub rows: u64,
    /// Rows that stayed at the agency since the agent started.
    pub rejects: u64,
    /// What stands in the way of reading or delivering.
    pub obstacle: Option<Obstacle>,
    /// Fingerprint of the contract in force there.
    pub contract: Digest,
    /// Fingerprint of the mapping in force there.
    pub mapping: Digest,
}

/// The spool of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolReport {
    /// Bytes in it.
    pub bytes: u64,
    /// The limit they keep to.
    pub bytes_max: u64,
    /// Commit time at the source of the oldest change that has waited for its receipt; none when
    /// nothing waits or the source does not say.
    pub oldest: Option<Timestamp>,
}

/// The agent's certificate in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// From when it is valid.
    pub from: Timestamp,
    /// The moment after which it is not.
    pub until: Timestamp,
}

/// Everything an agent says of itself, every 30 seconds and on change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form: 1.
    pub v: u32,
    /// Who.
    pub agent: AgentId,
    /// Version of its program.
    pub version: String,
    /// The session it belongs to.
    pub birth: Birth,
    /// Since when the program runs.
    pub started_at: Timestamp,
    /// When it was made, by the agent's clock.
    pub at: Timestamp,
    /// What waits.
    pub spool: SpoolReport,
    /// Bytes free on the disk of the state folder, where the system says.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of it that are left to others.
    pub disk_reserve_bytes: u64,
    /// Its certificate, where it can be read.
    pub certificate: Option<CertificateReport>,
    /// The agent's clock minus the hub's, as it last heard, in milliseconds.
    pub skew_ms: Option<i64>,
    /// Every dataset, by name.
    pub datasets: Vec<DatasetReport>,
    /// How far it is with an update, where it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateReport>,
    /// How it stands to what is wanted of it; none of a program that knows no more than pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<OrdersReport>,
    /// What may be wrong with it, while that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Box<Diagnosis>>,
}

/// Why bytes are no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// Too many bytes.
    #[error("it has {0} bytes, more than {REPORT_BYTES_MAX}")]
    Large(usize),
    /// Not JSON of this form. The text does not quote it.
    #[error("it is not JSON of form {FORM}")]
    Form,
    /// Another agent's.
    #[error("it names another agent than its certificate")]
    Agent,
    /// Too many datasets, or one twice.
    #[error("it lists more than {DATASETS_MAX} datasets, or one twice")]
    Datasets,
    /// A text of it is too long.
    #[error("a text of it is longer than {TEXT_CHARACTERS_MAX} characters, or not plain")]
    Text,
}

impl BadReport {
    /// The reason in words that are the same each time.
    #[must_use]
    pub fn because(&self) -> &'static str {
        match self {
            Self::Large(_) => "its report is too large",
            Self::Form => "its report is not of the known form",
            Self::Agent => "its report names another agent than its certificate",
            Self::Datasets => "its report lists too many datasets, or one twice",
            Self::Text => "a text of its report is too long, or not plain",
        }
    }
}

impl Report {
    /// The version of the form that this program writes.
    pub const FORM: u32 = FORM;

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what arrived from `agent`.
    ///
    /// # Errors
    /// [`BadReport`] with the reason, without quoting anything.
    pub fn read(bytes: &[u8], agent: &AgentId) -> Result<Self, BadReport> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(BadReport::Large(bytes.len()));
        }
        let report: Self = serde_json::from_slice(bytes).map_err(|_| BadReport::Form)?;
        if report.v != FORM {
            return Err(BadReport::Form);
        }
        if report.agent != *agent {
            return Err(BadReport::Agent);
        }
        let mut names: Vec<_> = report.datasets.iter().map(|d| &d.dataset).collect();
        names.sort();
        names.dedup();
        if report.datasets.len() > DATASETS_MAX || names.len() != report.datasets.len() {
            return Err(BadReport::Datasets);
        }
        let of_dataset = |d: &DatasetReport| {
            is_plain(&d.position) && d.obstacle.as_ref().is_none_or(|o| is_plain(&o.code))
        };
        let of_update =
            |u: &UpdateReport| u.why.iter().chain(&u.obstacle).all(|text| is_plain(text));
        let of_orders = |o: &OrdersReport| {
            o.is_bounded() && o.told.iter().flat_map(Told::texts).all(|text| is_plain(text))
        };
        let is_good = report.update.iter().all(of_update)
            && report.datasets.iter().all(of_dataset)
            && report.orders.iter().all(of_orders)
            && report.diagnosis.iter().all(|one| one.is_bounded());
        if !is_plain(&report.version) || !is_good {
            return Err(BadReport::Text);
        }
        Ok(report)
    }
}

impl Life {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// Reads what arrived; `None` when it is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= LIFE_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{FAULTS_MAX, Lately, SETTINGS_MAX, Setting};
    use crate::orders::HOURS_CHARACTERS_MAX;
    use proptest::prelude::*;

    fn agent() -> AgentId {
        AgentId::try_from("H57.12/may-1".to_owned()).unwrap()
    }

    fn dataset(name: &str) -> DatasetReport {
        DatasetReport {
            dataset: DatasetId::new(name).unwrap(),
            phase: Phase::Following,
            epoch: 1,
            position: "0/16B3748".to_owned(),
            spooled_seq: 7,
            released_seq: 7,
            lag_seconds: 0,
            rows: 1_000,
            rejects: 2,
            obstacle: Some(Obstacle {
                code: "hub_unreachable".to_owned(),
                since: Timestamp::UNIX_EPOCH,
            }),
            contract: Digest::of(b"contract"),
            mapping: Digest::of(b"mapping"),
        }
    }

    fn report() -> Report {
        Report {
            v: Report::FORM,
            agent: agent(),
            version: "0.1.0".to_owned(),
            birth: Birth(Timestamp::UNIX_EPOCH),
            started_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            spool: SpoolReport { bytes: 0, bytes_max: 1 << 30, oldest: None },
            disk_free_bytes: Some(1 << 40),
            disk_reserve_bytes: 1 << 30,
            certificate: None,
            skew_ms: Some(3),
            datasets: vec![dataset("cong_dan.citizens")],
            update: None,
            orders: None,
            diagnosis: None,
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was_made_and_names_its_own_agent_alone() {
        let report = report();
        assert_eq!(Report::read(&report.to_bytes(), &agent()), Ok(report.clone()));
        assert_eq!(
            report.datasets[0].obstacle.as_ref().unwrap().known(),
            Some(Code::HubUnreachable)
        );
        let other = AgentId::try_from("H57.13/may-1".to_owned()).unwrap();
        assert_eq!(Report::read(&report.to_bytes(), &other), Err(BadReport::Agent));
    }

    #[test]
    fn a_report_is_bounded() {
        let check = |change: &dyn Fn(&mut Report), expected: BadReport| {
            let mut report = report();
            change(&mut report);
            assert_eq!(Report::read(&report.to_bytes(), &agent()), Err(expected));
        };
        check(&|r| r.v = 2, BadReport::Form);
        check(&|r| r.datasets.push(dataset("cong_dan.citizens")), BadReport::Datasets);
        let many = |r: &mut Report| {
            r.datasets = (0..=DATASETS_MAX).map(|n| dataset(&format!("a.t{n}"))).collect();
        };
        check(&many, BadReport::Datasets);
        check(&|r| r.version = "\u{1b}[2J".to_owned(), BadReport::Text);
        check(&|r| r.datasets[0].position = "x".repeat(121), BadReport::Text);
        let large = vec![b' '; REPORT_BYTES_MAX + 1];
        assert_eq!(Report::read(&large, &agent()), Err(BadReport::Large(large.len())));
    }

    #[test]
    fn the_largest_report_fits() {
        let mut report = report();
        report.datasets = (0..DATASETS_MAX)
            .map(|n| DatasetReport {
                position: "\"".repeat(TEXT_CHARACTERS_MAX),
                ..dataset(&format!("{}.{}{n:03}", "a".repeat(48), "b".repeat(45)))
            })
            .collect();
        let text = |characters| Some("\"".repeat(characters));
        let (fault, hours) = (text(TEXT_CHARACTERS_MAX), text(HOURS_CHARACTERS_MAX));
        let told = Told { order: u64::MAX, fault, hours };
        let orders = crate::orders::ORDERS_MAX;
        report.orders = Some(OrdersReport {
            number: u64::MAX,
            refused: vec![u64::MAX; orders],
            told: vec![told; orders],
        });
        let text = || "\"".repeat(TEXT_CHARACTERS_MAX + 1);
        let setting = Setting { key: text(), value: text() };
        let last = Timestamp::UNIX_EPOCH;
        let code = "\"".repeat(TEXT_CHARACTERS_MAX);
        let largest = Diagnosis {
            order: u64::MAX,
            platform: text(),
            memory_kib: Some(u64::MAX),
            processors: u64::MAX,
            settings: vec![setting; SETTINGS_MAX + 1],
            faults: vec![Lately { code, count: u64::MAX, last }; FAULTS_MAX + 1],
        };
        report.diagnosis = Some(Box::new(largest.clone()));
        assert_eq!(Report::read(&report.to_bytes(), &agent()), Err(BadReport::Text));
        report.diagnosis = Some(Box::new(largest.bounded()));
        let bytes = report.to_bytes();
        assert_eq!(Report::read(&bytes, &agent()), Ok(report), "{} bytes", bytes.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _refused = Report::read(&bytes, &agent());
            let _none = Life::read(&bytes);
        }
    }
}
