//! A BPF array mapped into this process, as a slice of its values.
//!
//! In: a map created with BPF_F_MMAPABLE and the Rust type of its values. Out: `&[T]` over the kernel's own memory.
//! Invariants: the type's size is the map's value size and a multiple of eight (the kernel rounds each element up to eight),
//! its alignment holds because the memory starts on a page; what changes under our eyes is a `Word` (volatile) or is
//! read whole through a raw pointer, and a flow's value changes by compare-exchange alone.

use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::Word;
use zerocopy::FromBytes;

/// The values of a mapped array.
pub(super) struct Mapped<T> {
    start: NonNull<T>,
    entries: usize,
    len_bytes: usize,
    values: PhantomData<T>,
}

// SAFETY: the memory belongs to the kernel's map and stays mapped until drop, from whichever thread.
unsafe impl<T: Sync> Send for Mapped<T> {}
// SAFETY: shared access hands out `&T`, for which `T: Sync` answers; whole values are written by the owner of `&mut` alone.
unsafe impl<T: Sync> Sync for Mapped<T> {}

impl<T: FromBytes> Mapped<T> {
    /// Maps `entries` values of the map for reading and writing.
    pub(super) fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 4096) };
        let entries = entries as usize;
        let len_bytes = (entries * size_of::<T>()).next_multiple_of(4096);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is replaced.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len_bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, entries, len_bytes, values: PhantomData })
    }

    /// The same memory as words.
    pub(super) fn words(&self) -> &[Word] {
        // SAFETY: a Word is eight bytes valid for any content; the size of T is a multiple of that (asserted in `new`), the
        // mapping is page-aligned and lives as long as the borrow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.entries * (size_of::<T>() / 8)) }
    }

    /// Reads a value that the kernel may be writing: a copy, made word by word.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        if index >= self.entries {
            return None;
        }
        let mut value = T::new_zeroed();
        let from = self.start.as_ptr().wrapping_add(index).cast::<u64>();
        let to = std::ptr::from_mut(&mut value).cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            // SAFETY: both pointers are inside one T; the mapped one is aligned to its page, and `to` is written
            // unaligned because T may need less than eight bytes.
            unsafe { to.add(word).write_unaligned(from.add(word).read_volatile()) };
        }
        Some(value)
    }
}

impl<T> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `entries` values of T, valid for any bytes (FromBytes), until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.entries) }
    }
}

impl<T> std::fmt::Debug for Mapped<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} entries)", self.entries)
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new` with this length, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len_bytes) };
    }
}

/// Replaces the word by `new` if it still is `present`; whether it was.
pub(super) fn compare_exchange(word: &Word, present: u64, new: u64) -> bool {
    // SAFETY: a Word is eight aligned bytes that live as long as the reference; it is shared with volatile accesses of
    // the kernel, and every access of ours to it is atomic or volatile.
    let atomic = unsafe { AtomicU64::from_ptr(word.as_ptr()) };
    atomic.compare_exchange(present, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}
