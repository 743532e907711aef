//! Next hops on the real kernel: routes asked for, neighbours resolved, changes followed.

mod stage;

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use lb_userspace::netlink::{NextHop, Unresolved, local_listening_sockets, read_host_network};
use lb_userspace::reach::{LinkKind, Reach};
use lbd_tests::netns::link;
use lbd_tests::root_or_skip;
use lbd_tests::web::until;
use stage::{FRONT, OTHER, PEER, Pair, Watch, ip};

#[test]
fn a_backend_on_the_link_is_resolved_and_kept() -> Result<()> {
    if !root_or_skip("a_backend_on_the_link_is_resolved_and_kept") {
        return Ok(());
    }
    let mut pair = Pair::new("onlink")?;
    for (address, own) in [("10.27.0.2", "10.27.0.1"), ("fd27::2", "fd27::1")] {
        pair.watch.want(&["10.27.0.2", "fd27::2"]);
        let hop = pair.watch.resolved(address)?;
        let expected = NextHop {
            interface: pair.front_index()?,
            source_mac: FRONT.0,
            destination_mac: PEER.0,
            mtu: 1500,
            source: Some(ip(own)),
            gateway: None,
        };
        ensure!(hop == expected, "{hop:?}");
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

/// A router to backends that clients' replies take too.
#[test]
fn who_leads_to_clients_as_well_is_not_let_go() -> Result<()> {
    if !root_or_skip("who_leads_to_clients_as_well_is_not_let_go") {
        return Ok(());
    }
    let pair = Pair::new("nhclient")?;
    let ask = |clients: &[&str]| {
        let clients = clients.iter().copied().map(ip).collect();
        pair.host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok::<(), anyhow::Error>(runtime.block_on(pair.watch.ways_back.ask(clients))?)
        })?
    };
    ask(&["10.27.0.2"])?;
    until("the answer", || {
        ask(&[])?;
        Ok(!pair.watch.ways_back.is_waiting())
    })?;
    let is_managed = || -> Result<bool> {
        let all = pair.neighbours()?;
        Ok(all.lines().any(|line| line.starts_with("10.27.0.2 ") && line.contains(" managed ")))
    };
    ensure!(is_managed()?, "it is not kept: {}", pair.neighbours()?);
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    pair.watch.want(&["fd27::2"]);
    pair.watch.resolved("fd27::2")?;
    ensure!(is_managed()?, "it was let go: {}", pair.neighbours()?);
    Ok(())
}

#[test]
fn a_new_mac_of_a_backend_is_followed() -> Result<()> {
    if !root_or_skip("a_new_mac_of_a_backend_is_followed") {
        return Ok(());
    }
    let pair = Pair::new("mac")?;
    pair.peer.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    // The kernel itself asks a managed neighbour again after an hour only, and doubts it no sooner: what is told in this test is what the
    // backend announced.
    pair.host.sysctl("net/ipv4/neigh/front/interval_probe_time_ms", "3600000")?;
    pair.host.sysctl("net/ipv4/neigh/front/base_reachable_time_ms", "7200000")?;
    pair.watch.want(&["10.27.0.2"]);
    pair.watch.resolved("10.27.0.2")?;
    pair.peer.ip(&format!("link set dev eth0 address {OTHER}"))?;
    let hop = pair.watch.resolved("10.27.0.2")?;
    ensure!(hop.destination_mac == OTHER.0, "{hop:?}");
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
    pair.host.ip("route add default via 10.27.0.2 mtu 1400")?;
    let hop = pair.watch.resolved("10.99.0.5")?;
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
    let (_socket, host, sockets) = pair.host.run(|| -> Result<_> {
        let socket = TcpListener::bind("10.27.0.1:2222")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok((socket, runtime.block_on(read_host_network())?, local_listening_sockets(|_| false)?))
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
    let socket = sockets.iter().find(|socket| socket.port == 2222).context("the listening socket")?;
    ensure!(socket.addr == ip("10.27.0.1"), "{socket:?}");
    Ok(())
}
