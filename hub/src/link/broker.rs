//! The link through a broker of the province: MQTT 5 as a client, for many hub processes at once.
//!
//! The broker tells agents from each other by their certificates and lets each use its own topics alone
//! (`configs/mosquitto`); the hub believes it in that, and in nothing else: who may not speak is not
//! listened to, and orders are signed. Reports are shared among the processes that subscribe
//! together. Orders lie at the broker as retained messages, so an agent that comes later hears them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::delivery::backoff;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::SignedOrders;
use phusa_protocol::report::{Channel, REPORT_BYTES_MAX};
use phusa_protocol::time::Timestamp;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, PubAckReason, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use super::rules::{Act, meaning};
use crate::SECURITY;
use crate::config::plan::link::BrokerAddress;
use crate::fleet::reports;
use crate::ingest::check::known;

/// A line that says nothing for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Messages that wait to be sent.
const WAITING_MAX: usize = 16;

/// Messages of the broker on their way at once: it keeps the rest.
const RECEIVE_MAX: u16 = 32;

/// Hub processes that share one group get each report once between them.
const GROUP: &str = "phusa-hub";

/// Agents of which it is remembered what was last refused.
const REFUSED_MAX: usize = 2_048;

/// The hub as a client of a broker.
pub struct Broker {
    address: BrokerAddress,
    tls: Arc<rustls::ClientConfig>,
    shared: Shared,
    refused: BTreeMap<AgentId, &'static str>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    pub(super) fn new(address: BrokerAddress, tls: rustls::ClientConfig, shared: Shared) -> Self {
        Self { address, tls: Arc::new(tls), shared, refused: BTreeMap::new() }
    }

    /// Keeps a session until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut failures, mut said) = (0, None);
        while !stop.is_cancelled() {
            let (born, seen) = watch::channel(false);
            let ended = stop.run_until_cancelled(self.session(&born, seen)).await;
            let Some(error) = ended else { return };
            if *born.borrow() {
                (failures, said) = (0, None);
            }
            let fault = self.fault(error);
            if said != Some(fault.code) {
                warn!(code = %fault.code, "Nothing is heard of agents through the broker; deliveries go on: {}", fault.chain());
                said = Some(fault.code);
            }
            let mut entropy = [0; 4];
            let _none = getrandom::fill(&mut entropy);
            let span = backoff(failures, u32::from_le_bytes(entropy));
            let _stopped = stop.run_until_cancelled(tokio::time::sleep(span)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// One session; returns when its line breaks.
    async fn session(
        &mut self,
        born: &watch::Sender<bool>,
        seen: watch::Receiver<bool>,
    ) -> ConnectionError {
        let (client, mut events) = AsyncClient::new(self.options(), WAITING_MAX);
        let telling = tell(client.clone(), self.shared.orders.clone(), seen);
        tokio::select! {
            error = self.listen(&client, &mut events, born) => error,
            never = telling => match never {},
        }
    }

    fn options(&self) -> MqttOptions {
        let mut random = [0; 8];
        let _zeros = getrandom::fill(&mut random);
        let id = format!("{GROUP}-{:016x}", u64::from_le_bytes(random));
        let mut options = MqttOptions::new(id, &self.address.host, self.address.port);
        let tls = TlsConfiguration::Rustls(Arc::clone(&self.tls));
        options
            .set_transport(Transport::tls_with_config(tls))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_receive_maximum(Some(RECEIVE_MAX))
            .set_max_packet_size(u32::try_from(REPORT_BYTES_MAX + 1_024).ok());
        options
    }

    async fn listen(
        &mut self,
        client: &AsyncClient,
        events: &mut EventLoop,
        born: &watch::Sender<bool>,
    ) -> ConnectionError {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let filters = [Channel::Report, Channel::Life]
                        .map(|channel| Filter::new(shared_filter(channel), QoS::AtLeastOnce));
                    if client.try_subscribe_many(filters).is_err() {
                        warn!("The broker does not read; the hub subscribes with its next session");
                    }
                    info!(broker = %self.address.host, "The hub meets agents at the broker");
                    born.send_replace(true);
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) => granted(&answer),
                Ok(Event::Incoming(Packet::PubAck(answer))) => {
                    if answer.reason == PubAckReason::NotAuthorized {
                        denied("publish orders to phusa/+/+/command");
                    }
                }
                // Nothing more is read while this is stored; the broker keeps what comes.
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(&publish).await,
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Stores what an agent says that may speak; all else is told of and left.
    async fn take(&mut self, publish: &Publish) {
        let topic = String::from_utf8_lossy(&publish.topic);
        let Some(agent) = sender(&topic) else {
            return warn!(target: SECURITY, code = %Code::OwnCertificate, "The broker passed on a message of nobody");
        };
        let barred = known(&self.shared.register.borrow(), &agent).err();
        if let Some(refused) = barred {
            let (code, what) = (refused.code, refused.what);
            if self.is_news(&agent, code.name()) {
                warn!(target: SECURITY, %code, %agent, "Left unread what came through the broker: {what}");
            }
            return;
        }
        let act = match meaning(&agent, &topic, &publish.payload) {
            Ok(act) => act,
            Err(why) => {
                if self.is_news(&agent, why) {
                    warn!(target: SECURITY, %agent, "Left unread what came through the broker from {agent}: {why}");
                }
                return;
            }
        };
        self.refused.remove(&agent);
        let stored = async {
            let (mut client, now) = (self.shared.warehouse.client().await?, Timestamp::now());
            match act {
                Act::Report(report) => reports::keep(&mut client, &report, now).await,
                Act::Life(life) => reports::keep_life(&client, &agent, life, now).await,
                Act::Send(_) | Act::Listens | Act::Bye | Act::Refuse(_) => Ok(()),
            }
        };
        let stored = stored.await;
        self.shared.metrics.reported(stored.is_ok());
        if let Err(fault) = stored {
            warn!(%agent, code = %fault.code, "What {agent} reported was not stored: {}", fault.chain());
        }
    }

    /// Whether this is said of this agent for the first time since it last spoke well.
    fn is_news(&mut self, agent: &AgentId, why: &'static str) -> bool {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(agent.clone(), why) != Some(why)
    }

    fn fault(&self, error: ConnectionError) -> Fault {
        let what = format!("the broker at {}:{}", self.address.host, self.address.port);
        let is_refused = matches!(error, ConnectionError::ConnectionRefused(_));
        let code = if is_refused { Code::LinkDenied } else { Code::LinkUnreachable };
        Fault::because(code, what, error)
    }
}

/// Tells agents what is wanted of them: all of it with each session, then what changes.
async fn tell(
    client: AsyncClient,
    mut orders: watch::Receiver<super::Wanted>,
    mut seen: watch::Receiver<bool>,
) -> std::convert::Infallible {
    let mut told: BTreeMap<AgentId, SignedOrders> = BTreeMap::new();
    if seen.wait_for(|born| *born).await.is_ok() {
        loop {
            let wanted = orders.borrow_and_update().clone();
            for (agent, one) in wanted.iter() {
                if told.get(agent) == Some(one) {
                    continue;
                }
                let topic = Channel::Command.topic(agent);
                let sent = client.publish(topic, QoS::AtLeastOnce, true, one.to_bytes()).await;
                if sent.is_ok() {
                    told.insert(agent.clone(), one.clone());
                }
            }
            if orders.changed().await.is_err() {
                break;
            }
        }
    }
    // Nothing more will be wanted; the session goes on for what is reported.
    std::future::pending().await
}

fn shared_filter(channel: Channel) -> String {
    format!("$share/{GROUP}/{}", channel.of_all())
}

fn granted(answer: &SubAck) {
    let is_granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
    if !answer.return_codes.iter().all(is_granted) {
        denied("subscribe to phusa/+/+/report and phusa/+/+/life");
    }
}

fn denied(what: &str) {
    let code = Code::LinkDenied;
    warn!(%code, "The broker does not let the hub {what}; see configs/mosquitto for its rules");
}

/// Whose topic this is.
fn sender(topic: &str) -> Option<AgentId> {
    let (agent, _) = topic.strip_prefix("phusa/")?.rsplit_once('/')?;
    AgentId::try_from(agent.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_agent_and_the_filters_name_them_all() {
        let agent = sender("phusa/H57.12/may-1/report").unwrap();
        assert_eq!(agent.to_string(), "H57.12/may-1");
        assert_eq!(Channel::Report.topic(&agent), "phusa/H57.12/may-1/report");
        for of_nobody in ["phusa/report", "phusa//report", "other/H57.12/may-1/report", ""] {
            assert!(sender(of_nobody).is_none(), "{of_nobody}");
        }
        assert_eq!(shared_filter(Channel::Life), "$share/phusa-hub/phusa/+/+/life");
    }
}
