//! After a new full read: rows that were not seen again are gone at the source, and go.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::{Stamp, staging};
use crate::warehouse::tables::Shape;

/// Forgets what an earlier epoch of the stream had seen.
pub(super) async fn forget(tx: &Transaction<'_>, stream_key: i64) -> Result<(), Error> {
    tx.batch_execute(&format!("drop table if exists {}", table(stream_key))).await
}

/// Remembers the keys of the rows staged under `part`.
pub(super) async fn remember(
    tx: &Transaction<'_>,
    shape: &Shape,
    stream_key: i64,
    part: i32,
) -> Result<(), Error> {
    make(tx, shape, stream_key).await?;
    let sql = format!(
        "insert into {seen} select {keys} from {stage} where _part = $1 on conflict do nothing",
        seen = table(stream_key),
        keys = shape.key_list(""),
        stage = staging::table(shape),
    );
    let statement = tx.prepare_cached(&sql).await?;
    tx.execute(&statement, &[&part]).await.map(drop)
}

/// Removes the agency's rows that were not seen, and forgets what was.
pub(super) async fn sweep(
    tx: &Transaction<'_>,
    shape: &Shape,
    stream_key: i64,
    stamp: &Stamp<'_>,
) -> Result<(), Error> {
    make(tx, shape, stream_key).await?;
    let sql = format!(
        "delete from {dataset} as t where t._agency = $1 \
         and not exists (select from {seen} as s where ({seen_keys}) = ({keys}))",
        dataset = shape.table(),
        seen = table(stream_key),
        seen_keys = shape.key_list("s."),
        keys = shape.key_list("t."),
    );
    let [_, agency, _] = stamp.parameters();
    tx.execute(&sql, &[agency]).await?;
    forget(tx, stream_key).await
}

/// Logged and not temporary: a full read outlives connections and hubs.
async fn make(tx: &Transaction<'_>, shape: &Shape, stream_key: i64) -> Result<(), Error> {
    let columns: Vec<_> = shape.key_columns().map(|c| format!("{} {}", c.name, c.kind)).collect();
    let (seen, columns, keys) = (table(stream_key), columns.join(", "), shape.key_list(""));
    let sql = format!("create table if not exists {seen} ({columns}, primary key ({keys}))");
    tx.batch_execute(&sql).await
}

fn table(stream_key: i64) -> String {
    format!("phusa.seen_{stream_key}")
}
