//! Plays the script: makes the changes at their times, looks at everything meanwhile, shows how it goes.
//!
//! In: a stage, steps. Out: a [`Played`] for the judge. Invariants: before each step the model's rules are asked again, because a slow machine makes
//! deadlines come before steps that were written to come first; such a step is left out and counted. After each change of the configuration
//! lbd's own list must become the model's.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::api::types::Backend;

use super::change::{Change, name};
use super::chronicle::{Chronicle, Ejected, Look};
use super::clock;
use super::crowd::Crowd;
use super::judge::Evidence;
use super::model::{At, Model, State};
use super::report;
use super::script::{self, Step};
use super::stage::Stage;
use super::watcher::{Heard, here};
use crate::screen::Screen;
use crate::signals::Signals;

/// Time between two looks.
const FRAME: Duration = Duration::from_millis(50);
/// Time between two lines of progress where there is no terminal.
const LINE: Duration = Duration::from_secs(15);
/// From the begin of the load to the first step, and from the last to the end.
const QUIET: Duration = Duration::from_secs(2);
/// No step is so near a deadline.
const NEAR: Duration = Duration::from_secs(1);
/// How long lbd may take until its list says what it was told, and until a backend that is well again is in service.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came of a script.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) chronicle: Chronicle,
    pub(super) evidence: Evidence,
    /// Steps left out.
    pub(super) left_out: usize,
    /// What is wrong beyond what the judge finds: lbd refused, disagrees with the model, ended.
    pub(super) complaints: Vec<String>,
    pub(super) length: Duration,
}

/// Plays all steps, and then brings everybody back.
pub(super) fn play(
    stage: &mut Stage,
    crowd: Crowd,
    steps: &[Step],
    model: Model,
    (signals, screen): (&Signals, &mut Screen),
) -> Result<Played> {
    let begun = clock::now();
    let mut player = Player {
        stage,
        crowd: Some(crowd),
        signals,
        screen,
        chronicle: Chronicle::new(model),
        evidence: Evidence::default(),
        step: 0,
        steps: steps.len(),
        left_out: 0,
        told_at: begun,
        begun,
    };
    let mut complaints = Vec::new();
    let played = player.script(steps).and_then(|()| player.bring_back());
    match played {
        // What was wrong is told, with all that the load saw until then.
        Err(error) if player.signals.check().is_ok() => complaints.push(format!("{error:#}")),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    if let Some(crowd) = player.crowd.take()
        && let Err(error) = crowd.end(&mut player.evidence)
    {
        complaints.push(format!("{error:#}"));
    }
    player.stage.hear(&mut player.evidence)?;
    complaints.extend(player.stage.faults()?);
    if player.stage.log().contains("panicked at") {
        complaints.push("lbd panicked: see its log".to_owned());
    }
    let Player { chronicle, evidence, left_out, .. } = player;
    Ok(Played { chronicle, evidence, left_out, complaints, length: clock::now() - begun })
}

struct Player<'a> {
    stage: &'a mut Stage,
    crowd: Option<Crowd>,
    signals: &'a Signals,
    screen: &'a mut Screen,
    chronicle: Chronicle,
    evidence: Evidence,
    /// Number of the step that was made last, from 1.
    step: usize,
    steps: usize,
    left_out: usize,
    told_at: At,
    begun: At,
}

impl Player<'_> {
    fn script(&mut self, steps: &[Step]) -> Result<()> {
        self.until(clock::now() + QUIET)?;
        let mut last = Duration::ZERO;
        let mut free_at = clock::now();
        for step in steps {
            // Never nearer to the step before than it was written: that one may have taken long.
            self.until((free_at + (step.at - last)).saturating_sub(FRAME))?;
            last = step.at;
            while let Some(deadline) =
                self.chronicle.model.next_deadline().filter(|deadline| *deadline < clock::now() + NEAR)
            {
                self.until(deadline + NEAR)?;
            }
            free_at = clock::now();
            self.step += 1;
            if script::is_allowed(&self.chronicle.model, &step.change, free_at) {
                self.make(&step.change)?;
            } else {
                self.left_out += 1;
            }
        }
        self.until(clock::now() + QUIET)
    }

    fn make(&mut self, change: &Change) -> Result<()> {
        let told = format!("step {}: {change}", self.step);
        let from = clock::now();
        if let Change::Kill(backend) | Change::Cut(backend, _) = change {
            self.lose(*backend, from);
        }
        let reloads = self.stage.reloads();
        self.stage.make(change).with_context(|| told.clone())?;
        self.chronicle.made(self.step, change, (from, clock::now()));
        for backend in self.chronicle.model.indices() {
            if self
                .chronicle
                .spells
                .iter()
                .any(|spell| spell.tcp && spell.backend == backend && spell.from == from)
            {
                self.lose(backend, from);
            }
        }
        self.agree().with_context(|| told.clone())?;
        // A signal is answered by nobody: what a reload does is done when lbd says so, which is after its list does.
        if let Change::Reload(_) = change {
            let patience = clock::now() + PATIENCE;
            while self.stage.reloads() <= reloads {
                ensure!(clock::now() < patience, "{told}: lbd says nothing of the reload in its log");
                self.frame()?;
            }
            self.chronicle.settle(from, clock::now());
        }
        Ok(())
    }

    fn lose(&self, backend: usize, since: At) {
        if let Some(crowd) = &self.crowd {
            crowd.board.set_lost(backend, since);
        }
    }

    /// Waits until lbd says of its backends what the model says.
    fn agree(&mut self) -> Result<()> {
        let made = clock::now();
        let mut differences = vec!["lbd says nothing".to_owned()];
        while clock::now() < made + PATIENCE {
            if let Some(backends) =
                self.frame()?.filter(|(asked, _)| *asked >= made).map(|(_, backends)| backends)
            {
                differences = self.differences(&backends);
                if differences.is_empty() {
                    return Ok(());
                }
            }
        }
        bail!("lbd's list is not what it was told: {}", differences.join("; "))
    }

    fn differences(&self, listed: &[Backend]) -> Vec<String> {
        let model = &self.chronicle.model;
        let compare = |backend: usize| {
            let address = self.stage.topology.backend_address(backend);
            let row = listed.iter().find(|row| row.address.ip == address);
            let member = &model.members[backend];
            let state = match member.state {
                State::Active => "active",
                State::Draining { .. } | State::Expired => "draining",
                State::Disabled => "disabled",
            };
            let wanted = member.is_there().then(|| (member.weight(), state));
            let found = row.map(|row| (row.weight, row.state.as_str()));
            (wanted != found).then(|| format!("{} is {found:?} instead of {wanted:?}", name(backend)))
        };
        model.indices().filter_map(compare).collect()
    }

    /// Brings everybody back who was killed or cut: they have to be in service again.
    fn bring_back(&mut self) -> Result<()> {
        for backend in self.chronicle.model.indices() {
            let model = &self.chronicle.model;
            let change = match (model.is_dead(backend), model.is_cut(backend)) {
                (true, _) => Change::Revive(backend),
                (_, true) => Change::Heal(backend),
                _ => continue,
            };
            self.make(&change)?;
        }
        let begun = clock::now();
        loop {
            let (model, now) = (&self.chronicle.model, clock::now());
            let wanted = model.indices().filter(|backend| model.takes(*backend));
            let out: Vec<String> = wanted.filter(|backend| !self.is_eligible(*backend)).map(name).collect();
            if out.is_empty() {
                break;
            }
            if model.all_well(now) && now > begun + PATIENCE {
                bail!("well again and not in service: {}", out.join(", "));
            }
            self.frame()?;
        }
        self.until(clock::now() + QUIET)
    }

    /// Whether it takes new flows by lbd's last word.
    fn is_eligible(&self, backend: usize) -> bool {
        let looks = self.chronicle.looks.iter().rev().filter(|look| look.backend == backend);
        looks.filter_map(|look| look.eligible).next() == Some(true)
    }

    fn until(&mut self, time: At) -> Result<()> {
        while clock::now() < time {
            self.frame()?;
        }
        Ok(())
    }

    /// One look at everything; what lbd said last, and when it had been asked, if it said anything since the last look.
    fn frame(&mut self) -> Result<Option<(At, Vec<Backend>)>> {
        self.signals.wait(FRAME)?;
        let spells = self.chronicle.spells.len();
        self.chronicle.pass(clock::now());
        for spell in self.chronicle.spells[spells..].iter().filter(|spell| spell.tcp) {
            self.lose(spell.backend, spell.from);
        }
        let model = &self.chronicle.model;
        self.stage.check(|backend| model.is_dead(backend))?;
        let mut last = None;
        for heard in self.stage.watcher.take() {
            match heard {
                Heard::Event { at, address, eligible } => {
                    if let Some(backend) = self.backend(address) {
                        let eligible = Some(eligible);
                        self.chronicle.look(Look { at, backend, eligible, healthy: None, ejected: None });
                    }
                }
                Heard::List { asked, backends } => {
                    self.list(asked, &backends);
                    last = Some((asked, backends));
                }
            }
        }
        self.show();
        Ok(last)
    }

    fn backend(&self, address: IpAddr) -> Option<usize> {
        self.chronicle
            .model
            .indices()
            .find(|backend| self.stage.topology.backend_address(*backend) == address)
    }

    fn list(&mut self, asked: At, listed: &[Backend]) {
        for backend in self.chronicle.model.indices() {
            let address = self.stage.topology.backend_address(backend);
            let row = listed.iter().find(|row| row.address.ip == address);
            self.chronicle.look(Look {
                at: asked,
                backend,
                eligible: Some(row.is_some_and(|row| row.eligible)),
                healthy: Some(row.is_some_and(|row| row.health.as_str() != "unhealthy")),
                ejected: Some(
                    row.filter(|row| row.ejected)
                        .map_or(Ejected::No, |row| Ejected::from_words(&row.reason, here)),
                ),
            });
        }
    }

    fn show(&mut self) {
        let Some(crowd) = &self.crowd else { return };
        crowd.collect(&mut self.evidence);
        let now = clock::now();
        let at = report::Moment {
            step: self.step,
            steps: self.steps,
            time: now - self.begun,
            last: self.chronicle.done.last(),
        };
        if self.screen.is_live() {
            let lines = report::live(&at, &self.chronicle, &self.evidence, self.screen);
            self.screen.draw(&lines);
        } else if now > self.told_at + LINE {
            self.told_at = now;
            let line = report::progress(&at, &self.evidence);
            self.screen.say(&line);
        }
    }
}
