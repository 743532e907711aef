//! One probe: asks one backend once.
//!
//! In: an address and a [`HealthSpec`] (kind, timeout). Out: a [`ProbeReport`] after at most the timeout. Invariants: the
//! connection is closed by RST, so that thousands of checks a second leave no TIME_WAIT behind; the texts hold no
//! times and no numbers that differ from probe to probe, so that a lasting fault is a lasting text.

mod dns;
mod exec;
mod grpc;
mod http;
mod icmp;
mod limited;
mod peer;
mod tcp;
mod through;
mod tls;
mod udp;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::prober::Prober;
use super::target::Through;
use crate::spec::{HealthKind, HealthSpec, TlsCheck};
use peer::Peer;

/// How lbd names itself to the backend.
const AGENT: &str = concat!("lbd-health/", env!("CARGO_PKG_VERSION"));

/// The kinds of check that ask something; the label `type` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Http,
    Https,
    Grpc,
    Icmp,
    Udp,
    Dns,
    Exec,
}

impl Kind {
    /// Every kind, in the order of the counters.
    pub(super) const ALL: [Self; 8] =
        [Self::Tcp, Self::Http, Self::Https, Self::Grpc, Self::Icmp, Self::Udp, Self::Dns, Self::Exec];

    /// As in the configuration and the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Icmp => "icmp",
            Self::Udp => "udp",
            Self::Dns => "dns",
            Self::Exec => "exec",
        }
    }

    /// What a check of this spec asks; `None`: nothing.
    pub(super) const fn of(spec: &HealthSpec) -> Option<Self> {
        Some(match spec.kind {
            HealthKind::Tcp => Self::Tcp,
            HealthKind::Http(_) => Self::Http,
            HealthKind::Https(_) => Self::Https,
            HealthKind::Grpc(_) => Self::Grpc,
            HealthKind::Icmp => Self::Icmp,
            HealthKind::Udp(_) => Self::Udp,
            HealthKind::Dns(_) => Self::Dns,
            HealthKind::Exec(_) => Self::Exec,
            HealthKind::None => return None,
        })
    }
}

/// How a probe ended; the label `result` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// As expected.
    Success,
    /// The backend's host answers that nobody listens.
    Refused,
    /// No answer in time, to the connection or to the request.
    Timeout,
    /// There is no way to the backend, or a router says so.
    Unreachable,
    /// The connection broke before the answer was whole.
    Reset,
    /// An answer with a status that does not count as healthy: of HTTP, gRPC, DNS or a program.
    Status,
    /// An answer that is not of the protocol asked for.
    Protocol,
    /// No TLS, or a certificate that is not to be trusted.
    Tls,
    /// An answer without what was expected in it.
    Answer,
    /// This host could not ask (no file descriptor, no memory): says nothing about the backend.
    Local,
    /// This process did not get to run while the probe waited (no CPU, a machine that was paused), so an answer may have come in
    /// time: says nothing about the backend, which is asked again.
    Stalled,
}

impl ProbeResult {
    /// Every result, in the order of the counters.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Reset,
        Self::Status,
        Self::Protocol,
        Self::Tls,
        Self::Answer,
        Self::Local,
        Self::Stalled,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Protocol => "protocol",
            Self::Tls => "tls",
            Self::Answer => "answer",
            Self::Local => "local",
            Self::Stalled => "stalled",
        }
    }

    /// Whether the backend is well; `None`: the probe does not tell.
    pub const fn success(self) -> Option<bool> {
        match self {
            Self::Success => Some(true),
            Self::Local | Self::Stalled => None,
            _ => Some(false),
        }
    }
}

/// How a probe ended, in a word and in a sentence.
pub(super) type Finding = (ProbeResult, Cow<'static, str>);

/// What one probe found.
#[derive(Clone, Debug)]
pub(super) struct ProbeReport {
    pub(super) result: ProbeResult,
    /// The reason, as people read it.
    pub(super) detail: Cow<'static, str>,
    /// From its start to its end.
    pub(super) latency: Duration,
}

/// Asks `address` as `spec` says, or asks it through a service; takes at most its timeout, if this process gets to run, and a
/// program once more as long where it has to wait for others. `pools` is what a
/// program is told: the names of those that ask, with a space between two.
pub(super) async fn ask(
    address: SocketAddr,
    through: Option<&(Through, Prober)>,
    spec: &HealthSpec,
    pools: &str,
) -> ProbeReport {
    let started = Instant::now();
    let deadline = Deadline { at: started + spec.timeout, timeout: spec.timeout };
    let mut took = None;
    let finding = match (&spec.kind, through) {
        (HealthKind::Exec(check), _) => {
            let (finding, by_it) = Box::pin(exec::ask(address, pools, check, deadline)).await;
            took = Some(by_it);
            finding
        }
        (_, Some((through, prober))) => {
            Box::pin(through::ask(address, *through, prober, spec, deadline)).await
        }
        (_, None) => ask_peer(Peer::direct(address), spec, deadline).await,
    };
    report(finding, took.unwrap_or_else(|| started.elapsed()), spec.timeout)
}

/// What a peer answers, asked by everything but a program.
async fn ask_peer(peer: Peer, spec: &HealthSpec, deadline: Deadline) -> Finding {
    // Boxed, or every probe would be as large as the largest: ten kilobytes for a connection that opens.
    match &spec.kind {
        HealthKind::Tcp => tcp::ask(peer, deadline).await,
        HealthKind::Http(check) => either(Box::pin(http::ask(peer, check, deadline))).await,
        HealthKind::Https(check) => either(Box::pin(http::ask_tls(peer, check, deadline))).await,
        HealthKind::Grpc(check) => either(Box::pin(grpc::ask(peer, check, deadline))).await,
        HealthKind::Icmp => either(Box::pin(icmp::ask(peer.to, deadline))).await,
        HealthKind::Udp(check) => either(Box::pin(udp::ask(peer, check, deadline))).await,
        HealthKind::Dns(check) => either(Box::pin(dns::ask(peer, check, deadline))).await,
        HealthKind::Exec(_) | HealthKind::None => (ProbeResult::Success, Cow::Borrowed(NOT_CHECKED)),
    }
}

/// A finding that was known after this time.
fn report(finding: Finding, latency: Duration, timeout: Duration) -> ProbeReport {
    let (result, detail) = if stalled(finding.0, latency, timeout) {
        (ProbeResult::Stalled, Cow::Borrowed("lbd itself did not get to run while the check waited"))
    } else {
        finding
    };
    ProbeReport { result, detail, latency }
}

/// Timers may be this late on a busy machine, however short the timeout is.
const ORDINARY_DELAY: Duration = Duration::from_millis(50);

/// Whether a failure may be this process's own: the probe's timer fired more than half the timeout late. A refusal is an answer,
/// however late it is heard.
fn stalled(result: ProbeResult, latency: Duration, timeout: Duration) -> bool {
    use ProbeResult::{Answer, Protocol, Reset, Status, Timeout, Tls};
    matches!(result, Timeout | Reset | Status | Protocol | Tls | Answer)
        && latency.saturating_sub(timeout) > (timeout / 2).max(ORDINARY_DELAY)
}

/// The reason of a backend's health that nobody asks for.
pub(super) const NOT_CHECKED: &str = "not checked";

/// Either way the finding is the answer; `?` inside keeps the steps readable.
async fn either(asking: impl Future<Output = Result<Finding, Finding>>) -> Finding {
    asking.await.unwrap_or_else(|finding| finding)
}

/// Whether these bytes are somewhere in those.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Makes a connection an encrypted one for others than probes: to `host`, which the certificate has to be for.
///
/// # Errors
/// Why there is none, in a sentence.
pub(crate) async fn encrypted(
    stream: TcpStream,
    address: SocketAddr,
    host: &str,
    trust: &TlsCheck,
    timeout: Duration,
) -> Result<TlsStream<TcpStream>, String> {
    let deadline = Deadline { at: Instant::now() + timeout, timeout };
    let connected = tls::connect(stream, address, Some(host), trust, tls::Alpn::Http1, deadline).await;
    connected.map_err(|(_, text)| text.into_owned())
}

/// The end of a probe's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// How long it was, for messages.
    pub(super) timeout: Duration,
}

/// What an error of the connection says about the backend.
pub(super) fn finding_of(error: &io::Error) -> Finding {
    use io::ErrorKind as E;
    let text = |text: &'static str| Cow::Borrowed(text);
    match (error.kind(), error.raw_os_error()) {
        (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN)) => {
            (ProbeResult::Local, Cow::Owned(format!("this host cannot open a connection: {error}")))
        }
        (E::ConnectionRefused, _) => (ProbeResult::Refused, text("connection refused")),
        (E::HostUnreachable, _) => (ProbeResult::Unreachable, text("host unreachable")),
        (E::NetworkUnreachable, _) => (ProbeResult::Unreachable, text("network unreachable: no route")),
        (E::AddrNotAvailable, _) => {
            (ProbeResult::Unreachable, text("no address of this host can be used as source towards it"))
        }
        (E::PermissionDenied, _) => (
            ProbeResult::Unreachable,
            text("a rule of this host's firewall or routing forbids the connection"),
        ),
        (E::TimedOut, _) => (ProbeResult::Timeout, text("no answer to the connection request")),
        (E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe, _) => {
            (ProbeResult::Reset, text("connection reset"))
        }
        _ => (ProbeResult::Unreachable, Cow::Owned(format!("cannot connect: {error}"))),
    }
}

#[cfg(test)]
mod tests;
