//! What the server says of its changes: from where to where they are there, and what each row of
//! the answers means.

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use tiberius::Row;

use super::catalogue::Table;
use super::place::{Log, Mark, Open, Settle};
use super::probe::Server;
use super::session::{Param, Session, get, number, text};
use super::target::Target;

/// Columns before the key in the answers that carry changes.
pub(super) const HEAD_COLUMNS: usize = 2;

/// What change tracking calls a row that came into being.
pub(super) const INSERTED: &str = "I";

/// What change data capture calls its operations.
pub(super) const DELETED: i32 = 1;
pub(super) const ADDED: i32 = 2;
pub(super) const UPDATED_FROM: i32 = 3;
pub(super) const UPDATED_TO: i32 = 4;

pub(super) const TRACKING_STATE_SQL: &str = "\
select cast(coalesce(change_tracking_min_valid_version(cast(@P1 as int)), -1) as bigint), \
  cast(coalesce(change_tracking_current_version(), -1) as bigint)";

pub(super) const CAPTURE_STATE_SQL: &str =
    "select sys.fn_cdc_get_min_lsn(@P1), sys.fn_cdc_get_max_lsn()";

pub(super) const ROW_VERSION_STATE_SQL: &str = "select cast(min_active_rowversion() as binary(8))";

pub(super) const CLOCK_SQL: &str = "select convert(nvarchar(30), getdate(), 121)";

pub(super) const PASSED_SQL: &str = "\
select cast(case when sys.fn_cdc_map_lsn_to_time(@P1) > convert(datetime, @P2, 121) \
  then 1 else 0 end as bigint)";

/// When a transaction was committed, in UTC; the server tells it by its own clock.
pub(super) const COMMITTED_SQL: &str = "\
select convert(nvarchar(30), dateadd(minute, -datepart(tzoffset, sysdatetimeoffset()), \
  sys.fn_cdc_map_lsn_to_time(@P1)), 126)";

/// From where to where changes can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The oldest position that changes can be asked for after.
    pub(super) oldest: Mark,
    /// The newest position.
    pub(super) end: Mark,
}

impl State {
    /// Whether nothing is missing between `at` and what is there.
    pub(super) fn reaches_back_to(&self, at: Mark) -> Result<(), Fault> {
        let what = if at < self.oldest {
            "the changes since reading stopped are no longer kept (retention passed, or the table \
             was truncated)"
        } else if at > self.end {
            "the server knows less than when reading stopped (restored from a backup?)"
        } else {
            return Ok(());
        };
        Err(Fault::new(Code::SourceGap, what))
    }
}

/// Asks what can be asked for.
pub(super) async fn state(
    session: &mut Session,
    log: &Log,
    target: &Target,
) -> Result<State, Fault> {
    let doing = "cannot ask how far changes go";
    match log {
        Log::Tracking => {
            let params = [Param::Number(target.object_id)];
            let row = session.row(doing, TRACKING_STATE_SQL, &params).await?;
            let (oldest, end) = (number(&row, 0)?, number(&row, 1)?);
            if oldest < 0 || end < 0 {
                let what = format!("{doing}: change tracking is off, or may not be seen");
                return Err(Fault::new(Code::SourceSetting, what));
            }
            let (oldest, end) = (Mark::of_version(oldest), Mark::of_version(end));
            Ok(State { oldest, end: end.max(oldest) })
        }
        Log::Captured { instance } => {
            let params = [Param::Text(instance.clone())];
            let row = session.row(doing, CAPTURE_STATE_SQL, &params).await?;
            let mark = |index| -> Result<Mark, Fault> {
                Ok(get::<&[u8]>(&row, index)?.map(Mark::of_bytes).unwrap_or_default())
            };
            let (first, last) = (mark(0)?, mark(1)?);
            if first == Mark::default() {
                let what = format!("{doing}: instance {instance} is gone, or may not be read");
                return Err(Fault::new(Code::SourceSetting, what));
            }
            // Changes are asked for after a position, and the first that is kept is there.
            let oldest = Mark(first.0.saturating_sub(1));
            Ok(State { oldest, end: last.max(first) })
        }
        Log::RowVersion { .. } => {
            let row = session.row(doing, ROW_VERSION_STATE_SQL, &[]).await?;
            let end = get::<&[u8]>(&row, 0)?.map(Mark::of_bytes).unwrap_or_default();
            Ok(State { oldest: Mark::default(), end })
        }
    }
}

/// Where a full read that ends now has seen everything of.
pub(super) async fn settle(
    session: &mut Session,
    log: &Log,
    target: &Target,
) -> Result<Settle, Fault> {
    if let Log::Captured { .. } = log {
        let row = session.row("cannot ask for the server's time", CLOCK_SQL, &[]).await?;
        return Ok(Settle::Past(text(&row, 0)?));
    }
    Ok(Settle::At(state(session, log, target).await?.end))
}

/// Whether what a full read may have seen early was handed on, everything up to `at` being so.
pub(super) async fn has_settled(
    session: &mut Session,
    settle: &Settle,
    at: Mark,
) -> Result<bool, Fault> {
    match settle {
        Settle::At(until) => Ok(at >= *until),
        Settle::Past(time) => {
            let params = [Param::Bytes(at.lsn()), Param::Text(time.clone())];
            let doing = "cannot ask how far change data capture is";
            let row = session.row(doing, PASSED_SQL, &params).await?;
            Ok(number(&row, 0)? == 1)
        }
    }
}

/// When the transaction at a log position was committed; `None` where the server does not say.
pub(super) async fn committed_at(
    session: &mut Session,
    end: Mark,
) -> Result<Option<Timestamp>, Fault> {
    let doing = "cannot ask when a transaction was committed";
    let row = session.row(doing, COMMITTED_SQL, &[Param::Bytes(end.lsn())]).await?;
    Ok(Timestamp::try_from(format!("{}Z", text(&row, 0)?)).ok())
}

/// The operation of a key that change tracking tells of, and whether its row is there.
pub(super) fn tracked(row: &Row) -> Result<(&str, bool), Fault> {
    let operation = get::<&str>(row, 0)?.unwrap_or_default();
    Ok((operation, get::<i32>(row, 1)? == Some(1)))
}

/// The transaction and the operation of a change that was captured.
pub(super) fn captured(row: &Row) -> Result<(Mark, i32), Fault> {
    let lsn = get::<&[u8]>(row, 0)?.map(Mark::of_bytes).unwrap_or_default();
    Ok((lsn, get::<i32>(row, 1)?.unwrap_or(0)))
}

/// Counts changes by transaction, and recognises the one that an earlier run handed on in part.
#[derive(Debug)]
pub(super) struct Transactions {
    known: Option<Open>,
    current: Option<Open>,
}

/// What a change means for the order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// The transaction that ended before it.
    pub(super) ended: Option<Mark>,
    /// Whether an earlier run handed it on.
    pub(super) is_known: bool,
    /// Its own transaction, this change counted.
    pub(super) open: Open,
}

impl Transactions {
    /// Begins where an earlier run stopped.
    pub(super) fn after(known: Option<Open>) -> Self {
        Self { known, current: None }
    }

    /// Takes the next change, which is of the transaction `end`.
    pub(super) fn change(&mut self, end: Mark) -> Result<Counted, Fault> {
        if self.known.is_some_and(|known| known.end < end) {
            self.are_complete()?;
        }
        let ended = self.current.map(|current| current.end).filter(|before| *before != end);
        if ended.is_some() && ended == self.known.map(|known| known.end) {
            self.known = None;
        }
        let changes = match self.current {
            Some(current) if current.end == end => current.changes + 1,
            _ => 1,
        };
        let open = Open { end, changes };
        self.current = Some(open);
        let is_known = self.known.is_some_and(|known| known.end == end && changes <= known.changes);
        Ok(Counted { ended, is_known, open })
    }

    /// Whether what an earlier run handed on in part came again as a whole.
    pub(super) fn are_complete(&self) -> Result<(), Fault> {
        let came = |known: Open| {
            self.current.is_some_and(|open| open.end == known.end && open.changes >= known.changes)
        };
        if self.known.is_none_or(came) { Ok(()) } else { Err(did_not_come_again()) }
    }
}

fn did_not_come_again() -> Fault {
    Fault::new(Code::SourceGap, "a transaction that was handed on in part did not come again")
}

/// Which history of the database a position belongs to.
pub(super) fn database_identity(server: &Server) -> String {
    Digest::of(server.history.as_bytes()).to_string()
}

/// Which table it is.
pub(super) fn table_identity(table: &Table) -> String {
    format!("{} {}", table.object_id, table.created)
}

/// Whether the mapped columns are what they were when the capture began.
pub(super) fn same_columns(target: &Target, table: &Table) -> Result<(), Fault> {
    let shown = format!("{}.{}", target.selection.schema, target.selection.table);
    for column in target.columns.iter() {
        let (name, was) = (&column.name, &column.type_name);
        let what = match table.attribute(name) {
            None => format!("{shown} no longer has the column {name}"),
            Some(now) if now.column.type_name != *was => {
                format!("column {name} of {shown} is no longer {was}")
            }
            Some(_) => continue,
        };
        return Err(Fault::new(Code::SourceSchema, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_kept_is_a_gap() {
        let state = State { oldest: Mark(5), end: Mark(9) };
        let check = |at: u128, expected: &str| {
            let fault = state.reaches_back_to(Mark(at)).err();
            let said = fault.map(|fault| format!("{} {}", fault.code, fault.what));
            assert!(said.unwrap_or_default().contains(expected), "{at}");
        };
        check(4, "source_gap the changes since");
        check(5, "");
        check(9, "");
        check(10, "source_gap the server knows less");
    }

    #[test]
    fn what_was_handed_on_of_a_transaction_is_passed_over_once() {
        let mut transactions = Transactions::after(Some(Open { end: Mark(3), changes: 2 }));
        let mut check = |end: u128, ended: Option<u128>, is_known: bool, changes: u64| {
            let open = Open { end: Mark(end), changes };
            let expected = Counted { ended: ended.map(Mark), is_known, open };
            assert_eq!(transactions.change(Mark(end)).unwrap(), expected, "{end}");
        };
        check(3, None, true, 1);
        check(3, None, true, 2);
        check(3, None, false, 3);
        check(4, Some(3), false, 1);
        check(6, Some(4), false, 1);
        assert!(transactions.are_complete().is_ok());
    }

    #[test]
    fn a_transaction_that_does_not_come_again_is_a_gap() {
        let known = Some(Open { end: Mark(3), changes: 2 });
        assert_eq!(Transactions::after(known).change(Mark(4)).unwrap_err().code, Code::SourceGap);
        assert!(Transactions::after(known).are_complete().is_err());
        let mut cut = Transactions::after(known);
        cut.change(Mark(3)).unwrap();
        assert!(cut.are_complete().is_err());
        assert!(Transactions::after(None).are_complete().is_ok());
    }
}
