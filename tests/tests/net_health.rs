//! Every type of check against real servers: they pass, fail with their reason when the server does, and pass again.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};

const PATIENCE: Duration = Duration::from_secs(30);
/// The rhythm of every pool.
const RHYTHM: &str = r#"interval = "200ms", timeout = "2s", rise = 1, fall = 2"#;
const BACKENDS: usize = 2;

/// What all of a test's servers share: certificates, the script, and the flags that it looks at.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn make(topology: &Topology) -> Result<Files> {
        let dir = topology.balancer.run_dir().path().join(format!("health-{}", topology.plan.name));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let openssl =
            |words: &str| output_of(Command::new("openssl").args(words.split(' ')).current_dir(&dir));
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=lbd-test-ca",
        )?;
        openssl("req -newkey rsa:2048 -nodes -keyout web.key -out web.csr -subj /CN=web.example")?;
        fs::write(dir.join("extensions"), "subjectAltName=DNS:web.example\n")?;
        openssl(
            "x509 -req -in web.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out web.pem -days 1 -extfile extensions",
        )?;
        let files = Files { dir };
        let script = format!(
            "#!/bin/sh\n[ \"$LBD_POOL\" = script ] && [ \"$LBD_PORT\" = 8080 ] || exit 9\n\
             cd {} && [ ! -e \"down-$LBD_ADDRESS\" ] || exit 3\n\
             [ ! -e \"hang-$LBD_ADDRESS\" ] || {{ setsid sleep {}; }} & wait\n",
            files.dir.display(),
            mark()
        );
        fs::write(files.path("check.sh"), script)?;
        fs::set_permissions(files.path("check.sh"), Permissions::from_mode(0o755))?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A flag for the script's check of this backend.
    fn flag(&self, name: &str, backend: IpAddr) -> PathBuf {
        self.path(&format!("{name}-{backend}"))
    }
}

/// nginx with TLS, whose only page says that it is well.
fn nginx(namespace: &Namespace, files: &Files) -> Result<Process> {
    let dir = files.path(&format!("nginx-{}", namespace.label()));
    fs::create_dir_all(&dir)?;
    let (own, shared) = (dir.display(), files.dir.display());
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {own}/pid; error_log {own}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
         fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;\n\
         server {{ listen 443 ssl; listen [::]:443 ssl; ssl_certificate {shared}/web.pem; ssl_certificate_key {shared}/web.key;\n\
         location = /up {{ return 200 'all is well'; }} }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), config)?;
    let mut command = namespace.command("nginx");
    command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::spawn(&format!("nginx-tls-{}", namespace.label()), &mut command, namespace.run_dir())
        .context("nginx does not start: apt-get install nginx-light")
}

/// dnsmasq that knows one name.
fn dnsmasq(namespace: &Namespace) -> Result<Process> {
    let mut command = namespace.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file",
    ]);
    command.args(["--address=/up.example/192.0.2.77", "--txt-record=note.example,all is well"]);
    Process::spawn(&format!("dnsmasq-{}", namespace.label()), &mut command, namespace.run_dir())
        .context("dnsmasq does not start: apt-get install dnsmasq-base")
}

/// Every pool of the test: name, listener, health.
fn pools(files: &Files) -> Vec<(&'static str, &'static str, String)> {
    let path = |name: &str| files.path(name).display().to_string();
    vec![
        (
            "https",
            "443/tcp",
            format!(r#"type = "https", path = "/up", host = "web.example", body = "is well", ca = "{}""#, path("ca.pem")),
        ),
        ("dns", "53/udp", r#"type = "dns", query = "up.example", answer = "192.0.2.77""#.to_owned()),
        // A query for version.bind, by hand: what comes back begins with the same number.
        (
            "udp",
            "54/udp",
            r#"type = "udp", port = 53, send = '\x4c\x42\x01\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03', expect = 'LB'"#
                .to_owned(),
        ),
        ("icmp", "7/udp", r#"type = "icmp""#.to_owned()),
        ("script", "8080/tcp", format!(r#"type = "exec", command = ["{}"]"#, path("check.sh"))),
    ]
}

/// What stands for the health of the first backend.
struct Host {
    nginx: Process,
    dnsmasq: Process,
}

fn host(namespace: &Namespace, files: &Files) -> Result<Host> {
    Ok(Host { nginx: nginx(namespace, files)?, dnsmasq: dnsmasq(namespace)? })
}

/// Waits until that many backends of the pool are eligible, and says why the first is not.
fn reason(lbd: &mut Lbd, pool: &str, eligible: usize, first: IpAddr) -> Result<String> {
    lbd.wait_eligible(pool, eligible, PATIENCE)?;
    let backends = lbd.backends(pool)?;
    let address = first.to_string();
    let found = backends.iter().find(|backend| {
        backend["address"].as_str().is_some_and(|text| text.trim_matches(['[', ']']) == address)
    });
    let found = found.with_context(|| format!("{address} is not in {backends:?}"))?;
    Ok(found["reason"].as_str().unwrap_or_default().to_owned())
}

fn echo_ignored(namespace: &Namespace, family: Family, ignored: &str) -> Result<()> {
    match family {
        Family::V4 => namespace.sysctl("net/ipv4/icmp_echo_ignore_all", ignored),
        Family::V6 => namespace.sysctl("net/ipv6/icmp/echo_ignore_all", ignored),
    }
}

/// How long the checks sleep that hang: an argument that no other process has.
fn mark() -> String {
    format!("1000.{}", std::process::id())
}

/// The checks that run, and what has got away from them.
fn processes_of(script: &Path) -> Result<usize> {
    let (script, mark) = (script.display().to_string(), mark());
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        count += usize::from(line.contains(&script) || line.contains(&mark));
    }
    Ok(count)
}

fn every_type_passes_fails_and_recovers(name: &str, family: Family) -> Result<()> {
    let topology = Topology::build(Plan { backends: 2, ..Plan::new(name, Mode::FullNat, family) })?;
    let files = Files::make(&topology)?;
    let mut hosts: Vec<Host> =
        topology.backends.iter().map(|backend| host(&backend.namespace, &files)).collect::<Result<_>>()?;
    let pools = pools(&files);
    let services = pools
        .iter()
        .map(|(name, listen, health)| topology.service(name, &[listen], &format!("{{ {health}, {RHYTHM} }}")))
        .collect();
    let mut lbd = Lbd::start(&topology, &Settings::new(services))?;
    for (pool, ..) in &pools {
        lbd.wait_eligible(pool, BACKENDS, PATIENCE).with_context(|| lbd.log_tail())?;
    }

    let (first, namespace) = (topology.backend_address(0), &topology.backends[0].namespace);
    hosts[0].nginx.kill()?;
    hosts[0].dnsmasq.kill()?;
    echo_ignored(namespace, family, "1")?;
    fs::write(files.flag("down", first), "")?;
    for (pool, expected) in [
        ("https", "connection refused"),
        ("dns", "port unreachable"),
        ("udp", "port unreachable"),
        ("icmp", "no answer to the echo request within 2s"),
        ("script", "exited with 3, expected 0"),
    ] {
        let reason = reason(&mut lbd, pool, 1, first)?;
        ensure!(reason.contains(expected), "{pool}: {reason:?}");
    }

    // A check that never ends, and tries to get away.
    fs::write(files.flag("hang", first), "")?;
    fs::remove_file(files.flag("down", first))?;
    lbd_tests::web::until("the check that hangs is said to", || {
        Ok(reason(&mut lbd, "script", 1, first)?.contains("did not end within 2s, and was killed"))
    })?;

    hosts[0] = host(namespace, &files)?;
    echo_ignored(namespace, family, "0")?;
    fs::remove_file(files.flag("hang", first))?;
    for (pool, ..) in &pools {
        lbd.wait_eligible(pool, BACKENDS, PATIENCE)?;
    }
    lbd.stop()?;
    lbd_tests::web::until("the end of all checks", || Ok(processes_of(&files.path("check.sh"))? == 0))
}

#[test]
fn every_type_of_check_over_ipv4() -> Result<()> {
    if !root_or_skip("every_type_of_check_over_ipv4") {
        return Ok(());
    }
    every_type_passes_fails_and_recovers("health4", Family::V4)
}

#[test]
fn every_type_of_check_over_ipv6() -> Result<()> {
    if !root_or_skip("every_type_of_check_over_ipv6") {
        return Ok(());
    }
    every_type_passes_fails_and_recovers("health6", Family::V6)
}

/// Nobody takes for checked what nobody checks: a fault of lbd that ends all checks is degraded, with its reason. So is one that ends
/// another task.
#[test]
fn checks_that_have_ended_are_said() -> Result<()> {
    if !root_or_skip("checks_that_have_ended_are_said") {
        return Ok(());
    }
    let topology = Topology::build(Plan::new("ended", Mode::FullNat, Family::V4))?;
    let health = format!("{{ type = \"tcp\", port = 80, {RHYTHM} }}");
    let mut lbd = Lbd::start(&topology, &Settings::new(topology.service("web", &["80/tcp"], &health)))?;
    let status = |lbd: &Lbd| -> Result<String> { Ok(lbd.lbctl(&["status"])?["degraded"].to_string()) };
    ensure!(!status(&lbd)?.contains("checks have ended"), "{}", status(&lbd)?);
    lbd.stop()?;
    lbd.set_environment(&[("LBD_TEST_PANIC_IN", "checks:5")]);
    lbd.start_again(&topology)?;
    lbd_tests::web::until("the end of all checks in status", || {
        Ok(status(&lbd)?.contains("health checks have ended: every backend stays as it was found last"))
    })?;
    let said = status(&lbd)?;
    ensure!(said.contains("a fault of lbd: LBD_TEST_PANIC_IN is set"), "{said}");
    let check = lbd.lbctl_output(&["status", "--check"])?;
    ensure!(check.status.code() == Some(7), "{check:?}");
    // As the sentence advises.
    lbd.kill()?;
    lbd.set_environment(&[]);
    lbd.start_again(&topology)?;
    ensure!(!status(&lbd)?.contains("checks have ended"), "{}", status(&lbd)?);
    Ok(())
}

#[test]
fn every_task_that_has_ended_is_said() -> Result<()> {
    if !root_or_skip("every_task_that_has_ended_is_said") {
        return Ok(());
    }
    let topology = Topology::build(Plan::new("tasks", Mode::FullNat, Family::V4))?;
    let health = format!("{{ type = \"tcp\", via = \"service\", {RHYTHM} }}");
    let mut lbd = Lbd::start(&topology, &Settings::new(topology.service("web", &["80/tcp"], &health)))?;
    let config = fs::read_to_string(lbd.config_path())?;
    lbd.write_config(&config.replace("metrics = \"\"", "metrics = \"127.0.0.1:9000\""))?;
    lbd.stop()?;
    for (place, loss) in [
        ("metrics:1", "metrics are no longer served"),
        ("probes:1", "the way of checks through services is no longer kept"),
    ] {
        lbd.set_environment(&[("LBD_TEST_PANIC_IN", place)]);
        lbd.start_again(&topology)?;
        let mut said = String::new();
        lbd_tests::web::until(loss, || {
            said = lbd.lbctl(&["status"])?["degraded"].to_string();
            Ok(said.contains(loss))
        })?;
        ensure!(said.contains("a fault of lbd: LBD_TEST_PANIC_IN is set"), "{said}");
        lbd.stop()?;
    }
    // Nobody can ask: the log says it, and what lbd does at its end is done.
    lbd.set_environment(&[("LBD_TEST_PANIC_IN", "api:9")]);
    lbd.start_again(&topology)?;
    lbd_tests::web::until("the end of the API", || Ok(!lbd.lbctl_output(&["status"])?.status.success()))?;
    let log = lbd.process().log_path().to_owned();
    let loss = "the API is no longer served: lbctl does not reach this lbd (a fault of lbd";
    lbd_tests::web::until(loss, || Ok(fs::read_to_string(&log)?.contains(loss)))?;
    lbd.stop()?;
    ensure!(fs::read_to_string(&log)?.contains("stopped; "), "{}", lbd.log_tail());
    Ok(())
}
