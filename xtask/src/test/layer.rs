//! The layers of tests, from the fastest to the most real.
//!
//! In: the name of a test file. Out: its layer, and what stands in the layer's way here.

use std::fmt;

use clap::ValueEnum;

/// A layer. Each but the first is a binary of the `tests` crate; its files' names begin with the layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// In the crates themselves: logic, properties, packet cases on the host model
    Unit,
    /// The real program in the kernel, by BPF_PROG_TEST_RUN
    Program,
    /// Network namespaces, real servers, real clients
    Net,
    /// lbd and lbctl as a person runs them
    Cli,
}

impl Layer {
    pub(crate) const ALL: [Self; 4] = [Self::Unit, Self::Program, Self::Net, Self::Cli];

    /// The layer of `tests/tests/NAME.rs`.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let prefix = name.split('_').next().unwrap_or(name);
        [Self::Program, Self::Net, Self::Cli].into_iter().find(|layer| layer.name() == prefix)
    }

    /// Why the layer cannot run here. The cli layer may run without root: its tests decide themselves.
    pub(crate) fn obstacle(self, root: bool, without_object: Option<&str>) -> Option<String> {
        match self {
            Self::Unit => None,
            Self::Program | Self::Net if !root => {
                Some("needs root (network namespaces, loading programs)".to_owned())
            }
            Self::Program | Self::Net | Self::Cli => without_object.map(str::to_owned),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Program => "program",
            Self::Net => "net",
            Self::Cli => "cli",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_their_prefix() {
        assert_eq!(Layer::of_file("program_cases"), Some(Layer::Program));
        assert_eq!(Layer::of_file("net"), Some(Layer::Net));
        assert_eq!(Layer::of_file("cli_status"), Some(Layer::Cli));
        assert_eq!(Layer::of_file("network_modes"), None);
        assert_eq!(Layer::of_file("unit_of_something"), None);
    }

    #[test]
    fn what_cannot_run_says_why() {
        assert_eq!(Layer::Unit.obstacle(false, Some("no object")), None);
        assert!(Layer::Net.obstacle(false, None).unwrap().contains("root"));
        assert_eq!(Layer::Cli.obstacle(true, Some("no object")).as_deref(), Some("no object"));
        assert_eq!(Layer::Program.obstacle(true, None), None);
    }
}
