//! IPVS, as `ipvsadm-save -n` prints it (ipvsadm(8), ipvsadm 1.31).
//!
//! In: lines `-A SERVICE -s SCHEDULER …` and `-a SERVICE -r SERVER …`. Out: the text of a configuration file, and what is otherwise
//! there. `-m` is nat, `-g` dsr, `-i` ipip; persistence is `affinity = "client"`. Invariant: every service and server is in the file,
//! or the whole is refused.

use std::net::{IpAddr, SocketAddr};

use super::made::Made;
use crate::spec::{BackendAddress, Forward, Listener, Place, Problem, Protocol};

/// One `-A`, with its `-a`.
#[derive(Debug)]
struct Service {
    line: u32,
    /// As it was written.
    words: String,
    listen: Listener,
    is_client_affine: bool,
    is_one_packet: bool,
    forward: Option<Forward>,
    servers: Vec<Server>,
}

/// One `-a`.
#[derive(Debug)]
struct Server {
    line: u32,
    address: BackendAddress,
    weight: u16,
}

/// What has been read so far.
struct Import<'a> {
    file: &'a str,
    line: u32,
    services: Vec<Service>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A wrong line: what is wrong, and what to do.
type Wrong = (String, &'static str);

const NUMERIC: &str = "save it with addresses and ports as numbers: ipvsadm-save -n";

/// The configuration file, and what is otherwise there than it was in IPVS.
///
/// # Errors
/// Every line that cannot be taken over.
pub(super) fn import(
    text: &str,
    file: &str,
    interfaces: &[String],
) -> Result<(String, Vec<Problem>), Vec<Problem>> {
    let mut import = Import { file, line: 0, services: Vec::new(), errors: Vec::new(), warnings: Vec::new() };
    for (number, line) in (1..).zip(text.lines()) {
        import.line = number;
        if let Err((message, hint)) = import.take(line) {
            import.errors.push(Problem::error(import.place(), message, hint));
        }
    }
    if import.services.is_empty() && import.errors.is_empty() {
        let place = Place::File { path: file.to_owned() };
        import.errors.push(Problem::error(place, "there is no virtual service in it", NUMERIC));
    }
    if !import.errors.is_empty() {
        return Err(import.errors);
    }
    let made = import.text(interfaces);
    made.accepted(file).map(|text| (text, import.warnings))
}

impl Import<'_> {
    fn place(&self) -> Place {
        Place::Line { path: self.file.to_owned(), line: self.line }
    }

    fn warn(&mut self, message: impl Into<String>, hint: &str) {
        self.warnings.push(Problem::warning(self.place(), message, hint));
    }

    fn take(&mut self, line: &str) -> Result<(), Wrong> {
        let mut words = line.split_whitespace().peekable();
        if words.peek() == Some(&"ipvsadm") {
            words.next();
        }
        match words.next() {
            None => Ok(()),
            Some(word) if word.starts_with('#') => Ok(()),
            Some("-A" | "--add-service") => self.take_service(line, words),
            Some("-a" | "--add-server") => self.take_server(words),
            // Only how long IPVS keeps connections, and which host is told of them.
            Some("--set" | "--start-daemon") => {
                self.warn(
                    "timeouts and the synchronisation daemon are not taken over",
                    "see datapath.timeouts",
                );
                Ok(())
            }
            Some(word) => Err((format!("{word:?} is no line of ipvsadm-save"), NUMERIC)),
        }
    }

    fn take_service<'w>(
        &mut self,
        line: &str,
        mut words: impl Iterator<Item = &'w str>,
    ) -> Result<(), Wrong> {
        let listen = listener(&mut words)?;
        let mut scheduler = "wlc".to_owned();
        let (mut persistent, mut one_packet, mut flags) = (false, false, String::new());
        while let Some(word) = words.next() {
            match word {
                "-s" | "--scheduler" => scheduler = value(word, &mut words)?.to_owned(),
                "-p" | "--persistent" => {
                    value(word, &mut words)?;
                    persistent = true;
                }
                "-M" | "--netmask" => {
                    let mask = value(word, &mut words)?;
                    if !matches!(mask, "255.255.255.255" | "128") {
                        self.warn(
                            format!(
                                "clients of one network ({mask}) are no longer sent to one server together"
                            ),
                            "affinity = \"client\" goes by single addresses",
                        );
                    }
                }
                "-b" | "--sched-flags" => flags = value(word, &mut words)?.to_owned(),
                // Without dashes before ipvsadm 1.31.
                "-o" | "-O" | "--ops" | "ops" => one_packet = true,
                "--pe" | "pe" => {
                    let engine = value(word, &mut words)?;
                    return Err((
                        format!("persistence engine {engine} looks into packets, which lbd does not"),
                        "take that service out",
                    ));
                }
                "-6" | "--ipv6" => {}
                word => {
                    return Err((
                        format!("option {word:?} is not known"),
                        "take it out if it does not matter",
                    ));
                }
            }
        }
        if matches!(scheduler.as_str(), "fo" | "ovf") {
            return Err((
                format!(
                    "scheduler {scheduler} sends everything to the server of the highest weight; lbd would spread it over all"
                ),
                "take the servers that stand in out here, and write them afterwards as a pool of their own: backup = \"NAME\"",
            ));
        }
        // These two choose by the client's address, unless told to take its port too.
        let hashes_client = matches!(scheduler.as_str(), "sh" | "mh") && !flags.contains("port");
        if scheduler != "mh" {
            self.warn(
                format!(
                    "scheduler {scheduler} becomes weighted Maglev (mh): new connections are spread by hash"
                ),
                "there is nothing to choose; shares follow the weights",
            );
        }
        if persistent {
            self.warn(
                "persistence becomes affinity = \"client\", without a time: a client meets the same server as long as that one is there",
                "take affinity out where that is not wanted",
            );
        }
        if let Some(first) = self.services.iter().find(|service| service.listen == listen) {
            return Err((format!("{listen} is there twice, first in line {}", first.line), "take one out"));
        }
        self.services.push(Service {
            line: self.line,
            words: line.trim().to_owned(),
            listen,
            is_client_affine: persistent || hashes_client,
            is_one_packet: one_packet,
            forward: None,
            servers: Vec::new(),
        });
        Ok(())
    }

    fn take_server<'w>(&mut self, mut words: impl Iterator<Item = &'w str>) -> Result<(), Wrong> {
        let listen = listener(&mut words)?;
        let (mut address, mut forward, mut weight) = (None, Forward::Dsr, 1);
        while let Some(word) = words.next() {
            match word {
                "-r" | "--real-server" => address = Some(server(value(word, &mut words)?)?),
                "-m" | "--masquerading" => forward = Forward::Nat,
                "-g" | "--gatewaying" => forward = Forward::Dsr,
                "-i" | "--ipip" => forward = Forward::Ipip,
                "-w" | "--weight" => {
                    let text = value(word, &mut words)?;
                    weight = text.parse().map_err(|_| {
                        (
                            format!("weight {text} is not from 0 to 65535"),
                            "give it one that is, in proportion",
                        )
                    })?;
                }
                "-x" | "--u-threshold" | "-y" | "--l-threshold" => {
                    if value(word, &mut words)? != "0" {
                        self.warn(
                            "limits of connections (-x, -y) are not taken over",
                            "give such a server a smaller weight",
                        );
                    }
                }
                "--tun-type" => {
                    let kind = value(word, &mut words)?;
                    if kind != "ipip" {
                        return Err((format!("tunnels of type {kind} are not known"), "use ipip"));
                    }
                }
                word => {
                    return Err((
                        format!("option {word:?} is not known"),
                        "take it out if it does not matter",
                    ));
                }
            }
        }
        let address = address.ok_or(("the line names no real server (-r)".to_owned(), NUMERIC))?;
        let service = self.services.iter_mut().find(|service| service.listen == listen);
        let service = service.ok_or((format!("{listen} was not added before (-A)"), NUMERIC))?;
        if service.forward.is_some_and(|other| other != forward) {
            return Err((
                format!(
                    "one service has servers of {} and of {forward}",
                    service.forward.unwrap_or_default()
                ),
                "a service of lbd forwards in one way: make two of it, or choose one",
            ));
        }
        service.forward = Some(forward);
        // Without translation a packet keeps the port it came with.
        let port = address.port.filter(|port| forward.translates() && Some(*port) != service.listen.port);
        let address = BackendAddress { port, ..address };
        service.servers.push(Server { line: self.line, address, weight });
        Ok(())
    }

    fn text(&mut self, interfaces: &[String]) -> Made {
        let interfaces: Vec<String> = interfaces.iter().map(|name| format!("{name:?}")).collect();
        let mut made = Made::default();
        let head = format!(
            "# Made of {} by lbctl import ipvsadm. To be looked at: the interfaces, and how backends are checked\n\
             # (by a TCP connection to their port; IPVS itself checks nothing; UDP alone is not checked).\n\
             [datapath]\ninterfaces = [{}]\n",
            if self.file == "-" { "standard input" } else { self.file },
            interfaces.join(", ")
        );
        made.push(0, &head);
        for service in std::mem::take(&mut self.services) {
            if service.servers.is_empty() {
                self.line = service.line;
                self.warn(
                    format!("{} has no real server: it is left out", service.listen),
                    "add it when it has one: lbctl service add",
                );
                continue;
            }
            self.line = service.line;
            if service.is_one_packet && service.translates() {
                self.warn(
                    "one-packet scheduling (-o) is not taken over: replies through nat belong to a flow",
                    "with dsr or ipip it would be affinity = \"none\"",
                );
            }
            if service.listen.port.is_none() {
                self.warn(
                    format!("{} takes every port, so none is checked", service.listen),
                    "write the port of the check: health = { port = 443 }",
                );
            }
            service.write(&mut made);
        }
        made
    }
}

impl Service {
    fn translates(&self) -> bool {
        self.forward.is_some_and(Forward::translates)
    }

    fn write(&self, made: &mut Made) {
        let affinity = match (self.is_client_affine, self.is_one_packet && !self.translates()) {
            (true, _) => "affinity = \"client\"\n",
            (false, true) => "affinity = \"none\"\n",
            (false, false) => "",
        };
        let health = if self.listen.port.is_none() { "health   = { type = \"none\" }\n" } else { "" };
        let head = format!(
            "\n# line {}: {}\n[[service]]\nname     = \"{}\"\nlisten   = [\"{}\"]\nforward  = \"{}\"\n{affinity}{health}backends = [\n",
            self.line,
            self.words,
            name(self.listen),
            self.listen,
            self.forward.unwrap_or_default(),
        );
        made.push(self.line, &head);
        for Server { line, address, weight } in &self.servers {
            made.push(
                *line,
                &match weight {
                    1 => format!("    \"{address}\",\n"),
                    weight => format!("    {{ address = \"{address}\", weight = {weight} }},\n"),
                },
            );
        }
        made.push(self.line, "]\n");
    }
}

/// `tcp-203.0.113.10-80`, `udp-2001-db8--10-53`, `tcp-203.0.113.10-any`.
fn name(listen: Listener) -> String {
    let address = listen.addr.to_string().replace(':', "-");
    let port = listen.port.map_or_else(|| "any".to_owned(), |port| port.to_string());
    format!("{}-{address}-{port}", listen.protocol)
}

/// `-t ADDR:PORT`, `-u ADDR:PORT`.
fn listener<'w>(words: &mut impl Iterator<Item = &'w str>) -> Result<Listener, Wrong> {
    let protocol = match words.next() {
        Some("-t" | "--tcp-service") => Protocol::Tcp,
        Some("-u" | "--udp-service") => Protocol::Udp,
        Some("--sctp-service") => {
            return Err(("SCTP is not balanced".to_owned(), "take that service and its servers out"));
        }
        Some("-f" | "--fwmark-service") => {
            return Err((
                "a service by firewall mark has no address of its own, and XDP runs before the firewall marks anything".to_owned(),
                "write a service with its vips and ports (ADDR:any/tcp is every port), and take this one out",
            ));
        }
        _ => return Err(("the line names no service (-t or -u)".to_owned(), NUMERIC)),
    };
    let (addr, port) = endpoint(value("-t", words)?)?;
    Ok(Listener { addr, port, protocol })
}

fn server(text: &str) -> Result<BackendAddress, Wrong> {
    let (ip, port) = endpoint(text)?;
    Ok(BackendAddress { ip, port })
}

/// An address and a port, none for port 0: every port, or the service's.
fn endpoint(text: &str) -> Result<(IpAddr, Option<u16>), Wrong> {
    let read = text.parse::<SocketAddr>().map(|both| (both.ip(), both.port()));
    let (ip, port) = match read {
        Ok(both) => both,
        Err(_) => {
            let ip = text.trim_matches(['[', ']']).parse();
            (ip.map_err(|_| (format!("{text:?} is no address with a port"), NUMERIC))?, 0)
        }
    };
    Ok((ip, (port != 0).then_some(port)))
}

fn value<'w>(option: &str, words: &mut impl Iterator<Item = &'w str>) -> Result<&'w str, Wrong> {
    words.next().ok_or_else(|| (format!("nothing follows {option}"), NUMERIC))
}

#[cfg(test)]
mod tests;
