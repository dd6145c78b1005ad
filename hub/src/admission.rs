//! Who may speak: one-time codes, certificates, and what was decided about an agent.
//!
//! [`store`] keeps identities, each row signed by the hub; [`invite`] makes one-time codes and takes
//! a second person's word; [`enrol`] and [`renew`] issue certificates; [`standing`] suspends, resumes
//! and revokes. Each step is an entry of the transfer log, committed with it. Here is what all of
//! them share, and the register that every hub process keeps of it.

pub mod store;
pub mod invite;
pub mod enrol;
pub mod renew;
pub mod standing;

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Transaction;
use phusa_protocol::entry::{Entry, IdentityAct, IdentityStep, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::Issued;
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use tokio::sync::{Mutex as Turn, watch};

use crate::config::register::Register;
use crate::error::{Refused, database_fault};
use crate::identity::issue::Issuing;
use crate::incidents::{self, Happening};
use crate::transfers::keys::{self, Moment};
use crate::transfers::{Log, Record};
use crate::warehouse::Warehouse;

/// Why a request for a certificate ends without one.
#[derive(Debug)]
pub enum Ended {
    /// It is refused; the caller answers so and writes it down.
    Refused(Option<AgentId>, Refused),
    /// The hub cannot answer now.
    Failed(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What issuing needs.
#[derive(Debug)]
pub struct Admission {
    /// Where identities are.
    pub warehouse: Warehouse,
    /// Where each step is written down.
    pub log: Log,
    /// What signs; `None` where the hub has no intermediate.
    pub issuing: Option<Arc<Issuing>>,
    /// Every root that is trusted, PEM.
    pub ca: String,
    /// Learns of every change at once.
    pub registrar: Arc<Registrar>,
}

impl Admission {
    fn issuing(&self) -> Result<&Issuing, Refused> {
        self.issuing.as_deref().ok_or_else(|| {
            let what = "this hub issues no certificates: it has no [identity] in hub.toml";
            Refused::new(Code::EnrolRefused, what)
        })
    }

    fn answer(&self, agent: &AgentId, found: store::Certificate) -> Issued {
        Issued {
            agent: agent.clone(),
            generation: found.generation,
            not_after: found.not_after,
            certificate: found.chain,
            ca: self.ca.clone(),
            hub_key: self.log.public_key(),
        }
    }
}

/// What the database said when it was looked at last.
#[derive(Debug)]
struct Seen {
    /// Rows as they stand, by which a change is known.
    rows: Vec<store::Identity>,
    /// The same held against the log.
    checked: Vec<store::Identity>,
}

/// Keeps the register in force: the files, and over them what the database says.
#[derive(Debug)]
pub struct Registrar {
    warehouse: Warehouse,
    hub: SigningKey,
    files: Mutex<Register>,
    seen: Turn<Option<Seen>>,
    show: watch::Sender<Arc<Register>>,
}

impl Registrar {
    /// Reads what is in force now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(
        warehouse: Warehouse,
        hub: SigningKey,
        files: Register,
    ) -> Result<Self, Fault> {
        let show = watch::Sender::new(Arc::new(files.clone()));
        let (files, seen) = (Mutex::new(files), Turn::new(None));
        let registrar = Self { warehouse, hub, files, seen, show };
        registrar.refresh().await?;
        Ok(registrar)
    }

    /// The register, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Register>> {
        self.show.subscribe()
    }

    /// Takes over what the database says, if that has changed; keys are written down before.
    ///
    /// # Errors
    /// When the database does not answer; what was known stays in force.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let mut seen = self.seen.lock().await;
        let client = self.warehouse.client().await?;
        let rows = store::rows(&**client, &self.hub.public()).await?;
        if seen.as_ref().is_some_and(|seen| seen.rows == rows) {
            return Ok(());
        }
        let checked = store::all(&**client, &self.hub.public()).await?;
        let both = self.both(&checked);
        keys::remember(&self.warehouse, &both, &self.hub, Moment::Before).await?;
        self.show.send_replace(Arc::new(both));
        *seen = Some(Seen { rows, checked });
        Ok(())
    }

    /// What would be in force with these files.
    pub async fn over(&self, files: &Register) -> Register {
        let seen = self.seen.lock().await;
        let checked = seen.iter().flat_map(|seen| &seen.checked);
        files.with(checked.map(store::Identity::overlay).collect())
    }

    /// Takes over changed files at once, whether the database answers or not.
    pub async fn take_files(&self, files: Register) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        let seen = self.seen.lock().await;
        let both = self.both(seen.as_ref().map_or(&[], |seen| &seen.checked));
        self.show.send_replace(Arc::new(both));
    }

    fn both(&self, found: &[store::Identity]) -> Register {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.with(found.iter().map(store::Identity::overlay).collect())
    }
}

/// The register in force, for a command that runs beside the hub.
///
/// # Errors
/// When the database does not answer.
pub async fn register(
    warehouse: &Warehouse,
    files: &Register,
    hub: &SigningKey,
) -> Result<Register, Fault> {
    let found = store::all(&**warehouse.client().await?, &hub.public()).await?;
    Ok(files.with(found.iter().map(store::Identity::overlay).collect()))
}

/// Writes a step down in the transaction that takes it; returns its transfer.
///
/// # Errors
/// When the database refuses.
pub async fn write_down(
    tx: &Transaction<'_>,
    log: &Log,
    agent: &AgentId,
    step: IdentityStep,
) -> Result<u64, Fault> {
    let transfer = log.next_transfer(tx).await?.unsigned_abs();
    let entry = Entry {
        agent: Some(agent.clone()),
        identity: Some(Box::new(step)),
        ..Entry::of_hub(Kind::Identity, transfer, Timestamp::now(), crate::VERSION)
    };
    log.insert(tx, &Record { entry, push: None }).await?;
    Ok(transfer)
}

/// A step with nothing but what happened.
#[must_use]
pub fn step(act: IdentityAct) -> IdentityStep {
    IdentityStep {
        act,
        by: None,
        because: None,
        generation: None,
        certificate: None,
        signing_key: None,
        row: None,
    }
}

/// Notes an incident about an identity.
async fn incident(
    tx: &Transaction<'_>,
    agent: &AgentId,
    (cause, what): (&str, &str),
    transfer: u64,
) -> Result<(), Fault> {
    let happening = Happening {
        kind: incidents::Kind::Identity,
        cause,
        agent: Some(agent),
        dataset: None,
        what,
        transfer: Some(transfer),
        at: Timestamp::now(),
    };
    incidents::note(&**tx, &happening).await.map(drop)
}

fn failed(error: impl Borrow<tokio_postgres::Error>) -> Fault {
    database_fault("cannot read or write who may speak", error.borrow())
}
