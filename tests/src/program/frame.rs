//! Frames for single runs and as templates: Ethernet, IPv4 or IPv6, TCP or UDP, no payload, right checksums.
//!
//! In: both ends and what the packet is. Out: the bytes, and where the ends lie in them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Flags of TCP.
pub mod flags {
    /// Ends a connection.
    pub const FIN: u8 = 1;
    /// Asks for one.
    pub const SYN: u8 = 2;
    /// Answers.
    pub const ACK: u8 = 16;
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A TCP segment with these flags.
    Tcp(u8),
    /// A datagram.
    Udp,
}

/// A frame; see the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    network_len: usize,
}

impl Frame {
    /// A frame from one end to the other.
    pub fn new(source: SocketAddr, destination: SocketAddr, payload: Payload) -> Result<Self> {
        let mut transport = source.port().to_be_bytes().to_vec();
        transport.extend(destination.port().to_be_bytes());
        let (protocol, checksum_at) = match payload {
            Payload::Tcp(flags) => {
                transport.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, 16)
            }
            Payload::Udp => {
                transport.extend([0, 8, 0, 0]);
                (17, 6)
            }
        };
        let len = u8::try_from(transport.len())?;
        let (kind, mut network) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45, 0, 0, 20 + len, 0, 7, 0x40, 0, 64, protocol, 0, 0];
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum);
                ([0x08, 0x00], header)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, len, protocol, 64];
                header.extend(from.octets());
                header.extend(to.octets());
                ([0x86, 0xdd], header)
            }
            _ => bail!("{source} and {destination} are of two families"),
        };
        let addresses = if kind == [0x08, 0x00] { &network[12..20] } else { &network[8..40] };
        let sum = checksum(&[addresses, &[0, protocol, 0, len], &transport]);
        // A UDP checksum of 0 would mean that there is none (RFC 768).
        let sum = if payload == Payload::Udp && sum == [0, 0] { [0xff, 0xff] } else { sum };
        transport[checksum_at..checksum_at + 2].copy_from_slice(&sum);
        let network_len = network.len();
        let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        bytes.extend(kind);
        bytes.append(&mut network);
        bytes.append(&mut transport);
        Ok(Self { bytes, network_len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The frame one hop on: other link addresses, time to live (hop limit) one less, header checksum made anew.
    pub fn forwarded(&self, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..6].copy_from_slice(&destination);
        bytes[6..12].copy_from_slice(&source);
        if self.network_len == 20 {
            bytes[ETHERNET + 8] -= 1;
            bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&[0, 0]);
            let sum = checksum(&[&bytes[ETHERNET..ETHERNET + 20]]);
            bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum);
        } else {
            bytes[ETHERNET + 7] -= 1;
        }
        bytes
    }

    /// Where the last four bytes of the source address lie.
    pub fn source_at(&self) -> usize {
        if self.network_len == 20 { ETHERNET + 12 } else { ETHERNET + 20 }
    }

    /// Where the last four bytes of the destination address lie.
    pub fn destination_at(&self) -> usize {
        if self.network_len == 20 { ETHERNET + 16 } else { ETHERNET + 36 }
    }

    /// Where the source port lies; the destination port follows.
    pub fn ports_at(&self) -> usize {
        ETHERNET + self.network_len
    }
}

/// The internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or_default()).to_be_bytes()
}
