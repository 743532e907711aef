//! The reader that judges histories is a model; here the packet path itself goes over what is planned.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_datapath::testing::HostPacket;

use super::super::model::SETTINGS;
use super::super::reader;
use super::eventful;
use crate::desired::ListenerKey;
use crate::spec::Protocol;

/// A client's first packet to a listener: Ethernet, IPv4, and as much of TCP or UDP as is looked at.
fn frame(listener: &ListenerKey, client: u32) -> Vec<u8> {
    let IpAddr::V4(vip) = listener.addr else { panic!("{listener} is not IPv4") };
    let protocol = crate::desired::protocol_number(listener.protocol);
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 9, 8, 0];
    bytes.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    bytes.extend(client.to_be_bytes());
    bytes.extend(vip.octets());
    // The port as the reader's hash takes it: loaded natively.
    bytes.extend(1000_u16.to_ne_bytes());
    bytes.extend(listener.port.unwrap_or(9).to_be_bytes());
    match listener.protocol {
        Protocol::Tcp => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        Protocol::Udp => bytes.extend([0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    }
    bytes
}

#[test]
fn the_packet_path_meets_the_same_backends_after_any_change() {
    let mut history = eventful();
    let listeners: Vec<ListenerKey> = history
        .old
        .services
        .keys()
        .filter(|key| history.new.services.contains_key(key) && key.port.is_some())
        .copied()
        .collect();
    assert!(listeners.len() >= 2, "{listeners:?}");
    let changes = history.world.plan(&history.new).unwrap().changes;
    let mut met = BTreeSet::new();
    for change in &changes {
        history.step(change);
        let store = &history.world.store;
        let tables = store.host_tables::<true>(SETTINGS);
        for (client, listener) in
            (0..8).flat_map(|n| listeners.iter().map(move |listener| (0xc0a8_0001 + n, listener)))
        {
            let (id, service) = reader::classify(store, listener).unwrap();
            let [table, block] = reader::pool_words(store, &service);
            let local = reader::pick(store, &service, table, client).unwrap();
            lb_datapath::pipeline::balance(&mut HostPacket::new(&frame(listener, client)), &tables);
            let found = tables.explanation();
            assert_eq!(
                (found.service, found.pool, found.backend),
                (id, service.pool(), local),
                "{listener}: {found:?}"
            );
            met.insert(reader::resident(store, &service, block, local).unwrap().key());
        }
    }
    assert!(met.len() >= 4, "{met:?}");
}
