//! The test binaries, as Cargo builds them.
//!
//! In: the workspace. Out: each binary with its layer. Invariant: a test file that belongs to no layer is an error: it
//! would never run and nobody would notice.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Layer;
use crate::{
    process,
    workspace::{Workspace, cargo},
};

/// Crates whose own tests are the unit layer. lb-ebpf has none: it decides nothing.
pub(crate) const UNIT_PACKAGES: [&str; 4] = ["lb-common", "lb-datapath", "lb-userspace", "xtask"];
const KERNEL_PACKAGE: &str = "lbd-tests";

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestBinary {
    /// `net_modes`, or `lb-datapath` for a crate's own tests.
    pub(crate) name: String,
    pub(crate) layer: Layer,
    pub(crate) path: PathBuf,
    /// Where Cargo would run it.
    pub(crate) directory: PathBuf,
}

/// Compiles the tests; Cargo's own progress is seen meanwhile.
pub(crate) fn build(workspace: &Workspace, with_units: bool) -> Result<Vec<TestBinary>> {
    let mut command = Command::new(cargo());
    command
        .current_dir(&workspace.root)
        .args(["test", "--no-run", "--message-format=json-render-diagnostics", "--package", KERNEL_PACKAGE])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if with_units {
        command.args(UNIT_PACKAGES.map(|package| format!("--package={package}")));
    }
    let output = command.output().with_context(|| format!("cannot start `{}`", process::line(&command)))?;
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Test binaries among Cargo's messages, one JSON object a line.
fn parse(messages: &str) -> Result<Vec<TestBinary>> {
    let mut binaries = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("Cargo sent a message that is not JSON")?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        if let Some(binary) = test_binary(&message)? {
            binaries.push(binary);
        }
    }
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

fn test_binary(message: &Value) -> Result<Option<TestBinary>> {
    let (Some(path), Some(target), Some(manifest)) = (
        message["executable"].as_str(),
        message["target"]["name"].as_str(),
        message["manifest_path"].as_str(),
    ) else {
        return Ok(None);
    };
    let directory = Path::new(manifest).parent().context("a manifest without a directory")?;
    let package = directory.file_name().unwrap_or_default().to_string_lossy();
    let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
    let (layer, name) = match (kind, package.as_ref()) {
        ("test", "tests") => {
            let layer = Layer::of_file(target).with_context(|| {
                format!("tests/tests/{target}.rs belongs to no layer: its name must begin with program_, net_ or cli_")
            })?;
            (layer, target.to_owned())
        }
        ("lib", _) => (Layer::Unit, package.to_string()),
        _ if package == target => (Layer::Unit, target.to_owned()),
        _ => (Layer::Unit, format!("{package}/{target}")),
    };
    Ok(Some(TestBinary { name, layer, path: PathBuf::from(path), directory: directory.to_path_buf() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package: &str, kind: &str, target: &str, test: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("/w/{package}/Cargo.toml"),
            "target": { "name": target, "kind": [kind] },
            "profile": { "test": test },
            "executable": format!("/w/target/debug/deps/{target}-1"),
        })
        .to_string()
    }

    #[test]
    fn binaries_are_named_and_sorted_into_layers() {
        let messages = [
            message("tests", "test", "net_modes", true),
            message("lb-userspace", "lib", "lb_userspace", true),
            message("lb-userspace", "bin", "lbd", true),
            message("lb-userspace", "bin", "lbd", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = parse(&messages.join("\n")).unwrap();
        let found: Vec<_> = found.iter().map(|binary| (binary.name.as_str(), binary.layer)).collect();
        assert_eq!(
            found,
            [("lb-userspace", Layer::Unit), ("lb-userspace/lbd", Layer::Unit), ("net_modes", Layer::Net)]
        );
    }

    #[test]
    fn a_test_file_of_no_layer_is_an_error() {
        let error = parse(&message("tests", "test", "modes", true)).unwrap_err().to_string();
        assert!(error.contains("tests/tests/modes.rs") && error.contains("net_"), "{error}");
    }
}
