//! Lengths of time as people write them and as JSON carries them.
//!
//! In: `500ms`, `2s`, `1m30s`, `1h`; in JSON also a number of seconds. Out: a [`Duration`], and back. Invariant: what
//! [`format_duration`] prints, [`parse_duration`] reads as the same length (to the millisecond).

use std::fmt::Write;
use std::time::Duration;

use super::{LONGEST, SyntaxError};

/// Units in the order in which they are printed, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const HINT: &str = "write it as \"500ms\", \"2s\", \"1m30s\" or \"1h\"";

/// Reads `1m30s`.
///
/// # Errors
/// The text is not numbers each followed by one of `ms`, `s`, `m`, `h`, `d`, or is longer than a year.
pub fn parse_duration(text: &str) -> Result<Duration, SyntaxError> {
    let fault = |why: &str| Err(SyntaxError::new(format!("duration {text:?} {why}"), HINT));
    let mut rest = text.trim();
    if rest.is_empty() {
        return fault("is empty");
    }
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return fault("is not a number with a unit");
        }
        if unit.is_empty() {
            return fault("has no unit");
        }
        let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return fault(&format!("has the unknown unit {unit:?}"));
        };
        let part = number.parse::<u64>().ok().and_then(|count| count.checked_mul(*unit_ms));
        match part
            .and_then(|part| part.checked_add(total_ms))
            .filter(|sum| Duration::from_millis(*sum) <= LONGEST)
        {
            Some(sum) => total_ms = sum,
            None => return fault("is longer than a year"),
        }
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Prints a duration as the configuration would write it: `1m30s`, `500ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut left_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let count = left_ms / unit_ms;
        left_ms %= unit_ms;
        if count > 0 {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{count}{unit}");
        }
    }
    match text.is_empty() {
        true => "0s".to_owned(),
        false => text,
    }
}

/// For `#[serde(with = "seconds")]`: written as a number of seconds, read as that or as `"1m30s"`.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Seconds(f64),
        Text(String),
    }

    /// A number of seconds, with a fraction where there is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        match duration.subsec_nanos() {
            0 => serializer.serialize_u64(duration.as_secs()),
            _ => serializer.serialize_f64(duration.as_secs_f64()),
        }
    }

    /// Seconds as a number, or text as in the configuration.
    ///
    /// # Errors
    /// A negative, infinite or malformed length.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(D::Error::custom),
            Form::Text(text) => super::parse_duration(&text).map_err(D::Error::custom),
        }
    }

    /// The same for a length that there may not be.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Seconds(#[serde(with = "super")] Duration);

        /// As [`serialize`](super::serialize), or nothing.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            duration.map(Seconds).serialize(serializer)
        }

        /// As [`deserialize`](super::deserialize), or nothing.
        ///
        /// # Errors
        /// A negative, infinite or malformed length.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<Seconds>::deserialize(deserializer)?.map(|Seconds(duration)| duration))
        }
    }
}
