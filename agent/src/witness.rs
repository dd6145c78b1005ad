//! Watches the hub's log: verifies that each checkpoint extends the last one seen, keeps it, cosigns
//! it, and fetches the proof of every receipted batch.
//!
//! A checkpoint is cosigned only after it is durable in the ledger, so this agent never signs two
//! that contradict each other, whatever crashes. A contradiction the hub signed is kept for ever and
//! shown; deliveries go on all the same.

mod prove;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, Seq};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::policy::Policy;
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::tile::Loaded;
use phusa_protocol::time::Timestamp;
use phusa_protocol::tree::{Node, consistency_plan, cover, extends};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::log::{Fork, LogBook, Reading, StreamName};
use crate::status::LogStatus;
use crate::transport::https::Hub;
use crate::transport::on_blocking_thread;
use crate::trouble::Trouble;

/// How often is looked for new receipts, and for their proofs while some are pending.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the log is looked at while this agent has nothing to prove: others' entries need a
/// witness too.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// Receipts held in memory for one stream; the rest wait in the ledger.
const WAITING_MAX: usize = 1_000;

/// What a witness works with.
#[derive(Debug)]
pub struct Parts {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Where everything is kept.
    pub book: LogBook,
    /// This agent.
    pub agent: AgentId,
    /// Its key, which cosigns.
    pub key: SigningKey,
    /// Which log and which witnesses are believed, where a file says it.
    pub policy: Option<Policy>,
    /// What is shown of it.
    pub show: watch::Sender<LogStatus>,
    /// Where file work runs.
    pub tasks: TaskTracker,
}

/// The witness of one agent.
#[derive(Debug)]
pub struct Witness {
    parts: Parts,
    streams: BTreeMap<StreamName, Waiting>,
    /// What was handed in last, with this agent's signature, and what came back.
    cosigned: Option<(Checkpoint, Option<Checkpoint>)>,
}

/// Receipts of one stream that are not proven yet, oldest first.
#[derive(Debug)]
struct Waiting {
    reading: Reading,
    after: Seq,
    /// Batches up to `after` that an earlier run found missing from the log.
    missing: BTreeSet<Seq>,
    receipts: VecDeque<SignedReceipt>,
    /// Since when this one has been the oldest.
    first: Option<(Seq, Instant)>,
    /// Read to its end after a later epoch began: nothing is added to it any more.
    is_closed: bool,
}

impl Witness {
    /// A witness that has looked at nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, streams: BTreeMap::new(), cosigned: None }
    }

    /// Watches until stopped. Faults are shown and tried again.
    pub async fn watch(mut self, stop: CancellationToken) {
        let mut looked = None::<Instant>;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let refreshed = self.refresh().await;
            let pending: usize = self.streams.values().map(|w| w.receipts.len()).sum();
            self.parts.show.send_modify(|status| status.pending = pending as u64);
            let is_due = looked.is_none_or(|at| at.elapsed() >= WATCH_EVERY);
            let mut done = refreshed;
            if done.is_ok() && (pending > 0 || is_due) {
                looked = Some(Instant::now());
                // What is half done when it stops is done again after the next start.
                match stop.run_until_cancelled(self.look()).await {
                    Some(ended) => done = ended,
                    None => return,
                }
            }
            self.tell(done.err());
        }
    }

    fn tell(&self, fault: Option<Fault>) {
        let before = self.parts.show.borrow().trouble.clone();
        let trouble = fault.map(|fault| {
            let trouble = Trouble::from_fault(&fault, before.as_ref());
            if before.as_ref().is_none_or(|before| before.code != trouble.code) {
                tracing::warn!(code = fault.code.name(), "{}: {}", fault.code, trouble.what);
            }
            trouble
        });
        self.parts.show.send_modify(|status| status.trouble = trouble);
    }

    /// Reads on in the ledgers that may have grown.
    async fn refresh(&mut self) -> Result<(), Fault> {
        let names = self.file(LogBook::streams).await?;
        for (index, name) in names.iter().enumerate() {
            let is_newest = names.get(index + 1).is_none_or(|next| next.dataset != name.dataset);
            let mut waiting = match self.streams.remove(name) {
                Some(waiting) if waiting.is_closed && waiting.receipts.is_empty() => {
                    self.streams.insert(name.clone(), waiting);
                    continue;
                }
                Some(waiting) => waiting,
                None => {
                    let name = name.clone();
                    let look =
                        move |book: &LogBook| Ok((book.last_proven(&name)?, book.missing(&name)?));
                    let (after, missing) = self.file(look).await?;
                    self.parts.show.send_modify(|status| status.missing += missing.len() as u64);
                    Waiting {
                        reading: Reading::default(),
                        after,
                        missing,
                        receipts: VecDeque::new(),
                        first: None,
                        is_closed: false,
                    }
                }
            };
            while waiting.receipts.len() < WAITING_MAX {
                let (name, mut reading) = (name.clone(), waiting.reading.clone());
                let read = self.file(move |book| {
                    book.receipts(&name, &mut reading).map(|receipts| (receipts, reading))
                });
                let (receipts, reading) = read.await?;
                if receipts.is_empty() {
                    waiting.is_closed = !is_newest;
                    break;
                }
                waiting.reading = reading;
                let (old, new): (Vec<_>, Vec<_>) =
                    receipts.into_iter().partition(|r| r.receipt.seq <= waiting.after);
                let proven = old.iter().filter(|r| !waiting.missing.contains(&r.receipt.seq));
                let proven = proven.count() as u64;
                self.parts.show.send_modify(|status| status.proven += proven);
                waiting.receipts.extend(new);
            }
            self.streams.insert(name.clone(), waiting);
        }
        Ok(())
    }

    /// One look at the log: verify, keep, cosign, prove.
    async fn look(&mut self) -> Result<(), Fault> {
        let forks = self.file(LogBook::forks).await?;
        self.parts.show.send_modify(|status| status.forks = forks.len() as u64);
        let Some(log) = self.log_key().await? else { return Ok(()) };
        let Some(note) = self.parts.hub.log_checkpoint().await? else { return Ok(()) };
        let shown = parse(&note, &log)?;
        let known = self.file(LogBook::checkpoint).await?;
        let known = known.map(|note| parse(&note, &log)).transpose()?;
        let mut loaded = Loaded::default();
        if let Some(known) = &known {
            self.check_extends(known, &shown, &mut loaded).await?;
        }
        if known.is_none_or(|known| known.head != shown.head) {
            self.file(move |book| book.keep_checkpoint(&note)).await?;
        }
        self.parts.show.send_modify(|status| {
            (status.entries, status.seen_at) = (shown.head.size, Some(Timestamp::now()));
        });
        let pending = self.streams.values().any(|waiting| !waiting.receipts.is_empty());
        let last = self.cosigned.take().filter(|(own, _)| own.head == shown.head && !pending);
        let (own, proven) = match last {
            // A log that does not grow needs one signature, not one at every look.
            Some(last) => last,
            None => self.cosign(shown, &log).await?,
        };
        self.cosigned = Some((own.clone(), proven.clone()));
        self.prove_all(own, proven, loaded).await?;
        match forks.last() {
            Some(fork) => Err(Fault::new(Code::LogForked, fork.what.clone())),
            None => Ok(()),
        }
    }

    /// Signs a head that is kept, and hands it in.
    async fn cosign(
        &self,
        mut shown: Checkpoint,
        log: &PublicKey,
    ) -> Result<(Checkpoint, Option<Checkpoint>), Fault> {
        shown.cosignatures.clear();
        shown.cosign(&self.parts.agent.to_string(), &self.parts.key, Timestamp::now());
        let answer = self.parts.hub.log_cosign(shown.to_note()).await?;
        self.parts.show.send_modify(|status| status.cosigned = shown.head.size);
        Ok((shown, answer.map(|note| parse(&note, log)).transpose()?))
    }

    /// The log's key: the policy's, or the one the hub stated first.
    async fn log_key(&self) -> Result<Option<PublicKey>, Fault> {
        let kept = self.file(LogBook::key).await?;
        let policy = self.parts.policy.as_ref();
        if let Some(kept) = kept
            && policy.is_none_or(|policy| policy.logs().contains(&kept))
        {
            return Ok(Some(kept));
        }
        let Some(stated) = self.parts.hub.log_key().await? else { return Ok(None) };
        let what = "the hub's word for its log's key is not signed with the hub's key";
        let key = stated.verified(self.parts.hub.key());
        let key = key.ok_or_else(|| Fault::new(Code::HubCertificate, what))?;
        if policy.is_some_and(|policy| !policy.logs().contains(&key)) {
            let what = format!("the hub's log has key {key}, which log_policy_file does not name");
            return Err(Fault::new(Code::LogForked, what));
        }
        self.file(move |book| book.keep_key(&key)).await?;
        Ok(Some(key))
    }

    /// Whether the log shown now extends the one seen before; a contradiction is kept.
    async fn check_extends(
        &self,
        known: &Checkpoint,
        shown: &Checkpoint,
        loaded: &mut Loaded,
    ) -> Result<(), Fault> {
        let (old, new) = (known.head, shown.head);
        if old == new {
            return Ok(());
        }
        let Some(plan) = consistency_plan(old.size, new.size).filter(|_| old.size != new.size)
        else {
            let what = match old.size == new.size {
                true => format!("two different logs of {} entries", old.size),
                false => format!("a log of {} entries after one of {}", new.size, old.size),
            };
            return Err(self.contradiction(what, known, shown).await?);
        };
        let whole = cover(0, new.size);
        self.load(loaded, plan.iter().flatten().chain(&whole), new.size).await?;
        // Damaged tiles are no contradiction: only what leads to the signed root speaks for it.
        if loaded.hash(&whole) != Some(new.root) {
            return Err(Fault::new(
                Code::LogBroken,
                "the hub's tiles do not lead to its checkpoint",
            ));
        }
        let proof = loaded.proof(&plan);
        if proof.is_some_and(|p| extends((old.size, old.root), (new.size, new.root), &p)) {
            return Ok(());
        }
        let what =
            format!("the log of {} entries does not begin with the one of {}", new.size, old.size);
        Err(self.contradiction(what, known, shown).await?)
    }

    async fn contradiction(
        &self,
        what: String,
        known: &Checkpoint,
        shown: &Checkpoint,
    ) -> Result<Fault, Fault> {
        let (before, after) = (known.to_note(), shown.to_note());
        let fork = Fork { what: what.clone(), at: Timestamp::now(), before, after };
        self.file(move |book| book.keep_fork(&fork)).await?;
        let forks = self.file(LogBook::forks).await?;
        self.parts.show.send_modify(|status| status.forks = forks.len() as u64);
        Ok(Fault::new(Code::LogForked, what))
    }

    /// Fetches the tiles that answer for these nodes and are not here yet.
    async fn load<'a>(
        &self,
        loaded: &mut Loaded,
        nodes: impl Iterator<Item = &'a Node>,
        size: u64,
    ) -> Result<(), Fault> {
        for tile in Loaded::needed(nodes) {
            let width = tile.width(size);
            if loaded.has(tile, width) {
                continue;
            }
            let bytes = self.parts.hub.log_tile(tile, width).await?;
            let whole = bytes.filter(|bytes| bytes.len() as u64 == width * 32);
            if !whole.is_some_and(|bytes| loaded.add(tile, &bytes)) {
                let what = format!("the hub does not show {} of its log", tile.path(width));
                return Err(Fault::new(Code::LogBroken, what));
            }
        }
        Ok(())
    }

    /// File work, where it holds up nobody.
    async fn file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LogBook) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let book = self.parts.book.clone();
        on_blocking_thread(&self.parts.tasks, move || work(&book)).await
    }
}

fn parse(note: &str, log: &PublicKey) -> Result<Checkpoint, Fault> {
    Checkpoint::parse(note, log)
        .map_err(|error| Fault::because(Code::LogBroken, "a checkpoint of the hub's log", error))
}
