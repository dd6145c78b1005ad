//! `phusa-hub agent`: who is known, and suspend, resume, revoke (CT-40).

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::{json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::admission::standing::{self, Decider, Decision};
use crate::admission::store::{self, Identity, State};
use crate::config::plan::Plan;
use crate::transfers::Log;
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Every agent, and whether it may speak.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One agent: its keys, its certificate's generation, why it is stopped.
    Show {
        /// Which.
        #[arg(value_parser = super::parse::<AgentId>)]
        agent: AgentId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Refuse everything it sends and cut its connections, until that is lifted (CT-40).
    Suspend(Decided),
    /// Lift a suspension or a lock. Where the profile asks for two people, this asks, and another
    /// person confirms with `--confirm`.
    Resume {
        #[command(flatten)]
        decided: Decided,
        /// Confirm what another person asked for.
        #[arg(long)]
        confirm: bool,
    },
    /// Withdraw its identity for good; it needs a new code to come back.
    Revoke(Decided),
}

#[derive(Debug, clap::Args)]
pub(super) struct Decided {
    /// Which.
    #[arg(value_parser = super::parse::<AgentId>)]
    agent: AgentId,
    /// Who decides.
    #[arg(long)]
    by: String,
    /// Why; the agent is told.
    #[arg(long)]
    because: String,
}

/// An agent as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    /// Whether its key stands in a file of `agents_dir` or was enrolled.
    known_by: &'static str,
    #[serde(flatten)]
    identity: Identity,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: AgentCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    with_warehouse(&plan, async |warehouse| match command {
        AgentCommand::Ls { json: as_json } => {
            let all = known(&plan, warehouse).await?;
            print(&if as_json {
                json(&all)
            } else {
                all.iter().map(line).collect::<Vec<_>>().join("\n")
            })
        }
        AgentCommand::Show { agent, json: as_json } => {
            let all = known(&plan, warehouse).await?;
            let unknown = || Fault::new(Code::AgentUnknown, format!("no agent {agent} is known"));
            let found = all.into_iter().find(|one| one.identity.agent == agent);
            let found = found.ok_or_else(unknown)?;
            print(&if as_json { json(&found) } else { story(&found) })
        }
        AgentCommand::Suspend(decided) => {
            decide(&plan, warehouse, Decision::Suspend, &decided).await
        }
        AgentCommand::Revoke(decided) => decide(&plan, warehouse, Decision::Revoke, &decided).await,
        AgentCommand::Resume { decided, confirm } => {
            let by_two = plan.profile.resume_by_two;
            let decision = Decision::Resume { by_two, confirms: confirm };
            decide(&plan, warehouse, decision, &decided).await
        }
    })
    .await
}

async fn decide(
    plan: &Plan,
    warehouse: &Warehouse,
    decision: Decision,
    decided: &Decided,
) -> Result<(), Fault> {
    let log = Log::new(plan.signing_key.clone());
    let deciding = match decision {
        Decision::Resume { .. } => Deciding::Admit,
        Decision::Suspend | Decision::Revoke => Deciding::Stop,
    };
    let of = (deciding, Some(decided.agent.agency()));
    decider::check(warehouse, &log, &decided.by, of).await?;
    let decider = Decider { by: &decided.by, because: &decided.because };
    let agent = &decided.agent;
    let with = (decision, decider);
    let next = standing::decide(warehouse, (&log, &plan.register), agent, with).await?;
    let by_file = plan.register.get(agent).and_then(|known| known.stopped.as_ref());
    let mut text = format!("{agent}: {}", next.state.words());
    if let Some(first) = &next.resume_asked_by {
        text = format!(
            "{agent}: {first} đề nghị cho chạy lại, cần người khác xác nhận ({first} asks to resume, \
             another person confirms): phusa-hub agent resume {agent} --confirm --by … --because …"
        );
    } else if next.state == State::Active && by_file.is_some() {
        text += "; tệp trong agents_dir vẫn ghi suspended (its file in agents_dir still says suspended)";
    }
    print(&text)
}

/// Agents of files and of the database, by name.
async fn known(plan: &Plan, warehouse: &Warehouse) -> Result<Vec<Listed>, Fault> {
    let client = warehouse.client().await?;
    let found = store::all(&**client, &plan.signing_key.public()).await?;
    let mut all: Vec<Listed> = Vec::new();
    for (agent, key) in plan.register.keys() {
        if found.iter().all(|identity| identity.agent != agent) {
            let mut identity = Identity::new(agent.clone(), Timestamp::UNIX_EPOCH);
            identity.signing_key = Some(key);
            if let Some(stopped) = plan.register.get(&agent).and_then(|k| k.stopped.clone()) {
                (identity.state, identity.because) = (State::Suspended, stopped.because);
            }
            all.push(Listed { known_by: "file", identity });
        }
    }
    all.extend(found.into_iter().map(|identity| {
        let known_by = if identity.signing_key.is_some() { "enrolment" } else { "file" };
        Listed { known_by, identity }
    }));
    all.sort_by(|one, other| one.identity.agent.cmp(&other.identity.agent));
    Ok(all)
}

fn line(one: &Listed) -> String {
    let Listed { known_by, identity } = one;
    let known_by = if *known_by == "file" { "tệp · file" } else { "ghi danh · enrolled" };
    let because = match identity.state {
        State::Active => String::new(),
        State::Suspended | State::Locked | State::Revoked => format!(": {}", identity.because),
    };
    format!(
        "{}  {}{because}  {known_by}, chứng thư thứ · certificate {}",
        identity.agent,
        identity.state.words(),
        identity.generation
    )
}

fn story(one: &Listed) -> String {
    let identity = &one.identity;
    let key = |key: Option<phusa_protocol::keys::PublicKey>| {
        key.map_or_else(|| "–".to_owned(), |key| key.to_string())
    };
    [
        line(one),
        format!("  khóa ký (signing key): {}", key(identity.signing_key)),
        format!("  khóa khôi phục (recovery key): {}", key(identity.recovery_key)),
        format!(
            "  chứng thư được tin từ thứ (believed from certificate): {}",
            identity.least_generation
        ),
        format!(
            "  mạng (networks): {}",
            if identity.networks.is_empty() { "–" } else { &identity.networks }
        ),
        format!("  từ (since): {}, {}", identity.since, identity.decided_by),
    ]
    .join("\n")
}
