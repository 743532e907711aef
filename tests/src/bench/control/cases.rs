//! The figures, one after the other.
//!
//! In: how many turns. Out: rows, each told as soon as it is known. A change is timed from before its `lbctl` is started until it has
//! ended, which is after the daemon has written the maps; changes come one at a time with a pause between, as people make them.

use std::fs;
use std::hint::black_box;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::Address;
use lb_userspace::config;
use lb_userspace::maglev::{self, Member};

use super::figure::{ControlReport, ControlRow, Unit, in_ms};
use super::hops;
use super::memory::Memory;
use super::site::{Amount, Site, backend, config as lbd_toml};
use crate::topology::Lbd;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(50);
const SMALL: Amount = Amount { pools: 1, backends: 100, are_checked: true };
const LARGE: Amount = Amount { pools: 1, backends: 1_000, are_checked: true };
const MANY: Amount = Amount { pools: 1_000, backends: 100, are_checked: false };
const SEED: [u64; 4] = [11, 22, 33, 44];
const SLOTS: u32 = 65_537;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures everything; `tell` is called with each row.
///
/// # Errors
/// If the machine does not say how busy it is.
pub fn measure(turns: usize, tell: impl FnMut(&ControlRow)) -> Result<ControlReport> {
    let mut report = Telling { report: ControlReport::default(), tell };
    report.report.load[0] = load()?;
    report.machine(turns);
    report.tables(turns);
    for (amount, bound) in [(SMALL, 20.0), (LARGE, 100.0)] {
        if let Err(error) = report.changes(amount, bound, turns) {
            report.row("changes by lbctl", &amount.name(), Some(bound), Err(error));
        }
        report.next_hops(amount, turns);
    }
    // Each turn is seconds.
    if let Err(error) = report.many(turns.div_ceil(10)) {
        report.row("load and reload", &MANY.name(), None, Err(error));
    }
    report.report.load[1] = load()?;
    Ok(report.report)
}

fn load() -> Result<String> {
    Ok(fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?.trim().to_owned())
}

struct Telling<T> {
    report: ControlReport,
    tell: T,
}

impl<T: FnMut(&ControlRow)> Telling<T> {
    fn row(&mut self, what: &str, of: &str, bound: Option<f64>, samples: Result<Vec<f64>>) {
        self.add(ControlRow::new(what, of, Unit::Ms, bound, samples));
    }

    fn add(&mut self, row: ControlRow) {
        (self.tell)(&row);
        self.report.rows.push(row);
    }

    /// What the machine takes for itself.
    fn machine(&mut self, turns: usize) {
        let times = (0..turns).map(|_| {
            thread::sleep(Duration::from_millis(3));
            timed(grace_period)
        });
        let times = times.map(|(time, done)| done.map(|()| time)).collect::<Result<Vec<_>>>();
        self.row("a grace period (if CPUs cannot be visited)", "this kernel", None, times.map(in_ms));
        let written = (0..turns).map(|_| timed(written_down)).map(|(time, done)| done.map(|()| time));
        self.row(
            "2 KiB written and on the disk",
            "the run directory",
            None,
            written.collect::<Result<Vec<_>>>().map(in_ms),
        );
    }

    /// A table built.
    fn tables(&mut self, turns: usize) {
        for (what, weights) in [("equal weights", 1_u16), ("weights 1 to 100", 100)] {
            let members: Vec<Member> = (0..1_000_u16)
                .map(|number| Member {
                    address: Address::from(IpAddr::V4(backend(0, number))),
                    port: 0,
                    weight: number % weights + 1,
                })
                .collect();
            let times = (0..turns)
                .map(|_| timed(|| drop(black_box(maglev::build(&SEED, SLOTS, black_box(&members))))).0);
            self.row(
                &format!("a table of 65,537 slots, {what}"),
                "1000 backends",
                Some(5.0),
                Ok(in_ms(times)),
            );
        }
    }

    /// Changes by lbctl of a pool under checks.
    fn changes(&mut self, amount: Amount, bound: f64, turns: usize) -> Result<()> {
        let site = Site::new()?;
        let mut lbd = site.start(amount)?;
        lbd.wait_eligible("p0", usize::from(amount.backends), Duration::from_secs(60))?;
        let (known, new) = (backend(0, 3).to_string(), backend(200, 7).to_string());
        let words: [(&str, &[&str]); 8] = [
            ("lbctl status (no change)", &["status"]),
            ("lbctl backend set --weight", &["backend", "set", "p0", &known, "--weight"]),
            ("lbctl backend drain", &["backend", "drain", "p0", &known]),
            ("lbctl backend enable --wait", &["backend", "enable", "p0", &known, "--wait"]),
            ("lbctl backend disable", &["backend", "disable", "p0", &known, "--yes"]),
            // Its first check is part of it.
            ("lbctl backend enable --wait, after disable", &["backend", "enable", "p0", &known, "--wait"]),
            ("lbctl backend add --wait, first check", &["backend", "add", "p0", &new, "--wait"]),
            ("lbctl backend remove", &["backend", "remove", "p0", &new, "--yes"]),
        ];
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); words.len()];
        for turn in 0..turns {
            for ((what, words), times) in words.iter().zip(&mut times) {
                let weight = (turn % 2 + 2).to_string();
                let words = if what.ends_with("--weight") {
                    [words, &[weight.as_str()][..]].concat()
                } else {
                    words.to_vec()
                };
                times.push(lbctl(&lbd, &words)?);
                thread::sleep(PAUSE);
            }
        }
        for ((what, _), times) in words.iter().zip(times) {
            self.row(what, &amount.name(), (!what.contains("no change")).then_some(bound), Ok(in_ms(times)));
        }
        Ok(())
    }

    /// Ways of a pool whose backends are led elsewhere; nobody asks them, so nobody misses an answer meanwhile.
    fn next_hops(&mut self, amount: Amount, turns: usize) {
        let amount = Amount { are_checked: false, ..amount };
        let count = usize::from(amount.backends);
        let timed = Site::new().and_then(|site| {
            let mut lbd = site.start(amount)?;
            lbd.wait_eligible("p0", count, Duration::from_secs(60))?;
            hops::measure(&site, lbd.pin(), count, turns)
        });
        match timed {
            Ok(timed) => timed.into_iter().for_each(|(what, times)| {
                self.row(what, &amount.name(), Some(100.0), Ok(in_ms(times)));
            }),
            Err(error) => self.row("next hops", &amount.name(), Some(100.0), Err(error)),
        }
    }

    /// Loads, reloads and memory with a hundred thousand backends.
    fn many(&mut self, turns: usize) -> Result<()> {
        let (site, of) = (Site::new()?, MANY.name());
        let begun = Instant::now();
        let mut lbd = site.start(MANY)?;
        served(&mut lbd)?;
        let (mut all, mut loads) = (vec![begun.elapsed()], vec![loaded(&mut lbd)?]);
        let memory = Memory::at_rest(lbd.process().pid(), lbd.pin())?;
        let text = |weight| lbd_toml(MANY, weight, lbd.dir(), lbd.pin());
        let parses = (0..turns).map(|_| timed(|| config::parse(&text(1), "lbd.toml").map(drop)).0);
        self.row("the file parsed", &of, None, Ok(in_ms(parses)));
        let mut reloads = Vec::new();
        let mut applied = Vec::new();
        for turn in 0..turns {
            let weight = u16::try_from(turn % 2).unwrap_or_default() + 2;
            lbd.write_config(&lbd_toml(MANY, weight, lbd.dir(), lbd.pin()))?;
            applied.push(lbctl(&lbd, &["apply"])?);
            thread::sleep(PAUSE);
            lbd.write_config(&lbd_toml(MANY, weight + 2, lbd.dir(), lbd.pin()))?;
            reloads.push(reload(&mut lbd)?);
            thread::sleep(PAUSE);
        }
        self.row("reload, one weight changed, once parsed", &of, Some(300.0), Ok(in_ms(reloads)));
        self.row("lbctl apply, one weight changed, with parsing", &of, None, Ok(in_ms(applied)));
        let changed = (0..turns).map(|turn| {
            thread::sleep(PAUSE);
            let weight = (turn % 2 + 7).to_string();
            lbctl(&lbd, &["backend", "set", "p7", &backend(7, 3).to_string(), "--weight", &weight])
        });
        self.row("lbctl backend set --weight", &of, None, changed.collect::<Result<Vec<_>>>().map(in_ms));
        self.memory(&of, memory, Memory::at_rest(lbd.process().pid(), lbd.pin())?);
        for _ in 1..turns {
            lbd.stop()?;
            fs::remove_dir_all(lbd.dir().join("state"))?;
            let begun = Instant::now();
            lbd.start_again_in(&site.balancer)?;
            served(&mut lbd)?;
            all.push(begun.elapsed());
            loads.push(loaded(&mut lbd)?);
        }
        self.row("load from nothing, once parsed: in force", &of, Some(3_000.0), Ok(in_ms(loads)));
        self.row("lbd started: every backend has its slots", &of, None, Ok(in_ms(all)));
        lbd.stop()
    }

    fn memory(&mut self, of: &str, before: Memory, after: Memory) {
        #[expect(clippy::cast_precision_loss, reason = "mebibytes, shown to a hundredth")]
        let mib = |bytes: u64| bytes as f64 / MIB;
        let rows = [
            ("the daemon's own memory at rest, loaded", before.own, Some(200.0)),
            ("the daemon's own memory at rest, reloaded", after.own, Some(200.0)),
            ("maps in the kernel beside the flow tables", after.maps, None),
            ("the flow tables", after.flow_tables, None),
        ];
        for (what, bytes, bound) in rows {
            self.add(ControlRow::new(what, of, Unit::Mib, bound, Ok(vec![mib(bytes)])));
        }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed(), done)
}

/// From before an lbctl is started until it has ended; it has to succeed.
fn lbctl(lbd: &Lbd, words: &[&str]) -> Result<Duration> {
    let (time, output) = timed(|| lbd.lbctl_output(words));
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "lbctl {} failed ({}): {}", words.join(" "), output.status, said.trim());
    Ok(time)
}

/// Waits until every backend takes flows: ways are looked up in the order of addresses, so the last pool is the last.
fn served(lbd: &mut Lbd) -> Result<()> {
    let last = format!("p{}", MANY.pools - 1);
    lbd.wait_eligible(&last, usize::from(MANY.backends), Duration::from_secs(120))
}

/// SIGHUP, and how long it took from the parsed file until it was in force.
fn reload(lbd: &mut Lbd) -> Result<Duration> {
    let before = said(lbd)?.len();
    lbd.reload()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let times = said(lbd)?;
        if let Some(time) = times.get(before) {
            return Ok(*time);
        }
        ensure!(Instant::now() < deadline, "the reload does not end. The log ends:\n{}", lbd.log_tail());
        lbd.process().check_running()?;
        thread::sleep(Duration::from_millis(5));
    }
}

/// How long the last start took from the parsed file until it was in force.
fn loaded(lbd: &mut Lbd) -> Result<Duration> {
    said(lbd)?.last().copied().context("the daemon does not say how long it took")
}

/// Every `in force 12 ms after that` of its log.
fn said(lbd: &mut Lbd) -> Result<Vec<Duration>> {
    let text = fs::read_to_string(lbd.process().log_path()).context("cannot read the daemon's log")?;
    let time = |line: &str| {
        let (_, rest) = line.split_once("in force ")?;
        let (ms, _) = rest.split_once(" ms after that")?;
        ms.parse().ok().map(Duration::from_millis)
    };
    Ok(text.lines().filter_map(time).collect())
}

/// As the daemon waits for one where it cannot visit every CPU.
fn grace_period() -> Result<()> {
    // MEMBARRIER_CMD_GLOBAL
    // SAFETY: membarrier takes plain numbers and touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    ensure!(done == 0, "membarrier: {}", std::io::Error::last_os_error());
    Ok(())
}

/// As the daemon writes a revision: the file, then its name.
fn written_down() -> Result<()> {
    let run_dir = crate::run_dir::RunDir::current()?;
    let path = run_dir.path().join("written");
    let file = fs::File::create(&path)?;
    std::io::Write::write_all(&mut &file, &[b'x'; 2048])?;
    file.sync_all()?;
    fs::rename(&path, run_dir.path().join("renamed"))?;
    Ok(fs::File::open(run_dir.path())?.sync_all()?)
}
