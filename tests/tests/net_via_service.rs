//! Checks that travel as the packets do (`via = "service"`), in every mode: a backend that clients do not reach is unhealthy though it
//! answers at its own address, and comes back when it is mended; the veth of such checks is kept, mended and removed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::netns::counters::Counters;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const HTTP: &str =
    r#"{ type = "http", via = "service", interval = "200ms", timeout = "500ms", rise = 2, fall = 2 }"#;
/// What the prober's end is called, and the program's.
const VETH: [&str; 2] = ["lbd-probe0", "lbd-probe1"];

struct Stage {
    topology: Topology,
    lbd: Lbd,
    _servers: Vec<Nginx>,
}

impl Stage {
    fn build(name: &str, mode: Mode, family: Family, health: &str) -> Result<Stage> {
        let topology = Topology::build(Plan { backends: 2, ..Plan::new(name, mode, family) })?;
        let servers = topology.backends.iter();
        let servers: Vec<Nginx> = servers
            .map(|backend| Nginx::start(&backend.namespace, &backend.name, 80))
            .collect::<Result<_>>()?;
        let settings = Settings::new(topology.service("web", &["80/tcp"], health));
        let mut lbd = Lbd::start(&topology, &settings)?;
        lbd.wait_eligible("web", 2, PATIENCE)?;
        Ok(Stage { topology, lbd, _servers: servers })
    }

    /// The first backend, as `backend list` has it.
    fn first(&self) -> Result<Value> {
        self.lbd.backends("web")?.into_iter().next().context("a pool of two")
    }

    /// Waits until the first backend's health is this, and the other's stays what it was; its reason then.
    fn wait_health(&mut self, health: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let backends = self.lbd.backends("web")?;
            ensure!(backends[1]["health"] == "healthy", "the other one too: {}", Value::from(backends));
            if backends[0]["health"] == health {
                return Ok(backends[0]["reason"].as_str().unwrap_or_default().to_owned());
            }
            ensure!(
                Instant::now() < deadline,
                "never {health}: {}\n{}",
                Value::from(backends),
                self.lbd.log_tail()
            );
            self.lbd.process().wait(LOOK_INTERVAL)?;
        }
    }

    /// The number of this interface of the balancer, if there is one.
    fn link(&self, name: &str) -> Option<String> {
        let shown = self.topology.balancer.ip(&format!("-o link show dev {name}")).ok()?;
        Some(shown.split(':').next()?.to_owned())
    }

    /// What lbd made besides the veth.
    fn rules(&self) -> Result<String> {
        let balancer = &self.topology.balancer;
        let all = format!("{}{}", balancer.ip("rule show")?, balancer.ip("-6 rule show")?);
        Ok(all
            .lines()
            .filter(|line| ["19018", "19019", "lbd-probe"].iter().any(|mark| line.contains(mark)))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    /// Nothing of such checks is shown to anybody.
    fn is_hidden(&self) -> Result<()> {
        let lists =
            [["status"].as_slice(), &["service", "list"], &["backend", "list"], &["flows"], &["stats"]];
        for words in lists {
            let answer = self.lbd.lbctl(words)?.to_string();
            for hidden in ["lbd-probe", "198.18.", "198.19.", "fd6c:", "~"] {
                ensure!(!answer.contains(hidden), "{words:?} shows {hidden}: {answer}");
            }
        }
        let plan = self.lbd.lbctl(&["plan"])?;
        ensure!(plan["slots_moved"] == 0 && plan["changes"].as_array().is_some_and(Vec::is_empty), "{plan}");
        Ok(())
    }

    /// Breaks the way to the first backend, and mends it.
    fn breaks_and_comes_back(
        &mut self,
        hint: &str,
        break_it: impl FnOnce(&mut Topology) -> Result<()>,
        mend_it: impl FnOnce(&mut Topology) -> Result<()>,
    ) -> Result<()> {
        self.is_hidden()?;
        break_it(&mut self.topology)?;
        let reason = self.wait_health("unhealthy")?;
        ensure!(reason.contains("its own address") && reason.contains(hint), "{reason}");
        ensure!(self.first()?["eligible"] == false);
        mend_it(&mut self.topology)?;
        self.wait_health("healthy")?;
        self.lbd.wait_eligible("web", 2, PATIENCE)
    }
}

fn may_run(name: &str) -> bool {
    root_or_skip(name)
}

fn without_vip(name: &str, family: Family) -> Result<()> {
    let mut stage = Stage::build(name, Mode::Dsr, family, HTTP)?;
    let vip = stage.topology.vip();
    let len = if vip.is_ipv4() { 32 } else { 128 };
    let change = move |what: &'static str| {
        move |topology: &mut Topology| {
            topology.backends[0].namespace.ip(&format!("addr {what} {vip}/{len} dev lo nodad")).map(drop)
        }
    };
    let del = move |topology: &mut Topology| {
        topology.backends[0].namespace.ip(&format!("addr del {vip}/{len} dev lo")).map(drop)
    };
    stage.breaks_and_comes_back("on the backend's lo", del, change("add"))
}

#[test]
fn dsr_without_the_vip_at_the_backend() -> Result<()> {
    if !may_run("dsr_without_the_vip_at_the_backend") {
        return Ok(());
    }
    without_vip("via-dsr4", Family::V4)?;
    without_vip("via-dsr6", Family::V6)
}

fn without_decapsulation(name: &str, family: Family) -> Result<()> {
    let mut stage = Stage::build(name, Mode::Ipip, family, HTTP)?;
    stage.breaks_and_comes_back(
        "decapsulate",
        |topology| topology.set_decapsulating(0, false),
        |topology| topology.set_decapsulating(0, true),
    )
}

#[test]
fn ipip_without_decapsulation() -> Result<()> {
    if !may_run("ipip_without_decapsulation") {
        return Ok(());
    }
    without_decapsulation("via-ipip4", Family::V4)?;
    without_decapsulation("via-ipip6", Family::V6)
}

fn without_return_route(name: &str, family: Family) -> Result<()> {
    let mut stage = Stage::build(name, Mode::Nat, family, HTTP)?;
    let v6 = if family == Family::V6 { "-6 " } else { "" };
    let shown = stage.topology.backends[0].namespace.ip(&format!("{v6}route show default"))?;
    let route = shown.lines().next().context("a backend of nat has a default route")?.trim().to_owned();
    let route = route.split(" metric").next().unwrap_or_default().to_owned();
    let change = |what: &'static str, route: String| {
        move |topology: &mut Topology| {
            topology.backends[0].namespace.ip(&format!("{v6}route {what} {route}")).map(drop)
        }
    };
    stage.breaks_and_comes_back("default route", change("del", route.clone()), change("add", route))
}

#[test]
fn nat_without_a_way_back_through_the_balancer() -> Result<()> {
    if !may_run("nat_without_a_way_back_through_the_balancer") {
        return Ok(());
    }
    without_return_route("via-nat4", Family::V4)?;
    without_return_route("via-nat6", Family::V6)
}

#[test]
fn full_nat_and_what_lbd_makes_for_it() -> Result<()> {
    if !may_run("full_nat_and_what_lbd_makes_for_it") {
        return Ok(());
    }
    let mut stage = Stage::build("via-full", Mode::FullNat, Family::V4, HTTP)?;
    let detail = stage.lbd.lbctl(&["backend", "list", "web", "-o", "wide"])?;
    ensure!(detail["backends"][0]["health"] == "healthy", "{detail}");
    // Ports that full-nat uses, dropped on the backend: this host's own checks would pass.
    let nft = |topology: &Topology, words: &str| -> Result<()> {
        let mut command = topology.backends[0].namespace.command("nft");
        command.args(words.split(' '));
        lbd_tests::netns::output_of(&mut command).map(drop)
    };
    stage.breaks_and_comes_back(
        "drop the service's packets",
        move |topology| {
            nft(topology, "add table inet cut")?;
            nft(topology, "add chain inet cut in { type filter hook input priority 0 ; }")?;
            nft(topology, "add rule inet cut in tcp sport 61000-65535 drop")
        },
        move |topology| nft(topology, "delete table inet cut"),
    )?;
    // The veth is deleted by hand: no backend suffers, and it is made again.
    let before = stage.link(VETH[0]).context("there is a veth")?;
    ensure!(stage.rules()?.lines().count() == 3, "{}", stage.rules()?);
    stage.topology.balancer.ip(&format!("link del {}", VETH[1]))?;
    let deadline = Instant::now() + PATIENCE;
    while stage.link(VETH[0]).is_none_or(|now| now == before) {
        ensure!(Instant::now() < deadline, "the veth is not made again\n{}", stage.lbd.log_tail());
        stage.lbd.process().wait(LOOK_INTERVAL)?;
    }
    // A rule that is taken away comes back as well.
    stage.topology.balancer.ip("rule del pref 1")?;
    while stage.rules()?.lines().count() != 3 {
        ensure!(Instant::now() < deadline, "the rule is not made again: {}", stage.rules()?);
        stage.lbd.process().wait(LOOK_INTERVAL)?;
    }
    // Checks see again what becomes of backends.
    stage.topology.set_backend_up(0, false)?;
    stage.wait_health("unhealthy")?;
    stage.topology.set_backend_up(0, true)?;
    stage.wait_health("healthy")?;
    // A killed lbd leaves it all; the next one goes on with it.
    stage.lbd.kill()?;
    let left = stage.link(VETH[0]).context("a killed lbd removes nothing")?;
    stage.lbd.start_again(&stage.topology)?;
    stage.lbd.wait_eligible("web", 2, PATIENCE)?;
    ensure!(stage.link(VETH[0]).as_ref() == Some(&left), "the veth of the killed one is not taken over");
    ensure!(stage.rules()?.lines().count() == 3, "{}", stage.rules()?);
    // Without such a check nothing of it is left, and with `on_exit = "detach"` neither.
    let direct =
        Settings::new(stage.topology.service("web", &["80/tcp"], &HTTP.replace("via = \"service\", ", "")));
    stage.lbd.rewrite_config(&stage.topology, &direct)?;
    stage.lbd.reload()?;
    stage.wait_gone()?;
    stage.lbd.wait_eligible("web", 2, PATIENCE)?;
    let through = Settings::new(stage.topology.service("web", &["80/tcp"], HTTP));
    stage.lbd.rewrite_config(&stage.topology, &through)?;
    stage.lbd.reload()?;
    while stage.link(VETH[0]).is_none() {
        stage.lbd.process().wait(LOOK_INTERVAL)?;
        ensure!(Instant::now() < deadline + PATIENCE, "no veth for the first such check");
    }
    stage.lbd.wait_eligible("web", 2, PATIENCE)?;
    stage.lbd.stop()?;
    stage.wait_gone()
}

impl Stage {
    fn wait_gone(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while VETH.iter().any(|name| self.link(name).is_some()) || !self.rules()?.is_empty() {
            ensure!(Instant::now() < deadline, "left: {:?} {}", self.link(VETH[0]), self.rules()?);
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

/// What the program knows nothing of at the other end of the veth, a packet of a check that has just gone, is for nobody: it does not go
/// round by the veth until its hop limit is over.
#[test]
fn what_passes_the_program_goes_no_further() -> Result<()> {
    if !may_run("what_passes_the_program_goes_no_further") {
        return Ok(());
    }
    const V6: [&str; 4] = [
        "[fd6c:6264:7072:6f62:8000::1]:0",
        "[fd6c:6264:7072:6f62::7777]:9",
        "ipv6/conf/all/forwarding",
        "Ip6OutForwDatagrams",
    ];
    for (name, family, [prober, nobody, forwarding, sent]) in [
        ("via-end4", Family::V4, ["198.19.0.1:0", "198.18.77.77:9", "ipv4/ip_forward", "IpForwDatagrams"]),
        ("via-end6", Family::V6, V6),
    ] {
        let mut stage = Stage::build(name, Mode::FullNat, family, HTTP)?;
        let balancer = &stage.topology.balancer;
        balancer.sysctl(&format!("net/{forwarding}"), "1")?;
        let (prober, nobody): (SocketAddr, SocketAddr) = (prober.parse()?, nobody.parse()?);
        let received = || -> Result<u64> {
            let shown = stage.topology.balancer.ip(&format!("-s -j link show dev {}", VETH[1]))?;
            let links: Value = serde_json::from_str(&shown)?;
            links[0]["stats64"]["rx"]["packets"].as_u64().with_context(|| format!("no packets: {shown}"))
        };
        let before = (received()?, Counters::read(balancer)?.get(sent).context("no such counter")?);
        balancer.run(|| {
            // As the prober's own socket, whose address is nobody's here.
            let socket = Socket::new(Domain::for_address(nobody), Type::DGRAM, None)?;
            socket.bind_device(Some(VETH[0].as_bytes()))?;
            // An IPv6 socket has the one flag for both.
            socket.set_ip_transparent_v4(true)?;
            socket.bind(&prober.into())?;
            (0..10).try_for_each(|_| socket.send_to(b"nobody", &nobody.into()).map(drop))
        })??;
        let deadline = Instant::now() + PATIENCE;
        while received()? < before.0 + 10 {
            ensure!(Instant::now() < deadline, "they never came to the other end");
        }
        let counters = Counters::read(balancer)?;
        ensure!(counters.faults().is_empty(), "{:?}", counters.faults());
        ensure!(
            counters.get(sent) == Some(before.1),
            "{:?} sent on, {} before",
            counters.get(sent),
            before.1
        );
        stage.lbd.process().check_running()?;
    }
    Ok(())
}

/// A check of the family that clients use, of an address of the other: the tunnel joins them.
#[test]
fn detach_leaves_nothing() -> Result<()> {
    if !may_run("detach_leaves_nothing") {
        return Ok(());
    }
    let topology = Topology::build(Plan { backends: 1, ..Plan::new("via-detach", Mode::Nat, Family::V6) })?;
    let _server = Nginx::start(&topology.backends[0].namespace, "b1", 80)?;
    let settings =
        Settings { on_exit: "keep".to_owned(), ..Settings::new(topology.service("web", &["80/tcp"], HTTP)) };
    let mut lbd = Lbd::start(&topology, &settings)?;
    lbd.wait_eligible("web", 1, PATIENCE)?;
    lbd.stop()?;
    let balancer = &topology.balancer;
    ensure!(balancer.ip(&format!("link show dev {}", VETH[0])).is_ok(), "kept with the program");
    let binaries = lbd_tests::topology::Binaries::find()?;
    let mut detach = balancer.command(binaries.lbd);
    detach.arg("detach").arg("--config").arg(lbd.config_path());
    let said = lbd_tests::netns::output_of(&mut detach)?;
    ensure!(said.contains("the veth of checks through services is removed"), "{said}");
    for name in VETH {
        ensure!(balancer.ip(&format!("link show dev {name}")).is_err(), "{name} is left");
    }
    ensure!(!balancer.ip("-6 rule show")?.contains("1901"), "{}", balancer.ip("-6 rule show")?);
    Ok(())
}
