//! A host with a neighbour, and a resolver that is listened to.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use lb_userspace::netlink::{NetworkEvent, NextHop, NextHopResolver, Unresolved, WaysBack};
use lbd_tests::netns::Namespace;
use lbd_tests::netns::link::{self, End, Mac, Receive};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const FRONT: Mac = Mac([2, 0x1b, 0, 0, 0, 1]);
pub(super) const PEER: Mac = Mac([2, 0x1b, 0, 0, 0, 2]);
pub(super) const OTHER: Mac = Mac([2, 0x1b, 0, 0, 0, 3]);

/// The host with the resolver, and a neighbour at the other end of its `front`.
pub(super) struct Pair {
    pub(super) watch: Watch,
    pub(super) host: Namespace,
    pub(super) peer: Namespace,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

impl Pair {
    pub(super) fn new(name: &str) -> Result<Pair> {
        let host = Namespace::new(&format!("{name}-host"))?;
        let peer = Namespace::new(&format!("{name}-peer"))?;
        let end = |namespace, interface, mac| End { namespace, interface, mac, receive: Receive::Plain };
        link::connect(end(&host, "front", FRONT), end(&peer, "eth0", PEER), 1500)?;
        link::address(&host, "front", ip("10.27.0.1"), 24)?;
        link::address(&host, "front", ip("fd27::1"), 64)?;
        link::address(&peer, "eth0", ip("10.27.0.2"), 24)?;
        link::address(&peer, "eth0", ip("fd27::2"), 64)?;
        // Neighbours that do not answer give up in 0.6 s instead of 3, and a new MAC is believed at once.
        for family in ["ipv4", "ipv6"] {
            host.sysctl(&format!("net/{family}/neigh/front/retrans_time_ms"), "200")?;
        }
        host.sysctl("net/ipv4/neigh/front/locktime", "0")?;
        let watch = Watch::start(&host)?;
        Ok(Pair { watch, host, peer })
    }

    pub(super) fn front_index(&self) -> Result<u32> {
        let text = self.host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev_mcast"))??;
        let front = text.lines().find(|line| line.split_whitespace().nth(1) == Some("front"));
        let index = front.and_then(|line| line.split_whitespace().next()).context("front has no index")?;
        Ok(index.parse()?)
    }

    pub(super) fn neighbours(&self) -> Result<String> {
        self.host.ip("neighbour show dev front")
    }
}

/// A resolver on a thread of its own inside the namespace.
pub(super) struct Watch {
    resolver: Option<NextHopResolver>,
    events: Receiver<NetworkEvent>,
    kept: RefCell<Vec<(IpAddr, Result<NextHop, Unresolved>)>>,
    thread: Option<JoinHandle<std::io::Result<Result<()>>>>,
    /// Who has ways to clients resolved beside the resolver.
    pub(super) ways_back: WaysBack,
}

impl Watch {
    pub(super) fn start(namespace: &Namespace) -> Result<Watch> {
        let (to_test, events) = channel();
        let (hand_over, handle) = channel();
        let ways_back = WaysBack::default();
        let beside = ways_back.clone();
        let thread = namespace.spawn("resolver", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
                let (resolver, task) = NextHopResolver::start(send, beside)?;
                hand_over.send(resolver).map_err(|_| anyhow!("the test is gone"))?;
                while let Some(event) = receive.recv().await {
                    // The test may have seen enough.
                    let _test_is_over = to_test.send(event);
                }
                Ok(task.await?)
            })
        })?;
        let resolver = handle.recv_timeout(PATIENCE).context("the resolver does not start")?;
        let kept = RefCell::default();
        Ok(Watch { resolver: Some(resolver), events, kept, thread: Some(thread), ways_back })
    }

    pub(super) fn want(&self, addresses: &[&str]) {
        let addresses: BTreeSet<IpAddr> = addresses.iter().copied().map(ip).collect();
        self.resolver.as_ref().expect("not ended yet").set(addresses);
    }

    /// The next event of this address that `wanted` accepts; events of other addresses are kept for their turn.
    pub(super) fn until(
        &self,
        address: &str,
        wanted: impl Fn(&Result<NextHop, Unresolved>) -> bool,
    ) -> Result<Result<NextHop, Unresolved>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let mut kept = self.kept.borrow_mut();
            while let Some(place) = kept.iter().position(|(of, _)| *of == ip(address)) {
                let (_, next_hop) = kept.remove(place);
                if wanted(&next_hop) {
                    return Ok(next_hop);
                }
                seen.push(next_hop);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(NetworkEvent::NextHop { address, next_hop }) => kept.push((address, next_hop)),
                Ok(NetworkEvent::HostChanged | NetworkEvent::ProbePath { .. }) => {}
                Err(_) => bail!("the awaited event of {address} did not come; seen: {seen:?}"),
            }
        }
    }

    pub(super) fn resolved(&self, address: &str) -> Result<NextHop> {
        self.until(address, Result::is_ok)?.map_err(|reason| anyhow!("{reason}"))
    }

    pub(super) fn unresolved(&self, address: &str, reason: &Unresolved) -> Result<()> {
        self.until(address, |next_hop| next_hop.as_ref() == Err(reason)).map(drop)
    }

    /// Ends the resolver and waits for it.
    pub(super) fn end(&mut self) -> Result<()> {
        drop(self.resolver.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended?,
            Some(Err(_)) => bail!("the resolver's thread panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("the resolver ended badly: {error:#}");
        }
    }
}
