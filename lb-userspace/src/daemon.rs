//! `lbd run`: everything put together, signals, and the end.
//!
//! In: the configuration file's path. Out: an exit code. Invariant: whatever happens, the kernel is left in a state in which
//! packets are forwarded or, with `on_exit = "detach"`, untouched; the last log line says which.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::api::{self, Access, Handle};
use crate::config;
use crate::controller::{Controller, Given, Order, Senders, Work, in_one_line};
use crate::ended::tell;
use crate::metrics;
use crate::moment::took;
use crate::netlink;
use crate::spec::{DaemonSpec, OnExit, Spec};
use crate::state::{Left, StateDir};

/// EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;
/// The arguments of `lbd run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// A bad file ends the start even if there is a last good revision.
    pub strict: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// In a sentence: what kept it from starting.
pub fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    crate::controller::memory::keep_little();
    let given = match given(options)? {
        Ok(given) => given,
        Err(code) => return Ok(code),
    };
    let read = begun.elapsed();
    raise_file_limit();
    runtime()?.block_on(serve(given, || took(read, begun.elapsed())))?;
    Ok(ExitCode::SUCCESS)
}

/// A check of each backend, a socket each: the soft limit of 1,024 descriptors that most systems give is for programs that use
/// select(2).
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
        false => Ok(()),
    });
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is, fewer health checks run at a time: {error}");
    }
}

/// Two threads: one for the controller (which waits for the kernel at times), one for checks, API and netlink.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("lbd").enable_all().build().context("cannot start threads")
}

/// The configuration, or with what code to end.
fn given(options: &RunOptions) -> anyhow::Result<Result<Given, ExitCode>> {
    let config = options.config.clone();
    match config::load(&config) {
        Ok(loaded) => {
            let (state, left) = StateDir::open(&loaded.spec.daemon.state)?;
            let (spec, warnings, set_aside) = match left.instead_of(&loaded.spec) {
                Some(last) => {
                    let (file, aside) = (Arc::clone(&last.file), last.set_aside.clone());
                    tracing::warn!(
                        "revision {} stays in force: {} is as it was when it was put aside",
                        last.revision,
                        config.display()
                    );
                    (file, Vec::new(), aside)
                }
                None => (Arc::new(loaded.spec), loaded.warnings, None),
            };
            Ok(Ok(Given { config, spec, warnings, invalid: None, state, left, set_aside }))
        }
        Err(errors) => {
            for problem in &errors.problems {
                eprintln!("lbd: {problem}");
            }
            if options.strict {
                return Ok(Err(ExitCode::from(EXIT_CONFIG)));
            }
            let Some((state, left, spec, revision)) = last_good(&config) else {
                return Ok(Err(ExitCode::from(EXIT_CONFIG)));
            };
            let invalid = format!(
                "{} is invalid, revision {revision} is in force instead: {}",
                config.display(),
                in_one_line(&errors)
            );
            tracing::error!("{invalid}");
            let set_aside = left.last.as_ref().and_then(|last| last.set_aside.clone());
            Ok(Ok(Given {
                config,
                spec,
                warnings: Vec::new(),
                invalid: Some(invalid),
                state,
                left,
                set_aside,
            }))
        }
    }
}

/// The newest revision of the state directory. Where that is stands in the invalid file: if that much can still be read of it
/// it counts, else the default.
fn last_good(config: &Path) -> Option<(StateDir, Left, Arc<Spec>, u64)> {
    let path = state_path(config).inspect_err(|error| eprintln!("lbd: {error}")).ok()?;
    let path = path.unwrap_or_else(|| DaemonSpec::default().state);
    if !path.is_dir() {
        return None;
    }
    let (state, left) = StateDir::open(&path).inspect_err(|error| eprintln!("lbd: {error}")).ok()?;
    let Some(record) = &left.last else {
        // Nobody else will say it: there is no start.
        left.damaged.values().for_each(|sentence| eprintln!("lbd: {sentence}"));
        return None;
    };
    let (spec, revision) = (Arc::clone(&record.file), record.revision);
    Some((state, left, spec, revision))
}

/// `state` of a file that may be wrong everywhere else. `None`: no line there sets it.
///
/// # Errors
/// A line sets it, and to what cannot be told: another directory than the one that is meant must not be taken for it.
fn state_path(config: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Ok(text) = std::fs::read_to_string(config) else { return Ok(None) };
    let key =
        |line: &str| line.split_once('=').map(|(key, _)| key.trim().trim_matches(['"', '\'']).to_owned());
    let mut lines =
        text.lines().filter(|line| key(line).is_some_and(|key| matches!(&*key, "state" | "daemon.state")));
    let Some(line) = lines.next() else { return Ok(None) };
    let value = line.parse::<toml::Table>().ok().and_then(|mut table| {
        let daemon = table.remove("daemon").and_then(|daemon| daemon.as_table().cloned());
        daemon.unwrap_or(table).remove("state")
    });
    match value.as_ref().and_then(toml::Value::as_str).filter(|path| path.starts_with('/')) {
        Some(path) => Ok(Some(path.into())),
        None => anyhow::bail!("the directory of the last good revision cannot be read of {line:?}"),
    }
}

/// From the start of the controller to its end. `took` says how long the start took.
async fn serve(given: Given, took: impl Fn() -> String) -> anyhow::Result<()> {
    let daemon = given.spec.daemon.clone();
    let access = Access::of_daemon(&daemon)?;
    let socket = api::bind(&daemon.socket, access.rights())?;
    let metrics_listener = match daemon.metrics {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    // The kernel takes its time over the programs: who asks meanwhile is told so.
    let (started, starting) = watch::channel(false);
    let greeter = tokio::spawn(api::serve_starting(socket, access.clone(), starting));
    let (controller, senders) = Controller::start(given).await?;
    let handle = handle(&controller, &senders);
    drop(started);
    let socket = greeter.await.context("the API has failed; this is a fault of lbd")?;
    let (stop_api, stopped) = watch::channel(false);
    let api = tokio::spawn(api::serve(socket, handle.clone(), access, stopped));
    let api = tell(api, senders.ended.clone(), Work::Api);
    if let Some(listener) = metrics_listener {
        let metrics = tokio::spawn(metrics::serve(listener, handle, controller.health_engine()));
        drop(tell(metrics, senders.ended.clone(), Work::Metrics));
    }
    tracing::info!(
        "lbd {} is running, its configuration {}; lbctl speaks to {}",
        env!("CARGO_PKG_VERSION"),
        took(),
        daemon.socket.display()
    );
    let signals = tokio::spawn(signals(senders.orders));
    let controller =
        tokio::spawn(controller.run()).await.context("the controller has failed; this is a fault of lbd")?;
    signals.abort();
    drop(stop_api);
    // Had it failed, it was said then: it keeps nobody from the end.
    api.await?;
    // As it is by now: a reload, a rollback or a restore may have changed it.
    let on_exit = controller.on_exit();
    controller.end(on_exit)?;
    if on_exit == OnExit::Detach
        && let Err(error) = netlink::remove_probe_path().await
    {
        tracing::warn!("the veth of checks through services stays: {error}");
    }
    if on_exit == OnExit::Detach
        && let Err(error) = netlink::release_neighbours().await
    {
        tracing::warn!("the backends' neighbours stay resolved: {error}");
    }
    Ok(())
}

/// What API and metrics hold.
pub(crate) fn handle(controller: &Controller, senders: &Senders) -> Handle {
    let published = controller.published();
    Handle {
        snapshot: Arc::clone(&published.snapshot),
        published: published.counter.subscribe(),
        counters: Arc::new(controller.counters()),
        events: Arc::clone(&published.events),
        sources: controller.sources(),
        clock: controller.clock(),
        commands: senders.commands.clone(),
    }
}

/// SIGHUP reloads; SIGTERM and SIGINT end.
async fn signals(orders: tokio::sync::mpsc::Sender<Order>) -> anyhow::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hang_up.recv() => {
                let (answer, result) = oneshot::channel();
                orders.send(Order::Reload(answer)).await?;
                // The controller has logged it.
                let _ = result.await;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    orders.send(Order::Stop).await?;
    Ok(())
}

impl Controller {
    /// Lets go of the kernel as configured, and says what that means.
    ///
    /// # Errors
    /// Something pinned could not be removed.
    pub fn end(self, on_exit: OnExit) -> anyhow::Result<()> {
        self.close(on_exit)?;
        match on_exit {
            OnExit::Keep => tracing::info!(
                "stopped; the kernel goes on forwarding WITHOUT HEALTH CHECKS until lbd runs again (lbd detach removes it)"
            ),
            OnExit::Detach => tracing::info!("stopped; the program is removed, nothing is balanced any more"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_of_an_invalid_file_is_found_however_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lbd.toml");
        for line in [
            "state = \"/srv/lbd\"",
            "  state='/srv/lbd' # a literal string",
            "\"state\" = \"/srv/\\u006cbd\"",
        ] {
            std::fs::write(&path, format!("[daemon]\n{line}\n[datapath]\nwieght = 1\n")).unwrap();
            assert_eq!(state_path(&path).unwrap(), Some(PathBuf::from("/srv/lbd")), "{line}");
        }
        std::fs::write(&path, "daemon.state = '/srv/lbd'\nwieght = 1\n").unwrap();
        assert_eq!(state_path(&path).unwrap(), Some(PathBuf::from("/srv/lbd")));
        std::fs::write(&path, "[daemon]\nsocket = 1\n").unwrap();
        assert_eq!(state_path(&path).unwrap(), None, "the default counts");
        for line in ["state = \"/srv/lbd", "state = srv", "state = 7", "state = 'srv'"] {
            std::fs::write(&path, format!("[daemon]\n{line}\n")).unwrap();
            assert!(state_path(&path).is_err(), "{line}: no other directory is taken for it");
        }
    }
}
