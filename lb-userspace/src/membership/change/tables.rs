//! Tables within an operation: `health`, `passive`, `backup`.
//!
//! In: JSON. Out: what it says. Invariant: a key that means nothing is refused and named, as everywhere else in an operation. What is read
//! into passes unknown keys over, for revisions hold it too, which another version of lbd may have written.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::{Map, Value};

use super::{BackupKey, False, PassiveKey};
use crate::spec::{BackupSpec, HealthKind, HealthSpec, PassiveSpec, nearest};

type Table = Map<String, Value>;

const PASSIVE: [&str; 3] = ["patience", "eject", "max_ejected"];
const BACKUP: [&str; 4] = ["pool", "below", "above", "hold"];

/// A `health` table, if there is one.
pub(super) fn health<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HealthSpec>, D::Error> {
    let Some(table) = Option::<Table>::deserialize(deserializer)? else { return Ok(None) };
    let all = || HealthSpec::KEYS.into_iter().chain(HealthKind::KEYS.iter().map(|(key, _)| *key));
    known("health", &table, all)?;
    let health: HealthSpec = read("health", table.clone())?;
    let kind = health.kind.as_str();
    let of_others = |key: &&String| {
        let kinds = HealthKind::KEYS.iter().find(|(name, _)| name == key).map(|(_, kinds)| *kinds);
        kinds.is_some_and(|kinds| !kinds.contains(&kind))
            || health.kind == HealthKind::Icmp && key.as_str() == "port"
    };
    match table.keys().find(of_others) {
        Some(key) => Err(D::Error::custom(format!("health: {key} means nothing for type = {kind:?}"))),
        None => Ok(Some(health)),
    }
}

/// `true`, `false` or a `passive` table, if it is there.
pub(super) fn passive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PassiveKey>, D::Error> {
    Ok(match Option::<Value>::deserialize(deserializer)? {
        None => None,
        Some(Value::Bool(is)) => Some(PassiveKey::Is(is)),
        Some(Value::Object(table)) => {
            known("passive", &table, || PASSIVE.into_iter())?;
            Some(PassiveKey::So(read::<PassiveSpec, _>("passive", table)?))
        }
        Some(other) => {
            return Err(D::Error::custom(format!("passive is true, false or an object, not {other}")));
        }
    })
}

/// The name of a pool, `false` or a `backup` table, if it is there.
pub(super) fn backup<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BackupKey>, D::Error> {
    Ok(match Option::<Value>::deserialize(deserializer)? {
        None => None,
        Some(Value::Bool(false)) => Some(BackupKey::Off(False)),
        Some(Value::String(pool)) => {
            Some(BackupKey::Pool(pool.parse().map_err(|error| D::Error::custom(format!("backup: {error}")))?))
        }
        Some(Value::Object(table)) => {
            known("backup", &table, || BACKUP.into_iter())?;
            Some(BackupKey::Whole(read::<BackupSpec, _>("backup", table)?))
        }
        Some(other) => {
            let text = format!("backup is the name of a pool, an object or false, not {other}");
            return Err(D::Error::custom(text));
        }
    })
}

/// Refuses a key that is none of these.
fn known<E: Error, Keys: Iterator<Item = &'static str>>(
    name: &str,
    table: &Table,
    keys: impl Fn() -> Keys,
) -> Result<(), E> {
    let Some(unknown) = table.keys().find(|key| keys().all(|known| known != key.as_str())) else {
        return Ok(());
    };
    let near = nearest(unknown, keys()).map(|near| format!(": did you mean {near:?}?"));
    Err(E::custom(format!("{name} has an unknown key {unknown:?}{}", near.unwrap_or_default())))
}

fn read<T: DeserializeOwned, E: Error>(name: &str, table: Table) -> Result<T, E> {
    serde_json::from_value(Value::Object(table)).map_err(|error| E::custom(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    /// As fields of an operation.
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Tables {
        #[serde(default, deserialize_with = "health")]
        health: Option<HealthSpec>,
        #[serde(default, deserialize_with = "passive")]
        passive: Option<PassiveKey>,
        #[serde(default, deserialize_with = "backup")]
        backup: Option<BackupKey>,
    }

    fn refusal(json: Value) -> String {
        serde_json::from_value::<Tables>(json).unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_means_nothing_is_named_with_the_one_that_was_meant() {
        for (json, wanted) in [
            (
                json!({ "health": { "type": "tcp", "intervall": 1 } }),
                "unknown key \"intervall\": did you mean \"interval\"?",
            ),
            (
                json!({ "health": { "type": "http", "pth": "/" } }),
                "health has an unknown key \"pth\": did you mean \"path\"?",
            ),
            (
                json!({ "health": { "type": "tcp", "path": "/" } }),
                "health: path means nothing for type = \"tcp\"",
            ),
            (
                json!({ "health": { "type": "icmp", "port": 80 } }),
                "health: port means nothing for type = \"icmp\"",
            ),
            (json!({ "health": { "type": "htps" } }), "unknown variant `htps`"),
            (
                json!({ "passive": { "patince": 0.5 } }),
                "passive has an unknown key \"patince\": did you mean \"patience\"?",
            ),
            (json!({ "passive": "yes" }), "passive is true, false or an object"),
            (
                json!({ "backup": { "pool": "b", "abvoe": "5%" } }),
                "backup has an unknown key \"abvoe\": did you mean \"above\"?",
            ),
            (json!({ "backup": true }), "backup is the name of a pool, an object or false"),
            (json!({ "backup": "No Name" }), "backup: "),
            (json!({ "backup": { "below": "5%" } }), "missing field `pool`"),
        ] {
            let said = refusal(json);
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }

    /// What lbctl writes, lbd reads: a key that a type gets is one that is known here.
    #[test]
    fn what_is_written_is_read() {
        for name in HealthKind::NAMES {
            let of_kind = |(_, kinds): &&(&str, &[&str])| kinds.contains(&name);
            let mut health = json!({ "type": name, "interval": 2.5, "fast_interval": 0.5, "via": "direct" });
            for (key, _) in HealthKind::KEYS.iter().filter(of_kind) {
                health[key] = match (*key, name) {
                    ("expect", "http" | "https") => json!([204]),
                    ("command", _) => json!(["/bin/true"]),
                    ("insecure" | "tls", _) => json!(true),
                    ("record", _) => json!("AAAA"),
                    ("ca", _) => json!("/ca.pem"),
                    _ => json!("word"),
                };
            }
            let tables: Tables = serde_json::from_value(json!({ "health": health })).unwrap();
            let written = serde_json::to_value(&tables).unwrap();
            for (key, value) in health.as_object().unwrap().iter().filter(|(key, _)| *key != "via") {
                assert_eq!(&written["health"][key], value, "{name} {key}");
            }
            let again: Tables = serde_json::from_value(written).unwrap();
            assert_eq!(again.health, tables.health);
        }
        for passive in [PassiveKey::Is(true), PassiveKey::Is(false), PassiveKey::So(PassiveSpec::default())] {
            let tables: Tables = serde_json::from_value(json!({ "passive": passive })).unwrap();
            assert_eq!(tables.passive, Some(passive));
        }
        let pool = || "b".parse().unwrap();
        for backup in
            [BackupKey::Off(False), BackupKey::Pool(pool()), BackupKey::Whole(BackupSpec::new(pool()))]
        {
            let tables: Tables = serde_json::from_value(json!({ "backup": backup })).unwrap();
            assert_eq!(tables.backup, Some(backup));
        }
        let none: Tables =
            serde_json::from_value(json!({ "health": null, "passive": null, "backup": null })).unwrap();
        assert!(none.health.is_none() && none.passive.is_none() && none.backup.is_none());
    }
}
