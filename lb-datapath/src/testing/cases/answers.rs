//! No usable backend: TCP is reset, UDP told that nobody listens, or both are dropped.

use lb_common::{Forward, Reason, WhenNone};

use super::{
    Case, Frame, Payload, World,
    frame::{DONT_FRAGMENT, Tcp},
    modes::{MODES, PROTOCOLS, end, mode_name, request},
    sizes::{error, quoted},
    world::{Family, GATEWAY_MAC, OWN_MAC, PORT},
};
use crate::header::tcp::{ACK, FIN, RST, SYN};

/// A service whose table is empty.
fn without(forward: Forward, family: Family, protocol: u8, when_none: WhenNone) -> World {
    World::simple(forward, family, protocol).with(|world| {
        world.listener().when_none = when_none;
        world.pools[0].slots.clear();
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            for protocol in PROTOCOLS {
                cases.push(dropped(forward, family, protocol));
            }
        }
        cases.extend(resets(family));
        cases.extend(unreachable(family));
        cases.extend(silent(family));
    }
    cases.push(slot_of_nobody());
    cases
}

fn dropped(forward: Forward, family: Family, protocol: u8) -> Case {
    let proto = if protocol == 6 { "tcp" } else { "udp" };
    let name = format!("{}_{}_{proto}_without_backend", mode_name(forward), family.name());
    let world = without(forward, family, protocol, WhenNone::Drop);
    Case::new(name, world, &request(family, protocol, SYN)).drops(1, Reason::NoBackend)
}

/// The reset of RFC 9293 §3.5.2 for a segment of a connection that does not exist.
pub(super) fn reset(of: &Frame, sequence: u32, acknowledgment: u32, flags: u8) -> Frame {
    let Payload::Tcp(Tcp { ports, .. }) = of.payload else { panic!("a reset answers TCP") };
    let ports = [ports[1], ports[0]];
    let tcp = Tcp { ports, sequence, acknowledgment, flags, window: 0, data: 0 };
    Frame {
        link: [of.link[1], of.link[0]],
        id: 0,
        fragment: DONT_FRAGMENT,
        padding: of.padding,
        ..Frame::new(of.destination, of.source, Payload::Tcp(tcp))
    }
}

fn resets(family: Family) -> Vec<Case> {
    // The sequence numbers of `Frame::tcp`, and its eleven bytes of data.
    let (sequence, acknowledgment, data) = (0x0102_0304_u32, 0x0506_0708, 11);
    let of = |flags| request(family, 6, flags);
    let before = |frame: &mut Frame| {
        if family == Family::V4 {
            frame.options = vec![1; 12];
        } else {
            frame.extensions = vec![(0, [vec![0, 1], vec![0; 14]].concat())];
        }
    };
    let cases = [
        ("syn", of(SYN), (0, sequence + data + 1, RST | ACK)),
        ("syn_without_data", of(SYN).data(0), (0, sequence + 1, RST | ACK)),
        ("ack", of(ACK), (acknowledgment, 0, RST)),
        ("syn_ack", of(SYN | ACK), (acknowledgment, 0, RST)),
        ("fin_without_ack", of(FIN), (0, sequence + data + 1, RST | ACK)),
        ("segment_without_flags", of(0), (0, sequence + data, RST | ACK)),
        ("full_segment", of(ACK).data(1400), (acknowledgment, 0, RST)),
        ("syn_behind_options", of(SYN).with(before), (0, sequence + data + 1, RST | ACK)),
        ("padded_syn", of(SYN).data(0).with(|frame| frame.padding = 6), (0, sequence + 1, RST | ACK)),
    ];
    cases
        .into_iter()
        .map(|(name, frame, (sequence, acknowledgment, flags))| {
            let answer = reset(&frame, sequence, acknowledgment, flags);
            let world = without(Forward::Dsr, family, 6, WhenNone::Reset);
            Case::new(format!("{name}_is_reset_{}", family.name()), world, &frame)
                .sends(move |_, _| answer.clone())
                .notes(1, Reason::ResetAnswered)
        })
        .collect()
}

fn unreachable(family: Family) -> Vec<Case> {
    let kind = if family == Family::V4 { [3, 3] } else { [1, 4] };
    let of = |data| request(family, 17, 0).data(data);
    [("short", of(3)), ("middling", of(300)), ("long", of(1300))]
        .into_iter()
        .map(|(name, frame)| {
            let answer = error(&frame, kind, 0, quoted(&frame));
            let world = without(Forward::FullNat, family, 17, WhenNone::Reset);
            Case::new(format!("{name}_datagram_is_unreachable_{}", family.name()), world, &frame)
                .sends(move |_, _| answer.clone())
                .notes(1, Reason::UnreachableAnswered)
        })
        .collect()
}

/// What must not be answered is dropped: a reset, and what no host sent (RFC 1122 §3.2.2).
fn silent(family: Family) -> Vec<Case> {
    let nobody: std::net::IpAddr = match family {
        Family::V4 => [0, 0, 0, 0].into(),
        Family::V6 => [0_u16; 8].into(),
    };
    let from_nobody = |frame: Frame| Frame {
        link: [OWN_MAC, GATEWAY_MAC],
        ..frame.between(end(nobody, 40_000), end(family.vip(), PORT))
    };
    let cases = [
        ("reset_is_not_answered", 6, request(family, 6, RST), Reason::NoBackend),
        ("syn_from_nobody_is_not_answered", 6, from_nobody(request(family, 6, SYN)), Reason::BadSource),
        ("datagram_from_nobody_is_not_answered", 17, from_nobody(request(family, 17, 0)), Reason::BadSource),
    ];
    cases
        .into_iter()
        .map(|(name, protocol, frame, reason)| {
            let world = without(Forward::Dsr, family, protocol, WhenNone::Reset);
            Case::new(format!("{name}_{}", family.name()), world, &frame).drops(1, reason)
        })
        .collect()
}

/// A table may hold slots of nobody.
fn slot_of_nobody() -> Case {
    let world = World::simple(Forward::Dsr, Family::V4, 6).with(|world| world.pools[0].slots = vec![None]);
    Case::new("slot_of_nobody", world, &request(Family::V4, 6, SYN)).drops(1, Reason::NoBackend)
}
