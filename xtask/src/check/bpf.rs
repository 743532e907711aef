//! The BPF crate compiles without a warning.
//!
//! In: the toolchain, where there is one. Out: what rustc complains about. Its warnings are read rather than denied:
//! other flags would compile the whole tree of the BPF crate a second time.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    build,
    toolchain::{Found, Ready},
    workspace::Workspace,
};

pub(super) fn check(workspace: &Workspace) -> Result<String> {
    let (compiler, linker) = match Found::look()?.ready() {
        Ok(Ready::Compiler(compiler, linker)) => (compiler, linker),
        Ok(Ready::Object(_)) => return Ok(" (not looked at: LBD_BPF_OBJECT stands for it)".to_owned()),
        Err(missing) => return Ok(format!(" (not looked at: {missing}; `cargo xtask setup`)")),
    };
    let mut command = build::cargo_for_bpf(workspace, &compiler, &linker, "check");
    command.args(["--profile", build::BPF_PROFILE, "--quiet", "--message-format=json"]).stdin(Stdio::null());
    let output = command.output().context("cannot start cargo for the BPF crate")?;
    let complaints = complaints(&String::from_utf8_lossy(&output.stdout))?;
    if !output.status.success() || !complaints.is_empty() {
        bail!("{}{}", complaints.concat(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::new())
}

/// Warnings and errors among Cargo's messages, as rustc would print them.
fn complaints(messages: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("Cargo sent a message that is not JSON")?;
        let level = message["message"]["level"].as_str().unwrap_or_default();
        if message["reason"] == "compiler-message" && ["warning", "error"].contains(&level) {
            found.push(message["message"]["rendered"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_found_and_notes_are_not() {
        let message = |level: &str| {
            serde_json::json!({"reason": "compiler-message", "message": {"level": level, "rendered": level}})
                .to_string()
        };
        let messages = [message("note"), message("warning"), r#"{"reason":"build-finished"}"#.to_owned()];
        assert_eq!(complaints(&messages.join("\n")).unwrap(), ["warning"]);
    }
}
