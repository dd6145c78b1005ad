//! Renews the certificate after a third of its life, with a new key, and brings the identity back
//! with the bound key where the certificate has ended. What is asked is durable before it is sent,
//! so that an answer that was lost is asked for again, after a restart too.

use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{Issued, Recover, Renew};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::orders::Want;
use phusa_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::entropy;
use super::https::Hub;
use super::identity::{Files, Identity, Leaf};
use super::kept::{Current, Kept};
use crate::config::secret::SecretFile;
use crate::orders::Book;
use crate::trouble::Trouble;

/// Between two attempts, at least and at most; in between a fiftieth of the certificate's life.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How long a wait is at most, so that a clock that was set is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Everything the renewal needs.
#[derive(Debug)]
pub struct Renewer {
    /// Whose certificate.
    pub agent: AgentId,
    /// Who is asked, and who speaks with the new one.
    pub hub: Arc<Hub>,
    /// The files of the enrolment.
    pub files: Files,
    /// Where renewed ones are.
    pub kept: Kept,
    /// The key bound to the identity.
    pub recovery_key: SecretFile,
    /// Whether the hub wants another certificate now.
    pub orders: Arc<Book>,
    /// What is shown.
    pub show: watch::Sender<Option<IdentityStatus>>,
}

/// The agent's certificate, as it renews it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// The how many-th it is.
    pub generation: u64,
    /// From when it is valid; an older program does not say.
    #[serde(default)]
    pub valid_from: Option<Timestamp>,
    /// The moment after which it is not valid.
    pub valid_until: Timestamp,
    /// What stands in the way of the next one.
    pub trouble: Option<Trouble>,
}

/// When the next certificate is asked for: after a third of this one's life, and up to a thirtieth
/// later, so that a province that was enrolled on one day does not come back in one minute.
fn due(leaf: &Leaf, entropy: u32) -> Timestamp {
    let life = leaf.not_after.since(leaf.not_before);
    leaf.not_before.after(life / 3).after(life / 30 * (entropy % 1024) / 1024)
}

impl Renewer {
    /// Renews until stopped. A certificate that was not issued by enrolment cannot be renewed.
    pub async fn run(self, stop: CancellationToken) {
        let entropy = entropy();
        while let Some(wait) = self.look(entropy).await {
            // What is wanted still has just failed, and waits as every renewal that failed does.
            let rests = self.wanted().is_some();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                _order = self.orders.asked(Want::Rotate), if !rests => {}
            }
        }
        self.orders.cannot_do(Want::Rotate, &stop).await;
    }

    fn wanted(&self) -> Option<u64> {
        self.orders.errand(Want::Rotate, None, Timestamp::now())
    }

    /// Renews if it is time; how long to wait until the next look.
    async fn look(&self, entropy: u32) -> Option<Duration> {
        let held = self.kept.newest(&self.files).and_then(|held| Ok((held.leaf()?, held)));
        let (leaf, held) = match held {
            Ok(held) => held,
            Err(fault) => {
                warn!(code = %fault.code, "The certificate cannot be looked at: {}", fault.chain());
                return Some(LOOK_EVERY);
            }
        };
        let generation = leaf.generation?;
        self.show.send_if_modified(|shown| {
            let trouble = shown.take().and_then(|shown| shown.trouble);
            let (valid_from, valid_until) = (Some(leaf.not_before), leaf.not_after);
            *shown = Some(IdentityStatus { generation, valid_from, valid_until, trouble });
            true
        });
        let (now, due) = (Timestamp::now(), due(&leaf, entropy));
        let wanted = self.wanted();
        if now < due && wanted.is_none() {
            return Some(due.since(now).min(LOOK_EVERY));
        }
        let ended = self.next(&held, &leaf, generation, now).await;
        let is_new = ended.is_ok();
        if let Some(order) = wanted {
            self.orders.ended(order, ended.as_ref().map(drop).map_err(|fault| fault.code));
        }
        self.told(ended);
        if is_new {
            // Shows the new one, and finds out when the next is due.
            return Some(PAUSE_MIN);
        }
        let life = leaf.not_after.since(leaf.not_before);
        Some((life / 50).clamp(PAUSE_MIN, PAUSE_MAX))
    }

    fn told(&self, ended: Result<u64, Fault>) {
        let fault = match ended {
            Ok(generation) => {
                info!(generation, "The certificate was renewed; it is the {generation}th");
                None
            }
            Err(fault) => Some(fault),
        };
        self.show.send_modify(|shown| {
            let Some(shown) = shown else { return };
            let before = shown.trouble.take();
            let is_new = fault.as_ref().map(|f| f.code) != before.as_ref().map(|t| t.code);
            if let Some(fault) = &fault {
                if is_new {
                    warn!(code = %fault.code, "The certificate is not renewed yet: {}", fault.chain());
                }
                shown.trouble = Some(Trouble::from_fault(fault, before.as_ref()));
            }
        });
    }

    async fn next(
        &self,
        held: &Identity,
        leaf: &Leaf,
        generation: u64,
        now: Timestamp,
    ) -> Result<u64, Fault> {
        let pending = self.kept.begin("", Some(&held.key))?;
        let renewed = if now < leaf.not_after {
            let asked = Renew::new(self.agent.clone(), pending.csr.clone());
            self.hub.certificate("/v1/renew", &asked, None).await
        } else {
            Err(Fault::new(Code::OwnCertificate, "the certificate has ended"))
        };
        let issued = match renewed {
            // Ended by the hub's clock, if not by this one.
            Err(fault) if fault.code == Code::OwnCertificate => {
                self.recover(held, generation, &pending.csr).await?
            }
            ended => ended?,
        };
        let current = Current { key: pending.key, issued };
        let identity = self.kept.identity(&current);
        let tls = identity.client_config()?;
        if identity.leaf()?.agent.as_ref() != Some(&self.agent) {
            let what = "the hub answered with another agent's certificate";
            return Err(Fault::new(Code::OwnCertificate, what));
        }
        self.kept.keep(&current)?;
        self.hub.exchange(tls)?;
        Ok(current.issued.generation)
    }

    async fn recover(&self, held: &Identity, generation: u64, csr: &str) -> Result<Issued, Fault> {
        let secret = self.recovery_key.load()?;
        let key = secret.text().and_then(|text| SigningKey::from_text(text).ok());
        let key = key.ok_or_else(|| {
            let what = format!("{} holds no key in base64", self.recovery_key);
            Fault::new(Code::SecretUnreadable, what)
        })?;
        let asked = Recover::new(self.agent.clone(), generation, csr.to_owned(), &key);
        let tls = held.stranger_config()?;
        self.hub.certificate("/v1/recover", &asked, Some(tls)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_certificate_is_asked_for_after_a_third_of_this_ones_life() {
        let begin = Timestamp::UNIX_EPOCH;
        let life = Duration::from_secs(9 * 86_400);
        let (agent, generation) = (None, Some(1));
        let leaf = Leaf { agent, not_before: begin, not_after: begin.after(life), generation };
        let third = Duration::from_secs(3 * 86_400);
        assert_eq!(due(&leaf, 0), begin.after(third));
        let latest = due(&leaf, 1_023);
        assert!(latest > begin.after(third) && latest < begin.after(third + life / 30));
    }
}
