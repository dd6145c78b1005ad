//! The log: changes of one table as they are committed, and the release of what is durable.
//!
//! Two transports carry the same messages. While the lag is large, or others commit so often that
//! being woken each time would cost them too much, the SQL slot functions decode in big strides at
//! little cost; otherwise the walsender pushes each change as it comes. A slot has one user at a
//! time, so one ends before the other begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use pgwire_replication::{PgWireError, ReplicationClient, ReplicationEvent};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::assemble::{Assembler, Incomplete};
use super::catalogue::literal;
use super::decode::{self, Message};
use super::keys;
use super::place::{Identity, Lsn, Place, Stage};
use super::session::Session;
use super::target::Target;
use super::{Settings, said, slot};
use crate::failpoint::Failpoint;
use crate::source::Progress;
use crate::source::outbox::Outbox;
use crate::source::wakes::CALM_FACTOR;

/// Messages in one stride of the slot functions. Each stride decodes from the slot's restart
/// position again, so small strides cost more (measured: 20,000 are four times slower).
const STRIDE_MESSAGES: u64 = 200_000;

/// How often an idle position is handed on, so that the server need not keep what came since.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the walsender's reader looks whether it has fallen behind.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How far behind, as a multiple of `catch_up_bytes`, makes the slot functions worth a change.
const BEHIND_FACTOR: u64 = 4;

/// Between strides that found nothing: at least the linger, and never less than this.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// And at most this; after one that found something, and is late by the pause, less.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const PAUSE_FOUND_MAX: Duration = Duration::from_secs(20);

/// Beside others' work at least this: what a stride costs in any case is spent more seldom.
const PAUSE_BESIDE_MIN: Duration = Duration::from_secs(10);

/// A stride beside others' work that takes longer though it finds little costs too much; for how
/// long the log is then read as it comes.
const STRIDE_MAX: Duration = Duration::from_secs(5);
const STREAMS_FOR: Duration = Duration::from_secs(300);

/// How often in a row a stride beside others' work may fail for want of a connection.
const FAILURES_MAX: u32 = 3;

/// A stride costs what lies between restart and end; the pause is this many times as long.
const PAUSE_FACTOR: u32 = 20;

/// How long the server may take to start sending, and a connection to end.
const START_WAIT: Duration = Duration::from_secs(30);
const END_WAIT: Duration = Duration::from_secs(2);

/// From here on the server can send binary values and knows the option that the walsender
/// transport always sets.
pub(super) const VERSION_WALSENDER: u32 = 140_000;

/// Follows the log of one table.
pub(super) struct Follower {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    /// Reads rows that the log does not hold in full.
    pub(super) reader: Option<Session>,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) slot: String,
    pub(super) version: u32,
    pub(super) standby: bool,
    pub(super) assembler: Assembler,
    pub(super) seen: Arc<AtomicU64>,
    pub(super) progress: watch::Sender<Progress>,
    /// The position of the last block handed on.
    pub(super) noted: Lsn,
    /// When the last block was handed on.
    pub(super) noted_at: Instant,
    /// When the first change of the next block came.
    pub(super) block_since: Option<Instant>,
    /// Whether the last block handed on ended inside a transaction.
    pub(super) left_open: bool,
    /// Until when strides are known to cost more than they are worth.
    pub(super) streams_until: Option<Instant>,
}

impl Follower {
    /// Follows until it is dropped or fails.
    pub(super) async fn run(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        if self.assembler.has_become_live() {
            self.cut(outbox).await?;
        }
        let _counted = self.settings.guard.turns.follow();
        loop {
            if self.version < VERSION_WALSENDER || self.target.through.is_some() {
                self.stride(outbox, false).await?;
            } else {
                if self.lag().await? > self.settings.catch_up_bytes.0 {
                    self.stride(outbox, true).await?;
                }
                if self.is_burden(1.0) {
                    let table = self.target.selection.place();
                    tracing::info!("Others commit often; the log of {table} is read in strides");
                    self.stride_beside_others(outbox).await?;
                }
                self.stream(outbox).await?;
            }
        }
    }

    /// Whether being woken by `factor` times as many commits as there are would cost others too much.
    fn is_burden(&self, factor: f64) -> bool {
        if self.streams_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let commits = self.settings.watchers.commits_per_second();
        self.settings.guard.turns.forbid_waking(commits * factor)
    }

    async fn lag(&self) -> Result<u64, Fault> {
        let session = Session::open(&self.settings).await?;
        let end = slot::end_of_log(&session, self.standby).await?;
        Ok(end.0.saturating_sub(self.assembler.following().at.0))
    }

    fn is_binary(&self) -> bool {
        self.version >= VERSION_WALSENDER && !self.settings.log_as_text
    }

    /// Ends the block here and hands it on.
    async fn cut(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        let sealed = self.assembler.seal();
        let following = self.assembler.following().clone();
        let at = following.at;
        let stage = Stage::Following(following);
        let identity = self.identity.borrow().clone();
        let place = Place { identity, slot: self.slot.clone(), stage };
        (self.noted, self.noted_at, self.block_since) = (at, Instant::now(), None);
        self.left_open = sealed.tx_open;
        outbox.hand_on(sealed, place.seal(), at).await
    }

    /// Takes a message in; ends the block where it is full, or lingered and a transaction ended, or
    /// a transaction ended that began in an earlier block: what the hub has of it waits for that,
    /// and were the next one begun in the same block, it would wait for the next as well.
    async fn message(
        &mut self,
        message: Message<'_>,
        outbox: &mut Outbox<Lsn>,
    ) -> Result<(), Fault> {
        if let Some(change) = self.assembler.take(message)? {
            self.complete(&change).await?;
        }
        self.seen.store(self.assembler.following().at.0, Ordering::Relaxed);
        if self.left_open && self.assembler.is_between_transactions() {
            return self.cut(outbox).await;
        }
        if self.assembler.rows() == 0 {
            return Ok(());
        }
        let since = *self.block_since.get_or_insert_with(Instant::now);
        let lingered = || since.elapsed() >= self.settings.batch.linger;
        if self.assembler.is_full() || (!self.assembler.in_transaction() && lingered()) {
            self.cut(outbox).await?;
        }
        Ok(())
    }

    /// Reads the row of a change from the table.
    async fn complete(&mut self, change: &Incomplete) -> Result<(), Fault> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Session::open(&self.settings).await?),
        };
        let bytes_max = self.settings.batch.row_bytes_max.0;
        let row = keys::row_of(reader, &self.target, &change.walk, bytes_max).await?;
        slot::wait_until_on_disk(reader, self.standby).await?;
        if row.is_none() {
            // What became of the row is told before this position; until then the log's later
            // changes of it may be as incomplete as this one.
            let until = slot::insert_position(reader, self.standby).await?;
            self.assembler.settle_until(until);
        }
        self.assembler.complete(change, row.as_deref());
        Ok(())
    }

    /// Hands on an empty block when the dataset has become consistent, and, while nothing
    /// changes, the position now and then. Only a position in a block is ever released: so a
    /// slot that stands beyond the last durable block was moved by someone else.
    async fn note_idle(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        if self.assembler.rows() > 0 || self.assembler.in_transaction() {
            return Ok(());
        }
        let moved = self.assembler.following().at > self.noted
            && self.noted_at.elapsed() >= IDLE_INTERVAL
            && outbox.is_settled();
        if moved || self.assembler.has_become_live() {
            self.cut(outbox).await?;
        }
        Ok(())
    }

    /// Reads from the walsender until it fails or falls far behind.
    async fn stream(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        self.assembler.reconnected();
        self.progress.send_modify(|progress| progress.poll_pause = None);
        let mut client = self.start_walsender().await?;
        let mut look = interval(LOOK_INTERVAL);
        loop {
            let deadline =
                self.block_since.unwrap_or_else(Instant::now) + self.settings.batch.linger;
            let may_cut = self.block_since.is_some() && !self.assembler.in_transaction();
            tokio::select! {
                event = client.recv() => {
                    let mut next = Some(event);
                    while let Some(event) = next {
                        self.event(event, outbox).await?;
                        next = client.recv().now_or_never();
                    }
                }
                more = outbox.more_durable() => more?,
                () = sleep_until(deadline), if may_cut => self.cut(outbox).await?,
                _ = look.tick() => {
                    let burden = self.is_burden(1.0);
                    if burden && self.assembler.rows() > 0 {
                        self.cut(outbox).await?;
                    }
                    if burden || self.is_far_behind() { break }
                }
            }
            if let Some(lsn) = outbox.released() {
                client.update_applied_lsn(pgwire_replication::Lsn(lsn.0));
                // Whether the server heard it is open here, as it is when a connection breaks.
                Failpoint::AfterSourceReleased.pass();
            }
            self.note_idle(outbox).await?;
        }
        if timeout(END_WAIT, client.shutdown()).await.is_err() {
            client.abort();
        }
        Ok(())
    }

    fn publication(&self) -> String {
        self.settings.publication(&self.target.selection.dataset)
    }

    async fn start_walsender(&self) -> Result<ReplicationClient, Fault> {
        let what = || format!("cannot read the log from slot {}", self.slot);
        let config = slot::replication(&self.settings, &self.slot, &self.publication())
            .with_start_lsn(pgwire_replication::Lsn(self.assembler.following().at.0))
            .with_binary(self.is_binary());
        let started = async {
            let mut client = ReplicationClient::connect(config).await?;
            client.wait_started().await?;
            Ok::<_, PgWireError>(client)
        };
        match timeout(START_WAIT, started).await {
            Ok(client) => client.map_err(|error| said::of_replication(what(), error, false)),
            Err(_) => Err(Fault::new(Code::SourceUnreachable, format!("{}: silence", what()))),
        }
    }

    async fn event(
        &mut self,
        event: Result<Option<ReplicationEvent>, PgWireError>,
        outbox: &mut Outbox<Lsn>,
    ) -> Result<(), Fault> {
        let what = || format!("cannot go on reading the log from slot {}", self.slot);
        let event = event.map_err(|error| said::of_replication(what(), error, false))?;
        match event {
            Some(ReplicationEvent::XLogData { data, .. }) => {
                let message = decode::read(&data)
                    .map_err(|error| Fault::because(Code::Bug, what(), error))?;
                self.message(message, outbox).await
            }
            Some(ReplicationEvent::Begin { final_lsn, commit_time_micros, .. }) => {
                let (final_lsn, commit_micros) = (final_lsn.0, commit_time_micros);
                self.message(Message::Begin { final_lsn, commit_micros }, outbox).await
            }
            Some(ReplicationEvent::Commit { end_lsn, .. }) => {
                self.message(Message::Commit { end_lsn: end_lsn.0 }, outbox).await
            }
            Some(ReplicationEvent::KeepAlive { wal_end, .. }) => {
                self.assembler.idle(Lsn(wal_end.0));
                self.seen.store(self.assembler.following().at.0, Ordering::Relaxed);
                Ok(())
            }
            Some(ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. }) => Ok(()),
            None => Err(Fault::new(Code::SourceUnreachable, what())),
        }
    }

    /// Whether the slot functions would get through what has piled up much faster.
    fn is_far_behind(&self) -> bool {
        let limit = self.settings.catch_up_bytes.0.saturating_mul(BEHIND_FACTOR);
        let is_quiet = self.block_since.is_none() && !self.assembler.in_transaction();
        is_quiet && self.progress.borrow().lag_bytes.is_some_and(|lag| lag > limit)
    }

    /// Reads through the slot functions, stride by stride; returns when caught up, if asked to.
    async fn stride(
        &mut self,
        outbox: &mut Outbox<Lsn>,
        until_caught_up: bool,
    ) -> Result<(), Fault> {
        self.assembler.reconnected();
        let session = self.open_for_strides().await?;
        loop {
            self.release(&session, outbox).await?;
            let begun = Instant::now();
            let (messages, end) = self.one_stride(&session, outbox).await?;
            let took = begun.elapsed();
            self.after_stride(outbox).await?;
            let lag = end.0.saturating_sub(self.assembler.following().at.0);
            if until_caught_up && lag <= self.settings.catch_up_bytes.0 {
                return self.release(&session, outbox).await;
            }
            let pause = match messages {
                STRIDE_MESSAGES.. => Duration::ZERO,
                found => pause_after(took, self.settings.batch.linger, found > 0),
            };
            self.pause(pause).await;
        }
    }

    /// The same while others commit often: few datasets at a time, and none keeps a connection
    /// meanwhile. Returns when they do no more, or when a stride costs more than it is worth: beside a
    /// transaction that is open for long, each decodes everything since it began.
    async fn stride_beside_others(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        let mut failures = 0;
        loop {
            self.assembler.reconnected();
            // Before a connection is taken: the spool may be full for days.
            let free = outbox.all_durable().await?;
            let (messages, took) = match self.stride_in_turn(free, outbox).await {
                Ok(done) => done,
                Err(fault) if failures < FAILURES_MAX && is_passing(&fault) => {
                    failures += 1;
                    self.pause(PAUSE_BESIDE_MIN).await;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            failures = 0;
            self.after_stride(outbox).await?;
            if messages < STRIDE_MESSAGES && took > STRIDE_MAX {
                self.streams_until = Some(Instant::now() + STREAMS_FOR);
            }
            if !self.is_burden(CALM_FACTOR) {
                return Ok(());
            }
            if messages < STRIDE_MESSAGES {
                let pause = pause_after(took, self.settings.batch.linger, true);
                self.pause(pause.max(PAUSE_BESIDE_MIN)).await;
            }
        }
    }

    /// One stride through a connection of its own; how many messages it found, and how long it took.
    async fn stride_in_turn(
        &mut self,
        free: Option<Lsn>,
        outbox: &mut Outbox<Lsn>,
    ) -> Result<(u64, Duration), Fault> {
        let watchers = self.settings.watchers.clone();
        let _turn = watchers.stride().await;
        let begun = Instant::now();
        let session = self.open_for_strides().await?;
        if let Some(lsn) = free {
            self.release_to(&session, lsn).await?;
        }
        let (messages, _) = self.one_stride(&session, outbox).await?;
        Ok((messages, begun.elapsed()))
    }

    async fn after_stride(&mut self, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        if self.assembler.rows() > 0 {
            self.cut(outbox).await?;
        }
        self.note_idle(outbox).await?;
        self.seen.store(self.assembler.following().at.0, Ordering::Relaxed);
        Ok(())
    }

    async fn pause(&self, pause: Duration) {
        self.progress.send_modify(|progress| progress.poll_pause = Some(pause));
        sleep(pause).await;
    }

    async fn open_for_strides(&self) -> Result<Session, Fault> {
        let session = Session::open(&self.settings).await?;
        // A stride may take minutes inside one large transaction; the limit on silence holds.
        session.run("cannot prepare for reading", "set statement_timeout = 0").await?;
        slot::wait_until_free(&session, &self.slot).await?;
        Ok(session)
    }

    /// Waits until all that was handed on is durable, and lets the server forget it.
    async fn release(&self, session: &Session, outbox: &mut Outbox<Lsn>) -> Result<(), Fault> {
        let Some(lsn) = outbox.all_durable().await? else { return Ok(()) };
        self.release_to(session, lsn).await
    }

    async fn release_to(&self, session: &Session, lsn: Lsn) -> Result<(), Fault> {
        if let Some(functions) = &self.target.through {
            functions.advance(session, lsn).await?;
            Failpoint::AfterSourceReleased.pass();
            return Ok(());
        }
        let doing = format!("cannot release what was read from slot {}", self.slot);
        // Nothing to do where an earlier connection confirmed it already.
        let sql = "select pg_replication_slot_advance(slot_name, $2::text::pg_lsn) \
                   from pg_replication_slots \
                   where slot_name::text = $1 and confirmed_flush_lsn < $2::text::pg_lsn";
        session.rows(&doing, sql, &[&self.slot, &lsn.to_string()]).await?;
        Failpoint::AfterSourceReleased.pass();
        Ok(())
    }

    /// Takes in what there is, up to a limit; how many messages, and where the log ended before.
    async fn one_stride(
        &mut self,
        session: &Session,
        outbox: &mut Outbox<Lsn>,
    ) -> Result<(u64, Lsn), Fault> {
        let end = slot::end_of_log(session, self.standby).await?;
        let doing = format!("cannot read the log from slot {}", self.slot);
        let query = self.peek_query();
        let broken = |error| Fault::because(Code::Bug, doing.clone(), error);
        let mut rows = session.copy(&doing, &query).await?;
        let mut messages = 0;
        while let Some(row) = rows.next().await? {
            let tuple = Tuple::take(&mut &*row).map_err(|_| broken(decode::BadMessage::Cut))?;
            let Some(Field::Value(data)) = tuple.fields().next() else {
                return Err(broken(decode::BadMessage::Cut));
            };
            messages += 1;
            let message = decode::read(data).map_err(broken)?;
            self.message(message, outbox).await?;
        }
        if messages < STRIDE_MESSAGES {
            self.assembler.idle(end);
        }
        Ok((messages, end))
    }

    fn peek_query(&self) -> String {
        if let Some(functions) = &self.target.through {
            return functions.peek_query(STRIDE_MESSAGES);
        }
        let (name, publication) = (literal(&self.slot), literal(&self.publication()));
        let binary = if self.is_binary() { ", 'binary', 'true'" } else { "" };
        format!(
            "select data from pg_logical_slot_peek_binary_changes({name}, null, {STRIDE_MESSAGES}, \
             'proto_version', '1', 'publication_names', {publication}{binary})"
        )
    }
}

/// Whether it may well go away by itself, on a server that has much to do.
fn is_passing(fault: &Fault) -> bool {
    matches!(fault.code, Code::SourceUnreachable | Code::SourceSlotBusy)
}

/// How long to wait after a stride that took so long and left nothing unread: a server that has to
/// decode much is asked less often, and one that had nothing to tell may be asked later still.
fn pause_after(stride: Duration, linger: Duration, found: bool) -> Duration {
    let (least, most) = (linger.max(PAUSE_MIN), if found { PAUSE_FOUND_MAX } else { PAUSE_MAX });
    stride.saturating_mul(PAUSE_FACTOR).clamp(least, most.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_costly_stride_is_followed_by_a_long_pause_within_bounds() {
        let check = |stride: u64, linger: u64, [nothing, found]: [u64; 2]| {
            let millis = Duration::from_millis;
            let after = |found| pause_after(millis(stride), millis(linger), found);
            assert_eq!([after(false), after(true)], [millis(nothing), millis(found)]);
        };
        check(0, 0, [10, 10]);
        check(1, 50, [50, 50]);
        check(5, 50, [100, 100]);
        check(800, 50, [16_000, 16_000]);
        check(4_000, 50, [30_000, 20_000]);
        check(4_000, 60_000, [60_000, 60_000]);
    }
}
