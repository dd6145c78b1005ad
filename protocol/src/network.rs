//! `Network`: a range of IP addresses in CIDR form, and whether an address lies inside it (CT-22).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_inside_or_outside() {
        let check = |network: &str, address: &str, inside: bool| {
            let network = network.parse::<Network>().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("10.0.0.0/8", "::ffff:10.1.1.1", true);
        check("fd00::/8", "fd12::1", true);
        check("::/0", "fe80::1", true);
        for bad in
            ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "example.org", "10.0.0.1/8"]
        {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
    }
}
