//! Tells the hub how this agent is: MQTT over mutual TLS beside the deliveries, and never in their way.
//!
//! Without `link_url`, or while the hub has no such port, everything else goes on. A session begins
//! with a birth and carries a last will of the same birth; reports follow every half minute and
//! when something changes. Nothing waits here: while the hub does not read, reports are left out,
//! because the next one says it all.

pub mod compose;
mod diagnose;
pub mod judge;
mod line;
mod session;

use std::sync::Arc;

use phusa_protocol::delivery::backoff;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::report::Birth;
use phusa_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::session::Session;
use crate::config::plan::Plan;
use crate::config::plan::address::HubAddress;
use crate::orders::Book;
use crate::spool::Spool;
use crate::status::AgentStatus;
use crate::transport::entropy;
use crate::transport::identity::{Files, Identity};
use crate::transport::kept::Kept;

/// What the agent knows of itself, asked for anew each time.
pub type Snapshot = Arc<dyn Fn() -> AgentStatus + Send + Sync>;

/// Everything the link needs.
pub struct Link {
    /// Who reports, from where to where.
    pub plan: Arc<Plan>,
    /// Where the newest certificate is.
    pub files: Files,
    /// What waits, and on which disk.
    pub spool: Spool,
    /// What the hub wants of this agent.
    pub orders: Arc<Book>,
    /// The rest.
    pub snapshot: Snapshot,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("agent", &self.plan.agent).finish_non_exhaustive()
    }
}

impl Link {
    /// Reports until stopped; at once done where no link is configured.
    pub async fn run(self, stop: CancellationToken) {
        let Some(address) = self.plan.hub.link.clone() else { return };
        let (mut failures, mut said) = (0, None);
        while !stop.is_cancelled() {
            let session = match self.begin(&address) {
                Ok(session) => session,
                Err(fault) => {
                    tell_once(&fault, &mut said);
                    pause(failures, &stop).await;
                    failures = failures.saturating_add(1);
                    continue;
                }
            };
            let ended = session.run(&stop).await;
            if ended.lived {
                info!(hub = %address.host(), "The link to the hub has ended");
                (failures, said) = (0, None);
            }
            if let Some(fault) = ended.fault {
                tell_once(&fault, &mut said);
            }
            pause(failures, &stop).await;
            failures = failures.saturating_add(1);
        }
    }

    fn begin(&self, address: &HubAddress) -> Result<Session, Fault> {
        let identity = self.identity()?;
        Ok(Session {
            agent: self.plan.agent.clone(),
            address: address.clone(),
            is_broker: self.plan.hub.link_is_broker,
            allowed: self.plan.allowed_networks.clone(),
            tls: identity.client_config()?,
            birth: Birth(Timestamp::now()),
            compose: compose::Composer {
                plan: Arc::clone(&self.plan),
                spool: self.spool.clone(),
                orders: Arc::clone(&self.orders),
                snapshot: Arc::clone(&self.snapshot),
                certificate: identity.leaf().ok(),
            },
        })
    }

    fn identity(&self) -> Result<Identity, Fault> {
        Kept::new(&self.plan.state_dir).newest(&self.files)
    }
}

async fn pause(failures: u32, stop: &CancellationToken) {
    let span = backoff(failures, entropy());
    let _stopped = stop.run_until_cancelled(tokio::time::sleep(span)).await;
}

/// A hub that is away for a night is no news every minute.
fn tell_once(fault: &Fault, said: &mut Option<Code>) {
    if *said != Some(fault.code) {
        warn!(code = %fault.code, "Reports do not reach the hub; deliveries go on by themselves: {}", fault.chain());
        *said = Some(fault.code);
    }
}
