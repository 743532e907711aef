//! What netlink says, as the membership understands it.

use super::Controller;
use crate::desired::DesiredNextHop;
use crate::membership::{Event, WayState};
use crate::netlink::{NetworkEvent, Unresolved, read_host_network};
use std::net::IpAddr;

impl Controller {
    /// The event as an observation; `None`: it is one of the host, which is looked at next.
    pub(super) fn way(&mut self, event: NetworkEvent) -> Option<Event> {
        let (address, next_hop) = match event {
            NetworkEvent::NextHop { address, next_hop } => (address, next_hop),
            NetworkEvent::HostChanged => {
                self.host_changed = true;
                return None;
            }
            NetworkEvent::ProbePath { is_mended, result } => {
                if is_mended {
                    tracing::info!("the veth of checks through services is made, or mended");
                }
                self.take_probe_path(result);
                return None;
            }
        };
        // Replies to clients may go another way as well.
        self.read_datapath().bump_route_generation();
        let on_lo = self.membership.file().datapath.interfaces.iter().any(|name| name == "lo");
        let state = match next_hop {
            Ok(hop) => WayState::Resolved { hop: DesiredNextHop::from(hop), source: hop.source },
            Err(reason) => {
                let state = way_without_hop(address, &reason, on_lo);
                if is_here(&reason) && matches!(state, WayState::Unresolved { .. }) {
                    tracing::warn!(%address, "no next hop: {reason}");
                }
                state
            }
        };
        Some(Event::Way { ip: address, state })
    }

    /// The host's links, addresses, routes or rules are others than before.
    pub(super) async fn look_at_host(&mut self) {
        self.host_changed = false;
        self.read_datapath().bump_route_generation();
        match read_host_network().await {
            Ok(host) => self.host = host,
            Err(error) => tracing::warn!("cannot read this host's network: {error}"),
        }
        self.mend_interfaces();
        self.judge_reach();
    }
}

/// The address is one of this host.
fn is_here(reason: &Unresolved) -> bool {
    matches!(reason, Unresolved::Local | Unresolved::Loopback)
}

/// A service on `lo` reaches this host's own addresses by leaving the packet to the kernel.
fn way_without_hop(address: IpAddr, reason: &Unresolved, on_lo: bool) -> WayState {
    if on_lo && is_here(reason) {
        let hop =
            DesiredNextHop { interface: 0, destination_mac: [0; 6], source_mac: [0; 6], mtu: 0, local: true };
        return WayState::Resolved { hop, source: Some(address) };
    }
    match reason {
        Unresolved::Resolving => WayState::Resolving,
        reason => WayState::Unresolved { reason: reason.to_string() },
    }
}
