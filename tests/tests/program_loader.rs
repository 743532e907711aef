//! The life of a datapath on the real kernel: pins adopted or refused, programs replaced on their links, interfaces that come and go.
//!
//! Each test has its own namespace with a veth pair and its own pin directory.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_common::selected_by;
use lb_datapath::flow_table::State;
use lb_userspace::datapath::explain::{Explained, Question, Verdict};
use lb_userspace::datapath::{Adoption, Datapath, DatapathError, Demand, Mode, Tuning, detach, is_available};
use lb_userspace::desired::{
    BackendKey, Desired, DesiredBackend, DesiredNextHop, DesiredPool, DesiredService, ListenerKey, PoolKey,
    Variant,
};
use lb_userspace::image::Image;
use lb_userspace::plan::plan;
use lb_userspace::spec::{
    Affinity, AttachMode, DatapathSpec, Forward, OnExit, Protocol, TimeoutSpec, WhenNone,
};
use lb_userspace::store::{Store, Table};
use lbd_tests::netns::link::{End, Mac, Receive, connect};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::root_or_skip;

const INTERFACE: &str = "lb0";

fn may_run(test: &str) -> bool {
    if !is_available() {
        println!("SKIP: {test}: built without the BPF object (cargo xtask build)");
        return false;
    }
    root_or_skip(test)
}

/// A namespace with a veth pair, a pin directory and a seed file.
struct Place {
    namespace: Namespace,
    spec: DatapathSpec,
    _files: tempfile::TempDir,
}

impl Place {
    fn new(label: &str) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        cable(&namespace)?;
        let files = tempfile::tempdir()?;
        let spec = DatapathSpec {
            interfaces: vec![INTERFACE.into()],
            mode: AttachMode::Native,
            flows: 1024,
            pin: namespace.run_dir().new_pin_dir()?,
            seed_file: files.path().join("seed"),
            ..DatapathSpec::default()
        };
        Ok(Self { namespace, spec, _files: files })
    }

    fn demand(&self) -> Demand {
        Demand { listeners: 2, pools: 1, backends: 3, maglev_slots: 1021, flows: self.spec.flows }
    }

    fn open(&self) -> Result<Datapath, DatapathError> {
        self.namespace
            .run(|| Datapath::open(&self.spec, Tuning::default(), &self.demand()))
            .expect("the namespace can be entered")
    }

    /// Opens and attaches; every interface must have been had.
    fn start(&self) -> Result<Datapath> {
        let mut datapath = self.open()?;
        self.attach(&mut datapath)?;
        Ok(datapath)
    }

    fn attach(&self, datapath: &mut Datapath) -> Result<()> {
        let errors = self.namespace.run(|| datapath.attach())??;
        ensure!(errors.is_empty(), "{errors:?}");
        Ok(())
    }

    fn maps(&self) -> PathBuf {
        self.spec.pin.join("v1/maps")
    }

    fn state(&self, datapath: &Datapath) -> Result<lb_userspace::datapath::InterfaceState> {
        self.namespace.run(|| datapath.interfaces())?.pop().context("no interface")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.namespace.run(|| detach(&self.spec.pin));
    }
}

fn cable(namespace: &Namespace) -> Result<()> {
    let end = |interface, member, receive| End { namespace, interface, mac: Mac::local(9, member), receive };
    connect(end(INTERFACE, 1, Receive::Plain), end("peer0", 2, Receive::XdpPass), 1500)
}

fn link_id(place: &Place) -> Result<String> {
    let shown = output_of(place.namespace.command("ip").args(["-d", "link", "show", "dev", INTERFACE]))?;
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(id.unwrap_or("none").to_owned())
}

/// Backend word 5 of entry 1 is written and must be found again.
fn mark(datapath: &mut Datapath) -> Result<()> {
    Ok(datapath.write(Table::Backends, 13, &[0x1234_5678])?)
}

fn marked(datapath: &Datapath) -> Result<bool> {
    let mut word = [0];
    datapath.read(Table::Backends, 13, &mut word)?;
    Ok(word == [0x1234_5678])
}

#[test]
fn a_restart_adopts_maps_and_replaces_the_program_on_its_link() -> Result<()> {
    if !may_run("a_restart_adopts_maps_and_replaces_the_program_on_its_link") {
        return Ok(());
    }
    let place = Place::new("adopt")?;
    let mut first = place.start()?;
    ensure!(*first.adoption() == Adoption::Fresh, "{:?}", first.adoption());
    mark(&mut first)?;
    let seed = first.seed().fingerprint();
    let before = place.state(&first)?;
    ensure!(before.mode == Some(Mode::Native) && before.program_id != 0, "{before:?}");
    drop(first);
    ensure!(link_id(&place)? == before.program_id.to_string(), "the program went with the daemon");

    fs::write(&place.spec.seed_file, "42".repeat(32))?;
    let mut second = place.start()?;
    ensure!(*second.adoption() == Adoption::Adopted, "{:?}", second.adoption());
    ensure!(marked(&second)?, "the maps lost their contents");
    ensure!(second.seed().fingerprint() == seed, "the pinned seed did not win");
    let after = place.state(&second)?;
    ensure!(after.program_id != before.program_id, "the program was not loaded anew");
    ensure!(link_id(&place)? == after.program_id.to_string());
    ensure!(second.tick_now()? > 0, "the program's clock stands still");
    ensure!(second.counters().interface(after.index)?.drop_packets == 0);

    place.namespace.run(|| second.close(OnExit::Detach))??;
    ensure!(link_id(&place)? == "none", "the program is still attached");
    ensure!(!place.spec.pin.exists(), "pins are left");
    Ok(())
}

#[test]
fn a_map_that_does_not_fit_is_found_and_made_anew() -> Result<()> {
    if !may_run("a_map_that_does_not_fit_is_found_and_made_anew") {
        return Ok(());
    }
    let place = Place::new("misfit")?;
    drop(place.start()?);
    // aya adopts whatever is pinned under a map's name: a hash in the place of an array, other sizes.
    let path = place.maps().join("services");
    fs::remove_file(&path)?;
    pin_map(&path, 1, 8, 16, 32)?;
    let mut datapath = place.open()?;
    let Adoption::Migrated { what } = datapath.adoption() else { bail!("adopted a hash for an array") };
    let text = what.join("; ");
    for part in ["services: ", "type 1 instead of 2", "key size 8", "value size 16", "entries 32", "flags 0"]
    {
        ensure!(text.contains(part), "{part}: {text}");
    }
    // Flows name services by number, and the numbers are lost.
    ensure!(what.iter().filter(|what| what.contains("emptied")).count() == 4 && what.len() == 5, "{what:?}");
    place.attach(&mut datapath)?;
    drop(datapath);
    let again = place.open()?;
    ensure!(*again.adoption() == Adoption::Adopted, "{:?}", again.adoption());
    Ok(())
}

#[test]
fn what_a_crash_left_is_made_whole() -> Result<()> {
    if !may_run("what_a_crash_left_is_made_whole") {
        return Ok(());
    }
    let place = Place::new("crash")?;
    mark(&mut place.start()?)?;
    let base = place.spec.pin.join("v1");
    // A new set was begun, and of the old one some maps are gone.
    fs::create_dir(base.join("maps_new"))?;
    pin_map(&base.join("maps_new/flows4"), 2, 4, 8, 1)?;
    for name in ["flows4", "replies6", "sources"] {
        fs::remove_file(place.maps().join(name))?;
    }
    let mut datapath = place.open()?;
    let Adoption::Migrated { what } = datapath.adoption() else { bail!("missing maps were not seen") };
    ensure!(what.len() == 3 && what.iter().all(|w| w.contains("not pinned")), "{what:?}");
    ensure!(marked(&datapath)?, "maps that were there lost their contents");
    // A crash before the first plan: the same again.
    drop(datapath);
    datapath = place.open()?;
    ensure!(matches!(datapath.adoption(), Adoption::Migrated { .. }), "{:?}", datapath.adoption());
    place.attach(&mut datapath)?;
    drop(datapath);
    // A crash between the two renames of a commit.
    fs::rename(base.join("maps"), base.join("maps_new"))?;
    fs::create_dir(base.join("maps_old"))?;
    let datapath = place.open()?;
    ensure!(*datapath.adoption() == Adoption::Adopted, "{:?}", datapath.adoption());
    ensure!(marked(&datapath)?, "the new set is not in place");
    Ok(())
}

#[test]
fn what_is_not_ours_among_the_pins_is_refused_by_name() -> Result<()> {
    if !may_run("what_is_not_ours_among_the_pins_is_refused_by_name") {
        return Ok(());
    }
    let place = Place::new("foreign")?;
    drop(place.start()?);
    let stray = place.maps().join("somebody_elses");
    pin_map(&stray, 2, 4, 8, 1)?;
    let error = place.open().err().context("a foreign map was taken")?.to_string();
    ensure!(error.contains("somebody_elses") && error.contains("not a map of lbd"), "{error}");
    fs::remove_file(&stray)?;

    let control = place.maps().join("control");
    fs::remove_file(&control)?;
    fs::rename(place.spec.pin.join("v1/programs/lbd_clock"), &control)?;
    let error = place.open().err().context("a program was taken for a map")?.to_string();
    ensure!(error.contains("control") && error.contains("is a program"), "{error}");
    Ok(())
}

#[test]
fn one_lbd_per_pin_path_and_none_is_detached_under_it() -> Result<()> {
    if !may_run("one_lbd_per_pin_path_and_none_is_detached_under_it") {
        return Ok(());
    }
    let place = Place::new("lock")?;
    let datapath = place.start()?;
    let error = place.open().err().context("two had the pin path")?.to_string();
    ensure!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let error = detach(&place.spec.pin).err().context("detached under a daemon")?.to_string();
    ensure!(error.contains("is in use by"), "{error}");
    drop(datapath);
    let interfaces = place.namespace.run(|| detach(&place.spec.pin))??;
    ensure!(interfaces == [INTERFACE], "{interfaces:?}");
    ensure!(place.namespace.run(|| detach(&place.spec.pin))??.is_empty(), "twice is once");
    Ok(())
}

#[test]
fn an_interface_with_another_program_is_refused_naming_it() -> Result<()> {
    if !may_run("an_interface_with_another_program_is_refused_naming_it") {
        return Ok(());
    }
    let place = Place::new("occupied")?;
    let first = place.start()?;
    let id = place.state(&first)?.program_id;
    let pin = place.namespace.run_dir().new_pin_dir()?;
    let other = DatapathSpec { pin: pin.clone(), mode: AttachMode::Auto, ..place.spec.clone() };
    let demand = place.demand();
    let errors = place.namespace.run(|| Datapath::open(&other, Tuning::default(), &demand)?.attach())??;
    let text = errors.first().context("replaced another program")?.to_string();
    for part in [INTERFACE, &id.to_string(), "(lbd)", "another XDP program", "take lb0 out of"] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    ensure!(link_id(&place)? == id.to_string(), "the other program is gone");
    detach(&pin)?;
    Ok(())
}

#[test]
fn a_vanished_interface_is_named_and_mended_when_it_is_back() -> Result<()> {
    if !may_run("a_vanished_interface_is_named_and_mended_when_it_is_back") {
        return Ok(());
    }
    let place = Place::new("vanish")?;
    let mut datapath = place.start()?;
    place.namespace.ip(&format!("link delete {INTERFACE}"))?;
    let state = place.state(&datapath)?;
    ensure!(state.mode.is_none() && state.warning.is_some_and(|w| w.contains("gone")));
    let errors = place.namespace.run(|| datapath.attach())??;
    ensure!(matches!(&errors[..], [DatapathError::NoInterface { name }] if name == INTERFACE), "{errors:?}");
    // The name comes back with another index while no daemon runs; the pinned link is of nothing.
    drop(datapath);
    cable(&place.namespace)?;
    let mut datapath = place.open()?;
    ensure!(*datapath.adoption() == Adoption::Adopted, "{:?}", datapath.adoption());
    place.attach(&mut datapath)?;
    let state = place.state(&datapath)?;
    ensure!(state.mode == Some(Mode::Native) && state.warning.is_none(), "{state:?}");
    // And while it runs.
    place.namespace.ip(&format!("link delete {INTERFACE}"))?;
    cable(&place.namespace)?;
    place.attach(&mut datapath)?;
    ensure!(link_id(&place)? == place.state(&datapath)?.program_id.to_string());
    Ok(())
}

#[test]
fn auto_falls_back_to_generic_with_the_reason_and_native_does_not() -> Result<()> {
    if !may_run("auto_falls_back_to_generic_with_the_reason_and_native_does_not") {
        return Ok(());
    }
    let mut place = Place::new("generic")?;
    place.spec.interfaces = vec!["lo".into()];
    let mut datapath = place.open()?;
    let errors = place.namespace.run(|| datapath.attach())??;
    let text = errors.first().context("lo took native XDP")?.to_string();
    ensure!(text.contains("cannot attach to lo in native mode") && text.contains("generic"), "{text}");
    drop(datapath);

    place.spec.mode = AttachMode::Auto;
    let datapath = place.start()?;
    let state = place.state(&datapath)?;
    ensure!(state.mode == Some(Mode::Generic), "{state:?}");
    ensure!(state.warning.is_some_and(|w| w.contains("slower") && w.contains("no driver that supports XDP")));
    ensure!(datapath.settings().features & lb_common::FEATURE_GENERIC != 0, "the program does not know");
    drop(datapath);
    // An interface that is no longer listed loses the program; another mode takes the place of the old one.
    place.spec.interfaces = vec![INTERFACE.into()];
    let datapath = place.start()?;
    ensure!(place.state(&datapath)?.mode == Some(Mode::Native));
    let shown = place.namespace.ip("link show dev lo")?;
    ensure!(!shown.contains("xdp"), "{shown}");
    drop(datapath);
    place.spec.mode = AttachMode::Generic;
    let datapath = place.start()?;
    ensure!(place.state(&datapath)?.mode == Some(Mode::Generic));
    Ok(())
}

#[test]
fn a_reload_changes_the_program_and_keeps_link_and_maps() -> Result<()> {
    if !may_run("a_reload_changes_the_program_and_keeps_link_and_maps") {
        return Ok(());
    }
    let place = Place::new("reload")?;
    let mut datapath = place.start()?;
    mark(&mut datapath)?;
    let before = place.state(&datapath)?.program_id;
    datapath.reconfigure(Tuning::default(), &place.demand())?;
    ensure!(place.state(&datapath)?.program_id == before, "loaded anew for nothing");
    let tuning = Tuning { features: lb_common::FEATURE_DSR | lb_common::FEATURE_V4, ..Tuning::default() };
    datapath.reconfigure(tuning.clone(), &place.demand())?;
    let after = place.state(&datapath)?.program_id;
    ensure!(after != before && link_id(&place)? == after.to_string(), "{before} {after}");
    let loaded = datapath.settings().features & !lb_common::FEATURE_PERFMON;
    ensure!(loaded == tuning.features && marked(&datapath)?);
    datapath.grace()?;
    Ok(())
}

#[test]
fn interface_names_that_do_not_exist_are_refused() -> Result<()> {
    if !may_run("interface_names_that_do_not_exist_are_refused") {
        return Ok(());
    }
    let mut place = Place::new("noif")?;
    place.spec.interfaces = vec!["eht0".into(), INTERFACE.into()];
    let mut datapath = place.open()?;
    let errors = place.namespace.run(|| datapath.attach())??;
    let text = errors.first().context("attached to nothing")?.to_string();
    ensure!(errors.len() == 1 && text.contains("there is no interface eht0"), "{text}");
    ensure!(link_id(&place)? != "none", "the other interface has the program all the same");
    Ok(())
}

/// The daemon as another user with two capabilities, in a process of its own.
#[test]
fn another_user_needs_two_capabilities_and_without_them_is_told_so() -> Result<()> {
    const NAME: &str = "another_user_needs_two_capabilities_and_without_them_is_told_so";
    const CHILD: &str = "LBD_LOADER_CHILD";
    if let Ok(directory) = std::env::var(CHILD) {
        return as_another_user(Path::new(&directory));
    }
    if !may_run(NAME) {
        return Ok(());
    }
    let place = Place::new("caps")?;
    let files = tempfile::tempdir()?;
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
    let program = files.path().join("child");
    fs::copy(std::env::current_exe()?, &program)?;
    let state = files.path().join("state");
    fs::create_dir(&state)?;
    fs::create_dir(&place.spec.pin)?;
    for directory in [&state, &place.spec.pin] {
        std::os::unix::fs::chown(directory, Some(65534), Some(65534))?;
    }
    std::os::unix::fs::symlink(&place.spec.pin, state.join("pin"))?;
    let run = |capabilities: &str| -> Result<String> {
        let mut command = place.namespace.command("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
            .arg(format!("--inh-caps={capabilities}"))
            .arg(format!("--ambient-caps={capabilities}"))
            .arg(&program)
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, &state);
        child_object(&mut command, files.path())?;
        let output = command.output()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let said = run("-all")?;
    ensure!(said.contains("REFUSED") && said.contains("lbd lacks CAP_BPF and CAP_NET_ADMIN"), "{said}");
    let said = run("-all,+bpf,+net_admin")?;
    ensure!(said.contains("ATTACHED") && said.contains("test result: ok"), "{said}");
    Ok(())
}

/// The object of this run where the other user can read it.
fn child_object(command: &mut Command, directory: &Path) -> Result<()> {
    if let Some(object) = std::env::var_os(lb_userspace::datapath::OBJECT_VARIABLE) {
        let copy = directory.join("object.o");
        fs::copy(&object, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        command.env(lb_userspace::datapath::OBJECT_VARIABLE, copy);
    }
    Ok(())
}

fn as_another_user(state: &Path) -> Result<()> {
    ensure!(!nix::unistd::geteuid().is_root(), "still root");
    let spec = DatapathSpec {
        interfaces: vec![INTERFACE.into()],
        mode: AttachMode::Native,
        flows: 1024,
        pin: fs::read_link(state.join("pin"))?,
        seed_file: state.join("seed"),
        ..DatapathSpec::default()
    };
    let demand = Demand { flows: 1024, ..Demand::default() };
    for round in ["Fresh", "Adopted"] {
        let mut datapath = match Datapath::open(&spec, Tuning::default(), &demand) {
            Ok(datapath) => datapath,
            Err(error) => {
                println!("REFUSED {error}");
                return Ok(());
            }
        };
        ensure!(format!("{:?}", datapath.adoption()) == round, "{:?}", datapath.adoption());
        let errors = datapath.attach()?;
        ensure!(errors.is_empty(), "{errors:?}");
        ensure!(datapath.interfaces()[0].mode == Some(Mode::Native), "{:?}", datapath.interfaces());
        datapath.grace()?;
        datapath.scan()?;
        datapath.counters().services(0, 256)?;
        if round == "Adopted" {
            println!("ATTACHED");
            datapath.close(OnExit::Detach)?;
        }
    }
    Ok(())
}

/// Makes a map by bpf(2) and pins it.
fn pin_map(path: &Path, kind: u32, key_size: u32, value_size: u32, entries: u32) -> Result<()> {
    let create: [u32; 5] = [kind, key_size, value_size, entries, 0];
    let map = bpf(0, create.as_ptr().cast(), size_of_val(&create))?;
    // SAFETY: the kernel has just made this descriptor for us.
    let map = unsafe { OwnedFd::from_raw_fd(map) };
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let pin: [u64; 2] = [path.as_ptr().expose_provenance() as u64, u64::try_from(map.as_raw_fd())?];
    bpf(6, pin.as_ptr().cast(), size_of_val(&pin)).map(drop).context("pin")
}

fn bpf(command: i32, attribute: *const u8, len: usize) -> Result<i32> {
    // SAFETY: the attribute is `len` readable bytes that live during the call, and so do the strings it names.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, len) };
    ensure!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    Ok(i32::try_from(result)?)
}

/// A dsr service on 203.0.113.10:80/tcp with one backend behind the interface.
fn desired(interface: u32) -> Desired {
    let pool = PoolKey { name: "web".into(), variant: Variant::V4 };
    let backend: IpAddr = Ipv4Addr::new(192, 0, 2, 7).into();
    let listener =
        ListenerKey { addr: Ipv4Addr::new(203, 0, 113, 10).into(), port: Some(80), protocol: Protocol::Tcp };
    let service = DesiredService {
        name: "web".into(),
        forward: Forward::Dsr,
        affinity: Affinity::Flow,
        when_none: WhenNone::Reset,
        loopback: false,
        pool: pool.clone(),
    };
    let member = DesiredBackend { weight: 1, takes_new: true, keeps: true, sources: Vec::new() };
    let key = BackendKey { ip: backend, port: None };
    let next_hop = DesiredNextHop {
        interface,
        destination_mac: [2, 0, 0, 0, 9, 2],
        source_mac: [2, 0, 0, 0, 9, 1],
        mtu: 1500,
        local: false,
    };
    Desired {
        services: BTreeMap::from([(listener, service)]),
        pools: BTreeMap::from([(
            pool,
            DesiredPool { table_len: 1021, backends: BTreeMap::from([(key, member)]) },
        )]),
        next_hops: BTreeMap::from([(backend, next_hop)]),
    }
}

/// A datapath that serves [`desired`].
fn serve(place: &Place) -> Result<Datapath> {
    let index = place.namespace.run(|| nix::net::if_::if_nametoindex(INTERFACE))??;
    let desired = desired(index);
    let timeouts = TimeoutSpec {
        tcp_syn: Duration::from_secs(2),
        tcp: Duration::from_secs(600),
        ..TimeoutSpec::default()
    };
    let tuning = Tuning::of(&desired, &timeouts);
    let mut datapath = place
        .namespace
        .run(|| Datapath::open(&place.spec, tuning, &Demand::of(&desired, place.spec.flows)))??;
    let plan = plan(&Image::read(&datapath)?, &desired, datapath.settings())?;
    for change in &plan.changes {
        datapath.apply(change)?;
    }
    place.attach(&mut datapath)?;
    Ok(datapath)
}

/// A TCP segment of a client to the vip, checksums left at 0: dsr touches neither.
fn segment(client_port: u16, flags: u8) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    frame.extend_from_slice(&[198, 51, 100, 9, 203, 0, 113, 10]);
    frame.extend_from_slice(&client_port.to_be_bytes());
    frame.extend_from_slice(&[0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn flows_are_listed_counted_flushed_swept_and_explained() -> Result<()> {
    if !may_run("flows_are_listed_counted_flushed_swept_and_explained") {
        return Ok(());
    }
    let place = Place::new("flows")?;
    let mut datapath = serve(&place)?;
    let index = place.state(&datapath)?.index;
    let send = |datapath: &Datapath, port, flags| -> Result<Verdict> {
        Ok(place.namespace.run(|| datapath.run_frame(&segment(port, flags), index))??.0)
    };
    for port in 2000..2010 {
        ensure!(send(&datapath, port, SYN)? == Verdict::Transmit, "port {port} is not forwarded");
    }
    for port in 2000..2003 {
        send(&datapath, port, ACK)?;
    }
    let now = datapath.tick_now()?;
    let counts = datapath.flows().count(now);
    let count = counts.by_backend.values().next().copied().unwrap_or_default();
    ensure!((counts.v4, counts.wide) == (10, 0), "{counts:?}");
    ensure!((count.established, count.probation) == (3, 7), "{counts:?}");
    let flows = datapath.flows().list(now, 4, |flow| flow.state == State::TcpEstablished);
    ensure!(flows.len() == 3, "{flows:?}");
    for flow in &flows {
        ensure!(flow.client == IpAddr::from([198, 51, 100, 9]) && (2000..2003).contains(&flow.client_port));
        ensure!(flow.idle <= Duration::from_secs(3) && flow.backend != 0, "{flow:?}");
    }
    ensure!(datapath.flows().list(now, 4, |_| true).len() == 4, "the limit");

    explain_both(&place, &mut datapath, index)?;
    ensure!(datapath.flows().count(now) == counts, "explain made or changed a flow");
    ensure!(datapath.counters().services(0, 16)?.iter().map(|s| s.packets).sum::<u64>() == 13);
    ensure!(datapath.counters().interface(index)?.transmit_packets == 13);

    ensure!(datapath.flows().flush(now, |flow| flow.client_port == 2000) == 1);
    let held = datapath.scan()?.held;
    ensure!(held.len() == 1, "{held:?}");
    // Entries on probation are over after two seconds and a tick by the program's own clock.
    let end = Instant::now() + Duration::from_secs(10);
    while datapath.tick_now()?.wrapping_sub(now) < 4 && Instant::now() < end {
        std::thread::yield_now();
    }
    datapath.scan()?;
    let left = datapath.flows().list(datapath.tick_now()?, 100, |_| true);
    ensure!(left.len() == 2 && left.iter().all(|flow| flow.state == State::TcpEstablished), "{left:?}");
    datapath.flows().flush(datapath.tick_now()?, |_| true);
    ensure!(datapath.scan()?.held.is_empty(), "a flushed flow holds its backend");
    Ok(())
}

#[test]
fn flows_move_into_tables_of_another_size() -> Result<()> {
    if !may_run("flows_move_into_tables_of_another_size") {
        return Ok(());
    }
    let mut place = Place::new("resize")?;
    let datapath = serve(&place)?;
    let index = place.state(&datapath)?.index;
    let send = |datapath: &Datapath, port, flags| -> Result<Verdict> {
        Ok(place.namespace.run(|| datapath.run_frame(&segment(port, flags), index))??.0)
    };
    for port in 2000..2100 {
        send(&datapath, port, SYN)?;
        send(&datapath, port, ACK)?;
    }
    let sorted = |datapath: &Datapath| -> Result<Vec<(u16, u16, u16)>> {
        let flows = datapath.flows().list(datapath.tick_now()?, 1000, |_| true);
        let mut flows: Vec<_> = flows.iter().map(|f| (f.client_port, f.service, f.backend)).collect();
        flows.sort_unstable();
        Ok(flows)
    };
    let before = sorted(&datapath)?;
    ensure!(before.len() == 100, "{before:?}");
    drop(datapath);
    for flows in [8192, 256] {
        place.spec.flows = flows;
        let datapath = serve(&place)?;
        let Adoption::Migrated { what } = datapath.adoption() else { bail!("{:?}", datapath.adoption()) };
        ensure!(what.len() == 4 && what[0].contains("flows4: entries"), "{what:?}");
        ensure!(sorted(&datapath)? == before, "flows were lost: {flows}");
        ensure!(datapath.flows().places() == u64::from(flows) * 2);
        // The program finds them: a segment in the midst of a flow makes no new one.
        send(&datapath, 2050, ACK)?;
        ensure!(datapath.counters().services(0, 16)?.iter().map(|s| s.new_flows).sum::<u64>() == 100);
    }
    Ok(())
}

fn explain_both(place: &Place, datapath: &mut Datapath, index: u32) -> Result<()> {
    let mut ask = |port: u16| -> Result<Explained> {
        let question = Question {
            protocol: Protocol::Tcp,
            source: (Ipv4Addr::new(198, 51, 100, 9), port).into(),
            destination: (Ipv4Addr::new(203, 0, 113, 10), 80).into(),
        };
        Ok(place.namespace.run(|| datapath.explain(&question, index))??)
    };
    let known = ask(2001)?;
    ensure!(known.verdict == Verdict::Transmit && !known.is_syn, "{known:?}");
    ensure!(known.explanation.selected_by == selected_by::FLOW, "{known:?}");
    let unknown = ask(3000)?;
    ensure!(unknown.is_syn && unknown.explanation.selected_by == selected_by::MAGLEV, "{unknown:?}");
    ensure!(unknown.frame.starts_with(&[2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1]), "the next hop's addresses");
    ensure!(unknown.explanation.backend == known.explanation.backend && unknown.explanation.service != 0);
    Ok(())
}
