//! The way out of this host for an address, by the kernel's routes and neighbours.
//!
//! In: source and destination. Out: link addresses, interface and MTU. A per-CPU cache stands before `bpf_fib_lookup` (some 200 ns);
//! an entry is good for two ticks and until the daemon counts up the route generation.

use lb_common::{Address, NextHop, Reason, RouteEntry, next_hop_kind};

use crate::{
    forward::{Stop, Way},
    hash,
    tables::Tables,
};

/// Ticks for which a cached route is used without asking again.
const FRESH_TICKS: u16 = 2;

/// The way from `source` to `destination`. With [`Way::Resolved`] only the cache is asked.
#[inline(always)]
pub fn way_to<T: Tables>(
    tables: &T,
    source: &Address,
    destination: &Address,
    ways: Way,
) -> Result<NextHop, Stop> {
    let slot = hash::route(tables.constants(), destination);
    let now = tables.now();
    let generation = tables.route_generation();
    // An entry without an interface is empty: to `::`, as it happens.
    if let Some(route) = tables.cached_route(slot, destination)
        && route.interface != 0
        && route.generation == generation
        && now.wrapping_sub(route.tick) <= FRESH_TICKS
    {
        return Ok(as_next_hop(&route));
    }
    if ways == Way::Resolved {
        return Err(Stop::Unresolved);
    }
    // One without an interface is left where nothing is known: the daemon finds it there, and has the kernel look for the neighbour, which it
    // does not do for a program.
    let mut route = tables.look_up_route(source, destination).unwrap_or_default();
    route.address = *destination;
    route.tick = now;
    route.generation = generation;
    if !T::OBSERVE {
        tables.cache_route(slot, &route);
    }
    if route.interface == 0 {
        return Err(Reason::NextHopUnknown.into());
    }
    Ok(as_next_hop(&route))
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
