//! Interface.md, *Who owns what*, rules 1 to 3.

use super::*;

#[test]
fn a_new_backend_is_checked_at_once_and_takes_nothing() {
    let membership = start(WEB);
    let targets = membership.health_targets();
    let addresses: Vec<String> = targets.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:80", "10.0.0.2:81"]);
    let key = PoolKey { name: "web".to_owned(), variant: Variant::V4 };
    assert!(membership.desired().pools[&key].backends.values().all(|backend| !backend.takes_new));
}
