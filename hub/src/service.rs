//! Wires listeners, ingest, jobs and views, and stops them in order.
//!
//! Start: warehouse, its schema, contracts, ports, `READY=1`. Stop, on SIGTERM or SIGINT: no new
//! connections; batches in flight finish within [`DRAIN_MAX`] or are not acknowledged; what was
//! committed is numbered; the warehouse closes last.

mod files;
mod fleet_jobs;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use phusa_protocol::checkpoint::LogKey;
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::ByteSize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::accounts::People;
use crate::accounts::secret::Sealer;
use crate::admission::{Admission, Registrar};
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::config::register::Register;
use crate::escalation::teller::Teller;
use crate::fleet;
use crate::identity;
use crate::identity::issue::Issuing;
use crate::incidents;
use crate::ingest::{Ingest, Parts};
use crate::keeping::Terms;
use crate::keeping::files::Sources;
use crate::keeping::schedule::Schedule;
use crate::listen::own::Own;
use crate::listen::{Listener, enrol, https, log, release as releases};
use crate::portal::live::Live;
use crate::portal::{self, Portal};
use crate::release::assign::Assigner;
use crate::release::store::Store;
use crate::siem::forward::Forwarder;
use crate::siem::tap::Tapped;
use crate::stamping;
use crate::stamping::shelf::Shelf;
use crate::transfers::folder::Folder;
use crate::transfers::keys::{self, Moment};
use crate::transfers::mirror::Mirror;
use crate::transfers::publish::Publisher;
use crate::transfers::{Log, sequence};
use crate::views::metrics::Metrics;
use crate::warehouse::{Url, Warehouse};

use signals::{Signals, until_stopped};

/// Batches in flight have this long to finish after a stop was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How often free disk and contracts are looked at, and unnumbered entries looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often is said what keeps the log from going on.
const REPEAT_EVERY: Duration = Duration::from_secs(60);

/// How often the agents' keys are compared with those written down.
const KEYS_EVERY: Duration = Duration::from_secs(60);

/// How often is looked whether the private database still runs.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// How long `/metrics` and `/readyz` wait for the database.
const PROBE_MAX: Duration = Duration::from_secs(3);

/// Opens the warehouse and makes sure that its schema is this version's: the embedded one, which
/// is the hub's own, is brought up; an external one is brought up by `migrate` alone.
///
/// # Errors
/// When it does not open or is of another version.
pub async fn open_warehouse(plan: &Plan) -> Result<Warehouse, Fault> {
    // Not private: the embedded database runs as another user where the hub is root, and keeps
    // its own folder below to itself.
    std::fs::create_dir_all(&plan.state_dir).map_err(|error| {
        let what = format!("cannot make state_dir {}", plan.state_dir.display());
        Fault::because(Code::DiskFailed, what, error)
    })?;
    let warehouse = Warehouse::open(&plan.warehouse).await?;
    let ready = match plan.warehouse.url {
        Url::Embedded { .. } => warehouse.migrate().await,
        Url::External(_) => warehouse.check_schema().await,
    };
    match ready {
        Ok(()) => Ok(warehouse),
        Err(fault) => {
            warehouse.close().await;
            Err(fault)
        }
    }
}

/// Runs the hub until it is told to stop; `tapped` gives the events of security to be sent on.
///
/// # Errors
/// When it cannot start.
pub async fn serve(plan: Plan, tapped: Tapped) -> Result<(), Fault> {
    files::allow();
    let signals = Signals::listen()?;
    let warehouse = open_warehouse(&plan).await?;
    let served = serve_on(plan, warehouse.clone(), Given { signals, tapped }).await;
    warehouse.close().await;
    info!("The hub has stopped");
    served
}

/// What comes from outside: what is asked of this process, and its events of security.
struct Given {
    signals: Signals,
    tapped: Tapped,
}

/// What runs beside the listener until the end.
struct Jobs {
    warehouse: Warehouse,
    catalog: Catalog,
    log: Log,
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn serve_on(plan: Plan, warehouse: Warehouse, mut given: Given) -> Result<(), Fault> {
    let (catalog, entries) = (
        Catalog::open(warehouse.clone(), plan.signing_key.public()).await?,
        Log::new(plan.signing_key.clone()),
    );
    let registrar =
        Registrar::open(warehouse.clone(), plan.signing_key.clone(), plan.register.clone());
    let registrar = Arc::new(registrar.await?);
    let register_seen = registrar.watch();
    let (publisher, folder, log_key) = published_log(&plan, &warehouse)?;
    let metrics = Metrics::default();
    let (has_room, has_room_seen) = watch::channel(look_for_room(&warehouse, &plan).await);
    let (batches, connections) = (TaskTracker::new(), TaskTracker::new());
    let ingest = Arc::new(Ingest::new(Parts {
        warehouse: warehouse.clone(),
        connections_max: plan.warehouse.connections_max,
        catalog: catalog.clone(),
        log: entries.clone(),
        metrics: metrics.clone(),
        register: register_seen.clone(),
        has_room: has_room_seen.clone(),
        tasks: batches.clone(),
    }));
    let own = Arc::new(Own::read(&plan)?);
    let listener = Listener::open((&plan, &own), register_seen.clone(), metrics.clone()).await?;
    let stop = CancellationToken::new();
    let shown = (folder.clone(), register_seen.clone(), Live::new(stop.clone()));
    let pages = pages(&plan, (&warehouse, &entries, &catalog), shown).await?;
    let views = bind(plan.metrics_listen).await?;
    let jobs = Jobs::new(&warehouse, catalog, entries);
    let link = jobs.open_link((&plan, &own), register_seen.clone(), &metrics).await?;
    jobs.tasks.spawn(own.keep(metrics.clone(), jobs.stop.clone()));
    jobs.start_watch(plan.disk_reserve, has_room);
    jobs.start_identities(&registrar);
    jobs.start_log(publisher, &plan, (&folder, &metrics));
    jobs.start_outward((&plan, given.tapped), &folder, &metrics);
    let shown = Views { warehouse: warehouse.clone(), metrics, has_room: has_room_seen };
    jobs.start_views(views, shown);
    let address = listener.address().unwrap_or(plan.listen);
    let admission = admission(plan.issuing, &plan.ca_pem, &jobs, &registrar);
    let shown = log::Shown {
        ingest,
        warehouse: warehouse.clone(),
        folder,
        log_key,
        policy: plan.log_policy.clone(),
        register: register_seen,
    };
    let routes = routes(shown, admission, Store::new(&plan.state_dir));
    let accepting = connections.spawn(listener.run(routes, connections.clone(), stop.clone()));
    let people = pages.map(|(door, pages)| door.run(pages, connections.clone(), stop.clone()));
    drop(people.map(|people| connections.spawn(people)));
    drop(link.map(|link| connections.spawn(link.run(connections.clone(), stop.clone()))));
    info!(%address, agents = plan.register.len(), "The hub listens on {address}");
    until_stopped(&mut given.signals, async || reload(&jobs, &plan.agents_dir, &registrar).await)
        .await;
    stop.cancel();
    drop(accepting.await);
    drain([&batches, &connections]).await;
    jobs.stop().await;
    Ok(())
}

/// What agents ask for.
fn routes(shown: log::Shown, admission: Arc<Admission>, store: Store) -> Router {
    let ingest = Arc::clone(&shown.ingest);
    let enrolling = enrol::router(Arc::clone(&ingest), Arc::clone(&admission));
    let key = admission.log.key().clone();
    let served = releases::Served {
        ingest: Arc::clone(&ingest),
        store,
        assigner: Assigner::new(shown.warehouse.clone(), key),
    };
    let own = https::router(ingest).merge(enrolling);
    own.merge(log::router(shown)).merge(releases::router(served))
}

/// Waits for what is under way, for as long as it may take.
async fn drain(under_way: [&TaskTracker; 2]) {
    let drained = async {
        for tracker in under_way {
            tracker.close();
            tracker.wait().await;
        }
    };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        warn!("Batches in flight did not finish in time; they are not acknowledged");
    }
}

/// The hub's own files, as a backup takes them along.
#[must_use]
pub fn sources(plan: &Plan, terms: &Terms) -> Sources {
    let left_out = vec![terms.to.clone(), terms.key_file.clone()];
    Sources { config: plan.file.clone(), state_dir: plan.state_dir.clone(), left_out }
}

/// The pages for people and the port they are reached by, where the configuration names one.
async fn pages(
    plan: &Plan,
    (warehouse, log, catalog): (&Warehouse, &Log, &Catalog),
    (folder, register, live): (Folder, watch::Receiver<Arc<Register>>, Live),
) -> Result<Option<(portal::door::Door, Router)>, Fault> {
    let Some(part) = &plan.portal else { return Ok(None) };
    let door = portal::door::Door::open(part).await?;
    let sealer = Sealer::open(&plan.accounts_key)?;
    let people = People { warehouse: warehouse.clone(), log: log.clone(), sealer };
    let (policy, catalog) = (plan.log_policy.clone(), catalog.clone());
    let ends = part.ends;
    let releases = Store::new(&plan.state_dir);
    let profile = Arc::new(plan.profile.clone());
    let portal =
        Portal { people, ends, folder, policy, catalog, profile, register, releases, live };
    let router = portal::router(portal);
    info!(address = %part.listen, "People's pages are at {}", part.listen);
    Ok(Some((door, router)))
}

/// The log's files, who writes them, and the hub's word for their key.
fn published_log(plan: &Plan, warehouse: &Warehouse) -> Result<(Publisher, Folder, LogKey), Fault> {
    let log_key = identity::files::log_key(&plan.log_key.path)?;
    let folder = Folder::new(&plan.state_dir, log_key.public());
    let stated = LogKey::sign(log_key.public(), &plan.signing_key);
    let hub_key = plan.signing_key.clone();
    let copy = |terms: &Terms| Mirror::new(Folder::new(&terms.to, log_key.public()));
    let mirror = plan.backup.as_ref().map(copy);
    let publisher = Publisher::new(warehouse.clone(), folder.clone(), log_key, hub_key);
    let publisher = publisher.mirrored(mirror);
    Ok((publisher, folder, stated))
}

/// What issues certificates.
fn admission(
    issuing: Option<Arc<Issuing>>,
    ca_pem: &[u8],
    jobs: &Jobs,
    registrar: &Arc<Registrar>,
) -> Arc<Admission> {
    Arc::new(Admission {
        warehouse: jobs.warehouse.clone(),
        log: jobs.log.clone(),
        issuing,
        ca: String::from_utf8_lossy(ca_pem).into_owned(),
        registrar: Arc::clone(registrar),
    })
}

impl Jobs {
    fn new(warehouse: &Warehouse, catalog: Catalog, log: Log) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { warehouse: warehouse.clone(), catalog, log, tasks, stop }
    }

    /// Numbers and publishes entries, and keeps copies elsewhere.
    fn start_log(&self, publisher: Publisher, plan: &Plan, shown: (&Folder, &Metrics)) {
        self.start_sequencer(publisher);
        self.start_backups(plan, shown.0, shown.1);
    }

    /// What keeps database, agents' keys and decisions about them in step.
    fn start_identities(&self, registrar: &Arc<Registrar>) {
        self.start_tending();
        self.start_keys(registrar.watch());
        self.start_register(Arc::clone(registrar));
    }

    /// What other processes decided about agents, looked at every second.
    fn start_register(&self, registrar: Arc<Registrar>) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut said = None;
            while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
                match tokio::time::timeout(PROBE_MAX, registrar.refresh()).await {
                    Ok(Err(fault)) if said != Some(fault.code) => {
                        warn!(code = %fault.code, "What was decided about agents is not read: {}", fault.chain());
                        said = Some(fault.code);
                    }
                    Ok(Ok(())) => said = None,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        });
    }

    /// Free disk and contracts, looked at every second.
    fn start_watch(&self, reserve: ByteSize, has_room: watch::Sender<bool>) {
        let (warehouse, catalog, stop) =
            (self.warehouse.clone(), self.catalog.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
                let free = warehouse.disk_free_bytes().await;
                let room = free.is_none_or(|free| free >= reserve.0);
                if has_room.send_replace(room) != room {
                    report_room(room, reserve);
                }
                if let Err(fault) = catalog.refresh().await {
                    warn!(code = %fault.code, "Contracts were not refreshed: {}", fault.chain());
                }
            }
        });
    }

    /// Keys that a reload could not write down, and keys that have signed their last.
    fn start_keys(&self, register: watch::Receiver<Arc<Register>>) {
        let (warehouse, log, stop) = (self.warehouse.clone(), self.log.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(KEYS_EVERY)).await.is_some() {
                let now = Arc::clone(&register.borrow());
                if let Err(fault) = keys::remember(&warehouse, &now, log.key(), Moment::After).await
                {
                    warn!(code = %fault.code, "{}", fault.chain());
                }
            }
        });
    }

    /// The private database, started again where it ended by itself. On a disk that is full it ends
    /// at its next commit; nothing of that was answered, and agents wait.
    fn start_tending(&self) {
        let (warehouse, stop) = (self.warehouse.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(TEND_EVERY)).await.is_some() {
                match warehouse.revive().await {
                    Ok(true) => warn!("The warehouse's server had ended; it runs again"),
                    Ok(false) => {}
                    Err(fault) => error!(code = %fault.code, "{}", fault.chain()),
                }
            }
        });
    }

    /// Numbers entries as they are committed, and whatever other processes left; publishes the log
    /// once a second while it grows, and what was committed last when it is stopped.
    fn start_sequencer(&self, mut publisher: Publisher) {
        let (warehouse, log, stop) = (self.warehouse.clone(), self.log.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let (mut said, mut next) = (None, Instant::now());
            let mut noted = false;
            while stop.run_until_cancelled(log.woken(LOOK_EVERY)).await.is_some() {
                let due = Instant::now() >= next;
                if due {
                    next = Instant::now() + LOOK_EVERY;
                }
                match keep_log(&warehouse, &mut publisher, due).await {
                    Ok(()) => (said, noted) = (None, false),
                    Err(fault) => {
                        tell_once(&fault, &mut said);
                        // Once for each time it stops; the log stands still until somebody comes.
                        if !noted && fault.code.class() == Class::Operator {
                            noted = note_log(&warehouse, &fault).await.is_ok();
                        }
                        // The next commit may come at once; the database may not.
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                }
            }
            if let Err(fault) = keep_log(&warehouse, &mut publisher, true).await {
                warn!(code = %fault.code, "Entries wait for their numbers: {}", fault.chain());
            }
        });
    }

    /// Backups as the file says; none without a place.
    fn start_backups(&self, plan: &Plan, folder: &Folder, metrics: &Metrics) {
        let Some(terms) = plan.backup.clone() else { return };
        let schedule = Schedule {
            sources: sources(plan, &terms),
            terms,
            warehouse: self.warehouse.clone(),
            log: self.log.clone(),
            folder: folder.clone(),
            metrics: metrics.clone(),
        };
        self.tasks.spawn(schedule.run(self.stop.clone()));
    }

    /// Has the log stamped, and a collector told, where the file names whom.
    fn start_outward(&self, (plan, tapped): (&Plan, Tapped), folder: &Folder, metrics: &Metrics) {
        if let Some(terms) = plan.timestamp.clone() {
            let schedule = stamping::schedule::Schedule {
                terms,
                folder: folder.clone(),
                shelf: Shelf::new(&plan.state_dir),
                warehouse: self.warehouse.clone(),
                metrics: metrics.clone(),
            };
            self.tasks.spawn(schedule.run(self.stop.clone()));
        }
        if let Some(terms) = plan.escalation.clone() {
            let teller = Teller { terms, warehouse: self.warehouse.clone() };
            self.tasks.spawn(teller.run(self.stop.clone()));
        }
        let Some(terms) = plan.siem.clone() else { return };
        let (warehouse, metrics) = (self.warehouse.clone(), metrics.clone());
        let forwarder = Forwarder { terms, warehouse, metrics, tapped };
        self.tasks.spawn(forwarder.run(self.stop.clone()));
    }

    fn start_views(&self, listener: TcpListener, views: Views) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .with_state(views);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serving =
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = serving.await {
                error!(%error, "Metrics are no longer served: {error}");
            }
        });
    }

    /// Ends every job; what was committed last is numbered and published once more.
    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_MAX, self.tasks.wait()).await.is_err() {
            warn!("A job did not end in time");
        }
    }
}

async fn keep_log(
    warehouse: &Warehouse,
    publisher: &mut Publisher,
    publishes: bool,
) -> Result<(), Fault> {
    let published = publisher.published()?;
    while sequence::number_next(warehouse, published).await? > 0 {}
    if publishes && let Some(head) = publisher.grow().await? {
        debug!(entries = head.size, "The log was published with {} entries", head.size);
    }
    Ok(())
}

/// A log that does not verify is for a person to look at.
async fn note_log(warehouse: &Warehouse, fault: &Fault) -> Result<(), Fault> {
    let what = format!("{} · {}", fault.code.words().meaning_vi, fault.code.words().meaning_en);
    let happening = incidents::Happening {
        kind: incidents::Kind::Log,
        cause: fault.code.name(),
        agent: None,
        dataset: None,
        what: &what,
        transfer: None,
        at: Timestamp::now(),
    };
    let client = warehouse.client().await?;
    incidents::note(&**client, &happening).await.map(drop)
}

/// Says what is wrong with the log, again only after a minute or when it is something else.
fn tell_once(fault: &Fault, said: &mut Option<(Code, Instant)>) {
    let again = said.is_none_or(|(code, at)| code != fault.code || at.elapsed() > REPEAT_EVERY);
    if !again {
        return;
    }
    *said = Some((fault.code, Instant::now()));
    if fault.code.class() == Class::Operator {
        error!(code = %fault.code, "The log does not go on: {}", fault.chain());
    } else {
        warn!(code = %fault.code, "The log does not go on: {}", fault.chain());
    }
}

/// Whether batches can be taken from the first one on.
async fn look_for_room(warehouse: &Warehouse, plan: &Plan) -> bool {
    let free = warehouse.disk_free_bytes().await;
    let room = free.is_none_or(|free| free >= plan.disk_reserve.0);
    if !room {
        report_room(room, plan.disk_reserve);
    }
    room
}

fn report_room(room: bool, reserve: ByteSize) {
    if room {
        info!("The disk has more than {reserve} free again; batches are taken");
    } else {
        let code = Code::HubStorageFull;
        error!(%code, "Less than {reserve} is free on the warehouse's disk; batches must wait");
    }
}

/// Takes over a changed register; a wrong one is reported and the last good one stays.
async fn reload(jobs: &Jobs, agents_dir: &std::path::Path, registrar: &Registrar) {
    match Register::read(agents_dir) {
        Ok(read) => {
            let both = registrar.over(&read).await;
            let kept = keys::remember(&jobs.warehouse, &both, jobs.log.key(), Moment::Before);
            // Whoever was suspended must not wait for a database that does not answer.
            match tokio::time::timeout(PROBE_MAX, kept).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => warn!(code = %fault.code, "{}", fault.chain()),
                Err(_) => {
                    warn!("The agents' keys are written down once the database answers");
                }
            }
            info!(agents = read.len(), "The register was read again: {} agents", read.len());
            registrar.take_files(read).await;
        }
        Err(faults) => {
            for fault in faults {
                error!(code = %fault.code, "The register stays as it was: {}", fault.chain());
            }
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).await.map_err(|error| {
        Fault::because(Code::ConfigInvalid, format!("cannot listen on {address}"), error)
    })
}

/// What the plain HTTP port shows.
#[derive(Clone)]
struct Views {
    warehouse: Warehouse,
    metrics: Metrics,
    has_room: watch::Receiver<bool>,
}

async fn metrics(State(views): State<Views>) -> Response {
    let seen = tokio::time::timeout(PROBE_MAX, observe(&views)).await;
    if let Ok(Err(fault)) = seen {
        warn!(code = %fault.code, "Lag and log length are not fresh: {}", fault.chain());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], views.metrics.text()).into_response()
}

async fn observe(views: &Views) -> Result<(), Fault> {
    let client = views.warehouse.client().await?;
    let streams = fleet::streams(&client, Timestamp::now()).await?;
    let (entries, unsequenced) = fleet::log_length(&client).await?;
    views.metrics.observe(&streams, entries, unsequenced);
    views.metrics.observe_incidents(&incidents::open_by_kind(&**client).await?);
    Ok(())
}

async fn readyz(State(views): State<Views>) -> Response {
    let commit = async {
        let mut client = views.warehouse.client().await?;
        fleet::can_commit(&mut client).await
    };
    let committed = matches!(tokio::time::timeout(PROBE_MAX, commit).await, Ok(Ok(())));
    if committed && *views.has_room.borrow() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "cannot commit\n").into_response()
}
