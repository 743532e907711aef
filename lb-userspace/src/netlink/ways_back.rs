//! Ways to clients that the program asked the kernel for in vain.
//!
//! In: clients' addresses. Out: their next hops resolved, and kept so. Packets that XDP forwards are no use of a neighbour to the kernel, which
//! forgets one that nobody uses; and a program that asks for a route makes nobody resolve it. Invariants: an entry that somebody fixed, or that
//! has an answer, is not touched; only who has answered is kept, and no more than [`MOST`] for as long as lbd runs, those that
//! have gone giving way: forged addresses take nobody's place.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtnetlink::Handle;

use super::NetlinkError;
use super::neighbour::{self, NeighbourKey};
use super::route::{self, Way};

/// Next hops to clients that are kept: routers, and clients on this host's own links.
const MOST: usize = 256;
/// Addresses asked about at a time; the others have their turn after these.
const AT_A_TIME: usize = 256;

/// The next hops that are asked for and kept. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct WaysBack {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    kept: BTreeSet<NeighbourKey>,
    /// Asked for, and not answered when they were looked at last.
    asked: BTreeSet<NeighbourKey>,
    /// The last address that had its turn.
    last: Option<IpAddr>,
}

impl State {
    /// Those whose turn it is: in the order of addresses, on from where it ended.
    fn turn(&mut self, clients: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let after = self.last.map_or(Unbounded, Excluded);
        let behind = self.last.map(|last| clients.range(..=last)).into_iter().flatten();
        let turn: Vec<IpAddr> =
            clients.range((after, Unbounded)).chain(behind).take(AT_A_TIME).copied().collect();
        self.last = turn.last().copied().or(self.last);
        turn
    }

    /// Whether this one is among those that are kept, if need be from now on.
    fn has_place(&mut self, key: NeighbourKey) -> bool {
        self.kept.contains(&key) || self.kept.len() < MOST && self.kept.insert(key)
    }
}

impl WaysBack {
    /// Whether it is to stay resolved: who else has kept it lets it be.
    pub(super) fn keeps(&self, key: NeighbourKey) -> bool {
        self.lock().kept.contains(&key)
    }

    /// Somebody was asked for who has not answered yet.
    pub fn is_waiting(&self) -> bool {
        !self.lock().asked.is_empty()
    }

    /// Has the next hops to these resolved, and keeps those that have answered since the last call. It does not wait for answers.
    ///
    /// # Errors
    /// What the kernel refused first; the others are asked for all the same.
    pub async fn ask(&self, clients: BTreeSet<IpAddr>) -> Result<(), NetlinkError> {
        let (connection, handle, _events) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        // It ends with its last handle, at the end of this function.
        tokio::spawn(connection);
        let mut outcome = Ok(());
        let asked = std::mem::take(&mut self.lock().asked);
        if !asked.is_empty() {
            outcome = self.make_room(&handle).await;
        }
        for key in asked {
            outcome = outcome.and(self.keep(&handle, key).await);
        }
        let turn = self.lock().turn(&clients);
        for client in turn {
            outcome = outcome.and(self.look_for(&handle, client).await);
        }
        outcome
    }

    async fn look_for(&self, handle: &Handle, client: IpAddr) -> Result<(), NetlinkError> {
        let Way::Via(to) = route::ask(handle, client).await? else { return Ok(()) };
        let key = NeighbourKey { interface: to.interface, address: to.gateway.unwrap_or(client) };
        if self.lock().asked.contains(&key) {
            return Ok(());
        }
        match neighbour::get(handle, key).await? {
            // What is missing is something else.
            Some(seen) if seen.fixed || seen.managed || seen.mac.is_some() => Ok(()),
            _ => {
                neighbour::resolve(handle, key).await?;
                self.lock().asked.insert(key);
                Ok(())
            }
        }
    }

    /// Keeps one that has answered; who has failed is let go.
    async fn keep(&self, handle: &Handle, key: NeighbourKey) -> Result<(), NetlinkError> {
        match neighbour::get(handle, key).await? {
            Some(seen) if seen.fixed || seen.managed => Ok(()),
            Some(seen) if seen.mac.is_some() => {
                let has_place = self.lock().has_place(key);
                if has_place { neighbour::ensure(handle, key).await } else { Ok(()) }
            }
            // It is still being asked.
            Some(seen) if !seen.failed => {
                self.lock().asked.insert(key);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Where all places are taken, those are let go that no longer answer.
    async fn make_room(&self, handle: &Handle) -> Result<(), NetlinkError> {
        let kept = self.lock().kept.clone();
        if kept.len() < MOST {
            return Ok(());
        }
        for old in kept {
            let seen = neighbour::get(handle, old).await?;
            if seen.is_none_or(|seen| seen.mac.is_none()) {
                self.lock().kept.remove(&old);
                if seen.is_some_and(|seen| seen.is_kept_by_lbd()) {
                    neighbour::release(handle, old).await?;
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn everybody_has_a_turn_however_many_there_are() {
        let address = |host: u32| IpAddr::from(Ipv4Addr::from_bits(host));
        let all: BTreeSet<IpAddr> = (0..600).map(address).collect();
        let mut state = State::default();
        assert_eq!(state.turn(&all), (0..256).map(address).collect::<Vec<_>>());
        assert_eq!(state.turn(&all), (256..512).map(address).collect::<Vec<_>>());
        let wrapped = (512..600).chain(0..168).map(address).collect::<Vec<_>>();
        assert_eq!(state.turn(&all), wrapped);
        let few = BTreeSet::from([address(3), address(700)]);
        assert_eq!(state.turn(&few), [address(700), address(3)]);
        assert!(state.turn(&BTreeSet::new()).is_empty());
        assert_eq!(state.turn(&few), [address(700), address(3)]);
    }
}
