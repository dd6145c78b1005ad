//! One session of the link: connect, birth, reports, farewell.
//!
//! The library's event loop and what is told run side by side, because its connecting must not be
//! interrupted.

use std::net::IpAddr;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::network::Network;
use phusa_protocol::report::{Alive, Birth, Channel, Life};
use phusa_protocol::verdict::REPORT_EVERY;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::compose::{Composer, gist};
use super::line::{Heard, Listener, Teller, Wanted, line};
use crate::config::plan::address::HubAddress;
use crate::transport::entropy;

/// How often is looked whether something has changed; also the least time between two reports.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A line that says nothing for so long is asked whether it is there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// One session before it has begun.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) address: HubAddress,
    pub(super) is_broker: bool,
    pub(super) allowed: Vec<Network>,
    pub(super) tls: rustls::ClientConfig,
    pub(super) birth: Birth,
    pub(super) compose: Composer,
}

/// How it ended.
pub(super) struct Ended {
    /// Whether the hub had let it in.
    pub(super) lived: bool,
    /// Why, unless it was stopped.
    pub(super) fault: Option<Fault>,
}

impl Session {
    /// Lives until the line breaks or the agent is stopped.
    pub(super) async fn run(self, stop: &CancellationToken) -> Ended {
        if let Err(fault) = self.may_dial().await {
            return Ended { lived: false, fault: Some(fault) };
        }
        let (client, mut events) = line(self.wanted());
        let (born, mut seen) = watch::channel(false);
        let ended = tokio::select! {
            ended = self.drive(&mut events, &born) => Some(ended),
            () = self.talk(&client, &mut seen, stop) => None,
        };
        let lived = *born.borrow();
        let Some(fault) = ended else {
            if lived {
                self.leave(&client, &mut events).await;
            }
            return Ended { lived, fault: None };
        };
        Ended { lived, fault: Some(fault) }
    }

    /// The hub's addresses must lie in `allowed_networks` (CT-22). The library looks a name up once
    /// more; whoever answers then must still hold a certificate of the hub's CA.
    async fn may_dial(&self) -> Result<(), Fault> {
        let (host, port) = (self.address.host(), self.address.port());
        let what = || format!("cannot dial the link at {host}:{port}");
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| Fault::because(Code::HubUnreachable, what(), error))?;
        let is_allowed = |address: IpAddr| {
            self.allowed.is_empty() || self.allowed.iter().any(|one| one.contains(address))
        };
        let mut found = found.map(|address| address.ip());
        match found.all(is_allowed) {
            true => Ok(()),
            false => Err(Fault::new(Code::NetworkNotAllowed, what())),
        }
    }

    fn wanted(&self) -> Wanted {
        let lost = Life { birth: self.birth, state: Alive::Lost };
        Wanted {
            id: self.agent.to_string(),
            to: (self.address.host().to_owned(), self.address.port()),
            tls: self.tls.clone(),
            will: (Channel::Life.topic(&self.agent), lost.to_bytes()),
            is_broker: self.is_broker,
        }
    }

    /// Tells the hub, from the birth on, until stopped.
    async fn talk(
        &self,
        client: &Teller,
        born: &mut watch::Receiver<bool>,
        stop: &CancellationToken,
    ) {
        let lives = async { born.wait_for(|born| *born).await.is_ok() };
        if stop.run_until_cancelled(lives).await != Some(true) {
            return stop.cancelled().await;
        }
        info!(hub = %self.address.host(), "The hub is told how this agent is");
        self.say(client, Channel::Life, Life { birth: self.birth, state: Alive::Born }.to_bytes());
        if !client.subscribe(Channel::Command.topic(&self.agent)) {
            tracing::debug!("The hub does not read; its orders come with the next session");
        }
        let (mut told, mut next) = (None, Instant::now());
        loop {
            let report = self.compose.report(self.birth);
            let now = Instant::now();
            let gist = gist(&report);
            if now >= next || told.as_ref() != Some(&gist) {
                self.say(client, Channel::Report, report.to_bytes());
                (told, next) = (Some(gist), now + due(entropy()));
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Hands a message to the library; one that has no room is left out, the next says it all.
    fn say(&self, client: &Teller, channel: Channel, bytes: Vec<u8>) {
        if !client.say(channel.topic(&self.agent), bytes) {
            tracing::debug!("The hub does not read; a report was left out");
        }
    }

    /// Runs the library until its line breaks.
    async fn drive(&self, events: &mut Listener, born: &watch::Sender<bool>) -> Fault {
        let what = format!("the link to {}:{}", self.address.host(), self.address.port());
        loop {
            match events.next(&what).await {
                Ok(Heard::Opened) => drop(born.send_replace(true)),
                Ok(Heard::Told { topic, payload }) => self.heed(&topic, &payload),
                Ok(Heard::Left | Heard::Nothing) => {}
                Err(fault) => return fault,
            }
        }
    }

    /// What the hub wants is followed where it is the hub's word; all else is refused here.
    fn heed(&self, topic: &str, payload: &[u8]) {
        if topic != Channel::Command.topic(&self.agent) {
            let code = Code::OrderRefused;
            return warn!(%code, "The hub sent something to another topic than this agent's own");
        }
        if let Err(fault) = self.compose.orders.take(payload) {
            warn!(code = %fault.code, "Orders are not followed: {}", fault.chain());
        }
    }

    async fn leave(&self, client: &Teller, events: &mut Listener) {
        let leaving = Life { birth: self.birth, state: Alive::Leaving };
        self.say(client, Channel::Life, leaving.to_bytes());
        // The library sends in order: the farewell, then the end of the session.
        client.leave();
        let ending = async {
            loop {
                match events.next("the link").await {
                    Ok(Heard::Left) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        let _late = tokio::time::timeout(FAREWELL_MAX, ending).await;
    }
}

/// When the next report is due: up to a tenth earlier or later, so that a province that was started
/// in one minute does not report in one second.
fn due(entropy: u32) -> Duration {
    REPORT_EVERY * 9 / 10 + REPORT_EVERY / 5 * (entropy % 1_024) / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_every_half_minute_a_tenth_earlier_or_later() {
        assert_eq!(due(0), Duration::from_secs(27));
        let latest = due(1_023);
        assert!(latest > Duration::from_secs(32) && latest <= Duration::from_secs(33));
    }
}
