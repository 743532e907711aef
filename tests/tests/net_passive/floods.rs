//! What hits all backends alike ejects nobody: a flood of forged SYNs, a port scan.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::load::{Kind, Recorder};
use lbd_tests::program::{Clients, Frame, Generator, Payload, Program, Variation};
use lbd_tests::root_or_skip;
use lbd_tests::run_dir::pins;
use lbd_tests::topology::{Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{
    HTTP, POOL, Web, expect_no_failure, standing_connections_stayed, until, until_answered,
};
use serde_json::Value;

use super::{EJECTED, LOOKED_AT, PER_SECOND};

const SYN: u8 = 0x02;

macro_rules! in_every_mode {
    ($test:ident: $($name:ident: $mode:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            $test(&stringify!($name).replace('_', ""), Mode::$mode)
        }
    )*};
}

in_every_mode! { a_flood_ejects_nobody:
    flood_full_nat: FullNat;
    flood_nat: Nat;
    flood_dsr: Dsr;
    flood_ipip: Ipip;
}

in_every_mode! { a_scan_ejects_nobody:
    scan_full_nat: FullNat;
    scan_nat: Nat;
    scan_dsr: Dsr;
    scan_ipip: Ipip;
}

/// How long, in seconds; `LBD_FLOOD_SECONDS` says otherwise.
const FLOOD_SECONDS: u32 = 5;
const SYNS_PER_SECOND: u32 = 200_000;
/// They come in bursts, as many a second. Each takes the kernel some 30 ms besides: it waits for every CPU before and after (dispatcher of
/// XDP programs), so that with more bursts fewer SYNs would come.
const BURSTS_PER_SECOND: u32 = 10;

/// Who must give way to a newcomer is the oldest that no client has answered to, by ticks of about a second: room for the flows of more than two keeps
/// those of this one, however long their clients are kept from answering. 40 sources × 4,536 ports × 3 backends = 544,320.
const SOURCES_FOR_TICKS: u8 = 40;
const FLOWS_FOR_TICKS: u32 = 1 << 20;

/// SYNs with forged sources into the very program that is at work, while clients connect: nobody is ejected, what stands goes on, and nobody
/// fails. In full-nat one of a hundred newcomers may: about one of 50,000 was seen to have no answer (docs/limitations.md).
fn a_flood_ejects_nobody(name: &str, mode: Mode) -> Result<()> {
    let web = flooded_web(Plan::new(name, mode, Family::V4), SOURCES_FOR_TICKS, FLOWS_FOR_TICKS)?;
    let load = web.load(PER_SECOND)?;
    let begin = ejected_by_no_flood(&web, load.recorder())?;
    if mode != Mode::FullNat {
        return expect_no_failure(load.recorder(), begin);
    }
    standing_connections_stayed(load.recorder(), begin)?;
    let [failed, of] = newcomers(&web, load.recorder(), begin)?;
    ensure!(failed * 100 <= of, "{failed} of {of} newcomers failed");
    Ok(())
}

/// So few source ports that the flood goes through all of them many times a second, so that a newcomer may lose its own before its client has
/// answered. How many do is the machine's; not all; what stands goes on, and nobody is ejected.
#[test]
fn flood_of_few_source_ports() -> Result<()> {
    if !root_or_skip("flood_of_few_source_ports") {
        return Ok(());
    }
    let web = flooded_web(Plan::new("floodfewports", Mode::FullNat, Family::V4), 1, FLOWS_FOR_TICKS)?;
    let load = web.load(PER_SECOND)?;
    let recorder = load.recorder();
    let begin = ejected_by_no_flood(&web, recorder)?;
    standing_connections_stayed(recorder, begin)?;
    let [failed, of] = newcomers(&web, recorder, begin)?;
    println!("{failed} of {of} newcomers failed");
    ensure!(failed * 10 < of * 9, "{failed} of {of} newcomers failed");
    Ok(())
}

/// How many of the newcomers since `begin` failed, and of how many. What may be to blame is printed.
fn newcomers(web: &Web, recorder: &Recorder, begin: Instant) -> Result<[usize; 2]> {
    let end = Instant::now();
    until("the end of all requests", || Ok(recorder.unfinished(end) == 0))?;
    let attempts = recorder.attempts(begin, end).into_iter();
    let (new, standing): (Vec<_>, Vec<_>) = attempts.partition(|attempt| attempt.kind == Kind::New);
    ensure!(standing.iter().all(|attempt| attempt.outcome.is_ok()), "a standing connection broke");
    let failed: Vec<_> = new.iter().filter(|attempt| attempt.outcome.is_err()).collect();
    if let Some(first) = failed.first() {
        println!("the first that failed, {:?} after the begin: {first:?}", first.start - begin);
        println!("{}\n{}", web.lbd.lbctl(&["drops"])?, web.lbd.lbctl(&["status"])?);
        for backend in &web.topology.backends {
            println!("{}: {}", backend.name, backend.namespace.ip("neighbour show")?);
        }
    }
    Ok([failed.len(), new.len()])
}

fn flooded_web(plan: Plan, sources: u8, flows: u32) -> Result<Web> {
    let health = r#"{ type = "http", path = "/healthz", interval = "500ms", fall = 10 }"#;
    let topology = Topology::build(plan)?;
    if topology.plan.mode == Mode::FullNat {
        topology.add_sources(sources)?;
    }
    Web::start_in(topology, |topology| Settings {
        flows,
        snat_sources: sources,
        ..Settings::new(topology.service(POOL, &["80/tcp"], health))
    })
}

/// When the flood began.
fn ejected_by_no_flood(web: &Web, recorder: &Recorder) -> Result<Instant> {
    until_answered(recorder, Instant::now(), LOOKED_AT)?;

    let seconds = std::env::var("LBD_FLOOD_SECONDS").map_or(Ok(FLOOD_SECONDS), |text| text.parse())?;
    let begin = Instant::now();
    let front: u32 = web.topology.balancer.run(|| nix::net::if_::if_nametoindex("front"))??;
    web.topology.balancer.run(|| flood(web, front, seconds))??;
    println!("{seconds} s of {SYNS_PER_SECOND} SYNs took {:.1?}", begin.elapsed());
    until_answered(recorder, Instant::now(), LOOKED_AT)?;
    let status = web.lbd.lbctl(&["status"])?;
    let front = status["interfaces"][0]["packets"].as_object().context("no counters")?;
    let came: u64 = front.values().filter_map(Value::as_u64).sum();
    ensure!(came >= u64::from(SYNS_PER_SECOND) * u64::from(seconds), "the flood did not come: {status}");
    nobody_is_ejected(web)?;
    Ok(begin)
}

/// Nor was anybody.
fn nobody_is_ejected(web: &Web) -> Result<()> {
    for backend in web.lbd.backends(POOL)? {
        ensure!(backend["eligible"] == true && backend["ejected"] == false, "{backend}");
    }
    let events = web.lbd.lbctl(&["events"])?.to_string();
    ensure!(!events.contains("ejected"), "{events}");
    Ok(())
}

fn flood(web: &Web, interface: u32, seconds: u32) -> Result<()> {
    let program = Program::from_pin(&pins(web.lbd.pin()).join("programs/lbd"))?;
    let first = Ipv4Addr::new(11, 0, 0, 0);
    let frame =
        Frame::new(SocketAddr::new(first.into(), 1024), web.topology.vip_port(HTTP), Payload::Tcp(SYN))?;
    let generator = Generator::new(&frame, Variation::Clients(Clients { first, flows: None }), &program)?;
    let begin = Instant::now();
    for burst in 1..=seconds * BURSTS_PER_SECOND {
        generator.send(SYNS_PER_SECOND / BURSTS_PER_SECOND, interface)?;
        // A rate, not a wait for something to happen.
        std::thread::sleep(
            (begin + Duration::from_secs(1) * burst / BURSTS_PER_SECOND)
                .saturating_duration_since(Instant::now()),
        );
    }
    Ok(())
}

/// Ports that one client tries, one after the other.
const SCANNED: std::ops::Range<u16> = 10_000..13_000;

/// A client tries thousands of ports of a service that listens on all, and backends refuse them, while others connect: nobody is
/// ejected, and nobody else fails.
fn a_scan_ejects_nobody(name: &str, mode: Mode) -> Result<()> {
    let health = r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", fall = 10 }"#;
    let settings = |topology: &Topology| Settings::new(topology.service(POOL, &["any/tcp"], health));
    let web = Web::start(Plan::new(name, mode, Family::V4), settings)?;
    let load = web.load(PER_SECOND)?;
    let recorder = load.recorder();
    until_answered(recorder, Instant::now(), LOOKED_AT)?;

    let begin = Instant::now();
    let vip = web.topology.vip_port(HTTP).ip();
    let refused = web.topology.client.run(|| {
        let tries = SCANNED.map(|port| TcpStream::connect_timeout(&SocketAddr::new(vip, port), EJECTED));
        let errors = tries.filter_map(Result::err);
        errors.filter(|error| error.kind() == ErrorKind::ConnectionRefused).count()
    })?;
    ensure!(refused == SCANNED.len(), "{refused} of {} ports were refused", SCANNED.len());
    until_answered(recorder, Instant::now(), LOOKED_AT)?;
    for backend in web.lbd.backends(POOL)? {
        ensure!(backend["eligible"] == true && backend["ejected"] == false, "{backend}");
        ensure!(
            backend["new_flows"].as_u64() > Some(SCANNED.len() as u64 / 10),
            "it was not scanned: {backend}"
        );
    }
    nobody_is_ejected(&web)?;
    expect_no_failure(recorder, begin)
}
