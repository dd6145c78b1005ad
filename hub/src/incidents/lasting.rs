//! What lasts until it is over: held against the incidents that are known, again and again.
//!
//! One incident for one cause: that it is over, and that it came back, are lines of its timeline. One
//! that was closed while it lasts stays closed until that is over; if it comes back soon after, the
//! same incident is opened again. Nothing depends on what a process remembers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::time::Timestamp;

use super::{Event, Kind, bounded, key_of, not_noted, not_read, timeline_of};
use crate::transfers::{from_system_time, system_time};

/// What comes back within this after it was closed is the same incident.
pub const REOPENS_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// Lines of a timeline, with those that tell of an end or a return.
const LINES_MAX: i32 = 200;

/// Kinds that last.
pub const KINDS: [Kind; 6] =
    [Kind::Heartbeat, Kind::Lateness, Kind::Stopped, Kind::Disk, Kind::Certificate, Kind::Release];

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lasting {
    /// What it is about; one of [`KINDS`].
    pub kind: Kind,
    /// What is wrong, in a few words that are the same each time.
    pub cause: &'static str,
    /// Whose doing it is, where that is known.
    pub agent: Option<AgentId>,
    /// Which dataset is concerned, where one is.
    pub dataset: Option<DatasetId>,
    /// What is seen, in words.
    pub what: String,
}

impl Lasting {
    fn key(&self) -> String {
        let agent = self.agent.as_ref().map(ToString::to_string);
        let dataset = self.dataset.as_ref().map(ToString::to_string);
        key_of(self.kind, agent.as_deref(), dataset.as_deref(), self.cause)
    }
}

/// What is known of a cause: its newest incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    incident: i64,
    key: String,
    /// What it is about.
    pub kind: Option<Kind>,
    /// Whose doing it is.
    pub agent: Option<String>,
    holds: bool,
    closed_at: Option<Timestamp>,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step<'a> {
    /// A cause that is new.
    Open(&'a Lasting),
    /// It came back; the incident is open, or is opened again.
    Return(i64, &'a Lasting),
    /// It is over; somebody has yet to say why, unless that was said.
    Over(i64),
}

/// Compares; `is_unsure` names what nothing is known of just now, which stays as it is.
fn steps<'a>(
    known: &[Known],
    now: &'a [Lasting],
    is_unsure: impl Fn(&Known) -> bool,
    at: Timestamp,
) -> Vec<Step<'a>> {
    let mut by_key: BTreeMap<&str, &Known> = known.iter().map(|k| (k.key.as_str(), k)).collect();
    let mut steps = Vec::new();
    for lasting in now {
        match by_key.remove(lasting.key().as_str()) {
            Some(known) if known.holds => {}
            Some(Known { closed_at: Some(closed), .. }) if at.since(*closed) > REOPENS_WITHIN => {
                steps.push(Step::Open(lasting));
            }
            Some(known) => steps.push(Step::Return(known.incident, lasting)),
            None => steps.push(Step::Open(lasting)),
        }
    }
    let over = by_key.into_values().filter(|known| known.holds && !is_unsure(known));
    steps.extend(over.map(|known| Step::Over(known.incident)));
    steps
}

/// Writes down what began, came back and is over; says how many incidents were opened.
///
/// # Errors
/// When the database does not answer.
pub async fn settle(
    client: &mut Object,
    lasting: &[Lasting],
    is_unsure: impl Fn(&Known) -> bool,
    at: Timestamp,
) -> Result<usize, Fault> {
    let known = known(client, at).await?;
    let steps = steps(&known, lasting, is_unsure, at);
    if steps.is_empty() {
        return Ok(0);
    }
    let mut opened = 0;
    let tx = client.transaction().await.map_err(|error| not_noted(&error))?;
    for step in steps {
        match step {
            Step::Open(lasting) => {
                open(&tx, lasting, at).await?;
                opened += 1;
            }
            Step::Return(incident, lasting) => back(&tx, incident, &lasting.what, at).await?,
            Step::Over(incident) => over(&tx, incident, at).await?,
        }
    }
    tx.commit().await.map_err(|error| not_noted(&error))?;
    Ok(opened)
}

async fn known(client: &Object, at: Timestamp) -> Result<Vec<Known>, Fault> {
    let sql = "select distinct on (cause_key) incident, cause_key, kind, agent, holds, closed_at \
               from phusa.incidents where kind = any($1) \
               and (closed_at is null or holds or closed_at > $2) \
               order by cause_key, incident desc";
    let kinds: Vec<&str> = KINDS.into_iter().map(Kind::name).collect();
    let since = system_time(at.before(REOPENS_WITHIN));
    let rows = client.query(sql, &[&kinds, &since]).await.map_err(|error| not_read(&error))?;
    let read = |row: &tokio_postgres::Row| {
        let closed: Option<SystemTime> = row.try_get(5)?;
        Ok(Known {
            incident: row.try_get(0)?,
            key: row.try_get(1)?,
            kind: Kind::named(row.try_get(2)?),
            agent: row.try_get(3)?,
            holds: row.try_get(4)?,
            closed_at: closed.map(from_system_time),
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| not_read(&error))
}

async fn open(tx: &Transaction<'_>, lasting: &Lasting, at: Timestamp) -> Result<(), Fault> {
    let what = bounded(&lasting.what);
    let event = timeline_of(&Event { at, what: what.clone(), transfer: None });
    let agent = lasting.agent.as_ref().map(ToString::to_string);
    let dataset = lasting.dataset.as_ref().map(ToString::to_string);
    // Another process may have been first.
    let sql = "insert into phusa.incidents \
               (kind, cause_key, agent, dataset, cause, opened_at, last_at, timeline, holds) \
               values ($1, $2, $3, $4, $5, $6, $6, $7::text::jsonb, true) \
               on conflict (cause_key) where closed_at is null do nothing";
    let row: [&(dyn postgres_types::ToSql + Sync); 7] =
        [&lasting.kind.name(), &lasting.key(), &agent, &dataset, &what, &system_time(at), &event];
    tx.execute(sql, &row).await.map(drop).map_err(|error| not_noted(&error))
}

async fn back(tx: &Transaction<'_>, incident: i64, what: &str, at: Timestamp) -> Result<(), Fault> {
    let (vi, en) = what.split_once(" · ").unwrap_or((what, what));
    let what = bounded(&format!("lại xảy ra: {vi} · again: {en}"));
    let event = timeline_of(&Event { at, what, transfer: None });
    // Whoever is told of incidents is told of it anew only where it had been closed.
    let sql = "delete from phusa.escalations where incident = $1 and exists (select from \
               phusa.incidents i where i.incident = $1 and i.closed_at is not null)";
    tx.execute(sql, &[&incident]).await.map_err(|error| not_noted(&error))?;
    let sql = "update phusa.incidents i set holds = true, count = count + 1, last_at = $2, \
               siem_told_at = case when closed_at is null then siem_told_at end, \
               told_from = case when closed_at is null then told_from else $2 end, \
               closed_at = null, closed_by = null, close_note = null, close_cause = null, \
               timeline = case when jsonb_array_length(timeline) < $4 \
                               then timeline || $3::text::jsonb else timeline end \
               where incident = $1 and not holds and not exists (select from phusa.incidents o \
                   where o.cause_key = i.cause_key and o.closed_at is null \
                   and o.incident <> i.incident)";
    let done = tx.execute(sql, &[&incident, &system_time(at), &event, &LINES_MAX]).await;
    done.map(drop).map_err(|error| not_noted(&error))
}

async fn over(tx: &Transaction<'_>, incident: i64, at: Timestamp) -> Result<(), Fault> {
    let event = Event { at, what: "đã qua · over".to_owned(), transfer: None };
    let sql = "update phusa.incidents set holds = false, last_at = $2, \
               timeline = case when jsonb_array_length(timeline) < $4 \
                               then timeline || $3::text::jsonb else timeline end \
               where incident = $1 and holds";
    let row: [&(dyn postgres_types::ToSql + Sync); 4] =
        [&incident, &system_time(at), &timeline_of(&event), &LINES_MAX];
    tx.execute(sql, &row).await.map(drop).map_err(|error| not_noted(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn late(agent: &str) -> Lasting {
        Lasting {
            kind: Kind::Lateness,
            cause: "behind",
            agent: AgentId::try_from(agent.to_owned()).ok(),
            dataset: None,
            what: "chậm · late".to_owned(),
        }
    }

    fn known(agent: &str, holds: bool, closed_hours_ago: Option<u64>) -> Known {
        let hours = |hours: u64| at().before(Duration::from_secs(hours * 3_600));
        let closed_at = closed_hours_ago.map(hours);
        let kind = Some(Kind::Lateness);
        let agent = Some(agent.to_owned());
        Known { incident: 7, key: late("A/x").key(), kind, agent, holds, closed_at }
    }

    fn at() -> Timestamp {
        NOW.after(Duration::from_secs(1_000_000))
    }

    #[test]
    fn one_cause_is_one_incident_that_ends_returns_and_stays_closed_while_it_lasts() {
        let one = [late("A/x")];
        let check = |known: Option<Known>, now: &[Lasting], unsure: bool, expected: &[Step<'_>]| {
            let known: Vec<_> = known.into_iter().collect();
            assert_eq!(steps(&known, now, |_| unsure, at()), expected, "{known:?}");
        };
        check(None, &one, false, &[Step::Open(&one[0])]);
        check(Some(known("A/x", true, None)), &one, false, &[]);
        check(Some(known("A/x", true, None)), &[], false, &[Step::Over(7)]);
        check(Some(known("A/x", true, None)), &[], true, &[]);
        check(Some(known("A/x", false, None)), &[], false, &[]);
        check(Some(known("A/x", false, None)), &one, false, &[Step::Return(7, &one[0])]);
        // Closed while it lasts: that is known, and somebody looks after it.
        check(Some(known("A/x", true, Some(1))), &one, false, &[]);
        check(Some(known("A/x", true, Some(40))), &one, false, &[]);
        check(Some(known("A/x", true, Some(1))), &[], false, &[Step::Over(7)]);
        check(Some(known("A/x", false, Some(1))), &one, false, &[Step::Return(7, &one[0])]);
        check(Some(known("A/x", false, Some(25))), &one, false, &[Step::Open(&one[0])]);
    }
}
