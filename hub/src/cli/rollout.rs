//! `phusa-hub rollout`: a release ring after ring, and when agencies may be updated.

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use phusa_protocol::release::Version;

use super::{json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::config::plan::Plan;
use crate::fleet::aligned;
use crate::release::refused;
use crate::release::rings::{Ring, Rings};
use crate::release::rollout::{self, Rollout, Turn, Wanted};
use crate::release::store::Store;
use crate::transfers::Log;
use crate::transfers::deed::console;

#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Begin: the canaries first, then growing shares of all agents.
    Start(Started),
    /// Where it stands, who is assigned and what became of each.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Assign nobody else; whoever has not begun stays with what it has.
    Pause(Said),
    /// Go on after a pause or a halt.
    Resume(Said),
    /// Go on to the next ring; refused before everybody so far has committed.
    Promote(Said),
    /// Have everybody who was assigned go back to the version before.
    Revert(Said),
}

#[derive(Debug, clap::Args)]
pub(super) struct Started {
    /// The version, which must be published.
    #[arg(value_parser = super::parse::<Version>)]
    version: Version,
    /// Where `revert` leads.
    #[arg(long, value_parser = super::parse::<Version>)]
    previous: Option<Version>,
    /// An agent of the first ring; may be given several times.
    #[arg(long, required = true, value_parser = super::parse::<AgentId>)]
    canary: Vec<AgentId>,
    /// Shares of all agents after the canaries, in percent.
    #[arg(long, default_value = "25,100", value_delimiter = ',')]
    share: Vec<u8>,
    /// Who does it, as the log names them.
    #[arg(long)]
    by: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Said {
    /// Why.
    #[arg(long)]
    because: String,
    /// Who does it, as the log names them.
    #[arg(long)]
    by: Option<String>,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: RolloutCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(&plan, async |warehouse| {
        let mut client = warehouse.client().await?;
        let (turn, said) = match command {
            RolloutCommand::Start(started) => {
                let wanted = wanted(&Store::new(&plan.state_dir), started)?;
                decider::check(warehouse, &log, &wanted.by, (Deciding::Update, None)).await?;
                let number = rollout::start(&mut client, &log, &wanted).await?;
                return print(&format!(
                    "đợt cập nhật (rollout) {number}: {} → {}",
                    wanted.version,
                    wanted.rings.get(0).map(Ring::words).unwrap_or_default()
                ));
            }
            RolloutCommand::Status { json: as_json } => {
                let found = rollout::status(&mut client).await?;
                return print(&match (&found, as_json) {
                    (_, true) => json(&found),
                    (Some(found), false) => told(found),
                    (None, false) => "chưa có đợt cập nhật nào (no rollout yet)".to_owned(),
                });
            }
            RolloutCommand::Pause(said) => (Turn::Pause, said),
            RolloutCommand::Resume(said) => (Turn::Resume, said),
            RolloutCommand::Promote(said) => (Turn::Promote, said),
            RolloutCommand::Revert(said) => (Turn::Revert, said),
        };
        let by = said.by.unwrap_or_else(console);
        decider::check(warehouse, &log, &by, (Deciding::Update, None)).await?;
        let turned = rollout::turn(&mut client, &log, turn, (&by, None, &said.because)).await?;
        print(&told(&turned))
    })
    .await
}

/// What was asked for, if people signed that version.
fn wanted(store: &Store, started: Started) -> Result<Wanted, Fault> {
    let Started { version, previous, canary, share, by } = started;
    let targets = store.targets()?.ok_or_else(|| refused("nothing was published yet"))?;
    let is_there = |version: &Version| {
        let version = version.to_string();
        targets.signed.targets.values().any(|target| {
            target.custom.get("version").and_then(|value| value.as_str()) == Some(&version)
        })
    };
    if let Some(missing) = [Some(version), previous].into_iter().flatten().find(|v| !is_there(v)) {
        return Err(refused(format!("{missing} is not among the published releases")));
    }
    let rings = Rings::new(canary, &share)?;
    Ok(Wanted { version, previous, rings, by: by.unwrap_or_else(console) })
}

fn told(rollout: &Rollout) -> String {
    let (vi, en) = rollout.words();
    let mut lines = vec![format!("{} {}: {vi} ({en})", rollout.rollout, rollout.version)];
    if let Some(because) = &rollout.because {
        lines.push(format!("  vì (because): {because}"));
    }
    for ring in 0..rollout.rings.count() {
        let mark = if ring == rollout.ring { "→" } else { " " };
        let words = rollout.rings.get(ring).map(Ring::words).unwrap_or_default();
        lines.push(format!("  {mark} vòng (ring) {}: {words}", ring + 1));
    }
    let head = ["Tác tử (agent)", "Bản (version)", "Trạng thái (stage)", "Vì (why)", "Lúc (since)"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(rollout.agents.iter().map(|one| {
        let why = one.why.clone().or_else(|| one.obstacle.clone()).unwrap_or_default();
        [
            one.agent.clone(),
            one.version.clone(),
            one.stage.clone(),
            why,
            one.changed_at.vietnamese(),
        ]
    }));
    if rows.len() > 1 {
        lines.push(aligned(&rows));
    }
    lines.join("\n")
}
