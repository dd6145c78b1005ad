//! SQL Server 2012 and later: connect, full read in key order, changes by change tracking, change
//! data capture, row version or by comparing rows.
//!
//! Reading order: the settings here; what the server is and what the login may do (`probe`,
//! `login`, `catalogue`, `choice`, `offers`); types and SQL (`shape`, `value`, `target`, which are pure); the
//! full read (`read`); the changes (`log`, `follow`), or all rows again (`compare`). Everything a restart needs is in `place`.
//!
//! Not yet verified against a real server: the tests run against a scripted one, and every
//! statement is shown in `tests/golden/sqlserver.sql` for someone who has the real one.

mod session;
mod said;
mod shape;
mod value;
mod catalogue;
mod place;
mod login;
mod target;
mod probe;
mod tables;
mod choice;
mod offers;
mod log;
mod read;
mod follow;
mod compare;
pub mod trial;
#[cfg(test)]
mod golden;

use std::sync::Arc;

use phusa_protocol::batch::Phase;
use phusa_protocol::fault::Fault;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::choice::Choice;
use self::compare::InKeyOrder;
use self::follow::Follower;
use self::place::{Following, Identity, Log, Mark, Place, Stage};
use self::read::FullRead;
use self::session::Session;
use self::target::Target;
use super::guard::Guard;
use super::outbox::{Filler, Outbox, Sealed};
use super::reconcile;
use super::scanned::{self, Scanned};
use super::settings::{Keep, Limits, Password, Tls};
use super::snapshot::Reading;
use super::throttle::Throttle;
use super::{Block, Findings, Intake, Listed, Offer, Resume, Selection, Source, Start};

/// Everything the engine needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name or address.
    pub host: String,
    /// Port; a named instance is reached by its own. Default 1433.
    pub port: u16,
    /// Database.
    pub database: String,
    /// A login of SQL Server's own; Windows logins are refused.
    pub user: String,
    /// Its password.
    pub password: Option<Password>,
    /// How the connection is protected.
    pub tls: Tls,
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
    /// Settings with every default, for this server and login.
    #[must_use]
    pub fn new(host: &str, database: &str, user: &str) -> Self {
        Self {
            host: host.to_owned(),
            port: 1_433,
            database: database.to_owned(),
            user: user.to_owned(),
            password: None,
            tls: Tls::Off,
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

/// A SQL Server.
#[derive(Debug, Clone)]
pub struct SqlServerSource {
    settings: Arc<Settings>,
}

impl SqlServerSource {
    /// A source that connects when it is asked something.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        if settings.tls == Tls::Off {
            let server = settings.server();
            tracing::info!(server, "The connection to {server} on this machine is not encrypted");
        }
        Self { settings: Arc::new(settings) }
    }
}

impl Source for SqlServerSource {
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
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = Box::pin(capture(settings, selection, start, intake)) => ended,
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

    /// Nothing is kept at the source for a capture: what change tracking and change data capture
    /// keep is the administrator's, and other readers may use it.
    async fn release(&self, _selection: &Selection) -> Result<(), Fault> {
        Ok(())
    }
}

/// Everything one capture found out about its server before it reads.
struct Capture {
    settings: Arc<Settings>,
    target: Arc<Target>,
    identity: Identity,
    throttle: Arc<Throttle>,
    snapshots: bool,
    /// When the table's definition was last altered.
    altered: String,
}

async fn capture(
    settings: &Arc<Settings>,
    selection: &Selection,
    start: Start,
    intake: Intake,
) -> Result<(), Fault> {
    let mut session = Session::open(settings).await?;
    let mut admitted = probe::admit(&mut session, settings, selection).await?;
    let throttle = Arc::new(Throttle::new(&settings.guard, selection.place()));
    if start.resume.is_none() && !throttle.is_open() {
        // Nothing is noted of the changes before the read may begin, nor is a session kept.
        drop(session);
        throttle.wait_for_hours().await;
        session = Session::open(settings).await?;
        admitted = probe::admit(&mut session, settings, selection).await?;
    }
    let (server, table, choice) = admitted;
    let target = Target::new(selection.clone(), &table)?;
    let Choice::Log(log) = choice else {
        drop(session);
        let engine = InKeyOrder::new(settings, target, server.snapshots);
        let job = engine.job()?;
        return Box::pin(reconcile::follow(engine, job, start, intake)).await;
    };
    let identity = Identity {
        database: log::database_identity(&server),
        table: log::table_identity(&table),
        columns: target.fingerprint(),
        log,
    };
    if let Log::RowVersion { column } = &identity.log {
        let table = &selection.table;
        tracing::warn!(
            table,
            column,
            "Changes of {table} are found by row version: deletes are not seen"
        );
    }
    let capture = Capture {
        settings: Arc::clone(settings),
        target: Arc::new(target),
        identity,
        throttle,
        snapshots: server.snapshots,
        altered: table.altered,
    };
    let stage = capture.stage(&mut session, start.resume.as_ref()).await?;
    drop(session);
    capture.run(stage, intake).await
}

impl Capture {
    /// Where to go on: at the place to resume from, if the source still reaches back to it, or with
    /// a full read whose changes are followed from now.
    async fn stage(&self, session: &mut Session, resume: Option<&Resume>) -> Result<Stage, Fault> {
        let state = log::state(session, &self.identity.log, &self.target).await?;
        let Some(resume) = resume else {
            return Ok(Stage::Reading { start: state.end, reading: Reading::new(false) });
        };
        let place = Place::open(resume)?;
        place.check(&self.identity)?;
        let at = match &place.stage {
            Stage::Reading { start, .. } => *start,
            Stage::Following(following) => following.at,
        };
        state.reaches_back_to(at)?;
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
                    identity: self.identity.clone(),
                    throttle: Arc::clone(&self.throttle),
                    snapshots: self.snapshots,
                    start,
                    reading,
                    progress: intake.progress.clone(),
                };
                read.run(&mut outbox).await?;
                self.end_read(start, &mut outbox).await?
            }
        };
        intake.progress.send_modify(|progress| progress.snapshot_done = true);
        self.follower(following).run(&mut outbox).await
    }

    /// Tells that the full read is over, and until when the changes may repeat it.
    async fn end_read(&self, start: Mark, outbox: &mut Outbox<Mark>) -> Result<Following, Fault> {
        let mut session = Session::open(&self.settings).await?;
        let settle = log::settle(&mut session, &self.identity.log, &self.target).await?;
        let following =
            Following { at: start, open: None, settle_until: Some(settle), told_live: false };
        let stage = Stage::Following(following.clone());
        let place = Place { identity: self.identity.clone(), stage };
        let sealed = Sealed {
            body: Vec::new(),
            phase: Phase::ReadEnd,
            tx_open: false,
            position: self.identity.log.position(start),
            source_time: None,
        };
        outbox.hand_on(sealed, place.seal(), start).await?;
        Ok(following)
    }

    fn follower(&self, following: Following) -> Follower {
        let (noted, left_open) = (following.at, following.open.is_some());
        Follower {
            settings: Arc::clone(&self.settings),
            target: Arc::clone(&self.target),
            identity: self.identity.clone(),
            altered: self.altered.clone(),
            snapshots: self.snapshots,
            following,
            filler: Filler::new(self.settings.batch),
            noted,
            noted_at: Instant::now(),
            committed: None,
            left_open,
        }
    }
}

/// Reads all rows in one statement, which is one snapshot where the database allows it.
async fn scan(
    settings: &Settings,
    selection: &Selection,
    rows_max: Option<u64>,
    blocks: mpsc::Sender<Block>,
) -> Result<(), Fault> {
    let mut session = Session::open(settings).await?;
    let (server, table) = probe::admit_to_read(&mut session, settings, selection).await?;
    let target = Target::new(selection.clone(), &table)?;
    session.isolate(server.snapshots).await?;
    let statement = target.scan(rows_max);
    let doing = target.doing();
    let held = match scanned::throttle(&settings.guard, selection, rows_max) {
        Some(throttle) => Some((throttle, Session::open(settings).await?)),
        None => None,
    };
    let mut scanned = Scanned::new(blocks, &target.columns, settings.batch, held);
    let mut rows = session.stream(&doing, &statement.sql, &statement.params).await?;
    while let Some(row) = rows.next().await? {
        target.put_row(&row, 0, scanned.begin_row())?;
        scanned.end_row().await?;
    }
    scanned.finish().await
}
