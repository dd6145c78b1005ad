//! `phusa-hub notice`: maintenance that is announced, and taken back.

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;

use super::{json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::config::plan::Plan;
use crate::notices::{self, Notice, Wanted, moment};
use crate::transfers::Log;

#[derive(Debug, Subcommand)]
pub(super) enum NoticeCommand {
    /// Announce a window; refused less than 24 hours ahead without `--emergency` (CB-16).
    Create(Asked),
    /// Windows that are open or come.
    Ls {
        /// Those that are over or were taken back, too.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take an announcement back.
    Withdraw {
        /// Its number.
        notice: i64,
        /// Who takes it back.
        #[arg(long)]
        by: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// What is done.
    #[arg(long)]
    title: String,
    /// From when: 2026-11-28T08:00:00+07:00, or 2026-11-28T08:00 by the Vietnamese clock.
    #[arg(long)]
    from: String,
    /// Until when, likewise.
    #[arg(long)]
    until: String,
    /// An agency it concerns; may be given several times. Without it, everybody.
    #[arg(long, value_parser = super::parse::<AgencyId>)]
    agency: Vec<AgencyId>,
    /// It cannot wait a day; say why with `--because`.
    #[arg(long, requires = "because")]
    emergency: bool,
    /// Why it cannot wait.
    #[arg(long, requires = "emergency")]
    because: Option<String>,
    /// Who announces it.
    #[arg(long)]
    by: String,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: NoticeCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(&plan, async |warehouse| {
        let mut client = warehouse.client().await?;
        match command {
            NoticeCommand::Create(asked) => {
                let (from, until) = (moment(&asked.from)?, moment(&asked.until)?);
                let wanted = Wanted {
                    title: asked.title,
                    agencies: asked.agency,
                    from,
                    until,
                    emergency: asked.because,
                    by: asked.by,
                    address: None,
                };
                wanted.check(Timestamp::now())?;
                decider::check(warehouse, &log, &wanted.by, (Deciding::Announce, None)).await?;
                let number = notices::create(&mut client, &log, &wanted).await?;
                print(&format!("thông báo bảo trì (notice) {number}: đã báo (announced)"))
            }
            NoticeCommand::Ls { all, json: as_json } => {
                let found = notices::list(&**client, all, Timestamp::now()).await?;
                print(&if as_json { json(&found) } else { table(&found) })
            }
            NoticeCommand::Withdraw { notice, by } => {
                decider::check(warehouse, &log, &by, (Deciding::Announce, None)).await?;
                notices::withdraw(&mut client, &log, notice, (&by, None)).await?;
                print(&format!("thông báo bảo trì (notice) {notice}: đã rút (withdrawn)"))
            }
        }
    })
    .await
}

fn table(found: &[Notice]) -> String {
    if found.is_empty() {
        return "không có thông báo bảo trì nào (no maintenance is announced)".to_owned();
    }
    let now = Timestamp::now();
    let line = |one: &Notice| {
        let state = match one.withdrawn_at {
            Some(_) => "đã rút · withdrawn",
            None if one.is_open(now) => "đang bảo trì · under way",
            None if one.until <= now => "đã xong · over",
            None => "sắp tới · to come",
        };
        let whom = match one.agencies.is_empty() {
            true => "mọi cơ quan · everybody".to_owned(),
            false => one.agencies.join(", "),
        };
        let urgent = one.emergency.as_ref().map(|why| format!("  khẩn cấp · emergency: {why}"));
        format!(
            "{:>4}  {state}  {} → {}  {whom}  {}  {}{}",
            one.notice,
            one.from.vietnamese(),
            one.until.vietnamese(),
            one.title,
            one.made_by,
            urgent.unwrap_or_default()
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}
