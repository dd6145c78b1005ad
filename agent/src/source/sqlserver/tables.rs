//! The tables that a login can see, for whoever chooses what is shared.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::session::{Session, number, text};
use crate::source::{Listed, TABLES_MAX};

/// Every table the login has some right on, with its rows, and whether it may read it.
pub(super) const TABLES_SQL: &str = "\
select top (5000) s.name, t.name, \
  cast((select sum(p.rows) from sys.partitions p \
    where p.object_id = t.object_id and p.index_id in (0, 1)) as bigint), \
  cast(has_perms_by_name(quotename(s.name) + '.' + quotename(t.name), 'OBJECT', 'SELECT') as bigint) \
from sys.tables t join sys.schemas s on s.schema_id = t.schema_id \
where t.is_ms_shipped = 0 order by s.name, t.name";

/// Lists them by schema and name.
pub(super) async fn tables(settings: &Settings) -> Result<Vec<Listed>, Fault> {
    let mut session = Session::open(settings).await?;
    let rows = session.rows("cannot list the tables", TABLES_SQL, &[]).await?;
    let listed = |row| {
        Ok(Listed {
            schema: text(row, 0)?,
            table: text(row, 1)?,
            rows_estimated: u64::try_from(number(row, 2)?).unwrap_or(0),
            readable: number(row, 3)? == 1,
        })
    };
    rows.iter().take(TABLES_MAX).map(listed).collect()
}
