//! The changes of one table, round after round: what each round asks and hands on, and where it
//! goes on.
//!
//! A round of change tracking or of the row version is one set: its rows are those of one moment,
//! and none of them becomes visible before the last. Change data capture tells each transaction as
//! the log had it, in rounds of what has come since. A round that was cut by a restart is asked
//! again as a whole; only change data capture answers the same a second time, so only there is
//! what was handed on passed over.

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use tiberius::Row;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::catalogue::{TABLE_SQL, Table};
use super::log::{self, State, Transactions};
use super::place::{Following, Identity, Log, Mark, Open, Place, Stage};
use super::session::{Param, Session, text};
use super::target::{Statement, Target};
use crate::source::outbox::{Filler, Outbox, Sealed};

/// How often an idle position is handed on, so that it does not age out while nothing changes.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Between rounds that found nothing: at least this, at most that.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The pause after a round that found nothing is this many times as long as the round took.
const PAUSE_FACTOR: u32 = 20;

/// Follows the changes of one table.
pub(super) struct Follower {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    pub(super) identity: Identity,
    /// When the table's definition was last altered, as far as is known.
    pub(super) altered: String,
    pub(super) snapshots: bool,
    pub(super) following: Following,
    pub(super) filler: Filler,
    /// The position of the last block handed on, and when it was.
    pub(super) noted: Mark,
    pub(super) noted_at: Instant,
    /// When the last transaction of the block at hand was committed, where the server says.
    pub(super) committed: Option<Timestamp>,
    /// Whether the last block handed on ended inside a set of changes.
    pub(super) left_open: bool,
}

impl Follower {
    /// Follows until it is dropped or fails.
    pub(super) async fn run(&mut self, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        let mut session = Session::open(&self.settings).await?;
        session.isolate(self.snapshots).await?;
        loop {
            let begun = Instant::now();
            self.is_as_it_was(&mut session).await?;
            let found = self.round(&mut session, outbox).await?;
            self.note(outbox).await?;
            if !found {
                let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR);
                sleep(pause.clamp(PAUSE_MIN.max(self.settings.batch.linger), PAUSE_MAX)).await;
            }
        }
    }

    /// Nothing tells of a table that is altered, so each round looks first.
    async fn is_as_it_was(&mut self, session: &mut Session) -> Result<(), Fault> {
        let selection = &self.target.selection;
        let doing = format!("cannot look up {}.{}", selection.schema, selection.table);
        let names = [Param::Text(selection.schema.clone()), Param::Text(selection.table.clone())];
        let rows = session.rows(&doing, TABLE_SQL, &names).await?;
        let altered = rows.first().map(|row| text(row, 2)).transpose()?;
        if altered.as_ref() == Some(&self.altered) {
            return Ok(());
        }
        let Some(table) = Table::find(session, selection).await? else {
            let what = format!("{}.{} is not there any more", selection.schema, selection.table);
            return Err(Fault::new(Code::SourceTableMissing, what));
        };
        log::same_columns(&self.target, &table)?;
        if log::table_identity(&table) != self.identity.table {
            return Err(Fault::new(Code::SourceGap, "the table was made anew"));
        }
        self.altered = table.altered;
        Ok(())
    }

    /// One round; whether it found changes.
    async fn round(
        &mut self,
        session: &mut Session,
        outbox: &mut Outbox<Mark>,
    ) -> Result<bool, Fault> {
        let is_one_set = !matches!(self.identity.log, Log::Captured { .. });
        if is_one_set && self.snapshots {
            session.run("cannot begin a snapshot", "begin transaction").await?;
        }
        let state = log::state(session, &self.identity.log, &self.target).await?;
        state.reaches_back_to(self.following.at)?;
        let found = match self.statement(&state) {
            None => false,
            Some(statement) if is_one_set => {
                self.one_set(session, (statement, state.end), outbox).await?
            }
            Some(statement) => self.captured(session, statement, outbox).await?,
        };
        if is_one_set && self.snapshots {
            session.run("cannot end a snapshot", "commit transaction").await?;
        }
        // What was cleaned up while it was being read is missing from what was read.
        let now = log::state(session, &self.identity.log, &self.target).await?;
        now.reaches_back_to(self.following.at)?;
        self.end_round(session, state.end, outbox).await?;
        Ok(found)
    }

    /// What this round asks; `None` when nothing has come.
    fn statement(&self, state: &State) -> Option<Statement> {
        let (at, end) = (self.following.at, state.end);
        (at < end).then(|| match &self.identity.log {
            Log::Tracking => self.target.tracked_changes(at.version(), end.version()),
            Log::RowVersion { column } => {
                self.target.written_rows(column, &at.row_version(), &end.row_version())
            }
            Log::Captured { instance } => {
                self.target.captured_changes(instance, &at.lsn(), &end.lsn())
            }
        })
    }

    /// Reads a round that is one set of changes.
    async fn one_set(
        &mut self,
        session: &mut Session,
        (statement, end): (Statement, Mark),
        outbox: &mut Outbox<Mark>,
    ) -> Result<bool, Fault> {
        let doing = self.target.doing();
        let mut rows = session.stream(&doing, &statement.sql, &statement.params).await?;
        let mut changes = 0;
        while let Some(row) = rows.next().await? {
            changes += 1;
            self.following.open = Some(Open { end, changes });
            match self.identity.log {
                Log::Tracking => self.put_tracked(&row)?,
                Log::RowVersion { .. } | Log::Captured { .. } => {
                    self.target.put_row(&row, 0, self.filler.begin_row(Op::Update))?;
                }
            }
            if self.filler.is_full() {
                self.cut(outbox).await?;
            }
        }
        Ok(changes > 0)
    }

    /// A key that changed, with its row as it is now. Where the row is not there, it is gone,
    /// whatever the last change of it was.
    fn put_tracked(&mut self, row: &Row) -> Result<(), Fault> {
        let (target, first) = (&self.target, log::HEAD_COLUMNS + self.target.key_length());
        let (operation, is_there) = log::tracked(row)?;
        if !is_there {
            return target.put_key(row, log::HEAD_COLUMNS, self.filler.begin_row(Op::Delete));
        }
        // With a row filter, a row that came into being may stand where a shared one was.
        let is_new = operation == log::INSERTED && target.selection.filter.is_none();
        let op = if is_new { Op::Insert } else { Op::Update };
        target.put_row(row, first, self.filler.begin_row(op))
    }

    /// Reads what change data capture has, transaction after transaction.
    async fn captured(
        &mut self,
        session: &mut Session,
        statement: Statement,
        outbox: &mut Outbox<Mark>,
    ) -> Result<bool, Fault> {
        let mut transactions = Transactions::after(self.following.open);
        let doing = self.target.doing();
        let mut rows = session.stream(&doing, &statement.sql, &statement.params).await?;
        let (mut found, mut before) = (false, None);
        while let Some(row) = rows.next().await? {
            let (lsn, operation) = log::captured(&row)?;
            let change = transactions.change(lsn)?;
            if let Some(ended) = change.ended {
                self.following.at = self.following.at.max(ended);
                self.following.open = None;
                if self.left_open {
                    self.cut(outbox).await?;
                }
            }
            if change.is_known {
                continue;
            }
            self.following.open = Some(change.open);
            found = true;
            if operation == log::UPDATED_FROM {
                before = Some(row);
                continue;
            }
            self.put_captured(operation, &row, before.take().as_ref())?;
            if self.filler.is_full() {
                self.cut(outbox).await?;
            }
        }
        transactions.are_complete()?;
        Ok(found)
    }

    fn put_captured(
        &mut self,
        operation: i32,
        row: &Row,
        before: Option<&Row>,
    ) -> Result<(), Fault> {
        let (target, first) = (&self.target, log::HEAD_COLUMNS + self.target.key_length());
        match operation {
            log::DELETED => {
                target.put_key(row, log::HEAD_COLUMNS, self.filler.begin_row(Op::Delete))
            }
            log::ADDED => target.put_row(row, first, self.filler.begin_row(Op::Insert)),
            log::UPDATED_TO => {
                let (mut old, mut new) = (Vec::new(), Vec::new());
                if let Some(before) = before {
                    target.put_key(before, log::HEAD_COLUMNS, &mut old)?;
                    target.put_key(row, log::HEAD_COLUMNS, &mut new)?;
                }
                let op = if old == new { Op::Update } else { Op::Rekey };
                let out = self.filler.begin_row(op);
                if op == Op::Rekey {
                    out.extend_from_slice(&old);
                }
                target.put_row(row, first, out)
            }
            _ => {
                let what = format!("change data capture tells of an operation {operation}");
                Err(Fault::new(Code::SourceVersion, what))
            }
        }
    }

    /// Everything up to `end` was read.
    async fn end_round(
        &mut self,
        session: &mut Session,
        end: Mark,
        outbox: &mut Outbox<Mark>,
    ) -> Result<(), Fault> {
        self.following.at = self.following.at.max(end);
        let last = self.following.open.take();
        if self.filler.rows() > 0 || self.left_open {
            if let (Log::Captured { .. }, Some(last)) = (&self.identity.log, last) {
                self.committed = log::committed_at(session, last.end).await?;
            }
            self.cut(outbox).await?;
        }
        if let Some(settle) = &self.following.settle_until
            && log::has_settled(session, settle, self.following.at).await?
        {
            self.following.settle_until = None;
        }
        if self.following.settle_until.is_none() && !self.following.told_live {
            self.cut(outbox).await?;
        }
        Ok(())
    }

    /// While nothing changes, hands the position on now and then.
    async fn note(&mut self, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        let moved = self.following.at > self.noted && self.noted_at.elapsed() >= IDLE_INTERVAL;
        if moved && outbox.is_settled() {
            self.cut(outbox).await?;
        }
        Ok(())
    }

    /// Ends the block here and hands it on. While the stream settles, no block tells that the
    /// dataset is consistent; the first after that does.
    async fn cut(&mut self, outbox: &mut Outbox<Mark>) -> Result<(), Fault> {
        let Following { at, open, .. } = self.following;
        let live = self.following.settle_until.is_none();
        self.following.told_live |= live;
        let position = self.identity.log.position(at);
        let sealed = Sealed {
            body: self.filler.take(),
            phase: if live { Phase::Live } else { Phase::Settle },
            tx_open: open.is_some(),
            position: match open {
                None => position,
                Some(open) => format!("{position}+{}", open.changes),
            },
            source_time: self.committed.take(),
        };
        let stage = Stage::Following(self.following.clone());
        let place = Place { identity: self.identity.clone(), stage };
        (self.noted, self.noted_at, self.left_open) = (at, Instant::now(), sealed.tx_open);
        outbox.hand_on(sealed, place.seal(), at).await
    }
}
