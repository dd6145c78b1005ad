//! Closing an incident: by a person, with a cause, and with its entry in the same transaction.

use deadpool_postgres::Object;
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::{COLUMNS, Event, Incident, not_noted, read, timeline_of, unknown};
use crate::transfers::{Log, deed, system_time};

/// Characters of a reason that a person gives.
const REASON_CHARACTERS: std::ops::RangeInclusive<usize> = 3..=500;

/// What it was, as the person says who closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cause {
    /// The line between agency and province.
    Line,
    /// A machine, its power or its disk.
    Machine,
    /// The source database.
    Source,
    /// A setting, a contract or a mapping.
    Settings,
    /// Something that a person did by mistake.
    Person,
    /// Somebody meant harm.
    Attack,
    /// Work that had been planned.
    Planned,
    /// Nothing was wrong.
    FalseAlarm,
    /// Something else; the note says what.
    Other,
}

impl Cause {
    /// Every cause, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::Line,
        Self::Machine,
        Self::Source,
        Self::Settings,
        Self::Person,
        Self::Attack,
        Self::Planned,
        Self::FalseAlarm,
        Self::Other,
    ];

    /// Its name in the database, in commands and entries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Machine => "machine",
            Self::Source => "source",
            Self::Settings => "settings",
            Self::Person => "person",
            Self::Attack => "attack",
            Self::Planned => "planned",
            Self::FalseAlarm => "false-alarm",
            Self::Other => "other",
        }
    }

    /// What it is called, Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Line => ("đường truyền", "the line"),
            Self::Machine => ("máy, điện hoặc đĩa", "machine, power or disk"),
            Self::Source => ("cơ sở dữ liệu nguồn", "the source database"),
            Self::Settings => ("cấu hình, hợp đồng hoặc ánh xạ", "a setting, contract or mapping"),
            Self::Person => ("thao tác nhầm", "a mistake of a person"),
            Self::Attack => ("tấn công", "an attack"),
            Self::Planned => ("việc đã lên kế hoạch", "planned work"),
            Self::FalseAlarm => ("báo nhầm", "a false alarm"),
            Self::Other => ("khác", "something else"),
        }
    }

    /// The cause of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// Who closes it, and why.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// Who, as the log names them.
    pub by: &'a str,
    /// From which address, over the network.
    pub from: Option<&'a str>,
    /// What it was.
    pub cause: Cause,
    /// What was found and done; 3 to 500 characters.
    pub note: &'a str,
}

/// A reason as it is kept.
///
/// # Errors
/// `reason_missing` when it has fewer than 3 characters or more than 500, or is not on one line.
pub fn reason(text: &str) -> Result<&str, Fault> {
    let text = text.trim();
    let fits = REASON_CHARACTERS.contains(&text.chars().count());
    let plain = !text.chars().any(char::is_control);
    let missing =
        || Fault::new(Code::ReasonMissing, "a reason has 3 to 500 characters on one line");
    (fits && plain).then_some(text).ok_or_else(missing)
}

/// Closes an open incident; its entry names who, which and the cause, never what was typed.
///
/// # Errors
/// `incident_unknown` when none of this number is open, `reason_missing`, or when the database does
/// not answer.
pub async fn close(
    client: &mut Object,
    log: &Log,
    incident: i64,
    closing: &Closing<'_>,
) -> Result<Incident, Fault> {
    let (note, at) = (reason(closing.note)?, Timestamp::now());
    let (cause, by) = (closing.cause, closing.by);
    let tx = client.transaction().await.map_err(|error| not_noted(&error))?;
    let (vi, en) = cause.words();
    let what = format!("{by} đóng: {vi}: {note} · closed by {by}: {en}: {note}");
    let sql = format!(
        "update phusa.incidents set closed_at = $2, closed_by = $3, close_note = $4, \
         close_cause = $5, timeline = timeline || $6::text::jsonb \
         where incident = $1 and closed_at is null returning {COLUMNS}"
    );
    let Some(row) = tx
        .query_opt(
            &sql,
            &[
                &incident,
                &system_time(at),
                &by,
                &note,
                &cause.name(),
                &timeline_of(&Event { at, what, transfer: None }),
            ],
        )
        .await
        .map_err(|error| not_noted(&error))?
    else {
        return Err(unknown(incident));
    };
    let closed = read(&row)?;
    let agent = closed.agent.as_deref().unwrap_or("-");
    let on = format!("{incident} {} {agent} {}", closed.kind, cause.name());
    let told = Deed::new(by, Action::IncidentClose).on(on);
    let told = Deed { from: closing.from.map(ToOwned::to_owned), ..told };
    deed::write(&tx, log, told).await?;
    tx.commit().await.map_err(|error| not_noted(&error))?;
    log.wake();
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(reason("  đã sửa đường truyền ").unwrap(), "đã sửa đường truyền");
        for text in ["", "  ", "ab", "một\nhai", &"x".repeat(501)] {
            assert_eq!(reason(text).unwrap_err().code, Code::ReasonMissing, "{text:?}");
        }
    }

    #[test]
    fn every_cause_is_found_by_its_name_in_forms_and_commands() {
        use clap::ValueEnum as _;
        for cause in Cause::ALL {
            assert_eq!(Cause::named(cause.name()), Some(cause));
            assert_eq!(Cause::from_str(cause.name(), false), Ok(cause));
        }
    }
}
