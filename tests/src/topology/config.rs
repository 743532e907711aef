//! Writes the lbd.toml of a test: what the network dictates and what the test wishes.
//!
//! In: a [`Topology`] and [`Settings`]. Out: the text. The keys are those of the contract with users.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{Mode, Topology};

/// What a test may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Flow table capacity per family.
    pub flows: u32,
    /// `native`, `generic` or `auto`.
    pub attach: String,
    /// `detach` or `keep`.
    pub on_exit: String,
    /// More lines for `[datapath]`.
    pub datapath: String,
    /// The `[[pool]]` and `[[service]]` tables; see [`Topology::web_service`].
    pub services: String,
}

impl Settings {
    /// 65,536 flows, native XDP, nothing left after the end.
    pub fn new(services: String) -> Settings {
        Settings {
            flows: 65_536,
            attach: "native".to_owned(),
            on_exit: "detach".to_owned(),
            datapath: String::new(),
            services,
        }
    }
}

impl Topology {
    /// A pool with every backend and a service of the same name on the vip. `listen` is ports and protocols (`80/tcp`),
    /// `health` an inline table (`{ type = "http", path = "/healthz" }`).
    pub fn web_service(&self, name: &str, listen: &[&str], health: &str) -> String {
        let listeners: Vec<String> =
            listen.iter().map(|listener| format!("\"{}\"", self.listener(listener))).collect();
        let backends: Vec<String> =
            (0..self.backends.len()).map(|index| format!("\"{}\"", self.backend_address(index))).collect();
        format!(
            "[[pool]]\nname = \"{name}\"\nbackends = [{}]\nhealth = {health}\n\n\
             [[service]]\nname = \"{name}\"\nlisten = [{}]\npool = \"{name}\"\nforward = \"{}\"\n\n",
            backends.join(", "),
            listeners.join(", "),
            self.plan.mode.name()
        )
    }

    /// `80/tcp` on the vip, as lbd.toml writes it.
    pub fn listener(&self, port_and_protocol: &str) -> String {
        match self.vip() {
            IpAddr::V4(vip) => format!("{vip}:{port_and_protocol}"),
            IpAddr::V6(vip) => format!("[{vip}]:{port_and_protocol}"),
        }
    }

    /// The vip with a port, to connect to.
    pub fn vip_port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip(), port)
    }

    /// The whole file for a daemon that keeps its things in `dir` and its pins in `pin`.
    pub(super) fn config(&self, settings: &Settings, dir: &Path, pin: &Path) -> String {
        let mut text = String::new();
        let quoted = |text: &dyn std::fmt::Display| format!("\"{text}\"");
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let interfaces = self.interfaces().iter().map(|name| quoted(name)).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[daemon]\nsocket = \"{dir}/lbd.sock\"\nstate = \"{dir}/state\"\nmetrics = \"\"\non_exit = \"{}\"\n\n\
             [datapath]\ninterfaces = {}\nmode = \"{}\"\nflows = {}\npin = \"{}\"\nseed_file = \"{dir}/state/seed\"\n",
            settings.on_exit,
            list(interfaces),
            settings.attach,
            settings.flows,
            pin.display(),
            dir = dir.display(),
        );
        let sources = self.balancer_addresses(self.plan.backend_family);
        match self.plan.mode {
            // The default would be the first alone; its 4,536 ports are too few for a load without pauses between
            // connections to two or three backends.
            Mode::FullNat => {
                let _ =
                    writeln!(text, "snat = {}", list(sources.iter().map(|source| quoted(source)).collect()));
            }
            Mode::Ipip => {
                let _ = writeln!(text, "tunnel_source = [{}]", quoted(&sources[0]));
            }
            Mode::Nat | Mode::Dsr => {}
        }
        let _ = write!(text, "{}\n{}", settings.datapath, settings.services);
        text
    }
}
