//! What is wanted once: done, tried again until it is over, or not possible here; told in each report
//! until the hub wants it no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use phusa_protocol::fault::Code;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::orders::{HOURS_CHARACTERS_MAX, ORDERS_MAX, Order, OrdersReport, Told, Want};
use phusa_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Book, keep};
use crate::disk::{Disk, RealDisk};

/// The file of what is done, in the state folder.
const FILE: &str = "orders-done.json";

/// Bytes of it: a hundred numbers.
const BYTES_MAX: u64 = 4 * 1024;

/// What became of errands, by their numbers.
#[derive(Debug)]
pub(super) struct Errands {
    state_dir: PathBuf,
    ends: Mutex<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    done: BTreeSet<u64>,
    faults: BTreeMap<u64, Code>,
    /// What waits, for which hours.
    waits: BTreeMap<u64, String>,
    impossible: BTreeSet<u64>,
}

impl Errands {
    /// What was done before a restart. One that is forgotten is done once more, which does no harm.
    pub(super) fn open(state_dir: &Path) -> Self {
        let kept = RealDisk.read_tail(&state_dir.join(FILE), BYTES_MAX).unwrap_or_default();
        let done = serde_json::from_slice(&kept).unwrap_or_default();
        let ends = Mutex::new(Ends { done, ..Ends::default() });
        Self { state_dir: state_dir.to_owned(), ends }
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps nothing of what is wanted no longer.
    pub(super) fn forget_all_but(&self, held: &[Order]) {
        let is_held = |order: &u64| held.iter().any(|one| one.order == *order);
        let mut ends = self.ends();
        ends.done.retain(is_held);
        ends.faults.retain(|order, _| is_held(order));
        ends.waits.retain(|order, _| is_held(order));
        ends.impossible.retain(is_held);
    }
}

impl Book {
    /// The number of an errand that is wanted at `now`, and neither done nor impossible here.
    #[must_use]
    pub fn errand(&self, want: Want, dataset: Option<&DatasetId>, now: Timestamp) -> Option<u64> {
        let held = self.held.borrow();
        let ends = self.errands.ends();
        let is_it = |one: &&Order| {
            one.want == want
                && one.dataset.as_ref() == dataset
                && now < one.until
                && !ends.done.contains(&one.order)
                && !ends.impossible.contains(&one.order)
        };
        held.orders.iter().find(is_it).map(|one| one.order)
    }

    /// Waits until something is wanted of the agent once; its number.
    pub async fn asked(&self, want: Want) -> u64 {
        let mut seen = self.held.subscribe();
        loop {
            seen.borrow_and_update();
            if let Some(order) = self.errand(want, None, Timestamp::now()) {
                return order;
            }
            if seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes how an errand ended: done, or tried again later.
    pub fn ended(&self, order: u64, ended: Result<(), Code>) {
        let mut ends = self.errands.ends();
        ends.waits.remove(&order);
        if let Err(code) = ended {
            ends.faults.insert(order, code);
            return;
        }
        ends.faults.remove(&order);
        ends.done.insert(order);
        let bytes = serde_json::to_vec(&ends.done).unwrap_or_default();
        info!(order, "Done what the hub wanted: order {order}");
        if let Err(fault) = keep(&self.errands.state_dir, FILE, &bytes) {
            warn!(code = %fault.code, "An order may be followed once more: {}", fault.chain());
        }
    }

    /// Notes that an errand waits until the agency's own hours begin.
    pub fn waits_for(&self, order: u64, hours: &str) {
        let mut ends = self.errands.ends();
        ends.faults.remove(&order);
        let bounded = hours.chars().take(HOURS_CHARACTERS_MAX).collect();
        if ends.waits.insert(order, bounded).is_none() {
            info!(order, "Order {order} waits for the allowed hours {hours}");
        }
    }

    /// Notes that an errand is not possible as this agent is set up.
    pub fn cannot(&self, order: u64) {
        let code = Code::OrderRefused;
        warn!(%code, order, "Order {order} is not possible as this agent is set up: it is not followed");
        self.errands.ends().impossible.insert(order);
    }

    /// Says of each such errand that it is not possible here, until stopped.
    pub async fn cannot_do(&self, want: Want, stop: &CancellationToken) {
        while let Some(order) = stop.run_until_cancelled(self.asked(want)).await {
            self.cannot(order);
        }
    }

    /// How this agent stands to what is wanted of it.
    #[must_use]
    pub fn report(&self) -> OrdersReport {
        let held = self.held.borrow();
        let ends = self.errands.ends();
        let refused = held.refused.iter().chain(&ends.impossible).take(ORDERS_MAX);
        let done = ends.done.iter().map(|order| Told::done(*order));
        let faults = ends.faults.iter().map(|(order, code)| Told::hindered(*order, *code));
        let waits = |(order, hours): (&u64, &String)| Told {
            hours: Some(hours.clone()),
            ..Told::hindered(*order, Code::OutsideHours)
        };
        let faults = faults.chain(ends.waits.iter().map(waits));
        OrdersReport {
            number: held.number,
            refused: refused.copied().collect(),
            told: done.chain(faults).take(ORDERS_MAX).collect(),
        }
    }
}
