//! What kind of machine this is.
//!
//! In: the file system. Out: facts. Invariant: looking needs no rights and changes nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::process;

/// What decides whether setup can install anything itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) root: bool,
    pub(crate) apt: bool,
}

/// A program that tests or demo use, and Debian's package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

const TOOLS: [Tool; 14] = [
    tool("nginx", "nginx-light"),
    tool("curl", "curl"),
    tool("iperf3", "iperf3"),
    tool("ip", "iproute2"),
    tool("ping", "iputils-ping"),
    tool("ethtool", "ethtool"),
    tool("bpftool", "bpftool"),
    tool("tcpdump", "tcpdump"),
    tool("nft", "nftables"),
    tool("dnsmasq", "dnsmasq-base"),
    tool("ps", "procps"),
    tool("redis-server", "redis-server"),
    tool("redis-benchmark", "redis-tools"),
    // Brings the server; its programs lie in a directory for each version, in nobody's path.
    tool("pg_createcluster", "postgresql"),
];

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

impl Host {
    pub(crate) fn look() -> Self {
        Self { root: is_root(), apt: process::find_program("apt-get").is_some() }
    }
}

impl Tool {
    /// By program rather than by package: that holds on every distribution, and for what was installed by hand.
    pub(crate) fn missing() -> Vec<Self> {
        TOOLS.into_iter().filter(|tool| process::find_program(tool.program).is_none()).collect()
    }
}

/// Are we root (by effective user id)?
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Where Debian puts an LLVM.
pub(crate) fn llvm_prefix(major: u32) -> PathBuf {
    Path::new("/usr/lib").join(format!("llvm-{major}"))
}

/// Can something be linked with this LLVM?
pub(crate) fn has_llvm(major: u32) -> bool {
    llvm_prefix(major).join("lib/libLLVM.so").exists()
}
