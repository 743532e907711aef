//! The soak: a seeded script changes everything that can be changed, while connections, streams and datagrams go on and are counted.
//!
//! In: [`Options`]. Out: progress, figures, and an [`Ending`]. Invariants: the script is a function of the seed; a run that failed leaves the script, what
//! happened and the daemon's log in `target/test-logs`; whatever happens, everything is taken down. What is promised is in [`judge`].

mod change;
mod chronicle;
mod clock;
mod crowd;
mod datagrams;
mod figures;
mod judge;
mod model;
mod play;
mod random;
mod report;
mod script;
mod server;
mod stage;
mod streams;
mod watcher;
mod wire;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use server::{Wish as Server, serve};

use crate::screen::Screen;
use crate::show;
use crate::signals::Signals;
use crate::topology::{Binaries, Family, Mode};
use crowd::Crowd;
use model::Model;
use play::Played;
use stage::Stage;

/// The pool and the service.
const POOL: &str = "web";
/// Where connections and streams go to.
const HTTP: u16 = 80;
/// Where checks go to.
const CHECK: u16 = 8080;
/// Where datagrams go to.
const ECHO: u16 = 7;
/// Time between two datagrams of a flow.
const UDP_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(300);
/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// So many checks in a row that fail take a backend out.
const FALL: u32 = 2;

/// By which way the checks of backends travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To a port of the backend's own: they do not see that clients are cut off.
    Direct,
    /// As clients' packets do, to their port: who is cut off from clients is found out by them as well, and let in by nothing else.
    Service,
}

impl Via {
    /// As `via` in the configuration file has it.
    pub fn name(self) -> &'static str {
        match self {
            Via::Direct => "direct",
            Via::Service => "service",
        }
    }
}

impl std::str::FromStr for Via {
    type Err = String;

    fn from_str(text: &str) -> Result<Via, String> {
        let found = [Via::Direct, Via::Service].into_iter().find(|via| via.name() == text);
        found.ok_or_else(|| format!("no way `{text}`: direct or service"))
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// New connections a second.
    pub per_second: u32,
    /// Streams at a time.
    pub streams: u32,
    /// UDP flows at a time.
    pub flows: u32,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How packets reach the backends.
    pub mode: Mode,
    /// The vip's family.
    pub family: Family,
    /// How checks reach them.
    pub via: Via,
    /// Of the script.
    pub seed: u64,
    /// Length of the script.
    pub changes: usize,
    /// Mean time between two changes.
    pub pause: Duration,
    /// Hosts that can be backends; the file names all but two at first.
    pub hosts: usize,
    /// How much load.
    pub amounts: Amounts,
    /// `lbd-soak`, which is the backends' server.
    pub program: PathBuf,
    /// Where a run that failed leaves what happened.
    pub logs: PathBuf,
}

/// How a soak ended, with its figures.
pub type Ending = crate::show::Ending<Value>;

/// The directory for logs: that of `cargo xtask test`, in the target directory a program was built in.
pub fn logs_beside(program: &Path) -> PathBuf {
    let target = program.ancestors().find(|path| path.ends_with("target"));
    target.unwrap_or(Path::new("target")).join("test-logs")
}

/// Runs a soak from an empty machine to an empty machine. `quiet`: nothing on standard output but what is wrong.
///
/// # Errors
/// The stage could not be built. What lbd does wrong is no error but an [`Ending::Broke`].
pub fn run(options: &Options) -> Result<Ending> {
    ensure!(options.hosts >= 5, "needs five hosts: of fewer, too few are always well");
    let (ending, _) = show::run(|signals, screen| perform(options, signals, screen))?;
    show::nothing_is_left()?;
    Ok(ending)
}

fn perform(options: &Options, signals: &Signals, screen: &mut Screen) -> Result<Ending> {
    let file = script::first_file(options.hosts);
    let Options { seed, changes, pause, hosts, via, .. } = *options;
    let steps = script::write(script::Wish { seed, changes, pause, hosts, via });
    let length = steps.last().map_or(Duration::ZERO, |step| step.at);
    let Amounts { per_second, streams, flows } = options.amounts;
    screen.say(&format!(
        "soak, mode {}, checks {}, seed {seed}: {changes} changes in {} s or more, {per_second} new connections a second, {streams} streams, {flows} UDP flows",
        options.mode.name(),
        via.name(),
        length.as_secs()
    ));
    Binaries::find()?;
    let mut stage = Stage::build(options, &file)?;
    signals.check()?;
    let crowd = Crowd::start(&stage.topology, options.amounts, seed)?;
    let played = play::play(&mut stage, crowd, &steps, Model::new(hosts, &file, via), (signals, screen))?;
    screen.clear();
    let mut verdict = judge::judge(&played.chronicle, &played.evidence);
    verdict.complaints.splice(0..0, played.complaints.iter().cloned());
    let width = screen.width();
    for line in report::summary(&played, &verdict, width) {
        screen.say(&line);
    }
    let figures = report::json(&played, &verdict, options);
    if verdict.complaints.is_empty() {
        screen.say(&screen.green(&format!("PASSED: mode {}, seed {seed}", options.mode.name())));
        return Ok(Ending::Held(figures));
    }
    for complaint in &verdict.complaints {
        screen.say(&screen.red(&format!("FAILED: {complaint}")));
    }
    let kept = keep(options, &steps, &played, &verdict, &stage.log())?;
    screen.say(&format!(
        "FAILED: mode {}, seed {seed}; what happened is in {}",
        options.mode.name(),
        kept.display()
    ));
    Ok(Ending::Broke(figures))
}

/// Writes down the script, what happened, and what lbd said.
fn keep(
    options: &Options,
    steps: &[script::Step],
    played: &Played,
    verdict: &judge::Verdict,
    log: &str,
) -> Result<PathBuf> {
    let mut text = String::new();
    let _ = writeln!(text, "{:#?}\n\nwhat is wrong:", options);
    for complaint in &verdict.complaints {
        let _ = writeln!(text, "  {complaint}");
    }
    let _ = writeln!(text, "\nthe script:");
    for (number, step) in (1..).zip(steps) {
        let _ = writeln!(text, "  {number:>4} {:>9.3} s  {}", step.at.as_secs_f64(), step.change);
    }
    let _ = writeln!(text, "\nwhat was done:");
    for done in &played.chronicle.done {
        let (from, to) = (done.stretch.0.as_secs_f64(), done.stretch.1.as_secs_f64());
        let _ = writeln!(text, "  {:>4} {from:>9.3} to {to:>9.3} s  {}", done.step, done.change);
    }
    let _ = writeln!(text, "\nwhat lbd said of backends:");
    for look in &played.chronicle.looks {
        let (who, at) = (change::name(look.backend), look.at.as_secs_f64());
        let _ = writeln!(
            text,
            "  {at:>9.3} s  {who} eligible {:?} healthy {:?} ejected {:?}",
            look.eligible, look.healthy, look.ejected
        );
    }
    let _ = writeln!(text, "\nwhat the load saw:");
    let evidence = &played.evidence;
    for lost in &evidence.lost {
        let _ = writeln!(text, "  connection: {lost}");
    }
    for stream in evidence.streams.iter().filter(|stream| stream.outcome.is_err()) {
        let _ = writeln!(text, "  stream {stream}");
    }
    for slow in &evidence.slow {
        let _ = writeln!(text, "  {slow:?}");
    }
    for hole in evidence.holes.iter().take(2000) {
        let _ = writeln!(text, "  {hole}");
    }
    let _ = writeln!(text, "  the load was late: {:?}", evidence.late);
    let _ = writeln!(text, "\nlbd's log:\n{log}");
    std::fs::create_dir_all(&options.logs)
        .with_context(|| format!("cannot make {}", options.logs.display()))?;
    let path = options.logs.join(format!("soak-{}-{}.log", options.mode.name(), options.seed));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
