//! The table with made-up answers of the kernel.

use super::*;

const ETH0: u32 = 2;
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eth0(up: bool) -> Interface {
    Interface {
        index: ETH0,
        name: "eth0".into(),
        kind: LinkKind::Physical,
        master: None,
        mac: Some(OWN_MAC),
        mtu: 1500,
        up,
    }
}

fn via(gateway: Option<&str>) -> Way {
    Way::Via(RouteTo { interface: ETH0, gateway: gateway.map(ip), source: Some(ip("10.0.0.1")), mtu: None })
}

fn key(address: &str) -> NeighbourKey {
    NeighbourKey { interface: ETH0, address: ip(address) }
}

fn answering(mac: [u8; 6]) -> Option<Neighbour> {
    Some(Neighbour { mac: Some(mac), failed: false, fixed: false, managed: true, ours: true })
}

fn silent(failed: bool) -> Option<Neighbour> {
    Some(Neighbour { mac: None, failed, fixed: false, managed: true, ours: true })
}

fn hop(mac: [u8; 6], gateway: Option<&str>) -> NextHop {
    NextHop {
        interface: ETH0,
        source_mac: OWN_MAC,
        destination_mac: mac,
        mtu: 1500,
        source: Some(ip("10.0.0.1")),
        gateway: gateway.map(ip),
    }
}

/// A table that wants these addresses and has heard that all go by `way`.
fn table(addresses: &[&str], way: Way) -> NextHops {
    let mut table = NextHops::default();
    table.interface(eth0(true));
    table.set_wanted(addresses.iter().copied().map(ip).collect());
    for address in table.take_stale(usize::MAX) {
        table.answer(address, way);
    }
    table
}

#[test]
fn a_backend_on_the_link_is_resolved_and_followed() {
    let mut table = table(&["10.0.0.2"], via(None));
    assert_eq!(table.take_actions(), [Action::Ensure(key("10.0.0.2"))]);
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Err(Unresolved::Resolving))]);
    table.neighbour(key("10.0.0.2"), answering(MAC));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(hop(MAC, None)))]);
    table.neighbour(key("10.0.0.2"), answering(MAC));
    assert_eq!(table.take_news(), [], "nothing new");
    table.neighbour(key("10.0.0.2"), answering(OWN_MAC));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(hop(OWN_MAC, None)))]);
    table.neighbour(key("10.0.0.9"), answering(MAC));
    assert_eq!(table.take_news(), [], "nobody wants it");
}

#[test]
fn a_neighbour_that_the_kernel_knows_already_is_never_told_as_looked_for() {
    let mut table = table(&["10.0.0.2"], via(None));
    table.neighbour(key("10.0.0.2"), answering(MAC));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(hop(MAC, None)))]);
    table.answer(ip("10.0.0.2"), Way::NoRoute);
    table.answer(ip("10.0.0.2"), via(None));
    table.neighbour(key("10.0.0.2"), answering(MAC));
    assert_eq!(table.take_news(), [], "it came and went between two looks");
}

#[test]
fn one_router_serves_all_behind_it_until_the_last_has_gone() {
    let mut table = table(&["10.1.0.2", "10.1.0.3"], via(Some("10.0.0.254")));
    assert_eq!(table.take_actions(), [Action::Ensure(key("10.0.0.254"))]);
    table.take_news();
    table.neighbour(key("10.0.0.254"), answering(MAC));
    let resolved = Ok(hop(MAC, Some("10.0.0.254")));
    assert_eq!(table.take_news(), [(ip("10.1.0.2"), resolved.clone()), (ip("10.1.0.3"), resolved)]);
    table.set_wanted([ip("10.1.0.3")].into());
    assert_eq!(table.take_actions(), []);
    table.set_wanted(BTreeSet::new());
    assert_eq!(table.take_actions(), [Action::Release(key("10.0.0.254"))]);
    assert!(table.unanswered().is_empty());
}

#[test]
fn another_route_means_another_neighbour() {
    let mut table = table(&["10.1.0.2"], via(Some("10.0.0.254")));
    table.neighbour(key("10.0.0.254"), answering(MAC));
    table.take_actions();
    table.take_news();
    table.stale_within("10.2.0.0/16".parse().unwrap());
    assert!(!table.has_stale());
    table.stale_within("10.1.0.0/16".parse().unwrap());
    assert_eq!(table.take_stale(9), [ip("10.1.0.2")]);
    table.answer(ip("10.1.0.2"), via(Some("10.0.0.253")));
    assert_eq!(table.take_actions(), [Action::Ensure(key("10.0.0.253")), Action::Release(key("10.0.0.254"))]);
    assert_eq!(table.take_news(), [(ip("10.1.0.2"), Err(Unresolved::Resolving))]);
    table.answer(ip("10.1.0.2"), Way::NoRoute);
    assert_eq!(table.take_actions(), [Action::Release(key("10.0.0.253"))]);
    assert_eq!(table.take_news(), [(ip("10.1.0.2"), Err(Unresolved::NoRoute))]);
}

#[test]
fn a_neighbour_that_fails_is_silent_until_it_answers() {
    let mut table = table(&["10.0.0.2"], via(None));
    table.take_news();
    table.neighbour(key("10.0.0.2"), silent(true));
    let reason = Unresolved::NotAnswering(ip("10.0.0.2"), "eth0".into());
    assert_eq!(reason.to_string(), "neighbour 10.0.0.2 on eth0 does not answer");
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Err(reason))]);
    assert_eq!(table.unanswered(), [key("10.0.0.2")]);
    table.neighbour(key("10.0.0.2"), silent(false));
    assert_eq!(table.take_news(), [], "a new try is no news");
    table.neighbour(key("10.0.0.2"), answering(MAC));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(hop(MAC, None)))]);
    assert!(table.unanswered().is_empty() && table.unmanaged().is_empty());
}

#[test]
fn an_entry_that_is_deleted_is_asked_for_again() {
    let mut table = table(&["10.0.0.2"], via(None));
    table.neighbour(key("10.0.0.2"), answering(MAC));
    table.take_actions();
    table.neighbour(key("10.0.0.2"), None);
    assert_eq!(table.take_actions(), [Action::Ensure(key("10.0.0.2"))]);
    assert_eq!(table.take_news().last(), Some(&(ip("10.0.0.2"), Err(Unresolved::Resolving))));
}

#[test]
fn what_the_kernel_does_not_manage_is_named_for_the_timer() {
    let mut table = table(&["10.0.0.2", "10.0.0.3"], via(None));
    let unmanaged = |fixed| answering(MAC).map(|seen| Neighbour { managed: false, fixed, ..seen });
    table.neighbour(key("10.0.0.2"), unmanaged(false));
    table.neighbour(key("10.0.0.3"), unmanaged(true));
    assert_eq!(table.unmanaged(), [key("10.0.0.2")], "a fixed entry needs no timer");
}

#[test]
fn an_interface_takes_its_next_hops_down_and_up_with_it() {
    let mut table = table(&["10.0.0.2"], via(None));
    table.neighbour(key("10.0.0.2"), answering(MAC));
    table.take_actions();
    table.take_news();
    table.interface(eth0(false));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Err(Unresolved::InterfaceDown("eth0".into())))]);
    assert!(table.has_stale(), "routes may have gone with it");
    table.neighbour(key("10.0.0.2"), None);
    assert_eq!((table.take_actions(), table.unanswered()), (vec![], vec![]), "nobody can answer there");
    table.interface(eth0(true));
    assert_eq!(table.take_actions(), [Action::Ensure(key("10.0.0.2"))]);
    table.neighbour(key("10.0.0.2"), answering(MAC));
    table.interface_gone(ETH0);
    assert_eq!(table.take_news().last(), Some(&(ip("10.0.0.2"), Err(Unresolved::Resolving))));
}

#[test]
fn own_mac_and_mtu_are_followed_and_the_smaller_mtu_counts() {
    let mut table = table(&["10.0.0.2"], via(None));
    table.neighbour(key("10.0.0.2"), answering(MAC));
    table.take_news();
    table.interface(Interface { mac: Some(MAC), mtu: 9000, ..eth0(true) });
    let changed = NextHop { source_mac: MAC, mtu: 9000, ..hop(MAC, None) };
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(changed))]);
    assert!(!table.has_stale());
    let Way::Via(to) = via(None) else { unreachable!() };
    table.answer(ip("10.0.0.2"), Way::Via(RouteTo { mtu: Some(1400), ..to }));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Ok(NextHop { mtu: 1400, ..changed }))]);
}

#[test]
fn what_does_not_leave_the_host_has_its_reason() {
    let mut table = table(&["10.0.0.1", "127.0.0.1", "::1"], Way::Local);
    assert_eq!(
        table.take_news(),
        [
            (ip("10.0.0.1"), Err(Unresolved::Local)),
            (ip("127.0.0.1"), Err(Unresolved::Loopback)),
            (ip("::1"), Err(Unresolved::Loopback)),
        ]
    );
    table.answer(ip("10.0.0.1"), Way::Refused);
    assert_eq!(table.take_news(), [(ip("10.0.0.1"), Err(Unresolved::Refused))]);
    assert_eq!(table.take_actions(), []);
}

#[test]
fn an_interface_without_ethernet_has_no_next_hop() {
    let mut table = NextHops::default();
    table.interface(Interface { mac: None, kind: LinkKind::Other, name: "tun0".into(), ..eth0(true) });
    table.set_wanted([ip("10.0.0.2")].into());
    table.answer(ip("10.0.0.2"), via(None));
    assert_eq!(table.take_news(), [(ip("10.0.0.2"), Err(Unresolved::NoLinkAddress("tun0".into())))]);
}
