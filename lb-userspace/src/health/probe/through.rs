//! A check that goes through a service.
//!
//! In: the backend's own address, the way, a check and a deadline. Out: the finding, which says of a failure whether the backend answers at
//! its own address: then it is the way to it that is broken. Invariant: the question besides is asked only when the answer is late or
//! bad, and within the same deadline.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::time::sleep_until;

use super::peer::Peer;
use super::{Deadline, Finding, ProbeResult, ask_peer};
use crate::health::prober::Prober;
use crate::health::target::Through;
use crate::spec::{Forward, HealthSpec};

/// The whole check.
pub(super) async fn ask(
    own: SocketAddr,
    through: Through,
    prober: &Prober,
    spec: &HealthSpec,
    deadline: Deadline,
) -> Finding {
    let Some((stand, token)) = prober.stand(through.probe.is_ipv4(), deadline.at).await else {
        return (
            ProbeResult::Local,
            Cow::Borrowed("the way of checks through services is not there (lbctl status)"),
        );
    };
    let peer = Peer { to: through.probe, named: through.vip, from: Some(stand) };
    let mut asking = pin!(ask_peer(peer, spec, deadline));
    let mut besides = pin!(ask_peer(Peer::direct(own), spec, deadline));
    let late = deadline.at - deadline.timeout / 2;
    let mut answer = None;
    let found = tokio::select! {
        found = &mut asking => found,
        () = sleep_until(late) => loop {
            tokio::select! {
                found = &mut asking => break found,
                early = &mut besides, if answer.is_none() => answer = Some(early),
            }
        },
    };
    match found.0.success() {
        Some(true) => {
            let (result, detail) = found;
            (result, Cow::Owned(format!("{detail} through {}", through.vip)))
        }
        None => found,
        Some(false) if !prober.is_still(&token) => {
            (ProbeResult::Local, Cow::Borrowed("the way of checks through services was broken and is mended"))
        }
        Some(false) => {
            let direct = match answer {
                Some(answer) => answer,
                None => besides.await,
            };
            judged(found, own, &direct, &through)
        }
    }
}

/// A failure, with what the backend says at its own address.
fn judged((result, detail): Finding, own: SocketAddr, direct: &Finding, through: &Through) -> Finding {
    let Through { vip, forward, .. } = through;
    let text = match direct.0.success() {
        Some(true) => {
            let hint = suspicion(*forward, vip);
            format!(
                "{detail}, through the service at {vip}; its own address {own} answers, so the way is broken: {hint}"
            )
        }
        _ => format!("{detail}, through the service at {vip}; its own address {own}: {}", direct.1),
    };
    (result, Cow::Owned(text))
}

/// Where to look first.
fn suspicion(forward: Forward, vip: &SocketAddr) -> String {
    let vip = vip.ip();
    match forward {
        Forward::Dsr => format!("is {vip} on the backend's lo, and does a server listen there?"),
        Forward::Ipip => format!("does the backend decapsulate, and is {vip} on its lo?"),
        Forward::Nat => "does the backend send its replies back by this host (its default route)?".to_owned(),
        Forward::FullNat => {
            "does something between this host and the backend drop the service's packets?".to_owned()
        }
    }
}
