//! Decapsulation: a backend's side of ipip (RFC 2003, RFC 2473, RFC 4213), for hosts without tunnel devices.
//!
//! In: a frame. Out: the inner packet left to the kernel, if the outer one is IPv4 or IPv6 in IP from an allowed source; anything else
//! untouched. Invariant: nothing is taken off a packet from a source that is not allowed (an open decapsulator is a hole). A congestion
//! mark on the outer header is carried to the inner one, or the packet dropped where that cannot bear it (RFC 6040 §4.2).

use lb_common::Address;

use crate::{
    checksum::{Delta, Zero},
    encap::{IPV4_IN_IP, IPV6_IN_IP},
    header::{IpHeader, ethernet, ipv4::Ipv4, ipv6::Ipv6},
    packet::Packet,
    pipeline::Verdict,
};

/// Both bits of explicit congestion notification: "congestion experienced".
const CONGESTION: u8 = 3;

/// Takes the outer header off, if `allowed` says so of its source.
#[inline(always)]
pub fn decapsulate<P: Packet>(packet: &mut P, allowed: impl Fn(&Address) -> bool) -> Verdict {
    let outer = match packet.load_half(ethernet::TYPE_OFFSET) {
        Some(ethernet::IPV4_BE) => outer4(packet),
        Some(ethernet::IPV6_BE) => outer6(packet),
        _ => None,
    };
    let Some(outer) = outer else { return Verdict::Pass };
    if !allowed(&outer.source) {
        return Verdict::Pass;
    }
    match take_off(packet, &outer) {
        Some(verdict) => verdict,
        None => Verdict::Drop,
    }
}

struct Outer {
    source: Address,
    len: u32,
    inner: u8,
    congested: bool,
}

#[inline(always)]
fn outer4(packet: &impl Packet) -> Option<Outer> {
    let ip = Ipv4::load(packet)?;
    let inner = ip.protocol();
    let is_tunnel = matches!(inner, IPV4_IN_IP | IPV6_IN_IP)
        && ip.version() == 4
        && ip.header_len() == Ipv4::LEN
        && !ip.is_fragment();
    let congested = ip.traffic_class() & CONGESTION == CONGESTION;
    is_tunnel.then_some(Outer { source: ip.source(), len: Ipv4::LEN, inner, congested })
}

#[inline(always)]
fn outer6(packet: &impl Packet) -> Option<Outer> {
    let ip = Ipv6::load(packet)?;
    let inner = ip.next_header();
    let is_tunnel = matches!(inner, IPV4_IN_IP | IPV6_IN_IP) && ip.version() == 6;
    let congested = ip.traffic_class() & CONGESTION == CONGESTION;
    is_tunnel.then_some(Outer { source: ip.source(), len: Ipv6::LEN, inner, congested })
}

/// Cuts the outer header off; `None` if what is inside is no IP packet.
#[inline(always)]
fn take_off<P: Packet>(packet: &mut P, outer: &Outer) -> Option<Verdict> {
    let addresses = packet.load_words::<3>(0)?;
    let [first] = packet.load_words(ethernet::LEN + outer.len)?;
    let is_v4 = outer.inner == IPV4_IN_IP;
    if u32::from_be(first) >> 28 != if is_v4 { 4 } else { 6 } {
        return None;
    }
    packet.move_head(if outer.len == Ipv4::LEN { Ipv4::LEN as i32 } else { Ipv6::LEN as i32 })?;
    ethernet::store_addresses(packet, &addresses)?;
    packet.store_half(ethernet::TYPE_OFFSET, if is_v4 { ethernet::IPV4_BE } else { ethernet::IPV6_BE })?;
    if outer.congested && !mark(packet, is_v4, first)? {
        return Some(Verdict::Drop);
    }
    Some(Verdict::Pass)
}

/// Marks the inner packet, now in front; false if its ends do not understand marks.
#[inline(always)]
fn mark<P: Packet>(packet: &mut P, is_v4: bool, first: u32) -> Option<bool> {
    let shift = if is_v4 { 16 } else { 20 };
    let word = u32::from_be(first);
    if (word >> shift) & CONGESTION as u32 == 0 {
        return Some(false);
    }
    let marked = (word | (CONGESTION as u32) << shift).to_be();
    packet.store_words(ethernet::LEN, &[marked])?;
    if is_v4 {
        packet.update_checksum(ethernet::LEN + 10, Delta::default().replace(first, marked), Zero::Sum)?;
    }
    Some(true)
}
