//! Real servers for backends: nginx, and small ones of our own for what nginx cannot say.
//!
//! In: a namespace and the backend's name. Out: a server that tells in every answer which backend it is. Invariant: a server
//! that was started takes connections, and ends with its handle.

pub mod echo;
pub mod nginx;
pub mod sink;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use crate::netns::Namespace;
use crate::process::Process;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until something listens at `address`, seen from inside the namespace, while `process` runs.
pub fn wait_listening(namespace: &Namespace, address: SocketAddr, process: &mut Process) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match namespace.run(|| TcpStream::connect(address))? {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("nothing listens at {address}: {error}. The log ends:\n{}", process.log_tail())
            }
            Err(_) => {
                process.wait(LOOK_INTERVAL)?;
                process.check_running()?;
            }
        }
    }
}

/// A listening socket that waits for nobody; of one family alone, so that both may have the port.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A server of our own on a thread inside a namespace, ended by dropping it.
#[derive(Debug)]
struct InProcess {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl InProcess {
    /// Starts `serve` on a runtime of its own; everything it spawned ends with it.
    fn start<F>(namespace: &Namespace, name: &str, serve: F) -> Result<InProcess>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let thread = namespace.spawn(name, move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(InProcess { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in a server was printed by the thread; a test sees it as connections that fail.
            let _ = thread.join();
        }
    }
}
