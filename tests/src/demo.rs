//! The demo: the balancer's main job, shown on real traffic and judged.
//!
//! In: [`Options`]. Out: a picture on the terminal and an [`Ending`]. Invariant: whatever happens (a broken promise, an error, a
//! signal in any phase), everything is taken down in order: load, lbd, servers, network. A demo that was killed outright is
//! swept by the next one.

mod judge;
mod phases;
mod stage;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::run_dir;
use crate::screen::{self, Screen};
use crate::show;
use crate::signals::{Interrupted, Signals};
use crate::topology::{Family, Mode};
use judge::Report;
use stage::Stage;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How packets reach the servers.
    pub mode: Mode,
    /// The vip's family.
    pub family: Family,
    /// Leave everything standing.
    pub keep: bool,
    /// Length of every phase; none: as long as it takes to judge it.
    pub phase: Option<Duration>,
}

/// How a demo ended.
pub type Ending = crate::show::Ending<()>;

/// Runs the demo from an empty machine to an empty machine.
pub fn run(options: &Options) -> Result<Ending> {
    let (ending, mut screen) = show::run(|signals, screen| perform(options, signals, screen))?;
    if !options.keep || ending == Ending::Interrupted {
        show::nothing_is_left()?;
        let said = if ending == Ending::Interrupted { "interrupted; " } else { "" };
        screen.say(&format!("{said}nothing left behind"));
    }
    Ok(ending)
}

/// Tears down what `--keep` and killed processes left.
pub fn clean() -> Result<Ending> {
    let swept = run_dir::sweep(true)?;
    println!("{} earlier run{} taken down", swept.len(), if swept.len() == 1 { "" } else { "s" });
    Ok(Ending::Held(()))
}

/// Builds the stage, plays, takes the stage down on every way out.
fn perform(options: &Options, signals: &Signals, screen: &mut Screen) -> Result<Ending> {
    let mut stage = Stage::build(options, signals, screen)?;
    let played = phases::play(&mut stage, signals, screen, options.phase);
    screen.clear();
    let reports = match played {
        Ok(reports) => reports,
        Err(error) => {
            let described = if error.is::<Interrupted>() { error } else { error.context(stage.log_tail()) };
            // The first error is the one to tell; what follows from it in the teardown is not.
            let _ = stage.take_down();
            return Err(described);
        }
    };
    let held = tell(&reports, &stage, screen);
    if options.keep {
        stage.keep(screen)?;
    } else {
        stage.take_down().context("the teardown")?;
    }
    Ok(if held { Ending::Held(()) } else { Ending::Broke(()) })
}

/// The final summary; whether every phase held.
fn tell(reports: &[Report], stage: &Stage, screen: &mut Screen) -> bool {
    let offered: u64 = reports.iter().map(|report| report.summary.new_connections).sum();
    let ok: u64 = reports.iter().map(|report| report.summary.ok).sum();
    let failed: u64 = reports.iter().map(|report| report.summary.failures()).sum();
    let outside_kill: u64 =
        reports.iter().filter(|report| !report.is_kill).map(|report| report.summary.failures()).sum();
    let stall =
        reports.iter().filter(|report| !report.is_kill).map(|report| report.summary.longest_stall).max();
    screen.say("");
    for line in judge::table(reports, &stage.backend_names()) {
        screen.say(&line);
    }
    screen.say("");
    screen.say(&format!(
        "{} new connections offered, {} requests and downloads answered, {} lost: {} to the killed server before lbd took it \
         out, {} in all other phases (longest stall there {} ms).",
        screen::grouped(offered),
        screen::grouped(ok),
        screen::grouped(failed),
        screen::grouped(failed - outside_kill),
        screen::grouped(outside_kill),
        stall.unwrap_or_default().as_millis()
    ));
    let held = reports.iter().all(Report::held);
    for report in reports {
        for complaint in &report.complaints {
            screen.say(&screen.red(&format!("FAILED {}: {complaint}", report.name)));
        }
    }
    if held {
        screen.say(&screen.green("PASSED: every phase held"));
    } else {
        screen.say(&stage.log_tail());
    }
    held
}
