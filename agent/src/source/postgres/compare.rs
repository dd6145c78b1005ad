//! Reading a table in key order, and the rows that transactions since a moment wrote.
//!
//! A row tells which transaction wrote it (`xmin`, 32 bits that wrap). Everything that was not
//! visible in a snapshot and is now was written by a transaction that had not ended then, that is,
//! by one not before the snapshot's horizon. So the horizon of one look is the mark for the next,
//! however long a transaction took. Numbers are compared by their distance from the next one to be
//! given, which wrapping does not disturb; rows frozen or rewritten keep theirs.

use std::sync::Arc;

use phusa_protocol::fault::Fault;

use super::session::{CopiedRows, Session, get};
use super::target::Target;
use super::{Settings, keys, oversize, probe};
use crate::source::reconcile::{KeyOrder, Range, Rows};
use crate::source::sharing::Work;
use crate::source::snapshot::KeyText;
use crate::source::throttle::Answers as _;

/// How far transactions may have counted since a mark: half of what 32 bits tell apart.
const AGE_MAX: u64 = 1 << 31;

/// One table, read along its key.
pub(super) struct InKeyOrder {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    /// None is kept between two passes: it would be one less for the agency's own programs.
    pub(super) session: Option<Session>,
}

impl KeyOrder for InKeyOrder {
    async fn identify(&mut self) -> Result<String, Fault> {
        let (settings, selection) = (Arc::clone(&self.settings), self.target.selection.clone());
        let session = self.session().await?;
        let admitted = probe::admit(session, &settings, &selection).await?;
        let target = Target::new(selection, &admitted.table)?;
        let walk: Vec<&str> = target
            .walk
            .iter()
            .filter_map(|&at| target.columns.get(at))
            .map(|column| column.name.as_str())
            .collect();
        // For the default collation, which the database's locale gives, the version is that of the
        // operating system's library.
        let sql = "select concat_ws(' ', a.attname, c.collname, c.collprovider, \
                          coalesce(c.collcollate, d.datcollate), \
                          pg_collation_actual_version(c.oid)) \
                   from pg_attribute a join pg_collation c on c.oid = a.attcollation \
                   cross join pg_database d where d.datname = current_database() \
                     and a.attrelid = $1 and a.attname = any($2) order by a.attnum";
        let rows = session.rows(&target.doing(), sql, &[&target.oid, &walk]).await?;
        let orders: Vec<String> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        let columns = target.fingerprint();
        Ok(format!("{columns} {} {}", walk.join(","), orders.join(",")))
    }

    async fn read(&mut self, range: &Range, rows: Rows) -> Result<(), Fault> {
        let (after, upto) = (range.after.as_ref(), range.upto.as_ref());
        let (target, bytes_max) = (Arc::clone(&self.target), self.settings.batch.row_bytes_max.0);
        let session = self.session().await?;
        let query = match oversize::may_stand_in(session, target.oid, bytes_max).await? {
            true => target.cut_chunk_query(after, upto, bytes_max),
            false => target.chunk_query(after, upto),
        };
        let query = format!("{query} limit {}", range.rows_max);
        let copied = session.copy(&target.doing(), &query).await?;
        let count = pass_on(copied, &rows).await?;
        if upto.is_none() && count.is_some_and(|count| count < range.rows_max) {
            self.session = None;
        }
        Ok(())
    }

    async fn answers(&mut self) -> Result<(), Fault> {
        self.session().await?.answer().await
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        self.session().await?.work().await
    }

    async fn text_of(&mut self, key: &[Vec<u8>]) -> Result<KeyText, Fault> {
        let target = Arc::clone(&self.target);
        keys::text_of(self.session().await?, &target, key).await
    }

    async fn written_since(
        &mut self,
        mark: Option<&str>,
        rows: Rows,
    ) -> Result<Option<String>, Fault> {
        let target = Arc::clone(&self.target);
        let (session, doing) = (self.session().await?, target.doing());
        let begin = "begin isolation level repeatable read read only";
        session.run(&doing, begin).await?;
        let looked = look(session, &target, mark, &rows).await;
        // Where that fails too, the connection is gone, and the first fault says why.
        let ended = session.run(&doing, "rollback").await;
        looked.and_then(|next| ended.map(|()| next))
    }
}

impl InKeyOrder {
    async fn session(&mut self) -> Result<&mut Session, Fault> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(Session::open(&self.settings).await?)),
        }
    }
}

/// Within one snapshot: reads what transactions from `mark` on wrote, and takes the next mark.
async fn look(
    session: &Session,
    target: &Target,
    mark: Option<&str>,
    rows: &Rows,
) -> Result<Option<String>, Fault> {
    let doing = target.doing();
    // A server that was restored, or another one, began at another time.
    let sql = "select txid_snapshot_xmin(s), txid_snapshot_xmax(s), \
               extract(epoch from pg_postmaster_start_time())::text \
               from txid_current_snapshot() s";
    let row = session.row(&doing, sql, &[]).await?;
    let number = |index| get::<i64>(&row, index).map(|number| u64::try_from(number).unwrap_or(0));
    let (horizon, next) = (number(0)?, number(1)?);
    let server = format!("{} {}", get::<String>(&row, 2)?, target.oid);
    if let Some(mark) = mark {
        let Some(since) = Mark::parse(mark, &server) else { return Ok(None) };
        let Some(condition) = written_condition(since.horizon, next) else { return Ok(None) };
        let copied = session.copy(&doing, &target.written_query(&condition)).await?;
        pass_on(copied, rows).await?;
    }
    Ok(Some(Mark { server, horizon }.to_string()))
}

/// Hands on all rows and counts them; `None` when no more were wanted.
async fn pass_on(mut copied: CopiedRows, rows: &Rows) -> Result<Option<u64>, Fault> {
    let mut count = 0;
    while let Some(row) = copied.next().await? {
        count += 1;
        if !rows.take(row).await {
            return Ok(None);
        }
    }
    Ok(Some(count))
}

/// Up to where rows were looked for.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    /// The server that counted.
    server: String,
    /// Transactions before this had ended.
    horizon: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.horizon, self.server)
    }
}

impl Mark {
    /// `None` for a mark that another server gave.
    fn parse(text: &str, server: &str) -> Option<Self> {
        let (horizon, of) = text.split_once(' ')?;
        let horizon = horizon.parse().ok()?;
        (of == server).then(|| Self { server: of.to_owned(), horizon })
    }
}

/// The condition of rows that transactions from `horizon` on wrote, where `next` is the number that
/// the next transaction gets; `None` when 32 bits no longer tell.
fn written_condition(horizon: u64, next: u64) -> Option<String> {
    let age = next.checked_sub(horizon).filter(|age| *age < AGE_MAX)?;
    Some(format!("((({next} - xmin::text::int8) & 4294967295) <= {age})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_good_only_where_it_was_given() {
        let mark = Mark { server: "1732500000 16385".to_owned(), horizon: 740 };
        let text = mark.to_string();
        assert_eq!(Mark::parse(&text, "1732500000 16385"), Some(mark));
        assert_eq!(Mark::parse(&text, "1732500001 16385"), None);
        assert_eq!(Mark::parse("", "1732500000 16385"), None);
    }

    #[test]
    fn numbers_are_told_apart_across_the_wrap_and_not_beyond_half_of_it() {
        let wrapped = 1 << 32;
        let check = |horizon: u64, next: u64, expected: Option<&str>| {
            assert_eq!(written_condition(horizon, next).as_deref(), expected);
        };
        check(700, 703, Some("(((703 - xmin::text::int8) & 4294967295) <= 3)"));
        let next = wrapped + 5;
        let expected = "(((4294967301 - xmin::text::int8) & 4294967295) <= 10)";
        check(wrapped - 5, next, Some(expected));
        // What the server computes of it for rows before and after the wrap.
        let is_written = |xmin: u64| ((next - xmin) & 0xffff_ffff) <= 10;
        for (xmin, expected) in
            [(4_294_967_291, true), (4, true), (4_294_967_290, false), (2_000_000, false)]
        {
            assert_eq!(is_written(xmin), expected, "{xmin}");
        }
        check(5, 5 + AGE_MAX, None);
        check(9, 5, None);
    }
}
