//! What a check's program has to do without.
//!
//! In: the process that will become the program. Out: the same process with less. Invariant: each step is needed, and a step that
//! fails ends the run: a program with more than it should have is not started.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Uid, User, chdir, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setgroups, setresgid, setresuid,
    setsid,
};

/// What a program may use at most. NPROC counts all processes of its user on the host.
const LIMITS: [(Resource, u64); 5] = [
    (Resource::RLIMIT_NPROC, 256),
    (Resource::RLIMIT_NOFILE, 256),
    (Resource::RLIMIT_AS, 1 << 30),
    (Resource::RLIMIT_FSIZE, 16 << 20),
    (Resource::RLIMIT_CORE, 0),
];

/// It gets the processor when nobody else wants it much.
const NICENESS: i32 = 10;

/// Closes what a caller left open beside standard input, output and error.
pub(super) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet. Kernels before 5.9 do not know the call; lbd opens everything
    // with O_CLOEXEC anyway.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Becomes the user, with no group but its own.
pub(super) fn become_user(user: &User) -> Result<(), String> {
    if geteuid() == user.uid && nix::unistd::getuid() == user.uid {
        return Ok(());
    }
    become_ids(user.uid, user.gid).map_err(|error| {
        format!(
            "cannot become the user {} ({}): run lbd as root, give it CAP_SETUID and CAP_SETGID, or name the user it runs as",
            user.name,
            error.desc()
        )
    })
}

fn become_ids(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// A PID namespace without privileges: inside a user namespace in which this user is itself.
pub(super) fn own_namespaces(user: &User) -> Result<(), String> {
    let hint = "give lbd CAP_SYS_ADMIN, or allow user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone)";
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .map_err(|error| format!("cannot enclose the check ({}): {hint}", error.desc()))?;
    // After a change of user /proc/self is root's, until this.
    let mapped = prctl::set_dumpable(true).map_err(io::Error::from).and_then(|()| {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.uid))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", nix::unistd::getegid()))
    });
    mapped.map_err(|error| format!("cannot enclose the check ({error}): {hint}"))
}

/// Takes away what needs no privilege to take: streams, memory, processes, processor. `kept` stays open until the program begins.
pub(super) fn limit(kept: BorrowedFd<'_>) -> Result<(), String> {
    let steps = || -> nix::Result<()> {
        fcntl(kept, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        setsid()?;
        chdir("/")?;
        for (resource, most) in LIMITS {
            setrlimit(resource, most, most)?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // SAFETY: back to the default; no handler of ours is involved. Rust ignores SIGPIPE, and that would be inherited.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
        Ok(())
    };
    steps().map_err(|error| format!("cannot limit the check: {}", error.desc()))?;
    // SAFETY: takes numbers only. A host that refuses it (it does not) lets the check run as fast as others.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    // First to go when memory runs out, before lbd. Without /proc it takes its chance.
    let _no_proc = fs::write("/proc/self/oom_score_adj", "1000");
    debug_assert!(kept.as_raw_fd() > 2);
    Ok(())
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    thread: libc::pid_t,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two times three sets of 32.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// No capability now, none by whatever is executed later.
pub(super) fn give_up_privileges() -> Result<(), String> {
    let said = |error: io::Error| format!("cannot give up privileges: {error}");
    prctl::set_no_new_privs().map_err(|error| said(error.into()))?;
    let (header, none) = (CapabilityHeader { version: CAPABILITY_VERSION, thread: 0 }, [0_u32; 6]);
    // SAFETY: both pointers are to what the call reads, for its duration; thread 0 is the calling one. Dropping the permitted set
    // drops the ambient one with it.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } {
        0 => Ok(()),
        _ => Err(said(io::Error::last_os_error())),
    }
}
