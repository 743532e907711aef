//! What a check asks, type by type.
//!
//! In: a [`HealthKind`]. Out: what is wrong with it, each with its remedy. Invariant: a request that passes is one HTTP request
//! and not two, a name is a name, a program has a path.

use crate::spec::{
    DnsCheck, ExecCheck, GrpcCheck, HealthKind, HttpCheck, RecordType, TlsCheck, UdpCheck, unescape,
};

/// Takes a fault (`has the health path "x"`) and what to write instead.
type Fault<'a> = dyn FnMut(String, &str) + 'a;

/// The longest datagram that arrives whole everywhere.
const MOST_SENT_LEN: usize = 1232;

pub(super) fn check(kind: &HealthKind, fault: &mut Fault<'_>) {
    match kind {
        HealthKind::Tcp | HealthKind::Icmp | HealthKind::None => {}
        HealthKind::Http(http) => request(http, fault),
        HealthKind::Https(https) => {
            request(&https.http, fault);
            trust(&https.tls, fault);
        }
        HealthKind::Grpc(grpc) => call(grpc, fault),
        HealthKind::Udp(udp) => datagram(udp, fault),
        HealthKind::Dns(dns) => question(dns, fault),
        HealthKind::Exec(exec) => program(exec, fault),
    }
}

fn visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What goes into the request line and the Host header must not end it early.
fn request(http: &HttpCheck, fault: &mut Fault<'_>) {
    if !http.path.starts_with('/') || !visible(&http.path) {
        fault(
            format!("has the health path {:?}", http.path),
            "begin it with \"/\" and percent-encode spaces and other special characters",
        );
    }
    if http.method.is_empty() || !http.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        fault(format!("has the health method {:?}", http.method), "write \"GET\" or \"HEAD\"");
    }
    host(http.host.as_deref(), fault);
    if let Some(status) = http.expect.iter().find(|status| !(100..600).contains(*status)) {
        fault(
            format!("expects the HTTP status {status}"),
            "a status is a number from 100 to 599, such as expect = [200, 204]",
        );
    }
    match http.body.as_deref() {
        Some("") => fault(
            "has an empty health body, which every answer contains".to_owned(),
            "write a part of the answer, such as body = \"ok\", or remove it",
        ),
        Some(_) if http.method == "HEAD" => fault(
            "expects a health body of the method HEAD, whose answers have none".to_owned(),
            "write method = \"GET\", or remove body",
        ),
        _ => {}
    }
}

fn host(host: Option<&str>, fault: &mut Fault<'_>) {
    if let Some(host) = host.filter(|host| host.is_empty() || !visible(host)) {
        fault(format!("has the health host {host:?}"), "write a host name, such as \"www.example.com\"");
    }
}

fn trust(tls: &TlsCheck, fault: &mut Fault<'_>) {
    let is_name = |name: &str| !name.is_empty() && visible(name) && !name.contains([':', '/']);
    if let Some(sni) = tls.sni.as_deref().filter(|sni| !is_name(sni)) {
        fault(format!("has the health sni {sni:?}"), "write a host name, such as \"www.example.com\"");
    }
    if tls.insecure && tls.ca.is_some() {
        fault(
            "has a health ca that insecure = true makes useless".to_owned(),
            "remove insecure, or the ca, which may come from [defaults.health]",
        );
    }
}

fn call(grpc: &GrpcCheck, fault: &mut Fault<'_>) {
    host(grpc.host.as_deref(), fault);
    trust(&grpc.trust, fault);
    if !grpc.tls && grpc.trust != TlsCheck::default() {
        fault(
            "has sni, ca or insecure for a grpc check without TLS".to_owned(),
            "add tls = true, or remove them",
        );
    }
}

fn datagram(udp: &UdpCheck, fault: &mut Fault<'_>) {
    for (key, text) in [("send", Some(&udp.send)), ("expect", udp.expect.as_ref())] {
        match text.map(|text| (text, unescape(text))) {
            None => {}
            Some((_, Err(error))) => {
                fault(format!("has a health {key} of which {}", error.message), &error.hint)
            }
            Some((_, Ok(bytes))) if bytes.len() > MOST_SENT_LEN => fault(
                format!("has a health {key} of {} bytes", bytes.len()),
                "write at most 1,232 bytes: a longer datagram does not arrive everywhere",
            ),
            Some((text, Ok(_))) if text.is_empty() => fault(
                format!("has no health {key} for its udp check"),
                match key {
                    "send" => "write what the backend answers to, such as send = 'ping\\n'",
                    _ => "write a part of the answer, or remove expect: then any answer will do",
                },
            ),
            Some(_) => {}
        }
    }
}

fn question(dns: &DnsCheck, fault: &mut Fault<'_>) {
    let label = |label: &str| (1..=63).contains(&label.len()) && visible(label);
    let name = dns.query.strip_suffix('.').unwrap_or(&dns.query);
    if dns.query != "." && (name.len() > 253 || !name.split('.').all(label)) {
        fault(
            format!("has the health query {:?}, which is no name that can be asked for", dns.query),
            "write a name that the backend answers for, such as query = \"example.com\"",
        );
    }
    let wrong = match (dns.record, dns.answer.as_deref()) {
        (_, Some("")) => true,
        (RecordType::A, Some(answer)) => answer.parse::<std::net::Ipv4Addr>().is_err(),
        (RecordType::Aaaa, Some(answer)) => answer.parse::<std::net::Ipv6Addr>().is_err(),
        _ => false,
    };
    if let Some(answer) = dns.answer.as_deref().filter(|_| wrong) {
        fault(
            format!("expects the health answer {answer:?}, which is no {} record", dns.record.as_str()),
            "write it as `dig +short` shows it, or remove it: then any record of the type will do",
        );
    }
}

fn program(exec: &ExecCheck, fault: &mut Fault<'_>) {
    match exec.command.first() {
        Some(program) if program.starts_with('/') => {}
        first => fault(
            match first {
                None => "has no health command for its exec check".to_owned(),
                Some(program) => format!("has the health command {program:?}, which is no absolute path"),
            },
            "write command = [\"/usr/local/bin/check\"], the program and its arguments; it runs in no shell",
        ),
    }
    if exec.command.iter().any(|word| word.contains('\0')) {
        fault(
            "has a health command with a zero byte in it".to_owned(),
            "no argument can have one; remove it",
        );
    }
    if exec.user.is_empty() || exec.user == "root" || exec.user.bytes().all(|byte| byte == b'0') {
        fault(
            format!("runs its health command as the user {:?}", exec.user),
            "a check runs without privileges: write the name of an ordinary user, such as user = \"nobody\"",
        );
    }
}
