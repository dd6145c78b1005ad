//! `probe`: what the database offers, before anything is decided or granted (NA-30, CT-42).

use std::process::ExitCode;

use phusa_protocol::fault::Fault;
use serde_json::json;

use super::{report, say};
use crate::config::plan::Plan;
use crate::pipeline::wiring;
use crate::source::{Findings, Offer, Source as _, Way};

/// `phusa-agent probe`. What stands in the way of a way is no fault: it is the answer.
pub(super) async fn probe(plan: &Plan, as_json: bool) -> Result<ExitCode, Fault> {
    let source = wiring::source(plan)?;
    let selections: Vec<_> = plan.datasets.iter().map(|d| d.selection.clone()).collect();
    let findings = source.probe(&selections).await?;
    let offers = source.offers(&selections).await?;
    if as_json {
        say(&as_object(plan, &findings, &offers).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("Nguồn · source: {}", findings.server));
    say(&format!("Tài khoản · login: {}", plan.source.user));
    findings.facts.iter().for_each(|fact| say(&format!("  {fact}")));
    offers.iter().for_each(show);
    findings.faults.iter().for_each(report::eprint_fault);
    Ok(ExitCode::SUCCESS)
}

fn as_object(plan: &Plan, findings: &Findings, offers: &[Offer]) -> serde_json::Value {
    let fault = |fault: &Fault| json!({ "code": fault.code, "what": fault.chain() });
    json!({
        "server": findings.server,
        "database": plan.source.database,
        "login": plan.source.user,
        "facts": findings.facts,
        "faults": findings.faults.iter().map(fault).collect::<Vec<_>>(),
        "tables": offers,
    })
}

fn show(offer: &Offer) {
    let Offer { dataset, table, kind, rows_estimated, key, chosen, because, ways } = offer;
    say(&format!("\n{dataset} ← {table} ({kind}, ~{rows_estimated} bản ghi · rows)"));
    let key = if key.is_empty() { "—".to_owned() } else { key.join(", ") };
    say(&format!("  khóa · key: {key}"));
    say(&format!("  được chọn · chosen: {}, because {because}", chosen.name()));
    ways.iter().for_each(show_way);
}

fn show_way(way: &Way) {
    let mark = if way.obstacles.is_empty() { "✓" } else { "✗" };
    let by = way.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
    say(&format!("  {mark} {}{by}", way.capture.name()));
    way.obstacles.iter().for_each(|what| say(&format!("      thiếu · lacks: {what}")));
    way.risks.iter().for_each(|what| say(&format!("      rủi ro · risk: {what}")));
    way.statements.iter().for_each(|sql| say(&format!("      {sql}")));
}
