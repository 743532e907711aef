//! Which backend a packet's flow has.
//!
//! In: a request (a segment and its service). Out: its backend, from the flow table if the flow is known and may stay, and its entry
//! refreshed; else the wish that a backend be selected (begin.rs).

use lb_common::{Address, Affinity, Backend, Reason, Service, backend_state, selected_by};

use crate::{
    classify::{Found, Policy},
    flow_table::{self, FlowKey, Kind, Place, State, Value},
    hash,
    parse::Segment,
    tables::{Progress, Tables, explain},
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
    /// It has yet to be selected: [`crate::begin`].
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
    /// The packet is the first of a connection, and no flow can be on its way ([`crate::cold::flows_are_moving`]).
    pub opens: bool,
    /// No hole in the layout: the verifier wants every byte written.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Wish>() == 8 + 8 + size_of::<FlowKey>() + 4 + 2 + 1 + 1 + 1 + 7);
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
        state: State::first(&request.segment),
        moves: false,
        opens: request.segment.is_syn() || !request.segment.is_tcp(),
        reserved: [0; 7],
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
                count_progress(tables, &request.segment, backend, value.state());
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
    if segment.is_syn() && state.is_closing() {
        return Standing::Begins;
    }
    let next = state.after_client(segment, request.policy.translated_bit());
    let pool = request.policy.pool();
    let backend =
        tables.pool(pool).and_then(|entry| resident(tables, pool, entry.backends.load(), value.backend()));
    // A SYN is another connection: of the one before it nothing is left to save.
    let lost = if segment.is_syn() { Standing::Begins } else { Standing::Moves { state: next } };
    let Some(backend) = backend else { return lost };
    let flags = backend.state.load();
    if flags & backend_state::KEEPS == 0 {
        return lost;
    }
    if segment.is_syn() && matches!(state, State::TcpProbation) && flags & backend_state::TAKES_NEW == 0 {
        return Standing::Begins;
    }
    Standing::Stays { backend, state: next }
}

/// Counts what a packet of a client says of the backend its TCP flow has begun with: that it answered, or that it did not.
#[inline(always)]
fn count_progress<T: Tables>(tables: &T, segment: &Segment, backend: &Backend, before: State) {
    if matches!(before, State::TcpProbation) {
        let progress = if segment.is_syn() { Progress::Repeated } else { Progress::Continued };
        tables.count_progress(backend.counter, progress);
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

/// What explains learns of the backend and how it was found.
#[inline(always)]
pub(crate) fn explain_choice<T: Tables>(tables: &T, local: u16, by: u8) {
    explain(tables, |explanation| {
        explanation.backend = local;
        explanation.selected_by = by;
    });
}
