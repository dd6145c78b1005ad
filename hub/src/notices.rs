//! Windows of maintenance: announced at least a day ahead unless it is an emergency (CB-16), shown to whom
//! they concern, taken back. Each is an entry of the transfer log in the same transaction.

use std::time::{Duration, SystemTime};

use deadpool_postgres::Object;
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::error::database_fault;
use crate::incidents::closing::reason;
use crate::transfers::{Log, deed, from_system_time, system_time};

/// How long ahead a window is announced that is no emergency.
pub const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// The longest window: whoever needs more announces another.
const LENGTH_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How far ahead a window may be.
const AHEAD_MAX: Duration = Duration::from_secs(366 * 86_400);

/// An emergency may have begun so long ago when somebody finds time to say so.
const BEGUN_MAX: Duration = Duration::from_secs(3_600);

/// Agencies of one announcement; none named means everybody.
const AGENCIES_MAX: usize = 500;

/// Announcements that are listed.
const LISTED_MAX: i64 = 500;

/// An announcement as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its number.
    pub notice: i64,
    /// What is done.
    pub title: String,
    /// Of these agencies; empty for everybody.
    pub agencies: Vec<String>,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why it comes less than a day ahead; none for one that does not.
    pub emergency: Option<String>,
    /// Who announced it.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// Who took it back.
    pub withdrawn_by: Option<String>,
    /// When.
    pub withdrawn_at: Option<Timestamp>,
}

impl Notice {
    /// Whether it concerns an agency.
    #[must_use]
    pub fn concerns(&self, agency: &str) -> bool {
        self.agencies.is_empty() || self.agencies.iter().any(|one| one == agency)
    }

    /// Whether its window is open.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.withdrawn_at.is_none() && self.from <= now && now < self.until
    }
}

/// Until when an agency is under maintenance that was announced, while it is.
#[must_use]
pub fn until(notices: &[Notice], agency: &str, now: Timestamp) -> Option<Timestamp> {
    let open = notices.iter().filter(|one| one.is_open(now) && one.concerns(agency));
    open.map(|one| one.until).max()
}

/// A window to be announced.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is done; 3 to 200 characters.
    pub title: String,
    /// Of these agencies; none for everybody; at most 500.
    pub agencies: Vec<AgencyId>,
    /// From when.
    pub from: Timestamp,
    /// Until when; at most 7 days later.
    pub until: Timestamp,
    /// Why it cannot wait a day.
    pub emergency: Option<String>,
    /// Who announces it, as the log names them.
    pub by: String,
    /// From which address, over the network.
    pub address: Option<String>,
}

impl Wanted {
    /// The rule (CB-16).
    ///
    /// # Errors
    /// `notice_refused` with what is wrong, `reason_missing` for an emergency without a reason.
    pub fn check(&self, now: Timestamp) -> Result<(), Fault> {
        let refused = |what: &str| Err(Fault::new(Code::NoticeRefused, what.to_owned()));
        let title = self.title.trim();
        if !(3..=200).contains(&title.chars().count()) || title.chars().any(char::is_control) {
            return refused("a title has 3 to 200 characters on one line");
        }
        if self.until <= self.from || self.until.since(self.from) > LENGTH_MAX {
            return refused("a window ends after it begins, at most 7 days later");
        }
        if self.agencies.len() > AGENCIES_MAX || self.from.since(now) > AHEAD_MAX {
            return refused("a window begins within a year and names at most 500 agencies");
        }
        match &self.emergency {
            Some(why) => {
                reason(why)?;
                let is_past = now.since(self.from) > BEGUN_MAX || self.until <= now;
                if is_past { refused("an emergency began an hour ago at most") } else { Ok(()) }
            }
            None if self.from < now.after(AHEAD) => {
                refused("it begins in less than 24 hours, and is no emergency")
            }
            None => Ok(()),
        }
    }
}

/// A moment as people type it: RFC 3339, or `2026-11-28 08:00` by the Vietnamese clock.
///
/// # Errors
/// `notice_refused` for what is none.
pub fn moment(text: &str) -> Result<Timestamp, Fault> {
    let local = format!("{}:00+07:00", text.trim().replacen(' ', "T", 1));
    let known = Timestamp::try_from(text.trim().to_owned()).or_else(|_| Timestamp::try_from(local));
    known.map_err(|_| {
        Fault::new(Code::NoticeRefused, "a moment is written 2026-11-28T08:00:00+07:00")
    })
}

/// Announces a window; its number.
///
/// # Errors
/// As [`Wanted::check`], or when the database does not answer.
pub async fn create(client: &mut Object, log: &Log, wanted: &Wanted) -> Result<i64, Fault> {
    let now = Timestamp::now();
    wanted.check(now)?;
    let agencies: Vec<String> = wanted.agencies.iter().map(ToString::to_string).collect();
    let [at, from, until] = [now, wanted.from, wanted.until].map(system_time);
    let sql = "insert into phusa.notices \
               (title, agencies, from_at, until_at, emergency, made_by, made_at) \
               values ($1, $2, $3, $4, $5, $6, $7) returning notice";
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    let row: [&(dyn postgres_types::ToSql + Sync); 7] = [
        &wanted.title.trim(),
        &agencies,
        &from,
        &until,
        &wanted.emergency.as_deref().map(str::trim),
        &wanted.by,
        &at,
    ];
    let row = tx.query_one(sql, &row).await.map_err(|error| failed(&error))?;
    let notice: i64 = row.try_get(0).map_err(|error| failed(&error))?;
    let urgent = if wanted.emergency.is_some() { " emergency" } else { "" };
    let on = format!("{notice} {} {}{urgent}", wanted.from, wanted.until);
    let told = Deed::new(&wanted.by, Action::NoticeCreate).on(on);
    deed::write(&tx, log, Deed { from: wanted.address.clone(), ..told }).await?;
    tx.commit().await.map_err(|error| failed(&error))?;
    log.wake();
    Ok(notice)
}

/// Takes an announcement back whose window has not ended.
///
/// # Errors
/// `notice_unknown` when there is none of this number, or when the database does not answer.
pub async fn withdraw(
    client: &mut Object,
    log: &Log,
    notice: i64,
    (by, from): (&str, Option<&str>),
) -> Result<(), Fault> {
    let sql = "update phusa.notices set withdrawn_by = $2, withdrawn_at = $3 \
               where notice = $1 and withdrawn_at is null and until_at > $3";
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    let at = system_time(Timestamp::now());
    let done = tx.execute(sql, &[&notice, &by, &at]).await.map_err(|error| failed(&error))?;
    if done == 0 {
        return Err(Fault::new(Code::NoticeUnknown, format!("notice {notice}")));
    }
    let told = Deed::new(by, Action::NoticeWithdraw).on(notice.to_string());
    deed::write(&tx, log, Deed { from: from.map(ToOwned::to_owned), ..told }).await?;
    tx.commit().await.map_err(|error| failed(&error))?;
    log.wake();
    Ok(())
}

/// Announcements: those in force, the next first; or all up to a bound.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    client: &impl GenericClient,
    all: bool,
    now: Timestamp,
) -> Result<Vec<Notice>, Fault> {
    let sql = "select notice, title, agencies, from_at, until_at, emergency, made_by, made_at, \
               withdrawn_by, withdrawn_at from phusa.notices \
               where $1 or (withdrawn_at is null and until_at > $2) \
               order by case when $1 then -notice end, from_at limit $3";
    let rows = client.query(sql, &[&all, &system_time(now), &LISTED_MAX]).await;
    let rows = rows.map_err(|error| failed(&error))?;
    rows.iter().map(|row| read(row).map_err(|error| failed(&error))).collect()
}

fn read(row: &Row) -> Result<Notice, tokio_postgres::Error> {
    let moment = |index: usize| row.try_get::<_, SystemTime>(index).map(from_system_time);
    let withdrawn: Option<SystemTime> = row.try_get(9)?;
    Ok(Notice {
        notice: row.try_get(0)?,
        title: row.try_get(1)?,
        agencies: row.try_get(2)?,
        from: moment(3)?,
        until: moment(4)?,
        emergency: row.try_get(5)?,
        made_by: row.try_get(6)?,
        made_at: moment(7)?,
        withdrawn_by: row.try_get(8)?,
        withdrawn_at: withdrawn.map(from_system_time),
    })
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write announcements of maintenance", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH.after(Duration::from_secs(1_000_000_000))
    }

    fn in_minutes(minutes: i64) -> Timestamp {
        Timestamp::from_micros(now().micros() + minutes * 60_000_000)
    }

    fn window(from: i64, until: i64, emergency: Option<&str>) -> Wanted {
        Wanted {
            title: "Nâng cấp máy chủ".to_owned(),
            agencies: Vec::new(),
            from: in_minutes(from),
            until: in_minutes(until),
            emergency: emergency.map(ToOwned::to_owned),
            by: "an.nguyen".to_owned(),
            address: None,
        }
    }

    #[test]
    fn a_window_is_announced_a_day_ahead_or_is_an_emergency_with_a_reason() {
        const DAY: i64 = 24 * 60;
        let refused = Some(Code::NoticeRefused);
        for (from, until, emergency, expected) in [
            (DAY, DAY + 60, None, None),
            (DAY - 60, DAY + 60, None, refused),
            (23 * 60, DAY, Some("đĩa hỏng"), None),
            (0, 60, Some("đĩa hỏng"), None),
            (0, 60, Some(""), Some(Code::ReasonMissing)),
            (-61, 60, Some("đĩa hỏng"), refused),
            (-30, -1, Some("đĩa hỏng"), refused),
            (DAY + 60, DAY, None, refused),
            (DAY, DAY * 9, None, refused),
            (DAY * 400, DAY * 401, None, refused),
        ] {
            let found = window(from, until, emergency).check(now()).err().map(|fault| fault.code);
            assert_eq!(found, expected, "{from} {until} {emergency:?}");
        }
    }

    #[test]
    fn a_window_excuses_whom_it_names_while_it_is_open() {
        let notice = Notice {
            notice: 1,
            title: "x".to_owned(),
            agencies: vec!["H57.12".to_owned()],
            from: in_minutes(0),
            until: in_minutes(60),
            emergency: None,
            made_by: "an".to_owned(),
            made_at: now(),
            withdrawn_by: None,
            withdrawn_at: None,
        };
        let at = |agency: &str, minutes| {
            until(std::slice::from_ref(&notice), agency, in_minutes(minutes))
        };
        assert_eq!(at("H57.12", 0), Some(in_minutes(60)));
        assert_eq!([at("H57.12", -1), at("H57.12", 60), at("H57.13", 5)], [None; 3]);
    }

    #[test]
    fn a_moment_is_typed_by_the_vietnamese_clock_or_with_its_own() {
        let expected = Timestamp::try_from("2026-11-28T01:00:00Z".to_owned()).unwrap();
        for text in [
            "2026-11-28 08:00",
            "2026-11-28T08:00",
            "2026-11-28T08:00:00+07:00",
            "2026-11-28T01:00:00Z",
        ] {
            assert_eq!(moment(text).unwrap(), expected, "{text}");
        }
        assert!(moment("mai").is_err());
    }
}
