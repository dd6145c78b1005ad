//! `phusa-agent doctor`: every part on its own, so that one that fails does not hide the next, and
//! a code of seven digits that says it all over the telephone.

use std::process::ExitCode;
use std::time::Duration;

use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::time::Timestamp;

use super::{look, report, say};
use crate::config::plan::{DatasetPlan, Plan};
use crate::disk::{Disk as _, RealDisk};
use crate::pipeline::{sample, wiring};
use crate::source::any::AnySource;
use crate::source::{Findings, Source as _};
use crate::transport::skew_fault;

/// A certificate that ends sooner wants a new one now.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(30 * 86_400);

/// How one part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    /// It works and wants attention.
    Worry,
    Ill,
    /// It could not be looked at, because of another.
    Unseen,
}

impl State {
    const ALL: [Self; 4] = [Self::Well, Self::Worry, Self::Ill, Self::Unseen];

    fn words(self) -> &'static str {
        match self {
            Self::Well => "✓ tốt · well",
            Self::Worry => "! cần chú ý · wants attention",
            Self::Ill => "✗ hỏng · ill",
            Self::Unseen => "? chưa xem được · could not be looked at",
        }
    }

    /// 0 to 3, two bits of the code.
    fn digit(self) -> u32 {
        match self {
            Self::Well => 0,
            Self::Worry => 1,
            Self::Ill => 2,
            Self::Unseen => 3,
        }
    }
}

/// What is looked at, in the order of the code.
const PARTS: [&str; 9] = [
    "khóa · keys",
    "đĩa · disk",
    "chứng thư · certificate",
    "mạng và trung tâm · network and hub",
    "hợp đồng · contracts",
    "đồng hồ · clock",
    "nguồn và quyền · source and rights",
    "ánh xạ · mapping",
    "bảng mã · encodings",
];

/// One part after another; fails when one is ill.
pub(super) async fn doctor(plan: &Plan) -> ExitCode {
    let mut seen = Vec::new();
    seen.push(of(keys(plan)));
    seen.push(of(disk(plan)));
    seen.push(of(certificate(plan)));
    seen.extend(hub(plan).await);
    seen.extend(source(plan).await);
    let states: Vec<State> = seen.iter().map(|(state, _)| *state).collect();
    for (part, (state, faults)) in PARTS.iter().zip(&seen) {
        say(&format!("{part}: {}", state.words()));
        faults.iter().for_each(report::eprint_fault);
    }
    say(&format!("\nMã đọc qua điện thoại · code for the phone: {}", code(&states)));
    if states.contains(&State::Ill) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Seen = (State, Vec<Fault>);

fn of(found: Result<(), Fault>) -> Seen {
    all(found.err().into_iter().collect())
}

/// A fault that passes by itself is a worry.
fn all(faults: Vec<Fault>) -> Seen {
    let ill = faults.iter().any(|fault| fault.code.class() != Class::Retry);
    let state = match (ill, faults.is_empty()) {
        (true, _) => State::Ill,
        (false, true) => State::Well,
        (false, false) => State::Worry,
    };
    (state, faults)
}

fn keys(plan: &Plan) -> Result<(), Fault> {
    wiring::spool_settings(plan)?;
    wiring::signing_key(plan)?;
    wiring::hub_settings(plan)?;
    wiring::source(plan).map(|_| ())
}

fn disk(plan: &Plan) -> Result<(), Fault> {
    let failed = |error| {
        let what = format!("cannot look at the disk of {}", plan.state_dir.display());
        Fault::because(Code::DiskFailed, what, error)
    };
    let free = RealDisk.free_bytes(&plan.state_dir).map_err(failed)?;
    if free < plan.spool.disk_reserve.0 {
        let what = format!("{free} bytes are free below {}", plan.state_dir.display());
        return Err(Fault::new(Code::DiskFull, what));
    }
    Ok(())
}

fn certificate(plan: &Plan) -> Result<(), Fault> {
    let identity = wiring::identity(plan)?;
    let (leaf, now) = (identity.leaf()?, Timestamp::now());
    let days = (leaf.not_after.micros() - now.micros()) / 86_400_000_000;
    say(&format!("chứng thư còn · the certificate is valid for: {days} ngày · days"));
    // One that was enrolled renews after a third of its life: with less than half left, it does not.
    let warning = match leaf.generation {
        Some(_) => leaf.not_after.since(leaf.not_before) / 2,
        None => CERTIFICATE_WARNING,
    };
    if leaf.not_after.since(now) < warning {
        let what = format!("{} is valid for {days} days", identity.from.display());
        return Err(Fault::new(Code::OwnCertificate, what));
    }
    Ok(())
}

/// The hub, the contracts, the clock.
async fn hub(plan: &Plan) -> [Seen; 3] {
    match look::greet(plan).await {
        Err(fault) => {
            let unseen = || (State::Unseen, Vec::new());
            // Waiting for a line is what the spool is for; here a person asks for the line.
            [(State::Ill, vec![fault]), unseen(), unseen()]
        }
        Ok(welcome) => {
            let skew = skew_fault(&welcome, Timestamp::now());
            let clock = all(skew.into_iter().collect());
            let unsigned = look::unsigned(plan, &welcome);
            let contracts = look::refusals(welcome).chain(unsigned).collect();
            [(State::Well, Vec::new()), all(contracts), clock]
        }
    }
}

/// The source with its rights, the mapping, the encodings.
async fn source(plan: &Plan) -> [Seen; 3] {
    let unseen = || (State::Unseen, Vec::new());
    let selections: Vec<_> = plan.datasets.iter().map(|d| d.selection.clone()).collect();
    let source = match wiring::source(plan) {
        Ok(source) => source,
        Err(fault) => return [of(Err(fault)), unseen(), unseen()],
    };
    let Findings { faults, columns, .. } = match source.probe(&selections).await {
        Ok(found) => found,
        Err(fault) => return [(State::Ill, vec![fault]), unseen(), unseen()],
    };
    let pairs = plan.datasets.iter().zip(&columns);
    let bound = pairs
        .filter_map(|(dataset, columns)| look::check_binding(dataset, columns.as_ref()?).err());
    let mapping = all(bound.collect());
    let readable = faults.is_empty() && mapping.0 == State::Well;
    let encodings = if readable { encodings(&source, &plan.datasets).await } else { unseen() };
    [all(faults), mapping, encodings]
}

async fn encodings(source: &AnySource, datasets: &[DatasetPlan]) -> Seen {
    let mut faults = Vec::new();
    for dataset in datasets {
        faults.extend(sample::settled(source, dataset).await.err());
    }
    all(faults)
}

/// Two bits a part as six digits, and one more so that a slip of the tongue is noticed.
fn code(states: &[State]) -> String {
    let bits = states.iter().fold(0, |bits, state| bits * 4 + state.digit());
    let digits = format!("{bits:06}");
    let (left, right) = digits.split_at_checked(3).unwrap_or((&digits, ""));
    format!("{left}-{right}{}", check_digit(&digits))
}

/// Luhn's: finds every wrong digit and almost every exchange of two.
fn check_digit(digits: &str) -> u32 {
    let value = |(place, digit): (usize, char)| {
        let digit = digit.to_digit(10).unwrap_or(0);
        let doubled = if place % 2 == 0 { digit * 2 } else { digit };
        doubled / 10 + doubled % 10
    };
    let sum: u32 = digits.chars().rev().enumerate().map(value).sum();
    (10 - sum % 10) % 10
}

/// The states of a code; `None` for one that was misheard.
fn states(code: &str) -> Option<Vec<State>> {
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    let (bits, check) = digits.split_at_checked(6)?;
    if check.parse() != Ok(check_digit(bits)) {
        return None;
    }
    let mut bits: u32 = bits.parse().ok()?;
    let mut states = Vec::new();
    for _ in PARTS {
        states.push(*State::ALL.iter().find(|state| state.digit() == bits % 4)?);
        bits /= 4;
    }
    states.reverse();
    (bits == 0).then_some(states)
}

/// `phusa-agent doctor --explain`.
pub(super) fn explain(code: &str) -> Result<ExitCode, Fault> {
    let states = states(code).ok_or_else(|| {
        Fault::new(Code::ConfigInvalid, format!("{code:?} is not a code of `doctor`: misheard?"))
    })?;
    for (part, state) in PARTS.iter().zip(states) {
        say(&format!("{part}: {}", state.words()));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_was_seen_and_a_misheard_one_says_nothing() {
        let seen = [0, 1, 2, 3, 0, 0, 2, 3, 1].map(|digit: usize| State::ALL[digit]);
        let spoken = code(&seen);
        assert_eq!(states(&spoken).as_deref(), Some(seen.as_slice()), "{spoken}");
        assert_eq!(code(&[State::Well; 9]), "000-0000");
        for place in 0..6 {
            let digits: String = spoken.chars().filter(char::is_ascii_digit).collect();
            let mut wrong: Vec<char> = digits.chars().collect();
            wrong[place] = if wrong[place] == '9' { '0' } else { '9' };
            let wrong: String = wrong.into_iter().collect();
            assert_eq!(states(&wrong), None, "{wrong}");
        }
        for bad in ["", "12", "999-9993", "abc-defg"] {
            assert_eq!(states(bad), None, "{bad}");
        }
    }
}
