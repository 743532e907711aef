//! `on_loss = "reset"`: a connection whose backend was taken away ends at once with a reset that the client's kernel accepts, and the
//! next one goes elsewhere. The client is real, so a sequence number that is wrong by one would leave it hanging.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, POOL, Web};

const HEALTH: &str = r#"{ type = "tcp", interval = "500ms" }"#;
/// Longest wait for an answer; a client that was not told would wait for minutes.
const PATIENCE: Duration = Duration::from_secs(10);

macro_rules! losses {
    ($($name:ident: $mode:ident, $family:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            is_told(&stringify!($name).replace('_', ""), Mode::$mode, Family::$family)
        }
    )*};
}

losses! {
    full_nat_v4: FullNat, V4;
    full_nat_v6: FullNat, V6;
    nat_v4: Nat, V4;
    nat_v6: Nat, V6;
    dsr_v4: Dsr, V4;
    dsr_v6: Dsr, V6;
    ipip_v4: Ipip, V4;
    ipip_v6: Ipip, V6;
}

/// A connection that stays, and how far its backend's answer was read.
struct Standing {
    stream: BufReader<TcpStream>,
    backend: String,
}

impl Standing {
    fn open(target: SocketAddr) -> Result<Standing> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut standing = Standing { stream: BufReader::new(stream), backend: String::new() };
        standing.ask()?;
        Ok(standing)
    }

    /// One request and its answer.
    fn ask(&mut self) -> std::io::Result<()> {
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
        let (mut line, mut len) = (String::new(), 0_usize);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => len = value.parse().unwrap_or_default(),
                "x-backend" => value.clone_into(&mut self.backend),
                _ => {}
            }
        }
        self.stream.read_exact(&mut vec![0; len])
    }
}

fn is_told(name: &str, mode: Mode, family: Family) -> Result<()> {
    let settings = |topology: &Topology| {
        let service = topology.service(POOL, &["80/tcp"], HEALTH);
        Settings::new(service.replacen("[[service]]\n", "[[service]]\non_loss = \"reset\"\n", 1))
    };
    let web = Web::start(Plan { backends: 2, ..Plan::new(&format!("loss{name}"), mode, family) }, settings)?;
    let target = web.topology.vip_port(HTTP);
    let client = &web.topology.client;
    let mut standing = client.run(|| Standing::open(target))??;
    let lost = usize::from(standing.backend == "b2");
    let address = web.topology.backend_address(lost).to_string();
    web.lbd.lbctl(&["backend", "disable", POOL, &address, "--yes"])?;
    let asked = Instant::now();
    let told = client.run(|| standing.ask().map_err(|error| error.kind()))?;
    ensure!(told == Err(ErrorKind::ConnectionReset), "{told:?} after {:?}", asked.elapsed());
    // The next one, from the same port if the kernel so pleases, is another backend's.
    for _ in 0..10 {
        let next = client.run(|| Standing::open(target))??;
        ensure!(next.backend != standing.backend, "{} again", next.backend);
    }
    let drops = web.lbd.lbctl(&["drops"])?;
    let reasons = drops["reasons"].as_array().context("no reasons")?;
    let counted = reasons.iter().any(|reason| reason["reason"] == "flow_reset_answered");
    ensure!(counted, "{drops}");
    Ok(())
}
