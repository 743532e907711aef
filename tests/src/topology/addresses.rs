//! Who has which address. Documentation prefixes only (RFC 5737, RFC 3849), so nothing real can be meant.
//!
//! | where | IPv4 | IPv6 |
//! |---|---|---|
//! | client side | 192.0.2.0/24 | 2001:db8:1::/64 |
//! | backend side | 198.51.100.0/24 | 2001:db8:2::/64 |
//! | vip, a host route | 203.0.113.10 | 2001:db8:3::10 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// Length of an IPv4 side's prefix.
pub(super) const V4_PREFIX_LEN: u8 = 24;
/// Length of an IPv6 side's prefix.
pub(super) const V6_PREFIX_LEN: u8 = 64;
/// How many addresses the balancer has on the backend side: its own, and more sources for full-nat.
pub(super) const BALANCER_SOURCES: u8 = 4;
/// How many it can have ([`super::Topology::add_sources`]).
pub(super) const MOST_SOURCES: u8 = 100;

/// An address in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// The one of a family.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Each address with the length of its side's prefix.
    pub(super) fn with_prefix_lens(self) -> [(IpAddr, u8); 2] {
        [(self.v4.into(), V4_PREFIX_LEN), (self.v6.into(), V6_PREFIX_LEN)]
    }

    /// Each address with the length of a host's prefix.
    pub(super) fn as_hosts(self) -> [(IpAddr, u8); 2] {
        [(self.v4.into(), 32), (self.v6.into(), 128)]
    }
}

/// The service's address.
pub(super) const VIP: Pair =
    Pair { v4: Ipv4Addr::new(203, 0, 113, 10), v6: Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10) };
/// The client's default gateway: the balancer's front in two arms, the router in one.
pub(super) const CLIENT_GATEWAY: Pair = client_side(1);
/// The client.
pub(super) const CLIENT: Pair = client_side(10);
/// The router on the backend side, in one arm.
pub(super) const ROUTER: Pair = backend_side(1);

/// Address `number` (below [`MOST_SOURCES`]) of the balancer on the backend side; 0 is its own.
pub(super) const fn balancer(number: u8) -> Pair {
    // Those of the backends lie between.
    backend_side(if number < BALANCER_SOURCES { 2 + number } else { 150 + number })
}

/// Backend `index`, counted from 0: 198.51.100.11, 2001:db8:2::11 and on, alike to the eye in both families.
pub(super) fn backend(index: u8) -> Pair {
    let host = 11 + index;
    let as_read = u16::from(host / 100) * 0x100 + u16::from(host / 10 % 10) * 0x10 + u16::from(host % 10);
    Pair { v4: backend_side(host).v4, v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, as_read) }
}

const fn client_side(host: u8) -> Pair {
    let low = host as u16 / 10 * 0x10 + host as u16 % 10;
    Pair { v4: Ipv4Addr::new(192, 0, 2, host), v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, low) }
}

const fn backend_side(host: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(198, 51, 100, host),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host as u16),
    }
}

#[cfg(test)]
mod tests {
    use super::backend;

    #[test]
    fn both_families_of_a_backend_read_alike() {
        assert_eq!(backend(0).v4.to_string(), "198.51.100.11");
        assert_eq!(backend(0).v6.to_string(), "2001:db8:2::11");
        assert_eq!(backend(9).v4.to_string(), "198.51.100.20");
        assert_eq!(backend(9).v6.to_string(), "2001:db8:2::20");
        assert_eq!(backend(109).v6.to_string(), "2001:db8:2::120");
    }
}
