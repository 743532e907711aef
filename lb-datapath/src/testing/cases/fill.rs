//! How a world lies in the tables.
//!
//! In: a [`World`], the interfaces. Out: tables filled as the daemon would fill them. Invariant: nothing of another world is left
//! but flows and counters.

use lb_common::{
    Address, Backend, DirectoryBucket, FLOWS_MOVE, FilterWord, MaglevWord, NextHop, Pool, RouteEntry,
    Service, Source, Word, backend_state, next_hop_kind, service_policy,
};

use super::{
    World,
    world::{
        BACKEND_MAC, BLOCK, FAR_MAC, Family, GATEWAY_MAC, GONE, Listener, MTU, Members, OTHER_MAC, OWN_MAC,
        Place, SLOTS, TABLE_WORDS, Way, counter, translates,
    },
};
use crate::{hash, maglev::TableWord, testing::HostTables, testing::world::list};

impl World {
    /// Fills the tables with this world and nothing else; flows and counters stay.
    pub fn fill(&self, tables: &mut HostTables, place: Place) {
        clear(tables);
        for (number, pool) in self.pools.iter().enumerate() {
            fill_pool(tables, number, pool);
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            self.fill_listener(tables, number, listener);
        }
        tables.sources[0] = Source { address: Family::V4.source().into() };
        tables.sources[1] = Source { address: Family::V6.source().into() };
        for (number, pool) in self.pools.iter().enumerate() {
            for (member, index) in pool.members.iter().zip(0..) {
                fill_way(tables, way_index(number, index), member.way, place);
            }
        }
        let until = crate::tables::Tables::now(tables).wrapping_add(crate::cold::MOVE_TICKS);
        tables.control.flows_move.store(if self.flows_move { FLOWS_MOVE | u64::from(until) } else { 0 });
        tables.ingress = place.ingress;
        tables.devices = vec![place.ingress, place.other];
        fill_routes(tables, place);
    }

    fn fill_listener(&self, tables: &mut HostTables, number: usize, listener: &Listener) {
        let (id, port) = (number + 1, listener.at.port());
        let vip = Address::from(listener.at.ip());
        let id32 = u32::try_from(id).expect("few services");
        list(tables, &vip, port, listener.protocol, id32);
        if self.listeners[..number].iter().all(|other| other.at.ip() != listener.at.ip()) {
            list(tables, &vip, 0, 0, id32);
        }
        let flags = if listener.loopback { service_policy::FLAG_LOOPBACK } else { 0 }
            | if listener.resets_lost { service_policy::FLAG_RESETS_LOST } else { 0 }
            | if listener.tunnel.is_some() { service_policy::FLAG_WRAP } else { 0 };
        let tunnel = listener.tunnel.map(Address::from).unwrap_or_default();
        tables.services[id] = Service {
            vip,
            salt: hash::salt(&tables.settings, &vip, port.to_be(), listener.protocol),
            policy: Word::new(
                (listener.pool as u64 + 1) << service_policy::POOL
                    | (listener.forward as u64) << service_policy::FORWARD
                    | (listener.affinity as u64) << service_policy::AFFINITY
                    | (listener.when_none as u64) << service_policy::WHEN_NONE
                    | flags << service_policy::FLAGS,
            ),
            port_be: port.to_be(),
            protocol: listener.protocol,
            family: if vip.is_v4() { 4 } else { 6 },
            tunnel,
            tunnel_source: u16::from(!tunnel.is_v4()),
            ..Service::default()
        };
        if translates(listener.forward) {
            for member in &self.pools[listener.pool].members {
                let port = if member.port == 0 { port } else { member.port };
                let address = Address::from(member.ip);
                let bits = hash::endpoint(&tables.settings, &address, port.to_be(), listener.protocol);
                let word = &tables.endpoint_filter[bits.word as usize].word;
                word.store(word.load() | bits.bits);
            }
        }
    }
}

fn clear(tables: &mut HostTables) {
    tables.directory.fill_with(DirectoryBucket::default);
    tables.services.fill_with(Service::default);
    tables.pools.fill_with(Pool::default);
    tables.maglev.fill_with(MaglevWord::default);
    tables.backends.fill_with(Backend::default);
    tables.next_hops.fill(NextHop::default());
    tables.sources.fill(Source::default());
    tables.endpoint_filter.fill_with(FilterWord::default);
    tables.routes.clear();
}

fn fill_pool(tables: &mut HostTables, number: usize, pool: &Members) {
    let base = (number + 1) * BLOCK;
    let arena = (number + 1) * TABLE_WORDS;
    let small = |number: usize| u32::try_from(number).expect("a small world");
    let slots = if pool.slots.is_empty() { 0 } else { small(SLOTS) };
    tables.pools[number + 1] = Pool {
        table: Word::new(TableWord { base: small(arena), slots, generation: 1 }.pack()),
        backends: Word::new(base as u64 | (pool.members.len() as u64 + 1) << 32),
        ..Pool::default()
    };
    for (slot, member) in pool.slots.iter().cycle().take(slots as usize).enumerate() {
        let local = member.map_or(0, |member| member as u64 + 1);
        let word = &tables.maglev[arena + slot / 4].slots;
        word.store(word.load() | local << (16 * (slot % 4)));
    }
    for (member, local) in pool.members.iter().zip(1..) {
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        let known = !matches!(member.way, Way::Unknown);
        let next_hop = if known { way_index(number, local - 1) as u64 } else { 0 };
        tables.backends[base + local] = Backend {
            address: member.ip.into(),
            state: Word::new(
                next_hop
                    | flag(member.live, backend_state::LIVE)
                    | flag(member.takes_new, backend_state::TAKES_NEW)
                    | flag(member.keeps, backend_state::KEEPS),
            ),
            counter: small(base + local),
            source: u16::from(member.ip.is_ipv6()),
            source_count: member.sources,
            pool: u16::try_from(number + 1).expect("few pools"),
            port_be: member.port.to_be(),
            family: if member.ip.is_ipv4() { 4 } else { 6 },
            ..Backend::default()
        };
    }
}

const fn way_index(pool: usize, member: usize) -> usize {
    counter(pool, member)
}

/// Two link addresses as they lie in a frame.
fn link(to: [u8; 6], from: [u8; 6]) -> [u32; 3] {
    let bytes = [to, from].concat();
    core::array::from_fn(|i| u32::from_ne_bytes(bytes[i * 4..i * 4 + 4].try_into().expect("twelve bytes")))
}

fn fill_way(tables: &mut HostTables, index: usize, way: Way, place: Place) {
    let back = |interface, mtu| NextHop {
        ethernet: link(BACKEND_MAC, OWN_MAC),
        interface,
        mtu,
        kind: next_hop_kind::NEIGHBOUR,
        ..NextHop::default()
    };
    tables.next_hops[index] = match way {
        Way::Back(mtu) => back(place.ingress, mtu),
        Way::Gone => back(GONE, MTU),
        Way::Other => NextHop { ethernet: link(FAR_MAC, OTHER_MAC), ..back(place.other, MTU) },
        Way::Local => NextHop { kind: next_hop_kind::LOCAL, mtu: u16::MAX, ..NextHop::default() },
        Way::Unknown => NextHop::default(),
    };
}

/// What the kernel knows: the way to clients, not to backends.
fn fill_routes(tables: &mut HostTables, place: Place) {
    let route = |ethernet, interface| RouteEntry { ethernet, interface, mtu: MTU, ..RouteEntry::default() };
    for family in Family::BOTH {
        let near = route(link(GATEWAY_MAC, OWN_MAC), place.ingress);
        let far = route(link(FAR_MAC, OTHER_MAC), place.other);
        tables.routes.push((family.client().into(), near));
        tables.routes.push((family.far_client().into(), far));
    }
}
