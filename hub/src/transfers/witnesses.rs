//! What agents, as witnesses, signed of the log, and which head has enough of them for the policy.
//!
//! Bounded: the newest [`HEADS_MAX`] heads, the newest proven one, one signature of each witness on
//! each.

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::checkpoint::{Checkpoint, Cosignature};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::policy::Policy;

use super::to_i64;
use crate::error::database_fault;

/// Heads that may still be cosigned: those of the last minute and more of a busy log.
const HEADS_MAX: i64 = 64;

/// Makes a published head one that witnesses may sign.
///
/// # Errors
/// When the database does not answer.
pub async fn offer(tx: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<(), Fault> {
    let (size, root) = (to_i64(checkpoint.head.size), checkpoint.head.root.as_bytes().to_vec());
    let sql = "insert into phusa.heads (size, root, note) values ($1, $2, $3) \
               on conflict (size) do nothing";
    tx.execute(sql, &[&size, &root, &checkpoint.to_note()]).await.map_err(|e| failed(&e))?;
    let sql = "delete from phusa.heads where size <= (select size from phusa.heads \
               order by size desc offset $1 limit 1) \
               and size <> (select coalesce(max(size), -1) from phusa.heads \
               where proven_at is not null)";
    tx.execute(sql, &[&HEADS_MAX]).await.map(drop).map_err(|e| failed(&e))
}

/// Takes a witness's signature. A head that is no longer kept is passed over.
///
/// # Errors
/// [`Code::LogForked`] when this log's key signed another root for this size;
/// [`Code::SignatureWrong`] when the witness did not sign.
pub async fn accept(
    client: &mut Object,
    signed: &Checkpoint,
    (name, key): (&str, &PublicKey),
    policy: &Policy,
) -> Result<(), Fault> {
    let what = || format!("the cosignature of {name}");
    let cosignature = signed.cosigned_by(key).filter(|cosignature| cosignature.name == name);
    let cosignature = cosignature.ok_or_else(|| Fault::new(Code::SignatureWrong, what()))?;
    let size = to_i64(signed.head.size);
    let tx = client.transaction().await.map_err(|error| failed(&error))?;
    let sql =
        "select root, note, proven_at is not null from phusa.heads where size = $1 for update";
    let Some(row) = tx.query_opt(sql, &[&size]).await.map_err(|error| failed(&error))? else {
        return Ok(());
    };
    let root: Vec<u8> = row.try_get(0).map_err(|error| failed(&error))?;
    if root != signed.head.root.as_bytes() {
        let what = format!("{name} was shown another log of {size} entries, truly signed");
        return Err(Fault::new(Code::LogForked, what));
    }
    let sql = "insert into phusa.cosignatures (size, witness, signed_at, line) \
               values ($1, $2, $3, $4) on conflict (size, witness) do update \
               set signed_at = excluded.signed_at, line = excluded.line";
    let (time, line) = (to_i64(cosignature.time), cosignature.to_line().to_text());
    tx.execute(sql, &[&size, &name, &time, &line]).await.map_err(|error| failed(&error))?;
    if row.try_get(2).map_err(|error| failed(&error))? {
        // Proven already: a thousand more signatures need not be checked all over again for each.
        return tx.commit().await.map_err(|error| failed(&error));
    }
    let note: String = row.try_get(1).map_err(|error| failed(&error))?;
    let sql = "select line from phusa.cosignatures where size = $1 order by witness";
    let lines = tx.query(sql, &[&size]).await.map_err(|error| failed(&error))?;
    let lines = lines.iter().filter_map(|row| row.try_get::<_, String>(0).ok());
    let mut checkpoint = read(&note, signed.log())?;
    checkpoint.cosignatures = lines.filter_map(|line| Cosignature::parse(&line)).collect();
    if policy.accepts(&checkpoint) {
        let sql = "update phusa.heads set note = $2, proven_at = coalesce(proven_at, now()) \
                   where size = $1";
        let note = checkpoint.to_note();
        tx.execute(sql, &[&size, &note]).await.map_err(|error| failed(&error))?;
        // What an older head proves, this one proves too.
        let sql = "delete from phusa.heads where size < $1";
        tx.execute(sql, &[&size]).await.map_err(|error| failed(&error))?;
    }
    tx.commit().await.map_err(|error| failed(&error))
}

/// The newest head that enough witnesses signed, with their signatures.
///
/// # Errors
/// When the database does not answer, or [`Code::LogBroken`].
pub async fn proven(client: &Object, log: &PublicKey) -> Result<Option<Checkpoint>, Fault> {
    let sql = "select note from phusa.heads where proven_at is not null \
               order by size desc limit 1";
    let row = client.query_opt(sql, &[]).await.map_err(|error| failed(&error))?;
    let Some(row) = row else { return Ok(None) };
    let note: String = row.try_get(0).map_err(|error| failed(&error))?;
    read(&note, log).map(Some)
}

/// Every head that is kept, oldest first, each with whatever witnesses signed it so far.
///
/// # Errors
/// When the database does not answer, or [`Code::LogBroken`].
pub async fn kept(client: &Object, log: &PublicKey) -> Result<Vec<Checkpoint>, Fault> {
    let sql = "select h.note, array(select c.line from phusa.cosignatures as c \
               where c.size = h.size order by c.witness) from phusa.heads as h order by h.size";
    let mut heads = Vec::new();
    for row in client.query(sql, &[]).await.map_err(|error| failed(&error))? {
        let note: String = row.try_get(0).map_err(|error| failed(&error))?;
        let lines: Vec<String> = row.try_get(1).map_err(|error| failed(&error))?;
        let mut checkpoint = read(&note, log)?;
        checkpoint.cosignatures =
            lines.iter().filter_map(|line| Cosignature::parse(line)).collect();
        heads.push(checkpoint);
    }
    Ok(heads)
}

fn read(note: &str, log: &PublicKey) -> Result<Checkpoint, Fault> {
    Checkpoint::parse(note, log)
        .map_err(|error| Fault::because(Code::LogBroken, "a head kept for witnesses", error))
}

fn failed(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot keep what witnesses signed", error)
}
