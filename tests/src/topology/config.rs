//! Writes the lbd.toml of a test: what the network dictates and what the test wishes.
//!
//! In: a [`Topology`] and [`Settings`]. Out: the text. The keys are those of the contract with users.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::addresses::BALANCER_SOURCES;
use super::{Mode, Plan, Topology};

/// What a test may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Flow table capacity per family.
    pub flows: u32,
    /// `native`, `generic` or `auto`.
    pub attach: String,
    /// `detach` or `keep`.
    pub on_exit: String,
    /// More lines for `[daemon]`.
    pub daemon: String,
    /// How many of the balancer's addresses full-nat may use as sources; 0: no source is configured, for tunnels neither. More than four:
    /// see [`Topology::add_sources`].
    pub snat_sources: u8,
    /// More lines for `[datapath]`.
    pub datapath: String,
    /// The `[[pool]]` and `[[service]]` tables; see [`Topology::service`].
    pub services: String,
}

impl Settings {
    /// 65,536 flows, native XDP, nothing left after the end.
    pub fn new(services: String) -> Settings {
        Settings {
            flows: 65_536,
            attach: "native".to_owned(),
            on_exit: "detach".to_owned(),
            daemon: String::new(),
            snat_sources: BALANCER_SOURCES,
            datapath: String::new(),
            services,
        }
    }
}

impl Topology {
    /// A pool with every backend and a service of the same name on the vip. `listen` is ports and protocols (`80/tcp`),
    /// `health` an inline table (`{ type = "http", path = "/healthz" }`).
    pub fn service(&self, name: &str, listen: &[&str], health: &str) -> String {
        self.plan.service(self.backends.len(), name, listen, health)
    }

    /// The whole file for a daemon that keeps its things in `dir` and its pins in `pin`.
    pub fn config(&self, settings: &Settings, dir: &Path, pin: &Path) -> String {
        self.plan.config(settings, dir, pin)
    }

    /// The vip with a port, to connect to.
    pub fn vip_port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip(), port)
    }
}

impl Plan {
    /// See [`Topology::service`].
    fn service(&self, backends: usize, name: &str, listen: &[&str], health: &str) -> String {
        let vip = match self.vip() {
            IpAddr::V4(vip) => vip.to_string(),
            IpAddr::V6(vip) => format!("[{vip}]"),
        };
        let listen = listen.iter().map(|port_and_protocol| format!("{vip}:{port_and_protocol}"));
        let backends = (0..backends).map(|index| self.backend_address(index));
        format!(
            "[[pool]]\nname = \"{name}\"\nbackends = {}\nhealth = {health}\n\n\
             [[service]]\nname = \"{name}\"\nlisten = {}\npool = \"{name}\"\nforward = \"{}\"\n\n",
            list(backends),
            list(listen),
            self.mode.name()
        )
    }

    /// The whole file for a daemon that keeps its things in `dir` and its pins in `pin`.
    pub(super) fn config(&self, settings: &Settings, dir: &Path, pin: &Path) -> String {
        let sources = match self.mode {
            // The default would be the first alone; its 4,536 ports are too few for a load without pauses between
            // connections to two or three backends.
            Mode::FullNat | Mode::Ipip if settings.snat_sources == 0 => String::new(),
            Mode::FullNat => format!("snat = {}\n", list(self.balancer_addresses(settings.snat_sources))),
            Mode::Ipip => format!("tunnel_source = {}\n", list(self.balancer_addresses(1))),
            Mode::Nat | Mode::Dsr => String::new(),
        };
        format!(
            "[daemon]\nsocket = \"{dir}/lbd.sock\"\nstate = \"{dir}/state\"\nmetrics = \"\"\non_exit = \"{}\"\n{}\n\
             [datapath]\ninterfaces = {}\nmode = \"{}\"\nflows = {}\npin = \"{}\"\nseed_file = \"{dir}/state/seed\"\n\
             {sources}{}\n{}",
            settings.on_exit,
            settings.daemon,
            list(self.interfaces()),
            settings.attach,
            settings.flows,
            pin.display(),
            settings.datapath,
            settings.services,
            dir = dir.display(),
        )
    }
}

/// A TOML list of strings.
fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Family;

    #[test]
    fn lbd_reads_what_we_write_in_every_mode_and_family() {
        for mode in Mode::ALL {
            for family in [Family::V4, Family::V6] {
                let plan = Plan::new("test", mode, family);
                let health = "{ type = \"http\", path = \"/healthz\", interval = \"500ms\", timeout = \"300ms\", fall = 2 }";
                let web = plan.service(3, "web", &["80/tcp", "443/tcp"], health);
                let text = plan.config(&Settings::new(web), Path::new("/run/x"), Path::new("/sys/fs/bpf/x"));
                let loaded = lb_userspace::config::parse(&text, "lbd.toml");
                let loaded = loaded.unwrap_or_else(|errors| panic!("{mode:?} {family:?}: {errors}\n{text}"));
                assert_eq!(loaded.warnings, [], "{mode:?} {family:?}");
                assert_eq!(loaded.spec.services.len(), 1);
            }
        }
    }
}
