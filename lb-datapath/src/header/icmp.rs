//! ICMP (RFC 792) and ICMPv6 (RFC 4443): types and codes lbd sends or tells apart.

/// Bytes before the quoted packet.
pub const LEN: u32 = 8;
/// Protocol number of ICMP.
pub const V4: u8 = network_types::ip::IpProto::Icmp as u8;
/// Protocol number of ICMPv6.
pub const V6: u8 = network_types::ip::IpProto::Ipv6Icmp as u8;

/// A message's first word: type, code, checksum 0.
#[inline(always)]
pub const fn first_word(kind: u8, code: u8) -> u32 {
    u32::from_ne_bytes([kind, code, 0, 0])
}

/// Destination unreachable, port.
#[inline(always)]
pub const fn port_unreachable(version: u8) -> u32 {
    if version == 4 { first_word(3, 3) } else { first_word(1, 4) }
}

/// Fragmentation needed, or packet too big.
#[inline(always)]
pub const fn too_big(version: u8) -> u32 {
    if version == 4 { first_word(3, 4) } else { first_word(2, 0) }
}

/// Whether a message of this type reports an error (RFC 1122 §3.2.2; RFC 4443 §2.1).
#[inline(always)]
pub const fn is_error(version: u8, kind: u8) -> bool {
    if version == 4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 }
}
