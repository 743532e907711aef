//! The udp check: is a datagram answered as expected?
//!
//! In: an address, a [`UdpCheck`] and a deadline. Out: the finding. Invariants: every probe has a port of its own, so an answer
//! that comes too late is nobody's; the first answer decides.

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::{Deadline, Finding, ProbeResult, contains, finding_of};
use crate::spec::{UdpCheck, format_duration, unescape};

/// So much of an answer is looked at.
const ANSWER_LIMIT_LEN: usize = 4096;

/// The whole check.
///
/// # Errors
/// A finding other than an answer.
pub(super) async fn ask(
    address: SocketAddr,
    check: &UdpCheck,
    deadline: Deadline,
) -> Result<Finding, Finding> {
    let bytes = |text| unescape(text).map_err(|error| (ProbeResult::Local, Cow::Owned(error.to_string())));
    let expected = check.expect.as_deref().map(bytes).transpose()?;
    let mut answer = vec![0; ANSWER_LIMIT_LEN];
    let socket = send(address, &bytes(&check.send)?).await?;
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
pub(super) async fn send(address: SocketAddr, bytes: &[u8]) -> Result<UdpSocket, Finding> {
    let sending = async {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own).await?;
        socket.connect(address).await?;
        socket.send(bytes).await?;
        Ok(socket)
    };
    sending.await.map_err(|error| finding_of_udp(&error))
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
