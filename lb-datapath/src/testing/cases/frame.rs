//! Frames as people describe them, for cases: every field by name, every checksum computed from the start.
//!
//! In: fields. Out: bytes. Invariant: nothing of the packet path is used here, so that what it rewrites is judged by another hand.

use std::net::{IpAddr, SocketAddr};

use super::world::{GATEWAY_MAC, OWN_MAC};

/// Bytes of the link header.
pub const ETHERNET: usize = 14;

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Link addresses: destination, source.
    pub link: [[u8; 6]; 2],
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hops: u8,
    /// Type of service or traffic class.
    pub class: u8,
    /// IPv6 flow label.
    pub label: u32,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: kind, and bytes whose first one is filled in.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What it carries.
    pub payload: Payload,
    /// Bytes that the link padded.
    pub padding: usize,
}

/// What a packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A TCP segment.
    Tcp(Tcp),
    /// A datagram.
    Udp {
        /// Source and destination port.
        ports: [u16; 2],
        /// Whether it has a checksum.
        summed: bool,
        /// Bytes of data.
        data: usize,
    },
    /// A message of the family's ICMP.
    Icmp {
        /// Type and code.
        kind: [u8; 2],
        /// What follows the checksum.
        rest: u32,
        /// What follows that.
        data: Vec<u8>,
    },
    /// An IP packet.
    Packet(Box<Frame>),
    /// Bytes of another protocol.
    Other(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: [u16; 2],
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Bytes of data.
    pub data: usize,
}

/// "Don't fragment" in [`Frame::fragment`].
pub const DONT_FRAGMENT: u16 = 0x4000;

impl Frame {
    /// A packet between two addresses, as it arrives.
    pub fn new(source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        Self {
            link: [OWN_MAC, GATEWAY_MAC],
            source,
            destination,
            hops: 64,
            class: 0,
            label: 0,
            id: 0x1234,
            fragment: DONT_FRAGMENT,
            options: Vec::new(),
            extensions: Vec::new(),
            payload,
            padding: 0,
        }
    }

    /// A TCP segment with these flags and a little data.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let tcp = Tcp {
            ports: [source.port(), destination.port()],
            sequence: 0x0102_0304,
            acknowledgment: 0x0506_0708,
            flags,
            window: 0x2000,
            data: 11,
        };
        Self::new(source.ip(), destination.ip(), Payload::Tcp(tcp))
    }

    /// A datagram with a little data.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = [source.port(), destination.port()];
        Self::new(source.ip(), destination.ip(), Payload::Udp { ports, summed: true, data: 11 })
    }

    /// As given, changed by `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With so many bytes of data.
    #[must_use]
    pub fn data(mut self, len: usize) -> Self {
        match &mut self.payload {
            Payload::Tcp(tcp) => tcp.data = len,
            Payload::Udp { data, .. } => *data = len,
            _ => {}
        }
        self
    }

    /// One hop on: with these link addresses and one hop less.
    #[must_use]
    pub fn forwarded(mut self, to: [u8; 6], from: [u8; 6]) -> Self {
        self.link = [to, from];
        self.hops -= 1;
        self
    }

    /// Between other ends.
    #[must_use]
    pub fn between(mut self, source: SocketAddr, destination: SocketAddr) -> Self {
        (self.source, self.destination) = (source.ip(), destination.ip());
        let new = [source.port(), destination.port()];
        match &mut self.payload {
            Payload::Tcp(Tcp { ports, .. }) | Payload::Udp { ports, .. } => *ports = new,
            _ => {}
        }
        self
    }

    /// In an outer packet between these ends, as RFC 2003, RFC 2473 and RFC 4213 with RFC 6040 want it.
    #[must_use]
    pub fn inside(self, source: IpAddr, destination: IpAddr, label: u32) -> Self {
        let is_v4 = self.source.is_ipv4();
        Self {
            link: self.link,
            hops: 64,
            class: self.class,
            label,
            id: if is_v4 { self.id } else { 0 },
            fragment: if is_v4 { self.fragment } else { DONT_FRAGMENT },
            padding: self.padding,
            ..Self::new(source, destination, Payload::Packet(Box::new(Self { padding: 0, ..self })))
        }
    }

    /// Bytes of the IP packet.
    pub fn packet_len(&self) -> usize {
        self.bytes().len() - ETHERNET - self.padding
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.link.concat();
        bytes.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        bytes.extend(self.packet());
        bytes.extend(vec![0xaa; self.padding]);
        bytes
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let (protocol, payload) = self.transport();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = 20 + self.options.len();
                let mut header = vec![0x40 | nibble(header_len / 4), self.class];
                header.extend(half(header_len + payload.len()));
                header.extend(self.id.to_be_bytes());
                header.extend(self.fragment.to_be_bytes());
                header.extend([self.hops, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum);
                [header, payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, extensions) = self.chain(protocol);
                let word = 0x6000_0000 | u32::from(self.class) << 20 | self.label;
                let mut header = word.to_be_bytes().to_vec();
                header.extend(half(extensions.len() + payload.len()));
                header.extend([first, self.hops]);
                header.extend(source.octets());
                header.extend(destination.octets());
                [header, extensions, payload].concat()
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        }
    }

    /// The first next header, and the extension headers, each naming what follows it.
    fn chain(&self, protocol: u8) -> (u8, Vec<u8>) {
        let kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
        let mut bytes = Vec::new();
        for ((_, header), next) in self.extensions.iter().zip(&kinds[1..]) {
            bytes.push(*next);
            bytes.extend(&header[1..]);
        }
        (kinds[0], bytes)
    }

    fn transport(&self) -> (u8, Vec<u8>) {
        match &self.payload {
            Payload::Tcp(tcp) => (6, self.summed(6, tcp.bytes(), 16)),
            Payload::Udp { ports, summed, data } => {
                let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
                bytes.extend(half(8 + data));
                bytes.extend([0, 0]);
                bytes.extend(text(*data));
                (17, if *summed { self.summed(17, bytes, 6) } else { bytes })
            }
            Payload::Icmp { kind, rest, data } => {
                let mut bytes = vec![kind[0], kind[1], 0, 0];
                bytes.extend(rest.to_be_bytes());
                bytes.extend(data);
                if self.source.is_ipv6() {
                    return (58, self.summed(58, bytes, 2));
                }
                let sum = checksum(&[&bytes]);
                bytes[2..4].copy_from_slice(&sum);
                (1, bytes)
            }
            Payload::Packet(inner) => (if inner.source.is_ipv4() { 4 } else { 41 }, inner.packet()),
            Payload::Other(protocol, bytes) => (*protocol, bytes.clone()),
        }
    }

    /// With the checksum over pseudo header and bytes at `at`.
    fn summed(&self, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let pseudo = [octets(self.source), octets(self.destination), vec![0, protocol]].concat();
        let sum = checksum(&[&pseudo, &half(bytes.len()), &bytes]);
        // A UDP checksum of 0 would mean that there is none (RFC 768).
        let sum = if protocol == 17 && sum == [0, 0] { [0xff, 0xff] } else { sum };
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }
}

impl Tcp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.ports[0].to_be_bytes(), self.ports[1].to_be_bytes()].concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([0x50, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(text(self.data));
        bytes
    }
}

fn text(len: usize) -> impl Iterator<Item = u8> {
    b"0123456789abcdefghijklmnopqrstuvwxyz!".iter().copied().cycle().take(len)
}

fn half(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a packet of at most 64 KiB").to_be_bytes()
}

fn nibble(value: usize) -> u8 {
    u8::try_from(value).ok().filter(|value| *value < 16).expect("a header of at most 60 bytes")
}

/// The internet checksum (RFC 1071) of parts, of which all but the last are of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default())).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}
