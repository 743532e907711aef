//! Memory that was needed for a moment goes back to the system.
//!
//! In: nothing. Out: nothing; the process holds less. Why: a file of a hundred thousand backends is read in ten times the memory that is
//! kept of it, in small pieces, and the allocator keeps what is freed between those that stay.

/// Begins to give free memory back, beside whoever calls. In a tokio runtime.
pub(super) fn give_back() {
    tokio::task::spawn_blocking(trim);
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim takes a number, locks what it looks at, and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
