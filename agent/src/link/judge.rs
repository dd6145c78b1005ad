//! How the agent is by its own lights: the verdict that the hub's pages show, made of the same report.

use std::sync::{Mutex, PoisonError};

use phusa_protocol::report::{Birth, Report};
use phusa_protocol::verdict::{Arrived, Heard, Seen, Verdict, judge};

use super::compose::{Composer, dates};
use crate::status::AgentStatus;
use crate::transport::identity::Files;
use crate::transport::kept::Kept;

/// The verdict as it was said last, and what the next is made from.
#[derive(Debug)]
pub struct Judge {
    compose: Composer,
    files: Files,
    before: Mutex<Option<Verdict>>,
}

impl Judge {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(compose: Composer, files: Files) -> Self {
        Self { compose, files, before: Mutex::default() }
    }

    /// The status with its verdict. What has a receipt is at the hub; whether the hub hears this agent's
    /// reports, and whether it is barred while it delivers nothing, the hub alone knows.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let mut status = (self.compose.snapshot)();
        let kept = Kept::new(&self.compose.plan.state_dir);
        let certificate = kept.newest(&self.files).and_then(|identity| identity.leaf());
        let certificate = certificate.ok().as_ref().map(dates);
        let report = self.compose.report_of(&status, (Birth(status.started_at), certificate));
        let arrived = self.arrived(&report);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Seen {
            now: status.at,
            heard: Some(Heard { report: &report, at: status.at }),
            ended: None,
            delivered_at: None,
            barred: None,
            maintenance: None,
            arrived: &arrived,
            before: before.as_ref(),
        };
        let verdict = judge(&seen);
        *before = Some(verdict.clone());
        status.verdict = Some(verdict);
        status
    }

    fn arrived(&self, report: &Report) -> Vec<Arrived> {
        let of = |dataset| self.compose.plan.datasets.iter().find(|plan| plan.dataset() == dataset);
        let each = report.datasets.iter().map(|one| Arrived {
            dataset: one.dataset.clone(),
            epoch: one.epoch,
            seq: one.released_seq,
            frequency: of(&one.dataset).map(|plan| plan.contract.frequency.0),
        });
        each.collect()
    }
}
