//! What a DNS answer says of the name that was asked for.
//!
//! In: a message. Out: [`Records`]: addresses or targets with the shortest TTL on the way to them, or why it is no answer. Invariant:
//! only records of the name and of the aliases that lead from it count, whatever else the message holds.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Aliases in a row; a circle of them ends here.
const MOST_ALIASES: usize = 16;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) name: String,
}

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) ips: Vec<IpAddr>,
    pub(super) targets: Vec<Target>,
    /// How long this stands, in seconds.
    pub(super) ttl: u32,
}

/// The records of this kind that the message has for this name.
pub(super) fn of(message: &Message, name: &Name, kind: RecordType) -> Result<Records, String> {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::ServFail => return Err("SERVFAIL".to_owned()),
        ResponseCode::Refused => return Err("REFUSED".to_owned()),
        other => return Err(other.to_string()),
    }
    let mut name = name.clone();
    let mut ttl = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let own = || message.answers.iter().filter(|record| record.name.eq_ignore_root(&name));
        let mut records = Records::default();
        own().filter(|record| record.record_type() == kind).for_each(|record| {
            ttl = ttl.min(record.ttl);
            records.add(record);
        });
        if !records.ips.is_empty() || !records.targets.is_empty() {
            records.ttl = ttl;
            return Ok(records);
        }
        let alias = own().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some((alias.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((alias, alias_ttl)) = alias else {
            return Ok(Records { ttl: ttl.min(negative_ttl(message)), ..Records::default() });
        };
        ttl = ttl.min(alias_ttl);
        name = alias;
    }
    Err(format!("more than {MOST_ALIASES} aliases in a row"))
}

impl Records {
    fn add(&mut self, record: &Record) {
        match &record.data {
            RData::A(address) => self.ips.push(address.0.into()),
            RData::AAAA(address) => self.ips.push(address.0.into()),
            RData::SRV(target) => self.targets.push(Target {
                priority: target.priority,
                weight: target.weight,
                port: target.port,
                name: target.target.to_ascii(),
            }),
            _ => {}
        }
    }
}

/// How long the absence of a record stands (RFC 2308, 5); not at all, where the server does not say.
fn negative_ttl(message: &Message) -> u32 {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or_default()
}
