//! The soak in short: each mode, a script of a few changes under a small load, judged as the long one (`cargo xtask soak`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::soak::{self, Amounts, Ending, Options, Via};
use lbd_tests::topology::{Family, Mode};

macro_rules! soaks {
    ($($name:ident: $mode:ident, $family:ident, $via:ident, $seed:literal;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            holds(Mode::$mode, Family::$family, Via::$via, $seed)
        }
    )*};
}

// Seeds whose scripts have in them what a short script may lack, see MUST.
soaks! {
    nothing_is_lost_while_everything_changes_in_full_nat: FullNat, V4, Direct, 206;
    nothing_is_lost_while_everything_changes_in_nat: Nat, V6, Direct, 278;
    nothing_is_lost_while_everything_changes_in_dsr: Dsr, V4, Direct, 386;
    nothing_is_lost_while_everything_changes_in_ipip: Ipip, V6, Service, 267;
}

/// What each of them must have done to show anything.
const MUST: [&str; 6] = ["kill", "cut", "mac", "reload", "sigkill lbd", "upgrade"];

/// Less than half a minute.
fn holds(mode: Mode, family: Family, via: Via, seed: u64) -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbd-soak"));
    let ending = soak::run(&Options {
        mode,
        family,
        via,
        seed,
        changes: 14,
        pause: Duration::from_millis(800),
        hosts: 6,
        amounts: Amounts { per_second: 100, streams: 24, flows: 1000 },
        logs: soak::logs_beside(&program),
        program,
    })?;
    let ipv6 = if family == Family::V6 { " --ipv6" } else { "" };
    let again = format!("cargo xtask soak --mode {}{ipv6} --via {} --seed {seed}", mode.name(), via.name());
    let Ending::Held(figures) = ending else { bail!("see above; more of the same: {again}") };
    for kind in MUST {
        ensure!(
            figures["changes"][kind].as_u64() >= Some(1),
            "this script has no {kind}: choose another seed ({figures})"
        );
    }
    let (new, answered) = (figures["connections"]["new"].as_u64(), figures["datagrams"]["answered"].as_u64());
    ensure!(new > Some(500) && answered > Some(5_000), "hardly any load: {figures}");
    Ok(())
}
