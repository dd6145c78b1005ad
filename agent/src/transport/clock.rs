//! How far the hub's clock is from this one, by the `Date` of its answers (RFC 9110 §6.6.1).

use std::sync::{Mutex, PoisonError};

use phusa_protocol::time::Timestamp;
use reqwest::header::{DATE, HeaderMap};

/// A date is of whole seconds, cut off; on average half a second is missing.
const CUT_OFF_MS: i64 = 500;

/// The newest measure.
#[derive(Debug, Default)]
pub(super) struct HubClock(Mutex<Option<i64>>);

impl HubClock {
    /// Notes what an answer says that came just now.
    pub(super) fn note(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|value| value.to_str().ok());
        let Some(date) = date.and_then(Timestamp::of_http_date) else { return };
        let ahead = (date.micros() - Timestamp::now().micros()) / 1_000 + CUT_OFF_MS;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    /// How far it is ahead, in milliseconds, a second more or less.
    pub(super) fn skew_ms(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
