//! One history: agents, a hub and a network that loses, delays, repeats and reorders; crashes,
//! disks and backups restored from old copies, clocks that leap; and what must hold at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use phusa_protocol::delivery::{Action, Answer, EpochReason, Input, Moment};
use phusa_protocol::fault::Code;
use phusa_protocol::hello::{Committed, Terms};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};

use crate::agent::{Agent, Durable};
use crate::hub::{Batch, Hub, Stored, Verdict};
use crate::random::Random;

/// How long an agent waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the hub keeps a batch that is a little early.
const EARLY_HELD: Duration = Duration::from_secs(2);
/// After the last trouble, everything must have arrived within this.
const QUIET_MAX: Duration = Duration::from_secs(3 * 660);
/// How many lines of a failed history are shown.
const TRACE_LINES: usize = 60;

/// Something that will happen at its time.
#[derive(Debug, Clone)]
enum Event {
    /// A batch reaches the hub. `hold_until` is set once the hub has kept it.
    AtHub { request: Request, batch: Batch, hold_until: Option<Duration> },
    /// A greeting reaches the hub.
    Hello { request: Request },
    /// An answer reaches the agent.
    Batch { request: Request, answer: Answer, fits: bool },
    /// Terms reach the agent; `None` is no answer.
    Welcome { request: Request, terms: Option<Terms>, fits: bool },
}

/// Who waits for an answer to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    stream: usize,
    life: u64,
    /// `Seq(0)` stands for the greeting.
    seq: Seq,
    number: u64,
}

/// How the network and the hub behave for a while; all in per cent.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    loses: u64,
    repeats: u64,
    late: u64,
    busy: u64,
    refuses: u64,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Time,
    Write,
    Spool,
    Weather,
    Crash,
    Leap,
    CopyDisk,
    CopyHub,
    RestoreDisk,
    RestoreHub,
    DamageSpool,
    RestartHub,
}

pub struct World {
    random: Random,
    now: Duration,
    agents: Vec<Agent>,
    hub: Hub,
    source_end: Vec<u64>,
    events: BTreeMap<(Duration, u64), Event>,
    open: BTreeSet<Request>,
    count: u64,
    weather: Weather,
    disk_copies: Vec<(usize, Durable)>,
    hub_copies: Vec<Stored>,
    /// How often a side lost state that the other may need.
    losses: u64,
    lossless: bool,
    trace: VecDeque<String>,
}

/// What a history did, so that a run shows that it tried what it claims.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub commits: u64,
    pub losses: u64,
    pub epochs: u64,
}

/// Plays the history of `seed`; an error says what did not hold, with the last lines of its trace.
pub fn play(seed: u64) -> Result<Tally, String> {
    let mut world = World::new(seed);
    let outcome = world.run();
    let epochs = world.agents.iter().map(|agent| agent.epochs_opened).sum();
    let tally = Tally { commits: world.hub.commits, losses: world.losses, epochs };
    let trace = Vec::from(world.trace).join("\n");
    outcome.map(|()| tally).map_err(|what| format!("SEED={seed}: {what}\n{trace}"))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let stream_count = 1 + usize::from(random.happens(30));
        Self {
            now: Duration::ZERO,
            agents: (0..stream_count).map(Agent::new).collect(),
            hub: Hub::default(),
            source_end: vec![0; stream_count],
            events: BTreeMap::new(),
            open: BTreeSet::new(),
            count: 0,
            weather: Weather::default(),
            disk_copies: Vec::new(),
            hub_copies: Vec::new(),
            losses: 0,
            lossless: random.happens(50),
            trace: VecDeque::new(),
            random,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let steps = 50 + self.random.below(400);
        for _ in 0..steps {
            self.trouble()?;
        }
        self.weather = Weather::default();
        self.note(|| "quiet".to_owned());
        let deadline = self.now + QUIET_MAX;
        while !self.is_settled() {
            self.read_all()?;
            self.advance()?;
            if self.now > deadline {
                return Err(self.unsettled());
            }
        }
        Ok(())
    }

    fn trouble(&mut self) -> Result<(), String> {
        let rare = u64::from(!self.lossless);
        let choices = [
            (500, Trouble::Time),
            (100, Trouble::Write),
            (100, Trouble::Spool),
            (15, Trouble::Weather),
            (12, Trouble::Crash),
            (4, Trouble::Leap),
            (4, Trouble::RestartHub),
            (8 * rare, Trouble::CopyDisk),
            (8 * rare, Trouble::CopyHub),
            (5 * rare, Trouble::RestoreDisk),
            (5 * rare, Trouble::RestoreHub),
            (2 * rare, Trouble::DamageSpool),
        ];
        let trouble = self.random.weighted(&choices);
        let stream = self.pick_stream();
        match trouble {
            Trouble::Time => self.advance()?,
            Trouble::Write => self.source_end[stream] += 1 + self.random.below(9),
            Trouble::Spool => self.read_some(stream)?,
            Trouble::Weather => self.change_weather(),
            Trouble::Crash => self.restart_agent(stream, self.agents[stream].durable.clone())?,
            Trouble::Leap => self.now += self.random.millis(1_000, 7_200_000),
            Trouble::CopyDisk => {
                self.disk_copies.push((stream, self.agents[stream].durable.clone()));
            }
            Trouble::CopyHub => self.hub_copies.push(self.hub.stored.clone()),
            Trouble::RestoreDisk => self.restore_disk()?,
            Trouble::RestoreHub => self.restore_hub(),
            Trouble::DamageSpool => self.damage_spool(stream)?,
            Trouble::RestartHub => self.restart_hub(),
        }
        Ok(())
    }

    fn pick_stream(&mut self) -> usize {
        usize::try_from(self.random.below(self.agents.len() as u64)).unwrap_or(0)
    }

    fn change_weather(&mut self) {
        let fine = self.random.happens(40);
        let mut per_cent = |max| if fine { 0 } else { self.random.below(max) };
        self.weather = Weather {
            loses: per_cent(100),
            repeats: per_cent(40),
            late: per_cent(60),
            busy: per_cent(40),
            refuses: per_cent(30),
        };
        let weather = self.weather;
        self.note(|| format!("{weather:?}"));
    }

    fn restart_agent(&mut self, stream: usize, durable: Durable) -> Result<(), String> {
        self.note(|| format!("stream {stream}: restart at {} {}", durable.epoch, durable.released));
        self.open.retain(|request| request.stream != stream);
        let now = self.moment();
        let actions = self.agents[stream].restart(durable, now);
        let fits = self.agents[stream].fits(self.hub.committed(stream));
        self.perform(stream, actions, fits)
    }

    fn restore_disk(&mut self) -> Result<(), String> {
        if self.disk_copies.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.disk_copies.len() as u64);
        let (stream, durable) = self.disk_copies[usize::try_from(index).unwrap_or(0)].clone();
        self.losses += 1;
        self.note(|| format!("stream {stream}: an old disk"));
        self.restart_agent(stream, durable)
    }

    fn restore_hub(&mut self) {
        if self.hub_copies.is_empty() {
            return;
        }
        let index = self.random.below(self.hub_copies.len() as u64);
        self.hub.stored = self.hub_copies[usize::try_from(index).unwrap_or(0)].clone();
        self.losses += 1;
        self.note(|| "hub: an old backup".to_owned());
        self.restart_hub();
    }

    /// Batches that the hub was keeping because they were early get no answer.
    fn restart_hub(&mut self) {
        let kept = |event: &Event| matches!(event, Event::AtHub { hold_until: Some(_), .. });
        self.events.retain(|_, event| !kept(event));
        self.note(|| "hub: restart".to_owned());
    }

    /// A file that cannot be read any more is found when it is to be sent or at the next start.
    fn damage_spool(&mut self, stream: usize) -> Result<(), String> {
        let agent = &mut self.agents[stream];
        let waiting = |seq: &&Seq| !agent.is_answered_or_on_its_way(**seq);
        let Some(seq) = agent.durable.spool.keys().rfind(waiting).copied() else { return Ok(()) };
        agent.durable.spool.remove(&seq);
        self.losses += 1;
        self.note(|| format!("stream {stream}: batch {seq} is damaged"));
        if self.random.happens(50) {
            return self.restart_agent(stream, self.agents[stream].durable.clone());
        }
        Ok(())
    }

    fn read_some(&mut self, stream: usize) -> Result<(), String> {
        let position = self.agents[stream].durable.position;
        let unread = self.source_end[stream] - position;
        if unread == 0 {
            return Ok(());
        }
        let to = position + 1 + self.random.below(unread);
        self.read_to(stream, to)
    }

    fn read_all(&mut self) -> Result<(), String> {
        for stream in 0..self.agents.len() {
            if self.agents[stream].durable.position < self.source_end[stream] {
                self.read_to(stream, self.source_end[stream])?;
            }
        }
        Ok(())
    }

    fn read_to(&mut self, stream: usize, to: u64) -> Result<(), String> {
        let (salt, now) = (self.random.next(), self.moment());
        let actions = self.agents[stream].spool(to, salt, now);
        self.perform(stream, actions, true)
    }

    /// Goes to the next thing that happens: an event, or a tick that a sender asked for.
    fn advance(&mut self) -> Result<(), String> {
        let event_at = self.events.keys().next().map(|(at, _)| *at);
        let wake = |agent: &Agent| agent.sender.wake_at().map(|at| (at, agent.stream));
        let tick = self.agents.iter().filter_map(wake).min();
        match (event_at, tick) {
            (Some(at), Some((wake_at, _))) if at <= wake_at => self.next_event(),
            (Some(_), None) => self.next_event(),
            (_, Some((wake_at, stream))) => {
                self.now = self.now.max(wake_at);
                let now = self.moment();
                let actions = self.agents[stream].sender.step(Input::Tick, now);
                self.perform(stream, actions, true)
            }
            (None, None) => {
                self.now += Duration::from_secs(1);
                Ok(())
            }
        }
    }

    fn next_event(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        if !matches!(event, Event::AtHub { hold_until: Some(_), .. }) {
            self.note(|| format!("{event:?}"));
        }
        match event {
            Event::AtHub { request, batch, hold_until } => {
                self.batch_at_hub(request, batch, hold_until)
            }
            Event::Hello { request } => {
                self.hello_at_hub(request);
                Ok(())
            }
            Event::Batch { request, answer, fits } => {
                if !self.open.remove(&request) {
                    return Ok(());
                }
                let now = self.moment();
                let actions = self.agents[request.stream].answered(request.seq, answer, now);
                self.perform(request.stream, actions, fits)
            }
            Event::Welcome { request, terms, fits } => {
                if !self.open.remove(&request) {
                    return Ok(());
                }
                let now = self.moment();
                let agent = &mut self.agents[request.stream];
                agent.greeting = false;
                let input = terms.map_or(Input::NotGreeted(None), Input::Greeted);
                let actions = agent.sender.step(input, now);
                self.perform(request.stream, actions, fits)
            }
        }
    }

    fn hello_at_hub(&mut self, request: Request) {
        let refuses = self.random.happens(self.weather.refuses);
        let refused = refuses.then_some(Code::AgentSuspended);
        let committed = self.hub.committed(request.stream);
        let fits = self.agents[request.stream].fits(committed);
        let terms = Terms {
            dataset: dataset(),
            refused,
            committed,
            agreement: None,
            lists: BTreeMap::new(),
        };
        self.travel(Event::Welcome { request, terms: Some(terms), fits });
    }

    fn batch_at_hub(
        &mut self,
        request: Request,
        batch: Batch,
        hold_until: Option<Duration>,
    ) -> Result<(), String> {
        if hold_until.is_none() && self.random.happens(self.weather.busy) {
            let span = self.random.weighted(&[
                (5, Duration::from_secs(1)),
                (2, Duration::ZERO),
                (1, Duration::from_secs(30)),
                (1, Duration::MAX),
            ]);
            self.travel(Event::Batch { request, answer: Answer::Wait(span), fits: true });
            return Ok(());
        }
        if hold_until.is_none() && self.random.happens(self.weather.refuses) {
            let codes = [(3, Code::HubStorageFull), (1, Code::AgentSuspended)];
            let answer = Answer::Refused(self.random.weighted(&codes));
            self.travel(Event::Batch { request, answer, fits: true });
            return Ok(());
        }
        let answer = match self.hub.receive(&batch)? {
            Verdict::Receipt => Answer::Receipt,
            Verdict::Conflict => Answer::Refused(Code::BatchConflict),
            Verdict::OutOfTurn => Answer::OutOfTurn,
            Verdict::Hold => match hold_until {
                Some(until) if until <= self.now => Answer::OutOfTurn,
                _ => {
                    let hold_until = hold_until.or(Some(self.now + EARLY_HELD));
                    let look_again = self.now + Duration::from_millis(20);
                    self.put(look_again, Event::AtHub { request, batch, hold_until });
                    return Ok(());
                }
            },
        };
        let fits = self.agents[request.stream].fits(self.hub.committed(request.stream));
        self.travel(Event::Batch { request, answer, fits });
        Ok(())
    }

    /// Does what a sender asked for. `fits` tells whether, when the hub gave the answer that led
    /// here, delivery could go on from what both sides held: then no epoch may be opened.
    fn perform(&mut self, stream: usize, actions: Vec<Action>, fits: bool) -> Result<(), String> {
        let life = self.agents[stream].life;
        for action in actions {
            self.note(|| format!("stream {stream}: {action:?}"));
            match action {
                // A damaged file may have ended this sender among these very actions.
                _ if self.agents[stream].life != life => break,
                Action::Greet => self.greet(stream)?,
                Action::Send(seq) => self.send(stream, seq)?,
                Action::Release(seq) => {
                    let header = self.agents[stream].release(seq)?;
                    if !self.hub.has_ever_committed(header) {
                        return Err(format!("batch {seq} was released and never committed"));
                    }
                }
                Action::OpenEpoch(reason, epoch) => self.open_epoch(stream, reason, epoch, fits)?,
                Action::Report(_) => {}
            }
        }
        self.check_awake(stream)
    }

    fn greet(&mut self, stream: usize) -> Result<(), String> {
        let agent = &mut self.agents[stream];
        if std::mem::replace(&mut agent.greeting, true) || !agent.in_flight.is_empty() {
            return Err("a greeting is sent while something else is on its way".to_owned());
        }
        let request = self.request(stream, Seq::NONE);
        self.put(self.now + REQUEST_TIMEOUT, Event::Welcome { request, terms: None, fits: true });
        self.travel(Event::Hello { request });
        Ok(())
    }

    fn send(&mut self, stream: usize, seq: Seq) -> Result<(), String> {
        let Some(batch) = self.agents[stream].send(seq)? else {
            self.agents[stream].in_flight.remove(&seq);
            let now = self.moment();
            let actions = self.agents[stream].sender.step(Input::Damaged(seq), now);
            return self.perform(stream, actions, false);
        };
        let request = self.request(stream, seq);
        let answer = Answer::Unreachable;
        self.put(self.now + REQUEST_TIMEOUT, Event::Batch { request, answer, fits: true });
        self.travel(Event::AtHub { request, batch, hold_until: None });
        Ok(())
    }

    fn open_epoch(
        &mut self,
        stream: usize,
        reason: EpochReason,
        epoch: Epoch,
        fits: bool,
    ) -> Result<(), String> {
        if fits || self.losses == 0 {
            return Err(format!("{reason:?} opened epoch {epoch} and nothing was lost"));
        }
        let durable = self.agents[stream].open_epoch(epoch)?;
        self.restart_agent(stream, durable)
    }

    /// A sender that is not over waits for an answer or has said when it wants to be woken, and
    /// that time is not one at which it has just been asked.
    fn check_awake(&self, stream: usize) -> Result<(), String> {
        let agent = &self.agents[stream];
        let waits = agent.greeting || !agent.in_flight.is_empty();
        match agent.sender.wake_at() {
            None if !waits => Err("the sender sleeps for ever".to_owned()),
            Some(at) if at <= self.now && at > Duration::ZERO => {
                Err("the sender spins: it is woken and does nothing".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn request(&mut self, stream: usize, seq: Seq) -> Request {
        self.count += 1;
        let request = Request { stream, life: self.agents[stream].life, seq, number: self.count };
        self.open.insert(request);
        request
    }

    /// Puts an event on the network, which may lose it, repeat it and deliver it late.
    fn travel(&mut self, event: Event) {
        let copies = 1 + u64::from(self.random.happens(self.weather.repeats));
        for _ in 0..copies {
            let late = self.random.happens(self.weather.late);
            let delay =
                if late { self.random.millis(50, 90_000) } else { self.random.millis(1, 50) };
            if self.random.happens(self.weather.loses) {
                self.lose(&event, delay);
            } else {
                self.put(self.now + delay, event.clone());
            }
        }
    }

    /// A cut connection is often noticed at once, and not only when the time is over.
    fn lose(&mut self, event: &Event, delay: Duration) {
        if self.random.happens(50) {
            return;
        }
        let cut = match event {
            Event::AtHub { request, .. } | Event::Batch { request, .. } => {
                Event::Batch { request: *request, answer: Answer::Unreachable, fits: true }
            }
            Event::Hello { request } | Event::Welcome { request, .. } => {
                Event::Welcome { request: *request, terms: None, fits: true }
            }
        };
        self.put(self.now + delay, cut);
    }

    fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn moment(&mut self) -> Moment {
        let entropy = u32::try_from(self.random.below(1 << 32)).unwrap_or(0);
        Moment { elapsed: self.now, entropy }
    }

    fn is_settled(&self) -> bool {
        self.agents.iter().all(|agent| {
            let end = self.source_end[agent.stream];
            let nothing_yet = end == 0 && self.hub.committed(agent.stream).is_none();
            let holds: Option<Committed> = self.hub.committed(agent.stream);
            let same = holds.is_some_and(|held| {
                (held.epoch, held.seq, held.header)
                    == (agent.durable.epoch, agent.durable.released, agent.durable.released_header)
            });
            agent.is_done(end) && (nothing_yet || same && self.hub.upto(agent.stream) == end)
        })
    }

    fn unsettled(&self) -> String {
        let mut lines = vec!["not everything arrived after the trouble was over".to_owned()];
        for agent in &self.agents {
            let (end, held) = (self.source_end[agent.stream], self.hub.committed(agent.stream));
            let upto = self.hub.upto(agent.stream);
            lines.push(format!("source {end}, hub {upto} {held:?}, {:?}", agent.sender));
        }
        lines.join("\n")
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        let line = line();
        self.trace.push_back(format!("{:>12.3} {line}", self.now.as_secs_f64()));
    }
}

fn dataset() -> DatasetId {
    DatasetId::new("cong_dan.citizens").expect("a valid name")
}
