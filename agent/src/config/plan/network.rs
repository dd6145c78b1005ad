//! `Network`: a range of IP addresses in CIDR form; `HubAddress`: the one URL an agent connects to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses, such as `10.0.0.0/8` or `fd00::/8`; one address is `/32` or `/128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is written 10.0.0.0/8 or fd00::/8, without bits set after the prefix")]
pub struct BadNetwork;

impl Network {
    /// Whether `address` lies in it. An IPv4 address written inside IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4()
            && (bits(address) ^ bits(self.first)) & self.mask() == 0
    }

    /// The prefix as ones, at the top of 128 bits.
    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0)
    }
}

/// The address at the top of 128 bits, so that both families shift alike.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = BadNetwork;
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let first: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let bits_max = if first.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match (text.contains('/'), prefix.parse::<u8>()) {
            (false, _) => bits_max,
            (true, Ok(prefix)) if prefix <= bits_max => prefix,
            (true, _) => return Err(BadNetwork),
        };
        let network = Self { first, prefix_bits };
        if bits(first) & !network.mask() != 0 {
            return Err(BadNetwork);
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

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
    fn a_network_holds_its_own_addresses_and_no_others() {
        let check = |network: &str, address: &str, inside: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "192.0.2.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7/32", "192.0.2.6", false);
        check("fd00::/8", "fd12::1", true);
        check("fd00::/8", "fe80::1", false);
        check("::1/128", "::1", true);
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "fd00::/129", "ten/8"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
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
