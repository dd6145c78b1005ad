//! `Source`: the small trait each engine fills (probe, capture, scan) and its contract in words.
//!
//! A source reads and never writes, but for what capture itself needs. It selects the columns it
//! was told and no others. It hands on [`Block`]s: changes in the body form of
//! [`phusa_protocol::change`], with fields still in the source's own types, each block with the
//! place to resume from once it is durable. It knows nothing of contracts, masks, spool or hub.

pub mod guard;
pub mod settings;
mod outbox;
pub mod sharing;
pub mod throttle;
mod wakes;
mod scanned;
pub mod snapshot;
mod reconcile;
pub mod postgres;
pub mod mysql;
pub mod sqlserver;
pub mod any;

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::batch::Phase;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How the changes of a table are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// The best that the source allows, by what a probe finds.
    #[default]
    Auto,
    /// The database's log, read by a login that has the right to.
    Log,
    /// The database's log, through functions that show the login nothing but the mapped columns.
    Functions,
    /// What was written since the last look, by the server's own count of transactions or a column
    /// of times; what was removed is found by comparing all rows now and then.
    Watermark,
    /// All rows are read now and then and compared with those of before.
    Reconcile,
}

impl Capture {
    /// As it is written in a dataset's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Log => "log",
            Self::Functions => "functions",
            Self::Watermark => "watermark",
            Self::Reconcile => "reconcile",
        }
    }
}

/// What is read of one table: these columns in this order, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The dataset it feeds.
    pub dataset: DatasetId,
    /// Schema of the table at the source.
    pub schema: String,
    /// The table at the source.
    pub table: String,
    /// The mapped columns, in the order of the mapping.
    pub columns: Vec<String>,
    /// Which of `columns` make up the contract's key, in the contract's key order.
    pub key: Vec<usize>,
    /// The part of the row filter that the source can evaluate, as SQL over `columns`.
    pub filter: Option<String>,
    /// How changes are to be found.
    pub capture: Capture,
    /// The column that tells when a row was last written, for engines that have nothing of their
    /// own that does.
    pub watermark: Option<String>,
}

/// How a field's bytes are to be read: PostgreSQL's binary send format of this type, but for the two
/// that PostgreSQL does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Native {
    /// 1 byte.
    Bool,
    /// 2 bytes.
    Int2,
    /// 4 bytes.
    Int4,
    /// 8 bytes.
    Int8,
    /// Base-10000 digits.
    Numeric,
    /// 4 bytes.
    Float4,
    /// 8 bytes.
    Float8,
    /// text, varchar, char(n), citext, name, xml, and enums by their label.
    Text,
    /// Any bytes.
    Bytea,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since midnight and seconds west of UTC.
    Timetz,
    /// Microseconds since 2000-01-01.
    Timestamp,
    /// Microseconds since 2000-01-01 UTC.
    Timestamptz,
    /// Microseconds, days, months.
    Interval,
    /// 16 bytes.
    Uuid,
    /// JSON text as written.
    Json,
    /// Version byte and normalised JSON text.
    Jsonb,
    /// Address family, bits, flag, length, address.
    Inet,
    /// As inet.
    Cidr,
    /// 6 bytes.
    Macaddr,
    /// Flags, then the bounds present, each with its length.
    Range(Box<Native>),
    /// Dimensions, element type, elements.
    Array(Box<Native>),
    /// A time or timestamp that counts tenths of a microsecond where the type itself counts
    /// microseconds.
    Tenths(Box<Native>),
    /// Tenths of a microsecond since 2000-01-01 UTC, then 2 bytes: minutes east of UTC.
    OffsetTenths,
}

/// One column of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name at the source.
    pub name: String,
    /// Its type as the source's catalogue names it, for messages.
    pub type_name: String,
    /// How its bytes are read.
    pub native: Native,
    /// Whether the source allows null in it.
    pub nullable: bool,
}

/// Where a capture goes on: opaque outside the engine. It may hold key values, so it is stored
/// sealed and never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume(pub Vec<u8>);

impl Selection {
    /// The table as people write it.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resume({} bytes)", self.0.len())
    }
}

/// A stretch of changes, the unit that becomes one batch.
#[derive(Debug)]
pub struct Block {
    /// Rises by one with each block of a capture, from 1.
    pub number: u64,
    /// The columns of every row in `body`, as they were when the rows were read.
    pub columns: Arc<[Column]>,
    /// Runs of changes; fields in `columns` order, keys in [`Selection::key`] order.
    pub body: Vec<u8>,
    /// Where the stream is in its life.
    pub phase: Phase,
    /// Whether the block ends inside a source transaction.
    pub tx_open: bool,
    /// The position at its end, for the log; nothing personal.
    pub position: String,
    /// Where to go on once this block and all before it are durable.
    pub resume: Resume,
    /// When it was read.
    pub read_at: Timestamp,
    /// Commit time of its last transaction; for a full read, `read_at`.
    pub source_time: Timestamp,
}

/// How a capture begins.
#[derive(Debug, Clone)]
pub struct Start {
    /// The epoch it works in.
    pub epoch: Epoch,
    /// Where to go on; `None` begins with a full read.
    pub resume: Option<Resume>,
}

/// The two ends a capture holds while it runs.
#[derive(Debug)]
pub struct Intake {
    /// Blocks in order. Bounded: a capture that gets ahead waits here.
    pub blocks: mpsc::Sender<Block>,
    /// The number of the last block that is durable in the spool. Only up to there may a position
    /// be released at the source (invariant 3).
    pub durable: watch::Receiver<u64>,
    /// How far the capture has come, for people.
    pub progress: watch::Sender<Progress>,
    /// When cancelled, the capture returns `Ok` as soon as it can; blocks already sent stand.
    pub stop: CancellationToken,
}

/// How far a capture has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Progress {
    /// Rows read so far in the full read.
    pub snapshot_rows: u64,
    /// Rows the full read will have, as the source's statistics estimate it.
    pub snapshot_rows_estimated: u64,
    /// Whether the full read is over.
    pub snapshot_done: bool,
    /// Bytes of log between the source's end and what has been read, where the source says.
    pub lag_bytes: Option<u64>,
    /// Bytes of log the source keeps for this capture.
    pub retained_bytes: Option<u64>,
    /// How long the capture waits before it asks again, where it has to ask.
    pub poll_pause: Option<Duration>,
    /// How often all rows were compared since the capture began, where they are.
    pub passes: Option<u64>,
}

/// What stands in the way of reading, or does not.
#[derive(Debug, Default)]
pub struct Findings {
    /// Server and version, for people.
    pub server: String,
    /// Facts worth showing, one line each (for example which capture is used and why).
    pub facts: Vec<String>,
    /// What stands in the way; empty when reading can begin.
    pub faults: Vec<Fault>,
    /// Statements that the database administrator can run to mend it, ready to copy.
    pub statements: Vec<String>,
    /// Per selection, in order: its columns, where the table could be looked at.
    pub columns: Vec<Option<Arc<[Column]>>>,
    /// Per selection, in order: names of the table's other columns, which are not read.
    pub unread: Vec<Vec<String>>,
}

/// More tables than this are not listed: nobody chooses among them by eye.
pub const TABLES_MAX: usize = 5_000;

/// A table that the login can see, for whoever chooses what is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its schema; with MySQL its database.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Rows as the source's statistics estimate them.
    pub rows_estimated: u64,
    /// Whether the login may read rows of it.
    pub readable: bool,
}

/// What a source offers for one table: for `probe`, and for whoever decides how it is read.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    /// The dataset the table feeds.
    pub dataset: DatasetId,
    /// The table, `schema.table`.
    pub table: String,
    /// What kind of table it is, in the source's words.
    pub kind: String,
    /// Rows as the source's statistics estimate them.
    pub rows_estimated: u64,
    /// The unique key along which it is read, each column with its type and collation.
    pub key: Vec<String>,
    /// The way that is taken.
    pub chosen: Capture,
    /// Why that one.
    pub because: String,
    /// Every way, best first.
    pub ways: Vec<Way>,
}

/// One way of following a table.
#[derive(Debug, Clone, Serialize)]
pub struct Way {
    /// Which.
    pub capture: Capture,
    /// What of the server tells of changes, where one capture has several such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What stands in its way; empty when it can be gone now.
    pub obstacles: Vec<String>,
    /// What an administrator runs to clear it, ready to copy.
    pub statements: Vec<String>,
    /// What it costs or cannot see.
    pub risks: Vec<String>,
}

/// One kind of database.
///
/// Promises of an engine: it proves that its login cannot change data before it reads (CT-16a);
/// takes no table lock; keeps to its load guard; delivers the changes of one table in commit order;
/// never shows a log event before a chunk that is older; resumes exactly after the last durable
/// block; and where it cannot (log gone, server replaced), returns `SourceGap` and never goes on
/// silently.
pub trait Source: Send + Sync + 'static {
    /// Looks at server, login and tables without reading rows.
    ///
    /// # Errors
    /// Only when the server cannot be asked at all; everything else is among the findings.
    fn probe(
        &self,
        selections: &[Selection],
    ) -> impl Future<Output = Result<Findings, Fault>> + Send;

    /// Says of each table in which ways it could be followed, what each needs, and what it costs.
    ///
    /// # Errors
    /// Only when the server cannot be asked at all.
    fn offers(
        &self,
        _selections: &[Selection],
    ) -> impl Future<Output = Result<Vec<Offer>, Fault>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Lists the tables that the login can see, by schema and name, at most [`TABLES_MAX`].
    ///
    /// # Errors
    /// Only when the server cannot be asked.
    fn tables(&self) -> impl Future<Output = Result<Vec<Listed>, Fault>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Reads one table from `start` and follows its changes until stopped.
    ///
    /// # Errors
    /// A fault; the caller tries again from the last durable block, or for `source_gap` and
    /// `source_slot_given_up` from the beginning in a new epoch.
    fn capture(
        &self,
        selection: &Selection,
        start: Start,
        intake: Intake,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Reads the table once, in one snapshot, for `preview` and `verify`: at most `rows_max` rows.
    ///
    /// # Errors
    /// A fault, when the table cannot be read to its end.
    fn scan(
        &self,
        selection: &Selection,
        rows_max: Option<u64>,
        blocks: mpsc::Sender<Block>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Reads rows by their keys, each given by its parts in [`Selection::key`] order: a row that is
    /// there comes as an update with all its columns, one that is not as a delete. False, with no
    /// rows, where the engine cannot tell a row by such a key.
    ///
    /// # Errors
    /// A fault, when a row cannot be read.
    fn reread(
        &self,
        _selection: &Selection,
        _keys: &[Vec<Vec<u8>>],
        _blocks: mpsc::Sender<Block>,
    ) -> impl Future<Output = Result<bool, Fault>> + Send {
        std::future::ready(Ok(false))
    }

    /// Gives up what is kept at the source for this selection (its replication slot).
    ///
    /// # Errors
    /// A fault, when the source cannot be asked.
    fn release(&self, selection: &Selection) -> impl Future<Output = Result<(), Fault>> + Send;
}
