//! A question to a DNS server and its answer.
//!
//! In: servers, a name, a type. Out: the records of the first server that answers. Invariants: an answer counts only if it comes from
//! the server that was asked, to the socket of this one question, with its number and its question (RFC 5452); what does not fit
//! into a datagram is asked for again over TCP; a server that says nothing is left alone after the time it was given.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::records::{self, Records};
use crate::spec::format_duration;

/// How often all servers are asked before the question has failed: one datagram that is lost is no fault.
const ROUNDS: usize = 2;
/// The longest datagram that is taken; without EDNS a server sends 512 bytes at most.
const DATAGRAM_LEN: usize = 4096;

/// The records that a name has of this kind.
pub(super) async fn ask(
    servers: &[SocketAddr],
    name: &str,
    kind: RecordType,
    patience: Duration,
) -> Result<Records, String> {
    let mut asked =
        Name::from_ascii(name).map_err(|error| format!("{name} is no name of the DNS ({error})"))?;
    asked.set_fqdn(true);
    let mut faults: Vec<String> = Vec::new();
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        let fault = match timeout(patience, question(*server, &asked, kind)).await {
            Ok(Ok(message)) => match records::of(&message, &asked, kind) {
                Ok(records) => return Ok(records),
                Err(code) => format!("{server} answers {code} for {name} {kind}"),
            },
            Ok(Err(fault)) => format!("{server} cannot be asked for {name} {kind}: {fault}"),
            Err(_elapsed) => {
                format!("{server} does not answer for {name} {kind} within {}", format_duration(patience))
            }
        };
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    Err(faults.join("; "))
}

/// One question to one server, over TCP if its answer does not fit into a datagram.
async fn question(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, String> {
    let [high, low, ..] = RandomState::new().hash_one(0).to_be_bytes();
    let mut message = Message::new(u16::from_be_bytes([high, low]), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let bytes = message.to_vec().map_err(|error| error.to_string())?;
    let answer = over_udp(server, &message, &bytes).await.map_err(|error| error.to_string())?;
    match answer.metadata.truncation {
        false => Ok(answer),
        true => over_tcp(server, &message, &bytes).await,
    }
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; DATAGRAM_LEN];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What is no answer to this question is a mistake or a lie; the answer may still come.
        let answer = Message::from_vec(buffer.get(..len).unwrap_or_default());
        if let Some(answer) = answer.ok().filter(|answer| answers(answer, question)) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
        stream.write_all(bytes).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let bytes: Vec<u8> = exchange.await.map_err(|error: io::Error| format!("over TCP: {error}"))?;
    let answer = Message::from_vec(&bytes).map_err(|error| format!("over TCP it answers no DNS: {error}"))?;
    match answers(&answer, question) {
        true => Ok(answer),
        false => Err("over TCP it answers another question".to_owned()),
    }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}
