//! Words whose meaning clap does not know: backends with a weight, checks, durations.
//!
//! In: one argument. Out: its value, or a sentence that says how to write it.

use std::time::Duration;

use super::Wait;
use crate::api::types::{NewBackend, Then};
use crate::spec::{DEFAULT_WEIGHT, DnsCheck, GrpcCheck, HealthKind, HttpCheck, parse_duration};

/// `ADDR[:PORT][,weight=N]`
pub(super) fn new_backend(text: &str) -> Result<NewBackend, String> {
    let (address, rest) = text.split_once(',').map_or((text, None), |(address, rest)| (address, Some(rest)));
    let address = address.parse().map_err(|error: crate::spec::SyntaxError| error.to_string())?;
    let weight = match rest.map(|rest| rest.strip_prefix("weight=").map(str::parse)) {
        None => DEFAULT_WEIGHT,
        Some(Some(Ok(weight))) => weight,
        Some(_) => return Err("after the address may come ,weight=N with N from 0 to 65535".to_owned()),
    };
    Ok(NewBackend { address, weight })
}

/// As [`health`], small enough to lie beside other words.
pub(super) fn boxed_health(text: &str) -> Result<Box<HealthKind>, String> {
    health(text).map(Box::new)
}

/// tcp, icmp, none; http, http:/PATH, https:/PATH; grpc, grpc:SERVICE; dns:NAME. What needs more words belongs in the file.
pub(super) fn health(text: &str) -> Result<HealthKind, String> {
    const HINT: &str = "write tcp, icmp, http, http:/PATH, https:/PATH, grpc, grpc:SERVICE, dns:NAME or none; the other \
                        checks are written in the configuration file";
    let (name, rest) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let kind = HealthKind::named(name).ok_or(HINT)?;
    match (kind, rest) {
        (HealthKind::Http(http), Some(path)) if path.starts_with('/') => {
            Ok(HealthKind::Http(HttpCheck { path: path.to_owned(), ..http }))
        }
        (HealthKind::Https(mut https), Some(path)) if path.starts_with('/') => {
            path.clone_into(&mut https.http.path);
            Ok(HealthKind::Https(https))
        }
        (HealthKind::Grpc(grpc), Some(service)) => {
            Ok(HealthKind::Grpc(GrpcCheck { service: service.to_owned(), ..grpc }))
        }
        (HealthKind::Dns(dns), Some(query)) if !query.is_empty() => {
            Ok(HealthKind::Dns(DnsCheck { query: query.to_owned(), ..dns }))
        }
        (HealthKind::Udp(_) | HealthKind::Dns(_) | HealthKind::Exec(_), _) | (_, Some(_)) => {
            Err(HINT.to_owned())
        }
        (kind, None) => Ok(kind),
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

pub(super) fn then(text: &str) -> Result<Then, String> {
    let all = [Then::Keep, Then::Disable, Then::Remove];
    let found = all.into_iter().find(|then| then.as_str() == text);
    found.ok_or_else(|| "write keep, disable or remove".to_owned())
}

/// `5%`, `0.5%`, `0.05`: a share of 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0% to 100%, such as 5%".to_owned())
}

/// What follows `--wait=`; nothing, if nothing does.
pub(super) fn wait(text: &str) -> Result<Wait, String> {
    if text.is_empty() { Ok(Wait::AsUsual) } else { duration(text).map(Wait::For) }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{}; {}", error.message, error.hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_may_have_a_weight() {
        let plain = new_backend("[2001:db8::11]:443").unwrap();
        assert_eq!(
            (plain.address.to_string().as_str(), plain.weight),
            ("[2001:db8::11]:443", DEFAULT_WEIGHT)
        );
        assert_eq!(new_backend("10.0.0.1,weight=0").unwrap().weight, 0);
        for bad in ["10.0.0.1,weight=70000", "10.0.0.1,5", "10.0.0.1,weight=", "web1"] {
            assert!(new_backend(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn checks_are_written_short() {
        assert_eq!(health("tcp").unwrap(), HealthKind::Tcp);
        assert!(
            matches!(health("http:/healthz?x=1:2").unwrap(), HealthKind::Http(http) if http.path == "/healthz?x=1:2")
        );
        assert_eq!(health("icmp").unwrap(), HealthKind::Icmp);
        assert!(matches!(health("https:/up").unwrap(), HealthKind::Https(https) if https.http.path == "/up"));
        assert!(matches!(health("grpc:a.B").unwrap(), HealthKind::Grpc(grpc) if grpc.service == "a.B"));
        assert!(matches!(health("dns:a.example").unwrap(), HealthKind::Dns(dns) if dns.query == "a.example"));
        for bad in
            ["http:healthz", "ping", "tcp:/x", "icmp:7", "udp", "udp:x", "dns", "dns:", "exec:/bin/true", ""]
        {
            assert!(health(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_per_cent_or_a_part_of_one() {
        assert_eq!((share("5%"), share("0.05"), share("0.5%")), (Ok(0.05), Ok(0.05), Ok(0.005)));
        assert_eq!((share("0"), share("100%"), share("1")), (Ok(0.0), Ok(1.0), Ok(1.0)));
        for bad in ["5", "101%", "-1%", "%", "much", "NaN"] {
            assert!(share(bad).unwrap_err().contains("such as 5%"), "{bad}");
        }
    }
}
