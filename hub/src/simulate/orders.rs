//! What the hub wants of one made-up agency: believed, held and answered as a real agent does.
//!
//! Nothing is kept over a restart: a made-up province begins anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::orders::{ORDERS_MAX, Order, OrdersReport, SignedOrders, Told, Want};
use phusa_protocol::time::Timestamp;

/// What is wanted of one agency, and what became of it.
#[derive(Debug)]
pub(super) struct Book {
    agent: AgentId,
    hub: PublicKey,
    dataset: DatasetId,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    number: u64,
    orders: Vec<Order>,
    refused: BTreeSet<u64>,
    done: BTreeSet<u64>,
    faults: BTreeMap<u64, Code>,
    /// Grows with each change, so that a report follows it.
    changes: u64,
}

impl Book {
    pub(super) fn new(agent: &AgentId, hub: PublicKey, dataset: &DatasetId) -> Self {
        let (agent, dataset) = (agent.clone(), dataset.clone());
        Self { agent, hub, dataset, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what arrived: the hub's word, and newer than what is held.
    ///
    /// # Errors
    /// `order_refused`; what was held stays.
    pub(super) fn take(&self, bytes: &[u8]) -> Result<(), Fault> {
        let refused = |error| Fault::because(Code::OrderRefused, "the hub's orders", error);
        let signed = SignedOrders::read(bytes).map_err(refused)?;
        let orders = signed.open(&self.hub, &self.agent).map_err(refused)?;
        let mut held = self.held();
        if orders.number <= held.number {
            return Ok(());
        }
        let is_own = |one: &Order| one.dataset.as_ref().is_none_or(|id| *id == self.dataset);
        let (own, others): (Vec<_>, Vec<_>) = orders.orders.into_iter().partition(is_own);
        let is_held = |order: &u64| own.iter().any(|one| one.order == *order);
        held.done.retain(is_held);
        held.faults.retain(|order, _| is_held(order));
        held.refused.retain(is_held);
        held.refused.extend(orders.unknown);
        held.refused.extend(others.iter().map(|one| one.order));
        held.number = orders.number;
        held.orders = own;
        held.changes += 1;
        Ok(())
    }

    /// The number of what is wanted once, and neither done nor refused.
    pub(super) fn errand(&self, want: Want) -> Option<u64> {
        let (held, now) = (self.held(), Timestamp::now());
        let is_it = |one: &&Order| {
            one.want == want
                && now < one.until
                && !held.done.contains(&one.order)
                && !held.refused.contains(&one.order)
        };
        held.orders.iter().find(is_it).map(|one| one.order)
    }

    /// Whether its deliveries are to wait.
    pub(super) fn is_paused(&self) -> bool {
        self.wants(|want| want == Want::Pause)
    }

    /// Whether its dataset, in `epoch`, is to be read again.
    pub(super) fn is_to_be_read_again(&self, epoch: u64) -> bool {
        self.wants(|want| matches!(want, Want::Reread { beyond } if epoch <= beyond))
    }

    fn wants(&self, what: impl Fn(Want) -> bool) -> bool {
        let now = Timestamp::now();
        self.held().orders.iter().any(|one| now < one.until && what(one.want))
    }

    /// Notes how an errand ended: done, or tried again later.
    pub(super) fn ended(&self, order: u64, ended: Result<(), Code>) {
        let mut held = self.held();
        let is_new = match ended {
            Ok(()) => {
                held.faults.remove(&order);
                held.done.insert(order)
            }
            Err(code) => held.faults.insert(order, code) != Some(code),
        };
        held.changes += u64::from(is_new);
    }

    /// Notes that an errand is not possible for what is made up.
    pub(super) fn cannot(&self, order: u64) {
        let mut held = self.held();
        let is_new = held.refused.insert(order);
        held.faults.insert(order, Code::OrderRefused);
        held.changes += u64::from(is_new);
    }

    /// Grows with each change.
    pub(super) fn changes(&self) -> u64 {
        self.held().changes
    }

    /// How this agent stands to what is wanted of it.
    pub(super) fn report(&self) -> OrdersReport {
        let held = self.held();
        let done = held.done.iter().map(|order| Told::done(*order));
        let faults = held.faults.iter().map(|(order, code)| Told::hindered(*order, *code));
        OrdersReport {
            number: held.number,
            refused: held.refused.iter().copied().take(ORDERS_MAX).collect(),
            told: done.chain(faults).take(ORDERS_MAX).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use phusa_protocol::keys::SigningKey;

    use super::*;

    #[test]
    fn a_made_up_agency_holds_what_the_hub_signed_and_tells_what_became_of_it() {
        let (hub, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let agent = AgentId::try_from("MP.0001/may-1".to_owned()).unwrap();
        let [own, strange] = ["mo_phong.bang_0001", "a.b"].map(|id| DatasetId::new(id).unwrap());
        let book = Book::new(&agent, hub.public(), &own);
        let until = Timestamp::now().after(Duration::from_secs(3_600));
        let order = |order, dataset: Option<&DatasetId>, want| Order {
            order,
            dataset: dataset.cloned(),
            want,
            until,
        };
        let wanted = [
            order(1, Some(&own), Want::Pause),
            order(2, Some(&own), Want::Reread { beyond: 1 }),
            order(3, Some(&strange), Want::Pause),
            order(4, Some(&own), Want::Compare),
            order(5, None, Want::Rotate),
        ];
        let say = |number, key| SignedOrders::sign(&agent, number, &wanted, key).to_bytes();
        assert_eq!(book.take(&say(1, &other)).unwrap_err().code, Code::OrderRefused);
        assert!(!book.is_paused());
        book.take(&say(2, &hub)).unwrap();
        assert!(book.is_paused());
        assert_eq!([1, 2].map(|epoch| book.is_to_be_read_again(epoch)), [true, false]);
        assert_eq!([Want::Compare, Want::Rotate].map(|want| book.errand(want)), [Some(4), Some(5)]);
        let before = book.changes();
        book.ended(4, Err(Code::SourceUnreachable));
        book.cannot(5);
        assert_eq!(book.changes(), before + 2);
        let told = book.report();
        assert_eq!((told.number, told.refused), (2, vec![3, 5]));
        book.ended(4, Ok(()));
        assert_eq!(book.errand(Want::Compare), None, "done is done");
        let why = Told::hindered(5, Code::OrderRefused);
        assert_eq!(book.report().told, [Told::done(4), why]);
        book.take(&SignedOrders::sign(&agent, 3, &[], &hub).to_bytes()).unwrap();
        assert_eq!((book.is_paused(), book.report().told), (false, Vec::new()));
    }
}
