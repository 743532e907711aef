//! nat and full-nat: who holds which 4-tuple towards a backend.
//!
//! In: what a reply carries. Out: the flow it belongs to. (How a flow comes by its 4-tuple: nat/claim.rs.) Invariant: what a reply is translated to comes from the flow entry alone, and only if client,
//! service, backend, port and destination all agree with the reply; a word of the reply index is a hint.

use lb_common::{Address, Backend, FEATURE_FULL_NAT, FEATURE_NAT, Forward, Service};

use crate::{
    classify::{Policy, same},
    cold::{self, Occupant},
    constants::{Constants, has},
    flow_table::{self, Entry, FlowKey, Kind, Slot, Value},
    hash,
    reply_index::{self, ReplyKey},
    select::resident,
    tables::Tables,
};

mod claim;

pub use self::claim::{Offer, claim, make_room, offer, room};

/// Step between attempts: an odd constant near 2^32 / golden ratio spreads them over the ports and sources.
const ATTEMPT_STEP: u32 = 0x9e37_79b1;

/// The address and port a backend sees as the client of a full-nat flow. `None`: no source of the backend's family.
#[inline(always)]
pub fn full_nat_source<T: Tables>(
    tables: &T,
    backend: &Backend,
    hash: u64,
    attempt: u8,
) -> Option<(Address, u16)> {
    let (source, port_be) = source_and_port_be(tables.constants(), backend, hash, attempt)?;
    Some((tables.source(source)?.address, port_be))
}

/// The same before the source is looked up: its index in the table of sources.
#[inline(always)]
pub fn source_and_port_be(
    constants: impl Constants,
    backend: &Backend,
    hash: u64,
    attempt: u8,
) -> Option<(u32, u16)> {
    if backend.source_count == 0 {
        return None;
    }
    let step = (attempt as u32).wrapping_mul(ATTEMPT_STEP);
    let port = hash::scale(hash::low(hash).wrapping_add(step), constants.snat_port_count() as u32);
    let index = hash::scale(hash::low(hash >> 16).wrapping_add(step), backend.source_count as u32);
    #[expect(clippy::cast_possible_truncation, reason = "below snat_port_count, which is 16 bits")]
    let port_be = constants.snat_port_base().wrapping_add(port as u16).to_be();
    Some(((backend.source as u32).wrapping_add(index), port_be))
}

/// The port at which a backend serves a flow, network bytes.
#[inline(always)]
pub fn endpoint_port_be(backend: &Backend, service: &Service, flow_service_port_be: u16) -> u16 {
    if backend.port_be != 0 {
        backend.port_be
    } else if service.port_be != 0 {
        service.port_be
    } else {
        flow_service_port_be
    }
}

/// What replies of a flow carry if it goes to this backend with this attempt.
#[inline(always)]
fn reply_key<T: Tables>(
    tables: &T,
    (service, policy): (&Service, Policy),
    flow: &FlowKey,
    backend: &Backend,
    (hash, attempt): (u64, u8),
) -> Option<ReplyKey> {
    let constants = tables.constants();
    let is_full_nat =
        has(constants, FEATURE_FULL_NAT) && (!has(constants, FEATURE_NAT) || policy.is(Forward::FullNat));
    let (destination, destination_port_be) = if is_full_nat {
        full_nat_source(tables, backend, hash, attempt)?
    } else {
        (flow.client, flow.client_port_be)
    };
    Some(ReplyKey {
        backend: backend.address,
        destination,
        backend_port_be: endpoint_port_be(backend, service, flow.service_port_be),
        destination_port_be,
        protocol: service.protocol,
    })
}

/// The flow that a reply belongs to.
pub struct Holder<'t, K: Kind> {
    /// Its entry.
    pub slot: Slot<'t, K>,
    /// The entry's value as it was read.
    pub value: Value,
    /// Its key.
    pub flow: FlowKey,
    /// Its service.
    pub service: &'t Service,
    /// The service's policy as it was read.
    pub policy: Policy,
    /// Its backend.
    pub backend: &'t Backend,
}

/// The live flow in entry `number` of the flow table, with what its replies carry.
#[inline(always)]
pub(crate) fn flow_in<'t, K: Kind, T: Tables>(
    tables: &'t T,
    number: u32,
    now: u16,
) -> Option<(Holder<'t, K>, ReplyKey)> {
    let constants = tables.constants();
    let entry = flow_table::entry::<K, T>(tables, number)?;
    let value = Value(entry.value().load());
    if !value.is_live(constants, now) {
        return None;
    }
    let flow = K::unpack(entry.key());
    let service = tables.service(flow.service as u32)?;
    let hash = K::hash(constants, &flow, service.salt);
    if !value.is_of(hash) {
        return None;
    }
    let policy = Policy(service.policy.load());
    if !policy.is(Forward::Nat) && !policy.is(Forward::FullNat) {
        return None;
    }
    let block = tables.pool(policy.pool())?.backends.load();
    let backend = resident(tables, policy.pool(), block, value.backend())?;
    let key = reply_key(tables, (service, policy), &flow, backend, (hash, value.attempt()))?;
    Some((Holder { slot: Slot { entry, number }, value, flow, service, policy, backend }, key))
}

#[inline(always)]
fn same_key(a: &ReplyKey, b: &ReplyKey) -> bool {
    same(&a.backend, &b.backend)
        && same(&a.destination, &b.destination)
        && a.backend_port_be == b.backend_port_be
        && a.destination_port_be == b.destination_port_be
        && a.protocol == b.protocol
}

/// The live flow whose replies carry `key`.
#[inline(always)]
pub fn holder<'t, K: Kind, T: Tables>(
    tables: &'t T,
    key: &ReplyKey,
    hash: u64,
    now: u16,
) -> Option<Holder<'t, K>> {
    let is_it = |number: u32| Occupant::of::<K, T>(tables, number, now).replies_as(hash);
    let at_home = cold::hinted::<K, T>(tables, hash, true);
    let number = match at_home {
        Some(number) if is_it(number) => number,
        _ => cold::hinted::<K, T>(tables, hash, false)?,
    };
    holder_in::<K, T>(tables, key, number, now)
}

/// [`holder`], as far as the home bucket of the reply index tells: nearly always.
#[inline(always)]
pub fn holder_at_home<'t, K: Kind, T: Tables>(
    tables: &'t T,
    key: &ReplyKey,
    hash: u64,
    now: u16,
) -> Option<Holder<'t, K>> {
    holder_in::<K, T>(tables, key, reply_index::hint::<K, T>(tables, hash, true)?, now)
}

#[inline(always)]
fn holder_in<'t, K: Kind, T: Tables>(
    tables: &'t T,
    key: &ReplyKey,
    number: u32,
    now: u16,
) -> Option<Holder<'t, K>> {
    let (holder, held) = flow_in::<K, T>(tables, number, now)?;
    same_key(&held, key).then_some(holder)
}

/// Whether a packet from this endpoint may be a reply at all: one word of the endpoint filter. `source`: its address word.
#[inline(always)]
pub fn may_be_reply<T: Tables>(tables: &T, source: u64, port_be: u16, protocol: u8) -> bool {
    let position = hash::endpoint_of(tables.constants(), source, port_be, protocol);
    match tables.endpoint_filter(position.word) {
        Some(word) => word & position.bits == position.bits,
        None => false,
    }
}
