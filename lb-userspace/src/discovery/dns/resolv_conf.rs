//! The servers of `/etc/resolv.conf`.
//!
//! In: the file, read anew each time because others write it. Out: whom to ask, in order. Search lists and options say how people's
//! short names are meant; lbd asks for whole names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PATH: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// As many as resolv.conf(5) knows.
const MOST: usize = 3;

/// Whom this host asks.
pub(super) async fn servers() -> Result<Vec<SocketAddr>, String> {
    match tokio::fs::read_to_string(PATH).await {
        Ok(text) => Ok(of(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(of("")),
        Err(error) => {
            Err(format!("cannot read {PATH} ({error}): mend that, or write server = \"10.0.0.53\""))
        }
    }
}

/// The servers that this text names; none: one on this host (resolv.conf(5)).
fn of(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A zone (fe80::1%eth0) is of use to nobody who has no socket bound to it.
        address.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT))
    });
    let servers: Vec<SocketAddr> = servers.take(MOST).collect();
    match servers.is_empty() {
        true => vec![(Ipv4Addr::LOCALHOST, PORT).into()],
        false => servers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_their_order() {
        let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.53\nnameserver\t2001:db8::53 # second\nnameserver fe80::1%eth0\noptions rotate\n";
        let shown: Vec<String> = of(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.53:53", "[2001:db8::53]:53"]);
        assert_eq!(of(""), ["127.0.0.1:53".parse().unwrap()]);
        let many = "nameserver 10.0.0.1\n".repeat(9);
        assert_eq!(of(&many).len(), MOST);
    }
}
