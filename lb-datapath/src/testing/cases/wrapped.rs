//! Checks through ipip: a hidden service translates as full-nat does, with the vip for a backend, and puts the packet into the tunnel to
//! the backend itself.

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, World,
    modes::{CLIENT_PORT, FIRST, PROTOCOLS, end, label, packet, request, snat_port},
    world::{BACKEND_MAC, Family, GATEWAY_MAC, OWN_MAC, PORT},
};
use crate::header::tcp::{ACK, SYN};

/// The listener is a probe address, its "backend" the vip that clients ask, and the tunnel leads to the backend.
fn world(family: Family, tunnel: Family, protocol: u8) -> World {
    World::simple(Forward::FullNat, family, protocol).with(|world| {
        world.listener().tunnel = Some(tunnel.backend(0));
        let member = world.member();
        (member.ip, member.port) = (family.elsewhere(), PORT);
    })
}

/// A request as it leaves.
fn sent_on(frame: &Frame, family: Family, tunnel: Family, out: &[u8]) -> Frame {
    let inner_port = inner_port(out);
    let outer_label = if tunnel == Family::V6 { label(out) } else { 0 };
    frame
        .clone()
        .forwarded(BACKEND_MAC, OWN_MAC)
        .between(end(family.source(), inner_port), end(family.elsewhere(), PORT))
        .inside(tunnel.source(), tunnel.backend(0), outer_label)
}

/// The source port of the packet inside.
fn inner_port(out: &[u8]) -> u16 {
    let outer = if out.get(12) == Some(&0x08) { 20 } else { 40 };
    let Some(inner) = out.get(14 + outer..) else { return 61_000 };
    let is_v4 = inner.first().is_some_and(|first| first >> 4 == 4);
    let ethertype: [u8; 2] = if is_v4 { [0x08, 0] } else { [0x86, 0xdd] };
    snat_port(&[&[0; 12][..], &ethertype, inner].concat())
}

fn there_and_back(family: Family, tunnel: Family, protocol: u8) -> [Case; 3] {
    let world = world(family, tunnel, protocol);
    let proto = if protocol == 6 { "tcp" } else { "udp" };
    let name = |what: &str| format!("wrapped_{}_in_{}_{proto}_{what}", family.name(), tunnel.name());
    let (first, later) = (request(family, protocol, SYN), request(family, protocol, ACK).data(700));
    let on = |frame: &Frame| {
        let frame = frame.clone();
        move |out: &[u8]| sent_on(&frame, family, tunnel, out)
    };
    let (new_on, again) = (on(&first), on(&later));
    let new = Case::new(name("new"), world.clone(), &first)
        .sends(move |_, out| new_on(out))
        .forwards(1, FIRST, first.packet_len())
        .begins(1, FIRST, family.flow_table());
    let known = Case::new(name("known"), world.clone(), &later)
        .after(&first)
        .sends(move |left, _| again(&left[0]))
        .forwards(1, FIRST, later.packet_len())
        .counts(&format!("backend {FIRST} continued_flows"), u64::from(protocol == 6));
    let answer = move |left: super::Left<'_>| {
        let sent = left.last().map_or(&[][..], Vec::as_slice);
        packet(end(family.elsewhere(), PORT), end(family.source(), inner_port(sent)), protocol, SYN | ACK)
    };
    let reply = Case::made(name("reply"), world, move |left| answer(left).bytes())
        .after(&first)
        .sends(move |left, _| {
            answer(left)
                .between(end(family.vip(), PORT), end(family.client(), CLIENT_PORT))
                .forwarded(GATEWAY_MAC, OWN_MAC)
        })
        .replies(1, FIRST, answer(&[]).packet_len());
    [new, known, reply]
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for tunnel in Family::BOTH {
            for protocol in PROTOCOLS {
                cases.extend(there_and_back(family, tunnel, protocol));
            }
        }
    }
    // Nothing goes out half done.
    let family = Family::V4;
    let first = request(family, 6, SYN);
    let mut tight = Case::new("wrapped_without_room", world(family, Family::V6, 6), &first)
        .drops(1, Reason::NoHeadroom)
        .forwards(1, FIRST, first.packet_len())
        .begins(1, FIRST, family.flow_table());
    tight.headroom = Some(16);
    cases.push(tight);
    cases
}
