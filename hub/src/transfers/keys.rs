//! Every key an agent was ever registered with, so that the log verifies after a key was changed.
//!
//! A key's row is signed by the hub, because whoever can write to the database must not be able to
//! give an agent a key. A key that was replaced may sign a little longer: a batch that was checked
//! with it may still be on its way to its commit.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use phusa_protocol::batch::canonical_json;
use phusa_protocol::entry::KeySpan;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::{PublicKey, Signature, SigningKey};
use serde::Serialize;
use tokio_postgres::Row;

use crate::config::register::Register;
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// How long a batch may be on its way to its commit: what a session may wait inside one.
const REPLACED_FOR: &str = "15 minutes";

/// Whether batches signed with the register's keys may have been taken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The register is about to be taken over.
    Before,
    /// It is in force.
    After,
}

/// A key as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    agent: String,
    key: String,
    first: i64,
    /// Whether the register was seen without it.
    replaced: bool,
    /// Whether that is so long ago that nothing it signed can still be on its way.
    over: bool,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// A key that was not in use.
    Add { agent: String, key: String, first: i64 },
    /// It is in the register again.
    Restore(Known),
    /// It is in the register no longer.
    Replace(Known),
    /// It signs nothing after this transfer.
    Close(Known, i64),
}

/// Writes down the keys of the register that are not known, and ends those it no longer names.
///
/// # Errors
/// When the database does not answer.
pub async fn remember(
    warehouse: &Warehouse,
    register: &Register,
    hub: &SigningKey,
    moment: Moment,
) -> Result<(), Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(|error| not_kept(&error))?;
    // Several hub processes may serve one warehouse.
    tx.execute("lock table phusa.keys in share row exclusive mode", &[])
        .await
        .map_err(|error| not_kept(&error))?;
    let sql = format!(
        "select agent, public_key, first_transfer, replaced_at is not null, \
                coalesce(replaced_at < now() - interval '{REPLACED_FOR}', false), \
                last_transfer is null \
         from phusa.keys order by agent, first_transfer"
    );
    let rows = tx.query(&sql, &[]).await.map_err(|error| not_kept(&error))?;
    let (mut open, mut seen) = (Vec::new(), BTreeMap::new());
    for row in &rows {
        let known = known(row).map_err(|error| not_kept(&error))?;
        seen.insert(known.agent.clone(), known.first);
        if row.try_get(5).map_err(|error| not_kept(&error))? {
            open.push(known);
        }
    }
    let next = "select nextval(pg_get_serial_sequence('phusa.transfers', 'transfer'))";
    let next: i64 = tx
        .query_one(next, &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| not_kept(&error))?;
    let keys = register.keys().into_iter().map(|(agent, key)| (agent.to_string(), key.to_string()));
    for change in changes(&open, &seen, keys.collect(), (moment, next)) {
        write(&tx, &change, hub).await.map_err(|error| not_kept(&error))?;
    }
    tx.commit().await.map_err(|error| not_kept(&error))
}

fn known(row: &Row) -> Result<Known, tokio_postgres::Error> {
    Ok(Known {
        agent: row.try_get(0)?,
        key: row.try_get(1)?,
        first: row.try_get(2)?,
        replaced: row.try_get(3)?,
        over: row.try_get(4)?,
    })
}

/// `open` are the keys in use, `seen` every agent that ever had one, with the newest's beginning.
fn changes(
    open: &[Known],
    seen: &BTreeMap<String, i64>,
    register: BTreeMap<String, String>,
    (moment, next): (Moment, i64),
) -> Vec<Change> {
    let mut changes = Vec::new();
    for known in open {
        let is_registered = register.get(&known.agent) == Some(&known.key);
        match (is_registered, known.replaced) {
            (true, true) => changes.push(Change::Restore(known.clone())),
            (false, false) => changes.push(Change::Replace(known.clone())),
            (false, true) if known.over => changes.push(Change::Close(known.clone(), next)),
            (true, false) | (false, true) => {}
        }
    }
    for (agent, key) in register {
        if open.iter().any(|known| known.agent == agent && known.key == key) {
            continue;
        }
        let first = match (seen.get(&agent), moment) {
            // Entries from before keys were written down are this one's.
            (None, _) => 0,
            (Some(_), Moment::Before) => next,
            (Some(first), Moment::After) => *first,
        };
        changes.push(Change::Add { agent, key, first });
    }
    changes
}

async fn write(
    tx: &Transaction<'_>,
    change: &Change,
    hub: &SigningKey,
) -> Result<u64, tokio_postgres::Error> {
    let at = "where agent = $1 and public_key = $2 and first_transfer = $3";
    match change {
        Change::Add { agent, key, first } => {
            let sql = "insert into phusa.keys (agent, public_key, first_transfer, hub_signature) \
                       values ($1, $2, $3, $4) on conflict (agent, public_key, first_transfer) \
                       do update set last_transfer = null, replaced_at = null, \
                       hub_signature = excluded.hub_signature";
            let signature = sign(hub, agent, key, (*first, None));
            tx.execute(sql, &[agent, key, first, &signature]).await
        }
        Change::Restore(Known { agent, key, first, .. }) => {
            let sql = format!("update phusa.keys set replaced_at = null {at}");
            tx.execute(&sql, &[agent, key, first]).await
        }
        Change::Replace(Known { agent, key, first, .. }) => {
            let sql = format!("update phusa.keys set replaced_at = now() {at}");
            tx.execute(&sql, &[agent, key, first]).await
        }
        Change::Close(Known { agent, key, first, .. }, last) => {
            let sql = format!("update phusa.keys set last_transfer = $4, hub_signature = $5 {at}");
            let signature = sign(hub, agent, key, (*first, Some(*last)));
            tx.execute(&sql, &[agent, key, first, last, &signature]).await
        }
    }
}

/// What the hub signs of a row, as canonical JSON.
#[derive(Serialize)]
struct Signed<'a> {
    agent: &'a str,
    first_transfer: i64,
    last_transfer: Option<i64>,
    public_key: &'a str,
}

fn signed(agent: &str, key: &str, (first, last): (i64, Option<i64>)) -> Vec<u8> {
    let row = Signed { agent, first_transfer: first, last_transfer: last, public_key: key };
    canonical_json(&row)
}

fn sign(hub: &SigningKey, agent: &str, key: &str, span: (i64, Option<i64>)) -> String {
    String::from(hub.sign(&signed(agent, key, span)))
}

/// Every key ever registered, each signed by one of the hub's keys.
///
/// # Errors
/// [`Code::LogBroken`] naming the agent whose key is not.
pub async fn load(
    client: &deadpool_postgres::Object,
    hub: &[PublicKey],
) -> Result<BTreeMap<AgentId, Vec<KeySpan>>, Fault> {
    let sql = "select agent, public_key, first_transfer, last_transfer, hub_signature \
               from phusa.keys";
    let mut spans = BTreeMap::<_, Vec<_>>::new();
    for row in client.query(sql, &[]).await.map_err(|error| not_kept(&error))? {
        let text = |index: usize| row.try_get::<_, String>(index).unwrap_or_default();
        let (agent, key, signature) = (text(0), text(1), text(4));
        let (first, last) = (row.try_get(2).unwrap_or(0), row.try_get(3).unwrap_or(None));
        let what = || format!("a key of agent {agent} is not signed with the hub's key");
        let broken = || Fault::new(Code::LogBroken, what());
        let bytes = signed(&agent, &key, (first, last));
        let signature = Signature::try_from(signature).map_err(|_| broken())?;
        if !hub.iter().any(|hub| hub.verifies(&bytes, &signature)) {
            return Err(broken());
        }
        let key = PublicKey::try_from(key).map_err(|_| broken())?;
        let (first, last) = (first.unsigned_abs(), last.map(i64::unsigned_abs));
        let agent = AgentId::try_from(agent.clone()).map_err(|_| broken())?;
        spans.entry(agent).or_default().push(KeySpan { key, first, last });
    }
    Ok(spans)
}

/// The keys the database knows agents to have had; the register's where it knows none.
///
/// # Errors
/// As of [`load`].
pub async fn known_to(
    warehouse: &Warehouse,
    hub: &[PublicKey],
    register: &Register,
) -> Result<BTreeMap<AgentId, Vec<KeySpan>>, Fault> {
    let mut known = load(&warehouse.client().await?, hub).await?;
    for (agent, key) in register.keys() {
        known.entry(agent).or_insert_with(|| vec![KeySpan::always(key)]);
    }
    Ok(known)
}

fn not_kept(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read or write the agents' keys", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_begins_when_it_is_registered_and_ends_a_while_after_it_was_replaced() {
        let known = |key: &str, replaced: bool, over: bool| {
            let (agent, key) = ("H57/a".to_owned(), key.to_owned());
            Known { agent, key, first: 3, replaced, over }
        };
        let add = |key: &str, first: i64| {
            let (agent, key) = ("H57/a".to_owned(), key.to_owned());
            Change::Add { agent, key, first }
        };
        let check = |open: Vec<Known>,
                     registered: Option<&str>,
                     moment: Moment,
                     expected: &[Change]| {
            let register = registered.map(|key| ("H57/a".to_owned(), key.to_owned()));
            let seen = open.iter().map(|known| (known.agent.clone(), known.first)).collect();
            let register = register.into_iter().collect();
            assert_eq!(changes(&open, &seen, register, (moment, 90)), expected, "{registered:?}");
        };
        let (used, left) = (known("A", false, false), known("A", true, false));
        let over = known("A", true, true);
        check(vec![], Some("A"), Moment::Before, &[add("A", 0)]);
        check(vec![used.clone()], Some("A"), Moment::Before, &[]);
        let replaced = [Change::Replace(used.clone()), add("B", 90)];
        check(vec![used.clone()], Some("B"), Moment::Before, &replaced);
        check(
            vec![used.clone()],
            Some("B"),
            Moment::After,
            &[Change::Replace(used.clone()), add("B", 3)],
        );
        check(vec![left.clone(), known("B", false, false)], Some("B"), Moment::Before, &[]);
        let closed = [Change::Close(over.clone(), 90)];
        check(vec![over, known("B", false, false)], Some("B"), Moment::Before, &closed);
        check(vec![left.clone()], Some("A"), Moment::Before, &[Change::Restore(left)]);
        check(vec![used.clone()], None, Moment::Before, &[Change::Replace(used)]);
    }
}
