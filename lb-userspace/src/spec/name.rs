//! Names of services and pools.
//!
//! In: text. Out: a [`Name`], or why it is none. Invariant: `[a-z0-9][a-z0-9._-]{0,62}`, so a name can stand in a path, a
//! metric label, a shell word and a URL without quoting.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SyntaxError;

/// The longest name, in bytes.
const MAX_LEN: usize = 63;

/// A valid name of a service or a pool. Cloning is cheap: every backend, event and view carries its pool's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands in messages for a name that could not be read; no text can be read as this one.
    pub(crate) fn unnamed(number: u32) -> Self {
        Self(format!("(unnamed {number})").into())
    }
}

impl FromStr for Name {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let fault = |why: String| {
            Err(SyntaxError::new(
                format!("name {text:?} {why}"),
                "write up to 63 of a-z 0-9 . _ -, a letter or digit first, such as \"web-1\"",
            ))
        };
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        match text.chars().find(|c| !inner(*c)) {
            _ if text.is_empty() => fault("is empty".into()),
            _ if text.len() > MAX_LEN => fault(format!("has {} characters", text.len())),
            Some(c) if c.is_ascii_uppercase() => fault(format!("has the capital letter {c:?}")),
            Some(c) => fault(format!("has the character {c:?}")),
            None if text.starts_with(['.', '_', '-']) => {
                fault("does not begin with a letter or digit".into())
            }
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = SyntaxError;

    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}
