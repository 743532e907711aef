//! The smallest XDP program: every packet goes on to the stack.
//!
//! In: an interface in a namespace. Out: the program attached to it in native mode. Why: what the balancer sends by XDP_TX or
//! XDP_REDIRECT into a veth arrives only if the peer runs XDP (or has GRO on, which would merge the frames that a capture
//! has to see one by one). The attachment belongs to the interface and needs no process to stay.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};

use super::Namespace;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// `r0 = 2 /* XDP_PASS */; exit`, in the instruction encoding of linux/bpf.h.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what is not given as zero.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The head of `union bpf_attr` for BPF_OBJ_PIN.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    fd: u32,
    file_flags: u32,
}

/// Attaches the program to `interface` of `namespace` in native mode.
pub(super) fn attach(namespace: &Namespace, interface: &str) -> Result<()> {
    let program = load().context("cannot load the XDP_PASS program: needs root")?;
    let pin = namespace.run_dir().new_pin_dir()?;
    pin_at(&program, &pin).with_context(|| format!("cannot pin a program at {}", pin.display()))?;
    let attached = namespace.ip(&format!("link set dev {interface} xdpdrv pinned {}", pin.display()));
    std::fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
    attached.map(drop)
}

fn load() -> Result<OwnedFd> {
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_count: 2,
        insns: PROGRAM.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        ..ProgLoad::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pin_at(program: &OwnedFd, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let fd = u32::try_from(program.as_raw_fd())?;
    bpf(BPF_OBJ_PIN, &ObjPin { pathname: name.as_ptr().addr() as u64, fd, file_flags: 0 }).map(drop)
}

fn bpf<A>(command: libc::c_long, attributes: &A) -> Result<i32> {
    // SAFETY: `attributes` is a repr(C) head of bpf_attr of the size given, and what it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    i32::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(|| std::io::Error::last_os_error().into())
}
