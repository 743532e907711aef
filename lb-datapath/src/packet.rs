//! A frame as the packet path sees it.
//!
//! Headers are read and written by copy, in 32-bit words as they lie in the frame (network bytes, loaded natively).
//! Invariant: no reference into the frame exists, so nothing can outlive a move of its head. The kernel's XDP frame implements
//! this, the host's byte vector, and later a socket buffer, whose hardware may have to be told of a checksum's change:
//! therefore updating one is a method here and not arithmetic elsewhere.

use crate::{
    checksum::{Delta, Sum, Zero},
    header::ethernet,
};

/// The most that [`Packet::sum_short`] sums up, bytes.
pub const SHORT_SUM_LEN: u32 = 128;

/// A frame; offsets are bytes from its first byte (the link header).
pub trait Packet {
    /// Whether the frame has at least `len` bytes, which may be any number. (The frame's length is no number of its own: computing one takes
    /// CAP_PERFMON in the kernel.)
    fn has(&self, len: u32) -> bool;

    /// Whether the frame has at least `len` bytes, a constant. If so, an access within them needs no look at the frame's end any more, until
    /// its head or tail is moved.
    #[inline(always)]
    fn assure(&mut self, len: u32) -> bool {
        self.has(len)
    }

    /// `N` words at `offset`, or `None` if the frame ends before their end.
    fn load_words<const N: usize>(&self, offset: u32) -> Option<[u32; N]>;

    /// Two bytes at `offset`, loaded natively.
    fn load_half(&self, offset: u32) -> Option<u16>;

    /// Replaces `N` words at `offset`; `None` (and nothing written) if the frame ends before.
    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Option<()>;

    /// Replaces two bytes at `offset`.
    fn store_half(&mut self, offset: u32, half: u16) -> Option<()>;

    /// Moves the first byte: negative makes room in front (its bytes are undefined), positive cuts off.
    fn move_head(&mut self, delta: i32) -> Option<()>;

    /// Moves the end: negative cuts off.
    fn move_tail(&mut self, delta: i32) -> Option<()>;

    /// The sum of `N` words at `offset`.
    #[inline(always)]
    fn sum_words<const N: usize>(&self, offset: u32) -> Option<Sum> {
        let mut sum = Sum::default();
        for index in 0..N {
            let [word] = self.load_words(offset + index as u32 * 4)?;
            sum = sum.add(word);
        }
        Some(sum)
    }

    /// [`sum_short`]; the kernel makes it a function of its own, because every length is another path to the verifier.
    #[inline(always)]
    fn sum_short(&self, len: u32) -> Option<Sum> {
        sum_short(self, len)
    }

    /// Applies a change of covered bytes to the internet checksum at `offset` (RFC 1624).
    #[inline(always)]
    fn update_checksum(&mut self, offset: u32, delta: Delta, zero: Zero) -> Option<()> {
        let old = self.load_half(offset)?;
        self.store_half(offset, delta.apply(old, zero))
    }
}

/// The sum of the first `len` bytes behind the link header: a multiple of four, at most [`SHORT_SUM_LEN`].
#[inline(always)]
pub fn sum_short<P: Packet + ?Sized>(packet: &P, len: u32) -> Option<Sum> {
    let mut sum = Sum::default();
    // VERIFIER: written out, because a loop would have a variable offset, which takes CAP_PERFMON.
    macro_rules! add {
        ($($at:literal)+) => {
            $(if $at < len {
                let [word] = packet.load_words(ethernet::LEN + $at)?;
                sum = sum.add(word);
            })+
        };
    }
    add!(0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60);
    add!(64 68 72 76 80 84 88 92 96 100 104 108 112 116 120 124);
    Some(sum)
}
