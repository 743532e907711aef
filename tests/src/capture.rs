//! Captures the frames at an interface inside a namespace and judges their checksums.
//!
//! In: a namespace and an interface. Out: a [`Report`]: frames seen, frames with a wrong checksum (the first few whole), frames
//! the kernel could not queue. Invariant: a frame with CHECKSUM_PARTIAL still open (`TP_STATUS_CSUMNOTREADY`) was never on a
//! wire; where transmit checksum offload is off there is none, and the report counts them apart so that a test can insist.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

use crate::checksum::{Fault, verify_checksums};
use crate::netns::Namespace;

/// Room for the largest frame, GRO's and GSO's included.
const FRAME_LEN: usize = 256 * 1024;
const RECEIVE_BUFFER_LEN: usize = 64 * 1024 * 1024;
const KEPT_FAULTS: usize = 8;
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;

/// What a capture saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Frames in both directions.
    pub frames: u64,
    /// Frames whose checksum the sender left to hardware that is not there.
    pub unfinished: u64,
    /// Frames with a wrong checksum.
    pub faulty: u64,
    /// The first of them.
    pub faults: Vec<(Fault, Vec<u8>)>,
    /// Frames lost to the capture because it was too slow.
    pub lost: u64,
}

/// A running capture; [`Capture::finish`] ends it.
#[derive(Debug)]
pub struct Capture {
    /// Closing it tells the thread to end.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<Result<Report>>>>,
}

impl Capture {
    /// Starts to capture everything that comes and goes at `interface`. Frames from now on are seen.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Capture> {
        let opened = namespace.run(|| open(interface))?;
        let packets =
            opened.with_context(|| format!("cannot capture at {interface} in {}", namespace.name()))?;
        let (stop, stopped) = UnixStream::pair().context("cannot make a socket pair")?;
        let thread = namespace.spawn("capture", move || collect(&packets, &stopped))?;
        Ok(Capture { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the capture after everything queued so far has been judged.
    pub fn finish(mut self) -> Result<Report> {
        self.end().context("the capture was already ended")?
    }

    fn end(&mut self) -> Option<Result<Report>> {
        self.stop = None;
        let thread = self.thread.take()?;
        Some(match thread.join() {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Err(error).context("cannot enter the namespace"),
            Err(_) => Err(anyhow!("the capture thread panicked")),
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Who drops a capture does not want its report.
        let _ = self.end();
    }
}

fn open(interface: &str) -> Result<OwnedFd> {
    let packets = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )?;
    setsockopt(&packets, sockopt::RcvBufForce, &RECEIVE_BUFFER_LEN)?;
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, given with its size.
    let set = unsafe {
        let value = std::ptr::from_ref(&on).cast();
        libc::setsockopt(packets.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, value, 4)
    };
    io_result(set.into())?;
    // SAFETY: sockaddr_ll is plain data for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(nix::net::if_::if_nametoindex(interface)?)?;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the address is a sockaddr_ll of the length given.
    let bound = unsafe { libc::bind(packets.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    io_result(bound.into())?;
    Ok(packets)
}

fn collect(packets: &OwnedFd, stopped: &UnixStream) -> Result<Report> {
    let mut report = Report::default();
    let mut frame = vec![0; FRAME_LEN];
    loop {
        let mut fds = [
            PollFd::new(packets.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for frames"),
        }
        // Looked at before the queue is emptied: what was queued when the end was asked for is still judged.
        let stopping = fds[1].any().unwrap_or(false);
        while let Some((len, unfinished)) = receive(packets, &mut frame)? {
            judge(&mut report, frame.get(..len).unwrap_or_default(), unfinished);
        }
        if stopping {
            report.lost = lost_frames(packets)?;
            return Ok(report);
        }
    }
}

fn judge(report: &mut Report, frame: &[u8], unfinished: bool) {
    report.frames += 1;
    if unfinished {
        report.unfinished += 1;
    } else if let Err(fault) = verify_checksums(frame) {
        report.faulty += 1;
        if report.faults.len() < KEPT_FAULTS {
            report.faults.push((fault, frame.to_vec()));
        }
    }
}

/// One frame: its length and whether its checksum is unfinished; nothing when the queue is empty.
fn receive(packets: &OwnedFd, frame: &mut [u8]) -> Result<Option<(usize, bool)>> {
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    let mut control = [0_u64; 16];
    // SAFETY: msghdr is plain data for which all zeros is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in `message` is to a live buffer of the length beside it.
    let received = unsafe { libc::recvmsg(packets.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    match io_result(received as i64) {
        Ok(len) => Ok(Some((usize::try_from(len)?, is_unfinished(&message)))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // The interface went down: there is nothing to read until it comes back.
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
        Err(error) => Err(error).context("cannot read a frame"),
    }
}

fn is_unfinished(message: &libc::msghdr) -> bool {
    // SAFETY: the kernel has filled the control buffer that `message` points to, which is still alive.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null() || (*header).cmsg_type != libc::PACKET_AUXDATA {
            return false;
        }
        let auxiliary: libc::tpacket_auxdata = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
        auxiliary.tp_status & TP_STATUS_CSUMNOTREADY != 0
    }
}

fn lost_frames(packets: &OwnedFd) -> Result<u64> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tpacket_stats>())?;
    // SAFETY: the kernel writes a tpacket_stats into the buffer of that size.
    let read = unsafe {
        let value = (&raw mut statistics).cast();
        libc::getsockopt(packets.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut len)
    };
    io_result(read.into())?;
    Ok(u64::from(statistics.tp_drops))
}

fn io_result(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_frame_is_counted_and_kept() {
        // An ARP frame, then an IPv4 header of zeros.
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        let mut report = Report::default();
        judge(&mut report, &frame, false);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        judge(&mut report, &frame, false);
        judge(&mut report, &frame, true);
        assert_eq!((report.frames, report.faulty, report.unfinished), (3, 1, 1));
        assert_eq!(report.faults, [(Fault::Wrong("IPv4"), frame)]);
    }
}
