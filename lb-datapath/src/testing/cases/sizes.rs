//! Packets larger than their way: answered where their sender can do something about it, dropped where not.

use std::net::IpAddr;

use lb_common::{FEATURE_GENERIC, Forward, Reason};

use super::{
    Case, Frame, Left, Payload, World,
    modes::{CLIENT_PORT, FIRST, MODES, end, mode_name, reply_to, request, sent_on},
    world::{BACKEND_PORT, Family, GATEWAY_MAC, MTU, OWN_MAC, PORT, Way},
};
use crate::header::tcp::ACK;

/// What the way to the backend takes in these cases.
const NARROW: u16 = 1400;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.extend(requests(family, forward));
        }
        for forward in [Forward::Nat, Forward::FullNat] {
            cases.push(reply(family, forward));
        }
        cases.push(generic(family));
        cases.push(padded(family));
        cases.push(from_nobody(family));
    }
    cases.extend(without_df());
    cases
}

/// A request whose packet has exactly this length.
fn of_len(family: Family, len: usize) -> Frame {
    let frame = request(family, 6, ACK).data(0);
    let headers = frame.packet_len();
    frame.data(len - headers)
}

/// Bytes that a mode adds.
fn overhead(forward: Forward, family: Family) -> u16 {
    match (forward, family) {
        (Forward::Ipip, Family::V4) => 20,
        (Forward::Ipip, Family::V6) => 40,
        _ => 0,
    }
}

fn narrow(forward: Forward, family: Family) -> World {
    World::simple(forward, family, 6).with(|world| world.member().way = Way::Back(NARROW))
}

/// The ICMP error that quotes `of`, from the vip (or whoever it was sent to) back to its sender.
pub(super) fn error(of: &Frame, kind: [u8; 2], rest: u32, quoted: usize) -> Frame {
    let data = of.packet()[..quoted].to_vec();
    Frame {
        link: [of.link[1], of.link[0]],
        id: 0,
        ..Frame::new(of.destination, of.source, Payload::Icmp { kind, rest, data })
    }
}

/// How much of a packet is quoted: what an error may hold of a long one (RFC 1812 §4.3.2.3: 576 bytes in all, RFC 4443 §2.4: 1280), of
/// a shorter one whole words up to 128 bytes.
pub(super) fn quoted(of: &Frame) -> usize {
    let most = if of.source.is_ipv4() { 576 - 20 - 8 } else { 1280 - 40 - 8 };
    let len = of.packet_len();
    if len >= most { most } else { (len & !3).min(128) }
}

pub(super) fn too_big(of: &Frame, mtu: u16) -> Frame {
    let kind = if of.source.is_ipv4() { [3, 4] } else { [2, 0] };
    error(of, kind, mtu.into(), quoted(of))
}

fn requests(family: Family, forward: Forward) -> [Case; 2] {
    let mtu = NARROW - overhead(forward, family);
    let name = |what: &str| format!("{}_{what}_{}", mode_name(forward), family.name());
    let (fits, larger) = (of_len(family, mtu.into()), of_len(family, usize::from(mtu) + 1));
    let (on, told) = (fits.clone(), larger.clone());
    [
        Case::new(name("as_large_as_the_way_takes"), narrow(forward, family), &fits)
            .sends(move |_, out| sent_on(&on, forward, family.backend(0), BACKEND_PORT, out))
            .forwards(1, FIRST, fits.packet_len())
            .begins(1, FIRST, family.flow_table()),
        // The flow has begun: its next packet is smaller.
        Case::new(name("too_big_is_answered"), narrow(forward, family), &larger)
            .sends(move |_, _| too_big(&told, mtu))
            .notes(1, Reason::TooBigAnswered)
            .inserts(family.flow_table()),
    ]
}

/// Whoever sent without DF counts on routers to cut; lbd does not.
fn without_df() -> Vec<Case> {
    MODES
        .into_iter()
        .map(|forward| {
            let frame = of_len(Family::V4, NARROW.into()).data(1400).with(|frame| frame.fragment = 0);
            Case::new(
                format!("{}_too_big_without_df", mode_name(forward)),
                narrow(forward, Family::V4),
                &frame,
            )
            .drops(1, Reason::TooBig)
            .inserts(0)
        })
        .collect()
}

/// A backend whose reply is larger than the way to the client is told.
fn reply(family: Family, forward: Forward) -> Case {
    let name = format!("{}_too_big_reply_is_answered_{}", mode_name(forward), family.name());
    let large = move |left: Left<'_>| reply_to(left, family, forward, 6, ACK).data(1600);
    Case::made(name, World::simple(forward, family, 6), move |left| large(left).bytes())
        .after(&request(family, 6, ACK))
        .sends(move |left, _| too_big(&large(left), MTU))
        .notes(1, Reason::TooBigAnswered)
}

/// In generic mode a frame may be several packets in one, which the kernel cuts.
fn generic(family: Family) -> Case {
    let frame = of_len(family, usize::from(NARROW) + 100);
    let on = frame.clone();
    let world = narrow(Forward::Nat, family).with(|world| world.features |= FEATURE_GENERIC);
    Case::new(format!("generic_mode_judges_no_size_{}", family.name()), world, &frame)
        .sends(move |_, _| sent_on(&on, Forward::Nat, family.backend(0), BACKEND_PORT, &[]))
        .forwards(1, FIRST, frame.packet_len())
        .begins(1, FIRST, family.flow_table())
}

/// What the link padded is no part of the packet, and goes along.
fn padded(family: Family) -> Case {
    let frame = request(family, 17, 0).data(1).with(|frame| frame.padding = 17);
    let on = frame.clone();
    let world = World::simple(Forward::Ipip, family, 17);
    Case::new(format!("ipip_padded_{}", family.name()), world, &frame)
        .sends(move |_, out| sent_on(&on, Forward::Ipip, family.backend(0), 0, out))
        .forwards(1, FIRST, frame.packet_len())
        .begins(1, FIRST, family.flow_table())
}

/// A source that can be no host's is not answered (RFC 1122 §3.2.2): it gets no flow, and so not as far as the size.
fn from_nobody(family: Family) -> Case {
    let multicast: IpAddr = match family {
        Family::V4 => [224, 0, 0, 1].into(),
        Family::V6 => [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
    };
    let frame = of_len(family, usize::from(NARROW) + 1);
    let frame = frame.between(end(multicast, CLIENT_PORT), end(family.vip(), PORT));
    let frame = frame.with(|frame| frame.link = [OWN_MAC, GATEWAY_MAC]);
    Case::new(format!("too_big_from_multicast_{}", family.name()), narrow(Forward::Dsr, family), &frame)
        .drops(1, Reason::BadSource)
}
