//! By which way a check travels, and to which listeners a check through the service goes.
//!
//! In: a pool, its services, one of its backends. Out: [`CheckWay`]s. Invariant: what is asked is what clients are sent to: a listener
//! of a service, on a port that it has, whose packets this backend may get.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::SyntaxError;
use crate::spec::policy::{unknown_word, words};
use crate::spec::{BackendAddress, Forward, HealthKind, Listener, PoolSpec, Protocol, ServiceSpec, Spec};

words! {
    /// By which way a check travels.
    Via("via") {
        /// From this host to the backend's own address.
        #[default]
        Direct = "direct",
        /// As a client's packets do: through the program, to the vip at this backend.
        Service = "service",
    }
}

impl Via {
    /// It is the one that nobody needs to write.
    pub const fn is_direct(&self) -> bool {
        matches!(self, Self::Direct)
    }
}

impl HealthKind {
    /// What it travels by through a service; `None`: it cannot, because a service forwards nothing else.
    pub const fn travels_by(&self) -> Option<Protocol> {
        match self {
            Self::Tcp | Self::Http(_) | Self::Https(_) | Self::Grpc(_) => Some(Protocol::Tcp),
            Self::Udp(_) | Self::Dns(_) => Some(Protocol::Udp),
            Self::Icmp | Self::Exec(_) | Self::None => None,
        }
    }
}

/// One way of a check through a service.
#[derive(Clone, Copy, Debug)]
pub struct CheckWay<'a> {
    /// Whose way.
    pub service: &'a ServiceSpec,
    /// The listener that is asked.
    pub listener: Listener,
    /// The port there: the listener's, or where that takes every port the check's.
    pub port: u16,
}

impl CheckWay<'_> {
    /// The port at which the backend answers.
    pub fn backend_port(&self, address: BackendAddress) -> u16 {
        address.port.filter(|_| self.service.forward.translates()).unwrap_or(self.port)
    }
}

impl Spec {
    /// The ways of this pool's check to one of its backends: for each service and each of its vips that may send there, the first
    /// listener with the check's protocol and port. None unless the check goes through services.
    pub fn check_ways<'a>(&'a self, pool: &'a PoolSpec, ip: IpAddr) -> Vec<CheckWay<'a>> {
        let health = self.health_of(pool);
        let Some(protocol) = health.kind.travels_by().filter(|_| health.via == Via::Service) else {
            return Vec::new();
        };
        let mut ways: Vec<CheckWay<'a>> = Vec::new();
        for service in self.users_of(&pool.name) {
            let joins = |vip: IpAddr| service.forward == Forward::Ipip || vip.is_ipv4() == ip.is_ipv4();
            for listener in service.listen.iter().filter(|listener| joins(listener.addr)) {
                let known = |way: &CheckWay<'_>| {
                    way.service.name == service.name && way.listener.addr == listener.addr
                };
                let port = asked_port(listener, protocol, health.port);
                if let Some(port) = port.filter(|_| !ways.iter().any(known)) {
                    ways.push(CheckWay { service, listener: *listener, port });
                }
            }
        }
        ways
    }
}

/// The port at which a check asks this listener; `None`: it is not the one to ask.
fn asked_port(listener: &Listener, protocol: Protocol, wanted: Option<u16>) -> Option<u16> {
    let port = match (listener.port, wanted) {
        (Some(port), Some(wanted)) if port != wanted => None,
        (port, wanted) => port.or(wanted),
    };
    port.filter(|_| listener.protocol == protocol)
}
