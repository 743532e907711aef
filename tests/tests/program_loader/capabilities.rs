//! What the daemon must be allowed to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lb_userspace::datapath::{Datapath, Demand, Mode, OBJECT_VARIABLE, Tuning};
use lb_userspace::spec::{AttachMode, DatapathSpec, OnExit};
use lb_userspace::store::Store;
use lbd_tests::program::may_run;

use super::place::{INTERFACE, Place};

/// The daemon as another user with two capabilities, in a process of its own.
#[test]
fn another_user_needs_two_capabilities_and_without_them_is_told_so() -> Result<()> {
    const NAME: &str =
        "program_loader::capabilities::another_user_needs_two_capabilities_and_without_them_is_told_so";
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
        chown(directory, Some(65534), Some(65534))?;
    }
    symlink(&place.spec.pin, state.join("pin"))?;
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
    if let Some(object) = std::env::var_os(OBJECT_VARIABLE) {
        let copy = directory.join("object.o");
        fs::copy(&object, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        command.env(OBJECT_VARIABLE, copy);
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
