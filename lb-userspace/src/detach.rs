//! `lbd detach`: removes program, pins and maps.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::config;
use crate::controller::left_behind;
use crate::datapath;
use crate::netlink;
use crate::spec::{DaemonSpec, DatapathSpec, PROBE_OUTER};
use crate::state;

/// Where pins usually are.
const SYSTEM_PINS: &str = "/sys/fs/bpf";

/// Removes what the pin directory (of `pin`, else of the configuration, else the default) holds; `state` too if wanted. A
/// directory without pins is as it should be, and so is a configured one that is gone: that is how `lbd detach` leaves it.
///
/// # Errors
/// A daemon is running, or something cannot be removed, or `pin` is no directory and nothing else was there to do either: then
/// another one was meant.
pub fn run(config: &Path, pin: Option<&Path>, remove_state: bool) -> anyhow::Result<ExitCode> {
    let (daemon, configured) = match config::load(config) {
        Ok(loaded) => (loaded.spec.daemon, loaded.spec.datapath),
        Err(errors) => {
            if pin.is_none() && config.exists() {
                eprintln!(
                    "lbd: {} is invalid, so the default pin directory is meant: {errors}",
                    config.display()
                );
            }
            (DaemonSpec::default(), DatapathSpec::default())
        }
    };
    let absent = pin.filter(|pin| !pin.is_dir()).map(absence);
    if let Some(absent) = absent.as_ref().filter(|_| state::is_held(&daemon.state)) {
        bail!("{absent}; the lbd that uses {} runs", daemon.state.display());
    }
    let pin = pin.unwrap_or(&configured.pin);
    let mut interfaces = datapath::detach(pin)?;
    interfaces.retain(|name| name != PROBE_OUTER);
    match interfaces.as_slice() {
        [] if absent.is_some() => {}
        [] => println!("{}: nothing was attached", pin.display()),
        some => println!("{}: detached from {}", pin.display(), some.join(", ")),
    }
    for pins in datapath::foreign_pins(pin) {
        eprintln!("lbd: {}", left_behind(&pins));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let probes = runtime
        .block_on(netlink::remove_probe_path())
        .context("the veth of checks through services stays")?;
    if probes {
        println!("the veth of checks through services is removed");
    }
    let released = runtime.block_on(netlink::release_neighbours()).context("neighbours stay resolved")?;
    if released > 0 {
        println!("{released} neighbours are left to the kernel's ordinary ageing");
    }
    let is_removed = remove_state && daemon.state.exists();
    if is_removed {
        remove(&daemon.state)?;
    }
    match absent {
        // Nothing of lbd was here at all: another place was meant.
        Some(absent) if released == 0 && !is_removed => bail!(absent),
        Some(absent) => eprintln!("lbd: {absent}"),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What to say of a pin directory that is not there.
fn absence(pin: &Path) -> String {
    format!(
        "there is no directory {}: nothing is pinned there; datapath.pin of the configuration that lbd ran with names the one \
         that is meant, find {SYSTEM_PINS} -name links those there are",
        pin.display()
    )
}

fn remove(state: &Path) -> anyhow::Result<()> {
    if state::is_held(state) {
        bail!("{} is used by an lbd that runs: stop it first", state.display());
    }
    std::fs::remove_dir_all(state)
        .with_context(|| format!("cannot remove the state directory {}", state.display()))?;
    println!("{}: removed", state.display());
    Ok(())
}
