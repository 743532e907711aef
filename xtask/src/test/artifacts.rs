//! The test binaries, as Cargo builds them.
//!
//! In: the workspace. Out: each binary with its layer. Invariant: a test file that belongs to no layer, or that its layer does not list, is
//! an error: it would never run and nobody would notice.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
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
    /// `net`, or `lb-datapath` for a crate's own tests.
    pub(crate) name: String,
    pub(crate) layer: Layer,
    pub(crate) path: PathBuf,
    /// Where Cargo would run it.
    pub(crate) directory: PathBuf,
}

impl TestBinary {
    /// A test as people name it: `net_modes::dsr_v4`, a file of the layer, or `lb-datapath::maglev::tests::…`.
    pub(crate) fn full_name(&self, test: &str) -> String {
        match self.layer {
            Layer::Unit => format!("{}::{test}", self.name),
            Layer::Program | Layer::Net | Layer::Cli => test.to_owned(),
        }
    }
}

/// Compiles the tests; Cargo's own progress is seen meanwhile.
pub(crate) fn build(workspace: &Workspace, with_units: bool) -> Result<Vec<TestBinary>> {
    let tests = workspace.root.join("tests/tests");
    all_are_listed(&names_in(&tests)?, |layer| {
        let path = tests.join(format!("{layer}.rs"));
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    })?;
    let mut command = cargo();
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

/// Files and directories, without `.rs`.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry?.file_name().to_string_lossy().into_owned();
        Ok(name.strip_suffix(".rs").unwrap_or(&name).to_owned())
    };
    entries.map(name).collect::<std::io::Result<_>>().context("cannot list the tests")
}

/// Every test file belongs to a layer, whose own file (its text by `list`) names it.
fn all_are_listed(files: &[String], list: impl Fn(Layer) -> Result<String>) -> Result<()> {
    for file in files {
        let layer = Layer::of_file(file).with_context(|| {
            format!("tests/tests/{file} belongs to no layer: its name must begin with program_, net_ or cli_")
        })?;
        if *file != layer.to_string() && !list(layer)?.lines().any(|line| line == format!("mod {file};")) {
            bail!("tests/tests/{layer}.rs does not list {file}: it would never run");
        }
    }
    Ok(())
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
            let layer = Layer::of_file(target)
                .with_context(|| format!("tests/tests/{target}.rs is no layer: program, net and cli are"))?;
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
            message("tests", "test", "net", true),
            message("lb-userspace", "lib", "lb_userspace", true),
            message("lb-userspace", "bin", "lbd", true),
            message("lb-userspace", "bin", "lbd", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = parse(&messages.join("\n")).unwrap();
        let found: Vec<_> = found.iter().map(|binary| (binary.name.as_str(), binary.layer)).collect();
        assert_eq!(
            found,
            [("lb-userspace", Layer::Unit), ("lb-userspace/lbd", Layer::Unit), ("net", Layer::Net)]
        );
    }

    #[test]
    fn a_test_file_of_no_layer_is_an_error() {
        let error = parse(&message("tests", "test", "modes", true)).unwrap_err().to_string();
        assert!(error.contains("tests/tests/modes.rs") && error.contains("net"), "{error}");
    }

    #[test]
    fn a_test_file_that_its_layer_does_not_list_is_an_error() {
        let listed = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            all_are_listed(&files, |layer| Ok(format!("//! Tests.\nmod {layer}_modes;\n")))
                .map_err(|error| error.to_string())
        };
        assert_eq!(listed(&["net", "net_modes", "cli_modes"]), Ok(()));
        assert!(listed(&["net_mode"]).unwrap_err().contains("tests/tests/net.rs does not list net_mode"));
        assert!(listed(&["modes"]).unwrap_err().contains("no layer"));
    }

    #[test]
    fn a_test_is_named_by_its_file() {
        let of = |name: &str, layer| {
            let binary =
                TestBinary { name: name.to_owned(), layer, path: PathBuf::new(), directory: PathBuf::new() };
            binary.full_name("net_modes::dsr_v4")
        };
        assert_eq!(of("net", Layer::Net), "net_modes::dsr_v4");
        assert_eq!(of("xtask", Layer::Unit), "xtask::net_modes::dsr_v4");
    }
}
