//! The addresses of checks that go through services.
//!
//! In: one prefix for each family. Out: the prober's address, the one that packets to probe addresses are handed to, and the probe
//! addresses, of which each backend and listener that is checked has one. Invariant: the lower half of a prefix holds probe addresses, the
//! upper half the prober's; nobody else uses any of them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::SyntaxError;

/// The interface that such checks are sent by: the prober's end of a veth of lbd's own.
pub const PROBE_INNER: &str = "lbd-probe0";
/// Its other end, which carries the program.
pub const PROBE_OUTER: &str = "lbd-probe1";

/// Most probe addresses of a family: as many as there are ids of services.
const MOST: u32 = 65_535;
/// Bits of a probe address that say which it is, at most; more room than [`MOST`] keeps addresses from changing places.
const MOST_BITS: u8 = 24;
/// The shortest and longest IPv4 prefix: an eighth of the internet is nobody's, and below a dozen addresses are none to check with.
const V4_LEN: std::ops::RangeInclusive<u8> = 8..=28;
/// The same of IPv6.
const V6_LEN: std::ops::RangeInclusive<u8> = 32..=112;

/// RFC 2544 reserves it for tests of network devices: nobody routes it.
const DEFAULT_V4: (u8, u8, u8) = (198, 18, 15);
/// A unique local prefix (RFC 4193) of lbd's own.
const DEFAULT_V6: [u16; 8] = [0xfd6c, 0x6264, 0x7072, 0x6f62, 0, 0, 0, 0];

/// `datapath.probe_prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct ProbePrefix {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

impl Default for ProbePrefix {
    fn default() -> Self {
        let (a, b, len) = DEFAULT_V4;
        Self {
            v4: Ipv4Net::new([a, b, 0, 0].into(), len).unwrap_or_default(),
            v6: Ipv6Net::new(DEFAULT_V6.into(), 64).unwrap_or_default(),
        }
    }
}

impl TryFrom<Vec<IpNet>> for ProbePrefix {
    type Error = SyntaxError;

    /// At most one prefix of each family; a family without one has the default.
    fn try_from(nets: Vec<IpNet>) -> Result<Self, SyntaxError> {
        let mut prefix = Self::default();
        let mut seen = [false; 2];
        for net in nets {
            let hint = "write one prefix for each family, such as [\"198.18.0.0/15\", \"fd00:1:2:3::/64\"]";
            let family = usize::from(net.addr().is_ipv6());
            if std::mem::replace(&mut seen[family], true) {
                let name = if family == 0 { "IPv4" } else { "IPv6" };
                return Err(SyntaxError::new(format!("probe_prefix names two {name} prefixes"), hint));
            }
            let lengths = if family == 0 { V4_LEN } else { V6_LEN };
            if !lengths.contains(&net.prefix_len()) {
                let (short, long) = (lengths.start(), lengths.end());
                let message = format!("the prefix {net} of probe_prefix is not of /{short} to /{long}");
                return Err(SyntaxError::new(message, hint));
            }
            if net.trunc() != net {
                let message = format!("{net} in probe_prefix is an address, not a prefix");
                return Err(SyntaxError::new(message, format!("write {}", net.trunc())));
            }
            match net {
                IpNet::V4(v4) => prefix.v4 = v4,
                IpNet::V6(v6) => prefix.v6 = v6,
            }
        }
        Ok(prefix)
    }
}

impl From<ProbePrefix> for Vec<IpNet> {
    fn from(prefix: ProbePrefix) -> Self {
        prefix.nets().into()
    }
}

impl ProbePrefix {
    /// Both prefixes, IPv4 first.
    pub const fn nets(&self) -> [IpNet; 2] {
        [IpNet::V4(self.v4), IpNet::V6(self.v6)]
    }

    /// The prefix of a family.
    pub const fn net(&self, is_v4: bool) -> IpNet {
        if is_v4 { IpNet::V4(self.v4) } else { IpNet::V6(self.v6) }
    }

    /// Where checks come from.
    pub fn prober(&self, is_v4: bool) -> IpAddr {
        self.at(is_v4, self.half(is_v4) + 1)
    }

    /// Whom packets to probe addresses are handed to: the program's side of the veth.
    pub fn gateway(&self, is_v4: bool) -> IpAddr {
        self.at(is_v4, self.half(is_v4) + 2)
    }

    /// How many places there are for probe addresses.
    pub fn places(&self, is_v4: bool) -> u32 {
        let bits = self.bits(is_v4).saturating_sub(1).min(MOST_BITS);
        (1 << bits) - 1
    }

    /// How many probe addresses there may be.
    pub fn capacity(&self, is_v4: bool) -> u32 {
        self.places(is_v4).min(MOST)
    }

    /// The probe address in this place, below [`Self::places`].
    pub fn probe(&self, is_v4: bool, place: u32) -> IpAddr {
        self.at(is_v4, u128::from(place) + 1)
    }

    /// How many bits tell the addresses of a prefix apart.
    const fn bits(&self, is_v4: bool) -> u8 {
        if is_v4 { 32 - self.v4.prefix_len() } else { 128 - self.v6.prefix_len() }
    }

    fn half(&self, is_v4: bool) -> u128 {
        1 << self.bits(is_v4).saturating_sub(1)
    }

    fn at(&self, is_v4: bool, offset: u128) -> IpAddr {
        if is_v4 {
            let offset = u32::try_from(offset).unwrap_or_default();
            IpAddr::V4(u32::from(self.v4.network()).wrapping_add(offset).into())
        } else {
            IpAddr::V6(u128::from(self.v6.network()).wrapping_add(offset).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(nets: &[&str]) -> Result<ProbePrefix, SyntaxError> {
        nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>().try_into()
    }

    #[test]
    fn the_halves_of_a_prefix_are_probe_addresses_and_the_prober() {
        let default = ProbePrefix::default();
        let at = |is_v4, place| default.probe(is_v4, place).to_string();
        assert_eq!([at(true, 0), at(true, 65_534)], ["198.18.0.1", "198.18.255.255"]);
        assert_eq!(default.places(true), 65_535);
        assert_eq!(default.prober(true).to_string(), "198.19.0.1");
        assert_eq!(default.gateway(true).to_string(), "198.19.0.2");
        assert_eq!(at(false, 0), "fd6c:6264:7072:6f62::1");
        assert_eq!(default.prober(false).to_string(), "fd6c:6264:7072:6f62:8000::1");
        assert_eq!((default.places(false), default.capacity(false)), ((1 << 24) - 1, 65_535));
        for is_v4 in [true, false] {
            let net = default.net(is_v4);
            let last = default.probe(is_v4, default.places(is_v4) - 1);
            assert!([last, default.prober(is_v4), default.gateway(is_v4)].iter().all(|ip| net.contains(ip)));
            assert!(last < default.prober(is_v4));
        }
        let small = prefix(&["192.0.2.16/28"]).unwrap();
        assert_eq!((small.places(true), small.capacity(true)), (7, 7));
        assert_eq!(
            [small.probe(true, 6), small.prober(true)].map(|ip| ip.to_string()),
            ["192.0.2.23", "192.0.2.25"]
        );
        assert_eq!(small.nets()[1], default.nets()[1], "the other family keeps its own");
    }

    #[test]
    fn what_is_no_prefix_for_it_is_refused_with_what_to_write() {
        for (nets, message) in [
            (&["198.18.0.0/15", "10.0.0.0/8"][..], "probe_prefix names two IPv4 prefixes"),
            (&["10.0.0.0/30"], "the prefix 10.0.0.0/30 of probe_prefix is not of /8 to /28"),
            (&["fd00::/127"], "the prefix fd00::/127 of probe_prefix is not of /32 to /112"),
            (&["10.0.0.1/24"], "10.0.0.1/24 in probe_prefix is an address, not a prefix"),
        ] {
            assert_eq!(prefix(nets).unwrap_err().message, message);
        }
    }

    #[test]
    fn it_comes_back_from_json() {
        let nets = serde_json::to_value(ProbePrefix::default()).unwrap();
        assert_eq!(nets, serde_json::json!(["198.18.0.0/15", "fd6c:6264:7072:6f62::/64"]));
        assert_eq!(serde_json::from_value::<ProbePrefix>(nets).unwrap(), ProbePrefix::default());
    }
}
