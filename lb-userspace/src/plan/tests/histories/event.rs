//! What may happen in a history, and which pools and listeners there are.

use proptest::prelude::*;

use super::super::model::{key, listener, v4};
use crate::desired::{ListenerKey, PoolKey, Variant};
use crate::spec::Protocol;

pub(super) const POOLS: u8 = 3;
pub(super) const BACKENDS: u8 = 12;
const LISTENERS: u8 = 6;

/// One event of a history.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Backend {
        pool: u8,
        number: u8,
        weight: u32,
        standing: u8,
        sources: u8,
        port: bool,
        /// Its packets go where those of its neighbour in number go: a vip that is checked.
        led: bool,
    },
    NoBackend {
        pool: u8,
        number: u8,
    },
    Service {
        listener: u8,
        pool: u8,
        forward: u8,
        affinity: u8,
    },
    NoService {
        listener: u8,
    },
    Way {
        number: u8,
        way: Option<u8>,
    },
    TableLen {
        pool: u8,
        long: bool,
    },
    /// The plan is carried out; a daemon that dies does so after this share of the changes.
    Apply {
        dies_at: Option<u8>,
    },
    /// The daemon has had the time to wait for a grace period.
    Settled,
    /// Flows end, clients fall silent and others come back.
    Flows(Traffic),
    /// A walk over the flow table begins, unless one is under way.
    WalkBegins,
    /// The walk that is under way has seen everything.
    WalkEnds,
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Flows whose number has a bit here end.
    pub(crate) end: u32,
    /// Clients whose number has a bit here send nothing from now on; all others send again.
    pub(crate) asleep: u16,
}

pub(crate) fn traffic() -> impl Strategy<Value = Traffic> {
    let asleep = prop_oneof![1 => Just(0), 4 => any::<u16>()];
    // Half of the flows, a quarter of them, none.
    let end = prop_oneof![any::<u32>(), (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a & b), Just(0)];
    (end, asleep).prop_map(|(end, asleep)| Traffic { end, asleep })
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let pool = 0..POOLS;
    let number = 1..=BACKENDS;
    prop_oneof![
        6 => (
            (pool.clone(), number.clone()),
            (0..4_u32, 0..4_u8, 0..3_u8),
            (prop::bool::weighted(0.1), prop::bool::weighted(0.2)),
        )
            .prop_map(|((pool, number), (weight, standing, sources), (port, led))| Event::Backend {
                pool,
                number,
                weight,
                standing,
                sources,
                port,
                led,
            }),
        3 => (pool.clone(), number.clone()).prop_map(|(pool, number)| Event::NoBackend { pool, number }),
        3 => (0..LISTENERS, pool.clone(), 0..4_u8, 0..2_u8).prop_map(
            |(listener, pool, forward, affinity)| Event::Service { listener, pool, forward, affinity },
        ),
        1 => (0..LISTENERS).prop_map(|listener| Event::NoService { listener }),
        2 => (number, prop::option::weighted(0.7, 0..3_u8)).prop_map(|(number, way)| Event::Way { number, way }),
        1 => (pool, any::<bool>()).prop_map(|(pool, long)| Event::TableLen { pool, long }),
        6 => prop::option::weighted(0.3, any::<u8>()).prop_map(|dies_at| Event::Apply { dies_at }),
        2 => Just(Event::Settled),
        4 => traffic().prop_map(Event::Flows),
        2 => Just(Event::WalkBegins),
        2 => Just(Event::WalkEnds),
    ]
}

pub(super) fn pool_key(pool: u8) -> PoolKey {
    key(&format!("p{pool}"), Variant::V4)
}

pub(super) fn listener_key(number: u8) -> ListenerKey {
    let protocol = if number.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp };
    listener(v4(200 + number / 3), u16::from(number % 3) * 80, protocol)
}
