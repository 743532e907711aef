//! IPv4 (RFC 791). Options are left where they are; the transport header then lies further back.

use lb_common::Address;

use super::{DEFAULT_HOPS, IpHeader, Size, ethernet, icmp};
use crate::{
    checksum::{Delta, Sum, Zero},
    packet::Packet,
};

/// "Don't fragment" in the word of identification, flags and offset (host order).
const DONT_FRAGMENT: u32 = 0x4000;
/// "More fragments" and the offset in that word.
const FRAGMENT: u32 = 0x3fff;

/// The first twenty bytes of an IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// As they lie in the frame.
    pub words: [u32; 5],
}

impl Ipv4 {
    /// The bits of the second word that only fragments have, as they lie in the frame.
    pub const FRAGMENT_BE: u32 = FRAGMENT.to_be();

    #[inline(always)]
    const fn host(word: u32) -> u32 {
        u32::from_be(word)
    }

    /// Bytes of the header with its options.
    #[inline(always)]
    pub const fn header_len(&self) -> u32 {
        (Self::host(self.words[0]) >> 22) & 0x3c
    }

    /// Whether this is a fragment: the first, the last or one between.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.words[1] & Self::FRAGMENT_BE != 0
    }

    /// Protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.words[2].to_ne_bytes()[1]
    }

    /// The third word with one hop less: time to live, protocol, checksum (RFC 1141, as every router does it).
    #[inline(always)]
    const fn one_hop_less(word: u32) -> u32 {
        let word = Self::host(word);
        let sum = (word & 0xffff) + 0x0100;
        let sum = sum + if sum >= 0xffff { 1 } else { 0 };
        ((word & 0xffff_0000).wrapping_sub(0x0100_0000) | sum & 0xffff).to_be()
    }

    /// A fresh header of twenty bytes with its checksum.
    #[inline(always)]
    pub fn fresh(spec: &Fresh) -> Self {
        let fragment = if spec.dont_fragment { DONT_FRAGMENT } else { 0 };
        let identification = u16::from_be(spec.identification_be) as u32;
        let words = [
            (0x4500_0000 | (spec.traffic_class as u32) << 16 | spec.packet_len & 0xffff).to_be(),
            (identification << 16 | fragment).to_be(),
            ((DEFAULT_HOPS as u32) << 24 | (spec.protocol as u32) << 16).to_be(),
            spec.source,
            spec.destination,
        ];
        let checksum = u16::from_be(Sum::default().add_all(&words).checksum()) as u32;
        let [first, second, third, source, destination] = words;
        Self { words: [first, second, third | checksum.to_be(), source, destination] }
    }
}

/// The fields of a fresh header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fresh {
    /// Type of service.
    pub traffic_class: u8,
    /// Bytes of the whole packet.
    pub packet_len: u32,
    /// Identification, network bytes.
    pub identification_be: u16,
    /// Whether routers must not fragment it.
    pub dont_fragment: bool,
    /// Protocol number.
    pub protocol: u8,
    /// Source address, network bytes.
    pub source: u32,
    /// Destination address, network bytes.
    pub destination: u32,
}

impl IpHeader for Ipv4 {
    const ETHERTYPE_BE: u16 = ethernet::IPV4_BE;
    const LEN: u32 = 20;
    const VERSION: u8 = 4;
    const ICMP: u8 = icmp::V4;
    const QUOTE_LEN: u32 = 576 - 20 - 8;

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
        false
    }

    #[inline(always)]
    fn source(&self) -> Address {
        Address::v4(self.words[3])
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::v4(self.words[4])
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.words[2].to_ne_bytes()[0]
    }

    #[inline(always)]
    fn traffic_class(&self) -> u8 {
        self.words[0].to_ne_bytes()[1]
    }

    #[inline(always)]
    fn packet_len(&self) -> u32 {
        Self::host(self.words[0]) & 0xffff
    }

    #[inline(always)]
    fn dont_fragment(&self) -> bool {
        Self::host(self.words[1]) & DONT_FRAGMENT != 0
    }

    #[inline(always)]
    fn identification_be(&self) -> u16 {
        let [a, b, _, _] = self.words[1].to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    #[inline(always)]
    fn load_size(packet: &impl Packet) -> Option<Size> {
        let [first] = packet.load_words(ethernet::LEN)?;
        let [third] = packet.load_words(ethernet::LEN + 8)?;
        Some(Size { packet_len: Self::host(first) & 0xffff, hops: third.to_ne_bytes()[0] })
    }

    #[inline(always)]
    fn load_source(packet: &impl Packet) -> Option<Address> {
        packet.load_words(ethernet::LEN + 12).map(|[word]| Address::v4(word))
    }

    #[inline(always)]
    fn load_destination(packet: &impl Packet) -> Option<Address> {
        packet.load_words(ethernet::LEN + 16).map(|[word]| Address::v4(word))
    }

    #[inline(always)]
    fn take_hop(packet: &mut impl Packet) -> Option<()> {
        let [word] = packet.load_words(ethernet::LEN + 8)?;
        packet.store_words(ethernet::LEN + 8, &[Self::one_hop_less(word)])
    }

    #[inline(always)]
    fn store_translated(
        &self,
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        hop: bool,
    ) -> Option<()> {
        let third = if hop { Self::one_hop_less(self.words[2]) } else { self.words[2] };
        let (source, destination) = (source.words[3], destination.words[3]);
        let delta = Delta::default().replace(self.words[3], source).replace(self.words[4], destination);
        let third = u32::from_be(third);
        #[expect(clippy::cast_possible_truncation, reason = "the checksum is the low half of the word")]
        let checksum = delta.apply((third as u16).to_be(), Zero::Sum);
        let third = (third & 0xffff_0000 | u16::from_be(checksum) as u32).to_be();
        packet.store_words(ethernet::LEN + 8, &[third, source, destination])
    }

    #[inline(always)]
    fn store_answer(
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        protocol: u8,
        payload_len: u32,
    ) -> Option<()> {
        let header = Self::fresh(&Fresh {
            traffic_class: 0,
            packet_len: Self::LEN + payload_len,
            identification_be: 0,
            dont_fragment: true,
            protocol,
            source: source.words[3],
            destination: destination.words[3],
        });
        packet.store_words(ethernet::LEN, &header.words)
    }

    #[inline(always)]
    fn sum_quote(packet: &impl Packet) -> Option<Sum> {
        packet.sum_words::<{ (576 - 20 - 8) / 4 }>(ethernet::LEN)
    }

    #[inline(always)]
    fn pseudo_header(source: &Address, destination: &Address, protocol: u8, payload_len: u32) -> Sum {
        Sum::default()
            .add(source.words[3])
            .add(destination.words[3])
            .add((payload_len & 0xffff | (protocol as u32) << 16).to_be())
    }
}
