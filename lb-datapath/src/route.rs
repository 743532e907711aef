//! The way out of this host for an address, by the kernel's routes and neighbours.
//!
//! In: source and destination. Out: link addresses, interface and MTU. A per-CPU cache stands before `bpf_fib_lookup` (some 200 ns);
//! an entry is good for two ticks and until the daemon counts up the route generation.

use lb_common::{Address, NextHop, RouteEntry, next_hop_kind};

use crate::{hash, tables::Tables};

/// Ticks for which a cached route is used without asking again.
const FRESH_TICKS: u16 = 2;

/// The way from `source` to `destination`; `None` if there is no route or the neighbour is not resolved.
#[inline(always)]
pub fn way_to<T: Tables>(tables: &T, source: &Address, destination: &Address) -> Option<NextHop> {
    let slot = hash::low(hash::client(tables.constants(), destination));
    let now = tables.now();
    let generation = tables.route_generation();
    if let Some(route) = tables.cached_route(slot, destination)
        && route.generation == generation
        && now.wrapping_sub(route.tick) <= FRESH_TICKS
    {
        return Some(as_next_hop(&route));
    }
    let mut route = tables.look_up_route(source, destination)?;
    route.address = *destination;
    route.tick = now;
    route.generation = generation;
    if !T::OBSERVE {
        tables.cache_route(slot, &route);
    }
    Some(as_next_hop(&route))
}

#[inline(always)]
fn as_next_hop(route: &RouteEntry) -> NextHop {
    NextHop {
        ethernet: route.ethernet,
        interface: route.interface,
        mtu: route.mtu,
        kind: next_hop_kind::NEIGHBOUR,
        reserved: [0; 13],
    }
}
