//! Replies of nat and full-nat backends.
//!
//! In: a segment to no service. Out: the verdict if it is the reply of a flow that entered through a vip, translated back; `None` if it
//! is not, and then nothing was changed. Invariant: a translated reply never goes to the kernel's stack, where its source
//! would be an address of nobody, except for services on lo.

use lb_common::{FEATURE_ANY_PORT, FEATURE_FULL_NAT, FEATURE_LOOPBACK, FEATURE_NAT, Forward, Reason};

use crate::{
    constants::{Constants, has},
    flow_table::{self, Kind, State},
    forward::{self, Ends, Stop, Way},
    header::IpHeader,
    nat::{self, Holder},
    packet::Packet,
    parse::{self, Segment},
    pipeline::Verdict,
    reply_index::ReplyKey,
    route,
    tables::{Progress, Tables, Traffic, explain, note},
};

/// A reply's service and what becomes of it.
pub struct Outcome {
    /// The service whose flow it belongs to.
    pub service: u16,
    /// The verdict, or why it stops.
    pub verdict: Result<Verdict, Stop>,
}

/// Whether there can be replies at all.
#[inline(always)]
pub fn are_expected(constants: impl Constants) -> bool {
    has(constants, FEATURE_NAT) || has(constants, FEATURE_FULL_NAT)
}

/// Whether a segment may be a reply: most packets of a host are not, and cost one word of the filter. `source`: the address word.
#[inline(always)]
pub fn is_possible<T: Tables>(tables: &T, source: u64, ends: parse::Ends) -> bool {
    let constants = tables.constants();
    are_expected(constants)
        && (nat::may_be_reply(tables, source, ends.source_port_be(), ends.protocol)
            || (has(constants, FEATURE_ANY_PORT) && nat::may_be_reply(tables, source, 0, ends.protocol)))
}

/// What a segment carries if it is a reply, and the hash of it. `words`: the address words of source and destination, if they are known.
#[inline(always)]
fn carried<H: IpHeader, T: Tables>(
    packet: &impl Packet,
    tables: &T,
    segment: &Segment,
    words: Option<(u64, u64)>,
) -> Option<(ReplyKey, u64)> {
    let key = ReplyKey {
        backend: H::load_source(packet)?,
        destination: H::load_destination(packet)?,
        backend_port_be: segment.source_port_be(),
        destination_port_be: segment.destination_port_be(),
        protocol: segment.protocol,
    };
    let constants = tables.constants();
    let hash = match words {
        Some(words) => key.hash_of(constants, words),
        None => key.hash(constants),
    };
    Some((key, hash))
}

/// Translates a segment back if it belongs to a flow of this table. With [`Way::Resolved`] one look at each table has to do, and `None` or
/// [`Stop::Unresolved`] says only that it did not. `words`: as in `carried`.
#[inline(always)]
pub fn reply<H: IpHeader, K: Kind, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: &Segment,
    words: Option<(u64, u64)>,
    ways: Way,
) -> Option<Outcome> {
    let now = tables.now();
    let (key, hash) = carried::<H, T>(packet, tables, segment, words)?;
    let holder = match ways {
        Way::Any => nat::holder::<K, T>(tables, &key, hash, now)?,
        Way::Resolved => nat::holder_at_home::<K, T>(tables, &key, hash, now)?,
    };
    Some(of_flow::<H, K, P, T>(packet, tables, segment, &holder, (now, ways)))
}

/// Translates the reply of a flow back, refreshes the flow and counts.
#[inline(always)]
fn of_flow<H: IpHeader, K: Kind, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: &Segment,
    holder: &Holder<'_, K>,
    (now, ways): (u16, Way),
) -> Outcome {
    let service = holder.flow.service;
    explain(tables, |explanation| {
        explanation.is_reply = 1;
        explanation.service = service;
        #[expect(clippy::cast_possible_truncation, reason = "pool ids have 16 bits")]
        let pool = holder.policy.pool() as u16;
        explanation.pool = pool;
        explanation.backend = holder.value.backend();
        explanation.selected_by = lb_common::selected_by::FLOW;
    });
    let verdict = back::<H, K, P, T>(packet, tables, segment, holder, ways);
    if !T::OBSERVE && verdict.is_ok() {
        let (before, backend_counter) = (holder.value.state(), holder.backend.counter);
        let after = before.after_reply(segment);
        if matches!(before, State::TcpProbation) && segment.is_tcp() && segment.is_reset() {
            tables.count_progress(backend_counter, Progress::Refused);
        }
        flow_table::refresh(holder.slot, holder.value, now, after);
        tables.count_reply(Traffic { service, backend_counter, bytes: segment.packet_len });
    }
    Outcome { service, verdict }
}

#[inline(always)]
fn back<H: IpHeader, K: Kind, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: &Segment,
    holder: &Holder<'_, K>,
    ways: Way,
) -> Result<Verdict, Stop> {
    let flow = &holder.flow;
    let service = holder.service;
    let port_be = if service.port_be != 0 { service.port_be } else { flow.service_port_be };
    let is_full_nat = has(tables.constants(), FEATURE_FULL_NAT) && holder.policy.is(Forward::FullNat);
    let (client, client_port_be) = if is_full_nat {
        (flow.client, flow.client_port_be)
    } else {
        (H::load_destination(packet).ok_or(forward::SHORT)?, segment.destination_port_be())
    };
    let vip = if H::VERSION == 4 { lb_common::Address::v4(service.vip.words[3]) } else { service.vip };
    let client = if H::VERSION == 4 { lb_common::Address::v4(client.words[3]) } else { client };
    let ends = Ends { source: &vip, destination: &client, ports: parse::ports(port_be, client_port_be) };
    if has(tables.constants(), FEATURE_LOOPBACK) && holder.policy.is_loopback() {
        forward::translate::<H, P>(packet, segment, &ends, false)?;
        note(tables, flow.service, Reason::LocalDelivery);
        return Ok(Verdict::Pass);
    }
    if segment.hops <= 1 {
        return Err(Stop::Drop(Reason::TtlExceeded));
    }
    let way = route::way_to(tables, &vip, &client, ways)?;
    forward::fits::<H, P, T>(packet, tables, segment, &way, 0)?;
    forward::translate::<H, P>(packet, segment, &ends, true)?;
    forward::send(packet, tables, &way)
}
