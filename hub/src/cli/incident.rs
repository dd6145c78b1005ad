//! `phusa-hub incident`: what is open, what happened, closing it in a person's name, and files.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;

use super::{json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::config::plan::Plan;
use crate::incidents::closing::{Cause, Closing, close};
use crate::incidents::export::{Form, file};
use crate::incidents::{self, Asked, Incident, Kind};
use crate::transfers::Log;
use crate::transfers::deed::{console, write_alone};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum IncidentCommand {
    /// The open incidents; the exit code is 1 when there is one, 0 when there is none.
    Ls {
        /// Closed ones too; the exit code still tells of open ones only.
        #[arg(long)]
        all: bool,
        /// Only of this kind.
        #[arg(long, value_parser = kind_named)]
        kind: Option<Kind>,
        /// Only about agents of this agency.
        #[arg(long, value_parser = super::parse::<AgencyId>)]
        agency: Option<AgencyId>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One incident with what happened when.
    Show {
        /// Its number.
        incident: i64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Close an incident.
    Close {
        /// Its number.
        incident: i64,
        /// Who closes it.
        #[arg(long)]
        by: String,
        /// What it was.
        #[arg(long, value_enum, default_value_t = Cause::Other)]
        cause: Cause,
        /// What was found and done.
        #[arg(long)]
        note: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write incidents out as a file, closed ones too; this is an entry of the log.
    Export {
        /// The form.
        #[arg(long, value_enum)]
        format: Form,
        /// The file; it must not exist yet.
        #[arg(long)]
        out: PathBuf,
    },
}

fn kind_named(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::named(name).ok_or_else(|| format!("{name} is none of {}", names()))
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: IncidentCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(&plan, async |warehouse| {
        let mut client = warehouse.client().await?;
        match command {
            IncidentCommand::Ls { all, kind, agency, json: as_json } => {
                let open = if all { None } else { Some(true) };
                let asked = Asked { open, kind, agency, ..Asked::default() };
                let mut found = incidents::find(&**client, &asked).await?;
                found.sort_by_key(|one| (one.closed_at.is_some(), -one.incident));
                print(&if as_json { json(&found) } else { table(&found) })?;
                match found.iter().filter(|one| one.closed_at.is_none()).count() {
                    0 => Ok(()),
                    open => Err(Fault::new(Code::IncidentOpen, format!("{open} đang mở (open)"))),
                }
            }
            IncidentCommand::Show { incident, json: as_json } => {
                let found = incidents::show(&**client, incident).await?;
                print(&if as_json { json(&found) } else { story(&found) })
            }
            IncidentCommand::Close { incident, by, cause, note, json: as_json } => {
                decider::check(warehouse, &log, &by, (Deciding::Keep, None)).await?;
                let closing = Closing { by: &by, from: None, cause, note: &note };
                let closed = close(&mut client, &log, incident, &closing).await?;
                let said = format!("sự cố (incident) {incident}: đã đóng (closed)");
                print(&if as_json { json(&closed) } else { said })
            }
            IncidentCommand::Export { format, out } => {
                export((warehouse, &log), format, &out).await
            }
        }
    })
    .await
}

async fn export((warehouse, log): (&Warehouse, &Log), form: Form, out: &Path) -> Result<(), Fault> {
    let told = Deed::new(console(), Action::IncidentExport).on(form.name());
    write_alone(warehouse, log, told).await?;
    let found = incidents::find(&**warehouse.client().await?, &Asked::default()).await?;
    let bytes = file(&found, form, Timestamp::now())?;
    let failed =
        |error| Fault::because(Code::DiskFailed, format!("cannot write {}", out.display()), error);
    let mut file = std::fs::File::create_new(out).map_err(failed)?;
    std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
    print(&format!("{}: {} sự cố (incidents)", out.display(), found.len()))
}

fn kind(incident: &Incident) -> String {
    let (vi, en) = match Kind::named(&incident.kind) {
        Some(kind) => kind.words(),
        None => return incident.kind.clone(),
    };
    format!("{vi} · {en}")
}

fn table(found: &[Incident]) -> String {
    if found.is_empty() {
        return "không có sự cố nào đang mở (no incident is open)".to_owned();
    }
    let line = |one: &Incident| {
        let (agent, dataset) = (dash(one.agent.as_ref()), dash(one.dataset.as_ref()));
        format!(
            "{:>4}  {}  {}  {dataset}  {agent}  {} lần · times, lúc cuối · last {}\n      {}",
            one.incident,
            state(one),
            kind(one),
            one.count,
            one.last_at.vietnamese(),
            one.cause
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn state(one: &Incident) -> &'static str {
    match (one.closed_at, one.holds) {
        (Some(_), _) => "đã đóng · closed",
        (None, true) => "đang mở, đang kéo dài · open, lasts",
        (None, false) => "đang mở · open",
    }
}

fn story(one: &Incident) -> String {
    let mut lines = vec![
        format!("sự cố (incident) {}: {}", one.incident, kind(one)),
        format!("  trạng thái (state): {}", state(one)),
        format!("  bộ dữ liệu (dataset): {}", dash(one.dataset.as_ref())),
        format!("  tác tử (agent): {}", dash(one.agent.as_ref())),
        format!("  diễn biến đầu (first seen as): {}", one.cause),
        format!(
            "  mở lúc (opened): {}; lúc cuối (last): {}",
            one.opened_at.vietnamese(),
            one.last_at.vietnamese()
        ),
        format!("  số lần (times): {}", one.count),
    ];
    for event in &one.timeline {
        let transfer = event.transfer.map(|n| format!(" [nhật ký · transfer {n}]"));
        let at = event.at.vietnamese();
        lines.push(format!("  {at} {}{}", event.what, transfer.unwrap_or_default()));
    }
    if let (Some(at), Some(by)) = (one.closed_at, &one.closed_by) {
        let note = one.close_note.as_deref().unwrap_or_default();
        let cause = one.close_cause.as_deref().and_then(Cause::named).unwrap_or(Cause::Other);
        let (vi, en) = cause.words();
        let at = at.vietnamese();
        lines.push(format!("  đóng (closed): {at}, {by}: {vi} · {en}: {note}"));
    }
    lines.join("\n")
}

fn dash(text: Option<&String>) -> &str {
    text.map_or("–", String::as_str)
}
