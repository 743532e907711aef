//! The desired state of the maps, made of pools and services.
//!
//! In: settled pools, services, ways. Out: [`Desired`], changed in place where pools and services were touched. Invariant:
//! a function of members, weights and verdicts alone; the order in which they came leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::pool::{Pool, variant_of};
use super::ramp;
use super::ways::{Ways, sources};
use crate::desired::{Desired, DesiredBackend, DesiredPool, DesiredService, PoolKey, Variant};
use crate::reach::on_loopback;
use crate::sorted;
use crate::spec::{BackendAddress, DatapathSpec, Name, OnLoss, ServiceSpec, maglev_size};

const VARIANTS: [Variant; 3] = [Variant::V4, Variant::V6, Variant::Any];

/// Replaces everything that this pool contributes; `None`: it is gone.
pub(super) fn put_pool(
    desired: &mut Desired,
    name: &Name,
    pool: Option<&Pool>,
    ways: &Ways,
    datapath: &DatapathSpec,
) {
    let wanted = pool.map(Pool::variants).unwrap_or_default();
    for variant in VARIANTS {
        let key = PoolKey { name: name.as_str().to_owned(), variant };
        match pool.filter(|_| wanted.contains(&variant)) {
            Some(pool) => {
                put_table(desired, key, table(pool, variant, ways, datapath));
            }
            None => {
                desired.pools.remove(&key);
            }
        }
    }
    put_ways(desired, &pool.into_iter().flat_map(Pool::addresses).collect(), ways);
}

/// True: it is another than before, which otherwise stays the very same value.
pub(super) fn put_table(desired: &mut Desired, key: PoolKey, table: DesiredPool) -> bool {
    let is_other = desired.pools.get(&key).is_none_or(|before| **before != table);
    if is_other {
        desired.pools.insert(key, Arc::new(table));
    }
    is_other
}

/// The desired tables of this pool are others than those that its members now ask for.
pub(super) fn differs(desired: &Desired, pool: &Pool, ways: &Ways, datapath: &DatapathSpec) -> bool {
    pool.variants().into_iter().any(|variant| {
        let key = PoolKey { name: pool.name.as_str().to_owned(), variant };
        desired.pools.get(&key).is_none_or(|before| **before != table(pool, variant, ways, datapath))
    })
}

/// The way to one of these addresses is another than the maps should have by now.
pub(super) fn ways_differ(desired: &Desired, addresses: &BTreeSet<IpAddr>, ways: &Ways) -> bool {
    addresses.iter().any(|ip| desired.next_hops.get(ip).copied() != ways.next_hop(*ip))
}

/// Takes the ways to these addresses as they are now.
pub(super) fn put_ways(desired: &mut Desired, addresses: &BTreeSet<IpAddr>, ways: &Ways) {
    if !ways_differ(desired, addresses, ways) {
        return;
    }
    let next_hops = Arc::make_mut(&mut desired.next_hops);
    let known = addresses.iter().filter_map(|ip| Some((*ip, ways.next_hop(*ip)?)));
    sorted::extend(next_hops, known.collect());
    for ip in addresses.iter().filter(|ip| ways.next_hop(**ip).is_none()) {
        next_hops.remove(ip);
    }
}

fn table(pool: &Pool, variant: Variant, ways: &Ways, datapath: &DatapathSpec) -> DesiredPool {
    let sourced = pool.needs_source(variant);
    let sources = |ip| if sourced { sources(variant, ip, ways, datapath) } else { Vec::new() };
    let of_variant = |address: &BackendAddress| variant.includes(address.ip);
    let mode = pool.modes.get(&variant).copied().unwrap_or_default();
    let scale = scale_of(pool, variant);
    let members = pool.members.iter().filter(|(address, _)| of_variant(address)).map(|(address, member)| {
        // Whoever fell back to it needs all of it.
        let is_spread = Pool::is_spread(&mode, member);
        let tenths = if is_spread { ramp::WHOLE } else { member.tenths };
        let backend = DesiredBackend {
            weight: ramp::part(member.weight(), tenths, scale),
            takes_new: Pool::takes_new_in(&mode, member),
            keeps: member.verdict.keeps || is_spread,
            sources: sources(address.ip),
            way: None,
        };
        (*address, backend)
    });
    let stand_ins =
        pool.stand_ins.iter().filter(|(address, _)| of_variant(address)).map(|(address, stand_in)| {
            let backend = DesiredBackend {
                weight: ramp::part(stand_in.weight, stand_in.tenths, scale),
                takes_new: mode.on_backup && stand_in.is_usable,
                keeps: stand_in.keeps,
                sources: sources(address.ip),
                way: None,
            };
            (*address, backend)
        });
    let members: BTreeMap<_, _> = members.collect();
    let own = members.len();
    let backends: BTreeMap<_, _> = members.into_iter().chain(stand_ins).collect();
    // One of both sets has the flows, never both.
    let largest = own.max(backends.len() - own);
    DesiredPool { table_len: pool.maglev.unwrap_or_else(|| maglev_size(largest)), backends }
}

/// By how much the weights of a table are multiplied: by nothing unless one of them is still growing.
fn scale_of(pool: &Pool, variant: Variant) -> u32 {
    let members = pool.members.iter().map(|(address, member)| (address, member.weight(), member.tenths));
    let stand_ins = pool.stand_ins.iter().map(|(address, other)| (address, other.weight, other.tenths));
    let all =
        || members.clone().chain(stand_ins.clone()).filter(|(address, ..)| variant.includes(address.ip));
    match all().any(|(_, _, tenths)| tenths < ramp::WHOLE) {
        true => ramp::scale(all().map(|(_, weight, _)| weight).max().unwrap_or_default()),
        false => 1,
    }
}

/// Adds the listeners of this service.
pub(super) fn put_service(desired: &mut Desired, service: &ServiceSpec, datapath: &DatapathSpec) {
    for listener in &service.listen {
        let name = service.pool.as_str().to_owned();
        let wanted = DesiredService {
            name: service.name.as_str().to_owned(),
            forward: service.forward,
            affinity: service.affinity,
            when_none: service.when_none,
            loopback: on_loopback(service, &datapath.interfaces),
            resets_lost: service.on_loss == OnLoss::Reset,
            pool: PoolKey { name, variant: variant_of(service, listener.addr) },
            tunnel: None,
        };
        desired.services.insert(*listener, wanted);
    }
}

/// Removes the listeners of this service.
pub(super) fn remove_service(desired: &mut Desired, service: &ServiceSpec) {
    for listener in &service.listen {
        let own = |wanted: &DesiredService| wanted.name == service.name.as_str();
        if desired.services.get(listener).is_some_and(own) {
            desired.services.remove(listener);
        }
    }
}
