//! udp, dns and icmp: what comes back by itself.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

use super::*;
use crate::spec::{DnsCheck, RecordType, UdpCheck};

fn udp(timeout: Duration, send: &str, expect: Option<&str>) -> HealthSpec {
    let check = UdpCheck { send: send.to_owned(), expect: expect.map(str::to_owned) };
    HealthSpec { kind: HealthKind::Udp(check), timeout, ..HealthSpec::default() }
}

fn dns(record: RecordType, answer: Option<&str>) -> HealthSpec {
    let check = DnsCheck { query: "a.example".to_owned(), record, answer: answer.map(str::to_owned) };
    HealthSpec { kind: HealthKind::Dns(check), timeout: GENEROUS, ..HealthSpec::default() }
}

/// A server that answers each datagram by those that `answer` makes of it.
async fn datagrams(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
            for answer in answer(&buffer[..len]) {
                socket.send_to(&answer, peer).await.unwrap();
            }
        }
    });
    address
}

/// A DNS server whose answers `change` completes.
async fn dns_server(change: impl Fn(&mut Message) + Send + 'static) -> SocketAddr {
    datagrams(move |query| vec![answer_to(query, &change).to_vec().unwrap()]).await
}

fn answer_to(query: &[u8], change: &dyn Fn(&mut Message)) -> Message {
    let mut message = Message::from_vec(query).unwrap();
    message.metadata.message_type = MessageType::Response;
    change(&mut message);
    message
}

fn record(data: RData) -> Record {
    Record::from_rdata(Name::from_ascii("a.example.").unwrap(), 60, data)
}

fn address_record(last: u8) -> Record {
    record(RData::A(A::new(192, 0, 2, last)))
}

#[tokio::test]
async fn a_datagram_is_sent_and_its_answer_judged() {
    let echo = datagrams(|bytes| vec![[b"got ", bytes].concat()]).await;
    let well = ask(echo, &udp(GENEROUS, r"\x00ping\xff", None), "").await;
    assert_finding(&well, ProbeResult::Success, "answered");
    let well = ask(echo, &udp(GENEROUS, r"\x00ping\xff", Some(r"got \0ping\xff")), "").await;
    assert_finding(&well, ProbeResult::Success, "answered");
    let other = ask(echo, &udp(GENEROUS, "ping", Some("pong")), "").await;
    assert_finding(&other, ProbeResult::Answer, "answered, but without \"pong\"");
}

#[tokio::test]
async fn a_port_without_a_server_refuses_and_a_mute_one_is_waited_for() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let report = ask(address, &udp(SHORT, "ping", None), "").await;
    assert_finding(&report, ProbeResult::Timeout, "no answer within 300ms");
    drop(socket);
    let report = ask(address, &udp(GENEROUS, "ping", None), "").await;
    assert_finding(&report, ProbeResult::Refused, "port unreachable");
}

#[tokio::test]
async fn a_name_is_answered_for() {
    let address = dns_server(|message| {
        message.add_answers([address_record(1), address_record(2)]);
    })
    .await;
    assert_finding(
        &ask(address, &dns(RecordType::A, None), "").await,
        ProbeResult::Success,
        "NOERROR, A record",
    );
    let second = ask(address, &dns(RecordType::A, Some("192.0.2.2")), "").await;
    assert_finding(&second, ProbeResult::Success, "NOERROR, A 192.0.2.2");
    let third = ask(address, &dns(RecordType::A, Some("192.0.2.3")), "").await;
    assert_finding(&third, ProbeResult::Answer, "no A record 192.0.2.3");
    let none = ask(address, &dns(RecordType::Aaaa, None), "").await;
    assert_finding(&none, ProbeResult::Answer, "no AAAA record");
    let text = dns_server(|message| {
        message.add_answer(record(RData::TXT(TXT::new(vec!["All is Well".into()]))));
    })
    .await;
    let quoted = ask(text, &dns(RecordType::Txt, Some("\"all is well\"")), "").await;
    assert_finding(&quoted, ProbeResult::Success, "TXT");
}

#[tokio::test]
async fn a_status_is_said_as_dig_does() {
    for (code, text) in [
        (ResponseCode::NXDomain, "NXDOMAIN"),
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::Refused, "REFUSED"),
    ] {
        let address = dns_server(move |message| message.metadata.response_code = code).await;
        let report = ask(address, &dns(RecordType::A, None), "").await;
        assert_finding(&report, ProbeResult::Status, &format!("{text}, expected NOERROR"));
    }
    let garbage = datagrams(|_| vec![b"no dns".to_vec()]).await;
    assert_finding(&ask(garbage, &dns(RecordType::A, None), "").await, ProbeResult::Protocol, "not DNS");
}

#[tokio::test]
async fn only_an_answer_to_the_own_question_counts() {
    let address = datagrams(|query| {
        let lie = answer_to(query, &|message| {
            message.metadata.id ^= 1;
            message.metadata.response_code = ResponseCode::NXDomain;
        });
        let echo = query.to_vec();
        let truth = answer_to(query, &|message| {
            message.add_answer(address_record(1));
        });
        vec![lie.to_vec().unwrap(), echo, truth.to_vec().unwrap()]
    })
    .await;
    assert_finding(&ask(address, &dns(RecordType::A, None), "").await, ProbeResult::Success, "NOERROR");
}

#[tokio::test]
async fn what_was_cut_short_is_asked_for_over_tcp() {
    let address = dns_server(|message| message.metadata.truncation = true).await;
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut query).await.unwrap();
        let answer = answer_to(&query, &|message| {
            message.add_answer(address_record(7));
        });
        let bytes = answer.to_vec().unwrap();
        stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    let report = ask(address, &dns(RecordType::A, Some("192.0.2.7")), "").await;
    assert_finding(&report, ProbeResult::Success, "NOERROR, A 192.0.2.7");
}

#[tokio::test]
async fn an_echo_request_is_answered() {
    let spec = HealthSpec { kind: HealthKind::Icmp, timeout: GENEROUS, ..HealthSpec::default() };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let report = ask(address.parse().unwrap(), &spec, "").await;
        if report.result == ProbeResult::Local {
            assert!(report.detail.contains("CAP_NET_RAW") && !nix::unistd::geteuid().is_root(), "{report:?}");
            continue;
        }
        assert_finding(&report, ProbeResult::Success, "answered");
    }
}
