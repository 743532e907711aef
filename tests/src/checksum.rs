//! Judges every checksum of a captured frame.
//!
//! In: an Ethernet frame as it was on the wire. Out: `Ok`, or which checksum is wrong. Covers the IPv4 header (RFC 791), TCP,
//! UDP (0 means none over IPv4, is forbidden over IPv6, RFC 8200 §8.1), ICMP, ICMPv6, IPv6 extension headers, and packets in
//! packets (IPIP, 4in6, 6in4, IP6IP6) all the way down. A later fragment has no transport header: only its IP header counts.

use std::fmt;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const IPIP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The frame ends before its headers or its stated length do.
    Truncated(&'static str),
    /// The checksum of this protocol is not that of the bytes.
    Wrong(&'static str),
    /// UDP over IPv6 without a checksum.
    Missing(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Truncated(what) => write!(f, "{what} is cut short"),
            Fault::Wrong(what) => write!(f, "{what} checksum is wrong"),
            Fault::Missing(what) => write!(f, "{what} checksum is missing"),
        }
    }
}

impl std::error::Error for Fault {}

/// Checks every IPv4, TCP, UDP, ICMP and ICMPv6 checksum of an Ethernet frame; what is not IP is right.
pub fn verify_checksums(frame: &[u8]) -> Result<(), Fault> {
    let (mut ethertype, mut payload) = (word(frame, 12, "Ethernet")?, bytes_from(frame, 14, "Ethernet")?);
    if ethertype == ETHERTYPE_VLAN {
        (ethertype, payload) = (word(payload, 2, "VLAN")?, bytes_from(payload, 4, "VLAN")?);
    }
    match ethertype {
        ETHERTYPE_IPV4 => verify_ipv4(payload),
        ETHERTYPE_IPV6 => verify_ipv6(payload),
        _ => Ok(()),
    }
}

fn verify_ipv4(packet: &[u8]) -> Result<(), Fault> {
    let header_len = usize::from(byte(packet, 0, "IPv4")? & 0x0f) * 4;
    let total_len = usize::from(word(packet, 2, "IPv4")?);
    let header = part(packet, 0, header_len, "IPv4")?;
    if sum(0, header) != 0xffff {
        return Err(Fault::Wrong("IPv4"));
    }
    let fragment = word(packet, 6, "IPv4")?;
    let payload = part(packet, header_len, total_len, "IPv4")?;
    if fragment & 0x3fff != 0 {
        return Ok(()); // The checksum spans all fragments.
    }
    verify_transport(byte(packet, 9, "IPv4")?, part(packet, 12, 20, "IPv4")?, payload)
}

fn verify_ipv6(packet: &[u8]) -> Result<(), Fault> {
    let payload_len = usize::from(word(packet, 4, "IPv6")?);
    let addresses = part(packet, 8, 40, "IPv6")?;
    let mut payload = part(packet, 40, 40 + payload_len, "IPv6")?;
    let mut next = byte(packet, 6, "IPv6")?;
    loop {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let header_len = (usize::from(byte(payload, 1, "IPv6 extension")?) + 1) * 8;
                next = byte(payload, 0, "IPv6 extension")?;
                payload = bytes_from(payload, header_len, "IPv6 extension")?;
            }
            FRAGMENT if word(payload, 2, "IPv6 fragment")? & 0xfff9 != 0 => return Ok(()),
            FRAGMENT => {
                next = byte(payload, 0, "IPv6 fragment")?;
                payload = bytes_from(payload, 8, "IPv6 fragment")?;
            }
            _ => return verify_transport(next, addresses, payload),
        }
    }
}

/// `addresses` is source and destination as they stand in the header: the body of the pseudo-header (RFC 9293 §3.1).
fn verify_transport(protocol: u8, addresses: &[u8], payload: &[u8]) -> Result<(), Fault> {
    let (name, with_pseudo_header) = match protocol {
        TCP => ("TCP", true),
        UDP => ("UDP", true),
        ICMP => ("ICMP", false),
        ICMPV6 => ("ICMPv6", true),
        IPIP => return verify_ipv4(payload),
        IPV6 => return verify_ipv6(payload),
        _ => return Ok(()),
    };
    let over_ipv6 = addresses.len() == 32;
    let segment =
        if protocol == UDP { part(payload, 0, usize::from(word(payload, 4, name)?), name)? } else { payload };
    if protocol == UDP && word(payload, 6, name)? == 0 {
        return if over_ipv6 { Err(Fault::Missing(name)) } else { Ok(()) };
    }
    if protocol == TCP {
        part(payload, 0, 20, name)?;
    }
    let mut start = 0;
    if with_pseudo_header {
        let len = u32::try_from(segment.len()).map_err(|_| Fault::Truncated(name))?;
        start = sum(sum(0, addresses), &len.to_be_bytes()) + u32::from(protocol);
    }
    if sum(start, segment) == 0xffff { Ok(()) } else { Err(Fault::Wrong(name)) }
}

/// The ones' complement sum of 16-bit words, folded (RFC 1071).
fn sum(start: u32, bytes: &[u8]) -> u32 {
    let mut total = u64::from(start);
    for pair in bytes.chunks(2) {
        total += match *pair {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        };
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u32::try_from(total).unwrap_or(u32::MAX)
}

fn byte(bytes: &[u8], at: usize, what: &'static str) -> Result<u8, Fault> {
    bytes.get(at).copied().ok_or(Fault::Truncated(what))
}

fn word(bytes: &[u8], at: usize, what: &'static str) -> Result<u16, Fault> {
    Ok(u16::from_be_bytes([byte(bytes, at, what)?, byte(bytes, at + 1, what)?]))
}

fn part<'a>(bytes: &'a [u8], from: usize, to: usize, what: &'static str) -> Result<&'a [u8], Fault> {
    bytes.get(from..to).ok_or(Fault::Truncated(what))
}

fn bytes_from<'a>(bytes: &'a [u8], from: usize, what: &'static str) -> Result<&'a [u8], Fault> {
    bytes.get(from..).ok_or(Fault::Truncated(what))
}

#[cfg(test)]
mod tests;
