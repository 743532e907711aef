//! Whether a backend takes new flows and keeps those it has: the table of interface.md, *Who owns what*.
//!
//! In: everything that is known of one backend ([`Facts`]). Out: [`Verdict`] with its reason in words. Invariant: a pure
//! function of its argument; every cell of the table is a test in `tests/table.rs`.

use super::ejection::Until;
use super::{Commanded, Millis};
use crate::health::Health;

/// What is known of the way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// Nobody has said anything yet.
    Unreported,
    /// It is known, or none is needed.
    Known,
    /// It is known, but this host has no address to send from.
    NoSource,
    /// There is none, for this reason.
    Unresolved(&'a str),
}

/// What stood in the kernel's tables before this daemon started, or before a check was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// It took new flows.
    pub takes_new: bool,
    /// It kept its flows.
    pub keeps: bool,
}

/// Everything that decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) commanded: Commanded,
    /// A drain's deadline, if it has one.
    pub(super) deadline: Option<Millis>,
    /// The deadline is over.
    pub(super) expired: bool,
    pub(super) weight: u16,
    /// The weight is an override.
    pub(super) weight_overridden: bool,
    /// Its pool is used by a service.
    pub(super) used: bool,
    /// It is checked at all.
    pub(super) checked: bool,
    /// Its checks have left. One through a service waits until the way to the backend is known, so that is what it waits for.
    pub(super) asked: bool,
    pub(super) health: Health,
    pub(super) detail: &'a str,
    pub(super) held: Option<Held>,
    /// Until when it is ejected, and why.
    pub(super) ejected: Option<(Until, &'a str)>,
    pub(super) way: Way<'a>,
    /// `on_loss = "hold"`: lost flows stay where they are.
    pub(super) hold: bool,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// New flows may come to it.
    pub takes_new: bool,
    /// Flows it has stay with it.
    pub keeps: bool,
    /// Why it is not eligible, or what is worth knowing although it is; empty when there is nothing to say.
    pub reason: String,
}

/// A drained, disabled or weightless backend is none that `when_none = "spread"` may fall back to.
pub(super) fn is_active(commanded: Commanded, weight: u16) -> bool {
    commanded == Commanded::Active && weight > 0
}

/// The verdict on one backend.
pub(super) fn judge(facts: &Facts<'_>) -> Verdict {
    let lost = lost(facts);
    let keeps = facts.hold || !lost;
    let refused = |reason: String| Verdict { takes_new: false, keeps, reason };
    match facts.commanded {
        Commanded::Disabled => return refused("disabled by override".to_owned()),
        Commanded::Draining => return refused(drained(facts)),
        Commanded::Active => {}
    }
    if facts.weight == 0 {
        let by = if facts.weight_overridden { " by override" } else { "" };
        return refused(format!("weight 0{by}"));
    }
    if !facts.used {
        return refused("no service uses its pool".to_owned());
    }
    let held = facts.held.is_some_and(|held| held.takes_new);
    if facts.checked {
        match facts.health {
            Health::Unhealthy => return refused(with_detail("unhealthy", facts.detail)),
            Health::Unknown if !held && facts.asked => return refused(unknown(facts.detail)),
            Health::Unknown | Health::Healthy => {}
        }
    }
    match facts.way {
        Way::Unresolved(why) => return refused(with_detail("next hop unresolved", why)),
        Way::NoSource => return refused("this host has no address to send to it from".to_owned()),
        Way::Unreported if !held => return refused("next hop unresolved: not looked up yet".to_owned()),
        Way::Unreported | Way::Known => {}
    }
    if let Some((until, why)) = facts.ejected {
        return refused(format!("ejected until {until}: {why}"));
    }
    let reason = match facts.checked {
        false => "not checked".to_owned(),
        true if facts.health == Health::Unknown => format!("as before; {}", unknown(facts.detail)),
        true => String::new(),
    };
    Verdict { takes_new: true, keeps: true, reason }
}

/// Why nothing is known of its health yet; `detail`: what the last check found, empty before the first.
fn unknown(detail: &str) -> String {
    match detail {
        "" => "waiting for first check".to_owned(),
        detail => with_detail("no good check yet", detail),
    }
}

/// Its flows have lost it: what becomes of them is `on_loss`.
fn lost(facts: &Facts<'_>) -> bool {
    if facts.commanded == Commanded::Disabled || facts.expired {
        return true;
    }
    match (facts.checked, facts.health) {
        (true, Health::Unhealthy) => true,
        (true, Health::Unknown) => facts.held.is_some_and(|held| !held.keeps),
        (true, Health::Healthy) => false,
        // Nobody asks it, so a neighbour that does not answer is all that can be known.
        (false, _) => matches!(facts.way, Way::Unresolved(_)),
    }
}

fn drained(facts: &Facts<'_>) -> String {
    match (facts.deadline, facts.expired) {
        (Some(deadline), true) => format!("drained by override, over since {deadline}"),
        (Some(deadline), false) => format!("drained by override until {deadline}"),
        (None, _) => "drained by override".to_owned(),
    }
}

fn with_detail(what: &str, detail: &str) -> String {
    match detail {
        "" => what.to_owned(),
        detail => format!("{what}: {detail}"),
    }
}
