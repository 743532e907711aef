//! What stays on this host: `lo` and the addresses that only it has.
//!
//! In: a service and the listed interfaces. Out: whether its clients are programs of this host.

use super::ServiceSpec;

/// The name that Linux gives the loopback interface of every network namespace.
pub(crate) const LOOPBACK: &str = "lo";

/// Clients of this service are on this host: its packets pass `lo`, nothing comes from outside.
pub fn on_loopback(service: &ServiceSpec, listed: &[String]) -> bool {
    let by_lo = |name: &String| name == LOOPBACK;
    let loopback_vips = service.listen.iter().all(|listener| listener.addr.is_loopback());
    match listed {
        [] => false,
        _ => listed.iter().all(by_lo) || (loopback_vips && listed.iter().any(by_lo)),
    }
}
