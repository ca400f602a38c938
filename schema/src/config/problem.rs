//! What can be wrong with a key of a config, and how it is said.

use std::fmt::{Display, Formatter};

/// A problem of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// The dotted key.
    pub key: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such key; perhaps another one was meant.
    Unknown {
        /// The dotted key that was probably meant.
        meant: Option<String>,
    },
    /// The key has a new name.
    Renamed {
        /// The new dotted key.
        to: String,
    },
    /// The key belongs to another kind of its table.
    OtherKind {
        /// The dotted key of the tag.
        tag: String,
        /// The kind of the table.
        kind: String,
        /// The kind that the key belongs to.
        owner: String,
    },
    /// The key has no value, and needs one.
    Missing {
        /// What the key means.
        wanted: String,
    },
    /// The value is none that the key takes.
    Value {
        /// The value.
        seen: String,
        /// The values that the key takes.
        wanted: String,
        /// The value that was probably meant.
        meant: Option<String>,
    },
}

impl Display for KeyProblem {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let meant = |f: &mut Formatter<'_>, meant: &Option<String>| match meant {
            Some(meant) => write!(f, "; did you mean {meant}?"),
            None => Ok(()),
        };
        match &self.fault {
            Fault::Unknown { meant: word } => {
                write!(f, "{key} is an unknown key")?;
                meant(f, word)
            }
            Fault::Renamed { to } => write!(f, "{key} has a new name: {to}"),
            Fault::OtherKind { tag, kind, owner } => {
                write!(f, "{key} is a key of {tag} = \"{owner}\", but {tag} is \"{kind}\"")
            }
            Fault::Missing { wanted } => write!(f, "{key} is missing, wanted: {wanted}"),
            Fault::Value { seen, wanted, meant: word } => {
                write!(f, "{key} is {seen}, wanted {wanted}")?;
                meant(f, word)
            }
        }
    }
}
