//! From a frame to a transport segment.
//!
//! In: a frame whose Ethernet type says IPv4 or IPv6. Out: a [`Segment`] of TCP or UDP whose headers are whole, or the
//! finding that it is something else. Nothing is judged yet: whether a fault matters depends on whether the destination is a
//! vip. Invariant: the frame is the same afterwards.

use lb_common::Reason;

use crate::{
    header::{
        IpHeader, Size, ethernet,
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
    /// Bytes of IPv4 options or IPv6 extension headers before the transport header: as a rule none.
    pub extra_len: u32,
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
    const NONE: Self = Self { extra_len: 0, ports: 0, protocol: 0, flags: 0, hops: 0, packet_len: 0 };

    /// Ports and protocol.
    #[inline(always)]
    pub const fn ends(&self) -> Ends {
        Ends { ports: self.ports, protocol: self.protocol }
    }

    /// Source port, network bytes.
    #[inline(always)]
    pub const fn source_port_be(&self) -> u16 {
        self.ends().source_port_be()
    }

    /// Destination port, network bytes.
    #[inline(always)]
    pub const fn destination_port_be(&self) -> u16 {
        self.ends().destination_port_be()
    }

    /// Whether it is TCP.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.protocol == tcp::PROTOCOL
    }

    /// Whether it asks for a new connection, and does not end one in the same breath.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST) == tcp::SYN
    }

    /// Whether it ends a connection.
    #[inline(always)]
    pub const fn is_end(&self) -> bool {
        self.flags & (tcp::FIN | tcp::RST) != 0
    }

    /// Whether it ends a connection at once.
    #[inline(always)]
    pub const fn is_reset(&self) -> bool {
        self.flags & tcp::RST != 0
    }

    /// 1 if it ends a connection at once, else 0: the same as a number, for who counts without a branch.
    #[inline(always)]
    pub const fn reset_bit(&self) -> u32 {
        (self.flags / tcp::RST) as u32 & 1
    }
}

/// Two ports as they lie in a transport header.
#[inline(always)]
pub const fn ports(source_be: u16, destination_be: u16) -> u32 {
    let ([a, b], [c, d]) = (source_be.to_ne_bytes(), destination_be.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// What a service is found by: ports and protocol.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Both ports as they lie in the frame.
    pub ports: u32,
    /// 6 or 17.
    pub protocol: u8,
}

impl Ends {
    /// Source port, network bytes.
    #[inline(always)]
    pub const fn source_port_be(self) -> u16 {
        let [a, b, _, _] = self.ports.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// Destination port, network bytes.
    #[inline(always)]
    pub const fn destination_port_be(self) -> u16 {
        let [_, _, a, b] = self.ports.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP or UDP.
    Segment,
    /// The family's ICMP.
    Icmp,
    /// A packet that would be dropped if its destination is a vip.
    Fault,
    /// Nothing lbd has to do with.
    Foreign,
}

/// A frame parsed.
///
/// VERIFIER: "R4 !read_ok": of an enum with fields the compiler carries those of the other variants along as whatever a register holds.
/// Here every field always has a value.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    /// What it is.
    pub kind: Kind,
    /// Of a fault: why it would be dropped.
    pub reason: Reason,
    /// Of ICMP: its type.
    pub icmp_type: u8,
    /// Of a segment: the segment. Of a fault: ports and protocol, if it has them, and nothing else.
    pub segment: Segment,
}

impl Parsed {
    const FOREIGN: Self =
        Self { kind: Kind::Foreign, reason: Reason::BadHeader, icmp_type: 0, segment: Segment::NONE };

    #[inline(always)]
    const fn fault(reason: Reason) -> Self {
        Self { kind: Kind::Fault, reason, ..Self::FOREIGN }
    }
}

/// A header that can be walked to its transport header.
///
/// The frame is only ever read at constant offsets: the kernel lets a program without CAP_PERFMON add no variable to a pointer into a
/// packet. What lies behind options or extension headers is brought to its usual offset by moving the frame's head.
pub trait Parse: IpHeader {
    /// Ports and protocol of a packet without options or extension headers, and not a fragment: nearly every one. `None`:
    /// [`Parse::parse`] knows.
    fn glance(packet: &impl Packet) -> Option<Ends>;

    /// The segment of such a packet, if nothing is wrong with it.
    #[inline(always)]
    fn plain(packet: &mut impl Packet, ends: Ends) -> Option<Segment> {
        segment::<Self>(packet, Self::load_size(packet)?, ends.protocol, 0).ok()
    }

    /// Where the transport header is.
    fn walk(self, packet: &mut impl Packet) -> Walked;

    /// Parses what follows the link header.
    #[inline(always)]
    fn parse(packet: &mut impl Packet) -> Parsed {
        let Some(ip) = Self::load(packet) else { return Parsed::FOREIGN };
        if ip.version() != Self::VERSION || ip.is_mapped() {
            return Parsed::FOREIGN;
        }
        let Walked { extra_len, protocol, fault } = ip.walk(packet);
        if let Some(reason) = fault {
            return Parsed::fault(reason);
        }
        if go_behind(packet, extra_len).is_none() {
            return Parsed::fault(Reason::Truncated);
        }
        let parsed = payload(packet, ip, protocol, extra_len);
        if come_back(packet, extra_len).is_none() {
            return Parsed::fault(Reason::Truncated);
        }
        parsed
    }
}

/// The way from an IP header to the transport header.
pub struct Walked {
    /// Bytes between the two.
    extra_len: u32,
    /// The transport protocol.
    protocol: u8,
    /// Why it cannot be reached.
    fault: Option<Reason>,
}

/// Cuts the frame's first `extra_len` bytes off, so that what is behind them is where it usually is (and the link and IP headers are not).
#[inline(always)]
pub(crate) fn go_behind(packet: &mut impl Packet, extra_len: u32) -> Option<()> {
    if extra_len == 0 { Some(()) } else { packet.move_head(delta(extra_len)) }
}

/// Puts them back.
#[inline(always)]
pub(crate) fn come_back(packet: &mut impl Packet, extra_len: u32) -> Option<()> {
    if extra_len == 0 { Some(()) } else { packet.move_head(-delta(extra_len)) }
}

#[inline(always)]
#[expect(clippy::cast_possible_wrap, reason = "at most four extension headers of 2,048 bytes")]
const fn delta(extra_len: u32) -> i32 {
    extra_len as i32
}

impl Parse for Ipv4 {
    #[inline(always)]
    fn glance(packet: &impl Packet) -> Option<Ends> {
        let [first, second, third] = packet.load_words(ethernet::LEN)?;
        // Version 4, five words.
        if first.to_ne_bytes()[0] != 0x45 || second & Self::FRAGMENT_BE != 0 {
            return None;
        }
        ends::<Self>(packet, third.to_ne_bytes()[1])
    }

    #[inline(always)]
    fn walk(self, _packet: &mut impl Packet) -> Walked {
        let header_len = self.header_len();
        let fault = if header_len < Self::LEN {
            Some(Reason::BadHeader)
        } else if self.is_fragment() {
            Some(Reason::Fragment)
        } else {
            None
        };
        Walked { extra_len: header_len.wrapping_sub(Self::LEN), protocol: self.protocol(), fault }
    }
}

impl Parse for Ipv6 {
    #[inline(always)]
    fn glance(packet: &impl Packet) -> Option<Ends> {
        let [first, second] = packet.load_words(ethernet::LEN)?;
        let [source] = packet.load_words(ethernet::LEN + 16)?;
        let [destination] = packet.load_words(ethernet::LEN + 32)?;
        // The latter: perhaps an IPv4 address in disguise.
        if first.to_ne_bytes()[0] >> 4 != 6 || source == Self::MAPPED || destination == Self::MAPPED {
            return None;
        }
        ends::<Self>(packet, second.to_ne_bytes()[2])
    }

    #[inline(always)]
    fn walk(self, packet: &mut impl Packet) -> Walked {
        let mut walked = Walked { extra_len: 0, protocol: self.next_header(), fault: None };
        for _ in 0..ipv6::MAX_EXTENSIONS {
            if !is_extension(walked.protocol) {
                return walked;
            }
            let word = go_behind(packet, walked.extra_len).and_then(|()| {
                let word = packet.load_words(Self::TRANSPORT);
                come_back(packet, walked.extra_len)?;
                word
            });
            let Some([word]) = word else {
                return Walked { fault: Some(Reason::Truncated), ..walked };
            };
            walked = after(walked, word);
            if walked.fault.is_some() {
                return walked;
            }
        }
        let fault = is_extension(walked.protocol).then_some(Reason::ExtensionHeader);
        Walked { fault, ..walked }
    }
}

#[inline(always)]
const fn is_extension(kind: u8) -> bool {
    use ipv6::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// The way on after the extension header that begins with `word`.
#[inline(always)]
const fn after(walked: Walked, word: u32) -> Walked {
    use ipv6::{AUTHENTICATION, FRAGMENT, ROUTING};
    let [next, len, third, fourth] = word.to_ne_bytes();
    let (len, fault) = match walked.protocol {
        // Offset or "more": a fragment. Neither: an atomic fragment (RFC 6946), as good as whole.
        FRAGMENT if third != 0 || fourth & !0x06 != 0 => (8, Some(Reason::Fragment)),
        FRAGMENT => (8, None),
        // Segments left: the destination in the header is not the last one.
        ROUTING if fourth != 0 => (8, Some(Reason::ExtensionHeader)),
        AUTHENTICATION => ((len as u32 + 2) * 4, None),
        _ => ((len as u32 + 1) * 8, None),
    };
    Walked { extra_len: walked.extra_len + len, protocol: next, fault }
}

#[inline(always)]
fn ends<H: IpHeader>(packet: &impl Packet, protocol: u8) -> Option<Ends> {
    if !matches!(protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return None;
    }
    let [ports] = packet.load_words(H::TRANSPORT)?;
    Some(Ends { ports, protocol })
}

/// What the transport header turned out to be. It is where it usually is: `extra_len` bytes are cut off.
#[inline(always)]
fn payload<H: IpHeader>(packet: &mut impl Packet, ip: H, protocol: u8, extra_len: u32) -> Parsed {
    let mut parsed = Parsed::FOREIGN;
    if protocol == H::ICMP {
        let Some(half) = packet.load_half(H::TRANSPORT) else { return Parsed::fault(Reason::Truncated) };
        parsed.kind = Kind::Icmp;
        parsed.icmp_type = half.to_ne_bytes()[0];
        return parsed;
    }
    match segment::<H>(packet, ip.size(), protocol, extra_len) {
        Ok(segment) => {
            parsed.kind = Kind::Segment;
            parsed.segment = segment;
            parsed
        }
        Err(None) => parsed,
        Err(Some(reason)) => {
            parsed = Parsed::fault(reason);
            if let Some(Ends { ports, protocol }) = ends::<H>(packet, protocol) {
                (parsed.segment.ports, parsed.segment.protocol) = (ports, protocol);
            }
            parsed
        }
    }
}

/// The segment, if the transport header is one of ours (else `None` is the error) and whole (else why not).
#[inline(always)]
fn segment<H: IpHeader>(
    packet: &mut impl Packet,
    Size { packet_len, hops }: Size,
    protocol: u8,
    extra_len: u32,
) -> Result<Segment, Option<Reason>> {
    if !matches!(protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return Err(None);
    }
    let [ports, _] = packet.load_words(H::TRANSPORT).ok_or(Some(Reason::Truncated))?;
    let (mut header_len, mut flags) = (udp::LEN, 0);
    if protocol == tcp::PROTOCOL {
        let [word, _] = packet.load_words(H::TRANSPORT + tcp::FLAGS_WORD).ok_or(Some(Reason::Truncated))?;
        (header_len, flags) = tcp::offset_and_flags(word);
    }
    // Both where the headers are now: `extra_len` bytes are cut off.
    let end = (packet_len + ethernet::LEN).wrapping_sub(extra_len);
    let is_short = protocol == tcp::PROTOCOL && header_len < tcp::LEN;
    if is_short || packet_len < extra_len || end < H::TRANSPORT + header_len || !packet.has(end) {
        return Err(Some(Reason::BadHeader));
    }
    Ok(Segment { extra_len, ports, protocol, flags, hops, packet_len })
}
