//! The icmp check: is an echo request answered?
//!
//! In: an address (its port means nothing) and a deadline. Out: the finding. Invariants: an answer counts only if it has the
//! identifier, the number and the content of this probe's request; one socket a probe, connected, so that the kernel gives
//! it what comes from that address only.
//!
//! The kernel's ping sockets are the first choice, for they need no privilege and see their own answers alone. Most hosts
//! forbid them (net.ipv4.ping_group_range); then it is a raw socket, which wants CAP_NET_RAW.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::{Deadline, Finding, ProbeResult, finding_of};
use crate::spec::format_duration;

/// Type, code, checksum, identifier, number.
const HEADER_LEN: usize = 8;
const CONTENT_LEN: usize = 16;
/// What a request is answered by, and where the checksum is.
const TYPE: usize = 0;
const CHECKSUM: std::ops::Range<usize> = 2..4;
const IDENTIFIER: std::ops::Range<usize> = 4..6;
/// An answer with IPv4 options is no longer than this.
const ANSWER_LIMIT_LEN: usize = 60 + HEADER_LEN + CONTENT_LEN;

/// The whole check.
///
/// # Errors
/// A finding other than an answer.
pub(super) async fn ask(address: SocketAddr, deadline: Deadline) -> Result<Finding, Finding> {
    let ip = address.ip();
    let echo = Echo::open(ip).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => (
            ProbeResult::Local,
            Cow::Borrowed(
                "lbd may not open an ICMP socket: give it CAP_NET_RAW, or widen net.ipv4.ping_group_range",
            ),
        ),
        _ => finding_of(&error),
    })?;
    echo.socket.send(&echo.request).await.map_err(|error| finding_of(&error))?;
    match timeout_at(deadline.at, echo.answered()).await {
        Ok(Ok(())) => Ok((ProbeResult::Success, Cow::Borrowed("answered"))),
        Ok(Err(error)) => Err(finding_of(&error)),
        Err(_elapsed) => {
            let text = format!("no answer to the echo request within {}", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
    }
}

/// A request on its way.
struct Echo {
    /// No UDP; but sending and receiving are the same for every connected socket.
    socket: UdpSocket,
    request: [u8; HEADER_LEN + CONTENT_LEN],
    /// The type of an answer.
    reply: u8,
    /// What comes in begins with an IPv4 header.
    headed: bool,
}

impl Echo {
    fn open(ip: IpAddr) -> io::Result<Self> {
        let (domain, protocol, request, reply) = match ip {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
        };
        let open = |kind: Type| Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol));
        let (socket, raw) = match open(Type::DGRAM) {
            Ok(socket) => (socket, false),
            Err(_forbidden) => (open(Type::RAW)?, true),
        };
        match ip {
            IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        socket.connect(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        let mut message = [0; HEADER_LEN + CONTENT_LEN];
        message[TYPE] = request;
        let random = RandomState::new();
        message[HEADER_LEN..HEADER_LEN + 8].copy_from_slice(&random.hash_one(0).to_be_bytes());
        message[HEADER_LEN + 8..].copy_from_slice(&random.hash_one(1).to_be_bytes());
        message[IDENTIFIER.start..HEADER_LEN].copy_from_slice(&random.hash_one(2).to_be_bytes()[..4]);
        if !raw {
            // The kernel writes the identifier of a ping socket: its port.
            let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
            message[IDENTIFIER].copy_from_slice(&port.to_be_bytes());
        }
        if ip.is_ipv4() {
            let sum = checksum(&message);
            message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        }
        let headed = raw && ip.is_ipv4();
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, request: message, reply, headed })
    }

    /// Waits for the answer, for as long as it takes; other messages are passed over.
    async fn answered(&self) -> io::Result<()> {
        let mut buffer = [0; ANSWER_LIMIT_LEN];
        loop {
            let len = self.socket.recv(&mut buffer).await?;
            if self.is_answered_by(buffer.get(..len).unwrap_or_default()) {
                return Ok(());
            }
        }
    }

    fn is_answered_by(&self, received: &[u8]) -> bool {
        let header_len = match received.first() {
            Some(first) if self.headed => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let Some(message) = received.get(header_len..) else { return false };
        message.len() == self.request.len()
            && message[TYPE] == self.reply
            && message[1] == 0
            && message[IDENTIFIER.start..] == self.request[IDENTIFIER.start..]
    }
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded twice, it fits")]
    let sum = folded as u16;
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_own_answer_counts() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(echo) = Echo::open(ip.parse().unwrap()) else {
                // Neither root nor in ping_group_range: nothing to see here.
                assert!(!nix::unistd::geteuid().is_root());
                return;
            };
            let head: &[u8] = if echo.headed { &[0x45; 20] } else { &[] };
            let answer = |change: &dyn Fn(&mut [u8])| {
                let mut message = echo.request;
                message[TYPE] = echo.reply;
                change(&mut message);
                echo.is_answered_by(&[head, &message].concat())
            };
            assert!(answer(&|_| {}), "{ip}");
            assert!(!answer(&|message| message[TYPE] = echo.request[TYPE]), "{ip}: the request itself");
            assert!(!answer(&|message| message[4] ^= 1), "{ip}: another identifier");
            assert!(!answer(&|message| message[7] ^= 1), "{ip}: another number");
            assert!(!answer(&|message| message[20] ^= 1), "{ip}: another content");
            for len in 0..head.len() + echo.request.len() {
                let whole = [head, &echo.request].concat();
                assert!(!echo.is_answered_by(&whole[..len]), "{ip}: {len} bytes");
            }
        }
    }

    #[test]
    fn the_sum_over_a_message_with_its_checksum_is_zero() {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xff, 0xff, 0xfe];
        let sum = checksum(&message);
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&message), 0);
    }
}
