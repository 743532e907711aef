//! `lbd detach`: removes program, pins and maps.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::config;
use crate::controller::left_behind;
use crate::datapath;
use crate::netlink;
use crate::spec::{DaemonSpec, DatapathSpec};

/// Where pins usually are.
const SYSTEM_PINS: &str = "/sys/fs/bpf";

/// Removes what the pin directory (of `pin`, else of the configuration, else the default) holds; `state` too if wanted. A
/// directory without pins is as it should be, and so is a configured one that is gone: that is how `lbd detach` leaves it.
///
/// # Errors
/// A daemon is running, or something cannot be removed, or `pin` is no directory: then another one was meant.
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
    if let Some(pin) = pin.filter(|pin| !pin.is_dir()) {
        bail!(
            "there is no directory {}: nothing is pinned there; datapath.pin of the configuration that lbd ran with names the one \
             that is meant, find {SYSTEM_PINS} -name links those there are",
            pin.display()
        );
    }
    let pin = pin.unwrap_or(&configured.pin);
    let interfaces = datapath::detach(pin)?;
    match interfaces.as_slice() {
        [] => println!("{}: nothing was attached", pin.display()),
        some => println!("{}: detached from {}", pin.display(), some.join(", ")),
    }
    for pins in datapath::foreign_pins(pin) {
        eprintln!("lbd: {}", left_behind(&pins));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let released = runtime.block_on(netlink::release_neighbours()).context("neighbours stay resolved")?;
    if released > 0 {
        println!("{released} neighbours are left to the kernel's ordinary ageing");
    }
    if remove_state && daemon.state.exists() {
        std::fs::remove_dir_all(&daemon.state)
            .with_context(|| format!("cannot remove the state directory {}", daemon.state.display()))?;
        println!("{}: removed", daemon.state.display());
    }
    Ok(ExitCode::SUCCESS)
}
