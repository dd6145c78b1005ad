//! Incidents: what a person has to look at, one open at a time per cause, with what happened when.
//!
//! Whoever finds something wrong says so with [`note`], in the transaction that writes it down
//! otherwise; the first time opens an incident, later ones are counted in it. What lasts is held
//! against what is known by [`lasting`]: that it is over, and that it came back, are lines of the same
//! incident. A person closes it ([`closing`]). Nothing here holds a row value.

pub mod closing;
pub mod export;
pub mod lasting;
mod word;

use std::time::SystemTime;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, AgentId, DatasetId};
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{GenericClient, Row};

use crate::error::database_fault;
use crate::transfers::{from_system_time, system_time};

/// Events kept in a timeline; later ones are counted, and the last moment is kept.
const EVENTS_MAX: i32 = 100;

/// Characters of a cause; names are bounded, so this is never reached honestly.
const CAUSE_CHARACTERS_MAX: usize = 300;

/// What an incident is about. Whoever watches something else adds a kind of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A delivery that breaks its contract: fields, lengths, types, codes, fingerprints.
    Contract,
    /// A delivery whose signature is not its agent's.
    Signature,
    /// An identity used by two, or a one-time code used twice.
    Identity,
    /// Backups that are late, lie beside what they back up, or a copy of the log that is behind.
    Backup,
    /// An agent that reported and is heard of no longer.
    Heartbeat,
    /// A collector of security events that is not reached.
    Siem,
    /// A log without its timestamp.
    Timestamp,
    /// Data that is later than its contract allows.
    Lateness,
    /// A dataset that has stopped on a fault.
    Stopped,
    /// A disk, or a spool, that is nearly full.
    Disk,
    /// An agent's certificate that is about to end and was not renewed.
    Certificate,
    /// Records that differ between source and warehouse.
    Proof,
    /// The transfer log, which does not verify.
    Log,
    /// Signatures of releases that are about to end.
    Release,
}

impl Kind {
    /// Every kind, so that a metric shows each at 0 too.
    pub const ALL: [Self; 14] = [
        Self::Contract,
        Self::Signature,
        Self::Identity,
        Self::Backup,
        Self::Heartbeat,
        Self::Siem,
        Self::Timestamp,
        Self::Lateness,
        Self::Stopped,
        Self::Disk,
        Self::Certificate,
        Self::Proof,
        Self::Log,
        Self::Release,
    ];

    /// Its name in the table, in metrics and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Signature => "signature",
            Self::Identity => "identity",
            Self::Backup => "backup",
            Self::Heartbeat => "heartbeat",
            Self::Siem => "siem",
            Self::Timestamp => "timestamp",
            Self::Lateness => "lateness",
            Self::Stopped => "stopped",
            Self::Disk => "disk",
            Self::Certificate => "certificate",
            Self::Proof => "proof",
            Self::Log => "log",
            Self::Release => "release",
        }
    }

    /// What it is called, Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Contract => ("vi phạm hợp đồng", "breach of contract"),
            Self::Signature => ("chữ ký sai", "wrong signature"),
            Self::Identity => ("danh tính", "identity"),
            Self::Backup => ("sao lưu", "backup"),
            Self::Heartbeat => ("mất liên lạc", "lost contact"),
            Self::Siem => ("chuyển nhật ký an ninh (SIEM)", "collector of security events"),
            Self::Timestamp => ("dấu thời gian", "timestamp"),
            Self::Lateness => ("dữ liệu trễ hạn", "late data"),
            Self::Stopped => ("bộ dữ liệu dừng vì lỗi", "dataset stopped"),
            Self::Disk => ("đĩa sắp đầy", "disk nearly full"),
            Self::Certificate => ("chứng thư sắp hết hạn", "certificate about to end"),
            Self::Proof => ("kho khác nguồn", "warehouse differs from source"),
            Self::Log => ("nhật ký không kiểm chứng được", "transfer log does not verify"),
            Self::Release => ("chữ ký bản phát hành sắp hết hạn", "signatures of releases end"),
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Something that went wrong, to be noted.
#[derive(Debug, Clone, Copy)]
pub struct Happening<'a> {
    /// What it is about.
    pub kind: Kind,
    /// What is wrong, in a few words that are the same each time.
    pub cause: &'a str,
    /// Whose doing it is, where that is known.
    pub agent: Option<&'a AgentId>,
    /// Which dataset is concerned, where one is.
    pub dataset: Option<&'a DatasetId>,
    /// What was seen this time, in words.
    pub what: &'a str,
    /// The entry of the log that tells of it.
    pub transfer: Option<u64>,
    /// When.
    pub at: Timestamp,
}

/// One event of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub what: String,
    /// The transfer whose entry tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<u64>,
}

/// An incident as people see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    /// Its number.
    pub incident: i64,
    /// What it is about.
    pub kind: String,
    /// Whose doing it is.
    pub agent: Option<String>,
    /// Which dataset is concerned.
    pub dataset: Option<String>,
    /// What is wrong, as it was first seen.
    pub cause: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it last happened.
    pub last_at: Timestamp,
    /// How often it happened.
    pub count: i64,
    /// What happened when; the first hundred, and each time it was over, came back or was closed.
    pub timeline: Vec<Event>,
    /// Whether it lasts just now, as far as is known; false for what merely happens.
    pub holds: bool,
    /// When it was closed; `None` while it is open.
    pub closed_at: Option<Timestamp>,
    /// Who closed it.
    pub closed_by: Option<String>,
    /// The cause that person names.
    pub close_cause: Option<String>,
    /// What that person said.
    pub close_note: Option<String>,
}

impl Incident {
    /// The agency whose agent it is about.
    #[must_use]
    pub fn agency(&self) -> Option<&str> {
        self.agent.as_deref().and_then(|agent| agent.split_once('/')).map(|(agency, _)| agency)
    }
}

/// Which incidents are looked for; nothing set = all.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Only open ones, or only closed ones.
    pub open: Option<bool>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only about agents of this agency.
    pub agency: Option<AgencyId>,
    /// Only numbers below this one.
    pub before: Option<i64>,
    /// How many at most; 0 for as many as one command lists.
    pub lines: i64,
}

/// What an open incident is known by: the same each time.
fn key_of(kind: Kind, agent: Option<&str>, dataset: Option<&str>, cause: &str) -> String {
    let (agent, dataset) = (agent.unwrap_or("-"), dataset.unwrap_or("-"));
    bounded(&format!("{} {agent} {dataset} {cause}", kind.name()))
}

fn bounded(text: &str) -> String {
    text.chars().take(CAUSE_CHARACTERS_MAX).collect()
}

/// Events as the column holds them.
fn timeline_of(event: &Event) -> String {
    serde_json::to_string(&[event]).unwrap_or_else(|_| "[]".to_owned())
}

/// Counts a happening in the open incident of its cause, or opens one; says whether it did.
///
/// # Errors
/// When the database does not answer.
pub async fn note(tx: &impl GenericClient, seen: &Happening<'_>) -> Result<bool, Fault> {
    let agent = seen.agent.map(ToString::to_string);
    let dataset = seen.dataset.map(ToString::to_string);
    let key = key_of(seen.kind, agent.as_deref(), dataset.as_deref(), seen.cause);
    let cause = bounded(seen.what);
    let event = timeline_of(&Event { at: seen.at, what: cause.clone(), transfer: seen.transfer });
    let sql = "insert into phusa.incidents as i \
               (kind, cause_key, agent, dataset, cause, opened_at, last_at, timeline) \
               values ($1, $2, $3, $4, $5, $6, $6, $7::text::jsonb) \
               on conflict (cause_key) where closed_at is null do update \
               set count = i.count + 1, last_at = greatest(i.last_at, excluded.last_at), \
               timeline = case when jsonb_array_length(i.timeline) < $8 \
                               then i.timeline || excluded.timeline else i.timeline end \
               returning i.count = 1";
    let kind = seen.kind.name();
    let at = system_time(seen.at);
    let row = tx
        .query_one(sql, &[&kind, &key, &agent, &dataset, &cause, &at, &event, &EVENTS_MAX])
        .await
        .map_err(|error| not_noted(&error))?;
    row.try_get(0).map_err(|error| not_noted(&error))
}

/// Incidents, the newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn find(client: &impl GenericClient, asked: &Asked) -> Result<Vec<Incident>, Fault> {
    let sql = format!(
        "select {COLUMNS} from phusa.incidents \
         where ($1::bool is null or (closed_at is null) = $1) and ($2::text is null or kind = $2) \
         and ($3::text is null or starts_with(agent, $3)) and incident < $4 \
         order by incident desc limit $5"
    );
    let agency = asked.agency.as_ref().map(|agency| format!("{agency}/"));
    let (kind, before) = (asked.kind.map(Kind::name), asked.before.unwrap_or(i64::MAX));
    let lines = if asked.lines == 0 { LISTED_MAX } else { asked.lines };
    let rows = client.query(&sql, &[&asked.open, &kind, &agency, &before, &lines]).await;
    rows.map_err(|error| not_read(&error))?.iter().map(read).collect()
}

/// One incident.
///
/// # Errors
/// `incident_unknown`, or when the database does not answer.
pub async fn show(client: &impl GenericClient, incident: i64) -> Result<Incident, Fault> {
    let sql = format!("select {COLUMNS} from phusa.incidents where incident = $1");
    let row = client.query_opt(&sql, &[&incident]).await.map_err(|error| not_read(&error))?;
    row.as_ref().map_or_else(|| Err(unknown(incident)), read)
}

/// How many are open, by kind; kinds of later versions of this program included.
///
/// # Errors
/// When the database does not answer.
pub async fn open_by_kind(client: &impl GenericClient) -> Result<Vec<(String, i64)>, Fault> {
    let sql = "select kind, count(*) from phusa.incidents where closed_at is null group by kind";
    let rows = client.query(sql, &[]).await.map_err(|error| not_read(&error))?;
    let mut counts: Vec<_> = Kind::ALL.map(|kind| (kind.name().to_owned(), 0)).into();
    for row in rows {
        let kind: String = row.try_get(0).map_err(|error| not_read(&error))?;
        let count: i64 = row.try_get(1).map_err(|error| not_read(&error))?;
        match counts.iter_mut().find(|(known, _)| *known == kind) {
            Some(known) => known.1 = count,
            None => counts.push((kind, count)),
        }
    }
    Ok(counts)
}

/// Most that one command lists.
pub const LISTED_MAX: i64 = 1_000;

const COLUMNS: &str = "incident, kind, agent, dataset, cause, opened_at, last_at, count, \
                       timeline::text, closed_at, closed_by, close_note, close_cause, holds";

fn read(row: &Row) -> Result<Incident, Fault> {
    let moment = |index: usize| row.try_get::<_, SystemTime>(index).map(from_system_time);
    let closed: Option<SystemTime> = row.try_get(9).map_err(|error| not_read(&error))?;
    let timeline: String = row.try_get(8).map_err(|error| not_read(&error))?;
    let timeline = serde_json::from_str(&timeline).map_err(|error| {
        Fault::because(Code::WarehouseSchema, "cannot read an incident's timeline", error)
    })?;
    Ok(Incident {
        incident: row.try_get(0).map_err(|error| not_read(&error))?,
        kind: row.try_get(1).map_err(|error| not_read(&error))?,
        agent: row.try_get(2).map_err(|error| not_read(&error))?,
        dataset: row.try_get(3).map_err(|error| not_read(&error))?,
        cause: row.try_get(4).map_err(|error| not_read(&error))?,
        opened_at: moment(5).map_err(|error| not_read(&error))?,
        last_at: moment(6).map_err(|error| not_read(&error))?,
        count: row.try_get(7).map_err(|error| not_read(&error))?,
        timeline,
        holds: row.try_get(13).map_err(|error| not_read(&error))?,
        close_cause: row.try_get(12).map_err(|error| not_read(&error))?,
        closed_at: closed.map(from_system_time),
        closed_by: row.try_get(10).map_err(|error| not_read(&error))?,
        close_note: row.try_get(11).map_err(|error| not_read(&error))?,
    })
}

fn unknown(incident: i64) -> Fault {
    Fault::new(Code::IncidentUnknown, format!("incident {incident}"))
}

fn not_noted(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot note an incident", error)
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read the incidents", error)
}
