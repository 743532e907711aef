//! `lbd`: the daemon and what belongs to it. Arguments in; exit 0 clean, 1 runtime failure, 2 usage, 78 bad configuration.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use lb_userspace::daemon::{self, RunOptions};
use lb_userspace::spec::{SyntaxError, parse_endpoint_near};
use lb_userspace::{check, confine};
use lb_userspace::{decap, detach, trial};

/// An eBPF layer-4 load balancer.
#[derive(Parser, Debug)]
#[command(name = "lbd", version, max_term_width = 110)]
#[command(after_help = "Exit status: 0 clean · 1 failure at run time · 2 usage · 78 bad configuration.\n\
                        Logs go to stderr; RUST_LOG=debug shows more, LBD_LOG_FORMAT=json is for machines.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The daemon.
    Run(Run),
    /// Says what a configuration would do, or what is wrong with it. Needs no root.
    Check(Check),
    /// A balancer on this machine's own loopback for servers that run here, until Ctrl-C.
    Try(Try),
    /// A backend's side of ipip: takes off the outer header, in XDP, until Ctrl-C.
    Decap(Decap),
    /// Removes program, pins and maps. Refused while a daemon runs.
    Detach(Detach),
    /// One run of an exec check, for the daemon itself: enclosed, unprivileged, ended with standard input.
    #[command(hide = true)]
    ExecCheck(ExecCheck),
}

/// Where the configuration is.
#[derive(Args, Debug)]
struct Run {
    /// The configuration file.
    #[arg(long, env = "LBD_CONFIG", default_value = "/etc/lbd/lbd.toml", value_name = "FILE")]
    config: PathBuf,
    /// End with status 78 on a bad file even if there is a last good revision.
    #[arg(long)]
    strict: bool,
}

#[derive(Args, Debug)]
struct Check {
    /// The configuration file; - reads standard input.
    #[arg(long, env = "LBD_CONFIG", default_value = "/etc/lbd/lbd.toml", value_name = "FILE|-")]
    config: PathBuf,
    /// text or json.
    #[arg(short, long, default_value = "text", value_name = "FORMAT", value_parser = ["text", "json"])]
    output: String,
}

#[derive(Args, Debug)]
struct Try {
    /// Where clients on this machine reach the servers.
    #[arg(long, default_value = "127.0.0.100:80", value_name = "ADDR:PORT", value_parser = here)]
    vip: SocketAddr,
    /// A server on this machine.
    #[arg(required = true, value_name = "ADDR:PORT", value_parser = here)]
    backends: Vec<SocketAddr>,
}

#[derive(Args, Debug)]
struct Decap {
    /// Where the balancer's packets come in; may be repeated.
    #[arg(long, required = true, num_args = 1.., value_name = "IF")]
    interface: Vec<String>,
    /// Whose packets are taken: the balancer's tunnel source. Without a limit anyone could inject packets.
    #[arg(long, required = true, num_args = 1.., value_name = "PREFIX", value_parser = prefix)]
    from: Vec<IpNet>,
}

#[derive(Args, Debug)]
struct Detach {
    /// The configuration file that says where the pins are.
    #[arg(long, env = "LBD_CONFIG", default_value = "/etc/lbd/lbd.toml", value_name = "FILE")]
    config: PathBuf,
    /// The pin directory, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
    /// Remove the state directory (revisions, overrides, what lbctl added) too.
    #[arg(long)]
    state: bool,
}

#[derive(Args, Debug)]
struct ExecCheck {
    /// As whom the program runs.
    #[arg(long)]
    user: String,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    let result = match arguments.command {
        Command::ExecCheck(options) => return confine::run(&options.user, &options.command),
        Command::Run(run) => daemon::run(&RunOptions { config: run.config, strict: run.strict }),
        Command::Check(options) => run_check(&options),
        Command::Try(options) => trial::run(options.vip, &options.backends),
        Command::Decap(options) => decap::run(&options.interface, &options.from),
        Command::Detach(options) => detach::run(&options.config, options.pin.as_deref(), options.state),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lbd: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_check(options: &Check) -> anyhow::Result<ExitCode> {
    let format = if options.output == "json" { check::Format::Json } else { check::Format::Text };
    let code = check::run(
        &options.config.as_path().into(),
        format,
        &mut std::io::stdin(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )?;
    Ok(code.into())
}

/// An address and port of this machine.
fn here(text: &str) -> Result<SocketAddr, SyntaxError> {
    parse_endpoint_near(text, Ipv4Addr::LOCALHOST.into())
}

/// An address stands for itself alone.
fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(|_| {
        format!(
            "{text:?} is no prefix; write the balancer's tunnel source, such as 192.0.2.11 or 192.0.2.0/28"
        )
    })
}

/// One line per event on stderr: readable on a terminal, without a time under journald (it has its own), JSON on request.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("info,netlink_packet_route=error,netlink_proto=error")
    });
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if std::env::var("LBD_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().init();
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.with_ansi(false).without_time().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_lone_address_is_a_prefix_of_one() {
        assert_eq!(prefix("192.0.2.11").unwrap().to_string(), "192.0.2.11/32");
        assert_eq!(prefix("2001:db8::/64").unwrap().to_string(), "2001:db8::/64");
        assert!(prefix("everyone").unwrap_err().contains("tunnel source"));
    }

    #[test]
    fn a_server_without_its_address_is_one_of_this_machine() {
        let said = |words: &[&str]| Arguments::try_parse_from(words).unwrap_err().to_string();
        let error = said(&["lbd", "try", "8081"]);
        assert!(error.contains("\"8081\" is a port without an address: write 127.0.0.1:8081"), "{error}");
        let error = said(&["lbd", "try", "--vip", "127.0.0.9", "127.0.0.1:8081"]);
        assert!(error.contains("\"127.0.0.9\" has no port: write 127.0.0.9:80"), "{error}");
    }
}
