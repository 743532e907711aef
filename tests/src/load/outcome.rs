//! What can become of an attempt, and of many in a stretch of time.
//!
//! In: nothing; these are values. Out: the words that the load, its book and its readers share.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What kind of attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A connection of the open loop.
    New,
    /// A request on a standing connection.
    KeepAlive,
    /// A long download.
    Download,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::New => "a new connection",
            Kind::KeepAlive => "a standing connection",
            Kind::Download => "a download",
        })
    }
}

/// Why an attempt failed, as a client feels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// The other side reset the connection.
    Reset,
    /// The other side closed too early.
    Closed,
    /// Nothing came in time.
    TimedOut,
    /// The network has no way there.
    Unreachable,
    /// Something came that should not.
    WrongBytes,
    /// An HTTP status other than 200.
    Status(u16),
    /// The client itself could not (no port, no descriptor): a fault of the test.
    Client(io::ErrorKind),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
            io::ErrorKind::TimedOut => Failure::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Failure::Unreachable,
            kind => Failure::Client(kind),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::Closed => f.write_str("closed early"),
            Failure::TimedOut => f.write_str("timed out"),
            Failure::Unreachable => f.write_str("unreachable"),
            Failure::WrongBytes => f.write_str("wrong bytes"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Client(kind) => write!(f, "client: {kind}"),
        }
    }
}

/// One attempt that has ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What kind.
    pub kind: Kind,
    /// When it was due.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// The client's port, once there was a connection.
    pub local_port: Option<u16>,
    /// Who answered; for a failure, who answered last on this connection.
    pub backend: Option<Arc<str>>,
    /// How it ended.
    pub outcome: Result<(), Failure>,
}

impl Attempt {
    /// When it belongs to a stretch of time: requests when they were due, downloads, which outlast it, when they ended.
    pub fn when(&self) -> Instant {
        if self.kind == Kind::Download { self.end } else { self.start }
    }
}

/// Everything that happened in a stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Connections of the open loop begun.
    pub new_connections: u64,
    /// Attempts of all kinds that ended well.
    pub ok: u64,
    /// Failures of all kinds, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// The longest time without an answer or a piece of one.
    pub longest_stall: Duration,
    /// What stalled so long.
    pub stalled: Option<Kind>,
    /// The most by which the client itself was late to begin a connection: the machine's fault, not the balancer's.
    pub client_delay: Duration,
    /// New connections answered, by backend.
    pub answered: BTreeMap<Arc<str>, u64>,
}

impl Summary {
    pub(super) fn note_stall(&mut self, kind: Kind, length: Duration) {
        if length > self.longest_stall {
            (self.longest_stall, self.stalled) = (length, Some(kind));
        }
    }

    /// All failures.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}
