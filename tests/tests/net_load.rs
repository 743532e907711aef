//! The load generator, without lbd: it keeps its rate, checks bytes, names failures and stalls for what they are.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbd_tests::load::{Body, Downloads, Failure, KeepAlive, Kind, Load, LoadPlan, OpenLoop, Recorder};
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::{Nginx, SMALL_FILE_LEN, make_large_file};
use lbd_tests::topology::{Family, Mode, Plan, Topology};
use nix::sys::signal::Signal;

const HTTP: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(20);

fn open_loop(per_second: u32, path: &str, body: Body, total: Option<u64>) -> Option<OpenLoop> {
    Some(OpenLoop { per_second, path: path.to_owned(), body, total })
}

fn network(name: &str) -> Result<(Topology, Nginx, LoadPlan)> {
    let topology = Topology::build(Plan { backends: 1, ..Plan::new(name, Mode::Nat, Family::V4) })?;
    make_large_file(&topology.client)?;
    let nginx = Nginx::start(&topology.backends[0].namespace, "b1", HTTP)?;
    let plan = LoadPlan::new((topology.backend_address(0), HTTP).into());
    Ok((topology, nginx, plan))
}

/// Waits until the book says so.
fn until(recorder: &Recorder, what: &str, holds: impl Fn(&Recorder) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds(recorder) {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_thousand_connections_a_second_are_offered_and_answered() -> Result<()> {
    if !root_or_skip("a_thousand_connections_a_second_are_offered_and_answered") {
        return Ok(());
    }
    let (topology, nginx, mut plan) = network("rate")?;
    plan.open_loop = open_loop(1_000, "/", Body::Any, Some(3_000));
    let begin = Instant::now();
    let recorder = Load::start(&topology.client, plan)?.wait()?;
    let took = begin.elapsed();
    let summary = recorder.summary(begin, Instant::now());
    ensure!(summary.failures() == 0 && summary.ok == 3_000, "{summary:?}");
    ensure!(summary.answered.get("b1") == Some(&3_000), "{summary:?}");
    ensure!(took > Duration::from_millis(2_900), "3,000 connections at 1,000 a second took only {took:?}");
    ensure!(nginx.accesses()?.len() == 3_000, "nginx answered {}", nginx.accesses()?.len());
    Ok(())
}

#[test]
fn bodies_are_compared() -> Result<()> {
    if !root_or_skip("bodies_are_compared") {
        return Ok(());
    }
    let (topology, _nginx, plan) = network("bodies")?;
    let begin = Instant::now();
    for (path, body, outcome) in [
        ("/64k", Body::Content(SMALL_FILE_LEN), Ok(())),
        ("/64k", Body::Content(SMALL_FILE_LEN - 1), Err(Failure::WrongBytes)),
        ("/", Body::Content(3), Err(Failure::WrongBytes)),
        ("/none", Body::Any, Err(Failure::Status(404))),
    ] {
        let plan = LoadPlan { open_loop: open_loop(100, path, body, Some(10)), ..plan.clone() };
        let recorder = Load::start(&topology.client, plan)?.wait()?;
        let attempts = recorder.attempts(begin, Instant::now());
        ensure!(attempts.len() == 10, "{path}: {} attempts", attempts.len());
        ensure!(attempts.iter().all(|attempt| attempt.outcome == outcome), "{path}: {attempts:?}");
        ensure!(attempts.iter().all(|attempt| attempt.local_port.is_some()), "{path}: {attempts:?}");
    }
    Ok(())
}

#[test]
fn a_killed_server_is_felt_as_refused_and_cut_off() -> Result<()> {
    if !root_or_skip("a_killed_server_is_felt_as_refused_and_cut_off") {
        return Ok(());
    }
    let (topology, mut nginx, mut plan) = network("killed")?;
    plan.open_loop = open_loop(100, "/", Body::Any, None);
    let every = Duration::from_millis(50);
    plan.keep_alive =
        Some(KeepAlive { connections: 5, interval: every, path: "/".to_owned(), body: Body::Any });
    plan.downloads = Some(Downloads { connections: 5, path: "/slow/100m".to_owned() });
    let load = Load::start(&topology.client, plan)?;
    let recorder = load.recorder();
    until(recorder, "100 answers", |recorder| recorder.answers().values().sum::<u64>() >= 100)?;
    ensure!(recorder.failed() == 0, "failures before the kill");

    let killed = Instant::now();
    nginx.kill()?;
    let failed = |kind, failure| {
        move |recorder: &Recorder| {
            let attempts = recorder.attempts(killed, Instant::now());
            attempts.iter().any(|attempt| attempt.kind == kind && attempt.outcome == Err(failure))
        }
    };
    until(recorder, "a refused connection", failed(Kind::New, Failure::Refused))?;
    until(recorder, "a refused reconnection", failed(Kind::KeepAlive, Failure::Refused))?;
    // The kernel of a killed server ends what it had taken (closed) and resets what waited to be taken.
    until(recorder, "five cut downloads", |recorder| {
        let attempts = recorder.attempts(killed, Instant::now());
        let begun_before =
            attempts.iter().filter(|attempt| attempt.kind == Kind::Download && attempt.start < killed);
        begun_before
            .filter(|attempt| attempt.outcome.is_err() && attempt.backend.as_deref() == Some("b1"))
            .count()
            == 5
    })?;

    nginx.start_again(&topology.backends[0].namespace, HTTP)?;
    let back = Instant::now();
    until(recorder, "answers again", |recorder| recorder.summary(back, Instant::now()).ok >= 20)?;
    Ok(())
}

#[test]
fn a_server_that_falls_silent_is_a_stall() -> Result<()> {
    if !root_or_skip("a_server_that_falls_silent_is_a_stall") {
        return Ok(());
    }
    let (topology, nginx, mut plan) = network("silent")?;
    plan.downloads = Some(Downloads { connections: 2, path: "/slow/100m".to_owned() });
    let load = Load::start(&topology.client, plan)?;
    let recorder = load.recorder();
    let begin = Instant::now();
    // A steady stream is no stall, however long it lasts: the longest is soon a small part of it.
    let longest = |recorder: &Recorder| recorder.summary(begin, Instant::now()).longest_stall;
    until(recorder, "a second of streaming without a stall", |recorder| {
        begin.elapsed() > Duration::from_secs(1) && longest(recorder) < begin.elapsed() / 2
    })?;
    let before = longest(recorder);
    nginx.signal_group(Signal::SIGSTOP)?;
    let silent = |recorder: &Recorder| longest(recorder) > before + Duration::from_secs(1);
    until(recorder, "a stall seen while it lasts", silent)?;
    nginx.signal_group(Signal::SIGCONT)?;
    Ok(())
}
