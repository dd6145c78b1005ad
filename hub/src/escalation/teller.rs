//! Keeps people told: looks what is due, tells it, writes down that it was taken.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Terms;
use super::send::Mail;
use super::steps::{Due, Open, Step, Way, due};
use crate::error::database_fault;
use crate::fleet::contact;
use crate::incidents::Kind;
use crate::incidents::lasting;
use crate::transfers::{from_system_time, system_time};
use crate::warehouse::Warehouse;

/// How often is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long after a failure a way is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Open incidents that are looked at; the oldest first, so that none waits for ever.
const OPEN_MAX: i64 = 1_000;

/// Told in one round.
const TOLD_MAX: usize = 50;

/// What the teller works with.
#[derive(Debug)]
pub struct Teller {
    /// Whom to tell, when and how.
    pub terms: Terms,
    /// Where incidents and contacts are.
    pub warehouse: Warehouse,
}

impl Teller {
    /// Runs until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut failed: BTreeMap<Way, Instant> = BTreeMap::new();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            // What is under way is finished or given up within its own time.
            if let Err(fault) = self.round(&mut failed).await {
                warn!(code = %fault.code, "Who is to be told of incidents is not known: {}", fault.chain());
            }
        }
    }

    async fn round(&self, failed: &mut BTreeMap<Way, Instant>) -> Result<(), Fault> {
        let mut ways = Vec::new();
        ways.extend(self.terms.mail.as_ref().map(|_| Way::Mail));
        ways.extend(self.terms.webhook.as_ref().map(|_| Way::Webhook));
        ways.retain(|way| failed.get(way).is_none_or(|at| at.elapsed() >= RETRY_AFTER));
        if ways.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut client = self.warehouse.client().await?;
        let turn = client.transaction().await.map_err(|error| not_read(&error))?;
        // One process of a warehouse tells at a time; the turn ends with its connection at the latest.
        let sql = "select pg_try_advisory_xact_lock(hashtext('phusa.escalations'))";
        let row = turn.query_one(sql, &[]).await.map_err(|error| not_read(&error))?;
        if !row.try_get(0).map_err(|error| not_read(&error))? {
            return Ok(());
        }
        let contacts = contact::all(&self.warehouse.client().await?).await?;
        let open = self.open().await?;
        let terms = (self.terms.after, self.terms.province.as_slice(), ways.as_slice());
        for one in due(&open, &contacts, terms, now).into_iter().take(TOLD_MAX) {
            if failed.get(&one.way).is_some_and(|at| at.elapsed() < RETRY_AFTER) {
                continue;
            }
            match self.tell(&one, now).await {
                Ok(()) => {
                    self.written(&one).await?;
                    if failed.remove(&one.way).is_some() {
                        info!("Word of incidents goes out again by {}", one.way.name());
                    }
                }
                Err(fault) => {
                    if failed.insert(one.way, Instant::now()).is_none() {
                        warn!(code = %fault.code, "Word of an incident waits: {}", fault.chain());
                    }
                }
            }
        }
        Ok(())
    }

    /// Incidents that are open, with who was told; what lasted and is over is not told further.
    async fn open(&self) -> Result<Vec<Open>, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select incident, kind, agent, dataset, cause, coalesce(told_from, opened_at), \
                   array(select step || ' ' || way from phusa.escalations e \
                         where e.incident = i.incident) \
                   from phusa.incidents i where closed_at is null \
                   and (holds or kind <> all($1)) order by incident limit $2";
        let kinds: Vec<&str> = lasting::KINDS.into_iter().map(Kind::name).collect();
        let rows = client.query(sql, &[&kinds, &OPEN_MAX]).await.map_err(|e| not_read(&e))?;
        let read = |row: &tokio_postgres::Row| {
            let told: Vec<String> = row.try_get(6)?;
            let pair = |text: &String| {
                text.split_once(' ').map(|(step, way)| (step.to_owned(), way.to_owned()))
            };
            Ok(Open {
                incident: row.try_get(0)?,
                kind: row.try_get(1)?,
                agent: row.try_get(2)?,
                dataset: row.try_get(3)?,
                cause: row.try_get(4)?,
                since: from_system_time(row.try_get::<_, SystemTime>(5)?),
                told: told.iter().filter_map(pair).collect(),
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| not_read(&error))
    }

    async fn tell(&self, due: &Due<'_>, now: Timestamp) -> Result<(), Fault> {
        let since = due.open.since.micros() / 1_000_000;
        let id = format!("incident-{}-{}-{since}", due.open.incident, due.step.name());
        match (due.way, &self.terms.mail, &self.terms.webhook) {
            (Way::Mail, Some(mailer), _) => mailer.send(&mail(due, id, &self.terms.portal)).await,
            (Way::Webhook, _, Some(webhook)) => {
                webhook.call(&id, call(due), now.micros() / 1_000_000).await
            }
            (Way::Mail, None, _) | (Way::Webhook, _, None) => Ok(()),
        }
    }

    /// A way that took it is not asked again, also where its incident was closed meanwhile.
    async fn written(&self, due: &Due<'_>) -> Result<(), Fault> {
        let sql = "insert into phusa.escalations (incident, step, way, told_at) \
                   values ($1, $2, $3, $4) on conflict do nothing";
        let client = self.warehouse.client().await?;
        let (step, way, at) = (due.step.name(), due.way.name(), system_time(Timestamp::now()));
        let done = client.execute(sql, &[&due.open.incident, &step, &way, &at]).await;
        done.map(drop).map_err(|error| not_read(&error))
    }
}

fn kind_words(kind: &str) -> (&str, &str) {
    match Kind::named(kind) {
        Some(known) => known.words(),
        None => (kind, kind),
    }
}

fn mail(due: &Due<'_>, id: String, portal: &str) -> Mail {
    let Open { incident, kind, agent, dataset, cause, since, .. } = due.open;
    let (vi, en) = kind_words(kind);
    let place = [agent.as_deref(), dataset.as_deref()].into_iter().flatten();
    let place = place.collect::<Vec<_>>().join(" ");
    let place = if place.is_empty() { "trung tâm (hub)".to_owned() } else { place };
    let mut lines = vec![
        format!("Sự cố {incident}: {vi}. Tại: {place}. Từ {}.", since.vietnamese()),
        format!("Incident {incident}: {en}. At: {place}. Since {}.", since.vietnamese()),
        String::new(),
        cause.clone(),
        String::new(),
    ];
    lines.push(match due.step {
        Step::Focal => "Đề nghị đầu mối kiểm tra và xử lý. · Please look into it.".to_owned(),
        Step::Head => {
            "Đầu mối đã được báo, sự cố vẫn mở. Đề nghị đôn đốc. · The focal point was told \
                       and it is still open. Please see that it is dealt with."
                .to_owned()
        }
        Step::Province => {
            "Đơn vị đã được báo, sự cố vẫn mở. · The unit was told and it is still open.".to_owned()
        }
    });
    if due.is_missing {
        lines.push(
            "Cơ quan chưa ghi người nhận ở bước này nên thư đến tỉnh (CT-14). · Nobody is written \
             down there for this step, so this goes to the province."
                .to_owned(),
        );
    }
    if !portal.is_empty() {
        lines.push(format!("{}/incidents/{incident}", portal.trim_end_matches('/')));
    }
    let subject = format!("[Phù Sa] Sự cố {incident}: {vi}, {place}");
    Mail { id, to: due.to.clone(), subject, body: lines.join("\r\n") }
}

fn call(due: &Due<'_>) -> String {
    let open = due.open;
    json!({
        "incident": open.incident,
        "kind": open.kind,
        "step": due.step.name(),
        "agency": open.agency(),
        "agent": open.agent,
        "dataset": open.dataset,
        "cause": open.cause,
        "since": open.since.to_string(),
    })
    .to_string()
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write who was told of incidents", error)
}
