//! `cargo xtask test`: every layer of tests that this machine can run.
//!
//! In: the layers wanted and a filter. Out: progress, a table, the reason of each skip, and as the last line
//! `N passed, N failed, N skipped`. Invariant: what did not run is counted as skipped with its reason, never as passed.

mod artifacts;
mod company;
mod layer;
mod libtest;
mod report;
mod runner;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};

pub(crate) use self::layer::Layer;
use self::{
    artifacts::TestBinary,
    report::{LayerReport, Report},
    runner::Runner,
};
use crate::{
    build,
    setup::{self, Prepared, is_root},
    workspace::{Profile, Workspace},
};

/// What to run.
pub(crate) struct Options {
    /// One layer, or all.
    pub(crate) only: Option<Layer>,
    /// Only tests whose full name (`file::test`) contains this.
    pub(crate) filter: Option<String>,
}

/// Runs them; false when one failed.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<bool> {
    let layers = options.only.map_or_else(|| Layer::ALL.to_vec(), |layer| vec![layer]);
    let without_object = prepare(workspace, &layers)?;
    println!("building the tests");
    let binaries = artifacts::build(workspace, layers.contains(&Layer::Unit))?;
    if without_object.is_none() && layers != [Layer::Unit] {
        // The dev profile: what is slow in the tests is the kernel and the wait for it, and a release build of the daemon would take longer
        // than it saves. After the tests: with those of lb-userspace the programs have been built already, side by side with them.
        build::programs(workspace, Profile::Dev)?;
    }

    let logs = workspace.target.join("test-logs");
    if logs.exists() {
        std::fs::remove_dir_all(&logs).with_context(|| format!("cannot clear {}", logs.display()))?;
    }
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let runner = Runner::new(workspace, logs, options.filter)?;

    let mut report = Report::default();
    for layer in layers {
        let obstacle = layer.obstacle(is_root(), without_object.as_deref());
        report.add(run_layer(layer, &binaries, &runner, obstacle)?);
    }
    print!("{report}");
    // A filter with a slip of the pen must not look like success.
    anyhow::ensure!(
        !report.is_empty(),
        "no test was found: filters are parts of `file::test`, as in target/test-logs"
    );
    Ok(report.succeeded())
}

/// Toolchain and object for the layers that need them. Some: the reason why there is no object.
fn prepare(workspace: &Workspace, layers: &[Layer]) -> Result<Option<String>> {
    if layers == [Layer::Unit] {
        return Ok(None);
    }
    match setup::ensure(workspace)? {
        Prepared::Ready(ready) => {
            build::object(workspace, &ready)?;
            Ok(None)
        }
        Prepared::ByHand(missing) => Ok(Some(format!("no BPF object: {missing}"))),
    }
}

fn run_layer(
    layer: Layer,
    binaries: &[TestBinary],
    runner: &Runner,
    obstacle: Option<String>,
) -> Result<LayerReport> {
    let started = Instant::now();
    let mut report = LayerReport::new(layer);
    println!("\n{layer}");
    for binary in binaries.iter().filter(|binary| binary.layer == layer) {
        match &obstacle {
            Some(reason) => runner.skip_all(binary, reason, &mut report)?,
            None if layer == Layer::Unit => runner.run_whole(binary, &mut report)?,
            None => runner.run_each(binary, &mut report)?,
        }
    }
    if layer == Layer::Unit {
        runner.run_doc_tests(&mut report)?;
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Shown where a log lies.
type LogPath = PathBuf;
