//! Recorded answers of other libraries, for tests: the files of `tests/golden`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A path below `tests/golden`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// The content of a JSON file of `tests/golden`.
pub(crate) fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

/// Token ids of a recorded list.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Numbers of a recorded list.
pub(crate) fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}
