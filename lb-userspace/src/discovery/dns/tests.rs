use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, ip: [u8; 4]) -> Record {
    record(owner, ttl, RData::A(A(ip.into())))
}

fn aaaa(owner: &str, ttl: u32, ip: &str) -> Record {
    record(owner, ttl, RData::AAAA(AAAA(ip.parse().unwrap())))
}

fn srv(owner: &str, ttl: u32, priority: u16, weight: u16, port: u16, target: &str) -> Record {
    record(owner, ttl, RData::SRV(SRV::new(priority, weight, port, name(target))))
}

/// What a server says of a name and a type.
#[derive(Clone)]
struct Says {
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    /// Over UDP nothing but that there is more.
    is_long: bool,
    /// Nothing.
    is_silent: bool,
}

impl Says {
    fn records(answers: Vec<Record>) -> Self {
        let code = ResponseCode::NoError;
        Self { code, answers, authorities: Vec::new(), is_long: false, is_silent: false }
    }

    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::records(Vec::new()) }
    }
}

/// A DNS server on this host.
#[derive(Clone)]
struct Server {
    says: Arc<Mutex<HashMap<(String, RecordType), Says>>>,
    address: SocketAddr,
    over_tcp: Arc<Mutex<usize>>,
    /// Questions that came by datagram.
    asked: Arc<Mutex<usize>>,
}

impl Server {
    async fn start() -> Self {
        // The port of the one has to be free for the other too.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let server = Self {
            says: Arc::default(),
            address: udp.local_addr().unwrap(),
            over_tcp: Arc::default(),
            asked: Arc::default(),
        };
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        server
    }

    fn say(&self, owner: &str, kind: RecordType, says: Says) {
        self.says.lock().unwrap().insert((owner.to_owned(), kind), says);
    }

    fn answer(&self, bytes: &[u8], is_udp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(bytes).unwrap();
        assert!(question.metadata.recursion_desired);
        let query = &question.queries[0];
        let owner = query.name().to_ascii().trim_end_matches('.').to_owned();
        let says = self.says.lock().unwrap().get(&(owner, query.query_type())).cloned();
        let says = says.unwrap_or_else(|| Says::code(ResponseCode::NXDomain));
        if says.is_silent {
            return None;
        }
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.response_code = says.code;
        answer.add_query(query.clone());
        if says.is_long && is_udp {
            answer.metadata.truncation = true;
        } else {
            answer.add_answers(says.answers);
            answer.add_authorities(says.authorities);
        }
        Some(answer.to_vec().unwrap())
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let question = &buffer[..len];
            *self.asked.lock().unwrap() += 1;
            // First a lie: another number, and then another question.
            let mut lie = self.answer(question, true).unwrap_or_else(|| vec![0; 12]);
            lie[0] ^= 0xff;
            socket.send_to(&lie, from).await.unwrap();
            socket.send_to(b"garbage", from).await.unwrap();
            if let Some(answer) = self.answer(question, true) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (mut stream, _) = listener.accept().await?;
            *self.over_tcp.lock().unwrap() += 1;
            let mut question = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut question).await?;
            let answer = self.answer(&question, false).unwrap();
            stream.write_u16(answer.len().try_into().unwrap()).await?;
            stream.write_all(&answer).await?;
        }
    }

    async fn ask(&self, owner: &str, record: DnsRecords) -> Result<(Vec<String>, u64, Vec<String>), String> {
        let timeout = Duration::from_millis(300);
        let source = DnsSource { record, server: Some(self.address), timeout, ..DnsSource::new(owner) };
        let answer = Dns::new(&source, 1_000).ask().await?;
        let backends = answer.found.backends.iter().map(|(address, weight)| format!("{address}={weight}"));
        Ok((backends.collect(), answer.stands.as_secs(), answer.found.left_out))
    }
}

#[tokio::test]
async fn addresses_of_both_families_stand_for_the_shortest_ttl() {
    let server = Server::start().await;
    server.say(
        "web",
        RecordType::A,
        Says::records(vec![a("web", 30, [10, 0, 0, 1]), a("WEB", 20, [10, 0, 0, 2])]),
    );
    let stranger = aaaa("other", 1, "2001:db8::9");
    server.say("web", RecordType::AAAA, Says::records(vec![aaaa("web", 10, "2001:db8::1"), stranger]));
    let both = ["10.0.0.1=1", "10.0.0.2=1", "2001:db8::1=1"].map(str::to_owned).to_vec();
    assert_eq!(server.ask("web", DnsRecords::Both).await, Ok((both.clone(), 10, vec![])));
    assert_eq!(server.ask("web", DnsRecords::A).await, Ok((both[..2].to_vec(), 20, vec![])));
    assert_eq!(server.ask("web", DnsRecords::Aaaa).await, Ok((both[2..].to_vec(), 10, vec![])));
    let ported = DnsSource { port: Some(81), server: Some(server.address), ..DnsSource::new("web") };
    let answer = Dns::new(&ported, 1_000).ask().await.unwrap();
    assert!(answer.found.backends.contains_key(&"10.0.0.1:81".parse().unwrap()));
}

#[tokio::test]
async fn a_family_that_there_is_none_of_is_an_answer_and_one_that_fails_is_none() {
    let server = Server::start().await;
    server.say("web", RecordType::A, Says::records(vec![a("web", 30, [10, 0, 0, 1])]));
    server.say("web", RecordType::AAAA, Says::records(vec![]));
    assert_eq!(server.ask("web", DnsRecords::Both).await, Ok((vec!["10.0.0.1=1".to_owned()], 30, vec![])));
    server.say("web", RecordType::AAAA, Says::code(ResponseCode::ServFail));
    let error = server.ask("web", DnsRecords::Both).await.unwrap_err();
    assert_eq!(error, format!("{} answers SERVFAIL for web AAAA", server.address));
    server.say("web", RecordType::AAAA, Says { is_silent: true, ..Says::records(vec![]) });
    let error = server.ask("web", DnsRecords::Both).await.unwrap_err();
    assert_eq!(error, format!("{} does not answer for web AAAA within 300ms", server.address));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_answer_without_backends() {
    let server = Server::start().await;
    let soa = SOA::new(name("ns"), name("root"), 1, 2, 3, 4, 7);
    let authorities = vec![record("example", 60, RData::SOA(soa))];
    server.say("web", RecordType::A, Says { authorities, ..Says::code(ResponseCode::NXDomain) });
    assert_eq!(server.ask("web", DnsRecords::A).await, Ok((vec![], 7, vec![])));
    assert_eq!(server.ask("gone", DnsRecords::Both).await, Ok((vec![], 0, vec![])));
}

#[tokio::test]
async fn aliases_are_followed_and_circles_end() {
    let server = Server::start().await;
    let alias = |owner: &str, ttl, to: &str| record(owner, ttl, RData::CNAME(CNAME(name(to))));
    let chain = vec![a("c", 50, [10, 0, 0, 1]), alias("b", 5, "c"), alias("web", 40, "b")];
    server.say("web", RecordType::A, Says::records(chain));
    assert_eq!(server.ask("web", DnsRecords::A).await, Ok((vec!["10.0.0.1=1".to_owned()], 5, vec![])));
    server.say("web", RecordType::A, Says::records(vec![alias("web", 9, "b"), alias("b", 9, "web")]));
    assert!(server.ask("web", DnsRecords::A).await.unwrap_err().contains("aliases in a row"));
}

#[tokio::test]
async fn srv_records_of_the_lowest_priority_have_ports_and_weights() {
    let server = Server::start().await;
    let targets = vec![
        srv("_http._tcp.web", 30, 10, 60, 8080, "one"),
        srv("_http._tcp.web", 30, 10, 0, 8081, "two"),
        srv("_http._tcp.web", 30, 10, 5, 8080, "nowhere"),
        srv("_http._tcp.web", 30, 10, 7, 8080, "also-one"),
        srv("_http._tcp.web", 30, 20, 1, 80, "spare"),
    ];
    server.say("_http._tcp.web", RecordType::SRV, Says::records(targets));
    server.say("one", RecordType::A, Says::records(vec![a("one", 12, [10, 0, 0, 1])]));
    server.say("one", RecordType::AAAA, Says::records(vec![aaaa("one", 15, "2001:db8::1")]));
    server.say("two", RecordType::A, Says::records(vec![a("two", 99, [10, 0, 0, 2])]));
    server.say("also-one", RecordType::A, Says::records(vec![a("also-one", 99, [10, 0, 0, 1])]));
    server.say("spare", RecordType::A, Says::records(vec![a("spare", 1, [10, 0, 0, 3])]));
    let (backends, ttl, left_out) = server.ask("_http._tcp.web", DnsRecords::Srv).await.unwrap();
    assert_eq!(backends, ["10.0.0.1:8080=67", "10.0.0.2:8081=1", "[2001:db8::1]:8080=60"]);
    assert_eq!(left_out, ["nowhere. has no address"]);
    // That of the absence of a target, of which the server says nothing.
    assert_eq!(ttl, 0);
    // A target that cannot be asked for is no target that is gone.
    server.say("two", RecordType::A, Says::code(ResponseCode::ServFail));
    assert!(server.ask("_http._tcp.web", DnsRecords::Srv).await.unwrap_err().contains("SERVFAIL for two. A"));
    server.say(
        "_http._tcp.web",
        RecordType::SRV,
        Says::records(vec![srv("_http._tcp.web", 5, 0, 0, 0, ".")]),
    );
    assert_eq!(server.ask("_http._tcp.web", DnsRecords::Srv).await, Ok((vec![], 5, vec![])));
}

#[tokio::test]
async fn no_more_targets_are_asked_for_than_may_be_named_and_none_twice() {
    let server = Server::start().await;
    let targets =
        |count: u16| (0..count).map(|n| srv("_s._tcp.web", 30, 0, 1, 8_000 + n, "one")).collect::<Vec<_>>();
    server.say("one", RecordType::A, Says::records(vec![a("one", 12, [10, 0, 0, 1])]));
    server.say("one", RecordType::AAAA, Says::records(vec![aaaa("one", 12, "2001:db8::1")]));
    server.say("_s._tcp.web", RecordType::SRV, Says { is_long: true, ..Says::records(targets(100)) });
    let (backends, ..) = server.ask("_s._tcp.web", DnsRecords::Srv).await.unwrap();
    assert_eq!(
        (backends.len(), *server.asked.lock().unwrap()),
        (200, 3),
        "the name itself, and two families"
    );
    server.say("_s._tcp.web", RecordType::SRV, Says { is_long: true, ..Says::records(targets(1_001)) });
    let error = server.ask("_s._tcp.web", DnsRecords::Srv).await.unwrap_err();
    assert!(error.contains("1001 targets, more than max_backends = 1000"), "{error}");
    assert_eq!(*server.asked.lock().unwrap(), 4);
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let server = Server::start().await;
    let many: Vec<Record> = (0..=255).map(|n| a("web", 30, [10, 0, 1, n])).collect();
    server.say("web", RecordType::A, Says { is_long: true, ..Says::records(many) });
    let (backends, ..) = server.ask("web", DnsRecords::A).await.unwrap();
    assert_eq!((backends.len(), *server.over_tcp.lock().unwrap()), (256, 1));
}

#[tokio::test]
async fn another_server_is_asked_when_one_fails() {
    let (good, bad) = (Server::start().await, Server::start().await);
    good.say("web", RecordType::A, Says::records(vec![a("web", 30, [10, 0, 0, 1])]));
    bad.say("web", RecordType::A, Says::code(ResponseCode::Refused));
    let timeout = Duration::from_millis(300);
    let servers = [bad.address, good.address];
    let asker = Asker { servers: &servers, timeout };
    assert_eq!(asker.addresses("web", DnsRecords::A).await.unwrap().1, 30);
    let asker = Asker { servers: &servers[..1], timeout };
    let error = asker.addresses("web", DnsRecords::A).await.unwrap_err();
    assert_eq!(error, format!("{} answers REFUSED for web A", bad.address), "said once, though asked twice");
    // Nobody is there at all.
    let gone = [bad.address, "127.0.0.1:1".parse().unwrap()];
    let error = Asker { servers: &gone, timeout }.addresses("web", DnsRecords::A).await.unwrap_err();
    assert!(error.contains("REFUSED") && error.contains("127.0.0.1:1 cannot be asked"), "{error}");
}

proptest! {
    #[test]
    fn garbage_is_no_panic_and_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::from_vec(&bytes) {
            let _ = records::of(&message, &name("web"), RecordType::A);
        }
    }

    #[test]
    fn no_weight_is_none(weights in prop::collection::vec(any::<u16>(), 1..5)) {
        let mut backends = Backends::new();
        let address = "10.0.0.1:80".parse().unwrap();
        weights.iter().for_each(|weight| add(&mut backends, address, *weight));
        let sum: u32 = weights.iter().map(|weight| u32::from(*weight).max(1)).sum();
        prop_assert_eq!(u32::from(backends[&address]), sum.min(65_535));
    }
}
