//! `phusa-hub warehouse`: digests, reads and exports by people, holds, and destruction at the end of
//! retention.

mod ending;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;

use super::{json, parse, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::catalog::{Agreed, Catalog};
use crate::config::plan::Plan;
use crate::reading::{self, Asker, Found};
use crate::transfers::Log;
use crate::warehouse::history::Which;
use crate::warehouse::{Warehouse, apply};

#[derive(Debug, Subcommand)]
pub(super) enum WarehouseCommand {
    /// Count and digest of every row of a dataset, over its contract's fields.
    Digest {
        /// Which dataset.
        #[arg(value_parser = parse::<DatasetId>)]
        dataset: DatasetId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one record; the read is an entry of the log.
    Show {
        /// Which dataset.
        #[arg(value_parser = parse::<DatasetId>)]
        dataset: DatasetId,
        /// The fields of its key, in the contract's order.
        #[arg(required = true)]
        key: Vec<String>,
        /// As it was at this moment, such as 2026-11-21T08:30:00Z.
        #[arg(long, value_parser = parse::<Timestamp>, conflicts_with = "history")]
        as_of: Option<Timestamp>,
        /// Every version that is kept.
        #[arg(long)]
        history: bool,
        #[command(flatten)]
        asked: Asked,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a dataset to a CSV file; the export is an entry of the log.
    Export {
        /// Which dataset.
        #[arg(value_parser = parse::<DatasetId>)]
        dataset: DatasetId,
        /// The file; it must not be there yet.
        #[arg(long)]
        to: PathBuf,
        /// As it was at this moment.
        #[arg(long, value_parser = parse::<Timestamp>, conflicts_with = "history")]
        as_of: Option<Timestamp>,
        /// Every version that is kept.
        #[arg(long)]
        history: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// What forbids the destruction of a dataset's rows.
    #[command(subcommand)]
    Hold(ending::HoldCommand),
    /// Destruction at the end of retention, by two people.
    #[command(subcommand)]
    Destroy(ending::DestroyCommand),
}

#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// Who asks.
    #[arg(long)]
    by: String,
    /// What for: a code of the province's legal profile, and of the contract where it names some.
    #[arg(long)]
    purpose: String,
}

impl From<Asked> for Asker {
    fn from(asked: Asked) -> Self {
        Self { by: asked.by, purpose: asked.purpose }
    }
}

fn which(as_of: Option<Timestamp>, history: bool) -> Which {
    match as_of {
        Some(moment) => Which::AsOf(moment),
        None if history => Which::History,
        None => Which::Current,
    }
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: WarehouseCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    with_warehouse(&plan, async |warehouse| match command {
        WarehouseCommand::Hold(command) => ending::hold(&plan, (warehouse, &log), command).await,
        WarehouseCommand::Destroy(command) => {
            ending::destroy(&plan, (warehouse, &log), command).await
        }
        WarehouseCommand::Digest { dataset, json: as_json } => {
            let agreed = agreed(&plan, warehouse, &dataset).await?;
            let digest = apply::digest(&**warehouse.client().await?, &agreed.shape).await?;
            print(&if as_json { json(&digest) } else { format!("{dataset}: {digest}") })
        }
        WarehouseCommand::Show { dataset, key, as_of, history, asked, json: as_json } => {
            let agreed = agreed(&plan, warehouse, &dataset).await?;
            let asker = Asker::from(asked);
            asker.check(&plan.profile, &agreed)?;
            let of = (Deciding::Read, Some(&agreed.contract.owner));
            decider::check(warehouse, &log, &asker.by, of).await?;
            let wanted = (which(as_of, history), &asker);
            let found = reading::record((warehouse, &log), &agreed, &key, wanted).await?;
            print(&if as_json { json(&found) } else { shown(&found) })
        }
        WarehouseCommand::Export { dataset, to, as_of, history, asked } => {
            let agreed = agreed(&plan, warehouse, &dataset).await?;
            let asker = Asker::from(asked);
            asker.check(&plan.profile, &agreed)?;
            let of = (Deciding::Read, Some(&agreed.contract.owner));
            decider::check(warehouse, &log, &asker.by, of).await?;
            let wanted = (which(as_of, history), &asker);
            let done = reading::export((warehouse, &log), &agreed, &to, wanted).await?;
            print(&format!(
                "{}: {} bản ghi (rows), {} byte, lần truyền (transfer) {}",
                to.display(),
                done.rows,
                done.bytes,
                done.transfer
            ))
        }
    })
    .await
}

/// The contract in force.
pub(super) async fn agreed(
    plan: &Plan,
    warehouse: &Warehouse,
    dataset: &DatasetId,
) -> Result<Arc<Agreed>, Fault> {
    let contracts = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?.current();
    let unknown = || Fault::new(Code::DatasetUnknown, format!("no contract for {dataset}"));
    contracts.get(dataset).cloned().ok_or_else(unknown)
}

/// Field by field; control characters would act on the terminal.
fn shown(found: &Found) -> String {
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { '␦' } else { c }).collect();
    let mut lines = Vec::new();
    for row in &found.rows {
        for (name, value) in found.columns.iter().zip(row) {
            let value: String = value.as_deref().map_or_else(|| "–".to_owned(), clean);
            lines.push(format!("  {name:<24} {value}"));
        }
        lines.push(String::new());
    }
    lines.push(format!(
        "{} phiên bản (versions); lần đọc này là (this read is) lần truyền (transfer) {}",
        found.rows.len(),
        found.transfer
    ));
    lines.join("\n")
}
