//! Pure: which share of the time readers of many rows take while others have the server work.
//!
//! Two things are known of the others: how many of their sessions are at work, and, where the server
//! counts it, how much they get done. A processor, a disk or a lock that is wanted by `n` sessions and
//! one reader is given to the reader for one part in `n + 1` at most, so a reader that rests long enough
//! between two stretches costs them no more than is allowed, whatever machine it is. Comparing what
//! they get done while it reads and while it rests then shows whether so much rest is needed: a server
//! with room to spare loses nothing, and the reader rests less and less.
//!
//! Where nobody is at work there is no rest at all.

use std::time::Duration;

/// What a server tells any login of the work that others give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Sessions of others that are at work this moment.
    pub busy: u32,
    /// What all sessions together got done since some moment; `None` where that is not counted.
    pub done: Option<u64>,
}

/// The least share of the time that a read takes: it goes on however busy the server stays.
const SHARE_MIN: f64 = 0.02;

/// The largest share while others are at work: without rests nothing could be compared.
const SHARE_MAX: f64 = 0.8;

/// By how much the share may grow from one stretch to the next; it falls at once.
const SHARE_STEP: f64 = 0.05;

/// What a comparison is off by at most before it says anything.
const DOUBT_MAX: f64 = 0.1;

/// How far chance carries a count from its mean, in roots of it.
const DEVIATIONS: f64 = 2.0;

/// What remains of older stretches when another one is added: about ten of them count.
const KEPT: f64 = 0.9;

/// The longest rest after one stretch.
const REST_MAX: Duration = Duration::from_secs(60);

/// Time spent in one way, and what others got done in it.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    seconds: f64,
    done: f64,
}

impl Spent {
    fn add(&mut self, span: Duration, done: u64) {
        self.seconds = self.seconds * KEPT + span.as_secs_f64();
        self.done = self.done * KEPT + f64::from(u32::try_from(done).unwrap_or(u32::MAX));
    }

    fn rate(self) -> f64 {
        self.done / self.seconds
    }
}

/// How much the readers of one source take while others have it work.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// What the others may lose, 0 to 1.
    loss_max: f64,
    /// How many of their sessions are at work, on average of late.
    busy: Option<f64>,
    share: f64,
    reading: Spent,
    resting: Spent,
}

impl Sharing {
    /// Nothing is known yet. The others may lose `loss_max_percent` of what they do; 100 and more is
    /// everything, and then there is no rest.
    #[must_use]
    pub fn new(loss_max_percent: u32) -> Self {
        let (reading, resting) = (Spent::default(), Spent::default());
        let loss_max = f64::from(loss_max_percent) / 100.0;
        Self { loss_max, busy: None, share: 1.0, reading, resting }
    }

    /// What the others may lose, 0 to 1.
    #[must_use]
    pub fn loss_max(&self) -> f64 {
        self.loss_max
    }

    /// So many sessions of others were found at work, on average of a few looks.
    pub fn found(&mut self, busy: f64) {
        self.busy = Some(self.busy.map_or(busy, |before| f64::midpoint(before, busy)));
    }

    /// Rows were read for so long, while others got `done` done.
    pub fn read(&mut self, span: Duration, done: u64) {
        self.reading.add(span, done);
    }

    /// Nothing was read for so long, while others got `done` done.
    pub fn rested(&mut self, span: Duration, done: u64) {
        self.resting.add(span, done);
    }

    /// The share of the time that reading may take from here on; 1 is all of it.
    #[must_use]
    pub fn next_share(&mut self) -> f64 {
        let busy = self.busy.unwrap_or(0.0);
        let by_number = share_among(busy, self.loss_max);
        if by_number >= 1.0 {
            // Whoever comes next is another work, of which nothing is known.
            (self.reading, self.resting) = (Spent::default(), Spent::default());
            self.share = 1.0;
            return 1.0;
        }
        let wanted = match self.loss_at_most() {
            Some(loss) => self.loss_max / loss.max(self.loss_max),
            None => by_number,
        };
        let step = if self.share < 1.0 { self.share + SHARE_STEP } else { by_number };
        self.share = wanted.min(step).clamp(SHARE_MIN, SHARE_MAX);
        self.share
    }

    /// Which part of their work the others lose while rows are read, by what they got done with and
    /// without; `None` where too little was counted to tell.
    fn loss_at_most(&self) -> Option<f64> {
        let Self { reading, resting, .. } = self;
        let counts_enough = reading.done > 0.0 && resting.done > 0.0 && reading.seconds > 0.0;
        if !counts_enough || resting.seconds <= 0.0 {
            return None;
        }
        let doubt = DEVIATIONS * (1.0 / reading.done + 1.0 / resting.done).sqrt();
        let loss = 1.0 - reading.rate() / resting.rate() + doubt;
        (doubt <= DOUBT_MAX).then(|| loss.max(0.0))
    }
}

/// The share of the time that one more session may be at work beside `busy` others, so that they lose
/// no more than `loss_max`. Below one it is how often somebody is at work at all.
#[must_use]
pub fn share_among(busy: f64, loss_max: f64) -> f64 {
    let taken = busy.min(1.0) / (busy + 1.0);
    if taken <= loss_max { 1.0 } else { loss_max / taken }
}

/// How long to rest after rows were read for `span`, where reading may take `share` of the time.
#[must_use]
pub fn rest_after(span: Duration, share: f64) -> Duration {
    if share >= 1.0 {
        return Duration::ZERO;
    }
    let seconds = span.as_secs_f64() * (1.0 / share.max(SHARE_MIN) - 1.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(REST_MAX).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: f64 = 0.05;

    fn small(count: u64) -> f64 {
        f64::from(u32::try_from(count).unwrap())
    }

    /// What others lose on average when a reader gets `taken` thousandths of what they share while it
    /// reads, after a hundred stretches of a quarter of a second, and the share it has then; they would
    /// get `rate` things done a second.
    fn lost(busy: f64, taken: u64, rate: u64) -> (f64, f64) {
        let mut sharing = Sharing::new(5);
        let (mut alone, mut got, mut share) = (0, 0, 1.0);
        for stretch in 0..200 {
            sharing.found(busy);
            share = sharing.next_share();
            let span = Duration::from_millis(250);
            let rest = rest_after(span, share);
            let done = |span: Duration, thousandths: u64| {
                u64::try_from(span.as_millis()).unwrap() * rate * thousandths / 1_000_000
            };
            let (while_read, while_rested) = (done(span, 1_000 - taken), done(rest, 1_000));
            sharing.read(span, while_read);
            sharing.rested(rest, while_rested);
            if stretch >= 100 {
                alone += done(span + rest, 1_000);
                got += while_read + while_rested;
            }
        }
        (1.0 - small(got) / small(alone), share)
    }

    /// A fair part for one beside so many, in thousandths.
    fn part(busy: f64) -> u64 {
        (0..=1_000).find(|thousandth| small(*thousandth) * (busy + 1.0) >= 1_000.0).unwrap()
    }

    #[test]
    fn where_nobody_is_at_work_there_is_no_rest() {
        let mut sharing = Sharing::new(5);
        sharing.found(0.0);
        assert_eq!(sharing.next_share(), 1.0);
        assert_eq!(rest_after(Duration::from_secs(9), 1.0), Duration::ZERO);
        // Whoever comes is given way to at once, and the read is taken up again when all have gone.
        sharing.found(4.0);
        assert!(sharing.next_share() < 0.3);
        let mut looks = (0..20).map(|_| {
            sharing.found(0.0);
            sharing.next_share()
        });
        assert!(looks.any(|share| share == 1.0));
    }

    #[test]
    fn the_share_follows_from_how_many_want_the_same() {
        for (busy, share) in
            [(0.0, 1.0), (0.05, 1.0), (0.5, 0.15), (1.0, 0.1), (4.0, 0.25), (19.0, 1.0)]
        {
            let given = share_among(busy, ALLOWED);
            assert!((given - share).abs() < 0.001, "{busy}: {given}");
        }
        assert_eq!(share_among(1.0, 1.0), 1.0, "whoever may lose everything is not asked");
    }

    #[test]
    fn a_server_that_loses_nothing_is_read_faster_step_by_step() {
        let (loss, share) = lost(1.0, 0, 2_000);
        assert!(loss.abs() < 0.001 && share >= 0.7, "{loss} {share}");
        // Too little is counted to tell, so the share stays what the number gives.
        let (_, share) = lost(1.0, 0, 5);
        assert!((share - 0.1).abs() < 0.001, "{share}");
    }

    #[test]
    fn a_rest_has_an_end() {
        assert_eq!(rest_after(Duration::from_secs(3_600), 0.1), REST_MAX);
        assert_eq!(rest_after(Duration::from_secs(1), 0.25), Duration::from_secs(3));
        assert_eq!(rest_after(Duration::MAX, 0.5), REST_MAX);
    }

    proptest! {
        #[test]
        fn a_share_is_within_its_bounds_and_costs_no_more_than_allowed(
            busy in 0.0..200.0f64, percent in 1u32..=100
        ) {
            let allowed = f64::from(percent) / 100.0;
            let share = share_among(busy, allowed);
            prop_assert!(share > 0.0 && share <= 1.0);
            prop_assert!(share * busy.min(1.0) / (busy + 1.0) <= allowed + 1e-9);
        }

        /// Whatever others do, a reader that gets its fair part costs them what is allowed; one that
        /// costs more than its part is found out, where enough is counted, and held to it as well.
        #[test]
        fn whoever_is_beside_loses_no_more_than_allowed(
            busy in 1.0..18.0f64, rate in 5_000u64..20_000, mild in 0u64..=100, worse in 100u64..300
        ) {
            let (loss, _) = lost(busy, part(busy) * mild / 100, rate);
            prop_assert!(loss <= ALLOWED + 0.003, "{}", loss);
            let (loss, _) = lost(busy, (part(busy) * worse / 100).min(800), rate);
            prop_assert!(loss <= ALLOWED + 0.01, "{}", loss);
        }

        #[test]
        fn any_sequence_of_findings_gives_a_share_within_its_bounds(
            seen in proptest::collection::vec((0u32..50, 0u64..10_000, 0u64..10_000, 1u64..2_000), 1..60)
        ) {
            let mut sharing = Sharing::new(5);
            let mut before = 1.0;
            for (busy, read, rested, millis) in seen {
                sharing.found(f64::from(busy));
                sharing.read(Duration::from_millis(millis), read);
                sharing.rested(Duration::from_millis(millis), rested);
                let share = sharing.next_share();
                prop_assert!((SHARE_MIN..=1.0).contains(&share));
                prop_assert!(share == 1.0 || share <= SHARE_MAX);
                prop_assert!(share == 1.0 || before == 1.0 || share <= before + SHARE_STEP + 1e-9);
                before = share;
            }
        }
    }
}
