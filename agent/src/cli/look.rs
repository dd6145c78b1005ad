//! Looking without sending: check, and counting the source.

use std::process::ExitCode;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::{Hello, Offer, Terms, Welcome};
use phusa_protocol::time::Timestamp;
use serde_json::json;

use super::{exit_code, meaning, report, say};
use crate::config::Engine;
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::Mapping;
use crate::mapping::decode::Encoding;
use crate::mapping::field::Decode;
use crate::pipeline::{sample, wiring};
use crate::source::{Column, Findings, Source as _};
use crate::transport::https::Hub;
use crate::transport::skew_fault;

const FOR_THE_ADMINISTRATOR: &str =
    "-- Nhờ quản trị cơ sở dữ liệu chạy · for the database administrator to run:";

/// `phusa-agent check`.
pub(super) async fn check(plan: &Plan, offline: bool, unread: bool) -> Result<ExitCode, Fault> {
    let mut faults = check_source(plan).await?;
    if !unread && faults.is_empty() {
        let source = wiring::source(plan)?;
        for dataset in &plan.datasets {
            faults.extend(meaning::look_at_values(&source, dataset).await.err());
        }
    }
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
        say(FOR_THE_ADMINISTRATOR);
        say(&new_login(plan));
    }
    let Findings { server, facts, mut faults, statements, columns, unread } = found?;
    say(&format!("Nguồn · source: {server}"));
    facts.iter().for_each(|fact| say(&format!("  {fact}")));
    let looked_at = plan.datasets.iter().zip(columns).zip(unread);
    for ((dataset, columns), unread) in looked_at {
        meaning::explain(dataset, columns.is_some().then_some(&unread));
        if let Some(columns) = columns {
            faults.extend(check_binding(dataset, &columns).err());
        }
    }
    if !statements.is_empty() {
        say(FOR_THE_ADMINISTRATOR);
        statements.iter().for_each(|statement| say(statement));
    }
    Ok(faults)
}

/// The statement that makes the login the file names.
pub(super) fn new_login(plan: &Plan) -> String {
    let user = &plan.source.user;
    match plan.source.engine {
        Engine::Postgresql => {
            let user = user.replace('"', "\"\"");
            format!("create role \"{user}\" login replication password '…';")
        }
        Engine::Mysql => {
            let user = user.replace('`', "``");
            format!("create user `{user}` identified by '…';")
        }
        Engine::Sqlserver => {
            let user = user.replace(']', "]]");
            format!(
                "create login [{user}] with password = N'…'; create user [{user}] for login [{user}];"
            )
        }
    }
}

/// Whether the rules fit the columns; an encoding that a sample is to settle fits as any other.
pub(super) fn check_binding(dataset: &DatasetPlan, columns: &[Column]) -> Result<(), Fault> {
    let mut rules = dataset.rules.clone();
    for field in &mut rules.fields {
        if field.recipe.decode == Some(Decode::Auto) {
            field.recipe.decode = Some(Decode::As(Encoding::Utf8));
        }
    }
    Mapping::new(&rules)?.bind(columns).map(|_| ())
}

/// Faults between agent and hub: address, certificates, contracts, clock.
async fn check_hub(plan: &Plan) -> Vec<Fault> {
    match greet(plan).await {
        Err(fault) => vec![fault],
        Ok(welcome) => {
            say(&format!("Trung tâm · hub: phiên bản · version {}", welcome.hub_version));
            let skew = skew_fault(&welcome, Timestamp::now());
            let unsigned = unsigned(plan, &welcome);
            refusals(welcome).chain(skew).chain(unsigned).collect()
        }
    }
}

/// What the hub answers to a greeting that begins nothing.
pub(super) async fn greet(plan: &Plan) -> Result<Welcome, Fault> {
    let hub = wiring::hub_settings(plan).and_then(Hub::new)?;
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
    hub.hello(&hello).await.map_err(|not_welcome| not_welcome.fault)
}

/// The datasets whose contract was not signed by owner and hub as this agent must see it.
pub(super) fn unsigned(plan: &Plan, welcome: &Welcome) -> Vec<Fault> {
    let offered = welcome.datasets.iter().filter(|terms| terms.refused.is_none());
    let verify = |terms: &Terms| {
        let dataset = plan.datasets.iter().find(|d| *d.dataset() == terms.dataset)?;
        wiring::accord(plan, dataset).and_then(|accord| accord.verify(terms)).err()
    };
    offered.filter_map(verify).collect()
}

/// The datasets the hub refuses.
pub(super) fn refusals(welcome: Welcome) -> impl Iterator<Item = Fault> {
    welcome.datasets.into_iter().filter_map(|terms: Terms| {
        let what = format!("the hub refuses {}", terms.dataset);
        terms.refused.map(|code| Fault::new(code, what))
    })
}

/// `phusa-agent verify --offline`: rows and digest of the source as mapping lets it through.
pub(super) async fn count(
    plan: &Plan,
    wanted: Option<&str>,
    as_json: bool,
) -> Result<ExitCode, Fault> {
    for dataset in chosen(plan, wanted)? {
        let mut digest = RowsDigest::default();
        let source = wiring::source(plan)?;
        sample::scan_mapped(&source, dataset, None, |mapped| {
            sample::each_row(mapped.shareable.body(), |row| {
                digest.add_tuple(row.as_bytes());
                Ok(())
            })
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
