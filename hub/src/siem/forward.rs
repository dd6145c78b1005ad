//! Keeps a collector told: opens the line, sends what is next, moves the cursor, raises the alarm.

use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::cursor::{self, TAKEN_MAX};
use super::message::Event;
use super::tap::{QUEUE_MAX, Tapped};
use super::way::{Line, Way};
use super::window::{SETTLES_AFTER, Window};
use super::{Terms, told};
use crate::incidents::{self, Happening, Kind};
use crate::views::metrics::Metrics;
use crate::warehouse::Warehouse;

/// How often is looked for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long after a line broke the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Events of security sent at once.
const EVENTS_TAKEN_MAX: usize = 500;

/// What the forwarder works with.
#[derive(Debug)]
pub struct Forwarder {
    /// Whom to tell, and how.
    pub terms: Terms,
    /// Where entries and incidents are.
    pub warehouse: Warehouse,
    /// What is shown of it.
    pub metrics: Metrics,
    /// Events of security.
    pub tapped: Tapped,
}

/// Since when a collector is not reached, and what was said of it.
#[derive(Debug, Default)]
struct Outage {
    since: Option<Instant>,
    alarmed: bool,
    /// What was last said of the database.
    database: bool,
}

impl Forwarder {
    /// Runs until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut outage = Outage::default();
        let Some(mut window) = self.begin(&stop, &mut outage).await else { return };
        while !stop.is_cancelled() {
            let Some(opened) = stop.run_until_cancelled(self.terms.way.open()).await else {
                return;
            };
            let broke = match opened {
                Ok(line) => {
                    self.metrics.siem_connected(true);
                    let ended = self.serve(line, (&mut window, &mut outage), &stop).await;
                    self.metrics.siem_connected(false);
                    ended
                }
                Err(error) => Some(error),
            };
            let Some(error) = broke else { return };
            window.broke();
            self.failed(&mut outage, Way::unreachable(&self.terms.to, error)).await;
            self.show(&window).await;
            let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY_AFTER)).await;
        }
    }

    /// Where the collector stands; asked until the database says.
    async fn begin(&self, stop: &CancellationToken, outage: &mut Outage) -> Option<Window> {
        let first = self.terms.first_entry.saturating_sub(1);
        loop {
            match cursor::read(&self.warehouse, &self.terms.to).await {
                Ok(number) => return Some(Window::after(number.unwrap_or(0).max(first))),
                Err(fault) => outage.tell_database(&fault),
            }
            stop.run_until_cancelled(tokio::time::sleep(RETRY_AFTER)).await?;
        }
    }

    /// Sends over one line until it breaks, or the hub stops (`None`).
    async fn serve(
        &mut self,
        mut line: Line,
        (window, outage): (&mut Window, &mut Outage),
        stop: &CancellationToken,
    ) -> Option<std::io::Error> {
        let opened = Instant::now();
        loop {
            let last = stop.is_cancelled();
            let more = match self.round(&mut line, window, outage).await {
                Ok(more) => more,
                Err(error) => return Some(error),
            };
            if opened.elapsed() >= SETTLES_AFTER || self.terms.way.is_sure() {
                outage.over(&self.terms.to);
            }
            if last {
                let has_all = line.close().await;
                self.settle(window, outage, has_all).await;
                return None;
            }
            let wait = if more { Duration::ZERO } else { LOOK_EVERY };
            tokio::select! {
                biased;
                error = line.gone() => return Some(error),
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is next; true when there is more of it. Only a broken line is an error: a database
    /// that does not answer is asked again.
    async fn round(
        &mut self,
        line: &mut Line,
        window: &mut Window,
        outage: &mut Outage,
    ) -> std::io::Result<bool> {
        self.settle(window, outage, self.terms.way.is_sure()).await;
        self.take(window);
        let next = match cursor::next(&self.warehouse, window.number(), &window.incidents()).await {
            Ok(next) => {
                outage.database = false;
                next
            }
            Err(fault) => {
                outage.tell_database(&fault);
                cursor::Next { number: window.number(), ..cursor::Next::default() }
            }
        };
        let events: Vec<&Event> = window.to_send(EVENTS_TAKEN_MAX).collect();
        let of_security = events.len();
        let mut all = events;
        all.extend(next.entries.iter().chain(next.incidents.iter().map(|(_, event)| event)));
        if !all.is_empty() {
            line.send(&all, self.terms.form, &self.terms.host).await?;
        }
        let incidents: Vec<i64> = next.incidents.iter().map(|(incident, _)| *incident).collect();
        self.metrics.siem_sent(of_security, next.entries.len(), incidents.len());
        window.sent(Instant::now(), next.number, &incidents, of_security);
        self.show(window).await;
        Ok(next.entries.len() >= usize::try_from(TAKEN_MAX).unwrap_or(usize::MAX)
            || of_security == EVENTS_TAKEN_MAX)
    }

    /// Takes events of security over, as many as may be on their way at once.
    fn take(&mut self, window: &mut Window) {
        while window.held() < QUEUE_MAX
            && let Some(event) = self.tapped.take()
        {
            window.hold(event);
        }
        let lost = self.tapped.lost();
        if lost > 0 {
            self.metrics.siem_lost(lost);
            warn!(lost, "{lost} events of security did not fit and were not sent to the collector");
            window.hold(told::lost(lost, Timestamp::now()));
        }
    }

    /// Moves the cursor over what has arrived.
    async fn settle(&self, window: &mut Window, outage: &mut Outage, is_sure: bool) {
        let Some(arrived) = window.arrived(Instant::now(), is_sure) else { return };
        // Where it is not written down, a later one is, or it is sent again after the next start.
        if let Err(fault) = cursor::write(&self.warehouse, &self.terms.to, &arrived).await {
            outage.tell_database(&fault);
        }
    }

    async fn show(&self, window: &Window) {
        if let Ok((entries, oldest)) = cursor::behind(&self.warehouse, window.number()).await {
            let age = oldest.map_or(Duration::ZERO, |oldest| Timestamp::now().since(oldest));
            self.metrics.observe_siem(entries, age);
        }
    }

    /// Says once that the collector is not reached, and raises the alarm once that has lasted.
    async fn failed(&self, outage: &mut Outage, fault: Fault) {
        let since = *outage.since.get_or_insert_with(|| {
            warn!(code = %fault.code, "Entries wait for the collector: {}", fault.chain());
            Instant::now()
        });
        if outage.alarmed || since.elapsed() < self.terms.alarm_after {
            return;
        }
        match self.alarm(since.elapsed()).await {
            Ok(()) => {
                outage.alarmed = true;
                error!(code = %fault.code, "The collector has been out of reach for long: {}", fault.chain());
            }
            Err(fault) => outage.tell_database(&fault),
        }
    }

    async fn alarm(&self, for_so_long: Duration) -> Result<(), Fault> {
        let client = self.warehouse.client().await?;
        let (to, seconds) = (&self.terms.to, for_so_long.as_secs());
        let what = format!("the collector {to} has not been reached for {seconds} s; entries wait");
        let happening = Happening {
            kind: Kind::Siem,
            cause: "unreachable",
            agent: None,
            dataset: None,
            what: &what,
            transfer: None,
            at: Timestamp::now(),
        };
        incidents::note(&**client, &happening).await.map(drop)
    }
}

impl Outage {
    /// The collector is there, and has been for long enough to be believed.
    fn over(&mut self, to: &str) {
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs();
            info!(seconds, "The collector {to} is told again after {seconds} s");
        }
        self.alarmed = false;
    }

    fn tell_database(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.database, true) {
            warn!(code = %fault.code, "What the collector is to be told is not read: {}", fault.chain());
        }
    }
}
