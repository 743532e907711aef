//! Packets to a vip that cannot be forwarded as they are: cut off, contradictory, fragments, at the end of their life.

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, Payload, World,
    foreign::fragment,
    modes::{CLIENT_PORT, FIRST, MODES, end, mode_name, packet, reply_to, request, sent_on},
    world::{BACKEND_PORT, Family, PORT},
};
use crate::header::tcp::{ACK, SYN};

/// Where the transport header begins in a plain frame.
const fn transport(family: Family) -> usize {
    match family {
        Family::V4 => 34,
        Family::V6 => 54,
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        cases.extend(cut_off(family));
        cases.extend(contradictory(family));
        cases.extend(fragments(family));
        cases.extend(last_hop(family));
    }
    cases.push(header_of_16_bytes());
    cases
}

fn dropped(name: &str, family: Family, protocol: u8, bytes: Vec<u8>, reason: Reason) -> Case {
    let world = World::simple(Forward::Nat, family, protocol);
    Case::new(format!("{name}_{}", family.name()), world, bytes).drops(1, reason)
}

fn cut_off(family: Family) -> Vec<Case> {
    let at = transport(family);
    let tcp = request(family, 6, SYN).bytes();
    let udp = request(family, 17, 0).bytes();
    let (kind, number) = if family == Family::V4 { ([8, 0], 6) } else { ([128, 0], 6) };
    let echo = Frame::new(family.client(), family.vip(), Payload::Icmp { kind, rest: 0, data: vec![] });
    vec![
        dropped("tcp_without_ports", family, 6, tcp[..at + 3].to_vec(), Reason::Truncated),
        dropped("tcp_without_flags", family, 6, tcp[..at + 12].to_vec(), Reason::Truncated),
        dropped("tcp_without_checksum", family, 6, tcp[..at + 16].to_vec(), Reason::Truncated),
        dropped("udp_without_checksum_field", family, 17, udp[..at + 7].to_vec(), Reason::Truncated),
        dropped("icmp_without_type", family, number, echo.bytes()[..at].to_vec(), Reason::Truncated),
        // The header promises more than the frame holds.
        dropped("tcp_data_cut_off", family, 6, tcp[..tcp.len() - 1].to_vec(), Reason::BadHeader),
        dropped("udp_data_cut_off", family, 17, udp[..udp.len() - 1].to_vec(), Reason::BadHeader),
    ]
}

fn contradictory(family: Family) -> Vec<Case> {
    let at = transport(family);
    let changed = |protocol, at: usize, byte: u8| {
        let mut bytes = request(family, protocol, SYN).bytes();
        bytes[at] = byte;
        bytes
    };
    // The low byte of the packet's (IPv4) or the payload's length (IPv6).
    let (len_at, too_short) = if family == Family::V4 { (17, 30) } else { (19, 7) };
    vec![
        dropped("tcp_header_of_16_bytes", family, 6, changed(6, at + 12, 0x40), Reason::BadHeader),
        dropped("tcp_header_beyond_the_packet", family, 6, changed(6, at + 12, 0xf0), Reason::BadHeader),
        dropped("packet_shorter_than_tcp", family, 6, changed(6, len_at, too_short), Reason::BadHeader),
        dropped("packet_shorter_than_udp", family, 17, changed(17, len_at, too_short - 4), Reason::BadHeader),
    ]
}

fn header_of_16_bytes() -> Case {
    let mut bytes = request(Family::V4, 6, SYN).bytes();
    bytes[14] = 0x44;
    dropped("ip_header_of_16_bytes", Family::V4, 6, bytes, Reason::BadHeader)
}

fn fragments(family: Family) -> Vec<Case> {
    let first = request(family, 6, SYN).with(fragment);
    let last = request(family, 17, 0).with(|frame| {
        if family == Family::V4 {
            frame.fragment = 100;
        } else {
            frame.extensions = vec![(44, vec![0, 0, 3, 0x20, 0, 0, 0, 7])];
        }
    });
    vec![
        dropped("first_fragment", family, 6, first.bytes(), Reason::Fragment),
        dropped("last_fragment", family, 17, last.bytes(), Reason::Fragment),
    ]
}

/// A packet with one hop left goes no further, and begins no flow; with two it does.
fn last_hop(family: Family) -> Vec<Case> {
    let name = |what: &str, forward| format!("{}_{what}_{}", mode_name(forward), family.name());
    let mut cases = Vec::new();
    for forward in MODES {
        let world = World::simple(forward, family, 6);
        let with = |hops| request(family, 6, SYN).with(|frame| frame.hops = hops);
        let two = with(2);
        for (what, hops) in [("no_hop_left", 0), ("last_hop", 1)] {
            let case = Case::new(name(what, forward), world.clone(), &with(hops));
            cases.push(case.drops(1, Reason::TtlExceeded));
        }
        let on = two.clone();
        let case = Case::new(name("last_hop_but_one", forward), world, &two)
            .sends(move |_, out| sent_on(&on, forward, family.backend(0), BACKEND_PORT, out))
            .forwards(1, FIRST, two.packet_len())
            .begins(1, FIRST, family.flow_table());
        cases.push(case);
    }
    for forward in [Forward::Nat, Forward::FullNat] {
        let reply = move |left: super::Left<'_>| {
            reply_to(left, family, forward, 6, ACK).with(|frame| frame.hops = 1).bytes()
        };
        let case = Case::made(name("last_hop_of_a_reply", forward), World::simple(forward, family, 6), reply);
        cases.push(case.after(&request(family, 6, SYN)).drops(1, Reason::TtlExceeded));
    }
    // Not to a service: no life is judged.
    let elsewhere = packet(end(family.client(), CLIENT_PORT), end(family.elsewhere(), PORT), 6, ACK);
    let elsewhere = elsewhere.with(|frame| frame.hops = 0);
    let world = World::simple(Forward::Dsr, family, 6);
    cases.push(Case::new(format!("no_hop_left_to_another_{}", family.name()), world, &elsewhere));
    cases
}
