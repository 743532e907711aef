//! The decision for one packet, by the program in the kernel, without side effects.
//!
//! In: protocol, source, destination, interface. Out: [`Explained`]: verdict, [`Explanation`], the packet as it would leave.
//! The packet goes through `lbd_explain`, which counts nothing and stores nothing. A TCP packet is first an ACK, which
//! finds the flow if there is one, and otherwise a SYN, which is what would begin one.

use std::net::{IpAddr, SocketAddr};

use lb_common::{Explanation, selected_by};
use zerocopy::{Immutable, IntoBytes};

use super::load::{BALANCER, EXPLAIN};
use super::{Datapath, DatapathError};
use crate::spec::Protocol;

const ETHERNET_LEN: usize = 14;
/// Protocol numbers of a whole packet inside another.
const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// A packet to ask about. Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

/// What the program did with the packet (`enum xdp_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Left to the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Sent out of the interface it came by.
    Transmit,
    /// Sent out of another interface.
    Redirect,
    /// Dropped by the kernel as a fault of the program.
    Aborted,
}

impl Verdict {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Transmit => "transmit",
            Self::Redirect => "redirect",
            Self::Aborted => "aborted",
        }
    }

    const fn from_action(action: u32) -> Self {
        match action {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Service, pool, backend, reason, next hop, by number.
    pub explanation: Explanation,
    /// Whether the TCP packet was a SYN (no flow was found for an ACK).
    pub is_syn: bool,
    /// The frame as it would leave.
    pub frame: Vec<u8>,
}

/// The addresses in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Source and destination of the header around the packet, if it is carried in one.
    pub outer: Option<(IpAddr, IpAddr)>,
    /// Where the packet says it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

impl Addresses {
    /// Those of an Ethernet frame with TCP or UDP, or with one such packet inside another; `None`: it is no such frame.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let packet = IpHeader::read(frame.get(ETHERNET_LEN..)?)?;
        match packet.protocol {
            IP_IN_IP | IPV6_IN_IP => {
                let inner = IpHeader::read(packet.payload)?;
                Some(Self { outer: Some((packet.source, packet.destination)), ..inner.with_ports()? })
            }
            _ => packet.with_ports(),
        }
    }
}

/// What an IP header says; without options and extension headers, as [`frame`] makes them.
struct IpHeader<'a> {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload: &'a [u8],
}

impl<'a> IpHeader<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let octets4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let octets6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        let (protocol, source, destination, len) = match packet.first()? >> 4 {
            4 => (*packet.get(9)?, octets4(12)?, octets4(16)?, 20),
            6 => (*packet.get(6)?, octets6(8)?, octets6(24)?, 40),
            _ => return None,
        };
        Some(Self { protocol, source, destination, payload: packet.get(len..)? })
    }

    fn with_ports(&self) -> Option<Addresses> {
        let port = |at: usize| Some(u16::from_be_bytes(self.payload.get(at..at + 2)?.try_into().ok()?));
        Some(Addresses {
            outer: None,
            source: SocketAddr::new(self.source, port(0)?),
            destination: SocketAddr::new(self.destination, port(2)?),
        })
    }
}

/// `struct xdp_md` as TEST_RUN takes it.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_interface: u32,
    rx_queue: u32,
    egress_interface: u32,
}

impl Datapath {
    /// Asks the program about a packet that comes in by the interface with index `interface`.
    ///
    /// # Errors
    /// [`DatapathError::Run`]; also for addresses of two families.
    pub fn explain(&mut self, question: &Question, interface: u32) -> Result<Explained, DatapathError> {
        if question.source.is_ipv4() != question.destination.is_ipv4() {
            return Err(DatapathError::Run {
                program: EXPLAIN,
                reason: "source and destination are of two address families".into(),
                remedy: "give both as IPv4 or both as IPv6".into(),
            });
        }
        match question.protocol {
            Protocol::Udp => self.explain_once(question, 0, interface),
            Protocol::Tcp => {
                let explained = self.explain_once(question, TCP_ACK, interface)?;
                let is_known =
                    matches!(explained.explanation.selected_by, selected_by::FLOW | selected_by::RESELECTED)
                        || explained.explanation.is_reply != 0;
                if is_known { Ok(explained) } else { self.explain_once(question, TCP_SYN, interface) }
            }
        }
    }

    /// Runs the balancer itself on a frame that is said to come in by an interface: counters move, flows are made, nothing
    /// is sent. For tests and measurements.
    ///
    /// # Errors
    /// [`DatapathError::Run`].
    pub fn run_frame(&self, frame: &[u8], interface: u32) -> Result<(Verdict, Vec<u8>), DatapathError> {
        let (action, frame) = self.programs.run(BALANCER, frame, context(frame, interface).as_bytes())?;
        Ok((Verdict::from_action(action), frame))
    }

    fn explain_once(
        &mut self,
        question: &Question,
        flags: u8,
        interface: u32,
    ) -> Result<Explained, DatapathError> {
        let frame = frame(question, flags);
        self.forget_explanation();
        let (action, frame) = self.programs.run(EXPLAIN, &frame, context(&frame, interface).as_bytes())?;
        let explanation = self.maps.explanation.read(0).unwrap_or_default();
        Ok(Explained { verdict: Verdict::from_action(action), explanation, is_syn: flags == TCP_SYN, frame })
    }

    /// The program writes down what it finds and nothing else: what it found the last time must not be there any more.
    fn forget_explanation(&mut self) {
        let nothing = Explanation { slot: u32::MAX, ..Explanation::default() };
        let (words, _) = nothing.as_bytes().as_chunks();
        for (stored, word) in self.maps.explanation.words().iter().zip(words) {
            stored.store(u64::from_ne_bytes(*word));
        }
    }
}

/// Without a context the kernel says the frame came by the loopback interface of its own namespace.
fn context(frame: &[u8], interface: u32) -> Context {
    let data_end = u32::try_from(frame.len()).unwrap_or_default();
    Context {
        data: 0,
        data_end,
        data_meta: 0,
        ingress_interface: interface,
        rx_queue: 0,
        egress_interface: 0,
    }
}

/// A whole Ethernet frame with right lengths and checksums.
fn frame(question: &Question, flags: u8) -> Vec<u8> {
    let transport = transport(question, flags);
    let len = u16::try_from(transport.len()).unwrap_or_default();
    let protocol = protocol_number(question.protocol);
    // Locally administered addresses; lbd looks at neither.
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02];
    match (question.source.ip(), question.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&(len + 20).to_be_bytes());
            header.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&destination.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend_from_slice(&[0x08, 0x00]);
            frame.extend_from_slice(&header);
        }
        (source, destination) => {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend_from_slice(&len.to_be_bytes());
            frame.extend_from_slice(&[protocol, 64]);
            frame.extend_from_slice(&octets(source));
            frame.extend_from_slice(&octets(destination));
        }
    }
    frame.extend_from_slice(&transport);
    // Short frames are padded on the wire, and so here.
    frame.resize(frame.len().max(ETHERNET_LEN + 46), 0);
    frame
}

fn transport(question: &Question, flags: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(TCP_LEN);
    header.extend_from_slice(&question.source.port().to_be_bytes());
    header.extend_from_slice(&question.destination.port().to_be_bytes());
    let checksum_at = match question.protocol {
        Protocol::Tcp => {
            header.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, u8::from(flags & TCP_ACK != 0)]);
            header.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        }
        Protocol::Udp => {
            header.extend_from_slice(&[0, 8, 0, 0]);
            UDP_LEN - 2
        }
    };
    let len = u16::try_from(header.len()).unwrap_or_default().to_be_bytes();
    let pseudo = [0, protocol_number(question.protocol)];
    let sum = checksum(&[
        &octets(question.source.ip()),
        &octets(question.destination.ip()),
        &len,
        &pseudo,
        &header,
    ]);
    header[checksum_at..checksum_at + 2].copy_from_slice(&if sum == 0 {
        [0xff; 2]
    } else {
        sum.to_be_bytes()
    });
    header
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// The internet checksum (RFC 1071) over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let sum: u32 = parts
        .iter()
        .flat_map(|part| part.chunks_exact(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(protocol: Protocol, source: &str, destination: &str) -> Question {
        Question { protocol, source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// The sum over a region whose checksum is right is 0.
    fn assert_transport_checksum(frame: &[u8], ip_len: usize, protocol: u8, transport_len: usize) {
        let ip = &frame[ETHERNET_LEN..ETHERNET_LEN + ip_len];
        let addresses = if ip_len == 20 { &ip[12..20] } else { &ip[8..40] };
        let transport = &frame[ETHERNET_LEN + ip_len..][..transport_len];
        let len = u16::try_from(transport_len).unwrap().to_be_bytes();
        assert_eq!(checksum(&[addresses, &len, &[0, protocol], transport]), 0);
    }

    #[test]
    fn frames_are_whole_and_their_checksums_right() {
        let v4 = frame(&question(Protocol::Tcp, "198.51.100.7:4321", "203.0.113.10:443"), TCP_SYN);
        assert_eq!(&v4[12..14], [0x08, 0x00]);
        assert_eq!(checksum(&[&v4[14..34]]), 0);
        assert_eq!(u16::from_be_bytes([v4[16], v4[17]]), 40);
        assert_eq!(v4[47], TCP_SYN);
        assert_transport_checksum(&v4, 20, 6, 20);
        assert_eq!(v4.len(), 60);

        let v6 = frame(&question(Protocol::Udp, "[2001:db8::1]:1", "[2001:db8::2]:53"), 0);
        assert_eq!(&v6[12..14], [0x86, 0xdd]);
        assert_eq!(u16::from_be_bytes([v6[18], v6[19]]), 8);
        assert_transport_checksum(&v6, 40, 17, 8);
        let udp4 = frame(&question(Protocol::Udp, "10.0.0.1:1", "10.0.0.2:53"), 0);
        assert_transport_checksum(&udp4, 20, 17, 8);
    }

    #[test]
    fn the_addresses_of_a_frame_are_read_inside_another_packet_too() {
        let (client, vip) = ("[2001:db8::1]:1024", "[2001:db8::2]:53");
        let plain = frame(&question(Protocol::Udp, client, vip), 0);
        let (source, destination) = (client.parse().unwrap(), vip.parse().unwrap());
        assert_eq!(Addresses::of(&plain), Some(Addresses { outer: None, source, destination }));
        let around = frame(&question(Protocol::Tcp, "192.0.2.1:1", "192.0.2.2:2"), TCP_SYN);
        let mut carried = around[..ETHERNET_LEN + 20].to_vec();
        carried[ETHERNET_LEN + 9] = IPV6_IN_IP;
        carried.extend_from_slice(&plain[ETHERNET_LEN..]);
        let outer = Some(("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()));
        assert_eq!(Addresses::of(&carried), Some(Addresses { outer, source, destination }));
        assert_eq!(Addresses::of(&carried[..40]), None);
        assert_eq!(Addresses::of(&[0; 60]), None);
    }

    #[test]
    fn actions_are_verdicts() {
        assert_eq!(Verdict::from_action(2).as_str(), "pass");
        assert_eq!(Verdict::from_action(3), Verdict::Transmit);
        assert_eq!(Verdict::from_action(0), Verdict::Aborted);
        assert_eq!(Verdict::from_action(99), Verdict::Aborted);
    }
}
