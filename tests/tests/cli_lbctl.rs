//! lbctl as a person uses it, on a real lbd with real traffic: what it shows is what happens, what it does takes effect.

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::client::download;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::until;
use serde_json::{Value, json};

const HTTP: u16 = 80;
const HEALTH: &str =
    r#"{ type = "http", path = "/healthz", interval = "500ms", timeout = "300ms", fall = 2 }"#;
const PATIENCE: Duration = Duration::from_secs(20);

/// A network with web servers, and lbd in front of them in full-nat.
struct Stage {
    lbd: Lbd,
    _servers: Vec<Nginx>,
    topology: Topology,
}

impl Stage {
    fn build(name: &str, on_exit: &str) -> Result<Stage> {
        let topology = Topology::build(Plan::new(name, Mode::FullNat, Family::V4))?;
        let servers = topology.backends.iter();
        let servers = servers
            .map(|backend| Nginx::start(&backend.namespace, &backend.name, HTTP))
            .collect::<Result<_>>()?;
        let services = topology.service("web", &["80/tcp"], HEALTH);
        let settings = Settings { on_exit: on_exit.to_owned(), ..Settings::new(services) };
        let mut lbd = Lbd::start(&topology, &settings)?;
        lbd.wait_eligible("web", 3, PATIENCE)?;
        Ok(Stage { lbd, _servers: servers, topology })
    }

    /// As many requests through the vip, each over a connection of its own; who answered.
    fn request(&self, count: usize) -> Result<Vec<String>> {
        let one =
            |_| download(&self.topology.client, self.topology.vip_port(HTTP), "/").map(|got| got.backend);
        (0..count).map(one).collect()
    }

    fn address(&self, index: usize) -> String {
        self.topology.backend_address(index).to_string()
    }

    /// Runs lbctl, which must end with this code; stdout and stderr.
    fn lbctl(&self, code: i32, words: &[&str]) -> Result<(String, String)> {
        ended(&self.lbd.lbctl_output(words)?, code).with_context(|| format!("lbctl {}", words.join(" ")))
    }
}

fn ended(output: &Output, code: i32) -> Result<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    ensure!(
        output.status.code() == Some(code),
        "ended with {}, not {code}:\n{said}{complained}",
        output.status
    );
    Ok((said, complained))
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

#[test]
fn what_is_shown_is_what_happens() -> Result<()> {
    if !root_or_skip("what_is_shown_is_what_happens") {
        return Ok(());
    }
    let stage = Stage::build("cli-show", "detach")?;
    let answered = stage.request(30)?;
    let status = stage.lbd.lbctl(&["status"])?;
    let interfaces = status["interfaces"].as_array().context("no list of interfaces")?;
    ensure!(interfaces.len() == 2, "{status}");
    for interface in interfaces {
        ensure!(interface["attached"] == true && number(&interface["program_id"])? > 0, "{interface}");
    }
    ensure!(status["degraded"] == Value::Array(Vec::new()), "{status}");
    stage.lbctl(0, &["status", "--check"])?;

    let stats = stage.lbd.lbctl(&["stats", "web"])?;
    ensure!(stats["services"][0]["new_flows"] == 30, "30 connections were made: {stats}");
    for (index, backend) in stage.topology.backends.iter().enumerate() {
        let address = stage.address(index);
        let rows = stats["backends"].as_array().context("no list of backends")?;
        let row =
            rows.iter().find(|row| row["address"] == address.as_str()).context("a backend has no row")?;
        let wanted = answered.iter().filter(|name| **name == backend.name).count();
        ensure!(row["new_flows"] == wanted, "{} answered {wanted} times: {row}", backend.name);
    }

    let flows = stage.lbd.lbctl(&["flows", "web"])?;
    let client = stage.topology.client_address().to_string();
    let listed = flows["flows"].as_array().context("no list of flows")?;
    ensure!(listed.len() == 30, "30 connections were made: {flows}");
    ensure!(
        listed.iter().all(|flow| flow["source"].as_str().is_some_and(|source| source.starts_with(&client)))
    );
    ensure!(stage.lbd.lbctl(&["flows", "count", "web"])?["count"] == 30);
    Ok(())
}

/// All flows, as each verb counts them: status, stats, flows count.
fn counted(stage: &Stage) -> Result<[u64; 3]> {
    let status = stage.lbd.lbctl(&["status"])?;
    let (stats, count) = (stage.lbd.lbctl(&["stats"])?, stage.lbd.lbctl(&["flows", "count"])?);
    let backends = stats["backends"].as_array().context("no list of backends")?;
    let of_backends = backends.iter().map(|row| number(&row["flows"])).sum::<Result<u64>>()?;
    Ok([number(&status["flows"]["v4"]["used"])?, of_backends, number(&count["count"])?])
}

/// A count stands for another for four times as long as it took.
fn until_counted(stage: &Stage, expected: [u64; 3]) -> Result<()> {
    until(&format!("{expected:?} flows"), || Ok(counted(stage)? == expected))
}

#[test]
fn every_verb_counts_the_same_flows() -> Result<()> {
    if !root_or_skip("every_verb_counts_the_same_flows") {
        return Ok(());
    }
    let stage = Stage::build("cli-count", "detach")?;
    stage.request(10)?;
    until_counted(&stage, [10; 3])?;
    let (listener, backend) =
        (format!("{}/tcp", stage.topology.vip_port(81)), format!("{}:{HTTP}", stage.address(0)));
    stage.lbctl(0, &["service", "add", "own", &listener, "--backend", &backend, "--wait"])?;
    for _ in 0..5 {
        download(&stage.topology.client, stage.topology.vip_port(81), "/")?;
    }
    until_counted(&stage, [15; 3])?;
    // They hold their places in the table until their idle time is over, and can be asked for no more.
    stage.lbctl(0, &["service", "remove", "own", "--yes"])?;
    until_counted(&stage, [15, 10, 15])?;
    let out = ["backend", "drain", "web", &stage.address(0), "--dry-run"];
    let plan = stage.lbd.lbctl(&out)?["plan"].take();
    let sum = number(&plan["flows_kept"])? + number(&plan["flows_moved"])?;
    ensure!(sum == 10, "flows of removed services go nowhere: {plan}");
    let groups = stage.lbd.lbctl(&["flows", "count"])?["services"].take();
    ensure!(groups["web"] == 10 && groups["(removed)"] == 5, "{groups}");
    ensure!(stage.lbd.lbctl(&["flows"])?["flows"].as_array().is_some_and(|flows| flows.len() == 10));
    stage.lbctl(0, &["flows", "flush", "--yes"])?;
    until_counted(&stage, [0; 3])?;
    let capacity = number(&stage.lbd.lbctl(&["status"])?["flows"]["v4"]["capacity"])?;
    ensure!(capacity == 2 * u64::from(Settings::new(String::new()).flows), "{capacity} places");
    Ok(())
}

#[test]
fn explain_decides_as_the_kernel_does_and_changes_nothing() -> Result<()> {
    if !root_or_skip("explain_decides_as_the_kernel_does_and_changes_nothing") {
        return Ok(());
    }
    let stage = Stage::build("cli-explain", "detach")?;
    stage.request(3)?;
    let vip = stage.topology.vip_port(HTTP).to_string();
    // Or `before` may hold a count of before the requests, which still stood.
    until_counted(&stage, [3; 3])?;
    let flows = stage.lbd.lbctl(&["flows", "web"])?;
    let before = stage.lbd.lbctl(&["stats"])?;
    for flow in flows["flows"].as_array().context("no list of flows")? {
        let source = flow["source"].as_str().context("a flow without a source")?;
        let found = stage.lbd.lbctl(&["explain", "tcp", source, &vip])?;
        ensure!(
            found["selected_by"] == "flow" && found["backend"] == flow["backend"],
            "{flow} explained as {found}"
        );
        ensure!(found["verdict"] == "redirect" && found["interface"] == "back", "{found}");
    }
    let found = stage.lbd.lbctl(&["explain", "tcp", "198.51.100.77:4321", &vip])?;
    let leaves = |end: &str| found["packet"][end].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let (from, to) =
        (leaves("source").context("no source")?, leaves("destination").context("no destination")?);
    let own = stage.topology.balancer_addresses();
    ensure!(own.contains(&from.ip()) && from.port() >= 61_000 && to.port() == HTTP, "{found}");
    ensure!(found["backend"] == to.ip().to_string() && found["listeners"] == json!([]), "{found}");
    ensure!(found["selected_by"] == "maglev" && found["service"] == "web", "{found}");
    let again = stage.lbd.lbctl(&["explain", "tcp", "198.51.100.77:4321", &vip])?;
    ensure!(found == again, "asked twice, answered {found} and {again}");
    let (text, _) = stage.lbctl(0, &["explain", "tcp", "198.51.100.77:4321", &vip])?;
    ensure!(text.contains("slot ") && text.contains("next hop"), "{text}");
    let other = stage.topology.vip_port(81).to_string();
    let found = stage.lbd.lbctl(&["explain", "tcp", "198.51.100.77:4321", &other])?;
    ensure!(found["service"].is_null() && found["verdict"] == "pass", "{found}");
    ensure!(found["listeners"] == json!([format!("{vip}/tcp")]), "{found}");
    ensure!(found["sentence"].as_str().is_some_and(|text| text.contains("is a vip")), "{found}");
    let (text, _) = stage.lbctl(0, &["explain", "tcp", "198.51.100.77:4321", &other])?;
    ensure!(text.contains(&format!("no listener has 81/tcp; it has {vip}/tcp")), "{text}");
    let after = stage.lbd.lbctl(&["stats"])?;
    for list in ["services", "backends"] {
        ensure!(
            before[list] == after[list],
            "explaining moved counters: {} and {}",
            before[list],
            after[list]
        );
    }
    ensure!(stage.lbd.lbctl(&["flows", "count"])?["count"] == 3);
    Ok(())
}

#[test]
fn the_operators_hand_takes_effect() -> Result<()> {
    if !root_or_skip("the_operators_hand_takes_effect") {
        return Ok(());
    }
    let stage = Stage::build("cli-hand", "detach")?;
    let (first, second, third) = (stage.address(0), stage.address(1), stage.address(2));
    stage.lbctl(0, &["backend", "set", "web", &first, "--weight", "0"])?;
    let (table, _) = stage.lbctl(0, &["backend", "list", "web"])?;
    ensure!(table.contains("0 (file: 1)"), "{table}");
    ensure!(!stage.request(30)?.contains(&"b1".to_owned()), "a backend of weight 0 got a new flow");
    stage.lbctl(0, &["backend", "disable", "web", &second, "--yes"])?;
    ensure!(stage.request(10)?.iter().all(|name| name == "b3"), "only b3 takes flows");
    let (_, said) = stage.lbctl(5, &["backend", "drain", "web", &third])?;
    ensure!(said.contains("--force"), "the refusal names no remedy: {said}");
    stage.lbctl(0, &["override", "clear", "--all", "--yes"])?;
    stage.lbctl(0, &["backend", "enable", "web", &second, "--wait"])?;
    ensure!(stage.request(30)?.contains(&"b1".to_owned()), "b1 takes flows again");
    stage.lbctl(0, &["flows", "flush", "--yes"])?;
    ensure!(stage.lbd.lbctl(&["flows", "count"])?["count"] == 0);
    Ok(())
}

#[test]
fn wait_returns_when_the_backend_serves_or_says_what_is_missing() -> Result<()> {
    if !root_or_skip("wait_returns_when_the_backend_serves_or_says_what_is_missing") {
        return Ok(());
    }
    let mut stage = Stage::build("cli-wait", "detach")?;
    stage.topology.add_backend()?;
    let fourth = stage.address(3);
    // Nothing listens there yet; the first answer of its checks is no success, and is not waited for in vain.
    let (_, said) = stage.lbctl(6, &["backend", "add", "web", &fourth, "--wait=100ms"])?;
    ensure!(said.contains(&fourth), "{said}");
    ensure!(stage.lbctl(0, &["backend", "add", "web", &fourth])?.1.contains("unchanged"));
    stage.lbctl(0, &["backend", "remove", "web", &fourth, "--yes"])?;
    let backend = &stage.topology.backends[3];
    let _server = Nginx::start(&backend.namespace, &backend.name, HTTP)?;
    stage.lbctl(0, &["backend", "add", "web", &fourth, "--wait"])?;
    let backends = stage.lbd.backends("web")?;
    let added =
        backends.iter().find(|backend| backend["address"] == fourth.as_str()).context("it is not listed")?;
    ensure!(added["eligible"] == true && added["origin"] == "cli", "{added}");
    ensure!(stage.request(40)?.contains(&"b4".to_owned()), "b4 takes flows");
    Ok(())
}

#[test]
fn the_maps_grow_with_what_lbctl_adds() -> Result<()> {
    if !root_or_skip("the_maps_grow_with_what_lbctl_adds") {
        return Ok(());
    }
    let stage = Stage::build("cli-grow", "detach")?;
    stage.request(5)?;
    // The map of services is made for 256 listeners.
    let vip = stage.topology.vip_port(0).ip();
    let listeners: Vec<String> = (1000..1300).map(|port| format!("{vip}:{port}/tcp")).collect();
    let mut words = vec!["service", "add", "many", "--pool=web"];
    words.extend(listeners.iter().map(String::as_str));
    let (said, _) = stage.lbctl(0, &[words.as_slice(), &["--dry-run"]].concat())?;
    ensure!(said.contains("larger"), "{said}");
    stage.lbctl(0, &words)?;
    let last = stage.topology.vip_port(1299).to_string();
    let (_, found) = (stage.request(5)?, stage.lbd.lbctl(&["explain", "tcp", "192.0.2.77:4321", &last])?);
    ensure!(found["service"] == "many", "{found}");
    stage.lbctl(0, &["status", "--check"])?;
    Ok(())
}

#[test]
fn without_the_daemon_status_reads_the_pins() -> Result<()> {
    if !root_or_skip("without_the_daemon_status_reads_the_pins") {
        return Ok(());
    }
    let mut stage = Stage::build("cli-pins", "keep")?;
    stage.request(5)?;
    stage.lbd.kill()?;
    stage.request(5)?;
    let look = |words: &[&str]| -> Result<(String, String)> {
        let mut lbctl = stage.topology.balancer.command(stage.lbd.lbctl_path());
        lbctl.arg("--socket").arg(stage.lbd.socket()).args(words).args(["status", "--config"]);
        let output = lbctl.arg(stage.lbd.config_path()).output().context("cannot run lbctl")?;
        ended(&output, 3)
    };
    let (screen, said) = look(&[])?;
    ensure!(screen.starts_with("no daemon answers; the kernel goes on forwarding"), "{screen}");
    ensure!(said.contains("systemctl start lbd"), "{said}");
    let (json, _) = look(&["-j"])?;
    let left: Value = serde_json::from_str(&json).context("no JSON")?;
    ensure!(left["answering"] == false && left["services"][0]["name"] == "web", "{left}");
    ensure!(left["services"][0]["new_flows"] == 10, "10 connections were made: {left}");
    ensure!(left["backends"].as_array().is_some_and(|backends| backends.len() == 3), "{left}");
    stage.lbd.start_again(&stage.topology)?;
    stage.lbctl(0, &["status", "--check"])?;
    Ok(())
}
