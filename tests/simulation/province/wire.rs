//! What is on its way between agents and hub, and what either does when it arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use phusa_protocol::delivery::{Action, Answer, Input};
use phusa_protocol::hello::Terms;
use phusa_protocol::ids::Seq;
use phusa_protocol::receipt::SignedReceipt;

use super::World;
use super::hub::Verdict;
use super::office::Office;
use super::registry::dataset;

/// How long an agent waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the hub keeps a batch that is a little early.
const EARLY_HELD: Duration = Duration::from_secs(2);

/// Who waits for an answer to what; `Seq(0)` stands for the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) office: usize,
    pub(super) life: u64,
    pub(super) seq: Seq,
    pub(super) number: u64,
}

/// Something on its way.
#[derive(Clone)]
pub(super) enum Event {
    Batch { request: Request, frame: Vec<u8>, hold_until: Option<Duration> },
    Answer { request: Request, answer: Answer, receipt: Option<Box<SignedReceipt>> },
    Hello { request: Request },
    Welcome { request: Request, terms: Option<Terms> },
}

/// How the network behaves for a while, in per cent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// Requests that do not arrive.
    pub(super) lost: u64,
    /// Answers that do not: the hub has the batch and the agent does not know.
    pub(super) answers_dropped: u64,
    pub(super) repeated: u64,
    /// Late enough to be overtaken.
    pub(super) late: u64,
}

impl World {
    pub(super) fn advance(&mut self) -> Result<(), String> {
        let event_at = self.events.keys().next().map(|(at, _)| *at);
        let wake = |(index, office): (usize, &Office)| {
            let at = office.process.as_ref()?.sender.wake_at()?;
            Some((at, index))
        };
        let tick = self.offices.iter().enumerate().filter_map(wake).min();
        match (event_at, tick) {
            (Some(at), Some((wake_at, _))) if at <= wake_at => self.next_event(),
            (Some(_), None) => self.next_event(),
            (_, Some((wake_at, office))) => {
                self.pass_to(wake_at);
                let now = self.moment();
                let process = self.offices[office].process.as_mut();
                let actions = process.map(|process| process.sender.step(Input::Tick, now));
                self.perform(office, actions.unwrap_or_default())
            }
            (None, None) => {
                self.pass_to(self.now + Duration::from_secs(1));
                Ok(())
            }
        }
    }

    pub(super) fn pass_to(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.now);
        self.now += passed;
        self.hub.clock = self.hub.clock.after(passed);
    }

    fn next_event(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else { return Ok(()) };
        self.pass_to(at);
        match event {
            Event::Batch { request, frame, hold_until } => {
                self.batch_at_hub(request, frame, hold_until)
            }
            Event::Hello { request } => {
                let id = &self.offices[request.office].id;
                let (refused, committed) = (self.hub.admits(id), self.hub.committed(id));
                let (dataset, lists) = (dataset(), BTreeMap::new());
                let terms = Terms { dataset, refused, committed, agreement: None, lists };
                self.travel(Event::Welcome { request, terms: Some(terms) });
                Ok(())
            }
            Event::Answer { request, answer, receipt } => {
                if !self.is_awaited(&request) {
                    return Ok(());
                }
                self.note(|| format!("office {}: {} {answer:?}", request.office, request.seq));
                let now = self.moment();
                let receipt = receipt.map(|receipt| *receipt);
                let process = self.offices[request.office].process.as_mut();
                let actions =
                    process.map(|process| process.answered(request.seq, answer, receipt, now));
                self.perform(request.office, actions.unwrap_or_default())
            }
            Event::Welcome { request, terms } => {
                if !self.is_awaited(&request) {
                    return Ok(());
                }
                let now = self.moment();
                let actions = self.offices[request.office].process.as_mut().map(|process| {
                    process.greeting = false;
                    let input = terms.map_or(Input::NotGreeted(None), Input::Greeted);
                    process.sender.step(input, now)
                });
                self.perform(request.office, actions.unwrap_or_default())
            }
        }
    }

    /// Whether the process that asked still lives and has no answer yet.
    fn is_awaited(&mut self, request: &Request) -> bool {
        self.open.remove(request) && self.offices[request.office].life == request.life
    }

    fn batch_at_hub(
        &mut self,
        request: Request,
        frame: Vec<u8>,
        hold_until: Option<Duration>,
    ) -> Result<(), String> {
        let office = &self.offices[request.office];
        let (answer, receipt) = match self.hub.receive(&office.id, &frame, &office.source)? {
            Verdict::Receipt(receipt) => (Answer::Receipt, Some(receipt)),
            Verdict::Refused(code) => (Answer::Refused(code), None),
            Verdict::OutOfTurn => (Answer::OutOfTurn, None),
            Verdict::Hold => match hold_until {
                Some(until) if until <= self.now => (Answer::OutOfTurn, None),
                _ => {
                    let hold_until = hold_until.or(Some(self.now + EARLY_HELD));
                    let look_again = self.now + Duration::from_millis(20);
                    self.put(look_again, Event::Batch { request, frame, hold_until });
                    return Ok(());
                }
            },
        };
        self.travel(Event::Answer { request, answer, receipt });
        Ok(())
    }

    pub(super) fn perform(&mut self, office: usize, actions: Vec<Action>) -> Result<(), String> {
        let life = self.offices[office].life;
        for action in actions {
            self.note(|| format!("office {office}: {action:?}"));
            if self.offices[office].life != life {
                break;
            }
            let now = self.moment();
            let hub = self.hub.log.public_key();
            let Some(process) = self.offices[office].process.as_mut() else { break };
            match action {
                Action::Greet => {
                    process.greeting = true;
                    let request = self.request(office, Seq::NONE);
                    let timeout = Event::Welcome { request, terms: None };
                    self.put(self.now + REQUEST_TIMEOUT, timeout);
                    self.travel(Event::Hello { request });
                }
                Action::Send(seq) => match process.frame(seq) {
                    Ok(frame) => {
                        process.in_flight.insert(seq);
                        let request = self.request(office, seq);
                        let answer = Answer::Unreachable;
                        let timeout = Event::Answer { request, answer, receipt: None };
                        self.put(self.now + REQUEST_TIMEOUT, timeout);
                        self.travel(Event::Batch { request, frame, hold_until: None });
                    }
                    Err(_) => {
                        let damaged = process.damaged(seq, now);
                        self.did(office, damaged)?;
                    }
                },
                Action::Release(seq) => {
                    if let Err(fault) = process.release(seq, &hub) {
                        // What is not recorded is sent again by the next process.
                        self.did(office, Err(fault))?;
                        self.offices[office].stop();
                    }
                }
                Action::OpenEpoch(_, epoch) => {
                    let opened = self.offices[office].open_epoch(epoch);
                    let failed = opened.is_err();
                    self.did(office, opened)?;
                    if failed {
                        self.offices[office].stop();
                    }
                }
                Action::Report(_) => {}
            }
        }
        Ok(())
    }

    fn request(&mut self, office: usize, seq: Seq) -> Request {
        self.count += 1;
        let request = Request { office, life: self.offices[office].life, seq, number: self.count };
        self.open.insert(request);
        request
    }

    fn travel(&mut self, event: Event) {
        let is_answer = matches!(event, Event::Answer { .. } | Event::Welcome { .. });
        let lost = if is_answer { self.weather.answers_dropped } else { self.weather.lost };
        for _ in 0..1 + u64::from(self.random.happens(self.weather.repeated)) {
            let late = self.random.happens(self.weather.late);
            let (from, to) = if late { (50, 90_000) } else { (1, 50) };
            let delay = self.random.millis(from, to);
            if !self.random.happens(lost) {
                self.put(self.now + delay, event.clone());
            }
        }
    }

    pub(super) fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }
}
