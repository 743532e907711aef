//! The flow table: how keys and values are packed, where a key may lie, who must give way.
//!
//! In: a flow's key and hash. Out: its entry, or the place where a new entry may be written. Invariants: an entry is a flow
//! only if key and check agree (two CPUs storing into one entry are found out); an established (or half-closed) entry within its idle
//! time is never replaced; an expired entry is absent. Layout: lb-common/src/flow.rs, reasons: docs/decisions/0001-flow-table.md.

mod kind;
mod search;
mod state;

use lb_common::{Address, WAYS};

pub use self::{
    kind::{Entry, Kind, Narrow, Wide},
    search::{Place, Slot, entry, find, greater, place, rank, refresh, write},
    state::State,
};
use crate::{classify::same, constants::Constants, hash};

/// Rank of a free or expired entry, and above.
pub const FREE: u64 = 0x4_0000;
/// Rank of an entry that is ending, and above.
pub const ENDING: u64 = 0x2_0000;

/// A value word unpacked; see lb-common/src/flow.rs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value(pub u64);

impl Value {
    /// A value for a flow with this hash.
    #[inline(always)]
    pub const fn new(hash: u64, backend: u16, last_seen: u16, state: State, attempt: u8) -> Self {
        let attempt = (attempt & 31) as u64;
        let check = hash::check24(hash) ^ (attempt << 19);
        Self(backend as u64 | (last_seen as u64) << 16 | (state as u64) << 32 | attempt << 35 | check << 40)
    }

    /// Backend index local to the pool; 0 = nobody.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the field is the low 16 bits")]
    pub const fn backend(self) -> u16 {
        self.0 as u16
    }

    /// Tick of the last packet.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the field is these 16 bits")]
    pub const fn last_seen(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The state.
    #[inline(always)]
    pub const fn state(self) -> State {
        State::from_number((self.0 >> 32) as u8)
    }

    /// Source-port attempt of full-nat.
    #[inline(always)]
    pub const fn attempt(self) -> u8 {
        (self.0 >> 35) as u8 & 31
    }

    /// Whether this value was written for a flow with this hash.
    #[inline(always)]
    pub const fn is_of(self, hash: u64) -> bool {
        // The attempt's five bits, moved to where they are mixed into the check (see `new`).
        let attempt = (self.0 << 24) & (31 << 59);
        (self.0 ^ attempt) >> 40 == hash::check24(hash)
    }

    /// Number of the state.
    #[inline(always)]
    const fn state_number(self) -> u64 {
        (self.0 >> 32) & 7
    }

    /// Ticks since the last packet.
    #[inline(always)]
    const fn age(self, now: u16) -> u64 {
        now.wrapping_sub(self.last_seen()) as u64
    }

    /// 1 if the time of an entry in use is over, else 0.
    #[inline(always)]
    fn expired(self, constants: impl Constants, now: u16) -> u64 {
        State::idle_ticks_of(constants, self.state_number()).wrapping_sub(self.age(now)) >> 63
    }

    /// Whether the entry is in use and within its idle time at tick `now`.
    #[inline(always)]
    pub fn is_live(self, constants: impl Constants, now: u16) -> bool {
        !matches!(self.state(), State::Free) && self.expired(constants, now) == 0
    }

    /// How gladly the entry gives way: 0 not at all (established or half-closed), then by age (on probation), ending, [`FREE`].
    #[inline(always)]
    fn rank(self, constants: impl Constants, now: u16) -> u64 {
        // By state number, a byte each: free 4, TCP ending 2; times 2^16. Then a bit each: on probation.
        let base = ((0x0200_0004_u64 >> (8 * self.state_number())) & 0xff) << 16;
        let on_probation = (0b01_0010_u64 >> self.state_number()) & 1;
        base | (self.expired(constants, now) * FREE) | (on_probation * (self.age(now) + 1))
    }

    /// The byte in bits 32–39 with another state: what `Word::store_bits_32_39` takes.
    #[inline(always)]
    pub const fn state_byte(self, state: State) -> u8 {
        state as u8 | self.attempt() << 3
    }
}

/// The key word of an IPv4 flow of a service with a fixed port.
#[inline(always)]
pub const fn key4(client: u32, client_port_be: u16, service: u16) -> u64 {
    client as u64 | (client_port_be as u64) << 32 | (service as u64) << 48
}

/// The key words of a wide flow. `service_port_be` is 0 unless the listener takes every port.
#[inline(always)]
pub const fn key6(client: &Address, client_port_be: u16, service_port_be: u16, service: u16) -> [u64; 3] {
    let [a, b, c, d] = client.words;
    [
        a as u64 | (b as u64) << 32,
        c as u64 | (d as u64) << 32,
        client_port_be as u64 | (service_port_be as u64) << 16 | (service as u64) << 32,
    ]
}

/// What a flow's key says, of either table.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The client's port, network bytes.
    pub client_port_be: u16,
    /// The port of the vip, network bytes; 0 unless the listener takes every port.
    pub service_port_be: u16,
    /// The service id.
    pub service: u16,
    /// No hole in the layout (see `select::Wish`).
    pub reserved: u16,
}

impl FlowKey {
    /// From the key word of the IPv4 table.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn from_key4(key: u64) -> Self {
        Self {
            client: Address::v4(key as u32),
            client_port_be: (key >> 32) as u16,
            service_port_be: 0,
            service: (key >> 48) as u16,
            reserved: 0,
        }
    }

    /// From the key words of the wide table.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the words")]
    pub const fn from_key6(key: [u64; 3]) -> Self {
        let [upper, lower, rest] = key;
        Self {
            client: Address::v6([upper as u32, (upper >> 32) as u32, lower as u32, (lower >> 32) as u32]),
            client_port_be: rest as u16,
            service_port_be: (rest >> 16) as u16,
            service: (rest >> 32) as u16,
            reserved: 0,
        }
    }

    /// Whether two keys are the same.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        same(&self.client, &other.client)
            && self.client_port_be == other.client_port_be
            && self.service_port_be == other.service_port_be
            && self.service == other.service
    }

    /// The number of an entry, as the reply index holds it.
    #[inline(always)]
    pub const fn entry_number(bucket: u32, way: u32) -> u32 {
        bucket * WAYS as u32 + way
    }
}
