//! Destruction: proposed by one person, approved by another, run in one transaction with its entry, and
//! then purged from the database's files.
//!
//! What goes: former versions that ended before the moment, rows in force that were last changed before
//! it where that was asked for, the salts of every transfer that had carried any of them (of all of the
//! dataset's before that moment, because a full read carries rows that it does not change), and then
//! the bytes: tables are written anew, statistics too, and the write-ahead log is gone through until
//! nothing older is left of it. What stays: the log's entries, whose commitments nobody can match any
//! more, the entry of this destruction, and a mark for each row that was in force.

use std::borrow::Borrow;
use std::time::{Duration, SystemTime};

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::entry::act::{Act, DestroyAct};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::{GenericClient, Row};

use super::check_may_end;
use crate::catalog::Agreed;
use crate::error::statement_fault;
use crate::transfers::acts::{Done, salt};
use crate::transfers::{Log, from_system_time, system_time, to_i64};
use crate::warehouse::Warehouse;
use crate::warehouse::gone::{self, Generation};

/// Segments of the write-ahead log that are gone through at most: far more than `max_wal_size` keeps.
const SEGMENTS_MAX: u32 = 2_000;

/// How long the tables' rewriting may take each.
const PURGE_MAX: Duration = Duration::from_secs(6 * 3600);

/// A destruction from its proposal on.
#[derive(Debug, Clone, Serialize)]
pub struct Destruction {
    /// Its number.
    pub destruction: i64,
    /// Which dataset.
    pub dataset: String,
    /// The contract's fingerprint when it was proposed.
    pub fingerprint: String,
    /// What ended, or was last changed, before this moment.
    pub before: Timestamp,
    /// Rows in force too.
    pub current: bool,
    /// Why.
    pub because: String,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    pub proposed_at: Timestamp,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// The transfer of the entry, once it was run.
    pub transfer: Option<i64>,
    /// When it was run.
    pub run_at: Option<Timestamp>,
    /// When nothing of it was left in the database's files.
    pub purged_at: Option<Timestamp>,
}

/// How long is waited for transactions that began before the rows went, and how often is looked.
const OLDER_MAX: Duration = Duration::from_secs(300);
const OLDER_LOOK: Duration = Duration::from_millis(100);

/// What somebody proposes.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What ended, or was last changed, before this moment.
    pub before: Timestamp,
    /// Rows in force too.
    pub current: bool,
    /// Who.
    pub by: &'a str,
    /// Why.
    pub because: &'a str,
}

/// Proposes a destruction; returns its number. Nothing is destroyed yet.
///
/// # Errors
/// `retention_runs` when retention or a hold forbids it.
pub async fn propose(
    client: &impl GenericClient,
    agreed: &Agreed,
    wanted: Wanted<'_>,
) -> Result<i64, Fault> {
    check_may_end(client, agreed, wanted.before).await?;
    let sql = "insert into phusa.destructions (dataset, fingerprint, before, current, because, \
               proposed_by, proposed_at) values ($1, $2, $3, $4, $5, $6, $7) returning destruction";
    let (dataset, fingerprint) =
        (agreed.contract.dataset.to_string(), agreed.fingerprint.to_string());
    let (before, now) = (system_time(wanted.before), system_time(Timestamp::now()));
    let row = client
        .query_one(
            sql,
            &[&dataset, &fingerprint, &before, &wanted.current, &wanted.because, &wanted.by, &now],
        )
        .await;
    row.and_then(|row| row.try_get(0)).map_err(failed)
}

/// Approves one in the name of a person other than who proposed it.
///
/// # Errors
/// `second_person` when it is the same one, or it was approved already.
pub async fn approve(client: &impl GenericClient, number: i64, by: &str) -> Result<(), Fault> {
    let found = find(client, number).await?;
    let same = |one: &str| one.trim().to_lowercase() == by.trim().to_lowercase();
    if same(&found.proposed_by) || by.trim().is_empty() {
        let what = format!("destruction {number} was proposed by {}", found.proposed_by);
        return Err(Fault::new(Code::SecondPerson, what));
    }
    let sql = "update phusa.destructions set approved_by = $2, approved_at = $3 \
               where destruction = $1 and approved_by is null";
    let now = system_time(Timestamp::now());
    if client.execute(sql, &[&number, &by, &now]).await.map_err(failed)? == 0 {
        let what = format!("destruction {number} was approved already");
        return Err(Fault::new(Code::SecondPerson, what));
    }
    Ok(())
}

/// All of them, the newest first, up to a thousand.
///
/// # Errors
/// When the database does not answer.
pub async fn list(client: &impl GenericClient) -> Result<Vec<Destruction>, Fault> {
    let sql =
        format!("select {COLUMNS} from phusa.destructions order by destruction desc limit 1000");
    let rows = client.query(&sql, &[]).await.map_err(failed)?;
    rows.iter().map(|row| read(row).map_err(failed)).collect()
}

/// One of them.
///
/// # Errors
/// When there is none of this number.
pub async fn find(client: &impl GenericClient, number: i64) -> Result<Destruction, Fault> {
    let sql = format!("select {COLUMNS} from phusa.destructions where destruction = $1");
    let row = client.query_opt(&sql, &[&number]).await.map_err(failed)?;
    let none = || Fault::new(Code::RetentionRuns, format!("no destruction {number} was proposed"));
    read(&row.ok_or_else(none)?).map_err(failed)
}

/// Destroys what was approved, with its entry, in one transaction; `backups` are those that are there
/// and may hold the rows. Then [`purge`]s. One that was run and not purged is purged alone.
///
/// # Errors
/// `second_person` before the approval; `retention_runs` when retention or a hold forbids it or the
/// contract changed; `hub_busy` while a full read or an open source transaction of the dataset is under
/// way. Nothing is changed then.
pub async fn run(
    (warehouse, log): (&Warehouse, &Log),
    agreed: &Agreed,
    number: i64,
    (by, backups): (&str, u64),
) -> Result<Destruction, Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    tx.execute("select from phusa.destructions where destruction = $1 for update", &[&number])
        .await
        .map_err(failed)?;
    let found = find(&*tx, number).await?;
    if found.run_at.is_none() {
        let approved_by = may_run(&tx, agreed, &found).await?;
        let act = delete(&tx, agreed, &found).await?;
        let act = DestroyAct { approved_by, run_by: by.to_owned(), backups, ..act };
        let done = Done::to(&agreed.contract.dataset, agreed.fingerprint, Act::Destroy(act));
        let transfer = to_i64(log.done(&tx, done).await?);
        let sql = "update phusa.destructions set transfer = $2, run_at = $3 where destruction = $1";
        let now = system_time(Timestamp::now());
        tx.execute(sql, &[&number, &transfer, &now]).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    log.wake();
    purge(warehouse, agreed, number).await?;
    find(&**client, number).await
}

/// Whether it may be run; returns who approved it.
async fn may_run(
    tx: &Transaction<'_>,
    agreed: &Agreed,
    found: &Destruction,
) -> Result<String, Fault> {
    let number = found.destruction;
    let Some(approved_by) = found.approved_by.clone() else {
        return Err(Fault::new(
            Code::SecondPerson,
            format!("destruction {number} is not approved"),
        ));
    };
    if found.fingerprint != agreed.fingerprint.to_string() {
        let what = format!("the contract of {} changed since: propose it again", found.dataset);
        return Err(Fault::new(Code::RetentionRuns, what));
    }
    check_may_end(&**tx, agreed, found.before).await?;
    let (table, history) = (agreed.shape.table(), agreed.shape.history());
    // Nobody merges into them meanwhile.
    let sql = format!("lock table {table}, {history} in share row exclusive mode");
    tx.batch_execute(&sql).await.map_err(failed)?;
    let sql = "select exists (select from phusa.streams as s where s.dataset = $1 and (s.tx_open \
               or to_regclass('phusa.seen_' || s.stream_key) is not null \
               or exists (select from phusa.staged as b where b.stream_key = s.stream_key)))";
    let row = tx.query_one(sql, &[&found.dataset]).await.map_err(failed)?;
    if row.try_get(0).map_err(failed)? {
        let what = format!("a full read of {} is under way", found.dataset);
        return Err(Fault::new(Code::HubBusy, what));
    }
    Ok(approved_by)
}

async fn delete(
    tx: &Transaction<'_>,
    agreed: &Agreed,
    found: &Destruction,
) -> Result<DestroyAct, Fault> {
    let (table, history) = (agreed.shape.table(), agreed.shape.history());
    let before = system_time(found.before);
    let (transfers, between) = delete_salts(tx, agreed, found).await?;
    let mut rows = 0;
    if found.current {
        let generation = generation(tx, agreed).await?;
        let all = generations(tx, agreed).await?;
        for statement in agreed.shape.make_gone(&all) {
            tx.batch_execute(&statement).await.map_err(failed)?;
        }
        tx.execute(&agreed.shape.mark_rows(&generation), &[&before]).await.map_err(failed)?;
        // Deleted rows would otherwise become history.
        let trigger = |how: &str| format!("alter table {table} {how} trigger keep_delete");
        tx.batch_execute(&trigger("disable")).await.map_err(failed)?;
        let sql = format!("delete from {table} where _source_time < $1");
        rows = tx.execute(&sql, &[&before]).await.map_err(failed)?;
        tx.batch_execute(&trigger("enable")).await.map_err(failed)?;
    }
    let sql = format!("delete from {history} where _until < $1");
    let versions = tx.execute(&sql, &[&before]).await.map_err(failed)?;
    Ok(DestroyAct {
        proposal: found.destruction.unsigned_abs(),
        before: found.before,
        current: found.current,
        rows,
        versions,
        transfers,
        between,
        proposed_by: found.proposed_by.clone(),
        approved_by: String::new(),
        run_by: String::new(),
        because: found.because.clone(),
        backups: 0,
    })
}

/// Deletes the salts of the transfers concerned; how many, the first and the last.
async fn delete_salts(
    tx: &Transaction<'_>,
    agreed: &Agreed,
    found: &Destruction,
) -> Result<(u64, Option<(u64, u64)>), Fault> {
    let (table, history) = (agreed.shape.table(), agreed.shape.history());
    let in_force = format!(
        "union select unnest(array[_transfer, _version]) from {table} where _source_time < $1"
    );
    let sql = format!(
        "with concerned as (\
           select unnest(array[_transfer, _version, _until_transfer]) as transfer \
           from {history} where _until < $1 {} \
           union select transfer from phusa.transfers \
           where kind in ('push', 'read', 'export') and dataset = $2 and committed_at < $1), \
         gone as (delete from phusa.salts using concerned \
           where salts.transfer = concerned.transfer returning salts.transfer) \
         select count(*), min(transfer), max(transfer) from gone",
        if found.current { in_force.as_str() } else { "" }
    );
    let row = tx.query_one(&sql, &[&system_time(found.before), &found.dataset]).await;
    let row = row.map_err(failed)?;
    let count: i64 = row.try_get(0).map_err(failed)?;
    let number = |index: usize| row.try_get::<_, Option<i64>>(index).map_err(failed);
    let between = number(1)?.zip(number(2)?);
    let between = between.map(|(first, last)| (first.unsigned_abs(), last.unsigned_abs()));
    Ok((count.unsigned_abs(), between))
}

/// The marks' generation for the columns that rows have now; made where there is none.
async fn generation(tx: &Transaction<'_>, agreed: &Agreed) -> Result<Generation, Fault> {
    let (all, columns) = (generations(tx, agreed).await?, agreed.shape.column_names());
    if let Some(known) = all.iter().find(|known| known.columns == columns) {
        return Ok(known.clone());
    }
    let number = all.iter().map(|known| known.number).max().unwrap_or(0) + 1;
    let made = Generation { number, columns, salt: salt()?.to_vec() };
    let sql = "insert into phusa.gone (dataset, generation, columns, salt) values ($1, $2, $3, $4)";
    let dataset = agreed.contract.dataset.to_string();
    let kept = tx.execute(sql, &[&dataset, &made.number, &made.columns, &made.salt]).await;
    kept.map_err(failed)?;
    Ok(made)
}

async fn generations(tx: &Transaction<'_>, agreed: &Agreed) -> Result<Vec<Generation>, Fault> {
    gone::generations(&**tx, &agreed.contract.dataset).await.map_err(failed)
}

/// Writes tables and statistics anew and goes through the write-ahead log, so that no file of the
/// database holds what was destroyed. Of an external server the log, its archive and its standbys are
/// its administrator's.
///
/// # Errors
/// When the database fails; the destruction stands all the same, and `run` purges again.
pub async fn purge(warehouse: &Warehouse, agreed: &Agreed, number: i64) -> Result<(), Fault> {
    // A session of its own: its settings do not go back into the pool.
    let client = Object::take(warehouse.client().await?);
    let (table, history) = (agreed.shape.table(), agreed.shape.history());
    let limit = format!("set statement_timeout = '{}s'", PURGE_MAX.as_secs());
    client.batch_execute(&limit).await.map_err(failed)?;
    until_older_have_ended(&client).await?;
    let tables = [table.as_str(), history.as_str(), "phusa.salts"];
    for table in tables {
        client.batch_execute(&format!("vacuum full {table}")).await.map_err(failed)?;
    }
    if warehouse.is_embedded() {
        // Statistics quote values, and those of a table that is empty now would stay for ever.
        for table in tables {
            let sql = "delete from pg_catalog.pg_statistic where starelid = $1::text::regclass";
            client.execute(sql, &[&table]).await.map_err(failed)?;
        }
        // These rows were deleted just now, so whoever has begun since the first wait may see them too.
        until_older_have_ended(&client).await?;
        client.batch_execute("vacuum full pg_catalog.pg_statistic").await.map_err(failed)?;
    }
    for table in tables {
        client.batch_execute(&format!("analyze {table}")).await.map_err(failed)?;
    }
    if warehouse.is_embedded() {
        client.batch_execute("alter system set wal_recycle = off").await.map_err(failed)?;
        client.batch_execute("select pg_reload_conf()").await.map_err(failed)?;
        let gone_through = go_through_wal(&client).await;
        client.batch_execute("alter system reset wal_recycle").await.map_err(failed)?;
        client.batch_execute("select pg_reload_conf()").await.map_err(failed)?;
        gone_through?;
    }
    let sql = "update phusa.destructions set purged_at = $2 where destruction = $1";
    let now = system_time(Timestamp::now());
    client.execute(sql, &[&number, &now]).await.map_err(failed)?;
    Ok(())
}

/// Rows that an older transaction might still see would be written into the new tables too.
async fn until_older_have_ended(client: &tokio_postgres::Client) -> Result<(), Fault> {
    let row = client.query_one("select (pg_current_xact_id()::xid)::text", &[]).await;
    let now: String = row.and_then(|row| row.try_get(0)).map_err(failed)?;
    let sql = "select count(*) from pg_stat_activity where pid <> pg_backend_pid() \
               and datname = current_database() and backend_xmin is not null \
               and age(backend_xmin) >= age($1::text::xid)";
    let since = Instant::now();
    while since.elapsed() < OLDER_MAX {
        let row = client.query_one(sql, &[&now]).await.map_err(failed)?;
        if row.try_get::<_, i64>(0).map_err(failed)? == 0 {
            return Ok(());
        }
        tokio::time::sleep(OLDER_LOOK).await;
    }
    let what =
        "rows are destroyed; a transaction that began before keeps them in the files: run again";
    Err(Fault::new(Code::HubBusy, what))
}

/// Segments kept for reuse still hold what they held; each that is written through is filled to its
/// end, and each checkpoint then removes those before it.
async fn go_through_wal(client: &tokio_postgres::Client) -> Result<(), Fault> {
    let ahead = "select exists (select from pg_ls_waldir() \
                 where length(name) = 24 and name > pg_walfile_name(pg_current_wal_lsn()))";
    for _ in 0..SEGMENTS_MAX {
        let switch = "select pg_logical_emit_message(false, 'phusa', ''); select pg_switch_wal()";
        client.batch_execute(switch).await.map_err(failed)?;
        let row = client.query_one(ahead, &[]).await.map_err(failed)?;
        if !row.try_get::<_, bool>(0).map_err(failed)? {
            break;
        }
    }
    for _ in 0..2 {
        client.batch_execute("checkpoint").await.map_err(failed)?;
    }
    Ok(())
}

const COLUMNS: &str = "destruction, dataset, fingerprint, before, current, because, proposed_by, \
                       proposed_at, approved_by, transfer, run_at, purged_at";

fn read(row: &Row) -> Result<Destruction, tokio_postgres::Error> {
    let moment = |index: usize| row.try_get::<_, SystemTime>(index).map(from_system_time);
    let perhaps = |index: usize| {
        let found = row.try_get::<_, Option<SystemTime>>(index);
        found.map(|found| found.map(from_system_time))
    };
    Ok(Destruction {
        destruction: row.try_get(0)?,
        dataset: row.try_get(1)?,
        fingerprint: row.try_get(2)?,
        before: moment(3)?,
        current: row.try_get(4)?,
        because: row.try_get(5)?,
        proposed_by: row.try_get(6)?,
        proposed_at: moment(7)?,
        approved_by: row.try_get(8)?,
        transfer: row.try_get(9)?,
        run_at: perhaps(10)?,
        purged_at: perhaps(11)?,
    })
}

fn failed(error: impl Borrow<tokio_postgres::Error>) -> Fault {
    statement_fault("cannot destroy", error.borrow())
}
