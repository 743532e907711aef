//! Encapsulation: the whole packet in an outer IP header (RFC 2003, RFC 2473, RFC 4213).
//!
//! In: a frame, its IP header and packet length, the ends of the tunnel. Out: the frame with an outer header in front and a link header
//! whose addresses are still to be written. Traffic class goes outside whole, ECN included (RFC 6040 §4.1, normal
//! mode), and so does DF.

mod ipv4;
mod ipv6;

pub use self::{ipv4::ipv4, ipv6::ipv6};

/// Bytes of an outer IPv4 header.
pub const IPV4_LEN: u32 = 20;
/// Bytes of an outer IPv6 header.
pub const IPV6_LEN: u32 = 40;

/// Protocol number of IPv4 in IP.
pub const IPV4_IN_IP: u8 = network_types::ip::IpProto::Ipv4 as u8;
/// Protocol number of IPv6 in IP.
pub const IPV6_IN_IP: u8 = network_types::ip::IpProto::Ipv6 as u8;

/// The protocol number of an inner packet.
const fn inner(version: u8) -> u8 {
    if version == 4 { IPV4_IN_IP } else { IPV6_IN_IP }
}
