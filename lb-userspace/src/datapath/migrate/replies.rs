//! What the replies of a flow carry, from the maps alone.
//!
//! In: a flow of nat or full-nat with its hash and value. Out: its key in the reply index; `None` for flows whose replies do
//! not come this way. Invariant: the same key as the program's; otherwise replies of a carried flow are not recognised
//! (they pass to the kernel), never translated wrongly: the flow entry decides.

use lb_common::{Address, Backend, Forward, Settings, service_policy};
use lb_datapath::flow_table::{FlowKey, Value};
use lb_datapath::hash;
use lb_datapath::nat::endpoint_port_be;
use lb_datapath::reply_index::ReplyKey;

use crate::datapath::maps::Maps;

/// Step between the attempts of full-nat, as the program's.
const ATTEMPT_STEP: u32 = 0x9e37_79b1;

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
        source(maps, settings, backend, hash, value.attempt())?
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

/// The address and port a backend sees as the client of a full-nat flow.
fn source(
    maps: &Maps,
    settings: &Settings,
    backend: &Backend,
    hash: u64,
    attempt: u8,
) -> Option<(Address, u16)> {
    if backend.source_count == 0 {
        return None;
    }
    let step = u32::from(attempt).wrapping_mul(ATTEMPT_STEP);
    let port = hash::scale(hash::low(hash).wrapping_add(step), settings.snat_port_count.into());
    let index = hash::scale(hash::low(hash >> 16).wrapping_add(step), backend.source_count.into());
    let source = maps.sources.get(usize::from(backend.source) + index as usize)?;
    let port = settings.snat_port_base.wrapping_add(u16::try_from(port).ok()?);
    Some((source.address, port.to_be()))
}
