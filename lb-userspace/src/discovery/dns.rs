//! Names in the DNS: addresses, and SRV records with the addresses of their targets.
//!
//! In: a [`DnsSource`]. Out: its backends and how long they stand (the shortest TTL of all records used). Invariants: an answer is
//! made of every question or of none: one family that cannot be asked does not take the other's place; a name that does not
//! exist, or has no such record, is an answer without backends; whatever else a server says is a failure.

mod exchange;
mod records;
mod resolv_conf;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use hickory_proto::rr::RecordType;

use super::{Answer, Found};
use crate::spec::{BackendAddress, Backends, DEFAULT_WEIGHT, DnsRecords, DnsSource, format_duration};
use records::{Records, Target};

/// Targets of SRV records that are asked for at a time.
const TARGETS_AT_A_TIME: usize = 8;
/// How long it may take to ask for all of them: a source in the middle of an answer is neither well nor failing.
const WHOLE: Duration = Duration::from_secs(60);

/// One name.
pub(super) struct Dns {
    source: DnsSource,
    /// So many backends it may name.
    most: u32,
}

impl Dns {
    pub(super) fn new(source: &DnsSource, most: u32) -> Self {
        Self { source: source.clone(), most }
    }

    /// Asks for the name, and for everything that it leads to.
    pub(super) async fn ask(&self) -> Result<Answer, String> {
        let servers = match self.source.server {
            Some(server) => vec![server],
            None => resolv_conf::servers().await?,
        };
        let asker = Asker { servers: &servers, timeout: self.source.timeout };
        match self.source.record {
            DnsRecords::Srv => {
                let (name, most) = (&self.source.name, usize::try_from(self.most).unwrap_or(usize::MAX));
                let whole = tokio::time::timeout(WHOLE, asker.targets(name, most)).await;
                whole.unwrap_or_else(|_elapsed| {
                    Err(format!("not all targets of {name} were found within {}", format_duration(WHOLE)))
                })
            }
            record => {
                let (ips, ttl) = asker.addresses(&self.source.name, record).await?;
                let of = |ip| (BackendAddress { ip, port: self.source.port }, DEFAULT_WEIGHT);
                let found = Found { backends: ips.into_iter().map(of).collect(), left_out: Vec::new() };
                Ok(Answer { found, stands: seconds(ttl) })
            }
        }
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

/// Whom to ask, and how long to wait.
struct Asker<'a> {
    servers: &'a [SocketAddr],
    timeout: Duration,
}

impl Asker<'_> {
    async fn records(&self, name: &str, kind: RecordType) -> Result<Records, String> {
        exchange::ask(self.servers, name, kind, self.timeout).await
    }

    /// The addresses of a name, and their TTL.
    async fn addresses(&self, name: &str, record: DnsRecords) -> Result<(Vec<IpAddr>, u32), String> {
        let (v4, v6) = match record {
            DnsRecords::A => (Some(self.records(name, RecordType::A).await?), None),
            DnsRecords::Aaaa => (None, Some(self.records(name, RecordType::AAAA).await?)),
            DnsRecords::Both | DnsRecords::Srv => {
                let (v4, v6) =
                    tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
                (Some(v4?), Some(v6?))
            }
        };
        let both: Vec<Records> = v4.into_iter().chain(v6).collect();
        // How long there is none of a family says nothing while there are some of the other.
        let some = both.iter().any(|records| !records.ips.is_empty());
        let relevant = both.iter().filter(|records| !some || !records.ips.is_empty());
        let ttl = relevant.map(|records| records.ttl).min().unwrap_or_default();
        Ok((both.into_iter().flat_map(|records| records.ips).collect(), ttl))
    }

    /// The targets of the lowest priority with their addresses (RFC 2782), each name asked for once. More than `most` are no answer, and
    /// are not asked for.
    async fn targets(&self, name: &str, most: usize) -> Result<Answer, String> {
        let records = self.records(name, RecordType::SRV).await?;
        let targets = preferred(records.targets);
        if targets.len() > most {
            return Err(format!("{name} has {} targets, more than max_backends = {most}", targets.len()));
        }
        let names: BTreeSet<String> = targets.iter().map(|target| target.name.clone()).collect();
        let asked = futures_util::stream::iter(names.into_iter().map(|target| async move {
            let addresses = self.addresses(&target, DnsRecords::Both).await?;
            Ok::<_, String>((target, addresses))
        }));
        let addresses: BTreeMap<String, (Vec<IpAddr>, u32)> =
            asked.buffered(TARGETS_AT_A_TIME).try_collect().await?;
        let (mut found, mut ttl) = (Found::default(), records.ttl);
        for target in targets {
            let (ips, target_ttl) = addresses.get(&target.name).cloned().unwrap_or_default();
            ttl = ttl.min(target_ttl);
            if ips.is_empty() {
                found.left_out.push(format!("{} has no address", target.name));
            }
            for ip in ips {
                add(&mut found.backends, BackendAddress { ip, port: Some(target.port) }, target.weight);
            }
        }
        Ok(Answer { found, stands: seconds(ttl) })
    }
}

/// The targets of the lowest priority: the others are for when none of these can be reached, which health checks and a backup pool
/// know better. A target at the root says that there is no such service.
fn preferred(mut targets: Vec<Target>) -> Vec<Target> {
    targets.retain(|target| !target.name.is_empty() && target.name != ".");
    let lowest = targets.iter().map(|target| target.priority).min();
    targets.retain(|target| Some(target.priority) == lowest);
    targets
}

/// Two targets at one address and port are one backend with the share of both. A weight of 0 is "a very small chance" beside others
/// and an equal one among zeroes (RFC 2782); here it would be none, so it counts as 1.
fn add(backends: &mut Backends, address: BackendAddress, weight: u16) {
    let weight = weight.max(1);
    backends.entry(address).and_modify(|sum| *sum = sum.saturating_add(weight)).or_insert(weight);
}

#[cfg(test)]
mod tests;
