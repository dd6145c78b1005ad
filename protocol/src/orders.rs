//! What the hub wants of an agent: all of it each time, signed, until a moment.
//!
//! An agent brings itself to what is wanted and tells its state in the next report, so an order that
//! arrives twice, late or not at all does no harm. Nothing that an order can say widens what is shared:
//! it names a dataset of the agent's own files and has no room for anything else.

use serde::{Deserialize, Serialize};

use crate::fault::Code;
use crate::ids::{AgentId, DatasetId};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// Orders for one agent at once.
pub const ORDERS_MAX: usize = 100;

/// Characters of the hours an order waits for.
pub const HOURS_CHARACTERS_MAX: usize = 60;

/// The largest message of orders, in bytes.
pub const ORDERS_BYTES_MAX: usize = 60 * 1024;

/// What is signed begins with this, so that no other signature of the hub is one of orders.
const SIGNED_AS: &str = "phusa/orders/1\n";

/// The version of this form.
const FORM: u32 = 1;

/// What is wanted of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Want {
    /// Deliver nothing of it. Reading goes on into the spool, and stops where that is full.
    Pause,
    /// Read it again from the beginning, unless its epoch is beyond this one already.
    Reread {
        /// The epoch it was in when that was asked for.
        beyond: u64,
    },
    /// Compare it with the warehouse once, in the hours in which all of it may be read.
    Compare,
    /// Ask once for a certificate with a new key, whenever the held one ends.
    Rotate,
    /// Say once how the agent is set up and what went wrong of late: see [`crate::diagnosis`].
    Diagnose,
    /// Ask once, now, which program is to run.
    CheckUpdate,
}

impl Want {
    /// Whether it is of one dataset, rather than of the agent.
    #[must_use]
    pub fn is_of_dataset(self) -> bool {
        matches!(self, Self::Pause | Self::Reread { .. } | Self::Compare)
    }

    /// Whether the agent does it once and tells of it, rather than showing it as a state.
    #[must_use]
    pub fn is_once(self) -> bool {
        !matches!(self, Self::Pause | Self::Reread { .. })
    }
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its number at the hub.
    pub order: u64,
    /// Of which dataset; none where it is of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// What.
    pub want: Want,
    /// After this moment it is not wanted any more.
    pub until: Timestamp,
}

/// What became of an order that is done once, as the agent tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which.
    pub order: u64,
    /// The name of the fault that stands in its way, where one does; it is tried again until the order
    /// is over. None when it is done.
    pub fault: Option<String>,
    /// The hours of the day it waits for, by Vietnam's clock, where that is what stands in its way; at
    /// most [`HOURS_CHARACTERS_MAX`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
}

impl Told {
    /// Done.
    #[must_use]
    pub fn done(order: u64) -> Self {
        Self { order, fault: None, hours: None }
    }

    /// Tried again until the order is over.
    #[must_use]
    pub fn hindered(order: u64, fault: Code) -> Self {
        Self { order, fault: Some(fault.name().to_owned()), hours: None }
    }

    /// Its texts.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.fault.iter().chain(&self.hours)
    }
}

/// How an agent stands to what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersReport {
    /// Number of the newest orders that it took.
    pub number: u64,
    /// Which of them it does not know, or cannot follow as it is set up.
    pub refused: Vec<u64>,
    /// What became of those that are done once.
    pub told: Vec<Told>,
}

impl OrdersReport {
    /// Whether it keeps to its bounds: as many as there can be orders, and short hours.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let is_short = |hours: &String| hours.chars().count() <= HOURS_CHARACTERS_MAX;
        self.told.iter().flat_map(|told| &told.hours).all(is_short)
            && self.refused.len() <= ORDERS_MAX
            && self.told.len() <= ORDERS_MAX
    }
}

/// All that is wanted of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// Of whom.
    pub agent: AgentId,
    /// Grows with each change; what an agent has seen is never replaced by something older.
    pub number: u64,
    /// The orders this program knows.
    pub orders: Vec<Order>,
    /// How many there were that it does not know; those are refused.
    pub refused: usize,
    /// The numbers of those, where they have one.
    pub unknown: Vec<u64>,
}

/// Orders as they travel and are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrders {
    /// The orders, as JSON.
    pub orders: String,
    /// The hub's signature over them.
    pub signature: Signature,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    agent: AgentId,
    number: u64,
    orders: Vec<serde_json::Value>,
}

/// Why bytes are no orders for this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOrders {
    /// Not of this form, or too many.
    #[error("they are not of the known form")]
    Form,
    /// Not signed by the hub.
    #[error("they are not signed by the hub")]
    Signature,
    /// Another agent's.
    #[error("they are for another agent")]
    Agent,
}

impl SignedOrders {
    /// Signs what is wanted.
    #[must_use]
    pub fn sign(agent: &AgentId, number: u64, orders: &[Order], key: &SigningKey) -> Self {
        let orders =
            orders.iter().take(ORDERS_MAX).filter_map(|one| serde_json::to_value(one).ok());
        let written = Written { v: FORM, agent: agent.clone(), number, orders: orders.collect() };
        let orders = serde_json::to_string(&written).unwrap_or_default();
        let signature = key.sign(format!("{SIGNED_AS}{orders}").as_bytes());
        Self { orders, signature }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads bytes; nothing is believed yet.
    ///
    /// # Errors
    /// [`BadOrders::Form`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadOrders> {
        if bytes.len() > ORDERS_BYTES_MAX {
            return Err(BadOrders::Form);
        }
        serde_json::from_slice(bytes).map_err(|_| BadOrders::Form)
    }

    /// What the hub wants of `agent`.
    ///
    /// # Errors
    /// [`BadOrders`] with the reason.
    pub fn open(&self, hub: &PublicKey, agent: &AgentId) -> Result<Orders, BadOrders> {
        let signed = format!("{SIGNED_AS}{}", self.orders);
        if !hub.verifies(signed.as_bytes(), &self.signature) {
            return Err(BadOrders::Signature);
        }
        let written: Written = serde_json::from_str(&self.orders).map_err(|_| BadOrders::Form)?;
        if written.v != FORM || written.orders.len() > ORDERS_MAX {
            return Err(BadOrders::Form);
        }
        if written.agent != *agent {
            return Err(BadOrders::Agent);
        }
        let all = written.orders.len();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for value in written.orders {
            let number = value.get("order").and_then(serde_json::Value::as_u64);
            match understood(value) {
                Some(order) => known.push(order),
                None => unknown.extend(number),
            }
        }
        let refused = all.saturating_sub(known.len());
        let (agent, number) = (written.agent, written.number);
        Ok(Orders { agent, number, orders: known, refused, unknown })
    }
}

/// An order that says what this program knows, and nothing besides.
fn understood(value: serde_json::Value) -> Option<Order> {
    let said = value.get("want").cloned();
    let order: Order = serde_json::from_value(value).ok()?;
    // A want without fields of its own would pass over those of a later version.
    let is_all = said == serde_json::to_value(order.want).ok();
    (is_all && order.dataset.is_some() == order.want.is_of_dataset()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::try_from(name.to_owned()).unwrap()
    }

    fn order(want: Want) -> Order {
        let dataset = DatasetId::new("cong_dan.citizens").unwrap();
        let dataset = want.is_of_dataset().then_some(dataset);
        Order { order: 7, dataset, want, until: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn orders_are_believed_of_the_hub_and_for_this_agent_alone() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let own = agent("H57.12/may-1");
        let wanted = [
            order(Want::Pause),
            order(Want::Reread { beyond: 3 }),
            order(Want::Compare),
            order(Want::Rotate),
            order(Want::Diagnose),
            order(Want::CheckUpdate),
        ];
        let signed = SignedOrders::sign(&own, 5, &wanted, &key);
        let read = SignedOrders::read(&signed.to_bytes()).unwrap();
        let opened = read.open(&key.public(), &own).unwrap();
        assert_eq!((opened.number, opened.orders.as_slice(), opened.refused), (5, &wanted[..], 0));
        assert_eq!(read.open(&other.public(), &own), Err(BadOrders::Signature));
        assert_eq!(read.open(&key.public(), &agent("H57.13/may-1")), Err(BadOrders::Agent));
        let mut altered = read;
        altered.orders = altered.orders.replace("\"pause\"", "\"serve\"");
        assert_eq!(altered.open(&key.public(), &own), Err(BadOrders::Signature));
        assert_eq!(SignedOrders::read(b"{}"), Err(BadOrders::Form));
    }

    #[test]
    fn an_order_that_is_not_known_or_says_more_is_refused_and_the_others_stand() {
        let key = SigningKey::generate().unwrap();
        let own = agent("H57.12/may-1");
        for strange in [
            r#"{"order":1,"dataset":"a.b","want":{"kind":"share"},"until":"2026-11-21T08:30:00Z"}"#,
            r#"{"order":1,"dataset":"a.b","want":{"kind":"pause"},"until":"2026-11-21T08:30:00Z","columns":["x"]}"#,
            r#"{"order":1,"dataset":"a.b","want":{"kind":"reread","beyond":1,"columns":["x"]},"until":"2026-11-21T08:30:00Z"}"#,
            r#"{"order":1,"dataset":"a.b","want":{"kind":"pause","columns":["x"]},"until":"2026-11-21T08:30:00Z"}"#,
            r#"{"order":1,"want":{"kind":"compare"},"until":"2026-11-21T08:30:00Z"}"#,
            r#"{"order":1,"dataset":"a.b","want":{"kind":"rotate"},"until":"2026-11-21T08:30:00Z"}"#,
            r#"{"order":1,"want":{"kind":"diagnose","rows":9},"until":"2026-11-21T08:30:00Z"}"#,
            "17",
        ] {
            let good = serde_json::to_string(&order(Want::Pause)).unwrap();
            let orders = format!(
                r#"{{"v":1,"agent":"H57.12/may-1","number":1,"orders":[{strange},{good}]}}"#
            );
            let signature = key.sign(format!("{SIGNED_AS}{orders}").as_bytes());
            let opened = SignedOrders { orders, signature }.open(&key.public(), &own).unwrap();
            assert_eq!((opened.orders.len(), opened.refused), (1, 1), "{strange}");
            let numbered = strange.contains("order").then_some(1);
            assert_eq!(opened.unknown.first().copied(), numbered, "{strange}");
        }
    }
}
