//! Takes events of security out of what the program logs, into a bounded queue.
//!
//! Logging never waits for a collector: what does not fit is counted. Where nothing listens (no `[siem]`,
//! or another command than `serve`), nothing is kept.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phusa_protocol::time::Timestamp;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::message::{About, Event, Severity};

/// Events that wait for a collector; at some 500 bytes each, 5 MB.
pub const QUEUE_MAX: usize = 10_000;

/// The side that logs.
#[derive(Debug)]
pub struct Tap {
    to: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// The side that sends.
#[derive(Debug)]
pub struct Tapped {
    from: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Tap {
    /// As a layer that is asked for nothing but events of security, whatever else is logged.
    pub fn only<S: Subscriber + for<'a> LookupSpan<'a>>(self) -> impl Layer<S> {
        self.with_filter(Targets::new().with_target(crate::SECURITY, Level::INFO))
    }
}

/// Both sides of a queue.
#[must_use]
pub fn queue() -> (Tap, Tapped) {
    let (to, from) = mpsc::channel(QUEUE_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    (Tap { to, lost: Arc::clone(&lost) }, Tapped { from, lost })
}

impl Tapped {
    /// The next event, when there is one.
    pub fn take(&mut self) -> Option<Event> {
        self.from.try_recv().ok()
    }

    /// How many did not fit since this was last asked.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() != crate::SECURITY || self.to.is_closed() {
            return;
        }
        let severity = match *metadata.level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            _ => Severity::Notice,
        };
        let about = (About::Security, severity);
        let mut read = Read(Event::new(Timestamp::now(), about, "security", ""));
        event.record(&mut read);
        if matches!(self.to.try_send(read.0), Err(mpsc::error::TrySendError::Full(_))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Collects the values of a logged line; a fault's code names the event.
struct Read(Event);

impl Visit for Read {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let said = format!("{value:?}");
        match field.name() {
            "message" => self.0.text = said,
            "code" => {
                self.0.id = format!("security.{said}");
                self.keep(field, said);
            }
            _ => self.keep(field, said),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }
}

impl Read {
    fn keep(&mut self, field: &Field, said: String) {
        let event = std::mem::replace(
            &mut self.0,
            Event::new(Timestamp::UNIX_EPOCH, (About::Security, Severity::Notice), "", ""),
        );
        self.0 = event.with(field.name(), Some(said));
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn only_events_of_security_are_kept_and_what_does_not_fit_is_counted() {
        let (tap, mut tapped) = queue();
        let code = phusa_protocol::fault::Code::NetworkNotAllowed;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(tap), || {
            info!("nothing to see");
            warn!(target: crate::SECURITY, %code, address = %"10.0.0.9", "Closed a connection");
            for _ in 0..QUEUE_MAX + 4 {
                warn!(target: crate::SECURITY, "again");
            }
        });
        let first = tapped.take().unwrap();
        assert_eq!(
            (first.id.as_str(), first.text.as_str()),
            ("security.network_not_allowed", "Closed a connection")
        );
        assert_eq!(first.fields[1], ("address", "10.0.0.9".to_owned()));
        assert_eq!((tapped.lost(), tapped.lost()), (5, 0));
        let mut left = 0;
        while tapped.take().is_some() {
            left += 1;
        }
        assert_eq!(left, QUEUE_MAX - 1);
    }
}
