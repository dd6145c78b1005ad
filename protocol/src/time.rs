//! `Timestamp` (UTC, microseconds); the only file allowed to read the system clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment in UTC, in microseconds since 1970-01-01; shown and stored as RFC 3339.
///
/// It is for people and for the log; order never comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// Microseconds between 1970-01-01 and 2000-01-01, where PostgreSQL counts from.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Vietnam has had this time all year round since 1975.
const VIETNAM_AHEAD: Duration = Duration::from_secs(7 * 3_600);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// The system clock, now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    /// From microseconds since 1970-01-01.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// From the `Date` of an HTTP answer (RFC 9110 §5.6.7, its preferred form); `None` where it is none.
    #[must_use]
    pub fn of_http_date(text: &str) -> Option<Self> {
        let found = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Self(found.timestamp().as_microsecond()))
    }

    /// From PostgreSQL's own count: microseconds since 2000-01-01.
    #[must_use]
    pub fn from_postgres_micros(micros: i64) -> Self {
        Self(micros.saturating_add(POSTGRES_EPOCH_MICROS))
    }

    /// In PostgreSQL's own count: microseconds since 2000-01-01.
    #[must_use]
    pub fn postgres_micros(self) -> i64 {
        self.0.saturating_sub(POSTGRES_EPOCH_MICROS)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment and `span` more, at most the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Timestamp {
    /// This moment and `span` less, at least the beginning of time.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// By a Vietnamese clock, as people there write it: `21/11/2026 15:43:20`.
    #[must_use]
    pub fn vietnamese(self) -> String {
        let text = self.after(VIETNAM_AHEAD).to_string();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        format!("{}/{}/{} {}", part(8, 10), part(5, 7), part(0, 4), part(11, 19))
    }

    /// The same without year and seconds, `01/12 00:00`, where both are clear or do not matter.
    #[must_use]
    pub fn vietnamese_minute(self) -> String {
        let text = self.vietnamese();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        format!("{} {}", part(0, 5), part(11, 16))
    }
}

/// A text that is not an RFC 3339 moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a moment such as 2026-11-21T08:30:00Z")]
pub struct BadTimestamp(String);

impl TryFrom<String> for Timestamp {
    type Error = BadTimestamp;
    fn try_from(text: String) -> Result<Self, BadTimestamp> {
        match text.parse::<jiff::Timestamp>() {
            Ok(moment) => Ok(Self(moment.as_microsecond())),
            Err(_) => Err(BadTimestamp(text)),
        }
    }
}

impl From<Timestamp> for String {
    fn from(moment: Timestamp) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => write!(f, "{moment:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_rfc_3339_and_comes_back() {
        let moment = Timestamp::from_micros(1_795_250_600_123_456);
        let text = moment.to_string();
        assert_eq!(text, "2026-11-21T08:43:20.123456Z");
        assert_eq!(Timestamp::try_from(text), Ok(moment));
        assert_eq!(Timestamp::from_postgres_micros(0).to_string(), "2000-01-01T00:00:00.000000Z");
    }

    #[test]
    fn people_in_vietnam_read_their_own_clock() {
        let moment = Timestamp::try_from("2026-11-30T17:00:05Z".to_owned()).unwrap();
        assert_eq!(moment.vietnamese(), "01/12/2026 00:00:05");
        assert_eq!(moment.vietnamese_minute(), "01/12 00:00");
    }

    #[test]
    fn a_span_is_never_negative() {
        let early = Timestamp::from_micros(5);
        assert_eq!(early.since(early.after(Duration::from_secs(1))), Duration::ZERO);
    }

    #[test]
    fn a_date_of_http_is_read() {
        let found = Timestamp::of_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(found.micros(), 784_111_777_000_000);
        assert_eq!(Timestamp::of_http_date("hôm nay"), None);
    }
}
