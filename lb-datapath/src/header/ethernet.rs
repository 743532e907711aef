//! Ethernet (IEEE 802.3): two addresses and a type; fourteen bytes, so every IP header starts at 2 modulo 4.

use network_types::eth::EtherType;

use crate::packet::Packet;

/// Bytes of the header.
pub const LEN: u32 = 14;
/// Offset of the type.
pub const TYPE_OFFSET: u32 = 12;
/// Type of IPv4, network bytes.
pub const IPV4_BE: u16 = EtherType::Ipv4 as u16;
/// Type of IPv6, network bytes.
pub const IPV6_BE: u16 = EtherType::Ipv6 as u16;

/// Destination and source as three words.
pub type Addresses = [u32; 3];

/// Writes both addresses.
#[inline(always)]
pub fn store_addresses(packet: &mut impl Packet, addresses: &Addresses) -> Option<()> {
    packet.store_words(0, addresses)
}

/// The addresses of an answer: destination and source exchanged.
#[inline(always)]
pub const fn exchanged(addresses: &Addresses) -> Addresses {
    let [a, b, c] = *addresses;
    let (a, b, c) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
    [
        u32::from_ne_bytes([b[2], b[3], c[0], c[1]]),
        u32::from_ne_bytes([c[2], c[3], a[0], a[1]]),
        u32::from_ne_bytes([a[2], a[3], b[0], b[1]]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_back_where_the_frame_came_from() {
        let bytes = [1_u8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let words = [0, 4, 8].map(|at| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()));
        let back: Vec<u8> = exchanged(&words).iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(back, [7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn types_are_network_bytes() {
        assert_eq!(IPV4_BE, 0x0800_u16.to_be());
        assert_eq!(IPV6_BE, 0x86dd_u16.to_be());
    }
}
