//! `[link]`, checked.

use std::net::SocketAddr;

use super::super::LinkFile;
use super::Check;

/// How reports come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkPlan {
    /// Agents dial the hub, which ends MQTT itself.
    Listen(SocketAddr),
    /// Agents and hub meet at a broker.
    Broker(BrokerAddress),
}

/// Where a broker listens for the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or IPv4 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl BrokerAddress {
    /// Where `mqtts://host:port` leads; `None` where it is none. The library puts host and port
    /// together without brackets, so an IPv6 address must be given as a name.
    fn of(text: &str) -> Option<Self> {
        let (host, port) = text.strip_prefix("mqtts://")?.trim_end_matches('/').split_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let whole = !host.is_empty() && host.bytes().all(is_host);
        whole.then(|| Self { host: host.to_owned(), port })
    }
}

impl Check<'_> {
    pub(super) fn link(&mut self, part: &LinkFile) -> Option<LinkPlan> {
        match (&part.listen, &part.broker_url) {
            (Some(listen), None) => self.address("listen", listen).map(LinkPlan::Listen),
            (None, Some(url)) => {
                let found = BrokerAddress::of(url.get_ref());
                if found.is_none() {
                    let why = "`broker_url` is mqtts://host:port without a path, with a name or an \
                               IPv4 address; a broker is reached by TLS only";
                    self.wrong(url.span().start, why);
                }
                found.map(LinkPlan::Broker)
            }
            (Some(both), Some(_)) => {
                let why = "`listen` and `broker_url` exclude each other: the hub ends the link \
                           itself, or a broker does";
                self.wrong(both.span().start, why);
                None
            }
            (None, None) => {
                let at = self.text.find("[link]").unwrap_or(0);
                self.wrong(at, "[link] needs `listen` or `broker_url`");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_by_mqtts_host_and_port_alone() {
        let of = |text| BrokerAddress::of(text).map(|found| (found.host, found.port));
        assert_eq!(of("mqtts://broker.hue.vn:8884"), Some(("broker.hue.vn".to_owned(), 8884)));
        assert_eq!(of("mqtts://10.0.0.9:8884/"), Some(("10.0.0.9".to_owned(), 8884)));
        for wrong in [
            "mqtt://broker:8884",
            "mqtts://broker",
            "mqtts://broker:0",
            "mqtts://[::1]:8884",
            "mqtts://a/b:8884",
            "mqtts://:8884",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
