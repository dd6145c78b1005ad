//! Reading a table in key order with SELECT alone, so that its rows can be compared.
//!
//! The server orders and compares keys, each column under its own collation; a key is handed back
//! as exact SQL of its column's kind. A server keeps no count of who wrote a row, so rows written
//! since a moment are told only by a column that the agency's own programs keep (`watermark`).

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::server::Server;
use super::session::{Session, statement_timeout};
use super::target::Target;
use super::watermark::Mark;
use super::{key, probe, read};
use crate::source::reconcile::{Job, KeyOrder, Range, Rows};
use crate::source::sharing::Work;
use crate::source::snapshot::KeyText;
use crate::source::throttle::Answers as _;

/// Room that rows on their way to the comparison share.
const BUFFER_BYTES: usize = 16 << 10;

/// One table, read along its key.
pub(super) struct InKeyOrder {
    settings: Arc<Settings>,
    target: Arc<Target>,
    server: Server,
    /// None is kept between two passes: the server would end it, and it would be one more.
    session: Option<Session>,
}

impl InKeyOrder {
    pub(super) fn new(
        settings: &Arc<Settings>,
        target: &Arc<Target>,
        server: Server,
        session: Session,
    ) -> Self {
        let (settings, target) = (Arc::clone(settings), Arc::clone(target));
        Self { settings, target, server, session: Some(session) }
    }

    /// What the comparison of rows has to know.
    pub(super) fn job(&self, watermark: bool) -> Result<Job, Fault> {
        let no_place = || Fault::new(Code::Bug, "there is no place to remember rows in");
        let (settings, target) = (&self.settings, &self.target);
        Ok(Job {
            dataset: target.selection.dataset.clone(),
            table: target.selection.place(),
            keep: settings.keep.clone().ok_or_else(no_place)?,
            columns: Arc::clone(&target.columns),
            key: target.selection.key.clone(),
            walk: target.walk.clone(),
            watermark,
            limits: settings.batch,
            guard: settings.guard.clone(),
            rows_estimated: target.rows_estimated,
        })
    }

    async fn session(&mut self) -> Result<&mut Session, Fault> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(Session::open(&self.settings).await?)),
        }
    }

    async fn take_leave(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    async fn set_limit(&mut self, limit: Duration) -> Result<(), Fault> {
        let (doing, sql) = (self.target.doing(), statement_timeout(self.server.flavour, limit));
        self.session().await?.run(&doing, &sql).await
    }

    /// Hands on the rows of a range; true when all of the table was read.
    async fn hand_on(&mut self, range: &Range, rows: &Rows) -> Result<bool, Fault> {
        let target = Arc::clone(&self.target);
        let (after, upto) = (range.after.as_ref(), range.upto.as_ref());
        let query = format!("{} limit {}", target.chunk_query(after, upto), range.rows_max);
        let count = self.pass_on(&query, rows).await?;
        Ok(range.upto.is_none() && count.is_some_and(|count| count < range.rows_max))
    }

    /// Hands on the rows of a query and counts them; `None` when no more were wanted.
    async fn pass_on(&mut self, query: &str, rows: &Rows) -> Result<Option<u64>, Fault> {
        let target = Arc::clone(&self.target);
        let doing = target.doing();
        let mut found = self.session().await?.read(&doing, query).await?;
        let (mut count, mut tuple, mut buffer) = (0, Vec::new(), BytesMut::new());
        while let Some(row) = found.next().await? {
            tuple.clear();
            read::put_row(&target, &row, &mut tuple)
                .map_err(|error| Fault::because(Code::Bug, doing.as_str(), error))?;
            count += 1;
            if buffer.capacity() < tuple.len() {
                buffer = BytesMut::with_capacity(tuple.len().max(BUFFER_BYTES));
            }
            buffer.extend_from_slice(&tuple);
            if !rows.take(buffer.split().freeze()).await {
                return Ok(None);
            }
        }
        Ok(Some(count))
    }
}

impl KeyOrder for InKeyOrder {
    async fn identify(&mut self) -> Result<String, Fault> {
        let (settings, target) = (Arc::clone(&self.settings), Arc::clone(&self.target));
        let session = self.session().await?;
        let (server, table) = probe::admit_to_read(session, &settings, &target.selection).await?;
        let target = Target::new(target.selection.clone(), &table)?;
        let walk = target.walk_columns();
        let collation = |name: &&str| table.column(name)?.collation.clone();
        let mut orders: Vec<String> = walk.iter().filter_map(collation).collect();
        if !orders.is_empty() {
            // A collation has no version of its own; it may change with the server's.
            orders.push(server.series());
        }
        Ok(format!("{} {} {}", target.fingerprint(), walk.join(","), orders.join(",")))
    }

    async fn read(&mut self, range: &Range, rows: Rows) -> Result<(), Fault> {
        // The limit on silence takes its place, as in a full read: a range that is slow to be
        // carried over would otherwise never end.
        self.set_limit(Duration::ZERO).await?;
        if self.hand_on(range, &rows).await? {
            self.take_leave().await;
            return Ok(());
        }
        self.set_limit(self.settings.guard.statement_timeout).await
    }

    async fn answers(&mut self) -> Result<(), Fault> {
        self.session().await?.answer().await
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        self.session().await?.work().await
    }

    async fn text_of(&mut self, key: &[Vec<u8>]) -> Result<KeyText, Fault> {
        let kinds = self.target.walk_kinds();
        let parts = kinds.iter().zip(key).map(|(kind, part)| key::part(kind, part));
        let text: Option<KeyText> = parts.collect();
        let text = text.filter(|text| text.len() == kinds.len());
        text.ok_or_else(|| Fault::new(Code::Bug, "a key is not what its columns hold"))
    }

    async fn written_since(
        &mut self,
        mark: Option<&str>,
        rows: Rows,
    ) -> Result<Option<String>, Fault> {
        let Some(watermark) = self.target.watermark.clone() else { return Ok(None) };
        let (server, overlap) = (self.server.clone(), self.settings.guard.watermark_overlap);
        // Before the rows are read, so that what is open meanwhile is looked for next time.
        let next = watermark.mark(self.session().await?, &server, overlap).await?;
        if let Some(mark) = mark {
            let query = self.target.written_query(&watermark.condition(&Mark::of(mark)));
            self.set_limit(Duration::ZERO).await?;
            self.pass_on(&query, &rows).await?;
            self.set_limit(self.settings.guard.statement_timeout).await?;
        }
        Ok(next.map(Mark::into_text))
    }
}
