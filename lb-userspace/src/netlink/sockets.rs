//! Sockets of this host that take packets from anyone: what a listener of lbd on the same port would shadow.
//!
//! In: /proc/net/{tcp,tcp6,udp,udp6} of the calling thread's namespace, /proc/PID/fd for the names of programs. Out:
//! [`LocalSocket`]s. Invariant: a line that cannot be understood is passed over; a program whose descriptors may not be
//! read leaves its sockets without a name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::{fs, io};

use super::NetlinkError;
use crate::reach::LocalSocket;
use crate::spec::Protocol;

/// The namespace of the thread, not of the process: tests enter namespaces thread by thread.
const PROC_NET: &str = "/proc/thread-self/net";

/// State of a listening TCP socket (TCP_LISTEN), and of an unconnected UDP one (TCP_CLOSE).
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// TCP sockets that listen and UDP sockets that are bound without a peer. `named` says whose programs are to be told: finding
/// them means to look at every descriptor of every process, which can take longer than all the rest of a change.
///
/// # Errors
/// /proc is not there.
pub fn local_listening_sockets(
    named: impl Fn(&LocalSocket) -> bool,
) -> Result<Vec<LocalSocket>, NetlinkError> {
    let files =
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let mut found = Vec::new();
    for (name, protocol) in files {
        let path = format!("{PROC_NET}/{name}");
        match fs::read_to_string(&path) {
            Ok(text) => found.extend(text.lines().filter_map(|line| parse(line, protocol))),
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.ends_with('6') => {}
            Err(reason) => return Err(NetlinkError::Read { path, reason }),
        }
    }
    let programs =
        programs(found.iter().filter(|(_, socket)| named(socket)).map(|(inode, _)| *inode).collect());
    let with_name = |(inode, socket)| LocalSocket { program: programs.get(&inode).cloned(), ..socket };
    Ok(found.into_iter().map(with_name).collect())
}

/// The inode and the socket of one line; `None`: a heading, or a socket with a peer.
fn parse(line: &str, protocol: Protocol) -> Option<(u64, LocalSocket)> {
    let mut fields = line.split_ascii_whitespace();
    let (local, _peer, state) = (fields.nth(1)?, fields.next()?, fields.next()?);
    let wanted = match protocol {
        Protocol::Tcp => TCP_LISTEN,
        Protocol::Udp => UDP_UNCONNECTED,
    };
    if state != wanted {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (addr, port) = local.split_once(':')?;
    let socket = LocalSocket {
        addr: parse_address(addr)?,
        port: u16::from_str_radix(port, 16).ok()?,
        protocol,
        program: None,
    };
    Some((inode, socket))
}

/// `0100007F`: each 32-bit word of the address as a number of this machine's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// The names of the programs that have these sockets open, as far as they may be seen.
fn programs(mut inodes: Vec<u64>) -> HashMap<u64, String> {
    let mut names = HashMap::new();
    if inodes.is_empty() {
        return names;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return names };
    inodes.sort_unstable();
    for process in processes.flatten().map(|entry| entry.path()) {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let own =
            links.filter_map(|link| socket_inode(&link)).filter(|inode| inodes.binary_search(inode).is_ok());
        let own: Vec<u64> = own.collect();
        if own.is_empty() {
            continue;
        }
        if let Ok(name) = fs::read_to_string(process.join("comm")) {
            names.extend(own.into_iter().map(|inode| (inode, name.trim_end().to_owned())));
        }
    }
    names
}

/// `socket:[12345]`.
fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use proptest::prelude::*;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let expected = |addr: &str, port, protocol| LocalSocket {
            addr: addr.parse().unwrap(),
            port,
            protocol,
            program: None,
        };
        assert_eq!(parse(tcp, Protocol::Tcp), Some((4711, expected("127.0.0.1", 8080, Protocol::Tcp))));
        assert_eq!(parse(&tcp.replace(" 0A ", " 01 "), Protocol::Tcp), None, "an open connection");
        let tcp6 = tcp.replace("0100007F", "B80D0120000000000000000010000000");
        assert_eq!(parse(&tcp6, Protocol::Tcp), Some((4711, expected("2001:db8::10", 8080, Protocol::Tcp))));
        let mapped = tcp.replace("0100007F", "0000000000000000FFFF00000100007F");
        assert_eq!(parse(&mapped, Protocol::Tcp), Some((4711, expected("127.0.0.1", 8080, Protocol::Tcp))));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(parse(heading, Protocol::Tcp), None);
    }

    #[test]
    fn own_sockets_are_found_with_this_program() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(tcp.local_addr().unwrap()).unwrap();
        let sockets = local_listening_sockets(|socket| socket.protocol == Protocol::Tcp).unwrap();
        let find = |address: std::net::SocketAddr, protocol| {
            let same =
                |s: &&LocalSocket| (s.addr, s.port, s.protocol) == (address.ip(), address.port(), protocol);
            sockets.iter().find(same)
        };
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let found = find(tcp.local_addr().unwrap(), Protocol::Tcp).unwrap();
        assert_eq!(found.program.as_deref(), Some(name.trim_end()));
        let unnamed = find(udp.local_addr().unwrap(), Protocol::Udp).unwrap();
        assert_eq!(unnamed.program, None, "nobody asked whose it is");
        assert_eq!(find(connected.local_addr().unwrap(), Protocol::Udp), None, "it has a peer");
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in "\\PC*", hex in "[0-9A-Fé]{0,40}") {
            let _any = parse(&line, Protocol::Udp);
            let _any = parse(&format!("1: {hex}:50 0:0 07 0 0 0 0 0 7"), Protocol::Udp);
        }
    }
}
