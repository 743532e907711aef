//! Which backend a new flow goes to.
//!
//! In: a request (a segment and its service). Out: its backend, from the flow table if the flow is known and may stay, else from the
//! pool's Maglev table, and the flow table changed accordingly. Invariant: the slot depends on seed, listener and client
//! alone, so every node with the same members sends a flow to the same backend.

use lb_common::{
    Affinity, Backend, FEATURE_FULL_NAT, FEATURE_NAT, Forward, Pool, Reason, SLOTS_PER_WORD, Service,
    backend_state, selected_by,
};

use crate::{
    classify::Policy,
    constants::has,
    flow_table::{self, FlowKey, Kind, Place, Slot, State, Value},
    hash,
    header::IpHeader,
    nat,
    parse::Segment,
    tables::{FlowEvent, Tables, explain, note},
};

/// A packet from a client to a service.
pub struct Request<'t, H> {
    /// The packet.
    pub segment: Segment<H>,
    /// Service id.
    pub service_id: u16,
    /// The service.
    pub service: &'t Service,
    /// Its policy as it was read.
    pub policy: Policy,
}

impl<H: IpHeader> Request<'_, H> {
    /// The flow's key. The service's port is part of it only if the listener takes every port.
    #[inline(always)]
    fn key(&self) -> FlowKey {
        let any_port = self.service.port_be == 0;
        FlowKey {
            client: self.segment.ip.source(),
            client_port_be: self.segment.source_port_be(),
            service_port_be: if any_port { self.segment.destination_port_be() } else { 0 },
            service: self.service_id,
        }
    }

    /// Whether its replies come back through here.
    #[inline(always)]
    fn is_translated<T: Tables>(&self, tables: &T) -> bool {
        let constants = tables.constants();
        (has(constants, FEATURE_NAT) && self.policy.is(Forward::Nat))
            || (has(constants, FEATURE_FULL_NAT) && self.policy.is(Forward::FullNat))
    }
}

/// The backend of a request.
pub struct Chosen<'t> {
    /// The backend.
    pub backend: &'t Backend,
    /// Source-port attempt of full-nat.
    pub attempt: u8,
    /// The flow's hash.
    pub hash: u64,
    /// The flow begins with this packet.
    pub is_new: bool,
}

/// Chooses the backend of a request; an error is the reason of its drop.
#[inline(always)]
pub fn select<'t, H: IpHeader, K: Kind + 't, T: Tables>(
    tables: &'t T,
    request: &Request<'t, H>,
) -> Result<Chosen<'t>, Reason> {
    let pool = tables.pool(request.policy.pool()).ok_or(Reason::BackendMissing)?;
    let flow = request.key();
    let hash = K::hash(tables.constants(), &flow, request.service.salt);
    if request.policy.affinity() == Affinity::None as u64 {
        return without_flow(tables, request, pool, hash);
    }
    let now = tables.now();
    let (slot, kept_state) = match flow_table::find::<K, T>(tables, K::pack(&flow), hash) {
        None => (None, None),
        Some((slot, value)) => match judge(tables, request, pool, value, now) {
            Standing::Stays { backend, state } => {
                if !T::OBSERVE {
                    flow_table::refresh(slot, value, now, state);
                }
                explain_choice(tables, value.backend(), selected_by::FLOW);
                return Ok(Chosen { backend, attempt: value.attempt(), hash, is_new: false });
            }
            Standing::Begins => (Some(slot), None),
            Standing::Moves { state } => (Some(slot), Some(state)),
        },
    };
    begin::<H, K, T>(tables, request, pool, Beginning { flow, hash, now, slot, kept_state })
}

/// What becomes of a flow found in the table.
enum Standing<'t> {
    /// It stays with its backend and is in this state now.
    Stays { backend: &'t Backend, state: State },
    /// Its entry is expired, or a new connection begins in its place.
    Begins,
    /// Its backend no longer takes it.
    Moves { state: State },
}

#[inline(always)]
fn judge<'t, H: IpHeader, T: Tables>(
    tables: &'t T,
    request: &Request<'_, H>,
    pool: &Pool,
    value: Value,
    now: u16,
) -> Standing<'t> {
    if !value.is_live(tables.constants(), now) {
        return Standing::Begins;
    }
    let segment = &request.segment;
    let state = value.state();
    if segment.is_syn() && matches!(state, State::TcpEnding) {
        return Standing::Begins;
    }
    let next = next_state(state, segment);
    let Some(backend) = resident(tables, request.policy.pool(), pool.backends.load(), value.backend()) else {
        return Standing::Moves { state: next };
    };
    let flags = backend.state.load();
    if flags & backend_state::KEEPS == 0 {
        return Standing::Moves { state: next };
    }
    if segment.is_syn() && matches!(state, State::TcpProbation) && flags & backend_state::TAKES_NEW == 0 {
        return Standing::Begins;
    }
    Standing::Stays { backend, state: next }
}

/// The state after a packet from the client. Only such a packet establishes: a reply must not, or a flood with a forged source
/// would promote itself.
#[inline(always)]
fn next_state<H: IpHeader>(state: State, segment: &Segment<H>) -> State {
    match state {
        State::UdpProbation | State::UdpEstablished => State::UdpEstablished,
        _ if segment.is_end() => State::TcpEnding,
        State::TcpProbation if !segment.is_syn() => State::TcpEstablished,
        other => other,
    }
}

/// The state of a flow that begins with this packet.
#[inline(always)]
fn first_state<H: IpHeader>(segment: &Segment<H>) -> State {
    if !segment.is_tcp() {
        State::UdpProbation
    } else if segment.is_end() {
        State::TcpEnding
    } else {
        State::TcpProbation
    }
}

/// A backend by its index local to the pool, if it is in use and of this pool. `block` is `Pool::backends`.
#[inline(always)]
pub fn resident<T: Tables>(tables: &T, pool: u32, block: u64, local: u16) -> Option<&Backend> {
    let local = local as u32;
    if local == 0 || local >= (block >> 32) as u32 {
        return None;
    }
    let backend = tables.backend(hash::low(block).wrapping_add(local))?;
    let is_ours = backend.pool as u32 == pool && backend.state.load() & backend_state::LIVE != 0;
    is_ours.then_some(backend)
}

/// A backend out of the Maglev table.
#[derive(Clone, Copy)]
pub(crate) struct Pick<'t> {
    pub(crate) backend: &'t Backend,
    pub(crate) local: u16,
}

/// The backend in the slot `step` slots after the one of `hash`.
#[inline(always)]
pub(crate) fn pick<'t, T: Tables>(
    tables: &'t T,
    policy: Policy,
    pool: &Pool,
    hash: u64,
    step: u32,
) -> Result<Pick<'t>, Reason> {
    let table = TableWord::unpack(pool.table.load());
    if table.slots == 0 {
        return Err(Reason::NoBackend);
    }
    let slot = slot(hash, table.slots).wrapping_add(step);
    let slot = if slot < table.slots { slot } else { slot.wrapping_sub(table.slots) };
    let word = tables.maglev(table.arena_word(slot)).ok_or(Reason::BackendMissing)?;
    let local = slot_of_word(word.slots.load(), slot);
    explain(tables, |explanation| explanation.slot = slot);
    if local == 0 {
        return Err(Reason::NoBackend);
    }
    let backend =
        resident(tables, policy.pool(), pool.backends.load(), local).ok_or(Reason::BackendMissing)?;
    Ok(Pick { backend, local })
}

/// The Maglev hash of a flow under the service's affinity.
#[inline(always)]
fn maglev_hash<T: Tables>(tables: &T, policy: Policy, flow: &FlowKey, hash: u64) -> u64 {
    if policy.affinity() == Affinity::Client as u64 {
        hash::client(tables.constants(), &flow.client)
    } else {
        hash
    }
}

/// A datagram on its own (affinity "none"). Translation needs a flow to find the way back by.
#[inline(always)]
fn without_flow<'t, H: IpHeader, T: Tables>(
    tables: &'t T,
    request: &Request<'t, H>,
    pool: &Pool,
    hash: u64,
) -> Result<Chosen<'t>, Reason> {
    if request.is_translated(tables) {
        return Err(Reason::NotAFlow);
    }
    let random = (tables.random() as u64) << 32;
    let Pick { backend, local } = pick(tables, request.policy, pool, random, 0)?;
    explain_choice(tables, local, selected_by::MAGLEV);
    Ok(Chosen { backend, attempt: 0, hash, is_new: false })
}

/// A flow that is to be entered.
struct Beginning<'t, K: Kind> {
    flow: FlowKey,
    hash: u64,
    now: u16,
    /// The entry that already holds its key.
    slot: Option<Slot<'t, K>>,
    /// The flow is no new one but moves to another backend in this state.
    kept_state: Option<State>,
}

#[inline(always)]
fn begin<'t, H: IpHeader, K: Kind + 't, T: Tables>(
    tables: &'t T,
    request: &Request<'t, H>,
    pool: &Pool,
    beginning: Beginning<'t, K>,
) -> Result<Chosen<'t>, Reason> {
    let Beginning { flow, hash, now, slot, kept_state } = beginning;
    let maglev = maglev_hash(tables, request.policy, &flow, hash);
    let place = match slot {
        Some(slot) => Some(Place { slot, evicts: false }),
        None => flow_table::place::<K, T>(tables, hash, now),
    };
    let is_new = kept_state.is_none();
    let by = if is_new { selected_by::MAGLEV } else { selected_by::RESELECTED };
    let (picked, attempt) = if request.is_translated(tables) {
        let place = place.as_ref().ok_or(Reason::FlowTableFull);
        let place = place.inspect_err(|_| tables_full::<K, T>(tables))?;
        let wish = nat::Wish { flow, hash, maglev, now, number: place.slot.number };
        let claim = nat::claim::<K, T>(tables, request.service, request.policy, pool, &wish)?;
        (claim.pick, claim.attempt)
    } else {
        (pick(tables, request.policy, pool, maglev, 0)?, 0)
    };
    explain_choice(tables, picked.local, by);
    match place {
        Some(place) if !T::OBSERVE => {
            let state = kept_state.unwrap_or(first_state(&request.segment));
            let value = Value::new(hash, picked.local, now, state, attempt);
            flow_table::write(place.slot, K::pack(&flow), value);
            count_entry::<K, T>(tables, request.service_id, is_new, place.evicts);
        }
        Some(_) => {}
        None => {
            tables_full::<K, T>(tables);
            note(tables, request.service_id, Reason::NotStored);
        }
    }
    Ok(Chosen { backend: picked.backend, attempt, hash, is_new })
}

#[inline(always)]
fn tables_full<K: Kind, T: Tables>(tables: &T) {
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

#[inline(always)]
fn explain_choice<T: Tables>(tables: &T, local: u16, by: u8) {
    explain(tables, |explanation| {
        explanation.backend = local;
        explanation.selected_by = by;
    });
}

/// The table of a pool, unpacked from `Pool::table`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableWord {
    /// First arena word of the table.
    pub base: u32,
    /// Slots in it; 0 = no usable backend.
    pub slots: u32,
    /// Generation modulo 4,096.
    pub generation: u16,
}

impl TableWord {
    /// The word as `Pool::table` holds it.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.base as u64 | (self.slots as u64 & 0xf_ffff) << 32 | (self.generation as u64 & 0xfff) << 52
    }

    /// From the word in `Pool::table`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn unpack(word: u64) -> Self {
        Self { base: word as u32, slots: (word >> 32) as u32 & 0xf_ffff, generation: (word >> 52) as u16 }
    }

    /// The arena word that holds a slot.
    #[inline(always)]
    pub const fn arena_word(self, slot: u32) -> u32 {
        self.base.wrapping_add(slot / SLOTS_PER_WORD)
    }
}

/// The slot of a flow in a table of `slots`: from the high half of its hash.
#[inline(always)]
pub const fn slot(hash: u64, slots: u32) -> u32 {
    hash::scale((hash >> 32) as u32, slots)
}

/// The backend index of a slot in its arena word; 0 = nobody.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "one of four 16-bit slots is cut out")]
pub const fn slot_of_word(word: u64, slot: u32) -> u16 {
    (word >> (16 * (slot % SLOTS_PER_WORD))) as u16
}
