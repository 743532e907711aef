//! A list of backends in JSON, read entry by entry.
//!
//! In: the text. Out: each entry, handed over as soon as it is read. Invariant: of the text no more is kept than one entry's address and
//! weight, whatever else it holds: a document of a few MiB would be hundreds as a tree.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What is written in the place of a word or a number.
pub(super) enum Plain {
    Text(String),
    Number(u64),
    /// Something else.
    Other,
}

/// An entry of the list: an address, or an object with one.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) address: Option<Plain>,
    pub(super) weight: Option<Plain>,
}

/// Hands over every entry of the list that this text is or has under `backends`. False: it has none.
///
/// # Errors
/// It is no JSON; entries before that place have been handed over.
pub(super) fn each_backend(text: &[u8], mut each: impl FnMut(Entry)) -> serde_json::Result<bool> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let is_list = Document { each: &mut each, is_inner: false }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(is_list)
}

struct Document<'a> {
    each: &'a mut dyn FnMut(Entry),
    /// It is what stands under `backends`.
    is_inner: bool,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

/// What each visitor makes of values that it has no use for.
macro_rules! other {
    ($value:expr; $($visit:ident: $kind:ty),*) => {$(
        fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok($value)
        }
    )*};
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of backends")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while let Some(entry) = list.next_element()? {
            (self.each)(entry);
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "backends" && !self.is_inner {
                is_list = map.next_value_seed(Document { each: &mut *self.each, is_inner: true })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(is_list)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    other!(false; visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Plain, E> {
        Ok(Plain::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Plain, E> {
        Ok(Plain::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Plain, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Plain::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Plain, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Plain::Other)
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::Other)
    }

    other!(Plain::Other; visit_bool: bool, visit_i64: i64, visit_f64: f64);
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backend")
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry { address: Some(Plain::Text(text.to_owned())), weight: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut entry = Entry::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "address" => entry.address = Some(map.next_value()?),
                "weight" => entry.weight = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Entry, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Entry::default())
    }

    fn visit_unit<E>(self) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    other!(Entry::default(); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
}
