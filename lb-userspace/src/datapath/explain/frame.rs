//! The packet that the program is asked about: an Ethernet frame with right lengths and checksums.

use std::net::IpAddr;

use super::Question;
use crate::desired::protocol_number;
use crate::spec::Protocol;

pub(super) const ETHERNET_LEN: usize = 14;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
pub(super) const TCP_SYN: u8 = 0x02;
pub(super) const TCP_ACK: u8 = 0x10;

/// A whole frame; `flags` are those of a TCP header.
pub(super) fn frame(question: &Question, flags: u8) -> Vec<u8> {
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
pub(super) fn question(protocol: Protocol, source: &str, destination: &str) -> Question {
    Question { protocol, source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
