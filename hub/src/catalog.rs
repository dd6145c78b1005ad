//! Datasets, contracts, owners: what is in force, and how a new contract comes into force.
//!
//! Contracts in force are kept in memory and compared with the database at every greeting and at
//! least once a second, so that a contract applied by another process takes effect everywhere.

pub mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{Entry, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::time::Timestamp;
use tokio::sync::watch;

use crate::category::{self, Lists};
use crate::error::{Refused, statement_fault};
use crate::transfers::{Log, Record};
use crate::warehouse::Warehouse;
use crate::warehouse::tables::Shape;

use self::rule::BodyRule;

/// One contract in force, with what follows from it.
#[derive(Debug)]
pub struct Agreed {
    /// The agreement itself.
    pub contract: Contract,
    /// Its fingerprint.
    pub fingerprint: Digest,
    /// Its table.
    pub shape: Shape,
    /// What bodies must be like.
    pub body_rule: BodyRule,
}

/// Every contract in force.
#[derive(Debug, Default)]
pub struct Contracts {
    agreed: BTreeMap<DatasetId, Arc<Agreed>>,
    /// Fingerprints of the contracts and digests of the category lists it was made of.
    made_of: BTreeMap<String, String>,
}

/// The contracts in force, kept fresh; a clone shares what it knows.
#[derive(Debug, Clone)]
pub struct Catalog {
    warehouse: Warehouse,
    current: watch::Sender<Arc<Contracts>>,
}

/// What applying a contract came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is in force for a dataset that is new.
    Created,
    /// It replaces an older one that it only widens.
    Widened,
    /// Exactly this one was in force already.
    Unchanged,
}

impl Agreed {
    fn of(contract: Contract, lists: &Lists) -> Self {
        let (fingerprint, shape) = (contract.fingerprint(), Shape::of(&contract));
        Self { fingerprint, shape, body_rule: BodyRule::of(&contract, lists), contract }
    }
}

impl Contracts {
    /// The contract of a dataset, if an agent of `agency` that holds `fingerprint` may send it.
    ///
    /// # Errors
    /// [`Refused`] as unknown, different, or another agency's.
    pub fn agreed(
        &self,
        dataset: &DatasetId,
        fingerprint: Digest,
        agency: &AgencyId,
    ) -> Result<Arc<Agreed>, Refused> {
        let Some(agreed) = self.agreed.get(dataset) else {
            let what = format!("no contract for {dataset} is in force");
            return Err(Refused::new(Code::DatasetUnknown, what));
        };
        if agreed.fingerprint != fingerprint {
            let what =
                format!("contract {fingerprint} for {dataset}; in force is {}", agreed.fingerprint);
            return Err(Refused::new(Code::ContractMismatch, what));
        }
        if agreed.contract.owner != *agency {
            let what = format!("{dataset} is owned by {}, not {agency}", agreed.contract.owner);
            return Err(Refused::new(Code::NotOwner, what));
        }
        Ok(Arc::clone(agreed))
    }

    /// The contract of a dataset.
    #[must_use]
    pub fn get(&self, dataset: &DatasetId) -> Option<&Arc<Agreed>> {
        self.agreed.get(dataset)
    }

    /// Every dataset in force, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Agreed>> {
        self.agreed.values()
    }
}

impl Catalog {
    /// Reads what is in force.
    ///
    /// # Errors
    /// When the database does not answer or holds a contract this version cannot read.
    pub async fn open(warehouse: Warehouse) -> Result<Self, Fault> {
        let catalog = Self { warehouse, current: watch::Sender::new(Arc::default()) };
        catalog.refresh().await?;
        Ok(catalog)
    }

    /// What is in force, as last seen.
    #[must_use]
    pub fn current(&self) -> Arc<Contracts> {
        Arc::clone(&self.current.borrow())
    }

    /// Compares with the database and takes over what changed.
    ///
    /// # Errors
    /// As [`Catalog::open`]; what was known before stays.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let client = self.warehouse.client().await?;
        // A name that begins with an underscore is a list's: no dataset's does.
        let sql = "select dataset, fingerprint from phusa.contracts where in_force \
                   union all select '_' || list, digest from danh_muc._list where in_force";
        let rows = client.query(sql, &[]).await.map_err(not_read)?;
        let made_of: BTreeMap<_, _> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if made_of == self.current().made_of {
            return Ok(());
        }
        let lists = category::in_force(&**client).await?;
        let sql = "select body from phusa.contracts where in_force";
        let mut agreed = BTreeMap::new();
        for row in client.query(sql, &[]).await.map_err(not_read)? {
            let one = Agreed::of(read_body(&row)?, &lists);
            agreed.insert(one.contract.dataset.clone(), Arc::new(one));
        }
        self.current.send_replace(Arc::new(Contracts { agreed, made_of }));
        Ok(())
    }

    /// Brings a contract into force: creates its table, or widens it, in one transaction with the
    /// log entry that says so.
    ///
    /// # Errors
    /// [`Code::ContractInvalid`] with the reason when it is not compatible with the one in force.
    pub async fn apply(&self, contract: Contract, log: &Log) -> Result<Applied, Fault> {
        let mut client = self.warehouse.client().await?;
        let lists = category::in_force(&**client).await?;
        let new = Agreed::of(contract, &lists);
        names_known_lists(&new.contract, &lists)?;
        let tx = client.transaction().await.map_err(not_applied)?;
        // One at a time, so that what is in force cannot change under the comparison.
        let lock = "lock table phusa.contracts in share row exclusive mode";
        tx.batch_execute(lock).await.map_err(not_applied)?;
        let dataset = new.contract.dataset.to_string();
        let sql = "select body from phusa.contracts where dataset = $1 and in_force";
        let old = tx.query_opt(sql, &[&dataset]).await.map_err(not_applied)?;
        let old = old.as_ref().map(read_body).transpose()?;
        let old = old.map(|contract| Agreed::of(contract, &lists));
        let (applied, statements) = match &old {
            None => (Applied::Created, new.shape.create()),
            Some(old) if old.fingerprint == new.fingerprint => return Ok(Applied::Unchanged),
            Some(old) => (Applied::Widened, widen(old, &new)?),
        };
        for statement in statements {
            tx.batch_execute(&statement).await.map_err(not_applied)?;
        }
        put_in_force(&tx, &new).await.map_err(not_applied)?;
        let transfer = log.next_transfer(&tx).await?;
        log.insert(&tx, &record(&new, transfer)).await?;
        tx.commit().await.map_err(not_applied)?;
        log.wake();
        self.refresh().await?;
        Ok(applied)
    }
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

/// Terms of a field may be loosened, never tightened: rows that are there were sent under the old.
fn keeps_terms(was: &Contract, is: &Contract) -> Result<(), String> {
    for old in &was.fields {
        let Some(new) = is.fields.iter().find(|new| new.name == old.name) else { continue };
        let name = &old.name;
        if new.max_length.unwrap_or(u32::MAX) < old.max_length.unwrap_or(u32::MAX) {
            return Err(format!("{name} becomes shorter"));
        }
        if new.code_list != old.code_list {
            return Err(format!("{name} takes its codes from another list"));
        }
    }
    Ok(())
}

async fn put_in_force(
    tx: &deadpool_postgres::Transaction<'_>,
    new: &Agreed,
) -> Result<(), tokio_postgres::Error> {
    let dataset = new.contract.dataset.to_string();
    let sql = "update phusa.contracts set in_force = false where dataset = $1 and in_force";
    tx.execute(sql, &[&dataset]).await?;
    let version = i32::try_from(new.contract.version).unwrap_or(i32::MAX);
    let (fingerprint, body) = (new.fingerprint.to_string(), body_of(&new.contract));
    let sql = "insert into phusa.contracts \
               (dataset, version, fingerprint, body, applied_at, in_force) \
               values ($1, $2, $3, $4, now(), true) \
               on conflict (dataset, fingerprint) do update set in_force = true, applied_at = now()";
    tx.execute(sql, &[&dataset, &version, &fingerprint, &body]).await?;
    Ok(())
}

/// The statements that turn the old table into the new one, if that breaks nobody.
fn widen(old: &Agreed, new: &Agreed) -> Result<Vec<String>, Fault> {
    let (was, is) = (&old.contract, &new.contract);
    let refuse = |why: String| {
        let what = format!(
            "contract {} version {} cannot replace {}",
            is.dataset, is.version, was.version
        );
        Err(Fault::because(Code::ContractInvalid, what, why))
    };
    if is.version < was.version {
        return refuse("a later version is in force".to_owned());
    }
    if is.owner != was.owner && is.version == was.version {
        return refuse("another owner needs the next major version (HU-21)".to_owned());
    }
    match keeps_terms(was, is).and_then(|()| old.shape.widen(&new.shape)) {
        Ok(statements) => Ok(statements),
        Err(why) if is.version == was.version => refuse(format!(
            "{why}; a change that breaks consumers needs a new major version (NA-01)"
        )),
        Err(why) => refuse(format!(
            "{why}; the table is in use, so a version that breaks consumers needs a dataset name of \
             its own (NA-01)"
        )),
    }
}

fn record(new: &Agreed, transfer: i64) -> Record {
    let now = Timestamp::now();
    let entry = Entry {
        v: 1,
        kind: Kind::Contract,
        transfer: transfer.unsigned_abs(),
        agent: None,
        dataset: Some(new.contract.dataset.clone()),
        header: None,
        agent_signature: None,
        refused: None,
        contract: Some(new.fingerprint),
        bytes: 0,
        received_at: now,
        committed_at: now,
        hub_version: crate::VERSION.to_owned(),
        restored: None,
    };
    Record { entry, push: None }
}

fn body_of(contract: &Contract) -> String {
    String::from_utf8(phusa_protocol::batch::canonical_json(contract)).unwrap_or_default()
}

fn read_body(row: &tokio_postgres::Row) -> Result<Contract, Fault> {
    let unreadable = || "cannot read a contract in force";
    let body: String = row
        .try_get(0)
        .map_err(|error| Fault::because(Code::WarehouseSchema, unreadable(), error))?;
    serde_json::from_str(&body)
        .map_err(|error| Fault::because(Code::WarehouseSchema, unreadable(), error))
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_read(error: tokio_postgres::Error) -> Fault {
    statement_fault("cannot read the contracts in force", &error)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_applied(error: tokio_postgres::Error) -> Fault {
    statement_fault("cannot apply the contract", &error)
}
