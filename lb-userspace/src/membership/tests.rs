use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::config;
use crate::desired::{DesiredBackend, DesiredNextHop, PoolKey, Variant};
use crate::plan::tests::histories::histories;
use crate::spec::HealthKind;

mod ask;
mod discovered;
mod ejection;
mod ejection_kept;
mod engine;
mod foreseen;
mod joined;
mod lifecycle;
mod model;
mod operations;
mod owners;
mod standby;
mod standby_model;
mod table;
mod tables;
mod via;
mod whole;

/// One service with two backends that are checked by tcp.
const WEB: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.2:81"]
"#;

const ONE: &str = "10.0.0.1";
const TWO: &str = "10.0.0.2:81";

/// A membership with a clock and shorthands.
struct World {
    membership: Membership,
    now: Millis,
}

thread_local! {
    /// Random histories read the same few files over and over.
    static PARSED: RefCell<HashMap<String, Arc<Spec>>> = RefCell::default();
}

fn spec(text: &str) -> Arc<Spec> {
    let parse = || Arc::new(config::parse(text, "lbd.toml").unwrap_or_else(|errors| panic!("{errors}")).spec);
    PARSED.with_borrow_mut(|parsed| Arc::clone(parsed.entry(text.to_owned()).or_insert_with(parse)))
}

fn start(text: &str) -> World {
    let start = Start { file: spec(text), ..Start::default() };
    World { membership: Membership::start(Millis(0), start).unwrap().membership, now: Millis(0) }
}

/// As [`start`], with every way known and every backend healthy.
fn running(text: &str) -> World {
    let mut world = start(text);
    world.all_well();
    world
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn address(text: &str) -> BackendAddress {
    text.parse().unwrap()
}

fn id(pool: &str, backend: &str) -> MemberId {
    MemberId { pool: name(pool), address: address(backend) }
}

fn hop(interface: u32) -> DesiredNextHop {
    DesiredNextHop {
        interface,
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        local: false,
    }
}

fn known(source: &str) -> WayState {
    WayState::Resolved { hop: hop(3), source: Some(source.parse().unwrap()) }
}

fn unresolved(reason: &str) -> WayState {
    WayState::Unresolved { reason: reason.to_owned() }
}

fn add(pool: &str, backend: &str) -> Operation {
    Operation::BackendAdd { pool: name(pool), address: address(backend), weight: 1 }
}

fn remove(pool: &str, backend: &str) -> Operation {
    Operation::BackendRemove { pool: name(pool), address: address(backend), drain: None }
}

fn drain(backend: &str) -> Operation {
    Operation::BackendDrain { pool: name("web"), address: address(backend), deadline: None, then: Then::Keep }
}

fn drain_until(backend: &str, seconds: u64, then: Then) -> Operation {
    let deadline = Some(Duration::from_secs(seconds));
    Operation::BackendDrain { pool: name("web"), address: address(backend), deadline, then }
}

fn disable(backend: &str) -> Operation {
    Operation::BackendDisable { pool: name("web"), address: address(backend) }
}

fn enable(backend: &str) -> Operation {
    Operation::BackendEnable { pool: name("web"), address: address(backend) }
}

fn weight(backend: &str, weight: u16) -> Operation {
    Operation::BackendWeight { pool: name("web"), address: address(backend), weight }
}

impl World {
    fn change(&mut self, change: &Change) -> Result<Outcome, Refusal> {
        let candidate = self.membership.prepare(self.now, "uid 0", change)?;
        self.membership = candidate.membership;
        Ok(candidate.outcome)
    }

    fn try_do(&mut self, operation: Operation) -> Result<Outcome, Refusal> {
        self.change(&Change::one(operation))
    }

    #[track_caller]
    fn done(&mut self, operation: Operation) -> Outcome {
        self.try_do(operation).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    #[track_caller]
    fn forced(&mut self, operation: Operation) -> Outcome {
        let options = Options { force: true, ..Options::default() };
        self.change(&Change { operations: vec![operation], options }).unwrap()
    }

    #[track_caller]
    fn refused(&mut self, operation: Operation) -> Refusal {
        let before = self.membership.pool_views(&[]);
        let refusal = self.try_do(operation).unwrap_err();
        assert_eq!(self.membership.pool_views(&[]), before);
        refusal
    }

    fn reload(&mut self, text: &str) -> Result<Outcome, Refusal> {
        let candidate = self.membership.reload(self.now, spec(text), &Options::default())?;
        self.membership = candidate.membership;
        Ok(candidate.outcome)
    }

    fn health(&mut self, pool: &str, backend: &str, health: Health) -> Outcome {
        let detail = match health {
            Health::Unhealthy => "connection refused",
            Health::Healthy => "connected",
            Health::Unknown => "",
        };
        self.finding(pool, backend, health, detail)
    }

    /// What a check has found, in words of its own.
    fn finding(&mut self, pool: &str, backend: &str, health: Health, detail: &str) -> Outcome {
        self.membership.handle(
            self.now,
            Event::Health { id: CheckId::direct(id(pool, backend)), health, detail: Arc::from(detail) },
        )
    }

    fn way(&mut self, ip: &str, state: WayState) -> Outcome {
        self.membership.handle(self.now, Event::Way { ip: ip.parse().unwrap(), state })
    }

    /// New connections to this backend of `web` do not go on.
    fn suspect(&mut self, backend: &str) -> Outcome {
        let why = Arc::from("0 of 12 new connections went on");
        self.membership.handle(self.now, Event::Suspect { id: id("web", backend), why })
    }

    /// Every way is known and every check has succeeded.
    fn all_well(&mut self) {
        for ip in self.membership.next_hop_targets() {
            let source = if ip.is_ipv4() { "192.0.2.1" } else { "2001:db8:ffff::1" };
            self.way(&ip.to_string(), known(source));
        }
        for target in self.membership.health_targets() {
            let detail = Arc::from("connected");
            self.membership
                .handle(self.now, Event::Health { id: target.id, health: Health::Healthy, detail });
        }
    }

    /// Goes on by this many seconds, as the controller does: from timer to timer.
    fn wait(&mut self, seconds: u64) -> Outcome {
        let end = self.now.after(Duration::from_secs(seconds));
        let mut all = Outcome::default();
        while let Some(timer) = self.membership.next_timer().filter(|timer| *timer <= end) {
            self.now = self.now.max(timer);
            all.absorb(self.membership.handle(self.now, Event::Tick));
        }
        self.now = end;
        all
    }

    #[track_caller]
    fn table(&self, pool: &str, variant: Variant) -> &crate::desired::DesiredPool {
        let key = PoolKey { name: pool.to_owned(), variant };
        self.membership.desired().pools.get(&key).unwrap_or_else(|| panic!("{pool} has no table {variant}"))
    }

    #[track_caller]
    fn desired(&self, backend: &str) -> &DesiredBackend {
        &self.table("web", Variant::V4).backends[&address(backend)]
    }

    /// (new flows, tracked flows stay, checked), as the datapath and the checks are told.
    #[track_caller]
    fn cell(&self, backend: &str) -> (bool, bool, bool) {
        let checked = self.membership.health_targets().iter().any(|target| target.id == id("web", backend));
        let desired = self.desired(backend);
        (desired.takes_new && desired.weight > 0, desired.keeps, checked)
    }

    #[track_caller]
    fn view(&self, pool: &str, backend: &str) -> BackendView {
        let view = self.membership.pool_view(&name(pool)).unwrap();
        view.backends.into_iter().find(|view| view.id.address == address(backend)).unwrap()
    }

    #[track_caller]
    fn reason(&self, backend: &str) -> String {
        self.view("web", backend).reason
    }

    fn backends(&self, pool: &str) -> Vec<String> {
        let view = self.membership.pool_view(&name(pool));
        view.into_iter().flat_map(|view| view.backends).map(|view| view.id.address.to_string()).collect()
    }
}

/// A direct check is that of its backend.
impl PartialEq<MemberId> for CheckId {
    fn eq(&self, other: &MemberId) -> bool {
        *self == Self::direct(other.clone())
    }
}
