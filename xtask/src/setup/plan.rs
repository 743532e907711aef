//! What is to be installed, and by whom.
//!
//! In: what is missing and what kind of machine it is. Out: packages and steps, or the commands for a person. Pure.
//! Invariant: a plan is either carried out whole by setup, or not at all.

use std::fmt::Write as _;

use super::{
    LINKER_VERSION,
    host::{self, Host, Tool},
};

/// Debian's rustc and the `core` for BPF that is compiled for it.
pub(crate) const DEBIAN_RUSTC: &str = "rustc-web";
pub(crate) const DEBIAN_CORE: &str = "libstd-rust-web-dev-bpf";

/// What is missing.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) compiler_missing: bool,
    pub(crate) linker: Option<LinkerNeed>,
    pub(crate) tools: Vec<Tool>,
}

/// Why a bpf-linker is to be built, and for which LLVM (unknown until the compiler is installed).
#[derive(Debug)]
pub(crate) struct LinkerNeed {
    pub(crate) why: String,
    pub(crate) llvm: Option<u32>,
    pub(crate) llvm_installed: bool,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) compiler: bool,
    pub(crate) linker: bool,
    /// Set where setup cannot do it itself.
    pub(crate) by_hand: Option<Vec<String>>,
    tools: Vec<Tool>,
    linker_why: String,
    /// The linker's LLVM, where it has to be installed and is known already.
    llvm: Option<u32>,
    llvm_installed: bool,
}

impl Plan {
    pub(crate) fn make(inventory: &Inventory, host: &Host) -> Self {
        let linker = inventory.linker.as_ref();
        let mut plan = Self {
            compiler: inventory.compiler_missing,
            linker: linker.is_some(),
            by_hand: None,
            tools: inventory.tools.clone(),
            linker_why: linker.map(|need| need.why.clone()).unwrap_or_default(),
            llvm: linker.and_then(|need| need.llvm),
            llvm_installed: linker.is_none_or(|need| need.llvm_installed),
        };
        if plan.needs_apt() && !(host.root && host.apt) {
            plan.by_hand = Some(plan.commands(host));
        }
        plan
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.compiler && !self.linker && self.tools.is_empty()
    }

    pub(crate) fn needs_apt(&self) -> bool {
        self.compiler || !self.tools.is_empty() || !self.llvm_installed
    }

    /// One apt call's worth: all that is known before the compiler is there. `with_compiler`: if it is wanted at all.
    pub(crate) fn packages(&self, with_compiler: bool) -> Vec<String> {
        let mut packages: Vec<String> = self.tools.iter().map(|tool| tool.package.to_owned()).collect();
        if self.compiler && with_compiler {
            packages.extend([DEBIAN_RUSTC, DEBIAN_CORE].map(str::to_owned));
        }
        packages
    }

    /// What will happen, for a person to read before it does.
    pub(crate) fn announce(&self) -> String {
        let mut text = String::from("Missing on this machine:\n");
        let mut say = |line: String| {
            let _ = writeln!(text, "  - {line}");
        };
        if !self.tools.is_empty() {
            let programs: Vec<&str> = self.tools.iter().map(|tool| tool.program).collect();
            say(format!("programs that tests and demo use: {}", programs.join(", ")));
        }
        if self.compiler {
            say("a rustc with `core` for BPF (it becomes no default: only the BPF object is compiled with it)".into());
        }
        if self.linker {
            say(format!("a bpf-linker for that rustc: {}", self.linker_why));
        }
        if self.by_hand.is_some() {
            return text;
        }
        text.push_str("Setup will now\n");
        let packages = self.packages(true);
        if !packages.is_empty() {
            let _ = writeln!(text, "  - apt-get install {}", packages.join(" "));
        }
        if self.linker {
            let llvm = self.llvm.map_or("N".to_owned(), |major| major.to_string());
            if !self.llvm_installed {
                let _ = writeln!(text, "  - apt-get install llvm-{llvm}-dev{}", known(self.llvm));
            }
            let _ = writeln!(text, "  - cargo {} (a minute or two)", linker_words(&llvm).join(" "));
        }
        text
    }

    fn commands(&self, host: &Host) -> Vec<String> {
        let mut commands = Vec::new();
        if host.apt {
            let packages = self.packages(true);
            if !packages.is_empty() {
                commands.push(format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")));
            }
            if self.linker {
                commands.extend(self.debian_linker_commands());
            }
            return commands;
        }
        if !self.tools.is_empty() {
            let programs: Vec<&str> = self.tools.iter().map(|tool| tool.program).collect();
            commands.push(format!("# by your package manager, the programs: {}", programs.join(" ")));
        }
        if self.compiler {
            commands.extend(nightly_commands());
        } else if self.linker {
            commands.extend(binary_linker_commands());
        }
        commands
    }

    fn debian_linker_commands(&self) -> Vec<String> {
        let Some(major) = self.llvm else {
            // N is the compiler's, which is not there yet.
            return vec![
                "cargo xtask setup    # once more: it then knows which LLVM bpf-linker needs".to_owned(),
            ];
        };
        let prefix = host::llvm_prefix(major);
        vec![
            format!("sudo apt-get install --no-install-recommends {}", llvm_package(major)),
            format!("LLVM_PREFIX={} cargo {}", prefix.display(), linker_words(&major.to_string()).join(" ")),
        ]
    }
}

fn known(llvm: Option<u32>) -> &'static str {
    if llvm.is_some() { "" } else { " (N: the LLVM of the rustc just installed)" }
}

/// Debian's package to build against an LLVM.
pub(crate) fn llvm_package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

/// Arguments of the cargo that builds bpf-linker.
pub(crate) fn linker_arguments(llvm: u32) -> Vec<String> {
    linker_words(&llvm.to_string())
}

fn linker_words(llvm: &str) -> Vec<String> {
    let feature = format!("llvm-{llvm}");
    [
        "install",
        "bpf-linker",
        "--version",
        LINKER_VERSION,
        "--locked",
        "--force",
        "--no-default-features",
        "--features",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([feature])
    .collect()
}

/// The way without Debian's packages: nightly builds `core`, and bpf-linker comes with an LLVM of its own.
pub(crate) fn nightly_commands() -> Vec<String> {
    let mut commands = vec!["rustup toolchain install nightly --component rust-src".to_owned()];
    commands.extend(binary_linker_commands());
    commands
}

/// bpf-linker's own binary release, which holds its LLVM.
pub(crate) fn binary_linker_commands() -> Vec<String> {
    vec![format!("cargo install cargo-binstall && cargo binstall bpf-linker@{LINKER_VERSION}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Host = Host { root: true, apt: true };
    const NGINX: Tool = Tool { program: "nginx", package: "nginx-light" };

    fn fresh() -> Inventory {
        let linker =
            LinkerNeed { why: "bpf-linker is not installed".into(), llvm: None, llvm_installed: false };
        Inventory { compiler_missing: true, linker: Some(linker), tools: vec![NGINX] }
    }

    #[test]
    fn nothing_missing_is_nothing_to_do() {
        assert!(Plan::make(&Inventory::default(), &ROOT).is_empty());
    }

    #[test]
    fn a_fresh_debian_gets_everything_and_is_told_first() {
        let plan = Plan::make(&fresh(), &ROOT);
        assert_eq!(plan.by_hand.as_deref(), None);
        assert_eq!(plan.packages(true), ["nginx-light", DEBIAN_RUSTC, DEBIAN_CORE]);
        assert_eq!(plan.packages(false), ["nginx-light"]);
        let said = plan.announce();
        for word in ["nginx-light", DEBIAN_CORE, "llvm-N-dev", "cargo install bpf-linker --version 0.13.0"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }

    #[test]
    fn without_root_the_commands_are_named() {
        let plan = Plan::make(&fresh(), &Host { root: false, apt: true });
        let commands = plan.by_hand.unwrap();
        assert_eq!(
            commands[0],
            "sudo apt-get install --no-install-recommends nginx-light rustc-web libstd-rust-web-dev-bpf"
        );
        assert!(commands[1].starts_with("cargo xtask setup"), "{commands:?}");
    }

    #[test]
    fn without_apt_the_way_is_nightly() {
        let plan = Plan::make(&fresh(), &Host { root: true, apt: false });
        let commands = plan.by_hand.unwrap().join("\n");
        assert!(commands.contains("rustup toolchain install nightly --component rust-src"), "{commands}");
        assert!(commands.contains("bpf-linker@0.13.0") && commands.contains("nginx"), "{commands}");
    }

    #[test]
    fn a_linker_of_the_wrong_llvm_is_built_anew_even_without_root() {
        let need = LinkerNeed { why: "Invalid record".into(), llvm: Some(22), llvm_installed: true };
        let inventory = Inventory { linker: Some(need), ..Inventory::default() };
        let plan = Plan::make(&inventory, &Host { root: false, apt: true });
        assert_eq!(plan.by_hand.as_deref(), None);
        assert!(!plan.needs_apt() && plan.linker);
        assert!(plan.announce().contains("Invalid record"));
        assert_eq!(linker_arguments(22).last().map(String::as_str), Some("llvm-22"));
    }

    #[test]
    fn the_llvm_package_follows_the_compiler() {
        let need = LinkerNeed { why: "gone".into(), llvm: Some(23), llvm_installed: false };
        let inventory = Inventory { linker: Some(need), ..Inventory::default() };
        let commands = Plan::make(&inventory, &Host { root: false, apt: true }).by_hand.unwrap();
        assert_eq!(commands[0], "sudo apt-get install --no-install-recommends llvm-23-dev");
        assert!(
            commands[1].contains("LLVM_PREFIX=/usr/lib/llvm-23")
                && commands[1].ends_with("--features llvm-23")
        );
    }
}
