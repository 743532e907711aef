//! Overrides: weight, drain, disable, enable, clear.

use std::sync::Arc;
use std::time::Duration;

use super::unchanged;
use crate::membership::draft::Draft;
use crate::membership::event::{DomainEvent, in_words};
use crate::membership::pool::no_override;
use crate::membership::{MemberId, Override, Refusal, RefusalCode, StateOverride, Then};
use crate::spec::{LONGEST, Origin, format_duration};

impl Draft<'_> {
    /// Changes a backend's override; true: it says something else than before.
    pub(in crate::membership) fn set_override(
        &mut self,
        id: &MemberId,
        change: impl FnOnce(&mut Override),
    ) -> bool {
        let Some(pool) = self.next.pools.get_mut(&id.pool) else { return false };
        let Some(member) = Arc::make_mut(pool).members.get_mut(&id.address) else { return false };
        let mut new = Override::clone(&member.over);
        change(&mut new);
        if (new.weight, new.state) == (member.over.weight, member.over.state) {
            return false;
        }
        let unchecked = |over: &Override| over.state == Some(StateOverride::Disabled);
        if unchecked(&member.over) != unchecked(&new) {
            member.forget();
        }
        new.since = self.now;
        new.by = self.who.to_owned();
        if new.is_empty() {
            self.next.overridden.remove(id);
            member.over = no_override();
        } else {
            self.next.overridden.insert(id.clone());
            member.over = Arc::new(new);
        }
        self.outcome.events.push(DomainEvent::overridden(id, &member.over));
        self.touched_pools.insert(id.pool.clone());
        self.revised = true;
        true
    }

    /// What is said of a backend after its override was (perhaps) changed.
    fn note(&self, id: &MemberId, changed: bool) -> String {
        let over = self.next.member(id).map(|member| in_words(&member.over)).unwrap_or_default();
        match (changed, over.as_str()) {
            (false, _) => unchanged(&format!("backend {id}")),
            (true, "") => format!("backend {id}: no override"),
            (true, over) => format!("backend {id}: {over}"),
        }
    }

    pub(super) fn weight(&mut self, id: &MemberId, weight: u16) -> String {
        let changed = self.set_override(id, |over| {
            over.weight = Some(weight);
            // A drain without a deadline is a weight of 0 by another name: a weight ends it.
            if weight > 0 && over.state == Some(StateOverride::DRAIN) {
                over.state = None;
            }
        });
        self.note(id, changed)
    }

    pub(super) fn drain(
        &mut self,
        id: &MemberId,
        deadline: Option<Duration>,
        then: Then,
    ) -> Result<String, Refusal> {
        if then == Then::Remove {
            self.own_backend(id)?;
        }
        within_a_year(deadline)?;
        let state = match deadline {
            None if then != Then::Keep => {
                return Err(Refusal::new(
                    RefusalCode::Invalid,
                    format!("a drain without a deadline has no moment to {} the backend", then.as_str()),
                    "say when: --deadline 60s",
                ));
            }
            None => StateOverride::DRAIN,
            Some(deadline) => {
                StateOverride::Draining { deadline: Some(self.now.after(deadline)), then, expired: false }
            }
        };
        let changed = self.set_override(id, |over| over.state = Some(state));
        Ok(match deadline.filter(|_| changed) {
            Some(Duration::ZERO) => {
                let what = match then {
                    Then::Keep => "it stays drained",
                    Then::Disable => "it is disabled",
                    Then::Remove => "it is removed",
                };
                format!("backend {id}: its tracked flows go now, as on_loss says; {what}")
            }
            Some(deadline) => {
                let deadline = format_duration(deadline);
                format!("backend {id}: draining for {deadline}, then {}", then.as_str())
            }
            None => self.note(id, changed),
        })
    }

    pub(super) fn disable(&mut self, id: &MemberId) -> String {
        let changed = self.set_override(id, |over| over.state = Some(StateOverride::Disabled));
        self.note(id, changed)
    }

    pub(super) fn enable(&mut self, id: &MemberId) -> Result<String, Refusal> {
        let changed = self.set_override(id, |over| {
            over.state = None;
            over.weight = over.weight.filter(|weight| *weight > 0);
        });
        let claim = self.next.member(id).and_then(|member| member.claims.first().cloned());
        match claim.filter(|claim| claim.weight == 0 && !changed) {
            Some(claim) if self.next.member(id).is_some_and(|member| member.weight() == 0) => {
                let instead = format!("lbctl backend set {} {} --weight N", id.pool, id.address);
                let mut refusal = Refusal::owner(
                    &format!("weight 0 of backend {id}"),
                    &claim.origin,
                    "enable",
                    Some(instead.clone()),
                );
                if claim.origin == Origin::Cli {
                    refusal.message = format!("backend {id} was added with weight 0");
                    refusal.hint = Some(format!("use {instead}"));
                }
                Err(refusal)
            }
            _ => Ok(self.note(id, changed)),
        }
    }

    pub(super) fn clear(&mut self, id: &MemberId) -> String {
        let changed = self.set_override(id, |over| *over = Override::default());
        self.note(id, changed)
    }

    pub(super) fn clear_all(&mut self) -> String {
        let all: Vec<MemberId> = self.next.overridden.iter().cloned().collect();
        for id in &all {
            self.set_override(id, |over| *over = Override::default());
        }
        match all.len() {
            0 => unchanged("overrides"),
            1 => "1 override cleared".to_owned(),
            count => format!("{count} overrides cleared"),
        }
    }
}

/// Refuses a length that no clock has, or that could not be read again once it is written down.
///
/// # Errors
/// It is longer than a year.
pub(super) fn within_a_year(length: Option<Duration>) -> Result<(), Refusal> {
    match length.filter(|length| *length > LONGEST) {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            RefusalCode::Invalid,
            format!("a drain is no longer than {}", format_duration(LONGEST)),
            "name an earlier deadline, or none: it then lasts until somebody ends it",
        )),
    }
}
