//! Recorded values of other implementations: the files in tests/golden, for this crate's tests.

use serde_json::Value;

/// The content of a golden file.
pub(crate) fn golden(name: &str) -> Value {
    let path = format!("{}/../tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
