//! Wires the tasks of one agent with bounded channels and stops them in order: the picture of the
//! README as code.
//!
//! Per dataset: capture → blocks → mapping and packing → spool → delivery. A dataset that fails
//! stops alone. Stopping goes with the flow: sources first, then what they left is made durable,
//! then requests under way are let go (they are sent again at the next start).

pub mod repair;
pub mod sample;
pub mod wiring;
pub mod dataset;
pub mod progress;
pub mod proof;
pub mod rounds;
pub mod seats;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::orders::Want;
use phusa_protocol::release::UpdateReport;
use phusa_protocol::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dataset::{Dataset, Shown};
use self::rounds::Rounds;
use self::seats::Seats;
use crate::config::plan::Plan;
use crate::disk::RealDisk;
use crate::ledger::log::LogBook;
use crate::link::compose::Composer;
use crate::link::judge::Judge;
use crate::link::{Link, Snapshot};
use crate::orders::Book;
use crate::source::Source;
use crate::spool::Spool;
use crate::status::{self, AgentStatus, DatasetStatus, LogStatus};
use crate::transport::https::Hub;
use crate::transport::renew::IdentityStatus;
use crate::update::worker::Worker;
use crate::witness::{self, Witness};

/// Runs every dataset of the plan until `stop` is cancelled.
///
/// # Errors
/// A fault that concerns the whole agent: keys, spool folder, status socket. Faults of one dataset
/// are shown in its status and tried again.
pub async fn run<S: Source>(
    plan: Arc<Plan>,
    source: Arc<S>,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let tasks = TaskTracker::new();
    let spool = Spool::open(wiring::spool_settings(&plan)?, Arc::new(RealDisk))?;
    let hub = Arc::new(Hub::new(wiring::hub_settings(&plan)?)?);
    let signing_key = wiring::signing_key(&plan)?;
    let orders = Arc::new(wiring::orders(&plan)?);
    let seats = Seats::new(plan.guard.reads_at_once);
    let mut shown = Vec::new();
    for (index, dataset) in plan.datasets.iter().enumerate() {
        let (show, seen) = watch::channel(Shown::new(dataset.dataset()));
        shown.push(seen);
        let dataset = Dataset {
            accord: Arc::new(wiring::accord(&plan, dataset)?),
            plan: Arc::clone(&plan),
            index,
            source: Arc::clone(&source),
            seats: seats.clone(),
            spool: spool.clone(),
            hub: Arc::clone(&hub),
            signing_key: signing_key.clone(),
            show,
            gate: orders.gate(dataset.dataset()),
            tasks: tasks.clone(),
            stop: stop.child_token(),
        };
        tasks.spawn(dataset.supervise());
    }
    let rounds = Rounds {
        plan: Arc::clone(&plan),
        source,
        hub: Arc::clone(&hub),
        shown: shown.clone(),
        orders: Arc::clone(&orders),
        stop: stop.child_token(),
    };
    tasks.spawn(rounds.run());
    let (renewer, identity_seen) = wiring::renewer(&plan, Arc::clone(&hub), Arc::clone(&orders));
    tasks.spawn(renewer.run(stop.child_token()));
    let (witness, log_seen) = witness(&plan, Arc::clone(&hub), signing_key, &tasks)?;
    tasks.spawn(witness.watch(stop.child_token()));
    let (show_update, update_seen) = watch::channel(None);
    let seen = (log_seen, identity_seen, update_seen);
    let snapshot = snapshot((&plan, Arc::clone(&hub)), &spool, &shown, seen);
    let shows = (Arc::clone(&snapshot), Arc::clone(&orders));
    keep_alive(&plan, hub, (shows, show_update), (&tasks, &stop))?;
    let compose = Composer {
        plan: Arc::clone(&plan),
        spool: spool.clone(),
        orders: Arc::clone(&orders),
        snapshot: Arc::clone(&snapshot),
        certificate: None,
    };
    let judge = Judge::new(compose, wiring::identity_files(&plan));
    let link = Link {
        files: wiring::identity_files(&plan),
        plan: Arc::clone(&plan),
        spool,
        orders: Arc::clone(&orders),
        snapshot: Arc::clone(&snapshot),
    };
    tasks.spawn(follow(orders, Arc::clone(&plan), shown.clone(), stop.child_token()));
    tasks.spawn(link.run(stop.child_token()));
    tasks.spawn(progress::show(shown, stop.child_token()));
    crate::service::notify("READY=1");
    tracing::info!(agent = %plan.agent, datasets = plan.datasets.len(), "Agent {} is running", plan.agent);
    let served = status::serve(&plan.state_dir, || judge.status(), &tasks, &stop).await;
    end(&tasks, &stop).await;
    served
}

/// Waits until everything has stopped in order.
async fn end(tasks: &TaskTracker, stop: &CancellationToken) {
    stop.cancel();
    crate::service::notify("STOPPING=1");
    tasks.close();
    tasks.wait().await;
}

/// Exchanges the program, where the plan says so, and tells the service manager that it lives.
fn keep_alive(
    plan: &Plan,
    hub: Arc<Hub>,
    ((snapshot, orders), show): ((Snapshot, Arc<Book>), watch::Sender<Option<UpdateReport>>),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<(), Fault> {
    if let Some(update) = plan.update.clone() {
        let own = (plan.agent.clone(), update, plan.file.clone());
        let worker = Worker::new(own, hub, (snapshot, orders), show)?;
        tasks.spawn(worker.run(stop.clone()));
    } else {
        let stop = stop.child_token();
        tasks.spawn(async move { orders.cannot_do(Want::CheckUpdate, &stop).await });
    }
    tasks.spawn(crate::service::watchdog(stop.child_token()));
    Ok(())
}

/// What the agent knows of itself, as often as it is asked.
fn snapshot(
    (plan, hub): (&Arc<Plan>, Arc<Hub>),
    spool: &Spool,
    shown: &[watch::Receiver<Shown>],
    (log_seen, identity_seen, update_seen): (
        watch::Receiver<LogStatus>,
        watch::Receiver<Option<IdentityStatus>>,
        watch::Receiver<Option<UpdateReport>>,
    ),
) -> Snapshot {
    let (plan, spool, shown) = (Arc::clone(plan), spool.clone(), shown.to_vec());
    let started_at = Timestamp::now();
    Arc::new(move || AgentStatus {
        agent: plan.agent.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        at: Timestamp::now(),
        spool_bytes: spool.used_bytes(),
        spool_bytes_max: spool.bytes_max(),
        hub_skew_ms: hub.skew_ms(),
        datasets: shown.iter().map(|seen| of_now(seen.borrow().status(), &hub)).collect(),
        log: Some(log_seen.borrow().clone()),
        identity: identity_seen.borrow().clone(),
        update: update_seen.borrow().clone(),
        verdict: None,
    })
}

/// A clock that was set right is no trouble any more, also before the hub is greeted again.
fn of_now(mut status: DatasetStatus, hub: &Hub) -> DatasetStatus {
    let is_right = hub.skew_ms().is_some_and(|ms| ms.unsigned_abs() < CLOCKS_AGREE_MS);
    status.delivery_trouble =
        status.delivery_trouble.filter(|trouble| trouble.code != Code::ClockSkew || !is_right);
    status
}

/// Clocks that differ by less need nobody.
const CLOCKS_AGREE_MS: u64 = 30_000;

/// How often is looked whether what the hub wants is done, or over.
const ORDERS_EVERY: Duration = Duration::from_secs(1);

/// Brings the agent to what the hub wants, again and again: what is done needs nothing.
async fn follow(
    orders: Arc<Book>,
    plan: Arc<Plan>,
    shown: Vec<watch::Receiver<Shown>>,
    stop: CancellationToken,
) {
    let (mut said, mut due) = (false, BTreeMap::new());
    while stop.run_until_cancelled(tokio::time::sleep(ORDERS_EVERY)).await.is_some() {
        let now = Timestamp::now();
        orders.follow(now);
        for seen in &shown {
            let status = seen.borrow().status();
            let (dataset, epoch) = (&status.dataset, status.epoch);
            if !orders.is_to_be_read_again(dataset, epoch, now)
                || repair::is_requested(&plan.state_dir, dataset)
            {
                due.remove(dataset);
                continue;
            }
            // A wish is taken away just before its epoch shows: look twice.
            if due.insert(dataset.clone(), epoch) != Some(epoch) {
                continue;
            }
            match repair::request(&plan.state_dir, dataset) {
                Ok(()) => tracing::info!(%dataset, "The hub wants {dataset} to be read again"),
                Err(fault) if !said => {
                    tracing::warn!(code = %fault.code, "{}", fault.chain());
                    said = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// Who watches the hub's log, and what it says of it.
fn witness(
    plan: &Plan,
    hub: Arc<Hub>,
    key: SigningKey,
    tasks: &TaskTracker,
) -> Result<(Witness, watch::Receiver<LogStatus>), Fault> {
    let (show, seen) = watch::channel(LogStatus::default());
    let witness = Witness::new(witness::Parts {
        hub,
        book: LogBook::new(Arc::new(RealDisk), &plan.state_dir),
        agent: plan.agent.clone(),
        key,
        policy: wiring::log_policy(plan)?,
        show,
        tasks: tasks.clone(),
    });
    Ok((witness, seen))
}
