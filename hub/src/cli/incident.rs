//! `phusa-hub incident`: what is open, what happened, and closing it in a person's name.

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::{json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::config::plan::Plan;
use crate::incidents::{self, Incident, Kind};
use crate::transfers::Log;

#[derive(Debug, Subcommand)]
pub(super) enum IncidentCommand {
    /// The open incidents; the exit code is 1 when there is one, 0 when there is none.
    Ls {
        /// Closed ones too; the exit code still tells of open ones only.
        #[arg(long)]
        all: bool,
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
    /// Close an incident whose cause is gone.
    Close {
        /// Its number.
        incident: i64,
        /// Who closes it.
        #[arg(long)]
        by: String,
        /// What was found and done.
        #[arg(long)]
        note: String,
    },
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: IncidentCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    with_warehouse(&plan, async |warehouse| {
        let client = warehouse.client().await?;
        match command {
            IncidentCommand::Ls { all, json: as_json } => {
                let found = incidents::list(&**client, all).await?;
                print(&if as_json { json(&found) } else { table(&found) })?;
                let open = found.iter().filter(|one| one.closed_at.is_none()).count();
                match open {
                    0 => Ok(()),
                    _ => Err(Fault::new(Code::IncidentOpen, format!("{open} đang mở (open)"))),
                }
            }
            IncidentCommand::Show { incident, json: as_json } => {
                let found = incidents::show(&**client, incident).await?;
                print(&if as_json { json(&found) } else { story(&found) })
            }
            IncidentCommand::Close { incident, by, note } => {
                let log = Log::new(plan.signing_key.clone());
                decider::check(warehouse, &log, &by, (Deciding::Keep, None)).await?;
                let now = Timestamp::now();
                let closed = incidents::close(&**client, incident, (&by, &note), now).await?;
                print(&format!("sự cố (incident) {}: đã đóng (closed)", closed.incident))
            }
        }
    })
    .await
}

fn kind(incident: &Incident) -> &str {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == incident.kind);
    known.map_or_else(|| incident.kind.as_str(), |kind| kind.words())
}

fn table(found: &[Incident]) -> String {
    if found.is_empty() {
        return "không có sự cố nào đang mở (no incident is open)".to_owned();
    }
    let line = |one: &Incident| {
        let state =
            if one.closed_at.is_some() { "đã đóng · closed" } else { "đang mở · open" };
        let (agent, dataset) = (dash(one.agent.as_ref()), dash(one.dataset.as_ref()));
        format!(
            "{:>4}  {state}  {}  {dataset}  {agent}  {} lần · times, lúc cuối · last {}\n      {}",
            one.incident,
            kind(one),
            one.count,
            one.last_at,
            one.cause
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn story(one: &Incident) -> String {
    let mut lines = vec![
        format!("sự cố (incident) {}: {}", one.incident, kind(one)),
        format!("  bộ dữ liệu (dataset): {}", dash(one.dataset.as_ref())),
        format!("  tác tử (agent): {}", dash(one.agent.as_ref())),
        format!("  nguyên nhân (cause): {}", one.cause),
        format!("  mở lúc (opened): {}; lúc cuối (last): {}", one.opened_at, one.last_at),
        format!("  số lần (times): {}", one.count),
    ];
    for event in &one.timeline {
        let transfer = event.transfer.map(|n| format!(" [nhật ký · transfer {n}]"));
        lines.push(format!("  {} {}{}", event.at, event.what, transfer.unwrap_or_default()));
    }
    if let (Some(at), Some(by)) = (one.closed_at, &one.closed_by) {
        let note = one.close_note.as_deref().unwrap_or_default();
        lines.push(format!("  đóng (closed): {at}, {by}: {note}"));
    }
    lines.join("\n")
}

fn dash(text: Option<&String>) -> &str {
    text.map_or("–", String::as_str)
}
