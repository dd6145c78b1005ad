//! The tables that a login can see, for whoever chooses what is shared.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::session::{Session, get};
use crate::source::{Listed, TABLES_MAX};

/// Lists them by database and name; the server shows a login only those it has some right on.
pub(super) async fn tables(settings: &Settings) -> Result<Vec<Listed>, Fault> {
    let mut session = Session::open(settings).await?;
    let sql = format!(
        "select table_schema, table_name, coalesce(table_rows, 0) from information_schema.tables \
         where table_type = 'BASE TABLE' and table_schema not in \
           ('mysql', 'sys', 'performance_schema', 'information_schema') \
         order by 1, 2 limit {TABLES_MAX}"
    );
    let rows = session.rows("cannot list the tables", &sql).await?;
    let listed = |row| {
        Ok(Listed {
            schema: get(row, 0)?,
            table: get(row, 1)?,
            rows_estimated: get(row, 2)?,
            readable: true,
        })
    };
    let listed = rows.iter().map(listed).collect();
    session.close().await;
    listed
}
