//! Which faults this program logged since it was started, and how often: names and moments, for who is
//! asked what went wrong of late.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use phusa_protocol::diagnosis::Lately;
use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// One line a fault that exists, however often it is logged.
static SEEN: Mutex<BTreeMap<&'static str, (u64, Timestamp)>> = Mutex::new(BTreeMap::new());

/// What went wrong since the program was started, the newest first.
#[must_use]
pub fn lately() -> Vec<Lately> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let one = |(code, (count, last)): (&&str, &(u64, Timestamp))| Lately {
        code: (*code).to_owned(),
        count: *count,
        last: *last,
    };
    let mut all: Vec<_> = seen.iter().map(one).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.last));
    all
}

/// Counts faults out of what is logged as a warning or an error, whatever is shown of it.
pub fn counting<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Counting.with_filter(LevelFilter::WARN)
}

struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut found = Found(None);
        event.record(&mut found);
        let Some(code) = found.0 else { return };
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = seen.entry(code.name()).or_insert((0, Timestamp::UNIX_EPOCH));
        *count = count.saturating_add(1);
        *last = Timestamp::now();
    }
}

/// The code of a logged line, where it is one that exists.
struct Found(Option<Code>);

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "code" {
            self.0 = Code::named(&format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "code" {
            self.0 = Code::named(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn faults_are_counted_by_name_and_nothing_else_is_kept() {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(counting()), || {
            let code = Code::HubBusy;
            tracing::warn!(%code, "Nguyễn Văn An");
            tracing::warn!(code = code.name(), "Nguyễn Văn An");
            tracing::info!(code = %Code::DiskFull, "no warning");
            tracing::warn!(code = "Nguyễn Văn An", "no fault");
        });
        let all = lately();
        let counted: Vec<_> = all.iter().map(|one| (one.code.as_str(), one.count)).collect();
        assert_eq!(counted, [("hub_busy", 2)]);
    }
}
