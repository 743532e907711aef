//! Packets through a small world, on the host.

use lb_common::{Address, Forward, Reason, Word, backend_state};

use super::{
    HostPacket, HostTables,
    builder::{PacketBuilder, checksums_are_right},
    world::{BACKEND_PORT, PORT, client, vip, world},
};
use crate::{
    header::tcp::{ACK, FIN, SYN},
    pipeline::{Verdict, balance},
};

const CLIENT_PORT: u16 = 40_000;

fn request(v6: bool, protocol: u8, flags: u8) -> PacketBuilder {
    PacketBuilder::new(client(v6), vip(v6), CLIENT_PORT, PORT, protocol).flags(flags)
}

fn send(tables: &HostTables, packet: &PacketBuilder) -> (Verdict, HostPacket) {
    let mut frame = HostPacket::new(&packet.build());
    let verdict = balance(&mut frame, tables);
    (verdict, frame)
}

fn reasons(tables: &HostTables) -> Vec<(Reason, u64)> {
    let counters = tables.counters();
    let count = |reason: &Reason| counters.reasons[64 + *reason as usize];
    Reason::ALL.iter().map(|reason| (*reason, count(reason))).filter(|(_, count)| *count != 0).collect()
}

const MODES: [Forward; 4] = [Forward::FullNat, Forward::Nat, Forward::Dsr, Forward::Ipip];

#[test]
fn each_mode_and_family_forwards_with_right_checksums() {
    for forward in MODES {
        for protocol in [6, 17] {
            for v6 in [false, true] {
                let tables = world(forward, protocol, v6, v6);
                for (packets, flags) in [(1, SYN), (2, ACK), (3, ACK)] {
                    let (verdict, frame) = send(&tables, &request(v6, protocol, flags));
                    assert_eq!(
                        verdict,
                        Verdict::Transmit,
                        "{forward:?} {protocol} {v6} {:?}",
                        reasons(&tables)
                    );
                    assert!(checksums_are_right(frame.bytes()), "{forward:?} {protocol} {v6}");
                    let counters = tables.counters();
                    assert_eq!(counters.services[1].packets, packets);
                    assert_eq!(counters.services[1].new_flows, 1);
                    assert_eq!(counters.flows[usize::from(v6)].inserted, 1);
                }
                assert_eq!(reasons(&tables), []);
            }
        }
    }
}

#[test]
fn tunnels_join_the_families() {
    for (v6, outer_v6) in [(false, true), (true, false)] {
        let tables = world(Forward::Ipip, 6, v6, outer_v6);
        let packet = request(v6, 6, SYN).build();
        let (verdict, frame) = send(&tables, &request(v6, 6, SYN));
        assert_eq!(verdict, Verdict::Transmit);
        assert!(checksums_are_right(frame.bytes()));
        let overhead = if outer_v6 { 40 } else { 20 };
        assert_eq!(frame.bytes().len(), packet.len() + overhead);
        let protocol = frame.bytes()[if outer_v6 { 20 } else { 23 }];
        assert_eq!(protocol, if v6 { 41 } else { 4 });
    }
}

/// The reply to a translated request.
fn reply_to(frame: &HostPacket, v6: bool, protocol: u8, flags: u8) -> PacketBuilder {
    let (from, to, source, destination) = super::builder::ends(frame.bytes(), v6);
    PacketBuilder::new(to, from, destination, source, protocol).flags(flags)
}

#[test]
fn replies_are_translated_back_and_nothing_else_is() {
    for forward in [Forward::Nat, Forward::FullNat] {
        for protocol in [6, 17] {
            for v6 in [false, true] {
                let tables = world(forward, protocol, v6, v6);
                let (_, there) = send(&tables, &request(v6, protocol, SYN));
                let (verdict, back) = send(&tables, &reply_to(&there, v6, protocol, SYN | ACK));
                assert_eq!(verdict, Verdict::Transmit, "{forward:?} {protocol} {v6} {:?}", reasons(&tables));
                assert!(checksums_are_right(back.bytes()));
                let ends = super::builder::ends(back.bytes(), v6);
                assert_eq!(ends, (vip(v6), client(v6), PORT, CLIENT_PORT));
                assert_eq!(tables.counters().services[1].reply_packets, 1);

                let (from, to, source, port) = super::builder::ends(there.bytes(), v6);
                assert_eq!(port, BACKEND_PORT);
                let health_check = PacketBuilder::new(to, from, port, source ^ 1, protocol).flags(ACK);
                let (verdict, same) = send(&tables, &health_check);
                assert_eq!((verdict, same.bytes()), (Verdict::Pass, health_check.build().as_slice()));
                assert_eq!(tables.counters().services[1].reply_packets, 1);
            }
        }
    }
}

#[test]
fn a_flow_keeps_its_backend_until_that_no_longer_takes_it() {
    let tables = world(Forward::Dsr, 6, false, false);
    send(&tables, &request(false, 6, SYN));
    let counted = |tables: &HostTables| -> Vec<u64> {
        tables.counters().backends[17..20].iter().map(|backend| backend.packets).collect()
    };
    let first = counted(&tables).iter().position(|count| *count == 1).expect("one backend");
    send(&tables, &request(false, 6, ACK));
    assert_eq!(counted(&tables)[first], 2);
    // Down: not live, and out of the table.
    let state = &tables.backends[17 + first].state;
    state.store(state.load() & !(backend_state::KEEPS | backend_state::LIVE));
    let other = if first == 0 { 2_u64 } else { 1 };
    for word in &tables.maglev[8..11] {
        word.slots.store(other * 0x0001_0001_0001_0001);
    }
    let (verdict, _) = send(&tables, &request(false, 6, ACK));
    assert_eq!(verdict, Verdict::Transmit);
    assert_eq!(reasons(&tables), [(Reason::Reselected, 1)]);
    assert_eq!(counted(&tables)[first], 2);
}

#[test]
fn without_a_backend_the_client_is_told() {
    for v6 in [false, true] {
        for (protocol, reason) in [(6, Reason::ResetAnswered), (17, Reason::UnreachableAnswered)] {
            let tables = world(Forward::Dsr, protocol, v6, v6);
            tables.pools[1].table.store(0);
            let (verdict, frame) = send(&tables, &request(v6, protocol, SYN));
            assert_eq!(verdict, Verdict::Transmit);
            assert_eq!(reasons(&tables), [(reason, 1)]);
            assert!(checksums_are_right(frame.bytes()), "{v6} {protocol} {:02x?}", frame.bytes());
        }
    }
}

#[test]
fn a_packet_too_large_is_answered() {
    for v6 in [false, true] {
        let mut tables = world(Forward::Ipip, 6, v6, v6);
        tables.next_hops[1].mtu = 1400;
        let (verdict, frame) = send(&tables, &request(v6, 6, ACK).payload(1360));
        assert_eq!(verdict, Verdict::Transmit);
        assert_eq!(reasons(&tables), [(Reason::TooBigAnswered, 1)]);
        assert!(checksums_are_right(frame.bytes()));
    }
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let tables = world(Forward::FullNat, 6, false, false);
    let elsewhere = Address::v4(u32::from_ne_bytes([203, 0, 113, 11]));
    let packet = PacketBuilder::new(client(false), elsewhere, 1, PORT, 6).flags(SYN);
    let (verdict, frame) = send(&tables, &packet);
    assert_eq!((verdict, frame.bytes()), (Verdict::Pass, packet.build().as_slice()));
    let counters = tables.counters();
    assert_eq!(counters.interfaces[1].pass_packets, 1);
    assert_eq!(counters.services[1], lb_common::ServiceCounters::default());
}

#[test]
fn any_truncation_or_flipped_byte_yields_a_verdict() {
    for forward in MODES {
        for v6 in [false, true] {
            let tables = world(forward, 6, v6, v6);
            let whole = request(v6, 6, SYN | FIN).build();
            for len in 0..whole.len() {
                balance(&mut HostPacket::new(&whole[..len]), &tables);
            }
            for at in 0..whole.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= flip;
                    balance(&mut HostPacket::new(&bytes), &tables);
                }
            }
        }
    }
}

#[test]
fn a_flood_evicts_no_established_flow() {
    let tables = world(Forward::Dsr, 6, false, false);
    for port in 1..=100_u16 {
        for flags in [SYN, ACK] {
            send(&tables, &PacketBuilder::new(client(false), vip(false), port, PORT, 6).flags(flags));
        }
    }
    let values = |tables: &HostTables| -> Vec<u64> {
        let entries = tables.flows4.iter().flat_map(|bucket| &bucket.entries);
        let established = |value: &u64| (value >> 32) & 7 == 2;
        entries.map(|entry| Word::load(&entry.value)).filter(established).collect()
    };
    let before = values(&tables);
    assert_eq!(before.len(), 100);
    for port in 1000..20_000_u16 {
        send(&tables, &PacketBuilder::new(client(false), vip(false), port, PORT, 6).flags(SYN));
    }
    assert_eq!(values(&tables), before);
    assert!(tables.counters().flows[0].evicted > 0);
}
