//! What people want of agents: paused, read again, compared, renewed, asked; each with a deadline, kept
//! until it is done, refused, cancelled or over. An agent is told all that is open; what it reports says
//! what is done.

mod hear;
mod kind;

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::orders::{ORDERS_MAX, Order, SignedOrders};
use phusa_protocol::report::Report;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

pub use self::hear::{Diagnosed, diagnosed, hear};
pub use self::kind::Kind;
use super::not_read;
use crate::transfers::{Log, deed, from_system_time, system_time};

/// The longest an order may be open: whoever forgot it finds the dataset at work again.
pub const OPEN_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Orders that are listed.
const LISTED_MAX: i64 = 500;

/// An order as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number.
    pub order: i64,
    /// To whom.
    pub agent: String,
    /// Of which dataset; empty where it is of the agent.
    pub dataset: String,
    /// Its name: see [`Kind`].
    pub kind: String,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub because: String,
    /// Since when.
    pub issued_at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// `open`, `done`, `refused`, `cancelled` or `over`.
    pub state: String,
    /// The fault that stands in its way, as the agent tells it.
    pub outcome: Option<String>,
    /// The hours of the day it waits for, where that is what stands in its way.
    pub hours: Option<String>,
}

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of whom.
    pub agent: AgentId,
    /// Of which dataset; none for what is of the agent.
    pub dataset: Option<DatasetId>,
    /// What.
    pub kind: Kind,
    /// Who, as the log names them.
    pub by: String,
    /// From which address, over the network.
    pub from: Option<String>,
    /// Why.
    pub because: String,
    /// For how long.
    pub within: Duration,
}

/// Writes an order down with its entry in the transfer log; its number.
///
/// # Errors
/// `order_refused` when such an order is open already, the agent never delivered this dataset or is not
/// known, its program does not know such an order, or the time is too long; when the database does not
/// answer.
pub async fn issue(client: &mut Object, log: &Log, wanted: &Wanted) -> Result<i64, Fault> {
    let agent = wanted.agent.to_string();
    let dataset = wanted.dataset.as_ref().map(ToString::to_string).unwrap_or_default();
    let refused = |what: String| Err(Fault::new(Code::OrderRefused, what));
    if wanted.within > OPEN_MAX || wanted.within < Duration::from_secs(60) {
        return refused("an order is for one minute to seven days".to_owned());
    }
    let kind = wanted.kind.name();
    if wanted.dataset.is_some() != wanted.kind.is_of_dataset() {
        return refused(format!("`{kind}` is of a dataset or of an agent, and not of the other"));
    }
    let tx = client.transaction().await.map_err(not_read)?;
    let epoch = known(&tx, wanted).await?;
    let now = Timestamp::now();
    let (at, until) = (system_time(now), system_time(now.after(wanted.within)));
    let sql = "insert into phusa.fleet_orders \
               (agent, dataset, kind, epoch, wanted_by, because, issued_at, until, changed_at) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, $7) \
               on conflict (agent, dataset, kind) where state = 'open' do nothing \
               returning fleet_order";
    let row: [&(dyn postgres_types::ToSql + Sync); 8] =
        [&agent, &dataset, &kind, &epoch, &wanted.by, &wanted.because, &at, &until];
    let Some(row) = tx.query_opt(sql, &row).await.map_err(not_read)? else {
        return refused(format!("`{kind}` for {agent} {dataset} is open already"));
    };
    let order: i64 = row.try_get(0).map_err(not_read)?;
    let on = format!("{agent} {dataset}");
    let told = Deed::new(&wanted.by, wanted.kind.action()).on(on.trim_end());
    deed::write(&tx, log, Deed { from: wanted.from.clone(), ..told }).await?;
    tx.commit().await.map_err(not_read)?;
    log.wake();
    Ok(order)
}

/// The epoch of the stream that is meant; 0 for what is of the agent.
async fn known(tx: &Transaction<'_>, wanted: &Wanted) -> Result<i64, Fault> {
    let agent = wanted.agent.to_string();
    let refused = |what: String| Err(Fault::new(Code::OrderRefused, what));
    let sql = "select report from phusa.fleet_agents where agent = $1";
    let reported = tx.query_opt(sql, &[&agent]).await.map_err(not_read)?;
    if let Some(row) = &reported {
        let text: Option<String> = row.try_get(0).map_err(not_read)?;
        let report: Option<Report> = text.and_then(|text| serde_json::from_str(&text).ok());
        let is_older = report.as_ref().filter(|report| report.orders.is_none());
        if let (Some(report), true) = (is_older, wanted.kind.is_once()) {
            let (version, kind) = (&report.version, wanted.kind.name());
            let what =
                format!("the program {version} of {agent} does not know `{kind}`: update it first");
            return refused(what);
        }
    }
    let Some(dataset) = &wanted.dataset else {
        let sql = "select exists (select from phusa.agents_seen where agent = $1)";
        let row = tx.query_one(sql, &[&agent]).await.map_err(not_read)?;
        let is_known = reported.is_some() || row.try_get(0).map_err(not_read)?;
        return if is_known { Ok(0) } else { refused(format!("{agent} was never heard of")) };
    };
    let sql = "select epoch from phusa.streams where agent = $1 and dataset = $2";
    let row = tx.query_opt(sql, &[&agent, &dataset.to_string()]).await.map_err(not_read)?;
    match row {
        Some(row) => row.try_get(0).map_err(not_read),
        None => refused(format!("{agent} never delivered {dataset}")),
    }
}

/// Who takes an order back, and why.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Who, as the log names them.
    pub by: &'a str,
    /// From which address, over the network.
    pub from: Option<&'a str>,
    /// Why, where somebody says so.
    pub because: Option<&'a str>,
}

/// Takes an open order back: a pause ends, a read that has not begun does not.
///
/// # Errors
/// `order_refused` when none of that number is open; when the database does not answer.
pub async fn cancel(
    client: &mut Object,
    log: &Log,
    order: i64,
    ending: Ending<'_>,
) -> Result<(), Fault> {
    let sql = "update phusa.fleet_orders set state = 'cancelled', \
               changed_at = clock_timestamp(), ended_because = $2 \
               where fleet_order = $1 and state = 'open' returning agent, dataset";
    let tx = client.transaction().await.map_err(not_read)?;
    let row = tx.query_opt(sql, &[&order, &ending.because]).await.map_err(not_read)?;
    let Some(row) = row else {
        return Err(Fault::new(Code::OrderRefused, format!("no order {order} is open")));
    };
    let (agent, dataset): (String, String) =
        (row.try_get(0).map_err(not_read)?, row.try_get(1).map_err(not_read)?);
    let on = format!("{agent} {dataset}");
    let told = Deed::new(ending.by, Action::FleetResume).on(on.trim_end());
    deed::write(&tx, log, Deed { from: ending.from.map(ToOwned::to_owned), ..told }).await?;
    tx.commit().await.map_err(not_read)?;
    log.wake();
    Ok(())
}

/// The open pause of a dataset, to be cancelled by its name.
///
/// # Errors
/// `order_refused` when it is not paused; when the database does not answer.
pub async fn pause_of(client: &Object, agent: &AgentId, dataset: &DatasetId) -> Result<i64, Fault> {
    let sql = "select fleet_order from phusa.fleet_orders \
               where agent = $1 and dataset = $2 and kind = 'pause' and state = 'open'";
    let (agent, dataset) = (agent.to_string(), dataset.to_string());
    let row = client.query_opt(sql, &[&agent, &dataset]).await.map_err(not_read)?;
    let Some(row) = row else {
        return Err(Fault::new(Code::OrderRefused, format!("{agent} {dataset} is not paused")));
    };
    row.try_get(0).map_err(not_read)
}

/// Orders, the newest first: the open ones, or all up to a bound.
///
/// # Errors
/// When the database does not answer.
pub async fn list(client: &Object, all: bool) -> Result<Vec<Listed>, Fault> {
    let which = if all { "true" } else { "state = 'open'" };
    let sql = format!("{LIST} where {which} order by fleet_order desc limit $1");
    let rows = client.query(&sql, &[&LISTED_MAX]).await.map_err(not_read)?;
    rows.iter().map(|row| listed(row).map_err(not_read)).collect()
}

/// The newest orders for one agent.
///
/// # Errors
/// When the database does not answer.
pub async fn of_agent(client: &Object, agent: &str) -> Result<Vec<Listed>, Fault> {
    let sql = format!("{LIST} where agent = $1 order by fleet_order desc limit 10");
    let rows = client.query(&sql, &[&agent]).await.map_err(not_read)?;
    rows.iter().map(|row| listed(row).map_err(not_read)).collect()
}

/// Whom an order is for.
///
/// # Errors
/// When the database does not answer.
pub async fn agent_of(client: &Object, order: i64) -> Result<Option<String>, Fault> {
    let sql = "select agent from phusa.fleet_orders where fleet_order = $1";
    let row = client.query_opt(sql, &[&order]).await.map_err(not_read)?;
    row.map(|row| row.try_get(0).map_err(not_read)).transpose()
}

/// Orders as people see them.
const LIST: &str = "select fleet_order, agent, dataset, kind, wanted_by, because, issued_at, until, \
                    state, outcome from phusa.fleet_orders";

fn listed(row: &Row) -> Result<Listed, tokio_postgres::Error> {
    // A name has no space; what stands after one are hours.
    let outcome: Option<String> = row.try_get(9)?;
    let (outcome, hours) = match outcome.as_deref().and_then(|text| text.split_once(' ')) {
        Some((name, hours)) => (Some(name.to_owned()), Some(hours.to_owned())),
        None => (outcome, None),
    };
    Ok(Listed {
        order: row.try_get(0)?,
        agent: row.try_get(1)?,
        dataset: row.try_get(2)?,
        kind: row.try_get(3)?,
        by: row.try_get(4)?,
        because: row.try_get(5)?,
        issued_at: from_system_time(row.try_get(6)?),
        until: from_system_time(row.try_get(7)?),
        state: row.try_get(8)?,
        outcome,
        hours,
    })
}

/// Ends what is done or over. A read again is done when the warehouse is in a later epoch.
///
/// # Errors
/// When the database does not answer.
pub async fn settle(client: &Object, now: Timestamp) -> Result<(), Fault> {
    let sql = "update phusa.fleet_orders o set changed_at = clock_timestamp(), state = \
               case when o.kind = 'reread' and exists (select from phusa.streams s \
                   where s.agent = o.agent and s.dataset = o.dataset and s.epoch > o.epoch) \
               then 'done' else 'over' end \
               where o.state = 'open' and (o.until <= $1 or (o.kind = 'reread' and exists ( \
                   select from phusa.streams s where s.agent = o.agent \
                   and s.dataset = o.dataset and s.epoch > o.epoch)))";
    client.execute(sql, &[&system_time(now)]).await.map(drop).map_err(not_read)
}

/// What every agent is to be told: all that is open, signed; nothing for those that never had an order.
///
/// # Errors
/// When the database does not answer.
pub async fn wanted(
    client: &Object,
    key: &SigningKey,
) -> Result<BTreeMap<AgentId, SignedOrders>, Fault> {
    // The moment of the last change is the number: it grows, and is the same after a restart.
    let sql = "select agent, (extract(epoch from max(changed_at)) * 1000000)::bigint \
               from phusa.fleet_orders group by agent";
    let mut numbers: BTreeMap<AgentId, u64> = BTreeMap::new();
    for row in client.query(sql, &[]).await.map_err(not_read)? {
        let (agent, number): (String, i64) =
            (row.try_get(0).map_err(not_read)?, row.try_get(1).map_err(not_read)?);
        if let Ok(agent) = AgentId::try_from(agent) {
            numbers.insert(agent, number.unsigned_abs());
        }
    }
    let sql = "select fleet_order, agent, dataset, kind, epoch, until from phusa.fleet_orders \
               where state = 'open' order by fleet_order";
    let mut orders: BTreeMap<AgentId, Vec<Order>> = BTreeMap::new();
    for row in client.query(sql, &[]).await.map_err(not_read)? {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(not_read);
        let number = |index: usize| row.try_get::<_, i64>(index).map_err(not_read);
        let (Ok(agent), Some(kind)) = (AgentId::try_from(text(1)?), Kind::named(&text(3)?)) else {
            continue;
        };
        let dataset = DatasetId::new(text(2)?).ok();
        let want = kind.want(number(4)?.unsigned_abs());
        let until = from_system_time(row.try_get(5).map_err(not_read)?);
        let order = Order { order: number(0)?.unsigned_abs(), dataset, want, until };
        let of = orders.entry(agent).or_default();
        if of.len() < ORDERS_MAX {
            of.push(order);
        }
    }
    let sign = |(agent, number): (AgentId, u64)| {
        let open = orders.remove(&agent).unwrap_or_default();
        let signed = SignedOrders::sign(&agent, number, &open, key);
        (agent, signed)
    };
    Ok(numbers.into_iter().map(sign).collect())
}
