//! `lbctl`: changes and shows a running lbd.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::cli::main()
}
