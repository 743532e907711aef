//! UDP (RFC 768).

/// Bytes.
pub const LEN: u32 = 8;
/// Protocol number.
pub const PROTOCOL: u8 = network_types::ip::IpProto::Udp as u8;
/// Offset of the checksum.
pub const CHECKSUM: u32 = 6;
