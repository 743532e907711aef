//! The soak in short: each mode, a script of a few changes under a small load, judged as the long one (`cargo xtask soak`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::soak::{self, Amounts, Ending, Options};
use lbd_tests::topology::{Family, Mode};

macro_rules! soaks {
    ($($name:ident: $mode:ident, $family:ident, $seed:literal;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            holds(Mode::$mode, Family::$family, $seed)
        }
    )*};
}

soaks! {
    nothing_is_lost_while_everything_changes_in_full_nat: FullNat, V4, 1;
    nothing_is_lost_while_everything_changes_in_nat: Nat, V6, 2;
    nothing_is_lost_while_everything_changes_in_dsr: Dsr, V4, 3;
    nothing_is_lost_while_everything_changes_in_ipip: Ipip, V6, 4;
}

/// About 20 seconds.
fn holds(mode: Mode, family: Family, seed: u64) -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbd-soak"));
    let ending = soak::run(&Options {
        mode,
        family,
        seed,
        changes: 16,
        pause: Duration::from_millis(900),
        hosts: 6,
        amounts: Amounts { per_second: 100, streams: 24, flows: 1000 },
        logs: soak::logs_beside(&program),
        program,
    })?;
    ensure!(
        matches!(ending, Ending::Held(_)),
        "see above; the same again: cargo xtask soak --mode {} --seed {seed}",
        mode.name()
    );
    Ok(())
}
