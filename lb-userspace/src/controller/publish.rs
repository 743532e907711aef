//! The picture readers see, put together after each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::Names;
use super::{Controller, Fault};
use crate::api::types::Interface;
use crate::api::{Placements, Snapshot, TableInfo};
use crate::datapath::{InterfaceState, routes};
use crate::desired::{PoolKey, is_hidden};
use crate::membership::PoolView;
use crate::record::PoolReport;

/// What `no_return_path` means and how it is mended.
pub(super) const NO_RETURN_PATH: &str = "connections are begun and no reply comes back through this host: route the backend's replies \
     through it (default route via this host), or use forward = \"full-nat\"";

impl Controller {
    /// Publishes membership and maps as they are now.
    pub(super) fn publish(&self) {
        let names = Arc::new(Names::of(&self.image, &self.published.names.load()));
        let before = self.published.snapshot.load();
        let file = self.membership.file();
        let mut degraded: Vec<String> = self.faults.values().flatten().cloned().collect();
        let pools = self.membership.pool_views(&before.pools);
        for pool in &pools {
            if !pool.services.is_empty() && !pool.members().any(|backend| backend.eligible) {
                degraded.push(nobody(pool));
            }
            for plight in &pool.plights {
                degraded.push(format!("pool {} ({}): {plight}", pool.name, plight.variant));
            }
        }
        for id in self.return_paths.lost() {
            degraded.push(format!("backend {id}: no_return_path: {NO_RETURN_PATH}"));
        }
        degraded.extend(self.routes_refused());
        let datapath = self.read_datapath();
        let mut states = datapath.interfaces();
        for state in states.iter_mut().filter(|state| state.mode.is_none()) {
            let why = self.not_attached.get(&state.name).cloned();
            state.warning = why.or_else(|| state.warning.take());
        }
        let mut notices: Vec<String> = self.notices.values().flatten().cloned().collect();
        // Two listeners of a service on one vip have one fault.
        notices.dedup();
        notices.extend(self.file_set_aside());
        notices.extend(states.iter().filter_map(|state| state.warning.clone()));
        let snapshot = Snapshot {
            revision: self.membership.revision(),
            file_refused: self.faults.contains_key(&Fault::Config),
            started: self.clock.started(),
            in_force: !self.faults.contains_key(&Fault::Datapath),
            degraded,
            notices,
            interfaces: states.into_iter().map(interface).collect(),
            services: self.membership.service_views(),
            pools,
            overrides: self.membership.overrides(),
            tables: self.tables(),
            placements: self.placements(&names),
            config: self.config.display().to_string(),
            on_exit: file.daemon.on_exit.as_str().to_owned(),
            seed_fingerprint: datapath.seed().fingerprint(),
        };
        self.published.names.store(names);
        self.published.snapshot.store(Arc::new(snapshot));
        self.published.counter.send_modify(|count| *count += 1);
    }

    /// Why the program is told no way back to clients, if it needs one.
    fn routes_refused(&self) -> Vec<String> {
        let desired = self.membership.desired();
        let is_needed =
            desired.services.values().any(|service| service.forward.translates() && !service.loopback);
        if is_needed { routes::refused() } else { Vec::new() }
    }

    fn tables(&self) -> BTreeMap<PoolKey, TableInfo> {
        let tables = self.image.tables().filter_map(|(key, report, slots)| {
            let PoolReport { generation, table_hash } = report;
            let key = key.filter(|key| !is_hidden(&key.name))?;
            Some((key, TableInfo { generation, table_hash, slots }))
        });
        tables.collect()
    }

    fn placements(&self, names: &Names) -> Placements {
        Placements {
            reach: Arc::clone(&self.reach),
            slots: names.slots(),
            lost: self.return_paths.lost().clone(),
        }
    }
}

/// That a pool has nobody to take flows, why, and where to look.
fn nobody(pool: &PoolView) -> String {
    let why = pool.backends.iter().find(|backend| !backend.reason.is_empty());
    let why = why.map(|backend| format!(", {}: {}", backend.id.address, backend.reason)).unwrap_or_default();
    format!(
        "pool {name} has no usable backend{why}: lbctl backend list {name} tells of each",
        name = pool.name
    )
}

fn interface(state: InterfaceState) -> Interface {
    Interface {
        name: state.name,
        mode: state.mode.map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
        attached: state.mode.is_some(),
        program_id: (state.program_id != 0).then_some(state.program_id),
        note: state.warning,
        packets: BTreeMap::new(),
    }
}
