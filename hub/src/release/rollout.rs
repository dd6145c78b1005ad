//! A rollout: one version, ring after ring, halted by the first agent that takes it back.
//!
//! The hub looks every few seconds ([`step`]): who of the ring is in an announced window and not assigned
//! yet is assigned; what agents report is taken down. People begin, hold, let go on and turn back. Only
//! `committed` counts as done.

use std::collections::BTreeSet;

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, AgentId};
use phusa_protocol::release::{Stage, Version};
use phusa_protocol::report::Report;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::refused;
use super::rings::Rings;
use crate::error::database_fault;
use crate::transfers::{Log, deed, from_system_time, system_time};

/// Assignments that are listed.
const LISTED_MAX: i64 = 2_000;

pub(super) fn not_read(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write what is rolled out", &error)
}

/// A rollout as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Its number.
    pub rollout: i64,
    /// What is rolled out.
    pub version: String,
    /// Where `revert` leads.
    pub previous: Option<String>,
    /// Its rings.
    pub rings: Rings,
    /// The ring it is at, from 0.
    pub ring: usize,
    /// Agents of the rings so far that have not committed; none before they were counted.
    pub waiting: Option<i32>,
    /// `running`, `paused`, `halted`, `done`, `reverted` or `replaced`.
    pub state: String,
    /// Why it is not running.
    pub because: Option<String>,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// Who is assigned, and what became of it.
    pub agents: Vec<Assigned>,
}

impl Rollout {
    /// Its state in Vietnamese and English, for people.
    #[must_use]
    pub fn words(&self) -> (&'static str, &'static str) {
        match self.state.as_str() {
            "running" => ("đang chạy", "running"),
            "paused" => ("tạm dừng", "paused"),
            "halted" => ("đã chặn", "halted"),
            "done" => ("đã xong", "done"),
            "reverted" => ("đã lùi", "reverted"),
            _ => ("đã thay bằng đợt khác", "replaced"),
        }
    }

    /// Whether something can be done to it now, as far as its own state tells.
    #[must_use]
    pub fn can(&self, turn: Turn) -> bool {
        let state = self.state.as_str();
        match turn {
            Turn::Pause => state == "running",
            Turn::Resume => ["paused", "halted"].contains(&state),
            Turn::Promote => promoted(self).is_ok(),
            Turn::Revert => self.previous.is_some() && !["reverted", "replaced"].contains(&state),
        }
    }
}

/// One agent of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assigned {
    /// Which.
    pub agent: String,
    /// The version it is to run.
    pub version: String,
    /// A stage of an update; `committed` alone is success.
    pub stage: String,
    /// Why it was taken back.
    pub why: Option<String>,
    /// The fault that stands in its way, by its newest report.
    pub obstacle: Option<String>,
    /// Since when.
    pub changed_at: Timestamp,
}

/// What somebody wants to begin.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The version.
    pub version: Version,
    /// Where `revert` leads.
    pub previous: Option<Version>,
    /// In which rings.
    pub rings: Rings,
    /// Who.
    pub by: String,
}

/// Begins one; a halted one is replaced, a running or paused one stands in the way.
///
/// # Errors
/// `release_refused`; when the database does not answer.
pub async fn start(client: &mut Object, log: &Log, wanted: &Wanted) -> Result<i64, Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    let sql = "update phusa.rollouts set state = 'replaced', changed_at = clock_timestamp() \
               where state = 'halted'";
    tx.execute(sql, &[]).await.map_err(not_read)?;
    let sql = "insert into phusa.rollouts \
               (version, previous, rings, state, started_by, started_at, changed_at) \
               values ($1, $2, $3, 'running', $4, clock_timestamp(), clock_timestamp()) \
               on conflict ((true)) where state in ('running', 'paused', 'halted') do nothing \
               returning rollout";
    let rings = serde_json::to_string(&wanted.rings).unwrap_or_default();
    let (version, previous) =
        (wanted.version.to_string(), wanted.previous.map(|version| version.to_string()));
    let row: [&(dyn postgres_types::ToSql + Sync); 4] = [&version, &previous, &rings, &wanted.by];
    let Some(row) = tx.query_opt(sql, &row).await.map_err(not_read)? else {
        return Err(refused("another rollout is under way: pause, revert or finish that one"));
    };
    tell(&tx, log, (&wanted.by, None, Action::RolloutStart), &version).await?;
    tx.commit().await.map_err(not_read)?;
    log.wake();
    row.try_get(0).map_err(not_read)
}

/// What can be done to the rollout that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Assign nobody else.
    Pause,
    /// Go on.
    Resume,
    /// Go on to the next ring.
    Promote,
    /// Have everybody who was assigned go back, whatever the window.
    Revert,
}

impl Turn {
    /// Every one, in the order people are offered them.
    pub const ALL: [Self; 4] = [Self::Promote, Self::Pause, Self::Resume, Self::Revert];

    /// Its name in addresses and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Revert => "revert",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|turn| turn.name() == name)
    }

    /// What a person does with it, in Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => ("Tạm dừng", "Pause"),
            Self::Resume => ("Tiếp tục đợt", "Resume"),
            Self::Promote => ("Sang vòng sau", "Promote to the next ring"),
            Self::Revert => ("Lùi về bản trước", "Revert to the version before"),
        }
    }

    /// What comes of it, in Vietnamese and English.
    #[must_use]
    pub fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => (
                "Không giao thêm cho ai; ai chưa bắt đầu giữ bản đang chạy.",
                "Nobody else is assigned; whoever has not begun stays as it is.",
            ),
            Self::Resume => (
                "Đợt cập nhật chạy tiếp từ vòng đang dở, trong các cửa sổ bảo trì đã báo.",
                "The rollout goes on from its ring, in the windows that were announced.",
            ),
            Self::Promote => (
                "Vòng sau được giao bản này, trong các cửa sổ bảo trì đã báo.",
                "The next ring is assigned this version, in the windows that were announced.",
            ),
            Self::Revert => (
                "Mọi tác tử đã được giao trở lại bản trước, ngay cả ngoài cửa sổ bảo trì.",
                "Every agent that was assigned goes back to the version before, whatever the window.",
            ),
        }
    }

    /// How it stands in the log.
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Pause => Action::RolloutPause,
            Self::Resume => Action::RolloutResume,
            Self::Promote => Action::RolloutPromote,
            Self::Revert => Action::RolloutRevert,
        }
    }
}

/// Does it; says in which state the rollout is then.
///
/// # Errors
/// `release_refused` when that cannot be done now; when the database does not answer.
pub async fn turn(
    client: &mut Object,
    log: &Log,
    turn: Turn,
    (by, from, because): (&str, Option<&str>, &str),
) -> Result<Rollout, Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    let open = newest(&tx, true).await?;
    let Some(rollout) = open else { return Err(refused("no rollout was begun")) };
    let is_open = ["running", "paused", "halted"].contains(&rollout.state.as_str());
    if !is_open && !matches!(turn, Turn::Revert) {
        return Err(refused(format!("rollout {} is {}", rollout.rollout, rollout.state)));
    }
    let (state, ring) = match turn {
        Turn::Pause => ("paused", rollout.ring),
        Turn::Resume => ("running", rollout.ring),
        Turn::Promote => ("running", promoted(&rollout)?),
        Turn::Revert => {
            let Some(previous) = &rollout.previous else {
                return Err(refused("it was begun without --previous: no version to go back to"));
            };
            let sql = "update phusa.release_assignments set version = $2, stage = 'offered', \
                       why = null, changed_at = clock_timestamp() where rollout = $1";
            tx.execute(sql, &[&rollout.rollout, previous]).await.map_err(not_read)?;
            ("reverted", rollout.ring)
        }
    };
    let because = (state != "running").then_some(because);
    let ring = i32::try_from(ring).unwrap_or(0);
    let sql = "update phusa.rollouts set state = $2, because = $4, ring = $3, \
               waiting = case when ring = $3 then waiting end, \
               changed_at = clock_timestamp() where rollout = $1";
    tx.execute(sql, &[&rollout.rollout, &state, &ring, &because]).await.map_err(not_read)?;
    tell(&tx, log, (by, from, turn.action()), &rollout.version).await?;
    let now = newest(&tx, true).await?;
    tx.commit().await.map_err(not_read)?;
    log.wake();
    now.ok_or_else(|| refused("no rollout was begun"))
}

/// The next ring, when everybody of those so far has committed.
fn promoted(rollout: &Rollout) -> Result<usize, Fault> {
    if rollout.state != "running" {
        return Err(refused(format!("it is {}: resume it first", rollout.state)));
    }
    if rollout.ring + 1 >= rollout.rings.count() {
        return Err(refused("it is at its last ring"));
    }
    let committed = Stage::Committed.name();
    let first = rollout.agents.iter().find(|one| one.stage != committed);
    match (rollout.waiting, first) {
        (Some(0), _) => Ok(rollout.ring + 1),
        (_, Some(first)) => {
            let what = format!("{} is {}, not committed", first.agent, first.stage);
            Err(refused(what))
        }
        (Some(waiting), None) => {
            Err(refused(format!("{waiting} agents of this ring wait for their window")))
        }
        (None, None) => Err(refused("the agents of this ring have not been counted yet")),
    }
}

async fn tell(
    tx: &Transaction<'_>,
    log: &Log,
    (by, from, action): (&str, Option<&str>, Action),
    version: &str,
) -> Result<(), Fault> {
    let told = Deed::new(by, action).on(version);
    let told = from.into_iter().fold(told, Deed::from);
    deed::write(tx, log, told).await.map(drop)
}

/// The newest rollout, with its agents where they are wanted.
///
/// # Errors
/// When the database does not answer.
async fn newest(tx: &Transaction<'_>, with_agents: bool) -> Result<Option<Rollout>, Fault> {
    let sql = "select rollout, version, previous, rings, ring, state, because, started_by, \
               started_at, waiting from phusa.rollouts order by rollout desc limit 1";
    let Some(row) = tx.query_opt(sql, &[]).await.map_err(not_read)? else { return Ok(None) };
    let mut found = rollout(&row)?;
    if with_agents {
        let sql = "select agent, version, stage, why, changed_at from phusa.release_assignments \
                   where rollout = $1 order by (stage = 'rolled_back') desc, agent limit $2";
        let rows = tx.query(sql, &[&found.rollout, &LISTED_MAX]).await.map_err(not_read)?;
        for row in &rows {
            found.agents.push(assigned(row).map_err(not_read)?);
        }
    }
    Ok(Some(found))
}

/// The newest rollout with its agents.
///
/// # Errors
/// When the database does not answer.
pub async fn status(client: &mut Object) -> Result<Option<Rollout>, Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    let Some(mut found) = newest(&tx, true).await? else { return Ok(None) };
    let sql = "select a.agent, f.report::jsonb #>> '{update,obstacle}' \
               from phusa.release_assignments a join phusa.fleet_agents f using (agent) \
               where a.rollout = $1 and f.report::jsonb #>> '{update,obstacle}' is not null";
    for row in tx.query(sql, &[&found.rollout]).await.map_err(not_read)? {
        let (agent, obstacle): (String, String) =
            (row.try_get(0).map_err(not_read)?, row.try_get(1).map_err(not_read)?);
        let one = found.agents.iter_mut().find(|one| one.agent == agent);
        one.into_iter().for_each(|one| one.obstacle = Some(obstacle.clone()));
    }
    Ok(Some(found))
}

fn rollout(row: &Row) -> Result<Rollout, Fault> {
    let text = |index: usize| row.try_get::<_, String>(index).map_err(not_read);
    let maybe = |index: usize| row.try_get::<_, Option<String>>(index).map_err(not_read);
    let rings = serde_json::from_str(&text(3)?)
        .map_err(|error| Fault::because(Code::WarehouseSchema, "a rollout has no rings", error))?;
    let ring: i32 = row.try_get(4).map_err(not_read)?;
    Ok(Rollout {
        rollout: row.try_get(0).map_err(not_read)?,
        version: text(1)?,
        previous: maybe(2)?,
        rings,
        ring: usize::try_from(ring).unwrap_or(0),
        waiting: row.try_get(9).map_err(not_read)?,
        state: text(5)?,
        because: maybe(6)?,
        started_by: text(7)?,
        started_at: from_system_time(row.try_get(8).map_err(not_read)?),
        agents: Vec::new(),
    })
}

fn assigned(row: &Row) -> Result<Assigned, tokio_postgres::Error> {
    Ok(Assigned {
        agent: row.try_get(0)?,
        version: row.try_get(1)?,
        stage: row.try_get(2)?,
        why: row.try_get(3)?,
        obstacle: None,
        changed_at: from_system_time(row.try_get(4)?),
    })
}

/// Brings the rollout on by what agents say and by who may be updated at `now`: once every few seconds.
///
/// # Errors
/// When the database does not answer.
pub async fn step(
    client: &mut Object,
    log: &Log,
    all: &BTreeSet<AgentId>,
    now: Timestamp,
) -> Result<(), Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    // One hub process at a time; another looks again in a few seconds.
    let sql = "select pg_try_advisory_xact_lock(hashtext('phusa.rollouts'))";
    let alone: bool =
        tx.query_one(sql, &[]).await.map_err(not_read)?.try_get(0).map_err(not_read)?;
    let Some(rollout) = newest(&tx, true).await?.filter(|_| alone) else { return Ok(()) };
    let bad = take_down(&tx, &rollout).await?;
    if rollout.state == "running" {
        match bad {
            Some(because) => halt(&tx, log, &rollout, &because).await?,
            None => assign(&tx, &rollout, all, now).await?,
        }
    }
    tx.commit().await.map_err(not_read)?;
    log.wake();
    Ok(())
}

/// Takes down what agents report of their updates; the first that was taken back, with its reason.
async fn take_down(tx: &Transaction<'_>, rollout: &Rollout) -> Result<Option<String>, Fault> {
    let sql = "select a.agent, a.version, f.report from phusa.release_assignments a \
               join phusa.fleet_agents f using (agent) \
               where a.rollout = $1 and f.report is not null and f.reported_at > a.changed_at";
    let mut bad = None;
    for row in tx.query(sql, &[&rollout.rollout]).await.map_err(not_read)? {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(not_read);
        let (agent, version) = (text(0)?, text(1)?);
        let Ok(report) = serde_json::from_str::<Report>(&text(2)?) else { continue };
        let Some(update) = report.update else { continue };
        let of_this = update.target.is_some_and(|target| target.to_string() == version);
        let runs = update.running.to_string() == version;
        let rests = [Stage::Committed, Stage::Idle, Stage::RolledBack].contains(&update.stage);
        let (stage, why) = if update.stage == Stage::RolledBack && of_this {
            (Stage::RolledBack, update.why)
        } else if rests && runs {
            (Stage::Committed, None)
        } else if of_this && update.stage != Stage::Idle {
            (update.stage, None)
        } else {
            continue;
        };
        let sql = "update phusa.release_assignments set stage = $2, why = $3 \
                   where agent = $1 and (stage, why) is distinct from ($2, $3)";
        tx.execute(sql, &[&agent, &stage.name(), &why]).await.map_err(not_read)?;
        if stage == Stage::RolledBack && bad.is_none() {
            bad = Some(format!("{agent}: {}", why.unwrap_or_else(|| "?".to_owned())));
        }
    }
    Ok(bad)
}

async fn halt(
    tx: &Transaction<'_>,
    log: &Log,
    rollout: &Rollout,
    because: &str,
) -> Result<(), Fault> {
    let sql = "update phusa.rollouts set state = 'halted', because = $2, \
               changed_at = clock_timestamp() where rollout = $1";
    tx.execute(sql, &[&rollout.rollout, &because]).await.map_err(not_read)?;
    tracing::warn!(code = %Code::UpdateFailed, version = rollout.version, "The rollout of {} is halted: {because}", rollout.version);
    tell(tx, log, ("hub", None, Action::RolloutHalt), &rollout.version).await
}

/// Assigns whoever is in the ring, in a window and not assigned yet; ends a rollout that is through.
async fn assign(
    tx: &Transaction<'_>,
    rollout: &Rollout,
    all: &BTreeSet<AgentId>,
    now: Timestamp,
) -> Result<(), Fault> {
    let within = rollout.rings.up_to(rollout.ring, &rollout.version, all);
    for agent in &within {
        if rollout.agents.iter().any(|one| one.agent == agent.to_string()) {
            continue;
        }
        if !may_now(tx, agent.agency(), now).await? {
            continue;
        }
        let sql = "insert into phusa.release_assignments (agent, version, rollout, changed_at) \
                   values ($1, $2, $3, clock_timestamp()) \
                   on conflict (agent) do update set version = excluded.version, \
                   rollout = excluded.rollout, stage = 'offered', why = null, \
                   changed_at = excluded.changed_at";
        let agent = agent.to_string();
        tx.execute(sql, &[&agent, &rollout.version, &rollout.rollout]).await.map_err(not_read)?;
    }
    let is_through = |agent: &&AgentId| {
        let name = agent.to_string();
        let committed = |one: &&Assigned| one.stage == Stage::Committed.name();
        rollout.agents.iter().filter(committed).any(|one| one.agent == name)
    };
    let waiting = within.len().saturating_sub(within.iter().filter(is_through).count());
    let waiting = (!within.is_empty()).then(|| i32::try_from(waiting).unwrap_or(i32::MAX));
    let is_last = rollout.ring + 1 >= rollout.rings.count();
    let state = if is_last && waiting == Some(0) { "done" } else { "running" };
    let sql = "update phusa.rollouts set waiting = $2, state = $3, \
               changed_at = case when state = $3 then changed_at else clock_timestamp() end \
               where rollout = $1 and (waiting, state) is distinct from ($2, $3)";
    tx.execute(sql, &[&rollout.rollout, &waiting, &state]).await.map(drop).map_err(not_read)
}

/// Whether the agency is in a window of maintenance that was announced in time, or in an emergency (CB-16).
async fn may_now(tx: &Transaction<'_>, agency: &AgencyId, now: Timestamp) -> Result<bool, Fault> {
    let sql = "select exists (select from phusa.notices \
               where (agencies = '{}' or $1 = any (agencies)) and withdrawn_at is null \
               and from_at <= $2 and until_at > $2)";
    let row = tx.query_one(sql, &[&agency.as_str(), &system_time(now)]).await.map_err(not_read)?;
    row.try_get(0).map_err(not_read)
}
