//! Reading and writing of a model folder's JSON files. It knows none of their keys.

use std::path::Path;

use serde_json::Value;

use crate::error::Error;

/// Reads a JSON file.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadFile`] where the content is not JSON.
pub(crate) fn read(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::bad_file(path, format!("invalid JSON: {error}")))
}

/// Writes a JSON file with indentation.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn write(path: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .expect("a JSON value has string keys and prints. This is a bug.");
    std::fs::write(path, text + "\n").map_err(|source| Error::io(path, source))
}
