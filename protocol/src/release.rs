//! What a release is called, which agent is to run which, and how far an agent is with it.
//!
//! Which programs may run at all is signed offline by people (TUF targets); which of them an agent is
//! to run is signed by the hub each time it is asked. So a hub in wrong hands chooses among what people
//! signed, and never below the oldest version they still allow.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::AgentId;
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// What is signed begins with this, so that no other signature of the hub is an assignment.
const SIGNED_AS: &str = "phusa/assignment/1\n";

/// The version of this form.
const FORM: u32 = 1;

/// The largest assignment, in bytes.
pub const ASSIGNMENT_BYTES_MAX: usize = 8 * 1024;

/// Characters of a version as text.
const VERSION_CHARACTERS_MAX: usize = 32;

/// A version such as `1.4.2`: three numbers, compared as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers such as 1.4.2")]
pub struct BadVersion;

impl TryFrom<String> for Version {
    type Error = BadVersion;
    fn try_from(text: String) -> Result<Self, BadVersion> {
        if text.len() > VERSION_CHARACTERS_MAX {
            return Err(BadVersion);
        }
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (part == "0" || !part.starts_with('0'));
            plain.then(|| part.parse().ok()).flatten().ok_or(BadVersion)
        };
        let parts: Vec<u32> = text.split('.').map(number).collect::<Result<_, _>>()?;
        parts.try_into().map(Self).map_err(|_| BadVersion)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What the signed metadata says of a program, beside its length and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Which program: `phusa-agent`.
    pub product: String,
    /// Its version.
    pub version: Version,
    /// What it runs on, such as `x86_64-linux`.
    pub system: String,
    /// The oldest version that may still run once this one is published.
    pub min_version: Version,
    /// What the program itself prints as its version, where that is not `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_version: Option<Version>,
}

impl Facts {
    /// The name of its target.
    #[must_use]
    pub fn target_name(&self) -> String {
        format!("{}-{}-{}", self.product, self.version, self.system)
    }
}

/// What an agent is to run, as the hub says when it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The version of this form: 1.
    pub v: u32,
    /// Whom it concerns.
    pub agent: AgentId,
    /// Grows with each change; what an agent has seen is never replaced by something older.
    pub number: u64,
    /// Which version it is to run; none leaves it as it is.
    pub version: Option<Version>,
    /// When it was said.
    pub at: Timestamp,
}

/// An assignment as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedAssignment {
    /// The assignment, as JSON.
    pub assignment: String,
    /// The hub's signature over it.
    pub signature: Signature,
}

/// Why bytes are no assignment for this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAssignment {
    /// Not of this form.
    #[error("it is not of the known form")]
    Form,
    /// Not signed by the hub.
    #[error("it is not signed by the hub")]
    Signature,
    /// Another agent's.
    #[error("it is for another agent")]
    Agent,
}

impl SignedAssignment {
    /// Signs what an agent is to run.
    #[must_use]
    pub fn sign(
        agent: &AgentId,
        (number, version): (u64, Option<Version>),
        at: Timestamp,
        key: &SigningKey,
    ) -> Self {
        let said = Assignment { v: FORM, agent: agent.clone(), number, version, at };
        let assignment = serde_json::to_string(&said).unwrap_or_default();
        let signature = key.sign(format!("{SIGNED_AS}{assignment}").as_bytes());
        Self { assignment, signature }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What the hub says that `agent` is to run.
    ///
    /// # Errors
    /// [`BadAssignment`] with the reason.
    pub fn open(
        bytes: &[u8],
        hub: &PublicKey,
        agent: &AgentId,
    ) -> Result<Assignment, BadAssignment> {
        if bytes.len() > ASSIGNMENT_BYTES_MAX {
            return Err(BadAssignment::Form);
        }
        let signed: Self = serde_json::from_slice(bytes).map_err(|_| BadAssignment::Form)?;
        let words = format!("{SIGNED_AS}{}", signed.assignment);
        if !hub.verifies(words.as_bytes(), &signed.signature) {
            return Err(BadAssignment::Signature);
        }
        let said: Assignment =
            serde_json::from_str(&signed.assignment).map_err(|_| BadAssignment::Form)?;
        match said {
            said if said.v != FORM => Err(BadAssignment::Form),
            said if said.agent != *agent => Err(BadAssignment::Agent),
            said => Ok(said),
        }
    }
}

/// How far an agent is with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is under way, and nothing ever was.
    Idle,
    /// Another version is wanted of it.
    Offered,
    /// It is being fetched.
    Downloading,
    /// It is whole and what people signed.
    Verified,
    /// It lies in its slot and is to prove itself.
    Staged,
    /// It runs, and what was healthy before must become so again.
    Probation,
    /// It stays: the only success.
    Committed,
    /// It was taken back.
    RolledBack,
}

impl Stage {
    /// Its name in files, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Offered => "offered",
            Self::Downloading => "downloading",
            Self::Verified => "verified",
            Self::Staged => "staged",
            Self::Probation => "probation",
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
        }
    }

    /// The stage of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }

    /// In Vietnamese and English, for people.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Idle => ("không có cập nhật", "no update"),
            Self::Offered => ("đã được giao", "offered"),
            Self::Downloading => ("đang tải", "downloading"),
            Self::Verified => ("đã xác minh", "verified"),
            Self::Staged => ("đã đặt vào ngăn", "staged"),
            Self::Probation => ("đang thử thách", "on probation"),
            Self::Committed => ("đã chốt", "committed"),
            Self::RolledBack => ("đã lùi lại", "rolled back"),
        }
    }
}

/// Why a version was taken back; the same words each time, so that they can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It did not start, or said itself that it cannot work here.
    SelfTest,
    /// It ended again and again.
    Crash,
    /// It gave no sign of life.
    Silent,
    /// It took far more memory than the one before.
    Memory,
    /// A dataset that was healthy before is missing or stands still.
    Dataset,
    /// It never became what it should be in the time it has.
    Late,
}

impl Why {
    /// Its name in files, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SelfTest => "self_test",
            Self::Crash => "crash",
            Self::Silent => "silent",
            Self::Memory => "memory",
            Self::Dataset => "dataset",
            Self::Late => "late",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }

    /// In Vietnamese and English, for people.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::SelfTest => ("tự kiểm tra không đạt", "its self-test failed"),
            Self::Crash => ("chương trình liên tục dừng đột ngột", "it ended again and again"),
            Self::Silent => ("không có dấu hiệu hoạt động", "it gave no sign of life"),
            Self::Memory => ("dùng quá nhiều bộ nhớ", "it took far more memory than before"),
            Self::Dataset => (
                "một bộ dữ liệu trước đó tốt nay không chạy",
                "a dataset that was well stands still",
            ),
            Self::Late => ("quá hạn thử thách", "it did not become well in time"),
        }
    }
}

/// An agent's update in its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// The version in the slot that runs.
    pub running: Version,
    /// How far it is.
    pub stage: Stage,
    /// Which version that is about.
    pub target: Option<Version>,
    /// Why it was taken back, where it was; of a later agent it may be a word this program does not know.
    pub why: Option<String>,
    /// The fault that stands in the way of the update, where one does.
    pub obstacle: Option<String>,
    /// Since when, by the agent's clock.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_version_is_three_plain_numbers_compared_as_numbers() {
        assert!(version("0.10.0") > version("0.9.12"));
        assert_eq!(version("1.2.3").to_string(), "1.2.3");
        for bad in
            ["", "1", "1.2", "1.2.3.4", "1.2.x", "01.2.3", "1.2.-3", "1.2.99999999999", "../1"]
        {
            assert_eq!(Version::try_from(bad.to_owned()), Err(BadVersion), "{bad}");
        }
    }

    #[test]
    fn an_assignment_is_believed_of_the_hub_and_for_this_agent_alone() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let agent = |name: &str| AgentId::try_from(name.to_owned()).unwrap();
        let own = agent("H57.12/may-1");
        let said = (7, Some(version("1.2.3")));
        let bytes = SignedAssignment::sign(&own, said, Timestamp::UNIX_EPOCH, &key).to_bytes();
        let open = |hub: &SigningKey, agent| SignedAssignment::open(&bytes, &hub.public(), agent);
        let opened = open(&key, &own).unwrap();
        assert_eq!((opened.number, opened.version), said);
        assert_eq!(open(&other, &own), Err(BadAssignment::Signature));
        assert_eq!(open(&key, &agent("H57.13/may-1")), Err(BadAssignment::Agent));
        assert_eq!(SignedAssignment::open(b"{}", &key.public(), &own), Err(BadAssignment::Form));
        let text = String::from_utf8(bytes.clone()).unwrap().replace("1.2.3", "1.2.2");
        let altered = SignedAssignment::open(text.as_bytes(), &key.public(), &own);
        assert_eq!(altered, Err(BadAssignment::Signature));
    }
}
