//! Where each stream stands: the row of `phusa.streams`, and what is staged of an open source
//! transaction.

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::batch::{Header, Phase};
use phusa_protocol::delivery::{Judgement, Receiver};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::Committed;
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::time::Timestamp;
use tokio_postgres::Row;

use crate::error::{Refused, database_fault};
use crate::transfers::{digest_of, system_time, to_i64};
use crate::warehouse::apply;
use crate::warehouse::tables::Shape;

/// A stream as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its key in the hub's tables.
    pub stream_key: i64,
    /// What was committed last.
    pub committed: Committed,
    /// Whether the table held no row of this agency when the epoch began.
    pub initial_load: bool,
    /// Whether the last batch ended inside a source transaction.
    pub tx_open: bool,
    /// The mapping its epoch began with; `None` before its first batch.
    pub mapping: Option<Digest>,
}

impl Standing {
    /// Whether a batch was made by the mapping its epoch began with. An agent whose mapping has
    /// changed reads anew; whoever sends another within an epoch is not that agent.
    ///
    /// # Errors
    /// [`Refused`] as a breach.
    pub fn keeps_mapping(&self, header: &Header) -> Result<(), Refused> {
        let began = self.mapping.filter(|_| self.committed.epoch == header.epoch);
        match began {
            Some(mapping) if mapping != header.mapping => {
                let what = format!(
                    "mapping {} for {} epoch {}, which began with {mapping}",
                    header.mapping, header.dataset, header.epoch
                );
                Err(Refused::breach(Code::MappingMismatch, what, "mapping"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What moves a stream on.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The batch that was taken.
    pub header: &'a Header,
    /// Where the stream stands after it.
    pub standing: Standing,
    /// Bytes as received.
    pub bytes: u64,
    /// When it is committed, by the hub's clock.
    pub now: Timestamp,
}

/// How the hub judges the batch of this header, standing where it stands.
#[must_use]
pub fn judge(standing: Option<&Standing>, header: &Header) -> Judgement {
    let committed = standing.map(|standing| standing.committed).filter(|c| c.epoch > Epoch(0));
    Receiver(committed).judge(header.epoch, header.seq, header.previous)
}

const COLUMNS: &str = "stream_key, epoch, seq, header_digest, initial_load, tx_open, mapping";

/// Where a stream stands now, without a lock; `None` = nothing was ever committed.
///
/// # Errors
/// When the database does not answer.
pub async fn load(
    client: &Object,
    agent: &AgentId,
    dataset: &DatasetId,
) -> Result<Option<Standing>, Fault> {
    let sql = format!("select {COLUMNS} from phusa.streams where agent = $1 and dataset = $2");
    let statement = client.prepare_cached(&sql).await.map_err(not_read)?;
    let row = client.query_opt(&statement, &[&agent.to_string(), &dataset.to_string()]).await;
    row.map_err(not_read)?.as_ref().map(read).transpose()
}

/// Where a stream stands, locked until the transaction ends: the authority over turns.
///
/// # Errors
/// When the database does not answer or the lock is not to be had in time.
pub async fn lock(
    tx: &Transaction<'_>,
    agent: &AgentId,
    dataset: &DatasetId,
) -> Result<Option<Standing>, Fault> {
    let sql =
        format!("select {COLUMNS} from phusa.streams where agent = $1 and dataset = $2 for update");
    let statement = tx.prepare_cached(&sql).await.map_err(not_read)?;
    let row = tx.query_opt(&statement, &[&agent.to_string(), &dataset.to_string()]).await;
    row.map_err(not_read)?.as_ref().map(read).transpose()
}

/// Opens the epoch of `header`: what was staged in an older one is discarded, and whether the
/// table is empty of this agency's rows is found out once. `None` when another process opened the
/// stream's first epoch in the same moment.
///
/// # Errors
/// When the database does not answer.
pub async fn begin_epoch(
    tx: &Transaction<'_>,
    header: &Header,
    shape: &Shape,
) -> Result<Option<Standing>, Fault> {
    let (agent, dataset) = (header.agent.to_string(), header.dataset.to_string());
    let sql = format!("select exists (select from {} where _agency = $1)", shape.table());
    let row = tx.query_one(&sql, &[&header.agent.agency().as_str()]).await.map_err(not_moved)?;
    let initial_load = !row.try_get::<_, bool>(0).map_err(not_moved)?;
    let sql = "insert into phusa.streams \
               (agent, dataset, epoch, seq, header_digest, initial_load, tx_open) \
               values ($1, $2, $3, 0, $4, $5, false) on conflict (agent, dataset) do update \
               set epoch = excluded.epoch, seq = 0, header_digest = excluded.header_digest, \
               initial_load = excluded.initial_load, tx_open = false, consistent_at = null, \
               mapping = null \
               where streams.epoch < excluded.epoch returning stream_key";
    let zero = header.previous.as_bytes().as_slice();
    let row = tx
        .query_opt(sql, &[&agent, &dataset, &to_i64(header.epoch.0), &zero, &initial_load])
        .await
        .map_err(not_moved)?;
    let Some(row) = row else { return Ok(None) };
    let stream_key: i64 = row.try_get(0).map_err(not_moved)?;
    discard_staged(tx, stream_key).await?;
    apply::begin_epoch(tx, stream_key).await?;
    let committed = Committed { epoch: header.epoch, seq: Seq::NONE, header: header.previous };
    Ok(Some(Standing { stream_key, committed, initial_load, tx_open: false, mapping: None }))
}

/// Moves the stream to where `step` says.
///
/// # Errors
/// When the database does not answer.
pub async fn advance(tx: &Transaction<'_>, step: &Step<'_>) -> Result<(), Fault> {
    let (header, standing) = (step.header, &step.standing);
    let sql = "update phusa.streams set seq = $2, header_digest = $3, tx_open = $4, \
               last_source_time = $5, last_committed_at = $6, \
               rows = rows + $7, batches = batches + 1, bytes = bytes + $8, \
               consistent_at = case when not $9 then null when $4 then consistent_at \
                                    else coalesce(consistent_at, $6) end, mapping = $10 \
               where stream_key = $1";
    let statement = tx.prepare_cached(sql).await.map_err(not_moved)?;
    let is_live = header.phase == Phase::Live;
    tx.execute(
        &statement,
        &[
            &standing.stream_key,
            &to_i64(standing.committed.seq.0),
            &standing.committed.header.as_bytes().as_slice(),
            &standing.tx_open,
            &system_time(header.source_time),
            &system_time(step.now),
            &to_i64(header.counts.total()),
            &to_i64(step.bytes),
            &is_live,
            &header.mapping.as_bytes().as_slice(),
        ],
    )
    .await
    .map_err(not_moved)?;
    Ok(())
}

/// Keeps the packed body of a batch inside an open source transaction.
///
/// # Errors
/// When the database does not answer or is full.
pub async fn stage(
    tx: &Transaction<'_>,
    stream_key: i64,
    seq: Seq,
    transfer: i64,
    body: &[u8],
) -> Result<(), Fault> {
    let sql = "insert into phusa.staged (stream_key, seq, transfer, body) values ($1, $2, $3, $4)";
    let statement = tx.prepare_cached(sql).await.map_err(not_moved)?;
    tx.execute(&statement, &[&stream_key, &to_i64(seq.0), &transfer, &body])
        .await
        .map_err(not_moved)?;
    Ok(())
}

/// One staged batch, as it was sent.
#[derive(Debug)]
pub struct Staged {
    /// Its number.
    pub seq: i64,
    /// Its transfer, which its rows will name.
    pub transfer: i64,
    /// Its packed body.
    pub body: Vec<u8>,
    /// Its log entry.
    pub entry: String,
}

/// The first staged batch after number `after`; one at a time, so that memory holds one body.
///
/// # Errors
/// When the database does not answer.
pub async fn staged_after(
    tx: &Transaction<'_>,
    stream_key: i64,
    after: i64,
) -> Result<Option<Staged>, Fault> {
    let sql = "select s.seq, s.transfer, s.body, t.entry from phusa.staged as s \
               join phusa.transfers as t using (transfer) \
               where s.stream_key = $1 and s.seq > $2 order by s.seq limit 1";
    let statement = tx.prepare_cached(sql).await.map_err(not_read)?;
    let row = tx.query_opt(&statement, &[&stream_key, &after]).await.map_err(not_read)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Staged {
        seq: row.try_get(0).map_err(not_read)?,
        transfer: row.try_get(1).map_err(not_read)?,
        body: row.try_get(2).map_err(not_read)?,
        entry: row.try_get(3).map_err(not_read)?,
    }))
}

/// Forgets every staged body of a stream.
///
/// # Errors
/// When the database does not answer.
pub async fn discard_staged(tx: &Transaction<'_>, stream_key: i64) -> Result<(), Fault> {
    let sql = "delete from phusa.staged where stream_key = $1";
    tx.execute(sql, &[&stream_key]).await.map_err(not_moved)?;
    Ok(())
}

fn read(row: &Row) -> Result<Standing, Fault> {
    let number = |index: usize| row.try_get::<_, i64>(index).map_err(not_read);
    let header: Vec<u8> = row.try_get(3).map_err(not_read)?;
    let mapping: Option<Vec<u8>> = row.try_get(6).map_err(not_read)?;
    let damaged = || Fault::new(Code::LogBroken, "a stream's header digest is none");
    let committed = Committed {
        epoch: Epoch(number(1)?.unsigned_abs()),
        seq: Seq(number(2)?.unsigned_abs()),
        header: digest_of(&header).ok_or_else(damaged)?,
    };
    Ok(Standing {
        stream_key: number(0)?,
        committed,
        initial_load: row.try_get(4).map_err(not_read)?,
        tx_open: row.try_get(5).map_err(not_read)?,
        mapping: mapping.as_deref().and_then(digest_of),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_read(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot read where a stream stands", &error)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn not_moved(error: tokio_postgres::Error) -> Fault {
    database_fault("cannot move a stream on", &error)
}
