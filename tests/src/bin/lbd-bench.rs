//! `cargo xtask bench`: what lbd costs, measured on this machine.
//!
//! In: what to measure. Out: a table while it grows, or JSON at the end. Exit 1 if something could not be measured.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use lbd_tests::bench::control::{self, ControlReport};
use lbd_tests::bench::{Report, Row, Scale, cases, measure};
use lbd_tests::program::{Family, Mode, Rig, Wish};

/// What lbd costs: ns a packet of the program in the kernel, over a null program in the same run; the control plane
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// One part only
    #[arg(long, value_enum, default_value = "program")]
    only: Part,
    /// One mode only, of the program
    #[arg(long, value_name = "full-nat|nat|dsr|ipip")]
    mode: Option<Mode>,
    /// Fewer flows and fewer turns: a minute instead of some
    #[arg(long)]
    quick: bool,
    /// JSON instead of a table
    #[arg(short = 'j', long)]
    json: bool,
    /// `json` is the same as --json
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The program in the kernel, by BPF_PROG_TEST_RUN
    Program,
    /// Changes, loads, reloads, tables, memory: the daemon and lbctl in a namespace of their own
    Control,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Flows that the measured tables are made for.
const FLOWS: u32 = 1 << 20;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    ensure!(nix::unistd::geteuid().is_root(), "measuring loads programs: run it as root");
    let is_json = arguments.json || arguments.output == Output::Json;
    match arguments.only {
        Part::Program => programs(arguments, is_json),
        Part::Control => control(arguments.quick, is_json),
    }
}

/// The control plane. True: everything could be measured.
fn control(is_quick: bool, is_json: bool) -> Result<bool> {
    let turns = if is_quick { 20 } else { 100 };
    if !is_json {
        println!("{}", ControlReport::head());
    }
    let report = control::measure(turns, |row| {
        if !is_json {
            println!("{row}");
        }
    })?;
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let ((met, judged), [before, after]) = (report.met(), &report.load);
        println!(
            "{met} of {judged} bounds kept by the median; times in ms; load before {before}, after {after}"
        );
    }
    Ok(!report.has_errors())
}

/// The program. True: everything could be measured.
fn programs(arguments: &Arguments, is_json: bool) -> Result<bool> {
    let scale = if arguments.quick {
        Scale { turns: 31, packets: 100_000 }
    } else {
        Scale { turns: 21, packets: 1 << 20 }
    };
    if !is_json {
        println!("ns a packet over a null program in the same run, median of {} turns", scale.turns);
        println!("{}", Report::head());
    }
    let mut report = Report::default();
    for mode in [Mode::Dsr, Mode::Ipip, Mode::Nat, Mode::FullNat] {
        if arguments.mode.is_some_and(|wanted| wanted != mode) {
            continue;
        }
        for family in [Family::V4, Family::V6] {
            program(&mut report, mode, family, arguments.quick, scale, !is_json);
        }
    }
    let (met, judged) = report.met();
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{met} of {judged} budgets met");
    }
    Ok(!report.has_errors())
}

/// Measures the cases of one program; what cannot be measured is a row with its reason.
fn program(report: &mut Report, mode: Mode, family: Family, is_quick: bool, scale: Scale, print: bool) {
    let rig = Rig::new("bench", Wish::new(mode, family, FLOWS));
    for case in cases(mode, family, is_quick) {
        let figure = match &rig {
            Ok(rig) => rig.namespace.run(|| measure(rig, &case, scale)).and_then(|figure| figure),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        let row = Row::new(&case, figure);
        if print {
            println!("{row}");
        }
        report.rows.push(row);
    }
}
