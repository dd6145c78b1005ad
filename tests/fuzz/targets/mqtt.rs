//! The link: any bytes are packets as the hub's end reads them, or end the session; what the hub
//! answers is a packet, and what it stores is the agent's own report within its bounds.

#![cfg_attr(fuzzing, no_main)]

use bytes::BytesMut;
use phusa_fuzz::{agent, comes_back, fuzz_target, key};
use phusa_hub::link::rules::{Act, Rules};
use phusa_protocol::orders::{ORDERS_MAX, SignedOrders};
use phusa_protocol::report::{Channel, DATASETS_MAX, Life, REPORT_BYTES_MAX, Report};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish};

fn written(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, usize::MAX).expect("a packet of ours can be written");
    bytes
}

/// Feeds a session until it ends; whether it does.
fn session(rules: &mut Rules, buffer: &mut BytesMut) -> bool {
    loop {
        let (bytes_max, _) = rules.bounds();
        let Ok(packet) = Packet::read(buffer, bytes_max) else { return true };
        for act in rules.take(packet) {
            match act {
                Act::Send(packet) => {
                    let mut bytes = written(&packet);
                    assert_eq!(Packet::read(&mut bytes, usize::MAX).ok(), Some(packet));
                }
                Act::Report(report) => {
                    assert!(report.agent == agent() && report.datasets.len() <= DATASETS_MAX);
                    let bytes = report.to_bytes();
                    // Written by us it may be longer than it came, by what it left out.
                    assert!(bytes.len() <= 2 * REPORT_BYTES_MAX);
                }
                Act::Life(_) | Act::Listens => {}
                Act::Bye | Act::Refuse(_) => return true,
            }
        }
    }
}

/// What the hub wants of an agent, as the agent reads it.
fn orders(data: &[u8]) {
    let hub = key().public();
    if let Ok(signed) = SignedOrders::read(data) {
        assert!(signed.open(&hub, &agent()).is_err(), "nobody signed it");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let signature = key().sign(format!("phusa/orders/1\n{text}").as_bytes());
    let signed = SignedOrders { orders: text.to_owned(), signature };
    if let Ok(read) = signed.open(&hub, &agent()) {
        assert!(read.orders.len() + read.refused <= ORDERS_MAX && read.agent == agent());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else { return };
    let mut rules = Rules::new(agent());
    if how & 1 == 0 {
        session(&mut rules, &mut BytesMut::from(rest));
        return;
    }
    let mut hello = Connect::new(agent().to_string());
    hello.keep_alive = 30;
    let mut buffer = written(&Packet::Connect(hello));
    match how % 8 {
        1 => buffer.extend_from_slice(rest),
        3 => {
            let publish = Publish::new(Channel::Report.topic(&agent()), QoS::AtMostOnce, rest);
            buffer.extend(written(&Packet::Publish(publish)));
            drop(comes_back::<Report>(rest));
        }
        5 => {
            let publish = Publish::new(Channel::Life.topic(&agent()), QoS::AtMostOnce, rest);
            buffer.extend(written(&Packet::Publish(publish)));
            let _ = comes_back::<Life>(rest);
        }
        _ => orders(rest),
    }
    session(&mut rules, &mut buffer);
});
