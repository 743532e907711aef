//! What the process may do, for error messages that name what is missing.
//!
//! In: /proc/thread-self/status (capabilities are a thread's) and the kernel's release. Out: sentences.

use std::fs;
use std::io;

/// The calling thread's state.
const STATUS: &str = "/proc/thread-self/status";
/// Capabilities lbd needs, with their numbers in linux/capability.h.
const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN")];
/// CAP_SYS_ADMIN, which contains CAP_BPF and CAP_PERFMON.
const SYS_ADMIN: u32 = 21;
/// CAP_PERFMON (5.8): the verifier then lets a program add a variable to a pointer into a packet, and adds no barriers against speculation.
const PERFMON: u32 = 38;
/// The oldest kernel lbd is meant for (docs/kernel.md).
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// What to do about a refusal by the kernel while loading or attaching.
pub(super) fn remedy(error: Option<&io::Error>) -> String {
    let missing = fs::read_to_string(STATUS).map(|status| missing(&status)).unwrap_or_default();
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

/// What to do about a program that the verifier refuses.
pub(super) fn verifier_remedy() -> &'static str {
    if has_perfmon() {
        "please report it with the whole log (RUST_LOG=lb_userspace::datapath=debug)"
    } else {
        "lbd has no CAP_PERFMON, without which this kernel may ask more of it: add that to AmbientCapabilities (docs/kernel.md)"
    }
}

/// Whether programs loaded by this process may compute with pointers into packets.
pub(super) fn has_perfmon() -> bool {
    let status = fs::read_to_string(STATUS).unwrap_or_default();
    holds(effective(&status).unwrap_or(0), PERFMON)
}

/// The capabilities that are not in effect, from the text of `STATUS`.
fn missing(status: &str) -> Vec<&'static str> {
    let effective = effective(status).unwrap_or(u64::MAX);
    NEEDED.into_iter().filter(|(number, _)| !holds(effective, *number)).map(|(_, name)| name).collect()
}

fn effective(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether a capability is among the effective ones. CAP_SYS_ADMIN contains those that were cut out of it.
const fn holds(effective: u64, number: u32) -> bool {
    let contained = matches!(number, 38 | 39) && effective >> SYS_ADMIN & 1 == 1;
    effective >> number & 1 == 1 || contained
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
    fn perfmon_is_part_of_sys_admin() {
        let holds_it = |mask| holds(effective(mask).unwrap(), PERFMON);
        assert!(holds_it("CapEff:\t0000004000000000\n") && holds_it("CapEff:\t0000000000200000\n"));
        assert!(!holds_it("CapEff:\t0000008000001000\n"));
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("5.4.0-150-generic\n"), Some((5, 4)));
        assert!(version("5.4.0").unwrap() < OLDEST_KERNEL && version("6.1.0-38").unwrap() > OLDEST_KERNEL);
    }
}
