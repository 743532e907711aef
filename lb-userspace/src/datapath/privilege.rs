//! What the process may do, for error messages that name what is missing.
//!
//! In: /proc/self/status and the kernel's release. Out: sentences.

use std::fs;
use std::io;

/// Capabilities lbd needs, with their numbers in linux/capability.h.
const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN")];
/// CAP_SYS_ADMIN, which contains CAP_BPF.
const SYS_ADMIN: u32 = 21;
/// The oldest kernel lbd is meant for (docs/kernel.md).
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// What to do about a refusal by the kernel while loading or attaching.
pub(super) fn remedy(error: Option<&io::Error>) -> String {
    let missing = fs::read_to_string("/proc/self/status").map(|status| missing(&status)).unwrap_or_default();
    let number = error.and_then(io::Error::raw_os_error);
    let is_refusal = matches!(number, Some(libc::EPERM | libc::EACCES));
    if is_refusal && !missing.is_empty() {
        return format!(
            "lbd lacks {}: run it as root, or give it AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_NET_RAW",
            missing.join(" and ")
        );
    }
    if let Some(release) = old_kernel() {
        return format!(
            "kernel {release} is older than {}.{}; use a newer one",
            OLDEST_KERNEL.0, OLDEST_KERNEL.1
        );
    }
    match number {
        Some(libc::EPERM) => "the kernel forbids it though the capabilities are there: look at lockdown, seccomp and LimitMEMLOCK".into(),
        Some(libc::ENOMEM) => "memory for the maps is not there: lower datapath.flows".into(),
        Some(libc::E2BIG) => "a map is too large for the kernel: lower datapath.flows".into(),
        _ => "please report it with the output of RUST_LOG=lb_userspace::datapath=debug".into(),
    }
}

/// The capabilities that are not in effect, from the text of /proc/self/status.
fn missing(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let holds = |number: u32| effective >> number & 1 == 1;
    NEEDED
        .into_iter()
        .filter(|(number, name)| !(holds(*number) || *name == "CAP_BPF" && holds(SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect()
}

/// The running kernel's release if it is too old.
fn old_kernel() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    (version(&release)? < OLDEST_KERNEL).then(|| release.trim().to_owned())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing("CapEff:\t0000000000000000\n"), ["CAP_BPF", "CAP_NET_ADMIN"]);
        assert_eq!(missing("CapEff:\t0000008000001000\n"), [""; 0]);
        assert_eq!(missing("CapEff:\t0000000000201000\n"), [""; 0], "CAP_SYS_ADMIN contains CAP_BPF");
        assert_eq!(missing("CapEff:\t0000008000000000\n"), ["CAP_NET_ADMIN"]);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("5.4.0-150-generic\n"), Some((5, 4)));
        assert!(version("5.4.0").unwrap() < OLDEST_KERNEL && version("6.1.0-38").unwrap() > OLDEST_KERNEL);
    }
}
