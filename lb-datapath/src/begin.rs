//! A flow that begins, or moves.
//!
//! In: a wish (select.rs). Out: the backend that the pool's Maglev table has for it, and an entry in the flow table. Invariant: nothing is
//! written before the backend, and for nat and full-nat the 4-tuple towards it, is certain.

use lb_common::{
    Address, Affinity, FEATURE_FULL_NAT, FEATURE_LOOPBACK, FEATURE_NAT, Forward, Pool, Reason, selected_by,
};

use crate::{
    classify::Policy,
    cold,
    constants::has,
    flow_table::{self, Entry, Kind, Place, Slot, State, Value},
    hash,
    maglev::{maglev_hash, pick},
    nat, reply_index,
    select::{Begun, NO_ENTRY, Wish, explain_choice},
    tables::{FlowEvent, Tables, note},
};

/// Whether replies of flows under this policy come back through here.
#[inline(always)]
fn is_translated<T: Tables>(tables: &T, policy: Policy) -> bool {
    let constants = tables.constants();
    (has(constants, FEATURE_NAT) && policy.is(Forward::Nat))
        || (has(constants, FEATURE_FULL_NAT) && policy.is(Forward::FullNat))
}

/// Whether a host may send from an address: not 0.0.0.0/8 (RFC 1122 §3.2.1.3), multicast, 255.255.255.255 or ::, and loopback
/// only `on_loopback`. As Linux judges a martian source (`ip_route_input_slow` in net/ipv4/route.c, `ip6_rcv_core` in
/// net/ipv6/ip6_input.c).
#[inline(always)]
const fn may_send(address: &Address, on_loopback: bool) -> bool {
    let [a, b, c, d] = address.words;
    if address.is_v4() {
        return match d.to_ne_bytes()[0] {
            0 | 224..=239 => false,
            127 => on_loopback,
            _ => d != u32::MAX,
        };
    }
    let is_loopback = d == 1u32.to_be();
    if a == 0 && b == 0 && c == 0 && (d == 0 || is_loopback) {
        return is_loopback && on_loopback;
    }
    a.to_ne_bytes()[0] != 0xff
}

/// Selects the backend of a flow that is not known or may not stay. Changes nothing yet. This and what follows it is out of line: the path
/// of known flows shall not carry its weight.
#[inline(always)]
pub fn begin<K: Kind, T: Tables>(tables: &T, wish: &Wish) -> Result<Begun, Reason> {
    let policy = wish.policy;
    // Judged here and not on every packet: what may not begin has no flow.
    let on_loopback = has(tables.constants(), FEATURE_LOOPBACK) && policy.is_loopback();
    if !may_send(&wish.flow.client, on_loopback) {
        return Err(Reason::BadSource);
    }
    if wish.moves && policy.resets_lost() && wish.state.is_tcp() {
        lose::<K, T>(tables, wish);
        return Err(Reason::FlowLost);
    }
    if wish.number == NO_ENTRY && !wish.opens && cold::flows_are_moving(tables, wish.now) {
        return Err(Reason::FlowsMoving);
    }
    let pool = tables.pool(policy.pool()).ok_or(Reason::BackendMissing)?;
    let block = pool.backends.load();
    if policy.affinity() == Affinity::None as u64 {
        return alone(tables, policy, pool);
    }
    let place = if wish.number == NO_ENTRY {
        cold::placed::<K, T>(tables, wish.hash, wish.now)
    } else {
        Place::reused(wish.number)
    };
    let mut begun = Begun { is_new: !wish.moves, place, ending: NO_ENTRY, ..Begun::default() };
    if is_translated(tables, policy) {
        if !place.is_some() {
            count_full::<K, T>(tables);
            return Err(Reason::FlowTableFull);
        }
        nat::claim::<K, T>(tables, wish, &mut begun)?;
    } else {
        begun.local = pick(tables, policy, pool, maglev_hash(tables, wish), 0)?.local;
    }
    begun.backend = global(block, begun.local);
    let by = if begun.is_new { selected_by::MAGLEV } else { selected_by::RESELECTED };
    explain_choice(tables, begun.local, by);
    Ok(begun)
}

/// Ends a flow whose client is told that it is lost. Its entry stays for as long as any that is ending: what the client sends before
/// it has heard is answered alike.
#[inline(always)]
fn lose<K: Kind, T: Tables>(tables: &T, wish: &Wish) {
    if T::OBSERVE {
        return;
    }
    if let Some(entry) = flow_table::entry::<K, T>(tables, wish.number) {
        let value = Value(entry.value().load());
        if value.is_of(wish.hash) && !matches!(value.state(), State::TcpEnding) {
            let slot = Slot::<K> { entry, number: wish.number };
            flow_table::refresh(slot, value, wish.now, State::TcpEnding);
        }
    }
}

/// A datagram on its own (affinity "none"). Translation needs a flow to find the way back by.
#[inline(always)]
fn alone<T: Tables>(tables: &T, policy: Policy, pool: &Pool) -> Result<Begun, Reason> {
    if is_translated(tables, policy) {
        return Err(Reason::NotAFlow);
    }
    let local = pick(tables, policy, pool, (tables.random() as u64) << 32, 0)?.local;
    explain_choice(tables, local, selected_by::MAGLEV);
    let backend = global(pool.backends.load(), local);
    Ok(Begun { backend, local, ending: NO_ENTRY, ..Begun::default() })
}

/// Enters a flow that has a backend now, and counts it. False: nat's reply index has no free word for it ([`nat::make_room`]),
/// and nothing was changed.
#[inline(always)]
pub fn enter<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &Begun) -> bool {
    if wish.policy.affinity() == Affinity::None as u64 {
        return true;
    }
    if !begun.place.is_some() {
        count_full::<K, T>(tables);
        note(tables, wish.flow.service, Reason::NotStored);
        return true;
    }
    let room = if begun.reply_hash == 0 { None } else { nat::room::<K, T>(tables, begun) };
    if begun.reply_hash != 0 && room.is_none() {
        return false;
    }
    if !T::OBSERVE {
        let value = Value::new(wish.hash, begun.local, wish.now, wish.state, begun.attempt);
        flow_table::write::<K, T>(tables, begun.place.number, K::pack(&wish.flow), value);
        if let Some(word) = room {
            word.store(reply_index::word(begun.reply_hash, begun.place.number));
        }
        count_entry::<K, T>(tables, wish.flow.service, begun.is_new, begun.place.evicts());
    } else if !begun.is_new {
        note(tables, wish.flow.service, Reason::Reselected);
    }
    true
}

/// Index in the whole table of a backend by its index local to the pool.
#[inline(always)]
fn global(block: u64, local: u16) -> u32 {
    hash::low(block).wrapping_add(local as u32)
}

#[inline(always)]
fn count_full<K: Kind, T: Tables>(tables: &T) {
    if !T::OBSERVE {
        tables.count_flow(K::INDEX, FlowEvent::NotStored);
    }
}

#[inline(always)]
fn count_entry<K: Kind, T: Tables>(tables: &T, service_id: u16, is_new: bool, evicts: bool) {
    if is_new {
        tables.count_flow(K::INDEX, FlowEvent::Inserted);
    } else {
        tables.count_flow(K::INDEX, FlowEvent::Reselected);
        note(tables, service_id, Reason::Reselected);
    }
    if evicts {
        tables.count_flow(K::INDEX, FlowEvent::Evicted);
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use lb_common::Address;

    fn may_send(address: &str, on_loopback: bool) -> bool {
        super::may_send(&Address::from(address.parse::<IpAddr>().unwrap()), on_loopback)
    }

    #[test]
    fn hosts_may_send() {
        for address in [
            "1.0.0.1",
            "10.0.0.255",
            "126.9.9.9",
            "128.0.0.1",
            "223.255.255.255",
            "240.0.0.1",
            "255.255.255.254",
        ] {
            assert!(may_send(address, false), "{address}");
        }
        for address in ["2001:db8::1", "fe80::1", "fc00::1", "::2", "::1:0", "1::", "0:1::1", "feff::"] {
            assert!(may_send(address, false), "{address}");
        }
    }

    #[test]
    fn what_is_no_hosts_may_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "ff02::1",
            "ff00::",
        ] {
            assert!(!may_send(address, false) && !may_send(address, true), "{address}");
        }
    }

    #[test]
    fn loopback_sends_on_lo_only() {
        for address in ["127.0.0.1", "127.255.255.255", "::1"] {
            assert!(!may_send(address, false) && may_send(address, true), "{address}");
        }
    }
}
