//! Which backend a new flow goes to.
//!
//! In: a request (a segment and its service). Out: its backend, from the flow table if the flow is known and may stay, else from the
//! pool's Maglev table, and the flow table changed accordingly. Invariant: the slot depends on seed, listener and client
//! alone, so every node with the same members sends a flow to the same backend.

use lb_common::{
    Address, Affinity, Backend, FEATURE_FULL_NAT, FEATURE_NAT, Forward, Pool, Reason, SLOTS_PER_WORD,
    Service, backend_state, selected_by,
};

use crate::{
    classify::{Found, Policy},
    cold,
    constants::has,
    flow_table::{self, FlowKey, Kind, Place, State, Value},
    hash, nat,
    parse::Segment,
    reply_index,
    tables::{FlowEvent, Tables, explain, note},
};

/// A packet from a client to a service.
pub struct Request<'t> {
    /// The packet.
    pub segment: Segment,
    /// Service id.
    pub service_id: u16,
    /// The service.
    pub service: &'t Service,
    /// Its policy as it was read.
    pub policy: Policy,
    /// Its salt.
    pub salt: u64,
}

impl<'t> Request<'t> {
    /// A segment and the service it is for.
    #[inline(always)]
    pub fn new(segment: Segment, found: Found<'t>) -> Self {
        let Found { id, service, policy, salt } = found;
        Self { segment, service_id: id, service, policy, salt }
    }

    /// The flow's key. The service's port is part of it only if the listener takes every port.
    #[inline(always)]
    fn key(&self, client: Address) -> FlowKey {
        let any_port = self.service.port_be == 0;
        FlowKey {
            client,
            client_port_be: self.segment.source_port_be(),
            service_port_be: if any_port { self.segment.destination_port_be() } else { 0 },
            service: self.service_id,
            reserved: 0,
        }
    }
}

/// Whether replies of flows under this policy come back through here.
#[inline(always)]
fn is_translated<T: Tables>(tables: &T, policy: Policy) -> bool {
    let constants = tables.constants();
    (has(constants, FEATURE_NAT) && policy.is(Forward::Nat))
        || (has(constants, FEATURE_FULL_NAT) && policy.is(Forward::FullNat))
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

/// The backend of a flow that has yet to begin, as `begin` leaves it for the second time the packet goes through the steps.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Begun {
    /// nat and full-nat: the hash of what its replies carry; 0 otherwise.
    pub reply_hash: u64,
    /// Its place in the flow table; none if it is not to be entered.
    pub place: Place,
    /// Index of the backend in the whole table; 0 = the flow has not begun.
    pub backend: u32,
    /// The number of an entry whose flow has to end for it, or [`NO_ENTRY`].
    pub ending: u32,
    /// The backend's index local to the pool.
    pub local: u16,
    /// Source-port attempt of full-nat.
    pub attempt: u8,
    /// It is a new flow, not one that moved.
    pub is_new: bool,
    /// No hole in the layout (see [`Wish`]).
    pub reserved: u32,
}

/// What is known of a request's backend.
pub enum Known<'t> {
    /// It is this one.
    Chosen(Chosen<'t>),
    /// It has yet to be selected: [`begin`].
    Nothing(Wish),
}

/// No entry's number.
pub const NO_ENTRY: u32 = u32::MAX;

/// A flow that begins, or moves to another backend. Plain numbers: it goes to functions out of line, whose types the kernel reads
/// as BTF, and that knows no enum with fields whose tag is not in front.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Wish {
    /// Its hash.
    pub hash: u64,
    /// The service's policy.
    pub policy: Policy,
    /// Its key.
    pub flow: FlowKey,
    /// The number of the entry that already holds its key, or [`NO_ENTRY`].
    pub number: u32,
    /// The present tick.
    pub now: u16,
    /// The state it begins in, or goes on in.
    pub state: State,
    /// It moves; else it begins.
    pub moves: bool,
    /// No hole in the layout: the verifier wants every byte written.
    pub reserved: [u8; 8],
}

const _: () = assert!(size_of::<Wish>() == 8 + 8 + size_of::<FlowKey>() + 4 + 2 + 1 + 1 + 8);
const _: () = assert!(size_of::<Begun>() == 8 + size_of::<Place>() + 4 + 4 + 2 + 1 + 1 + 4);

/// The backend of a request if its flow is known, or has just begun; the flow's entry is refreshed.
#[inline(always)]
pub fn known<'t, K: Kind, T: Tables>(
    tables: &'t T,
    request: &Request<'t>,
    client: Address,
    begun: Option<&Begun>,
) -> Result<Known<'t>, Reason> {
    let flow = request.key(client);
    let hash = K::hash(tables.constants(), &flow, request.salt);
    if let Some(begun) = begun
        && begun.backend != 0
    {
        let backend = tables.backend(begun.backend).ok_or(Reason::BackendMissing)?;
        return Ok(Known::Chosen(Chosen { backend, attempt: begun.attempt, hash, is_new: begun.is_new }));
    }
    let now = tables.now();
    let mut wish = Wish {
        flow,
        hash,
        now,
        number: NO_ENTRY,
        state: first_state(&request.segment),
        moves: false,
        reserved: [0; 8],
        policy: request.policy,
    };
    if request.policy.affinity() == Affinity::None as u64 {
        return Ok(Known::Nothing(wish));
    }
    let Some((slot, value)) = flow_table::find::<K, T>(tables, K::pack(&flow), hash) else {
        return Ok(Known::Nothing(wish));
    };
    wish.number = slot.number;
    match judge(tables, request, value, now) {
        Standing::Stays { backend, state } => {
            if !T::OBSERVE {
                flow_table::refresh(slot, value, now, state);
            }
            explain_choice(tables, value.backend(), selected_by::FLOW);
            Ok(Known::Chosen(Chosen { backend, attempt: value.attempt(), hash, is_new: false }))
        }
        Standing::Begins => Ok(Known::Nothing(wish)),
        Standing::Moves { state } => {
            wish.state = state;
            wish.moves = true;
            Ok(Known::Nothing(wish))
        }
    }
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
fn judge<'t, T: Tables>(tables: &'t T, request: &Request<'_>, value: Value, now: u16) -> Standing<'t> {
    if !value.is_live(tables.constants(), now) {
        return Standing::Begins;
    }
    let segment = &request.segment;
    let state = value.state();
    if segment.is_syn() && matches!(state, State::TcpEnding) {
        return Standing::Begins;
    }
    let next = next_state(state, segment);
    let pool = request.policy.pool();
    let backend =
        tables.pool(pool).and_then(|entry| resident(tables, pool, entry.backends.load(), value.backend()));
    let Some(backend) = backend else { return Standing::Moves { state: next } };
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
/// would promote itself. By tables of four bits a state instead of branches, which would come one after another on every packet.
#[inline(always)]
fn next_state(state: State, segment: &Segment) -> State {
    // After a SYN, FIN or RST, anything else; from state 5 down to 0. A flow of UDP has no such flags.
    let next: u32 = if segment.is_end() {
        0x0055_3330
    } else if segment.is_syn() {
        0x0055_3210
    } else {
        0x0055_3220
    };
    State::from_number((next >> (4 * state as u32)) as u8 & 7)
}

/// The state of a flow that begins with this packet.
#[inline(always)]
fn first_state(segment: &Segment) -> State {
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
    /// Its index local to the pool.
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
pub(crate) fn maglev_hash<T: Tables>(tables: &T, wish: &Wish) -> u64 {
    if wish.policy.affinity() == Affinity::Client as u64 {
        hash::client(tables.constants(), &wish.flow.client)
    } else {
        wish.hash
    }
}

/// Selects the backend of a flow that is not known or may not stay. Changes nothing yet. This and what follows it is out of line: the path
/// of known flows shall not carry its weight.
#[inline(always)]
pub fn begin<K: Kind, T: Tables>(tables: &T, wish: &Wish) -> Result<Begun, Reason> {
    let policy = wish.policy;
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
