//! Each rule: a text that breaks it, and its neighbour that does not.

use super::*;

fn check(files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
    let sources: Vec<Source> = files
        .iter()
        .map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() })
        .collect();
    findings(&sources).into_iter().map(|found| (found.path, found.line, found.what)).collect()
}

/// The lines at which a Rust file (behind a module comment) breaks a rule.
fn lines_of(path: &str, code: &str) -> Vec<usize> {
    check(&[(path, &format!("//! m\n{code}"))]).into_iter().map(|(_, line, _)| line).collect()
}

#[test]
fn aya_stays_in_its_place() {
    assert_eq!(lines_of("lb-userspace/src/controller.rs", "\nuse aya::Ebpf;\n"), [3]);
    assert_eq!(
        lines_of("lb-userspace/src/controller.rs", "// aya would do this\nlet a = \"aya\";\n"),
        [0; 0]
    );
    assert_eq!(lines_of("lb-userspace/src/datapath/bpf.rs", "use aya::Ebpf;\n"), [0; 0]);
    assert_eq!(lines_of("lb-userspace/src/datapath.rs", "use aya_ebpf::macros::xdp;\n"), [2]);
    assert_eq!(lines_of("lb-ebpf/src/main.rs", "use aya_ebpf::macros::xdp;\n"), [0; 0]);
}

#[test]
fn the_core_does_no_io_and_has_no_clock() {
    for module in ["membership.rs", "membership/health.rs", "ids.rs", "maglev.rs", "plan/order.rs", "spec.rs"]
    {
        let path = format!("lb-userspace/src/{module}");
        assert_eq!(lines_of(&path, "use tokio::time;\n"), [2], "{path}");
        assert_eq!(lines_of(&path, "use std::fs;\n"), [2], "{path}");
        assert_eq!(lines_of(&path, "let now = Instant ::now();\n"), [2], "{path}");
        assert_eq!(lines_of(&path, "fn f(now: Instant) {}\n"), [0; 0], "{path}");
    }
    for tests in ["plan/tests.rs", "plan/tests/scale.rs"] {
        let path = format!("lb-userspace/src/{tests}");
        assert_eq!(lines_of(&path, "let now = Instant::now();\n"), [0; 0], "{path}");
    }
    assert_eq!(lines_of("lb-userspace/src/plans.rs", "use tokio::time;\n"), [0; 0]);
}

#[test]
fn the_command_line_uses_the_api() {
    assert_eq!(lines_of("lb-userspace/src/cli/status.rs", "use crate::controller::Controller;\n"), [2]);
    assert_eq!(lines_of("lb-userspace/src/cli/status.rs", "use crate::api::client;\n"), [0; 0]);
}

#[test]
fn packet_code_is_safe_and_has_no_variants() {
    let lib = "//! m\n#![forbid(unsafe_code)]\n";
    assert_eq!(check(&[("lb-datapath/src/lib.rs", lib)]), []);
    assert_eq!(check(&[("lb-datapath/src/lib.rs", "//! m\n")]).len(), 1);
    assert_eq!(lines_of("lb-datapath/src/parse.rs", "#[cfg(target_arch = \"bpf\")]\nfn f() {}\n"), [2]);
    assert_eq!(lines_of("lb-datapath/src/parse.rs", "#[cfg(test)]\nmod tests { use std::vec; }\n"), [0; 0]);
    assert_eq!(lines_of("lb-datapath/src/parse.rs", "use std::vec;\n"), [2]);
    assert_eq!(lines_of("lb-datapath/src/testing/host.rs", "use std::vec;\n"), [0; 0]);
}

#[test]
fn manifests_keep_the_borders() {
    assert_eq!(check(&[("lb-datapath/Cargo.toml", "[dependencies]\naya-ebpf.workspace = true\n")]).len(), 1);
    assert_eq!(check(&[("lb-common/Cargo.toml", "[dependencies]\naya = \"0.14\"\n")]).len(), 1);
    assert_eq!(check(&[("lb-userspace/Cargo.toml", "aya.workspace = true\n")]), []);
}

#[test]
fn crates_come_from_one_registry() {
    let crates_io = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    assert_eq!(check(&[("Cargo.lock", crates_io)]), []);
    assert_eq!(check(&[("Cargo.lock", "source = \"registry+https://mirror.example/index\"\n")]).len(), 1);
}

#[test]
fn unfinished_words_and_machine_paths_are_found_in_comments_too() {
    let word = UNFINISHED[0];
    let found = check(&[("docs/a.md", &format!("fine\n{word}: later\nsee {}lbd\n", MACHINE_PATHS[0]))]);
    assert_eq!(found.iter().map(|found| found.1).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(check(&[("docs/a.md", "what is to do; the root of a tree\n")]), []);
}

#[test]
fn a_module_says_what_it_is() {
    assert_eq!(check(&[("xtask/src/a.rs", "fn f() {}\n")]).len(), 1);
    assert_eq!(check(&[("xtask/src/a.rs", "#![no_std]\n\n//! m\n")]), []);
    assert_eq!(check(&[("xtask/src/helpers.rs", "//! m\n")]).len(), 1);
}

#[test]
fn links_lead_somewhere() {
    let files = [
        (
            "docs/a.md",
            "[b](b.md#part) [up](../README.md) [d](decisions) [web](https://x.example/y) [here](#a)\n",
        ),
        ("docs/b.md", "[gone](gone.md)\n"),
        ("docs/decisions/1.md", "\n"),
        ("README.md", "[a](docs/a.md)\n"),
    ];
    assert_eq!(check(&files), [("docs/b.md".to_owned(), 1, "link to `gone.md`".to_owned())]);
}

#[test]
fn a_finding_says_where_what_and_why() {
    let source = Source { path: "lb-userspace/src/plan.rs".into(), text: "//! m\nuse tokio::time;\n".into() };
    let said = findings(&[source])[0].to_string();
    assert!(said.starts_with("lb-userspace/src/plan.rs:2: `tokio`: the core does no I/O"), "{said}");
}
