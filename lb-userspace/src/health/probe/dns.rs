//! The dns check: does a server answer for a name?
//!
//! In: a peer, a [`DnsCheck`] and a deadline. Out: the finding. Invariants: only an answer to this probe's question counts
//! (number, name and type); what does not fit into a datagram is asked for again over TCP, and of that at most 64 KiB read.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{self, Name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;

use super::peer::Peer;
use super::{Deadline, Finding, ProbeResult, finding_of, tcp, udp};
use crate::spec::{DnsCheck, RecordType, format_duration};

/// The longest answer over UDP without EDNS, which is not asked for.
const DATAGRAM_LIMIT_LEN: usize = 4096;

/// The whole check.
///
/// # Errors
/// A finding other than an answer.
pub(super) async fn ask(peer: Peer, check: &DnsCheck, deadline: Deadline) -> Result<Finding, Finding> {
    let (question, bytes) = question(check).map_err(|error| {
        (ProbeResult::Local, Cow::Owned(format!("the check makes no DNS query: {error}")))
    })?;
    let mut answer = over_udp(peer, &question, &bytes, deadline).await?;
    if answer.metadata.truncation {
        answer = over_tcp(peer, &question, &bytes, deadline).await?;
    }
    Ok(judge(&answer, check))
}

/// The query of a probe, and as it is sent.
fn question(check: &DnsCheck) -> Result<(Message, Vec<u8>), hickory_proto::ProtoError> {
    let mut name = Name::from_ascii(&check.query)?;
    name.set_fqdn(true);
    let random = RandomState::new().hash_one(0).to_be_bytes();
    let mut message =
        Message::new(u16::from_be_bytes([random[0], random[1]]), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record_type(check.record)));
    let bytes = message.to_vec()?;
    Ok((message, bytes))
}

async fn over_udp(
    peer: Peer,
    question: &Message,
    bytes: &[u8],
    deadline: Deadline,
) -> Result<Message, Finding> {
    let socket = udp::send(peer, bytes).await?;
    let mut buffer = vec![0; DATAGRAM_LIMIT_LEN];
    loop {
        let len = udp::receive(&socket, &mut buffer, deadline).await?;
        let answer = decode(buffer.get(..len).unwrap_or_default())?;
        // The answer to another question is somebody's attempt to lie to us, or a mistake: the real one may still come.
        if answers(&answer, question) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(
    peer: Peer,
    question: &Message,
    bytes: &[u8],
    deadline: Deadline,
) -> Result<Message, Finding> {
    let mut stream = tcp::connect(peer, deadline).await?;
    let exchange = async {
        stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
        stream.write_all(bytes).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer: Vec<u8> = match timeout_at(deadline.at, exchange).await {
        Ok(answer) => answer.map_err(|error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                (ProbeResult::Reset, Cow::Borrowed("connection closed before the DNS answer was whole"))
            }
            _ => finding_of(&error),
        })?,
        Err(_elapsed) => {
            let text = format!("connected, but no DNS answer within {}", format_duration(deadline.timeout));
            return Err((ProbeResult::Timeout, Cow::Owned(text)));
        }
    };
    let answer = decode(&answer)?;
    match answers(&answer, question) {
        true => Ok(answer),
        false => Err((ProbeResult::Protocol, Cow::Borrowed("the answer is to another DNS query"))),
    }
}

fn decode(bytes: &[u8]) -> Result<Message, Finding> {
    Message::from_vec(bytes)
        .map_err(|error| (ProbeResult::Protocol, Cow::Owned(format!("the answer is not DNS: {error}"))))
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}

/// Whether this answer counts as healthy.
fn judge(answer: &Message, check: &DnsCheck) -> Finding {
    let code = answer.metadata.response_code;
    let record = check.record.as_str();
    if code != ResponseCode::NoError {
        return (ProbeResult::Status, Cow::Owned(format!("{}, expected NOERROR", mnemonic(code))));
    }
    let wanted = record_type(check.record);
    let mut data = answer
        .answers
        .iter()
        .filter(|answer| answer.record_type() == wanted)
        .map(|answer| &answer.data)
        .peekable();
    let Some(expected) = &check.answer else {
        return match data.peek() {
            Some(_) => (ProbeResult::Success, Cow::Owned(format!("NOERROR, {record} record"))),
            None => (ProbeResult::Answer, Cow::Owned(format!("NOERROR, but no {record} record"))),
        };
    };
    match data.any(|data| same(&data.to_string(), expected)) {
        true => (ProbeResult::Success, Cow::Owned(format!("NOERROR, {record} {expected}"))),
        false => (ProbeResult::Answer, Cow::Owned(format!("NOERROR, but no {record} record {expected}"))),
    }
}

/// Whether two records are the same as people write them: names in any case, with or without their last dot; texts with or without
/// quotes.
fn same(found: &str, expected: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches('.').trim_matches('"').to_ascii_lowercase();
    match (found.parse::<std::net::IpAddr>(), expected.parse::<std::net::IpAddr>()) {
        (Ok(found), Ok(expected)) => found == expected,
        _ => plain(found) == plain(expected),
    }
}

/// As `dig` shows it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("DNS status {}", u16::from(other)),
    }
}

const fn record_type(record: RecordType) -> rr::RecordType {
    match record {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Mx => rr::RecordType::MX,
        RecordType::Ns => rr::RecordType::NS,
        RecordType::Ptr => rr::RecordType::PTR,
        RecordType::Soa => rr::RecordType::SOA,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::Txt => rr::RecordType::TXT,
    }
}
