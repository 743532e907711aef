//! An outer IPv6 header: IP6IP6 and 4in6.

use lb_common::Address;

use super::{IPV6_LEN, inner};
use crate::{
    header::{IpHeader, ethernet, ipv6::Ipv6},
    packet::Packet,
};

/// Puts an IPv6 header before the packet; `None` if there is no room. `label` is the flow's hash: routers between spread tunnelled
/// flows by it (RFC 6438).
#[inline(always)]
pub fn ipv6<H: IpHeader, P: Packet>(
    packet: &mut P,
    ip: &H,
    packet_len: u32,
    source: &Address,
    destination: &Address,
    label: u32,
) -> Option<()> {
    let [first, second] = Ipv6::fresh(ip.traffic_class(), label, packet_len, inner(H::VERSION));
    packet.move_head(-(IPV6_LEN as i32))?;
    packet.store_half(ethernet::TYPE_OFFSET, ethernet::IPV6_BE)?;
    let ([a, b, c, d], [e, f, g, h]) = (source.words, destination.words);
    packet.store_words(ethernet::LEN, &[first, second, a, b, c, d, e, f, g, h])
}
