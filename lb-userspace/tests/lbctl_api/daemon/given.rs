//! What is given instead of a datapath: flows, an explanation, counters.
//!
//! In: what a test says. Out: the same to whoever asks. Invariant: flows are counted when they are asked for, not before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lb_common::Reason;
use lb_userspace::api::Counters;
use lb_userspace::api::types::{Explanation, Flow, FlowFilter, FlowList, FlowTable, FlowTables, Totals};
use lb_userspace::membership::MemberId;
use lb_userspace::moment::Millis;
use lb_userspace::spec::{Name, Protocol};

/// Flows of backends: as they are, and as last counted.
#[derive(Default)]
pub(super) struct Flows {
    pub(super) now: BTreeMap<MemberId, u64>,
    pub(super) counted: BTreeMap<MemberId, u64>,
    pub(super) counts: u64,
    /// The last count stands for those to come.
    pub(super) stand: bool,
}

impl Flows {
    pub(super) fn count(&mut self) {
        self.counted = self.now.clone();
        self.counts += 1;
    }
}
pub(super) fn explanation() -> Explanation {
    Explanation {
        verdict: "redirect".to_owned(),
        service: Some("web".parse().unwrap()),
        pool: Some("web".parse().unwrap()),
        backend: Some("10.0.0.11".parse().unwrap()),
        selected_by: "maglev".to_owned(),
        interface: Some("eth0".to_owned()),
        next_hop: Some("02:00:00:00:00:0b".to_owned()),
        slot: Some(512),
        sentence: "all of it".to_owned(),
        ..Explanation::default()
    }
}

/// Three flows, as many of them as were asked for.
pub(super) fn flows(filter: &FlowFilter) -> FlowList {
    let limit = filter.limit.unwrap_or(100);
    let flow = |port: u16| Flow {
        protocol: Protocol::Tcp,
        source: ([198, 51, 100, 7], port).into(),
        destination: ([203, 0, 113, 10], 443).into(),
        service: "web".parse().unwrap(),
        pool: "web".parse().unwrap(),
        backend: Some("10.0.0.11".parse().unwrap()),
        state: "established".to_owned(),
        idle: 1.0,
    };
    FlowList { flows: (1..=3).take(limit).map(flow).collect(), truncated: limit < 3 }
}

/// Counters that stand still, but for the flows.
pub(super) struct Given {
    pub(super) flows: Arc<Mutex<Flows>>,
}

impl Counters for Given {
    fn services(&self) -> BTreeMap<Name, Totals> {
        [("web".parse().unwrap(), Totals { packets: 1_000, new_flows: 10, ..Totals::default() })].into()
    }

    fn backends(&self) -> BTreeMap<MemberId, Totals> {
        BTreeMap::new()
    }

    fn count_flows(&self) {
        let mut flows = self.flows.lock().unwrap();
        if !flows.stand {
            flows.count();
        }
    }

    fn flows_counted(&self) -> Millis {
        Millis(self.flows.lock().unwrap().counts)
    }

    fn backend_flows(&self) -> BTreeMap<MemberId, u64> {
        self.flows.lock().unwrap().counted.clone()
    }

    fn reasons(&self) -> Vec<(Option<Name>, Reason, u64)> {
        Reason::ALL.iter().map(|reason| (Some("web".parse().unwrap()), *reason, 5)).collect()
    }

    fn flow_tables(&self) -> FlowTables {
        let table = FlowTable { used: 3, capacity: 1_048_576, ..FlowTable::default() };
        FlowTables { v4: table, v6: table }
    }

    fn interface(&self, _: &str) -> BTreeMap<String, u64> {
        [("pass".to_owned(), 7)].into()
    }
}
