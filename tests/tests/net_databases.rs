//! pgbench and redis-benchmark through full-nat while the backends of another pool come, go and change: they see no error.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::server::wait_listening;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{PATIENCE, POOL};
use nix::unistd::User;

const POSTGRES: u16 = 5432;
const REDIS: u16 = 6379;
/// Seconds of each run of pgbench; `LBD_DATABASE_SECONDS` says otherwise.
const SECONDS: u32 = 4;
const CLIENTS: u32 = 8;
/// Commands of each kind that redis-benchmark sends.
const REQUESTS: u32 = 20_000;

/// A pool of one backend, beside the one that changes.
fn service(topology: &Topology, name: &str, backend: usize, port: u16) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = [\"{}/tcp\"]\nforward = \"full-nat\"\nbackends = [\"{}\"]\n\
         health = {{ type = \"tcp\", interval = \"500ms\" }}\n\n",
        topology.vip_port(port),
        topology.backend_address(backend),
    )
}

/// The programs of PostgreSQL, which Debian keeps in a directory for each version.
fn postgres_programs() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: cargo xtask setup")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop().context("no PostgreSQL server is installed: cargo xtask setup")
}

/// A PostgreSQL of its own, as the user that Debian's package makes: it does not run as root.
fn start_postgres(namespace: &Namespace, programs: &Path, data: &Path) -> Result<Process> {
    let user = User::from_name("postgres")?.context("there is no user postgres")?;
    chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .context("cannot give the directory away")?;
    let as_user = |program: &str| {
        let mut command = namespace.command("setpriv");
        let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
        command.args([uid, gid]).arg("--clear-groups").arg(programs.join(program));
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        command
    };
    output_of(as_user("initdb").arg("-D").arg(data).args(["-A", "trust", "-U", "bench", "--no-sync"]))?;
    let rules = data.join("pg_hba.conf");
    std::fs::write(&rules, "host all all 0.0.0.0/0 trust\nlocal all all trust\n")?;
    let mut command = as_user("postgres");
    command.arg("-D").arg(data).arg("-k").arg(data).args(["-h", "*", "-p", &POSTGRES.to_string()]);
    command.args(["-c", "fsync=off", "-c", "max_connections=50"]);
    let mut process = Process::spawn("postgres", &mut command, namespace.run_dir())?;
    wait_listening(namespace, SocketAddr::from(([127, 0, 0, 1], POSTGRES)), &mut process)?;
    Ok(process)
}

fn start_redis(namespace: &Namespace, directory: &Path) -> Result<Process> {
    let mut command = namespace.command("redis-server");
    command.args([
        "--port",
        &REDIS.to_string(),
        "--bind",
        "*",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
    ]);
    command.arg(directory);
    let mut process = Process::spawn("redis", &mut command, namespace.run_dir())
        .context("redis does not start: cargo xtask setup installs it")?;
    wait_listening(namespace, SocketAddr::from(([127, 0, 0, 1], REDIS)), &mut process)?;
    Ok(process)
}

/// Changes the pool again and again until told to stop; how often.
fn churn(lbd: &Lbd, topology: &Topology, stop: &AtomicBool) -> Result<u32> {
    let (first, third) = (topology.backend_address(0).to_string(), topology.backend_address(2).to_string());
    let new = format!("{}:81", topology.backend_address(1));
    let mut changes = 0;
    for round in 0_u32.. {
        let weight = (1 + round % 9).to_string();
        let steps: [&[&str]; 7] = [
            &["backend", "set", POOL, &first, "--weight", &weight],
            &["backend", "drain", POOL, &third, "--yes"],
            &["backend", "add", POOL, &new],
            &["backend", "enable", POOL, &third],
            &["backend", "disable", POOL, &first, "--yes"],
            &["backend", "remove", POOL, &new, "--yes"],
            &["backend", "enable", POOL, &first],
        ];
        for step in steps {
            if stop.load(Ordering::Relaxed) {
                return Ok(changes);
            }
            lbd.lbctl(step)?;
            changes += 1;
        }
    }
    Ok(changes)
}

/// What a benchmark says, if it is content.
fn content(what: &str, command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("{what} does not start: cargo xtask setup"))?;
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    ensure!(done.status.success(), "{what}: {}\n{said}", done.status);
    let complains = ["rror", "abort", "lost", "closed the connection"].iter().any(|word| said.contains(word));
    ensure!(!complains, "{what} complains:\n{said}");
    Ok(said)
}

fn pgbench(topology: &Topology, programs: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = topology.client.command(programs.join("pgbench"));
    command.args(["-h", &topology.vip().to_string(), "-p", &POSTGRES.to_string(), "-U", "bench"]);
    content("pgbench", command.args(arguments).arg("postgres"))
}

fn benchmarks(topology: &Topology, programs: &Path) -> Result<()> {
    let seconds = std::env::var("LBD_DATABASE_SECONDS").unwrap_or_else(|_| SECONDS.to_string());
    let clients = CLIENTS.to_string();
    for kind in ["-N", "-CS"] {
        // -N: simple updates over standing connections; -C: a connection for each transaction, -S: a look-up.
        let said = pgbench(topology, programs, &[kind, "-c", &clients, "-T", &seconds])?;
        ensure!(said.contains("number of failed transactions: 0 "), "{said}");
        let transactions =
            said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        let transactions: u64 = transactions.context("no count")?.trim().parse()?;
        println!("pgbench {kind}: {transactions} transactions");
        ensure!(transactions > 0, "{said}");
    }
    // Standing connections, then one for each request.
    for (keep_alive, requests) in [("1", REQUESTS), ("0", REQUESTS / 10)] {
        let mut command = topology.client.command("redis-benchmark");
        command.args(["-h", &topology.vip().to_string(), "-p", &REDIS.to_string(), "-t", "set,get", "--csv"]);
        command.args(["-c", &clients, "-n", &requests.to_string(), "-k", keep_alive]);
        let said = content("redis-benchmark", &mut command)?;
        println!("redis-benchmark -k {keep_alive}: {requests} requests of each kind\n{said}");
        ensure!(said.contains("\"SET\"") && said.contains("\"GET\""), "{said}");
    }
    Ok(())
}

#[test]
fn databases_see_no_error_while_another_pool_changes() -> Result<()> {
    if !root_or_skip("databases_see_no_error_while_another_pool_changes") {
        return Ok(());
    }
    let topology = Topology::build(Plan::new("databases", Mode::FullNat, Family::V4))?;
    let mut servers = Vec::new();
    for backend in &topology.backends {
        servers.push(Nginx::start(&backend.namespace, &backend.name, 80)?);
    }
    let second = &topology.backends[1];
    servers.push(Nginx::start(&second.namespace, &second.name, 81)?);
    let (programs, data) = (postgres_programs()?, tempfile::tempdir()?);
    let _postgres = start_postgres(&topology.backends[0].namespace, &programs, data.path())?;
    let dumps = tempfile::tempdir()?;
    let _redis = start_redis(&second.namespace, dumps.path())?;
    let services = [
        topology.service(POOL, &["80/tcp"], r#"{ type = "tcp", port = 80, interval = "500ms" }"#),
        service(&topology, "postgres", 0, POSTGRES),
        service(&topology, "redis", 1, REDIS),
    ];
    let mut lbd = Lbd::start(&topology, &Settings::new(services.concat()))?;
    lbd.wait_eligible(POOL, 3, PATIENCE)?;
    lbd.wait_eligible("postgres", 1, PATIENCE)?;
    lbd.wait_eligible("redis", 1, PATIENCE)?;
    pgbench(&topology, &programs, &["-i", "-q"])?;
    let stop = AtomicBool::new(false);
    let (benchmarked, changed) = std::thread::scope(|scope| {
        let changes = scope.spawn(|| churn(&lbd, &topology, &stop));
        let benchmarked = benchmarks(&topology, &programs);
        stop.store(true, Ordering::Relaxed);
        (benchmarked, changes.join())
    });
    benchmarked?;
    let changes = changed.map_err(|_| anyhow::anyhow!("the churn panicked"))??;
    println!("{changes} changes of the other pool meanwhile");
    ensure!(changes >= 7, "the other pool hardly changed: {changes}");
    lbd.stop()
}
