//! Drives `protocol::delivery` over HTTPS; knows batches, not rows.
//!
//! One [`deliver`] runs per stream. It greets, sends what the sender says, records each verified
//! receipt in the ledger before it counts, deletes files that are no longer needed, and ends only
//! when stopped or when the stream must begin anew.

pub mod identity;
pub mod kept;
mod clock;
pub mod https;
pub mod enrol;
pub mod renew;
pub mod log;
pub mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::batch::Phase;
use phusa_protocol::delivery::{
    Action, Answer, EpochReason, Input, Moment, Sender, WAIT_MAX, backoff,
};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::{Hello, Offer, Terms, Welcome};
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::https::{Delivered, Hub, NotWelcome};
use crate::accord::Accord;
use crate::failpoint::Failpoint;
use crate::ledger::Ledger;
use crate::spool::record::Record;
use crate::spool::{Recovery, Spool, Stream};
use crate::trouble::Trouble;

/// Clocks that differ by more than this are shown as a fault; nothing depends on them.
const SKEW_MAX: Duration = Duration::from_secs(120);

/// A batch that has become durable in the spool.
#[derive(Debug, Clone, Copy)]
pub struct Spooled {
    /// Its number.
    pub seq: Seq,
    /// Digest of its header.
    pub header: Digest,
    /// Where the stream was when it was made.
    pub phase: Phase,
}

/// What is known of a stream's delivery, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Batches with a recorded receipt, up to this number.
    pub released: u64,
    /// Batches in the spool without one.
    pub waiting: u64,
    /// Bytes of frames that got a receipt since the start.
    pub delivered_bytes: u64,
    /// When the hub last answered anything.
    pub heard_at: Option<Timestamp>,
    /// What stands in the way now, since when: code and words.
    pub trouble: Option<Trouble>,
    /// How far the hub's clock is ahead of this one, in milliseconds.
    pub skew_ms: Option<i64>,
    /// Refusals since the start.
    pub refusals: u64,
}

/// Who greets, and with what.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// This agent.
    pub agent: AgentId,
    /// The dataset with its fingerprints.
    pub offer: Offer,
    /// What the hub must show before anything is sent.
    pub accord: Arc<Accord>,
}

/// Everything one stream's delivery works with.
#[derive(Debug)]
pub struct Lane {
    /// The hub.
    pub hub: Arc<Hub>,
    /// What to say to it.
    pub greeting: Greeting,
    /// The spool, for retiring earlier epochs.
    pub spool: Spool,
    /// The stream's files.
    pub stream: Stream,
    /// Where receipts are recorded.
    pub ledger: Ledger,
    /// What has become durable since the start, in order.
    pub spooled: mpsc::Receiver<Spooled>,
    /// What is shown of it.
    pub standing: watch::Sender<Standing>,
    /// `true` while somebody wants that nothing is delivered.
    pub gate: watch::Receiver<bool>,
    /// Where its requests run.
    pub tasks: TaskTracker,
    /// When cancelled, requests under way are left to the next start.
    pub stop: CancellationToken,
}

/// What of a recovered stream concerns its delivery.
#[derive(Debug)]
pub struct Delivering {
    /// Number of the newest batch.
    newest: Seq,
    phase: Option<Phase>,
    released: Seq,
    released_header: Digest,
    waiting: BTreeMap<Seq, Digest>,
    receipted: Vec<Seq>,
}

impl From<&Recovery> for Delivering {
    fn from(recovery: &Recovery) -> Self {
        Self {
            newest: recovery.tail.seq,
            phase: recovery.tail.phase,
            released: recovery.released,
            released_header: recovery.released_header,
            waiting: recovery.waiting.clone(),
            receipted: recovery.receipted.clone(),
        }
    }
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped.
    Stopped,
    /// The stream must begin anew in this epoch.
    NewEpoch(EpochReason, Epoch),
}

/// Asks the hub, again and again, where a stream stands; for an agent that knows no epoch yet.
/// `None` when stopped.
pub async fn ask_standing(
    hub: &Hub,
    greeting: &Greeting,
    standing: &watch::Sender<Standing>,
    stop: &CancellationToken,
) -> Option<Terms> {
    for failures in 0.. {
        let answer = tokio::select! {
            answer = greet(hub, greeting) => answer,
            () = stop.cancelled() => return None,
        };
        let NotWelcome { fault, wait } = match answer {
            Ok((terms, welcome)) => match terms.refused {
                None => {
                    note_welcome(standing, &welcome);
                    return Some(terms);
                }
                Some(code) => Fault::new(code, format!("the hub refuses {}", terms.dataset)).into(),
            },
            Err(not_welcome) => not_welcome,
        };
        note_trouble(standing, &fault);
        let asked = wait.map_or(Duration::ZERO, |span| span.min(WAIT_MAX));
        let wait = backoff(failures, entropy()).max(asked);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return None,
        }
    }
    None
}

/// Delivers a stream until it is stopped or must begin anew.
pub async fn deliver(lane: Lane, recovery: Delivering) -> Ended {
    let (answers, mut answered) = mpsc::channel(64);
    let mut drive = Drive {
        started: Instant::now(),
        sender: Sender::new(lane.stream.epoch(), recovery.released, recovery.released_header),
        newest: recovery.newest,
        headers: BTreeMap::new(),
        receipts: BTreeMap::new(),
        to_record: BTreeSet::new(),
        recorded: recovery.receipted.into_iter().collect(),
        read_over: recovery.phase.filter(|p| *p != Phase::Read).map(|_| recovery.newest),
        tidying: false,
        answers,
        lane,
    };
    let mut actions = Vec::new();
    for (seq, header) in recovery.waiting {
        actions.extend(drive.learn(seq, header));
    }
    actions.extend(drive.step(Input::Tick));
    let mut may_tidy = true;
    loop {
        for action in actions {
            if let Some(ended) = drive.act(action) {
                drive.end_tidying(&mut answered).await;
                return ended;
            }
        }
        if may_tidy {
            drive.tidy();
        }
        may_tidy = true;
        let wake = drive.sender.wake_at().map(|at| drive.started + at);
        actions = tokio::select! {
            biased;
            () = drive.lane.stop.cancelled() => {
                drive.end_tidying(&mut answered).await;
                return Ended::Stopped;
            }
            Some(event) = answered.recv() => {
                // A disk that failed just now is asked again with the next event, not at once.
                may_tidy = !matches!(event, Event::Tidied(Err(_)));
                drive.on_answer(event)
            }
            Some(spooled) = drive.lane.spooled.recv() => drive.on_spooled(spooled),
            () = sleep_until(wake) => drive.step(Input::Tick),
        };
    }
}

/// The end of something that ran on its own.
enum Event {
    Greeted(Result<(Terms, Welcome), NotWelcome>),
    Delivered(Seq, u64, Box<Delivered>),
    Damaged(Seq, Fault),
    Tidied(Result<Tidied, Fault>),
}

/// What a tidying has done.
struct Tidied {
    /// Batches whose receipts are recorded.
    recorded: Vec<Seq>,
    /// Batches whose files are gone.
    deleted: Vec<Seq>,
    /// Whether earlier epochs are gone.
    retired: bool,
}

struct Drive {
    lane: Lane,
    started: Instant,
    sender: Sender,
    newest: Seq,
    headers: BTreeMap<Seq, Digest>,
    /// Receipts that are not recorded yet.
    receipts: BTreeMap<Seq, SignedReceipt>,
    /// Batches that the sender has released and whose receipts are to be recorded.
    to_record: BTreeSet<Seq>,
    /// Receipt recorded, file still there.
    recorded: BTreeSet<Seq>,
    /// The first batch after which the full read is surely over.
    read_over: Option<Seq>,
    /// Whether the ledger and the spool's folder are being worked on.
    tidying: bool,
    answers: mpsc::Sender<Event>,
}

impl Drive {
    fn step(&mut self, input: Input) -> Vec<Action> {
        let now = Moment { elapsed: self.started.elapsed(), entropy: entropy() };
        let actions = self.sender.step(input, now);
        self.show_waiting();
        actions
    }

    fn show_waiting(&self) {
        let (released, waiting) = (self.sender.released().0, self.headers.len() as u64);
        self.lane.standing.send_modify(|s| (s.released, s.waiting) = (released, waiting));
    }

    fn learn(&mut self, seq: Seq, header: Digest) -> Vec<Action> {
        self.newest = self.newest.max(seq);
        self.headers.insert(seq, header);
        self.step(Input::Spooled(seq, header))
    }

    fn on_spooled(&mut self, spooled: Spooled) -> Vec<Action> {
        if spooled.phase != Phase::Read && self.read_over.is_none() {
            self.read_over = Some(spooled.seq);
        }
        self.learn(spooled.seq, spooled.header)
    }

    fn on_answer(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Greeted(Ok((terms, welcome))) => {
                note_welcome(&self.lane.standing, &welcome);
                if let Some(code) = terms.refused {
                    let what = format!("the hub refuses {}", terms.dataset);
                    note_trouble(&self.lane.standing, &Fault::new(code, what));
                }
                self.step(Input::Greeted(terms))
            }
            Event::Greeted(Err(NotWelcome { fault, wait })) => {
                note_trouble(&self.lane.standing, &fault);
                self.step(Input::NotGreeted(wait))
            }
            Event::Delivered(seq, bytes, delivered) => {
                self.take_in(seq, bytes, &delivered);
                if let Some(receipt) = delivered.receipt {
                    Failpoint::AfterReceipt.pass();
                    self.receipts.insert(seq, receipt);
                }
                self.step(Input::Answered(seq, delivered.answer))
            }
            Event::Damaged(seq, fault) => {
                note_trouble(&self.lane.standing, &fault);
                self.step(Input::Damaged(seq))
            }
            Event::Tidied(tidied) => {
                self.on_tidied(tidied);
                Vec::new()
            }
        }
    }

    fn take_in(&self, seq: Seq, bytes: u64, delivered: &Delivered) {
        if let Some(fault) = &delivered.fault {
            note_trouble(&self.lane.standing, fault);
        }
        self.lane.standing.send_modify(|s| match delivered.answer {
            Answer::Receipt => {
                s.heard_at = Some(Timestamp::now());
                // A wrong clock stands in no batch's way and does not go away by one.
                s.trouble = s.trouble.take().filter(|trouble| trouble.code == Code::ClockSkew);
                s.delivered_bytes += bytes;
            }
            Answer::Refused(_) => s.refusals += 1,
            Answer::OutOfTurn | Answer::Wait(_) | Answer::Unreachable => {}
        });
        tracing::debug!(batch = seq.0, answer = ?delivered.answer, "Batch {seq} was answered");
    }

    fn act(&mut self, action: Action) -> Option<Ended> {
        match action {
            Action::Greet => self.send_greeting(),
            Action::Send(seq) => self.send_batch(seq),
            Action::Release(seq) => {
                self.headers.remove(&seq);
                self.show_waiting();
                self.to_record.insert(seq);
            }
            Action::Report(code) => tracing::warn!(
                dataset = %self.lane.greeting.offer.dataset, code = code.name(),
                "The hub refuses {}: {}", self.lane.greeting.offer.dataset, code.words().meaning_en
            ),
            Action::OpenEpoch(reason, epoch) => return Some(Ended::NewEpoch(reason, epoch)),
        }
        None
    }

    fn send_greeting(&self) {
        let (hub, greeting) = (Arc::clone(&self.lane.hub), self.lane.greeting.clone());
        let (answers, stop) = (self.answers.clone(), self.lane.stop.clone());
        self.lane.tasks.spawn(async move {
            let answer = tokio::select! {
                answer = greet(&hub, &greeting) => answer,
                () = stop.cancelled() => return,
            };
            // The drive may have ended meanwhile; then nobody waits for this.
            let _ = answers.send(Event::Greeted(answer)).await;
        });
    }

    fn send_batch(&self, seq: Seq) {
        let Some(&header) = self.headers.get(&seq) else { return };
        let (hub, stream) = (Arc::clone(&self.lane.hub), self.lane.stream.clone());
        let (answers, stop) = (self.answers.clone(), self.lane.stop.clone());
        let (tasks, mut gate) = (self.lane.tasks.clone(), self.lane.gate.clone());
        self.lane.tasks.spawn(async move {
            // A gate whose keeper is gone lets through.
            let opened = async { drop(gate.wait_for(|shut| !*shut).await) };
            if stop.run_until_cancelled(opened).await.is_none() {
                return;
            }
            let read = on_blocking_thread(&tasks, move || read_or_set_aside(&stream, seq)).await;
            let event = match read {
                Ok(record) => {
                    Failpoint::BeforeSend.pass();
                    let bytes = record.frame.len() as u64;
                    let delivered = tokio::select! {
                        delivered = hub.deliver(record.frame, header) => delivered,
                        () = stop.cancelled() => return,
                    };
                    Event::Delivered(seq, bytes, Box::new(delivered))
                }
                Err(fault) => Event::Damaged(seq, fault),
            };
            let _ = answers.send(event).await;
        });
    }

    /// Records receipts, deletes files whose receipts are recorded, but never the newest; and
    /// earlier epochs, once this epoch's full read is at the hub. It runs beside the delivery, so
    /// that no batch waits for the syncs of those before it; one at a time, in this order. What
    /// fails is tried again with the next event; until then the files stay.
    fn tidy(&mut self) {
        let (released, newest) = (self.sender.released(), self.newest);
        let retires = self.read_over.is_some_and(|seq| seq <= released);
        let receipt = |seq: &Seq| Some((*seq, self.receipts.get(seq)?.clone()));
        let (recorded, receipts): (Vec<Seq>, Vec<SignedReceipt>) =
            self.to_record.iter().filter_map(receipt).unzip();
        let sure = self.recorded.iter().chain(&self.to_record);
        let deleted: Vec<Seq> = sure.copied().filter(|seq| *seq < newest).collect();
        let is_tidy = receipts.is_empty() && deleted.is_empty() && !retires;
        if self.tidying || is_tidy {
            return;
        }
        self.tidying = true;
        let (spool, stream) = (self.lane.spool.clone(), self.lane.stream.clone());
        let (ledger, tasks) = (self.lane.ledger.clone(), self.lane.tasks.clone());
        let answers = self.answers.clone();
        self.lane.tasks.spawn(async move {
            let work = move || {
                ledger.record(&receipts)?;
                Failpoint::AfterReceiptRecorded.pass();
                deleted.iter().try_for_each(|seq| stream.delete(*seq))?;
                if retires {
                    spool.retire_before(stream.dataset(), stream.epoch())?;
                }
                Ok(Tidied { recorded, deleted, retired: retires })
            };
            let tidied = on_blocking_thread(&tasks, work).await;
            // The drive waits for this before it ends.
            let _ = answers.send(Event::Tidied(tidied)).await;
        });
    }

    /// Waits until nothing works on the stream's files any more: who comes next may read them.
    async fn end_tidying(&mut self, answered: &mut mpsc::Receiver<Event>) {
        while self.tidying {
            match answered.recv().await {
                Some(Event::Tidied(tidied)) => self.on_tidied(tidied),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn on_tidied(&mut self, tidied: Result<Tidied, Fault>) {
        self.tidying = false;
        let Tidied { recorded, deleted, retired } = match tidied {
            Ok(tidied) => tidied,
            Err(fault) => return note_trouble(&self.lane.standing, &fault),
        };
        for seq in &recorded {
            self.to_record.remove(seq);
        }
        self.recorded.extend(recorded);
        self.recorded.retain(|seq| !deleted.contains(seq));
        self.to_record.retain(|seq| !deleted.contains(seq));
        let released = self.sender.released();
        self.receipts.retain(|seq, _| *seq > released || self.to_record.contains(seq));
        if retired {
            self.read_over = None;
        }
    }
}

fn read_or_set_aside(stream: &Stream, seq: Seq) -> Result<Record, Fault> {
    let read = stream.read(seq);
    if read.is_err() {
        stream.set_aside([seq].into_iter())?;
    }
    read
}

async fn greet(hub: &Hub, greeting: &Greeting) -> Result<(Terms, Welcome), NotWelcome> {
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        agent: greeting.agent.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        sent_at: Timestamp::now(),
        datasets: vec![greeting.offer.clone()],
    };
    let welcome = hub.hello(&hello).await?;
    if welcome.protocol != PROTOCOL_VERSION {
        let what = format!("the hub speaks protocol {}, this agent 1", welcome.protocol);
        return Err(Fault::new(Code::ProtocolVersion, what).into());
    }
    let terms = welcome.datasets.iter().find(|t| t.dataset == greeting.offer.dataset).cloned();
    let dataset = &greeting.offer.dataset;
    let silent = || Fault::new(Code::DatasetUnknown, format!("the hub is silent about {dataset}"));
    let terms = terms.ok_or_else(silent)?;
    if terms.refused.is_none() {
        settle(hub, &greeting.accord, &terms).await?;
    }
    Ok((terms, welcome))
}

/// Nothing is sent under a contract that owner and hub have not both signed, nor before the lists
/// it names are known here.
async fn settle(hub: &Hub, accord: &Arc<Accord>, terms: &Terms) -> Result<(), Fault> {
    for (list, digest) in accord.stale(terms) {
        let body = hub.list(list.name()).await?;
        on_thread(accord, move |accord| accord.take(&list, digest, &body)).await?;
    }
    let terms = terms.clone();
    on_thread(accord, move |accord| accord.settle(&terms)).await
}

/// Files are written where that holds up nobody.
async fn on_thread(
    accord: &Arc<Accord>,
    work: impl FnOnce(&Accord) -> Result<(), Fault> + Send + 'static,
) -> Result<(), Fault> {
    let accord = Arc::clone(accord);
    let joined = tokio::task::spawn_blocking(move || work(&accord)).await;
    joined.unwrap_or_else(|error| Err(Fault::because(Code::Bug, "blocking work ended", error)))
}

fn note_welcome(standing: &watch::Sender<Standing>, welcome: &Welcome) {
    let now = Timestamp::now();
    let skew_ms = (welcome.answered_at.micros() - now.micros()) / 1_000;
    standing.send_modify(|s| {
        (s.heard_at, s.skew_ms) = (Some(now), Some(skew_ms));
        s.trouble = skew_fault(welcome, now).map(|f| Trouble::from_fault(&f, s.trouble.as_ref()));
    });
}

/// The fault of clocks that differ by more than two minutes.
#[must_use]
pub fn skew_fault(welcome: &Welcome, now: Timestamp) -> Option<Fault> {
    let skew_ms = (welcome.answered_at.micros() - now.micros()) / 1_000;
    let is_wide = u128::from(skew_ms.unsigned_abs()) > SKEW_MAX.as_millis();
    let what = || format!("the hub's clock is {} s ahead of this one", skew_ms / 1_000);
    is_wide.then(|| Fault::new(Code::ClockSkew, what()))
}

fn note_trouble(standing: &watch::Sender<Standing>, fault: &Fault) {
    let before = standing.borrow().trouble.clone();
    let trouble = Trouble::from_fault(fault, before.as_ref());
    if before.as_ref().is_none_or(|before| before.code != trouble.code) {
        tracing::warn!(code = fault.code.name(), "{}: {}", fault.code, trouble.what);
    }
    standing.send_modify(|s| s.trouble = Some(trouble));
}

/// Runs blocking work where it holds up nobody.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    tasks: &TaskTracker,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let joined = tasks.spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Fault::because(Code::Bug, "blocking work ended", error)))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Any random number; without randomness all agents wait alike, which is harmless.
pub(crate) fn entropy() -> u32 {
    getrandom::u32().unwrap_or(0)
}
