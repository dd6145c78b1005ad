//! Steps in the life of an agent's identity, as entries tell of them.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::PublicKey;

/// What happened to an agent's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityAct {
    /// A one-time code was made.
    Invited,
    /// The code was used; a second person has to approve.
    Asked,
    /// A second person approved.
    Approved,
    /// A second person refused.
    Declined,
    /// The first certificate was issued.
    Enrolled,
    /// The next certificate was issued.
    Renewed,
    /// A certificate was issued after the last one had ended.
    Recovered,
    /// Everything it sends is refused, until this is lifted (CT-40).
    Suspended,
    /// One person asked to lift a suspension.
    ResumeAsked,
    /// It may deliver again.
    Resumed,
    /// Its identity is withdrawn for good.
    Revoked,
    /// Two installations used it; neither may deliver.
    Locked,
}

/// A step in the life of an agent's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityStep {
    /// What happened.
    pub act: IdentityAct,
    /// Whose decision it was; absent where it was the program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in that person's words or the program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The generation of the certificate concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// SHA-256 of the certificate issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// The key its batches are signed with from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PublicKey>,
    /// SHA-256 of the identity as the hub's database holds it from now on, as canonical JSON; absent
    /// where the step changes nothing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Digest>,
}
