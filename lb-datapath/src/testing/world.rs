//! A small world to send packets through: one service on one vip, three backends, a next hop.

use lb_common::{
    Address, Backend, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_IPIP, FEATURE_NAT, FEATURE_V4, FEATURE_V6,
    Forward, MaglevWord, NextHop, Pool, RouteEntry, Service, Settings, Source, Word, backend_state,
    next_hop_kind, service_policy,
};

use super::HostTables;
use crate::{hash, maglev::TableWord};

/// Port of the listener.
pub const PORT: u16 = 80;
/// Port of the backends where the mode rewrites ports.
pub const BACKEND_PORT: u16 = 8080;

/// Settings with every mode and family in use and small tables.
pub fn settings() -> Settings {
    Settings {
        features: FEATURE_NAT | FEATURE_FULL_NAT | FEATURE_DSR | FEATURE_IPIP | FEATURE_V4 | FEATURE_V6,
        seed: [0x0123_4567_89ab_cdef, 0x1122_3344_5566_7788, 0xdead_beef_0bad_cafe, 0x5151_5252_5353_5454],
        flow4_buckets: 64,
        flow6_buckets: 64,
        reply4_buckets: 32,
        reply6_buckets: 32,
        directory_buckets: 8,
        tick_shift: 10,
        tcp_syn_ticks: 10,
        tcp_ticks: 3600,
        tcp_closing_ticks: 30,
        udp_ticks: 60,
        snat_port_base: 61_000,
        snat_port_count: 4_000,
        interface_slots: 256,
        ..Settings::default()
    }
}

/// The vip of a family.
pub fn vip(v6: bool) -> Address {
    if v6 {
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10])
    } else {
        Address::v4(u32::from_ne_bytes([203, 0, 113, 10]))
    }
}

/// The client of a family.
pub fn client(v6: bool) -> Address {
    if v6 {
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    } else {
        Address::v4(u32::from_ne_bytes([198, 51, 100, 7]))
    }
}

fn backend_address(v6: bool, number: u8) -> Address {
    if v6 {
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
    } else {
        Address::v4(u32::from_ne_bytes([192, 0, 2, number]))
    }
}

/// Adds a word to the service directory.
pub fn list(tables: &mut HostTables, vip: &Address, port: u16, protocol: u8, service: u32) {
    let position = hash::directory(&tables.settings, vip, port.to_be(), protocol);
    let bucket = &tables.directory[position.bucket as usize];
    let free = bucket.words.iter().find(|word| word.load() == 0).expect("room in the directory");
    free.store(u64::from(position.tag) << 32 | u64::from(service + 1));
}

/// Service 1 with pool 1 and three backends (local indices 1–3), forwarded by next hop 1 out of interface 1.
pub fn world(forward: Forward, protocol: u8, v6: bool, backends_v6: bool) -> HostTables {
    let mut tables = HostTables::new(settings(), 64);
    let address = vip(v6);
    list(&mut tables, &address, PORT, protocol, 1);
    list(&mut tables, &address, 0, 0, 1);
    tables.services[1] = Service {
        vip: address,
        salt: hash::salt(&tables.settings, &address, PORT.to_be(), protocol),
        policy: Word::new(1 | (forward as u64) << service_policy::FORWARD),
        port_be: PORT.to_be(),
        protocol,
        family: if v6 { 6 } else { 4 },
        ..Service::default()
    };
    tables.pools[1] = Pool {
        table: Word::new(TableWord { base: 8, slots: 12, generation: 1 }.pack()),
        backends: Word::new(16 | 4 << 32),
        ..Pool::default()
    };
    for word in &mut tables.maglev[8..11] {
        *word = MaglevWord { slots: Word::new(0x0001_0003_0002_0001) };
    }
    let translates = matches!(forward, Forward::Nat | Forward::FullNat);
    for number in 1..4_u8 {
        let address = backend_address(backends_v6, number);
        let flags = backend_state::LIVE | backend_state::TAKES_NEW | backend_state::KEEPS;
        tables.backends[16 + usize::from(number)] = Backend {
            address,
            state: Word::new(1 | flags),
            counter: 16 + u32::from(number),
            source: 0,
            source_count: 1,
            pool: 1,
            port_be: if translates { BACKEND_PORT.to_be() } else { 0 },
            family: if backends_v6 { 6 } else { 4 },
            ..Backend::default()
        };
        let bits = hash::endpoint(&tables.settings, &address, BACKEND_PORT.to_be(), protocol);
        let word = &tables.endpoint_filter[bits.word as usize].word;
        word.store(word.load() | bits.bits);
    }
    tables.next_hops[1] = NextHop {
        ethernet: [0x0403_0201, 0x0807_0605, 0x0c0b_0a09],
        interface: 1,
        mtu: 1500,
        kind: next_hop_kind::NEIGHBOUR,
        ..NextHop::default()
    };
    tables.sources[0] = Source { address: backend_address(backends_v6, 100) };
    let route = RouteEntry { ethernet: [1, 2, 3], interface: 1, mtu: 1500, ..RouteEntry::default() };
    tables.routes.push((client(v6), route));
    tables
}
