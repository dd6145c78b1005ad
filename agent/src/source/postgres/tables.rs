//! The tables of a database that a login can see, for whoever chooses what is shared.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::catalogue::whole;
use super::session::{Session, get};
use crate::source::{Listed, TABLES_MAX};

/// Lists them by schema and name. Rows are those of the last analysis, or else what the server
/// counted while it wrote.
pub(super) async fn tables(settings: &Settings) -> Result<Vec<Listed>, Fault> {
    let session = Session::open(settings).await?;
    let sql = "select n.nspname, c.relname, \
                      (case when c.reltuples >= 0 then c.reltuples \
                            else pg_stat_get_live_tuples(c.oid) end)::float8, \
                      has_schema_privilege(n.oid, 'usage') \
                        and has_any_column_privilege(c.oid, 'select') \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p', 'm') and not c.relispartition \
                 and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' \
               order by 1, 2 limit $1";
    let most = i64::try_from(TABLES_MAX).unwrap_or(i64::MAX);
    let rows = session.rows("cannot list the tables", sql, &[&most]).await?;
    let listed = |row| {
        Ok(Listed {
            schema: get(row, 0)?,
            table: get(row, 1)?,
            rows_estimated: whole(get(row, 2)?),
            readable: get(row, 3)?,
        })
    };
    rows.iter().map(listed).collect()
}
