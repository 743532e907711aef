//! What readers see of the daemon: one consistent picture, published after each applied plan.
//!
//! In: views of the membership and what the maps were given, put together by the controller. Out: a [`Snapshot`] behind an
//! `ArcSwap`, and [`Counters`], which are read when they are asked for. Invariant: a snapshot does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::Reason;

use super::types::{FlowTables, Interface, Totals};
use crate::desired::PoolKey;
use crate::image::TableSlots;
use crate::membership::{MemberId, OverrideEntry, PoolView, ServiceView};
use crate::moment::Millis;
use crate::reach::{PoolReach, Reach};
use crate::spec::Name;

/// One consistent picture.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The configuration's number.
    pub revision: u64,
    /// The configuration file was refused when it was last read.
    pub file_refused: bool,
    /// When the daemon started.
    pub started: Millis,
    /// The maps hold what is shown here; false: they could not be written.
    pub in_force: bool,
    /// A sentence for everything that is not as it should be.
    pub degraded: Vec<String>,
    /// A sentence for what is worth knowing and no fault.
    pub notices: Vec<String>,
    /// Where packets come in; their counters are left empty here.
    pub interfaces: Vec<Interface>,
    /// Every service.
    pub services: Vec<ServiceView>,
    /// Every pool.
    pub pools: Vec<Arc<PoolView>>,
    /// Every override.
    pub overrides: Vec<OverrideEntry>,
    /// The tables in the datapath.
    pub tables: BTreeMap<PoolKey, TableInfo>,
    /// What is known of backends besides the membership's view.
    pub placements: Placements,
    /// The configuration file's path.
    pub config: String,
    /// keep or detach.
    pub on_exit: String,
    /// Of the hash's secret.
    pub seed_fingerprint: String,
}

/// A table of the datapath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableInfo {
    /// Counted up by every change.
    pub generation: u64,
    /// Of its contents.
    pub table_hash: u64,
    /// Slots in it.
    pub slots: u32,
}

/// What is known of backends besides the membership's view, put together when it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    /// Where each backend is as seen from this host.
    pub reach: Arc<BTreeMap<Name, PoolReach>>,
    /// The slots of each table of a pool, by address.
    pub slots: BTreeMap<Name, Vec<TableSlots>>,
    /// Backends to which connections are begun while nothing comes back through this host.
    pub lost: BTreeSet<MemberId>,
}

impl Placements {
    /// Of one backend.
    pub fn get(&self, id: &MemberId) -> Placement {
        let of_table = |table: &TableSlots| -> u64 {
            let from = table.partition_point(|(address, _)| *address < id.address);
            let own = table.iter().skip(from).take_while(|(address, _)| *address == id.address);
            own.map(|(_, slots)| u64::from(*slots)).sum()
        };
        Placement {
            reach: self.reach.get(&id.pool).and_then(|pool| pool.get(&id.address)).copied(),
            slots: self.slots.get(&id.pool).into_iter().flatten().map(of_table).sum(),
            no_return_path: self.lost.contains(id),
        }
    }
}

/// What is known of a backend besides the membership's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Where it is as seen from this host.
    pub reach: Option<Reach>,
    /// Slots it has, over all tables of its pool.
    pub slots: u64,
    /// Connections are begun and nothing comes back through this host.
    pub no_return_path: bool,
}

/// The counters in the kernel, read when asked. Implementations add up all CPUs and all listeners of a service, and keep
/// what was counted under ids that have since been given away.
pub trait Counters: Send + Sync + 'static {
    /// Every service.
    fn services(&self) -> BTreeMap<Name, Totals>;
    /// Every backend.
    fn backends(&self) -> BTreeMap<MemberId, Totals>;
    /// Counts the flows anew (unless that was done a moment ago): [`Self::backend_flows`] and [`Self::flow_tables`] are of this moment afterwards, without it of
    /// the last few seconds.
    fn count_flows(&self);
    /// When they were last counted, by the daemon's clock: two counts have two of it.
    fn flows_counted(&self) -> Millis;
    /// Flows of every backend, as last counted.
    fn backend_flows(&self) -> BTreeMap<MemberId, u64>;
    /// Every reason that happened, with the service it concerns (`None`: none).
    fn reasons(&self) -> Vec<(Option<Name>, Reason, u64)>;
    /// How full the flow tables are, as last counted.
    fn flow_tables(&self) -> FlowTables;
    /// Packets of an interface by verdict: pass, drop, transmit, redirect.
    fn interface(&self, name: &str) -> BTreeMap<String, u64>;
}
