//! The packet path on the host: a frame in a vector, tables in vectors, a builder of packets and the named cases.
//!
//! In: tables of the lb-common types, as the daemon writes them. Out: verdicts, bytes and counters. Invariant: the pipeline here is the very
//! one of the kernel; only memory and clock differ.

mod builder;
pub mod cases;
mod tables;
pub mod world;

#[cfg(test)]
mod tests;

pub use self::{
    builder::{PacketBuilder, checksums_are_right, ends},
    tables::{Counters, HostConstants, HostTables},
};

use crate::packet::Packet;

/// Bytes in front of a host frame that an outer header may take (as XDP_PACKET_HEADROOM).
pub const HEADROOM: usize = 256;

/// A frame on the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPacket {
    buffer: Vec<u8>,
    start: usize,
}

impl HostPacket {
    /// A frame of these bytes with [`HEADROOM`].
    pub fn new(bytes: &[u8]) -> Self {
        Self::with_headroom(bytes, HEADROOM)
    }

    /// A frame of these bytes with so much room in front.
    pub fn with_headroom(bytes: &[u8], headroom: usize) -> Self {
        let mut buffer = vec![0; headroom];
        buffer.extend_from_slice(bytes);
        Self { buffer, start: headroom }
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn range(&self, offset: u32, len: usize) -> Option<core::ops::Range<usize>> {
        let start = self.start + offset as usize;
        (start + len <= self.buffer.len()).then_some(start..start + len)
    }
}

impl Packet for HostPacket {
    fn has(&self, len: u32) -> bool {
        self.bytes().len() >= len as usize
    }

    fn load_words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let bytes = &self.buffer[self.range(offset, N * 4)?];
        Some(core::array::from_fn(|i| {
            u32::from_ne_bytes([bytes[i * 4], bytes[i * 4 + 1], bytes[i * 4 + 2], bytes[i * 4 + 3]])
        }))
    }

    fn load_half(&self, offset: u32) -> Option<u16> {
        let bytes = &self.buffer[self.range(offset, 2)?];
        Some(u16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Option<()> {
        let range = self.range(offset, N * 4)?;
        for (bytes, word) in self.buffer[range].chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Some(())
    }

    fn store_half(&mut self, offset: u32, half: u16) -> Option<()> {
        let range = self.range(offset, 2)?;
        self.buffer[range].copy_from_slice(&half.to_ne_bytes());
        Some(())
    }

    fn move_head(&mut self, delta: i32) -> Option<()> {
        let start = self.start.checked_add_signed(delta as isize)?;
        if start >= self.buffer.len() {
            return None;
        }
        self.start = start;
        Some(())
    }

    fn move_tail(&mut self, delta: i32) -> Option<()> {
        let end = self.buffer.len().checked_add_signed(delta as isize)?;
        if end <= self.start {
            return None;
        }
        self.buffer.resize(end, 0);
        Some(())
    }
}
