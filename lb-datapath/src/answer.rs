//! Answers to clients: TCP reset, port unreachable, fragmentation needed and packet too big.
//!
//! In: a frame to a vip that goes no further. Out: the frame turned into the answer, addressed back to where it came from, to be sent out
//! of the interface it came in by; or `None`, and then nothing is sent. Invariant: no reset is answered. That nothing is answered to a
//! source that cannot be a host (RFC 1122 §3.2.2) follows from begin.rs: what is answered has, or would have begun, a flow.

use crate::{
    checksum::Sum,
    header::{IpHeader, ethernet, icmp, tcp},
    packet::{Packet, SHORT_SUM_LEN},
    parse::Segment,
};

/// Bytes quoted of a packet shorter than `IpHeader::QUOTE_LEN`: more than any IPv4 header and the eight bytes RFC 792 asks for.
const SHORT_QUOTE_LEN: u32 = SHORT_SUM_LEN;

/// Answers a TCP segment with a reset (RFC 9293 §3.5.2, as for a connection that does not exist).
#[inline(always)]
pub fn reset<H: IpHeader, P: Packet>(packet: &mut P, segment: &Segment) -> Option<()> {
    let (from, to) = (H::load_destination(packet)?, H::load_source(packet)?);
    if segment.flags & tcp::RST != 0 {
        return None;
    }
    let addresses = packet.load_words(0)?;
    // Options and extension headers are cut out: the fresh header will stand right before the segment.
    packet.move_head(i32::try_from(segment.extra_len).ok()?)?;
    let [_, sequence, acknowledgment, word] = packet.load_words(H::TRANSPORT)?;
    let (header_len, flags) = tcp::offset_and_flags(word);
    let data_len =
        (segment.packet_len + ethernet::LEN).wrapping_sub(H::TRANSPORT + segment.extra_len + header_len);
    let control = ((flags & tcp::SYN != 0) as u32) + ((flags & tcp::FIN != 0) as u32);
    let (seq, ack, answer) = if flags & tcp::ACK != 0 {
        (acknowledgment, 0, tcp::RST)
    } else {
        let next = u32::from_be(sequence).wrapping_add(data_len).wrapping_add(control);
        (0, next.to_be(), tcp::RST | tcp::ACK)
    };
    let [a, b, c, d] = segment.ports.to_ne_bytes();
    let ports = u32::from_ne_bytes([c, d, a, b]);
    let words = [ports, seq, ack, u32::from_ne_bytes([0x50, answer, 0, 0]), 0];
    let checksum = H::pseudo_header(&from, &to, tcp::PROTOCOL, tcp::LEN).add_all(&words).checksum();
    let [ports, seq, ack, word, _] = words;
    cut(packet, segment.packet_len, segment.extra_len + H::LEN + tcp::LEN)?;
    front::<H, P>(packet, &addresses)?;
    H::store_answer(packet, &from, &to, tcp::PROTOCOL, tcp::LEN)?;
    packet.store_words(H::TRANSPORT, &[ports, seq, ack, word, first_half(checksum)])
}

/// Answers with an ICMP error that quotes the packet; `first` is the message's first word, `rest` its second.
#[inline(always)]
pub fn error<H: IpHeader, P: Packet>(packet: &mut P, first: u32, rest: u32) -> Option<()> {
    let packet_len = H::load(packet)?.packet_len();
    let (from, to) = (H::load_destination(packet)?, H::load_source(packet)?);
    let (quote_len, quoted) = quote::<H, P>(packet, packet_len)?;
    let message_len = quote_len + icmp::LEN;
    let mut sum = quoted.add(first).add(rest);
    if H::VERSION == 6 {
        sum = sum.and(H::pseudo_header(&from, &to, H::ICMP, message_len));
    }
    let first = first | second_half(sum.checksum());
    let addresses = packet.load_words(0)?;
    cut(packet, packet_len, quote_len)?;
    packet.move_head(-((H::LEN + icmp::LEN) as i32))?;
    front::<H, P>(packet, &addresses)?;
    H::store_answer(packet, &from, &to, H::ICMP, message_len)?;
    packet.store_words(ethernet::LEN + H::LEN, &[first, rest])
}

/// How much of a packet is quoted, and the sum of it: as much as an error may hold of a long packet, at most 128 bytes of a shorter one.
#[inline(always)]
fn quote<H: IpHeader, P: Packet>(packet: &P, packet_len: u32) -> Option<(u32, Sum)> {
    if packet_len >= H::QUOTE_LEN {
        return Some((H::QUOTE_LEN, H::sum_quote(packet)?));
    }
    let len = if packet_len < SHORT_QUOTE_LEN { packet_len & !3 } else { SHORT_QUOTE_LEN };
    Some((len, packet.sum_short(len)?))
}

/// Fragmentation needed (RFC 1191) or packet too big (RFC 4443 §3.2).
#[inline(always)]
pub fn too_big<H: IpHeader, P: Packet>(packet: &mut P, mtu: u32) -> Option<()> {
    error::<H, P>(packet, icmp::too_big(H::VERSION), mtu.to_be())
}

/// Port unreachable.
#[inline(always)]
pub fn unreachable<H: IpHeader, P: Packet>(packet: &mut P) -> Option<()> {
    error::<H, P>(packet, icmp::port_unreachable(H::VERSION), 0)
}

/// Cuts the IP packet, now `packet_len` bytes long, off after `len` bytes. What the link padded stays behind it: harmless, and
/// the program may not compute a frame's length (that takes CAP_PERFMON).
#[inline(always)]
fn cut<P: Packet>(packet: &mut P, packet_len: u32, len: u32) -> Option<()> {
    let excess = packet_len.checked_sub(len)?;
    if excess == 0 {
        return Some(());
    }
    packet.move_tail(-i32::try_from(excess).ok()?)
}

/// The link header of the answer: back to where the frame came from.
#[inline(always)]
fn front<H: IpHeader, P: Packet>(packet: &mut P, addresses: &ethernet::Addresses) -> Option<()> {
    ethernet::store_addresses(packet, &ethernet::exchanged(addresses))?;
    packet.store_half(ethernet::TYPE_OFFSET, H::ETHERTYPE_BE)
}

/// A checksum as the first two bytes of a word.
#[inline(always)]
const fn first_half(checksum: u16) -> u32 {
    let [a, b] = checksum.to_ne_bytes();
    u32::from_ne_bytes([a, b, 0, 0])
}

/// A checksum as the last two bytes of a word.
#[inline(always)]
const fn second_half(checksum: u16) -> u32 {
    let [a, b] = checksum.to_ne_bytes();
    u32::from_ne_bytes([0, 0, a, b])
}
