//! Between whom a frame travels: what the packet says, and the header around it.

use std::net::{IpAddr, SocketAddr};

use super::frame::ETHERNET_LEN;

/// Protocol numbers of a whole packet inside another.
const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;

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

/// What an IP header says; without options and extension headers, as [`mod@super::frame`] makes them.
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

#[cfg(test)]
mod tests {
    use super::super::frame::{TCP_SYN, frame, question};
    use super::*;
    use crate::spec::Protocol;

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
}
