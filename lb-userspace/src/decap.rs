//! `lbd decap`: a backend's side of ipip, in the foreground.
//!
//! In: interfaces and the balancer's prefixes. Out: a running program until SIGINT, SIGTERM or SIGHUP (a terminal that closes). Invariant: nothing is left.

use std::process::ExitCode;

use ipnet::IpNet;

use crate::datapath::Decapsulator;
use crate::signals::Ending;

/// Runs until it is told to stop.
///
/// # Errors
/// In a sentence: what the kernel refuses.
pub fn run(interfaces: &[String], from: &[IpNet]) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(interfaces, from))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(interfaces: &[String], from: &[IpNet]) -> anyhow::Result<()> {
    let ending = Ending::catch()?;
    let decapsulator = Decapsulator::attach(interfaces, from)?;
    for (name, mode, note) in &decapsulator.interfaces {
        let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        tracing::info!("decapsulating on {name} in {} mode{note}", mode.as_str());
    }
    let prefixes: Vec<String> = from.iter().map(ToString::to_string).collect();
    tracing::info!("tunnels from {} end here; the vip must be on lo", prefixes.join(", "));
    ending.wait().await;
    drop(decapsulator);
    tracing::info!("stopped; tunnelled packets are no longer taken");
    Ok(())
}
