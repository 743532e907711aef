//! What a check asks, type by type.

use super::*;

fn health(health: &str) -> String {
    service("\"192.0.2.1:80/tcp\"", "\"10.0.0.1\"", &format!("health = {{ {health} }}"))
}

#[test]
fn a_rhythm_is_one() {
    each(&[
        (health("fast_interval = \"100ms\", jitter = \"0%\""), &[]),
        (
            health("fast_interval = \"3s\", jitter = \"60%\""),
            &[
                "f:4: pool \"s\" has a health fast_interval of 3s, longer than its interval of 2s: write a shorter one: it is the interval while a backend's health is changing",
                "f:4: pool \"s\" has a health jitter of 60%: write at most 50%: it shortens each interval by a random part, this share at most",
            ],
        ),
        (
            health("jitter = \"10\""),
            &[
                "f:8: \"10\" is no share in health of service \"s\": write it as \"50%\" or \"0.5%\", from 0% to 100%, with two decimals at most",
            ],
        ),
    ]);
}

#[test]
fn what_is_expected_of_a_body_can_be_there() {
    each(&[
        (health("type = \"http\", body = \"ok\""), &[]),
        (
            health("type = \"http\", body = \"\""),
            &[
                "f:4: pool \"s\" has an empty health body, which every answer contains: write a part of the answer, such as body = \"ok\", or remove it",
            ],
        ),
        (
            health("type = \"https\", body = \"ok\", method = \"HEAD\""),
            &[
                "f:4: pool \"s\" expects a health body of the method HEAD, whose answers have none: write method = \"GET\", or remove body",
            ],
        ),
    ]);
}

#[test]
fn trust_is_not_contradicted() {
    each(&[
        (health("type = \"https\", sni = \"a.example\", ca = \"/ca.pem\""), &[]),
        (health("type = \"grpc\", tls = true, insecure = true"), &[]),
        (
            health("type = \"https\", sni = \"a.example:443\""),
            &[
                "f:4: pool \"s\" has the health sni \"a.example:443\": write a host name, such as \"www.example.com\"",
            ],
        ),
        (
            health("type = \"https\", insecure = true, ca = \"/ca.pem\""),
            &[
                "f:4: pool \"s\" has a health ca that insecure = true makes useless: remove insecure, or the ca, which may come from [defaults.health]",
            ],
        ),
        (
            health("type = \"grpc\", insecure = true"),
            &[
                "f:4: pool \"s\" has sni, ca or insecure for a grpc check without TLS: add tls = true, or remove them",
            ],
        ),
    ]);
}

#[test]
fn a_datagram_has_something_in_it() {
    let long = "x".repeat(1233);
    each(&[
        (health("type = \"udp\", send = '\\x01ping', expect = 'pong\\n'"), &[]),
        (
            health("type = \"udp\""),
            &[
                "f:4: pool \"s\" has no health send for its udp check: write what the backend answers to, such as send = 'ping\\n'",
            ],
        ),
        (
            health("type = \"udp\", send = 'x', expect = ''"),
            &[
                "f:4: pool \"s\" has no health expect for its udp check: write a part of the answer, or remove expect: then any answer will do",
            ],
        ),
        (
            health(&format!("type = \"udp\", send = '{long}'")),
            &[
                "f:4: pool \"s\" has a health send of 1233 bytes: write at most 1,232 bytes: a longer datagram does not arrive everywhere",
            ],
        ),
    ]);
}

#[test]
fn a_question_names_a_name() {
    let no_name = |name: &str| {
        format!(
            "f:4: pool \"s\" has the health query {name:?}, which is no name that can be asked for: write a name that the backend answers for, such as query = \"example.com\""
        )
    };
    each(&[
        (health("type = \"dns\", query = \"_sip._tcp.a.example.\", record = \"SRV\""), &[]),
        (health("type = \"dns\", query = \".\", record = \"NS\""), &[]),
        (health("type = \"dns\""), &[&no_name("")]),
        (health("type = \"dns\", query = \"a..example\""), &[&no_name("a..example")]),
        (
            health("type = \"dns\", query = \"a.example\", answer = \"2001:db8::1\""),
            &[
                "f:4: pool \"s\" expects the health answer \"2001:db8::1\", which is no A record: write it as `dig +short` shows it, or remove it: then any record of the type will do",
            ],
        ),
    ]);
}

#[test]
fn a_program_has_a_path_and_no_privileges() {
    each(&[
        (health("type = \"exec\", command = [\"/bin/true\", \"-x\"]"), &[]),
        // It needs no port.
        (
            service(
                "\"192.0.2.1:any/tcp\"",
                "\"10.0.0.1\"",
                "health = { type = \"exec\", command = [\"/bin/true\"] }",
            ),
            &[],
        ),
        (service("\"192.0.2.1:any/tcp\"", "\"10.0.0.1\"", "health = { type = \"icmp\" }"), &[]),
        (
            health("type = \"exec\""),
            &[
                "f:4: pool \"s\" has no health command for its exec check: write command = [\"/usr/local/bin/check\"], the program and its arguments; it runs in no shell",
            ],
        ),
        (
            health("type = \"exec\", command = [\"true\"], user = \"root\""),
            &[
                "f:4: pool \"s\" has the health command \"true\", which is no absolute path: write command = [\"/usr/local/bin/check\"], the program and its arguments; it runs in no shell",
                "f:4: pool \"s\" runs its health command as the user \"root\": a check runs without privileges: write the name of an ordinary user, such as user = \"nobody\"",
            ],
        ),
    ]);
}

/// Whoever may speak to the socket may change pools; running programs is more than that.
#[test]
fn a_program_is_named_by_the_file_only() {
    let text = format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n{}",
        health("type = \"exec\", command = [\"/bin/true\"]")
    );
    let mut spec = config::parse(&text, "f").unwrap().spec;
    spec.pools[0].origin = crate::spec::Origin::Cli;
    let said: Vec<String> = validate(&spec).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("type exec that is not of the file"), "{said:?}");
}
