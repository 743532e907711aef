//! TCP (RFC 9293 §3.1).

/// Bytes without options.
pub const LEN: u32 = 20;
/// Protocol number.
pub const PROTOCOL: u8 = network_types::ip::IpProto::Tcp as u8;
/// Offset of data offset, flags and window (one word).
pub const FLAGS_WORD: u32 = 12;
/// Offset of the checksum.
pub const CHECKSUM: u32 = 16;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// The acknowledgment field is significant.
pub const ACK: u8 = 0x10;

/// Data offset in bytes and flags, from the word at [`FLAGS_WORD`].
#[inline(always)]
pub const fn offset_and_flags(word: u32) -> (u32, u8) {
    let [offset, flags, _, _] = word.to_ne_bytes();
    ((offset >> 4) as u32 * 4, flags)
}
