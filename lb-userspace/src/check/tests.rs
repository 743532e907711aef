use super::*;

const CONTRACT: &str = include_str!("../config/tests/contract.toml");

/// Exit code, standard output and standard error for a text on standard input.
fn check(text: &str, format: Format) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&Source::Stdin, format, &mut text.as_bytes(), &mut out, &mut err).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_valid_file_is_described() {
    let (code, out, err) = check(CONTRACT, Format::Text);
    assert_eq!(code, EXIT_VALID);
    assert_eq!(
        out,
        "\
- is valid: 1 service, 1 pool, 3 backends
  datapath    on eth0 (mode auto), 1,048,576 flows per address family
  idle flows  tcp 1h, tcp_syn 10s, tcp_closing 30s, udp 1m
  daemon      socket /run/lbd/lbd.sock, state /var/lib/lbd, metrics http://127.0.0.1:9472/metrics
  on exit     keep (the program stays and forwards without health checks)

service web  (-:31)
  listens on  203.0.113.10:443/tcp
              203.0.113.10:443/udp
              [2001:db8::10]:443/tcp
  forwards    full-nat to pool web
  policy      affinity flow, on_loss reselect, when_none reset

pool web  (-:26)
  table       1,021 slots for 3 backends (IPv4), by the number of backends
  health      http GET /healthz every 2s, 1s to answer, up after 2, down after 3; it speaks for udp too
  passive     ejects for 10s (at most 34% of them) whose new connections do not go on within 300ms, while others' do
  backends    10.0.0.11       weight 1      14.3 %  checked on port 443
              10.0.0.12:8443  weight 1      14.3 %  checked on port 8443
              10.0.0.13       weight 5      71.4 %  checked on port 443
"
    );
    assert!(
        err.starts_with("warning: -:33: service \"web\" listens on [2001:db8::10]:443/tcp but pool"),
        "{err}"
    );
}

#[test]
fn an_invalid_file_is_refused_with_every_error() {
    let (code, out, err) =
        check("[datapath]\ninterfaces = [\"eth0\"]\nflow = 1\nmode = \"fast\"\n", Format::Text);
    assert_eq!((code, out.as_str()), (EXIT_INVALID, ""));
    assert_eq!(
        err,
        "-:3: unknown key \"flow\" in [datapath]: did you mean \"flows\"?\n\
         -:4: mode = \"fast\" is unknown in [datapath]: write \"auto\", \"native\" or \"generic\"\n\
         2 errors: the configuration is refused\n"
    );
}

#[test]
fn udp_without_a_check_and_tunnels_are_said() {
    let text = "[datapath]\ninterfaces = [\"eth0\"]\n\
        [[service]]\nname = \"dns\"\nlisten = [\"192.0.2.1:53/udp\"]\nbackends = [\"10.0.0.1\"]\n\
        [[service]]\nname = \"t\"\nforward = \"ipip\"\nlisten = [\"192.0.2.2:80/tcp\"]\nbackends = [\"10.0.0.1\", \"2001:db8::1\"]\nmaglev = 4093\nhealth.type = \"none\"\n";
    let (code, out, err) = check(text, Format::Text);
    assert_eq!((code, err.as_str()), (EXIT_VALID, ""));
    assert!(out.contains("  health      none: its services are udp only"), "{out}");
    assert!(out.contains("  table       4,093 slots for 2 backends (both), as configured\n"), "{out}");
    assert!(out.contains("  health      none: every backend counts as healthy\n"), "{out}");
    assert!(out.contains("  backends    10.0.0.1     weight 1      50.0 %\n"), "{out}");
}

#[test]
fn json_has_the_fields_of_the_contract() {
    let (code, out, err) = check(CONTRACT, Format::Json);
    assert_eq!((code, err.as_str()), (EXIT_VALID, ""));
    assert!(out.starts_with("{\n  \"api_version\": \"v1\","), "{out}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["services"][0]["listen"][2], "[2001:db8::10]:443/tcp");
    assert_eq!(value["pools"][0]["backends"][1]["checked_port"], 8443);
    assert_eq!(
        value["pools"][0]["tables"],
        serde_json::json!([{ "family": "v4", "backends": 3, "slots": 1021 }])
    );
    assert_eq!(value["pools"][0]["health"]["interval"], 2);
    assert_eq!(value["pools"][0]["passive"]["eject"], 10);
    assert!(value["pools"][0]["maglev"].is_null() && value["pools"][0]["inline"].is_boolean());
    assert_eq!(value["datapath"]["timeouts"]["udp"], 60);
    assert_eq!(value["warnings"][0]["line"], 33);
    let (code, out, _) = check("[datapath]\ninterfaces = [\"eth0\"]\nflow = 1\n", Format::Json);
    assert_eq!(code, EXIT_INVALID);
    assert!(out.starts_with("{\n  \"api_version\": \"v1\","), "{out}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let problem = serde_json::json!({ "severity": "error", "message": "unknown key \"flow\" in [datapath]", "hint": "did you mean \"flows\"?", "file": "-", "line": 3 });
    assert_eq!(value["problems"], serde_json::json!([problem]));
    assert_eq!((&value["error"]["code"], &value["error"]["line"]), (&"invalid".into(), &3.into()));
}

#[test]
fn files_are_named_as_the_user_names_them() {
    assert_eq!(Source::from(Path::new("-")), Source::Stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let source = Source::from(Path::new("/nonexistent/lbd.toml"));
    let code = run(&source, Format::Text, &mut io::empty(), &mut out, &mut err).unwrap();
    assert_eq!((code, out.len()), (EXIT_INVALID, 0));
    let err = String::from_utf8(err).unwrap();
    assert!(
        err.starts_with(
            "/nonexistent/lbd.toml: the configuration file does not exist: name another with --config"
        ),
        "{err}"
    );
}

#[test]
fn sources_are_described_in_words_and_in_fields() {
    let text = "[datapath]\ninterfaces = [\"eth0\"]\n\
        [[pool]]\nname = \"web\"\n\
        [[pool.discover]]\ntype = \"dns\"\nname = \"web.example\"\nport = 8080\nserver = \"10.0.0.53\"\n\
        [[pool.discover]]\ntype = \"file\"\npath = \"/etc/lbd/web.list\"\nallow_empty = true\n\
        [[pool.discover]]\ntype = \"http\"\nurl = \"http://10.0.0.1/web\"\nmax_backends = 7\n\
        [[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"web\"\n";
    let (code, out, err) = check(text, Format::Text);
    assert_eq!((code, err.as_str()), (EXIT_VALID, ""));
    for line in [
        "  discovers   dns:web.example: a+aaaa records, port 8080, of 10.0.0.53:53, every 1s to 1m as their TTL says; up to 1000 backends, none is not believed\n",
        "              file:/etc/lbd/web.list: read when it changes; up to 1000 backends, may name none\n",
        "              http://10.0.0.1/web: every 10s; up to 7 backends, none is not believed\n",
    ] {
        assert!(out.contains(line), "{line}{out}");
    }
    let (_, out, _) = check(text, Format::Json);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sources = &value["pools"][0]["discover"];
    assert_eq!((&sources[0]["type"], &sources[0]["server"]), (&"dns".into(), &"10.0.0.53:53".into()));
    assert_eq!(
        (&sources[0]["max_interval"], &sources[2]["name"]),
        (&60.into(), &"http://10.0.0.1/web".into())
    );
    assert_eq!((&sources[1]["allow_empty"], &sources[1]["origin"]), (&true.into(), &"-:10".into()));
}
