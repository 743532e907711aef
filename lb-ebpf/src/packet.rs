//! An XDP frame as a `Packet`.

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
};
use lb_common::FEATURE_PERFMON;
use lb_datapath::{
    checksum::Sum,
    constants::has,
    packet::{Packet, sum_short},
};

use crate::settings::Loaded;

/// A frame in the driver's buffer.
///
/// Its bounds are read once, and anew whenever its head or tail moved. All offsets are constants when compiled, so every access is compared
/// with the same pair of registers: what the verifier needs to see. What lies within the `assured` bytes was compared once; they are a constant
/// wherever the compiler looks, so nothing is left of that question.
pub struct XdpPacket {
    context: *mut xdp_md,
    start: usize,
    end: usize,
    assured: u32,
}

impl XdpPacket {
    /// The frame of this context.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        let mut packet = Self { context, start: 0, end: 0, assured: 0 };
        packet.find();
        packet
    }

    /// Reads the bounds.
    #[inline(always)]
    fn find(&mut self) {
        self.assured = 0;
        // SAFETY: the kernel gives a valid context. Volatile: a pointer from before a move is nobody's.
        unsafe {
            self.start = (&raw const (*self.context).data).read_volatile() as usize;
            self.end = (&raw const (*self.context).data_end).read_volatile() as usize;
        }
    }

    /// `len` bytes at `offset`, if the frame has them.
    #[inline(always)]
    fn at(&self, offset: u32, len: u32) -> Option<*mut u8> {
        let pointer = self.start + offset as usize;
        if offset + len > self.assured && pointer + len as usize > self.end {
            None
        } else {
            Some(pointer as *mut u8)
        }
    }
}

/// What no sum of 128 bytes is.
const NO_SUM: u64 = u64::MAX;

/// `Packet::sum_short` of the context's frame.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cold_sum(context: *mut xdp_md, len: u64) -> u64 {
    sum_short(&XdpPacket::new(context), len as u32).map_or(NO_SUM, Sum::word)
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn has(&self, len: u32) -> bool {
        if has(Loaded, FEATURE_PERFMON) {
            return self.start + len as usize <= self.end;
        }
        // Without CAP_PERFMON no variable may be added to the pointer, but a helper may be asked for the length (5.18).
        // SAFETY: a valid context.
        unsafe { bpf_xdp_get_buff_len(self.context) >= u64::from(len) }
    }

    #[inline(always)]
    fn assure(&mut self, len: u32) -> bool {
        self.assured = 0;
        if self.at(0, len).is_none() {
            return false;
        }
        self.assured = len;
        true
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let pointer = self.at(offset, N as u32 * 4)?.cast::<u32>();
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: within the frame as checked. An IP header lies at 2 modulo 4: BPF's loads may be unaligned on the
            // architectures XDP runs natively on (the verifier refuses them elsewhere), and a volatile load of four bytes
            // stays one instruction, where an unaligned read of Rust becomes four.
            *word = unsafe { pointer.add(index).read_volatile() };
        }
        Some(words)
    }

    #[inline(always)]
    fn load_half(&self, offset: u32) -> Option<u16> {
        let pointer = self.at(offset, 2)?.cast::<u16>();
        // SAFETY: as in `load_words`.
        Some(unsafe { pointer.read_volatile() })
    }

    #[inline(always)]
    fn sum_words<const N: usize>(&self, offset: u32) -> Option<Sum> {
        // The most that bpf_csum_diff takes at once before Linux 6.12, in words.
        const MOST: usize = 128;
        let pointer = self.at(offset, N as u32 * 4)?.cast::<u32>();
        let mut sum = Sum::default();
        let mut done = 0;
        while done < N {
            let words = if N - done < MOST { N - done } else { MOST };
            // SAFETY: within the frame as checked; the helper only reads.
            let part = unsafe { bpf_csum_diff(null_mut(), 0, pointer.add(done), words as u32 * 4, 0) };
            sum = sum.add(u32::try_from(part).ok()?);
            done += words;
        }
        Some(sum)
    }

    #[inline(always)]
    fn sum_short(&self, len: u32) -> Option<Sum> {
        let word = cold_sum(self.context, u64::from(len));
        if word == NO_SUM { None } else { Some(Sum::of_word(word)) }
    }

    #[inline(always)]
    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Option<()> {
        let pointer = self.at(offset, N as u32 * 4)?.cast::<u32>();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: as in `load_words`.
            unsafe { pointer.add(index).write_volatile(*word) };
        }
        Some(())
    }

    #[inline(always)]
    fn store_half(&mut self, offset: u32, half: u16) -> Option<()> {
        let pointer = self.at(offset, 2)?.cast::<u16>();
        // SAFETY: as in `load_words`.
        unsafe { pointer.write_volatile(half) };
        Some(())
    }

    #[inline(always)]
    fn move_head(&mut self, delta: i32) -> Option<()> {
        // SAFETY: a valid context; the bounds are read anew.
        let moved = unsafe { bpf_xdp_adjust_head(self.context, delta) } == 0;
        self.find();
        moved.then_some(())
    }

    #[inline(always)]
    fn move_tail(&mut self, delta: i32) -> Option<()> {
        // SAFETY: as in `move_head`.
        let moved = unsafe { bpf_xdp_adjust_tail(self.context, delta) } == 0;
        self.find();
        moved.then_some(())
    }
}
