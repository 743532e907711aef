//! Each mode, family and protocol: a flow's first packet, a later one, a reply.

use std::net::SocketAddr;

use lb_common::Forward;

use super::{
    Case, Frame, Left, World,
    world::{BACKEND_MAC, BACKEND_PORT, Family, GATEWAY_MAC, OWN_MAC, PORT, counter},
};
use crate::header::tcp::{ACK, SYN};

/// Every mode.
pub(super) const MODES: [Forward; 4] = [Forward::FullNat, Forward::Nat, Forward::Dsr, Forward::Ipip];
/// Every protocol.
pub(super) const PROTOCOLS: [u8; 2] = [6, 17];
/// Port of the client.
pub(super) const CLIENT_PORT: u16 = 40_000;
/// Counter of the first pool's first backend.
pub(super) const FIRST: usize = counter(0, 0);
/// Counter of the second.
pub(super) const SECOND: usize = counter(0, 1);

pub(super) fn end(ip: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// A packet from the client to the vip: TCP with these flags, or UDP.
pub(super) fn request(family: Family, protocol: u8, flags: u8) -> Frame {
    request_from(family, protocol, flags, CLIENT_PORT)
}

pub(super) fn request_from(family: Family, protocol: u8, flags: u8, port: u16) -> Frame {
    packet(end(family.client(), port), end(family.vip(), PORT), protocol, flags)
}

pub(super) fn packet(source: SocketAddr, destination: SocketAddr, protocol: u8, flags: u8) -> Frame {
    if protocol == 6 { Frame::tcp(source, destination, flags) } else { Frame::udp(source, destination) }
}

/// The source port of a frame without options, if full-nat may use it: otherwise another one, which then differs.
pub(super) fn snat_port(out: &[u8]) -> u16 {
    let at = if out.get(12) == Some(&0x08) { 34 } else { 54 };
    let port = out.get(at..at + 2).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    if port >= 61_000 { port } else { 61_000 }
}

/// The flow label of a frame's outer IPv6 header.
pub(super) fn label(out: &[u8]) -> u32 {
    out.get(14..18).map_or(0, |word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]) & 0xf_ffff)
}

/// A request as it leaves for a backend: `port` is the backend's own.
pub(super) fn sent_on(frame: &Frame, forward: Forward, ip: std::net::IpAddr, port: u16, out: &[u8]) -> Frame {
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    let on = frame.clone().forwarded(BACKEND_MAC, OWN_MAC);
    let client = match frame.payload {
        super::Payload::Tcp(super::frame::Tcp { ports, .. }) | super::Payload::Udp { ports, .. } => {
            end(frame.source, ports[0])
        }
        _ => end(frame.source, 0),
    };
    match forward {
        Forward::Dsr => on,
        Forward::Ipip => on.inside(family.source(), ip, if ip.is_ipv6() { label(out) } else { 0 }),
        Forward::Nat => on.between(client, end(ip, port)),
        Forward::FullNat => on.between(end(family.source(), snat_port(out)), end(ip, port)),
    }
}

/// The backend's answer to a request that left like this, in full-nat and nat.
pub(super) fn reply_to(left: Left<'_>, family: Family, forward: Forward, protocol: u8, flags: u8) -> Frame {
    let sent = left.last().map_or(&[][..], Vec::as_slice);
    let back = if forward == Forward::FullNat {
        end(family.source(), snat_port(sent))
    } else {
        end(family.client(), CLIENT_PORT)
    };
    packet(end(family.backend(0), BACKEND_PORT), back, protocol, flags)
}

pub(super) const fn translates(forward: Forward) -> bool {
    matches!(forward, Forward::Nat | Forward::FullNat)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for forward in MODES {
        for family in Family::BOTH {
            for protocol in PROTOCOLS {
                cases.extend(there_and_back(forward, family, protocol));
            }
        }
    }
    for (family, backend) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        cases.push(joined(family, backend));
    }
    cases
}

pub(super) fn mode_name(forward: Forward) -> &'static str {
    match forward {
        Forward::FullNat => "full_nat",
        Forward::Nat => "nat",
        Forward::Dsr => "dsr",
        Forward::Ipip => "ipip",
    }
}

fn there_and_back(forward: Forward, family: Family, protocol: u8) -> [Case; 3] {
    let world = World::simple(forward, family, protocol);
    let proto = if protocol == 6 { "tcp" } else { "udp" };
    let name = |what: &str| format!("{}_{}_{proto}_{what}", mode_name(forward), family.name());
    let (first, later) = (request(family, protocol, SYN), request(family, protocol, ACK).data(700));
    let on = |frame: &Frame| {
        let frame = frame.clone();
        move |_: Left<'_>, out: &[u8]| sent_on(&frame, forward, family.backend(0), BACKEND_PORT, out)
    };
    let new = Case::new(name("new"), world.clone(), &first)
        .sends(on(&first))
        .forwards(1, FIRST, first.packet_len())
        .begins(1, FIRST, family.flow_table());
    let again = on(&later);
    let known = Case::new(name("known"), world.clone(), &later)
        .after(&first)
        // The same flow has the same source port and the same flow label.
        .sends(move |left, _| again(left, &left[0]))
        .forwards(1, FIRST, later.packet_len())
        .counts(&format!("backend {FIRST} continued_flows"), u64::from(protocol == 6));
    let answer = move |left: Left<'_>| reply_to(left, family, forward, protocol, SYN | ACK);
    let reply = Case::made(name("reply"), world, move |left| answer(left).bytes()).after(&first);
    let reply = if translates(forward) {
        reply
            .sends(move |left, _| {
                answer(left)
                    .between(end(family.vip(), PORT), end(family.client(), CLIENT_PORT))
                    .forwarded(GATEWAY_MAC, OWN_MAC)
            })
            .replies(1, FIRST, answer(&[]).packet_len())
    } else {
        // It does not come this way; if it does, it is as any other packet of this host's.
        reply.passes(move |left, _| answer(left))
    };
    [new, known, reply]
}

/// ipip carries a packet of one family in one of the other.
fn joined(family: Family, backend: Family) -> Case {
    let world = World::joining(Forward::Ipip, family, backend, 6);
    let frame = request(family, 6, SYN).with(|frame| frame.class = 0xb9);
    let on = frame.clone();
    let name = format!("ipip_{}_in_{}", family.name(), backend.name());
    Case::new(name, world, &frame)
        .sends(move |_, out| sent_on(&on, Forward::Ipip, backend.backend(0), 0, out))
        .forwards(1, FIRST, frame.packet_len())
        .begins(1, FIRST, family.flow_table())
}
