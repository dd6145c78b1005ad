//! The judge of a release on probation: what was well before must be well again, and stay so.
//!
//! A pure decision over signs of life. Nothing that happens outside the program fails it: while a database
//! is dead or the hub busy the clock stands still. But a release that nothing can be told of for a day goes
//! too: it may be what keeps the hub away, and no word from there would ever reach it. Time is handed in.

use std::time::Duration;

use phusa_protocol::ids::DatasetId;
use phusa_protocol::release::{Version, Why};
use phusa_protocol::time::Timestamp;

use super::form::{Before, Condition, Health};

/// How long each thing may take.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long all must be well before the release stays.
    pub probation: Duration,
    /// Without a sign of life for so long it is silent.
    pub silent: Duration,
    /// So many starts while all this time has not passed are a loop of crashes.
    pub starts_max: usize,
    /// How long a dataset may stand still.
    pub bad: Duration,
    /// How long a dataset may take to begin.
    pub waiting: Duration,
    /// How long something outside may stand in the way without a break.
    pub excused: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            probation: Duration::from_secs(600),
            silent: Duration::from_secs(40),
            starts_max: 3,
            bad: Duration::from_secs(60),
            waiting: Duration::from_secs(300),
            excused: Duration::from_secs(86_400),
        }
    }
}

/// Memory a release may take: four times that of the one before, and never less than this.
const RSS_KIB_MIN: u64 = 512 << 10;

/// What becomes of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet.
    Wait,
    /// It stays.
    Commit,
    /// It goes, and what is known about it.
    Back(Why, String),
}

/// One trial.
#[derive(Debug)]
pub struct Judge {
    target: Version,
    before: Before,
    terms: Terms,
    beat: Option<(Timestamp, u64)>,
    silent: Duration,
    starts: Vec<Timestamp>,
    well: Duration,
    bad: Vec<(DatasetId, Duration)>,
    waiting: Duration,
    excused: Duration,
}

impl Judge {
    /// Begins a trial.
    #[must_use]
    pub fn new(target: Version, before: Before, terms: Terms) -> Self {
        Self {
            target,
            before,
            terms,
            beat: None,
            silent: Duration::ZERO,
            starts: Vec::new(),
            well: Duration::ZERO,
            bad: Vec::new(),
            waiting: Duration::ZERO,
            excused: Duration::ZERO,
        }
    }

    /// Looks once more: `elapsed` since the last look, and the newest sign of life.
    pub fn look(&mut self, elapsed: Duration, health: Option<&Health>) -> Verdict {
        let of_target = health.filter(|health| health.running == self.target);
        let fresh = of_target.filter(|health| self.beat != Some((health.started_at, health.beat)));
        let Some(health) = fresh else {
            self.silent += elapsed;
            if self.silent < self.terms.silent {
                return Verdict::Wait;
            }
            let detail = format!("no sign of life for {} s", self.silent.as_secs());
            // One that lived at all and came back more than once is crashing, not hanging.
            let why = if self.starts.len() > 1 { Why::Crash } else { Why::Silent };
            return Verdict::Back(why, detail);
        };
        self.silent = Duration::ZERO;
        self.beat = Some((health.started_at, health.beat));
        if !self.starts.contains(&health.started_at) {
            self.starts.push(health.started_at);
            self.well = Duration::ZERO;
        }
        if self.starts.len() >= self.terms.starts_max {
            return Verdict::Back(Why::Crash, format!("it started {} times", self.starts.len()));
        }
        let limit = self.before.rss_kib.unwrap_or(0).saturating_mul(4).max(RSS_KIB_MIN);
        if let Some(rss) = health.rss_kib.filter(|rss| *rss > limit) {
            return Verdict::Back(Why::Memory, format!("{rss} KiB, more than {limit}"));
        }
        self.datasets(elapsed, health)
    }

    fn datasets(&mut self, elapsed: Duration, health: &Health) -> Verdict {
        let of = |id: &DatasetId| {
            let found = health.datasets.iter().find(|(dataset, _)| dataset == id);
            found.map_or(Condition::Bad, |(_, condition)| *condition)
        };
        let (mut all_well, mut excused, mut waits, mut bad) = (true, false, false, Vec::new());
        for id in &self.before.well {
            let condition = of(id);
            all_well &= condition == Condition::Well;
            excused |= condition == Condition::Excused;
            waits |= condition == Condition::Waiting;
            if condition == Condition::Bad {
                let before = self.bad.iter().find(|(one, _)| one == id);
                let for_now = before.map_or(Duration::ZERO, |(_, span)| *span) + elapsed;
                bad.push((id.clone(), for_now));
            }
        }
        self.bad = bad;
        if let Some((id, _)) = self.bad.iter().find(|(_, span)| *span >= self.terms.bad) {
            return Verdict::Back(Why::Dataset, format!("{id} stands still"));
        }
        if waits && !excused {
            self.waiting += elapsed;
            if self.waiting >= self.terms.waiting {
                return Verdict::Back(Why::Late, "a dataset has not begun".to_owned());
            }
        }
        self.excused = if excused { self.excused + elapsed } else { Duration::ZERO };
        if self.excused >= self.terms.excused {
            let hours = self.excused.as_secs() / 3_600;
            return Verdict::Back(Why::Late, format!("nothing could be told of it for {hours} h"));
        }
        if all_well {
            self.well += elapsed;
        }
        if self.well >= self.terms.probation { Verdict::Commit } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn version(text: &str) -> Version {
        Version::try_from(text.to_owned()).unwrap()
    }

    fn id(name: &str) -> DatasetId {
        DatasetId::new(name).unwrap()
    }

    /// What an agent shows at each second.
    type Say<'a> = dyn Fn(u64) -> Option<Health> + 'a;

    /// One sign of life a second, as `say` has it at each; how it ended and after how many seconds.
    fn trial(say: impl Fn(u64) -> Option<Health>) -> (Verdict, u64) {
        let before = Before { well: vec![id("a.b"), id("a.c")], rss_kib: Some(40_000) };
        let mut judge = Judge::new(version("0.2.0"), before, Terms::default());
        for second in 0..7_200 {
            let verdict = judge.look(SECOND, say(second).as_ref());
            if verdict != Verdict::Wait {
                return (verdict, second + 1);
            }
        }
        (Verdict::Wait, 7_200)
    }

    fn health(second: u64, conditions: [Condition; 2]) -> Health {
        let datasets = [id("a.b"), id("a.c")].into_iter().zip(conditions).collect();
        Health {
            running: version("0.2.0"),
            started_at: Timestamp::UNIX_EPOCH,
            beat: second,
            rss_kib: Some(50_000),
            datasets,
        }
    }

    #[test]
    fn each_way_a_release_can_be_bad_has_its_reason_and_its_time() {
        use Condition::{Bad, Excused, Waiting, Well};
        let started = |second: u64, at: u64| Health {
            started_at: Timestamp::UNIX_EPOCH.after(SECOND * u32::try_from(at).unwrap()),
            ..health(second, [Well, Well])
        };
        let ended = |say: &Say<'_>| match trial(say) {
            (Verdict::Commit, after) => ("committed", after),
            (Verdict::Back(why, _), after) => (why.name(), after),
            (Verdict::Wait, after) => ("waits", after),
        };
        let dead = |second: u64| if (60..3_660).contains(&second) { Excused } else { Well };
        let cases: [(&str, u64, &Say<'_>); 11] = [
            ("committed", 600, &|s| Some(health(s, [Well, Well]))),
            ("silent", 40, &|_| None),
            ("silent", 50, &|s| Some(health(s.min(9), [Well, Well]))),
            ("crash", 21, &|s| Some(started(s, s / 10))),
            ("memory", 31, &|s| {
                let rss_kib = Some(if s < 30 { 50_000 } else { 600 << 10 });
                Some(Health { rss_kib, ..health(s, [Well, Well]) })
            }),
            ("dataset", 60, &|s| Some(health(s, [Well, Bad]))),
            ("dataset", 60, &|s| {
                let mut health = health(s, [Well, Well]);
                health.datasets.truncate(1);
                Some(health)
            }),
            ("late", 300, &|s| Some(health(s, [Well, Waiting]))),
            // An hour without a database, or with a busy hub, is an hour longer on probation.
            ("committed", 4_200, &|s| Some(health(s, [dead(s), Well]))),
            ("waits", 7_200, &|s| Some(health(s, [Excused, Excused]))),
            // The one before still shows signs of life; they are none of this one's.
            ("silent", 40, &|s| {
                Some(Health { running: version("0.1.0"), ..health(s, [Well, Well]) })
            }),
        ];
        for (number, (expected, after, say)) in cases.into_iter().enumerate() {
            assert_eq!(ended(say), (expected, after), "case {number}");
        }
        let flickers = |s: u64| health(s, [Well, if s % 30 < 10 { Bad } else { Well }]);
        assert_eq!(ended(&|s| Some(flickers(s))).0, "committed", "what passes by itself is no end");
    }

    #[test]
    fn a_release_that_nothing_can_be_told_of_for_a_day_goes() {
        use Condition::{Excused, Well};
        let hour = SECOND * 3_600;
        let before = Before { well: vec![id("a.b"), id("a.c")], rss_kib: Some(40_000) };
        let mut judge = Judge::new(version("0.2.0"), before, Terms::default());
        // A break in between begins the day anew.
        for beat in 0..23 {
            assert_eq!(judge.look(hour, Some(&health(beat, [Well, Excused]))), Verdict::Wait);
        }
        assert_eq!(judge.look(SECOND, Some(&health(23, [Well, Well]))), Verdict::Wait);
        for beat in 24..47 {
            assert_eq!(judge.look(hour, Some(&health(beat, [Well, Excused]))), Verdict::Wait);
        }
        let ended = judge.look(hour, Some(&health(47, [Well, Excused])));
        assert!(matches!(ended, Verdict::Back(Why::Late, _)), "{ended:?}");
    }
}
