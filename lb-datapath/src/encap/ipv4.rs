//! An outer IPv4 header: IPIP and 6in4.

use lb_common::Address;

use super::{IPV4_LEN, inner};
use crate::{
    header::{
        IpHeader, ethernet,
        ipv4::{Fresh, Ipv4},
    },
    packet::Packet,
};

/// Puts an IPv4 header before the packet; `None` if there is no room.
#[inline(always)]
pub fn ipv4<H: IpHeader, P: Packet>(
    packet: &mut P,
    ip: &H,
    packet_len: u32,
    source: &Address,
    destination: &Address,
) -> Option<()> {
    let header = Ipv4::fresh(&Fresh {
        traffic_class: ip.traffic_class(),
        packet_len: packet_len + IPV4_LEN,
        // Where the outer packet may be fragmented, the inner identification serves: one flow has one pair of ends.
        identification_be: ip.identification_be(),
        dont_fragment: ip.dont_fragment(),
        protocol: inner(H::VERSION),
        source: source.words[3],
        destination: destination.words[3],
    });
    packet.move_head(-(IPV4_LEN as i32))?;
    packet.store_half(ethernet::TYPE_OFFSET, ethernet::IPV4_BE)?;
    packet.store_words(ethernet::LEN, &header.words)
}
