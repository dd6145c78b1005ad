//! How one dataset is: what its agent says of it, beside what the hub has.

use std::time::Duration;

use super::{Arrived, Finding, RETRY_MAX, Reason, Seen, State};
use crate::fault::{Class, Code};
use crate::report::{DatasetReport, Phase, Report};

/// Freshness where no contract says any, and the shortest that is asked for.
const LATE_AFTER: Duration = Duration::from_secs(60);

/// What is found about one dataset.
pub(super) fn find(one: &DatasetReport, report: &Report, seen: &Seen<'_>) -> Finding {
    let arrived = seen.arrived.iter().find(|arrived| arrived.dataset == one.dataset);
    let finding = obstacle(one, report, arrived).unwrap_or_else(|| match one.phase {
        Phase::Faulted => Finding::new(State::Faulted, Reason::Fault),
        Phase::Paused => Finding::new(State::Attention, Reason::Paused),
        Phase::Starting => Finding::new(State::Working, Reason::Starting),
        Phase::Reading => Finding::new(State::Working, Reason::FirstRead),
        Phase::Following => following(one, arrived, seen),
    });
    Finding { dataset: Some(one.dataset.clone()), ..finding }
}

/// A fault that needs a person counts at once, one that goes away by itself when it has lasted: longer
/// than the contract's frequency, and at most five minutes.
fn obstacle(one: &DatasetReport, report: &Report, arrived: Option<&Arrived>) -> Option<Finding> {
    let obstacle = one.obstacle.as_ref()?;
    if obstacle.known() == Some(Code::ClockSkew) && one.phase != Phase::Faulted {
        // It is told of the machine, and stops nothing.
        return None;
    }
    // What a later version calls a fault and this one does not know is for a person to look at.
    let class = obstacle.known().map_or(Class::Operator, Code::class);
    let agreed = arrived.and_then(|arrived| arrived.frequency).unwrap_or(RETRY_MAX);
    let lasts = report.at.since(obstacle.since) > agreed.clamp(LATE_AFTER, RETRY_MAX);
    let finding = match class {
        Class::Operator | Class::Bug => Finding::new(State::Faulted, Reason::Fault),
        Class::Retry if lasts || one.phase == Phase::Faulted => {
            Finding::new(State::Late, Reason::Obstacle)
        }
        Class::Retry => return None,
    };
    Some(Finding { fault: Some(obstacle.code.clone()), ..finding })
}

fn following(one: &DatasetReport, arrived: Option<&Arrived>, seen: &Seen<'_>) -> Finding {
    let has =
        arrived.is_some_and(|at| at.seq > 0 && (at.epoch, at.seq) >= (one.epoch, one.released_seq));
    if one.spooled_seq == 0 {
        return Finding::new(State::Working, Reason::Starting);
    }
    let frequency = arrived.and_then(|arrived| arrived.frequency).unwrap_or(LATE_AFTER);
    let limit = frequency.max(LATE_AFTER);
    let was = seen.before.is_some_and(|before| {
        before.reason == Reason::Behind && before.dataset.as_ref() == Some(&one.dataset)
    });
    let lag = Duration::from_secs(one.lag_seconds);
    if lag > limit || (was && lag > limit * 4 / 5) {
        return Finding::new(State::Late, Reason::Behind);
    }
    if has {
        return Finding::new(State::Healthy, Reason::Arrives);
    }
    match one.released_seq {
        // The first batches are on their way.
        0 => Finding::new(State::Working, Reason::FirstRead),
        _ => Finding::new(State::Late, Reason::NothingArrived),
    }
}
