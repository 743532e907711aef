//! Single packets and tracked flows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::spec::{BackendAddress, Listener, Name, Protocol, deserialize_endpoint};

/// `GET /v1/explain?protocol=tcp&source=ADDR:PORT&destination=ADDR:PORT`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// tcp or udp.
    pub protocol: Protocol,
    /// The client.
    #[serde(deserialize_with = "deserialize_endpoint")]
    pub source: SocketAddr,
    /// What it sends to.
    #[serde(deserialize_with = "deserialize_endpoint")]
    pub destination: SocketAddr,
    /// The interface it comes in by; `None`: the first listed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What the program in the kernel would do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// pass, drop, transmit or redirect.
    pub verdict: String,
    /// Why, if it is a drop or a rare pass.
    pub reason: Option<String>,
    /// The service it belongs to.
    pub service: Option<Name>,
    /// If it belongs to none although it goes to a vip: the listeners that the vip has.
    pub listeners: Vec<Listener>,
    /// Its pool.
    pub pool: Option<Name>,
    /// The backend that would get it.
    pub backend: Option<BackendAddress>,
    /// flow, maglev, reselected or nothing.
    pub selected_by: String,
    /// The interface it would leave by.
    pub interface: Option<String>,
    /// Where it would be sent next.
    pub next_hop: Option<String>,
    /// The packet as it would leave; `None`: it does not leave.
    pub packet: Option<LeavingPacket>,
    /// The slot of the table that was looked at.
    pub slot: Option<u32>,
    /// It was recognised as a reply.
    pub is_reply: bool,
    /// All of it in words.
    pub sentence: String,
}

/// The addresses of a packet after it was rewritten or wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingPacket {
    /// Where it says it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The header it travels in, if it is carried whole in another packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<OuterHeader>,
}

/// The header around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterHeader {
    /// This host's address.
    pub source: IpAddr,
    /// The backend's.
    pub destination: IpAddr,
}

/// Which flows: of `GET /v1/flows`, `/v1/flows/count` and `POST /v1/flows/flush`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// Only this service's (or pool's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Only those of this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// At most this many; of lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `GET /v1/flows`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowList {
    /// In no order.
    pub flows: Vec<Flow>,
    /// There are more than were asked for.
    pub truncated: bool,
}

/// One tracked flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// tcp or udp.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// What it sends to.
    pub destination: SocketAddr,
    /// The service.
    pub service: Name,
    /// Its pool.
    pub pool: Name,
    /// The backend that has it; `None`: it is gone, the next packet selects another.
    pub backend: Option<BackendAddress>,
    /// probation, established or closing.
    pub state: String,
    /// Seconds since its last packet.
    pub idle: f64,
}

/// `GET /v1/flows/count`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowCounts {
    /// All that match.
    pub count: u64,
    /// By service; `(removed)`: services that are gone, whose flows hold their places until their idle time is over.
    pub services: BTreeMap<String, u64>,
    /// By `pool/backend`.
    pub backends: BTreeMap<String, u64>,
    /// By state.
    pub states: BTreeMap<String, u64>,
}

/// `POST /v1/flows/flush`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsFlushed {
    /// Flows forgotten.
    pub flushed: u64,
}
