//! What there is: who is in the pool by whose word, what the operator's hand is on, who lives.
//!
//! In: changes with the time at which they are made. Out: which backends keep their flows and take new ones, at any time, as the
//! contract with users says (interface.md, *Who owns what* and its table). Invariant: a pure function of changes and times;
//! health is not modelled, what becomes of it is the judge's ([`super::judge`]).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Via;
use super::change::{Change, File, Hand, Index, Then};

/// Time on the clock of the soak, or of its script.
pub(super) type At = Duration;

/// From a return (revived, healed) on, beyond what passive health may keep a backend out: checks and a look.
const RETURN: Duration = Duration::from_secs(4);
/// How long passive health ejects at first; each time after is twice as long.
pub(super) const EJECT: Duration = Duration::from_secs(1);
/// The longest that it ejects.
const MOST_EJECTED: Duration = Duration::from_secs(300);

/// The operator's state of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Active,
    Draining {
        until: Option<At>,
        then: Then,
    },
    /// A drain to be kept, whose deadline is over.
    Expired,
    Disabled,
}

/// A backend as lbd is to know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// By the file, with this weight.
    pub(super) file: Option<u16>,
    /// By lbctl.
    pub(super) cli: Option<u16>,
    /// The operator's weight.
    pub(super) weight: Option<u16>,
    pub(super) state: State,
}

impl Member {
    pub(super) fn is_there(&self) -> bool {
        self.file.is_some() || self.cli.is_some()
    }

    /// The weight that counts.
    pub(super) fn weight(&self) -> u16 {
        self.weight.or(self.file).or(self.cli).unwrap_or(0)
    }

    fn keeps(&self) -> bool {
        self.is_there() && matches!(self.state, State::Active | State::Draining { .. })
    }

    fn takes(&self) -> bool {
        self.is_there() && self.state == State::Active && self.weight() > 0
    }

    /// An override ends with its backend.
    fn forget_if_gone(&mut self) {
        if !self.is_there() {
            *self = Member::default();
        }
    }
}

/// A backend's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Host {
    dead: bool,
    cut: bool,
    /// How often it was killed or cut.
    harmed: u32,
    /// When it is sure to be back in service after its last return.
    well: At,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) members: Vec<Member>,
    hosts: Vec<Host>,
    /// What the file on the disk names; a rollback puts it out of force.
    pub(super) disk: File,
    /// The members before the last change of the configuration, if that may be rolled back to.
    before: Option<Vec<Member>>,
    pub(super) via: Via,
}

impl Model {
    /// So many hosts, of which the file names some.
    pub(super) fn new(hosts: usize, file: &File, via: Via) -> Model {
        let members =
            (0..hosts).map(|index| Member { file: file.get(&index).copied(), ..Member::default() }).collect();
        Model { members, hosts: vec![Host::default(); hosts], disk: file.clone(), before: None, via }
    }

    pub(super) fn indices(&self) -> std::ops::Range<Index> {
        0..self.members.len()
    }

    /// Whether flows tracked with it stay: TCP, or UDP, which a cut does not touch. But a check that finds the cut takes all of them away.
    pub(super) fn keeps(&self, backend: Index, tcp: bool) -> bool {
        let host = &self.hosts[backend];
        let leave = host.cut && (tcp || self.via == Via::Service);
        self.members[backend].keeps() && !host.dead && !leave
    }

    /// Whether it is to take new flows, sooner or later: nothing is wrong with it any more.
    pub(super) fn takes(&self, backend: Index) -> bool {
        self.members[backend].takes() && !self.is_harmed(backend)
    }

    /// Whether it is sure to take new flows and to answer them.
    pub(super) fn serves(&self, backend: Index, now: At) -> bool {
        let host = &self.hosts[backend];
        self.members[backend].takes() && !host.dead && !host.cut && host.well <= now
    }

    /// Killed or cut.
    pub(super) fn is_harmed(&self, backend: Index) -> bool {
        self.is_dead(backend) || self.is_cut(backend)
    }

    pub(super) fn is_dead(&self, backend: Index) -> bool {
        self.hosts[backend].dead
    }

    pub(super) fn is_cut(&self, backend: Index) -> bool {
        self.hosts[backend].cut
    }

    /// Nobody is harmed, and nobody is still on the way back.
    pub(super) fn all_well(&self, now: At) -> bool {
        self.hosts.iter().all(|host| !host.dead && !host.cut && host.well <= now)
    }

    /// The first deadline that has still to be waited for.
    pub(super) fn next_deadline(&self) -> Option<At> {
        let deadlines = self.members.iter().filter_map(|member| match member.state {
            State::Draining { until, .. } => until,
            _ => None,
        });
        deadlines.min()
    }

    /// What time alone does: deadlines up to `now`.
    pub(super) fn advance(&mut self, now: At) {
        for member in &mut self.members {
            let State::Draining { until: Some(until), then } = member.state else { continue };
            if until > now {
                continue;
            }
            match then {
                Then::Keep => member.state = State::Expired,
                Then::Disable => member.state = State::Disabled,
                Then::Remove => {
                    member.cli = None;
                    // Where the file still wants it, what can be done is to keep flows off it.
                    member.state = State::Disabled;
                    member.forget_if_gone();
                }
            }
            // It made a revision of its own.
            self.before = None;
        }
    }

    /// Makes a change at this time. False: it makes no sense here, and nothing was changed.
    pub(super) fn apply(&mut self, change: &Change, now: At) -> bool {
        self.advance(now);
        match change {
            Change::Hand(backend, hand) => self.configure(|members| act(&mut members[*backend], *hand, now)),
            Change::Batch(all) => {
                let backends: BTreeSet<Index> = all.iter().map(|(backend, _)| *backend).collect();
                backends.len() == all.len()
                    && self.configure(|members| {
                        all.iter().all(|(backend, hand)| act(&mut members[*backend], *hand, now))
                    })
            }
            Change::Rollback => match self.before.take() {
                Some(before) => {
                    self.members = before;
                    true
                }
                None => false,
            },
            Change::Reload(file) => self.reload(file),
            Change::Kill(backend) | Change::Cut(backend, _) if self.is_harmed(*backend) => false,
            Change::Kill(backend) => self.harm(*backend, |host| host.dead = true),
            Change::Cut(backend, _) => self.harm(*backend, |host| host.cut = true),
            Change::Revive(backend) => self.is_dead(*backend) && self.mend(*backend, now),
            Change::Heal(backend) => self.is_cut(*backend) && self.mend(*backend, now),
            Change::Mac(_) | Change::Crash(_) | Change::Upgrade => true,
        }
    }

    /// A change of the configuration, all of it or nothing.
    fn configure(&mut self, change: impl FnOnce(&mut Vec<Member>) -> bool) -> bool {
        let before = self.members.clone();
        if !change(&mut self.members) || self.members == before {
            self.members = before;
            return false;
        }
        // A deadline that is rolled back to may be over by then.
        let lasting = |member: &Member| {
            !matches!(member.state, State::Draining { until: Some(_), .. } | State::Expired)
        };
        self.before = before.iter().all(lasting).then_some(before);
        true
    }

    fn reload(&mut self, file: &File) -> bool {
        if *file == self.disk {
            return false;
        }
        let changed = self.configure(|members| {
            for (index, member) in members.iter_mut().enumerate() {
                member.file = file.get(&index).copied();
                member.forget_if_gone();
            }
            true
        });
        if changed {
            self.disk.clone_from(file);
        }
        changed
    }

    fn harm(&mut self, backend: Index, how: impl FnOnce(&mut Host)) -> bool {
        let host = &mut self.hosts[backend];
        how(host);
        host.harmed += 1;
        true
    }

    fn mend(&mut self, backend: Index, now: At) -> bool {
        let host = &mut self.hosts[backend];
        let ejected = EJECT.saturating_mul(1 << host.harmed.min(20)).min(MOST_EJECTED);
        *host = Host { dead: false, cut: false, well: now + ejected + RETURN, ..*host };
        true
    }
}

/// What lbctl does to one backend; false: it would be refused, or do nothing.
fn act(member: &mut Member, hand: Hand, now: At) -> bool {
    let before = *member;
    let draining = |until, then| State::Draining { until, then };
    match hand {
        Hand::Add { weight } if member.cli.is_none() => member.cli = Some(weight),
        Hand::Remove { drain: None } if member.cli.is_some() => {
            member.cli = None;
            member.forget_if_gone();
        }
        Hand::Remove { drain: Some(drain) } if member.cli.is_some() => {
            member.state = draining(Some(now + drain), Then::Remove);
        }
        _ if !member.is_there() => return false,
        Hand::Weight { weight } => {
            member.weight = Some(weight);
            if weight > 0 && member.state == draining(None, Then::Keep) {
                member.state = State::Active;
            }
        }
        Hand::Drain { deadline: Some((_, Then::Remove)) } if member.cli.is_none() => return false,
        Hand::Drain { deadline } => {
            member.state = draining(
                deadline.map(|(deadline, _)| now + deadline),
                deadline.map_or(Then::Keep, |(_, then)| then),
            );
        }
        Hand::Disable => member.state = State::Disabled,
        Hand::Enable => {
            member.state = State::Active;
            member.weight = member.weight.filter(|weight| *weight > 0);
        }
        Hand::Clear => (member.state, member.weight) = (State::Active, None),
        Hand::Add { .. } | Hand::Remove { .. } => return false,
    }
    *member != before
}

#[cfg(test)]
mod tests;
