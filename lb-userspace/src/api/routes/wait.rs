//! `--wait`: until what was let in takes flows.
//!
//! In: a change, the snapshots published after it. Out: nothing, or the backend that was waited for in vain and why it has no
//! flows. Invariant: a backend that may take flows by the operator's word is waited for until the maps send it some: its check
//! has succeeded, its next hop is known, its table is written. Where the operator's own word keeps flows away (weight 0,
//! drained, a pool without a service) its first check alone is waited for.

use tokio::time::{Instant, timeout_at};

use super::super::{Handle, Snapshot};
use super::find_pool;
use crate::health::Health;
use crate::membership::{BackendView, Change, Commanded, MemberId, Operation, PoolView};

/// The backends that a change lets in, by the names it uses.
pub(super) fn admitted(change: &Change) -> Vec<MemberId> {
    let mut all = Vec::new();
    for operation in &change.operations {
        match operation {
            Operation::BackendAdd { pool, address, .. } | Operation::BackendEnable { pool, address } => {
                all.push(MemberId { pool: pool.clone(), address: *address });
            }
            Operation::ServiceAdd(add) => all.extend(
                add.backends
                    .iter()
                    .map(|backend| MemberId { pool: add.name.clone(), address: backend.address }),
            ),
            _ => {}
        }
    }
    all
}

/// Waits until none of these is to be waited for.
///
/// # Errors
/// At `end`, or when the daemon stops: the first that still has no flows, and why.
pub(super) async fn until_served(
    handle: &Handle,
    wanted: &[MemberId],
    end: Instant,
) -> Result<(), (MemberId, String)> {
    let mut published = handle.published.clone();
    loop {
        published.borrow_and_update();
        let snapshot = handle.snapshot.load_full();
        let mut missing = wanted.iter().filter_map(|id| Some((id, missing(&snapshot, id)?)));
        let Some((id, why)) = missing.next() else { return Ok(()) };
        match timeout_at(end, published.changed()).await {
            Ok(Ok(())) => {}
            // The time is over, or the daemon is.
            Ok(Err(_)) | Err(_) => return Err((id.clone(), why)),
        }
    }
}

/// Why a backend is still to be waited for; `None`: it is not, or it is gone again.
fn missing(snapshot: &Snapshot, id: &MemberId) -> Option<String> {
    let pool = find_pool(snapshot, &id.pool).ok()?;
    let backend = pool.backends.iter().find(|backend| backend.id.address == id.address)?;
    if backend.eligible {
        return (!snapshot.in_force).then(|| "the kernel's tables could not be written".to_owned());
    }
    let waits = match may_take_flows(pool, backend) {
        true => true,
        false => backend.checked && backend.health == Health::Unknown,
    };
    waits.then(|| backend.reason.clone())
}

/// Nothing but its check and the way to it keeps flows away from it.
fn may_take_flows(pool: &PoolView, backend: &BackendView) -> bool {
    backend.state == Commanded::Active && backend.weight > 0 && !pool.services.is_empty()
}
