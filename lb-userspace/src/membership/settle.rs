//! What becomes of a pool's members when something is known anew: verdicts, slow start, panic and backup.
//!
//! In: a [`Pool`] with its members as they are, the ways, the backup pool, the time. Out: the same pool, every verdict being what
//! [`super::eligibility::judge`] says of the present facts, and every table's mode what `standby.rs` makes of them. Two steps:
//! [`Pool::judge`] needs nothing but the pool, [`Pool::decide`] needs the backup pool judged.

use super::ejection::Until;
use super::eligibility::{Facts, Way, is_active, judge};
use super::pool::{Member, Pool, StandIn, puts_source, variants_of};
use super::ramp::{Ramp, WHOLE};
use super::standby::{Mode, Policy, Sums};
use super::ways::{Ways, sources};
use super::{Millis, StateOverride};
use crate::desired::Variant;
use crate::health::Health;
use crate::spec::{BackendAddress, DatapathSpec, OnLoss, ServiceSpec, WhenNone};

impl Pool {
    /// Its services all say so. One table serves them all, so where they differ the safer word counts: flows of a lost
    /// backend are selected again, and nobody unhealthy takes new ones.
    fn all_say(&self, says: impl Fn(&ServiceSpec) -> bool) -> bool {
        !self.services.is_empty() && self.services.iter().all(|service| says(service))
    }

    /// The services of this table want `spread`, all of them.
    fn spreads(&self, variant: Variant) -> bool {
        let mut services =
            self.services.iter().filter(|service| variants_of(service).any(|v| v == variant)).peekable();
        services.peek().is_some() && services.all(|service| service.when_none == WhenNone::Spread)
    }

    /// Judges every member anew.
    pub(super) fn judge(&mut self, now: Millis, ways: &Ways, datapath: &DatapathSpec) {
        let hold = self.all_say(|service| service.on_loss == OnLoss::Hold);
        let verdicts: Vec<_> = self
            .members
            .iter()
            .map(|(address, member)| {
                let facts = Facts {
                    ejected: self.ejection_of(member, now),
                    ..self.facts(*address, member, ways, datapath, hold)
                };
                (judge(&facts), matches!(facts.way, Way::Known), facts.ejected.is_some())
            })
            .collect();
        for (member, (verdict, is_reachable, is_ejected)) in self.members.values_mut().zip(verdicts) {
            member.is_ejected = is_ejected;
            if verdict.takes_new && !member.verdict.takes_new && !is_as_before(member) {
                member.ramp = Some(Ramp { since: now, length: self.slow_start });
            }
            if let Some(ramp) = &mut member.ramp {
                // A reload may have changed it meanwhile.
                ramp.length = self.slow_start;
            }
            member.ramp = member.ramp.filter(|ramp| verdict.takes_new && ramp.next(now).is_some());
            member.tenths = member.ramp.map_or(WHOLE, |ramp| ramp.tenths(now));
            // What was before this daemon started counts until something better is known, and once.
            let is_used_up =
                if member.check.is_some() { member.health != Health::Unknown } else { !verdict.takes_new };
            member.held = member.held.filter(|_| !is_used_up);
            (member.verdict, member.is_reachable) = (verdict, is_reachable);
            member.is_asked |= is_reachable;
        }
    }

    /// Decides who of its members and of `backup`'s, judged, has the new flows of each table.
    pub(super) fn decide(&mut self, now: Millis, backup: Option<&Self>) {
        let hold = self.all_say(|service| service.on_loss == OnLoss::Hold);
        let stand_in = |member: &Member| StandIn {
            weight: member.weight(),
            tenths: member.tenths,
            is_usable: member.verdict.takes_new,
            keeps: hold || member.verdict.keeps,
        };
        let strangers = backup.into_iter().flat_map(|backup| &backup.members);
        self.stand_ins = strangers
            .filter(|(address, _)| !self.members.contains_key(*address))
            .map(|(address, member)| (*address, stand_in(member)))
            .collect();
        let variants = self.variants();
        self.modes.retain(|variant, _| variants.contains(variant));
        for variant in variants {
            let sums = self.sums(variant);
            let policy = Policy { panic_below: self.panic_below, backup: self.backup.as_ref() };
            let mode = self.modes.get(&variant).copied().unwrap_or_default();
            let next = mode.next(sums, policy, now);
            let spreads = !next.on_backup && sums.usable == 0 && self.spreads(variant);
            self.modes.insert(variant, Mode { spreads, ..next });
        }
    }

    /// In a table of this mode it takes new flows although it is not well: `when_none = "spread"`, or `panic_below`.
    pub(super) fn is_spread(mode: &Mode, member: &Member) -> bool {
        let may = is_active(member.commanded(), member.weight()) && member.is_reachable;
        may && (mode.spreads || mode.panic && is_judged(member))
    }

    /// In a table of this mode new flows may come to it.
    pub(super) fn takes_new_in(mode: &Mode, member: &Member) -> bool {
        (member.verdict.takes_new && !mode.on_backup) || Self::is_spread(mode, member)
    }

    /// The modes of the tables in which an address is.
    pub(super) fn modes_of(&self, address: BackendAddress) -> impl Iterator<Item = &Mode> {
        self.modes.iter().filter(move |(variant, _)| variant.includes(address.ip)).map(|(_, mode)| mode)
    }

    /// In some table new flows may come to it; where there is none (nobody uses it, but as a backup), in that of another pool.
    pub(super) fn takes_new(&self, address: BackendAddress, member: &Member) -> bool {
        match self.modes_of(address).next() {
            None => member.verdict.takes_new,
            Some(_) => self.modes_of(address).any(|mode| Self::takes_new_in(mode, member)),
        }
    }

    fn sums(&self, variant: Variant) -> Sums {
        let mut sums = Sums::default();
        let active = |member: &&Member| is_active(member.commanded(), member.weight());
        for member in self.of(variant).map(|(_, member)| member).filter(active) {
            let weight = u64::from(member.weight());
            sums.waiting |= !is_judged(member);
            sums.known += if is_judged(member) { weight } else { 0 };
            sums.usable += if member.verdict.takes_new { weight } else { 0 };
        }
        let stand_ins = self.stand_ins.iter().filter(|(address, _)| variant.includes(address.ip));
        sums.stand_ins = stand_ins.filter(|(_, stand_in)| stand_in.is_usable && stand_in.weight > 0).count();
        sums
    }

    /// When one of its verdicts or modes changes although nothing happens.
    pub(super) fn timer(&self, now: Millis) -> Option<Millis> {
        let ramps = self.members.values().filter_map(|member| member.ramp?.next(now));
        let hold = self.backup.as_ref().map(|backup| backup.hold);
        let modes = self.modes.values().filter_map(|mode| mode.timer(hold?));
        let ejections = self.members.values().filter_map(|member| match self.ejection_of(member, now)? {
            (Until::Time(until), _) => Some(until),
            (Until::Check, _) => None,
        });
        ramps.chain(modes).chain(ejections).min()
    }

    fn of(&self, variant: Variant) -> impl Iterator<Item = (&BackendAddress, &Member)> {
        self.members.iter().filter(move |(address, _)| variant.includes(address.ip))
    }

    fn facts<'a>(
        &self,
        address: BackendAddress,
        member: &'a Member,
        ways: &'a Ways,
        datapath: &DatapathSpec,
        hold: bool,
    ) -> Facts<'a> {
        let (deadline, expired) = match member.over.state {
            Some(StateOverride::Draining { deadline, expired, .. }) => (deadline, expired),
            _ => (None, false),
        };
        let way = match ways.of(address.ip) {
            Way::Known if !self.has_source(address, ways, datapath) => Way::NoSource,
            way => way,
        };
        Facts {
            commanded: member.commanded(),
            deadline,
            expired,
            weight: member.weight(),
            weight_overridden: member.over.weight.is_some(),
            used: self.is_used(),
            checked: member.check.is_some(),
            asked: member.through.is_empty() || member.is_asked || matches!(way, Way::Known),
            health: member.health,
            detail: &member.detail,
            held: member.held,
            ejected: None,
            way,
            hold,
        }
    }

    /// Every service that puts an address of this host into packets to this backend has one.
    fn has_source(&self, address: BackendAddress, ways: &Ways, datapath: &DatapathSpec) -> bool {
        let users = || self.services.iter().chain(&self.behind);
        let variants = [Variant::V4, Variant::V6, Variant::Any];
        variants.into_iter().filter(|variant| variant.includes(address.ip)).all(|variant| {
            !users().any(|service| puts_source(service, variant))
                || !sources(variant, address.ip, ways, datapath).is_empty()
        })
    }

    /// Members of this table that are eligible by themselves, not by `spread`, and those that could stand in for them.
    pub(super) fn usable(&self, variant: Variant) -> usize {
        let own = self.of(variant).filter(|(_, member)| member.verdict.takes_new).count();
        own + self.modes.get(&variant).map_or(0, |mode| mode.stand_ins)
    }

    /// The kernel's tables say that this member of the backup pool had its new flows: it goes on so until it has been well for long
    /// enough.
    pub(super) fn go_on_with_backup(&mut self, address: BackendAddress) {
        for variant in self.variants().into_iter().filter(|variant| variant.includes(address.ip)) {
            self.modes.entry(variant).or_default().on_backup = true;
        }
    }
}

/// Something is known of its health: a check has spoken, or there is none, or the kernel's tables had it.
fn is_judged(member: &Member) -> bool {
    member.check.is_none() || member.health != Health::Unknown || member.held.is_some()
}

/// It takes flows because it did before this daemon started.
fn is_as_before(member: &Member) -> bool {
    let held = member.held.is_some_and(|held| held.takes_new);
    held && (member.check.is_none() || member.health == Health::Unknown)
}
