//! Reading a table in key order with SELECT alone, so that its rows can be compared.
//!
//! The server orders and compares keys, each column under its own collation; a key is handed back
//! as a parameter of its column's type. Its text is made of the row as it came, so the texts of
//! rows that were handed on and may not have been compared yet are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use phusa_protocol::fault::{Code, Fault};

use super::session::Session;
use super::target::Target;
use super::{Settings, probe};
use crate::source::reconcile::{Job, KeyOrder, ROWS_WAITING, Range, Rows};
use crate::source::sharing::Work;
use crate::source::snapshot::KeyText;
use crate::source::throttle::Answers as _;

/// One table, read along its key.
pub(super) struct InKeyOrder {
    settings: Arc<Settings>,
    target: Arc<Target>,
    snapshots: bool,
    /// None is kept between two passes.
    session: Option<Session>,
    /// The last keys that were handed on: their parts as they lie in the row, and as text.
    recent: VecDeque<(Vec<Vec<u8>>, KeyText)>,
}

impl InKeyOrder {
    pub(super) fn new(settings: &Arc<Settings>, target: Target, snapshots: bool) -> Self {
        let (settings, target) = (Arc::clone(settings), Arc::new(target));
        Self { settings, target, snapshots, session: None, recent: VecDeque::new() }
    }

    /// What the comparison of rows has to know.
    pub(super) fn job(&self) -> Result<Job, Fault> {
        let no_place = || Fault::new(Code::Bug, "there is no place to remember rows in");
        let (settings, target) = (&self.settings, &self.target);
        Ok(Job {
            dataset: target.selection.dataset.clone(),
            table: target.selection.place(),
            keep: settings.keep.clone().ok_or_else(no_place)?,
            columns: Arc::clone(&target.columns),
            key: target.selection.key.clone(),
            walk: target.walk.clone(),
            watermark: false,
            limits: settings.batch,
            guard: settings.guard.clone(),
            rows_estimated: target.rows_estimated,
        })
    }

    /// Hands on the rows of a range; true when all of the table was read.
    async fn hand_on(
        &mut self,
        session: &mut Session,
        range: &Range,
        rows: &Rows,
    ) -> Result<bool, Fault> {
        let target = Arc::clone(&self.target);
        let (after, upto) = (range.after.as_ref(), range.upto.as_ref());
        let statement = target.chunk(after, upto, Some(range.rows_max));
        let doing = target.doing();
        let mut found = session.stream(&doing, &statement.sql, &statement.params).await?;
        let mut count = 0;
        while let Some(row) = found.next().await? {
            let mut tuple = Vec::new();
            target.put_row(&row, 0, &mut tuple)?;
            // As many as wait for the comparison, the one it has, and the one that is handed on.
            if self.recent.len() > ROWS_WAITING + 1 {
                self.recent.pop_front();
            }
            self.recent.push_back((target.walk_parts(&row)?, target.walk_key(&row)?));
            count += 1;
            if !rows.take(Bytes::from(tuple)).await {
                return Ok(false);
            }
        }
        Ok(range.upto.is_none() && count < range.rows_max)
    }
}

/// A connection that reads in snapshots where the database allows it.
async fn session(settings: &Settings, snapshots: bool) -> Result<Session, Fault> {
    let mut session = Box::pin(Session::open(settings)).await?;
    session.isolate(snapshots).await?;
    Ok(session)
}

impl KeyOrder for InKeyOrder {
    async fn identify(&mut self) -> Result<String, Fault> {
        let selection = &self.target.selection;
        // Before isolation: the catalogue is not read in a snapshot.
        let mut session = Box::pin(Session::open(&self.settings)).await?;
        let admitted = probe::admit_to_read(&mut session, &self.settings, selection).await?;
        let (server, table) = admitted;
        session.isolate(server.snapshots).await?;
        (self.snapshots, self.session) = (server.snapshots, Some(session));
        let target = Target::new(selection.clone(), &table)?;
        let walk = target.walk.iter().filter_map(|&at| target.columns.get(at));
        // The version of a collation is part of its name.
        let order = |column: &crate::source::Column| {
            let collation = table.attribute(&column.name).map(|found| found.collation.as_str());
            format!("{} {}", column.name, collation.unwrap_or_default())
        };
        let orders: Vec<String> = walk.map(order).collect();
        Ok(format!("{} {}", target.fingerprint(), orders.join(",")))
    }

    async fn read(&mut self, range: &Range, rows: Rows) -> Result<(), Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Box::pin(session(&self.settings, self.snapshots)).await?,
        };
        if !self.hand_on(&mut session, range, &rows).await? {
            self.session = Some(session);
        }
        Ok(())
    }

    async fn answers(&mut self) -> Result<(), Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Box::pin(session(&self.settings, self.snapshots)).await?,
        };
        session.answer().await?;
        self.session = Some(session);
        Ok(())
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        Ok(None)
    }

    async fn text_of(&mut self, key: &[Vec<u8>]) -> Result<KeyText, Fault> {
        let found = self.recent.iter().rev().find(|(parts, _)| parts == key);
        let text = found.map(|(_, text)| text.clone());
        text.ok_or_else(|| Fault::new(Code::Bug, "a key was not among the last ones read"))
    }

    async fn written_since(&mut self, _: Option<&str>, _: Rows) -> Result<Option<String>, Fault> {
        Ok(None)
    }
}
