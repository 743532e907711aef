//! Whatever is written: an answer, never a panic; and what is accepted survives being stored.

use proptest::prelude::*;

use super::*;

const CONTRACT: &str = include_str!("contract.toml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The contract's example with one stretch replaced: read or refused with a place, never a panic.
    #[test]
    fn mutated_files_are_answered(at in 0_usize..2000, len in 0_usize..40, with in "[\\[\\]{}=\",.:/a-z0-9_ \n\u{0}\u{e9}-]{0,12}") {
        let chars: Vec<char> = CONTRACT.chars().collect();
        let at = at.min(chars.len());
        let end = (at + len).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(with.chars()).chain(chars[end..].iter().copied()).collect();
        match parse(&text, "lbd.toml") {
            Ok(loaded) => prop_assert!(loaded.warnings.iter().all(|problem| !problem.is_error())),
            Err(errors) => prop_assert!(errors.to_string().starts_with("lbd.toml")),
        }
    }

    /// Lines of the example in any order and number.
    #[test]
    fn shuffled_lines_are_answered(order in proptest::collection::vec(0_usize..40, 0..60)) {
        let lines: Vec<&str> = CONTRACT.lines().collect();
        let text: Vec<&str> = order.into_iter().filter_map(|index| lines.get(index).copied()).collect();
        let _answer = parse(&text.join("\n"), "lbd.toml");
    }

    /// Texts of single values.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}") {
        let _listener = text.parse::<crate::spec::Listener>();
        let _backend = text.parse::<crate::spec::BackendAddress>();
        let _duration = crate::spec::parse_duration(&text);
        let _answer = parse(&text, "lbd.toml");
    }

    /// What is accepted is the same after it was stored as JSON, and its objects say where they stand.
    #[test]
    fn accepted_specs_survive_storage(services in proptest::collection::vec(service(), 1..8)) {
        let text = format!("{HEAD}{}", services.concat());
        let read = parse(&text, "lbd.toml");
        // Two services may have met on one name or listener; most do not.
        prop_assume!(read.is_ok());
        if let Ok(Loaded { spec, .. }) = read {
            let stored = serde_json::to_string(&spec).expect("a spec has a JSON form");
            let restored: Spec = serde_json::from_str(&stored).expect("a stored spec is read");
            prop_assert_eq!(&restored, &spec);
            for service in &spec.services {
                let line = match &service.origin {
                    crate::spec::Origin::File { line, .. } => usize::try_from(*line).unwrap_or(0),
                    other => panic!("origin {other}"),
                };
                prop_assert_eq!(text.lines().nth(line - 1), Some("[[service]]"));
            }
        }
    }
}

fn service() -> impl Strategy<Value = String> {
    let forward = prop::sample::select(vec!["full-nat", "nat", "dsr", "ipip"]);
    let listener = (1_u8..255, prop::option::of(1_u16..), any::<bool>(), any::<bool>()).prop_map(
        |(host, port, tcp, v6)| {
            let vip = if v6 { format!("[2001:db8::{host:x}]") } else { format!("192.0.2.{host}") };
            let port = port.map_or("any".to_owned(), |port| port.to_string());
            format!("\"{vip}:{port}/{}\"", if tcp { "tcp" } else { "udp" })
        },
    );
    let backend = (1_u8..255, 0_u16..100).prop_map(|(host, weight)| {
        format!("{{ address = \"10.0.0.{host}\", weight = {weight} }}, \"2001:db8:1::{host:x}\"")
    });
    let parts = (
        "[a-z][a-z0-9]{0,8}",
        forward,
        proptest::collection::vec(listener, 1..3),
        proptest::collection::vec(backend, 1..4),
        1_u32..100_000,
    );
    parts.prop_map(|(name, forward, listen, backends, interval_ms)| {
        format!(
            "[[service]]\nname = \"{name}\"\nforward = \"{forward}\"\nlisten = [{}]\nbackends = [{}]\n\
             health = {{ type = \"http\", path = \"/{name}\", interval = \"{interval_ms}ms\", expect = [200], port = 80 }}\n",
            listen.join(", "),
            backends.join(", ")
        )
    })
}
