//! The acts of the demo, in order, with the picture that goes with them.
//!
//! In: a running stage. Out: a [`Report`] for every phase. Invariant: phases are seamless: every attempt of the load belongs to
//! exactly one, and a phase ends only when all its requests have ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::judge::{self, Report, Scene};
use super::stage::Stage;
use crate::screen::{self, Screen};
use crate::signals::Signals;

/// Time between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// Time over which answers a second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// Pictures between two questions to lbd how its backends are.
const FRAMES_PER_QUESTION: u64 = 5;
/// How long after its planned end a phase may wait for its last requests, which time out long before.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);

const DRAINED: usize = 1;
const KILLED: usize = 2;

/// Plays all phases, each for its own time or all for `length`.
pub(super) fn play(
    stage: &mut Stage,
    signals: &Signals,
    screen: &mut Screen,
    length: Option<Duration>,
) -> Result<Vec<Report>> {
    let live = Live::default();
    let mut player = Player {
        stage,
        signals,
        screen,
        live,
        begin: Instant::now(),
        from: Instant::now(),
        reports: Vec::new(),
    };
    let seconds = |usual| length.unwrap_or(Duration::from_secs(usual));
    player.phase("baseline", seconds(10), |_| Ok(Instant::now()), judge::baseline)?;
    player.phase("add b4", seconds(9), |stage| stage.add().map(|()| Instant::now()), judge::add)?;
    player.phase(
        "drain b2",
        seconds(9),
        |stage| stage.drain(DRAINED).map(|()| Instant::now()),
        judge::drain,
    )?;
    player.phase("kill b3", seconds(10), |stage| stage.kill(KILLED), judge::kill)?;
    let back = |stage: &mut Stage| {
        stage.bring_back(KILLED)?;
        let started = Instant::now();
        stage.enable(DRAINED).map(|()| started)
    };
    player.phase("back", seconds(10), back, judge::back)?;
    let faults = player.stage.faults()?;
    if let Some(last) = player.reports.last_mut() {
        last.complaints.extend(faults);
    }
    Ok(player.reports)
}

struct Player<'a> {
    stage: &'a mut Stage,
    signals: &'a Signals,
    screen: &'a mut Screen,
    live: Live,
    begin: Instant,
    /// Where the last phase ended and the next begins.
    from: Instant,
    reports: Vec<Report>,
}

impl Player<'_> {
    fn phase(
        &mut self,
        name: &'static str,
        length: Duration,
        act: impl FnOnce(&mut Stage) -> Result<Instant>,
        judge: impl FnOnce(&mut Scene),
    ) -> Result<()> {
        self.draw(name)?;
        let acted = act(self.stage)?;
        while self.from.elapsed() < length {
            self.frame(name)?;
        }
        let to = Instant::now();
        while self.stage.recorder()?.unfinished(to) > 0 && to.elapsed() < SETTLE_TIMEOUT {
            self.frame(name)?;
        }
        let recorder = self.stage.recorder()?;
        let summary = recorder.summary(self.from, to);
        let attempts = recorder.attempts(self.from, to);
        let mut scene = Scene::new(name, self.from..to, acted, summary, attempts);
        judge(&mut scene);
        let report = scene.into_report();
        let mark = if report.held() { self.screen.green("ok    ") } else { self.screen.red("FAILED") };
        self.screen.say(&format!("{mark} {}", judge::line(&report)));
        self.reports.push(report);
        self.from = to;
        Ok(())
    }

    fn frame(&mut self, name: &str) -> Result<()> {
        self.signals.wait(FRAME)?;
        self.stage.check()?;
        self.draw(name)
    }

    fn draw(&mut self, name: &str) -> Result<()> {
        if !self.screen.is_live() {
            return Ok(());
        }
        self.live.look(self.stage)?;
        let recorder = self.stage.recorder()?;
        let summary = recorder.summary(self.from, Instant::now());
        let title = format!(
            "{:>3} s  {name}   {} failed   longest stall {} ms   answers a second:",
            self.begin.elapsed().as_secs(),
            summary.failures(),
            summary.longest_stall.as_millis()
        );
        let width = self.screen.width();
        let mut lines = vec![String::new(), self.screen.cyan(&clipped(&title, width))];
        lines.extend(self.live.bars(self.screen, width));
        self.screen.draw(&lines);
        Ok(())
    }
}

/// The answers so far at one moment.
type Answers = BTreeMap<Arc<str>, u64>;

/// What the live picture is drawn from.
#[derive(Debug, Default)]
struct Live {
    frames: u64,
    states: Vec<(String, String)>,
    past: VecDeque<(Instant, Answers)>,
}

impl Live {
    fn look(&mut self, stage: &Stage) -> Result<()> {
        if self.frames.is_multiple_of(FRAMES_PER_QUESTION) || self.states.len() != stage.backend_names().len()
        {
            self.states = stage.states()?;
        }
        self.frames += 1;
        let now = Instant::now();
        self.past.push_back((now, stage.recorder()?.answers()));
        while self.past.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            self.past.pop_front();
        }
        Ok(())
    }

    /// Answers a second of a backend over the last second.
    fn rate(&self, backend: &str) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.past.front(), self.past.back()) else {
            return 0.0;
        };
        let count = |answers: &Answers| answers.get(backend).copied().unwrap_or(0);
        let seconds = (*to - *from).as_secs_f64();
        if seconds > 0.0 { (count(after) - count(before)) as f64 / seconds } else { 0.0 }
    }

    fn bars(&self, screen: &Screen, width: usize) -> Vec<String> {
        const TEXT_WIDTH: usize = 32;
        let bar_width = width.saturating_sub(TEXT_WIDTH).clamp(4, 60);
        let rates: Vec<f64> = self.states.iter().map(|(name, _)| self.rate(name)).collect();
        let total: f64 = rates.iter().sum();
        let drawn = self.states.iter().zip(rates).map(|((name, state), rate)| {
            // Half of the whole fills the bar: with three servers and more nobody should have that.
            let bar = screen::bar(if total > 0.0 { 2.0 * rate / total } else { 0.0 }, bar_width);
            let bar = if state.is_empty() { screen.green(&bar) } else { screen.red(&bar) };
            format!("  {name}  {bar} {rate:>5.0}  {}", clipped(state, 18))
        });
        drawn.collect()
    }
}

fn clipped(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}
