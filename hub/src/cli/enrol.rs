//! `phusa-hub enrol`: one-time codes, and a second person's word on their use.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::OneTimeCode;
use phusa_protocol::ids::AgentId;
use phusa_protocol::network::Network;

use super::{json, one, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::admission::invite::{self, Listed, Wanted};
use crate::config::plan::Plan;
use crate::identity::ca;
use crate::transfers::Log;

#[derive(Debug, Subcommand)]
pub(super) enum EnrolCommand {
    /// Make a one-time code for an agent; it is printed once and kept nowhere.
    Create(Create),
    /// Codes that can still be used, and enrolments that wait; the exit code is 0.
    Ls {
        /// Used, refused and expired ones too.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// A second person approves an enrolment that waits, after comparing the request's digest.
    Approve {
        /// The number of its code.
        invitation: String,
        /// Who approves; not who made the code.
        #[arg(long)]
        by: String,
    },
    /// Refuse an enrolment that waits, or take a code back.
    Refuse {
        /// The number of its code.
        invitation: String,
        /// Who refuses.
        #[arg(long)]
        by: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// For whom, such as H57.12/may-1.
    #[arg(value_parser = super::parse::<AgentId>)]
    agent: AgentId,
    /// How many days the code is good.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=30))]
    days: u32,
    /// A second person must approve its use.
    #[arg(long)]
    approve: bool,
    /// A network the agent may come from; may be given several times. Default: all that the hub
    /// allows.
    #[arg(long)]
    network: Vec<Network>,
    /// Who makes it.
    #[arg(long)]
    by: String,
    /// The address to print in the agent's command.
    #[arg(long)]
    hub_url: Option<String>,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: EnrolCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    if let EnrolCommand::Create(create) = command {
        return create_code(&plan, &log, &create).await;
    }
    with_warehouse(&plan, async |warehouse| match command {
        EnrolCommand::Create(_) => Ok(()),
        EnrolCommand::Ls { all, json: as_json } => {
            let listed = invite::list(&**warehouse.client().await?, all).await?;
            print(&if as_json { json(&listed) } else { table(&listed) })
        }
        EnrolCommand::Approve { invitation, by } => {
            decider::check(warehouse, &log, &by, (Deciding::Admit, None)).await?;
            let agent = invite::decide(warehouse, &log, &invitation, (true, &by)).await?;
            print(&format!("{agent}: đã duyệt (approved)"))
        }
        EnrolCommand::Refuse { invitation, by } => {
            decider::check(warehouse, &log, &by, (Deciding::Admit, None)).await?;
            let agent = invite::decide(warehouse, &log, &invitation, (false, &by)).await?;
            print(&format!("{agent}: đã từ chối (refused)"))
        }
    })
    .await
}

async fn create_code(plan: &Plan, log: &Log, create: &Create) -> Result<(), Vec<Fault>> {
    if plan.issuing.is_none() {
        let what = "this hub issues no certificates: it has no [identity] in hub.toml";
        return one(Err(Fault::new(Code::EnrolRefused, what)));
    }
    let root = one(ca::root_fingerprint(&plan.certificate_pem, &plan.ca_pem))?;
    let no_randomness = |error: getrandom::Error| {
        Fault::because(Code::Bug, "the system gives no randomness", error.to_string())
    };
    let code = one(OneTimeCode::generate(root).map_err(no_randomness))?;
    let wanted = Wanted {
        agent: &create.agent,
        networks: &create.network,
        valid: Duration::from_secs(86_400) * create.days,
        needs_approval: create.approve,
        by: &create.by,
    };
    with_warehouse(plan, async |warehouse| {
        let of = (Deciding::Admit, Some(create.agent.agency()));
        decider::check(warehouse, log, &create.by, of).await?;
        let until = invite::create(warehouse, log, &code, &wanted).await?;
        let hub = create.hub_url.clone().unwrap_or_else(|| format!("https://{}", plan.listen));
        print(&format!(
            "Mã một lần cho (one-time code for) {}, dùng đến (good until) {until}; trao qua đường an \
             toàn, chạy ở máy của cơ quan (hand it over safely, run at the agency):\n\
             phusa-agent enrol {hub} {code}",
            create.agent
        ))
    })
    .await
}

fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "không có mã nào đang chờ (no code is open)".to_owned();
    }
    let line = |one: &Listed| {
        let state = match one.state.as_str() {
            "open" => "chưa dùng · open",
            "waiting" => "chờ duyệt · waits for approval",
            "approved" => "đã duyệt · approved",
            "used" => "đã dùng · used",
            _ => "đã từ chối · refused",
        };
        let asked = one.asked.as_ref().map(|asked| format!("\n      yêu cầu (request) {asked}"));
        format!(
            "{}  {}  {state}  tạo bởi (by) {}, đến (until) {}{}",
            one.invitation,
            one.agent,
            one.created_by,
            one.expires_at,
            asked.unwrap_or_default()
        )
    };
    listed.iter().map(line).collect::<Vec<_>>().join("\n")
}
