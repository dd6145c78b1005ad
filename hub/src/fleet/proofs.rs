//! The last comparisons of source and warehouse, as agents reported them (HU-03).

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::entry::{Compared, Entry, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::proof::Proof;
use phusa_protocol::time::Timestamp;
use postgres_types::ToSql;
use serde::Serialize;

use super::not_read;
use crate::incidents::{self, Happening};
use crate::transfers::{Log, Record, from_system_time, system_time};

/// Comparisons that are kept of one dataset: a daily one for three years.
const KEPT_MAX: i64 = 1_000;

/// What is known of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// Which.
    pub dataset: String,
    /// Who compared last; `None` when nobody has.
    pub agent: Option<String>,
    /// When.
    pub compared_at: Option<Timestamp>,
    /// Whether both ends were found the same.
    pub identical: bool,
    /// Rows at the source, and in the warehouse.
    pub rows: [i64; 2],
    /// Records that differed.
    pub differing: i64,
}

/// Writes a comparison down, and its entry in the transfer log: both in one transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn store(client: &mut Object, log: &Log, proof: &Proof) -> Result<(), Fault> {
    let tx = client.transaction().await.map_err(not_read)?;
    let transfer = log.next_transfer(&tx).await?;
    let entry = entry(proof, transfer);
    log.insert(&tx, &Record { entry, push: None }).await?;
    keep(&tx, proof, transfer).await?;
    if proof.differing > 0 {
        let differing = proof.differing;
        let what = format!("{differing} bản ghi khác nguồn · records differ from the source");
        let happening = Happening {
            kind: incidents::Kind::Proof,
            cause: "differs",
            agent: Some(&proof.agent),
            dataset: Some(&proof.dataset),
            what: &what,
            transfer: Some(transfer.unsigned_abs()),
            at: Timestamp::now(),
        };
        incidents::note(&*tx, &happening).await?;
    }
    tx.commit().await.map_err(not_read)?;
    log.wake();
    Ok(())
}

fn entry(proof: &Proof, transfer: i64) -> Entry {
    let now = Timestamp::now();
    let compared = Compared {
        at: proof.compared_at,
        source_rows: proof.source.rows,
        warehouse_rows: proof.warehouse.rows,
        differing: proof.differing,
        identical: proof.source == proof.warehouse && proof.differing == 0,
    };
    Entry {
        v: 1,
        kind: Kind::Proof,
        transfer: transfer.unsigned_abs(),
        agent: Some(proof.agent.clone()),
        dataset: Some(proof.dataset.clone()),
        header: None,
        agent_signature: None,
        refused: None,
        compared: Some(compared),
        contract: Some(proof.contract),
        bytes: 0,
        received_at: now,
        committed_at: now,
        hub_version: crate::VERSION.to_owned(),
        restored: None,
        identity: None,
        act: None,
        deed: None,
        step: None,
    }
}

async fn keep(tx: &Transaction<'_>, proof: &Proof, transfer: i64) -> Result<(), Fault> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let sum = |sum: u128| format!("{sum:032x}");
    let (dataset, agent) = (proof.dataset.to_string(), proof.agent.to_string());
    let sql = "insert into phusa.proofs (dataset, agent, compared_at, source_rows, source_sum, \
               warehouse_rows, warehouse_sum, differing, transfer) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let (at, differing) = (system_time(proof.compared_at), count(proof.differing));
    let (source, warehouse) = (proof.source, proof.warehouse);
    let counts = [source.rows, warehouse.rows].map(count);
    let sums = [source.sum, warehouse.sum].map(sum);
    let ([source_rows, warehouse_rows], [source_sum, warehouse_sum]) = (&counts, &sums);
    let row: [&(dyn ToSql + Sync); 9] = [
        &dataset,
        &agent,
        &at,
        source_rows,
        source_sum,
        warehouse_rows,
        warehouse_sum,
        &differing,
        &transfer,
    ];
    tx.execute(sql, &row).await.map_err(not_read)?;
    let sql = "delete from phusa.proofs where dataset = $1 and proof <= ( \
               select proof from phusa.proofs where dataset = $1 order by proof desc \
               offset $2 limit 1)";
    tx.execute(sql, &[&dataset, &KEPT_MAX]).await.map(drop).map_err(not_read)
}

/// Whether the comparisons that are kept are what the log says of them.
///
/// # Errors
/// [`Code::LogBroken`] naming the first that is not; when the database does not answer.
pub async fn agree_with_log(client: &Object) -> Result<(), Fault> {
    let sql = "select p.dataset, p.transfer from phusa.proofs p where p.transfer is not null \
               and not exists (select from phusa.transfers t, \
                 lateral (select t.entry::json->'compared' as said) e \
                 where t.transfer = p.transfer and t.kind = 'proof' and t.dataset = p.dataset \
                 and t.agent = p.agent and (e.said->>'source_rows')::int8 = p.source_rows \
                 and (e.said->>'warehouse_rows')::int8 = p.warehouse_rows \
                 and (e.said->>'differing')::int8 = p.differing) order by p.proof limit 1";
    let row = client.query_opt(sql, &[]).await.map_err(not_read)?;
    let Some(row) = row else { return Ok(()) };
    let dataset: String = row.try_get(0).map_err(not_read)?;
    let transfer: i64 = row.try_get(1).map_err(not_read)?;
    let what = format!("a comparison of {dataset} is not what transfer {transfer} of the log says");
    Err(Fault::new(Code::LogBroken, what))
}

/// The last comparison of each dataset that has a contract in force.
///
/// # Errors
/// When the database does not answer.
pub async fn last(client: &Object) -> Result<Vec<Proven>, Fault> {
    let sql = "select c.dataset, p.agent, p.compared_at, coalesce(p.source_rows, 0), \
                      coalesce(p.warehouse_rows, 0), coalesce(p.differing, 0), \
                      coalesce(p.source_rows = p.warehouse_rows and p.source_sum = p.warehouse_sum \
                               and p.differing = 0, false) \
               from phusa.contracts c left join lateral (select * from phusa.proofs p \
                 where p.dataset = c.dataset order by p.proof desc limit 1) p on true \
               where c.in_force order by c.dataset";
    let rows = client.query(sql, &[]).await.map_err(not_read)?;
    let proven = rows.iter().map(|row| {
        Ok(Proven {
            dataset: row.try_get(0)?,
            agent: row.try_get(1)?,
            compared_at: row.try_get::<_, Option<_>>(2)?.map(from_system_time),
            rows: [row.try_get(3)?, row.try_get(4)?],
            differing: row.try_get(5)?,
            identical: row.try_get(6)?,
        })
    });
    proven.collect::<Result<_, _>>().map_err(not_read)
}

/// One line a dataset.
#[must_use]
pub fn table(all: &[Proven]) -> String {
    let line = |one: &Proven| {
        let dataset = &one.dataset;
        let (Some(agent), Some(at)) = (&one.agent, one.compared_at) else {
            return format!("? {dataset}: chưa đối chiếu (never compared)");
        };
        let [source, warehouse] = one.rows;
        if one.identical {
            return format!(
                "✓ {dataset}: {source} bản ghi giống hệt nguồn (rows identical), {at}, {agent}"
            );
        }
        if one.differing == 0 {
            return format!(
                "~ {dataset}: đang thay đổi, không bản ghi nào khác lâu dài (changing, no record \
                 differs for long), {at}, {agent}"
            );
        }
        format!(
            "✗ {dataset}: {} bản ghi khác (rows differ), nguồn (source) {source}, kho (warehouse) \
             {warehouse}, {at}, {agent}",
            one.differing
        )
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}
