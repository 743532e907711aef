//! The udp check: is a datagram answered as expected?
//!
//! In: a peer, a [`UdpCheck`] and a deadline. Out: the finding. Invariants: every probe has a port of its own, so an answer
//! that comes too late is nobody's; the first answer decides.

use std::borrow::Cow;
use std::io;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::peer::Peer;
use super::{Deadline, Finding, ProbeResult, contains, finding_of};
use crate::spec::{UdpCheck, format_duration, unescape};

/// So much of an answer is looked at.
const ANSWER_LIMIT_LEN: usize = 4096;

/// The whole check.
///
/// # Errors
/// A finding other than an answer.
pub(super) async fn ask(peer: Peer, check: &UdpCheck, deadline: Deadline) -> Result<Finding, Finding> {
    let bytes = |text| unescape(text).map_err(|error| (ProbeResult::Local, Cow::Owned(error.to_string())));
    let expected = check.expect.as_deref().map(bytes).transpose()?;
    let mut answer = vec![0; ANSWER_LIMIT_LEN];
    let socket = send(peer, &bytes(&check.send)?).await?;
    let len = receive(&socket, &mut answer, deadline).await?;
    let answer = answer.get(..len).unwrap_or_default();
    Ok(match expected {
        Some(expected) if !contains(answer, &expected) => {
            let text = format!("answered, but without {:?}", check.expect.as_deref().unwrap_or_default());
            (ProbeResult::Answer, Cow::Owned(text))
        }
        _ => (ProbeResult::Success, Cow::Borrowed("answered")),
    })
}

/// A socket that speaks to this address only and has sent this datagram.
///
/// # Errors
/// What the failure says about the backend.
pub(super) async fn send(peer: Peer, bytes: &[u8]) -> Result<UdpSocket, Finding> {
    let bound = || -> io::Result<UdpSocket> {
        let domain = Domain::for_address(peer.to);
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None)?;
        peer.bind(SockRef::from(&socket))?;
        UdpSocket::from_std(socket.into())
    };
    let socket = bound().map_err(|error| peer.finding_before_sending(&error))?;
    let sending = async {
        socket.connect(peer.to).await?;
        socket.send(bytes).await
    };
    match sending.await {
        Ok(_sent) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(finding_of_udp(&error)),
        Err(error) => Err(peer.finding_of(&error)),
    }
}

/// The length of the next datagram, which is in `answer`.
///
/// # Errors
/// None came in time, or an error did.
pub(super) async fn receive(
    socket: &UdpSocket,
    answer: &mut [u8],
    deadline: Deadline,
) -> Result<usize, Finding> {
    match timeout_at(deadline.at, socket.recv(answer)).await {
        Ok(received) => received.map_err(|error| finding_of_udp(&error)),
        Err(_elapsed) => {
            let text = format!("no answer within {}", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
    }
}

fn finding_of_udp(error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (ProbeResult::Refused, Cow::Borrowed("port unreachable")),
        _ => finding_of(error),
    }
}
