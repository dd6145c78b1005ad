//! What was sent and is not yet known to have arrived. Pure: time comes in, positions go out.
//!
//! Syslog has no receipts. What was sent is taken as arrived once the line has stood for [`SETTLES_AFTER`]
//! since: by then TCP has its acknowledgements, or has given the line up. When it breaks before, all of
//! that is sent again, so a collector may get some of it twice and nothing never.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Event;

/// Longer than TCP is given to have what was sent acknowledged ([`super::way`]).
pub const SETTLES_AFTER: Duration = Duration::from_secs(12);

/// Marks closer than this are one.
const MARK_EVERY: Duration = Duration::from_millis(200);

/// One point of what was sent on this line.
#[derive(Debug, Clone, Copy)]
struct Mark {
    began: Instant,
    at: Instant,
    number: u64,
    incidents: usize,
    events: usize,
}

/// What a collector has, and what is on its way to it.
#[derive(Debug)]
pub struct Window {
    confirmed: u64,
    sent: u64,
    incidents: VecDeque<i64>,
    events: VecDeque<Event>,
    /// How many of `events`, from the front, were sent on this line.
    events_sent: usize,
    marks: VecDeque<Mark>,
}

/// What is known to have arrived since this was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Entries up to this number.
    pub number: u64,
    /// These incidents.
    pub incidents: Vec<i64>,
}

impl Window {
    /// Begins after the entry of this number.
    #[must_use]
    pub fn after(number: u64) -> Self {
        Self {
            confirmed: number,
            sent: number,
            incidents: VecDeque::new(),
            events: VecDeque::new(),
            events_sent: 0,
            marks: VecDeque::new(),
        }
    }

    /// The last entry that was sent on this line, or is known to have arrived.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.sent
    }

    /// Incidents that are on their way.
    #[must_use]
    pub fn incidents(&self) -> Vec<i64> {
        self.incidents.iter().copied().collect()
    }

    /// How many events of security are held until they are known to have arrived.
    #[must_use]
    pub fn held(&self) -> usize {
        self.events.len()
    }

    /// Takes an event over; it is sent until it has arrived.
    pub fn hold(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Events to be sent now.
    pub fn to_send(&self, most: usize) -> impl Iterator<Item = &Event> {
        self.events.iter().skip(self.events_sent).take(most)
    }

    /// Notes what was just written to the line: entries up to a number, incidents, so many events.
    pub fn sent(&mut self, now: Instant, number: u64, incidents: &[i64], events: usize) {
        if number == self.sent && incidents.is_empty() && events == 0 {
            return;
        }
        self.sent = number;
        self.incidents.extend(incidents);
        self.events_sent += events;
        let began = match self.marks.back() {
            Some(last) if now.duration_since(last.began) < MARK_EVERY => last.began,
            Some(_) | None => now,
        };
        let before = self.marks.pop_back_if(|last| last.began == began);
        let (incidents, events) = (incidents.len(), events);
        self.marks.push_back(Mark {
            began,
            at: now,
            number,
            incidents: before.map_or(0, |mark| mark.incidents) + incidents,
            events: before.map_or(0, |mark| mark.events) + events,
        });
    }

    /// What has arrived, by the line having stood; at once, where `is_sure`. `None` for nothing new.
    pub fn arrived(&mut self, now: Instant, is_sure: bool) -> Option<Arrived> {
        let mut incidents = Vec::new();
        let settled = |mark: &Mark| is_sure || now.duration_since(mark.at) >= SETTLES_AFTER;
        let mut any = false;
        while let Some(mark) = self.marks.pop_front_if(|mark| settled(mark)) {
            any = true;
            self.confirmed = mark.number;
            incidents.extend(self.incidents.drain(..mark.incidents.min(self.incidents.len())));
            drop(self.events.drain(..mark.events.min(self.events.len())));
            self.events_sent = self.events_sent.saturating_sub(mark.events);
        }
        any.then_some(Arrived { number: self.confirmed, incidents })
    }

    /// The line broke: what is not known to have arrived is sent again on the next one.
    pub fn broke(&mut self) {
        self.sent = self.confirmed;
        self.incidents.clear();
        self.events_sent = 0;
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{About, Severity};
    use super::*;
    use phusa_protocol::time::Timestamp;

    fn event(text: &str) -> Event {
        Event::new(Timestamp::UNIX_EPOCH, (About::Security, Severity::Notice), "x", text)
    }

    fn next(window: &Window) -> Vec<String> {
        window.to_send(10).map(|event| event.text.clone()).collect()
    }

    #[test]
    fn what_is_not_known_to_have_arrived_is_sent_again_and_nothing_else() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut window = Window::after(10);
        window.hold(event("a"));
        window.hold(event("b"));
        window.sent(start, 14, &[1], 2);
        window.hold(event("c"));
        window.sent(start + second, 20, &[2, 3], 1);
        assert_eq!((window.number(), next(&window)), (20, vec![]));
        assert_eq!(window.arrived(start + SETTLES_AFTER - second, false), None);
        let first = Arrived { number: 14, incidents: vec![1] };
        assert_eq!(window.arrived(start + SETTLES_AFTER, false), Some(first));
        window.broke();
        assert_eq!((window.number(), next(&window)), (14, vec!["c".to_owned()]));
        assert!(window.incidents().is_empty());
        window.sent(start + 30 * second, 20, &[2, 3], 1);
        let all = Arrived { number: 20, incidents: vec![2, 3] };
        assert_eq!(window.arrived(start + 30 * second, true), Some(all));
        assert_eq!(window.held(), 0);
    }

    #[test]
    fn a_line_that_is_never_quiet_settles_too() {
        let start = Instant::now();
        let mut window = Window::after(0);
        for step in 1..=200 {
            let now = start + step * Duration::from_millis(100);
            window.sent(now, u64::from(step), &[], 0);
            let _ = window.arrived(now, false);
        }
        assert!(window.marks.len() < 70, "{}", window.marks.len());
        assert!(window.confirmed > 70, "{}", window.confirmed);
    }
}
