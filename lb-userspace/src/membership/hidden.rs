//! Hidden services: by which checks travel as a client's packets do.
//!
//! In: pools whose checks go through services, probe addresses, ways. Out: for each such check a service in [`Desired`] on its probe
//! address, over a pool of that one backend. Invariants: it takes packets whatever the backend's health, weight or state, so a check
//! sees a recovery; what reaches the backend is what the real service would send it, but for a source that it can answer.
//!
//! nat and full-nat forward as the real service does. dsr is full-nat to the vip by the backend's next hop: the packet has the vip's address
//! and the backend's link address, as one of the service's own. ipip is that too, put into the tunnel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::assemble::put_table;
use super::pool::Pool;
use super::probes::{CheckId, Probes};
use super::through::Asked;
use super::ways::{Ways, sources, sources_of};
use super::{MemberId, probes};
use crate::desired::{
    Desired, DesiredBackend, DesiredPool, DesiredService, ListenerKey, PoolKey, Tunnel, Variant, hidden_name,
};
use crate::spec::{
    Affinity, BackendAddress, DatapathSpec, Forward, HealthKind, Listener, MAGLEV_SIZES, Protocol, WhenNone,
};

/// Adds the hidden services of this pool's checks, or changes them; true: something is otherwise.
pub(super) fn put(
    desired: &mut Desired,
    pool: &Pool,
    probes: &Probes,
    ways: &Ways,
    datapath: &DatapathSpec,
) -> bool {
    let mut is_changed = false;
    for (address, member) in &pool.members {
        for (listener, asked) in &member.through {
            let member = MemberId { pool: pool.name.clone(), address: *address };
            let id = CheckId { member, through: Some(*listener) };
            let Some(probe) = probes.get(&id) else { continue };
            let check = Check { address: *address, listener, asked, ways, datapath };
            let (backends, tunnel) = check.backends();
            for protocol in check.protocols(pool) {
                let key = ListenerKey { addr: probe, port: Some(asked.port), protocol };
                let service = check.service(&key, tunnel);
                let table = DesiredPool { table_len: MAGLEV_SIZES[0], backends: backends.clone() };
                is_changed |= put_table(desired, service.pool.clone(), table);
                is_changed |= desired.services.get(&key) != Some(&service);
                desired.services.insert(key, service);
            }
        }
    }
    is_changed
}

/// Removes the hidden services of this pool's checks.
pub(super) fn remove(desired: &mut Desired, pool: &Pool, addresses: &Probes) {
    for id in probes::checks(pool) {
        let asked = pool.members.get(&id.member.address).zip(id.through);
        let asked = asked.and_then(|(member, listener)| member.through.get(&listener));
        let (Some(probe), Some(asked)) = (addresses.get(&id), asked) else { continue };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = ListenerKey { addr: probe, port: Some(asked.port), protocol };
            if let Some(service) = desired.services.remove(&key) {
                desired.pools.remove(&service.pool);
            }
        }
    }
}

/// One check through a service.
struct Check<'a> {
    address: BackendAddress,
    listener: &'a Listener,
    asked: &'a Asked,
    ways: &'a Ways,
    datapath: &'a DatapathSpec,
}

impl Check<'_> {
    /// A DNS answer that does not fit into a datagram is asked for again over TCP, where clients can do that too.
    fn protocols(&self, pool: &Pool) -> Vec<Protocol> {
        let over_tcp = Listener { protocol: Protocol::Tcp, ..*self.listener };
        let has_tcp = || {
            let mut services = pool.services.iter().chain(&pool.behind);
            services.any(|service| service.listen.contains(&over_tcp))
        };
        match matches!(pool.health.kind, HealthKind::Dns(_)) && has_tcp() {
            true => vec![Protocol::Udp, Protocol::Tcp],
            false => vec![self.listener.protocol],
        }
    }

    fn service(&self, key: &ListenerKey, tunnel: Option<Tunnel>) -> DesiredService {
        let variant = if self.listener.addr.is_ipv4() { Variant::V4 } else { Variant::V6 };
        let name = hidden_name(key);
        let forward = if self.asked.forward == Forward::Nat { Forward::Nat } else { Forward::FullNat };
        DesiredService {
            forward,
            affinity: Affinity::Flow,
            when_none: WhenNone::Drop,
            loopback: false,
            resets_lost: false,
            pool: PoolKey { name: name.clone(), variant },
            name,
            tunnel,
        }
    }

    /// The one backend, and the tunnel to it.
    fn backends(&self) -> (BTreeMap<BackendAddress, DesiredBackend>, Option<Tunnel>) {
        let (own, vip) = (self.address.ip, self.listener.addr);
        let (ip, port) = match self.asked.forward {
            Forward::FullNat | Forward::Nat => (own, self.asked.own.port()),
            Forward::Dsr | Forward::Ipip => (vip, self.asked.port),
        };
        let tunnel = (self.asked.forward == Forward::Ipip).then(|| self.tunnel(own));
        let sources = match (self.asked.forward, tunnel) {
            // Without its tunnel it would be sent to the wrong place: without a source it is not sent at all.
            (Forward::Nat, _) | (_, Some(None)) => Vec::new(),
            _ => sources_of(vip.is_ipv4(), own, self.ways, self.datapath),
        };
        let way = (ip != own).then_some(own);
        let backend = DesiredBackend { weight: 1, takes_new: true, keeps: true, sources, way };
        ([(BackendAddress { ip, port: Some(port) }, backend)].into(), tunnel.flatten())
    }

    fn tunnel(&self, destination: IpAddr) -> Option<Tunnel> {
        let sources = sources(Variant::Any, destination, self.ways, self.datapath);
        sources.first().map(|source| Tunnel { source: *source, destination })
    }
}
