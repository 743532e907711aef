//! What the replies of a flow carry, from the maps alone.
//!
//! In: a flow of nat or full-nat with its hash and value. Out: its key in the reply index; `None` for flows whose replies do
//! not come this way. Invariant: the same key as the program's; otherwise replies of a carried flow are not recognised
//! (they pass to the kernel), never translated wrongly: the flow entry decides.

use lb_common::{Backend, Forward, Settings, service_policy};
use lb_datapath::flow_table::{FlowKey, Value};
use lb_datapath::nat::{self, endpoint_port_be};
use lb_datapath::reply_index::ReplyKey;

use crate::datapath::maps::Maps;

/// The key of a flow's replies.
pub(super) fn key(
    maps: &Maps,
    settings: &Settings,
    flow: &FlowKey,
    hash: u64,
    value: Value,
) -> Option<ReplyKey> {
    let service = maps.services.get(usize::from(flow.service))?;
    let policy = service.policy.load();
    let forward = (policy >> service_policy::FORWARD) & 0xff;
    let backend = backend(maps, policy, value.backend())?;
    let (destination, destination_port_be) = if forward == Forward::FullNat as u64 {
        let (source, port_be) = nat::source_and_port_be(settings, backend, hash, value.attempt())?;
        (maps.sources.get(source as usize)?.address, port_be)
    } else if forward == Forward::Nat as u64 {
        (flow.client, flow.client_port_be)
    } else {
        return None;
    };
    Some(ReplyKey {
        backend: backend.address,
        destination,
        backend_port_be: endpoint_port_be(backend, service, flow.service_port_be),
        destination_port_be,
        protocol: service.protocol,
    })
}

fn backend(maps: &Maps, policy: u64, local: u16) -> Option<&Backend> {
    let pool = maps.pools.get(((policy >> service_policy::POOL) & 0xffff) as usize)?;
    let block = pool.backends.load();
    let (base, entries) = (block & 0xffff_ffff, block >> 32);
    let is_inside = local != 0 && u64::from(local) < entries;
    is_inside.then(|| maps.backends.get(usize::try_from(base).ok()? + usize::from(local)))?
}
