//! Packets that are none of lbd's business: they pass, every byte as it was.

use std::net::IpAddr;

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, Payload, World,
    modes::{end, request},
    world::{BACKEND_PORT, Family, PORT},
};
use crate::header::tcp::{ACK, SYN};

/// With replies to look for.
fn world(family: Family) -> World {
    World::simple(Forward::FullNat, family, 6)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = links();
    for family in Family::BOTH {
        cases.extend(neighbours(family));
        cases.extend(icmp(family));
        cases.extend(faulty(family));
    }
    cases.extend(mapped());
    cases.push(Case::new("a_family_without_a_service", world(Family::V4), &request(Family::V6, 6, SYN)));
    cases
}

/// Frames that are not IP, or say that they are not.
fn links() -> Vec<Case> {
    let syn = request(Family::V4, 6, SYN).bytes();
    let with_type = |kind: [u8; 2], rest: &[u8]| [&syn[..12], &kind, rest].concat();
    let mut arp = with_type([0x08, 0x06], &[0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1]);
    let vlan = [&[0, 7, 8, 0], &syn[14..]].concat();
    let other_version = |byte: u8| {
        let mut bytes = syn.clone();
        bytes[14] = byte;
        bytes
    };
    let cases = [
        ("arp", arp),
        ("vlan", with_type([0x81, 0x00], &vlan)),
        ("unknown_ethertype", with_type([0x88, 0xcc], &syn[14..])),
        ("ieee_802_3_length", with_type([0x00, 0x26], &syn[14..])),
        ("ipv4_type_with_ipv6_inside", with_type([0x08, 0x00], &request(Family::V6, 6, SYN).bytes()[14..])),
        ("ipv6_type_with_ipv4_inside", with_type([0x86, 0xdd], &syn[14..])),
        ("ip_version_0", other_version(0x05)),
        ("link_header_alone", syn[..14].to_vec()),
        ("ipv4_header_cut_off", syn[..33].to_vec()),
        ("ipv6_header_cut_off", request(Family::V6, 6, SYN).bytes()[..53].to_vec()),
    ];
    cases.into_iter().map(|(name, bytes)| Case::new(name, world(Family::V4), bytes)).collect()
}

/// Packets of other connections.
fn neighbours(family: Family) -> Vec<Case> {
    let client = end(family.client(), 40_000);
    let backend = |port| end(family.backend(0), port);
    let vip = |port| end(family.vip(), port);
    let other = |protocol| Frame::new(family.client(), family.vip(), Payload::Other(protocol, vec![7; 24]));
    let cases = [
        ("other_port", Frame::tcp(client, vip(PORT + 1), SYN)),
        ("other_protocol_on_the_port", Frame::udp(client, vip(PORT))),
        ("other_address", Frame::tcp(client, end(family.elsewhere(), PORT), SYN)),
        ("gre_to_the_vip", other(47)),
        ("esp_to_the_vip", other(50)),
        ("connection_of_a_backend", Frame::tcp(backend(33_000), client, SYN)),
        (
            "answer_to_a_health_check",
            Frame::tcp(backend(BACKEND_PORT), end(family.source(), 50_000), SYN | ACK),
        ),
        ("from_a_backends_port_to_anybody", Frame::tcp(backend(BACKEND_PORT), client, ACK)),
        ("datagram_from_a_backends_port", Frame::udp(backend(BACKEND_PORT), client)),
        ("fragment_to_another", Frame::tcp(client, end(family.elsewhere(), PORT), ACK).with(fragment)),
        ("last_hop_to_another", Frame::tcp(client, end(family.elsewhere(), PORT), SYN).with(|f| f.hops = 1)),
    ];
    cases
        .into_iter()
        .map(|(name, frame)| Case::new(format!("{name}_{}", family.name()), world(family), &frame))
        .collect()
}

/// Packets that could not be forwarded, to ports of the vip that no service has: nobody's business but this host's.
fn faulty(family: Family) -> Vec<Case> {
    let transport = if family == Family::V4 { 34 } else { 54 };
    let other = |protocol| {
        let (client, vip) = (end(family.client(), 40_000), end(family.vip(), PORT + 1));
        if protocol == 6 { Frame::tcp(client, vip, SYN) } else { Frame::udp(client, vip) }.data(8)
    };
    let (tcp, udp) = (other(6).bytes(), other(17).bytes());
    let changed = |at: usize, byte: u8| {
        let mut bytes = tcp.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        ("tcp_without_flags", tcp[..transport + 12].to_vec()),
        ("tcp_without_checksum", tcp[..transport + 16].to_vec()),
        ("tcp_data_cut_off", tcp[..tcp.len() - 1].to_vec()),
        ("udp_without_checksum_field", udp[..transport + 7].to_vec()),
        ("udp_data_cut_off", udp[..udp.len() - 1].to_vec()),
        ("tcp_header_of_16_bytes", changed(transport + 12, 0x40)),
        ("tcp_header_beyond_the_packet", changed(transport + 12, 0xf0)),
        ("last_hop", other(6).with(|frame| frame.hops = 1).bytes()),
    ];
    let named = |name| format!("{name}_to_a_port_without_a_service_{}", family.name());
    cases.into_iter().map(|(name, bytes)| Case::new(named(name), world(family), bytes)).collect()
}

/// IPv6 packets with an IPv4 address inside an IPv6 one (`::ffff:198.51.100.1`): no such packet may be on a wire
/// (RFC 4038), and none is of an IPv4 service or client.
fn mapped() -> Vec<Case> {
    let inside = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    let to_vip = |protocol| {
        let (client, vip) = (end(inside(Family::V4.client()), 40_000), end(inside(Family::V4.vip()), PORT));
        if protocol == 6 { Frame::tcp(client, vip, SYN) } else { Frame::udp(client, vip) }
    };
    let backend = end(inside(Family::V4.backend(0)), BACKEND_PORT);
    let reply = Frame::tcp(backend, end(inside(Family::V4.source()), 61_000), SYN | ACK);
    let v6 = Family::V6;
    let from = Frame::tcp(end(inside(Family::V4.client()), 40_000), end(v6.vip(), PORT), SYN);
    let to = Frame::tcp(end(v6.client(), 40_000), end(inside(Family::V4.vip()), PORT), SYN);
    let v4 = |protocol| World::simple(Forward::FullNat, Family::V4, protocol);
    vec![
        Case::new("mapped_addresses_of_a_tcp_request", v4(6), &to_vip(6)),
        Case::new("mapped_addresses_of_a_udp_request", v4(17), &to_vip(17)),
        Case::new("mapped_addresses_of_a_reply", v4(6), &reply),
        Case::new("mapped_source_to_a_vip", world(v6), &from),
        Case::new("mapped_destination_that_is_a_vip_of_ipv4", v4(6), &to),
    ]
}

/// Makes a packet of either family the first fragment of a longer one.
pub(super) fn fragment(frame: &mut Frame) {
    if frame.source.is_ipv4() {
        frame.fragment = 0x2000;
    } else {
        frame.extensions.push((44, vec![0, 0, 0, 1, 0, 0, 0, 7]));
    }
}

/// ICMP is this host's; that to a vip is counted.
fn icmp(family: Family) -> Vec<Case> {
    let is_v4 = family == Family::V4;
    let (echo, error) = if is_v4 { ([8, 0], [3, 4]) } else { ([128, 0], [2, 0]) };
    let quoted = Frame::tcp(end(family.vip(), PORT), end(family.client(), 40_000), ACK).packet();
    let message = |to, kind, data| {
        let payload = Payload::Icmp { kind, rest: 1400, data };
        Frame::new(family.client(), to, payload)
    };
    let name = |what: &str| format!("{what}_{}", family.name());
    let case = |what, frame: Frame| Case::new(name(what), world(family), &frame);
    let mut cases = vec![
        case("echo_to_the_vip", message(family.vip(), echo, vec![1; 32])).notes(1, Reason::IcmpToVip),
        case("error_to_the_vip", message(family.vip(), error, quoted.clone()))
            .notes(1, Reason::IcmpErrorToVip),
        case("echo_to_another", message(family.elsewhere(), echo, vec![1; 32])),
        case("error_to_another", message(family.elsewhere(), error, quoted)),
    ];
    if !is_v4 {
        let behind = message(family.vip(), echo, vec![1; 32]).with(|f| f.extensions = vec![(0, vec![0; 8])]);
        cases.push(case("echo_behind_hop_by_hop_options", behind).notes(1, Reason::IcmpToVip));
    }
    // The other family's ICMP means nothing here.
    let other = Payload::Other(if is_v4 { 58 } else { 1 }, vec![128, 0, 0, 0, 0, 0, 0, 0]);
    cases.push(case("icmp_of_the_other_family", Frame::new(family.client(), family.vip(), other)));
    cases
}
