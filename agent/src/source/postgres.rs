//! PostgreSQL 12 to 18: connect, full read by binary COPY, changes by logical decoding.
//!
//! Reading order: the settings here; what the server is and what the login may do (`probe`,
//! `login`, `catalogue`, `publication`); which way is taken (`choose`); the slot (`slot`) and the
//! functions that may stand in for rights (`functions`); the full read (`read`); the log (`follow`,
//! with `decode`, `text` and `assemble`, which are pure). Everything a restart needs is in
//! `place`.

mod assemble;
mod catalogue;
mod choose;
mod compare;
pub mod decode;
mod drift;
mod follow;
mod functions;
mod keys;
mod login;
mod offers;
mod oversize;
mod place;
mod probe;
mod publication;
mod read;
mod said;
mod session;
mod slot;
mod target;
mod tables;
pub mod text;
pub mod trial;
mod watchers;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::units::ByteSize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::assemble::Assembler;
use self::compare::InKeyOrder;
use self::follow::Follower;
use self::functions::Functions;
use self::place::{Following, Identity, Lsn, Place, Stage};
use self::probe::{Admitted, Server};
use self::read::FullRead;
use self::session::Session;
use self::target::Target;
pub use self::watchers::Watchers;
use super::guard::Guard;
use super::outbox::{Outbox, Sealed};
use super::reconcile::{self, Job};
use super::scanned::{self, Scanned};
use super::settings::{Keep, Limits, Password, Tls};
use super::snapshot::Reading;
use super::throttle::Throttle;
use super::{Block, Findings, Intake, Listed, Offer, Resume, Selection, Source, Start};

/// Everything the engine needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name, address, or the folder of a Unix socket (beginning with `/`).
    pub host: String,
    /// Port. Default 5432.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Login.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Password>,
    /// How the connection is protected.
    pub tls: Tls,
    /// Who reads: part of the names of slots and publications.
    pub agent: AgentId,
    /// Why the login may be one that can write, in the agency's own words; `None` refuses it.
    pub login_may_write_because: Option<String>,
    /// Bytes of log a slot may hold back before it is given up. Default 8 GiB.
    pub slot_wal_max: ByteSize,
    /// How long making a slot may take. Default 60 s.
    pub slot_wait: Duration,
    /// Lag above which the log is read through the slot functions. Default 1 GiB.
    pub catch_up_bytes: ByteSize,
    /// When a block is closed.
    pub batch: Limits,
    /// How hard the database may be worked.
    pub guard: Guard,
    /// Asks for the log in text form although the server has the binary one. Default false; both
    /// forms give the same bytes, and servers before 14 have text only.
    pub log_as_text: bool,
    /// Where rows are remembered by a capture that compares them; without it there is none.
    pub keep: Option<Keep>,
    /// The connections through which slots are watched.
    pub watchers: Watchers,
}

impl Settings {
    /// Settings with every default, for this server, login and agent.
    #[must_use]
    pub fn new(host: &str, database: &str, user: &str, agent: AgentId) -> Self {
        Self {
            host: host.to_owned(),
            port: 5432,
            database: database.to_owned(),
            user: user.to_owned(),
            password: None,
            tls: Tls::Off,
            agent,
            login_may_write_because: None,
            slot_wal_max: ByteSize(8 << 30),
            slot_wait: Duration::from_secs(60),
            catch_up_bytes: ByteSize::mib(1_024),
            batch: Limits::default(),
            guard: Guard::default(),
            log_as_text: false,
            keep: None,
            watchers: Watchers::default(),
        }
    }

    /// The server as it is named in messages.
    fn server(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }

    /// The publication of a dataset.
    fn publication(&self, dataset: &DatasetId) -> String {
        publication_name(&self.agent, dataset)
    }

    /// The slot of a dataset: as it is named now, and as it may have been named before.
    fn slots(&self, dataset: &DatasetId) -> [String; 2] {
        [slot_name(&self.agent, &self.database, dataset), self.publication(dataset)]
    }

    /// A name for a login that can only read, beside one that can write.
    fn fresh_role(&self) -> String {
        format!("{}_reader", self.user)
    }
}

/// Bytes of an identifier that the server keeps.
const NAME_BYTES_MAX: usize = 63;

/// The name of the replication slot of one dataset: `phusa_`, eight digits that stand for the agent
/// and the database, and the dataset as far as it fits. All databases of a server share the names
/// of their slots, and two of them may have agents of one name.
#[must_use]
pub fn slot_name(agent: &AgentId, database: &str, dataset: &DatasetId) -> String {
    bounded_name(&format!("{agent}@{database}"), dataset)
}

/// The name of the publication of one dataset, which is the database's own; slots made before
/// their names held the database have it too, and serve on.
#[must_use]
pub fn publication_name(agent: &AgentId, dataset: &DatasetId) -> String {
    bounded_name(&agent.to_string(), dataset)
}

fn bounded_name(owner: &str, dataset: &DatasetId) -> String {
    let short = |text: &str| Digest::of(text.as_bytes()).to_string().chars().take(8).collect();
    let owner: String = short(owner);
    let readable = dataset.to_string().replace('.', "_");
    let name = format!("phusa_{owner}_{readable}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let whole: String = short(&dataset.to_string());
    let kept: String = name.chars().take(NAME_BYTES_MAX - 1 - whole.len()).collect();
    format!("{kept}_{whole}")
}

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    settings: Arc<Settings>,
}

impl PostgresSource {
    /// A source that connects when it is asked something.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl Source for PostgresSource {
    async fn probe(&self, selections: &[Selection]) -> Result<Findings, Fault> {
        probe::probe(&self.settings, selections).await
    }

    async fn offers(&self, selections: &[Selection]) -> Result<Vec<Offer>, Fault> {
        offers::offers(&self.settings, selections).await
    }

    async fn tables(&self) -> Result<Vec<Listed>, Fault> {
        tables::tables(&self.settings).await
    }

    async fn capture(
        &self,
        selection: &Selection,
        start: Start,
        intake: Intake,
    ) -> Result<(), Fault> {
        let (stop, settings) = (intake.stop.clone(), &self.settings);
        let mut target = None;
        let ended = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ended = Box::pin(capture(settings, selection, start, intake, &mut target)) => ended,
        };
        // From here on nobody takes blocks, and the stop that follows must not interrupt this.
        match ended {
            Err(fault) if fault.code == Code::SourceSlotGivenUp => {
                let through = target.as_ref().and_then(|target| target.through.as_ref());
                let slots = settings.slots(&selection.dataset);
                slot::give_up(settings, &slots, through).await?;
                Err(fault)
            }
            Err(fault) if fault.code == Code::SourceSchema => {
                Err(past_or_present(settings, target.as_deref(), fault).await)
            }
            ended => ended,
        }
    }

    async fn scan(
        &self,
        selection: &Selection,
        rows_max: Option<u64>,
        blocks: mpsc::Sender<Block>,
    ) -> Result<(), Fault> {
        scan(&self.settings, selection, rows_max, blocks).await
    }

    async fn reread(
        &self,
        selection: &Selection,
        keys: &[Vec<Vec<u8>>],
        blocks: mpsc::Sender<Block>,
    ) -> Result<bool, Fault> {
        reread(&self.settings, selection, keys, blocks).await.map(|()| true)
    }

    async fn release(&self, selection: &Selection) -> Result<(), Fault> {
        let slots = self.settings.slots(&selection.dataset);
        let [slot, _] = &slots;
        let functions = Functions::new(slot);
        let through = (selection.capture == super::Capture::Functions).then_some(&functions);
        slot::give_up(&self.settings, &slots, through).await
    }
}

/// Everything one capture found out about its server before it reads.
struct Capture {
    settings: Arc<Settings>,
    target: Arc<Target>,
    server: Server,
    /// As the slot's watch last saw it.
    identity: watch::Receiver<Identity>,
    slot: String,
    throttle: Arc<Throttle>,
}

/// What is to be done about a log that tells of other columns than were expected: where the table
/// is just what it was when this capture began, the log is of a time between, and only a full
/// read gets past that.
async fn past_or_present(settings: &Settings, target: Option<&Target>, fault: Fault) -> Fault {
    let Some(target) = target else { return fault };
    let now = async {
        let session = Session::open(settings).await?;
        let admitted = probe::admit(&session, settings, &target.selection).await?;
        Target::new(target.selection.clone(), &admitted.table)
    };
    match now.await {
        Ok(now) if now.columns == target.columns => {
            let what = "the table is again as it was, and its log is not";
            Fault::because(Code::SourceGap, what, fault)
        }
        Ok(_) | Err(_) => fault,
    }
}

async fn capture(
    settings: &Arc<Settings>,
    selection: &Selection,
    start: Start,
    intake: Intake,
    target: &mut Option<Arc<Target>>,
) -> Result<(), Fault> {
    let session = Session::open(settings).await?;
    let Admitted { server, table, capture } = probe::admit(&session, settings, selection).await?;
    let [slot, _] = settings.slots(&selection.dataset);
    let through = (capture == super::Capture::Functions).then(|| Functions::new(&slot));
    let found = Target::new(selection.clone(), &table)?.through(through);
    let target = Arc::clone(target.insert(Arc::new(found)));
    if matches!(capture, super::Capture::Watermark | super::Capture::Reconcile) {
        let job = comparison(settings, &target, capture)?;
        let settings = Arc::clone(settings);
        let session = Some(session);
        return reconcile::follow(InKeyOrder { settings, target, session }, job, start, intake)
            .await;
    }
    let identity = slot::identify(settings, &session, &target).await?;
    let (seen_identity, identity) = watch::channel(identity);
    let throttle = Arc::new(Throttle::new(&settings.guard, selection.place()));
    let own = Arc::clone(settings);
    let mut capture = Capture { settings: own, target, server, identity, slot, throttle };
    let (stage, exported) = capture.place(&session, start.resume.as_ref()).await?;
    drop(session);

    let seen = Arc::new(AtomicU64::new(0));
    let watcher = slot::Watch {
        settings: Arc::clone(&capture.settings),
        slot: capture.slot.clone(),
        publication: settings.publication(&selection.dataset),
        target: Arc::clone(&capture.target),
        identity: seen_identity,
        version: capture.server.version,
        standby: capture.server.standby,
        seen: Arc::clone(&seen),
        progress: intake.progress.clone(),
    };
    tokio::select! {
        ended = Box::pin(capture.run(stage, exported, intake, seen)) => ended,
        lost = watcher.until_lost() => Err(lost),
    }
}

/// What the comparison of rows has to know.
fn comparison(settings: &Settings, target: &Target, capture: super::Capture) -> Result<Job, Fault> {
    let no_place = || Fault::new(Code::Bug, "there is no place to remember rows in");
    Ok(Job {
        dataset: target.selection.dataset.clone(),
        table: target.selection.place(),
        keep: settings.keep.clone().ok_or_else(no_place)?,
        columns: Arc::clone(&target.columns),
        key: target.selection.key.clone(),
        walk: target.walk.clone(),
        watermark: capture == super::Capture::Watermark,
        limits: settings.batch,
        guard: settings.guard.clone(),
        rows_estimated: target.rows_estimated,
    })
}

impl Capture {
    /// Where to go on: at the place to resume from, if the source still reaches back to it, or
    /// with a new slot and its snapshot.
    async fn place(
        &mut self,
        session: &Session,
        resume: Option<&Resume>,
    ) -> Result<(Stage, Option<slot::Exported>), Fault> {
        let Some(resume) = resume else {
            let standby = self.server.standby;
            self.throttle.wait_for_hours().await;
            if let Some(functions) = &self.target.through {
                let slot = (self.slot.as_str(), standby);
                let start = slot::create_through(&self.settings, session, functions, slot).await?;
                let reading = Reading::new(false);
                return Ok((Stage::Reading { start, reading }, None));
            }
            for former in self.settings.slots(&self.target.selection.dataset) {
                slot::remove(session, &former).await?;
            }
            let exported = slot::create(&self.settings, session, &self.slot, standby).await?;
            let (start, reading) = (exported.start, Reading::new(true));
            return Ok((Stage::Reading { start, reading }, Some(exported)));
        };
        let place = Place::open(resume)?;
        // The slot it was made with, whatever slots are named by now.
        self.slot.clone_from(&place.slot);
        let state = slot::state(session, self.server.version, &self.slot).await?;
        place.check(&self.identity.borrow(), state.as_ref())?;
        Ok((place.stage, None))
    }

    async fn run(
        &self,
        stage: Stage,
        exported: Option<slot::Exported>,
        intake: Intake,
        seen: Arc<AtomicU64>,
    ) -> Result<(), Fault> {
        let columns = Arc::clone(&self.target.columns);
        let mut outbox = Outbox::new(intake.blocks, intake.durable, columns);
        let following = match stage {
            Stage::Following(following) => following,
            Stage::Reading { start, reading } => {
                let reading = if exported.is_some() { reading } else { reading.resumed() };
                let read = FullRead {
                    settings: Arc::clone(&self.settings),
                    target: Arc::clone(&self.target),
                    identity: self.identity.clone(),
                    slot: self.slot.clone(),
                    standby: self.server.standby,
                    throttle: Arc::clone(&self.throttle),
                    start,
                    reading,
                    exported,
                    progress: intake.progress.clone(),
                };
                let reading = read.run(&mut outbox).await?;
                self.end_read(start, &reading, &mut outbox).await?
            }
        };
        intake.progress.send_modify(|progress| progress.snapshot_done = true);
        self.follower(following, seen, intake.progress.clone()).run(&mut outbox).await
    }

    /// Tells that the full read is over, and from where to where the log may repeat it.
    async fn end_read(
        &self,
        start: Lsn,
        reading: &Reading,
        outbox: &mut Outbox<Lsn>,
    ) -> Result<Following, Fault> {
        let settle_until = if reading.is_exact() {
            None
        } else {
            let session = Session::open(&self.settings).await?;
            Some(slot::insert_position(&session, self.server.standby).await?)
        };
        let following = Following { at: start, open: None, settle_until, told_live: false };
        let stage = Stage::Following(following.clone());
        let identity = self.identity.borrow().clone();
        let place = Place { identity, slot: self.slot.clone(), stage };
        let sealed = Sealed {
            body: Vec::new(),
            phase: Phase::ReadEnd,
            tx_open: false,
            position: start.to_string(),
            source_time: None,
        };
        outbox.hand_on(sealed, place.seal(), start).await?;
        Ok(following)
    }

    fn follower(
        &self,
        following: Following,
        seen: Arc<AtomicU64>,
        progress: watch::Sender<super::Progress>,
    ) -> Follower {
        let (noted, left_open) = (following.at, following.open.is_some());
        let target = Arc::clone(&self.target);
        Follower {
            settings: Arc::clone(&self.settings),
            target: Arc::clone(&self.target),
            reader: None,
            identity: self.identity.clone(),
            slot: self.slot.clone(),
            version: self.server.version,
            standby: self.server.standby,
            assembler: Assembler::new(target, self.settings.batch, following),
            seen,
            progress,
            noted,
            noted_at: Instant::now(),
            block_since: None,
            left_open,
            streams_until: None,
        }
    }
}

/// What is read of a table, where reading it is all that is wanted.
async fn readable(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Target, Fault> {
    let admitted = probe::admit_to_read(session, settings, selection).await?;
    let [name, _] = settings.slots(&selection.dataset);
    let is_through = admitted.capture == super::Capture::Functions;
    let through = is_through.then(|| Functions::new(&name));
    Ok(Target::new(selection.clone(), &admitted.table)?.through(through))
}

/// Reads rows by their keys, each as it is now.
async fn reread(
    settings: &Settings,
    selection: &Selection,
    keys: &[Vec<Vec<u8>>],
    blocks: mpsc::Sender<Block>,
) -> Result<(), Fault> {
    let session = Session::open(settings).await?;
    let target = readable(&session, settings, selection).await?;
    let mut named = Scanned::<Session>::new(blocks, &target.columns, settings.batch, None);
    for key in keys {
        let no_key = || Fault::new(Code::Bug, "a key to read again is no key");
        let walk = scanned::walk_parts(selection, &target.walk, key).ok_or_else(no_key)?;
        let row = keys::row_of(&session, &target, &walk, settings.batch.row_bytes_max.0).await?;
        named.found(key, row.as_deref()).await?;
    }
    named.finish().await
}

/// Reads all rows in one statement, which is one snapshot.
async fn scan(
    settings: &Settings,
    selection: &Selection,
    rows_max: Option<u64>,
    blocks: mpsc::Sender<Block>,
) -> Result<(), Fault> {
    let session = Session::open(settings).await?;
    let target = readable(&session, settings, selection).await?;
    session.run(&target.doing(), "set statement_timeout = 0").await?;
    let held = match scanned::throttle(&settings.guard, selection, rows_max) {
        Some(throttle) => Some((throttle, Session::open(settings).await?)),
        None => None,
    };
    let mut scanned = Scanned::new(blocks, &target.columns, settings.batch, held);
    let mut rows = session.copy(&target.doing(), &target.scan_query(rows_max)).await?;
    while let Some(row) = rows.next().await? {
        scanned.begin_row().extend_from_slice(&row);
        scanned.end_row().await?;
    }
    scanned.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_are_readable_bounded_and_apart() {
        let agent = |name: &str| AgentId::try_from(format!("H57.12/{name}")).unwrap();
        let dataset = |name: &str| DatasetId::new(name).unwrap();
        let citizens = dataset("cong_dan.citizens");
        let name = slot_name(&agent("may-1"), "hotich", &citizens);
        assert!(name.starts_with("phusa_") && name.ends_with("_cong_dan_citizens"), "{name}");
        assert_ne!(name, slot_name(&agent("may-2"), "hotich", &citizens));
        assert_ne!(name, slot_name(&agent("may-1"), "dat_dai", &citizens));
        assert_ne!(name, publication_name(&agent("may-1"), &citizens));
        let long = |end: &str| dataset(&format!("{}.{}{end}", "a".repeat(48), "b".repeat(47)));
        let of = |end: &str| slot_name(&agent("m"), "hotich", &long(end));
        let (first, second) = (of("x"), of("y"));
        assert_eq!((first.len(), second.len()), (63, 63));
        assert_ne!(first, second);
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(format!("{:?}", Password::new("mật khẩu")), "Password(…)");
    }
}
