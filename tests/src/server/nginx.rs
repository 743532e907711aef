//! nginx on every address of a backend.
//!
//! In: a namespace, the backend's name, a port. Out: nginx with
//! `/` (the backend's name), `/healthz` (not logged), `/64k` and, once [`make_large_file`] was called, `/100m` (see [`crate::content`]),
//! `/slow/…` (the same files at a steady [`SLOW_BYTES_PER_SECOND`]); the header `X-Backend` on every answer; an access log that can be read back.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::wait_listening;
use crate::content;
use crate::netns::Namespace;
use crate::process::Process;
use crate::run_dir::RunDir;

/// Length of `/64k`.
pub const SMALL_FILE_LEN: u64 = 64 * 1024;
/// Length of `/100m`.
pub const LARGE_FILE_LEN: u64 = 100 * 1024 * 1024;
/// Rate of everything under `/slow/`.
pub const SLOW_BYTES_PER_SECOND: u64 = 64 * 1024;

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The client as the backend saw it.
    pub remote: SocketAddr,
    /// The request's path.
    pub path: String,
    /// HTTP status.
    pub status: u16,
    /// Bytes of body sent.
    pub body_len: u64,
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    dir: PathBuf,
}

impl Nginx {
    /// Starts nginx on `port` of all addresses and waits until it listens.
    pub fn start(namespace: &Namespace, backend: &str, port: u16) -> Result<Nginx> {
        let run_dir = namespace.run_dir();
        let files = make_file(run_dir, "64k", SMALL_FILE_LEN)?;
        let dir = run_dir.path().join(format!("nginx-{}-{port}", namespace.label()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let config = dir.join("nginx.conf");
        fs::write(&config, config_text(&dir, &files, backend, port)).context("cannot write nginx.conf")?;
        let process = spawn(namespace, &dir)?;
        let mut nginx = Nginx { process, dir };
        nginx.wait(namespace, port)?;
        Ok(nginx)
    }

    /// Starts it again after [`Nginx::kill`].
    pub fn start_again(&mut self, namespace: &Namespace, port: u16) -> Result<()> {
        self.process = spawn(namespace, &self.dir)?;
        self.wait(namespace, port)
    }

    /// SIGKILL to master and workers: established connections are reset, new ones refused.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGSTOP or SIGCONT to the worker and its master: connections are accepted by the kernel and never answered.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.process.pid())?);
        nix::sys::signal::killpg(group, signal).with_context(|| format!("cannot send {signal} to nginx"))
    }

    /// Every request answered so far, health checks excluded.
    pub fn accesses(&self) -> Result<Vec<Access>> {
        let path = self.dir.join("access.log");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let parse = |line| parse_access(line).with_context(|| format!("no access line: {line}"));
        text.lines().map(parse).collect()
    }

    fn wait(&mut self, namespace: &Namespace, port: u16) -> Result<()> {
        wait_listening(namespace, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), &mut self.process)
            .context("nginx does not start; is nginx-light installed?")
    }
}

fn spawn(namespace: &Namespace, dir: &Path) -> Result<Process> {
    let mut command = namespace.command("nginx");
    command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    Process::spawn(&name, &mut command, namespace.run_dir())
        .context("nginx does not start: apt-get install nginx-light")
}

fn parse_access(line: &str) -> Option<Access> {
    let mut words = line.split(' ');
    let address: IpAddr = words.next()?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    let path = words.next()?.to_owned();
    Some(Access {
        remote: SocketAddr::new(address, port),
        path,
        status: words.next()?.parse().ok()?,
        body_len: words.next()?.parse().ok()?,
    })
}

/// Makes `/100m` for every nginx of the namespace's run directory. Most tests need none, and it takes a second.
pub fn make_large_file(namespace: &Namespace) -> Result<()> {
    make_file(namespace.run_dir(), "100m", LARGE_FILE_LEN).map(drop)
}

/// Makes a file all nginx of this process share, once; the directory it is in.
fn make_file(run_dir: &RunDir, name: &str, len: u64) -> Result<PathBuf> {
    let dir = run_dir.path().join("files");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(name);
    // Made under a name of its own and renamed: tests of one process run side by side.
    if fs::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let half_made = tempfile::NamedTempFile::new_in(&dir).context("cannot create a file")?;
        content::write_file(half_made.path(), len)?;
        fs::set_permissions(half_made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        half_made.persist(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    Ok(dir)
}

fn config_text(dir: &Path, files: &Path, backend: &str, port: u16) -> String {
    let (dir, files) = (dir.display(), files.display());
    // One worker: the load shares two CPUs with everything else. The chunk makes limit_rate a steady stream rather than a
    // burst a second, which a client would take for a stall.
    format!(
        r#"daemon off; user root; worker_processes 1; worker_rlimit_nofile 16384; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 8192; }}
http {{
    log_format lbd '$remote_addr $remote_port $uri $status $body_bytes_sent';
    access_log {dir}/access.log lbd;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    default_type application/octet-stream;
    sendfile on; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 1000000000;
    server {{
        listen {port} backlog=4096;
        listen [::]:{port} ipv6only=on backlog=4096;
        root {files};
        add_header X-Backend {backend} always;
        location = / {{ default_type text/plain; return 200 "{backend}\n"; }}
        location = /healthz {{ access_log off; default_type text/plain; return 200 "ok\n"; }}
        location /slow/ {{ alias {files}/; limit_rate {SLOW_BYTES_PER_SECOND}; sendfile_max_chunk 4k; }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_line_is_read_in_both_families() {
        let access = parse_access("2001:db8:1::10 40123 /64k 200 65536").expect("a line of our format");
        assert_eq!(access.remote, "[2001:db8:1::10]:40123".parse().expect("an address"));
        assert_eq!((access.path.as_str(), access.status, access.body_len), ("/64k", 200, 65_536));
        assert_eq!(parse_access("192.0.2.10 1"), None);
    }
}
