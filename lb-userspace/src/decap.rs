//! `lbd decap`: a backend's side of ipip, in the foreground.
//!
//! In: interfaces and the balancer's prefixes. Out: a running program until SIGINT, SIGTERM or SIGHUP (a terminal that closes). Invariant: nothing is left.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use ipnet::{IpNet, Ipv6Net};

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
    if let Some(warning) = open_to_all(from) {
        tracing::warn!("{warning}");
    }
    let prefixes: Vec<String> = from.iter().map(ToString::to_string).collect();
    tracing::info!("tunnels from {} end here; the vip must be on lo", prefixes.join(", "));
    ending.wait().await;
    drop(decapsulator);
    tracing::info!("stopped; tunnelled packets are no longer taken");
    Ok(())
}

/// What to say when these prefixes leave nobody of a family out.
fn open_to_all(from: &[IpNet]) -> Option<String> {
    // All of IPv4, as the program sees it.
    let mapped = Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96);
    let everyone = |prefix: &IpNet| match prefix {
        IpNet::V4(prefix) => prefix.prefix_len() == 0,
        IpNet::V6(prefix) => prefix.contains(&mapped),
    };
    // Two halves are as open as the whole.
    let open = IpNet::aggregate(&from.to_vec()).into_iter().find(everyone)?;
    Some(format!(
        "--from {open} takes tunnels from anyone: whoever reaches this host can inject packets here, under any source address; \
         name the balancer's tunnel source instead, such as --from 192.0.2.11"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_is_open_to_all_is_named() {
        let said = |from: &[&str]| {
            open_to_all(&from.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<IpNet>>())
        };
        for (from, named) in [
            (&["0.0.0.0/0"][..], "--from 0.0.0.0/0 takes"),
            (&["192.0.2.1/32", "::/0"], "--from ::/0 takes"),
            (&["::ffff:0:0/96"], "--from ::ffff:0.0.0.0/96 takes"),
            (&["0.0.0.0/1", "128.0.0.0/1"], "--from 0.0.0.0/0 takes"),
        ] {
            let warning = said(from).unwrap_or_default();
            assert!(
                warning.starts_with(named) && warning.ends_with("such as --from 192.0.2.11"),
                "{warning}"
            );
        }
        for from in [&["192.0.2.11/32"][..], &["10.0.0.0/8", "2001:db8::/32"], &["0.0.0.0/1"], &["2000::/3"]]
        {
            assert_eq!(said(from), None);
        }
    }
}
