//! UDP servers that name their backend.
//!
//! In: a namespace, a name, the addresses to serve. Out: every datagram comes back as `<name> <datagram>`. Invariant: the answer
//! leaves from the address that was asked (one socket an address), which a wildcard socket does not promise for a vip on `lo`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::InProcess;
use crate::netns::Namespace;

const MAX_DATAGRAM_LEN: usize = 65_535;
/// Bytes that wait for a server, as the kernel counts them: 4,000 datagrams of a page each.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// A running echo server.
#[derive(Debug)]
pub struct UdpEcho {
    received: Arc<AtomicU64>,
    _server: InProcess,
}

impl UdpEcho {
    /// Serves every address; all are bound when this returns.
    pub fn start(namespace: &Namespace, backend: &str, addresses: &[SocketAddr]) -> Result<UdpEcho> {
        let mut sockets = Vec::new();
        for &address in addresses {
            let bound = namespace.run(|| bind(address))?;
            sockets
                .push(bound.with_context(|| format!("cannot bind udp {address} in {}", namespace.name()))?);
        }
        let received = Arc::new(AtomicU64::new(0));
        let (backend, counter) = (backend.to_owned(), Arc::clone(&received));
        let server = InProcess::start(namespace, "udp-echo", async move {
            let mut tasks = JoinSet::new();
            for socket in sockets {
                tasks.spawn(serve(socket, backend.clone(), Arc::clone(&counter)));
            }
            while tasks.join_next().await.is_some() {}
        })?;
        Ok(UdpEcho { received, _server: server })
    }

    /// Datagrams that came so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A UDP socket at this address that holds a burst of thousands while nobody reads.
///
/// # Errors
/// The address is taken or nobody's here, or this process lacks `CAP_NET_ADMIN` (the size of the buffer).
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    // What is lost here would be blamed on the balancer. Forced: net.core.rmem_max allows 208 KiB, and a datagram that an XDP program
    // redirected holds a page, so 97 of them fill that while this process does not run.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

pub(crate) async fn serve(socket: std::net::UdpSocket, backend: String, received: Arc<AtomicU64>) {
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let mut answer = format!("{backend} ").into_bytes();
    let name_len = answer.len();
    answer.resize(name_len + MAX_DATAGRAM_LEN, 0);
    loop {
        // An error here is an ICMP answer to an earlier datagram (the client is gone), not the end of the socket.
        let Ok((len, client)) = socket.recv_from(&mut answer[name_len..]).await else { continue };
        // Before the answer: who has it may look at the count.
        received.fetch_add(1, Ordering::Relaxed);
        // A client that went away meanwhile needs no answer.
        let _ = socket.send_to(&answer[..name_len + len], client).await;
    }
}
