//! Many UDP flows at once, each remembering who answered it.
//!
//! In: the client's namespace, the address of [`crate::server::echo`] servers, how many flows. Out: for every round of one
//! datagram a flow, how many were answered, lost, moved to another backend. Invariant: a flow is one socket with one port for
//! its life; an answer counts only if it carries the number of the datagram asked for last.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::netns::Namespace;

/// Datagrams under way at a time: a queue of a veth holds 256, and there is other traffic.
const WINDOW: usize = 64;
/// What has no answer after this long is in no queue any more, as a rule.
const IN_QUEUES: Duration = Duration::from_millis(50);
/// Datagrams without an answer at a time, however old: where a CPU stands still for long they are all in one queue.
const MOST_WAITING: usize = 3 * WINDOW;
/// Length of what a datagram says: the flow's number, the datagram's number.
const DATAGRAM_LEN: usize = 16;

/// No two flows of a process say the same.
static NEXT_FLOW: AtomicU64 = AtomicU64::new(0);

/// What one round brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Flows answered.
    pub answered: u64,
    /// Flows without an answer in time.
    pub lost: u64,
    /// Flows answered by another backend than before.
    pub moved: u64,
    /// Answers that reached a flow and were to another one: a wrong translation.
    pub crossed: u64,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    number: u64,
    backend: Option<String>,
    sent: u64,
}

/// A set of flows.
#[derive(Debug)]
pub struct UdpFlows {
    flows: Vec<Flow>,
    target: SocketAddr,
}

impl UdpFlows {
    /// Opens `count` flows; nothing is sent yet. Raises the process's limit of open files when it has to.
    pub fn open(namespace: &Namespace, target: SocketAddr, count: usize) -> Result<UdpFlows> {
        raise_file_limit(count as u64 + 1024)?;
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let open = || -> std::io::Result<Flow> {
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            let number = NEXT_FLOW.fetch_add(1, Ordering::Relaxed);
            Ok(Flow { socket, number, backend: None, sent: 0 })
        };
        let flows = namespace.run(|| (0..count).map(|_| open()).collect::<std::io::Result<Vec<_>>>())?;
        Ok(UdpFlows { flows: flows.context("cannot open a UDP socket for every flow")?, target })
    }

    /// One datagram on each of these flows; waits for every answer, each at most `timeout`.
    pub fn round(&mut self, flows: Range<usize>, timeout: Duration) -> Result<Round> {
        let mut round = Round::default();
        let flows = &mut self.flows[flows];
        let mut unsent = 0..flows.len();
        // In the order in which they were sent.
        let mut waiting: VecDeque<(usize, Instant)> = VecDeque::new();
        loop {
            let now = Instant::now();
            let age = |sent: Instant| now.saturating_duration_since(sent);
            while waiting.front().is_some_and(|(_, sent)| age(*sent) >= timeout) {
                waiting.pop_front();
                round.lost += 1;
            }
            let young = waiting.iter().rev().take_while(|(_, sent)| age(*sent) < IN_QUEUES).count();
            let room = WINDOW.saturating_sub(young).min(MOST_WAITING.saturating_sub(waiting.len()));
            for index in unsent.by_ref().take(room) {
                flows[index].sent += 1;
                // What cannot be sent is not answered, and counted as that.
                let _ = flows[index].socket.send_to(&flows[index].datagram(), self.target);
                waiting.push_back((index, now));
            }
            let Some((_, oldest)) = waiting.front() else { return Ok(round) };
            let left = timeout.saturating_sub(age(*oldest));
            let left = if unsent.is_empty() { left } else { left.min(IN_QUEUES) };
            if is_answered(flows, &waiting, left)? {
                waiting.retain(|(index, _)| !flows[*index].take_answer(&mut round));
            }
        }
    }

    /// How many flows each backend has.
    pub fn shares(&self) -> std::collections::BTreeMap<String, u64> {
        let mut shares = std::collections::BTreeMap::new();
        for backend in self.flows.iter().filter_map(|flow| flow.backend.clone()) {
            *shares.entry(backend).or_default() += 1;
        }
        shares
    }

    /// The backend of a flow, once it was answered.
    pub fn backend(&self, flow: usize) -> Option<&str> {
        self.flows[flow].backend.as_deref()
    }
}

/// Waits until there is something to read on one of these flows, so long at most.
fn is_answered(flows: &[Flow], waiting: &VecDeque<(usize, Instant)>, limit: Duration) -> Result<bool> {
    let mut fds: Vec<PollFd<'_>> = waiting
        .iter()
        .map(|(index, _)| PollFd::new(flows[*index].socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // A millisecond more than is left of one: it is over then.
    let limit = limit + Duration::from_millis(1);
    match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Err(nix::errno::Errno::EINTR) => Ok(false),
        ready => Ok(ready.context("cannot wait for answers")? > 0),
    }
}

impl Flow {
    /// What the last datagram said.
    fn datagram(&self) -> [u8; DATAGRAM_LEN] {
        let mut datagram = [0; DATAGRAM_LEN];
        let (number, sent) = datagram.split_at_mut(DATAGRAM_LEN / 2);
        number.copy_from_slice(&self.number.to_be_bytes());
        sent.copy_from_slice(&self.sent.to_be_bytes());
        datagram
    }

    /// Reads what is there; whether the answer to the last datagram was among it.
    fn take_answer(&mut self, round: &mut Round) -> bool {
        let mut buffer = [0; 256];
        // An error (an ICMP answer) is no answer; the flow goes on waiting.
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let Some((name, said)) = buffer[..len].split_last_chunk::<DATAGRAM_LEN>() else { continue };
            if !said.starts_with(&self.number.to_be_bytes()) {
                round.crossed += 1;
                continue;
            }
            if *said != self.datagram() {
                continue;
            }
            let name = String::from_utf8_lossy(name).trim_end().to_owned();
            round.answered += 1;
            if self.backend.as_ref().is_some_and(|before| *before != name) {
                round.moved += 1;
            }
            self.backend = Some(name);
            return true;
        }
        false
    }
}

pub(crate) fn raise_file_limit(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
        .with_context(|| format!("cannot raise the limit of open files to {wanted}"))
}
