//! Which tests may run beside others.
//!
//! In: a test. Out: whether it may. Every test has namespaces, pins and a run directory of its own, so none meets another's. But some fill the
//! CPUs, and say little then of themselves and make others wait.

use std::thread;

use super::Layer;

/// At most so many at a time.
const MOST: usize = 2;

/// Tests of the net layer that run alone, by the beginning of their names: what they offer is a rate or a crowd that takes both CPUs of a small
/// machine, or datagrams, which nobody sends again.
const ALONE: [&str; 5] = [
    "net_coexistence::limits::full_nat",
    "net_passive::flood",
    "net_restart::without_a_daemon",
    "net_soak",
    "net_table_length",
];

/// Whether a test may have company. Only where tests wait for the most part: the program layer computes, and looks at one CPU; cli is short, and
/// counts the processes of a user.
pub(super) fn is_welcome(layer: Layer, test: &str) -> bool {
    layer == Layer::Net && !ALONE.iter().any(|alone| test.starts_with(alone))
}

/// Entries of [`ALONE`] that name none of a binary's tests: what was meant by them has another name now, and company.
pub(super) fn without_test(layer: Layer, tests: &[String]) -> Vec<&'static str> {
    let is_there = |alone: &str| tests.iter().any(|test| test.starts_with(alone));
    ALONE.into_iter().filter(|alone| layer == Layer::Net && !is_there(alone)).collect()
}

/// How many run at a time.
pub(super) fn size() -> usize {
    thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fills_the_machine_or_counts_on_it_is_alone() {
        assert!(is_welcome(Layer::Net, "net_health::every_type_of_check_over_ipv4"));
        assert!(is_welcome(Layer::Net, "net_passive::cut_dsr_v4"));
        assert!(!is_welcome(Layer::Net, "net_passive::floods::flood_dsr"));
        assert!(!is_welcome(Layer::Program, "program_cases::every_case_goes_as_written"));
        assert!(!is_welcome(Layer::Cli, "cli_exec_check::a_fork_bomb_is_bounded_and_ends"));
    }

    #[test]
    fn an_entry_whose_test_has_another_name_now_is_told() {
        let mut tests: Vec<String> = ALONE.iter().map(|alone| format!("{alone}::a_test")).collect();
        assert!(without_test(Layer::Net, &tests).is_empty());
        let renamed = tests.remove(1);
        assert_eq!(without_test(Layer::Net, &tests), [ALONE[1]], "{renamed}");
        assert!(without_test(Layer::Cli, &[]).is_empty());
    }
}
