//! First words of a session: versions, who speaks, contract fingerprints, and each reason to
//! refuse.
//!
//! The agent says what it would send, the hub answers per dataset with what it has committed last
//! or with the fault that stands in the way. Nothing here carries rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::consent::Agreement;
use crate::digest::Digest;
use crate::fault::Code;
use crate::ids::{AgentId, DatasetId, Epoch, Seq};
use crate::time::Timestamp;

/// What an agent says first, and again after every cut. `POST /v1/hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Who speaks; must be the name in its certificate.
    pub agent: AgentId,
    /// Version of the agent's program.
    pub agent_version: String,
    /// The agent's clock, so that skew can be shown.
    pub sent_at: Timestamp,
    /// What it would send.
    pub datasets: Vec<Offer>,
}

/// One dataset an agent would send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which.
    pub dataset: DatasetId,
    /// Fingerprint of the contract the agent holds.
    pub contract: Digest,
    /// Fingerprint of the agency's mapping file.
    pub mapping: Digest,
}

/// The hub's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`crate::PROTOCOL_VERSION`] of the hub.
    pub protocol: u32,
    /// Version of the hub's program.
    pub hub_version: String,
    /// The hub's clock.
    pub answered_at: Timestamp,
    /// One answer per offer, in the same order.
    pub datasets: Vec<Terms>,
}

/// The hub's answer for one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Which.
    pub dataset: DatasetId,
    /// The fault that stands in the way, if one does.
    pub refused: Option<Code>,
    /// The last batch of this agent and dataset that is durable at the hub.
    pub committed: Option<Committed>,
    /// Owner's and hub's signatures under the contract that was offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Box<Agreement>>,
    /// The category lists that the contract names, each with the digest of what is in force;
    /// `POST /v1/list` gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, Digest>,
}

/// Which category list is asked for. The body of `POST /v1/list`; the answer is the list's
/// canonical JSON, whose SHA-256 is the digest in [`Terms`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAsked {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Its name.
    pub list: String,
}

/// Where a stream stands at the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The epoch the hub is in.
    pub epoch: Epoch,
    /// The last batch committed in it.
    pub seq: Seq,
    /// Digest of that batch's header.
    pub header: Digest,
}

/// The body of every refusal, with HTTP status 4xx or 5xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub code: Code,
    /// What was tried on what; never a row value.
    pub what: String,
    /// For a batch out of turn: the stream's epoch and the number expected in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<(Epoch, Seq)>,
    /// When to try again, in milliseconds, where it is worth it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
