//! Services: an id for each listener.
//!
//! In: desired listeners and the ids of their pools. Out: entries, names and policies; later, the end of those that go.
//! Invariants: an id never changes its pool or its way of forwarding, because flow entries hold it; an id whose policy
//! became 0 rests.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{Address, Affinity, Forward, WhenNone, service_policy};
use lb_datapath::hash;

use super::{NO_NAME, PlanError, Planner};
use crate::change::{Change, name_entry};
use crate::desired::{DesiredService, ListenerKey, protocol_number};
use crate::record::ServiceRecord;
use crate::store::CounterBlock;

/// Service ids of what is desired.
pub(super) type ServiceIds = BTreeMap<ListenerKey, u16>;

/// Ids in use by listener.
pub(super) type KnownServices = BTreeMap<ListenerKey, Vec<u16>>;

/// Bits of a policy that stay as they are for as long as an id lives.
const FIXED: u64 = 0xffff << service_policy::POOL
    | 0xff << service_policy::FORWARD
    | (service_policy::FLAG_LOOPBACK | service_policy::FLAG_WRAP) << service_policy::FLAGS;

impl Planner<'_> {
    /// Sees that a desired listener has an id whose entry and policy are right.
    pub(super) fn place_service(
        &mut self,
        listener: &ListenerKey,
        service: &DesiredService,
        pool: u16,
        known: &KnownServices,
    ) -> Result<u16, PlanError> {
        let wanted = self.record(listener, service, pool)?;
        let same = |id: &&u16| self.can_become(**id, &wanted);
        let id = match known.get(listener).and_then(|ids| ids.iter().find(same)) {
            Some(id) => *id,
            None => self.new_service(&wanted)?,
        };
        self.name_service(id, &service.name)?;
        if self.image.services.get(&id).is_some_and(|now| now.record.policy != wanted.policy) {
            self.emit(Change::ServicePolicy { service: id, policy: wanted.policy });
        }
        Ok(id)
    }

    /// Ids by listener; several if a crash came while one replaced another. Those that the directory names come first.
    pub(super) fn known_services(&self) -> KnownServices {
        let mut known = KnownServices::new();
        for service in self.image.services() {
            known.entry(service.listener).or_default().push(service.id);
        }
        for ids in known.values_mut().filter(|ids| ids.len() > 1) {
            ids.sort_by_key(|id| !self.is_in_directory(*id));
        }
        known
    }

    fn record(
        &mut self,
        listener: &ListenerKey,
        service: &DesiredService,
        pool: u16,
    ) -> Result<ServiceRecord, PlanError> {
        let tunnel = service.tunnel.map(|tunnel| Address::from(tunnel.destination)).unwrap_or_default();
        let tunnel_source = match service.tunnel {
            Some(tunnel) => self.source_run(&[tunnel.source])?.0,
            None => 0,
        };
        let vip = Address::from(listener.addr);
        let port_be = listener.port.unwrap_or_default().to_be();
        let protocol = protocol_number(listener.protocol);
        let flags = if service.loopback { service_policy::FLAG_LOOPBACK } else { 0 }
            | if service.resets_lost { service_policy::FLAG_RESETS_LOST } else { 0 }
            | if service.tunnel.is_some() { service_policy::FLAG_WRAP } else { 0 };
        let policy = u64::from(pool) << service_policy::POOL
            | (Forward::from(service.forward) as u64) << service_policy::FORWARD
            | (Affinity::from(service.affinity) as u64) << service_policy::AFFINITY
            | (WhenNone::from(service.when_none) as u64) << service_policy::WHEN_NONE
            | flags << service_policy::FLAGS;
        Ok(ServiceRecord {
            vip,
            salt: hash::salt(self.settings, &vip, port_be, protocol),
            policy,
            port_be,
            protocol,
            family: if listener.addr.is_ipv4() { 4 } else { 6 },
            tunnel,
            tunnel_source,
        })
    }

    /// Whether an id can become what is wanted without its flows meeting other backends or another way.
    fn can_become(&self, id: u16, wanted: &ServiceRecord) -> bool {
        self.image.services.get(&id).is_some_and(|now| {
            now.record.policy & FIXED == wanted.policy & FIXED
                && ServiceRecord { policy: wanted.policy, ..now.record } == *wanted
        })
    }

    fn new_service(&mut self, wanted: &ServiceRecord) -> Result<u16, PlanError> {
        let image = &self.image;
        let in_use = |id: u32| {
            let Ok(id) = u16::try_from(id) else { return true };
            image.services.contains_key(&id) || image.rest.services.contains(&id)
        };
        let service =
            self.service_ids.take(in_use).and_then(|id| u16::try_from(id).ok()).ok_or_else(|| {
                let there: BTreeSet<ListenerKey> =
                    self.before.services().map(|service| service.listener).collect();
                let new = self.desired.services.keys().filter(|listener| !there.contains(listener)).count();
                PlanError::services_full(self.before, new.max(1))
            })?;
        self.emit(Change::ClearCounters(CounterBlock::Service(service.into())));
        self.emit(Change::Service { service, record: ServiceRecord { policy: 0, ..*wanted } });
        self.report.services_added += 1;
        Ok(service)
    }

    fn name_service(&mut self, service: u16, name: &str) -> Result<(), PlanError> {
        if self.image.services.get(&service).is_some_and(|now| now.name != name) {
            let name = name_entry(name).ok_or_else(|| PlanError::name_too_long(name))?;
            self.emit(Change::ServiceName { service, name });
        }
        Ok(())
    }

    /// Ends the services that are not among `kept`; no directory word names them any more.
    pub(super) fn drop_services(&mut self, kept: &ServiceIds) {
        let kept: BTreeSet<u16> = kept.values().copied().collect();
        let gone: Vec<u16> = self.image.services.keys().copied().filter(|id| !kept.contains(id)).collect();
        for service in gone {
            self.emit(Change::ServicePolicy { service, policy: 0 });
            self.emit(Change::ServiceName { service, name: NO_NAME });
            self.report.services_removed += 1;
        }
    }
}
