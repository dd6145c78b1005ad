//! `phusa-hub fleet watch`: one line whenever it changes how an agent is.

use std::collections::BTreeMap;
use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::Span;
use phusa_protocol::verdict::{Reason, State};
use serde_json::json;
use tokio::time::Instant;

use super::{all, needs_nobody, print, state};
use crate::config::plan::Plan;
use crate::fleet::health::Health;
use crate::warehouse::Warehouse;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Asked {
    /// The agents of one agency alone.
    #[arg(long, value_parser = crate::cli::parse::<AgencyId>)]
    agency: Option<AgencyId>,
    /// End after so long, such as 10m.
    #[arg(long, value_parser = crate::cli::parse::<Span>)]
    within: Option<Span>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What was said of an agent last.
type Said = BTreeMap<String, (State, Reason)>;

/// Watches until it is over, or somebody says so.
pub(super) async fn run(plan: &Plan, warehouse: &Warehouse, asked: Asked) -> Result<(), Fault> {
    let until = asked.within.map(|span| Instant::now() + span.0);
    let (mut said, mut interrupted) = (Said::new(), std::pin::pin!(tokio::signal::ctrl_c()));
    loop {
        let mut found = all(plan, warehouse).await?;
        if let Some(agency) = &asked.agency {
            found.retain(|one| one.agency() == agency.as_str());
        }
        for one in &found {
            let now = (one.verdict.state, one.verdict.reason);
            let before = said.insert(one.row.agent.clone(), now);
            if before != Some(now) {
                print(&line(one, before.map(|(state, _)| state), asked.json))?;
            }
        }
        let over = until.is_some_and(|until| Instant::now() >= until);
        let over = over
            || tokio::select! {
                _ = interrupted.as_mut() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
        if over {
            return needs_nobody(&found);
        }
    }
}

fn line(one: &Health, before: Option<State>, as_json: bool) -> String {
    let (verdict, agent, now) = (&one.verdict, &one.row.agent, Timestamp::now());
    if as_json {
        return json!({ "at": now, "agent": agent, "before": before, "verdict": verdict })
            .to_string();
    }
    let words = verdict.words();
    let arrow = before.map(|before| format!("{} → ", state(before))).unwrap_or_default();
    let (at, vi, en) = (now.vietnamese(), words.reason_vi, words.reason_en);
    format!("{at}  {agent}  {arrow}{}: {vi} · {en}", state(verdict.state))
}
