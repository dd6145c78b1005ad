//! What agents tell of their orders: done, in the way, or not followed; and what they say when asked.

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::fault::Fault;
use phusa_protocol::orders::OrdersReport;
use phusa_protocol::report::Report;
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::not_read;
use crate::transfers::{from_system_time, system_time};

/// Answers that are kept of one agent.
const KEPT_MAX: i64 = 5;

/// What an agent said of itself when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosed {
    /// When that arrived.
    pub told_at: Timestamp,
    /// Its report of that moment, with the diagnosis in it.
    pub report: Report,
}

/// Keeps what a report tells of orders, in its transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn hear(tx: &Transaction<'_>, report: &Report, now: Timestamp) -> Result<(), Fault> {
    let agent = report.agent.to_string();
    if let Some(orders) = &report.orders {
        settle(tx, &agent, orders).await?;
    }
    let Some(diagnosis) = &report.diagnosis else { return Ok(()) };
    let order = number(diagnosis.order);
    // What was not asked for, or is answered already, is not kept.
    let sql = "update phusa.fleet_orders set state = 'done', outcome = null, \
               changed_at = clock_timestamp() where fleet_order = $1 and agent = $2 \
               and kind = 'diagnose' and state = 'open'";
    if tx.execute(sql, &[&order, &agent]).await.map_err(not_read)? == 0 {
        return Ok(());
    }
    let text = serde_json::to_string(report).unwrap_or_default();
    let sql = "insert into phusa.fleet_diagnoses (agent, fleet_order, told_at, report) \
               values ($1, $2, $3, $4) on conflict do nothing";
    let row: [&(dyn postgres_types::ToSql + Sync); 4] = [&agent, &order, &system_time(now), &text];
    tx.execute(sql, &row).await.map_err(not_read)?;
    let sql = "delete from phusa.fleet_diagnoses where agent = $1 and fleet_order not in \
               (select fleet_order from phusa.fleet_diagnoses where agent = $1 \
                order by fleet_order desc limit $2)";
    tx.execute(sql, &[&agent, &KEPT_MAX]).await.map(drop).map_err(not_read)
}

async fn settle(tx: &Transaction<'_>, agent: &str, orders: &OrdersReport) -> Result<(), Fault> {
    let done = orders.told.iter().filter(|told| told.fault.is_none());
    let done: Vec<i64> = done.map(|told| number(told.order)).collect();
    if !done.is_empty() {
        let sql = "update phusa.fleet_orders set state = 'done', outcome = null, \
                   changed_at = clock_timestamp() where agent = $1 and fleet_order = any($2) \
                   and state = 'open' and kind in ('compare', 'rotate', 'check_update')";
        tx.execute(sql, &[&agent, &done]).await.map_err(not_read)?;
    }
    for told in &orders.told {
        let (Some(fault), order) = (&told.fault, number(told.order)) else { continue };
        let hours = told.hours.iter().flat_map(|hours| [" ", hours]);
        let outcome: String = std::iter::once(fault.as_str()).chain(hours).collect();
        // Nothing else is wanted of the agent by that: `changed_at` stays.
        let sql = "update phusa.fleet_orders set outcome = $3 where agent = $1 \
                   and fleet_order = $2 and state = 'open' and outcome is distinct from $3";
        tx.execute(sql, &[&agent, &order, &outcome]).await.map_err(not_read)?;
    }
    // Last, so that a refusal keeps the reason that came with it.
    let refused: Vec<i64> = orders.refused.iter().copied().map(number).collect();
    if !refused.is_empty() {
        let sql = "update phusa.fleet_orders set state = 'refused', changed_at = clock_timestamp() \
                   where agent = $1 and fleet_order = any($2) and state = 'open'";
        tx.execute(sql, &[&agent, &refused]).await.map_err(not_read)?;
    }
    Ok(())
}

/// What an agent said of itself when it was asked last.
///
/// # Errors
/// When the database does not answer.
pub async fn diagnosed(client: &Object, agent: &str) -> Result<Option<Diagnosed>, Fault> {
    let sql = "select told_at, report from phusa.fleet_diagnoses where agent = $1 \
               order by fleet_order desc limit 1";
    let Some(row) = client.query_opt(sql, &[&agent]).await.map_err(not_read)? else {
        return Ok(None);
    };
    let told_at = from_system_time(row.try_get(0).map_err(not_read)?);
    let text: String = row.try_get(1).map_err(not_read)?;
    // Of another version of the hub: then nothing is known until it is asked for again.
    Ok(serde_json::from_str(&text).ok().map(|report| Diagnosed { told_at, report }))
}

fn number(order: u64) -> i64 {
    i64::try_from(order).unwrap_or(-1)
}
