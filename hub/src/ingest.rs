//! One batch: check, then warehouse rows, transfer entry and receipt in one database transaction.
//!
//! A batch that comes before its turn may already copy its rows while the one before it is being
//! applied; everything from the merge on happens in turn, under the stream's row lock. What is
//! answered was committed; what was not committed is not answered.

pub mod check;
pub(crate) mod memory;
mod commit;
mod contract;
mod proof;
mod refusals;
pub mod stream;
mod turn;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::batch::{Batch, Header, SignedHeader};
use phusa_protocol::delivery::Judgement;
use phusa_protocol::entry::{Entry, Kind};
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::frame::BODY_BYTES_MAX;
use phusa_protocol::hello::{Hello, Offer, Refusal, Terms, Welcome};
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::time::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::catalog::{Agreed, Catalog};
use crate::config::register::{Enrolled, Register};
use crate::error::Refused;
use crate::fleet;
use crate::incidents::{self, Happening};
use crate::transfers::{self, Log, Record};
use crate::views::metrics::Metrics;
use crate::warehouse::Warehouse;
use memory::{Held, Memory};
use refusals::{Budget, Verdict};
use turn::Turns;

/// Memory for unpacked bodies, over all streams: eight of the largest, or hundreds of ordinary ones.
const BODIES_MIB_MAX: usize = 1_024;

/// Takes batches; everything it needs to know lies in the database or is published to it.
#[derive(Debug)]
pub struct Ingest {
    warehouse: Warehouse,
    catalog: Catalog,
    log: Log,
    metrics: Metrics,
    register: watch::Receiver<Arc<Register>>,
    has_room: watch::Receiver<bool>,
    tasks: TaskTracker,
    turns: Turns,
    refusals: Budget,
    breaches: Budget,
    /// MiB of unpacked bodies that may be in memory at once.
    memory: Memory,
    /// Batches that may hold a database connection before their turn. Fewer than there are
    /// connections, so that the one whose turn it is always finds one.
    early: Semaphore,
    /// Whether a table may be read for a comparison.
    comparing: Semaphore,
}

/// What [`Ingest`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where rows go.
    pub warehouse: Warehouse,
    /// Most connections of the warehouse's pool.
    pub connections_max: usize,
    /// The contracts in force.
    pub catalog: Catalog,
    /// Where entries go.
    pub log: Log,
    /// What is counted.
    pub metrics: Metrics,
    /// The agents known.
    pub register: watch::Receiver<Arc<Register>>,
    /// Whether the disk has more than its reserve free.
    pub has_room: watch::Receiver<bool>,
    /// Where batches run, so that a client that hangs up does not stop one half way.
    pub tasks: TaskTracker,
}

/// Who is speaking, as TLS and TCP know it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name in the certificate.
    pub agent: AgentId,
    /// Where the connection comes from.
    pub address: IpAddr,
    /// The generation of its certificate; none of one that was not issued by enrolment.
    pub generation: Option<u64>,
}

/// Bytes that arrived, and when.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    bytes: u64,
    at: Timestamp,
    began: Instant,
}

/// A batch that was opened and whose header is believed, with the contract it keeps to.
#[derive(Debug)]
struct Work {
    batch: Batch,
    body: Vec<u8>,
    agreed: Arc<Agreed>,
    arrival: Arrival,
}

/// Why a delivery ends without a receipt.
#[derive(Debug)]
struct Stop {
    refused: Refused,
    expected: Option<(Epoch, Seq)>,
}

impl Work {
    fn header(&self) -> &Header {
        &self.batch.signed.header
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self { refused, expected: None }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        warn!(code = %fault.code, "A delivery failed: {}", fault.chain());
        Refused::new(fault.code, fault.what).into()
    }
}

impl Ingest {
    /// Ready for the first batch.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            warehouse: parts.warehouse,
            catalog: parts.catalog,
            log: parts.log,
            metrics: parts.metrics,
            register: parts.register,
            has_room: parts.has_room,
            turns: Turns::new(parts.tasks.clone()),
            tasks: parts.tasks,
            refusals: Budget::default(),
            breaches: Budget::default(),
            memory: Memory::new(BODIES_MIB_MAX),
            early: Semaphore::new((parts.connections_max / 2).max(1)),
            comparing: Semaphore::new(1),
        }
    }

    /// Whether this caller may send anything; asked before a byte of its body is read.
    ///
    /// # Errors
    /// The answer to give; the refusal is in the log already.
    pub async fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        let stop = match self.admitted(caller) {
            Ok(_) if !*self.has_room.borrow() => {
                Refused::new(Code::HubStorageFull, "the disk reserve is reached").into()
            }
            Ok(_) => return Ok(()),
            Err(refused) => refused.into(),
        };
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        Err(self.refuse(Some(&caller.agent), None, &arrival, stop).await)
    }

    /// Somebody is turned away before anything was delivered; `agent` where it is known who.
    pub async fn turn_away(&self, agent: Option<&AgentId>, refused: Refused) -> Refusal {
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        self.refuse(agent, None, &arrival, refused.into()).await
    }

    /// Answers a greeting: where each stream stands, or what stands in its way.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn hello(&self, caller: &Caller, hello: &Hello) -> Result<Welcome, Refusal> {
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        match self.welcome(caller, hello, &arrival).await {
            Ok(welcome) => Ok(welcome),
            Err(stop) => Err(self.refuse(Some(&caller.agent), None, &arrival, stop).await),
        }
    }

    /// Takes one batch; the receipt says that it is durable.
    ///
    /// # Errors
    /// The refusal to answer with; it is in the log, where it is not one of waiting only.
    pub async fn batch(
        self: &Arc<Self>,
        caller: Caller,
        frame: Bytes,
    ) -> Result<SignedReceipt, Refusal> {
        let own = Arc::clone(self);
        // In a task of its own: a client that hangs up must not stop a commit half way, and the
        // hub waits for these tasks when it stops.
        let task = self.tasks.spawn(async move { own.deliver(&caller, frame).await });
        task.await.unwrap_or_else(|_| {
            let what = "the task of this batch ended without an answer".to_owned();
            Err(Refusal { code: Code::Bug, what, expected: None, retry_after_ms: None })
        })
    }

    async fn deliver(&self, caller: &Caller, frame: Bytes) -> Result<SignedReceipt, Refusal> {
        let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        let arrival = Arrival { bytes, at: Timestamp::now(), began: Instant::now() };
        let batch = match self.open(caller, frame).await {
            Ok(batch) => batch,
            Err(refused) => {
                return Err(self.refuse(Some(&caller.agent), None, &arrival, refused.into()).await);
            }
        };
        let signed = batch.signed.clone();
        match self.take(batch, arrival).await {
            Ok(receipt) => Ok(receipt),
            Err(stop) => {
                let known = self.turns.known(&signed.header);
                if is_next(stream::judge(known.standing.as_ref(), &signed.header)) {
                    self.turns.fail(&signed.header);
                }
                Err(self.refuse(Some(&caller.agent), Some(&signed), &arrival, stop).await)
            }
        }
    }

    async fn open(&self, caller: &Caller, frame: Bytes) -> Result<Batch, Refused> {
        let (agent, enrolled) = (caller.agent.clone(), self.admitted(caller)?);
        blocking(move || check::open(&frame, &agent, &enrolled)).await
    }

    async fn take(&self, batch: Batch, arrival: Arrival) -> Result<SignedReceipt, Stop> {
        let header = &batch.signed.header;
        let agreed = self.agreed(header).await?;
        let begun = self.turns.known(header);
        let judgement = self.look(header).await?;
        if let Some(standing) = self.turns.known(header).standing {
            standing.keeps_mapping(header)?;
        }
        match judgement {
            Judgement::Next | Judgement::NewEpoch | Judgement::Early => {}
            Judgement::Repeat => return self.repeat(&batch.signed).await,
            Judgement::OutOfTurn { .. } | Judgement::Conflict => return Err(stop_of(judgement)),
        }
        let _memory = self.room_for(&header.agent, header.body_bytes).await?;
        let rule_of = Arc::clone(&agreed);
        let (batch, body) = blocking(move || {
            let body = check::unpack(&batch)?;
            check::body(&batch.signed.header, &body, &rule_of.body_rule)?;
            Ok((batch, body))
        })
        .await?;
        let work = Work { batch, body, agreed, arrival };
        match Box::pin(self.commit(&work, begun)).await {
            // Sent again while its first sending was being applied, as an agent does that was
            // started again: the rows it ran into are its own.
            Err(stop) if stop.refused.code == Code::BatchConflict => {
                match self.repeat(&work.batch.signed).await {
                    Ok(receipt) => Ok(receipt),
                    Err(_) => Err(stop),
                }
            }
            ended => ended,
        }
    }

    /// Memory for a body of this length unpacked; given back when the batch has ended.
    async fn room_for(&self, agent: &AgentId, body_bytes: u64) -> Result<Held, Refused> {
        let length = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX {
            let what = format!("a body of {body_bytes} bytes");
            return Err(Refused::new(Code::BatchTooLarge, what));
        }
        let what = "too many batches are being applied, of this agent or of all";
        let held = self.memory.take(agent, length).await;
        held.ok_or_else(|| Refused::new(Code::HubBusy, what))
    }

    /// Where the batch stands by what is known; the database is asked unless it is simply next.
    async fn look(&self, header: &Header) -> Result<Judgement, Fault> {
        let known = self.turns.known(header);
        let judgement = stream::judge(known.standing.as_ref(), header);
        if known.standing.is_some() && matches!(judgement, Judgement::Next | Judgement::Early) {
            return Ok(judgement);
        }
        let client = self.warehouse.client().await?;
        let found = stream::load(&client, &header.agent, &header.dataset).await?;
        if let Some(standing) = found {
            self.turns.publish(header, standing);
        }
        Ok(stream::judge(found.as_ref(), header))
    }

    /// The contract of this batch; looked for in the database before it is called unknown.
    async fn agreed(&self, header: &Header) -> Result<Arc<Agreed>, Stop> {
        let find = |catalog: &Catalog| {
            let agency = header.agent.agency();
            catalog.current().agreed(&header.dataset, header.contract, agency)
        };
        if let Ok(agreed) = find(&self.catalog) {
            return Ok(agreed);
        }
        self.catalog.refresh().await?;
        Ok(find(&self.catalog)?)
    }

    async fn repeat(&self, signed: &SignedHeader) -> Result<SignedReceipt, Stop> {
        let client = self.warehouse.client().await?;
        match transfers::receipt_of(&client, signed).await? {
            Some(receipt) => Ok(receipt),
            None => Err(stop_of(Judgement::Conflict)),
        }
    }

    fn admitted(&self, caller: &Caller) -> Result<Enrolled, Refused> {
        let register = Arc::clone(&self.register.borrow());
        check::admit(&register, caller).cloned()
    }

    async fn welcome(
        &self,
        caller: &Caller,
        hello: &Hello,
        arrival: &Arrival,
    ) -> Result<Welcome, Stop> {
        self.admitted(caller)?;
        if hello.agent != caller.agent {
            let what = format!("{} greets with the certificate of {}", hello.agent, caller.agent);
            return Err(Refused::new(Code::OwnCertificate, what).into());
        }
        if hello.protocol != PROTOCOL_VERSION {
            let what = format!("agent speaks {}, hub speaks {PROTOCOL_VERSION}", hello.protocol);
            return Err(Refused::new(Code::ProtocolVersion, what).into());
        }
        self.catalog.refresh().await?;
        let client = self.warehouse.client().await?;
        fleet::seen(&client, hello, caller.address, arrival.at).await?;
        let mut datasets = Vec::with_capacity(hello.datasets.len());
        for offer in &hello.datasets {
            let terms = self.terms(&client, caller, offer).await?;
            if let Some(code) = terms.refused {
                self.refuse_offer(&caller.agent, offer, arrival, code).await;
            }
            datasets.push(terms);
        }
        debug!(agent = %caller.agent, datasets = datasets.len(), "{} says hello", caller.agent);
        let hub_version = crate::VERSION.to_owned();
        Ok(Welcome { protocol: PROTOCOL_VERSION, hub_version, answered_at: arrival.at, datasets })
    }

    async fn terms(
        &self,
        client: &deadpool_postgres::Object,
        caller: &Caller,
        offer: &Offer,
    ) -> Result<Terms, Stop> {
        let agency = caller.agent.agency();
        let agreed = self.catalog.current().agreed(&offer.dataset, offer.contract, agency);
        let standing = stream::load(client, &caller.agent, &offer.dataset).await?;
        Ok(Terms {
            dataset: offer.dataset.clone(),
            refused: agreed.as_ref().err().map(|refused| refused.code),
            committed: standing.map(|standing| standing.committed),
            agreement: agreed
                .as_ref()
                .ok()
                .and_then(|agreed| agreed.agreement.clone().map(Box::new)),
            lists: agreed.map(|agreed| agreed.lists.clone()).unwrap_or_default(),
        })
    }

    /// A dataset that an agent offers and may not deliver is refused before its first batch.
    async fn refuse_offer(&self, agent: &AgentId, offer: &Offer, arrival: &Arrival, code: Code) {
        let dataset = Some(offer.dataset.clone());
        let entry = Entry { dataset, ..refusal_entry(Some(agent), None, arrival, code) };
        let (logged, unlogged) = self.write_down(Some(agent), entry, code, None).await;
        self.metrics.refused(code, logged);
        info!(%code, %agent, dataset = %offer.dataset, "Refused {} of {agent}{unlogged}", offer.dataset);
    }

    /// Writes a refusal down, within bounds, and makes the answer.
    async fn refuse(
        &self,
        agent: Option<&AgentId>,
        signed: Option<&SignedHeader>,
        arrival: &Arrival,
        stop: Stop,
    ) -> Refusal {
        let Stop { refused, expected } = stop;
        let entry = refusal_entry(agent, signed, arrival, refused.code);
        let breach = breach_of(&refused);
        let breach = breach.as_ref().map(|cause| (cause.as_str(), refused.what.as_str()));
        let (logged, unlogged) = self.write_down(agent, entry, refused.code, breach).await;
        let what = refused.what + &unlogged;
        self.metrics.refused(refused.code, logged);
        let agent = agent.map_or_else(|| "an unnamed caller".to_owned(), ToString::to_string);
        info!(code = %refused.code, agent, "Refused a delivery of {agent}: {what}");
        let retry_after_ms = retry_after(refused.code)
            .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        Refusal { code: refused.code, what, expected, retry_after_ms }
    }

    /// Makes an entry of a refusal, if it is one and the agent's bound allows; says whether it did,
    /// and in words how many before it were left out.
    async fn write_down(
        &self,
        agent: Option<&AgentId>,
        entry: Entry,
        code: Code,
        breach: Option<(&str, &str)>,
    ) -> (bool, String) {
        if !is_entry(code) {
            return (false, String::new());
        }
        let budget = match breach {
            // A flood of other refusals must not hide a breach.
            Some(_) => &self.breaches,
            None => &self.refusals,
        };
        let Verdict::Write { left_out } = budget.take(agent, Instant::now()) else {
            return (false, String::new());
        };
        let unlogged = match left_out {
            0 => String::new(),
            _ => format!(" ({left_out} refusals before this one were only counted)"),
        };
        match self.write_refusal(entry, breach).await {
            Ok(()) => (true, unlogged),
            Err(fault) => {
                warn!(code = %fault.code, "A refusal could not be logged: {}", fault.chain());
                (false, unlogged)
            }
        }
    }

    /// The entry, and for a breach its incident, in one transaction.
    async fn write_refusal(
        &self,
        mut entry: Entry,
        breach: Option<(&str, &str)>,
    ) -> Result<(), Fault> {
        let begin = "cannot begin a transaction";
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await;
        let tx = tx.map_err(|error| crate::error::database_fault(begin, &error))?;
        entry.transfer = self.log.next_transfer(&tx).await?.unsigned_abs();
        if let Some((cause, what)) = breach {
            let happening = Happening {
                kind: kind_of(entry.refused),
                cause,
                agent: entry.agent.as_ref(),
                dataset: entry.dataset.as_ref(),
                what,
                transfer: Some(entry.transfer),
                at: entry.committed_at,
            };
            if incidents::note(&*tx, &happening).await? {
                warn!(cause, agent = ?entry.agent, dataset = ?entry.dataset, "An incident was opened: {what}");
            }
        }
        self.log.insert(&tx, &Record { entry, push: None }).await?;
        tx.commit()
            .await
            .map_err(|error| crate::error::database_fault("cannot commit a refusal", &error))?;
        self.log.wake();
        Ok(())
    }
}

fn refusal_entry(
    agent: Option<&AgentId>,
    signed: Option<&SignedHeader>,
    arrival: &Arrival,
    code: Code,
) -> Entry {
    Entry {
        v: 1,
        kind: Kind::Refuse,
        transfer: 0,
        agent: agent.cloned(),
        dataset: signed.map(|signed| signed.header.dataset.clone()),
        header: signed.and_then(|signed| String::from_utf8(signed.bytes.clone()).ok()),
        agent_signature: signed.map(|signed| signed.signature),
        refused: Some(code),
        compared: None,
        contract: None,
        bytes: arrival.bytes,
        received_at: arrival.at,
        committed_at: Timestamp::now(),
        hub_version: crate::VERSION.to_owned(),
        step: None,
        restored: None,
        identity: None,
        act: None,
        deed: None,
    }
}

/// What an incident of this refusal is known by; `None` when it opens none. What only the database
/// could judge has no cause of its own.
fn breach_of(refused: &Refused) -> Option<String> {
    let by_code = (refused.code == Code::ContractViolation).then(|| "bytes".to_owned());
    refused.cause.clone().or(by_code)
}

fn kind_of(code: Option<Code>) -> incidents::Kind {
    match code {
        Some(Code::SignatureWrong) => incidents::Kind::Signature,
        Some(Code::EnrolReplayed) => incidents::Kind::Identity,
        Some(_) | None => incidents::Kind::Contract,
    }
}

/// Whether a refusal is written down. What only asks to wait is no verdict on a delivery.
fn is_entry(code: Code) -> bool {
    let turn = [Code::BatchOutOfTurn, Code::BatchConflict, Code::FrameDamaged];
    code.class() == Class::Operator || turn.contains(&code)
}

fn is_next(judgement: Judgement) -> bool {
    matches!(judgement, Judgement::Next | Judgement::NewEpoch)
}

/// When it is worth to try again.
fn retry_after(code: Code) -> Option<Duration> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these ask to wait")]
    match code {
        Code::HubBusy => Some(Duration::from_secs(1)),
        Code::EnrolPending => Some(Duration::from_secs(2)),
        Code::WarehouseUnavailable => Some(Duration::from_secs(5)),
        Code::HubStorageFull => Some(Duration::from_secs(30)),
        _ => None,
    }
}

fn stop_of(judgement: Judgement) -> Stop {
    match judgement {
        Judgement::OutOfTurn { epoch, expected } => {
            let what = format!("expected is batch {expected} of epoch {epoch}");
            let refused = Refused::new(Code::BatchOutOfTurn, what);
            Stop { refused, expected: Some((epoch, expected)) }
        }
        Judgement::Conflict => {
            let what = "the batch does not follow what the log holds under its number";
            Refused::new(Code::BatchConflict, what).into()
        }
        // The others are taken, waited for or answered with a receipt before this is asked.
        Judgement::Next | Judgement::NewEpoch | Judgement::Repeat | Judgement::Early => {
            Refused::new(Code::HubBusy, "the stream moved meanwhile").into()
        }
    }
}

/// Runs what takes processor time where it does not hold up the network.
async fn blocking<T, F>(work: F) -> Result<T, Refused>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Refused> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refused::new(Code::Bug, "checking a batch ended early")))
}
