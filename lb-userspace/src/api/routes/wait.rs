//! `--wait`: until a change is in the kernel's tables and what it lets in takes flows.
//!
//! In: a change, the snapshots published after it. Out: nothing, or what was waited for in vain and why. Invariant: a backend that
//! may take flows by the operator's word is waited for until the maps send it some: its check has succeeded, its next hop is known,
//! its table is written. Where the operator's own word keeps flows away (weight 0, drained, a pool without a service), and of
//! the backends of a pool that a service now uses, the first check alone is waited for.

use tokio::time::{Instant, timeout_at};

use super::super::server::Stopping;
use super::super::{Handle, Snapshot};
use super::find_pool;
use crate::health::Health;
use crate::membership::{BackendView, Change, Commanded, MemberId, Operation, PoolView};
use crate::spec::Name;

/// What a change lets in, by the names it uses.
pub(super) enum Admitted {
    /// One backend.
    Backend(MemberId),
    /// The backends of a pool, which perhaps nobody used before.
    Pool(Name),
}

/// What was waited for in vain.
pub(super) struct InVain {
    /// The sentence it ends in: what is not so yet.
    pub(super) what: String,
    /// Why not.
    pub(super) why: String,
    /// The pool to look at, if it is about one.
    pub(super) pool: Option<Name>,
}

/// What a change lets in.
pub(super) fn admitted(change: &Change) -> Vec<Admitted> {
    let mut all = Vec::new();
    for operation in &change.operations {
        match operation {
            Operation::BackendAdd { pool, address, .. }
            | Operation::BackendEnable { pool, address }
            | Operation::OverrideClear { pool, address } => {
                all.push(Admitted::Backend(MemberId { pool: pool.clone(), address: *address }));
            }
            Operation::ServiceAdd(add) => {
                all.extend(add.pool.clone().map(Admitted::Pool));
                all.extend(add.backends.iter().map(|backend| {
                    Admitted::Backend(MemberId { pool: add.name.clone(), address: backend.address })
                }));
            }
            Operation::ServiceSet(set) => all.extend(set.pool.clone().map(Admitted::Pool)),
            _ => {}
        }
    }
    all
}

/// Waits until the kernel's tables are as configured and nothing of this is to be waited for.
///
/// # Errors
/// At `end`, or when the daemon stops: the first thing that is not so yet, and why.
pub(super) async fn until_served(
    handle: &Handle,
    admitted: &[Admitted],
    end: Instant,
    stopping: &Stopping,
) -> Result<(), InVain> {
    let mut published = handle.published.clone();
    loop {
        published.borrow_and_update();
        let snapshot = handle.snapshot.load_full();
        let Some(missing) = not_in_force(&snapshot)
            .or_else(|| admitted.iter().find_map(|admitted| missing(&snapshot, admitted)))
        else {
            return Ok(());
        };
        // The time is over, or the daemon is.
        let is_news = tokio::select! {
            news = timeout_at(end, published.changed()) => matches!(news, Ok(Ok(()))),
            () = stopping.clone().came() => false,
        };
        if !is_news {
            return Err(missing);
        }
    }
}

fn not_in_force(snapshot: &Snapshot) -> Option<InVain> {
    (!snapshot.in_force).then(|| InVain {
        what: "it is not in the kernel's tables".to_owned(),
        why: "they could not be written, which is tried again".to_owned(),
        pool: None,
    })
}

/// What is still to be waited for; `None`: nothing, or it is gone again.
fn missing(snapshot: &Snapshot, admitted: &Admitted) -> Option<InVain> {
    match admitted {
        Admitted::Backend(id) => {
            let pool = find_pool(snapshot, &id.pool).ok()?;
            let backend = find_backend(pool, id)?;
            match may_take_flows(pool, backend) {
                true => (!backend.eligible).then(|| in_vain(backend, "takes no flows")),
                false => unchecked(backend),
            }
        }
        Admitted::Pool(name) => find_pool(snapshot, name).ok()?.backends.iter().find_map(unchecked),
    }
}

/// As the change names it: the port may be left out (the change was accepted, so one backend alone is meant).
fn find_backend<'a>(pool: &'a PoolView, id: &MemberId) -> Option<&'a BackendView> {
    let by_address = pool.backends.iter().find(|backend| backend.id.address == id.address);
    by_address.or_else(|| {
        let is_meant =
            |backend: &&BackendView| id.address.port.is_none() && backend.id.address.ip == id.address.ip;
        pool.backends.iter().find(is_meant)
    })
}

fn unchecked(backend: &BackendView) -> Option<InVain> {
    let waits = backend.checked && backend.health == Health::Unknown;
    waits.then(|| in_vain(backend, "is not checked yet"))
}

fn in_vain(backend: &BackendView, what: &str) -> InVain {
    InVain {
        what: format!("backend {} {what}", backend.id),
        why: backend.reason.clone(),
        pool: Some(backend.id.pool.clone()),
    }
}

/// Nothing but its check and the way to it keeps flows away from it.
fn may_take_flows(pool: &PoolView, backend: &BackendView) -> bool {
    backend.state == Commanded::Active && backend.weight > 0 && !pool.services.is_empty()
}
