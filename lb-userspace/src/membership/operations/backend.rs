//! Backends that lbctl adds and removes.

use std::time::Duration;

use super::hand::within_a_year;
use super::unchanged;
use crate::membership::draft::Draft;
use crate::membership::{MemberId, Refusal, RefusalCode, StateOverride, Then};
use crate::spec::{BackendAddress, Name, format_duration};

impl Draft<'_> {
    pub(super) fn backend_add(
        &mut self,
        pool: &Name,
        address: BackendAddress,
        weight: u16,
    ) -> Result<String, Refusal> {
        let pool = self.resolve_pool(pool)?;
        let id = MemberId { pool, address };
        if !self.next.pools.contains_key(&id.pool) {
            return Err(Refusal::not_found("pool", id.pool.as_str(), None));
        }
        if !self.added.insert(id.clone()) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!("backend {id} is named twice in one change"),
                "name it once; a larger share is a larger weight",
            ));
        }
        let there =
            self.next.definitions.cli.backends.get(&id.pool).and_then(|members| members.get(&address));
        match there {
            Some(there) if *there == weight => return Ok(unchanged(&format!("backend {id}"))),
            Some(there) => {
                return Err(Refusal::new(
                    RefusalCode::Invalid,
                    format!("backend {id} was added before, with weight {there}"),
                    format!("change it with lbctl backend set {} {address} --weight {weight}", id.pool),
                ));
            }
            None => {}
        }
        let others: Vec<String> = self
            .next
            .member(&id)
            .map(|member| member.claims.iter().map(|claim| claim.origin.to_string()).collect())
            .unwrap_or_default();
        self.cli().backends.entry(id.pool.clone()).or_default().insert(address, weight);
        self.sync_pool(&id.pool);
        Ok(match others.is_empty() {
            true => format!("backend {id} added"),
            false => format!("backend {id} is now defined by lbctl too, besides {}", others.join(", ")),
        })
    }

    pub(super) fn backend_remove(
        &mut self,
        id: &MemberId,
        drain: Option<Duration>,
    ) -> Result<String, Refusal> {
        self.own_backend(id)?;
        within_a_year(drain)?;
        let drain = drain.filter(|drain| !drain.is_zero());
        if let Some(deadline) = drain.filter(|_| self.next.member(id).is_some()) {
            let until = self.now.after(deadline);
            self.set_override(id, |over| {
                over.state = Some(StateOverride::Draining {
                    deadline: Some(until),
                    then: Then::Remove,
                    expired: false,
                });
            });
            return Ok(format!("backend {id} is drained, to be removed in {}", format_duration(deadline)));
        }
        self.remove_claim(id);
        Ok(match self.next.member(id).and_then(|member| member.claims.first()) {
            Some(claim) => {
                format!("backend {id} is no longer defined by lbctl; it stays, by {}", claim.origin)
            }
            None => format!("backend {id} removed"),
        })
    }

    /// Refuses to remove what lbctl did not add.
    pub(super) fn own_backend(&self, id: &MemberId) -> Result<(), Refusal> {
        let cli = self.next.definitions.cli.backends.get(&id.pool);
        if cli.is_some_and(|members| members.contains_key(&id.address)) {
            return Ok(());
        }
        let Some(claim) = self.next.member(id).and_then(|member| member.claims.first()) else {
            return Err(Refusal::no_backend(&id.pool, id.address));
        };
        let instead = format!("lbctl backend disable {} {}", id.pool, id.address);
        Err(Refusal::owner(&format!("backend {id}"), &claim.origin, "remove", Some(instead)))
    }

    /// Takes lbctl's word for this backend back.
    pub(in crate::membership) fn remove_claim(&mut self, id: &MemberId) {
        // It may come again in the same change.
        self.added.remove(id);
        let cli = self.cli();
        if let Some(members) = cli.backends.get_mut(&id.pool) {
            members.remove(&id.address);
            if members.is_empty() {
                cli.backends.remove(&id.pool);
            }
        }
        self.sync_pool(&id.pool);
    }
}
