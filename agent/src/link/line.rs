//! The library's two clients behind one face: MQTT 3.1.1 toward the hub, which ends it itself, and
//! MQTT 5 toward a broker, whose answers say that it denied something.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::orders::ORDERS_BYTES_MAX;
use phusa_protocol::report::REPORT_BYTES_MAX;
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Outgoing, Packet, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};

use super::session::KEEP_ALIVE;
use crate::transport::identity::connection_code;

/// Messages that wait to be sent; what does not fit is left out.
const WAITING_MAX: usize = 4;

/// Messages sent and not acknowledged.
const UNACKNOWLEDGED_MAX: u16 = 4;

/// The largest message from the hub.
const COMMAND_BYTES_MAX: usize = ORDERS_BYTES_MAX + 1_024;

/// What a session is opened with.
pub(super) struct Wanted {
    /// The client id.
    pub(super) id: String,
    /// Host and port.
    pub(super) to: (String, u16),
    /// How the other side is known, and this one shows itself.
    pub(super) tls: rustls::ClientConfig,
    /// Topic and message of the last will.
    pub(super) will: (String, Vec<u8>),
    /// Whether a broker is there, and not the hub itself.
    pub(super) is_broker: bool,
}

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    /// The session is open.
    Opened,
    /// A message, with its topic.
    Told { topic: String, payload: Vec<u8> },
    /// The end of the session was sent.
    Left,
    /// Nothing that matters.
    Nothing,
}

/// The side that says something. Nothing waits here: what has no room is left out.
#[derive(Clone)]
pub(super) enum Teller {
    Hub(AsyncClient),
    Broker(v5::AsyncClient),
}

/// The side that hears; it must be asked again and again for anything to be sent.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and it is not moved about")]
pub(super) enum Listener {
    Hub(EventLoop),
    Broker(v5::EventLoop),
}

/// A line before it is dialled.
pub(super) fn line(wanted: Wanted) -> (Teller, Listener) {
    let Wanted { id, to: (host, port), tls, will: (topic, message), is_broker } = wanted;
    let transport = Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls)));
    if is_broker {
        let mut options = v5::MqttOptions::new(id, host, port);
        let quality = v5::mqttbytes::QoS::AtLeastOnce;
        options
            .set_transport(transport)
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_outgoing_inflight_upper_limit(UNACKNOWLEDGED_MAX)
            .set_max_packet_size(u32::try_from(COMMAND_BYTES_MAX).ok())
            .set_last_will(packets::LastWill::new(topic, message, quality, false, None));
        let (client, events) = v5::AsyncClient::new(options, WAITING_MAX);
        return (Teller::Broker(client), Listener::Broker(events));
    }
    let mut options = MqttOptions::new(id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_inflight(UNACKNOWLEDGED_MAX)
        .set_max_packet_size(COMMAND_BYTES_MAX, REPORT_BYTES_MAX + 1_024)
        .set_last_will(LastWill::new(topic, message, QoS::AtLeastOnce, false));
    let (client, events) = AsyncClient::new(options, WAITING_MAX);
    (Teller::Hub(client), Listener::Hub(events))
}

impl Teller {
    /// Says something at least once; whether there was room.
    pub(super) fn say(&self, topic: String, bytes: Vec<u8>) -> bool {
        match self {
            Self::Hub(client) => client.try_publish(topic, QoS::AtLeastOnce, false, bytes).is_ok(),
            Self::Broker(client) => {
                let quality = v5::mqttbytes::QoS::AtLeastOnce;
                client.try_publish(topic, quality, false, bytes).is_ok()
            }
        }
    }

    /// Asks for a topic; whether there was room.
    pub(super) fn subscribe(&self, topic: String) -> bool {
        match self {
            Self::Hub(client) => client.try_subscribe(topic, QoS::AtLeastOnce).is_ok(),
            Self::Broker(client) => {
                client.try_subscribe(topic, v5::mqttbytes::QoS::AtLeastOnce).is_ok()
            }
        }
    }

    /// Ends the session after what was said.
    pub(super) fn leave(&self) {
        // Without room the line is cut, which ends it too.
        let _full = match self {
            Self::Hub(client) => client.try_disconnect().is_ok(),
            Self::Broker(client) => client.try_disconnect().is_ok(),
        };
    }
}

impl Listener {
    /// What comes next.
    ///
    /// # Errors
    /// When the line broke or the session was refused: `link_denied` where a broker denies it.
    pub(super) async fn next(&mut self, what: &str) -> Result<Heard, Fault> {
        match self {
            Self::Hub(events) => match events.poll().await {
                Ok(event) => hub_event(event, what),
                Err(error) => Err(hub_fault(error, what)),
            },
            Self::Broker(events) => match events.poll().await {
                Ok(event) => broker_event(event, what),
                Err(error) => Err(broker_fault(error, what)),
            },
        }
    }
}

fn hub_event(event: Event, what: &str) -> Result<Heard, Fault> {
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Ok(Heard::Opened),
        Event::Incoming(Packet::Publish(one)) => {
            Ok(Heard::Told { topic: one.topic, payload: one.payload.to_vec() })
        }
        Event::Incoming(Packet::SubAck(answer))
            if answer.return_codes.contains(&SubscribeReasonCode::Failure) =>
        {
            Err(Fault::new(Code::LinkDenied, format!("{what} denies to listen for orders")))
        }
        Event::Outgoing(Outgoing::Disconnect) => Ok(Heard::Left),
        Event::Incoming(_) | Event::Outgoing(_) => Ok(Heard::Nothing),
    }
}

fn hub_fault(error: ConnectionError, what: &str) -> Fault {
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
    Fault::because(connection_code(&error), what.to_owned(), error)
}

fn broker_event(event: v5::Event, what: &str) -> Result<Heard, Fault> {
    let denies = |to: &str| Err(Fault::new(Code::LinkDenied, format!("{what} denies to {to}")));
    match event {
        v5::Event::Incoming(packets::Packet::ConnAck(_)) => Ok(Heard::Opened),
        v5::Event::Incoming(packets::Packet::Publish(one)) => {
            let topic = String::from_utf8_lossy(&one.topic).into_owned();
            Ok(Heard::Told { topic, payload: one.payload.to_vec() })
        }
        v5::Event::Incoming(packets::Packet::PubAck(answer)) => match answer.reason {
            packets::PubAckReason::Success | packets::PubAckReason::NoMatchingSubscribers => {
                Ok(Heard::Nothing)
            }
            _ => denies("report"),
        },
        v5::Event::Incoming(packets::Packet::SubAck(answer)) => {
            let is_granted = |code: &packets::SubscribeReasonCode| {
                matches!(code, packets::SubscribeReasonCode::Success(_))
            };
            match answer.return_codes.iter().all(is_granted) {
                true => Ok(Heard::Nothing),
                false => denies("listen for orders"),
            }
        }
        v5::Event::Outgoing(Outgoing::Disconnect) => Ok(Heard::Left),
        v5::Event::Incoming(_) | v5::Event::Outgoing(_) => Ok(Heard::Nothing),
    }
}

fn broker_fault(error: v5::ConnectionError, what: &str) -> Fault {
    let code = match &error {
        v5::ConnectionError::ConnectionRefused(_) => Code::LinkDenied,
        v5::ConnectionError::Tls(_) => match connection_code(&error) {
            Code::HubUnreachable => Code::LinkUnreachable,
            other => other,
        },
        _ => Code::LinkUnreachable,
    };
    Fault::because(code, what.to_owned(), error)
}
