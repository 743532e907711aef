//! Keeps the next hops of backends known, and tells their changes.
//!
//! In: the wanted addresses ([`NextHopResolver::set`]), the kernel's events. Out: [`NetworkEvent`]s. Invariants: one task
//! owns everything; the kernel's events are followed, nothing is polled, but for neighbours that do not answer (asked
//! again every second) and, before Linux 5.16, those that do (every five); when events were lost, everything is read again.

mod neighbours;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::interface::Interface;
use super::kernel::Kernel;
use super::next_hops::{NextHop, NextHops, Unresolved};
use super::{NetlinkError, WaysBack, host, neighbour, route};

/// Routes change in bursts: the kernel is asked anew so long after the first event of one.
const SETTLE: Duration = Duration::from_millis(20);

/// [`NetworkEvent::HostChanged`] is sent so long after the first event of a burst.
const HOST_SETTLE: Duration = Duration::from_millis(50);

/// How many ways are asked for before the events get their turn again.
const CHUNK: usize = 256;

/// Neighbours that do not answer are asked again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// News of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// A wanted address has another next hop than before, or another reason to have none.
    NextHop {
        /// The wanted address.
        address: IpAddr,
        /// Its next hop now.
        next_hop: Result<NextHop, Unresolved>,
    },
    /// Links, addresses, routes or rules have changed: a snapshot ([`super::read_host_network`]) may be another now.
    HostChanged,
    /// How it stands with the way of checks through services.
    ProbePath {
        /// It was not there, or not whole, and is now.
        is_mended: bool,
        /// Why it cannot be had, in a sentence.
        result: Result<(), String>,
    },
}

/// The handle of a running resolver.
#[derive(Debug)]
pub struct NextHopResolver {
    commands: mpsc::UnboundedSender<BTreeSet<IpAddr>>,
}

impl NextHopResolver {
    /// Starts a resolver for the network namespace of the calling thread, on the current tokio runtime. It ends when the
    /// handle is dropped and leaves the neighbours managed, so that a program in the kernel that goes on has good
    /// addresses; `set` an empty set before to let them go, and await the task. What `ways_back` keeps is not let go.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub fn start(
        events: mpsc::UnboundedSender<NetworkEvent>,
        ways_back: WaysBack,
    ) -> Result<(Self, JoinHandle<()>), NetlinkError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let kernel = Kernel::open()?;
        let work = Work {
            kernel,
            table: NextHops::default(),
            inbox,
            events,
            refresh_at: None,
            host_at: None,
            retry_at: None,
            retries: 0,
            leftovers_swept: false,
            refusal_said: false,
            ways_back,
        };
        Ok((Self { commands }, tokio::spawn(work.run())))
    }

    /// From now on exactly these addresses are wanted; each is answered by at least one event.
    pub fn set(&self, addresses: BTreeSet<IpAddr>) {
        if self.commands.send(addresses).is_err() {
            // Only after a panic, which the owner of the JoinHandle sees.
            tracing::debug!("the next-hop resolver has ended; a command to it is dropped");
        }
    }
}

/// The resolver's task.
struct Work {
    kernel: Kernel,
    table: NextHops,
    inbox: mpsc::UnboundedReceiver<BTreeSet<IpAddr>>,
    events: mpsc::UnboundedSender<NetworkEvent>,
    /// When stale ways are asked for.
    refresh_at: Option<Instant>,
    /// When a change of the host is told.
    host_at: Option<Instant>,
    /// When neighbours are asked for again.
    retry_at: Option<Instant>,
    retries: u32,
    /// Neighbours that an earlier lbd left managed have been let go.
    leftovers_swept: bool,
    refusal_said: bool,
    /// Who has neighbours kept as well.
    ways_back: WaysBack,
}

impl Work {
    async fn run(mut self) {
        self.resync().await;
        loop {
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(addresses) => self.want(addresses).await,
                    None => return,
                },
                message = self.kernel.events.next() => match message {
                    Some(message) => self.hear(message).await,
                    None => self.reopen().await,
                },
                () = at(self.refresh_at) => self.refresh().await,
                () = at(self.retry_at) => self.retry().await,
                () = at(self.host_at) => {
                    self.host_at = None;
                    self.tell(NetworkEvent::HostChanged);
                }
            }
            self.act().await;
            for (address, next_hop) in self.table.take_news() {
                log(address, &next_hop);
                self.tell(NetworkEvent::NextHop { address, next_hop });
            }
            self.plan_retry();
        }
    }

    fn tell(&self, event: NetworkEvent) {
        // Nobody listens any more: the handle is about to be dropped as well.
        let _nobody_listens = self.events.send(event);
    }

    async fn want(&mut self, addresses: BTreeSet<IpAddr>) {
        self.table.set_wanted(addresses);
        self.refresh().await;
    }

    /// Takes one message of the kernel, and what it makes uncertain.
    async fn hear(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        let message = match message.payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => {
                tracing::warn!(
                    "the kernel's network events came too fast and some are lost; everything is read again"
                );
                return self.resync().await;
            }
            _ => return,
        };
        if !self.take_neighbour(&message) && self.take_host_change(&message) {
            self.host_at.get_or_insert_with(|| Instant::now() + HOST_SETTLE);
            if self.table.has_stale() {
                self.refresh_at.get_or_insert_with(|| Instant::now() + SETTLE);
            }
        }
    }

    /// True: the message was about a neighbour.
    fn take_neighbour(&mut self, message: &RouteNetlinkMessage) -> bool {
        let (message, gone) = match message {
            RouteNetlinkMessage::NewNeighbour(message) => (message, false),
            RouteNetlinkMessage::DelNeighbour(message) => (message, true),
            _ => return false,
        };
        if let Some((key, neighbour)) = neighbour::from_message(message) {
            self.table.neighbour(key, (!gone).then_some(neighbour));
        }
        true
    }

    /// True: links, addresses, routes or rules are others than before.
    fn take_host_change(&mut self, message: &RouteNetlinkMessage) -> bool {
        use RouteNetlinkMessage as M;
        match message {
            M::NewLink(message) => {
                if let Some(interface) = Interface::from_message(message) {
                    self.table.interface(interface);
                }
            }
            M::DelLink(message) if Interface::from_message(message).is_some() => {
                self.table.interface_gone(message.header.index);
            }
            M::NewRoute(message) | M::DelRoute(message) => {
                if let Some(net) = route::destination(message) {
                    self.table.stale_within(net);
                }
            }
            M::NewAddress(_) | M::DelAddress(_) | M::NewRule(_) | M::DelRule(_) => self.table.stale_all(),
            _ => return false,
        }
        true
    }

    /// Asks for stale ways, a chunk at a time.
    async fn refresh(&mut self) {
        self.refresh_at = None;
        let addresses = self.table.take_stale(CHUNK);
        // All at once: one after the other, each would wait for two tasks to take turns.
        let answers = join_all(addresses.iter().map(|address| route::ask(&self.kernel.handle, *address)));
        for (address, answer) in addresses.iter().copied().zip(answers.await) {
            match answer {
                Ok(way) => self.table.answer(address, way),
                Err(error) => tracing::warn!("the way to backend {address} stays as it was: {error}"),
            }
        }
        if self.table.has_stale() {
            self.refresh_at = Some(Instant::now());
        } else if !self.leftovers_swept {
            self.act().await;
            self.sweep_leftovers().await;
        }
    }

    /// Reads everything again.
    async fn resync(&mut self) {
        match host::interfaces(&self.kernel.handle).await {
            Ok(interfaces) => {
                let mut gone = self.table.interface_indexes();
                for interface in interfaces {
                    gone.remove(&interface.index);
                    self.table.interface(interface);
                }
                gone.into_iter().for_each(|index| self.table.interface_gone(index));
            }
            Err(error) => tracing::warn!("interfaces stay as they were: {error}"),
        }
        for key in self.table.tracked() {
            match neighbour::get(&self.kernel.handle, key).await {
                Ok(seen) => self.table.neighbour(key, seen),
                Err(error) => tracing::warn!("a neighbour stays as it was: {error}"),
            }
        }
        self.table.stale_all();
        self.refresh_at = Some(Instant::now());
        self.host_at.get_or_insert_with(|| Instant::now() + HOST_SETTLE);
    }

    /// The socket of events has ended, which the kernel does not do by itself.
    async fn reopen(&mut self) {
        match Kernel::open() {
            Ok(kernel) => {
                tracing::warn!(
                    "the netlink connection ended; a new one is open and everything is read again"
                );
                self.kernel = kernel;
                self.resync().await;
            }
            Err(error) => {
                tracing::error!("{error}; next hops are not followed until it can be opened");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// At this time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// One line for a change.
fn log(address: IpAddr, next_hop: &Result<NextHop, Unresolved>) {
    match next_hop {
        Ok(hop) => tracing::debug!(%address, interface = hop.interface, "next hop is known"),
        Err(Unresolved::Resolving) => tracing::debug!(%address, "next hop is being resolved"),
        // As it should be for a service on `lo`; where it should not, its reader says so.
        Err(reason @ (Unresolved::Local | Unresolved::Loopback)) => {
            tracing::debug!(%address, "no next hop: {reason}");
        }
        Err(reason) => tracing::warn!(%address, "no next hop: {reason}"),
    }
}
