//! From what the agent knows of itself to a report: names, counts and places alone.

use std::sync::Arc;

use phusa_protocol::diagnosis::Diagnosis;
use phusa_protocol::ids::{Epoch, Seq};
use phusa_protocol::orders::{OrdersReport, Want};
use phusa_protocol::report::{
    Birth, CertificateReport, DATASETS_MAX, DatasetReport, Obstacle, Phase, Report, SpoolReport,
    plain,
};
use phusa_protocol::time::Timestamp;

use super::{Snapshot, diagnose};
use crate::config::plan::Plan;
use crate::orders::Book;
use crate::spool::Spool;
use crate::status::{AgentStatus, DatasetStatus, State};
use crate::transport::identity::Leaf;
use crate::trouble::Trouble;

/// What reports are made from.
pub struct Composer {
    /// Contracts and mappings in force.
    pub plan: Arc<Plan>,
    /// What waits, and on which disk.
    pub spool: Spool,
    /// What the hub wants of this agent.
    pub orders: Arc<Book>,
    /// The rest.
    pub snapshot: Snapshot,
    /// The certificate this session is held with.
    pub certificate: Option<Leaf>,
}

impl std::fmt::Debug for Composer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Composer").field("agent", &self.plan.agent).finish_non_exhaustive()
    }
}

impl Composer {
    /// How the agent is now.
    #[must_use]
    pub fn report(&self, birth: Birth) -> Report {
        let status = (self.snapshot)();
        let certificate = newest(&status).or_else(|| self.certificate.as_ref().map(dates));
        self.report_of(&status, (birth, certificate))
    }

    fn diagnosis(&self, at: Timestamp) -> Option<Box<Diagnosis>> {
        let order = self.orders.errand(Want::Diagnose, None, at)?;
        Some(Box::new(diagnose::diagnosis(order, &self.plan.file)))
    }

    /// The report of this status.
    #[must_use]
    pub fn report_of(
        &self,
        status: &AgentStatus,
        (birth, certificate): (Birth, Option<CertificateReport>),
    ) -> Report {
        let oldest = status.datasets.iter().filter_map(|one| self.oldest(one)).min();
        let datasets = status.datasets.iter().take(DATASETS_MAX);
        let datasets = datasets.filter_map(|one| self.dataset(one, status.at)).collect();
        Report {
            v: Report::FORM,
            agent: status.agent.clone(),
            version: plain(&status.version),
            birth,
            started_at: status.started_at,
            at: status.at,
            spool: SpoolReport {
                bytes: status.spool_bytes,
                bytes_max: status.spool_bytes_max,
                oldest,
            },
            disk_free_bytes: self.spool.disk_free_bytes(),
            disk_reserve_bytes: self.plan.spool.disk_reserve.0,
            certificate,
            skew_ms: skew(status),
            datasets,
            update: status.update.clone(),
            orders: Some(self.orders.report()),
            diagnosis: self.diagnosis(status.at),
        }
    }

    fn oldest(&self, one: &DatasetStatus) -> Option<Timestamp> {
        let next = Seq(one.released_seq).next();
        let waits = one.waiting_batches > 0;
        waits.then(|| self.spool.durable_since(&one.dataset, Epoch(one.epoch), next)).flatten()
    }

    fn dataset(&self, one: &DatasetStatus, at: Timestamp) -> Option<DatasetReport> {
        let plan = self.plan.datasets.iter().find(|plan| *plan.dataset() == one.dataset)?;
        let waits = one.waiting_batches > 0;
        let waiting = one.source_time.into_iter().chain(self.oldest(one)).min();
        let lag = waiting.filter(|_| waits).map_or(0, |then| at.since(then).as_secs());
        Some(DatasetReport {
            dataset: one.dataset.clone(),
            phase: match one.state {
                _ if self.orders.is_paused(&one.dataset) => Phase::Paused,
                State::Starting => Phase::Starting,
                State::Reading => Phase::Reading,
                State::Following => Phase::Following,
                State::Faulted => Phase::Faulted,
            },
            epoch: one.epoch,
            position: plain(&one.position),
            spooled_seq: one.spooled_seq,
            released_seq: one.released_seq,
            lag_seconds: lag,
            rows: one.rows.values().fold(0, |sum, n| sum.saturating_add(*n)),
            rejects: one.rejects.values().fold(0, |sum, n| sum.saturating_add(*n)),
            obstacle: obstacle(one),
            contract: plan.contract.fingerprint(),
            mapping: plan.mapping,
        })
    }
}

/// The certificate that was renewed last, which is a newer one than the session began with.
fn newest(status: &AgentStatus) -> Option<CertificateReport> {
    let identity = status.identity.as_ref()?;
    Some(CertificateReport { from: identity.valid_from?, until: identity.valid_until })
}

/// From when until when a certificate is valid.
pub(super) fn dates(leaf: &Leaf) -> CertificateReport {
    CertificateReport { from: leaf.not_before, until: leaf.not_after }
}

/// What has to be told before what may pass: a stop of reading, then one of delivering.
fn obstacle(one: &DatasetStatus) -> Option<Obstacle> {
    let troubles = [&one.reading_trouble, &one.delivery_trouble];
    let worst =
        troubles.into_iter().flatten().max_by_key(|trouble: &&Trouble| trouble.code.class());
    worst.map(|trouble| Obstacle { code: trouble.code.name().to_owned(), since: trouble.since })
}

/// The agent's clock minus the hub's: as it greeted, unless the date of a newer answer says that this is
/// no longer so.
fn skew(status: &AgentStatus) -> Option<i64> {
    let heard = status.datasets.iter().filter(|one| one.hub_skew_ms.is_some());
    let newest = heard.max_by_key(|one| one.hub_heard_at);
    let greeted = newest.and_then(|one| one.hub_skew_ms);
    let ahead = match (greeted, status.hub_skew_ms) {
        (Some(greeted), Some(dated)) if greeted.abs_diff(dated) < DATE_IS_OFF_MS => greeted,
        (greeted, dated) => dated.or(greeted)?,
    };
    Some(ahead.saturating_neg())
}

/// A date is of whole seconds, and an answer takes a while.
const DATE_IS_OFF_MS: u64 = 2_000;

/// What of a dataset is worth saying at once.
type Turn = (Phase, Option<String>, u64);

/// What a report says that is worth saying at once: phases, faults and epochs; what became of orders, and
/// which one is answered.
#[must_use]
pub fn gist(report: &Report) -> (Vec<Turn>, Option<OrdersReport>, Option<u64>) {
    let of = |one: &DatasetReport| {
        (one.phase, one.obstacle.as_ref().map(|obstacle| obstacle.code.clone()), one.epoch)
    };
    let answered = report.diagnosis.as_ref().map(|one| one.order);
    (report.datasets.iter().map(of).collect(), report.orders.clone(), answered)
}
