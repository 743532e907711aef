//! IPv6 (RFC 8200) and the extension headers that stand between it and the transport header.

use lb_common::Address;

use super::{DEFAULT_HOPS, IpHeader, Size, ethernet, icmp};
use crate::{checksum::Sum, packet::Packet};

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Authentication (RFC 4302): its length counts in words, not in double words.
pub const AUTHENTICATION: u8 = 51;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// Extension headers that are walked over before a packet's transport header counts as hidden.
pub const MAX_EXTENSIONS: u32 = 4;

/// The fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// As they lie in the frame.
    pub words: [u32; 10],
}

impl Ipv6 {
    /// The third word of an IPv4 address in disguise, as it lies in the frame.
    pub const MAPPED: u32 = 0xffff_u32.to_be();

    /// The protocol or extension header that follows.
    #[inline(always)]
    pub const fn next_header(&self) -> u8 {
        self.words[1].to_ne_bytes()[2]
    }

    /// The second word with one hop less: payload length, next header, hop limit.
    #[inline(always)]
    const fn one_hop_less(word: u32) -> u32 {
        (u32::from_be(word).wrapping_sub(1)).to_be()
    }

    /// The first two words of a fresh header.
    #[inline(always)]
    pub const fn fresh(traffic_class: u8, flow_label: u32, payload_len: u32, next_header: u8) -> [u32; 2] {
        [
            (0x6000_0000 | (traffic_class as u32) << 20 | flow_label & 0xf_ffff).to_be(),
            ((payload_len & 0xffff) << 16 | (next_header as u32) << 8 | DEFAULT_HOPS as u32).to_be(),
        ]
    }
}

impl IpHeader for Ipv6 {
    const ETHERTYPE_BE: u16 = ethernet::IPV6_BE;
    const LEN: u32 = 40;
    const VERSION: u8 = 6;
    const ICMP: u8 = icmp::V6;
    const QUOTE_LEN: u32 = 1280 - 40 - 8;

    #[inline(always)]
    fn load(packet: &impl Packet) -> Option<Self> {
        Some(Self { words: packet.load_words(ethernet::LEN)? })
    }

    #[inline(always)]
    fn version(&self) -> u8 {
        self.words[0].to_ne_bytes()[0] >> 4
    }

    #[inline(always)]
    fn is_mapped(&self) -> bool {
        self.source().is_v4() || self.destination().is_v4()
    }

    #[inline(always)]
    fn source(&self) -> Address {
        let [_, _, a, b, c, d, ..] = self.words;
        Address::v6([a, b, c, d])
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        let [.., a, b, c, d] = self.words;
        Address::v6([a, b, c, d])
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.words[1].to_ne_bytes()[3]
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the field is these 8 bits")]
    fn traffic_class(&self) -> u8 {
        (u32::from_be(self.words[0]) >> 20) as u8
    }

    #[inline(always)]
    fn packet_len(&self) -> u32 {
        (u32::from_be(self.words[1]) >> 16) + Self::LEN
    }

    #[inline(always)]
    fn dont_fragment(&self) -> bool {
        true
    }

    #[inline(always)]
    fn identification_be(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn load_size(packet: &impl Packet) -> Option<Size> {
        let [second] = packet.load_words(ethernet::LEN + 4)?;
        Some(Size { packet_len: (u32::from_be(second) >> 16) + Self::LEN, hops: second.to_ne_bytes()[3] })
    }

    #[inline(always)]
    fn load_source(packet: &impl Packet) -> Option<Address> {
        packet.load_words(ethernet::LEN + 8).map(Address::v6)
    }

    #[inline(always)]
    fn load_destination(packet: &impl Packet) -> Option<Address> {
        packet.load_words(ethernet::LEN + 24).map(Address::v6)
    }

    #[inline(always)]
    fn take_hop(packet: &mut impl Packet) -> Option<()> {
        let [word] = packet.load_words(ethernet::LEN + 4)?;
        packet.store_words(ethernet::LEN + 4, &[Self::one_hop_less(word)])
    }

    #[inline(always)]
    fn store_translated(
        &self,
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        hop: bool,
    ) -> Option<()> {
        let second = if hop { Self::one_hop_less(self.words[1]) } else { self.words[1] };
        let ([a, b, c, d], [e, f, g, h]) = (source.words, destination.words);
        packet.store_words(ethernet::LEN + 4, &[second, a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn store_answer(
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        protocol: u8,
        payload_len: u32,
    ) -> Option<()> {
        let [first, second] = Self::fresh(0, 0, payload_len, protocol);
        let ([a, b, c, d], [e, f, g, h]) = (source.words, destination.words);
        packet.store_words(ethernet::LEN, &[first, second, a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn sum_quote(packet: &impl Packet) -> Option<Sum> {
        packet.sum_words::<{ (1280 - 40 - 8) / 4 }>(ethernet::LEN)
    }

    #[inline(always)]
    fn pseudo_header(source: &Address, destination: &Address, protocol: u8, payload_len: u32) -> Sum {
        Sum::default()
            .add_all(&source.words)
            .add_all(&destination.words)
            .add(payload_len.to_be())
            .add((protocol as u32).to_be())
    }
}
