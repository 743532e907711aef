//! The few bpf(2) commands that tests and bench need beside aya: programs of our own, test runs, what the kernel says of a program.
//!
//! In: instructions, pins, frames. Out: owned descriptors, verdicts, times. Invariant: every attribute is a struct without padding,
//! given to the kernel with its exact size.
//!
//! Little of it is in the daemon's own `datapath/syscall` (which stays private to it): that one replaces links and reads batches, and
//! knows of a program no more than its name.

mod map;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
pub use map::{Map, MapKind};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_TEST_RUN: i32 = 10;
const OBJ_GET_INFO_BY_FD: i32 = 15;

const PROG_TYPE_XDP: u32 = 6;
/// `BPF_XDP`; aya loads with it, and a tail call needs both programs to agree.
const ATTACH_XDP: u32 = 37;
const CALL: u8 = 0x85;
/// What a program may take in front of a frame: XDP_PACKET_HEADROOM (256) but for `struct xdp_frame`.
const HEADROOM: usize = 256 - 40;

fn bpf<A>(command: i32, attribute: &mut A) -> io::Result<i32> {
    // SAFETY: the attribute is a live struct of exactly this size; the pointers in it are to memory that its maker keeps alive
    // during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn raw(descriptor: &OwnedFd) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// A loaded XDP program.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// What became of one packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// The return code (`XDP_*`).
    pub code: u32,
    /// The frame as it left.
    pub frame: Vec<u8>,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttribute {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct RunAttribute {
    program: u32,
    code: u32,
    len_in: u32,
    len_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    context_len_in: u32,
    context_len_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttribute {
    program: u32,
    len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the number of verified instructions (5.16).
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time_ns: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
    interface: u32,
    bits: u32,
    namespace: [u64; 2],
    symbol_count: u32,
    function_len_count: u32,
    symbols: u64,
    function_lens: u64,
    btf_id: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_count: u32,
    line_info: [u64; 2],
    jited_line_info_count: u32,
    line_info_sizes: [u32; 2],
    tag_count: u32,
    tags: u64,
    run_time_ns: u64,
    run_count: u64,
    recursion_misses: u64,
    verified_instructions: u32,
    attach: [u32; 3],
}

/// Calls in a program after the verifier has inlined what it can.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Call sites of functions in the kernel: address relative to `__bpf_call_base`.
    pub kernel: Vec<i32>,
    /// Call sites of functions of the program itself.
    pub local: usize,
}

impl Program {
    /// Opens a pinned program.
    pub fn from_pin(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut attribute = [address(name.as_ptr()), 0];
        let opened = bpf(OBJ_GET, &mut attribute);
        Ok(Self(owned(opened.with_context(|| format!("cannot open the pin {}", path.display()))?)))
    }

    /// Loads instructions; the error holds the verifier's log.
    pub(super) fn load(name: &str, instructions: &[u64]) -> Result<Self> {
        let mut attribute = LoadAttribute {
            kind: PROG_TYPE_XDP,
            count: u32::try_from(instructions.len())?,
            instructions: address(instructions.as_ptr()),
            license: address(c"GPL".as_ptr()),
            expected_attach_type: ATTACH_XDP,
            ..LoadAttribute::default()
        };
        for (to, from) in attribute.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        let error = match bpf(PROG_LOAD, &mut attribute) {
            Ok(descriptor) => return Ok(Self(owned(descriptor))),
            Err(error) => error,
        };
        // Again for its log, with which a program that is right can fail: by being too long for it.
        let mut log = vec![0_u8; 1 << 16];
        attribute.log_level = 1;
        attribute.log_size = u32::try_from(log.len())?;
        attribute.log = address(log.as_mut_ptr());
        let _said_already = bpf(PROG_LOAD, &mut attribute).map(owned);
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        bail!("cannot load {name}: {error}\n{}", String::from_utf8_lossy(&log[..end]))
    }

    /// Pins it where nothing is yet.
    pub(super) fn pin(&self, path: &Path) -> Result<()> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut attribute = [address(name.as_ptr()), u64::from(raw(&self.0))];
        let pinned = bpf(OBJ_PIN, &mut attribute);
        pinned.map(drop).with_context(|| format!("cannot pin a program at {}", path.display()))
    }

    /// The descriptor, for a map of programs.
    pub(super) fn descriptor(&self) -> u32 {
        raw(&self.0)
    }

    /// Takes one frame through the program as if it came in by `interface` of the caller's namespace.
    pub fn run(&self, frame: &[u8], interface: u32) -> Result<Ran> {
        self.run_with_room(frame, interface, None)
    }

    /// As [`Self::run`], with so many bytes of room in front of the frame; `None`: as much as drivers leave. Metadata in front of
    /// the frame take the rest.
    pub fn run_with_room(&self, frame: &[u8], interface: u32, room: Option<usize>) -> Result<Ran> {
        let metadata = room.map_or(0, |room| (HEADROOM - room) & !3);
        let bytes = [&vec![0; metadata], frame].concat();
        let mut out = vec![0; bytes.len() + HEADROOM];
        let done = self.test_run(&bytes, metadata, &mut out, interface, 1)?;
        out.truncate(done.len_out as usize);
        Ok(Ran { code: done.code, frame: out.split_off(metadata) })
    }

    /// Runs the program `rounds` times in one call, each round over what the one before left. The answer is the time this thread
    /// spent on a CPU and the last return code.
    pub fn repeat(&self, frame: &[u8], interface: u32, rounds: u32) -> Result<(Duration, u32)> {
        let start = cpu_time()?;
        let done = self.test_run(frame, 0, &mut [], interface, rounds)?;
        Ok((cpu_time()?.saturating_sub(start), done.code))
    }

    /// The frame begins after `metadata` bytes.
    fn test_run(
        &self,
        frame: &[u8],
        metadata: usize,
        out: &mut [u8],
        interface: u32,
        repeat: u32,
    ) -> Result<RunAttribute> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [u32::try_from(metadata)?, u32::try_from(frame.len())?, 0, interface, 0, 0];
        let mut attribute = RunAttribute {
            program: raw(&self.0),
            len_in: u32::try_from(frame.len())?,
            len_out: u32::try_from(out.len())?,
            data_in: address(frame.as_ptr()),
            data_out: if out.is_empty() { 0 } else { address(out.as_mut_ptr()) },
            repeat,
            context_len_in: 24,
            context_in: address(context.as_ptr()),
            ..RunAttribute::default()
        };
        bpf(PROG_TEST_RUN, &mut attribute).context("cannot run the program")?;
        Ok(attribute)
    }

    fn info(&self, translated: &mut [u64]) -> Result<Info> {
        // SAFETY: all zeros is a value of these plain fields.
        let mut info: Info = unsafe { std::mem::zeroed() };
        info.translated_len = u32::try_from(size_of_val(translated))?;
        info.translated = if translated.is_empty() { 0 } else { address(translated.as_mut_ptr()) };
        let mut attribute = InfoAttribute {
            program: raw(&self.0),
            len: u32::try_from(size_of::<Info>())?,
            info: address(&raw mut info),
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attribute).context("cannot ask about the program")?;
        Ok(info)
    }

    /// Instructions that the verifier went through to be sure of the program.
    pub fn verified_instructions(&self) -> Result<u32> {
        let verified = self.info(&mut [])?.verified_instructions;
        ensure!(verified > 0, "the kernel does not say how many instructions it verified (5.16 does)");
        Ok(verified)
    }

    /// Instructions as they run, after the verifier has inlined what it can.
    pub fn translated(&self) -> Result<Vec<u64>> {
        let len = self.info(&mut [])?.translated_len as usize / 8;
        let mut instructions = vec![0; len];
        self.info(&mut instructions)?;
        Ok(instructions)
    }

    /// The calls that are left in the translated program.
    pub fn calls(&self) -> Result<Calls> {
        let mut calls = Calls::default();
        for instruction in self.translated()? {
            if instruction.to_le_bytes()[0] != CALL {
                continue;
            }
            // Source register 1: a function of the program itself.
            match (instruction >> 12) & 0xf {
                0 => calls.kernel.push(((instruction >> 32) as u32).cast_signed()),
                _ => calls.local += 1,
            }
        }
        calls.kernel.sort_unstable();
        calls.kernel.dedup();
        Ok(calls)
    }
}

/// The time this thread has had a CPU: what others run meanwhile is not in it.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives during the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(result == 0, "cannot read the thread's clock: {}", io::Error::last_os_error());
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}
