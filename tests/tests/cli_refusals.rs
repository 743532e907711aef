//! Bad input is refused with a sentence that names the place and the remedy, and nothing changes.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lbd_tests::client::download;
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Binaries, Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL, Web, until};
use serde_json::{Value, json};

const HEALTH: &str = r#"{ type = "tcp", interval = "500ms", timeout = "400ms" }"#;
/// EX_CONFIG.
const BAD_CONFIGURATION: i32 = 78;
/// capability.h.
const CAP_NET_ADMIN: libc::c_ulong = 12;
const CAP_SYS_ADMIN: libc::c_ulong = 21;
const CAP_BPF: libc::c_ulong = 39;

fn network(name: &str) -> Result<Topology> {
    Topology::build(Plan { backends: 1, ..Plan::new(name, Mode::FullNat, Family::V4) })
}

fn good(topology: &Topology) -> Settings {
    Settings::new(topology.service(POOL, &["80/tcp"], HEALTH))
}

/// A mistake in a file: what is in the line that is named, and what the sentence says.
struct Mistake {
    settings: Settings,
    line: &'static str,
    sentence: &'static [&'static str],
}

fn mistakes(topology: &Topology) -> Vec<Mistake> {
    let services = |text: &str| Settings::new(text.to_owned());
    let (vip, backend) = (topology.vip(), topology.backend_address(0));
    let other = |listen: &str, backend: &str| {
        services(&format!("[[service]]\nname = \"other\"\nlisten = [\"{listen}\"]\nbackends = [{backend}]\n"))
    };
    let twice = format!(
        "{}[[service]]\nname = \"again\"\nlisten = [\"{vip}:80/tcp\"]\nbackends = [\"{backend}\"]\n",
        good(topology).services
    );
    vec![
        Mistake {
            settings: Settings { datapath: "flowz = 1\n".to_owned(), ..good(topology) },
            line: "flowz = 1",
            sentence: &["unknown key \"flowz\" in [datapath]", "did you mean \"flows\"?"],
        },
        Mistake {
            settings: services(&twice),
            line: "listen = ",
            sentence: &["is taken by service \"web\" at", "lbd.toml:", "remove one of the two"],
        },
        Mistake {
            settings: other("203.0.113.10/tcp", "\"198.51.100.11\""),
            line: "203.0.113.10/tcp",
            sentence: &["has no port in service \"other\"", "write 203.0.113.10:443/tcp"],
        },
        Mistake {
            settings: other("[2001:db8:3::10]:80/tcp", "\"198.51.100.11\""),
            line: "[2001:db8:3::10]:80/tcp",
            sentence: &["has only IPv4 backends", "use forward = \"ipip\""],
        },
        Mistake {
            settings: other("203.0.113.10:80/tcp", "{ address = \"198.51.100.11\", weight = 65536 }"),
            line: "weight = 65536",
            sentence: &["weight = 65536 is out of range", "write a number from 0 to 65535"],
        },
        Mistake {
            settings: services("[[pool]]\nname = \"none\"\nbackends = []\n"),
            line: "[[pool]]",
            sentence: &["pool \"none\" has no backends", "write backends = ["],
        },
    ]
}

/// The number behind the first `lbd.toml:` of a text, and the line of the file with that number.
fn named_line(text: &str) -> Result<String> {
    let (before, after) =
        text.split_once("lbd.toml:").with_context(|| format!("no line is named: {text}"))?;
    let path = before.rsplit([' ', '\n']).next().unwrap_or_default();
    let number: usize = after.split(':').next().unwrap_or_default().parse().context("no number")?;
    let file = fs::read_to_string(Path::new(path).join("lbd.toml"))?;
    file.lines().nth(number - 1).map(str::to_owned).with_context(|| format!("there is no line {number}"))
}

fn says(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not said: {text}");
    }
    Ok(())
}

/// No program is on an interface, nothing is pinned.
fn nothing_is_left(topology: &Topology) -> Result<()> {
    let links = topology.balancer.ip("-details link show")?;
    ensure!(!links.contains("prog/xdp"), "{links}");
    let prefix = format!("lbd-test-{}-", std::process::id());
    for entry in fs::read_dir("/sys/fs/bpf")? {
        let name = entry?.file_name();
        ensure!(!name.to_string_lossy().starts_with(&prefix), "{} is left", name.display());
    }
    Ok(())
}

#[test]
fn a_bad_file_ends_the_start_and_leaves_nothing() -> Result<()> {
    if !root_or_skip("a_bad_file_ends_the_start_and_leaves_nothing") {
        return Ok(());
    }
    let topology = network("bad-start")?;
    for Mistake { settings, line, sentence } in mistakes(&topology) {
        let Err(error) = Lbd::start(&topology, &settings) else { bail!("lbd starts in spite of {line}") };
        let said = format!("{error:#}");
        says(&said, &["exit code 78"]).and_then(|()| says(&said, sentence))?;
        let named = named_line(said.split_once("log ends:").context("no log")?.1)?;
        ensure!(named.contains(line), "the line named is {named:?}, not that of {line:?}");
        nothing_is_left(&topology)?;
    }
    let run = |config: &Path, sentence: &[&str]| {
        refused(&topology, "no-file", config, BAD_CONFIGURATION, sentence, |_| ())
    };
    let dir = topology.balancer.run_dir().path();
    run(dir, &["is a directory, not a file", "name the file in it"])?;
    let empty = dir.join("empty.toml");
    fs::write(&empty, "")?;
    run(&empty, &["the configuration is empty", "write at least", "interfaces"])?;
    run(&dir.join("missing.toml"), &["missing.toml"])
}

#[test]
fn a_bad_file_leaves_a_running_daemon_as_it_is() -> Result<()> {
    if !root_or_skip("a_bad_file_leaves_a_running_daemon_as_it_is") {
        return Ok(());
    }
    let plan = Plan { backends: 1, ..Plan::new("bad-reload", Mode::FullNat, Family::V4) };
    let web = Web::start(plan, good)?;
    let before = picture(&web.lbd)?;
    let (client, vip) = (&web.topology.client, web.topology.vip_port(HTTP));
    for Mistake { settings, line, sentence } in mistakes(&web.topology) {
        web.lbd.rewrite_config(&web.topology, &settings)?;
        web.lbd.reload()?;
        until(&format!("the refusal of {line}"), || {
            Ok(status(&web.lbd)?["degraded"].to_string().replace("\\\"", "\"").contains(sentence[0]))
        })?;
        let degraded = status(&web.lbd)?["degraded"][0].as_str().context("no sentence")?.to_owned();
        says(&degraded, &["the last reload was refused"]).and_then(|()| says(&degraded, sentence))?;
        ensure!(named_line(&degraded)?.contains(line), "the line of {line:?} is not named: {degraded}");
        let now = picture(&web.lbd)?;
        ensure!(now == before, "after the refusal of {line}: {now}\nbefore: {before}");
        download(client, vip, "/").context("a request after a refusal")?;
    }
    let two = Settings { datapath: "flowz = 1\nmodus = 2\n".to_owned(), ..good(&web.topology) };
    web.lbd.rewrite_config(&web.topology, &two)?;
    web.lbd.reload()?;
    until("the refusal of both", || Ok(status(&web.lbd)?["degraded"].to_string().contains("2 mistakes")))?;
    let log = web.lbd.log_tail();
    let records: Vec<&str> = log.lines().filter(|line| line.contains("modus")).collect();
    ensure!(records.len() == 1 && records[0].contains("flowz"), "{records:?}");
    web.lbd.rewrite_config(&web.topology, &good(&web.topology))?;
    web.lbd.reload()?;
    until("all is well again", || Ok(status(&web.lbd)?["degraded"] == json!([])))
}

fn status(lbd: &Lbd) -> Result<Value> {
    lbd.lbctl(&["status"])
}

/// Revision and services, without what counts up.
fn picture(lbd: &Lbd) -> Result<Value> {
    let services = lbd.lbctl(&["service", "list"])?["services"].take();
    let rows = services.as_array().context("no list of services")?.iter();
    let fields = ["name", "listen", "pool", "forward", "origin", "backends", "eligible"];
    let rows: Vec<Value> = rows.map(|row| fields.map(|field| row[field].clone()).to_vec().into()).collect();
    Ok(Value::from(vec![status(lbd)?["revision"].clone(), Value::from(rows)]))
}

#[test]
fn lbctl_refuses_with_the_place_and_a_remedy() -> Result<()> {
    if !root_or_skip("lbctl_refuses_with_the_place_and_a_remedy") {
        return Ok(());
    }
    let plan = Plan { backends: 1, ..Plan::new("bad-words", Mode::FullNat, Family::V4) };
    let web = Web::start(plan, good)?;
    let address = web.topology.backend_address(0).to_string();
    let listener = format!("{}/tcp", web.topology.vip_port(HTTP));
    let revision = status(&web.lbd)?["revision"].clone();
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["backend", "set", POOL, &address, "--weight", "65536"], 2, &["65536", "0..=65535"]),
        (&["backend", "add", POOL, "198.51.100"], 2, &["198.51.100"]),
        (
            &["backend", "add", "wep", "198.51.100.12"],
            4,
            &["there is no pool \"wep\"", "did you mean \"web\"?"],
        ),
        (
            &["service", "add", "twice", &listener, "--backend", &address],
            5,
            &["is taken by service", "lbd.toml:"],
        ),
        (&["backend", "remove", POOL, &address, "--yes"], 5, &["lbd.toml:"]),
        (&["backend", "drain", POOL, &address], 5, &["--force"]),
    ];
    for (words, code, sentence) in cases {
        let output = web.lbd.lbctl_output(words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{words:?} ended with {}: {said}", output.status);
        says(&said, sentence).with_context(|| format!("{words:?}"))?;
        ensure!(status(&web.lbd)?["revision"] == revision, "{words:?} made a revision");
    }
    Ok(())
}

/// `lbd run` with this file ends with this code and says this; `prepare` may change the command.
fn refused(
    topology: &Topology,
    name: &str,
    config: &Path,
    code: i32,
    sentence: &[&str],
    prepare: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut command = topology.balancer.command(Binaries::find()?.lbd);
    command.arg("run").arg("--config").arg(config);
    prepare(&mut command);
    let mut process = Process::spawn(name, &mut command, topology.balancer.run_dir())?;
    let ended =
        process.wait(PATIENCE)?.with_context(|| format!("{name}: lbd runs:\n{}", process.log_tail()))?;
    ensure!(ended.code() == Some(code), "{name}: ended with {ended}, not {code}:\n{}", process.log_tail());
    says(&process.log_tail(), sentence).with_context(|| name.to_owned())
}

/// The good file in a directory of its own, with one text in the place of another.
fn file(topology: &Topology, name: &str, replaced: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = topology.balancer.run_dir().path().join(name);
    fs::create_dir_all(&dir)?;
    let pin = topology.balancer.run_dir().new_pin_dir()?;
    let text = topology.config(&good(topology), &dir, &pin);
    let text = replaced.iter().try_fold(text, |text, (from, to)| {
        ensure!(text.contains(from), "{from} is not in the file");
        Ok(text.replace(from, to))
    })?;
    let path = dir.join("lbd.toml");
    fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn an_interface_that_cannot_be_had_ends_the_start() -> Result<()> {
    if !root_or_skip("an_interface_that_cannot_be_had_ends_the_start") {
        return Ok(());
    }
    let topology = network("interface")?;
    let none = file(&topology, "no-interface", &[("\"back\"", "\"bakc\"")])?;
    let sentence = ["datapath.interfaces", "there is no interface \"bakc\"", "did you mean \"back\"?"];
    refused(&topology, "no-interface", &none, 1, &sentence, |_| ())?;
    nothing_is_left(&topology)?;

    let mut owner = topology.balancer.command(Binaries::find()?.lbd);
    owner.args(["decap", "--interface", "back", "--from", "192.0.2.1"]);
    let mut owner = Process::spawn("owner", &mut owner, topology.balancer.run_dir())?;
    let id = || -> Result<Option<String>> {
        let shown = topology.balancer.ip("-details link show dev back")?;
        Ok(shown
            .split_once("prog/xdp id ")
            .and_then(|(_, rest)| Some(rest.split_whitespace().next()?.to_owned())))
    };
    until("the other program", || owner.check_running().and_then(|()| Ok(id()?.is_some())))?;
    let before = id()?;
    let taken = file(&topology, "occupied", &[])?;
    let holder = format!("as long as process {} (lbd) holds its link: stop that one", owner.pid());
    let sentence = [
        "interface back carries another XDP program",
        "lbd_decap",
        &holder,
        "take back out of datapath.interfaces",
    ];
    refused(&topology, "occupied", &taken, 1, &sentence, |_| ())?;
    ensure!(id()? == before, "the other program was touched");
    let text = fs::read_to_string(&taken)?;
    let line = text.lines().find(|line| line.starts_with("pin = ")).context("no pin")?;
    let pin = topology.balancer.run_dir().path().join("own-bpffs");
    fs::write(&taken, text.replace(line, &format!("pin = \"{}\"", pin.display())))?;
    refused(&topology, "unmounted", &taken, 1, &["mounted a BPF filesystem", "another XDP program"], |_| ())?;
    ensure!(!pin.exists(), "the mount that the refused start made is left");
    owner.stop(PATIENCE)?;
    nothing_is_left(&topology)
}

#[test]
fn what_another_daemon_holds_is_left_to_it() -> Result<()> {
    if !root_or_skip("what_another_daemon_holds_is_left_to_it") {
        return Ok(());
    }
    let plan = Plan { backends: 1, ..Plan::new("held", Mode::FullNat, Family::V4) };
    let mut web = Web::start(plan, good)?;
    let pid = web.lbd.process().pid().to_string();
    let (socket, pin) = (web.lbd.socket().display().to_string(), web.lbd.pin().display().to_string());
    let dir = web.topology.balancer.run_dir().path().display().to_string();
    let own = |name: &str| format!("{dir}/{name}/lbd.sock");
    let same_socket = file(&web.topology, "same-socket", &[(&own("same-socket"), &socket)])?;
    let sentence = ["is served by another lbd", &pid, "another daemon.socket"];
    refused(&web.topology, "same-socket", &same_socket, 1, &sentence, |_| ())?;
    let same_pin = file(&web.topology, "same-pin", &[])?;
    let text = fs::read_to_string(&same_pin)?;
    let line = text.lines().find(|line| line.starts_with("pin = ")).context("no pin")?;
    fs::write(&same_pin, text.replace(line, &format!("pin = \"{pin}\"")))?;
    let sentence = ["is in use by process", &pid, "another directory"];
    refused(&web.topology, "same-pin", &same_pin, 1, &sentence, |_| ())?;
    ensure!(status(&web.lbd)?["pid"] == pid.parse::<u32>()?, "another daemon answers");
    download(&web.topology.client, web.topology.vip_port(HTTP), "/").map(drop)
}

#[test]
fn without_the_capabilities_they_are_named() -> Result<()> {
    if !root_or_skip("without_the_capabilities_they_are_named") {
        return Ok(());
    }
    let topology = network("capabilities")?;
    let cases = [
        ("no-bpf", [CAP_BPF, CAP_SYS_ADMIN], "lacks CAP_BPF:"),
        ("no-net-admin", [CAP_NET_ADMIN, CAP_SYS_ADMIN], "lacks CAP_NET_ADMIN:"),
    ];
    for (name, dropped, sentence) in cases {
        let config = file(&topology, name, &[])?;
        let sentence = [sentence, "run it as root, or give it AmbientCapabilities="];
        refused(&topology, name, &config, 1, &sentence, |command| without(command, dropped))?;
        nothing_is_left(&topology)?;
    }
    Ok(())
}

/// Takes capabilities from the set that root's programs get.
fn without(command: &mut Command, capabilities: [libc::c_ulong; 2]) {
    let drop = move || {
        for capability in capabilities {
            // SAFETY: prctl takes plain numbers here and touches no memory of ours.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(drop);
    }
}
