//! `phusa-hub fleet pause … check-update`: what is wanted of agents, and what became of it.

use clap::Args;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::units::Span;

use crate::cli::print;
use crate::config::plan::Plan;
use crate::fleet::orders::{self, Ending, Kind, Listed, Wanted};
use crate::transfers::Log;
use crate::transfers::deed::console;
use crate::warehouse::Warehouse;

/// For one dataset of one agent.
#[derive(Debug, Args)]
pub(in crate::cli) struct OfDataset {
    /// Which agent, such as H57.12/may-1.
    #[arg(value_parser = crate::cli::parse::<AgentId>)]
    agent: AgentId,
    /// Which dataset.
    #[arg(value_parser = crate::cli::parse::<DatasetId>)]
    dataset: DatasetId,
    #[command(flatten)]
    terms: Terms,
}

/// For agents, one or many.
#[derive(Debug, Args)]
pub(in crate::cli) struct OfAgents {
    /// Which agents, such as H57.12/may-1.
    #[arg(required = true, value_parser = crate::cli::parse::<AgentId>)]
    agents: Vec<AgentId>,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
struct Terms {
    /// Why.
    #[arg(long)]
    because: String,
    /// For how long it is wanted, 1m to 7d; then it is over by itself.
    #[arg(long, default_value = "4h", value_parser = crate::cli::parse::<Span>)]
    within: Span,
}

/// Gives an order for a dataset.
pub(super) async fn of_dataset(
    plan: &Plan,
    warehouse: &Warehouse,
    (asked, kind): (OfDataset, Kind),
) -> Result<(), Fault> {
    let OfDataset { agent, dataset, terms } = asked;
    give(plan, warehouse, wanted((agent, Some(dataset)), kind, &terms)).await
}

/// Gives an order to each of the agents; one that is refused does not keep the others from theirs.
pub(super) async fn of_agents(
    plan: &Plan,
    warehouse: &Warehouse,
    (asked, kind): (OfAgents, Kind),
) -> Result<(), Fault> {
    let all = asked.agents.len();
    let mut refused = Vec::new();
    for agent in asked.agents {
        let ended = give(plan, warehouse, wanted((agent, None), kind, &asked.terms)).await;
        refused.extend(ended.err());
    }
    if all == 1 {
        return refused.pop().map_or(Ok(()), Err);
    }
    let told: Vec<_> = refused.iter().map(Fault::chain).collect();
    match refused.first().map(|fault| fault.code) {
        None => Ok(()),
        Some(code) => {
            let what = format!("{} / {all} tác tử (agents): {}", refused.len(), told.join("; "));
            Err(Fault::new(if refused.len() == 1 { code } else { Code::OrderRefused }, what))
        }
    }
}

fn wanted((agent, dataset): (AgentId, Option<DatasetId>), kind: Kind, terms: &Terms) -> Wanted {
    let (because, within) = (terms.because.clone(), terms.within.0);
    Wanted { agent, dataset, kind, by: console(), from: None, because, within }
}

async fn give(plan: &Plan, warehouse: &Warehouse, wanted: Wanted) -> Result<(), Fault> {
    let log = Log::new(plan.signing_key.clone());
    let number = orders::issue(&mut warehouse.client().await?, &log, &wanted).await?;
    let dataset = wanted.dataset.map(|id| format!(" {id}")).unwrap_or_default();
    print(&format!("yêu cầu (order) {number}: {}{dataset}", wanted.agent))
}

/// Takes an order back.
pub(super) async fn cancel(plan: &Plan, warehouse: &Warehouse, number: i64) -> Result<(), Fault> {
    let log = Log::new(plan.signing_key.clone());
    let by = console();
    let ending = Ending { by: &by, from: None, because: None };
    orders::cancel(&mut warehouse.client().await?, &log, number, ending).await?;
    print(&format!("yêu cầu (order) {number}: đã rút lại (taken back)"))
}

/// Orders, one a line.
pub(super) fn listed(found: &[Listed]) -> String {
    if found.is_empty() {
        return "không có yêu cầu nào (no orders)".to_owned();
    }
    let line = |one: &Listed| {
        let (vi, en) = Kind::named(&one.kind).map_or(("?", "?"), Kind::words);
        let state = match one.state.as_str() {
            "open" => "đang chờ · open",
            "done" => "đã xong · done",
            "refused" => "tác tử không làm · refused by the agent",
            "cancelled" => "đã rút · cancelled",
            _ => "hết hạn · over",
        };
        let outcome = match (&one.hours, &one.outcome) {
            (Some(hours), _) => {
                format!(" [chờ giờ được phép {hours} · waits for the allowed hours {hours}]")
            }
            (None, Some(code)) => format!(" [{code}]"),
            (None, None) => String::new(),
        };
        let on = format!("{} {}", one.agent, one.dataset);
        format!(
            "{:>4}  {state}{outcome}  {vi} · {en}  {}  {}  hạn · until {}  {}",
            one.order,
            on.trim_end(),
            one.by,
            one.until.vietnamese(),
            one.because
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}
