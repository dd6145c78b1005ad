//! `Shareable`: what mapping has let through, and the only thing the spool takes.

use std::collections::BTreeMap;
use std::fmt;

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Counts;
use phusa_protocol::time::Timestamp;

use super::quality::Quality;
use crate::source::{Block, Resume};

/// A mapped block: agreed fields, in contract order, in contract types.
///
/// Nothing but [`Bound::apply`](super::Bound::apply) makes one (invariant 1):
///
/// ```compile_fail,E0451
/// use phusa_agent::mapping::Shareable;
/// fn smuggle(shared: Shareable) -> Shareable {
///     Shareable { body: b"anything".to_vec(), ..shared }
/// }
/// ```
///
/// while everyone may look at one:
///
/// ```
/// use phusa_agent::mapping::Shareable;
/// fn weigh(shared: Shareable) -> usize {
///     shared.body().len()
/// }
/// ```
pub struct Shareable {
    body: Vec<u8>,
    envelope: Envelope,
}

/// What is said of a mapped block beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The block's number within its capture.
    pub number: u64,
    /// Where the stream is in its life.
    pub phase: Phase,
    /// Whether the block ends inside a source transaction.
    pub tx_open: bool,
    /// The position at its end, for the log.
    pub position: String,
    /// Where to go on once it is durable.
    pub resume: Resume,
    /// When it was read.
    pub read_at: Timestamp,
    /// Commit time of its last transaction.
    pub source_time: Timestamp,
    /// Rows by operation, as mapped.
    pub counts: Counts,
    /// How often which rule was broken, as the header has it.
    pub quality: BTreeMap<String, u64>,
}

impl Shareable {
    /// Only mapping may say that a body is fit to be shared.
    pub(super) fn new((body, counts): (Vec<u8>, Counts), quality: &Quality, block: Block) -> Self {
        let envelope = Envelope {
            number: block.number,
            phase: block.phase,
            tx_open: block.tx_open,
            position: block.position,
            resume: block.resume,
            read_at: block.read_at,
            source_time: block.source_time,
            counts,
            quality: quality.for_header(),
        };
        Self { body, envelope }
    }

    /// Runs of mapped changes ([`phusa_protocol::change`]).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What is said of it beside its rows.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Rows by operation.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.envelope.counts
    }

    /// Body and envelope, to be packed and sealed.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Envelope) {
        (self.body, self.envelope)
    }
}

impl fmt::Debug for Shareable {
    /// Without the rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shareable")
            .field("body_bytes", &self.body.len())
            .field("envelope", &self.envelope)
            .finish()
    }
}
