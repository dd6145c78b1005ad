//! The life of a contract's version: proposed, signed by its owner, signed by the hub, in force.
//!
//! Each step is one transaction with the log entry that says so. What changes decides how it comes
//! into force (decision 0015): a version that breaks nobody widens the table in place; one that
//! breaks consumers sets table and history aside under the number of the major version they were
//! of, begins an empty one, and has every stream read anew.

use phusa_protocol::batch::canonical_json;
use phusa_protocol::contract::change::{Change, Step, changes, follows};
use phusa_protocol::contract::consent::{Agreement, Proposal, SignedConsent};
use phusa_protocol::contract::{Contract, Number};
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{ContractStep, Entry, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use tokio_postgres::Row;

use super::{Catalog, read_body};
use crate::category::{self, Lists};
use crate::config::register::Register;
use crate::error::statement_fault;
use crate::transfers::keys::{self, Moment};
use crate::transfers::{Log, Record};
use crate::warehouse::gone;
use crate::warehouse::tables::Shape;

type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// A contract's file may be this long as canonical JSON, so that two of them fit into one answer.
const CONTRACT_BYTES_MAX: usize = 400 << 10;

/// What a proposal came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Its fingerprint.
    pub fingerprint: Digest,
    /// How it follows the version in force; `None` when there is none.
    pub step: Option<Step>,
    /// What changes against that one.
    pub changes: Vec<Change>,
}

/// What bringing a version into force came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The dataset is new; its tables were made.
    Created,
    /// It widens the one before; the table stays.
    Widened,
    /// It breaks with the one before: tables were set aside, every stream begins anew.
    Rebuilt {
        /// Under which major version the old tables stay readable.
        set_aside: u32,
    },
    /// It was in force already.
    Unchanged,
}

/// A version as the database has it.
struct Kept {
    contract: Contract,
    fingerprint: Digest,
    owner: Option<SignedConsent>,
    hub: Option<SignedConsent>,
    is_in_force: bool,
}

/// One version as `contract ls` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// Which dataset.
    pub dataset: String,
    /// Its number.
    pub version: String,
    /// `proposed`, `in_force`, `past` or `withdrawn`.
    pub state: &'static str,
    /// Its fingerprint.
    pub fingerprint: String,
    /// The agent whose key signed for the owner.
    pub owner_signed_by: Option<String>,
    /// Whether the hub has signed.
    pub hub_signed: bool,
}

impl Catalog {
    /// Opens a version for signing, in the place of one that was open.
    ///
    /// # Errors
    /// [`Code::ContractInvalid`] with the reason when it may not follow the one in force under its
    /// number; [`Code::ListInvalid`] when it names a list that the hub lacks.
    pub async fn propose(&self, contract: &Contract, log: &Log) -> Result<Proposed, Fault> {
        let mut client = self.warehouse.client().await?;
        let lists = category::in_force(&**client).await?;
        names_known_lists(contract, &lists)?;
        let tx = begin(&mut client).await?;
        let before = in_force(&tx, &contract.dataset).await?;
        let proposed = may_follow(before.as_ref(), contract)?;
        if proposed.step == Some(Step::Same) {
            return Ok(proposed);
        }
        number_is_free(&tx, contract).await?;
        if let Some(open) = open(&tx, &contract.dataset).await? {
            if open.fingerprint == proposed.fingerprint {
                return Ok(proposed);
            }
            let sql = "update phusa.contracts set withdrawn_at = now() \
                       where dataset = $1 and applied_at is null and withdrawn_at is null";
            tx.execute(sql, &[&contract.dataset.to_string()])
                .await
                .map_err(|error| not_kept(&error))?;
            write_down(&tx, log, &open.contract, Some(ContractStep::Withdrawn)).await?;
        }
        keep(&tx, contract).await?;
        write_down(&tx, log, contract, Some(ContractStep::Proposed)).await?;
        self.commit(tx, log).await?;
        Ok(proposed)
    }

    /// Takes an owner's signature, if the key is that of one of its agents in the register.
    ///
    /// # Errors
    /// [`Code::ContractInvalid`] when no such version is open, [`Code::SignatureWrong`],
    /// [`Code::AgentUnknown`] or [`Code::AgentSuspended`].
    pub async fn owner_signs(
        &self,
        signed: &SignedConsent,
        register: &Register,
        log: &Log,
    ) -> Result<(), Fault> {
        let said = &signed.consent;
        let what = || format!("the owner's signature under {} {}", said.dataset, signed.number());
        // So that the log verifies whatever becomes of the key later.
        keys::remember(&self.warehouse, register, log.key(), Moment::Before).await?;
        let mut client = self.warehouse.client().await?;
        let tx = begin(&mut client).await?;
        let kept = signable(&tx, &said.dataset, Some(said.contract)).await?;
        let agent = signed
            .is_owners(&kept.contract)
            .map_err(|bad| Fault::because(Code::SignatureWrong, what(), bad))?;
        let Some(enrolled) = register.get(agent) else {
            let why = format!("agent {agent} is not registered");
            return Err(Fault::because(Code::AgentUnknown, what(), why));
        };
        if enrolled.stopped.is_some() {
            let why = format!("agent {agent} is suspended");
            return Err(Fault::because(Code::AgentSuspended, what(), why));
        }
        if enrolled.signing_key != said.key {
            let why = format!("the register has another key for agent {agent}");
            return Err(Fault::because(Code::SignatureWrong, what(), why));
        }
        // The first signature stands as long as its key does; the hub may have signed over it.
        let still_known = |owner: &SignedConsent| {
            let agent = owner.consent.agent.as_ref();
            let enrolled = agent.and_then(|agent| register.get(agent));
            enrolled.is_some_and(|enrolled| enrolled.signing_key == owner.consent.key)
        };
        if kept.owner.as_ref().is_some_and(still_known) {
            return Ok(());
        }
        set_consent(&tx, &kept, ("hub_consent", None)).await?;
        set_consent(&tx, &kept, ("owner_consent", Some(signed))).await?;
        let step = ContractStep::Signed(Box::new(signed.clone()));
        write_down(&tx, log, &kept.contract, Some(step)).await?;
        self.commit(tx, log).await
    }

    /// Signs for the hub what the owner has signed; says which version that is.
    ///
    /// # Errors
    /// [`Code::ContractUnsigned`] when the owner has not, [`Code::ContractInvalid`] when nothing
    /// waits.
    pub async fn hub_signs(&self, dataset: &DatasetId, log: &Log) -> Result<Number, Fault> {
        let mut client = self.warehouse.client().await?;
        let tx = begin(&mut client).await?;
        let kept = signable(&tx, dataset, None).await?;
        let number = kept.contract.number();
        let Some(owner) = &kept.owner else { return Err(unsigned(&kept, "its owner has not")) };
        let by_this_key = |hub: &SignedConsent| hub.consent.key == self.hub_key;
        if kept.hub.as_ref().is_some_and(by_this_key) {
            return Ok(number);
        }
        let signed = SignedConsent::of_hub(&kept.contract, owner, log.key());
        set_consent(&tx, &kept, ("hub_consent", Some(&signed))).await?;
        let step = ContractStep::Signed(Box::new(signed));
        write_down(&tx, log, &kept.contract, Some(step)).await?;
        self.commit(tx, log).await?;
        Ok(number)
    }

    /// Brings into force what both have signed: makes or widens its table, or, with `major`, begins
    /// a new one.
    ///
    /// # Errors
    /// [`Code::ContractUnsigned`] when one side has not signed; [`Code::ContractInvalid`] when it
    /// breaks consumers and `major` was not said.
    pub async fn apply(
        &self,
        dataset: &DatasetId,
        major: bool,
        log: &Log,
    ) -> Result<(Number, Applied), Fault> {
        let mut client = self.warehouse.client().await?;
        let lists = category::in_force(&**client).await?;
        let tx = begin(&mut client).await?;
        let kept = signable(&tx, dataset, None).await?;
        let number = kept.contract.number();
        self.is_signed(&kept)?;
        if kept.is_in_force {
            return Ok((number, Applied::Unchanged));
        }
        names_known_lists(&kept.contract, &lists)?;
        let before = in_force(&tx, dataset).await?;
        let step = may_follow(before.as_ref(), &kept.contract)?.step;
        let new = Shape::of(&kept.contract);
        let applied = match (before, step) {
            (None, _) | (_, None) => {
                run(&tx, new.create()).await?;
                Applied::Created
            }
            (Some(_), Some(Step::Breaking)) if !major => {
                let why = "it breaks consumers: the table would be set aside and every agent read \
                           anew. `contract apply --major` does it";
                return Err(Fault::because(Code::ContractInvalid, cannot(&kept.contract), why));
            }
            (Some(before), Some(Step::Breaking)) => {
                rebuild(&tx, &Shape::of(&before.contract), &new, before.contract.version).await?;
                Applied::Rebuilt { set_aside: before.contract.version }
            }
            (Some(before), Some(Step::Compatible | Step::Same)) => {
                let widened = Shape::of(&before.contract).widen(&new);
                let widened = widened.map_err(|why| {
                    Fault::because(Code::ContractInvalid, cannot(&kept.contract), why)
                })?;
                run(&tx, widened).await?;
                Applied::Widened
            }
        };
        put_in_force(&tx, &kept).await?;
        write_down(&tx, log, &kept.contract, None).await?;
        self.commit(tx, log).await?;
        self.refresh().await?;
        Ok((number, applied))
    }

    /// What is open for signing and what is in force, as agents are shown it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn proposal(&self, dataset: &DatasetId) -> Result<Proposal, Fault> {
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(|error| not_kept(&error))?;
        let before = in_force(&tx, dataset).await?;
        // A version in force from before signatures were asked for is signed like a proposed one.
        let unsigned = |kept: &Kept| kept.owner.is_none() || kept.hub.is_none();
        let open = match open(&tx, dataset).await? {
            Some(open) => Some(open),
            None if before.as_ref().is_some_and(unsigned) => in_force(&tx, dataset).await?,
            None => None,
        };
        let consents = open.iter().flat_map(|kept| kept.owner.iter().chain(&kept.hub)).cloned();
        Ok(Proposal {
            consents: consents.collect(),
            in_force: before.map(|kept| kept.contract),
            proposed: open.map(|kept| kept.contract),
        })
    }

    /// Every version there ever was, by dataset and number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all(&self) -> Result<Vec<Listed>, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select body, owner_consent, hub_consent, in_force, fingerprint, \
                   applied_at is not null, withdrawn_at is not null from phusa.contracts \
                   order by dataset, version, minor, applied_at nulls last";
        let rows = client.query(sql, &[]).await.map_err(|error| not_kept(&error))?;
        rows.iter().map(listed).collect()
    }

    /// One version: of this number, or the one open for signing.
    ///
    /// # Errors
    /// [`Code::DatasetUnknown`] when there is none.
    pub async fn version(
        &self,
        dataset: &DatasetId,
        number: Option<Number>,
    ) -> Result<Contract, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select body from phusa.contracts where dataset = $1 and case \
                   when $2::int is null then applied_at is null and withdrawn_at is null \
                   else version = $2 and minor = $3 end \
                   order by in_force desc, withdrawn_at is null desc, applied_at desc limit 1";
        let part = |part: fn(Number) -> u32| number.map(|n| i32::try_from(part(n)).unwrap_or(-1));
        let (major, minor) = (part(|n| n.major), part(|n| n.minor).unwrap_or_default());
        let row = client.query_opt(sql, &[&dataset.to_string(), &major, &minor]).await;
        let unknown = || {
            let which = number.map_or("proposed".to_owned(), |number| number.to_string());
            Fault::new(Code::DatasetUnknown, format!("there is no version {which} of {dataset}"))
        };
        read_body(&row.map_err(|error| not_kept(&error))?.ok_or_else(unknown)?)
    }

    /// Both signatures, under the keys they must be of.
    fn is_signed(&self, kept: &Kept) -> Result<(), Fault> {
        let Some(owner) = &kept.owner else { return Err(unsigned(kept, "its owner has not")) };
        let Some(hub) = &kept.hub else { return Err(unsigned(kept, "the hub has not")) };
        let agreement = Agreement { owner: owner.clone(), hub: hub.clone() };
        agreement.holds(&kept.contract, &self.hub_key).map_err(|bad| {
            let what = format!("{} version {}", kept.contract.dataset, kept.contract.number());
            Fault::because(Code::ContractUnsigned, what, bad)
        })
    }

    async fn commit(&self, tx: Transaction<'_>, log: &Log) -> Result<(), Fault> {
        tx.commit().await.map_err(|error| not_kept(&error))?;
        log.wake();
        Ok(())
    }
}

/// One at a time, so that what is kept cannot change under the decision.
async fn begin(client: &mut deadpool_postgres::Object) -> Result<Transaction<'_>, Fault> {
    let tx = client.transaction().await.map_err(|error| not_kept(&error))?;
    let lock = "lock table phusa.contracts in share row exclusive mode";
    tx.batch_execute(lock).await.map_err(|error| not_kept(&error))?;
    Ok(tx)
}

const COLUMNS: &str = "body, owner_consent, hub_consent, in_force";

fn read_kept(row: &Row) -> Result<Kept, Fault> {
    let contract = read_body(row)?;
    let one = |index: usize| -> Result<Option<SignedConsent>, Fault> {
        let text: Option<String> = row.try_get(index).map_err(|error| not_kept(&error))?;
        let read = text.map(|text| serde_json::from_str(&text)).transpose();
        read.map_err(|error| {
            Fault::because(Code::WarehouseSchema, "cannot read a contract's signature", error)
        })
    };
    let is_in_force = row.try_get(3).map_err(|error| not_kept(&error))?;
    let (owner, hub) = (one(1)?, one(2)?);
    Ok(Kept { fingerprint: contract.fingerprint(), contract, owner, hub, is_in_force })
}

async fn in_force(tx: &Transaction<'_>, dataset: &DatasetId) -> Result<Option<Kept>, Fault> {
    let sql = format!("select {COLUMNS} from phusa.contracts where dataset = $1 and in_force");
    let row =
        tx.query_opt(&sql, &[&dataset.to_string()]).await.map_err(|error| not_kept(&error))?;
    row.as_ref().map(read_kept).transpose()
}

/// The version that is open for signing.
async fn open(tx: &Transaction<'_>, dataset: &DatasetId) -> Result<Option<Kept>, Fault> {
    let sql = format!(
        "select {COLUMNS} from phusa.contracts \
         where dataset = $1 and applied_at is null and withdrawn_at is null"
    );
    let row =
        tx.query_opt(&sql, &[&dataset.to_string()]).await.map_err(|error| not_kept(&error))?;
    row.as_ref().map(read_kept).transpose()
}

/// What may be signed now: the open version, or the one in force; of this fingerprint if one is
/// named.
async fn signable(
    tx: &Transaction<'_>,
    dataset: &DatasetId,
    fingerprint: Option<Digest>,
) -> Result<Kept, Fault> {
    let is_meant = |kept: &Kept| fingerprint.is_none_or(|wanted| kept.fingerprint == wanted);
    if let Some(kept) = open(tx, dataset).await?.filter(is_meant) {
        return Ok(kept);
    }
    let kept = in_force(tx, dataset).await?.filter(is_meant);
    kept.ok_or_else(|| {
        let why = match fingerprint {
            None => "nothing is proposed and nothing is in force".to_owned(),
            Some(fingerprint) => format!("no version {fingerprint} is open for signing"),
        };
        Fault::because(Code::ContractInvalid, format!("contract {dataset}"), why)
    })
}

fn may_follow(before: Option<&Kept>, contract: &Contract) -> Result<Proposed, Fault> {
    let fingerprint = contract.fingerprint();
    let length = canonical_json(contract).len();
    if length > CONTRACT_BYTES_MAX {
        let why = format!("it is {length} bytes long; at most {CONTRACT_BYTES_MAX} are taken");
        return Err(Fault::because(Code::ContractInvalid, cannot(contract), why));
    }
    let Some(before) = before else {
        return Ok(Proposed { fingerprint, step: None, changes: Vec::new() });
    };
    let step = follows(&before.contract, contract).map_err(|why| {
        let was = before.contract.number();
        let what = format!(
            "contract {} version {} cannot replace {was}",
            contract.dataset,
            contract.number()
        );
        Fault::because(Code::ContractInvalid, what, why)
    })?;
    Ok(Proposed { fingerprint, step: Some(step), changes: changes(&before.contract, contract) })
}

/// A number that was in force stands for one text for ever.
async fn number_is_free(tx: &Transaction<'_>, contract: &Contract) -> Result<(), Fault> {
    let sql = "select exists (select from phusa.contracts where dataset = $1 and version = $2 \
               and minor = $3 and applied_at is not null)";
    let (major, minor) = number_of(contract);
    let row = tx.query_one(sql, &[&contract.dataset.to_string(), &major, &minor]).await;
    if row.map_err(|error| not_kept(&error))?.get(0) {
        let why = format!("version {} was in force with other content", contract.number());
        return Err(Fault::because(Code::ContractInvalid, cannot(contract), why));
    }
    Ok(())
}

async fn keep(tx: &Transaction<'_>, contract: &Contract) -> Result<(), Fault> {
    let dataset = contract.dataset.to_string();
    let (major, minor) = number_of(contract);
    let body = String::from_utf8(canonical_json(contract)).unwrap_or_default();
    let sql = "insert into phusa.contracts \
               (dataset, version, minor, fingerprint, body, proposed_at, in_force) \
               values ($1, $2, $3, $4, $5, now(), false) \
               on conflict (dataset, fingerprint) do update set proposed_at = now(), \
               withdrawn_at = null, owner_consent = null, hub_consent = null";
    let fingerprint = contract.fingerprint().to_string();
    tx.execute(sql, &[&dataset, &major, &minor, &fingerprint, &body])
        .await
        .map_err(|error| not_kept(&error))?;
    Ok(())
}

async fn set_consent(
    tx: &Transaction<'_>,
    kept: &Kept,
    (column, signed): (&'static str, Option<&SignedConsent>),
) -> Result<(), Fault> {
    let sql =
        format!("update phusa.contracts set {column} = $3 where dataset = $1 and fingerprint = $2");
    let text = signed.and_then(|signed| String::from_utf8(canonical_json(signed)).ok());
    let (dataset, fingerprint) = (kept.contract.dataset.to_string(), kept.fingerprint.to_string());
    tx.execute(&sql, &[&dataset, &fingerprint, &text]).await.map_err(|error| not_kept(&error))?;
    Ok(())
}

async fn put_in_force(tx: &Transaction<'_>, kept: &Kept) -> Result<(), Fault> {
    let dataset = kept.contract.dataset.to_string();
    let sql = "update phusa.contracts set in_force = false where dataset = $1 and in_force";
    tx.execute(sql, &[&dataset]).await.map_err(|error| not_kept(&error))?;
    let sql = "update phusa.contracts set in_force = true, applied_at = now() \
               where dataset = $1 and fingerprint = $2";
    let fingerprint = kept.fingerprint.to_string();
    tx.execute(sql, &[&dataset, &fingerprint]).await.map_err(|error| not_kept(&error))?;
    Ok(())
}

async fn run(tx: &Transaction<'_>, statements: Vec<String>) -> Result<(), Fault> {
    for statement in statements {
        tx.batch_execute(&statement).await.map_err(|error| not_kept(&error))?;
    }
    Ok(())
}

/// Sets the old tables aside under their major version, makes empty ones, and moves every stream to
/// a later epoch, so that a batch that is on its way finds itself out of turn and agents read anew.
async fn rebuild(tx: &Transaction<'_>, old: &Shape, new: &Shape, major: u32) -> Result<(), Fault> {
    run(tx, old.set_aside(major)).await?;
    run(tx, new.create()).await?;
    // Rows that were destroyed do not come back in the new table either.
    let marks = gone::generations(&**tx, new.dataset()).await.map_err(|error| not_kept(&error))?;
    if !marks.is_empty() {
        run(tx, new.make_gone(&marks)).await?;
    }
    let dataset = new.dataset().to_string();
    // What was staged of an open source transaction was never visible; the new epoch reads it.
    let sql = "delete from phusa.staged where stream_key in \
               (select stream_key from phusa.streams where dataset = $1)";
    tx.execute(sql, &[&dataset]).await.map_err(|error| not_kept(&error))?;
    let sql = "update phusa.streams set epoch = epoch + 1, seq = 0, header_digest = $2, \
               initial_load = true, tx_open = false, consistent_at = null, mapping = null \
               where dataset = $1";
    tx.execute(sql, &[&dataset, &Digest::ZERO.as_bytes().as_slice()])
        .await
        .map_err(|error| not_kept(&error))?;
    Ok(())
}

async fn write_down(
    tx: &Transaction<'_>,
    log: &Log,
    contract: &Contract,
    step: Option<ContractStep>,
) -> Result<(), Fault> {
    let now = Timestamp::now();
    let agent = match &step {
        Some(ContractStep::Signed(signed)) => signed.consent.agent.clone(),
        Some(ContractStep::Proposed | ContractStep::Withdrawn) | None => None,
    };
    let entry = Entry {
        v: 1,
        kind: Kind::Contract,
        transfer: log.next_transfer(tx).await?.unsigned_abs(),
        agent,
        dataset: Some(contract.dataset.clone()),
        header: None,
        agent_signature: None,
        refused: None,
        compared: None,
        contract: Some(contract.fingerprint()),
        bytes: 0,
        received_at: now,
        committed_at: now,
        hub_version: crate::VERSION.to_owned(),
        restored: None,
        identity: None,
        act: None,
        deed: None,
        step,
    };
    log.insert(tx, &Record { entry, push: None }).await
}

fn listed(row: &Row) -> Result<Listed, Fault> {
    let contract = read_body(row)?;
    let flag = |index: usize| row.try_get::<_, bool>(index).map_err(|error| not_kept(&error));
    let owner: Option<String> = row.try_get(1).map_err(|error| not_kept(&error))?;
    let owner = owner.and_then(|text| serde_json::from_str::<SignedConsent>(&text).ok());
    let hub: Option<String> = row.try_get(2).map_err(|error| not_kept(&error))?;
    let state = match (flag(3)?, flag(5)?, flag(6)?) {
        (true, ..) => "in_force",
        (false, true, _) => "past",
        (false, false, true) => "withdrawn",
        (false, false, false) => "proposed",
    };
    Ok(Listed {
        dataset: contract.dataset.to_string(),
        version: contract.number().to_string(),
        state,
        fingerprint: row.try_get(4).map_err(|error| not_kept(&error))?,
        owner_signed_by: owner.and_then(|signed| signed.consent.agent).map(|by| by.to_string()),
        hub_signed: hub.is_some(),
    })
}

/// A list that the hub does not hold would check nothing, and nobody would know.
fn names_known_lists(contract: &Contract, lists: &Lists) -> Result<(), Fault> {
    let named = contract.fields.iter().filter_map(|field| field.code_list.as_ref());
    match named.into_iter().find(|list| !lists.contains_key(*list)) {
        None => Ok(()),
        Some(list) => {
            let what = format!("contract {} names the list {list:?}", contract.dataset);
            Err(Fault::because(Code::ListInvalid, what, "the hub does not hold it".to_owned()))
        }
    }
}

fn number_of(contract: &Contract) -> (i32, i32) {
    let part = |part: u32| i32::try_from(part).unwrap_or(i32::MAX);
    (part(contract.version), part(contract.minor))
}

fn cannot(contract: &Contract) -> String {
    format!("contract {} version {}", contract.dataset, contract.number())
}

fn unsigned(kept: &Kept, who: &str) -> Fault {
    let what = format!("{} has to be signed, and {who} signed", cannot(&kept.contract));
    Fault::new(Code::ContractUnsigned, what)
}

fn not_kept(error: &tokio_postgres::Error) -> Fault {
    statement_fault("cannot take a contract's step", error)
}
