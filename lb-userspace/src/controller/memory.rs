//! Memory that was needed for a moment goes back to the system.
//!
//! In: nothing. Out: nothing; the process holds less. Why: a file of a hundred thousand backends is read, and a thousand tables are
//! built, in several times the memory that is kept of them, and left to itself the allocator keeps all of it.

/// The largest pieces of memory that come from the heap, bytes: the large tables of a thousand pools come from the system and go back
/// to it.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 64 << 10;
/// What the heap keeps free at its end, bytes.
#[cfg(target_env = "gnu")]
const SPARE: libc::c_int = 1 << 20;

/// Heaps that threads share. Of one per thread each keeps holes of its own between what lives long: 8 to 20 MiB of a hundred thousand backends.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 1;

/// Fixes the bounds; the first two grow otherwise with what is freed: to 32 and 64 MiB, for each heap. To be called before there are threads.
#[cfg(target_env = "gnu")]
pub(crate) fn keep_little() {
    let bounds =
        [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, SPARE), (libc::M_ARENA_MAX, HEAPS)];
    for (what, value) in bounds {
        // SAFETY: mallopt takes two numbers; one that it does not take changes nothing.
        unsafe { libc::mallopt(what, value) };
    }
}

/// Gives back what is free between what is in use.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: malloc_trim takes a number, locks what it looks at, and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_little() {}

#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
