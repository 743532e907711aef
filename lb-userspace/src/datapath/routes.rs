//! The program's questions about routes.
//!
//! `bpf_fib_lookup` answers only for an interface on which forwarding is on (net/core/filter.c, bpf_ipv4_fib_lookup: FWD_DISABLED). The program
//! asks as `lo`, which is where the kernel's own packets start from, so forwarding has to be on for `lo` alone: nothing arrives there that
//! would be forwarded, and the host's interfaces forward no more than before. In: nothing. Out: sentences on what could not be done.

use std::fs;

/// The switches, under /proc/sys.
const SWITCHES: [&str; 2] = ["net/ipv4/conf/lo/forwarding", "net/ipv6/conf/lo/forwarding"];

/// Switches forwarding on for `lo`, where it is off.
pub(super) fn allow() {
    for switch in SWITCHES {
        let path = format!("/proc/sys/{switch}");
        // Missing: the family is switched off.
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0")
            && let Err(error) = fs::write(&path, "1")
        {
            tracing::debug!(%error, "cannot write {path}");
        }
    }
}

/// What is wrong: a sentence for each family whose switch is off.
pub fn refused() -> Vec<String> {
    let is_off = |switch: &&&str| {
        fs::read_to_string(format!("/proc/sys/{switch}")).is_ok_and(|value| value.trim() == "0")
    };
    let sentence = |switch: &&str| {
        let key = switch.replace('/', ".");
        format!(
            "{key} is 0 and lbd may not change it, so the kernel tells the program no routes: replies of nat and full-nat \
             are dropped (next_hop_unknown): sysctl -w {key}=1, or use dsr or ipip"
        )
    };
    SWITCHES.iter().filter(is_off).map(sentence).collect()
}
