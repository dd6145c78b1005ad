//! Looking without sending: check, preview, counting the source.

use std::process::ExitCode;
use std::sync::Arc;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::change::{Change, runs};
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::{Hello, Offer};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};
use serde_json::json;
use tokio::sync::mpsc;

use super::{exit_code, report, say};
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::preview::render;
use crate::mapping::{Bound, Mapping, Shareable};
use crate::pipeline::wiring;
use crate::source::{Block, Findings, Source as _};
use crate::transport::https::Hub;
use crate::transport::skew_fault;

const FOR_THE_ADMINISTRATOR: &str =
    "-- Nhờ quản trị cơ sở dữ liệu chạy · for the database administrator to run:";

/// `phusa-agent check`.
pub(super) async fn check(plan: &Plan, offline: bool) -> Result<ExitCode, Fault> {
    let mut faults = check_source(plan).await?;
    if !offline {
        faults.extend(check_hub(plan).await);
    }
    for fault in &faults {
        report::eprint_fault(fault);
    }
    if faults.is_empty() {
        say("✓ Sẵn sàng · ready");
    }
    Ok(exit_code(&faults))
}

async fn check_source(plan: &Plan) -> Result<Vec<Fault>, Fault> {
    let source = wiring::source(plan)?;
    let selections: Vec<_> = plan.datasets.iter().map(|d| d.selection.clone()).collect();
    let found = source.probe(&selections).await;
    if found.as_ref().is_err_and(|fault| fault.code == Code::SourceLogin) {
        // A login that does not exist cannot ask what else is missing.
        let user = plan.source.user.replace('"', "\"\"");
        say(FOR_THE_ADMINISTRATOR);
        say(&format!("create role \"{user}\" login replication password '…';"));
    }
    let Findings { server, facts, mut faults, statements, columns } = found?;
    say(&format!("Nguồn · source: {server}"));
    facts.iter().for_each(|fact| say(&format!("  {fact}")));
    for (dataset, columns) in plan.datasets.iter().zip(columns) {
        say(&format!(
            "{} ← {}.{}",
            dataset.dataset(),
            dataset.selection.schema,
            dataset.selection.table
        ));
        if let Some(filter) = &dataset.selection.filter {
            say(&format!("  lọc ở nguồn · filtered at the source: {filter}"));
        }
        if let Some(columns) = columns {
            faults.extend(Mapping::new(&dataset.rules).and_then(|m| m.bind(&columns)).err());
        }
    }
    if !statements.is_empty() {
        say(FOR_THE_ADMINISTRATOR);
        statements.iter().for_each(|statement| say(statement));
    }
    Ok(faults)
}

/// Faults between agent and hub: address, certificates, contracts, clock.
async fn check_hub(plan: &Plan) -> Vec<Fault> {
    let hub = match wiring::hub_settings(plan).and_then(Hub::new) {
        Ok(hub) => hub,
        Err(fault) => return vec![fault],
    };
    let offer = |dataset: &DatasetPlan| Offer {
        dataset: dataset.dataset().clone(),
        contract: dataset.contract.fingerprint(),
        mapping: dataset.mapping,
    };
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        agent: plan.agent.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        sent_at: Timestamp::now(),
        datasets: plan.datasets.iter().map(offer).collect(),
    };
    match hub.hello(&hello).await {
        Err(fault) => vec![fault],
        Ok(welcome) => {
            say(&format!("Trung tâm · hub: phiên bản · version {}", welcome.hub_version));
            let refused = |terms: phusa_protocol::hello::Terms| {
                let what = format!("the hub refuses {}", terms.dataset);
                terms.refused.map(|code| Fault::new(code, what))
            };
            let skew = skew_fault(&welcome, Timestamp::now());
            welcome.datasets.into_iter().filter_map(refused).chain(skew).collect()
        }
    }
}

/// `phusa-agent preview`: rows as they would be sent, on this screen and nowhere else.
pub(super) async fn preview(
    plan: &Plan,
    wanted: Option<&str>,
    rows: u64,
) -> Result<ExitCode, Fault> {
    for dataset in chosen(plan, wanted)? {
        say(&format!("\n{} ({})", dataset.dataset(), dataset.contract.title_vi));
        let names: Vec<_> = dataset.contract.fields.iter().map(|f| f.name.as_str()).collect();
        say(&names.join(" | "));
        let mut rejected = 0;
        scan(plan, dataset, Some(rows), |mapped, rejects| {
            rejected += rejects;
            each_row(mapped, |row| {
                let fields = row.fields().zip(&dataset.contract.fields);
                let shown: Vec<_> = fields.map(|(field, f)| shown(f.kind, field)).collect();
                say(&shown.join(" | "));
            })
        })
        .await?;
        if rejected > 0 {
            say(&format!("{rejected} bản ghi bị loại · rows rejected"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(kind: Kind, field: Field<'_>) -> String {
    match field {
        Field::Value(bytes) => render(kind, bytes),
        Field::Null => "∅".to_owned(),
        Field::Unchanged => "…".to_owned(),
    }
}

/// `phusa-agent verify --offline`: rows and digest of the source as mapping lets it through.
pub(super) async fn count(
    plan: &Plan,
    wanted: Option<&str>,
    as_json: bool,
) -> Result<ExitCode, Fault> {
    for dataset in chosen(plan, wanted)? {
        let mut digest = RowsDigest::default();
        scan(plan, dataset, None, |mapped, _| {
            each_row(mapped, |row| digest.add_tuple(row.as_bytes()))
        })
        .await?;
        let sum = format!("{:032x}", digest.sum);
        if as_json {
            let line = json!({ "dataset": dataset.dataset(), "rows": digest.rows, "sum": sum });
            say(&line.to_string());
        } else {
            let rows = digest.rows;
            say(&format!("{}: {rows} bản ghi · rows, mã · digest {sum}", dataset.dataset()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn chosen<'a>(
    plan: &'a Plan,
    wanted: Option<&str>,
) -> Result<Vec<&'a DatasetPlan>, Fault> {
    let matches = |d: &&DatasetPlan| wanted.is_none_or(|name| d.dataset().to_string() == name);
    let found: Vec<_> = plan.datasets.iter().filter(matches).collect();
    match wanted {
        Some(name) if found.is_empty() => {
            let what = format!("there is no dataset `{name}` in the configuration");
            Err(Fault::new(Code::ConfigInvalid, what))
        }
        Some(_) | None => Ok(found),
    }
}

/// Reads a dataset once through its mapping and hands on each mapped block.
pub(super) async fn scan(
    plan: &Plan,
    dataset: &DatasetPlan,
    rows_max: Option<u64>,
    mut take: impl FnMut(Shareable, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let source = wiring::source(plan)?;
    let mapping = Mapping::new(&dataset.rules)?;
    let (blocks, mut taken) = mpsc::channel::<Block>(2);
    let read = source.scan(&dataset.selection, rows_max, blocks);
    let map = async {
        let mut bound: Option<(Arc<_>, Bound)> = None;
        while let Some(block) = taken.recv().await {
            if bound.as_ref().is_none_or(|(columns, _)| !Arc::ptr_eq(columns, &block.columns)) {
                let fresh = mapping.bind(&block.columns)?;
                bound = Some((Arc::clone(&block.columns), fresh));
            }
            if let Some((_, bound)) = &bound {
                let mapped = bound.apply(block)?;
                take(mapped.shareable, mapped.rejects.len())?;
            }
        }
        Ok(())
    };
    let (read, mapped) = tokio::join!(read, map);
    mapped.and(read)
}

/// Hands on each row of a full read.
pub(super) fn each_row(
    mapped: Shareable,
    mut take: impl FnMut(phusa_protocol::row::Tuple<'_>),
) -> Result<(), Fault> {
    let (body, _) = mapped.into_parts();
    let damaged = |error| Fault::because(Code::Bug, "mapping made a damaged body", error);
    for run in runs(&body) {
        for change in run.map_err(damaged)?.changes() {
            if let Change::Snapshot(row) = change.map_err(damaged)? {
                take(row);
            }
        }
    }
    Ok(())
}
