//! Whom a probe asks, and from where.
//!
//! In: an address, or the way through a service. Out: a socket's two ends, and what its errors mean. Invariant: what goes wrong on this
//! host's part of the way through a service says nothing about the backend.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;

use super::{Finding, ProbeResult, finding_of};
use crate::health::prober::Stand;

/// Whom a probe asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Where its packets go.
    pub(super) to: SocketAddr,
    /// What it is called in a request, and what its certificate has to be for.
    pub(super) named: SocketAddr,
    /// From where, if the kernel is not to choose.
    pub(super) from: Option<Stand>,
}

impl Peer {
    /// The backend's own address, asked as any program of this host would.
    pub(super) const fn direct(address: SocketAddr) -> Self {
        Self { to: address, named: address, from: None }
    }

    /// Gives a socket its own end.
    ///
    /// # Errors
    /// The kernel's: no such interface, or no right.
    pub(super) fn bind(&self, socket: SockRef<'_>) -> io::Result<()> {
        let Some(stand) = &self.from else {
            // A connected TCP socket gets its end by connecting; binding would cost it a port of every address.
            return match socket.r#type()? {
                socket2::Type::DGRAM => socket.bind(&unspecified(self.to.is_ipv4()).into()),
                _ => Ok(()),
            };
        };
        socket.bind_device(Some(stand.interface.as_bytes()))?;
        // The prober's address is none of this host's to anybody else. (An IPv6 socket has the one flag for both.)
        socket.set_ip_transparent_v4(true)?;
        socket.bind(&SocketAddr::new(stand.address, 0).into())
    }

    /// What an error says that came before anything was sent.
    pub(super) fn finding_before_sending(&self, error: &io::Error) -> Finding {
        match self.from {
            Some(_) => no_way(error),
            None => finding_of(error),
        }
    }

    /// What an error of the connection says about the backend.
    pub(super) fn finding_of(&self, error: &io::Error) -> Finding {
        use io::ErrorKind as E;
        let is_own = matches!(
            error.kind(),
            E::HostUnreachable
                | E::NetworkUnreachable
                | E::AddrNotAvailable
                | E::PermissionDenied
                | E::NetworkDown
        );
        match self.from {
            Some(_) if is_own => no_way(error),
            _ => finding_of(error),
        }
    }
}

fn unspecified(is_v4: bool) -> SocketAddr {
    let ip = if is_v4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

/// This host's part of the way is broken.
fn no_way(error: &io::Error) -> Finding {
    let text = format!("the check could not be sent through the service: {error}");
    (ProbeResult::Local, Cow::Owned(text))
}
