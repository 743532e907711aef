//! nat and full-nat: who holds which 4-tuple towards a backend.
//!
//! In: a flow that begins, or what a reply carries. Out: a claim (backend and source-port attempt that no other live flow has), or
//! the flow a reply belongs to. Invariant: what a reply is translated to comes from the flow entry alone, and only if client,
//! service, backend, port and destination all agree with the reply; a word of the reply index is a hint.

use lb_common::{Address, Backend, FEATURE_FULL_NAT, FEATURE_NAT, Forward, Reason, Service, Word};

use crate::{
    classify::{Policy, same},
    cold::{self, Occupant},
    constants::{Constants, has},
    flow_table::{self, Entry, FlowKey, Kind, Slot, Value},
    hash,
    reply_index::{self, ReplyKey},
    select::{Begun, NO_ENTRY, Pick, Wish, maglev_hash, pick, resident},
    tables::{FlowEvent, Tables},
};

/// No attempt's number.
const NO_STEP: u32 = u32::MAX;
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
    let constants = tables.constants();
    let step = (attempt as u32).wrapping_mul(ATTEMPT_STEP);
    let position = hash::low(hash).wrapping_add(step);
    let port = hash::scale(position, constants.snat_port_count() as u32);
    let index = hash::scale(hash::low(hash >> 16).wrapping_add(step), backend.source_count as u32);
    if backend.source_count == 0 {
        return None;
    }
    let source = tables.source((backend.source as u32).wrapping_add(index))?;
    #[expect(clippy::cast_possible_truncation, reason = "below snat_port_count, which is 16 bits")]
    let port_be = constants.snat_port_base().wrapping_add(port as u16).to_be();
    Some((source.address, port_be))
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

/// Takes a 4-tuple towards a backend that no other live flow has: full-nat tries 32 source ports (the attempt has five bits), nat
/// 8 Maglev slots. Failing that one whose flow is ending, which then has to end. Leaves backend, attempt and the hash of the replies in `begun`.
#[inline(always)]
pub fn claim<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &mut Begun) -> Result<(), Reason> {
    let is_full_nat = wish.policy.is(Forward::FullNat);
    let mut found = Free { step: NO_STEP, ending: NO_ENTRY };
    let mut is_done = try_eight::<K, T>(tables, wish, 0, &mut found)?;
    if is_full_nat {
        for first in [8, 16, 24] {
            is_done = is_done || try_eight::<K, T>(tables, wish, first, &mut found)?;
        }
    }
    let Free { step, ending } = found;
    if step == NO_STEP {
        return Err(if is_full_nat { Reason::SnatExhausted } else { Reason::NatCollision });
    }
    let (local, attempt, key) = proposal(tables, wish, step)?;
    begun.local = local;
    begun.attempt = attempt;
    begun.ending = ending;
    begun.reply_hash = key.hash(tables.constants());
    Ok(())
}

/// The first attempt that a new flow may have. VERIFIER: "invalid read from stack": numbers, because the compiler carries along what an empty
/// option leaves unset.
struct Free {
    /// Its number, or [`NO_STEP`].
    step: u32,
    /// The number of the entry whose flow has to end for it, or [`NO_ENTRY`].
    ending: u32,
}

/// Looks at eight attempts, until one is nobody's: then it is done. VERIFIER: "The sequence of 8193 jumps is too complex": eight, which the compiler
/// writes out; of a loop the verifier takes it that a CPU that guesses wrong never leaves it.
#[inline(always)]
fn try_eight<K: Kind, T: Tables>(
    tables: &T,
    wish: &Wish,
    first: u32,
    found: &mut Free,
) -> Result<bool, Reason> {
    for step in first..first + 8 {
        match Contender::unpack(tables.contender::<K>(wish, step)) {
            Contender::Nobody => {
                *found = Free { step, ending: NO_ENTRY };
                return Ok(true);
            }
            Contender::Ending(ending) if found.step == NO_STEP => *found = Free { step, ending },
            Contender::Ending(_) | Contender::Live => {}
            Contender::Refused(reason) => return Err(reason),
        }
    }
    Ok(false)
}

/// Where the word of a claim goes in the reply index; the flow that has to end for it is ended. `None` if there is no free word. The word is to be
/// written after the flow's entry: before, another CPU would find that the entry is not the word's, and take it for stale.
#[inline(always)]
pub fn room<'t, K: Kind, T: Tables>(tables: &'t T, begun: &Begun) -> Option<&'t Word> {
    let word = reply_index::room::<K, T>(tables, begun.reply_hash)?;
    if !T::OBSERVE
        && begun.ending != NO_ENTRY
        && let Some(entry) = flow_table::entry::<K, T>(tables, begun.ending)
    {
        entry.value().store(0);
    }
    Some(word)
}

/// Frees a word of the reply index whose flow is gone: its entry is free or expired, or another flow's. Words are not freed when their
/// flows go, so in the long run every bucket is full and a newcomer looks for one that is stale. If none is (a flood fills the flow
/// table far beyond what it is made for), one gives way that is ending or on probation, never one that is established.
#[inline(always)]
pub fn make_room<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &Begun) -> bool {
    let freed = reply_index::free_stale::<K, T>(tables, begun.reply_hash, |word| {
        let number = hash::low(word.load()).wrapping_sub(1);
        !Occupant::of::<K, T>(tables, number, wish.now).wrote(word.load())
    });
    if freed {
        return true;
    }
    // No word is stale, so each is its entry's.
    let word = reply_index::yielding::<K, T>(tables, begun.reply_hash, |word| {
        tables.rank::<K>(hash::low(word).wrapping_sub(1), wish.now) != 0
    });
    let Some(word) = word else { return false };
    if !T::OBSERVE {
        let number = hash::low(word.load()).wrapping_sub(1);
        word.store(0);
        if let Some(entry) = flow_table::entry::<K, T>(tables, number) {
            entry.value().store(0);
        }
        tables.count_flow(K::INDEX, FlowEvent::Evicted);
    }
    true
}

/// Who has a 4-tuple that a new flow would like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// Nobody, or the new flow itself.
    Nobody,
    /// A flow that needs it.
    Live,
    /// There is no such 4-tuple.
    Refused(Reason),
    /// A flow that is ending, in the entry of this number.
    Ending(u32),
}

impl Contender {
    /// As one word: what it is, and above 32 bits its number.
    #[inline(always)]
    const fn pack(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Live => 1,
            Self::Refused(reason) => 2 | (reason as u64) << 32,
            Self::Ending(entry) => 3 | (entry as u64) << 32,
        }
    }

    /// From one word.
    #[inline(always)]
    fn unpack(word: u64) -> Self {
        match word & 3 {
            0 => Self::Nobody,
            1 => Self::Live,
            2 => Self::Refused(Reason::from_number((word >> 32) as u8).unwrap_or(Reason::BackendMissing)),
            _ => Self::Ending((word >> 32) as u32),
        }
    }
}

/// Who has the 4-tuple of attempt `step`: a [`Contender`], packed ([`Tables::contender`]).
#[inline(always)]
pub fn contender<K: Kind, T: Tables>(tables: &T, wish: &Wish, step: u32) -> u64 {
    match proposal(tables, wish, step) {
        Ok((_, _, key)) => holder_of::<K, T>(tables, wish, key.hash(tables.constants())),
        Err(reason) => Contender::Refused(reason),
    }
    .pack()
}

#[inline(always)]
fn holder_of<K: Kind, T: Tables>(tables: &T, wish: &Wish, hash: u64) -> Contender {
    // VERIFIER: an array's iterator would be memory on the stack with a variable index, which takes CAP_PERFMON.
    for turn in 0..2 {
        let home = turn == 0;
        let Some(number) = cold::hinted::<K, T>(tables, hash, home) else { continue };
        let occupant = Occupant::of::<K, T>(tables, number, wish.now);
        // The hash in place of the key: at worst a free 4-tuple is not taken. What holds this one is the new flow itself if its
        // key is there: in the entry it will have, or in a doublet that another CPU entered at the same moment.
        if occupant.replies_as(hash) && !is_own::<K, T>(tables, wish, number) {
            return if occupant.is_ending() { Contender::Ending(number) } else { Contender::Live };
        }
    }
    Contender::Nobody
}

#[inline(always)]
fn is_own<K: Kind, T: Tables>(tables: &T, wish: &Wish, number: u32) -> bool {
    flow_table::entry::<K, T>(tables, number).is_some_and(|entry| entry.holds(K::pack(&wish.flow)))
}

/// The 4-tuple that attempt `step` would give: backend (index local to the pool), attempt, what replies carry.
#[inline(always)]
fn proposal<T: Tables>(tables: &T, wish: &Wish, step: u32) -> Result<(u16, u8, ReplyKey), Reason> {
    let Wish { flow, hash, policy, .. } = wish;
    let pool = tables.pool(policy.pool()).ok_or(Reason::BackendMissing)?;
    let maglev = maglev_hash(tables, wish);
    let is_full_nat = policy.is(Forward::FullNat);
    let Pick { backend, local } = pick(tables, *policy, pool, maglev, if is_full_nat { 0 } else { step })?;
    #[expect(clippy::cast_possible_truncation, reason = "below 32")]
    let attempt = if is_full_nat { step as u8 } else { 0 };
    let service = tables.service(flow.service as u32).ok_or(Reason::BackendMissing)?;
    let key = reply_key(tables, (service, *policy), flow, backend, (*hash, attempt));
    Ok((local, attempt, key.ok_or(Reason::SourceMissing)?))
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
