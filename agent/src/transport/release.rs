//! Releases over HTTPS: signed words, pieces of programs, and what this agent is to run. Nothing that
//! comes from here is believed before it is verified.

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::release::{Assignment, SignedAssignment};

use super::https::Hub;

impl Hub {
    /// A file of releases' metadata; `None` when the hub has none of that name.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn release_metadata(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let what = "cannot ask the hub for what is said of releases";
        self.look(&format!("release/metadata/{name}"), what).await
    }

    /// Some bytes of a program from `from` on; `None` when the hub does not have it.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn release_piece(&self, file: &str, from: u64) -> Result<Option<Vec<u8>>, Fault> {
        let what = "cannot ask the hub for a program";
        self.look(&format!("release/targets/{file}/{from}"), what).await
    }

    /// What this agent is to run; `None` from a hub that assigns nothing.
    ///
    /// # Errors
    /// `release_untrusted` when that is not the hub's word for this agent; the fault the hub named, or why
    /// it could not be asked.
    pub async fn assignment(&self, agent: &AgentId) -> Result<Option<Assignment>, Fault> {
        let what = "cannot ask the hub what to run";
        let Some(answer) = self.look("release/assignment", what).await? else { return Ok(None) };
        let opened = SignedAssignment::open(&answer, self.key(), agent);
        let untrusted = |error| Fault::because(Code::ReleaseUntrusted, "an assignment", error);
        opened.map(Some).map_err(untrusted)
    }
}
