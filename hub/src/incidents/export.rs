//! Incidents for whoever reports on them: CSV for a spreadsheet, a Word file for a report.

use phusa_protocol::fault::Fault;
use phusa_protocol::time::Timestamp;

use super::closing::Cause;
use super::{Incident, Kind, word};
use crate::transfers::sheet::{Cell, csv};

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Comma-separated, with a head line; in UTF-8 with its mark, so that spreadsheet programs know.
    Csv,
    /// A Word file.
    Docx,
}

impl Form {
    /// Its name, which files end with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Docx => "docx",
        }
    }

    /// What a browser is told of it.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }
}

/// Column heads, in both languages.
const HEADS: [&str; 12] = [
    "Số · Number",
    "Loại · Kind",
    "Cơ quan · Agency",
    "Tác tử · Agent",
    "Bộ dữ liệu · Dataset",
    "Diễn biến đầu · First seen as",
    "Mở lúc · Opened",
    "Lần cuối · Last",
    "Số lần · Times",
    "Đóng lúc · Closed",
    "Người đóng · Closed by",
    "Nguyên nhân · Cause",
];

/// The file's bytes.
///
/// # Errors
/// When a Word file cannot be made.
pub fn file(incidents: &[Incident], form: Form, now: Timestamp) -> Result<Vec<u8>, Fault> {
    let rows: Vec<Vec<String>> = incidents.iter().map(row).collect();
    match form {
        Form::Csv => {
            let heads: Vec<Cell> = HEADS.iter().map(|head| Cell::text(Some(head))).collect();
            let cells = |row: Vec<String>| {
                let cells: Vec<_> = row.into_iter().map(|text| Cell::Text(inert(text))).collect();
                csv(&cells)
            };
            let lines = std::iter::once(csv(&heads)).chain(rows.into_iter().map(cells));
            Ok(format!("\u{feff}{}\r\n", lines.collect::<Vec<_>>().join("\r\n")).into_bytes())
        }
        Form::Docx => {
            let open = incidents.iter().filter(|one| one.closed_at.is_none()).count();
            let lines = [
                "Nhật ký sự cố · Incidents".to_owned(),
                format!("Lập lúc · Made at {}", now.vietnamese()),
                format!("{} sự cố, {open} đang mở · incidents, open", incidents.len()),
            ];
            word::document(&lines, &HEADS, &rows)
        }
    }
}

/// What a sheet could take for a formula is written as text.
fn inert(text: String) -> String {
    match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text,
    }
}

fn row(one: &Incident) -> Vec<String> {
    let both = |(vi, en): (&str, &str)| format!("{vi} · {en}");
    let kind = Kind::named(&one.kind).map_or_else(|| one.kind.clone(), |kind| both(kind.words()));
    let cause = one.close_cause.as_deref().and_then(Cause::named).map(|cause| both(cause.words()));
    let why = [cause, one.close_note.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    vec![
        one.incident.to_string(),
        kind,
        one.agency().unwrap_or_default().to_owned(),
        text(one.agent.as_ref()),
        text(one.dataset.as_ref()),
        one.cause.clone(),
        one.opened_at.vietnamese(),
        one.last_at.vietnamese(),
        one.count.to_string(),
        one.closed_at.map(Timestamp::vietnamese).unwrap_or_default(),
        text(one.closed_by.as_ref()),
        why,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sheet_could_compute_is_text_and_every_column_has_its_cell() {
        let one = Incident {
            incident: 3,
            kind: "heartbeat".to_owned(),
            agent: Some("H57.12/may-1".to_owned()),
            dataset: None,
            cause: "=1+1".to_owned(),
            opened_at: Timestamp::UNIX_EPOCH,
            last_at: Timestamp::UNIX_EPOCH,
            count: 2,
            timeline: Vec::new(),
            holds: false,
            closed_at: Some(Timestamp::UNIX_EPOCH),
            closed_by: Some("an".to_owned()),
            close_cause: Some("line".to_owned()),
            close_note: Some("đã nối, chạy lại".to_owned()),
        };
        assert_eq!(row(&one).len(), HEADS.len());
        let text = String::from_utf8(file(&[one], Form::Csv, Timestamp::UNIX_EPOCH).unwrap());
        let text = text.unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("3,mất liên lạc · lost contact,H57.12,H57.12/may-1,,'=1+1,"));
        assert!(line.ends_with(",an,\"đường truyền · the line: đã nối, chạy lại\""), "{line}");
    }
}
