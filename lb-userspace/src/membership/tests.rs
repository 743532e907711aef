use super::*;
use crate::config;
use crate::desired::{PoolKey, Variant};

mod owners;

const WEB: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.2:81"]
"#;

/// A membership from a configuration file's text.
fn start(text: &str) -> Membership {
    let loaded = config::parse(text, "lbd.toml").unwrap();
    let start = Start { file: Arc::new(loaded.spec), ..Start::default() };
    Membership::start(Millis(0), start).unwrap().membership
}
