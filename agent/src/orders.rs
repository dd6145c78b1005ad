//! What the hub wants of this agent: verified, kept over a restart, and over by themselves.
//!
//! Only a dataset of the agent's own files can be named, and only to be paused, read again or compared.
//! What is older than what is held is refused, whatever its signature. What is done once is an errand.

mod errand;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::orders::{ORDERS_BYTES_MAX, Order, Orders, SignedOrders, Want};
use phusa_protocol::time::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use self::errand::Errands;
use crate::disk::{Disk, RealDisk};

/// The file of what is held, in the state folder.
const FILE: &str = "orders.json";

/// What is wanted, and where that is kept.
#[derive(Debug)]
pub struct Book {
    state_dir: PathBuf,
    agent: AgentId,
    hub: PublicKey,
    datasets: Vec<DatasetId>,
    held: watch::Sender<Held>,
    gates: BTreeMap<DatasetId, watch::Sender<bool>>,
    errands: Errands,
}

#[derive(Debug, Clone, Default)]
struct Held {
    number: u64,
    orders: Vec<Order>,
    refused: Vec<u64>,
}

impl Book {
    /// Opens what was kept. A file that cannot be read, or that the hub did not sign, holds nothing,
    /// and is replaced by the next orders.
    #[must_use]
    pub fn open(
        state_dir: PathBuf,
        agent: AgentId,
        hub: PublicKey,
        datasets: Vec<DatasetId>,
    ) -> Self {
        let gates = datasets.iter().map(|id| (id.clone(), watch::Sender::new(false))).collect();
        let (held, errands) = (watch::Sender::default(), Errands::open(&state_dir));
        let book = Self { state_dir, agent, hub, datasets, held, gates, errands };
        let kept = RealDisk.read_tail(&book.state_dir.join(FILE), ORDERS_BYTES_MAX as u64);
        let kept = kept.unwrap_or_default();
        if !kept.is_empty() {
            match book.verified(&kept) {
                Ok(orders) => book.hold(orders),
                Err(fault) => {
                    warn!(code = %fault.code, "Kept orders are not followed: {}", fault.chain());
                }
            }
        }
        book.follow(Timestamp::now());
        book
    }

    /// Takes what arrived: verified, not older than what is held, durable before it is followed.
    ///
    /// # Errors
    /// `order_refused` or `disk_failed`; what was held stays.
    pub fn take(&self, bytes: &[u8]) -> Result<(), Fault> {
        let orders = self.verified(bytes)?;
        let held = self.held.borrow().number;
        if orders.number <= held {
            // The hub repeats itself on purpose.
            return Ok(());
        }
        keep(&self.state_dir, FILE, bytes)?;
        self.hold(orders);
        self.follow(Timestamp::now());
        Ok(())
    }

    fn verified(&self, bytes: &[u8]) -> Result<Orders, Fault> {
        let refused = |error| Fault::because(Code::OrderRefused, "the hub's orders", error);
        let signed = SignedOrders::read(bytes).map_err(refused)?;
        signed.open(&self.hub, &self.agent).map_err(refused)
    }

    fn hold(&self, orders: Orders) {
        let Orders { number, orders, refused, unknown, .. } = orders;
        let is_own = |one: &Order| one.dataset.as_ref().is_none_or(|id| self.datasets.contains(id));
        let (own, others): (Vec<_>, Vec<_>) = orders.into_iter().partition(is_own);
        let refused = refused + others.len();
        let others = others.iter().map(|one| one.order);
        let numbers = unknown.into_iter().chain(others).collect();
        if refused > 0 {
            let code = Code::OrderRefused;
            warn!(%code, refused, "{refused} orders of the hub are not known here, or of a dataset that is not shared: they are not followed");
        }
        info!(orders = own.len(), "The hub wants {} things of this agent", own.len());
        self.errands.forget_all_but(&own);
        self.held.send_replace(Held { number, orders: own, refused: numbers });
    }

    /// Opens and closes deliveries as is wanted at `now`.
    pub fn follow(&self, now: Timestamp) {
        for (dataset, gate) in &self.gates {
            let paused = self.wants(dataset, now, |want| want == Want::Pause);
            let changed = gate.send_if_modified(|shut| std::mem::replace(shut, paused) != paused);
            if changed {
                let what = if paused { "paused" } else { "resumed" };
                info!(%dataset, "Deliveries of {dataset} are {what}");
            }
        }
    }

    /// Whether deliveries of a dataset wait.
    #[must_use]
    pub fn is_paused(&self, dataset: &DatasetId) -> bool {
        self.gates.get(dataset).is_some_and(|gate| *gate.borrow())
    }

    /// What deliveries of a dataset look at: `true` while they are to wait.
    #[must_use]
    pub fn gate(&self, dataset: &DatasetId) -> watch::Receiver<bool> {
        // One that is not there is never shut; its sender ends at once, which lets through.
        self.gates.get(dataset).map_or_else(|| watch::channel(false).1, watch::Sender::subscribe)
    }

    /// Whether a dataset in `epoch` is to be read again.
    #[must_use]
    pub fn is_to_be_read_again(&self, dataset: &DatasetId, epoch: u64, now: Timestamp) -> bool {
        let again = |want| matches!(want, Want::Reread { beyond } if epoch > 0 && epoch <= beyond);
        self.wants(dataset, now, again)
    }

    fn wants(&self, dataset: &DatasetId, now: Timestamp, what: impl Fn(Want) -> bool) -> bool {
        let held = self.held.borrow();
        let is_of = |one: &&Order| one.dataset.as_ref() == Some(dataset) && now < one.until;
        held.orders.iter().filter(is_of).any(|one| what(one.want))
    }
}

/// Makes a file of the state folder durable: after a crash there is the old one or the new one.
fn keep(state_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let failed = |error| Fault::because(Code::DiskFailed, "cannot keep the hub's orders", error);
    let (temporary, file) = (state_dir.join(format!("{name}.tmp")), state_dir.join(name));
    RealDisk.write_synced(&temporary, bytes).map_err(failed)?;
    RealDisk.rename(&temporary, &file).map_err(failed)?;
    RealDisk.sync_folder(state_dir).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use phusa_protocol::keys::SigningKey;
    use phusa_protocol::orders::Told;

    use super::*;

    fn id(name: &str) -> DatasetId {
        DatasetId::new(name).unwrap()
    }

    #[test]
    fn orders_are_followed_kept_over_a_restart_and_over_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let (hub, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let own = vec![id("a.b"), id("a.c")];
        let open = || Book::open(dir.path().to_owned(), agent.clone(), hub.public(), own.clone());
        let now = Timestamp::now();
        let until = now.after(Duration::from_secs(3_600));
        let order = |dataset, want| Order { order: 1, dataset: Some(id(dataset)), want, until };
        let say = |number, orders: &[Order], key| {
            SignedOrders::sign(&agent, number, orders, key).to_bytes()
        };
        let book = open();
        let wanted = [
            order("a.b", Want::Pause),
            order("a.c", Want::Reread { beyond: 2 }),
            order("x.y", Want::Pause),
        ];
        let forged = book.take(&say(9, &wanted, &other)).unwrap_err();
        assert_eq!((forged.code, book.is_paused(&id("a.b"))), (Code::OrderRefused, false));
        book.take(&say(5, &wanted, &hub)).unwrap();
        let again = open();
        for book in [&book, &again] {
            assert!(book.is_paused(&id("a.b")) && *book.gate(&id("a.b")).borrow());
            assert!(!book.is_paused(&id("a.c")) && !book.is_paused(&id("x.y")));
            let reread = |epoch| book.is_to_be_read_again(&id("a.c"), epoch, now);
            assert_eq!([0, 1, 2, 3].map(reread), [false, true, true, false]);
        }
        again.take(&say(4, &[], &hub)).unwrap();
        assert!(again.is_paused(&id("a.b")), "an older one changes nothing");
        again.follow(until);
        assert!(!again.is_paused(&id("a.b")), "over by itself");
        again.take(&say(6, &[], &hub)).unwrap();
        assert!(!open().is_paused(&id("a.b")), "taken back");
    }
    #[tokio::test]
    async fn an_errand_is_done_once_over_restarts_and_what_is_not_followed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let hub = SigningKey::generate().unwrap();
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let open =
            || Book::open(dir.path().to_owned(), agent.clone(), hub.public(), vec![id("a.b")]);
        let now = Timestamp::now();
        let until = now.after(Duration::from_secs(3_600));
        let order = |order, dataset: Option<&str>, want| Order {
            order,
            dataset: dataset.map(id),
            want,
            until,
        };
        let wanted = [
            order(1, Some("a.b"), Want::Compare),
            order(2, None, Want::Rotate),
            order(3, Some("x.y"), Want::Compare),
            order(4, None, Want::CheckUpdate),
        ];
        let say =
            |number, orders: &[Order]| SignedOrders::sign(&agent, number, orders, &hub).to_bytes();
        let book = open();
        book.take(&say(7, &wanted)).unwrap();
        assert_eq!(book.asked(Want::Rotate).await, 2);
        assert_eq!(book.errand(Want::Compare, Some(&id("a.b")), now), Some(1));
        assert_eq!(book.errand(Want::Compare, Some(&id("a.b")), until), None, "over by itself");
        book.ended(1, Err(Code::SourceUnreachable));
        book.ended(2, Ok(()));
        book.cannot(4);
        let told = book.report();
        assert_eq!((told.number, told.refused), (7, vec![3, 4]));
        let hindered = Told::hindered(1, Code::SourceUnreachable);
        assert_eq!(told.told, [Told::done(2), hindered]);
        book.waits_for(1, "22:00–05:00");
        let waits = Told {
            hours: Some("22:00–05:00".to_owned()),
            ..Told::hindered(1, Code::OutsideHours)
        };
        assert_eq!(book.report().told, [Told::done(2), waits]);
        let again = open();
        assert_eq!(again.errand(Want::Rotate, None, now), None, "done is done");
        assert_eq!(again.errand(Want::Compare, Some(&id("a.b")), now), Some(1), "tried again");
        again.take(&say(8, &wanted[..1])).unwrap();
        assert_eq!(again.report().told, [], "what is wanted no longer is forgotten");
    }
}
