//! One agent's session: packets in, what [`rules`](super::rules) decides out. It reads the next
//! packet only when the last one is stored, so an agent that says more than the database takes waits.

use std::sync::Arc;

use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::SignedOrders;
use phusa_protocol::report::{Channel, Life};
use phusa_protocol::time::Timestamp;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, Publish};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::rules::{Act, Rules};
use super::wire::{Broken, Wire};
use crate::SECURITY;
use crate::error::Refused;
use crate::fleet::reports;
use crate::listen::{Peer, may_no_longer};

/// A connection after its handshake.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) peer: Peer,
    pub(super) shared: Shared,
    /// Why this agent may not speak, where that is so.
    pub(super) refused: Option<Refused>,
}

/// How a session ended.
enum Ending {
    /// The agent said so.
    Bye,
    /// The hub stops; the agent is not lost by that.
    Stopped,
    /// Another session of the same agent took its place.
    Replaced,
    /// It is not let in, or no longer, or said what it may not.
    Refused(String),
    /// The line broke.
    Broke(Broken),
    /// What it said could not be stored; it will say it again.
    NotStored(Fault),
}

impl Session {
    /// Serves until the agent leaves, the hub stops, or this agent may speak no longer.
    pub(super) async fn run(mut self, stream: TlsStream<TcpStream>, stop: CancellationToken) {
        let mut wire = Wire::new(stream);
        if let Some(refused) = self.refused.take() {
            let (code, what) = (refused.code, &refused.what);
            warn!(target: SECURITY, %code, agent = %self.agent, "Refused a session of the link: {what}");
            let mut rules = Rules::new(self.agent.clone());
            let (bytes_max, wait) = rules.bounds();
            if let Ok(packet @ Packet::Connect(_)) = wire.next(bytes_max, wait).await {
                let _unused = rules.take(packet);
                let answer = ConnAck::new(ConnectReturnCode::NotAuthorized, false);
                let _cut = wire.send(&Packet::ConnAck(answer)).await;
            }
            return wire.close().await;
        }
        let (number, replaced) = self.shared.sessions.enter(&self.agent);
        self.shared.metrics.session(true);
        let mut rules = Rules::new(self.agent.clone());
        let ending = self.speak(&mut wire, &mut rules, (&stop, &replaced)).await;
        self.shared.sessions.leave(&self.agent, number);
        self.shared.metrics.session(false);
        self.ended(&ending, rules.will()).await;
        wire.close().await;
    }

    async fn speak(
        &self,
        wire: &mut Wire<TlsStream<TcpStream>>,
        rules: &mut Rules,
        (stop, replaced): (&CancellationToken, &CancellationToken),
    ) -> Ending {
        let mut register = self.shared.register.clone();
        let mut barred = std::pin::pin!(may_no_longer(&self.peer, &mut register));
        let mut orders = self.shared.orders.clone();
        let (mut listens, mut told) = (false, None);
        loop {
            if listens {
                let wanted = orders.borrow_and_update().get(&self.agent).cloned();
                if wanted != told {
                    let sent = tokio::select! {
                        why = barred.as_mut() => return Ending::Refused(why.to_owned()),
                        sent = self.order(wire, wanted.as_ref()) => sent,
                    };
                    if let Err(broken) = sent {
                        return Ending::Broke(broken);
                    }
                    told = wanted;
                }
            }
            let (bytes_max, wait) = rules.bounds();
            let packet = tokio::select! {
                why = barred.as_mut() => return Ending::Refused(why.to_owned()),
                () = stop.cancelled() => return Ending::Stopped,
                () = replaced.cancelled() => return Ending::Replaced,
                Ok(()) = orders.changed() => continue,
                packet = wire.next(bytes_max, wait) => packet,
            };
            let acts = match packet {
                Ok(packet) => rules.take(packet),
                Err(broken) => return Ending::Broke(broken),
            };
            for act in acts {
                listens |= act == Act::Listens;
                let ended = tokio::select! {
                    why = barred.as_mut() => Some(Ending::Refused(why.to_owned())),
                    ended = self.act(wire, act) => ended,
                };
                if let Some(ending) = ended {
                    return ending;
                }
            }
        }
    }

    /// Tells the agent all that is wanted of it. It is told again with its next session, and when
    /// that changes; whether it did it, its reports say.
    async fn order(
        &self,
        wire: &mut Wire<TlsStream<TcpStream>>,
        wanted: Option<&SignedOrders>,
    ) -> Result<(), Broken> {
        let Some(wanted) = wanted else { return Ok(()) };
        let topic = Channel::Command.topic(&self.agent);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, wanted.to_bytes());
        // One is on its way at a time, and what is acknowledged is not counted.
        publish.pkid = 1;
        wire.send(&Packet::Publish(publish)).await
    }

    /// Does one thing; `Some` when that is the end.
    async fn act(&self, wire: &mut Wire<TlsStream<TcpStream>>, act: Act) -> Option<Ending> {
        match act {
            Act::Send(packet) => wire.send(&packet).await.err().map(Ending::Broke),
            Act::Report(report) => {
                let stored = async {
                    let _turn = Arc::clone(&self.shared.storing).acquire_owned().await;
                    let mut client = self.shared.warehouse.client().await?;
                    reports::keep(&mut client, &report, Timestamp::now()).await
                };
                let stored = stored.await;
                self.shared.metrics.reported(stored.is_ok());
                stored.err().map(Ending::NotStored)
            }
            Act::Life(life) => self.store(life).await.err().map(Ending::NotStored),
            Act::Listens => None,
            Act::Bye => Some(Ending::Bye),
            Act::Refuse(why) => Some(Ending::Refused(why.to_owned())),
        }
    }

    async fn store(&self, life: Life) -> Result<(), Fault> {
        let _turn = Arc::clone(&self.shared.storing).acquire_owned().await;
        let client = self.shared.warehouse.client().await?;
        reports::keep_life(&client, &self.agent, life, Timestamp::now()).await
    }

    /// Tells of an end once, and lets the will count where the session broke: whom the hub itself
    /// cut is not lost by that.
    async fn ended(&self, ending: &Ending, will: Option<Life>) {
        let (agent, address) = (&self.agent, self.peer.address);
        match ending {
            Ending::Bye | Ending::Stopped => return,
            Ending::Replaced => info!(%agent, "A new session of {agent} replaced its old one"),
            Ending::Refused(why) => {
                return warn!(target: SECURITY, %agent, %address, "Cut a session of the link with {agent}: {why}");
            }
            Ending::Broke(broken) => {
                debug!(%agent, error = %broken, "A session of the link with {agent} broke: {broken}");
            }
            Ending::NotStored(fault) => {
                return warn!(%agent, code = %fault.code, "What {agent} reported was not stored: {}", fault.chain());
            }
        }
        let Some(will) = will else { return };
        if let Err(fault) = self.store(will).await {
            warn!(%agent, code = %fault.code, "The end of a session was not stored: {}", fault.chain());
        }
    }
}
