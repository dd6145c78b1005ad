//! How many datasets have the source's connections at once.
//!
//! Whoever begins asks the server what it needs to know, and a full read takes several connections for
//! as long as it lasts. A hundred datasets that began together would take every connection that the
//! agency's own programs need, so a few begin at once, and a few are read in full at once. Datasets that
//! only go on never wait for one that is read.

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::ids::DatasetId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Datasets that may begin to go on at once.
const BEGIN_AT_ONCE: usize = 8;

/// How long one that goes on counts as beginning, where it does not show sooner that it has begun.
pub const BEGINS_WITHIN: Duration = Duration::from_secs(1);

/// What all datasets of a source share.
#[derive(Debug, Clone)]
pub struct Seats {
    reads: Arc<Semaphore>,
    begins: Arc<Semaphore>,
}

/// A seat; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    _permit: Option<OwnedSemaphorePermit>,
    /// Whether it is one of those for full reads.
    pub reads: bool,
}

impl Seats {
    /// Seats for so many full reads, at least one.
    #[must_use]
    pub fn new(reads_at_once: usize) -> Self {
        let reads = Arc::new(Semaphore::new(reads_at_once.max(1)));
        Self { reads, begins: Arc::new(Semaphore::new(BEGIN_AT_ONCE)) }
    }

    /// Waits for a seat, in the order of asking.
    pub async fn take(&self, dataset: &DatasetId, reads: bool) -> Seat {
        let seats = if reads { &self.reads } else { &self.begins };
        if reads && seats.available_permits() == 0 {
            tracing::info!(%dataset, "The full read of {dataset} waits for its turn: as many datasets are read as guard.reads_at_once allows");
        }
        // Closed by nobody.
        let permit = Arc::clone(seats).acquire_owned().await.ok();
        Seat { _permit: permit, reads }
    }
}
