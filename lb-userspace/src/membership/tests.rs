use super::*;
use crate::config;
use crate::desired::{DesiredNextHop, PoolKey, Variant};

mod owners;

/// A membership from a configuration file's text.
fn start(text: &str) -> Membership {
    let loaded = config::parse(text, "lbd.toml").unwrap();
    let start = Start { file: Arc::new(loaded.spec), ..Start::default() };
    Membership::start(Millis(0), start).unwrap().membership
}
