//! Protocol headers as words of a frame: one file a protocol.

pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

use lb_common::Address;

use crate::{checksum::Sum, packet::Packet};

/// What the packet path asks of an IP header, of either family. All addresses are [`Address`]: with IPv4 three of
/// its words are constants and fold away.
pub trait IpHeader: Copy {
    /// The Ethernet type, network bytes.
    const ETHERTYPE_BE: u16;
    /// Bytes without options or extension headers.
    const LEN: u32;
    /// Where the transport header is unless options or extension headers stand before it.
    const TRANSPORT: u32 = ethernet::LEN + Self::LEN;
    /// 4 or 6.
    const VERSION: u8;
    /// The family's ICMP.
    const ICMP: u8;
    /// Largest number of bytes of a packet that an ICMP error quotes, a multiple of four (RFC 1812 §4.3.2.3: 576
    /// in all; RFC 4443 §2.4 (c): 1280).
    const QUOTE_LEN: u32;

    /// The header after the link header.
    fn load(packet: &impl Packet) -> Option<Self>;
    /// Version field.
    fn version(&self) -> u8;
    /// Whether an address of it is an IPv4 address in disguise (`::ffff:a.b.c.d`), which does not belong on a wire (RFC 4942 §2.2): the
    /// tables hold IPv4 addresses in that form, and no IPv6 packet shall be taken for an IPv4 one.
    fn is_mapped(&self) -> bool;
    /// Source address.
    fn source(&self) -> Address;
    /// Destination address.
    fn destination(&self) -> Address;
    /// Time to live or hop limit.
    fn hops(&self) -> u8;
    /// Type of service or traffic class.
    fn traffic_class(&self) -> u8;
    /// Bytes of the whole IP packet as the header says.
    fn packet_len(&self) -> u32;
    /// Whether routers must not fragment it; always so with IPv6.
    fn dont_fragment(&self) -> bool;
    /// Identification, network bytes; 0 with IPv6.
    fn identification_be(&self) -> u16;
    /// Length and life.
    #[inline(always)]
    fn size(&self) -> Size {
        Size { packet_len: self.packet_len(), hops: self.hops() }
    }
    /// Length and life alone: a known flow's packet needs no more of the header, and every word of one is a load.
    fn load_size(packet: &impl Packet) -> Option<Size>;
    /// The source address alone.
    fn load_source(packet: &impl Packet) -> Option<Address>;
    /// The destination address alone.
    fn load_destination(packet: &impl Packet) -> Option<Address>;
    /// Takes one hop off the header in the frame.
    fn take_hop(packet: &mut impl Packet) -> Option<()>;
    /// Writes the header back with these addresses and, if `hop`, one hop less.
    fn store_translated(
        &self,
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        hop: bool,
    ) -> Option<()>;
    /// Writes a fresh header of an answer of ours at the front.
    fn store_answer(
        packet: &mut impl Packet,
        source: &Address,
        destination: &Address,
        protocol: u8,
        payload_len: u32,
    ) -> Option<()>;
    /// The sum of the packet's first [`IpHeader::QUOTE_LEN`] bytes.
    fn sum_quote(packet: &impl Packet) -> Option<Sum>;
    /// Adds the pseudo header (RFC 793, RFC 8200 §8.1) to a sum.
    fn pseudo_header(source: &Address, destination: &Address, protocol: u8, payload_len: u32) -> Sum;
}

/// How long a packet is, and how far it may still go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Bytes of the whole IP packet as its header says.
    pub packet_len: u32,
    /// Time to live or hop limit.
    pub hops: u8,
}

/// Hops an answer or an outer header starts with.
pub const DEFAULT_HOPS: u8 = 64;
