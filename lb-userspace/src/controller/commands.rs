//! What the API asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::{NextHop, Reason, next_hop_kind, selected_by};
use lb_datapath::flow_table::State;

use super::{Controller, moves::refuse_moves, names::Names};
use crate::api::types::{
    ChangeDone, ExplainRequest, Explanation, Flow, FlowCounts, FlowFilter, FlowList, FlowsFlushed,
    LeavingPacket, OuterHeader,
};
use crate::api::{ApiError, Command, ErrorCode};
use crate::datapath::explain::{Addresses, Explained, Question};
use crate::datapath::flows;
use crate::datapath::{Datapath, DatapathError};
use crate::membership::Change;
use crate::spec::Protocol;

/// Flows in one answer, whatever was asked for.
const MOST_FLOWS: usize = 100_000;

/// In the place of a service's name: it is gone, and its flows hold their places until their idle time is over.
const REMOVED: &str = "(removed)";

impl Controller {
    pub(super) async fn command(&mut self, command: Command) {
        // Whoever asked may have gone away meanwhile; then nobody wants the answer.
        match command {
            Command::Change { who, change, reply } => drop(reply.send(self.change(&who, &change))),
            Command::Plan { candidate, reply } => {
                drop(reply.send(self.plan_whole(candidate.map(|candidate| *candidate)).await));
            }
            Command::Apply { who, options, reply } => {
                drop(reply.send(self.apply_file(&who, &options).await));
            }
            Command::Revisions { reply } => drop(reply.send(Ok(self.revisions()))),
            Command::Revision { number, against, reply } => drop(reply.send(self.revision(number, against))),
            Command::PutBack { who, back, options, reply } => {
                drop(reply.send(self.put_back(&who, back, &options).await));
            }
            Command::Backup { reply } => drop(reply.send(Ok(Box::new(self.backup())))),
            Command::Explain { request, reply } => drop(reply.send(self.explain(&request))),
            Command::Flows { filter, reply } => drop(reply.send(self.list_flows(&filter))),
            Command::CountFlows { filter, reply } => drop(reply.send(self.count_matching(&filter))),
            Command::FlushFlows { who, filter, reply } => drop(reply.send(self.flush_flows(&who, &filter))),
        }
    }

    fn change(&mut self, who: &str, change: &Change) -> Result<ChangeDone, ApiError> {
        let candidate = self.membership.prepare(self.clock.now(), who, change)?;
        let foreseen = self.foresee(&candidate.membership)?;
        refuse_moves(&foreseen.report, change.options.max_moved)?;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: candidate.outcome.revised,
            dry_run: change.options.dry_run,
            notes: candidate.outcome.notes.clone(),
            warnings: candidate.outcome.warnings.clone(),
            plan: Some(foreseen.report),
            admitted: Vec::new(),
        };
        if change.options.dry_run {
            let judgement = self.judge(&candidate.membership.merged_spec());
            super::reload::refuse_errors(&judgement.problems)?;
            done.warnings.extend(self.new_warnings(&judgement));
            if foreseen.plan.is_none() {
                done.notes.push("the kernel's tables are made larger for it".into());
            }
            return Ok(done);
        }
        if candidate.outcome.revised {
            let accepted = self.accept(candidate, who, foreseen.plan)?;
            done.revision = accepted.revision;
            done.warnings.extend(accepted.warnings);
        }
        Ok(done)
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ApiError> {
        let states = self.read_datapath().interfaces();
        let state = match &request.interface {
            Some(name) => states.iter().find(|state| state.name == *name),
            None => states.iter().find(|state| state.index != 0),
        };
        let Some(state) = state.filter(|state| state.index != 0) else {
            let listed: Vec<_> = states.iter().map(|state| state.name.as_str()).collect();
            return Err(ApiError::new(ErrorCode::NotFound, "lbd is on no such interface")
                .hint(format!("the listed ones are {}", listed.join(", "))));
        };
        let ExplainRequest { protocol, source, destination, .. } = *request;
        let question = Question { protocol, source, destination };
        let explained =
            self.write_datapath().explain(&question, state.index).map_err(|error| failed(&error))?;
        Ok(self.in_names(request, &explained))
    }

    /// An explanation in names instead of numbers.
    fn in_names(&self, request: &ExplainRequest, explained: &Explained) -> Explanation {
        let found = &explained.explanation;
        let names = self.published.names.load();
        let reason = Reason::from_number(found.reason);
        let service = names.services.get(&found.service).map(|service| service.name.clone());
        let backend = names.backend(found.pool, found.backend).map(|id| id.address);
        let verdict = explained.verdict.as_str();
        // An answer goes back the way the packet came, without a next hop.
        let is_sent = matches!(verdict, "transmit" | "redirect") && found.next_hop.interface != 0;
        let selected_by = match found.selected_by {
            selected_by::FLOW => "flow",
            selected_by::MAGLEV => "maglev",
            selected_by::RESELECTED => "reselected",
            _ => "nothing",
        };
        let at_vip = names.services.values().map(|service| service.listener);
        let at_vip = at_vip.filter(|listener| service.is_none() && listener.addr == request.destination.ip());
        let mut explanation = Explanation {
            verdict: verdict.to_owned(),
            listeners: at_vip.collect(),
            reason: reason.map(|reason| reason.name().to_owned()),
            pool: names.pools.get(&found.pool).and_then(|pool| pool.key.name.parse().ok()),
            service,
            backend,
            selected_by: selected_by.to_owned(),
            interface: is_sent.then(|| self.interface_name(found.next_hop.interface)),
            next_hop: is_sent.then(|| link_address(&found.next_hop)),
            packet: is_sent.then(|| leaving(&explained.frame)).flatten(),
            slot: (found.slot != u32::MAX).then_some(found.slot),
            is_reply: found.is_reply != 0,
            sentence: String::new(),
        };
        explanation.sentence = sentence(request, &explanation, reason);
        explanation
    }

    fn interface_name(&self, index: u32) -> String {
        self.host.link(index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
    }

    fn list_flows(&self, filter: &FlowFilter) -> Result<FlowList, ApiError> {
        let limit = filter.limit.unwrap_or(100).min(MOST_FLOWS);
        let names = self.published.names.load();
        let found = self.with_flows(|flows, now| {
            flows.list(now, limit + 1, |flow| {
                names.services.contains_key(&flow.service) && matches(&names, filter, flow)
            })
        })?;
        let truncated = found.len() > limit;
        let flows = found.iter().take(limit).filter_map(|flow| shown(&names, flow)).collect();
        Ok(FlowList { flows, truncated })
    }

    fn count_matching(&self, filter: &FlowFilter) -> Result<FlowCounts, ApiError> {
        let names = self.published.names.load();
        let mut counts = FlowCounts::default();
        self.with_flows(|flows, now| {
            flows.list(now, 1, |flow| {
                if matches(&names, filter, flow) {
                    count(&names, flow, &mut counts);
                }
                false
            })
        })?;
        Ok(counts)
    }

    fn flush_flows(&self, who: &str, filter: &FlowFilter) -> Result<FlowsFlushed, ApiError> {
        let names = self.published.names.load();
        let flushed = self.with_flows(|flows, now| flows.flush(now, |flow| matches(&names, filter, flow)))?;
        tracing::info!("{flushed} flows forgotten on behalf of {who}");
        Ok(FlowsFlushed { flushed })
    }

    fn with_flows<T>(&self, work: impl FnOnce(flows::Flows<'_>, u16) -> T) -> Result<T, ApiError> {
        let datapath = self.read_datapath();
        let now = Datapath::tick_now(&datapath).map_err(|error| failed(&error))?;
        Ok(work(datapath.flows(), now))
    }
}

fn failed(error: &DatapathError) -> ApiError {
    ApiError::new(ErrorCode::Internal, error.to_string())
}

fn matches(names: &Names, filter: &FlowFilter, flow: &flows::Flow) -> bool {
    if names.hidden.contains(&flow.service) {
        return false;
    }
    // A service that is gone has no name that could be asked for.
    let Some(service) = names.services.get(&flow.service) else {
        return filter.name.is_none() && filter.backend.is_none();
    };
    let named = filter.name.as_ref().is_none_or(|name| {
        *name == service.name
            || names.pools.get(&service.pool).is_some_and(|pool| pool.key.name == name.as_str())
    });
    let backend = || names.backend_of(flow.service, flow.backend).map(|id| id.address);
    named && filter.backend.is_none_or(|wanted| backend() == Some(wanted))
}

const fn protocol_of(state: State) -> Protocol {
    match state {
        State::UdpProbation | State::UdpEstablished => Protocol::Udp,
        State::Free
        | State::TcpProbation
        | State::TcpEstablished
        | State::TcpEnding
        | State::TcpClientDone
        | State::TcpBackendDone => Protocol::Tcp,
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::TcpEstablished | State::UdpEstablished => "established",
        State::TcpEnding | State::TcpClientDone | State::TcpBackendDone => "closing",
        State::Free | State::TcpProbation | State::UdpProbation => "probation",
    }
}

fn shown(names: &Names, flow: &flows::Flow) -> Option<Flow> {
    let service = names.services.get(&flow.service)?;
    let port = service.listener.port.or(flow.service_port)?;
    Some(Flow {
        protocol: protocol_of(flow.state),
        source: SocketAddr::new(flow.client, flow.client_port),
        destination: SocketAddr::new(service.listener.addr, port),
        service: service.name.clone(),
        pool: names.pools.get(&service.pool)?.key.name.parse().ok()?,
        backend: names.backend_of(flow.service, flow.backend).map(|id| id.address),
        state: state_name(flow.state).to_owned(),
        idle: flow.idle.as_secs_f64(),
    })
}

fn count(names: &Names, flow: &flows::Flow, counts: &mut FlowCounts) {
    counts.count += 1;
    let mut add = |map: fn(&mut FlowCounts) -> &mut BTreeMap<String, u64>, key: String| {
        *map(counts).entry(key).or_default() += 1;
    };
    let service = names.services.get(&flow.service).map(|service| service.name.to_string());
    add(|counts| &mut counts.services, service.unwrap_or_else(|| REMOVED.to_owned()));
    if let Some(id) = names.backend_of(flow.service, flow.backend) {
        add(|counts| &mut counts.backends, id.to_string());
    }
    add(|counts| &mut counts.states, state_name(flow.state).to_owned());
}

/// The link address a frame would be sent to.
fn link_address(hop: &NextHop) -> String {
    if hop.kind == next_hop_kind::LOCAL {
        return "this host".to_owned();
    }
    let [a, b, _] = hop.ethernet;
    let ([a, b, c, d], [e, f, ..]) = (a.to_ne_bytes(), b.to_ne_bytes());
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// The addresses of a frame, for people and programs.
fn leaving(frame: &[u8]) -> Option<LeavingPacket> {
    let Addresses { outer, source, destination } = Addresses::of(frame)?;
    let outer = outer.map(|(source, destination)| OuterHeader { source, destination });
    Some(LeavingPacket { source, destination, outer })
}

/// All of it in words.
fn sentence(request: &ExplainRequest, found: &Explanation, reason: Option<Reason>) -> String {
    let ExplainRequest { protocol, source, destination, .. } = request;
    let packet = format!("{protocol} {source} → {destination}");
    let why = reason.map(|reason| format!(" ({})", reason.sentence().trim())).unwrap_or_default();
    let Some(service) = &found.service else {
        let vip = match found.listeners.as_slice() {
            [] => String::new(),
            listeners => {
                let listeners: Vec<_> = listeners.iter().map(ToString::to_string).collect();
                format!(" ({} is a vip, with {})", destination.ip(), listeners.join(", "))
            }
        };
        return format!("{packet} belongs to no service{vip}: {}{why}", found.verdict);
    };
    let role = if found.is_reply { "is a reply of a flow of" } else { "is for" };
    let backend = match (&found.backend, found.selected_by.as_str()) {
        (None, _) => String::new(),
        (Some(backend), "flow") => format!(", its flow is with backend {backend}"),
        (Some(backend), "reselected") => {
            format!(", its flow's backend no longer takes it, {backend} is selected instead")
        }
        (Some(backend), _) => match found.slot {
            Some(slot) => format!(", slot {slot} of the Maglev table selects backend {backend}"),
            None => format!(", backend {backend} is selected"),
        },
    };
    let way = match (&found.interface, &found.next_hop) {
        (Some(interface), Some(hop)) => format!(" to {hop} by {interface}"),
        _ => String::new(),
    };
    format!("{packet} {role} service {service}{backend}: {}{way}{why}", found.verdict)
}
