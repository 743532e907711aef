//! What of a client meets the same backend again: the flow, everything it sends, nothing.

use std::net::IpAddr;

use lb_common::{Affinity, Forward, Reason};

use super::{
    Case, Left, SOME_BACKEND, World,
    modes::{CLIENT_PORT, FIRST, request, request_from, sent_on},
    world::{BACKEND_PORT, Family, counter},
};
use crate::header::tcp::SYN;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        cases.push(same_client(family, "other_port", 6, 2));
        cases.push(same_client(family, "other_protocol", 17, 1));
        cases.extend(datagrams(family));
    }
    cases
}

/// Many backends, whoever of them it is.
fn spread(family: Family) -> World {
    World::simple(Forward::Nat, family, 6).with(|world| {
        let first = world.member().clone();
        for number in 1..5 {
            world.pools[0].members.push(super::world::Member { ip: family.backend(number), ..first.clone() });
        }
        world.pools[0].slots = (0..5).map(Some).collect();
        world.listener().affinity = Affinity::Client;
        let tcp = world.listener().clone();
        world.listeners.push(super::world::Listener { protocol: 17, ..tcp });
    })
}

/// Where a translated request went.
fn backend_of(frame: &[u8], family: Family) -> IpAddr {
    (0..5)
        .map(|number| family.backend(number))
        .find(|ip| match ip {
            IpAddr::V4(ip) => frame.get(30..34) == Some(&ip.octets()[..]),
            IpAddr::V6(ip) => frame.get(38..54) == Some(&ip.octets()[..]),
        })
        .unwrap_or_else(|| family.elsewhere())
}

/// `affinity = "client"`: after one flow, another of the same client. It meets the first one's backend; which that is depends on the
/// seed.
fn same_client(family: Family, name: &str, protocol: u8, step: u16) -> Case {
    let first = request(family, 6, SYN);
    let frame = request_from(family, protocol, SYN, CLIENT_PORT + step);
    let on = frame.clone();
    let service = if protocol == 6 { 1 } else { 2 };
    let mut case =
        Case::new(format!("client_meets_its_backend_on_{name}_{}", family.name()), spread(family), &frame)
            .after(&first)
            .sends(move |left, out| {
                sent_on(&on, Forward::Nat, backend_of(&left[0], family), BACKEND_PORT, out)
            });
    case.backend = Box::new(move |left| {
        let ip = backend_of(&left[0], family);
        (0..5)
            .position(|number| family.backend(number) == ip)
            .map_or(SOME_BACKEND, |number| counter(0, number))
    });
    case.forwards(service, SOME_BACKEND, frame.packet_len()).begins(
        service,
        SOME_BACKEND,
        family.flow_table(),
    )
}

/// `affinity = "none"`: each datagram by itself, no flow.
fn datagrams(family: Family) -> Vec<Case> {
    let world =
        |forward| World::simple(forward, family, 17).with(|world| world.listener().affinity = Affinity::None);
    let frame = request(family, 17, 0);
    let name = |what: &str| format!("{what}_{}", family.name());
    let mut cases: Vec<Case> =
        [(Forward::Dsr, "dsr_datagram_by_itself"), (Forward::Ipip, "ipip_datagram_by_itself")]
            .into_iter()
            .map(|(forward, what)| {
                let on = frame.clone();
                Case::new(name(what), world(forward), &frame)
                    .after(&frame)
                    .sends(move |_: Left<'_>, out| sent_on(&on, forward, family.backend(0), 0, out))
                    .forwards(1, FIRST, frame.packet_len())
            })
            .collect();
    for (forward, what) in
        [(Forward::Nat, "nat_datagram_by_itself"), (Forward::FullNat, "full_nat_datagram_by_itself")]
    {
        // Without a flow there is no way back.
        cases.push(Case::new(name(what), world(forward), &frame).drops(1, Reason::NotAFlow));
    }
    cases
}
