//! A backend whose checks are well and which answers no connections: it is ejected by what becomes of them, and comes back.

mod floods;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::load::{Kind, Load};
use lbd_tests::netns::output_of;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, POOL, Web, until, until_answered};
use serde_json::Value;

/// Where the checks go.
const CHECKED: u16 = 8080;
const PER_SECOND: u32 = 100;
/// Connections that are looked at before and after.
const LOOKED_AT: u64 = 150;
/// From the cut on: what the issue allows.
const KNOWN: Duration = Duration::from_secs(1);
/// The same for a machine that does other things besides: without an ejection it would never be known.
const EJECTED: Duration = Duration::from_secs(15);

macro_rules! cuts {
    ($($name:ident: $mode:ident, $family:ident, $rule:literal;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            is_ejected(&stringify!($name).replace('_', ""), Mode::$mode, Family::$family, $rule)
        }
    )*};
}

cuts! {
    cut_full_nat_v4: FullNat, V4, "drop";
    cut_nat_v6: Nat, V6, "drop";
    cut_dsr_v4: Dsr, V4, "drop";
    cut_ipip_v6: Ipip, V6, "drop";
    refusing_full_nat_v6: FullNat, V6, "reject with tcp reset";
}

fn nft(web: &Web, rules: &str) -> Result<()> {
    output_of(web.topology.backends[2].namespace.command("nft").arg(rules)).map(drop)
}

fn third(web: &Web) -> Result<Value> {
    let address = web.topology.backend_address(2).to_string();
    let address = if address.contains(':') { address.trim_matches(['[', ']']).to_owned() } else { address };
    let found = web.lbd.backends(POOL)?.into_iter().find(|backend| {
        backend["address"].as_str().is_some_and(|text| text.trim_matches(['[', ']']) == address)
    });
    found.with_context(|| format!("{address} is not listed"))
}

fn is_ejected(name: &str, mode: Mode, family: Family, rule: &str) -> Result<()> {
    let health = format!(r#"{{ type = "http", port = {CHECKED}, path = "/healthz", interval = "500ms" }}"#);
    // Ejected for a short time, so that the test sees it come back.
    let settings = |topology: &Topology| {
        let service = topology.service(POOL, &["80/tcp"], &health);
        Settings::new(service.replacen("health =", "passive = { eject = \"3s\" }\nhealth =", 1))
    };
    let topology = Topology::build(Plan::new(name, mode, family))?;
    let start = |port: u16| -> Result<Vec<Nginx>> {
        let backends = topology.backends.iter();
        backends.map(|backend| Nginx::start(&backend.namespace, &backend.name, port)).collect()
    };
    let (checked, servers) = (start(CHECKED)?, start(HTTP)?);
    let mut lbd = Lbd::start(&topology, &settings(&topology))?;
    lbd.wait_eligible(POOL, topology.backends.len(), lbd_tests::web::PATIENCE)?;
    let web = Web { lbd, servers, topology };
    let load = web.load(PER_SECOND)?;
    let recorder = load.recorder();
    until_answered(recorder, Instant::now(), LOOKED_AT)?;
    ensure!(third(&web)?["eligible"] == true, "ejected before anything happened: {}", third(&web)?);

    let cut = Instant::now();
    nft(
        &web,
        &format!(
            "add table inet cut; add chain inet cut in {{ type filter hook input priority 0; }}; add rule inet cut in tcp dport {HTTP} {rule}"
        ),
    )?;
    until("the ejection", || Ok(third(&web)?["eligible"] == false))?;
    let took = cut.elapsed();
    let then = third(&web)?;
    eprintln!("{name}: ejected after {took:?}: {}", then["reason"]);
    ensure!(took < EJECTED, "ejected after {took:?} only");
    ensure!(then["health"] == "healthy" && then["ejected"] == true, "{then}");
    ensure!(then["reason"].as_str().is_some_and(|why| why.contains("new connections went on")), "{then}");
    // Those that were due after the second all succeed, elsewhere, for as long as it is out.
    let out = Instant::now();
    until_answered(recorder, out, LOOKED_AT)?;
    let end = Instant::now();
    until("the end of all requests", || Ok(recorder.unfinished(end) == 0))?;
    let new =
        recorder.attempts(out.max(cut + KNOWN), end).into_iter().filter(|attempt| attempt.kind == Kind::New);
    for attempt in new.filter(|attempt| attempt.start < out + Duration::from_secs(1)) {
        ensure!(attempt.outcome.is_ok() && attempt.backend.as_deref() != Some("b3"), "{attempt:?}");
    }

    nft(&web, "delete table inet cut")?;
    until("the return", || {
        let now = third(&web)?;
        Ok(now["eligible"] == true && now["new_flows"].as_u64() > then["new_flows"].as_u64())
    })?;
    drop(checked);
    Ok(())
}

/// Whose checks go through the service: they say when an ejected backend is well again, and no time does.
#[test]
fn a_check_through_the_service_readmits_an_ejected_backend() -> Result<()> {
    if !root_or_skip("a_check_through_the_service_readmits_an_ejected_backend") {
        return Ok(());
    }
    let topology = Topology::build(Plan::new("readmit", Mode::FullNat, Family::V4))?;
    let servers = topology.backends.iter();
    let servers: Vec<Nginx> = servers
        .map(|backend| Nginx::start(&backend.namespace, &backend.name, HTTP))
        .collect::<Result<_>>()?;
    // So many failures that the check itself would take minutes to say it.
    let health = r#"{ type = "http", via = "service", interval = "500ms", timeout = "400ms", fall = 1000 }"#;
    let service = topology.service(POOL, &["80/tcp"], health);
    let brief = service.replacen("health =", "passive = { eject = \"1s\" }\nhealth =", 1);
    let mut lbd = Lbd::start(&topology, &Settings::new(brief))?;
    lbd.wait_eligible(POOL, topology.backends.len(), lbd_tests::web::PATIENCE)?;
    let web = Web { lbd, servers, topology };
    let load = web.load(PER_SECOND)?;
    let recorder = load.recorder();
    until_answered(recorder, Instant::now(), LOOKED_AT)?;
    cut(&web)?;
    until("the ejection", || Ok(third(&web)?["ejected"] == true))?;
    let why = third(&web)?["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(why.contains("until a check through the service succeeds"), "{why}");
    // Three times as long as the ejection would last by time.
    let out = Instant::now();
    until_answered(recorder, out + Duration::from_secs(3), 1)?;
    let then = third(&web)?;
    ensure!(then["ejected"] == true && then["health"] == "healthy", "{then}");
    nft(&web, "delete table inet cut")?;
    until("the return", || {
        let now = third(&web)?;
        Ok(now["eligible"] == true && now["new_flows"].as_u64() > then["new_flows"].as_u64())
    })
}

/// The moment of `ejected until 2026-11-22T08:00:10.000Z: …`.
fn end_of(backend: &Value) -> Result<String> {
    let text = backend["reason"].as_str().and_then(|reason| reason.strip_prefix("ejected until "));
    let (moment, _) =
        text.and_then(|rest| rest.split_once(": ")).with_context(|| format!("no moment: {backend}"))?;
    Ok(moment.to_owned())
}

/// A service under load, checked elsewhere than where it is used. Ejections are by time alone, and longer than any step of a test.
fn checked_elsewhere(name: &str) -> Result<(Vec<Nginx>, Web, Load)> {
    let topology = Topology::build(Plan::new(name, Mode::FullNat, Family::V4))?;
    let health = format!(r#"{{ type = "http", port = {CHECKED}, path = "/healthz", interval = "500ms" }}"#);
    let start = |port: u16| -> Result<Vec<Nginx>> {
        let backends = topology.backends.iter();
        backends.map(|backend| Nginx::start(&backend.namespace, &backend.name, port)).collect()
    };
    let (checked, servers) = (start(CHECKED)?, start(HTTP)?);
    let service = topology.service(POOL, &["80/tcp"], &health);
    let settings = Settings::new(service.replacen("health =", "passive = { eject = \"240s\" }\nhealth =", 1));
    let mut lbd = Lbd::start(&topology, &settings)?;
    lbd.wait_eligible(POOL, topology.backends.len(), lbd_tests::web::PATIENCE)?;
    let web = Web { lbd, servers, topology };
    let load = web.load(PER_SECOND)?;
    until_answered(load.recorder(), Instant::now(), LOOKED_AT)?;
    Ok((checked, web, load))
}

fn cut(web: &Web) -> Result<()> {
    nft(
        web,
        "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in tcp dport 80 drop",
    )
}

/// Where ejections are written down.
fn kept(web: &Web) -> PathBuf {
    web.lbd.dir().join("state").join("ejections")
}

/// An ejection is written there.
fn is_kept(web: &Web) -> bool {
    std::fs::read_to_string(kept(web)).is_ok_and(|text| text.contains("until"))
}

fn is_degraded(web: &Web, by: &str) -> Result<bool> {
    Ok(web.lbd.lbctl(&["status"])?["degraded"].to_string().contains(by))
}

/// Whoever is ejected stays out until the same moment although the daemon is killed and started and its check succeeds.
#[test]
fn an_ejection_outlives_a_killed_daemon() -> Result<()> {
    if !root_or_skip("an_ejection_outlives_a_killed_daemon") {
        return Ok(());
    }
    let (_checked, mut web, load) = checked_elsewhere("ejectkept")?;
    cut(&web)?;
    until("the ejection", || Ok(third(&web)?["ejected"] == true))?;
    let then = third(&web)?;
    until("the file", || Ok(is_kept(&web)))?;
    web.lbd.kill()?;
    web.lbd.start_again(&web.topology)?;

    until("its check", || Ok(third(&web)?["health"] == "healthy"))?;
    // Long enough to get connections.
    until_answered(load.recorder(), Instant::now(), LOOKED_AT)?;
    let now = third(&web)?;
    ensure!(now["ejected"] == true && now["eligible"] == false, "{now}");
    ensure!(end_of(&now)? == end_of(&then)?, "{now} instead of {then}");
    ensure!(now["new_flows"] == then["new_flows"], "{now} instead of {then}");
    Ok(())
}

/// What cannot be written is said, and written at the stop at the latest; what cannot be read is said until something else is in its place.
#[test]
fn ejections_that_cannot_be_kept_are_said_and_no_longer_than_that() -> Result<()> {
    const UNWRITTEN: &str = "who is ejected is not written down";
    const UNREAD: &str = "state/ejections (";
    if !root_or_skip("ejections_that_cannot_be_kept_are_said_and_no_longer_than_that") {
        return Ok(());
    }
    let (_checked, mut web, _load) = checked_elsewhere("ejectunkept")?;
    let in_the_way = kept(&web).with_extension("new");
    std::fs::create_dir(&in_the_way)?;
    cut(&web)?;
    until("what cannot be written", || is_degraded(&web, UNWRITTEN))?;
    std::fs::remove_dir(&in_the_way)?;
    // Sooner than the next attempt.
    web.lbd.stop()?;
    ensure!(is_kept(&web), "nothing was written at the stop");

    std::fs::remove_file(kept(&web))?;
    std::os::unix::fs::symlink("/proc/self/mem", kept(&web))?;
    web.lbd.start_again(&web.topology)?;
    // In the log: the next ejection may come at any moment.
    let log = web.lbd.process().log_path().to_owned();
    until("what cannot be read", || Ok(std::fs::read_to_string(&log)?.contains(UNREAD)))?;
    until("the next ejection", || Ok(third(&web)?["ejected"] == true))?;
    until("the end of it", || Ok(!is_degraded(&web, UNREAD)?))?;
    ensure!(is_kept(&web), "nothing was written");
    Ok(())
}
