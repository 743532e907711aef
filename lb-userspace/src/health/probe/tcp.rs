//! The tcp check: does a connection open?
//!
//! In: a peer and a deadline. Out: the finding, or for other checks the open connection. Invariant: nothing is sent
//! after the handshake, and closing sends RST (SO_LINGER 0), on success as on every failure.

use std::borrow::Cow;
use std::io;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout_at;

use super::peer::Peer;
use super::{Deadline, Finding, ProbeResult};
use crate::spec::format_duration;

/// The whole check.
pub(super) async fn ask(peer: Peer, deadline: Deadline) -> Finding {
    match connect(peer, deadline).await {
        Ok(_closed_by_drop) => (ProbeResult::Success, Cow::Borrowed("connected")),
        Err(finding) => finding,
    }
}

/// A connection that will be closed by RST.
///
/// # Errors
/// What the failure says about the backend.
pub(super) async fn connect(peer: Peer, deadline: Deadline) -> Result<TcpStream, Finding> {
    let socket = || -> io::Result<TcpSocket> {
        let socket = if peer.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_zero_linger()?;
        peer.bind(SockRef::from(&socket))?;
        Ok(socket)
    };
    let socket = socket().map_err(|error| peer.finding_before_sending(&error))?;
    let connecting = socket.connect(peer.to);
    match timeout_at(deadline.at, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(peer.finding_of(&error)),
        Err(_elapsed) => {
            let text =
                format!("no answer to the connection request within {}", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
    }
}
