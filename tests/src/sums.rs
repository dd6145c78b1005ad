//! Checksums of every column of a table, computed by PostgreSQL itself, to compare two ends
//! without trusting anything that moved the rows.

use tokio_postgres::{Client, Error};

/// Rows of `table`, and per column a checksum over (first column, column), whatever the order.
///
/// The first of `columns` must be the key. Values are compared by PostgreSQL's text form in UTC.
///
/// # Errors
/// What PostgreSQL says.
pub async fn of_columns(
    client: &Client,
    table: &str,
    columns: &[&str],
) -> Result<(i64, Vec<String>), Error> {
    client.batch_execute("set timezone = 'UTC'").await?;
    let key = columns.first().unwrap_or(&"1");
    let sum = |column: &&str| {
        format!(
            "coalesce(sum(hashtextextended({key}::text || '/' || coalesce({column}::text, '∅'), 0)::numeric), 0)::text"
        )
    };
    let sums: Vec<String> = columns.iter().map(sum).collect();
    let sql = format!("select count(*), array[{}] from {table}", sums.join(", "));
    let row = client.query_one(&sql, &[]).await?;
    Ok((row.get(0), row.get(1)))
}
