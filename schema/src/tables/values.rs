//! The closed vocabularies of the tables' text columns.

use serde::{Deserialize, Serialize};

use crate::column::cell_as;

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident {
        $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The word in tables and JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )*
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $( $text => Ok(Self::$variant), )*
                    _ => Err(format!(
                        "holds `{text}`, wanted one of {}",
                        [$( $text ),*].join(", ")
                    )),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        cell_as!($name, String, |value: $name| value.as_str(), |text: &str| text.parse());
    };
}

vocabulary! {
    /// Why sampling ended.
    FinishReason {
        /// A stop token or stop text.
        Stop = "stop",
        /// The token limit or the context's end.
        Length = "length",
        /// Cancelled before its end.
        Abort = "abort",
    }
}

vocabulary! {
    /// Which of the two shown answers the judge prefers.
    Verdict {
        /// The answer shown as Assistant 1.
        First = "first",
        /// The answer shown as Assistant 2.
        Second = "second",
        /// No verdict that the rules accept.
        Invalid = "invalid",
    }
}

vocabulary! {
    /// Whether a completion has a reward, or the reason why not.
    Status {
        /// It has a reward.
        Scored = "scored",
        /// The judge gave no valid vote in any of its matches.
        JudgeFailed = "judge_failed",
        /// Its group has fewer than two members to compare.
        IncompleteGroup = "incomplete_group",
        /// The time for judging ran out.
        Timeout = "timeout",
        /// Taken out of training by rule.
        Masked = "masked",
        /// A part of the reward gave it no number.
        PartFailed = "part_failed",
    }
}

impl Verdict {
    /// Whether member a won, given the order in which the answers were shown.
    pub fn for_a(self, a_shown_first: bool) -> Option<bool> {
        match self {
            Self::First => Some(a_shown_first),
            Self::Second => Some(!a_shown_first),
            Self::Invalid => None,
        }
    }
}
