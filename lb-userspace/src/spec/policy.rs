//! The choices of a service: how packets travel, what sticks, what happens on loss.
//!
//! In: the words of the configuration. Out: enums whose text is that word. Invariant: every variant works in the
//! datapath; a word that will work one day is refused with what to use until then.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SyntaxError;

/// An enum whose variants are words of the configuration: Display, FromStr, serde and the list of words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident($key:literal) { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word of the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = SyntaxError;

            fn from_str(text: &str) -> Result<Self, SyntaxError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(unknown_word($key, text, &[$($word),+])),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = SyntaxError;

            fn try_from(text: String) -> Result<Self, SyntaxError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }
    };
}
pub(super) use words;

/// The refusal of a word that is not in the list.
pub(super) fn unknown_word(key: &str, text: &str, words: &[&str]) -> SyntaxError {
    let message = format!("{key} = {text:?} is unknown");
    match (key, text) {
        ("forward", "gue") => SyntaxError::new(
            "forward = \"gue\" is not yet available",
            "use \"ipip\", which needs the same of the backends",
        ),
        _ => {
            let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let (last, rest) =
                quoted.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
            SyntaxError::new(message, format!("write {} or {last}", rest.join(", ")))
        }
    }
}

words! {
    /// How a packet reaches its backend.
    Forward("forward") {
        /// Rewrites source and destination; no routing change anywhere.
        #[default]
        FullNat = "full-nat",
        /// Rewrites the destination; replies must come back through this host.
        Nat = "nat",
        /// Rewrites the MAC only; the vip is on the backend's `lo`.
        Dsr = "dsr",
        /// Sends the packet whole inside an outer IP header (IPIP, IP6IP6, 4in6, 6in4).
        Ipip = "ipip",
    }
}

impl Forward {
    /// Destination address and port are rewritten: replies must be translated back here.
    pub const fn translates(self) -> bool {
        matches!(self, Self::FullNat | Self::Nat)
    }
}

words! {
    /// What meets the same backend again.
    Affinity("affinity") {
        /// The packets of one flow.
        #[default]
        Flow = "flow",
        /// Everything one client address sends to this pool.
        Client = "client",
        /// Nothing: each datagram on its own (UDP only).
        None = "none",
    }
}

words! {
    /// What becomes of a tracked flow whose backend is down, disabled or gone.
    OnLoss("on_loss") {
        /// Another backend is selected.
        #[default]
        Reselect = "reselect",
        /// TCP is reset; UDP is selected again.
        Reset = "reset",
        /// It stays with the lost backend.
        Hold = "hold",
    }
}

words! {
    /// What becomes of a packet when the pool has no usable backend.
    WhenNone("when_none") {
        /// TCP is reset, UDP refused: clients fail fast.
        #[default]
        Reset = "reset",
        /// It is dropped.
        Drop = "drop",
        /// It is sent to the backends as if all were healthy.
        Spread = "spread",
    }
}
