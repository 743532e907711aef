//! From a frame to a transport segment.
//!
//! In: a frame whose Ethernet type says IPv4 or IPv6. Out: a [`Segment`] of TCP or UDP whose headers are whole, or the
//! finding that it is something else. Nothing is judged yet: whether a fault matters depends on whether the destination is a
//! vip. Invariant: reads only; offsets are bounded here and nowhere else.

use lb_common::Reason;

use crate::{
    header::{
        IpHeader, ethernet,
        ipv4::Ipv4,
        ipv6::{self, Ipv6},
        tcp, udp,
    },
    packet::Packet,
};

/// A TCP or UDP segment whose headers are whole. Small on purpose: it lives through the whole pipeline, in registers and a stack of
/// 512 bytes, and what else is needed of the headers is read again from the frame, which lies in the first-level cache.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Offset of the transport header in the frame.
    pub transport: u32,
    /// Both ports as they lie in the frame.
    pub ports: u32,
    /// 6 or 17.
    pub protocol: u8,
    /// TCP flags; 0 for UDP.
    pub flags: u8,
    /// Time to live or hop limit.
    pub hops: u8,
    /// Bytes of the IP packet.
    pub packet_len: u32,
}

impl Segment {
    /// Source port, network bytes.
    #[inline(always)]
    pub const fn source_port_be(&self) -> u16 {
        let [a, b, _, _] = self.ports.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// Destination port, network bytes.
    #[inline(always)]
    pub const fn destination_port_be(&self) -> u16 {
        let [_, _, a, b] = self.ports.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// Whether it is TCP.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.protocol == tcp::PROTOCOL
    }

    /// Whether it asks for a new connection.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// Whether it ends a connection.
    #[inline(always)]
    pub const fn is_end(&self) -> bool {
        self.flags & (tcp::FIN | tcp::RST) != 0
    }
}

/// Two ports as they lie in a transport header.
#[inline(always)]
pub const fn ports(source_be: u16, destination_be: u16) -> u32 {
    let ([a, b], [c, d]) = (source_be.to_ne_bytes(), destination_be.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// TCP or UDP.
    Segment(Segment),
    /// The family's ICMP, of this type.
    Icmp(u8),
    /// A packet that would be dropped for this reason if its destination is a vip.
    Fault(Reason),
    /// Nothing lbd has to do with.
    Foreign,
}

/// A header that can be walked to its transport header.
pub trait Parse: IpHeader {
    /// Parses what follows the link header.
    fn parse(packet: &impl Packet) -> Parsed;
}

impl Parse for Ipv4 {
    #[inline(always)]
    fn parse(packet: &impl Packet) -> Parsed {
        let Some(ip) = Self::load(packet) else { return Parsed::Foreign };
        if ip.version() != 4 {
            return Parsed::Foreign;
        }
        let header_len = ip.header_len();
        if header_len < Self::LEN {
            return Parsed::Fault(Reason::BadHeader);
        }
        if ip.is_fragment() {
            return Parsed::Fault(Reason::Fragment);
        }
        payload(packet, ip, ip.protocol(), ethernet::LEN + header_len)
    }
}

impl Parse for Ipv6 {
    #[inline(always)]
    fn parse(packet: &impl Packet) -> Parsed {
        let Some(ip) = Self::load(packet) else { return Parsed::Foreign };
        if ip.version() != 6 {
            return Parsed::Foreign;
        }
        let mut next = ip.next_header();
        let mut offset = ethernet::LEN + Self::LEN;
        if matches!(next, tcp::PROTOCOL | udp::PROTOCOL) {
            return payload(packet, ip, next, offset);
        }
        for _ in 0..ipv6::MAX_EXTENSIONS {
            match extension(packet, next, offset) {
                Extension::None => return payload(packet, ip, next, offset),
                Extension::Some { next: following, len } => (next, offset) = (following, offset + len),
                Extension::Fault(reason) => return Parsed::Fault(reason),
            }
        }
        match extension(packet, next, offset) {
            Extension::None => payload(packet, ip, next, offset),
            _ => Parsed::Fault(Reason::ExtensionHeader),
        }
    }
}

/// An extension header, judged.
enum Extension {
    /// `next` is no extension header.
    None,
    /// Go on after it.
    Some { next: u8, len: u32 },
    /// The transport header cannot be reached.
    Fault(Reason),
}

#[inline(always)]
fn extension(packet: &impl Packet, kind: u8, offset: u32) -> Extension {
    use ipv6::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
    if !matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION) {
        return Extension::None;
    }
    let Some([word]) = packet.load_words(offset) else { return Extension::Fault(Reason::Truncated) };
    let [next, len, third, fourth] = word.to_ne_bytes();
    match kind {
        // Offset or "more": a fragment. Neither: an atomic fragment (RFC 6946), as good as whole.
        FRAGMENT if third != 0 || fourth & !0x06 != 0 => Extension::Fault(Reason::Fragment),
        FRAGMENT => Extension::Some { next, len: 8 },
        // Segments left: the destination in the header is not the last one.
        ROUTING if fourth != 0 => Extension::Fault(Reason::ExtensionHeader),
        AUTHENTICATION => Extension::Some { next, len: (len as u32 + 2) * 4 },
        _ => Extension::Some { next, len: (len as u32 + 1) * 8 },
    }
}

/// The transport header, if it is one of ours.
#[inline(always)]
fn payload<H: IpHeader>(packet: &impl Packet, ip: H, protocol: u8, transport: u32) -> Parsed {
    match protocol {
        tcp::PROTOCOL => tcp_segment(packet, ip, transport),
        udp::PROTOCOL => udp_segment(packet, ip, transport),
        _ if protocol == H::ICMP => match packet.load_half(transport) {
            Some(half) => Parsed::Icmp(half.to_ne_bytes()[0]),
            None => Parsed::Fault(Reason::Truncated),
        },
        _ => Parsed::Foreign,
    }
}

/// Whether an IP packet with a transport header of `len` bytes contradicts itself or the frame.
#[inline(always)]
fn is_bad(packet: &impl Packet, packet_len: u32, transport: u32, len: u32) -> bool {
    let end = packet_len + ethernet::LEN;
    end < transport + len || !packet.has(end)
}

#[inline(always)]
fn tcp_segment<H: IpHeader>(packet: &impl Packet, ip: H, transport: u32) -> Parsed {
    let Some([ports]) = packet.load_words(transport) else { return Parsed::Fault(Reason::Truncated) };
    let Some([word, _]) = packet.load_words(transport + tcp::FLAGS_WORD) else {
        return Parsed::Fault(Reason::Truncated);
    };
    let (header_len, flags) = tcp::offset_and_flags(word);
    let packet_len = ip.packet_len();
    if header_len < tcp::LEN || is_bad(packet, packet_len, transport, header_len) {
        return Parsed::Fault(Reason::BadHeader);
    }
    Parsed::Segment(Segment { transport, ports, protocol: tcp::PROTOCOL, flags, hops: ip.hops(), packet_len })
}

#[inline(always)]
fn udp_segment<H: IpHeader>(packet: &impl Packet, ip: H, transport: u32) -> Parsed {
    let Some([ports, _]) = packet.load_words(transport) else { return Parsed::Fault(Reason::Truncated) };
    let packet_len = ip.packet_len();
    if is_bad(packet, packet_len, transport, udp::LEN) {
        return Parsed::Fault(Reason::BadHeader);
    }
    Parsed::Segment(Segment {
        transport,
        ports,
        protocol: udp::PROTOCOL,
        flags: 0,
        hops: ip.hops(),
        packet_len,
    })
}
