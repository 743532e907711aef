//! The model: *Who owns what* and its table of states in interface.md, and config.md's sections on slow start, backup, panic, passive health
//! and discovery, written down once more, plainly. It knows no timers, no verdicts that are kept and no plans: it goes from second to second
//! and works everything out anew from what was said.

mod operate;

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Setting, Step};
use crate::membership::{RefusalCode, Then};
use crate::spec::LONGEST_EJECTION;

/// 10.0.0.1 to 10.0.0.6; the first is always in the file, so that the file is never empty.
pub(super) const ADDRESSES: u8 = 6;
/// 10.0.9.1 and 10.0.9.2, the backup.
pub(super) const SORRY: u8 = 2;
const LONGEST: u64 = LONGEST_EJECTION.as_secs();
const FIRST_EJECTION: u64 = 10;
const MAX_EJECTED: usize = 34;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Active,
    Draining,
    Until(u64, Then),
    /// Drained, and its deadline is over.
    Over(u64),
    Disabled,
}

/// What is known of one address that somebody claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct One {
    pub(super) state: State,
    pub(super) weight: Option<u16>,
    well: Option<bool>,
    way: bool,
    /// Until when it was ejected last, and how often in a row.
    pub(super) ejected: Option<(u64, u32)>,
    takes: bool,
    takes_since: u64,
}

impl One {
    const NEW: Self = Self {
        state: State::Active,
        weight: None,
        well: None,
        way: false,
        ejected: None,
        takes: false,
        takes_since: 0,
    };

    fn is_out(&self, now: u64) -> bool {
        self.ejected.is_some_and(|(until, _)| until > now)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    setting: Setting,
    pub(super) now: u64,
    file: BTreeSet<u8>,
    pub(super) has_dns: bool,
    cli: BTreeMap<u8, u16>,
    /// What the DNS and the file source said last, and whom of what they said before nobody can replace yet.
    said: [BTreeMap<u8, u16>; 2],
    lingers: [BTreeMap<u8, u16>; 2],
    pub(super) web: BTreeMap<u8, One>,
    sorry: [One; SORRY as usize],
    on_backup: bool,
    well_since: Option<u64>,
    panic: bool,
}

/// A row of the table that the program in the kernel is to have: address, weight, takes new flows, keeps those it has.
pub(super) type Row = (String, u32, bool, bool);

impl Model {
    pub(super) fn new(setting: Setting) -> Self {
        let mut model = Self {
            setting,
            now: 0,
            file: [1].into(),
            has_dns: true,
            cli: BTreeMap::new(),
            said: Default::default(),
            lingers: Default::default(),
            web: BTreeMap::new(),
            sorry: [One { way: true, ..One::NEW }; SORRY as usize],
            on_backup: false,
            well_since: None,
            panic: false,
        };
        model.settle();
        model
    }

    /// Whose word it is that this address is a backend, with the weight each says, in the order in which they count.
    pub(super) fn claims(&self, who: u8) -> Vec<(&'static str, u16)> {
        let of_file = self.file.contains(&who).then_some(("file", 1));
        let of_cli = self.cli.get(&who).map(|weight| ("cli", *weight));
        let by = |source: usize, name| {
            let weight = self.said[source].get(&who).or(self.lingers[source].get(&who));
            weight.map(|weight| (name, *weight))
        };
        [of_file, of_cli, by(0, super::DNS), by(1, super::FILE)].into_iter().flatten().collect()
    }

    fn defined_weight(&self, who: u8) -> u16 {
        self.claims(who).first().map_or(0, |(_, weight)| *weight)
    }

    fn weight(&self, who: u8) -> u16 {
        self.web[&who].weight.unwrap_or_else(|| self.defined_weight(who))
    }

    fn is_active(&self, who: u8) -> bool {
        self.web[&who].state == State::Active && self.weight(who) > 0
    }

    /// Those without a claim are forgotten, others begin as new ones; what follows from what is known now.
    pub(super) fn settle(&mut self) {
        let claimed: BTreeSet<u8> = (1..=ADDRESSES).filter(|who| !self.claims(*who).is_empty()).collect();
        self.web.retain(|who, _| claimed.contains(who));
        for who in &claimed {
            self.web.entry(*who).or_insert(One::NEW);
        }
        let now = self.now;
        for who in claimed {
            let is_active = self.is_active(who);
            let one = self.web.get_mut(&who).unwrap();
            begin(one, is_active && one.well == Some(true) && one.way && !one.is_out(now), now);
        }
        for one in &mut self.sorry {
            begin(one, one.well == Some(true), now);
        }
        self.decide();
    }

    /// Backup and panic.
    fn decide(&mut self) {
        let active = || self.web.keys().filter(|who| self.is_active(**who));
        let sum = |of: &dyn Fn(&One) -> bool| -> u64 {
            active().filter(|who| of(&self.web[*who])).map(|who| u64::from(self.weight(*who))).sum()
        };
        let (usable, known) = (sum(&|one| one.takes), sum(&|one| one.well.is_some()));
        let is_less = |percent: u64| usable * 100 < known * percent;
        if known == 0 && active().count() > 0 {
            // Nobody has spoken.
            (self.panic, self.well_since) = (false, None);
            return;
        }
        match self.setting.backup.filter(|_| self.stand_ins() > 0) {
            None => (self.on_backup, self.well_since) = (false, None),
            Some((below, above, hold)) => {
                let is_well = usable > 0 && !is_less(above);
                self.well_since = is_well.then(|| self.well_since.unwrap_or(self.now));
                self.on_backup = match self.on_backup {
                    true => self.well_since.is_none_or(|since| self.now - since < hold),
                    false => usable == 0 || is_less(below),
                };
                self.well_since = self.well_since.filter(|_| self.on_backup);
            }
        }
        self.panic = !self.on_backup && is_less(self.setting.panic_below);
    }

    fn stand_ins(&self) -> usize {
        self.sorry.iter().filter(|one| one.takes).count()
    }

    /// Backends that the service could use.
    fn usable(&self) -> usize {
        let stand_ins = if self.setting.backup.is_some() { self.stand_ins() } else { 0 };
        self.web.values().filter(|one| one.takes).count() + stand_ins
    }

    /// Takes a step; the code of the refusal, and then nothing has changed.
    pub(super) fn apply(&mut self, step: &Step) -> Result<(), RefusalCode> {
        match step {
            Step::Health(who, well) => {
                if let Some(one) = self.web.get_mut(who).filter(|one| one.state != State::Disabled) {
                    one.well = Some(*well);
                }
            }
            // Without a service it is not checked.
            Step::Sorry(who, well) => self.hear_of_sorry(*who, *well),
            Step::Way(who, way) => {
                if let Some(one) = self.web.get_mut(who) {
                    one.way = *way;
                }
            }
            Step::Suspect(who) => self.suspect(*who),
            Step::Wait(seconds) => (0..*seconds).for_each(|_| self.tick(1)),
            Step::Late(seconds, who, well) => {
                self.now += seconds;
                self.hear_of_sorry(*who, *well);
                self.settle();
                self.let_go();
                self.tick(0);
            }
            Step::Hear(source, said) => self.hear(*source, said),
            Step::Flows(_) | Step::Walk(_) | Step::Settled => {}
            Step::Reload(..) | Step::Do(..) => return self.change(step),
        }
        self.settle();
        self.let_go();
        Ok(())
    }

    fn hear_of_sorry(&mut self, who: u8, well: bool) {
        self.sorry[usize::from(who)].well = Some(well).filter(|_| self.setting.backup.is_some());
    }

    /// So much later.
    fn tick(&mut self, seconds: u64) {
        self.now += seconds;
        self.settle();
        self.expire();
        self.settle();
        self.let_go();
    }

    fn expire(&mut self) {
        for who in self.web.keys().copied().collect::<Vec<_>>() {
            match self.web[&who].state {
                State::Until(deadline, then) if deadline <= self.now => match then {
                    Then::Keep => self.set(who, State::Over(deadline)),
                    Then::Disable => self.set(who, State::Disabled),
                    Then::Remove => {
                        self.cli.remove(&who);
                        // Another origin still wants it: flows are kept off it.
                        self.set(who, State::Disabled);
                    }
                },
                _ => {}
            }
        }
    }

    fn set(&mut self, who: u8, state: State) {
        let one = self.web.get_mut(&who).unwrap();
        if (one.state == State::Disabled) != (state == State::Disabled) {
            // Nobody has looked meanwhile.
            one.well = None;
        }
        one.state = state;
    }

    /// A change by somebody, which may not take the last usable backend.
    fn change(&mut self, step: &Step) -> Result<(), RefusalCode> {
        let mut next = self.clone();
        let force = match step {
            Step::Reload(members, has_dns) => {
                next.file = members.iter().copied().chain([1]).collect();
                next.has_dns = *has_dns;
                if !has_dns {
                    (next.said[0], next.lingers[0]) = Default::default();
                }
                false
            }
            Step::Do(operation, force) => {
                next.operate(operation)?;
                *force
            }
            _ => unreachable!("no change"),
        };
        next.settle();
        if !force && self.usable() > 0 && next.usable() == 0 {
            return Err(RefusalCode::LastBackend);
        }
        *self = next;
        self.let_go();
        Ok(())
    }

    /// A source answers. Its backends take the place of those before, unless nobody usable would be left: then the usable ones stay.
    fn hear(&mut self, source: usize, said: &BTreeMap<u8, u16>) {
        if said.is_empty() || source == 0 && !self.has_dns {
            return;
        }
        let before: BTreeMap<u8, u16> = self.said[source]
            .iter()
            .chain(&self.lingers[source])
            .map(|(who, weight)| (*who, *weight))
            .collect();
        let mut next = self.clone();
        (next.said[source], next.lingers[source]) = (said.clone(), BTreeMap::new());
        next.settle();
        if self.usable() > 0 && next.usable() == 0 {
            let stays = |(who, _): &(&u8, &u16)| !said.contains_key(who) && self.web[who].takes;
            let staying = before.iter().filter(stays).map(|(who, weight)| (*who, *weight)).collect();
            next = self.clone();
            (next.said[source], next.lingers[source]) = (said.clone(), staying);
        }
        *self = next;
    }

    /// Those that are no longer named go once others can take their place.
    fn let_go(&mut self) {
        for source in 0..2 {
            if self.lingers[source].is_empty() {
                continue;
            }
            let mut next = self.clone();
            next.lingers[source].clear();
            next.settle();
            if self.usable() == 0 || next.usable() > 0 {
                *self = next;
            }
        }
    }

    fn suspect(&mut self, who: u8) {
        let now = self.now;
        let Some(one) = self.web.get(&who) else { return };
        let out = self.web.values().filter(|one| one.is_out(now)).count();
        let is_too_many = out > 0 && (out + 1) * 100 > MAX_EJECTED * self.web.len();
        let is_last = !self.web.iter().any(|(other, one)| *other != who && one.takes);
        if !one.takes || self.on_backup || self.panic || is_too_many || is_last {
            return;
        }
        let times = match one.ejected {
            Some((until, times)) if now - until < LONGEST => times + 1,
            _ => 1,
        };
        let length = (FIRST_EJECTION << (times - 1).min(5)).min(LONGEST);
        self.web.get_mut(&who).unwrap().ejected = Some((now + length, times));
    }

    /// Who is ejected or was lately: address, until when, how often in a row.
    pub(super) fn ejections(&self) -> Vec<(u8, u64, u32)> {
        let recent = |(who, one): (&u8, &One)| {
            let (until, times) = one.ejected?;
            (until > self.now || self.now - until < LONGEST).then_some((*who, until, times))
        };
        self.web.iter().filter_map(recent).collect()
    }

    fn tenths(&self, one: &One) -> u64 {
        let (age, slow) = (self.now - one.takes_since, self.setting.slow_start);
        if !one.takes || age >= slow { 10 } else { (10 * age / slow).max(1) }
    }

    /// The table.
    pub(super) fn rows(&self) -> Vec<Row> {
        let scale = if self.web.values().any(|one| self.tenths(one) < 10) { 10 } else { 1 };
        let part = |weight: u16, tenths: u64| u32::try_from(u64::from(weight) * scale * tenths / 10).unwrap();
        let mut rows = Vec::new();
        for (who, one) in &self.web {
            let in_panic = self.panic && self.is_active(*who) && one.way && one.well.is_some();
            let tenths = if in_panic { 10 } else { self.tenths(one) };
            let takes = in_panic || one.takes && !self.on_backup;
            let is_lost = matches!(one.state, State::Disabled | State::Over(_)) || one.well == Some(false);
            rows.push((
                format!("10.0.0.{who}"),
                part(self.weight(*who), tenths),
                takes,
                in_panic || !is_lost,
            ));
        }
        for (who, one) in self.sorry.iter().enumerate().filter(|_| self.setting.backup.is_some()) {
            let address = format!("10.0.9.{}", who + 1);
            rows.push((address, part(1, 10), self.on_backup && one.takes, one.well != Some(false)));
        }
        rows
    }

    /// Who is checked.
    pub(super) fn checked(&self) -> BTreeSet<String> {
        let web = self.web.iter().filter(|(_, one)| one.state != State::Disabled);
        let sorry = (1..=SORRY).filter(|_| self.setting.backup.is_some());
        web.map(|(who, _)| format!("10.0.0.{who}")).chain(sorry.map(|who| format!("10.0.9.{who}"))).collect()
    }

    /// The ways that are known.
    pub(super) fn ways(&self) -> BTreeSet<String> {
        let web = self.web.iter().filter(|(_, one)| one.way);
        let sorry = (1..=SORRY).filter(|_| self.setting.backup.is_some());
        web.map(|(who, _)| format!("10.0.0.{who}")).chain(sorry.map(|who| format!("10.0.9.{who}"))).collect()
    }
}

/// It takes new flows, or it does not.
fn begin(one: &mut One, takes: bool, now: u64) {
    if takes && !one.takes {
        one.takes_since = now;
    }
    one.takes = takes;
}
