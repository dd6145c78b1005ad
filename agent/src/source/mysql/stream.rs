//! The transport of the log: one connection on which the server sends events as they are written.
//!
//! The driver hands events on unread. MySQL's packed transactions it unpacks by itself and passes
//! over those that it cannot unpack; so they are unpacked here, and its own events are left.

use std::io::Read;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::binlog::events::{Event as RawEvent, GtidEvent};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;

use super::assemble::Name;
use super::event::{BadEvent, Head, Payload};
use super::place::{Position, Tracking};
use super::session::{APPLICATION_NAME, connect};
use super::{Flavour, Settings, said};
use crate::source::Selection;
use tokio::time::{Instant, timeout_at};

/// How often a server with nothing to send says so.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A server that says nothing for so long is not there any more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long the server keeps a connection whose reader is held up by a full spool, in seconds.
const HELD_UP_SECONDS: u32 = 86_400;

/// The largest event inside a packed transaction: the server's own limit on a packet.
const EVENT_BYTES_MAX: u32 = 1 << 30;

/// The log from one position on.
pub(super) struct Log {
    stream: BinlogStream,
    /// Events that the driver unpacked and that were taken in already.
    skip: u64,
    /// When the server last said something, and when it was last asked.
    heard_at: Instant,
    asked_at: Instant,
    doing: String,
}

/// An event as it came.
pub(super) struct Received(RawEvent);

/// What the log says next.
pub(super) enum Next {
    Event(Received),
    /// The file ends inside an event.
    Torn,
}

/// The number under which an agent reads the log of one table: from a range that nobody gives a
/// server by hand, because a reader or server of the same number would be cut off.
fn server_id(agent: &AgentId, selection: &Selection) -> u32 {
    const RANGE: u32 = 0xf000_0000;
    let Selection { dataset, schema, table, .. } = selection;
    let name = format!("{agent} {dataset} {schema}.{table}");
    let digest = Digest::of(name.as_bytes()).to_string();
    let number = digest.get(..7).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    RANGE | number.unwrap_or(0)
}

impl Log {
    /// Begins to read at a position.
    pub(super) async fn open(
        settings: &Settings,
        selection: &Selection,
        position: &Position,
        tracking: Tracking,
    ) -> Result<Self, Fault> {
        let doing = format!("cannot read the log from {position}");
        let (mut conn, flavour) = connect(settings).await?;
        for statement in prepared(flavour) {
            let done = conn.query_drop(statement).await;
            done.map_err(|error| said::plain("cannot prepare reading the log", error))?;
        }
        let request = BinlogStreamRequest::new(server_id(&settings.agent, selection))
            .with_hostname(APPLICATION_NAME.as_bytes());
        let request = if tracking == Tracking::Gtid {
            let sources = position.gtids.sources().map(|source| source.parse::<Sid<'_>>());
            let sources = sources.collect::<Result<Vec<_>, _>>();
            let sources = sources.map_err(|error| Fault::because(Code::Bug, &*doing, error))?;
            request.with_gtid().with_gtid_set(sources)
        } else {
            request.with_filename(position.file.as_bytes()).with_pos(position.offset)
        };
        let stream = conn.get_binlog_stream(request).await;
        let stream = stream.map_err(|error| said::of_log(&*doing, error))?;
        let now = Instant::now();
        Ok(Self { stream, skip: 0, heard_at: now, asked_at: now, doing })
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Result<Next, Fault> {
        // A reader that was held up heard nothing because it did not listen.
        if self.asked_at.elapsed() > HEARTBEAT {
            self.heard_at = Instant::now();
        }
        loop {
            self.asked_at = Instant::now();
            let next = match self.stream.next().now_or_never() {
                Some(next) => next,
                None => {
                    let next = timeout_at(self.heard_at + SILENCE_MAX, self.stream.next()).await;
                    next.map_err(|_| self.broken("the server fell silent"))?
                }
            };
            self.heard_at = Instant::now();
            let event = match next.ok_or_else(|| self.broken("the server ended it"))? {
                Err(error) if said::is_torn(&error) => return Ok(Next::Torn),
                event => event.map_err(|error| said::of_log(&*self.doing, error))?,
            };
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            return Received(event).checked(&self.doing).map(Next::Event);
        }
    }

    fn broken(&self, cause: &'static str) -> Fault {
        Fault::because(Code::SourceUnreachable, &*self.doing, cause)
    }

    /// The next event, if it is there already.
    pub(super) fn next_ready(&mut self) -> Option<Result<Next, Fault>> {
        self.next().now_or_never()
    }

    /// So many events, which come next, were taken in already.
    pub(super) fn pass_over(&mut self, events: u64) {
        self.skip += events;
    }
}

/// What the server is told before it sends.
fn prepared(flavour: Flavour) -> Vec<String> {
    let heartbeat = HEARTBEAT.as_nanos();
    let mut statements = vec![
        format!("set @master_heartbeat_period = {heartbeat}"),
        format!("set session net_write_timeout = {HELD_UP_SECONDS}"),
    ];
    if flavour == Flavour::MariaDb {
        // Otherwise other events, without the transactions' numbers, stand in for its own.
        statements.push("set @mariadb_slave_capability = 4".to_owned());
    }
    statements
}

impl Received {
    /// Refuses an event that did not come as it was written.
    fn checked(self, doing: &str) -> Result<Self, Fault> {
        let event = &self.0;
        let crc = BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32;
        let has_one = event.footer().get_checksum_alg().is_ok_and(|alg| alg == Some(crc));
        let is_filed = self.head().next > 0 && event.header().event_type_raw() != FORMAT;
        if let (true, true, Some(written)) = (has_one, is_filed, event.checksum())
            && u32::from_le_bytes(written) != event.calc_checksum(crc)
        {
            let cause = "an event's checksum is wrong";
            return Err(Fault::because(Code::SourceUnreachable, doing, cause));
        }
        Ok(self)
    }

    /// Its head.
    pub(super) fn head(&self) -> Head {
        let head = self.0.header();
        Head {
            code: head.event_type_raw(),
            timestamp: head.timestamp(),
            server_id: head.server_id(),
            length: head.event_size(),
            next: head.log_pos(),
            flags: head.flags_raw(),
        }
    }

    /// What follows its head, without the checksum.
    pub(super) fn body(&self) -> &[u8] {
        let (head, body) = (self.head(), self.0.data());
        // The first event comes before the one that tells whether checksums follow.
        if head.code == ROTATE { head.without_checksum(body) } else { body }
    }

    /// Bytes that the transaction which begins with it has in the log; 0 where that is not told.
    pub(super) fn transaction_bytes(&self) -> u64 {
        self.0.read_event::<GtidEvent>().map_or(0, |event| event.tx_length())
    }

    /// The transaction that begins with it.
    pub(super) fn name(&self, tracking: Tracking) -> Result<Name, Fault> {
        if tracking != Tracking::Gtid {
            return Ok(Name::Anonymous);
        }
        let broken = |error| {
            Fault::because(Code::SourceVersion, "cannot read the name of a transaction", error)
        };
        let event = self.0.read_event::<GtidEvent>().map_err(broken)?;
        let hex: String = event.sid().iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        let uuid = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
        let source = match event.tag() {
            Some(tag) => format!("{uuid}:{}", tag.as_str()),
            None => uuid,
        };
        Ok(Name::Gtid(source, event.gno()))
    }
}

/// The event with which each file begins, and the one that comes before it.
const FORMAT: u8 = 15;
const ROTATE: u8 = 4;

/// The events of a packed transaction, one at a time, so that a large one needs little memory.
pub(super) struct Unpacked<'a> {
    bytes: Box<dyn Read + Send + 'a>,
    left: u64,
    /// Events so far.
    pub(super) count: u64,
}

impl<'a> Unpacked<'a> {
    /// Begins to unpack.
    pub(super) fn new(payload: Payload<'a>) -> Result<Self, BadEvent> {
        let bytes: Box<dyn Read + Send + 'a> = if payload.is_zstd {
            let decoder = zstd::stream::read::Decoder::with_buffer(payload.packed);
            Box::new(decoder.map_err(|_| BadEvent::Damaged(40))?)
        } else {
            Box::new(payload.packed)
        };
        Ok(Self { bytes, left: payload.unpacked_bytes, count: 0 })
    }

    /// The next event: its head and what follows it.
    pub(super) fn next(&mut self) -> Result<Option<(Head, Vec<u8>)>, BadEvent> {
        if self.left == 0 {
            return Ok(None);
        }
        let damaged = BadEvent::Damaged(40);
        let mut head = [0; Head::BYTES];
        self.bytes.read_exact(&mut head).map_err(|_| damaged)?;
        let head = Head::take(&mut &head[..]).ok_or(damaged)?;
        let length = usize::try_from(head.length.min(EVENT_BYTES_MAX)).map_err(|_| damaged)?;
        let length = length.checked_sub(Head::BYTES).ok_or(damaged)?;
        // Memory is taken as the bytes come, not as the head promises them.
        let mut body = Vec::new();
        let wanted = u64::try_from(length).map_err(|_| damaged)?;
        let taken = self.bytes.by_ref().take(wanted).read_to_end(&mut body);
        if !taken.is_ok_and(|taken| taken == length) {
            return Err(damaged);
        }
        self.left = self.left.checked_sub(u64::from(head.length)).ok_or(damaged)?;
        self.count += 1;
        Ok(Some((head.inside(), body)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::payload;
    use super::super::target::tests::sample;
    use super::*;

    #[test]
    fn numbers_of_agents_are_stable_apart_and_in_a_range_of_their_own() {
        let agent = |name: &str| AgentId::try_from(format!("H57.12/{name}")).unwrap();
        let table = |schema: &str| Selection { schema: schema.to_owned(), ..sample().selection };
        let one = server_id(&agent("may-1"), &table("d"));
        assert_eq!(one, server_id(&agent("may-1"), &table("d")));
        assert_ne!(one, server_id(&agent("may-2"), &table("d")));
        assert_ne!(one, server_id(&agent("may-1"), &table("e")));
        assert!(one >= 0xf000_0000);
    }

    fn packed(events: &[&[u8]]) -> Vec<u8> {
        let mut inner = Vec::new();
        for body in events {
            let length = u32::try_from(Head::BYTES + body.len()).unwrap();
            inner.extend([0, 0, 0, 0, 16, 1, 0, 0, 0]);
            inner.extend(length.to_le_bytes());
            inner.extend([0; 6]);
            inner.extend_from_slice(body);
        }
        let content = zstd::stream::encode_all(&inner[..], 1).unwrap();
        let mut body = vec![2, 1, 0, 3, 1, u8::try_from(inner.len()).unwrap()];
        body.extend([1, 1, u8::try_from(content.len()).unwrap(), 0]);
        body.extend(content);
        body
    }

    #[test]
    fn a_packed_transaction_is_unpacked_whole_or_refused() {
        let body = packed(&[b"one", b"", b"three"]);
        let mut unpacked = Unpacked::new(payload(&body).unwrap()).unwrap();
        let mut bodies = Vec::new();
        while let Some((head, body)) = unpacked.next().unwrap() {
            assert_eq!(head.code, 16);
            bodies.push(body);
        }
        assert_eq!(bodies, [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
        assert_eq!(unpacked.count, 3);
        let cut = body.get(..body.len() - 3).unwrap();
        assert_eq!(payload(cut), Err(BadEvent::Damaged(40)));
        let check = |at: usize, byte: u8| {
            let mut broken = body.clone();
            *broken.get_mut(at).unwrap() = byte;
            let Ok(payload) = payload(&broken) else { return };
            let mut unpacked = Unpacked::new(payload).unwrap();
            let next = std::iter::from_fn(|| unpacked.next().transpose());
            assert!(next.take(4).any(|next| next.is_err()), "byte {at}");
        };
        check(2, 7);
        check(5, 0xf0);
        check(10, 0);
    }
}
