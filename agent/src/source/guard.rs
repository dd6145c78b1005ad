//! Pure: how hard the agency's database may be worked, and when.
//!
//! Time comes in as an argument, so that a test can set it.

use std::fmt;
use std::time::Duration;

use phusa_protocol::time::Timestamp;

use super::throttle::Turns;

/// How hard one agency's database may be worked.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Rows a full read may take per second, all its workers together; 0 = no cap. Default 0.
    pub rows_per_second_max: u64,
    /// Chunks of a full read that may be under way at once, at least 1. Default 2.
    pub snapshot_workers: usize,
    /// Rows in one chunk of a full read, at least 1. Default 50,000.
    pub chunk_rows: u64,
    /// How long a statement may run before the server ends it; for reading rows, how long the
    /// server may stay silent before the agent does. Default 5 min.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock before the server ends it. Default 5 s.
    pub lock_timeout: Duration,
    /// When a full read may run. Default always.
    pub allowed_hours: Hours,
    /// How long the server may take to answer that it is there before a full read slows down, at
    /// most; zero never slows it. See [`latency_limit`]. Default 250 ms.
    pub latency_max: Duration,
    /// How readers of many rows share the server with the work of others. Those that are told of the
    /// same turns take them together. By default others lose 5 % at most.
    pub turns: Turns,
    /// How long to wait between two comparisons of all rows. Default 15 min.
    pub reconcile_interval: Duration,
    /// How long to wait between two looks for what was written. Default 10 s.
    pub watermark_interval: Duration,
    /// How far before the last look each look goes back, where it goes by a column of times and open
    /// transactions cannot be seen. Default 10 min.
    pub watermark_overlap: Duration,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            rows_per_second_max: 0,
            snapshot_workers: 2,
            chunk_rows: 50_000,
            statement_timeout: Duration::from_secs(300),
            lock_timeout: Duration::from_secs(5),
            allowed_hours: Hours::default(),
            latency_max: Duration::from_millis(250),
            turns: Turns::new(5),
            reconcile_interval: Duration::from_secs(900),
            watermark_interval: Duration::from_secs(10),
            watermark_overlap: Duration::from_secs(600),
        }
    }
}

/// Stretches of the day, by Vietnam's clock (+07:00, the same all year); none of them is always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hours(Vec<Stretch>);

/// From the first moment up to the second, in microseconds of the day; over midnight where the
/// second is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    from: i64,
    until: i64,
}

/// A text that is no stretch of hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stretch of the day such as \"22:00-05:00\"")]
pub struct BadHours;

const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MICROS: i64 = 24 * 60 * MINUTE_MICROS;
const VIETNAM_MICROS: i64 = 7 * 60 * MINUTE_MICROS;

/// As people write them: `22:00–05:00, 12:00–13:00`; nothing where it is always.
impl fmt::Display for Hours {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = |micros: i64| {
            let minutes = micros / MINUTE_MICROS;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        };
        for (place, stretch) in self.0.iter().enumerate() {
            let gap = if place > 0 { ", " } else { "" };
            write!(to, "{gap}{}–{}", minute(stretch.from), minute(stretch.until))?;
        }
        Ok(())
    }
}

impl Hours {
    /// Reads stretches such as `22:00-05:00`.
    ///
    /// # Errors
    /// [`BadHours`] for the first that is none.
    pub fn read<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, BadHours> {
        let stretches = texts.into_iter().map(stretch);
        stretches.collect::<Result<_, _>>().map(Self)
    }

    /// Adds the stretch between two moments of any day.
    #[must_use]
    pub fn and(mut self, from: Timestamp, until: Timestamp) -> Self {
        self.0.push(Stretch { from: of_day(from), until: of_day(until) });
        self
    }

    /// How long it is until a full read may run; zero when it may.
    #[must_use]
    pub fn closed_for(&self, now: Timestamp) -> Duration {
        let now = of_day(now);
        let wait = |stretch: &Stretch| {
            let length = (stretch.until - stretch.from).rem_euclid(DAY_MICROS);
            let since = (now - stretch.from).rem_euclid(DAY_MICROS);
            // From a moment to itself is the whole day.
            if length == 0 || since < length { 0 } else { DAY_MICROS - since }
        };
        let wait = self.0.iter().map(wait).min().unwrap_or(0);
        Duration::from_micros(wait.unsigned_abs())
    }
}

fn of_day(moment: Timestamp) -> i64 {
    moment.micros().saturating_add(VIETNAM_MICROS).rem_euclid(DAY_MICROS)
}

fn stretch(text: &str) -> Result<Stretch, BadHours> {
    let (from, until) = text.split_once('-').ok_or(BadHours)?;
    Ok(Stretch { from: minute(from)?, until: minute(until)? })
}

/// `05:30`; `24:00` is midnight too.
fn minute(text: &str) -> Result<i64, BadHours> {
    let (hour, minute) = text.trim().split_once(':').ok_or(BadHours)?;
    if hour.len() != 2 || minute.len() != 2 {
        return Err(BadHours);
    }
    let number = |text: &str| text.parse::<u8>().map(i64::from).map_err(|_| BadHours);
    let minutes = number(hour)? * 60 + number(minute)?;
    let is_time = number(minute)? < 60 && minutes <= 24 * 60;
    if is_time { Ok(minutes * MINUTE_MICROS) } else { Err(BadHours) }
}

/// How a full read gives way to a server that is slow for everyone.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    pause: Duration,
}

/// How many times as long as before the read an answer may take, and what is never too long.
const LATENCY_FACTOR: u32 = 8;
const LATENCY_LEAST: Duration = Duration::from_millis(50);

/// How long an answer may take, where it took `unburdened` before anything was read: eight times as
/// long, at least 50 ms, and `latency_max` at most; zero where that is zero, which is no limit.
#[must_use]
pub fn latency_limit(unburdened: Duration, latency_max: Duration) -> Duration {
    unburdened.saturating_mul(LATENCY_FACTOR).max(LATENCY_LEAST).min(latency_max)
}

/// The first pause, and the longest: the read goes on however slow the server stays.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Pace {
    /// How long to pause after the server took `latency` to answer, where `latency_max` is fine:
    /// twice as long each time it is slow, half as long each time it is not.
    #[must_use]
    pub fn after(&mut self, latency: Duration, latency_max: Duration) -> Duration {
        let is_slow = !latency_max.is_zero() && latency > latency_max;
        self.pause = if is_slow {
            (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX)
        } else if self.pause > PAUSE_FIRST {
            self.pause / 2
        } else {
            Duration::ZERO
        };
        self.pause
    }
}

/// A bucket of rows that refills at the capped rate and holds at most one second of it.
#[derive(Debug, Clone)]
pub struct RowBudget {
    rows_per_second: u64,
    /// Rows that may be taken at once, in millionths; below zero means waiting.
    millionths: i128,
    filled_at: Timestamp,
}

/// How many millionths make a row: microseconds times rows per second needs no rounding.
const MILLION: i128 = 1_000_000;

impl RowBudget {
    /// A full bucket of `rows_per_second`; 0 never makes anyone wait.
    #[must_use]
    pub fn new(rows_per_second: u64, now: Timestamp) -> Self {
        let millionths = i128::from(rows_per_second) * MILLION;
        Self { rows_per_second, millionths, filled_at: now }
    }

    /// Takes `rows` and says how long to wait before the next ones.
    #[must_use]
    pub fn take(&mut self, rows: u64, now: Timestamp) -> Duration {
        if self.rows_per_second == 0 {
            return Duration::ZERO;
        }
        let rate = i128::from(self.rows_per_second);
        let elapsed = i128::try_from(now.since(self.filled_at).as_micros()).unwrap_or(i128::MAX);
        self.filled_at = now;
        let refilled = self.millionths.saturating_add(elapsed.saturating_mul(rate));
        self.millionths = refilled.min(rate * MILLION) - i128::from(rows) * MILLION;
        let owed_micros = self.millionths.min(0).unsigned_abs() / rate.unsigned_abs();
        Duration::from_micros(u64::try_from(owed_micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    #[test]
    fn rows_beyond_the_cap_wait_and_idle_time_is_not_saved_up() {
        let mut budget = RowBudget::new(1_000, at(0));
        let mut check = |rows: u64, now: i64, wait_millis: u64| {
            let wait = budget.take(rows, at(now));
            assert_eq!(wait, Duration::from_millis(wait_millis), "{rows} rows at {now} ms");
        };
        check(1_000, 0, 0);
        check(500, 0, 500);
        check(0, 250, 250);
        check(0, 500, 0);
        check(1_000, 60_000, 0);
        check(3_000, 60_000, 3_000);
    }

    #[test]
    fn hours_are_vietnams_and_may_go_over_midnight() {
        let check = |hours: &[&str], utc: &str, closed_minutes: u64| {
            let hours = Hours::read(hours.iter().copied()).unwrap();
            let now = Timestamp::try_from(format!("2026-11-21T{utc}Z")).unwrap();
            let expected = Duration::from_secs(closed_minutes * 60);
            assert_eq!(hours.closed_for(now), expected, "{hours:?} {utc}");
        };
        check(&[], "12:00:00", 0);
        check(&["22:00-05:00"], "15:00:00", 0);
        check(&["22:00-05:00"], "21:59:00", 0);
        check(&["22:00-05:00"], "22:00:00", 17 * 60);
        check(&["22:00-05:00"], "14:30:00", 30);
        check(&["22:00-05:00", "11:30-13:00"], "04:00:00", 30);
        check(&["00:00-24:00"], "09:00:00", 0);
        for bad in ["22:00", "22-05", "25:00-05:00", "22:60-23:00", "2:00-05:00", ""] {
            assert_eq!(Hours::read([bad]), Err(BadHours), "{bad}");
        }
    }

    #[test]
    fn a_slow_server_is_given_longer_and_longer_pauses_and_taken_up_again_gently() {
        let mut pace = Pace::default();
        let mut check = |latency_ms: u64, pause_seconds: &[f64]| {
            for expected in pause_seconds {
                let latency = Duration::from_millis(latency_ms);
                let pause = pace.after(latency, Duration::from_millis(250));
                assert_eq!(pause, Duration::from_secs_f64(*expected), "{latency_ms}");
            }
        };
        check(250, &[0.0, 0.0]);
        check(251, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        check(3, &[30.0, 15.0, 7.5, 3.75, 1.875, 0.9375, 0.0]);
        assert_eq!(Pace::default().after(Duration::MAX, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn an_answer_may_take_some_times_as_long_as_before_and_never_longer_than_is_allowed() {
        for (before, most, limit) in
            [(1, 250, 50), (10, 250, 80), (100, 250, 250), (1, 20, 20), (300, 250, 250), (9, 0, 0)]
        {
            let millis = Duration::from_millis;
            assert_eq!(
                latency_limit(millis(before), millis(most)),
                millis(limit),
                "{before} {most}"
            );
        }
    }

    #[test]
    fn no_cap_never_waits() {
        assert_eq!(RowBudget::new(0, at(0)).take(u64::MAX, at(0)), Duration::ZERO);
    }
}
