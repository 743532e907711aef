//! Ports: listeners on every port, client ports that two services share, source ports of full-nat.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, Left, World,
    modes::{CLIENT_PORT, FIRST, SECOND, end, mode_name, packet, request, sent_on, snat_port},
    world::{BACKEND_PORT, Family, GATEWAY_MAC, Listener, OWN_MAC, PORT},
};
use crate::header::tcp::{ACK, FIN, SYN};

/// Flows of any-port services lie in the wide table, of either family.
const WIDE: usize = 1;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in super::modes::MODES {
            cases.extend(any_port(forward, family));
        }
        cases.push(exact_before_any(family));
        cases.push(any_port_of_one_protocol(family));
        cases.extend(shared_endpoint(family));
    }
    cases.extend(without_a_free_source_port());
    cases
}

/// One listener on every port; backends take packets at the port they were sent to.
fn every_port(forward: Forward, family: Family) -> World {
    World::simple(forward, family, 6).with(|world| {
        world.listener().at.set_port(0);
        world.member().port = 0;
    })
}

fn to_port(family: Family, port: u16, flags: u8) -> Frame {
    packet(end(family.client(), CLIENT_PORT), end(family.vip(), port), 6, flags)
}

fn any_port(forward: Forward, family: Family) -> Vec<Case> {
    let world = every_port(forward, family);
    let name = |what: &str| format!("{}_any_port_{what}_{}", mode_name(forward), family.name());
    let on = |frame: &Frame, port| {
        let frame = frame.clone();
        move |_: Left<'_>, out: &[u8]| sent_on(&frame, forward, family.backend(0), port, out)
    };
    let (syn, ack, other) =
        (to_port(family, 443, SYN), to_port(family, 443, ACK), to_port(family, 8443, SYN));
    let mut cases = vec![
        Case::new(name("new"), world.clone(), &syn)
            .sends(on(&syn, 443))
            .forwards(1, FIRST, syn.packet_len())
            .begins(1, FIRST, WIDE),
        Case::new(name("known"), world.clone(), &ack)
            .after(&syn)
            .sends({
                let again = on(&ack, 443);
                move |left, _| again(left, &left[0])
            })
            .forwards(1, FIRST, ack.packet_len())
            .counts(&format!("backend {FIRST} continued_flows"), 1),
        // The same client port to another port is another flow.
        Case::new(name("another_port"), world.clone(), &other)
            .after(&syn)
            .sends(on(&other, 8443))
            .forwards(1, FIRST, other.packet_len())
            .begins(1, FIRST, WIDE),
    ];
    if super::modes::translates(forward) {
        let reply = move |left: Left<'_>| {
            let sent = left.first().map_or(&[][..], Vec::as_slice);
            let to = match forward {
                Forward::FullNat => end(family.source(), snat_port(sent)),
                _ => end(family.client(), CLIENT_PORT),
            };
            packet(end(family.backend(0), 443), to, 6, SYN | ACK)
        };
        let back = move |left: Left<'_>| {
            let (vip, client) = (end(family.vip(), 443), end(family.client(), CLIENT_PORT));
            reply(left).between(vip, client).forwarded(GATEWAY_MAC, OWN_MAC)
        };
        let case = Case::made(name("reply"), world, move |left| reply(left).bytes()).after(&syn);
        let case = case.sends(move |left, _| back(left));
        cases.push(case.replies(1, FIRST, syn.packet_len()));
    }
    cases
}

/// The listener on a port is asked before the one on every port.
fn exact_before_any(family: Family) -> Case {
    let world = every_port(Forward::Dsr, family).with(|world| {
        let exact = Listener { at: SocketAddr::new(family.vip(), PORT), pool: 1, ..world.listener().clone() };
        world.listeners.push(exact);
        let mut pool = world.pools[0].clone();
        pool.members[0].ip = family.backend(2);
        world.pools.push(pool);
    });
    let syn = request(family, 6, SYN);
    let on = syn.clone();
    let backend = super::world::counter(1, 0);
    Case::new(format!("exact_port_before_any_{}", family.name()), world, &syn)
        .sends(move |_, out| sent_on(&on, Forward::Dsr, family.backend(2), 0, out))
        .forwards(2, backend, syn.packet_len())
        .begins(2, backend, family.flow_table())
}

fn any_port_of_one_protocol(family: Family) -> Case {
    let name = format!("any_port_of_the_other_protocol_{}", family.name());
    Case::new(name, every_port(Forward::Dsr, family), &request(family, 17, 0))
}

/// A second service over the same pool.
fn two_services(forward: Forward, family: Family) -> World {
    World::simple(forward, family, 6).and_a_second().with(|world| {
        let second = Listener { at: end(family.vip(), PORT + 1), ..world.listener().clone() };
        world.listeners.push(second);
    })
}

/// One client port to two services that share a backend's endpoint: at the backend both would be one connection.
fn shared_endpoint(family: Family) -> Vec<Case> {
    let first = request(family, 6, SYN);
    let second = to_port(family, PORT + 1, SYN);
    let name = |what: &str| format!("{what}_{}", family.name());
    let on = second.clone();
    let elsewhere = Case::new(
        name("nat_shared_endpoint_takes_another_backend"),
        two_services(Forward::Nat, family).with(|world| world.pools[0].slots = vec![Some(0), Some(1)]),
        &second,
    )
    .after(&first)
    .sends(move |left, out| {
        // Whichever the first flow has, this one has the other.
        let other = if goes_to(&left[0], family.backend(0)) { 1 } else { 0 };
        sent_on(&on, Forward::Nat, family.backend(other), BACKEND_PORT, out)
    });
    let elsewhere = Case {
        backend: Box::new(move |left| if goes_to(&left[0], family.backend(0)) { SECOND } else { FIRST }),
        ..elsewhere
    };
    let on = second.clone();
    vec![
        elsewhere.forwards(2, super::SOME_BACKEND, second.packet_len()).begins(
            2,
            super::SOME_BACKEND,
            family.flow_table(),
        ),
        Case::new(name("nat_collision"), two_services(Forward::Nat, family), &second)
            .after(&first)
            .drops(2, Reason::NatCollision),
        // full-nat has another source port for it.
        Case::new(name("full_nat_shared_endpoint"), two_services(Forward::FullNat, family), &second)
            .after(&first)
            .sends(move |_, out| sent_on(&on, Forward::FullNat, family.backend(0), BACKEND_PORT, out))
            .forwards(2, FIRST, second.packet_len())
            .begins(2, FIRST, family.flow_table()),
    ]
}

/// Whether a frame without options goes to this address.
fn goes_to(frame: &[u8], ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => frame.get(30..34) == Some(&ip.octets()[..]),
        IpAddr::V6(ip) => frame.get(38..54) == Some(&ip.octets()[..]),
    }
}

/// Flows that take every source port there is: 4,536 ports, of which each flow tries 32.
const CROWD: u32 = 10_000;

/// A newcomer when every source port that it tries is taken. Flows of UDP keep theirs (a late answer would come to somebody else), and so do
/// established ones of TCP; one on probation gives way, or forged SYNs would keep everybody out.
fn without_a_free_source_port() -> Vec<Case> {
    let case = |name: &str, protocol: u8, flags: &[u8]| {
        let from = |number: u32, flags: u8| {
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 0, 0)) + number);
            let (client, vip) = (SocketAddr::new(ip.into(), 7), end(Family::V4.vip(), PORT));
            if protocol == 6 { Frame::tcp(client, vip, flags) } else { Frame::udp(client, vip) }
        };
        let crowd = (0..CROWD).flat_map(|number| flags.iter().map(move |flags| from(number, *flags).bytes()));
        let world =
            World::simple(Forward::FullNat, Family::V4, protocol).with(|world| world.flows = 2 * CROWD);
        let newcomer = from(CROWD, SYN);
        (Case::new(name, world, &newcomer).after_many(crowd.collect()), newcomer)
    };
    let (in_a_flood, syn) = case("snat_of_a_flow_on_probation", 6, &[SYN]);
    let len = syn.packet_len();
    vec![
        case("snat_exhausted_udp", 17, &[0]).0.drops(1, Reason::SnatExhausted),
        case("snat_exhausted_tcp", 6, &[SYN, ACK]).0.drops(1, Reason::SnatExhausted),
        // Their backends may still send.
        case("snat_exhausted_half_closed", 6, &[SYN, ACK, FIN | ACK]).0.drops(1, Reason::SnatExhausted),
        in_a_flood
            .sends(move |_, out| sent_on(&syn, Forward::FullNat, Family::V4.backend(0), BACKEND_PORT, out))
            .counts("flows v4 evicted", 1)
            .forwards(1, FIRST, len)
            .begins(1, FIRST, Family::V4.flow_table()),
    ]
}
