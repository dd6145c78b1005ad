//! The replication slot of one dataset: made, looked at, watched, given up.
//!
//! It is the one thing the agent leaves at a source. A slot holds back log at the agency's
//! server, so it never outlives its use: a half-made one is taken back, and one that holds back
//! more than `slot_wal_max` is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgwire_replication::{ReplicationClient, ReplicationConfig, SslMode, TlsConfig};
use phusa_protocol::fault::{Code, Fault};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::catalogue::heirs;
use super::drift::{self, Partitions};
use super::functions::Functions;
use super::place::{Identity, Lsn, SlotState};
use super::publication::VERSION_COLUMN_LISTS as VERSION_FUNCTIONS;
use super::session::{APPLICATION_NAME, Session, get, pinned};
use super::target::Target;
use super::{Settings, said};
use crate::failpoint::Failpoint;
use crate::source::Progress;
use crate::source::settings::Tls;

/// How often the slot is looked at while it is in use.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// How often in a row looking may fail before the capture ends.
const WATCH_FAILURES_MAX: u32 = 5;

/// How long a slot may still be held by a connection that has just ended.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// How long the replication connection may take to answer a command that needs no waiting.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// After so many rounds of the log's writer a commit is on disk at the latest, and a little more
/// for a disk that is busy.
const WRITER_ROUNDS: u32 = 3;
const WRITER_GRACE: Duration = Duration::from_millis(500);

/// How often is looked whether it is.
const DISK_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Events the replication connection may hold ready; the rest waits at the server.
const EVENTS_MAX: usize = 256;

/// How soon a released position reaches the server.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);

/// The replication connection of one slot, not yet connected.
pub(super) fn replication(settings: &Settings, slot: &str, publication: &str) -> ReplicationConfig {
    let password = settings.password.as_ref().map_or("", |password| password.reveal());
    let tls = match &settings.tls {
        Tls::Off => TlsConfig::disabled(),
        Tls::Verify { ca_file } => TlsConfig {
            mode: SslMode::VerifyFull,
            ca_pem_path: Some(ca_file.clone()),
            // Said outright, because an address is only checked against the certificate then.
            sni_hostname: Some(settings.host.clone()),
            ..TlsConfig::default()
        },
    };
    let (host, user, database) = (&settings.host, &settings.user, &settings.database);
    ReplicationConfig::new(host, user, password, database, slot, publication)
        .with_port(settings.port)
        .with_tls(tls)
        .with_options(pinned(settings))
        .with_application_name(APPLICATION_NAME)
        .with_status_interval(FEEDBACK_INTERVAL)
        .with_buffer_size(EVENTS_MAX)
}

/// A replication connection that waits for commands.
struct Gate {
    client: ReplicationClient,
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A connection that is still waiting for an answer would otherwise live on in its task.
        self.client.abort();
    }
}

impl Gate {
    /// One that reads no log, so that slot and publication are never asked for.
    async fn open(settings: &Settings) -> Result<Self, Fault> {
        let config = replication(settings, "phusa", "phusa");
        let client = ReplicationClient::connect_gated(config).await;
        let what = || format!("cannot open a replication connection to {}", settings.server());
        Ok(Self { client: client.map_err(|error| said::of_replication(what(), error, true))? })
    }

    /// One row of a command that needs no waiting, as text.
    async fn ask(&mut self, what: &str, command: &str) -> Result<Vec<String>, Fault> {
        let silence = |_| Fault::new(Code::SourceUnreachable, format!("{what}: silence"));
        timeout(ANSWER_WAIT, self.answer(what, command)).await.map_err(silence)?
    }

    /// The same, however long it takes.
    async fn answer(&mut self, what: &str, command: &str) -> Result<Vec<String>, Fault> {
        let rows = self.client.simple_query(command).await;
        let rows = rows.map_err(|error| said::of_replication(what, error, true))?;
        let row = rows.into_iter().next().unwrap_or_default();
        let text = |cell: Option<bytes::Bytes>| {
            cell.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        Ok(row.into_iter().map(text).collect())
    }
}

/// Which server this is, with everything else that a position is worth nothing without.
pub(super) async fn identify(
    settings: &Settings,
    session: &Session,
    target: &Target,
) -> Result<Identity, Fault> {
    let doing = "cannot ask the server who it is";
    let (system, timeline) = match &target.through {
        Some(functions) => {
            let (system, timeline, _) = functions.who(session).await?;
            (system, timeline)
        }
        None => identify_system(settings).await?,
    };
    let sql = "select oid from pg_database where datname = current_database()";
    let database = get(&session.row(doing, sql, &[]).await?, 0)?;
    let (table, columns) = (target.oid, target.fingerprint());
    let name = settings.publication(&target.selection.dataset);
    let publication = publication(session, &name, table).await?;
    let partitions = Some(Partitions::find(session, table).await?);
    Ok(Identity { system, timeline, database, table, columns, publication, partitions })
}

/// System identifier and timeline, from the replication connection: the one place that tells them
/// to a login without further rights.
async fn identify_system(settings: &Settings) -> Result<(String, u32), Fault> {
    let doing = "cannot ask the server who it is";
    let mut gate = Gate::open(settings).await?;
    let silence = |_| Fault::new(Code::SourceUnreachable, format!("{doing}: silence"));
    let answer =
        timeout(ANSWER_WAIT, gate.ask(doing, "IDENTIFY_SYSTEM")).await.map_err(silence)??;
    let [system, timeline, ..] = answer.as_slice() else {
        return Err(Fault::new(Code::SourceVersion, doing));
    };
    let timeline = timeline.parse().map_err(|_| Fault::new(Code::SourceVersion, doing))?;
    Ok((system.clone(), timeline))
}

/// What changes with every alteration of the publication of this name and of what it carries of
/// the table: numbers, and the transactions that last wrote them.
async fn publication(session: &Session, name: &str, table: u32) -> Result<String, Fault> {
    let sql = "select concat_ws(' ', p.oid, p.xmin, r.oid, r.xmin) from pg_publication p \
               left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = $2 \
               where p.pubname = $1";
    let doing = format!("cannot look up publication {name}");
    let rows = session.rows(&doing, sql, &[&name, &table]).await?;
    rows.first().map_or(Ok(String::new()), |row| get(row, 0))
}

/// A slot that was just made, with the snapshot that shows the data as of its start.
pub(super) struct Exported {
    /// Keeps the snapshot alive.
    _gate: Gate,
    /// Its name for SET TRANSACTION SNAPSHOT.
    pub(super) snapshot: String,
    /// Where the slot starts.
    pub(super) start: Lsn,
}

/// Makes the slot, of which there must be none; waits at most `slot_wait`, and leaves nothing behind
/// when it fails.
pub(super) async fn create(
    settings: &Settings,
    session: &Session,
    slot: &str,
    standby: bool,
) -> Result<Exported, Fault> {
    let doing = format!("cannot create replication slot {slot}");
    let mut gate = Gate::open(settings).await?;
    let pid = gate.ask(&doing, "select pg_backend_pid()").await?;
    let pid = pid.first().and_then(|pid| pid.parse::<i32>().ok()).unwrap_or_default();
    // Making a slot waits for every open transaction and locks no table: `slot_wait` is its limit,
    // not the ones for statements and locks.
    for limit in ["lock_timeout", "statement_timeout"] {
        gate.ask(&doing, &format!("set {limit} = 0")).await?;
    }
    let command = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput EXPORT_SNAPSHOT");
    let answer = match timeout(settings.slot_wait, gate.answer(&doing, &command)).await {
        Ok(answer) => answer?,
        Err(_) => {
            let fault = slot_wait_fault(settings, session, slot, standby).await;
            drop(gate);
            take_back(session, slot, pid).await;
            return Err(fault);
        }
    };
    let (start, snapshot) = match answer.as_slice() {
        [_, start, snapshot, ..] => (Lsn::parse(start), snapshot.clone()),
        _ => (None, String::new()),
    };
    let start = start.ok_or_else(|| Fault::new(Code::SourceVersion, doing))?;
    Failpoint::AfterSlotCreated.pass();
    Ok(Exported { _gate: gate, snapshot, start })
}

/// Makes the slot through the functions; the server itself ends a wait beyond `slot_wait`.
pub(super) async fn create_through(
    settings: &Settings,
    session: &Session,
    functions: &Functions,
    (slot, standby): (&str, bool),
) -> Result<Lsn, Fault> {
    let doing = format!("cannot create replication slot {slot}");
    wait_until_free(session, slot).await?;
    let wait = settings.slot_wait.as_millis();
    // Making a slot waits for every open transaction and locks no table.
    session.run(&doing, &format!("set lock_timeout = 0; set statement_timeout = {wait}")).await?;
    let made = functions.renew(session).await;
    if made.is_ok() {
        session.run(&doing, "reset lock_timeout; reset statement_timeout").await?;
        Failpoint::AfterSlotCreated.pass();
        return made;
    }
    let state = state(session, VERSION_FUNCTIONS, slot).await?;
    match made {
        Err(fault) if fault.code == Code::SourceUnreachable && state.is_none() => {
            Err(slot_wait_fault(settings, session, slot, standby).await)
        }
        made => made,
    }
}

/// Ends the server process that still waits, and drops what it may have made meanwhile. What
/// fails here is found again by the next `create`, which removes an old slot first.
async fn take_back(session: &Session, slot: &str, pid: i32) {
    let doing = "cannot end the waiting process";
    let ended = session.row(doing, "select pg_terminate_backend($1)", &[&pid]).await;
    let removed = match ended {
        Ok(_) => remove(session, slot).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = removed {
        tracing::warn!(slot, "{}", fault.chain());
    }
}

async fn slot_wait_fault(
    settings: &Settings,
    session: &Session,
    slot: &str,
    standby: bool,
) -> Fault {
    let waited = settings.slot_wait.as_secs();
    let mut what = format!("replication slot {slot} was not ready within {waited} s");
    if standby {
        what.push_str(": run `select pg_log_standby_snapshot()` on the primary (16 or newer)");
    } else if let Ok(Some(oldest)) = oldest_transaction(session).await {
        what.push_str(&oldest);
    }
    Fault::new(Code::SourceSlotWait, what)
}

/// The transaction the slot waits for, as far as this login may see it.
async fn oldest_transaction(session: &Session) -> Result<Option<String>, Fault> {
    let sql = "select l.pid, extract(epoch from now() - a.xact_start)::int8, \
                      age(l.transactionid)::int8 \
               from pg_locks l left join pg_stat_activity a on a.pid = l.pid \
               where l.locktype = 'transactionid' and l.granted \
               order by age(l.transactionid) desc limit 1";
    let rows = session.rows("cannot look for old transactions", sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (pid, seconds, age): (i32, Option<i64>, i64) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    Ok(Some(match seconds {
        Some(seconds) => format!(": it waits for process {pid}, in a transaction for {seconds} s"),
        None => format!(": it waits for process {pid}, {age} transactions old"),
    }))
}

/// What the server says of the slot; `None` when there is none.
pub(super) async fn state(
    session: &Session,
    version: u32,
    slot: &str,
) -> Result<Option<SlotState>, Fault> {
    let status = if version >= 130_000 { "wal_status is distinct from 'lost'" } else { "true" };
    let sql = format!(
        "select {status} and restart_lsn is not null and plugin = 'pgoutput' \
                  and database = current_database(), confirmed_flush_lsn::text \
         from pg_replication_slots where slot_name::text = $1"
    );
    let rows = session.rows("cannot look up the replication slot", &sql, &[&slot]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let confirmed: Option<String> = get(row, 1)?;
    let confirmed = confirmed.as_deref().and_then(Lsn::parse);
    let usable: Option<bool> = get(row, 0)?;
    Ok(Some(SlotState {
        usable: usable.unwrap_or(false) && confirmed.is_some(),
        confirmed: confirmed.unwrap_or_default(),
    }))
}

/// Drops the slot if this database has it; one that is in use is waited for. One of another database
/// belongs to another agent, whatever its name.
///
/// # Errors
/// `source_slot_busy` when it is still in use after [`RELEASE_WAIT`].
pub(super) async fn remove(session: &Session, slot: &str) -> Result<(), Fault> {
    let doing = format!("cannot drop replication slot {slot}");
    let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
               where slot_name::text = $1 and database = current_database()";
    let until = Instant::now() + RELEASE_WAIT;
    loop {
        match session.rows(&doing, sql, &[&slot]).await {
            Ok(_) => return Ok(()),
            Err(fault) if fault.code == Code::SourceSlotBusy && Instant::now() < until => {
                sleep(Duration::from_millis(200)).await;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Waits until nobody uses the slot.
///
/// # Errors
/// `source_slot_busy` when it is still in use after [`RELEASE_WAIT`].
pub(super) async fn wait_until_free(session: &Session, slot: &str) -> Result<(), Fault> {
    let doing = "cannot look up the replication slot";
    let sql = "select count(*) from pg_replication_slots where slot_name::text = $1 and active";
    let until = Instant::now() + RELEASE_WAIT;
    while get::<i64>(&session.row(doing, sql, &[&slot]).await?, 0)? > 0 {
        if Instant::now() >= until {
            let what = format!("replication slot {slot} is in use by another process");
            return Err(Fault::new(Code::SourceSlotBusy, what));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Drops slots to free what they hold back, ending our own connections to them if need be.
pub(super) async fn give_up(
    settings: &Settings,
    slots: &[String],
    through: Option<&Functions>,
) -> Result<(), Fault> {
    let session = Session::open(settings).await?;
    if let Some(functions) = through {
        for slot in slots {
            wait_until_free(&session, slot).await?;
        }
        return functions.give_up(&session).await;
    }
    let sql = "select pg_terminate_backend(active_pid) from pg_replication_slots \
               where slot_name::text = $1 and database = current_database() and active";
    for slot in slots {
        session.rows("cannot end the connection of the slot", sql, &[slot]).await?;
        remove(&session, slot).await?;
    }
    Ok(())
}

/// The position that answers "everything visible now was logged before this".
pub(super) async fn insert_position(session: &Session, standby: bool) -> Result<Lsn, Fault> {
    let function = if standby { "pg_last_wal_replay_lsn" } else { "pg_current_wal_insert_lsn" };
    position(session, function).await
}

/// The position up to which the log can be read.
pub(super) async fn end_of_log(session: &Session, standby: bool) -> Result<Lsn, Fault> {
    let function = if standby { "pg_last_wal_replay_lsn" } else { "pg_current_wal_flush_lsn" };
    position(session, function).await
}

/// Returns once everything visible now is on the server's disk. With `synchronous_commit = off` a
/// commit is seen before it is there, and a crash of the server takes it back: what was handed on
/// of it would then stand in the warehouse for ever.
///
/// A standby shows only what its primary had on disk; nor does an exported snapshot hold more,
/// because it is made from the log, which is read as far as it is on disk.
pub(super) async fn wait_until_on_disk(session: &Session, standby: bool) -> Result<(), Fault> {
    if standby {
        return Ok(());
    }
    let seen = insert_position(session, standby).await?;
    let doing = "cannot look up the delay of the log's writer";
    let sql = "select setting::int8 from pg_settings where name = 'wal_writer_delay'";
    let delay: i64 = get(&session.row(doing, sql, &[]).await?, 0)?;
    // The server's promise for commits. What is still not there then is no commit, and nobody
    // may be about to write it.
    let promised = Duration::from_millis(delay.unsigned_abs()) * WRITER_ROUNDS + WRITER_GRACE;
    let until = Instant::now() + promised;
    while end_of_log(session, standby).await? < seen && Instant::now() < until {
        sleep(DISK_LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn position(session: &Session, function: &str) -> Result<Lsn, Fault> {
    let doing = "cannot ask for the position of the log";
    let row = session.row(doing, &format!("select {function}()::text"), &[]).await?;
    let text: String = get(&row, 0)?;
    Lsn::parse(&text).ok_or_else(|| Fault::new(Code::SourceVersion, doing))
}

/// Watches one slot for as long as it is polled.
pub(super) struct Watch {
    pub(super) settings: Arc<Settings>,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) target: Arc<Target>,
    /// Partitions that the log tells of are added to it.
    pub(super) identity: watch::Sender<Identity>,
    pub(super) version: u32,
    pub(super) standby: bool,
    /// Up to where the capture has read, as an [`Lsn`].
    pub(super) seen: Arc<AtomicU64>,
    pub(super) progress: watch::Sender<Progress>,
}

impl Watch {
    /// Returns when the slot is gone or holds back too much, or when the server has not answered
    /// several times in a row; the capture then has to end.
    ///
    /// The last is for a network that went away without a word: nothing else would notice, because
    /// a walsender with nothing to send is silent too.
    pub(super) async fn until_lost(&self) -> Fault {
        let mut failures = 0;
        loop {
            let silence = || Fault::new(Code::SourceUnreachable, "the server is silent");
            let looked = timeout(ANSWER_WAIT, self.look_in_turn()).await;
            match looked.unwrap_or_else(|_| Err(silence())) {
                Ok(None) => failures = 0,
                Ok(Some(fault)) => return fault,
                Err(fault) if failures >= WATCH_FAILURES_MAX => return fault,
                Err(_) => failures += 1,
            }
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Looks through one of the source's connections for that; one that failed is not used again.
    async fn look_in_turn(&self) -> Result<Option<Fault>, Fault> {
        let watchers = &self.settings.watchers;
        let _turn = watchers.turn().await;
        let session = match watchers.take() {
            Some(session) => session,
            None => Session::open_to_ask_often(&self.settings).await?,
        };
        let seen = self.look(&session).await;
        if seen.is_ok() {
            watchers.give_back(session);
        }
        seen
    }

    async fn look(&self, session: &Session) -> Result<Option<Fault>, Fault> {
        let gap = |what: String| Ok(Some(Fault::new(Code::SourceGap, what)));
        let slot = &self.slot;
        match state(session, self.version, slot).await? {
            None => return gap(format!("replication slot {slot} was dropped")),
            Some(state) if !state.usable => return gap(format!("slot {slot} lost its log")),
            Some(_) => {}
        }
        if let Some(fault) = self.drift(session).await? {
            return Ok(Some(fault));
        }
        let end = end_of_log(session, self.standby).await?;
        // Transactions that write are numbered; a standby knows the numbers of its primary.
        let sql = "select restart_lsn::text, txid_snapshot_xmax(txid_current_snapshot()) \
                   from pg_replication_slots where slot_name::text = $1";
        let row = session.row("cannot look up the replication slot", sql, &[slot]).await?;
        let (restart, numbered): (Option<String>, i64) = (get(&row, 0)?, get(&row, 1)?);
        self.settings.watchers.counted(Instant::now(), numbered.unsigned_abs());
        let Some(restart) = restart.as_deref().and_then(Lsn::parse) else { return Ok(None) };
        let retained = end.0.saturating_sub(restart.0);
        let lag = end.0.saturating_sub(self.seen.load(Ordering::Relaxed));
        self.progress.send_modify(|progress| {
            progress.retained_bytes = Some(retained);
            progress.lag_bytes = Some(lag);
        });
        let limit = self.settings.slot_wal_max.0;
        Ok((retained > limit).then(|| {
            let what = format!("slot {slot} holds back {retained} bytes of log, above {limit}");
            Fault::new(Code::SourceSlotGivenUp, what)
        }))
    }

    /// Looks whether something happened to the table that the log does not tell.
    async fn drift(&self, session: &Session) -> Result<Option<Fault>, Fault> {
        let (known, name) = (self.identity.borrow().clone(), &self.publication);
        if publication(session, name, known.table).await? != known.publication {
            let what = format!("publication {name} was altered");
            return Ok(Some(Fault::new(Code::SourceGap, what)));
        }
        if let Some(column) = drift::rewidened(session, &self.target).await? {
            let what = format!("column {column} was given another width");
            return Ok(Some(drift::gap(&self.target, &what)));
        }
        let doing = "cannot look up what inherits from the table";
        if let Some(heir) = heirs(session, doing, known.table).await?.first() {
            let what = format!("table {heir} inherits from it now");
            return Ok(Some(drift::gap(&self.target, &what)));
        }
        let now = Partitions::find(session, known.table).await?;
        let before = known.partitions.unwrap_or_default();
        if let Some(untold) = now.untold_since(&before) {
            return Ok(Some(drift::gap(&self.target, &untold)));
        }
        if now != before {
            self.identity.send_modify(|identity| identity.partitions = Some(now));
        }
        Ok(None)
    }
}
