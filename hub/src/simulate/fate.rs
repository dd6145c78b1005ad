//! What befalls an agency, and when: a pure function of the seed, the agency and the time.

use std::time::Duration;

use phusa_protocol::fault::Code;
use serde::Serialize;

/// How long one fate lasts.
const LASTS: Duration = Duration::from_secs(180);

/// How an agency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It delivers and reports.
    Well,
    /// Its line is cut.
    Cut,
    /// Its line stands, and nothing comes by it.
    Silent,
    /// Somebody stopped its agent.
    Stopped,
    /// The source refuses the agent's password.
    LoginRefused,
    /// The source's log no longer reaches back, or the source is away.
    SourceAway,
    /// Its disk is nearly at its reserve.
    DiskLow,
    /// Its clock is wrong by two minutes.
    ClockWrong,
    /// Its certificate ends soon.
    CertificateEnds,
    /// Changes have waited for ten minutes.
    Behind,
}

const TROUBLES: [Fate; 9] = [
    Fate::Cut,
    Fate::Silent,
    Fate::Stopped,
    Fate::LoginRefused,
    Fate::SourceAway,
    Fate::DiskLow,
    Fate::ClockWrong,
    Fate::CertificateEnds,
    Fate::Behind,
];

impl Fate {
    /// Whether its agent reads and delivers.
    pub(super) fn delivers(self) -> bool {
        matches!(self, Self::Well | Self::DiskLow | Self::ClockWrong | Self::CertificateEnds)
    }

    /// Whether what the hub wants reaches its agent, and is answered.
    pub(super) fn hears(self) -> bool {
        !matches!(self, Self::Cut | Self::Silent | Self::Stopped)
    }

    /// The fault that its report names.
    pub(super) fn fault(self) -> Option<Code> {
        match self {
            Self::LoginRefused => Some(Code::SourceLogin),
            Self::SourceAway => Some(Code::SourceUnreachable),
            Self::Well
            | Self::Cut
            | Self::Silent
            | Self::Stopped
            | Self::DiskLow
            | Self::ClockWrong
            | Self::CertificateEnds
            | Self::Behind => None,
        }
    }
}

/// Which troubles come, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The same seed is the same story.
    pub seed: u64,
    /// Agencies in trouble at any moment, in percent: 0 to 100.
    pub percent: u8,
}

impl Schedule {
    /// What befalls agency `number` so long after the start; everybody begins well, and each fate lasts
    /// three minutes.
    #[must_use]
    pub fn fate(&self, number: u32, after: Duration) -> Fate {
        // Not all at one moment: each agency's turn comes at its own second.
        let own = mixed(self.seed ^ u64::from(number)) % LASTS.as_secs();
        let turn = (after.as_secs() + own) / LASTS.as_secs();
        if turn == 0 {
            return Fate::Well;
        }
        let drawn = mixed(mixed(self.seed ^ (u64::from(number) << 32)) ^ turn);
        if drawn % 100 >= u64::from(self.percent) {
            return Fate::Well;
        }
        let which = usize::try_from(drawn / 100).unwrap_or(0) % TROUBLES.len();
        TROUBLES.get(which).copied().unwrap_or(Fate::Well)
    }
}

/// `SplitMix64`'s step: neighbours become strangers.
fn mixed(seed: u64) -> u64 {
    let sum = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let once = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_is_one_story_with_every_trouble_and_about_as_many_as_were_asked_for() {
        let schedule = Schedule { seed: 2026, percent: 10 };
        let minute = |minute: u64| Duration::from_secs(minute * 60);
        let all = |schedule: Schedule| {
            let of = move |number| (0..60).map(move |at| schedule.fate(number, minute(at)));
            (0..500).flat_map(of).collect::<Vec<_>>()
        };
        let story = all(schedule);
        assert_eq!(story, all(schedule));
        assert_ne!(story, all(Schedule { seed: 2027, ..schedule }));
        let seen: HashSet<_> = story.iter().copied().collect();
        assert_eq!(seen.len(), TROUBLES.len() + 1);
        let troubled = story.iter().filter(|fate| **fate != Fate::Well).count() * 100 / story.len();
        assert!((8..=11).contains(&troubled), "{troubled} %");
        assert!(all(Schedule { percent: 0, ..schedule }).iter().all(|fate| *fate == Fate::Well));
    }
}
