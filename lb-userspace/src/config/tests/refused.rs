//! What is refused, word for word: this is what people meet first.

use super::*;

/// Texts after [`HEAD`] (two lines, so the first line here is line 3), and everything that is said about them.
fn each(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(said(&format!("{HEAD}{text}")), *expected, "in\n{text}");
        assert!(parse(&format!("{HEAD}{text}"), "lbd.toml").is_err(), "{text}");
    }
}

/// Texts that are whole files.
fn each_whole(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(said(text), *expected, "in\n{text}");
        assert!(parse(text, "lbd.toml").is_err(), "{text}");
    }
}

#[test]
fn unknown_keys_name_the_nearest_one() {
    each(&[
        (
            "[defaults.health]\ntype = \"tcp\"\nintervall = \"2s\"\n",
            &[r#"lbd.toml:5: unknown key "intervall" in [defaults.health]: did you mean "interval"?"#],
        ),
        (
            "[defaults]\nforward = \"dsr\"\nhealth = { typ = \"tcp\" }\n",
            &[r#"lbd.toml:5: unknown key "typ" in [defaults.health]: did you mean "type"?"#],
        ),
        ("[deamon]\n", &[r#"lbd.toml:3: unknown key "deamon": did you mean "daemon"?"#]),
        (
            "[daemon]\nflows = 1\n",
            &[r#"lbd.toml:4: unknown key "flows" in [daemon]: it belongs in [datapath]"#],
        ),
        (
            "[datapath.timeouts]\nicmp = \"1s\"\n",
            &[
                r#"lbd.toml:4: unknown key "icmp" in [datapath.timeouts]: known here are tcp, tcp_syn, tcp_closing, udp"#,
            ],
        ),
        (
            "[[pool]]\nname = \"web\"\nbackend = [\"10.0.0.1\"]\n",
            &[r#"lbd.toml:5: unknown key "backend" in pool "web": did you mean "backends"?"#],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [{ address = \"10.0.0.1\", wieght = 5 }]\n",
            &[
                r#"lbd.toml:6: unknown key "wieght" in backend "10.0.0.1" of service "web": did you mean "weight"?"#,
            ],
        ),
    ]);
}

#[test]
fn wrong_types_show_how_it_is_written() {
    each(&[
        (
            "[daemon]\nsocket = 5\n",
            &[
                r#"lbd.toml:4: socket in [daemon] is an integer, not a string: write socket = "/run/lbd/lbd.sock""#,
            ],
        ),
        (
            "[daemon]\nmetrics = true\n",
            &[
                r#"lbd.toml:4: metrics in [daemon] is true or false, not a string: write metrics = "127.0.0.1:9472""#,
            ],
        ),
        (
            "[defaults]\nshadow_local = \"yes\"\n",
            &[
                r#"lbd.toml:4: shadow_local in [defaults] is a string, not true or false: write shadow_local = false"#,
            ],
        ),
        (
            "[defaults]\nhealth = \"tcp\"\n",
            &[
                r#"lbd.toml:4: health in [defaults] is a string, not a table: write health = { type = "tcp" }"#,
            ],
        ),
        (
            "[defaults.health]\nrise = \"2\"\n",
            &[r#"lbd.toml:4: rise in [defaults.health] is a string, not a whole number: write rise = 2"#],
        ),
        (
            "[defaults.health]\ninterval = 2\n",
            &[
                r#"lbd.toml:4: interval in [defaults.health] is an integer, not a string: write interval = "2s""#,
            ],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = \"192.0.2.1:80/tcp\"\nbackends = [\"10.0.0.1\"]\n",
            &[
                r#"lbd.toml:5: listen in service "web" is a string, not an array: write listen = ["203.0.113.10:443/tcp"]"#,
            ],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\", 5]\nbackends = [\"10.0.0.1\"]\n",
            &[
                r#"lbd.toml:5: an element of listen in service "web" is an integer, not a string: write listen = ["203.0.113.10:443/tcp"]"#,
            ],
        ),
        (
            "[pool]\nname = \"web\"\n",
            &[
                "lbd.toml:3: pool is not a list of tables: write [[pool]], with double brackets, once for each pool",
            ],
        ),
    ]);
}

#[test]
fn values_out_of_range_say_the_range() {
    each(&[
        (
            "[defaults.health]\ninterval = \"2\"\n",
            &[
                r#"lbd.toml:4: duration "2" has no unit in [defaults.health]: write it as "500ms", "2s", "1m30s" or "1h""#,
            ],
        ),
        (
            "[defaults.health]\ntimeout = \"0s\"\n",
            &[r#"lbd.toml:4: timeout = "0s" is out of range in [defaults.health]: write 10ms to 1h"#],
        ),
        (
            "[defaults.health]\nfall = 0\n",
            &["lbd.toml:4: fall = 0 is out of range in [defaults.health]: write a number from 1 to 1000"],
        ),
        (
            "[defaults]\nmaglev = 1000\n",
            &[
                "lbd.toml:4: maglev = 1000 is no size of a table in [defaults]: write 1021, 4093, 16381 or 65537, or leave it out: lbd then chooses by the number of backends",
            ],
        ),
        (
            "[datapath.timeouts]\nudp = \"12h\"\n",
            &[r#"lbd.toml:4: udp = "12h" is out of range in [datapath.timeouts]: write 1s to 6h"#],
        ),
        (
            "[defaults]\nforward = \"gue\"\n",
            &[
                r#"lbd.toml:4: forward = "gue" is not yet available in [defaults]: use "ipip", which needs the same of the backends"#,
            ],
        ),
        (
            "[daemon]\non_exit = \"stay\"\n",
            &[r#"lbd.toml:4: on_exit = "stay" is unknown in [daemon]: write "keep" or "detach""#],
        ),
        (
            "[daemon]\nsocket = \"lbd.sock\"\n",
            &[r#"lbd.toml:4: socket = "lbd.sock" is no absolute path in [daemon]: begin it with "/""#],
        ),
        (
            "[daemon]\nsocket = \"/run/lbd/\"\n",
            &[r#"lbd.toml:4: socket = "/run/lbd/" names a directory in [daemon]: write "/run/lbd/lbd.sock""#],
        ),
        (
            "[daemon]\nmetrics = \"9472\"\n",
            &[
                r#"lbd.toml:4: metrics = "9472" is no address with a port in [daemon]: write "127.0.0.1:9472", or "" for no metrics"#,
            ],
        ),
        (
            "[defaults.health]\npath = \"/healthz\"\n",
            &[
                r#"lbd.toml:4: path means nothing for type = "tcp" in [defaults.health]: add type = "http" or "https", or remove it"#,
            ],
        ),
        (
            "[defaults.health]\ntype = \"icmp\"\nport = 7\nsend = 'x'\n",
            &[
                r#"lbd.toml:5: port means nothing for type = "icmp" in [defaults.health]: remove it"#,
                r#"lbd.toml:6: send means nothing for type = "icmp" in [defaults.health]: add type = "udp", or remove it"#,
            ],
        ),
        (
            "[defaults.health]\ntype = \"ping\"\n",
            &[
                r#"lbd.toml:4: type = "ping" is unknown in [defaults.health]: write "tcp", "http", "https", "grpc", "icmp", "udp", "dns", "exec" or "none""#,
            ],
        ),
        (
            "[defaults.health]\ntype = \"udp\"\nsend = '\\q'\nexpect = [200]\n",
            &[
                r#"lbd.toml:5: "\\q" has a backslash that begins no escape in [defaults.health]: write \xNN (two hexadecimal digits), \n, \r, \t, \0 or \\, in single quotes, such as '\x01ping\n'"#,
                r#"lbd.toml:6: expect is an array, not a string in [defaults.health]: write expect = 'pong'"#,
            ],
        ),
        (
            "[defaults.health]\ntype = \"https\"\nca = \"ca.pem\"\ninsecure = 1\n",
            &[
                r#"lbd.toml:5: ca = "ca.pem" is no absolute path in [defaults.health]: begin it with "/""#,
                r#"lbd.toml:6: insecure in [defaults.health] is an integer, not true or false: write insecure = true"#,
            ],
        ),
        (
            "[defaults.health]\ntype = \"dns\"\nquery = \"a.example\"\nrecord = \"a\"\n",
            &[
                r#"lbd.toml:6: record = "a" is no type of record that can be checked in [defaults.health]: write one of A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT"#,
            ],
        ),
        (
            "[[pool]]\nname = \"web\"\nbackends = [\n  { address = \"10.0.0.1\", weight = 65536 },\n  { address = \"10.0.0.2\", weight = -1 },\n]\n",
            &[
                r#"lbd.toml:6: weight = 65536 is out of range in backend "10.0.0.1" of pool "web": write a number from 0 to 65535"#,
                r#"lbd.toml:7: weight = -1 is out of range in backend "10.0.0.2" of pool "web": write a number from 0 to 65535"#,
            ],
        ),
    ]);
    each_whole(&[
        (
            "[datapath]\ninterfaces = [\"eth0\"]\nflows = 99999999999999999999999999\n",
            &[
                "lbd.toml:3: flows = 99999999999999999999999999 is out of range in [datapath]: write a number from 1024 to 67108864",
            ],
        ),
        (
            "[datapath]\ninterfaces = []\n",
            &[
                r#"lbd.toml:2: no interface is named in [datapath]: write interfaces = ["eth0"], those that clients and backends are reached by"#,
            ],
        ),
        (
            "[datapath]\ninterfaces = [\"eth0\", \"eth0\"]\n",
            &[r#"lbd.toml:2: the interface "eth0" is named twice in [datapath]: name it once"#],
        ),
        (
            "[datapath]\ninterfaces = [\"an-interface-name\"]\n",
            &[
                r#"lbd.toml:2: "an-interface-name" is no name of an interface in [datapath]: write it as `ip link` shows it"#,
            ],
        ),
        (
            "[datapath]\ninterfaces = [\"eth0\"]\nsnat = [\"10.0.0.0/24\", \"::\"]\n",
            &[
                r#"lbd.toml:3: snat in [datapath] names "10.0.0.0/24", which is no IP address: write 192.0.2.10 or 2001:db8::10"#,
                "lbd.toml:3: snat in [datapath] names ::, which cannot be a source: it is no single address: write an address of this host",
            ],
        ),
    ]);
}

#[test]
fn objects_that_are_not_whole_name_what_is_missing() {
    each(&[
        (
            "[[pool]]\nbackends = [\"10.0.0.1\"]\n",
            &[r#"lbd.toml:3: this [[pool]] has no name: write name = "web" in it"#],
        ),
        (
            "[[service]]\nname = \"Web\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n",
            &[
                r#"lbd.toml:4: name "Web" has the capital letter 'W': write up to 63 of a-z 0-9 . _ -, a letter or digit first, such as "web-1""#,
            ],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\n",
            &[
                r#"lbd.toml:3: service "web" has neither a pool nor backends: write pool = "web" with a [[pool]] of that name, or backends = ["10.0.0.11"]"#,
            ],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"web\"\nbackends = [\"10.0.0.1\"]\n",
            &[r#"lbd.toml:7: service "web" has both pool and backends: keep one of them"#],
        ),
        (
            "[[service]]\nname = \"web\"\nlisten = [\n  \"192.0.2.1/tcp\",\n  \"192.0.2.1:443\",\n]\nbackends = [\"10.0.0.1\"]\n",
            &[
                r#"lbd.toml:6: listener "192.0.2.1/tcp" has no port in service "web": write 192.0.2.1:443/tcp, or 192.0.2.1:any/tcp for every port"#,
                r#"lbd.toml:7: listener "192.0.2.1:443" has no protocol in service "web": write 192.0.2.1:443/tcp or 192.0.2.1:443/udp"#,
            ],
        ),
        (
            "[[service]]\nname = \"web\"\nbackends = [\"10.0.0.1\"]\n",
            &[
                r#"lbd.toml:3: service "web" has no listener, so no packet can belong to it: write listen = ["203.0.113.10:443/tcp"]"#,
            ],
        ),
        (
            "[[pool]]\nname = \"p\"\nbackends = [\"10.0.0.1\"]\n[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"p\"\nhealth = { type = \"tcp\" }\n",
            &[
                r#"lbd.toml:10: health belongs to the pool and cannot stand in service "web": write it in the [[pool]]"#,
            ],
        ),
        (
            "[[pool]]\nname = \"p\"\nbackends = [5, { weight = 3 }, \"web-1\"]\n",
            &[
                r#"lbd.toml:5: backend 1 is neither an address nor a table in pool "p": write "10.0.0.11" or { address = "10.0.0.11", weight = 5 }"#,
                r#"lbd.toml:5: address is missing in backend 2 of pool "p": write { address = "10.0.0.11", weight = 5 }"#,
                r#"lbd.toml:5: backend "web-1" has a name where an address belongs in pool "p": names are not resolved; write the IP address, such as 10.0.0.11 or 10.0.0.11:8443"#,
            ],
        ),
    ]);
}

#[test]
fn a_text_that_is_no_toml_is_named_once() {
    each_whole(&[
        ("[daemon\nsocket = \"x\"\n", &["lbd.toml:1: this is not valid TOML: unclosed table, expected `]`"]),
        (
            "[daemon]\n\nmetrics = off\n",
            &["lbd.toml:3: this is not valid TOML: string values must be quoted"],
        ),
        (
            "[[service]]\nlisten = [\"a\" \"b\"]\n",
            &["lbd.toml:2: this is not valid TOML: missing comma between array elements, expected `,`"],
        ),
    ]);
    each(&[(
        "[daemon]\nstate = \"/a\"\nstate = \"/b\"\nadmn = \"x\"\n",
        &[
            r#"lbd.toml:5: the key "state" is written twice: write it once ([[pool]] and [[service]], with double brackets, may be repeated)"#,
            r#"lbd.toml:6: unknown key "admn" in [daemon]: did you mean "admin"?"#,
        ],
    )]);
}

#[test]
fn a_file_without_anything_shows_the_smallest_that_does_something() {
    for text in ["", "\n\n", "# nothing yet\n"] {
        let expected = format!("lbd.toml: the configuration is empty: write at least\n\n{MINIMAL_EXAMPLE}");
        assert_eq!(said(text), [expected]);
    }
    assert_eq!(said(MINIMAL_EXAMPLE), [] as [&str; 0]);
    let text = "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n";
    let expected = "lbd.toml: no interface is named, so lbd would see no packet: write\n\n[datapath]\ninterfaces = [\"eth0\"]\n";
    assert_eq!(said(text), [expected]);
}

#[test]
fn every_problem_is_said_once_and_in_order() {
    let text = "[daemon]\nsockt = \"/x\"\n[[pool]]\nname = \"a\"\nbackends = [\"10.0.0.1x\"]\n\
        [[service]]\nname = \"one\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"a\"\n\
        [[service]]\nname = \"two\"\nlisten = [\"192.0.2.1:80\"]\nbackends = [\"10.0.0.2\"]\n\
        [[service]]\nname = \"three\"\nlisten = [\"192.0.2.3:80/tcp\"]\npool = \"b\"\n";
    each(&[(
        text,
        &[
            r#"lbd.toml:4: unknown key "sockt" in [daemon]: did you mean "socket"?"#,
            r#"lbd.toml:7: backend "10.0.0.1x" has a name where an address belongs in pool "a": names are not resolved; write the IP address, such as 10.0.0.11 or 10.0.0.11:8443"#,
            r#"lbd.toml:14: listener "192.0.2.1:80" has no protocol in service "two": write 192.0.2.1:80/tcp or 192.0.2.1:80/udp"#,
            r#"lbd.toml:16: service "three" names the pool "b", which does not exist: did you mean "a"?"#,
        ],
    )]);
}
