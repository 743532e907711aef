//! Lists of backends as files and endpoints write them.
//!
//! In: the text, of a bounded length. Out: a [`Found`], or the one place where it ceases to be a list. Invariant: a text that is not
//! understood whole is refused whole: a page of an error message or the first half of a file is no list of backends.

use std::collections::btree_map::Entry;

use serde_json::Value;

use super::Found;
use crate::spec::{BackendAddress, DEFAULT_WEIGHT};

/// `ADDR[:PORT] [weight=N]`, a backend a line; `#` begins a comment.
pub(super) fn of_lines(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    for (index, line) in text.lines().enumerate() {
        let content = line.split_once('#').map_or(line, |(content, _)| content);
        let mut words = content.split_whitespace();
        let Some(address) = words.next() else { continue };
        let fault = |why: String| format!("line {}: {why}", index + 1);
        let address = address.parse::<BackendAddress>().map_err(|error| fault(error.to_string()))?;
        let mut weight = DEFAULT_WEIGHT;
        for word in words {
            let number = word.strip_prefix("weight=").and_then(|number| number.parse().ok());
            weight = number
                .ok_or_else(|| fault(format!("{word:?} is not understood: write {address} weight=5")))?;
        }
        put(&mut found, address, weight);
    }
    Ok(found)
}

/// `{"backends":[{"address":"10.0.0.1:80","weight":5}, "10.0.0.2"]}`, or the list alone. Other keys are somebody else's.
pub(super) fn of_json(text: &[u8]) -> Result<Found, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON ({error})"))?;
    let list = match &value {
        Value::Object(object) => object.get("backends"),
        other => Some(other),
    };
    let Some(Value::Array(list)) = list else {
        return Err("it is neither a list of backends nor an object with one: {\"backends\":[\"10.0.0.1\"]}"
            .to_owned());
    };
    let mut found = Found::default();
    for (index, entry) in list.iter().enumerate() {
        let (address, weight) = entry_of(entry).map_err(|why| format!("backend {}: {why}", index + 1))?;
        put(&mut found, address, weight);
    }
    Ok(found)
}

fn entry_of(entry: &Value) -> Result<(BackendAddress, u16), String> {
    let address = match entry {
        Value::String(address) => Some(address),
        Value::Object(object) => match object.get("address") {
            Some(Value::String(address)) => Some(address),
            _ => None,
        },
        _ => None,
    };
    let Some(address) = address else {
        return Err("it has no address: write \"10.0.0.1:80\" or {\"address\":\"10.0.0.1:80\",\"weight\":5}"
            .to_owned());
    };
    let address = address.parse::<BackendAddress>().map_err(|error| error.to_string())?;
    let weight = match entry.get("weight") {
        None => Some(DEFAULT_WEIGHT),
        Some(weight) => weight.as_u64().and_then(|weight| u16::try_from(weight).ok()),
    };
    let weight = weight.ok_or_else(|| format!("the weight of {address} is no number from 0 to 65535"))?;
    Ok((address, weight))
}

/// The first word on a backend counts.
fn put(found: &mut Found, address: BackendAddress, weight: u16) {
    match found.backends.entry(address) {
        Entry::Vacant(entry) => drop(entry.insert(weight)),
        Entry::Occupied(_) => {
            found.left_out.push(format!("{address} is named twice; its first weight counts"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backends(found: Result<Found, String>) -> Vec<String> {
        found.unwrap().backends.iter().map(|(address, weight)| format!("{address}={weight}")).collect()
    }

    #[test]
    fn lines_are_backends() {
        let text = "# web\n10.0.0.1\n\n  10.0.0.2:8443\tweight=5 # the big one\n2001:db8::1\n[2001:db8::1]:80 weight=0\n";
        assert_eq!(
            backends(of_lines(text)),
            ["10.0.0.1=1", "10.0.0.2:8443=5", "2001:db8::1=1", "[2001:db8::1]:80=0"]
        );
        assert_eq!(of_lines("# nobody\n\n"), Ok(Found::default()));
        let twice = of_lines("10.0.0.1 weight=2\n10.0.0.1\n").unwrap();
        assert_eq!((twice.backends.len(), twice.left_out.len()), (1, 1));
    }

    #[test]
    fn a_line_that_is_none_refuses_the_whole() {
        for (text, why) in [
            ("10.0.0.1\n<html>\n", "line 2: backend \"<html>\""),
            ("10.0.0.1 wieght=5", "line 1: \"wieght=5\" is not understood: write 10.0.0.1 weight=5"),
            ("10.0.0.1 weight=70000", "line 1: "),
            ("10.0.0.1 10.0.0.2", "line 1: "),
            ("web-1.example", "line 1: "),
        ] {
            let error = of_lines(text).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn json_is_a_list_or_an_object_with_one() {
        let object =
            br#"{"version":7,"backends":[{"address":"10.0.0.1:80","weight":5,"zone":"a"},"10.0.0.2"]}"#;
        assert_eq!(backends(of_json(object)), ["10.0.0.1:80=5", "10.0.0.2=1"]);
        assert_eq!(
            backends(of_json(br#"["10.0.0.2",{"address":"2001:db8::1"}]"#)),
            ["10.0.0.2=1", "2001:db8::1=1"]
        );
        assert_eq!(of_json(b"[]"), Ok(Found::default()));
        for (text, why) in [
            ("<html>", "it is no JSON"),
            ("{}", "neither a list"),
            ("{\"backends\":5}", "neither a list"),
            ("null", "neither a list"),
            ("[5]", "backend 1: it has no address"),
            ("[\"10.0.0.1\",\"web\"]", "backend 2: backend \"web\""),
            ("[{\"address\":\"10.0.0.1\",\"weight\":-1}]", "backend 1: the weight of 10.0.0.1"),
            ("[{\"address\":\"10.0.0.1\",\"weight\":65536}]", "backend 1: the weight"),
            ("[{\"address\":\"10.0.0.1\",\"weight\":\"5\"}]", "backend 1: the weight"),
        ] {
            let error = of_json(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_json(&bytes);
            let _ = of_lines(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn what_is_written_is_read(backends in prop::collection::btree_map((any::<u32>(), prop::option::of(1..=u16::MAX)), any::<u16>(), 0..20)) {
            let wanted: crate::spec::Backends = backends
                .into_iter()
                .map(|((ip, port), weight)| {
                    (BackendAddress { ip: std::net::Ipv4Addr::from(ip).into(), port }, weight)
                })
                .collect();
            let lines: String = wanted.iter().map(|(address, weight)| format!("{address} weight={weight}\n")).collect();
            prop_assert_eq!(&of_lines(&lines).unwrap().backends, &wanted);
            let entries: Vec<Value> = wanted
                .iter()
                .map(|(address, weight)| serde_json::json!({ "address": address, "weight": weight }))
                .collect();
            let json = serde_json::to_vec(&serde_json::json!({ "backends": entries })).unwrap();
            prop_assert_eq!(&of_json(&json).unwrap().backends, &wanted);
        }
    }
}
