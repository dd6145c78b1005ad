//! `Sender` and `Receiver`: what to send next, what is durable, what to do after a cut; time and
//! bytes come in as arguments.
//!
//! Both are pure. `transport` (agent) and `ingest` (hub) drive them, and so does the simulation.
//! The rules they keep: batches of a stream are committed in order, each once; a repeated one is
//! answered with its receipt; one out of turn with the number expected; a side that finds the other
//! further or further behind than it can be opens a new epoch and says why. Elapsed time is
//! monotonic (since the process started), so a clock that jumps changes nothing.
//!
//! Whether the two sides still fit together is decided by greetings alone, which are sent when
//! nothing else is on its way: any other answer may be older than it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::digest::Digest;
use crate::fault::{Class, Code};
use crate::hello::{Committed, Terms};
use crate::ids::{Epoch, Seq};

/// First wait after a failure; it doubles with each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// No wait is longer than this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest wait a hub can ask for; a wrong number must not silence an agent.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// A sender that has nothing to send greets again after this, because a hub restored from a backup
/// says nothing by itself.
pub const GREET_AGAIN: Duration = Duration::from_secs(60);
/// How many batches of one stream may be on their way at once: one is applied while the next
/// travels and is unpacked. The hub refuses batches further ahead than this.
pub const WINDOW: u64 = 4;

/// Why a stream begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochReason {
    /// The hub has batches this agent does not know: the agent stands on an old disk.
    HubAhead,
    /// The hub lacks batches this agent no longer has: the hub was restored from a backup.
    HubBehind,
    /// The hub is in a later epoch of this stream.
    Superseded,
    /// The hub holds another batch under this number.
    Conflict,
    /// A batch without a receipt is missing from the spool or cannot be read.
    SpoolDamaged,
}

/// What a sender is told.
///
/// Whoever drives it answers every [`Action::Greet`] with one `Greeted` or `NotGreeted`, and every
/// [`Action::Send`] with one `Answered` or `Damaged`, within a bounded time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Batch `Seq`, whose header has this digest, is durable in the spool.
    Spooled(Seq, Digest),
    /// The hub has answered the greeting.
    Greeted(Terms),
    /// The hub has answered batch `Seq`.
    Answered(Seq, Answer),
    /// The greeting got no welcome; the hub asks to be left alone for so long, if it says so.
    NotGreeted(Option<Duration>),
    /// Batch `Seq` cannot be read from the spool; its file is set aside.
    Damaged(Seq),
    /// Time has passed.
    Tick,
}

/// The hub's answer to one batch, or the want of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A receipt that verified.
    Receipt,
    /// Not the next one. What the hub expects is asked for in a greeting, because this answer may
    /// have been overtaken by receipts.
    OutOfTurn,
    /// Try again after this long, at most [`WAIT_MAX`].
    Wait(Duration),
    /// Refused, and the reason.
    Refused(Code),
    /// No answer: the batch may or may not have been committed.
    Unreachable,
}

/// When and by what chance something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time since the process started.
    pub elapsed: Duration,
    /// Any random number; it spreads the waits of many agents.
    pub entropy: u32,
}

/// What a sender wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Say hello for this stream.
    Greet,
    /// Send batch `Seq`.
    Send(Seq),
    /// The receipts of batch `Seq` and of all before it have come: record that of `Seq`, then delete
    /// its spool file. Released in order, so that the spool never has a hole; a receipt that comes
    /// early (of at most [`WINDOW`] - 1 batches) is kept by the driver until then.
    Release(Seq),
    /// Begin the stream anew, in an epoch after both its own and this one.
    OpenEpoch(EpochReason, Epoch),
    /// Show this fault; delivery goes on trying.
    Report(Code),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Not talking; greet when this time has come.
    Down { until: Duration },
    /// The greeting is on its way.
    Greeting,
    /// Batches may be sent from `not_before` on; without any, greet again at `greet_at`.
    Up { not_before: Duration, greet_at: Duration },
    /// A new epoch was asked for; this sender is finished.
    Over,
}

/// The agent's side of one stream.
#[derive(Debug)]
pub struct Sender {
    epoch: Epoch,
    /// Every batch up to here has its receipt recorded.
    released: Seq,
    /// Digest of the header of batch `released`; all zero before the first.
    released_header: Digest,
    /// Batches whose receipts came before those of earlier ones.
    receipts_early: BTreeSet<Seq>,
    /// Batches in the spool that are not released, with the digests of their headers.
    spooled: BTreeMap<Seq, Digest>,
    in_flight: BTreeSet<Seq>,
    link: Link,
    failures: u32,
}

impl Sender {
    /// A sender of `epoch` whose receipts up to `released` are recorded; `released_header` is the
    /// digest of that batch's header, all zero when there is none. What lies in the spool is told by
    /// [`Input::Spooled`], oldest first. The first action is to greet.
    #[must_use]
    pub fn new(epoch: Epoch, released: Seq, released_header: Digest) -> Self {
        Self {
            epoch,
            released,
            released_header,
            receipts_early: BTreeSet::new(),
            spooled: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            link: Link::Down { until: Duration::ZERO },
            failures: 0,
        }
    }

    /// Takes one input and says what is to be done.
    pub fn step(&mut self, input: Input, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Spooled(seq, header) => {
                if seq > self.released {
                    self.spooled.insert(seq, header);
                }
            }
            Input::Greeted(terms) => self.on_terms(&terms, now, &mut actions),
            Input::Answered(seq, answer) => {
                self.in_flight.remove(&seq);
                self.on_answer(seq, answer, now, &mut actions);
            }
            Input::NotGreeted(asked) => {
                self.fall_back(now);
                if let Some(span) = asked {
                    self.wait(span, now);
                }
            }
            Input::Damaged(seq) => {
                self.in_flight.remove(&seq);
                self.give_over(EpochReason::SpoolDamaged, self.epoch, &mut actions);
            }
            Input::Tick => {}
        }
        self.go_on(now.elapsed, &mut actions);
        actions
    }

    /// When [`Input::Tick`] is wanted at the latest; `None` when only an answer can change things.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        match self.link {
            Link::Down { until } => self.in_flight.is_empty().then_some(until),
            Link::Up { not_before, .. } if self.next_to_send().is_some() => Some(not_before),
            Link::Up { greet_at, .. } => self.is_idle().then_some(greet_at),
            Link::Greeting | Link::Over => None,
        }
    }

    /// The last batch up to which every receipt is recorded.
    #[must_use]
    pub fn released(&self) -> Seq {
        self.released
    }

    /// Whether everything spooled is released.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.spooled.is_empty()
    }

    fn on_terms(&mut self, terms: &Terms, now: Moment, actions: &mut Vec<Action>) {
        if self.link != Link::Greeting {
            return;
        }
        if let Some(code) = terms.refused {
            self.refused(code, now, actions);
            return;
        }
        if let Some(reason) = self.disagreement(terms.committed.as_ref()) {
            self.give_over(reason, terms.committed.map_or(Epoch(0), |c| c.epoch), actions);
            return;
        }
        // `failures` stays: only a receipt shows that batches get through.
        self.link = Link::Up {
            not_before: now.elapsed,
            greet_at: now.elapsed.saturating_add(jitter(GREET_AGAIN, now.entropy)),
        };
    }

    /// Whether what the hub holds can be continued from what this agent holds.
    fn disagreement(&self, committed: Option<&Committed>) -> Option<EpochReason> {
        if let Some(committed) = committed.filter(|c| c.epoch >= self.epoch) {
            if committed.epoch > self.epoch {
                return Some(EpochReason::Superseded);
            }
            if committed.seq < self.released {
                return Some(EpochReason::HubBehind);
            }
            if committed.seq > self.last_spooled() {
                return Some(EpochReason::HubAhead);
            }
            if self.header(committed.seq).is_some_and(|header| header != committed.header) {
                return Some(EpochReason::Conflict);
            }
        } else if self.released > Seq::NONE {
            // The hub has nothing of this epoch: right before the first receipt, a loss after it.
            return Some(EpochReason::HubBehind);
        }
        let mut expected = self.released;
        let mut is_next = |seq: &Seq| {
            expected = expected.next();
            *seq == expected
        };
        (!self.spooled.keys().all(&mut is_next)).then_some(EpochReason::SpoolDamaged)
    }

    fn header(&self, seq: Seq) -> Option<Digest> {
        if seq == self.released {
            return Some(self.released_header);
        }
        self.spooled.get(&seq).copied()
    }

    fn last_spooled(&self) -> Seq {
        self.spooled.keys().next_back().copied().unwrap_or(self.released)
    }

    fn on_answer(&mut self, seq: Seq, answer: Answer, now: Moment, actions: &mut Vec<Action>) {
        match answer {
            Answer::Receipt => self.release(seq, now, actions),
            Answer::Wait(span) => self.wait(span, now),
            Answer::Refused(Code::BatchConflict) => {
                self.give_over(EpochReason::Conflict, self.epoch, actions);
            }
            Answer::Refused(code) => self.refused(code, now, actions),
            Answer::OutOfTurn | Answer::Unreachable => self.fall_back(now),
        }
    }

    fn release(&mut self, seq: Seq, now: Moment, actions: &mut Vec<Action>) {
        self.failures = 0;
        if self.spooled.contains_key(&seq) {
            self.receipts_early.insert(seq);
        }
        while self.receipts_early.remove(&self.released.next()) {
            self.released = self.released.next();
            if let Some(header) = self.spooled.remove(&self.released) {
                self.released_header = header;
            }
            actions.push(Action::Release(self.released));
        }
        if let Link::Up { greet_at, .. } = &mut self.link {
            *greet_at = now.elapsed.saturating_add(jitter(GREET_AGAIN, now.entropy));
        }
    }

    fn give_over(&mut self, reason: EpochReason, hub: Epoch, actions: &mut Vec<Action>) {
        if self.link != Link::Over {
            self.link = Link::Over;
            actions.push(Action::OpenEpoch(reason, self.epoch.max(hub).next()));
        }
    }

    fn refused(&mut self, code: Code, now: Moment, actions: &mut Vec<Action>) {
        actions.push(Action::Report(code));
        if code.class() == Class::Retry {
            self.fall_back(now);
        } else {
            self.go_down(now.elapsed.saturating_add(jitter(BACKOFF_MAX, now.entropy)));
        }
    }

    fn fall_back(&mut self, now: Moment) {
        // The batches of one window fail together, some of them late; they count as one failure.
        if matches!(self.link, Link::Greeting | Link::Up { .. }) {
            let span = backoff(self.failures, now.entropy);
            self.failures = self.failures.saturating_add(1);
            self.go_down(now.elapsed.saturating_add(span));
        }
    }

    /// Sends nothing more and greets at `until`, or later if that was already agreed.
    fn go_down(&mut self, until: Duration) {
        let agreed = match self.link {
            Link::Over => return,
            Link::Greeting => Duration::ZERO,
            Link::Down { until } => until,
            Link::Up { not_before, .. } => not_before,
        };
        self.link = Link::Down { until: until.max(agreed) };
    }

    fn wait(&mut self, span: Duration, now: Moment) {
        let span = jitter(span.clamp(BACKOFF_FIRST, WAIT_MAX), now.entropy);
        let end = now.elapsed.saturating_add(span);
        match &mut self.link {
            Link::Up { not_before: agreed, .. } | Link::Down { until: agreed } => {
                *agreed = end.max(*agreed);
            }
            Link::Greeting | Link::Over => {}
        }
    }

    fn go_on(&mut self, elapsed: Duration, actions: &mut Vec<Action>) {
        let greet = match self.link {
            Link::Down { until } => until <= elapsed && self.in_flight.is_empty(),
            Link::Up { greet_at, .. } => greet_at <= elapsed && self.is_idle(),
            Link::Greeting | Link::Over => false,
        };
        if greet {
            self.link = Link::Greeting;
            actions.push(Action::Greet);
        }
        if matches!(self.link, Link::Up { not_before, .. } if not_before <= elapsed) {
            while let Some(seq) = self.next_to_send() {
                self.in_flight.insert(seq);
                actions.push(Action::Send(seq));
            }
        }
    }

    fn next_to_send(&self) -> Option<Seq> {
        let furthest = Seq(self.released.0.saturating_add(WINDOW));
        let waiting = |seq: &&Seq| {
            **seq <= furthest && !self.in_flight.contains(seq) && !self.receipts_early.contains(seq)
        };
        self.spooled.keys().find(waiting).copied()
    }
}

/// How long to wait after failure number `failures` (from 0): doubling from [`BACKOFF_FIRST`] to
/// [`BACKOFF_MAX`], and up to a quarter more by `entropy`.
#[must_use]
pub fn backoff(failures: u32, entropy: u32) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.min(20));
    jitter(doubled.min(BACKOFF_MAX), entropy)
}

fn jitter(span: Duration, entropy: u32) -> Duration {
    span.saturating_add(span / 4 * (entropy % 1024) / 1024)
}

/// What a hub decides about a batch before it looks inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The next of its stream: apply it.
    Next,
    /// The first of a new epoch: apply it and move the stream there.
    NewEpoch,
    /// Already committed: answer with its receipt, if the stored header is the same.
    Repeat,
    /// A little early: wait for those before it, for a bounded time; then answer that it is out of
    /// turn, with [`Receiver::expected`].
    Early,
    /// Not the next one; this is.
    OutOfTurn {
        /// The epoch the hub is in.
        epoch: Epoch,
        /// The number expected in it.
        expected: Seq,
    },
    /// It continues another batch than the one the hub holds.
    Conflict,
}

/// The hub's side of one stream, as stored beside the warehouse: what was committed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receiver(pub Option<Committed>);

impl Receiver {
    /// The epoch the hub is in, or would be in after the first batch of `epoch`, and the number
    /// expected in it.
    #[must_use]
    pub fn expected(&self, epoch: Epoch) -> (Epoch, Seq) {
        match self.0 {
            Some(c) if c.epoch >= epoch => (c.epoch, c.seq.next()),
            Some(_) | None => (epoch, Seq(1)),
        }
    }

    /// Judges a batch by its epoch, its number and the header it says it follows.
    #[must_use]
    pub fn judge(&self, epoch: Epoch, seq: Seq, previous: Digest) -> Judgement {
        let (current, expected) = self.expected(epoch);
        let out_of_turn = Judgement::OutOfTurn { epoch: current, expected };
        if epoch < current || seq == Seq::NONE {
            return out_of_turn;
        }
        if seq < expected {
            return Judgement::Repeat;
        }
        if seq > expected {
            let near = seq.0 - expected.0 < WINDOW;
            return if near { Judgement::Early } else { out_of_turn };
        }
        let continued = self.0.filter(|committed| committed.epoch == epoch);
        let header = continued.map_or(Digest::ZERO, |committed| committed.header);
        match continued {
            _ if previous != header => Judgement::Conflict,
            Some(_) => Judgement::Next,
            None => Judgement::NewEpoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DatasetId;

    const START: Moment = Moment { elapsed: Duration::ZERO, entropy: 0 };
    const NOW: Moment = Moment { elapsed: Duration::from_secs(1), entropy: 0 };

    fn header(seq: u64) -> Digest {
        Digest::of(&seq.to_be_bytes())
    }

    fn terms(epoch: u64, seq: u64) -> Terms {
        let committed = Committed { epoch: Epoch(epoch), seq: Seq(seq), header: header(seq) };
        let dataset = DatasetId::new("a.b").unwrap();
        Terms {
            dataset,
            refused: None,
            committed: (epoch > 0).then_some(committed),
            agreement: None,
            lists: BTreeMap::new(),
        }
    }

    /// A greeted sender of epoch 2 with receipts up to `released` and a spool up to `last`.
    fn sender(released: u64, last: u64) -> Sender {
        let mut sender = Sender::new(Epoch(2), Seq(released), header(released));
        for seq in released + 1..=last {
            sender.step(Input::Spooled(Seq(seq), header(seq)), START);
        }
        sender
    }

    fn greeted(released: u64, last: u64, terms: Terms) -> Vec<Action> {
        let mut sender = sender(released, last);
        sender.step(Input::Tick, START);
        sender.step(Input::Greeted(terms), NOW)
    }

    #[test]
    fn after_a_greeting_the_sender_goes_on_or_begins_anew() {
        use Action::{OpenEpoch, Send};
        use EpochReason::{Conflict, HubAhead, HubBehind, Superseded};
        let send = |from: u64, to: u64| (from..=to).map(|n| Send(Seq(n))).collect::<Vec<_>>();
        assert_eq!(greeted(0, 2, terms(0, 0)), send(1, 2));
        assert_eq!(greeted(3, 5, terms(2, 3)), send(4, 5));
        assert_eq!(
            greeted(3, 5, terms(2, 4)),
            send(4, 5),
            "a lost receipt is fetched by repeating"
        );
        assert_eq!(greeted(0, 9, terms(1, 7)), send(1, WINDOW), "an older epoch ends here");
        assert_eq!(greeted(3, 5, terms(2, 6)), [OpenEpoch(HubAhead, Epoch(3))]);
        assert_eq!(greeted(3, 5, terms(2, 2)), [OpenEpoch(HubBehind, Epoch(3))]);
        assert_eq!(greeted(3, 5, terms(1, 9)), [OpenEpoch(HubBehind, Epoch(3))]);
        assert_eq!(greeted(3, 5, terms(0, 0)), [OpenEpoch(HubBehind, Epoch(3))]);
        assert_eq!(greeted(3, 5, terms(7, 1)), [OpenEpoch(Superseded, Epoch(8))]);
        let mut other = terms(2, 4);
        other.committed.as_mut().unwrap().header = Digest::ZERO;
        assert_eq!(greeted(3, 5, other.clone()), [OpenEpoch(Conflict, Epoch(3))]);
        assert_eq!(greeted(4, 4, other), [OpenEpoch(Conflict, Epoch(3))]);
    }

    #[test]
    fn receipts_come_in_any_order_and_release_in_order() {
        let mut sender = sender(0, 6);
        sender.step(Input::Tick, START);
        sender.step(Input::Greeted(terms(0, 0)), NOW);
        assert_eq!(sender.step(Input::Answered(Seq(2), Answer::Receipt), NOW), []);
        assert_eq!(sender.released(), Seq(0));
        let first = sender.step(Input::Answered(Seq(1), Answer::Receipt), NOW);
        let releases = [Action::Release(Seq(1)), Action::Release(Seq(2))];
        let sends = [Action::Send(Seq(5)), Action::Send(Seq(6))];
        assert_eq!(first, [releases, sends].concat());
        assert_eq!(sender.released(), Seq(2));
    }

    #[test]
    fn failures_back_off_and_greet_again() {
        let mut sender = Sender::new(Epoch(2), Seq::NONE, Digest::ZERO);
        assert_eq!(sender.step(Input::Tick, START), [Action::Greet]);
        assert_eq!(sender.step(Input::NotGreeted(None), NOW), []);
        let until = NOW.elapsed + BACKOFF_FIRST;
        assert_eq!(sender.wake_at(), Some(until));
        assert_eq!(
            sender.step(Input::Tick, Moment { elapsed: until, entropy: 0 }),
            [Action::Greet]
        );
        let now = Moment { elapsed: until, entropy: 0 };
        let asked = BACKOFF_MAX * 2;
        assert_eq!(sender.step(Input::NotGreeted(Some(asked)), now), []);
        assert_eq!(sender.wake_at(), Some(until + asked), "a busy hub is left alone");
        let waits: Vec<_> = (0..9).map(|n| backoff(n, 0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
    }

    #[test]
    fn a_receiver_judges_by_epoch_number_and_chain() {
        use Judgement::{Conflict, Early, NewEpoch, Next, OutOfTurn, Repeat};
        let check = |receiver: Receiver, epoch: u64, seq: u64, previous: Digest, expected| {
            assert_eq!(receiver.judge(Epoch(epoch), Seq(seq), previous), expected);
        };
        let empty = Receiver(None);
        check(empty, 1, 1, Digest::ZERO, NewEpoch);
        check(empty, 1, 1, header(9), Conflict);
        check(empty, 1, 2, header(1), Early);
        check(empty, 1, 99, header(98), OutOfTurn { epoch: Epoch(1), expected: Seq(1) });
        let at = Receiver(terms(2, 7).committed);
        let expected = OutOfTurn { epoch: Epoch(2), expected: Seq(8) };
        check(at, 2, 8, header(7), Next);
        check(at, 2, 8, header(6), Conflict);
        check(at, 2, 7, header(6), Repeat);
        check(at, 2, 9, header(8), Early);
        check(at, 2, 8 + WINDOW, header(1), expected);
        check(at, 1, 1, Digest::ZERO, expected);
        check(at, 2, 0, Digest::ZERO, expected);
        check(at, 3, 1, Digest::ZERO, NewEpoch);
    }
}
