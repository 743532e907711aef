//! A real DNS server: dnsmasq.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::netns::Namespace;
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::web::{POOL, expect_no_failure, until, until_answered};
use nix::sys::signal::Signal;

use super::stage::{Stage, events, put, source, spawn, until_eligible, until_failing, until_well};

const PORT: u16 = 5353;
const PER_SECOND: u32 = 50;

/// dnsmasq on 127.0.0.1 of a namespace, which knows what its configuration and its hosts file say.
struct Dnsmasq {
    process: Process,
    config: PathBuf,
    hosts: PathBuf,
}

impl Dnsmasq {
    fn start(namespace: &Namespace, dir: &std::path::Path, records: &str, hosts: &str) -> Result<Dnsmasq> {
        let (config, hosts_file) = (dir.join("dnsmasq.conf"), dir.join("hosts"));
        fs::write(&hosts_file, hosts)?;
        let text = format!(
            "port={PORT}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/example/\nlocal-ttl=1\nneg-ttl=1\n\
             addn-hosts={}\nuser=root\npid-file={}\n{records}",
            hosts_file.display(),
            dir.join("dnsmasq.pid").display()
        );
        fs::write(&config, text)?;
        let mut dns = Dnsmasq { process: run(namespace, &config)?, config, hosts: hosts_file };
        dns.wait(namespace)?;
        Ok(dns)
    }

    fn start_again(&mut self, namespace: &Namespace) -> Result<()> {
        self.process = run(namespace, &self.config)?;
        self.wait(namespace)
    }

    /// Other hosts from now on.
    fn know(&self, hosts: &str) -> Result<()> {
        put(&self.hosts, hosts)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Until it answers anything at all.
    fn wait(&mut self, namespace: &Namespace) -> Result<()> {
        // A question for version.bind, class CHAOS.
        let question =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03";
        let socket = namespace.run(|| UdpSocket::bind("127.0.0.1:0"))??;
        socket.connect(("127.0.0.1", PORT))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        until("dnsmasq answers", || {
            self.process.check_running()?;
            Ok(socket.send(question).is_ok() && socket.recv(&mut [0; 512]).is_ok())
        })
    }
}

fn run(namespace: &Namespace, config: &std::path::Path) -> Result<Process> {
    let path = format!("--conf-file={}", config.display());
    spawn("dnsmasq", namespace, "dnsmasq", &["--keep-in-foreground", "--log-facility=-", &path])
}

/// Lines of a hosts file.
fn hosts(name: &str, addresses: &[&str]) -> String {
    addresses.iter().map(|address| format!("{address} {name}\n")).collect()
}

fn answers(lbd: &lbd_tests::topology::Lbd, name: &str) -> Result<u64> {
    source(lbd, name)?["answers"].as_u64().context("no answers")
}

#[test]
fn a_name_is_followed_and_a_server_that_fails_changes_nothing() -> Result<()> {
    if !root_or_skip("a_name_is_followed_and_a_server_that_fails_changes_nothing") {
        return Ok(());
    }
    const SOURCE: &str = "dns:web.example";
    let stage = Stage::new("dns")?;
    let [one, two, three] = [0, 1, 2].map(|index| stage.backend(index));
    let mut dns =
        Dnsmasq::start(&stage.topology.balancer, &stage.dir, "", &hosts("web.example", &[&one, &two]))?;
    let discover = format!(
        "discover = {{ type = \"dns\", name = \"web.example\", server = \"127.0.0.1:{PORT}\", timeout = \"300ms\", max_interval = \"2s\" }}"
    );
    let mut web = stage.balanced(&discover)?;
    until_eligible(&web.lbd, &[one.clone(), two.clone()])?;
    let row = &web.lbd.backends(POOL)?[0];
    ensure!(row["origin"] == "discovery" && row["sources"][0] == SOURCE && row["reach"] == "remote", "{row}");
    let revision = web.lbd.lbctl(&["status"])?["revision"].clone();

    // Clients notice nothing of what follows.
    let load = web.load(PER_SECOND)?;
    let begin = Instant::now();
    until_answered(load.recorder(), begin, 100)?;
    dns.know(&hosts("web.example", &[&one, &two, &three]))?;
    let all = [one.clone(), two.clone(), three.clone()];
    until_eligible(&web.lbd, &all)?;

    // What cannot be a backend is left out and named: the vip, a multicast address, a family without a listener, this host itself.
    let own = web.topology.balancer_addresses()[0].to_string();
    let bad = [web.topology.vip().to_string(), "224.0.0.7".to_owned(), "2001:db8:2::77".to_owned(), own];
    let mut many: Vec<&str> = all.iter().map(String::as_str).collect();
    many.extend(bad.iter().map(String::as_str));
    dns.know(&hosts("web.example", &many))?;
    until("bad entries are named", || {
        let left_out = source(&web.lbd, SOURCE)?["left_out"].to_string();
        Ok(bad.iter().all(|bad| left_out.contains(bad)))
    })?;
    until_eligible(&web.lbd, &all)?;
    ensure!(web.lbd.lbctl_output(&["status", "--check"])?.status.success(), "left-out entries are no fault");
    dns.know(&hosts("web.example", &[&one, &two, &three]))?;
    until("nothing is left out", || Ok(source(&web.lbd, SOURCE)?["left_out"].is_null()))?;

    // The name does not exist; then the server does not. Everybody stays.
    dns.know("")?;
    until_failing(&web.lbd, SOURCE, "names no backend")?;
    dns.know(&hosts("web.example", &[&one, &two, &three]))?;
    until_well(&web.lbd, SOURCE)?;
    dns.process.kill()?;
    until_failing(&web.lbd, SOURCE, &format!("127.0.0.1:{PORT} cannot be asked"))?;
    until_eligible(&web.lbd, &all)?;
    let failures = source(&web.lbd, SOURCE)?["failures"].as_u64().context("no failures")?;
    until("it is asked again", || Ok(source(&web.lbd, SOURCE)?["failures"].as_u64() > Some(failures + 1)))?;
    let kinds = events(&web.lbd)?;
    ensure!(kinds.iter().filter(|kind| *kind == "discovery_failed").count() == 2, "once for each: {kinds:?}");

    // A restart goes on with what was said last.
    web.lbd.kill()?;
    web.lbd.start_again(&web.topology)?;
    until_eligible(&web.lbd, &all)?;
    until_failing(&web.lbd, SOURCE, "cannot be asked")?;
    ensure!(source(&web.lbd, SOURCE)?["backends"] == 3, "{}", source(&web.lbd, SOURCE)?);
    dns.start_again(&web.topology.balancer)?;
    until_well(&web.lbd, SOURCE)?;
    let end = Instant::now();
    until_answered(load.recorder(), end, 50)?;
    expect_no_failure(load.recorder(), begin)?;
    drop(load);

    // An answer is no configuration.
    ensure!(web.lbd.lbctl(&["status"])?["revision"] == revision, "the revision is another");
    let refused = web.lbd.lbctl_output(&["backend", "remove", POOL, &one, "--yes"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(5) && said.contains(SOURCE) && said.contains("backend disable"),
        "{said}"
    );
    dns.know(&hosts("web.example", &[&two, &three]))?;
    until_eligible(&web.lbd, &[two, three])
}

#[test]
fn srv_records_give_ports_and_weights_and_a_ttl_is_respected() -> Result<()> {
    if !root_or_skip("srv_records_give_ports_and_weights_and_a_ttl_is_respected") {
        return Ok(());
    }
    let stage = Stage::new("srv")?;
    let [one, two, three] = [0, 1, 2].map(|index| stage.backend(index));
    let records = format!(
        "srv-host=_http._tcp.web.example,b1.example,80,10,60\nsrv-host=_http._tcp.web.example,b2.example,80,10,0\n\
         srv-host=_http._tcp.web.example,b3.example,80,20,5\n\
         host-record=b1.example,{one},5\nhost-record=b2.example,{two},5\nhost-record=b3.example,{three},5\n\
         host-record=long.example,{three},3600\n"
    );
    let _dns = Dnsmasq::start(&stage.topology.balancer, &stage.dir, &records, "")?;
    let source_of = |name: &str, record: &str, rest: &str| {
        format!(
            "[[pool.discover]]\ntype = \"dns\"\nname = \"{name}\"\nrecord = \"{record}\"\nserver = \"127.0.0.1:{PORT}\"\n{rest}\n"
        )
    };
    let short = source_of("_http._tcp.web.example", "srv", "min_interval = \"100ms\"");
    let web =
        stage.balanced(&(short + &source_of("long.example", "a", "port = 80\nmax_interval = \"1h\"")))?;
    let ported = [&one, &two, &three].map(|address| format!("{address}:80"));
    until_eligible(&web.lbd, &ported)?;
    let weight = |address: &str| -> Result<u64> {
        let backends = web.lbd.backends(POOL)?;
        let row = backends.iter().find(|row| row["address"] == address).context("not listed")?;
        row["weight"].as_u64().context("no weight")
    };
    let weights = [weight(&ported[0])?, weight(&ported[1])?, weight(&ported[2])?];
    ensure!(
        weights == [60, 1, 1],
        "{weights:?}: 0 is the least there is, and the spare one is not asked for"
    );
    // One is asked again and again, the other stands for an hour.
    let begin = answers(&web.lbd, "dns:_http")?;
    until("a short TTL is over", || Ok(answers(&web.lbd, "dns:_http")? >= begin + 3))?;
    ensure!(answers(&web.lbd, "dns:long")? == 1, "a long TTL is over: {}", source(&web.lbd, "dns:long")?);
    Ok(())
}
