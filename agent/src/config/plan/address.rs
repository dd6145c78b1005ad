//! `HubAddress`: the one URL an agent connects to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where the hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    host: String,
    port: u16,
}

/// A text that is no address of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`url` is https://host:port without a path; the hub is reached by TLS only")]
pub struct BadHubAddress;

/// Where HTTPS listens when a URL does not say.
const HTTPS_PORT: u16 = 443;

impl HubAddress {
    /// Host name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a link's URL leads, `mqtts://host:port`; `None` where it is none.
    #[must_use]
    pub fn of_link(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("mqtts://").filter(|rest| rest.contains(':'))?;
        let found: Self = format!("https://{rest}").parse().ok()?;
        // The library puts host and port together without brackets.
        (!found.host.contains(':')).then_some(found)
    }

    /// The IP address, where the URL has one in place of a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HubAddress {
    type Err = BadHubAddress;
    fn from_str(text: &str) -> Result<Self, BadHubAddress> {
        let rest = text.strip_prefix("https://").ok_or(BadHubAddress)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(HTTPS_PORT), str::parse).map_err(|_| BadHubAddress)?;
        if port == 0 || !(is_host_name(host) || host.parse::<IpAddr>().is_ok()) {
            return Err(BadHubAddress);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(IpAddr::V6(address)) => write!(f, "https://[{address}]:{}", self.port),
            _ => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_reached_by_mqtts_alone() {
        let of = |text| HubAddress::of_link(text).map(|found| (found.host, found.port));
        assert_eq!(of("mqtts://hub.example:7445"), Some(("hub.example".to_owned(), 7445)));
        assert_eq!(of("mqtts://10.1.2.3:7445"), Some(("10.1.2.3".to_owned(), 7445)));
        for wrong in ["mqtt://hub:7445", "mqtts://hub", "mqtts://[::1]:7445", "mqtts://hub:7445/x"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_hub_is_reached_by_https_alone() {
        let check = |text: &str, expected: Option<&str>| {
            let found = text.parse::<HubAddress>().ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("https://10.1.2.3:7443", Some("https://10.1.2.3:7443"));
        check("https://hub.hue.gov.vn/", Some("https://hub.hue.gov.vn:443"));
        check("https://[fd00::1]:7443", Some("https://[fd00::1]:7443"));
        check("http://10.1.2.3:7443", None);
        check("https://user@10.1.2.3", None);
        check("https://10.1.2.3:7443/path", None);
        check("https://10.1.2.3:0", None);
        check("https://", None);
    }
}
