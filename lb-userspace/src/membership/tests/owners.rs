//! Interface.md, *Who owns what*, rules 1 to 3.

use super::*;

#[test]
fn smoke() {
    let m = start(
        "[datapath]\ninterfaces=[\"eth0\"]\n[[service]]\nname=\"web\"\nlisten=[\"203.0.113.10:80/tcp\"]\nbackends=[\"10.0.0.1\",\"10.0.0.2:81\"]\n",
    );
    println!("{:#?}", m.desired());
    println!("{:#?}", m.pool_views());
    println!("{:#?}", m.health_targets());
}
