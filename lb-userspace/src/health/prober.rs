//! From where checks through services are sent.
//!
//! In: whether the veth for them is there, with the program on it. Out: [`Stand`]. Invariant: while it is not there, nothing is found out
//! about backends.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Shared by who keeps the way and who uses it.
#[derive(Clone, Debug)]
pub struct Prober(Arc<watch::Sender<Option<Arc<Place>>>>);

/// A place to send from, for as long as it is one.
#[derive(Debug)]
struct Place {
    interface: &'static str,
    addresses: [IpAddr; 2],
}

/// One end of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) interface: &'static str,
    pub(super) address: IpAddr,
}

/// Names one time in which the way was there.
#[derive(Debug)]
pub(super) struct Token(Arc<Place>);

impl Default for Prober {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Prober {
    /// The way is there, from now on: it begins at this interface, with these addresses (IPv4, IPv6). What was sent before by another may
    /// be lost.
    pub fn ready(&self, interface: &'static str, addresses: [IpAddr; 2]) {
        self.0.send_replace(Some(Arc::new(Place { interface, addresses })));
    }

    /// The way is not there, or not whole.
    pub fn not_ready(&self) {
        self.0.send_replace(None);
    }

    /// From where to send, as soon as there is something; `None`: from nowhere until then.
    pub(super) async fn stand(&self, is_v4: bool, until: Instant) -> Option<(Stand, Token)> {
        let mut places = self.0.subscribe();
        let place = timeout_at(until, places.wait_for(Option::is_some)).await.ok()?.ok()?.clone()?;
        let [v4, v6] = place.addresses;
        let stand = Stand { interface: place.interface, address: if is_v4 { v4 } else { v6 } };
        Some((stand, Token(place)))
    }

    /// The way has been there ever since this was given out.
    pub(super) fn is_still(&self, token: &Token) -> bool {
        self.0.borrow().as_ref().is_some_and(|place| Arc::ptr_eq(place, &token.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_place_is_waited_for_and_a_new_one_is_another() {
        let prober = Prober::default();
        assert!(prober.stand(true, Instant::now()).await.is_none());
        let addresses = ["198.19.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let waiting = prober.clone();
        let generous = Instant::now() + Duration::from_secs(30);
        let asking = tokio::spawn(async move { waiting.stand(false, generous).await });
        tokio::task::yield_now().await;
        prober.ready("lbd-probe0", addresses);
        let (stand, token) = asking.await.unwrap().unwrap();
        assert_eq!((stand.interface, stand.address), ("lbd-probe0", addresses[1]));
        assert!(prober.is_still(&token));
        prober.ready("lbd-probe0", addresses);
        assert!(!prober.is_still(&token), "it was mended meanwhile");
        prober.not_ready();
        assert!(prober.stand(true, Instant::now()).await.is_none());
    }
}
