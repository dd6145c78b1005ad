//! What looks after the fleet beside the listeners: how agents are, and what is wanted of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::ByteSize;
use phusa_protocol::verdict::SILENCE_MAX;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::Jobs;
use crate::config::plan::Plan;
use crate::config::register::Register;
use crate::escalation::digest;
use crate::fleet::{alarms, health, orders};
use crate::incidents::Kind;
use crate::incidents::lasting::Lasting;
use crate::link::{Link, Wanted};
use crate::listen::own::Own;
use crate::release::countdown;
use crate::release::online::{self, End};
use crate::release::rollout;
use crate::release::store::Store;
use crate::transfers::publish::blocking;
use crate::views::metrics::Metrics;

/// How often is looked how agents are.
const FLEET_EVERY: Duration = Duration::from_secs(5);

/// How often is looked what people want of agents, and what of it is done or over.
const ORDERS_EVERY: Duration = Duration::from_secs(1);

impl Jobs {
    /// Opens the link, where the configuration names one, and begins to look after the
    /// fleet.
    pub(super) async fn open_link(
        &self,
        (plan, own): (&Plan, &Arc<Own>),
        register: watch::Receiver<Arc<Register>>,
        metrics: &Metrics,
    ) -> Result<Option<Link>, Fault> {
        let (wanted, wanted_seen) = watch::channel(Wanted::default());
        let both = (register.clone(), metrics.clone());
        let link = Link::open((plan, own), &self.warehouse, both, wanted_seen).await?;
        self.start_rollouts(register.clone(), Store::new(&plan.state_dir), metrics.clone());
        let place = (plan.disk_reserve, Store::new(&plan.state_dir));
        self.start_fleet(register, metrics.clone(), place);
        self.start_orders(wanted);
        Ok(link)
    }

    /// How every agent is, looked at every few seconds; it is kept, and an incident made of it, when
    /// those that were cut off by this hub's own absence have had time to come back.
    fn start_fleet(
        &self,
        register: watch::Receiver<Arc<Register>>,
        metrics: Metrics,
        (reserve, store): (ByteSize, Store),
    ) {
        let (warehouse, catalog, stop) =
            (self.warehouse.clone(), self.catalog.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let begin = Instant::now() + SILENCE_MAX;
            let mut said = None;
            while stop.run_until_cancelled(tokio::time::sleep(FLEET_EVERY)).await.is_some() {
                let (agents, contracts) = (Arc::clone(&register.borrow()), catalog.current());
                let looked = async {
                    let (mut client, now) = (warehouse.client().await?, Timestamp::now());
                    let all = health::all(&client, (&agents, &contracts), now).await?;
                    metrics.observe_fleet(&health::counts(&all));
                    digest::probe(&client, now).await?;
                    if Instant::now() < begin {
                        return Ok(());
                    }
                    health::keep(&client, &all).await?;
                    let free = warehouse.disk_free_bytes().await;
                    let full = free.filter(|free| *free < reserve.0).map(|_| full(reserve));
                    let ends = ended(store.clone()).await?;
                    let own = ends.iter().filter_map(|end| countdown::incident(end, now));
                    let own = own.chain(full).collect();
                    let opened = alarms::keep(&mut client, &all, own, now).await?;
                    if opened > 0 {
                        warn!(opened, "{opened} incidents were opened: `phusa-hub incident ls`");
                    }
                    Ok::<(), Fault>(())
                };
                match looked.await {
                    Ok(()) => said = None,
                    Err(fault) if said != Some(fault.code) => {
                        warn!(code = %fault.code, "How agents are is not known: {}", fault.chain());
                        said = Some(fault.code);
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Rollouts brought on every few seconds; snapshot and timestamp of releases signed anew in time.
    fn start_rollouts(
        &self,
        register: watch::Receiver<Arc<Register>>,
        store: Store,
        metrics: Metrics,
    ) {
        let (warehouse, log, stop) = (self.warehouse.clone(), self.log.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let (mut said, mut told) = (None, BTreeMap::new());
            while stop.run_until_cancelled(tokio::time::sleep(FLEET_EVERY)).await.is_some() {
                let agents = register.borrow().keys().into_keys().collect();
                let looked = async {
                    let now = Timestamp::now();
                    let ends = kept(store.clone(), now).await?;
                    count_down(&ends, now, &mut told);
                    let days = ends.iter().map(|end| (end.role.clone(), end.days(now)));
                    metrics.observe_releases(&days.collect::<Vec<_>>());
                    let mut client = warehouse.client().await?;
                    rollout::step(&mut client, &log, &agents, now).await
                };
                match looked.await {
                    Ok(()) => said = None,
                    Err(fault) if said != Some(fault.code) => {
                        warn!(code = %fault.code, "Releases are not looked after: {}", fault.chain());
                        said = Some(fault.code);
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// What people want of agents, whichever process they said it to.
    fn start_orders(&self, wanted: watch::Sender<Wanted>) {
        let (warehouse, key, stop) =
            (self.warehouse.clone(), self.log.key().clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut said = None;
            while stop.run_until_cancelled(tokio::time::sleep(ORDERS_EVERY)).await.is_some() {
                let looked = async {
                    let client = warehouse.client().await?;
                    orders::settle(&client, Timestamp::now()).await?;
                    orders::wanted(&client, &key).await
                };
                match looked.await {
                    Ok(all) => {
                        said = None;
                        wanted.send_if_modified(|held| {
                            let is_new = **held != all;
                            *held = Arc::new(all);
                            is_new
                        });
                    }
                    Err(fault) if said != Some(fault.code) => {
                        warn!(code = %fault.code, "What is wanted of agents is not known: {}", fault.chain());
                        said = Some(fault.code);
                    }
                    Err(_) => {}
                }
            }
        });
    }
}

/// Signs what is near its end; when each role ends.
async fn kept(store: Store, now: Timestamp) -> Result<Vec<End>, Fault> {
    blocking(move || {
        if online::renew(&store, now)? {
            tracing::info!("Snapshot and timestamp of releases were signed anew");
        }
        Ok(online::ends(&store)?.unwrap_or_default())
    })
    .await
}

/// When each role ends.
async fn ended(store: Store) -> Result<Vec<End>, Fault> {
    blocking(move || Ok(online::ends(&store)?.unwrap_or_default())).await
}

/// Tells of each step of the countdown once: 30, 14, 7 and 1 days before people must have signed anew.
fn count_down(ends: &[End], now: Timestamp, told: &mut BTreeMap<String, u64>) {
    for end in ends {
        let Some(step) = end.step(now) else {
            told.remove(&end.role);
            continue;
        };
        if told.insert(end.role.clone(), step) != Some(step) {
            let (code, role, days) = (Code::ReleaseExpired, &end.role, end.days(now));
            warn!(%code, role, days, "{role} of releases ends in {days} days: people must sign it anew (phusa-hub release expire-report)");
        }
    }
}

/// The hub's own disk as an incident.
fn full(reserve: ByteSize) -> Lasting {
    let what = format!(
        "Đĩa của kho còn dưới {reserve}; các lô phải chờ tại cơ quan, không mất. · Less than \
         {reserve} is free on the warehouse's disk; batches wait at the agencies, none is lost."
    );
    Lasting { kind: Kind::Disk, cause: "hub", agent: None, dataset: None, what }
}
