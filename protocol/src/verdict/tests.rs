//! The verdict as a table, and what holds for whatever is reported.

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::ids::AgentId;
use crate::report::{Birth, CertificateReport, DatasetReport, Obstacle, Phase, SpoolReport};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const GIB: u64 = 1 << 30;

fn now() -> Timestamp {
    NOW.after(Duration::from_secs(1_000_000))
}

fn ago(seconds: u64) -> Timestamp {
    now().before(Duration::from_secs(seconds))
}

fn id() -> DatasetId {
    DatasetId::new("cong_dan.citizens").unwrap()
}

fn report() -> Report {
    let dataset = DatasetReport {
        dataset: id(),
        phase: Phase::Following,
        epoch: 1,
        position: String::new(),
        spooled_seq: 9,
        released_seq: 9,
        lag_seconds: 0,
        rows: 100,
        rejects: 0,
        obstacle: None,
        contract: Digest::ZERO,
        mapping: Digest::ZERO,
    };
    Report {
        v: Report::FORM,
        agent: AgentId::try_from("H57.12/may-1".to_owned()).unwrap(),
        version: "0.1.0".to_owned(),
        birth: Birth(NOW),
        started_at: NOW,
        at: ago(5),
        spool: SpoolReport { bytes: 0, bytes_max: 10 * GIB, oldest: None },
        disk_free_bytes: Some(100 * GIB),
        disk_reserve_bytes: GIB,
        certificate: None,
        skew_ms: Some(0),
        datasets: vec![dataset],
        update: None,
        orders: None,
        diagnosis: None,
    }
}

fn arrived(seq: u64) -> Vec<Arrived> {
    let frequency = Some(Duration::from_secs(900));
    vec![Arrived { dataset: id(), epoch: 1, seq, frequency }]
}

/// A world in which everything is well, to be changed by each case.
struct World {
    report: Report,
    heard_ago: u64,
    ended: Option<Ended>,
    delivered_at: Option<Timestamp>,
    barred: Option<Code>,
    maintenance: Option<Timestamp>,
    arrived: Vec<Arrived>,
    before: Option<Verdict>,
    reports: bool,
}

impl World {
    fn well() -> Self {
        Self {
            report: report(),
            heard_ago: 5,
            ended: None,
            delivered_at: None,
            barred: None,
            maintenance: None,
            arrived: arrived(9),
            before: None,
            reports: true,
        }
    }

    fn dataset(&mut self) -> &mut DatasetReport {
        self.report.datasets.first_mut().unwrap()
    }

    fn seen(&self) -> Seen<'_> {
        let heard = Heard { report: &self.report, at: ago(self.heard_ago) };
        Seen {
            now: now(),
            heard: self.reports.then_some(heard),
            ended: self.ended,
            delivered_at: self.delivered_at,
            barred: self.barred,
            maintenance: self.maintenance,
            arrived: &self.arrived,
            before: self.before.as_ref(),
        }
    }

    fn judge(&self) -> Verdict {
        judge(&self.seen())
    }
}

fn obstacle(code: Code, since: u64) -> Option<Obstacle> {
    Some(Obstacle { code: code.name().to_owned(), since: ago(since) })
}

#[test]
fn each_condition_has_its_state_and_reason() {
    type Change = fn(&mut World);
    #[rustfmt::skip] // one case a line
    let cases: [(Change, State, Reason); 28] = [
        (|_| (), State::Healthy, Reason::Arrives),
        (|w| w.heard_ago = 91, State::Offline, Reason::Silent),
        (|w| w.heard_ago = 90, State::Healthy, Reason::Arrives),
        (|w| { w.heard_ago = 91; w.delivered_at = Some(ago(2)); }, State::Attention, Reason::ReportsSilent),
        (|w| w.ended = Some(Ended { state: Alive::Leaving, at: ago(1) }), State::Offline, Reason::Left),
        (|w| { w.heard_ago = 30; w.ended = Some(Ended { state: Alive::Lost, at: ago(16) }); }, State::Offline, Reason::Lost),
        (|w| { w.heard_ago = 30; w.ended = Some(Ended { state: Alive::Lost, at: ago(15) }); }, State::Healthy, Reason::Arrives),
        // A will of the session before, overtaken by a report of the next.
        (|w| w.ended = Some(Ended { state: Alive::Lost, at: ago(40) }), State::Healthy, Reason::Arrives),
        (|w| w.barred = Some(Code::AgentSuspended), State::Suspended, Reason::Barred),
        (|w| { w.barred = Some(Code::AgentSuspended); w.heard_ago = 100; }, State::Offline, Reason::Barred),
        (|w| w.reports = false, State::Unreported, Reason::NeverReported),
        (|w| w.dataset().phase = Phase::Reading, State::Working, Reason::FirstRead),
        (|w| w.dataset().phase = Phase::Paused, State::Attention, Reason::Paused),
        (|w| w.dataset().obstacle = obstacle(Code::SourceSchema, 10), State::Faulted, Reason::Fault),
        (|w| w.dataset().obstacle = obstacle(Code::HubUnreachable, 100), State::Healthy, Reason::Arrives),
        (|w| w.dataset().obstacle = obstacle(Code::HubUnreachable, 400), State::Late, Reason::Obstacle),
        (|w| w.dataset().lag_seconds = 901, State::Late, Reason::Behind),
        (|w| w.dataset().lag_seconds = 899, State::Healthy, Reason::Arrives),
        (|w| w.arrived = arrived(8), State::Late, Reason::NothingArrived),
        (|w| w.arrived.clear(), State::Late, Reason::NothingArrived),
        (|w| w.report.disk_free_bytes = Some(GIB + 1), State::Attention, Reason::DiskLow),
        (|w| w.report.spool.bytes = 8 * GIB, State::Attention, Reason::SpoolFills),
        (|w| w.report.skew_ms = Some(-61_000), State::Attention, Reason::ClockDiffers),
        // A window that was announced: away, late and stopped are expected, and nothing else is hidden.
        (|w| { w.maintenance = Some(now()); w.heard_ago = 91; }, State::Maintenance, Reason::Announced),
        (|w| { w.maintenance = Some(now()); w.dataset().lag_seconds = 901; }, State::Maintenance, Reason::Announced),
        (|w| w.maintenance = Some(now()), State::Healthy, Reason::Arrives),
        (|w| { w.maintenance = Some(now()); w.report.disk_free_bytes = Some(GIB + 1); }, State::Attention, Reason::DiskLow),
        (|w| { w.maintenance = Some(now()); w.barred = Some(Code::AgentSuspended); w.heard_ago = 100; }, State::Offline, Reason::Barred),
    ];
    for (index, (change, state, reason)) in cases.into_iter().enumerate() {
        let mut world = World::well();
        change(&mut world);
        let verdict = world.judge();
        assert_eq!((verdict.state, verdict.reason), (state, reason), "case {index}");
    }
}

#[test]
fn a_certificate_in_its_last_third_has_its_own_end_as_deadline() {
    let mut world = World::well();
    let day = Duration::from_secs(86_400);
    let until = world.report.at.after(day * 2);
    world.report.certificate = Some(CertificateReport { from: until.before(day * 7), until });
    let verdict = world.judge();
    assert_eq!(verdict.reason, Reason::CertificateEnds);
    assert_eq!(verdict.deadline, Some(until));
    world.report.certificate = Some(CertificateReport { from: until.before(day * 5), until });
    assert_eq!(world.judge().state, State::Healthy);
}

#[test]
fn a_state_keeps_its_since_and_offline_begins_when_it_was_last_heard() {
    let mut world = World::well();
    world.heard_ago = 200;
    let first = world.judge();
    assert_eq!(
        (first.since, first.deadline),
        (ago(200), Some(ago(200).after(Duration::from_secs(3_600))))
    );
    world.before = Some(Verdict { since: ago(5_000), ..first });
    assert_eq!(world.judge().since, ago(5_000));
}

#[test]
fn a_figure_at_its_limit_does_not_flicker() {
    let mut world = World::well();
    let mut states = Vec::new();
    for lag in [901, 800, 899, 719, 800, 899, 901] {
        world.dataset().lag_seconds = lag;
        let verdict = world.judge();
        states.push(verdict.state == State::Late);
        world.before = Some(verdict);
    }
    assert_eq!(states, [true, true, true, false, false, false, true]);
    let mut spool = Vec::new();
    world = World::well();
    for tenths in [8, 7, 6, 5, 7, 8] {
        world.report.spool.bytes = tenths * GIB;
        let verdict = world.judge();
        spool.push(verdict.state == State::Attention);
        world.before = Some(verdict);
    }
    assert_eq!(spool, [true, true, true, false, false, true]);
}

#[test]
fn every_reason_is_told_in_both_languages_with_a_remedy() {
    let mut world = World::well();
    let names: Vec<_> =
        State::ALL.iter().map(|state| serde_json::to_value(state).unwrap()).collect();
    assert_eq!(names, State::ALL.map(State::name));
    for reason in [Reason::Arrives, Reason::Silent, Reason::Lost, Reason::Fault, Reason::Paused] {
        let words = reason.words();
        let texts = [words.reason_vi, words.reason_en, words.remedy_vi, words.remedy_en];
        assert!(texts.iter().all(|text| text.ends_with('.')), "{reason:?}");
    }
    world.dataset().obstacle = obstacle(Code::SourceSchema, 1);
    assert_eq!(world.judge().words().remedy_en, Code::SourceSchema.words().remedy_en);
}

fn worlds() -> impl Strategy<Value = World> {
    let phases = prop::sample::select(vec![
        Phase::Starting,
        Phase::Reading,
        Phase::Following,
        Phase::Faulted,
        Phase::Paused,
    ]);
    let codes = prop::sample::select(vec!["", "hub_unreachable", "source_schema", "of_tomorrow"]);
    let ends = prop::sample::select(vec![None, Some(Alive::Lost), Some(Alive::Leaving)]);
    let numbers = (0_u64..200, 0_u64..2_000, 0_u64..20, 0_u64..20, -90_000_i64..90_000);
    let bounds = (0_u64..11, 0_u64..5, 0_u64..200, 0_u64..200, any::<bool>());
    (phases, codes, ends, numbers, bounds).prop_map(|(phase, code, end, numbers, bounds)| {
        let (heard_ago, lag, seq, released, skew) = numbers;
        let (spool, free, ended_ago, delivered, barred) = bounds;
        let mut world = World::well();
        world.heard_ago = heard_ago;
        world.ended = end.map(|state| Ended { state, at: ago(ended_ago) });
        world.delivered_at = (delivered < 100).then(|| ago(delivered));
        world.barred = barred.then_some(Code::AgentRevoked);
        world.arrived = arrived(seq);
        world.report.spool.bytes = spool * GIB;
        world.report.disk_free_bytes = Some(free * GIB);
        world.report.skew_ms = Some(skew);
        let dataset = world.dataset();
        (dataset.phase, dataset.lag_seconds) = (phase, lag);
        (dataset.spooled_seq, dataset.released_seq) = (released + 1, released);
        let code = (!code.is_empty()).then(|| code.to_owned());
        dataset.obstacle = code.map(|code| Obstacle { code, since: ago(lag) });
        world
    })
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seen().fmt(f)
    }
}

proptest! {
    #[test]
    fn offline_outranks_all_and_nothing_but_silence_or_an_end_makes_it(world in worlds()) {
        let verdict = world.judge();
        let newest = world.delivered_at.unwrap_or(NOW).max(ago(world.heard_ago));
        let silent = now().since(newest) > SILENCE_MAX;
        if silent {
            prop_assert_eq!(verdict.state, State::Offline);
        }
        let ended = world.ended.is_some_and(|ended| ended.at >= newest) && world.barred.is_none();
        prop_assert!(verdict.state != State::Offline || silent || ended);
        let barred = world.barred.is_some() && verdict.state != State::Offline;
        prop_assert_eq!(verdict.state == State::Suspended, barred);
    }

    #[test]
    fn healthy_means_that_data_arrived(world in worlds()) {
        if world.judge().state == State::Healthy {
            let dataset = &world.report.datasets[0];
            prop_assert_eq!(dataset.phase, Phase::Following);
            prop_assert!(world.arrived[0].seq >= dataset.released_seq && world.arrived[0].seq > 0);
            prop_assert!(dataset.lag_seconds <= 900);
        }
    }

    #[test]
    fn the_same_world_judged_twice_is_judged_the_same(mut world in worlds()) {
        let first = world.judge();
        prop_assert!(first.since <= now());
        world.before = Some(first.clone());
        prop_assert_eq!(world.judge(), first);
    }

    #[test]
    fn an_agent_is_as_bad_as_its_worst_dataset(world in worlds()) {
        let verdict = world.judge();
        for dataset in judge_datasets(&world.seen()) {
            let outranked = matches!(verdict.state, State::Offline | State::Suspended);
            prop_assert!(outranked || dataset.state <= verdict.state);
        }
    }
}
