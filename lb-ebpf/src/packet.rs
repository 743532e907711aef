//! An XDP frame as a `Packet`.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
};
use lb_datapath::packet::Packet;

/// A frame in the driver's buffer. Holds nothing but the context: the bounds are read for every access, so none survives a move of
/// the head.
pub struct XdpPacket {
    context: *mut xdp_md,
}

impl XdpPacket {
    /// The frame of this context.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }

    /// `len` bytes at `offset`, if the frame has them.
    #[inline(always)]
    fn at(&self, offset: u32, len: u32) -> Option<*mut u8> {
        // SAFETY: the kernel gives a valid context.
        let start = unsafe { (*self.context).data as usize };
        // VERIFIER: "invalid access to packet": the compiler drops a comparison that an earlier one on another register implies,
        // which the verifier does not see. Read volatile, the end may be another one each time.
        // SAFETY: as above.
        let end = unsafe { (&raw const (*self.context).data_end).read_volatile() as usize };
        let pointer = start + offset as usize;
        if pointer + len as usize > end { None } else { Some(pointer as *mut u8) }
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn has(&self, len: u32) -> bool {
        self.at(0, len).is_some()
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
        // SAFETY: a valid context; every pointer into the frame is computed anew afterwards.
        (unsafe { bpf_xdp_adjust_head(self.context, delta) } == 0).then_some(())
    }

    #[inline(always)]
    fn move_tail(&mut self, delta: i32) -> Option<()> {
        // SAFETY: as in `move_head`.
        (unsafe { bpf_xdp_adjust_tail(self.context, delta) } == 0).then_some(())
    }
}
