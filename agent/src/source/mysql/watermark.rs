//! Rows written since a moment, by a column that tells when each was last written.
//!
//! Such a column says when a statement ran, and a row can be seen only once its transaction is
//! committed: whoever asks for what is newer than the newest seen loses what was committed behind
//! it. So the next look begins where the oldest transaction or statement that is open now began,
//! and a while before that for clocks other than the server's. Where the login may not see what
//! others have open, or rows are written at another server, the span that the configuration names
//! takes its place; what is committed later than that, the next comparison of all rows finds.
//!
//! Why nothing is lost where all that is open can be seen: a row that a look did not see belongs to
//! a transaction that was open when the mark was taken, just before it, and then the mark is not
//! later than its beginning; or to one that began afterwards, and then it is written later.

use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};

use super::catalogue::{Table, ident, literal};
use super::kind::Kind;
use super::server::Server;
use super::session::{Session, get};
use crate::source::Selection;

/// What an application's clock may be behind, and the server's own list of transactions; the
/// configured span, where that is shorter.
const MARGIN: Duration = Duration::from_secs(60);

/// The column that tells when a row was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) column: String,
    /// Whether it is read by the clock on the server's wall, not in UTC.
    by_wall: bool,
}

/// Up to where everything was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// A mark that this engine gave.
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// What is wrong with a column as a watermark, with the statement that mends it.
pub(super) type Flaw = (Code, String, Option<String>);

impl Watermark {
    /// The column that the dataset's file names; `None` when it names none.
    ///
    /// # Errors
    /// Why it cannot serve.
    pub(super) fn of(selection: &Selection, table: &Table) -> Result<Option<Self>, Flaw> {
        let Some(name) = &selection.watermark else { return Ok(None) };
        let place = format!("{}.{}", selection.schema, selection.table);
        let Some(attribute) = table.column(name) else {
            let what =
                format!("{place} has no column {name} (watermark_column) that the login may see");
            return Err((Code::SourceColumnMissing, what, None));
        };
        let by_wall = match attribute.kind {
            Ok(Kind::Timestamp) => false,
            Ok(Kind::DateTime) => true,
            Ok(_) | Err(_) => {
                let type_name = &attribute.column.type_name;
                let what = format!(
                    "watermark_column {name} of {place} is {type_name}: a timestamp or a datetime is needed"
                );
                return Err((Code::SourceTypeRefused, what, None));
            }
        };
        if !table.leading.contains(name) {
            let what = format!(
                "watermark_column {name} of {place} is the first column of no index: each look would read the whole table"
            );
            let (schema, table) = (ident(&selection.schema), ident(&selection.table));
            let cure = format!("alter table {schema}.{table} add index ({});", ident(name));
            return Err((Code::SourceSetting, what, Some(cure)));
        }
        Ok(Some(Self { column: name.clone(), by_wall }))
    }

    /// How far back each look goes, for people; `unseen` is the grant that a login lacks which does
    /// not see what is open.
    pub(super) fn facts(
        &self,
        server: &Server,
        unseen: Option<&str>,
        overlap: Duration,
    ) -> Vec<String> {
        let (column, overlap_seconds) = (&self.column, overlap.as_secs_f64());
        let back = format!(
            "each look at {column} goes back {overlap_seconds} s (watermark_overlap), and what is \
             committed later than that shows when all rows are compared"
        );
        let mut facts = vec![match unseen {
            _ if server.is_written_elsewhere() => {
                format!("rows are written at another server: {back}")
            }
            Some(grant) => {
                format!("the login may not see open transactions: {back}; `{grant}` mends that")
            }
            None => format!(
                "each look at {column} goes back to where the oldest open transaction began, and \
                 {} s before",
                MARGIN.min(overlap).as_secs_f64()
            ),
        }];
        if self.by_wall {
            let zone = server.wall_clock();
            facts.push(format!("{column} is taken to be by the server's clock, {zone}"));
        }
        facts
    }

    /// The condition of rows written since `mark`.
    pub(super) fn condition(&self, mark: &Mark) -> String {
        format!("{} >= {}", ident(&self.column), literal(&mark.0))
    }

    /// Takes the mark for the next look; `None` where something is open of which the server does
    /// not say since when.
    pub(super) async fn mark(
        &self,
        session: &mut Session,
        server: &Server,
        overlap: Duration,
    ) -> Result<Option<Mark>, Fault> {
        let doing = "cannot ask which transactions are open";
        if !server.is_written_elsewhere() {
            let sql = self.mark_query(OPEN_SINCE, MARGIN.min(overlap));
            if let Some(rows) = session.rows_if_allowed(doing, &sql).await? {
                let Some(row) = rows.first() else { return Ok(None) };
                let unknown: i64 = get(row, 1)?;
                return Ok(if unknown == 0 { Some(Mark(get(row, 0)?)) } else { None });
            }
        }
        let sql = self.mark_query(NOTHING_SEEN, overlap);
        let rows = session.rows(doing, &sql).await?;
        rows.first().map(|row| get(row, 0).map(Mark)).transpose()
    }

    /// A query for a moment so long before now that everything open began after it.
    fn mark_query(&self, open_since: &str, margin: Duration) -> String {
        let seconds = margin.as_secs() + u64::from(margin.subsec_nanos() > 0);
        let moment =
            format!("utc_timestamp() - interval greatest(0, open_seconds) + {seconds} second");
        let moment = match self.by_wall {
            true => format!("convert_tz({moment}, '+00:00', @@global.time_zone)"),
            false => moment,
        };
        format!("select cast({moment} as char), unknown from (select {open_since}) open")
    }
}

/// How long the oldest transaction or statement that can write has been open, in seconds, and how
/// many say nothing of that: those that a restart of the server left prepared. Transactions begin
/// by the machine's clock; a statement that waits for a table is in none yet.
const OPEN_SINCE: &str = "\
greatest(\
  coalesce((select max(timestampdiff(second, trx_started, \
      convert_tz(utc_timestamp(), '+00:00', 'SYSTEM'))) \
    from information_schema.innodb_trx \
    where trx_is_read_only = 0 and trx_autocommit_non_locking = 0), 0), \
  coalesce((select max(time) from information_schema.processlist \
    where command in ('Query', 'Execute') and user <> substring_index(user(), '@', 1)), 0)\
) open_seconds, \
(select count(*) from information_schema.innodb_trx \
  where trx_started is null or trx_started < '1971-01-01') unknown";

/// The same where nothing can be seen.
const NOTHING_SEEN: &str = "0 open_seconds, 0 unknown";

#[cfg(test)]
mod tests {
    use super::super::target::tests::sample;
    use super::*;

    #[test]
    fn a_mark_lies_before_everything_that_is_open_by_the_clock_that_the_column_goes_by() {
        let check = |by_wall: bool, margin: Duration, expected: &str| {
            let watermark = Watermark { column: "sửa".to_owned(), by_wall };
            assert_eq!(watermark.mark_query(NOTHING_SEEN, margin), expected);
        };
        check(
            false,
            Duration::from_secs(60),
            "select cast(utc_timestamp() - interval greatest(0, open_seconds) + 60 second as \
             char), unknown from (select 0 open_seconds, 0 unknown) open",
        );
        check(
            true,
            Duration::from_millis(1_500),
            "select cast(convert_tz(utc_timestamp() - interval greatest(0, open_seconds) + 2 \
             second, '+00:00', @@global.time_zone) as char), unknown from (select 0 \
             open_seconds, 0 unknown) open",
        );
    }

    #[test]
    fn rows_are_asked_for_from_the_mark_on() {
        let mut target = sample();
        let watermark = Watermark { column: "sửa".to_owned(), by_wall: false };
        let mark = Mark::of("2026-11-26 08:00:00");
        assert_eq!(
            target.written_query(&watermark.condition(&mark)),
            "select `ward`, `id`, `name` from `d`.`t` where `sửa` >= '2026-11-26 08:00:00' and \
             (ward = 'x')"
        );
        target.selection.filter = None;
        assert!(target.written_query("x").ends_with("where x"));
    }
}
