//! Datasets, contracts, owners: what is in force, and what of it was signed by both sides.
//!
//! Contracts in force are kept in memory and compared with the database at every greeting and at
//! least once a second, so that a contract applied by another process takes effect everywhere.
//! What leads there, from a proposal to the table that is made, is [`life`].

pub mod life;
pub mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phusa_protocol::contract::Contract;
use phusa_protocol::contract::consent::Agreement;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::keys::PublicKey;
use tokio::sync::watch;
use tokio_postgres::Row;

use crate::category::{self, Lists};
use crate::error::{Refused, statement_fault};
use crate::warehouse::Warehouse;
use crate::warehouse::tables::Shape;

use self::rule::BodyRule;

/// One contract that batches may come under, with what follows from it.
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
    /// Owner's and hub's signatures; without them no batch is taken.
    pub agreement: Option<Agreement>,
    /// The digests of the category lists in force that it names.
    pub lists: BTreeMap<String, Digest>,
}

/// The versions of one dataset's contract.
#[derive(Debug)]
struct Versions {
    in_force: Arc<Agreed>,
    /// Earlier ones whose batches still fit: an agency need not change its file on the very second.
    still_fit: BTreeMap<Digest, Arc<Agreed>>,
    /// All that were ever in force.
    ever: BTreeSet<Digest>,
}

/// Every contract in force.
#[derive(Debug, Default)]
pub struct Contracts {
    datasets: BTreeMap<DatasetId, Versions>,
    /// Contracts and category lists it was made of, as the database has them.
    made_of: BTreeMap<String, String>,
    /// Every contract that was ever in force, by its name in `made_of`.
    read: BTreeMap<String, Arc<Agreed>>,
}

/// The contracts in force, kept fresh; a clone shares what it knows.
#[derive(Debug, Clone)]
pub struct Catalog {
    warehouse: Warehouse,
    hub_key: PublicKey,
    current: watch::Sender<Arc<Contracts>>,
}

impl Agreed {
    fn of(contract: Contract, lists: &Lists) -> Self {
        let (fingerprint, shape) = (contract.fingerprint(), Shape::of(&contract));
        let body_rule = BodyRule::of(&contract, lists);
        let named = contract.fields.iter().filter_map(|field| field.code_list.as_ref());
        let digest = |name: &String| Some((name.clone(), lists.get(name)?.digest()));
        let lists = named.filter_map(digest).collect();
        Self { fingerprint, shape, body_rule, agreement: None, lists, contract }
    }

    /// With the signatures of its row, as far as they hold under the hub's key.
    fn signed(mut self, agreement: Option<Agreement>, hub: &PublicKey) -> Self {
        self.agreement = agreement.filter(|found| found.holds(&self.contract, hub).is_ok());
        self
    }
}

impl Versions {
    /// `rows` are those that were ever in force, the newest last.
    fn of(rows: Vec<(bool, Arc<Agreed>)>) -> Option<Self> {
        let ever = rows.iter().map(|(_, agreed)| agreed.fingerprint).collect();
        let (mut in_force, mut earlier) = (None, Vec::new());
        for (is_in_force, agreed) in rows {
            if is_in_force {
                in_force = Some(agreed);
            } else {
                earlier.push(agreed);
            }
        }
        let in_force = in_force?;
        let fits = |old: &Arc<Agreed>| {
            let (was, is) = (&old.contract, &in_force.contract);
            let same_kind = |name: &str, kind| {
                is.fields.iter().any(|field| field.name == name && field.kind == kind)
            };
            old.agreement.is_some()
                && was.version == is.version
                && was.owner == is.owner
                && was.fields.iter().all(|field| same_kind(&field.name, field.kind))
        };
        let still_fit = earlier.into_iter().filter(fits);
        let still_fit = still_fit.map(|old| (old.fingerprint, old)).collect();
        Some(Self { in_force, still_fit, ever })
    }
}

impl Contracts {
    /// The contract of a dataset, if an agent of `agency` that holds `fingerprint` may send it.
    ///
    /// # Errors
    /// [`Refused`] as unknown, different, not signed by both, or another agency's.
    pub fn agreed(
        &self,
        dataset: &DatasetId,
        fingerprint: Digest,
        agency: &AgencyId,
    ) -> Result<Arc<Agreed>, Refused> {
        let Some(versions) = self.datasets.get(dataset) else {
            let what = format!("no contract for {dataset} is in force");
            return Err(Refused::new(Code::DatasetUnknown, what));
        };
        let in_force = &versions.in_force;
        let found = match versions.still_fit.get(&fingerprint) {
            Some(earlier) => earlier,
            None if in_force.fingerprint == fingerprint => in_force,
            None => {
                let what = format!(
                    "contract {fingerprint} for {dataset}; in force is {}",
                    in_force.fingerprint
                );
                // One that was in force once is an old file; any other was never agreed.
                return Err(match versions.ever.contains(&fingerprint) {
                    true => Refused::new(Code::ContractMismatch, what),
                    false => Refused::breach(Code::ContractMismatch, what, "fingerprint"),
                });
            }
        };
        if found.contract.owner != *agency {
            let what = format!("{dataset} is owned by {}, not {agency}", found.contract.owner);
            return Err(Refused::breach(Code::NotOwner, what, "owner"));
        }
        if found.agreement.is_none() {
            let number = found.contract.number();
            let what = format!("{dataset} version {number} is not signed by its owner and the hub");
            return Err(Refused::new(Code::ContractUnsigned, what));
        }
        Ok(Arc::clone(found))
    }

    /// The contract of a dataset.
    #[must_use]
    pub fn get(&self, dataset: &DatasetId) -> Option<&Arc<Agreed>> {
        self.datasets.get(dataset).map(|versions| &versions.in_force)
    }

    /// Every dataset in force, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Agreed>> {
        self.datasets.values().map(|versions| &versions.in_force)
    }
}

impl Catalog {
    /// Reads what is in force; `hub_key` is the one whose signatures count.
    ///
    /// # Errors
    /// When the database does not answer or holds a contract this version cannot read.
    pub async fn open(warehouse: Warehouse, hub_key: PublicKey) -> Result<Self, Fault> {
        let catalog = Self { warehouse, hub_key, current: watch::Sender::new(Arc::default()) };
        catalog.refresh().await?;
        Ok(catalog)
    }

    /// What is in force, as last seen.
    #[must_use]
    pub fn current(&self) -> Arc<Contracts> {
        Arc::clone(&self.current.borrow())
    }

    /// Compares with the database and takes over what changed. What did not change is not read again:
    /// one contract more costs the same in a province of a thousand.
    ///
    /// # Errors
    /// As [`Catalog::open`]; what was known before stays.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let client = self.warehouse.client().await?;
        // A name that begins with an underscore is a list's: no dataset's does.
        let sql = "select dataset || ' ' || fingerprint, in_force::text || ' ' || \
                   (owner_consent is not null and hub_consent is not null)::text, \
                   in_force, applied_at from phusa.contracts where applied_at is not null \
                   union all select '_' || list, digest, null, null from danh_muc._list \
                   where in_force order by 4";
        let rows = client.query(sql, &[]).await.map_err(|error| not_read(&error))?;
        let made_of = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let known = self.current();
        if made_of == known.made_of {
            return Ok(());
        }
        let read = self.read(&client, &made_of, &known).await?;
        let mut all = BTreeMap::<DatasetId, Vec<_>>::new();
        for row in &rows {
            let Some(agreed) = read.get(row.get::<_, &str>(0)) else { continue };
            let dataset = agreed.contract.dataset.clone();
            all.entry(dataset).or_default().push((row.get(2), Arc::clone(agreed)));
        }
        let versions = all.into_iter().filter_map(|(name, rows)| Some((name, Versions::of(rows)?)));
        let datasets = versions.collect();
        self.current.send_replace(Arc::new(Contracts { datasets, made_of, read }));
        Ok(())
    }

    /// The contracts named in `made_of`: those that are known as they are there, the others from the
    /// database.
    async fn read(
        &self,
        client: &deadpool_postgres::Object,
        made_of: &BTreeMap<String, String>,
        known: &Contracts,
    ) -> Result<BTreeMap<String, Arc<Agreed>>, Fault> {
        fn lists(all: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
            all.iter().filter(|(name, _)| name.starts_with('_'))
        }
        let mut read = BTreeMap::new();
        // What bodies must be like depends on the lists, so that other lists make all of it anew.
        if lists(made_of).eq(lists(&known.made_of)) {
            read.clone_from(&known.read);
            read.retain(|name, _| {
                made_of.get(name).is_some_and(|is| known.made_of.get(name) == Some(is))
            });
        }
        let names = made_of.keys().filter(|name| !name.starts_with('_'));
        let new: Vec<&String> = names.filter(|name| !read.contains_key(*name)).collect();
        let lists = category::in_force(&***client).await?;
        let sql = "select body, owner_consent, hub_consent, dataset || ' ' || fingerprint \
                   from phusa.contracts where dataset || ' ' || fingerprint = any($1)";
        for row in client.query(sql, &[&new]).await.map_err(|error| not_read(&error))? {
            let agreed = Agreed::of(read_body(&row)?, &lists);
            let agreed = agreed.signed(read_agreement(&row)?, &self.hub_key);
            read.insert(row.get(3), Arc::new(agreed));
        }
        Ok(read)
    }
}

/// The contract in column 0.
fn read_body(row: &Row) -> Result<Contract, Fault> {
    let unreadable = || "cannot read a contract that is kept";
    let body: String = row
        .try_get(0)
        .map_err(|error| Fault::because(Code::WarehouseSchema, unreadable(), error))?;
    serde_json::from_str(&body)
        .map_err(|error| Fault::because(Code::WarehouseSchema, unreadable(), error))
}

/// The signatures in columns 1 and 2, where both are there.
fn read_agreement(row: &Row) -> Result<Option<Agreement>, Fault> {
    let read = |index: usize| {
        let text: Option<String> = row.try_get(index).map_err(|error| not_read(&error))?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| {
            Fault::because(Code::WarehouseSchema, "cannot read a contract's signature", error)
        })
    };
    let (owner, hub) = (read(1)?, read(2)?);
    Ok(owner.zip(hub).map(|(owner, hub)| Agreement { owner, hub }))
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    statement_fault("cannot read the contracts", error)
}
