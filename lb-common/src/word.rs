//! One 64-bit word of shared memory that the kernel and the daemon read and write at the same time.

use core::cell::UnsafeCell;

use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// A 64-bit word read and written whole (or, where said, one aligned part of it), by volatile accesses.
///
/// The BPF target has no atomic load or store below cpu v4, but an aligned access of up to eight bytes is one
/// instruction on every CPU the kernel runs on, so volatile is what the kernel's own READ_ONCE and WRITE_ONCE are.
/// The daemon's compare-exchange on a mapped word is in its own code, over the same address.
#[repr(transparent)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: a Word is only ever accessed through whole, aligned, volatile loads and stores; readers accept any mix of
// old and new words and check what they read (flow entries carry a check of their key).
unsafe impl Sync for Word {}

impl Word {
    /// A word that holds `value`.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The word as it is now.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: the pointer is valid and aligned for as long as `self` lives.
        unsafe { self.0.get().read_volatile() }
    }

    /// Replaces the whole word.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: as in `load`; see `Sync` for concurrent readers.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// Replaces bits 16–31 (the second aligned half-word on a little-endian machine) and nothing else.
    #[inline(always)]
    pub fn store_bits_16_31(&self, value: u16) {
        // SAFETY: two bytes at offset 2 (6 on big-endian) are inside the word and aligned for u16.
        unsafe {
            self.0
                .get()
                .cast::<u16>()
                .add(if cfg!(target_endian = "little") { 1 } else { 2 })
                .write_volatile(value)
        }
    }

    /// Replaces bits 32–39 (one byte) and nothing else.
    #[inline(always)]
    pub fn store_bits_32_39(&self, value: u8) {
        // SAFETY: one byte at offset 4 (3 on big-endian) is inside the word.
        unsafe {
            self.0
                .get()
                .cast::<u8>()
                .add(if cfg!(target_endian = "little") { 4 } else { 3 })
                .write_volatile(value)
        }
    }

    /// The address of the word, for the daemon's compare-exchange over mapped memory.
    pub fn as_ptr(&self) -> *mut u64 {
        self.0.get()
    }
}
