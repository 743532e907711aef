//! Lists of backends as files and endpoints write them.
//!
//! In: the text, of a bounded length, and how many backends it may name. Out: a [`Found`], or the one place where it ceases to be a
//! list. Invariants: a text that is not understood whole is refused whole: a page of an error message or the first half of a file is no
//! list of backends; what is kept of it is bounded by what it may name, however long it is.

mod json;

use std::collections::btree_map;

use super::Found;
use crate::spec::{BackendAddress, DEFAULT_WEIGHT};
use json::{Entry, Plain};

/// `ADDR[:PORT] [weight=N]`, a backend a line; `#` begins a comment.
pub(super) fn of_lines(text: &str, most: u32) -> Result<Found, String> {
    let mut found = Found::default();
    let mut entries = 0;
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
        entries += 1;
        put(&mut found, address, weight, (entries, most)).map_err(fault)?;
    }
    Ok(found)
}

/// `{"backends":[{"address":"10.0.0.1:80","weight":5}, "10.0.0.2"]}`, or the list alone. Other keys are somebody else's.
pub(super) fn of_json(text: &[u8], most: u32) -> Result<Found, String> {
    let (mut found, mut entries) = (Ok(Found::default()), 0);
    let each = |entry: Entry| {
        entries += 1;
        let taken = match &mut found {
            Ok(found) => entry_of(entry)
                .and_then(|(address, weight)| put(found, address, weight, (entries, most)))
                .map_err(|why| format!("backend {entries}: {why}")),
            Err(_) => return,
        };
        if let Err(why) = taken {
            found = Err(why);
        }
    };
    let is_list = json::each_backend(text, each).map_err(|error| format!("it is no JSON ({error})"))?;
    if !is_list {
        return Err("it is neither a list of backends nor an object with one: {\"backends\":[\"10.0.0.1\"]}"
            .to_owned());
    }
    found
}

fn entry_of(entry: Entry) -> Result<(BackendAddress, u16), String> {
    let Entry { address: Some(Plain::Text(address)), weight } = entry else {
        return Err("it has no address: write \"10.0.0.1:80\" or {\"address\":\"10.0.0.1:80\",\"weight\":5}"
            .to_owned());
    };
    let address = address.parse::<BackendAddress>().map_err(|error| error.to_string())?;
    let weight = match weight {
        None => Some(DEFAULT_WEIGHT),
        Some(Plain::Number(weight)) => u16::try_from(weight).ok(),
        Some(Plain::Text(_) | Plain::Other) => None,
    };
    let weight = weight.ok_or_else(|| format!("the weight of {address} is no number from 0 to 65535"))?;
    Ok((address, weight))
}

/// The first word on a backend counts. `entries`: so many there are by now, and so many there may be, those named twice included.
fn put(
    found: &mut Found,
    address: BackendAddress,
    weight: u16,
    (entries, most): (u32, u32),
) -> Result<(), String> {
    if entries > most {
        return Err(format!("here it names more than max_backends = {most}"));
    }
    match found.backends.entry(address) {
        btree_map::Entry::Vacant(entry) => drop(entry.insert(weight)),
        btree_map::Entry::Occupied(_) => {
            found.left_out.push(format!("{address} is named twice; its first weight counts"))
        }
    }
    Ok(())
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
            backends(of_lines(text, 1_000)),
            ["10.0.0.1=1", "10.0.0.2:8443=5", "2001:db8::1=1", "[2001:db8::1]:80=0"]
        );
        assert_eq!(of_lines("# nobody\n\n", 1_000), Ok(Found::default()));
        let twice = of_lines("10.0.0.1 weight=2\n10.0.0.1\n", 1_000).unwrap();
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
            let error = of_lines(text, 1_000).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn json_is_a_list_or_an_object_with_one() {
        let object =
            br#"{"version":7,"backends":[{"address":"10.0.0.1:80","weight":5,"zone":"a"},"10.0.0.2"]}"#;
        assert_eq!(backends(of_json(object, 1_000)), ["10.0.0.1:80=5", "10.0.0.2=1"]);
        assert_eq!(
            backends(of_json(br#"["10.0.0.2",{"address":"2001:db8::1"}]"#, 1_000)),
            ["10.0.0.2=1", "2001:db8::1=1"]
        );
        assert_eq!(of_json(b"[]", 1_000), Ok(Found::default()));
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
            let error = of_json(text.as_bytes(), 1_000).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_what_may_be_named() {
        let same = |count: usize| format!("[{}]", vec!["\"10.0.0.1\""; count].join(","));
        assert_eq!(of_json(same(3).as_bytes(), 3).unwrap().left_out.len(), 2);
        let error = of_json(same(400_000).as_bytes(), 3).unwrap_err();
        assert_eq!(error, "backend 4: here it names more than max_backends = 3");
        let error = of_lines(&"10.0.0.1\n".repeat(400_000), 3).unwrap_err();
        assert_eq!(error, "line 4: here it names more than max_backends = 3");
        // What is no part of the list is passed over, however much it is, and where it is no JSON nothing of it counts.
        let deep = format!(
            "{{\"x\":[{}],\"backends\":[{{\"address\":\"10.0.0.1\",\"y\":{{\"z\":[1.5,null,true]}}}}]}}",
            vec!["{\"a\":0}"; 1_000].join(",")
        );
        assert_eq!(backends(of_json(deep.as_bytes(), 3)), ["10.0.0.1=1"]);
        assert!(of_json(&deep.as_bytes()[..deep.len() - 1], 3).unwrap_err().starts_with("it is no JSON"));
        assert!(of_json(format!("{deep}x").as_bytes(), 3).unwrap_err().starts_with("it is no JSON"));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_json(&bytes, 1_000);
            let _ = of_lines(&String::from_utf8_lossy(&bytes), 1_000);
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
            prop_assert_eq!(&of_lines(&lines, 1_000).unwrap().backends, &wanted);
            let entries: Vec<serde_json::Value> = wanted
                .iter()
                .map(|(address, weight)| serde_json::json!({ "address": address, "weight": weight }))
                .collect();
            let json = serde_json::to_vec(&serde_json::json!({ "backends": entries })).unwrap();
            prop_assert_eq!(&of_json(&json, 1_000).unwrap().backends, &wanted);
        }
    }
}
