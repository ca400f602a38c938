//! Typed access to the keys of a `config.json`. It does not know which keys a model needs.

use std::path::Path;

use serde_json::Value;

use crate::error::Error;

/// Token ids of a configuration's value: a number, a list, or nothing. None where it holds anything
/// else.
pub(crate) fn token_ids(value: Option<&Value>) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => Some(vec![id(one)?]),
    }
}

/// The keys of one configuration file, with errors that name the file and the key.
pub(super) struct ModelConfigKeys<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a Value,
}

impl ModelConfigKeys<'_> {
    /// A configuration with a missing or impossible value.
    pub(super) fn bad(&self, reason: impl Into<String>) -> Error {
        Error::bad_config(self.path, reason)
    }

    /// A configuration of a model that this engine does not run.
    pub(super) fn unsupported(&self, what: String) -> Error {
        Error::unsupported(format!("{}: {what}", self.path.display()))
    }

    /// The value of a key; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there, be it with the value `null`.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A boolean; false where the key is absent.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A positive integer of at most 2^32.
    pub(super) fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.get(key).ok_or_else(|| self.bad(format!("key `{key}` is missing")))?;
        match value.as_u64() {
            Some(size) if (1..=1 << 32).contains(&size) => Ok(size as usize),
            _ => Err(self.bad(format!("key `{key}` is {value}, wanted a positive integer"))),
        }
    }

    /// As [`ModelConfigKeys::size`], with a value for an absent key.
    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        if self.is_given(key) { self.size(key) } else { Ok(default) }
    }

    /// A positive number, with a value for an absent key.
    pub(super) fn positive_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        match self.value.get(key) {
            Some(value) => self.positive_value(key, value),
            None => Ok(default),
        }
    }

    /// A value as a positive number; `key` names it in the error.
    pub(super) fn positive_value(&self, key: &str, value: &Value) -> Result<f64, Error> {
        match value.as_f64() {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(self.bad(format!("key `{key}` is {value}, wanted a positive number"))),
        }
    }

    /// Token ids: none, one or a list.
    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>, Error> {
        token_ids(self.get(key))
            .ok_or_else(|| self.bad(format!("key `{key}` is no token id and no list of token ids")))
    }
}
