//! MySQL 5.7 to 9 and MariaDB 10.4 and later: connect, full read by key ranges, changes from the
//! row binlog or by comparing rows.
//!
//! Reading order: the settings here; what the server is and what the login may do (`server`,
//! `grants`, `catalogue`, `probe`); which way is taken (`choose`, `offers`), of which two compare
//! rows (`compare`, with `watermark`); the full read (`read`, with `kind`, `value` and `key`, which
//! are pure); the log (`stream`, `packed`, `follow`; `event`, `cell`, `json`, `statement`, `shape` and
//! `assemble` are pure). Everything a restart needs is in `place`.

mod kind;
mod value;
mod cell;
mod json;
mod key;
mod gtid;
mod place;
mod event;
mod statement;
mod said;
mod session;
mod work;
mod server;
mod grants;
mod catalogue;
mod watermark;
mod target;
mod choose;
mod probe;
mod offers;
mod tables;
mod read;
mod compare;
mod shape;
mod assemble;
mod stream;
mod strides;
mod packed;
mod follow;
pub mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::assemble::Assembler;
use self::compare::InKeyOrder;
use self::follow::Follower;
use self::place::{Following, Identity, Place, Position, Stage};
use self::probe::Admitted;
use self::read::FullRead;
use self::server::Server;
use self::session::Session;
use self::strides::Strides;
use self::target::Target;
use super::guard::Guard;
use super::outbox::{Outbox, Sealed};
use super::reconcile;
use super::scanned::{self, Scanned};
use super::settings::{Keep, Limits, Password, Tls};
use super::snapshot::Reading;
use super::throttle::Throttle;
use super::{Block, Findings, Intake, Listed, Offer, Resume, Selection, Source, Start};

/// Everything the engine needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name, address, or the file of a Unix socket (beginning with `/`).
    pub host: String,
    /// Port. Default 3306.
    pub port: u16,
    /// The database that is current on connecting.
    pub database: String,
    /// Login.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Password>,
    /// How the connection is protected.
    pub tls: Tls,
    /// Who reads: part of the number under which the log is read.
    pub agent: AgentId,
    /// Why the login may be one that can write, in the agency's own words; `None` refuses it.
    pub login_may_write_because: Option<String>,
    /// When a block is closed.
    pub batch: Limits,
    /// How hard the database may be worked.
    pub guard: Guard,
    /// Where rows are remembered by a capture that compares them; without it there is none.
    pub keep: Option<Keep>,
}

impl Settings {
    /// Settings with every default, for this server, login and agent.
    #[must_use]
    pub fn new(host: &str, database: &str, user: &str, agent: AgentId) -> Self {
        Self {
            host: host.to_owned(),
            port: 3306,
            database: database.to_owned(),
            user: user.to_owned(),
            password: None,
            tls: Tls::Off,
            agent,
            login_may_write_because: None,
            batch: Limits::default(),
            guard: Guard::default(),
            keep: None,
        }
    }

    /// The server as it is named in messages.
    fn server(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

/// The two families of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    MySql,
    MariaDb,
}

/// A MySQL or MariaDB server.
#[derive(Debug, Clone)]
pub struct MySqlSource {
    settings: Arc<Settings>,
}

impl MySqlSource {
    /// A source that connects when it is asked something.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl Source for MySqlSource {
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
        match ended {
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
        Box::pin(scan(&self.settings, selection, rows_max, blocks)).await
    }

    async fn reread(
        &self,
        selection: &Selection,
        keys: &[Vec<Vec<u8>>],
        blocks: mpsc::Sender<Block>,
    ) -> Result<bool, Fault> {
        Box::pin(reread(&self.settings, selection, keys, blocks)).await.map(|()| true)
    }

    /// Nothing is kept at the source for a reader of its log.
    async fn release(&self, _: &Selection) -> Result<(), Fault> {
        Ok(())
    }
}

/// What is to be done about a log that tells of other columns than were expected: where the table
/// is just what it was when this capture began, the log is of a time between, and only a full
/// read gets past that.
async fn past_or_present(settings: &Settings, target: Option<&Target>, fault: Fault) -> Fault {
    let Some(target) = target else { return fault };
    let now = async {
        let mut session = Session::open(settings).await?;
        let admitted = probe::admit(&mut session, settings, &target.selection).await?;
        Target::new(target.selection.clone(), &admitted.table)
    };
    match Box::pin(now).await {
        Ok(now) if now.fingerprint() != target.fingerprint() => {
            Fault::because(Code::SourceGap, "columns have other types than before", fault)
        }
        Ok(now) if now.is_like(target) => {
            let what = "the table is again as it was, and its log is not";
            Fault::because(Code::SourceGap, what, fault)
        }
        // Columns that are not read have moved: the next capture begins with where they stand now.
        Ok(_) => Fault::because(Code::SourceUnreachable, "the table is looked at anew", fault),
        Err(refusal) => refusal,
    }
}

/// Everything one capture found out about its server before it reads.
struct Capture {
    settings: Arc<Settings>,
    target: Arc<Target>,
    server: Server,
    identity: Identity,
    throttle: Arc<Throttle>,
}

async fn capture(
    settings: &Arc<Settings>,
    selection: &Selection,
    start: Start,
    intake: Intake,
    target: &mut Option<Arc<Target>>,
) -> Result<(), Fault> {
    let mut session = Session::open(settings).await?;
    let mut admitted = probe::admit(&mut session, settings, selection).await?;
    let throttle = Arc::new(Throttle::new(&settings.guard, selection.place()));
    if start.resume.is_none() && !throttle.is_open() {
        // Nothing is noted of the log before the read may begin, nor is a session kept.
        session.close().await;
        throttle.wait_for_hours().await;
        session = Session::open(settings).await?;
        admitted = probe::admit(&mut session, settings, selection).await?;
    }
    let Admitted { server, table, capture } = admitted;
    let target = Arc::clone(target.insert(Arc::new(Target::new(selection.clone(), &table)?)));
    if capture != super::Capture::Log {
        let watermark = capture == super::Capture::Watermark;
        let engine = InKeyOrder::new(settings, &target, server, session);
        let job = engine.job(watermark)?;
        return Box::pin(reconcile::follow(engine, job, start, intake)).await;
    }
    let (tracking, columns) = (server.tracking(), target.fingerprint());
    let identity = Identity { server: server.uuid(), tracking, columns };
    let settings = Arc::clone(settings);
    let capture = Capture { settings, target, server, identity, throttle };
    let stage = capture.place(&mut session, start.resume.as_ref()).await?;
    session.close().await;
    Box::pin(capture.run(stage, intake)).await
}

impl Capture {
    /// Where to go on: at the place to resume from, if the source still reaches back to it, or
    /// at the beginning.
    async fn place(&self, session: &mut Session, resume: Option<&Resume>) -> Result<Stage, Fault> {
        let Some(resume) = resume else {
            let start = self.server.start_of_log(session).await?;
            return Ok(Stage::Reading { start, reading: Reading::new(false) });
        };
        let place = Place::open(resume)?;
        let reach = self.server.reach(session, place.position()).await?;
        place.check(&self.identity, &reach)?;
        Ok(place.stage)
    }

    async fn run(&self, stage: Stage, intake: Intake) -> Result<(), Fault> {
        let columns = Arc::clone(&self.target.columns);
        let mut outbox = Outbox::new(intake.blocks, intake.durable, columns);
        let following = match stage {
            Stage::Following(following) => following,
            Stage::Reading { start, reading } => {
                let read = FullRead {
                    settings: Arc::clone(&self.settings),
                    target: Arc::clone(&self.target),
                    server: self.server.clone(),
                    identity: self.identity.clone(),
                    throttle: Arc::clone(&self.throttle),
                    start: start.clone(),
                    reading,
                    progress: intake.progress.clone(),
                };
                read.run(&mut outbox).await?;
                self.end_read(start, &mut outbox).await?
            }
        };
        intake.progress.send_modify(|progress| progress.snapshot_done = true);
        let (noted, left_open) = (following.at.to_string(), following.open.is_some());
        let (target, limits) = (Arc::clone(&self.target), self.settings.batch);
        let mut follower = Follower {
            settings: Arc::clone(&self.settings),
            target: Arc::clone(&self.target),
            server: self.server.clone(),
            reader: None,
            identity: self.identity.clone(),
            assembler: Assembler::new(target, self.identity.tracking, limits, following),
            noted,
            noted_at: Instant::now(),
            block_since: None,
            left_open,
            packs: self.server.packs_transactions(),
            strides: Strides::new(&self.settings.guard.turns),
        };
        Box::pin(follower.run(&mut outbox)).await
    }

    /// Tells that the full read is over, and from where to where the log may repeat it.
    async fn end_read(&self, start: Position, outbox: &mut Outbox<()>) -> Result<Following, Fault> {
        let mut session = Session::open(&self.settings).await?;
        let settle_until = Some(self.server.end_of_log(&mut session).await?);
        session.close().await;
        let (position, prepared) = (start.to_string(), BTreeMap::new());
        let following =
            Following { at: start, open: None, settle_until, told_live: false, prepared };
        let stage = Stage::Following(following.clone());
        let place = Place { identity: self.identity.clone(), stage };
        let sealed = Sealed {
            body: Vec::new(),
            phase: Phase::ReadEnd,
            tx_open: false,
            position,
            source_time: None,
        };
        outbox.hand_on(sealed, place.seal(), ()).await?;
        Ok(following)
    }
}

/// Reads rows by their keys, each as it is now.
async fn reread(
    settings: &Settings,
    selection: &Selection,
    keys: &[Vec<Vec<u8>>],
    blocks: mpsc::Sender<Block>,
) -> Result<(), Fault> {
    let mut session = Session::open(settings).await?;
    let (_, table) = probe::admit_to_read(&mut session, settings, selection).await?;
    let target = Target::new(selection.clone(), &table)?;
    let mut named = Scanned::<Session>::new(blocks, &target.columns, settings.batch, None);
    for wanted in keys {
        let no_key = || Fault::new(Code::Bug, "a key to read again is no key");
        let walk = scanned::walk_parts(selection, &target.walk, wanted).ok_or_else(no_key)?;
        let parts = target.walk_kinds().into_iter().zip(&walk);
        let parts = parts.map(|(kind, part)| key::part(kind, part)).collect::<Option<Vec<_>>>();
        let row = read::row_of(&mut session, &target, &parts.ok_or_else(no_key)?).await?;
        named.found(wanted, row.as_deref()).await?;
    }
    named.finish().await?;
    session.close().await;
    Ok(())
}

/// Reads all rows in one statement, which is one snapshot.
async fn scan(
    settings: &Settings,
    selection: &Selection,
    rows_max: Option<u64>,
    blocks: mpsc::Sender<Block>,
) -> Result<(), Fault> {
    let mut session = Session::open(settings).await?;
    let (server, table) = probe::admit_to_read(&mut session, settings, selection).await?;
    let target = Target::new(selection.clone(), &table)?;
    let unlimited = session::statement_timeout(server.flavour, std::time::Duration::ZERO);
    session.run(&target.doing(), &unlimited).await?;
    let doing = target.doing();
    let held = match scanned::throttle(&settings.guard, selection, rows_max) {
        Some(throttle) => Some((throttle, Session::open(settings).await?)),
        None => None,
    };
    let mut scanned = Scanned::new(blocks, &target.columns, settings.batch, held);
    let mut rows = session.read(&doing, &target.scan_query(rows_max)).await?;
    while let Some(row) = rows.next().await? {
        let put = read::put_row(&target, &row, scanned.begin_row());
        put.map_err(|error| Fault::because(Code::Bug, &*doing, error))?;
        scanned.end_row().await?;
    }
    scanned.finish().await?;
    drop(rows);
    session.close().await;
    Ok(())
}
