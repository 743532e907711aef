//! Next hops on the real kernel: routes asked for, neighbours resolved, changes followed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lb_userspace::netlink::{NetworkEvent, NextHop, NextHopResolver, Unresolved, read_host_network};
use lb_userspace::reach::{LinkKind, Reach};
use lbd_tests::netns::Namespace;
use lbd_tests::netns::link::{self, End, Mac, Receive};
use lbd_tests::root_or_skip;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the kernel's word to ours; the promise is 100 ms, the rest is left to `ip` itself and to a busy machine.
const PROMPT: Duration = Duration::from_millis(500);

const FRONT: Mac = Mac([2, 0x1b, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0x1b, 0, 0, 0, 2]);
const OTHER: Mac = Mac([2, 0x1b, 0, 0, 0, 3]);

/// The host with the resolver, and a neighbour at the other end of its `front`.
struct Pair {
    watch: Watch,
    host: Namespace,
    peer: Namespace,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

impl Pair {
    fn new(name: &str) -> Result<Pair> {
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

    fn front_index(&self) -> Result<u32> {
        let text = self.host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev_mcast"))??;
        let front = text.lines().find(|line| line.split_whitespace().nth(1) == Some("front"));
        let index = front.and_then(|line| line.split_whitespace().next()).context("front has no index")?;
        Ok(index.parse()?)
    }

    fn neighbours(&self) -> Result<String> {
        self.host.ip("neighbour show dev front")
    }
}

/// A resolver on a thread of its own inside the namespace.
struct Watch {
    resolver: Option<NextHopResolver>,
    events: Receiver<NetworkEvent>,
    kept: RefCell<Vec<(IpAddr, Result<NextHop, Unresolved>)>>,
    thread: Option<JoinHandle<std::io::Result<Result<()>>>>,
}

impl Watch {
    fn start(namespace: &Namespace) -> Result<Watch> {
        let (to_test, events) = channel();
        let (hand_over, handle) = channel();
        let thread = namespace.spawn("resolver", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
                let (resolver, task) = NextHopResolver::start(send)?;
                hand_over.send(resolver).map_err(|_| anyhow!("the test is gone"))?;
                while let Some(event) = receive.recv().await {
                    // The test may have seen enough.
                    let _test_is_over = to_test.send(event);
                }
                Ok(task.await?)
            })
        })?;
        let resolver = handle.recv_timeout(PATIENCE).context("the resolver does not start")?;
        Ok(Watch { resolver: Some(resolver), events, kept: RefCell::default(), thread: Some(thread) })
    }

    fn want(&self, addresses: &[&str]) {
        let addresses: BTreeSet<IpAddr> = addresses.iter().copied().map(ip).collect();
        self.resolver.as_ref().expect("not ended yet").set(addresses);
    }

    /// The next event of this address that `wanted` accepts; events of other addresses are kept for their turn.
    fn until(
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
                Ok(NetworkEvent::HostChanged) => {}
                Err(_) => bail!("the awaited event of {address} did not come; seen: {seen:?}"),
            }
        }
    }

    fn resolved(&self, address: &str) -> Result<NextHop> {
        self.until(address, Result::is_ok)?.map_err(|reason| anyhow!("{reason}"))
    }

    fn unresolved(&self, address: &str, reason: &Unresolved) -> Result<()> {
        self.until(address, |next_hop| next_hop.as_ref() == Err(reason)).map(drop)
    }

    /// Ends the resolver and waits for it.
    fn end(&mut self) -> Result<()> {
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

#[test]
fn a_backend_on_the_link_is_resolved_and_kept() -> Result<()> {
    if !root_or_skip("a_backend_on_the_link_is_resolved_and_kept") {
        return Ok(());
    }
    let mut pair = Pair::new("onlink")?;
    for (address, own) in [("10.27.0.2", "10.27.0.1"), ("fd27::2", "fd27::1")] {
        let asked = Instant::now();
        pair.watch.want(&["10.27.0.2", "fd27::2"]);
        let hop = pair.watch.resolved(address)?;
        println!("{address}: resolved after {:?}", asked.elapsed());
        let expected = NextHop {
            interface: pair.front_index()?,
            source_mac: FRONT.0,
            destination_mac: PEER.0,
            mtu: 1500,
            source: Some(ip(own)),
            gateway: None,
        };
        ensure!(hop == expected, "{hop:?}");
        if address == "10.27.0.2" {
            ensure!(asked.elapsed() < PROMPT, "resolved after {:?}", asked.elapsed());
        }
    }
    let kept = pair.neighbours()?;
    ensure!(kept.lines().filter(|line| line.contains(" managed ")).count() == 2, "not managed: {kept}");
    // What nobody wants is let go, and not deleted.
    pair.watch.want(&["fd27::2"]);
    pair.watch.end()?;
    let left = pair.neighbours()?;
    let entry = |address: &str| left.lines().find(|line| line.starts_with(address)).map(str::to_owned);
    let gone = entry("10.27.0.2").context("the entry was deleted")?;
    ensure!(!gone.contains("managed") && gone.contains(&PEER.to_string()), "{gone}");
    ensure!(entry("fd27::2").is_some_and(|kept| kept.contains(" managed ")), "{left}");
    // The next resolver takes back what its predecessor left and nobody wants any more.
    pair.watch = Watch::start(&pair.host)?;
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    pair.watch.end()?;
    let swept = pair.neighbours()?;
    let managed: Vec<&str> = swept.lines().filter(|line| line.contains(" managed ")).collect();
    ensure!(managed.len() == 1 && managed[0].starts_with("10.27.0.2 "), "{swept}");
    Ok(())
}

#[test]
fn a_new_mac_of_a_backend_is_followed() -> Result<()> {
    if !root_or_skip("a_new_mac_of_a_backend_is_followed") {
        return Ok(());
    }
    let pair = Pair::new("mac")?;
    pair.peer.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    pair.peer.ip(&format!("link set dev eth0 address {OTHER}"))?;
    let changed = Instant::now();
    let hop = pair.watch.resolved("10.27.0.2")?;
    println!("new MAC told {:?} after `ip` had ended", changed.elapsed());
    ensure!(hop.destination_mac == OTHER.0, "{hop:?}");
    ensure!(changed.elapsed() < PROMPT, "told after {:?}", changed.elapsed());
    Ok(())
}

#[test]
fn routers_and_changes_of_routes_are_followed() -> Result<()> {
    if !root_or_skip("routers_and_changes_of_routes_are_followed") {
        return Ok(());
    }
    let pair = Pair::new("router")?;
    let front = "front";
    pair.watch.want(&["10.99.0.5", "2001:db8:99::5"]);
    pair.watch.unresolved("10.99.0.5", &Unresolved::NoRoute)?;
    pair.watch.unresolved("2001:db8:99::5", &Unresolved::NoRoute)?;
    let added = Instant::now();
    pair.host.ip("route add default via 10.27.0.2 mtu 1400")?;
    let hop = pair.watch.resolved("10.99.0.5")?;
    println!("route followed after {:?}", added.elapsed());
    ensure!(added.elapsed() < PROMPT, "followed after {:?}", added.elapsed());
    ensure!((hop.gateway, hop.destination_mac, hop.mtu) == (Some(ip("10.27.0.2")), PEER.0, 1400), "{hop:?}");
    pair.host.ip("route add 2001:db8:99::/48 via fd27::2")?;
    let hop = pair.watch.resolved("2001:db8:99::5")?;
    ensure!((hop.gateway, hop.destination_mac) == (Some(ip("fd27::2")), PEER.0), "{hop:?}");
    // A nearer route by another router, whose entry an operator wrote by hand.
    pair.host.ip(&format!("neighbour add 10.27.0.3 lladdr {OTHER} dev {front} nud permanent"))?;
    pair.host.ip("route add 10.99.0.0/16 via 10.27.0.3")?;
    let hop =
        pair.watch.until("10.99.0.5", |hop| hop.as_ref().is_ok_and(|hop| hop.destination_mac == OTHER.0))?;
    ensure!(hop.is_ok_and(|hop| hop.gateway == Some(ip("10.27.0.3")) && hop.mtu == 1500), "another way");
    // An IPv4 route over an IPv6 router (RFC 5549).
    pair.host.ip("route replace 10.99.0.0/16 via inet6 fd27::2")?;
    let hop =
        pair.watch.until("10.99.0.5", |hop| hop.as_ref().is_ok_and(|hop| hop.destination_mac == PEER.0))?;
    ensure!(hop.is_ok_and(|hop| hop.gateway == Some(ip("fd27::2"))), "the IPv6 router");
    pair.host.ip("route replace blackhole 10.99.0.0/16")?;
    pair.watch.unresolved("10.99.0.5", &Unresolved::Refused)?;
    let permanent = pair.neighbours()?;
    let line =
        permanent.lines().find(|line| line.starts_with("10.27.0.3")).context("the operator's entry")?;
    ensure!(line.trim_end().ends_with("PERMANENT") && !line.contains("managed"), "{line}");
    Ok(())
}

#[test]
fn a_silent_neighbour_is_named_and_asked_again() -> Result<()> {
    if !root_or_skip("a_silent_neighbour_is_named_and_asked_again") {
        return Ok(());
    }
    let pair = Pair::new("silent")?;
    pair.watch.want(&["10.27.0.77", "fd27::77"]);
    for address in ["10.27.0.77", "fd27::77"] {
        pair.watch.unresolved(address, &Unresolved::Resolving)?;
    }
    for address in ["10.27.0.77", "fd27::77"] {
        pair.watch.unresolved(address, &Unresolved::NotAnswering(ip(address), "front".into()))?;
    }
    link::address(&pair.peer, "eth0", ip("10.27.0.77"), 24)?;
    ensure!(pair.watch.resolved("10.27.0.77")?.destination_mac == PEER.0);
    link::address(&pair.peer, "eth0", ip("fd27::77"), 64)?;
    ensure!(pair.watch.resolved("fd27::77")?.destination_mac == PEER.0);
    Ok(())
}

#[test]
fn a_backend_that_falls_silent_loses_its_next_hop() -> Result<()> {
    if !root_or_skip("a_backend_that_falls_silent_loses_its_next_hop") {
        return Ok(());
    }
    let pair = Pair::new("lost")?;
    // How soon the kernel doubts an entry: seconds instead of half a minute.
    pair.host.sysctl("net/ipv4/neigh/front/base_reachable_time_ms", "1000")?;
    pair.host.sysctl("net/ipv4/neigh/front/delay_first_probe_time", "1")?;
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    pair.peer.ip("address del 10.27.0.2/24 dev eth0")?;
    pair.watch.unresolved("10.27.0.2", &Unresolved::NotAnswering(ip("10.27.0.2"), "front".into()))?;
    link::address(&pair.peer, "eth0", ip("10.27.0.2"), 24)?;
    pair.watch.resolved("10.27.0.2")?;
    Ok(())
}

#[test]
fn links_go_down_and_come_back() -> Result<()> {
    if !root_or_skip("links_go_down_and_come_back") {
        return Ok(());
    }
    let pair = Pair::new("down")?;
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    // No carrier: the other end is off. The kernel's own word of it may come a second late (linkwatch gathers events).
    link::set_up(&pair.peer, "eth0", false)?;
    pair.watch.unresolved("10.27.0.2", &Unresolved::InterfaceDown("front".into()))?;
    link::set_up(&pair.peer, "eth0", true)?;
    pair.watch.resolved("10.27.0.2")?;
    // Switched off here: the connected route goes as well.
    link::set_up(&pair.host, "front", false)?;
    pair.watch.unresolved("10.27.0.2", &Unresolved::NoRoute)?;
    link::set_up(&pair.host, "front", true)?;
    pair.watch.resolved("10.27.0.2")?;
    // Flushed by hand: asked for again at once.
    pair.host.ip("neighbour del 10.27.0.2 dev front")?;
    pair.watch.resolved("10.27.0.2")?;
    pair.host.ip("link del front")?;
    pair.watch.unresolved("10.27.0.2", &Unresolved::NoRoute)?;
    Ok(())
}

#[test]
fn addresses_of_this_host_have_no_next_hop() -> Result<()> {
    if !root_or_skip("addresses_of_this_host_have_no_next_hop") {
        return Ok(());
    }
    let pair = Pair::new("own")?;
    pair.watch.want(&["10.27.0.1", "127.0.0.1", "::1", "fd27::1"]);
    pair.watch.unresolved("10.27.0.1", &Unresolved::Local)?;
    pair.watch.unresolved("127.0.0.1", &Unresolved::Loopback)?;
    pair.watch.unresolved("::1", &Unresolved::Loopback)?;
    pair.watch.unresolved("fd27::1", &Unresolved::Local)?;
    // An address that moves away from this host is followed like any other change.
    pair.host.ip("address add 10.27.0.9/32 dev lo")?;
    pair.watch.want(&["10.27.0.9"]);
    pair.watch.unresolved("10.27.0.9", &Unresolved::Local)?;
    pair.host.ip("address del 10.27.0.9/32 dev lo")?;
    link::address(&pair.peer, "eth0", ip("10.27.0.9"), 24)?;
    pair.watch.resolved("10.27.0.9")?;
    Ok(())
}

#[test]
fn a_snapshot_holds_what_reach_asks_for() -> Result<()> {
    if !root_or_skip("a_snapshot_holds_what_reach_asks_for") {
        return Ok(());
    }
    let pair = Pair::new("snapshot")?;
    pair.host.ip("link add br0 type bridge")?;
    pair.host.ip("link add in0 type veth peer name in1")?;
    pair.host.ip("link set dev in0 master br0 up")?;
    pair.host.ip("link set dev in1 up")?;
    pair.host.ip("link set dev br0 up")?;
    link::address(&pair.host, "br0", ip("172.27.0.1"), 24)?;
    pair.host.ip("route add default via 10.27.0.2")?;
    pair.host.ip("route add 10.50.0.0/16 nexthop via 10.27.0.2 nexthop via 10.27.0.3")?;
    let (_socket, host) = pair.host.run(|| -> Result<_> {
        let socket = TcpListener::bind("10.27.0.1:2222")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok((socket, runtime.block_on(read_host_network())?))
    })??;
    let link = |name: &str| host.link_named(name).with_context(|| format!("no {name}"));
    ensure!(link("lo")?.kind == LinkKind::Loopback && link("br0")?.kind == LinkKind::Bridge);
    ensure!(link("in0")?.kind == LinkKind::Veth && link("in0")?.master == Some(link("br0")?.index));
    let listed = ["front".to_owned()];
    let places = [
        ("10.27.0.2", Reach::Remote),
        ("8.8.8.8", Reach::Remote),
        ("10.27.0.1", Reach::Local),
        ("fd27::1", Reach::Local),
        ("127.0.0.5", Reach::Loopback),
        ("172.27.0.7", Reach::Container),
    ];
    for (address, reach) in places {
        ensure!(
            host.locate(ip(address), &listed) == reach,
            "{address}: {:?}",
            host.locate(ip(address), &listed)
        );
    }
    ensure!(host.routes.lookup(ip("10.50.1.1")).len() == 2, "{:?}", host.routes.lookup(ip("10.50.1.1")));
    ensure!(host.own_address(true, &listed) == Some(ip("10.27.0.1")));
    let socket = host.sockets.iter().find(|socket| socket.port == 2222).context("the listening socket")?;
    ensure!(socket.addr == ip("10.27.0.1"), "{socket:?}");
    Ok(())
}
