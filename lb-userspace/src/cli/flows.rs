//! `lbctl flows`: tracked flows listed, counted, forgotten.

use super::Outcome;
use super::args::{FlowsArguments, FlowsCommand, FlowsFilter};
use super::print::{Align, Cell, Table, Tone, span};
use super::session::{Session, Style};
use crate::api::types::{Flow, FlowCounts, FlowFilter, FlowList};

pub(super) async fn run(session: &Session, arguments: FlowsArguments) -> Outcome {
    match arguments.command {
        None => list(session, arguments.filter, arguments.limit).await,
        Some(FlowsCommand::Count { filter }) => {
            let counts = session.client.count_flows(&wanted(filter, None)).await?;
            session.show(&counts, counted)?;
            Ok(0)
        }
        Some(FlowsCommand::Flush { filter, yes }) => {
            let whose = whose(&filter);
            let wanted = wanted(filter, None);
            if !yes {
                // Nobody is asked about the flows of a service that is not there.
                session.client.count_flows(&wanted).await?;
                session.confirm(&format!("forgets {whose}; their next packets are new flows"))?;
            }
            let flushed = session.client.flush_flows(&wanted).await?;
            session.show(&flushed, |flushed, _| format!("{}\n", flushed.flushed))?;
            if !session.is_json() {
                session.say("flows forgotten");
            }
            Ok(0)
        }
    }
}

fn wanted(filter: FlowsFilter, limit: Option<usize>) -> FlowFilter {
    FlowFilter { name: filter.name, backend: filter.backend, limit }
}

fn whose(filter: &FlowsFilter) -> String {
    match (&filter.name, filter.backend) {
        (None, None) => "every tracked flow".to_owned(),
        (Some(name), None) => format!("the flows of {name}"),
        (None, Some(backend)) => format!("the flows with backend {backend}"),
        (Some(name), Some(backend)) => format!("the flows of {name} with backend {backend}"),
    }
}

async fn list(session: &Session, filter: FlowsFilter, limit: usize) -> Outcome {
    let list = session.client.flows(&wanted(filter, Some(limit))).await?;
    session.show(
        &list,
        |FlowList { flows, .. }, style| {
            if flows.is_empty() { String::new() } else { table(flows, style) }
        },
    )?;
    if list.flows.is_empty() {
        session.say("there are no such flows");
    }
    if list.truncated {
        session.say(&format!("there are more than {limit}; --limit N shows more, flows count counts them"));
    }
    Ok(0)
}

fn table(flows: &[Flow], style: Style) -> String {
    use Align::{Left, Right};
    let columns = [
        ("PROTO", Left),
        ("CLIENT", Left),
        ("DESTINATION", Left),
        ("SERVICE", Left),
        ("POOL", Left),
        ("BACKEND", Left),
        ("STATE", Left),
        ("IDLE", Right),
    ];
    let mut table = Table::new(&columns).giving_way(&["POOL", "IDLE", "STATE", "PROTO"]);
    for flow in flows {
        let backend = match flow.backend {
            Some(backend) => backend.to_string().into(),
            None => Cell::toned("gone", Tone::Warn),
        };
        table.row(vec![
            flow.protocol.into(),
            flow.source.into(),
            flow.destination.into(),
            flow.service.to_string().into(),
            flow.pool.to_string().into(),
            backend,
            flow.state.as_str().into(),
            idle(flow.idle).into(),
        ]);
    }
    table.render(style)
}

/// Seconds since the last packet; lbd's clock has ticks of about a second.
fn idle(seconds: f64) -> String {
    std::time::Duration::try_from_secs_f64(seconds)
        .map_or_else(|_| String::new(), |idle| span(idle.as_secs()))
}

fn counted(counts: &FlowCounts, style: Style) -> String {
    let mut table = Table::new(&[("", Align::Left), ("FLOWS", Align::Right)]);
    table.row(vec!["all".into(), counts.count.into()]);
    let groups = [("service", &counts.services), ("backend", &counts.backends), ("state", &counts.states)];
    for (what, group) in groups {
        for (name, count) in group {
            table.row(vec![format!("{what} {name}").into(), (*count).into()]);
        }
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;

    #[test]
    fn a_flow_without_a_backend_says_so() {
        let flow = Flow {
            protocol: Protocol::Tcp,
            source: "[2001:db8::1]:40000".parse().unwrap(),
            destination: "[2001:db8::10]:443".parse().unwrap(),
            service: "web".parse().unwrap(),
            pool: "web".parse().unwrap(),
            backend: None,
            state: "established".to_owned(),
            idle: 61.9,
        };
        let text = table(&[flow], Style::default());
        for part in ["tcp", "[2001:db8::1]:40000", "gone", "established", "1m1s"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn counts_are_grouped() {
        let group = |name: &str| [(name.to_owned(), 3)].into();
        let counts = FlowCounts {
            count: 3,
            services: group("web"),
            backends: group("web/10.0.0.1"),
            states: group("probation"),
        };
        let text = counted(&counts, Style::default());
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("backend web/10.0.0.1      3"), "{text}");
    }
}
