//! The log: changes of one table as they are committed.

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::assemble::{Asks, Assembler, Incomplete};
use super::event::{self, BadEvent, Event, Head};
use super::place::{Identity, Place, Position, Stage, Tracking};
use super::server::Server;
use super::session::Session;
use super::stream::{Log, Next, Received, Unpacked};
use super::strides::{REST, Strides};
use super::target::Target;
use super::{Settings, packed, probe, read};
use crate::source::outbox::Outbox;

/// How often an idle position is handed on, so that it does not age out of the server's log.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// How often an idle position is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may take to say where its log ends.
const ASK_WAIT: Duration = Duration::from_secs(5);

/// Follows the log of one table.
pub(super) struct Follower {
    pub(super) settings: Arc<Settings>,
    pub(super) target: Arc<Target>,
    pub(super) server: Server,
    /// Reads rows that the log does not hold in full, and looks at the table again.
    pub(super) reader: Option<Session>,
    pub(super) identity: Identity,
    pub(super) assembler: Assembler,
    /// The position of the last block handed on.
    pub(super) noted: String,
    /// When the last block was handed on.
    pub(super) noted_at: Instant,
    /// When the first change of the next block came.
    pub(super) block_since: Option<Instant>,
    /// Whether the last block handed on ended inside a transaction.
    pub(super) left_open: bool,
    /// Whether transactions may be packed in the log, and whether they are known to be.
    pub(super) packs: Option<bool>,
    /// When it rests.
    pub(super) strides: Strides,
}

impl Follower {
    /// Follows until it is dropped or fails.
    pub(super) async fn run(&mut self, outbox: &mut Outbox<()>) -> Result<(), Fault> {
        if self.assembler.has_become_live() {
            self.cut(outbox).await?;
        }
        loop {
            let (target, at) = (Arc::clone(&self.target), self.assembler.following().at.clone());
            let tracking = self.identity.tracking;
            let log = Log::open(&self.settings, &target.selection, &at, tracking).await?;
            self.assembler.reconnected();
            self.run_to_tear(log, outbox).await?;
            self.go_past_tear().await?;
        }
    }

    /// Follows until the log's file ends inside an event.
    async fn run_to_tear(&mut self, mut log: Log, outbox: &mut Outbox<()>) -> Result<(), Fault> {
        let mut look = interval(LOOK_INTERVAL);
        loop {
            let deadline =
                self.block_since.unwrap_or_else(Instant::now) + self.settings.batch.linger;
            let may_cut = self.block_since.is_some() && !self.assembler.in_transaction();
            tokio::select! {
                received = log.next() => {
                    let mut next = Some(received);
                    while let Some(received) = next {
                        let Next::Event(received) = received? else { return Ok(()) };
                        self.received(&received, &mut log, outbox).await?;
                        next = log.next_ready();
                    }
                }
                () = sleep_until(deadline), if may_cut => self.cut(outbox).await?,
                _ = look.tick() => {}
            }
            self.note_idle(outbox).await?;
            self.rest(outbox).await?;
        }
    }

    /// Rests where others commit so often that waking the sender each time would cost them too much.
    async fn rest(&mut self, outbox: &mut Outbox<()>) -> Result<(), Fault> {
        if self.strides.asks(Instant::now()) {
            self.strides.end = self.end_of_log().await;
        }
        let Some(end) = &self.strides.end else { return Ok(()) };
        let (at, tracking) = (&self.assembler.following().at, self.identity.tracking);
        if self.assembler.in_transaction() || !at.has_reached(end, tracking) {
            return Ok(());
        }
        let before = self.strides.is_on();
        if !self.strides.reached(Instant::now()) {
            return Ok(());
        }
        if !before {
            let table = self.target.selection.place();
            tracing::info!("Others commit often; the log of {table} is read in strides");
        }
        if self.assembler.rows() > 0 {
            self.cut(outbox).await?;
        }
        sleep(REST).await;
        Ok(())
    }

    /// Where the log ends, if the server says so. Through a connection of its own, which a busy server
    /// gets back at once; and one that has none to spare is followed as before.
    async fn end_of_log(&self) -> Option<Position> {
        let ask = async {
            let mut session = Session::open(&self.settings).await?;
            let end = self.server.end_of_log(&mut session).await;
            session.close().await;
            end
        };
        timeout(ASK_WAIT, ask).await.ok()?.ok()
    }

    /// Goes on in the file after one that ends inside an event. The server was ended while it wrote
    /// the last transaction, so that was never committed; that nothing else is missing is shown by
    /// the transactions that the server says come before the next file: just those taken in.
    async fn go_past_tear(&mut self) -> Result<(), Fault> {
        let (file, server) = (self.assembler.reached().0.to_owned(), self.server.clone());
        let gap = |why: &str| {
            let what = format!("log file {file} ends inside an event, and {why}");
            Err(Fault::new(Code::SourceGap, what))
        };
        if self.identity.tracking != Tracking::FileWithDomains {
            return gap("the server does not tell what comes before the next");
        }
        let reader = self.reader().await?;
        let Some(next) = server.file_after(reader, &file).await? else {
            let what = format!("log file {file} ends inside an event, and there is none after it");
            return Err(Fault::new(Code::SourceUnreachable, what));
        };
        let before = server.domains_before(reader, &next).await?;
        if before.as_ref() != Some(&self.assembler.following().at.domains) {
            return gap("the next does not begin with what was read");
        }
        tracing::info!(dataset = %self.target.selection.dataset, "Log file {file} ends inside an event, as a crash of the server leaves it; reading goes on in {next}");
        self.assembler.torn(next)
    }

    async fn received(
        &mut self,
        received: &Received,
        log: &mut Log,
        outbox: &mut Outbox<()>,
    ) -> Result<(), Fault> {
        let head = received.head();
        let event = event::read(head, received.body()).map_err(|error| self.refused(error))?;
        if matches!(event, Event::Gtid | Event::Domain { .. }) {
            self.strides.came += 1;
        }
        if event == Event::Gtid {
            self.assembler.named(received.name(self.identity.tracking)?);
        }
        self.event(head, &event, outbox).await?;
        if let (Event::Gtid, Some(packs)) = (&event, self.packs)
            && packed::must_be_asked(received.transaction_bytes(), packs)
        {
            let (file, offset) = self.assembler.reached();
            let file = file.to_owned();
            packed::check(self.reader().await?, (&file, offset)).await?;
        }
        let Event::Payload(body) = event else { return Ok(()) };
        self.packs = Some(true);
        let payload = event::payload(body).map_err(|error| self.refused(error))?;
        let mut unpacked = Unpacked::new(payload).map_err(|error| self.refused(error))?;
        while let Some((head, body)) = unpacked.next().map_err(|error| self.refused(error))? {
            let event = event::read(head, &body).map_err(|error| self.refused(error))?;
            self.event(head, &event, outbox).await?;
        }
        log.pass_over(unpacked.count);
        Ok(())
    }

    /// The stream ends here until a version comes that understands it: nothing is skipped.
    fn refused(&self, error: BadEvent) -> Fault {
        let at = &self.assembler.following().at;
        Fault::because(Code::SourceVersion, format!("cannot go past an event after {at}"), error)
    }

    /// Takes an event in; ends the block where it is full, or lingered and a transaction ended, or
    /// a transaction ended that began in an earlier block: what the hub has of it waits for that,
    /// and were the next one begun in the same block, it would wait for the next as well.
    async fn event(
        &mut self,
        head: Head,
        event: &Event<'_>,
        outbox: &mut Outbox<()>,
    ) -> Result<(), Fault> {
        match self.assembler.take(head, event)? {
            Asks::Nothing => {}
            Asks::Look => self.look_again().await?,
            Asks::Rows(mut cursor) => {
                while let Some(change) = self.assembler.advance(&mut cursor)? {
                    self.complete(&change).await?;
                }
            }
        }
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

    /// Ends the block here and hands it on.
    async fn cut(&mut self, outbox: &mut Outbox<()>) -> Result<(), Fault> {
        let sealed = self.assembler.seal();
        let following = self.assembler.following().clone();
        self.noted = following.at.to_string();
        (self.noted_at, self.block_since) = (Instant::now(), None);
        self.left_open = sealed.tx_open;
        let place = Place { identity: self.identity.clone(), stage: Stage::Following(following) };
        outbox.hand_on(sealed, place.seal(), ()).await
    }

    /// Hands on an empty block when the dataset has become consistent, and, while nothing changes,
    /// the position now and then.
    async fn note_idle(&mut self, outbox: &mut Outbox<()>) -> Result<(), Fault> {
        if self.assembler.rows() > 0 || self.assembler.in_transaction() {
            return Ok(());
        }
        let moved = self.noted_at.elapsed() >= IDLE_INTERVAL
            && outbox.is_settled()
            && self.assembler.following().at.to_string() != self.noted;
        if moved || self.assembler.has_become_live() {
            self.cut(outbox).await?;
        }
        Ok(())
    }

    async fn reader(&mut self) -> Result<&mut Session, Fault> {
        match &mut self.reader {
            Some(reader) => Ok(reader),
            reader => Ok(reader.insert(Session::open(&self.settings).await?)),
        }
    }

    /// Reads the row of a change from the table. It may be newer than the change; so may be
    /// whatever the log tells of it from here to its end.
    async fn complete(&mut self, change: &Incomplete) -> Result<(), Fault> {
        let (target, server) = (Arc::clone(&self.target), self.server.clone());
        let reader = self.reader().await?;
        let row = read::row_of(reader, &target, &change.walk).await?;
        let until = server.end_of_log(reader).await?;
        self.assembler.settle_until(until);
        self.assembler.complete(change, row.as_deref());
        Ok(())
    }

    /// The table was altered: goes on if nothing that is read of it has changed.
    async fn look_again(&mut self) -> Result<(), Fault> {
        let (settings, target) = (Arc::clone(&self.settings), Arc::clone(&self.target));
        let reader = self.reader().await?;
        let probe::Admitted { server, table, .. } =
            probe::admit(reader, &settings, &target.selection).await?;
        let now = Target::new(target.selection.clone(), &table)?;
        // Where the log names columns, it does not matter where they stand.
        let is_same = now.fingerprint() == target.fingerprint();
        if is_same && (server.names_columns() || now.is_like(&target)) {
            return Ok(());
        }
        let (schema, table) = target.logged_names();
        let what = format!("{schema}.{table} was altered; it is looked at anew");
        Err(Fault::new(Code::SourceSchema, what))
    }
}
