//! Whether a service can reach one of its backends, and hear from it.
//!
//! In: the service, the backend, the listed interfaces, the snapshot. Out: nothing, or why not. Invariant: what is refused
//! here could only have failed in silence later.

use super::host::{HostNetwork, Link, Place, Route, RouteKind};
use super::{LOOPBACK, Reach, on_loopback};
use crate::spec::{BackendSpec, Forward, Problem, ServiceSpec};

/// What stands between this service and this backend; `None`: nothing that can be seen from here.
pub fn judge_backend(
    service: &ServiceSpec,
    backend: &BackendSpec,
    listed: &[String],
    host: &HostNetwork,
) -> Option<Problem> {
    judge_place(service, backend, listed, host, host.place(backend.address.ip, listed))
}

/// As [`judge_backend`], of one whose place is known.
pub(super) fn judge_place(
    service: &ServiceSpec,
    backend: &BackendSpec,
    listed: &[String],
    host: &HostNetwork,
    place: Place<'_>,
) -> Option<Problem> {
    let case = Case { service, backend, listed, host, routes: place.routes };
    if on_loopback(service, listed) {
        return case.on_lo(place.reach);
    }
    match place.reach {
        // `validate` has refused it.
        Reach::Loopback => None,
        Reach::Local => Some(case.local()),
        Reach::Container => Some(case.container()),
        Reach::Remote => case.remote(),
    }
}

struct Case<'a> {
    service: &'a ServiceSpec,
    backend: &'a BackendSpec,
    listed: &'a [String],
    host: &'a HostNetwork,
    /// That packets to the backend take.
    routes: &'a [Route],
}

impl Case<'_> {
    fn error(&self, message: String, hint: impl Into<String>) -> Problem {
        Problem::error(&self.backend.origin, message, hint)
    }

    /// The listed interfaces that packets from outside come in by.
    fn outside(&self) -> String {
        let names: Vec<&str> =
            self.listed.iter().map(String::as_str).filter(|name| *name != LOOPBACK).collect();
        names.join(", ")
    }

    fn on_lo(&self, reach: Reach) -> Option<Problem> {
        let address = self.backend.address;
        match reach {
            Reach::Loopback | Reach::Local => None,
            Reach::Remote | Reach::Container => Some(self.error(
                format!(
                    "{address} cannot be reached from lo: service {:?} is on lo, and what lo delivers stays on this host",
                    self.service.name.as_str()
                ),
                "use backends of this host (127.0.0.1:8081), or a service on the interface that leads there",
            )),
        }
    }

    fn local(&self) -> Problem {
        self.error(
            format!(
                "{} is an address of this host: a backend here cannot serve packets from {} yet, because its answers leave \
                 without passing the XDP program that would have to translate them",
                self.backend.address,
                self.outside()
            ),
            "use a service on lo for clients on this host, or a backend on another host",
        )
    }

    fn container(&self) -> Problem {
        let link = self
            .routes
            .first()
            .and_then(|route| self.host.link(route.link))
            .map_or("?", |link| link.name.as_str());
        self.error(
            format!(
                "{} is reached by {link}, which is not among the interfaces ({}): behind a bridge or veth are containers of this host, \
                 which cannot serve packets from outside yet, because their answers leave without passing the XDP program and with \
                 unfinished checksums",
                self.backend.address,
                self.listed.join(", ")
            ),
            format!("use a backend on another host; if {link} leads to one, add {link:?} to interfaces in [datapath]"),
        )
    }

    fn remote(&self) -> Option<Problem> {
        let address = self.backend.address;
        if self.routes.is_empty() {
            return Some(Problem::warning(
                &self.backend.origin,
                format!("there is no route to {address}, so it gets no packet until there is one"),
                format!("check `ip route get {}`", address.ip),
            ));
        }
        self.routes.iter().find_map(|route| self.way(route))
    }

    /// What is wrong with one way to a remote backend.
    fn way(&self, route: &Route) -> Option<Problem> {
        let (address, forward) = (self.backend.address, self.service.forward);
        if route.kind == RouteKind::Refuse {
            let message =
                format!("{address} cannot be reached: the route to {} refuses packets", route.destination);
            return Some(self.error(message, format!("check `ip route get {}`", address.ip)));
        }
        // A link that went away since the snapshot's routes were read: the next snapshot tells.
        let link = self.host.link(route.link)?;
        if !self.lists(link) {
            return Some(self.unlisted(link));
        }
        if let (Forward::Dsr, Some(gateway)) = (forward, route.gateway) {
            return Some(self.error(
                format!(
                    "{address} is behind the router {gateway}, but dsr only rewrites the MAC address, so the backend must be on the \
                     same network as {}",
                    link.name
                ),
                "use forward = \"ipip\", which crosses routers, or \"full-nat\"",
            ));
        }
        None
    }

    fn lists(&self, link: &Link) -> bool {
        self.listed.contains(&link.name)
    }

    fn unlisted(&self, link: &Link) -> Problem {
        let (address, name) = (self.backend.address, &link.name);
        let why = match self.service.forward.translates() {
            true => "its answers would arrive there and not be translated back",
            false => "lbd sends only by the interfaces it is attached to",
        };
        self.error(
            format!(
                "{address} is reached by {name}, which is not among the interfaces ({}): {why}",
                self.listed.join(", ")
            ),
            format!("add {name:?} to interfaces in [datapath]"),
        )
    }
}
