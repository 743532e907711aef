//! What netlink says, as the membership understands it.

use super::Controller;
use crate::desired::DesiredNextHop;
use crate::membership::{Event, WayState};
use crate::netlink::{NetworkEvent, Unresolved, read_host_network};
use std::net::IpAddr;

impl Controller {
    pub(super) async fn network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::NextHop { address, next_hop } => {
                let on_lo = self.membership.file().datapath.interfaces.iter().any(|name| name == "lo");
                let state = match next_hop {
                    Ok(hop) => WayState::Resolved { hop: DesiredNextHop::from(hop), source: hop.source },
                    Err(reason) => way_without_hop(address, &reason, on_lo),
                };
                self.observe(Event::Way { ip: address, state });
                // Replies to clients may go another way as well.
                self.read_datapath().bump_route_generation();
            }
            NetworkEvent::HostChanged => {
                self.read_datapath().bump_route_generation();
                match read_host_network().await {
                    Ok(host) => self.host = host,
                    Err(error) => tracing::warn!("cannot read this host's network: {error}"),
                }
                self.mend_interfaces();
                self.judge_reach();
            }
        }
    }
}

/// A service on `lo` reaches this host's own addresses by leaving the packet to the kernel.
fn way_without_hop(address: IpAddr, reason: &Unresolved, on_lo: bool) -> WayState {
    let is_here = matches!(reason, Unresolved::Local | Unresolved::Loopback);
    if on_lo && is_here {
        let hop =
            DesiredNextHop { interface: 0, destination_mac: [0; 6], source_mac: [0; 6], mtu: 0, local: true };
        return WayState::Resolved { hop, source: Some(address) };
    }
    WayState::Unresolved { reason: reason.to_string() }
}
