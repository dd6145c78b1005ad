//! One session of the link: connect, birth, reports, farewell.
//!
//! The library's event loop and what is told run side by side, because its connecting must not be
//! interrupted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::network::Network;
use phusa_protocol::orders::ORDERS_BYTES_MAX;
use phusa_protocol::report::{Alive, Birth, Channel, Life, REPORT_BYTES_MAX};
use phusa_protocol::verdict::REPORT_EVERY;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, Publish, QoS, TlsConfiguration, Transport,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::compose::{Composer, gist};
use crate::config::plan::address::HubAddress;
use crate::transport::entropy;
use crate::transport::identity::connection_code;

/// How often is looked whether something has changed; also the least time between two reports.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A line that says nothing for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Messages that wait to be sent; what does not fit is left out.
const WAITING_MAX: usize = 4;

/// Messages sent and not acknowledged.
const UNACKNOWLEDGED_MAX: u16 = 4;

/// The largest message from the hub.
const COMMAND_BYTES_MAX: usize = ORDERS_BYTES_MAX + 1_024;

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// One session before it has begun.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) address: HubAddress,
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
        let (client, mut events) = AsyncClient::new(self.options(), WAITING_MAX);
        let (born, mut seen) = watch::channel(false);
        let ended = tokio::select! {
            ended = self.drive(&mut events, &born) => Some(ended),
            () = self.talk(&client, &mut seen, stop) => None,
        };
        let lived = *born.borrow();
        let Some(error) = ended else {
            if lived {
                self.leave(&client, &mut events).await;
            }
            return Ended { lived, fault: None };
        };
        Ended { lived, fault: Some(self.fault(error)) }
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

    fn options(&self) -> MqttOptions {
        let (host, port) = (self.address.host(), self.address.port());
        let mut options = MqttOptions::new(self.agent.to_string(), host, port);
        let tls = TlsConfiguration::Rustls(Arc::new(self.tls.clone()));
        let lost = Life { birth: self.birth, state: Alive::Lost };
        let topic = Channel::Life.topic(&self.agent);
        options
            .set_transport(Transport::tls_with_config(tls))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_inflight(UNACKNOWLEDGED_MAX)
            .set_max_packet_size(COMMAND_BYTES_MAX, REPORT_BYTES_MAX + 1_024)
            .set_last_will(LastWill::new(topic, lost.to_bytes(), QoS::AtLeastOnce, false));
        options
    }

    /// Tells the hub, from the birth on, until stopped.
    async fn talk(
        &self,
        client: &AsyncClient,
        born: &mut watch::Receiver<bool>,
        stop: &CancellationToken,
    ) {
        let lives = async { born.wait_for(|born| *born).await.is_ok() };
        if stop.run_until_cancelled(lives).await != Some(true) {
            return stop.cancelled().await;
        }
        info!(hub = %self.address.host(), "The hub is told how this agent is");
        self.say(client, Channel::Life, Life { birth: self.birth, state: Alive::Born }.to_bytes());
        if client.try_subscribe(Channel::Command.topic(&self.agent), QoS::AtLeastOnce).is_err() {
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
    fn say(&self, client: &AsyncClient, channel: Channel, bytes: Vec<u8>) {
        let topic = channel.topic(&self.agent);
        if client.try_publish(topic, QoS::AtLeastOnce, false, bytes).is_err() {
            tracing::debug!("The hub does not read; a report was left out");
        }
    }

    /// Runs the library until its line breaks.
    async fn drive(&self, events: &mut EventLoop, born: &watch::Sender<bool>) -> ConnectionError {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => drop(born.send_replace(true)),
                Ok(Event::Incoming(Packet::Publish(publish))) => self.heed(&publish),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// What the hub wants is followed where it is the hub's word; all else is refused here.
    fn heed(&self, publish: &Publish) {
        if publish.topic != Channel::Command.topic(&self.agent) {
            let code = Code::OrderRefused;
            return warn!(%code, "The hub sent something to another topic than this agent's own");
        }
        if let Err(fault) = self.compose.orders.take(&publish.payload) {
            warn!(code = %fault.code, "Orders are not followed: {}", fault.chain());
        }
    }

    async fn leave(&self, client: &AsyncClient, events: &mut EventLoop) {
        let leaving = Life { birth: self.birth, state: Alive::Leaving };
        self.say(client, Channel::Life, leaving.to_bytes());
        // The library sends in order: the farewell, then the end of the session.
        let _full = client.try_disconnect();
        let ending = async {
            loop {
                match events.poll().await {
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        let _late = tokio::time::timeout(FAREWELL_MAX, ending).await;
    }

    fn fault(&self, error: ConnectionError) -> Fault {
        let what = format!("the link to {}:{}", self.address.host(), self.address.port());
        if let ConnectionError::ConnectionRefused(code) = error {
            let code = match code {
                ConnectReturnCode::NotAuthorized => Code::OwnCertificate,
                ConnectReturnCode::RefusedProtocolVersion => Code::ProtocolVersion,
                ConnectReturnCode::Success
                | ConnectReturnCode::BadClientId
                | ConnectReturnCode::ServiceUnavailable
                | ConnectReturnCode::BadUserNamePassword => Code::HubUnreachable,
            };
            return Fault::new(code, format!("{what} was refused by the hub"));
        }
        Fault::because(connection_code(&error), what, error)
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
