//! Limits of what the file and JSON may say: what comes by JSON has passed no reader of the file.

use super::*;

const TEXT: &str = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "other"
backends = ["10.0.0.3"]
[[pool]]
name = "web"
backends = ["10.0.0.1"]
slow_start = "30s"
backup = "other"
[[pool.discover]]
type = "dns"
name = "web.example"
[[pool.discover]]
type = "http"
url = "http://10.0.0.1/backends"
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp"]
pool = "web"
"#;

/// The spec as JSON, with what stands at a pointer changed; what is said of it.
fn judged(pointer: &str, value: serde_json::Value) -> Vec<Problem> {
    let spec = config::parse(TEXT, "f").unwrap().spec;
    let mut json = serde_json::to_value(&spec).unwrap();
    let place = json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} of {spec:#?}"));
    *place = value;
    let spec: Spec = serde_json::from_value(json).unwrap();
    validate(&spec).into_iter().filter(Problem::is_error).collect()
}

#[test]
fn what_json_says_is_within_the_limits_of_the_file() {
    assert_eq!(validate(&config::parse(TEXT, "f").unwrap().spec), []);
    for (pointer, value, part) in [
        ("/pools/1/health/interval", 3601.0, "interval"),
        ("/pools/1/health/interval", 1e19, "interval"),
        ("/pools/1/health/timeout", 1e19, "timeout"),
        ("/pools/1/slow_start", 1e19, "slow_start"),
        ("/pools/1/passive/patience", 0.0, "patience"),
        ("/pools/1/passive/patience", 5.0, "patience"),
        ("/pools/1/passive/eject", 0.0, "eject"),
        ("/pools/1/passive/eject", 1e19, "eject"),
        ("/pools/1/backup/hold", 1e19, "hold"),
        ("/pools/1/discover/0/min_interval", 0.0, "min_interval"),
        ("/pools/1/discover/0/min_interval", 80_000.0, "max_interval"),
        ("/pools/1/discover/0/max_interval", 1e19, "max_interval"),
        ("/pools/1/discover/0/timeout", 0.0, "timeout"),
        ("/pools/1/discover/1/interval", 0.0, "interval"),
        ("/pools/1/discover/1/timeout", 1e19, "timeout"),
        ("/datapath/timeouts/tcp", 0.0, "tcp"),
        ("/datapath/timeouts/udp", 1e19, "udp"),
    ] {
        let said = judged(pointer, value.into());
        assert!(said.iter().any(|problem| problem.message.contains(part)), "{pointer} = {value}: {said:?}");
    }
    for (pointer, value, part) in [
        ("/pools/1/health/rise", 1_001, "rise"),
        ("/pools/1/health/fall", u32::MAX, "fall"),
        ("/pools/1/discover/0/max_backends", 0, "max_backends"),
        ("/datapath/flows", 1, "flows"),
        ("/datapath/flows", u32::MAX, "flows"),
    ] {
        let said = judged(pointer, value.into());
        assert!(said.iter().any(|problem| problem.message.contains(part)), "{pointer} = {value}: {said:?}");
    }
    let said = judged("/pools/1/backup/below", "50%".into());
    assert!(said.iter().any(|problem| problem.message.contains("above")), "{said:?}");
}
