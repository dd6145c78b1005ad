//! The hub: its real checks, judgements, entries, receipts and files of the log; only its database is
//! a map. At every commit what is visible must be the source after some whole transaction.

use std::collections::{BTreeMap, BTreeSet};

use phusa_hub::catalog::rule::BodyRule;
use phusa_hub::category::Lists;
use phusa_hub::config::register::{Enrolled, Overlay, Register, Stopped};
use phusa_hub::error::Refused;
use phusa_hub::ingest::check;
use phusa_hub::ingest::stream::{Standing, judge};
use phusa_hub::transfers::audit::Leaves;
use phusa_hub::transfers::folder::Folder;
use phusa_hub::transfers::writer::Writer;
use phusa_hub::transfers::{Arrived, Log};
use phusa_protocol::batch::{Batch, Phase};
use phusa_protocol::change::{Change, runs};
use phusa_protocol::checkpoint::Head;
use phusa_protocol::delivery::Judgement;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{Entry, Kind, LogLine, Restored, link};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::Committed;
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::keys::{Signature, SigningKey};
use phusa_protocol::leaf::{Leaf, checksum};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::row::Tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::tree::{consistency_plan, extends};
use phusa_protocol::value::Field;

use super::registry::{CLOCK_MICROS, FORBIDDEN, Place, Registry, State, UNSHARED_END, contract};

/// One agency's rows and its stream.
#[derive(Debug, Clone)]
struct Table {
    standing: Standing,
    rows: State,
    /// Keys met by the full read of this epoch.
    seen: BTreeSet<i64>,
    /// Bodies of an open source transaction.
    staged: Vec<Vec<u8>>,
    /// The transactions whose outcome is visible, and under which contract; `None` during a read.
    shows: Option<(usize, usize)>,
}

/// What the database holds, and a backup of it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    tables: BTreeMap<AgentId, Table>,
    receipts: BTreeMap<(AgentId, Epoch, Seq), SignedReceipt>,
    pub lines: Vec<LogLine>,
    transfer: i64,
}

/// What a batch is answered with.
#[derive(Debug)]
pub enum Verdict {
    Receipt(Box<SignedReceipt>),
    Refused(Code),
    OutOfTurn,
    Hold,
}

#[derive(Debug)]
pub struct Hub {
    pub stored: Stored,
    pub log: Log,
    log_key: SigningKey,
    pub folder: Folder,
    writer: Option<Writer>,
    pub register: Register,
    rules: Vec<(Digest, BodyRule)>,
    /// The version in force.
    pub version: usize,
    pub clock: Timestamp,
    /// Every checkpoint that was ever published.
    pub heads: Vec<Head>,
    pub commits: u64,
}

impl Hub {
    pub fn new(state_dir: &std::path::Path, keys: [SigningKey; 2]) -> Self {
        let [key, log_key] = keys;
        let rule = |version| {
            let contract = contract(version);
            (contract.fingerprint(), BodyRule::of(&contract, &Lists::new()))
        };
        Self {
            stored: Stored::default(),
            log: Log::new(key),
            folder: Folder::new(state_dir, log_key.public()),
            log_key,
            writer: None,
            register: Register::default(),
            rules: vec![rule(0), rule(1)],
            version: 0,
            clock: Timestamp::from_micros(CLOCK_MICROS),
            heads: Vec::new(),
            commits: 0,
        }
    }

    /// Lets an agent in, or keeps it out.
    pub fn enrol(&mut self, agent: &AgentId, key: &SigningKey, suspended: bool) {
        let because = "simulation".to_owned();
        let stopped = suspended.then_some(Stopped { code: Code::AgentSuspended, because });
        let overlay = Overlay {
            agent: agent.clone(),
            signing_key: Some(key.public()),
            stopped,
            allowed_networks: Vec::new(),
            least_generation: 0,
        };
        self.register = Register::default().with(self.overlays(overlay));
    }

    fn overlays(&self, new: Overlay) -> Vec<Overlay> {
        let known = |agent: &AgentId| self.register.get(agent).cloned();
        let mut all: Vec<Overlay> = Vec::new();
        for agent in self.register.keys().into_keys().filter(|agent| *agent != new.agent) {
            let Some(Enrolled { signing_key, stopped, allowed_networks, least_generation }) =
                known(&agent)
            else {
                continue;
            };
            let signing_key = Some(signing_key);
            all.push(Overlay { agent, signing_key, stopped, allowed_networks, least_generation });
        }
        all.push(new);
        all
    }

    pub fn committed(&self, agent: &AgentId) -> Option<Committed> {
        self.stored.tables.get(agent).map(|table| table.standing.committed)
    }

    pub fn rows(&self, agent: &AgentId) -> State {
        self.stored.tables.get(agent).map(|table| table.rows.clone()).unwrap_or_default()
    }

    /// Whether the hub would let this agent speak at all.
    pub fn admits(&self, agent: &AgentId) -> Option<Code> {
        check::known(&self.register, agent).err().map(|refused| refused.code)
    }

    /// A frame as it arrives. An error is a promise that was broken, not a refusal.
    pub fn receive(
        &mut self,
        agent: &AgentId,
        frame: &[u8],
        source: &Registry,
    ) -> Result<Verdict, String> {
        match self.judged(agent, frame) {
            Err(refused) => Ok(Verdict::Refused(refused.code)),
            Ok((Judgement::Early, _)) => Ok(Verdict::Hold),
            Ok((Judgement::OutOfTurn { .. }, _)) => Ok(Verdict::OutOfTurn),
            Ok((Judgement::Conflict, _)) => Ok(Verdict::Refused(Code::BatchConflict)),
            Ok((Judgement::Repeat, batch)) => {
                let header = &batch.signed.header;
                let place = (agent.clone(), header.epoch, header.seq);
                let same = self.stored.receipts.get(&place);
                let same = same.filter(|kept| kept.receipt.header == batch.signed.digest());
                Ok(same.map_or(Verdict::Refused(Code::BatchConflict), |receipt| {
                    Verdict::Receipt(Box::new(receipt.clone()))
                }))
            }
            Ok((Judgement::Next | Judgement::NewEpoch, batch)) => {
                let body = check::unpack(&batch).map_err(|refused| refused.what)?;
                for forbidden in FORBIDDEN {
                    if body.windows(forbidden.len()).any(|part| part == forbidden) {
                        return Err("a body holds what the mapping hides".to_owned());
                    }
                }
                let rule = &self.rules[self.version].1;
                // Nobody here breaks a contract, so the hub must not say that somebody did.
                check::body(&batch.signed.header, &body, rule).map_err(|refused| refused.what)?;
                let receipt = self.commit(agent, &batch, &body, frame.len() as u64)?;
                self.check_visible(agent, source)?;
                Ok(Verdict::Receipt(Box::new(receipt)))
            }
        }
    }

    fn judged(&self, agent: &AgentId, frame: &[u8]) -> Result<(Judgement, Batch), Refused> {
        let enrolled = check::known(&self.register, agent)?;
        let batch = check::open(frame, agent, enrolled)?;
        let header = &batch.signed.header;
        let standing = self.stored.tables.get(agent).map(|table| &table.standing);
        let judgement = judge(standing, header);
        // A repeat gets its receipt whatever is in force by now.
        if matches!(judgement, Judgement::Next | Judgement::NewEpoch) {
            if header.contract != self.rules[self.version].0 {
                return Err(Refused::new(Code::ContractMismatch, "another version is in force"));
            }
            if let Some(standing) = standing {
                standing.keeps_mapping(header)?;
            }
        }
        Ok((judgement, batch))
    }

    fn commit(
        &mut self,
        agent: &AgentId,
        batch: &Batch,
        body: &[u8],
        bytes: u64,
    ) -> Result<SignedReceipt, String> {
        let header = &batch.signed.header;
        let digest = batch.signed.digest();
        let committed = Committed { epoch: header.epoch, seq: header.seq, header: digest };
        let (tx_open, mapping) = (header.tx_open, Some(header.mapping));
        let standing = Standing { stream_key: 1, committed, initial_load: false, tx_open, mapping };
        let blank = || Table {
            standing,
            rows: State::new(),
            seen: BTreeSet::new(),
            staged: Vec::new(),
            shows: None,
        };
        let before = self.stored.tables.get(agent).map(|table| table.standing.committed);
        let table = self.stored.tables.entry(agent.clone()).or_insert_with(blank);
        table.standing = standing;
        if before.is_none_or(|before| before.epoch < header.epoch) {
            (table.seen, table.staged, table.shows) = (BTreeSet::new(), Vec::new(), None);
        }
        let place = Place::parse(&header.position_to).ok_or("a position nobody wrote")?;
        if header.tx_open {
            table.staged.push(body.to_vec());
        } else {
            for staged in std::mem::take(&mut table.staged) {
                table.apply(&staged)?;
            }
            table.apply(body)?;
            if header.phase == Phase::ReadEnd {
                let seen = std::mem::take(&mut table.seen);
                table.rows.retain(|id, _| seen.contains(id));
            }
            table.shows = (header.phase != Phase::Read).then_some((place.whole, self.version));
        }
        self.stored.transfer += 1;
        let (signed, salt) = (&batch.signed, &batch.salt);
        let arrived = Arrived { signed, salt, bytes, received_at: self.clock };
        let (record, receipt) = self.log.accepted(&arrived, self.stored.transfer, self.clock);
        self.write_down(&record.entry, None);
        let of = (agent.clone(), header.epoch, header.seq);
        self.stored.receipts.insert(of, receipt.clone());
        self.commits += 1;
        Ok(receipt)
    }

    fn check_visible(&self, agent: &AgentId, source: &Registry) -> Result<(), String> {
        let Some(table) = self.stored.tables.get(agent) else { return Ok(()) };
        if table.rows.values().any(|(_, phone)| phone.ends_with(UNSHARED_END)) {
            return Err("a row is visible that the filter keeps back".to_owned());
        }
        let Some((whole, version)) = table.shows else { return Ok(()) };
        if table.rows != source.shared(whole, version) {
            return Err(format!("{agent}: what is visible is not the source after {whole}"));
        }
        Ok(())
    }

    fn write_down(&mut self, entry: &Entry, gap: Option<Head>) {
        self.number(entry.seal(self.log.key()), gap);
    }

    /// The next number and link for an entry, after `gap` where the database was restored.
    fn number(&mut self, (text, hub_signature): (String, Signature), gap: Option<Head>) {
        let last = self.stored.lines.last().map(|line| (line.number, line.link));
        let (number, before) = gap.map_or(last.unwrap_or((0, Digest::ZERO)), |published| {
            (published.size, published.root)
        });
        let link = link(before, &text);
        self.stored.lines.push(LogLine { number: number + 1, link, entry: text, hub_signature });
    }

    /// The process ends; what it had not published is published by the next.
    pub fn restart(&mut self) {
        self.writer = None;
    }

    /// The database of an old backup; the files of the log are as they were published.
    pub fn restore(&mut self, old: Stored) -> Result<(), Fault> {
        self.restart();
        self.stored = old;
        self.stored.transfer += 1_000;
        let Some(published) = self.folder.checkpoint()?.map(|checkpoint| checkpoint.head) else {
            return Ok(());
        };
        let held = self.held()?;
        let last = held.checked_sub(1).map_or(0, |index| self.stored.lines[index].number);
        if last >= published.size {
            return Ok(());
        }
        // As `transfers::restore::go_on` does: their numbers were given to others since.
        let again = self.stored.lines.split_off(held);
        let because = "simulation".to_owned();
        let (entries, root) = (published.size, published.root);
        let restored = Some(Restored { last, entries, root, because });
        let transfer = self.stored.transfer.unsigned_abs();
        let of_hub = Entry::of_hub(Kind::Restore, transfer, self.clock, phusa_hub::VERSION);
        self.write_down(&Entry { restored, ..of_hub }, Some(published));
        again.into_iter().for_each(|line| self.number((line.entry, line.hub_signature), None));
        Ok(())
    }

    /// How many lines from the first lead to the last that is as it was published.
    fn held(&self) -> Result<usize, Fault> {
        let mut leaves = Leaves::open(&self.folder)?;
        let lines = &self.stored.lines;
        for (index, line) in lines.iter().enumerate().rev() {
            let leaf = leaves.of(line.number)?;
            if leaf.is_some_and(|leaf| leaf.checksum == checksum(line.entry.as_bytes())) {
                // Whatever stands beyond the published log leads on from here.
                let is_last = line.number == leaves.size();
                return Ok(if is_last { lines.len() } else { index + 1 });
            }
        }
        Ok(0)
    }

    /// Publishes what was written; the checkpoint must extend the last, and any before it.
    pub fn publish(&mut self, any: u64) -> Result<(), String> {
        let said = |fault: Fault| fault.chain();
        if self.writer.is_none() {
            self.writer = Writer::open(&self.folder).map_err(said)?;
        }
        let writer = self.writer.as_mut().ok_or("two processes write the log")?;
        let size = writer.head().size;
        let new = self.stored.lines.iter().filter(|line| line.number > size);
        let leaves: Vec<Leaf> =
            new.map(|line| Leaf::sign(line.entry.as_bytes(), self.log.key())).collect();
        if leaves.is_empty() {
            return Ok(());
        }
        writer.append(&leaves).map_err(said)?;
        let head = writer.publish(&self.log_key).map_err(said)?.head;
        let before = self.heads.len() as u64;
        let some = (before > 0).then(|| usize::try_from(any % before).unwrap_or(0));
        for old in some.into_iter().chain(self.heads.len().checked_sub(1)) {
            self.check_extends(self.heads[old], head)?;
        }
        self.heads.push(head);
        Ok(())
    }

    /// Whether a proof from the log's own files leads from one checkpoint to another.
    pub fn check_extends(&self, old: Head, new: Head) -> Result<(), String> {
        let said = |fault: Fault| fault.chain();
        let no = || format!("checkpoint {} does not extend {}", new.size, old.size);
        let plan = consistency_plan(old.size, new.size).ok_or_else(no)?;
        let loaded = self.folder.load(plan.iter().flatten(), new.size).map_err(said)?;
        let proof = loaded.proof(&plan).ok_or_else(no)?;
        let holds = extends((old.size, old.root), (new.size, new.root), &proof);
        if holds { Ok(()) } else { Err(no()) }
    }
}

impl Table {
    fn apply(&mut self, body: &[u8]) -> Result<(), String> {
        for run in runs(body) {
            for change in run.map_err(|bad| bad.to_string())?.changes() {
                match change.map_err(|bad| bad.to_string())? {
                    Change::Snapshot(row) => {
                        let id = self.put(row)?;
                        self.seen.insert(id);
                    }
                    Change::Insert(row) | Change::Update(row) => drop(self.put(row)?),
                    Change::Delete(key) => drop(self.rows.remove(&number(key, 0)?)),
                    Change::Truncate | Change::Rekey { .. } => {
                        return Err("a change that the source does not make".to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, row: Tuple<'_>) -> Result<i64, String> {
        let (id, mark) = (number(row, 0)?, number(row, 1)?);
        let Some(Field::Value(phone)) = row.fields().nth(2) else {
            return Err("a row without its phone".to_owned());
        };
        let phone = String::from_utf8_lossy(phone).into_owned();
        self.rows.insert(id, (mark.unsigned_abs(), phone));
        Ok(id)
    }
}

fn number(row: Tuple<'_>, index: usize) -> Result<i64, String> {
    match row.fields().nth(index) {
        Some(Field::Value(bytes)) => {
            bytes.try_into().map(i64::from_be_bytes).map_err(|_| "no number".to_owned())
        }
        Some(Field::Null | Field::Unchanged) | None => Err("no number".to_owned()),
    }
}
