//! The running hub makes its backups by itself, and raises the alarm when it cannot.

use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Terms;
use super::drill::drill;
use super::files::Sources;
use super::make::{Hub, make};
use super::place::Place;
use crate::error::database_fault;
use crate::incidents::{self, Happening, Kind};
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::transfers::{Log, from_system_time};
use crate::views::metrics::Metrics;
use crate::warehouse::Warehouse;

/// How often is looked whether a backup is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long after a backup that failed the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// How long the log's second copy may be behind before that is an incident.
const COPY_BEHIND_MAX: Duration = Duration::from_secs(300);

/// What the schedule works with.
#[derive(Debug)]
pub struct Schedule {
    /// When, where, how many.
    pub terms: Terms,
    /// The warehouse.
    pub warehouse: Warehouse,
    /// Where entries go.
    pub log: Log,
    /// The published log.
    pub folder: Folder,
    /// The hub's own files.
    pub sources: Sources,
    /// What is shown of it.
    pub metrics: Metrics,
}

/// What was found, and since when.
#[derive(Debug, Default)]
struct Alarms {
    overdue: bool,
    same_volume: bool,
    copy_behind: Option<Instant>,
    copy_told: bool,
}

impl Schedule {
    /// Runs until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let began = Timestamp::now();
        let (mut alarms, mut wait_until) = (Alarms::default(), None::<Instant>);
        let mut drill_at = Instant::now();
        let look = LOOK_EVERY.min(self.terms.every / 4).max(Duration::from_millis(250));
        while stop.run_until_cancelled(tokio::time::sleep(look)).await.is_some() {
            let age = match self.age(began).await {
                Ok(age) => age,
                Err(fault) => {
                    warn!(code = %fault.code, "Backups cannot be looked at: {}", fault.chain());
                    Timestamp::now().since(began)
                }
            };
            let is_due = age >= self.terms.every || self.has_none().await;
            if is_due && wait_until.is_none_or(|at| at <= Instant::now()) {
                // A backup that is stopped half way is made anew after the next start.
                match stop.run_until_cancelled(self.make()).await {
                    Some(Ok(())) => wait_until = None,
                    Some(Err(fault)) => {
                        warn!(code = %fault.code, "A backup failed: {}", fault.chain());
                        wait_until = Some(Instant::now() + RETRY_AFTER.min(self.terms.every));
                    }
                    None => return,
                }
            }
            if drill_at <= Instant::now() {
                drill_at = Instant::now() + self.terms.drill_every.min(RETRY_AFTER);
                if let Err(fault) = self.drill_if_due(began, &stop).await {
                    warn!(code = %fault.code, "A restore drill failed: {}", fault.chain());
                }
            }
            if let Err(fault) = self.alarm(&mut alarms, began).await {
                warn!(code = %fault.code, "An alarm could not be raised: {}", fault.chain());
            }
        }
    }

    async fn make(&self) -> Result<(), Fault> {
        let hub = Hub {
            warehouse: &self.warehouse,
            log: &self.log,
            folder: Some(&self.folder),
            sources: &self.sources,
        };
        let made = make(&self.terms, &hub, None).await?;
        info!(name = made.name, bytes = made.bytes, "Backup {} is complete", made.name);
        for name in made.removed {
            info!(name, "Backup {name} was removed: newer ones are kept");
        }
        Ok(())
    }

    /// Tries the newest backup out when the last drill, whoever made it, is long enough ago. The drill
    /// makes its entry; that it failed is an incident.
    async fn drill_if_due(&self, began: Timestamp, stop: &CancellationToken) -> Result<(), Fault> {
        let last = drilled_at(&self.warehouse).await?.unwrap_or(began);
        if Timestamp::now().since(last) < self.terms.drill_every || self.has_none().await {
            return Ok(());
        }
        let hub = (&self.warehouse, &self.log, self.sources.state_dir.as_path());
        match Box::pin(drill(&self.terms, None, hub, None, stop)).await {
            Ok(drilled) => {
                let (name, rows) = (&drilled.name, drilled.rows);
                info!(
                    name,
                    rows, "Backup {name} was restored for trial: {rows} rows, its log verifies"
                );
                Ok(())
            }
            Err(fault) if stop.is_cancelled() => Err(fault),
            Err(fault) => {
                let what = format!("the newest backup could not be restored: {}", fault.code);
                self.note("drill", &what).await?;
                Err(fault)
            }
        }
    }

    /// How old the newest complete backup is; since the start where there is none.
    async fn age(&self, began: Timestamp) -> Result<Duration, Fault> {
        let place = Place::new(&self.terms.to);
        let all = blocking(move || place.complete()).await?;
        let newest = all.last().map_or(began, |newest| newest.made_at);
        let age = Timestamp::now().since(newest);
        self.metrics.observe_backups(age, all.len());
        Ok(age)
    }

    async fn has_none(&self) -> bool {
        let place = Place::new(&self.terms.to);
        blocking(move || place.complete()).await.is_ok_and(|all| all.is_empty())
    }

    async fn alarm(&self, alarms: &mut Alarms, began: Timestamp) -> Result<(), Fault> {
        let age = self.age(began).await.unwrap_or_else(|_| Timestamp::now().since(began));
        let overdue = age > self.terms.max_age;
        if overdue && !alarms.overdue {
            let what = format!("the newest complete backup is {} hours old", age.as_secs() / 3600);
            self.note("overdue", &what).await?;
        }
        alarms.overdue = overdue;
        let (independent, behind) = self.look_at_place().await?;
        if !independent && !alarms.same_volume {
            alarms.same_volume = true;
            self.note("same_volume", "backups lie on the same volume as the hub").await?;
        }
        self.metrics.observe_log_copy(behind);
        let since = (behind > 0).then(|| alarms.copy_behind.unwrap_or_else(Instant::now));
        alarms.copy_behind = since;
        let too_long = since.is_some_and(|since| since.elapsed() > COPY_BEHIND_MAX);
        if too_long && !alarms.copy_told {
            let what = format!("the log's second copy lacks the last {behind} entries");
            self.note("log_copy", &what).await?;
        }
        alarms.copy_told = too_long;
        Ok(())
    }

    /// Whether the place is on another volume, and how many entries the log's copy lacks.
    async fn look_at_place(&self) -> Result<(bool, u64), Fault> {
        let (to, folder) = (self.terms.to.clone(), self.folder.clone());
        let state_dir = self.sources.state_dir.clone();
        blocking(move || {
            let size = |folder: &Folder| -> Result<u64, Fault> {
                Ok(folder.checkpoint()?.map_or(0, |checkpoint| checkpoint.head.size))
            };
            let copied = size(&Folder::new(&to, *folder.log())).unwrap_or(0);
            let behind = size(&folder)?.saturating_sub(copied);
            Ok((Place::new(&to).is_independent_of(&state_dir), behind))
        })
        .await
    }

    async fn note(&self, cause: &str, what: &str) -> Result<(), Fault> {
        let client = self.warehouse.client().await?;
        let happening = Happening {
            kind: Kind::Backup,
            cause,
            agent: None,
            dataset: None,
            what,
            transfer: None,
            at: Timestamp::now(),
        };
        if incidents::note(&**client, &happening).await? {
            warn!(cause, "An incident was opened: {what}");
        }
        Ok(())
    }
}

/// When a backup was last tried out, well or not.
async fn drilled_at(warehouse: &Warehouse) -> Result<Option<Timestamp>, Fault> {
    let failed = |error| database_fault("cannot look for the last restore drill", &error);
    let client = warehouse.client().await?;
    let sql = "select max(committed_at) from phusa.transfers \
               where kind = 'backup' and entry like '%\"step\":\"drilled\"%'";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let at: Option<std::time::SystemTime> = row.try_get(0).map_err(failed)?;
    Ok(at.map(from_system_time))
}
