//! Keeps the way of checks through services while some check needs it.
//!
//! In: what it has to carry, or that nobody needs it; the kernel's events. Out: [`NetworkEvent::ProbePath`], whenever it has been made,
//! mended or cannot be had. Invariant: what somebody takes away is made again within 100 ms of the kernel's word, and looked for every few
//! seconds besides.

use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::kernel::Kernel;
use super::probe_veth::{self, ProbeWish};
use super::resolver::NetworkEvent;
use super::{NetlinkError, neighbour};
use crate::ended::panic_if_told;

/// It is looked at so long after the first event of a burst.
const SETTLE: Duration = Duration::from_millis(30);
/// It is looked at this often besides, and tried again where it cannot be had.
const LOOK: Duration = Duration::from_secs(3);

/// The handle of the task. It leaves the way as it is when this is dropped: the program in the kernel goes on.
#[derive(Debug)]
pub struct ProbePath {
    wishes: watch::Sender<Option<ProbeWish>>,
}

impl ProbePath {
    /// Starts the task in the network namespace of the calling thread, on the current tokio runtime. Before the first wish it does nothing.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub fn start(
        events: mpsc::UnboundedSender<NetworkEvent>,
    ) -> Result<(Self, JoinHandle<()>), NetlinkError> {
        let (wishes, inbox) = watch::channel(None);
        let work = Work { kernel: Kernel::open()?, inbox, events, due: None, told: None };
        Ok((Self { wishes }, tokio::spawn(work.run())))
    }

    /// From now on this is wanted; `None`: nothing, and what is there goes.
    pub fn set(&self, wish: Option<ProbeWish>) {
        // Said again it is looked at again.
        self.wishes.send_replace(wish);
    }
}

/// Makes the way once, at a start: before the first check leaves.
///
/// # Errors
/// The kernel refuses.
pub async fn make_probe_path(wish: &ProbeWish) -> Result<(), NetlinkError> {
    let (connection, handle, _events) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    probe_veth::ensure(&handle, wish).await.map(drop)
}

/// Removes the way, if an lbd of this network namespace left one; whether it did.
///
/// # Errors
/// The kernel refuses.
pub async fn remove_probe_path() -> Result<bool, NetlinkError> {
    let (connection, handle, _events) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    probe_veth::remove(&handle).await
}

struct Work {
    kernel: Kernel,
    inbox: watch::Receiver<Option<ProbeWish>>,
    events: mpsc::UnboundedSender<NetworkEvent>,
    /// When it is looked at next.
    due: Option<Instant>,
    /// What was told last: how it stands with which wish.
    told: Option<(ProbeWish, Result<(), String>)>,
}

impl Work {
    async fn run(mut self) {
        loop {
            tokio::select! {
                changed = self.inbox.changed() => match changed {
                    Ok(()) => self.look().await,
                    Err(_dropped) => return,
                },
                message = self.kernel.events.next() => match message {
                    Some(message) if self.concerns(&message) => {
                        let soon = Instant::now() + SETTLE;
                        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
                    }
                    Some(_) => {}
                    None => self.reopen().await,
                },
                () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => self.look().await,
            }
        }
    }

    /// Whether something may be otherwise after this. Neighbours of other interfaces come and go all day.
    fn concerns(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        use RouteNetlinkMessage as M;
        if self.due.is_none() {
            return false;
        }
        match &message.payload {
            NetlinkPayload::InnerMessage(M::NewNeighbour(neighbour) | M::DelNeighbour(neighbour)) => {
                neighbour::from_message(neighbour).is_some_and(|(key, _)| self.is_of_prefix(key.address))
            }
            NetlinkPayload::InnerMessage(M::NewAddress(_) | M::DelAddress(_)) => false,
            NetlinkPayload::InnerMessage(_) | NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }

    fn is_of_prefix(&self, address: std::net::IpAddr) -> bool {
        let wish = *self.inbox.borrow();
        wish.is_some_and(|wish| wish.prefix.nets().iter().any(|net| net.contains(&address)))
    }

    async fn look(&mut self) {
        panic_if_told("probes");
        let wish = *self.inbox.borrow_and_update();
        let Some(wish) = wish else {
            self.due = None;
            self.told = None;
            match probe_veth::remove(&self.kernel.handle).await {
                Ok(true) => {
                    tracing::info!("no check goes through a service any more: the veth for them is removed")
                }
                Ok(false) => {}
                Err(error) => tracing::warn!("the veth of checks through services stays: {error}"),
            }
            return;
        };
        self.due = Some(Instant::now() + LOOK);
        let (result, is_mended) = match probe_veth::ensure(&self.kernel.handle, &wish).await {
            Ok(is_mended) => (Ok(()), is_mended),
            Err(error) => (Err(error.to_string()), false),
        };
        let now = (wish, result);
        if is_mended || self.told.as_ref() != Some(&now) {
            let event = NetworkEvent::ProbePath { is_mended, result: now.1.clone() };
            self.told = Some(now);
            // Nobody listens any more: the handle is about to be dropped as well.
            let _nobody_listens = self.events.send(event);
        }
    }

    /// The socket of events has ended, which the kernel does not do by itself.
    async fn reopen(&mut self) {
        match Kernel::open() {
            Ok(kernel) => self.kernel = kernel,
            Err(error) => {
                tracing::error!(
                    "{error}; the way of checks through services is not watched until it can be opened"
                );
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
